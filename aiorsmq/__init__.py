"""An asyncio client for RSMQ, the Redis Simple Message Queue, with realtime delivery.

Start with `AsyncRSMQ`, then `Queue`, `Message` and `Worker`.

To read the code, follow a message:

- sent: `client`, `queue`, `_commands/send`, `_server/batch`, `_server/node`, `_lua/send.lua`
- announced: `_server/listener`, `_consuming/line`, `_consuming/outlook`
- received: `_commands/receive`, `_lua/receive.lua`, `_consuming/reader`, `stream`
- handled: `worker`, `_working/intake`, `_working/jobs`, `_working/leases`
- deleted: `_commands/settle`, `_lua/delete.lua`
- or dead: `_commands/dead`, `_lua/move.lua`
"""

from importlib import metadata

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
    NotPermitted,
    QueueAlreadyExists,
    QueueDoesNotExist,
    RedisSMQException,
    UnsupportedServer,
    WrongEventLoop,
)
from .handlers import Reject, Retry, exponential
from .models import (
    DeadLetter,
    Ensured,
    Message,
    QueueAttributes,
    QueueSettings,
    Receipt,
    WorkerEvent,
    WorkerStats,
)
from .queue import Queue
from .redrive import Redrive
from .stream import Messages
from .worker import Worker

__all__ = [
    "BYTES",
    "JSON",
    "TEXT",
    "AsyncRSMQ",
    "BytesCodec",
    "ClientClosed",
    "Codec",
    "DeadLetter",
    "EmbeddedServer",
    "EmbeddedServerError",
    "Ensured",
    "ExtraNotInstalled",
    "InvalidParameterValue",
    "JsonCodec",
    "Message",
    "MessageTooLong",
    "Messages",
    "MsgspecCodec",
    "NoDeadLetterQueue",
    "NoMessageInQueue",
    "NotPermitted",
    "PydanticCodec",
    "Queue",
    "QueueAlreadyExists",
    "QueueAttributes",
    "QueueDoesNotExist",
    "QueueSettings",
    "Receipt",
    "RedisSMQException",
    "Redrive",
    "Reject",
    "Retry",
    "TextCodec",
    "UnsupportedServer",
    "Worker",
    "WorkerEvent",
    "WorkerStats",
    "WrongEventLoop",
    "exponential",
]

try:
    __version__ = metadata.version("aiorsmq-realtime")
except metadata.PackageNotFoundError:  # the sources, not installed
    __version__ = "0+unknown"
