"""What this library raises itself; what a broken server raises is redis-py's.

RedisSMQException
├── InvalidParameterValue       (also a ValueError)
├── QueueAlreadyExists
├── QueueDoesNotExist
├── NoMessageInQueue
├── NoDeadLetterQueue
├── NotPermitted                (also a NoPermissionError, redis-py's)
├── MessageTooLong              (also a ValueError)
├── ClientClosed                (also a RuntimeError)
├── WrongEventLoop              (also a RuntimeError)
├── EmbeddedServerError
├── UnsupportedServer
└── ExtraNotInstalled           (also an ImportError)

The names that PyRSMQ has keep PyRSMQ's spelling. Every fact in a message is an attribute too.
"""

import pickle
import re
import reprlib
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
    "NotPermitted",
    "QueueAlreadyExists",
    "QueueDoesNotExist",
    "RedisSMQException",
    "UnsupportedServer",
    "WrongEventLoop",
]

ONE_SHARD: Final = (
    'AsyncRSMQ(host=..., port=..., ns="{rsmq}") on the shard that owns the slot of "{rsmq}" works'
)

_BODIES = ("message", "body", "bodies")
_SECRET = ("client", "host", "username", "password", "ssl_password")


class RedisSMQException(Exception):
    """Anything that this library raises of its own."""


class InvalidParameterValue(RedisSMQException, ValueError):
    """A parameter was refused before anything was sent.

    Attributes:
        parameter: the parameter's name.
        value: what was passed; what the error says has no body in it, only of which type it was.
        reason: what is accepted.
    """

    def __init__(self, parameter: str, value: object, reason: str) -> None:
        super().__init__(parameter, value, reason)
        self.parameter = parameter
        self.value = value
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.parameter}={self._shown()}: {self.reason}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def _shown(self) -> str:
        """Errors are logged: they show no body, and nothing in which a password may be."""
        hidden = f"<{type(self.value).__name__}>"
        if self.parameter in _BODIES + _SECRET:
            return hidden
        try:
            value = reprlib.repr(self.value)
        except ValueError:  # an int of more digits than Python prints
            return hidden
        return hidden if self.parameter != "url" and re.search("://|@", value) else value

    def __reduce__(self) -> tuple[object, ...]:
        try:
            value = pickle.loads(pickle.dumps(self.value))  # noqa: S301 - our own
        except Exception:  # noqa: BLE001 - whatever it is, the error itself must arrive
            value = self._shown()
        return type(self), (self.parameter, value, self.reason), vars(self) | {"value": value}


class _AboutQueue(RedisSMQException):
    says = ""

    def __init__(self, qname: str) -> None:
        super().__init__(qname)
        self.qname = qname

    def __str__(self) -> str:
        return self.says.format(qname=self.qname)


class QueueAlreadyExists(_AboutQueue):
    """The queue to be created is there already (attribute: qname)."""

    says = "queue {qname!r} already exists"


class QueueDoesNotExist(_AboutQueue):
    """The queue is not there, or is no longer there (attribute: qname)."""

    says = "queue {qname!r} does not exist"


class NoMessageInQueue(_AboutQueue):
    """No message is visible; PyRSMQ's way to say what the native API says with None (attribute:
    qname).
    """

    says = "queue {qname!r} has no visible message"


class NoDeadLetterQueue(_AboutQueue):
    """A message cannot be moved to the queue's dead-letter queue: none is set (attribute:
    qname).
    """

    says = "queue {qname!r} has no dead-letter queue"


class NotPermitted(_AboutQueue, redis.exceptions.NoPermissionError):
    """The server's ACL refuses this user a command or a key that a call needs. The call has changed
    nothing but totals.

    Attributes:
        qname: the queue; "*" for a list of all.
        script: the part of the call that was refused: a file in `aiorsmq/_lua`.
        command: what was refused, in upper case; None if it was a key.
        grant: what the user needs, as ACL SETUSER takes it: "+hset", or all keys of the call, for
            the server does not say which of them it refuses: "~rsmq:jobs ~rsmq:jobs:Q".
    """

    def __init__(self, qname: str, script: str, command: str | None, grant: str) -> None:
        super().__init__(qname)
        Exception.__init__(self, qname, script, command, grant)  # what it is pickled with
        self.script = script
        self.command = command
        self.grant = grant

    def __repr__(self) -> str:
        return Exception.__repr__(self)  # redis-py's has none of the facts

    def __str__(self) -> str:
        what = f"the command {self.command}" if self.command else "one of its keys"
        where = f"script {self.script} for queue {self.qname!r}"
        return f"this user may not run {where}: the server refuses {what}; grant {self.grant}"


class MessageTooLong(RedisSMQException, ValueError):
    """The message is longer than the queue's maxsize and was not stored.

    Attributes:
        qname: the queue.
        size: the message's length in bytes, as it would have been sent.
        maxsize: the longest that the queue takes, in bytes.
    """

    def __init__(self, qname: str, size: int, maxsize: int) -> None:
        super().__init__(qname, size, maxsize)
        self.qname = qname
        self.size = size
        self.maxsize = maxsize

    def __str__(self) -> str:
        return (
            f"a message of {self.size} bytes is over the maxsize of queue {self.qname!r}, "
            f"{self.maxsize} bytes"
        )


class ClientClosed(RedisSMQException, RuntimeError):
    """This AsyncRSMQ has been closed; make a new one."""

    def __init__(self, message: str = "this AsyncRSMQ is closed: make a new one") -> None:
        super().__init__(message)


class WrongEventLoop(RedisSMQException, RuntimeError):
    """An AsyncRSMQ was used from another event loop, or from another process, than it was first
    used in.
    """


class EmbeddedServerError(RedisSMQException):
    """The embedded server could not be started; the message ends with what it logged."""


class UnsupportedServer(RedisSMQException):
    """The server cannot run this library's scripts: it is part of a cluster, or has no scripts
    (attribute: reason).

    In a cluster the keys of a queue must lie on one shard, and the calls must go there.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class ExtraNotInstalled(RedisSMQException, ImportError):
    """A feature needs an optional package.

    Attributes:
        feature: what needs it.
        extra: the name of the extra that brings it.
    """

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(feature, extra)
        self.feature = feature
        self.extra = extra

    def __str__(self) -> str:
        return (
            f"{self.feature} needs an optional package: pip install "
            f"'aiorsmq-realtime[{self.extra}]'"
        )
