"""Codecs: how a message body is encoded to bytes and decoded again.

Nothing here unpickles: unpickling a body would run code chosen by its sender.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Generic, NoReturn, Protocol, TypeVar, get_origin

from ._callbacks import check_plain
from ._json import TOO_DEEP, check_depth, count_unrepresentable, may_contain_infinity
from .errors import ExtraNotInstalled, InvalidParameterValue

if TYPE_CHECKING:
    from typing_extensions import TypeForm  # type checkers bundle it, so it is no dependency

T = TypeVar("T")

_REPLACEMENT = "\ufffd".encode()
_SPLIT_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")

_FIELD_ATTRIBUTES = (
    "__struct_fields__",
    "__dataclass_fields__",
    "__attrs_attrs__",
    "__pydantic_validator__",
)


class Codec(Protocol[T]):
    """Converts between a program's bodies and the bytes that RSMQ stores.

    Any object with these two methods is a codec.
    """

    def encode(self, body: T) -> bytes:
        """Return the bytes to store. Raise TypeError or ValueError if that is impossible."""
        ...

    def decode(self, raw: bytes) -> T:
        """Return the body. Raise ValueError if this codec cannot decode the bytes.

        Such a message is not delivered. It moves to the dead-letter queue; without one it stays in
        its queue, hidden for its lease, until it has been received more often than `max_receives`.
        """
        ...


class BytesCodec:
    """Bodies are bytes, stored unchanged."""

    def encode(self, body: bytes) -> bytes:
        if isinstance(body, bytes | bytearray | memoryview):  # pyright: ignore[reportUnnecessaryIsInstance]
            return bytes(body)
        raise TypeError("must be bytes")

    def decode(self, raw: bytes) -> bytes:
        return raw

    def __repr__(self) -> str:
        return "BytesCodec()"


class TextCodec:
    """Bodies are str, stored as UTF-8, as Node rsmq and PyRSMQ store them.

    Bytes that are not UTF-8 are decoded as U+FFFD; `Message.raw` has the original bytes. Lone
    surrogates are rejected.
    """

    def encode(self, body: str) -> bytes:
        if not isinstance(body, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(
                "must be str or bytes; for other bodies give the queue a codec, "
                "as in rsmq.queue(name, codec=JSON)"
            )
        try:
            return body.encode()
        except UnicodeEncodeError:  # its text quotes the body
            raise ValueError("contains a lone surrogate, which UTF-8 cannot encode") from None

    def decode(self, raw: bytes) -> str:
        return raw.decode(errors="replace")

    def __repr__(self) -> str:
        return "TextCodec()"


class JsonCodec:
    """Bodies are JSON values, stored as compact JSON text in UTF-8.

    Every body that can be received can be sent again unchanged. What cannot be sent is therefore
    not decoded either: NaN and infinities, including numbers too large for a float (1e999);
    integers with more digits than `sys.get_int_max_str_digits()`; arrays and objects nested more
    than 500 deep; bytes that are not UTF-8. Lone surrogates are read and written as escapes, like
    JSON.stringify does. If a key is repeated, the last value wins. As usual with Python's json,
    tuples become lists, and keys that are numbers become str.
    """

    def encode(self, body: Any) -> bytes:
        try:
            text = _encoder.encode(body)
        except RecursionError:
            raise ValueError(TOO_DEEP) from None
        try:
            raw = text.encode()
        except UnicodeEncodeError:
            if _SPLIT_PAIR.search(text):
                raise ValueError(
                    "contains a surrogate pair as two characters, which JSON cannot represent"
                ) from None
            raw = text.encode(errors="backslashreplace")
        check_depth(raw)
        return raw

    def decode(self, raw: bytes) -> Any:
        check_depth(raw)
        try:
            return _decoder.decode(raw.decode().removeprefix("\ufeff"))
        except RecursionError:
            raise ValueError(TOO_DEEP) from None

    def __repr__(self) -> str:
        return "JsonCodec()"


def _parse_finite(number: str) -> float:
    value = float(number)
    if math.isfinite(value):
        return value
    raise ValueError("contains a number too large for a float")


def _reject_constant(name: str) -> NoReturn:
    raise ValueError(f"contains {name}, which is not JSON")


_encoder = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)
_decoder = json.JSONDecoder(parse_float=_parse_finite, parse_constant=_reject_constant)


class _TypedCodec(Generic[T]):
    """Bodies of one type as JSON text, encoded and decoded by another package.

    That package may write NaN and infinities as null, and lone surrogates as U+FFFD. Decoding then
    succeeds but gives a different body. Such a body is therefore rejected when it is sent and when
    it is received, unless the type has its own representation for these values.

    The package's errors are neither raised nor chained: they quote the body.
    """

    _reads_infinity = False
    """Whether the package decodes NaN or an infinity in any form."""

    def __init__(
        self,
        type: Any,
        dump: Callable[[T], bytes],
        load: Callable[[bytes], T],
        unpack: Callable[[T], Any],
    ) -> None:
        self._dump = dump
        self._load = load
        self._unpack = unpack
        origin = get_origin(type) or type
        has_fields = any(hasattr(origin, attribute) for attribute in _FIELD_ATTRIBUTES)
        self._class = origin if has_fields else object
        self._name = getattr(type, "__qualname__", str(type)) if origin is type else str(type)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._name})"

    def encode(self, body: T) -> bytes:
        if not isinstance(body, self._class):
            raise TypeError(f"must be an instance of {self._name}")
        try:
            raw = self._dump(body)
        except Exception as error:  # noqa: BLE001 - a type's own hooks may raise anything
            error_type = type(error).__name__
        else:
            decoded = self._parse(raw)
            if b"null" in raw or _REPLACEMENT in raw:
                self._check_unreplaced(body, decoded)
            return raw
        raise ValueError(f"cannot be encoded as JSON: {error_type}")

    def _check_unreplaced(self, body: T, decoded: T) -> None:
        count = self._count_unrepresentable(body)
        if count and count != self._count_unrepresentable(decoded):
            raise ValueError(
                "contains NaN, an infinity or a lone surrogate, which JSON cannot represent"
            )

    def decode(self, raw: bytes) -> T:
        body = self._parse(raw)
        if self._reads_infinity and may_contain_infinity(raw) and self._count_unrepresentable(body):
            self.encode(body)  # raises unless the type has its own representation
        return body

    def _parse(self, raw: bytes) -> T:
        check_depth(raw)
        try:
            return self._load(raw)
        except Exception as error:  # noqa: BLE001 - a type's own hooks may raise anything
            reason = self._describe(error)
        raise ValueError(f"cannot be decoded as {self._name}: {reason}")

    def _count_unrepresentable(self, body: T) -> int:
        """Count the NaNs, infinities and lone surrogates in a body."""
        try:
            return count_unrepresentable(self._unpack(body))
        except Exception:  # noqa: BLE001 - a type's own hooks may raise anything
            return 0

    def _describe(self, error: Exception) -> str:
        """Describe an error without quoting the body."""
        return type(error).__name__


class MsgspecCodec(_TypedCodec[T]):
    """Bodies of a type that msgspec supports, stored as compact JSON text in UTF-8.

    Args:
        type: a Struct, a dataclass, `list[int]`, a union, ...

    Bodies are validated when they are received. They are checked when they are sent, too: a body
    must be an instance if the type is a class with fields, and it must decode again, which costs
    about as much as receiving it. NaN, infinities and lone surrogates are neither sent nor
    received. No error quotes a body.

    Requires the extra `msgspec`; the constructor raises ExtraNotInstalled without it.
    """

    def __init__(self, type: TypeForm[T]) -> None:
        try:
            import msgspec  # noqa: PLC0415 - optional
        except ImportError as error:
            raise ExtraNotInstalled("MsgspecCodec", "msgspec") from error
        try:
            decoder = msgspec.json.Decoder(type)
        except Exception as error:
            raise InvalidParameterValue(
                "type", type, "must be a type that msgspec supports"
            ) from error
        super().__init__(type, msgspec.json.encode, decoder.decode, msgspec.to_builtins)

    def _describe(self, error: Exception) -> str:
        text = str(error)
        names_types_only = text.startswith(("Expected ", "Object missing "))
        if names_types_only and error.__cause__ is None:
            return text
        return super()._describe(error)


class PydanticCodec(_TypedCodec[T]):
    """Bodies of a type that pydantic supports, stored as compact JSON text in UTF-8.

    Args:
        type: anything that pydantic's TypeAdapter accepts: a BaseModel, a dataclass, `list[int]`,
            a union, ...

    Fields are written under their aliases; computed fields are left out. Bodies are validated when
    they are received. They are checked when they are sent, too: a body must be an instance if the
    type is a class with fields, and it must decode again, which costs about as much as receiving
    it. NaN and infinities are neither sent nor received, unless the type's config sets
    `ser_json_inf_nan` to allow them. Lone surrogates are rejected likewise. No error quotes a
    body, so validation errors show only pydantic's error types, such as `int_parsing`.

    Requires the extra `pydantic`; the constructor raises ExtraNotInstalled without it.
    """

    _reads_infinity = True

    def __init__(self, type: TypeForm[T]) -> None:
        try:
            import pydantic  # noqa: PLC0415 - optional
        except ImportError as error:
            raise ExtraNotInstalled("PydanticCodec", "pydantic") from error
        try:
            adapter = pydantic.TypeAdapter(type)
        except Exception as error:
            raise InvalidParameterValue(
                "type", type, "must be a type that pydantic supports"
            ) from error

        def dump(body: T) -> bytes:
            return adapter.dump_json(body, by_alias=True, round_trip=True, warnings=False)

        def unpack(body: T) -> Any:
            return adapter.dump_python(body, round_trip=True, warnings=False)

        super().__init__(type, dump, adapter.validate_json, unpack)
        self._validation_error = pydantic.ValidationError

    def _describe(self, error: Exception) -> str:
        if isinstance(error, self._validation_error):
            details = error.errors(include_url=False, include_input=False)
            return ", ".join(sorted({detail["type"] for detail in details}))
        return super()._describe(error)


BYTES: Final = BytesCodec()
TEXT: Final = TextCodec()
JSON: Final = JsonCodec()


def check_codec(codec: Codec[T]) -> Codec[T]:
    """Raise InvalidParameterValue for anything but an object with plain `encode` and `decode`."""
    is_type = isinstance(get_origin(codec) or codec, type)
    if is_type or not (hasattr(codec, "encode") and hasattr(codec, "decode")):
        reason = f"must be an object with methods encode and decode: {_suggest_codec(codec)}"
        raise InvalidParameterValue("codec", codec, reason)
    check_plain("codec", codec.encode)
    check_plain("codec", codec.decode)
    return codec


def _suggest_codec(codec: object) -> str:
    """The line to write in place of a codec's class, or of the type of the bodies."""
    for plain, name in ((str, "TEXT"), (bytes, "BYTES"), (dict, "JSON"), (list, "JSON")):
        if codec is plain:
            return f"write codec={name}"
    cls = get_origin(codec) or codec  # of PydanticCodec[Order]
    if isinstance(cls, type) and hasattr(cls, "encode") and hasattr(cls, "decode"):
        argument = "Order" if issubclass(cls, _TypedCodec) else ""
        return f"write codec={cls.__name__}({argument})"
    if not isinstance(codec, type):
        return "write codec=JSON, or codec=PydanticCodec(Order) for bodies of the type Order"
    is_of_msgspec = hasattr(codec, "__struct_fields__") or hasattr(codec, "__attrs_attrs__")
    return f"write codec={'Msgspec' if is_of_msgspec else 'Pydantic'}Codec({codec.__name__})"


def refusal_reason(codec: object, error: Exception) -> str:
    """Return why a codec rejected a body, without quoting the body."""
    if type(codec) not in (BytesCodec, TextCodec, JsonCodec, MsgspecCodec, PydanticCodec):
        return f"{type(codec).__name__} raised {type(error).__name__}"
    return error.reason if isinstance(error, UnicodeEncodeError) else str(error)


def encode_body(codec: Codec[T], body: T | bytes, parameter: str) -> bytes:
    """Encode a body. A body that is already bytes is not encoded.

    Raises InvalidParameterValue for `parameter`. It is not chained to the codec's error, because
    the error of a user's codec may quote the body.
    """
    if isinstance(body, bytes):
        return body
    try:
        encoded = codec.encode(body)
    except Exception as error:  # noqa: BLE001 - a user's codec
        reason = refusal_reason(codec, error)
    else:
        if type(encoded) is bytes:
            return encoded
        reason = f"{type(codec).__name__}.encode must return bytes"
    raise InvalidParameterValue(parameter, body, reason)
