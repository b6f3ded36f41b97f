"""The names of the test kit, as `aiorsmq/testing/__init__.py` hands them out."""

from __future__ import annotations

from .advancing import advance
from .contents import QueueContents, queue_contents
from .draining import drain
from .keeper import LeftRunning
from .server import Server, rsmq_test_server

__all__ = [
    "LeftRunning",
    "QueueContents",
    "Server",
    "advance",
    "drain",
    "queue_contents",
    "rsmq_test_server",
]
