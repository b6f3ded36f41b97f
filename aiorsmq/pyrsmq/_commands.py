"""PyRSMQ's commands: what each takes, how it is run on an AsyncRSMQ, what it returns; and the one
builder of them.
"""

import json
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Generic, Literal, NamedTuple, TypedDict, TypeVar, overload

from .._protocol import Seconds
from ..client import AsyncRSMQ
from ..codecs import JSON, why_not
from ..errors import InvalidParameterValue, NoMessageInQueue
from ..models import Message, QueueAttributes

T_co = TypeVar("T_co", covariant=True)

DEFAULT_MAXSIZE: Final = 65535

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Parameters(TypedDict, total=False):
    """What commands take; which takes which: `COMMANDS`. None is as if it was not given, to the
    controller either.
    """

    qname: str | None
    vt: Seconds | None
    delay: Seconds | None
    maxsize: int | None
    id: str | None
    message: Any
    encode: bool | None
    decode: bool | None
    quiet: bool | None


class ReceivedMessage(TypedDict):
    """Times are milliseconds since the epoch."""

    id: str
    message: Any
    rc: int
    ts: int
    """When it was first received, as in PyRSMQ, whose README says otherwise."""
    sent: int
    fr: int
    """As `ts`; Node's name for it."""


class Attributes(TypedDict):
    """`created` and `modified` are seconds since the epoch."""

    vt: float
    delay: float
    maxsize: int
    totalrecv: int
    totalsent: int
    created: int
    modified: int
    msgs: int
    hiddenmsgs: int


def _seconds(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(seconds=1)


def _milliseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def _attributes(attributes: QueueAttributes) -> Attributes:
    return {
        "vt": float(attributes.vt),
        "delay": float(attributes.delay),
        "maxsize": attributes.maxsize,
        "totalrecv": attributes.totalrecv,
        "totalsent": attributes.totalsent,
        "created": _seconds(attributes.created),
        "modified": _seconds(attributes.modified),
        "msgs": attributes.msgs,
        "hiddenmsgs": attributes.hiddenmsgs,
    }


async def _get_attributes(rsmq: AsyncRSMQ, qname: str) -> Attributes:
    return _attributes(await rsmq.get_queue_attributes(qname=qname))


async def _set_attributes(rsmq: AsyncRSMQ, **changes: Any) -> Attributes:
    return _attributes(await rsmq.set_queue_attributes(**changes))


async def _send(rsmq: AsyncRSMQ, message: Any, encode: bool = False, **where_and_when: Any) -> str:
    """Text as it is, bytes too unless they are to be encoded, all else as JSON: character by
    character as PyRSMQ.
    """
    if not isinstance(message, str) and (encode or not isinstance(message, bytes)):
        try:
            text = json.dumps(message)
        except (TypeError, ValueError, RecursionError) as error:
            reason = why_not(JSON, error)
        else:
            return await rsmq.send_message(message=text, **where_and_when)
        raise InvalidParameterValue(
            "message", message, reason
        )  # without json's error, whose notes quote it
    return await rsmq.send_message(message=message, **where_and_when)


async def _receive(
    rsmq: AsyncRSMQ, qname: str, vt: Seconds | None = None, decode: bool = False
) -> ReceivedMessage:
    return received(await rsmq.receive_message(qname=qname, vt=vt), qname, decode)


async def _pop(rsmq: AsyncRSMQ, qname: str, decode: bool = False) -> ReceivedMessage:
    return received(await rsmq.pop_message(qname=qname), qname, decode)


def received(message: Message[str] | None, qname: str, decode: bool) -> ReceivedMessage:
    if message is None:
        raise NoMessageInQueue(qname)
    first = _milliseconds(message.first_received_at or message.sent_at)
    return {
        "id": message.id,
        "message": _body(message.raw, decode),
        "rc": message.receive_count,
        "ts": first,
        "sent": _milliseconds(message.sent_at),
        "fr": first,
    }


def _body(raw: bytes, decode: bool) -> Any:
    """The text; if asked for, and if it is JSON, what that says; the bytes themselves if they are
    no text.
    """
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return raw
    if decode:
        with suppress(ValueError, RecursionError):
            return json.loads(text)
    return text


async def _change_visibility(
    rsmq: AsyncRSMQ, qname: str, id: str, vt: Seconds | None = None
) -> Literal[True]:
    if vt is None:
        vt = (await rsmq.get_queue_attributes(qname=qname)).vt
    if not await rsmq.change_message_visibility(qname=qname, id=id, vt=vt):
        await rsmq.get_queue_attributes(qname=qname)  # raises QueueDoesNotExist, as PyRSMQ does
        raise NoMessageInQueue(qname)
    return True


class Spec(NamedTuple):
    run: Callable[..., Awaitable[Any]]
    """Called with the AsyncRSMQ and the parameters by name."""
    needs: tuple[str, ...] = ()
    may_have: tuple[str, ...] = ()
    """Besides `quiet`, which all may have."""
    defaults: Mapping[str, Any] = {}
    """Where they are not AsyncRSMQ's."""

    @property
    def takes(self) -> tuple[str, ...]:
        return (*self.needs, *self.may_have, "quiet")


COMMANDS = {
    "createQueue": Spec(
        AsyncRSMQ.create_queue, ("qname",), ("vt", "delay", "maxsize"), {"maxsize": DEFAULT_MAXSIZE}
    ),
    "deleteQueue": Spec(AsyncRSMQ.delete_queue, ("qname",)),
    "setQueueAttributes": Spec(_set_attributes, ("qname",), ("vt", "delay", "maxsize")),
    "getQueueAttributes": Spec(_get_attributes, ("qname",)),
    "listQueues": Spec(AsyncRSMQ.list_queues),
    "changeMessageVisibility": Spec(_change_visibility, ("qname", "id"), ("vt",)),
    "sendMessage": Spec(_send, ("qname", "message"), ("delay", "encode")),
    "receiveMessage": Spec(_receive, ("qname",), ("vt", "decode")),
    "popMessage": Spec(_pop, ("qname",), ("decode",)),
    "deleteMessage": Spec(AsyncRSMQ.delete_message, ("qname", "id")),
}


class Command(Generic[T_co]):
    """A command and what has been said of its parameters: by keywords, by the setters here, in any
    mix.

    Made by the methods of RedisSMQ. It does nothing until it is awaited, or its `exec()` or
    `execute()` is; that may be done several times. A setter for what the command does not take
    raises InvalidParameterValue at once; what is wrong with a value is found when the command is
    run.
    """

    def __init__(
        self,
        name: str,
        defaults: Mapping[str, object],
        params: Mapping[str, object],
        perform: Callable[[str, Mapping[str, Any], bool | None], Awaitable[Any]],
    ) -> None:
        self._name = name
        self._params = {
            parameter: defaults[parameter]
            for parameter in COMMANDS[name].takes
            if parameter in defaults
        }
        self._perform = perform
        self._raises: bool | None = None
        for parameter, value in params.items():
            self._set(parameter, value)

    def qname(self, value: str) -> "Command[T_co]":
        return self._set("qname", value)

    def vt(self, value: Seconds) -> "Command[T_co]":
        return self._set("vt", value)

    def delay(self, value: Seconds) -> "Command[T_co]":
        return self._set("delay", value)

    def maxsize(self, value: int) -> "Command[T_co]":
        return self._set("maxsize", value)

    def id(self, value: str) -> "Command[T_co]":
        return self._set("id", value)

    def message(self, value: Any) -> "Command[T_co]":
        return self._set("message", value)

    def encode(self, value: bool) -> "Command[T_co]":
        return self._set("encode", value)

    def decode(self, value: bool) -> "Command[T_co]":
        return self._set("decode", value)

    def quiet(self, value: bool) -> "Command[T_co]":
        return self._set("quiet", value)

    def _set(self, parameter: str, value: object) -> "Command[T_co]":
        if parameter not in (takes := COMMANDS[self._name].takes):
            raise InvalidParameterValue(
                "parameter", parameter, f"{self._name} takes only {', '.join(takes)}"
            )
        if value is None:
            self._params.pop(parameter, None)
        else:
            self._params[parameter] = value
        return self

    @overload
    def exceptions(self, enabled: Literal[True] = True) -> "Command[T_co]": ...
    @overload
    def exceptions(self, enabled: bool) -> "Command[T_co | Literal[False]]": ...
    def exceptions(self, enabled: bool = True) -> "Command[Any]":
        """Whether this command raises, whatever its RedisSMQ does; see there."""
        self._raises = enabled
        return self

    async def exec(self) -> T_co:
        """Run the command. Cancelling does what it does to the method of Queue that runs it."""
        return await self._perform(self._name, self._params, self._raises)

    execute = exec  # noqa: A003 - that one is meant

    def __await__(self) -> Generator[Any, Any, T_co]:
        return self.exec().__await__()
