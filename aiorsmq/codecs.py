"""How a body becomes bytes, and bytes become a body."""

import json
from typing import Any, Final, Protocol, TypeVar

T = TypeVar("T")


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


BYTES: Final = BytesCodec()
TEXT: Final = TextCodec()
JSON: Final = JsonCodec()
