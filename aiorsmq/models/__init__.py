"""The values that the library returns: messages, queue attributes, dead letters, worker events."""

from __future__ import annotations

from .audit import Audit, Findings, ServerInfo
from .confirm import Confirm, check_confirm, fsync, replicas
from .dead import DeadLetter, Death, ReasonGroup, reason_group
from .export import ExportHeader
from .message import Message, Receipt, id_and_fence
from .queues import Ensured, QueueAttributes, QueueSettings, SettingValue, Snapshot
from .stored import Found, Place, StoredMessage
from .waiting import DEFAULT_MAX_WAITING, MaxWaiting, check_max_waiting
from .working import EventKind, WorkerEvent, WorkerStats

__all__ = [
    "DEFAULT_MAX_WAITING",
    "Audit",
    "Confirm",
    "DeadLetter",
    "Death",
    "Ensured",
    "EventKind",
    "ExportHeader",
    "Findings",
    "Found",
    "MaxWaiting",
    "Message",
    "Place",
    "QueueAttributes",
    "QueueSettings",
    "ReasonGroup",
    "Receipt",
    "ServerInfo",
    "SettingValue",
    "Snapshot",
    "StoredMessage",
    "WorkerEvent",
    "WorkerStats",
    "check_confirm",
    "check_max_waiting",
    "fsync",
    "id_and_fence",
    "reason_group",
    "replicas",
]
