"""How a body becomes bytes, and bytes become a body.

Bodies are data: nothing here unpickles, for that would run whatever a sender has put into them.
"""

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar, get_origin

from .errors import ExtraNotInstalled, InvalidParameterValue

if TYPE_CHECKING:
    from typing_extensions import TypeForm  # type checkers carry it themselves

T = TypeVar("T")

_WITH_FIELDS = ("__struct_fields__", "__dataclass_fields__", "__attrs_attrs__", "__pydantic_validator__")


class Codec(Protocol[T]):
    """Between what a program handles and what RSMQ stores; any object with these two methods is one."""

    def encode(self, body: T) -> bytes:
        """Return what is to be stored. Raise TypeError or ValueError for a body that cannot be."""
        ...

    def decode(self, raw: bytes) -> T:
        """Return the body. Raise ValueError for bytes that are none of this codec's.

        Such a message is not handed to this consumer: it moves to the dead-letter queue, and if there is none it stays
        in its queue, hidden for its lease.
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

    Bytes that are not UTF-8 are read as U+FFFD; `Message.raw` has them as they are.
    """

    def encode(self, body: str) -> bytes:
        if isinstance(body, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            return body.encode()
        raise TypeError("must be str or bytes")

    def decode(self, raw: bytes) -> str:
        return raw.decode(errors="replace")


class JsonCodec:
    """Bodies are what JSON can say, stored as compact JSON text in UTF-8."""

    def encode(self, body: Any) -> bytes:
        return json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()

    def decode(self, raw: bytes) -> Any:
        try:
            return json.loads(raw)
        except RecursionError:
            raise ValueError("too deep") from None


class _Typed(Generic[T]):
    """Bodies of one type as JSON text, by another package.

    Its errors are neither passed on nor kept as causes: they quote what they are about.
    """

    def __init__(self, type: Any, write: Callable[[T], bytes], read: Callable[[bytes], T]) -> None:
        self._write = write
        self._read = read
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
            self.decode(raw)
            return raw
        raise ValueError(f"cannot be written as JSON ({reason})")

    def decode(self, raw: bytes) -> T:
        try:
            return self._read(raw)
        except Exception as error:  # noqa: BLE001 - as above
            reason = self._reason(error)
        raise ValueError(f"cannot be read as {self._name}: {reason}")

    def _reason(self, error: Exception) -> str:
        return type(error).__name__


class MsgspecCodec(_Typed[T]):
    """Bodies of a type that msgspec knows, stored as compact JSON text in UTF-8, and checked when they are read.

    Args:
        type: a Struct, a dataclass, `list[int]`, a union, ...

    What is sent is checked too: where the type is a class with fields, that the body is an instance; and always that
    it can be read back, which costs about as much as reading it. No error repeats what stands in a body.

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
            raise InvalidParameterValue("type", type, "must be a type that msgspec knows") from error
        super().__init__(type, msgspec.json.encode, decoder.decode)

    def _reason(self, error: Exception) -> str:
        text = str(error)
        tells_of_the_type = text.startswith(("Expected ", "Object missing ")) and error.__cause__ is None
        return text if tells_of_the_type else super()._reason(error)


class PydanticCodec(_Typed[T]):
    """Bodies of a type that pydantic knows, stored as compact JSON text in UTF-8, and validated when they are read.

    Args:
        type: a BaseModel, a dataclass, `list[int]`, a union, whatever pydantic's TypeAdapter takes.

    Fields are written by their aliases, and without computed ones. What is sent is checked too: where the type is a
    class with fields, that the body is an instance; and always that it can be read back, which costs about as much as
    reading it. No error repeats what stands in a body, so validation errors are told by pydantic's names for them.

    Needs the extra `pydantic`, else ExtraNotInstalled is raised here.
    """

    def __init__(self, type: "TypeForm[T]") -> None:
        try:
            import pydantic  # noqa: PLC0415 - optional
        except ImportError as error:
            raise ExtraNotInstalled("PydanticCodec", "pydantic") from error
        try:
            adapter = pydantic.TypeAdapter(type)
        except Exception as error:
            raise InvalidParameterValue("type", type, "must be a type that pydantic knows") from error

        def write(body: T) -> bytes:
            return adapter.dump_json(body, by_alias=True, round_trip=True, warnings=False)

        super().__init__(type, write, adapter.validate_json)
        self._invalid = pydantic.ValidationError

    def _reason(self, error: Exception) -> str:
        if isinstance(error, self._invalid):
            return ", ".join(sorted({one["type"] for one in error.errors(include_url=False, include_input=False)}))
        return super()._reason(error)


BYTES: Final = BytesCodec()
TEXT: Final = TextCodec()
JSON: Final = JsonCodec()
