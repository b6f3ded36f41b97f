"""The values that the library returns: messages, queue attributes, dead letters, worker events."""

from .dead import DeadLetter, Death
from .message import Message, Receipt, id_and_fence
from .queues import Ensured, QueueAttributes, QueueSettings, SettingValue
from .working import EventKind, WorkerEvent, WorkerStats

__all__ = [
    "DeadLetter",
    "Death",
    "Ensured",
    "EventKind",
    "Message",
    "QueueAttributes",
    "QueueSettings",
    "Receipt",
    "SettingValue",
    "WorkerEvent",
    "WorkerStats",
    "id_and_fence",
]
