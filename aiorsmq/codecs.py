"""How a body becomes bytes, and bytes become a body.

Bodies are data: nothing here unpickles, for that would run whatever a sender has put into them.
"""

import json
import math
import re
from array import array
from collections.abc import Callable
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final, Generic, NoReturn, Protocol, TypeVar, cast, get_origin

from .errors import ExtraNotInstalled, InvalidParameterValue

if TYPE_CHECKING:
    from typing_extensions import TypeForm  # type checkers carry it themselves

T = TypeVar("T")

MAX_DEPTH: Final = 500
"""How deep lists and objects may be nested in JSON: less than what Python's recursion limit
allows.
"""

_STRINGS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_STEPS = bytes.maketrans(b"[{]}", b"\1\1\xff\xff")  # as signed bytes: one deeper, one back
_NO_STRUCTURE = bytes(set(range(256)) - set(b'[{]}"'))
_NO_BRACKETS = bytes(set(range(256)) - set(b"[{]}"))
_HALF = re.compile("[\ud800-\udfff]")
_REPLACEMENT = "\ufffd".encode()
_SPLIT_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")
# Begins with a set of bytes, which the engine looks for quickly. What it finds too much is only
# looked at more closely.
_MAY_BE_INFINITE = re.compile(
    rb"[nNiIeE](?:(?<=[nN])[aA][nN]\b|(?<=[iI])[nN][fF](?i:inity)?\b|(?<=[\d.][eE])\+?\d[\d_]{2})"
)
_MANY_DIGITS = re.compile(rb"\d[\d_]{308}")

_WITH_FIELDS = (
    "__struct_fields__",
    "__dataclass_fields__",
    "__attrs_attrs__",
    "__pydantic_validator__",
)


class Codec(Protocol[T]):
    """Between what a program handles and what RSMQ stores; any object with these two methods is
    one.
    """

    def encode(self, body: T) -> bytes:
        """Return what is to be stored. Raise TypeError or ValueError for a body that cannot be."""
        ...

    def decode(self, raw: bytes) -> T:
        """Return the body. Raise ValueError for bytes that are none of this codec's.

        Such a message is not handed to this consumer: it moves to the dead-letter queue, and if
        there is none it stays in its queue, hidden for its lease, until it has been received more
        often than `max_receives`.
        """
        ...


class BytesCodec:
    """Bodies are bytes, as stored."""

    def encode(self, body: bytes) -> bytes:
        if isinstance(body, bytes | bytearray | memoryview):  # pyright: ignore[reportUnnecessaryIsInstance]
            return bytes(body)
        raise TypeError("must be bytes")

    def decode(self, raw: bytes) -> bytes:
        return raw


class TextCodec:
    """Bodies are str, stored as UTF-8, as Node rsmq and PyRSMQ store them.

    Bytes that are not UTF-8 are read as U+FFFD; `Message.raw` has them as they are. Half a
    surrogate pair is refused.
    """

    def encode(self, body: str) -> bytes:
        if not isinstance(body, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError("must be str or bytes")
        try:
            return body.encode()
        except UnicodeEncodeError:  # its text quotes the body
            raise ValueError("has half a surrogate pair, which UTF-8 cannot say") from None

    def decode(self, raw: bytes) -> str:
        return raw.decode(errors="replace")


class JsonCodec:
    """Bodies are what JSON can say, stored as compact JSON text in UTF-8.

    What is read can be sent, and is read as it was. So what cannot be sent is not read either: NaN
    and infinities, also as numbers too large for a float (1e999); integers of more digits than
    `sys.get_int_max_str_digits()`; lists and objects nested more than 500 deep; what is not UTF-8.
    Half a surrogate pair is read and written as an escape, as JSON.stringify does. Of two equal
    keys the last is read. As ever with Python's json, tuples are read as lists, and keys that are
    numbers as str.
    """

    def encode(self, body: Any) -> bytes:
        try:
            text = _writer.encode(body)
        except RecursionError:
            raise ValueError("too deep") from None
        try:
            raw = text.encode()
        except UnicodeEncodeError:
            if _SPLIT_PAIR.search(text):
                raise ValueError(
                    "has a surrogate pair as two characters, which JSON cannot say"
                ) from None
            raw = text.encode(errors="backslashreplace")
        _check_depth(raw)
        return raw

    def decode(self, raw: bytes) -> Any:
        _check_depth(raw)
        try:
            return _reader.decode(raw.decode().removeprefix("\ufeff"))
        except RecursionError:
            raise ValueError("too deep") from None


def _check_depth(raw: bytes) -> None:
    if len(raw) > 2 * MAX_DEPTH and raw.count(b"[") + raw.count(b"{") > MAX_DEPTH:
        if b"\\" not in raw:
            raw = raw.translate(None, _NO_STRUCTURE).replace(b'""', b"")  # leaves less to search
        steps = array("b", _STRINGS.sub(b"", raw).translate(_STEPS, _NO_BRACKETS))
        if max(accumulate(steps), default=0) > MAX_DEPTH:
            raise ValueError(f"is nested more than {MAX_DEPTH} deep")


def _finite(number: str) -> float:
    if math.isfinite(value := float(number)):
        return value
    raise ValueError("has a number too large for a float")


def _no_json(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_writer = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)
_reader = json.JSONDecoder(parse_float=_finite, parse_constant=_no_json)


class _Typed(Generic[T]):
    """Bodies of one type as JSON text, by another package.

    It may write NaN and infinities as null, half a surrogate pair as U+FFFD. Where that can be read
    back, what is read is another body: so such a body is refused, and not read either, unless the
    type writes them in a way of its own.

    Its errors are neither passed on nor kept as causes: they quote what they are about.
    """

    _reads_infinity = False
    """Whether the package itself reads NaN or an infinity, in whatever form."""

    def __init__(
        self,
        type: Any,
        write: Callable[[T], bytes],
        read: Callable[[bytes], T],
        unpack: Callable[[T], Any],
    ) -> None:
        self._write = write
        self._read = read
        self._unpack = unpack
        origin = get_origin(type) or type
        self._class = origin if any(hasattr(origin, mark) for mark in _WITH_FIELDS) else object
        self._name = getattr(type, "__qualname__", str(type)) if origin is type else str(type)

    def encode(self, body: T) -> bytes:
        if not isinstance(body, self._class):
            raise TypeError(f"must be an instance of {self._name}")
        try:
            raw = self._write(body)
        except Exception as error:  # noqa: BLE001 - a type may have hooks of its own
            reason = type(error).__name__
        else:
            again = self._parse(raw)
            replaced = b"null" in raw or _REPLACEMENT in raw
            if (
                replaced
                and (unsayable := self._unsayable(body))
                and unsayable != self._unsayable(again)
            ):
                raise ValueError(
                    "has NaN, an infinity or half a surrogate pair, which JSON cannot say"
                )
            return raw
        raise ValueError(f"cannot be written as JSON ({reason})")

    def decode(self, raw: bytes) -> T:
        body = self._parse(raw)
        if self._reads_infinity and _may_be_infinite(raw) and self._unsayable(body):
            self.encode(body)
        return body

    def _parse(self, raw: bytes) -> T:
        _check_depth(raw)
        try:
            return self._read(raw)
        except Exception as error:  # noqa: BLE001 - as above
            reason = self._reason(error)
        raise ValueError(f"cannot be read as {self._name}: {reason}")

    def _unsayable(self, body: T) -> int:
        """In how many places it has what JSON cannot say."""
        try:
            return _count_unsayable(self._unpack(body))
        except Exception:  # noqa: BLE001 - as above
            return 0

    def _reason(self, error: Exception) -> str:
        return type(error).__name__


def _may_be_infinite(raw: bytes) -> bool:
    return _MAY_BE_INFINITE.search(raw) is not None or (
        len(raw) > 308 and _MANY_DIGITS.search(raw) is not None
    )


def _count_unsayable(value: object) -> int:
    match value:
        case float():
            return not math.isfinite(value)
        case str():
            return _HALF.search(value) is not None
        case dict():
            pairs = cast("dict[object, object]", value).items()
            return sum(_count_unsayable(key) + _count_unsayable(one) for key, one in pairs)
        case list() | tuple() | set() | frozenset():
            return sum(map(_count_unsayable, cast("list[object]", value)))
        case _:
            return 0


class MsgspecCodec(_Typed[T]):
    """Bodies of a type that msgspec knows, stored as compact JSON text in UTF-8, and checked when
    they are read.

    Args:
        type: a Struct, a dataclass, `list[int]`, a union, ...

    What is sent is checked too: where the type is a class with fields, that the body is an
    instance; and always that it can be read back, which costs about as much as reading it. NaN and
    infinities, and half a surrogate pair, are neither sent nor read. No error repeats what stands
    in a body.

    Needs the extra `msgspec`, else ExtraNotInstalled is raised here.
    """

    def __init__(self, type: "TypeForm[T]") -> None:
        try:
            import msgspec  # noqa: PLC0415 - optional
        except ImportError as error:
            raise ExtraNotInstalled("MsgspecCodec", "msgspec") from error
        try:
            decoder = msgspec.json.Decoder(type)
        except Exception as error:
            raise InvalidParameterValue(
                "type", type, "must be a type that msgspec knows"
            ) from error
        super().__init__(type, msgspec.json.encode, decoder.decode, msgspec.to_builtins)

    def _reason(self, error: Exception) -> str:
        text = str(error)
        tells_of_the_type = (
            text.startswith(("Expected ", "Object missing ")) and error.__cause__ is None
        )
        return text if tells_of_the_type else super()._reason(error)


class PydanticCodec(_Typed[T]):
    """Bodies of a type that pydantic knows, stored as compact JSON text in UTF-8, and validated
    when they are read.

    Args:
        type: a BaseModel, a dataclass, `list[int]`, a union, whatever pydantic's TypeAdapter takes.

    Fields are written by their aliases, and without computed ones. What is sent is checked too:
    where the type is a class with fields, that the body is an instance; and always that it can be
    read back, which costs about as much as reading it. NaN and infinities are neither sent nor
    read, unless the type's config has `ser_json_inf_nan` for them; half a surrogate pair neither.
    No error repeats what stands in a body, so validation errors are told by pydantic's names for
    them.

    Needs the extra `pydantic`, else ExtraNotInstalled is raised here.
    """

    _reads_infinity = True

    def __init__(self, type: "TypeForm[T]") -> None:
        try:
            import pydantic  # noqa: PLC0415 - optional
        except ImportError as error:
            raise ExtraNotInstalled("PydanticCodec", "pydantic") from error
        try:
            adapter = pydantic.TypeAdapter(type)
        except Exception as error:
            raise InvalidParameterValue(
                "type", type, "must be a type that pydantic knows"
            ) from error

        def write(body: T) -> bytes:
            return adapter.dump_json(body, by_alias=True, round_trip=True, warnings=False)

        def unpack(body: T) -> Any:
            return adapter.dump_python(body, round_trip=True, warnings=False)

        super().__init__(type, write, adapter.validate_json, unpack)
        self._invalid = pydantic.ValidationError

    def _reason(self, error: Exception) -> str:
        if isinstance(error, self._invalid):
            return ", ".join(
                sorted(
                    {one["type"] for one in error.errors(include_url=False, include_input=False)}
                )
            )
        return super()._reason(error)


BYTES: Final = BytesCodec()
TEXT: Final = TextCodec()
JSON: Final = JsonCodec()


def why_not(codec: object, error: Exception) -> str:
    """Why a codec refuses a body, in words that quote nothing of it."""
    if type(codec) not in (BytesCodec, TextCodec, JsonCodec, MsgspecCodec, PydanticCodec):
        return f"{type(codec).__name__} raised {type(error).__name__}"
    return error.reason if isinstance(error, UnicodeEncodeError) else str(error)


def encode_body(codec: Codec[T], body: T | bytes, parameter: str) -> bytes:
    """The bytes of a body, which are sent as they are if they are bytes already.

    Raises InvalidParameterValue about `parameter`, not from the codec's error: a codec of the
    user's may quote the body in it.
    """
    if isinstance(body, bytes):
        return body
    try:
        encoded = codec.encode(body)
    except Exception as error:  # noqa: BLE001 - a user's codec
        reason = why_not(codec, error)
    else:
        if type(encoded) is bytes:
            return encoded
        reason = f"{type(codec).__name__}.encode must return bytes"
    raise InvalidParameterValue(parameter, body, reason)
