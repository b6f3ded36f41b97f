"""RSMQ for synchronous code: scripts, threads, notebooks, Flask, Django under WSGI, Celery tasks.

Start with `RSMQ`. Its names, types and exceptions are those of `aiorsmq`, without `await`.
"""

from .client import RSMQ
from .message import Message
from .queue import Queue
from .stream import Announcements, Messages
from .worker import Worker, WorkerOptions

__all__ = ["RSMQ", "Announcements", "Message", "Messages", "Queue", "Worker", "WorkerOptions"]
