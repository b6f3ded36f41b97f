"""An asyncio client for RSMQ, the Redis Simple Message Queue, with realtime delivery.

To read the code, follow a message: `client` and `queue`, then `_commands/send` and `_lua/send.lua`,
`_listener`, `_stream` and `_claims`, `_commands/receive` and `_lua/receive.lua`, `worker`,
`_jobs` and `_leases`, `_commands/settle` and `_lua/delete.lua`; or if it cannot be handled,
`_commands/dead` and `_lua/move.lua`. Beneath all of them: `_batch` (calls share round trips),
`_scripts` (Lua, retries), `_failures` (what an error means), `_connection`, `_pipeline` and `_wire`
(the socket), `_tasks` (what outlives a call), `_protocol` (the wire format).
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
    Message,
    QueueAttributes,
    QueueSettings,
    Receipt,
    WorkerEvent,
    WorkerStats,
)
from .queue import Queue
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
