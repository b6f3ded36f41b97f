"""The exceptions that this library raises. Server and network errors are redis-py's own.

RedisSMQException
├── InvalidParameterValue       (also a ValueError)
├── QueueAlreadyExists
├── QueueDoesNotExist
├── NoMessageInQueue
├── NoDeadLetterQueue
├── NotPermitted                (also a NoPermissionError, redis-py's)
├── MessageTooLong              (also a ValueError)
├── NotConfirmed
├── ClientClosed                (also a RuntimeError)
├── WrongEventLoop              (also a RuntimeError)
├── EmbeddedServerError
├── UnsupportedServer
└── ExtraNotInstalled           (also an ImportError)

Exceptions that PyRSMQ has too keep their names. Every fact in an error text is also an attribute.
"""

from __future__ import annotations

import pickle
import re
import reprlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import redis.exceptions

__all__ = [
    "ClientClosed",
    "EmbeddedServerError",
    "ExtraNotInstalled",
    "InvalidParameterValue",
    "MessageTooLong",
    "NoDeadLetterQueue",
    "NoMessageInQueue",
    "NotConfirmed",
    "NotPermitted",
    "QueueAlreadyExists",
    "QueueDoesNotExist",
    "RedisSMQException",
    "UnsupportedServer",
    "WrongEventLoop",
]

USE_CLUSTER: Final = (
    'use AsyncRSMQ.from_url("redis+cluster://host:port,host:port", ns="{rsmq}") '
    "or give it a redis.asyncio.RedisCluster"
)

_BODIES = ("message", "body", "bodies", "line", "lines")
_SECRETS = (
    *("client", "host", "username", "password", "ssl_password"),
    *("sentinel_username", "sentinel_password"),
)


class RedisSMQException(Exception):
    """Base class of all exceptions of this library."""


class InvalidParameterValue(RedisSMQException, ValueError):
    """A parameter was rejected before anything was sent.

    Attributes:
        parameter: the parameter's name.
        value: the value that was passed. The error text shows only the type of a message body.
        reason: what is accepted.
    """

    def __init__(self, parameter: str, value: object, reason: str) -> None:
        super().__init__(parameter, value, reason)
        self.parameter = parameter
        self.value = value
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.parameter}={self._display_value()}: {self.reason}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def _display_value(self) -> str:
        """Errors are logged, so they show no message body and nothing that may hold a password."""
        type_name = f"<{type(self.value).__name__}>"
        if self.parameter in _BODIES + _SECRETS:
            return type_name
        try:
            value = reprlib.repr(self.value)
        except ValueError:  # an int with more digits than Python prints
            return type_name
        if self.parameter != "url" and re.search("://|@", value):
            return type_name
        return value

    def __reduce__(self) -> tuple[object, ...]:
        try:
            value = pickle.loads(pickle.dumps(self.value))  # noqa: S301 - pickled right here
        except Exception:  # noqa: BLE001 - an unpicklable value must not lose the error
            value = self._display_value()
        return type(self), (self.parameter, value, self.reason), vars(self) | {"value": value}


class _QueueError(RedisSMQException):
    text = ""

    def __init__(self, qname: str) -> None:
        super().__init__(qname)
        self.qname = qname

    def __str__(self) -> str:
        return self.text.format(qname=self.qname)


class QueueAlreadyExists(_QueueError):
    """The queue to create already exists (attribute: qname)."""

    text = "queue {qname!r} already exists"


class QueueDoesNotExist(_QueueError):
    """The queue was never created, or has been deleted (attribute: qname)."""

    text = "queue {qname!r} does not exist; create it with Queue.ensure()"


class NoMessageInQueue(_QueueError):
    """No message is visible (attribute: qname). The native API returns None instead of raising."""

    text = "queue {qname!r} has no visible message"


class NoDeadLetterQueue(_QueueError):
    """The queue has no dead-letter queue to move a message to (attribute: qname)."""

    text = "queue {qname!r} has no dead-letter queue"


class NotPermitted(_QueueError, redis.exceptions.NoPermissionError):
    """The server's ACL denies this user a command or a key that the call needs.

    The call has changed nothing except the queue's totals.

    Attributes:
        qname: the queue; "*" for a call that lists all queues.
        script: the script that was denied, named after its file in `aiorsmq/_lua`.
        command: the denied command in upper case; None if a key was denied.
        grant: what to add with ACL SETUSER: a command, as "+hset"; or all keys of the call, as
            "~rsmq:jobs ~rsmq:jobs:Q", because the server does not say which key it denied.
    """

    def __init__(self, qname: str, script: str, command: str | None, grant: str) -> None:
        super().__init__(qname)
        Exception.__init__(self, qname, script, command, grant)  # pickle passes `args` to __init__
        self.script = script
        self.command = command
        self.grant = grant

    def __repr__(self) -> str:
        return Exception.__repr__(self)  # redis-py's repr leaves out the attributes

    def __str__(self) -> str:
        denied = f"command {self.command}" if self.command else "one of its keys"
        script = f"script {self.script!r} for queue {self.qname!r}"
        remedy = f"grant {self.grant}"
        if self.command == "EVAL":
            remedy = (
                "the server does not know this script; have an administrator load "
                f"aiorsmq.scripts() with SCRIPT LOAD, or {remedy}"
            )
        return f"no permission to run {script}: the server denies {denied}; {remedy}"


class MessageTooLong(RedisSMQException, ValueError):
    """The message is larger than the queue's maxsize and was not stored.

    Attributes:
        qname: the queue.
        size: the size of the encoded message in bytes.
        maxsize: the queue's limit in bytes.
        line: the line that it was to be imported from; None if it was sent.
    """

    def __init__(self, qname: str, size: int, maxsize: int, line: int | None = None) -> None:
        super().__init__(qname, size, maxsize, *(() if line is None else (line,)))
        self.qname = qname
        self.size = size
        self.maxsize = maxsize
        self.line = line

    def __str__(self) -> str:
        place = "" if self.line is None else f"line {self.line}: "
        return (
            f"{place}message too long for queue {self.qname!r}: "
            f"{self.size} bytes, maxsize is {self.maxsize}; Queue.set_attributes() can raise it"
        )


class NotConfirmed(RedisSMQException):
    """What was sent is stored, but it was not confirmed in time that it is where `confirm` wants
    it.

    It may have been received by now. To send it again would make a second message; `retry()`
    does not.

    Attributes:
        ids: the ids of the messages: one, or all of a `send_many`.
        replicas: how many replicas have said that they have them; 0 for `fsync()`.
        needed: how many had to; 0 for `fsync()`.
    """

    def __init__(
        self,
        ids: Sequence[str],
        replicas: int,
        needed: int,
        repeat: Callable[[], Awaitable[str | list[str]]] | None = None,
    ) -> None:
        super().__init__(tuple(ids), replicas, needed)
        self.ids: tuple[str, ...] = tuple(ids)
        self.replicas = replicas
        self.needed = needed
        self._repeat = repeat

    def __str__(self) -> str:
        number = len(self.ids)
        subject = "the message is" if number == 1 else f"the {number} messages are"
        pronoun = "it" if number == 1 else "them"
        if self.needed:
            reason = f"{self.replicas} of {self.needed} replicas have {pronoun}"
        else:
            reason = f"the server has not yet written {pronoun} to its disk"
        return f"{subject} stored, but not confirmed: {reason}; retry() asks again"

    def __reduce__(self) -> tuple[object, ...]:
        state = vars(self) | {"_repeat": None}  # belongs to a client, which stays in its process
        return type(self), self.args, state

    async def retry(self) -> str | list[str]:
        """Wait for the confirmation again, as long as the first time, and return what the send
        would have: the id, or the list of ids.

        Makes no second message while the connection is the same and its server a primary. After
        that, what is not found is stored again under its id: what a failover has lost, but also a
        message that was received and deleted by then.

        Raises NotConfirmed again, and what a send raises; then this may be called once more.
        Cancelling stops the waiting.
        """
        return await self.repeat()

    def repeat(self) -> Awaitable[str | list[str]]:
        if self._repeat is None:
            raise WrongEventLoop("only the client that sent the message can retry() this")
        return self._repeat()


class ClientClosed(RedisSMQException, RuntimeError):
    """This AsyncRSMQ has been closed; create a new one."""

    def __init__(self, message: str = "this AsyncRSMQ is closed; create a new one") -> None:
        super().__init__(message)


class WrongEventLoop(RedisSMQException, RuntimeError):
    """An object was used in a different event loop or process than the one it was first used in, or
    where no event loop of asyncio is running."""


class EmbeddedServerError(RedisSMQException):
    """The embedded server could not be started; the text ends with the server's log, if any."""


class UnsupportedServer(RedisSMQException):
    """The server cannot run this library's scripts (attribute: reason).

    It is part of a cluster, which needs another kind of URL or client; or it has no Lua scripts, or
    it lacks a command that they call.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class ExtraNotInstalled(RedisSMQException, ImportError):
    """An optional package is not installed.

    Attributes:
        feature: the feature that needs it.
        extra: the extra that installs it.
    """

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(feature, extra)
        self.feature = feature
        self.extra = extra

    def __str__(self) -> str:
        return (
            f"{self.feature} requires an optional package: "
            f'pip install "aiorsmq-realtime[{self.extra}]"'
        )
