"""The names of the package, as `aiorsmq/__init__.py` hands them out."""

from __future__ import annotations

from importlib import metadata

from .announcements import Announcements
from .client import AsyncRSMQ
from .codecs import (
    BYTES,
    JSON,
    TEXT,
    BytesCodec,
    Codec,
    JsonCodec,
    MsgspecCodec,
    PydanticCodec,
    TextCodec,
)
from .embedded import EmbeddedServer
from .errors import (
    ClientClosed,
    EmbeddedServerError,
    ExtraNotInstalled,
    InvalidParameterValue,
    MessageTooLong,
    NoDeadLetterQueue,
    NoMessageInQueue,
    NotConfirmed,
    NotPermitted,
    QueueAlreadyExists,
    QueueDoesNotExist,
    RedisSMQException,
    UnsupportedServer,
    WrongEventLoop,
)
from .handlers import Reject, Retry, exponential
from .lua import scripts
from .models import (
    Audit,
    Confirm,
    DeadLetter,
    Ensured,
    EventKind,
    ExportHeader,
    Findings,
    Found,
    MaxWaiting,
    Message,
    Place,
    QueueAttributes,
    QueueSettings,
    ReasonGroup,
    Receipt,
    ServerInfo,
    Snapshot,
    StoredMessage,
    WorkerEvent,
    WorkerStats,
    fsync,
    replicas,
)
from .queue import Queue
from .runs import Import, Redrive
from .stream import Messages
from .worker import Worker

__all__ = [
    "BYTES",
    "JSON",
    "TEXT",
    "Announcements",
    "AsyncRSMQ",
    "Audit",
    "BytesCodec",
    "ClientClosed",
    "Codec",
    "Confirm",
    "DeadLetter",
    "EmbeddedServer",
    "EmbeddedServerError",
    "Ensured",
    "EventKind",
    "ExportHeader",
    "ExtraNotInstalled",
    "Findings",
    "Found",
    "Import",
    "InvalidParameterValue",
    "JsonCodec",
    "MaxWaiting",
    "Message",
    "MessageTooLong",
    "Messages",
    "MsgspecCodec",
    "NoDeadLetterQueue",
    "NoMessageInQueue",
    "NotConfirmed",
    "NotPermitted",
    "Place",
    "PydanticCodec",
    "Queue",
    "QueueAlreadyExists",
    "QueueAttributes",
    "QueueDoesNotExist",
    "QueueSettings",
    "ReasonGroup",
    "Receipt",
    "RedisSMQException",
    "Redrive",
    "Reject",
    "Retry",
    "ServerInfo",
    "Snapshot",
    "StoredMessage",
    "TextCodec",
    "UnsupportedServer",
    "Worker",
    "WorkerEvent",
    "WorkerStats",
    "WrongEventLoop",
    "exponential",
    "fsync",
    "replicas",
    "scripts",
]

try:
    __version__ = metadata.version("aiorsmq-realtime")
except metadata.PackageNotFoundError:  # the sources, not installed
    __version__ = "0+unknown"
