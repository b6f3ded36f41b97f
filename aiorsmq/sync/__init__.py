"""RSMQ for synchronous code: scripts, threads, notebooks, Flask, Django under WSGI, Celery tasks.

    from aiorsmq.sync import RSMQ

    with RSMQ.from_url("redis://localhost:6379") as rsmq:
        jobs = rsmq.queue("jobs")
        jobs.ensure(vt=30)  # creates it, or changes its settings
        jobs.send("hello")
        for message in jobs.messages():
            with message:  # deleted at the end of the block; visible again if it raises
                print(message.body)

Start with `RSMQ`. Names, types and exceptions are those of `aiorsmq`, without `await`:
https://aiorsmq.github.io/aiorsmq/how-to/sync/
"""

from __future__ import annotations

from .client import RSMQ
from .confirm import NotConfirmed
from .message import Message
from .queue import Queue
from .stream import Announcements, Messages
from .worker import Worker, WorkerOptions

__all__ = [
    "RSMQ",
    "Announcements",
    "Message",
    "Messages",
    "NotConfirmed",
    "Queue",
    "Worker",
    "WorkerOptions",
]
