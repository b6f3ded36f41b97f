"""PyRSMQ's commands: their parameters, how they run on an AsyncRSMQ, and the command builder."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Generic, Literal, NamedTuple, TypedDict, TypeVar, overload

from .._protocol import Seconds
from ..client import AsyncRSMQ
from ..codecs import JSON, refusal_reason
from ..errors import InvalidParameterValue, NoMessageInQueue
from ..models import Message, QueueAttributes

T_co = TypeVar("T_co", covariant=True)

DEFAULT_MAXSIZE: Final = 65535

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Parameters(TypedDict, total=False):
    """The parameters of all commands; the methods of RedisSMQ say which of them each takes.

    None means that the parameter is not set, neither here nor on the controller.
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
    """A received message. Times are milliseconds since the epoch."""

    id: str
    message: Any
    rc: int
    ts: int
    """When it was first received, as PyRSMQ does in spite of its README."""
    sent: int
    fr: int
    """The same as `ts`, under Node's name."""


class Attributes(TypedDict):
    """Attributes of a queue. `created` and `modified` are seconds since the epoch."""

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


async def _send(rsmq: AsyncRSMQ, message: Any, encode: bool = False, **params: Any) -> str:
    """Send str unchanged, bytes too unless `encode` is set, everything else as JSON.

    The JSON text is character for character that of PyRSMQ.
    """
    if not isinstance(message, str) and (encode or not isinstance(message, bytes)):
        try:
            text = json.dumps(message)
        except (TypeError, ValueError, RecursionError) as error:
            reason = refusal_reason(JSON, error)
        else:
            return await rsmq.send_message(message=text, **params)
        # raised outside of the handler: the notes of json's error quote the body
        raise InvalidParameterValue("message", message, reason)
    return await rsmq.send_message(message=message, **params)


async def _receive(
    rsmq: AsyncRSMQ, qname: str, vt: Seconds | None = None, decode: bool = False
) -> ReceivedMessage:
    return received_message(await rsmq.receive_message(qname=qname, vt=vt), qname, decode)


async def _pop(rsmq: AsyncRSMQ, qname: str, decode: bool = False) -> ReceivedMessage:
    return received_message(await rsmq.pop_message(qname=qname), qname, decode)


def received_message(message: Message[str] | None, qname: str, decode: bool) -> ReceivedMessage:
    if message is None:
        raise NoMessageInQueue(qname)
    first_received = _milliseconds(message.first_received_at or message.sent_at)
    return {
        "id": message.id,
        "message": _body(message.raw, decode),
        "rc": message.receive_count,
        "ts": first_received,
        "sent": _milliseconds(message.sent_at),
        "fr": first_received,
    }


def _body(raw: bytes, decode: bool) -> Any:
    """Decode a body: the JSON value if `decode` is set and it is JSON, else the text.

    Bytes that are not UTF-8 are returned unchanged.
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
        await rsmq.get_queue_attributes(qname=qname)  # raises QueueDoesNotExist, like PyRSMQ
        raise NoMessageInQueue(qname)
    return True


class Spec(NamedTuple):
    """How a command runs, and which parameters it accepts."""

    run: Callable[..., Awaitable[Any]]
    """Called with the AsyncRSMQ, and with the parameters by keyword."""
    needs: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    """Optional parameters, besides `quiet`, which every command accepts."""
    defaults: Mapping[str, Any] = {}
    """Defaults that differ from AsyncRSMQ's."""

    @property
    def parameters(self) -> tuple[str, ...]:
        return (*self.needs, *self.options, "quiet")


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
    """A command and its parameters. Set them by keyword, with the setters, or both.

    The methods of RedisSMQ create commands. A command runs when you await it, its `exec()` or its
    `execute()`, and may run several times. Setting a parameter that the command does not accept
    raises InvalidParameterValue at once; a bad value raises it when the command runs.
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
            for parameter in COMMANDS[name].parameters
            if parameter in defaults
        }
        self._perform = perform
        self._raises: bool | None = None
        for parameter, value in params.items():
            self._set(parameter, value)

    def qname(self, value: str) -> Command[T_co]:
        return self._set("qname", value)

    def vt(self, value: Seconds) -> Command[T_co]:
        return self._set("vt", value)

    def delay(self, value: Seconds) -> Command[T_co]:
        return self._set("delay", value)

    def maxsize(self, value: int) -> Command[T_co]:
        return self._set("maxsize", value)

    def id(self, value: str) -> Command[T_co]:
        return self._set("id", value)

    def message(self, value: Any) -> Command[T_co]:
        return self._set("message", value)

    def encode(self, value: bool) -> Command[T_co]:
        return self._set("encode", value)

    def decode(self, value: bool) -> Command[T_co]:
        return self._set("decode", value)

    def quiet(self, value: bool) -> Command[T_co]:
        return self._set("quiet", value)

    def _set(self, parameter: str, value: object) -> Command[T_co]:
        accepted = COMMANDS[self._name].parameters
        if parameter not in accepted:
            raise InvalidParameterValue(
                "parameter", parameter, f"{self._name} accepts only {', '.join(accepted)}"
            )
        if value is None:
            self._params.pop(parameter, None)
        else:
            self._params[parameter] = value
        return self

    @overload
    def exceptions(self, enabled: Literal[True] = True) -> Command[T_co]: ...
    @overload
    def exceptions(self, enabled: bool) -> Command[T_co | Literal[False]]: ...
    def exceptions(self, enabled: bool = True) -> Command[Any]:
        """Set whether this command raises. Overrides the controller's setting, see RedisSMQ."""
        self._raises = enabled
        return self

    async def exec(self) -> T_co:
        """Run the command. Cancelling has the same effect as on the Queue method behind it."""
        return await self._perform(self._name, self._params, self._raises)

    execute = exec  # noqa: A003 - the method above, not the builtin

    def __await__(self) -> Generator[Any, Any, T_co]:
        return self.exec().__await__()
