"""RSMQ for synchronous code: scripts, threads, notebooks, Flask, Django under WSGI, Celery tasks.

Start with `RSMQ`. Its names, types and exceptions are those of `aiorsmq`, without `await`.
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
