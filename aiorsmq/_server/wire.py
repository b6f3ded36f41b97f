"""An open connection: sends commands, and passes each reply to a callback.

redis-py opens the connection, then `seize` takes over its transport. An asyncio protocol around
hiredis's reader passes each reply on inside the read callback. redis-py's StreamReader would take
two more iterations of the event loop: send and receive are about a third faster without it. `seize`
is the only place that touches private attributes of redis-py. If they are not as expected,
`StreamWire` does the same through redis-py's public methods.
"""

from __future__ import annotations

import asyncio
import logging
import re
import struct
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator
from typing import Any, Final, cast

import anyio
import hiredis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ConnectionError,
    InvalidResponse,
    RedisError,
    ResponseError,
)

from .tasks import Tasks

try:
    import fcntl
    import termios
except ImportError:  # Windows
    fcntl = termios = None

Argument = str | bytes | int
# hot path: takes a tenth of the time of redis-py's own packing
pack = cast(Callable[[tuple[Argument, ...]], bytes], hiredis.pack_command)  # pyright: ignore[reportUnknownMemberType]
"""Encode a command."""

# Errors that are replies to a command. Some are ConnectionErrors, but redis-py raises them for a
# reply, and the connection stays usable.
_ERROR_REPLIES = (ResponseError, BusyLoadingError, AuthenticationError, AuthorizationError)

# RESP3's push messages; hiredis 3.0 and 3.1 have no class for them.
_PUSH = cast(type, getattr(hiredis, "PushNotification", ()))

# The limits of one reply. They allow for the largest replies that a call can need: the names of
# millions of queues; a body of the largest size that servers accept by default; `peek(1000)` of
# bodies of 64 KiB in which every byte looks like the end of an element.
MAX_ELEMENTS: Final = 4_000_000
"""Elements in arrays of 10,000 elements or more.

hiredis allocates memory for all elements when an array begins, whether they arrive or not.
"""
MAX_BULK: Final = 512 * 1024 * 1024
MAX_BYTES: Final = 2 * 1024 * 1024 * 1024
MAX_LINES: Final = 2**25

_MAX_READ = 1024 * 1024  # more than one read callback receives
_MAX_CONSUMED = 1024  # how many bytes that it has parsed hiredis may keep in its buffer
_LINE_FEED = 10

# The headers of types that hiredis allocates memory for. Those of RESP3 are checked in RESP2, too.
# A line of a body can look the same; then the reader tells whether it is inside a body.
_long_array = re.compile(rb"\*(?<![^\n]\*)\d{5}").search
_long_set = re.compile(rb"~(?<![^\n]~)\d{5}").search
_long_push = re.compile(rb">(?<![^\n]>)\d{5}").search
_long_attribute = re.compile(rb"\|(?<![^\n]\|)\d{5}").search
_long_arrays = re.compile(rb"[*~>|](?<![^\n][*~>|])(\d{5,})").finditer
_cut_array = re.compile(rb"[*~>|]\d*\Z").search

_logger = logging.getLogger("aiorsmq.client")


def _ignore(_: Any) -> None: ...


class Wire(ABC):
    """An open connection. It reads from the start, so call `attach` before the next await."""

    patience: int = 1
    """Factor for timeouts of silence; above 1 on a wire that only notices whole replies."""

    def __init__(self, connection: AbstractConnection) -> None:
        self._connection = connection
        self.heard_at: float = asyncio.get_running_loop().time()
        """When data last arrived, by the event loop's clock; it is open since its login's reply."""

    def attach(self, on_reply: Callable[[Any], None], on_lost: Callable[[Exception], None]) -> None:
        """Set the callbacks. The event loop calls them, and they must not raise.

        Args:
            on_reply: called with each reply; an error reply is an exception.
            on_lost: called with the error after which no more replies will arrive.
        """
        self._on_reply = on_reply
        self._on_lost = on_lost

    @abstractmethod
    def write(self, data: bytes) -> None:
        """Send data. Does not block; what cannot be sent now is buffered."""

    @abstractmethod
    def unsent_bytes(self) -> int:
        """Return how many bytes have not left this machine yet, as far as that can be told."""

    def abort(self) -> None:
        """Stop reading and writing at once. No callback is called any more."""
        self.attach(_ignore, _ignore)
        self._stop()

    @abstractmethod
    def _stop(self) -> None: ...

    async def aclose(self) -> None:
        self.abort()
        await self._connection.disconnect(nowait=True)


def _has_long_array(data: bytes) -> object:
    """Whether a long array seems to begin in the data."""
    # hot path: runs on each read. `in` is faster than the regular expressions, and one expression
    # per type is faster than one for all.
    return (
        _long_array(data)
        or (b">" in data and _long_push(data))
        or (b"~" in data and _long_set(data))
        or (b"|" in data and _long_attribute(data))
    )


# Bounds counts what has arrived of the current reply. Its states, and what moves between them:
#
# - Idle (`is_counting` is False, all counts are 0): between replies, or the current reply is small.
#   A long array outside of a body, or a read that completes no reply, starts the counting.
# - Counting: each further array header, and each read that completes no reply, adds to the counts.
#   A complete reply goes back to idle. A count over its limit raises, which ends the connection.
#
# Independent of that, `held` keeps the end of a read if that may be a header that was cut in two:
# whether the array is long is only known with the next read.


class Bounds:
    """Rejects oversized replies before they stall the event loop or exhaust memory."""

    def __init__(self, reader: hiredis.Reader) -> None:
        self._reader = reader
        self.held: bytes = b""
        """An incomplete array header at the end of the last read."""
        self.is_counting: bool = False
        """Whether anything has been counted for the current reply."""
        self.reset()

    def reset(self) -> None:
        """Start over, because a reply is complete."""
        self.is_counting = False
        self._elements = self._bytes = self._lines = 0

    def pieces(self, data: bytes) -> Generator[bytes]:
        """Split the data before each long array, and count the array's elements.

        Feed each piece to the reader, and take all replies from it, before requesting the next
        piece: the state of the reader tells whether the header is an array's or part of a body.
        """
        data = self.held + data
        self.held = b""
        if header := _cut_array(data, max(0, len(data) - 16)):
            self.held = data[header.start() :]
            data = data[: header.start()]
        start = 0
        for header in _long_arrays(data) if _has_long_array(data) else ():
            yield data[start : header.start()]
            start = header.start()
            if not self._reader.has_data():  # the reader is not inside a body
                self.is_counting = True
                self._elements += int(header[1][:20])
                self._check("elements", self._elements, MAX_ELEMENTS)
        yield data[start:]

    def add(self, data: bytes) -> None:
        """Count data that has not completed a reply."""
        self.is_counting = True
        self._bytes += len(data)
        buffered = self._reader.len()
        self._check("bytes", self._bytes, MAX_BYTES)
        self._check("bytes in one string", buffered, MAX_BULK + _MAX_READ)
        if buffered < len(data) + _MAX_CONSUMED:  # the reader has parsed elements from the data
            self._lines += data.count(b"\r\n")
            self._check("lines", self._lines, MAX_LINES)

    def _check(self, unit: str, count: int, limit: int) -> None:
        if count > limit:
            raise InvalidResponse(f"reply from the server is too large: more than {limit:,} {unit}")


class TransportWire(Wire, asyncio.Protocol):
    """A wire on the transport of a connection that redis-py has opened and authenticated."""

    def __init__(
        self,
        connection: AbstractConnection,
        transport: asyncio.Transport,
        reader: hiredis.Reader,
        pushes: bool,
    ) -> None:
        super().__init__(connection)
        self._transport = transport
        self._reader = reader
        self._bounds = Bounds(reader)
        self._pushes = pushes
        self._now = asyncio.get_running_loop().time
        transport.set_protocol(self)

    def write(self, data: bytes) -> None:
        self._transport.write(data)

    def unsent_bytes(self) -> int:
        return self._transport.get_write_buffer_size() + _unsent_by_system(self._transport)

    def _stop(self) -> None:
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self.heard_at = self._now()
        bounds = self._bounds
        reader = self._reader
        is_complete = False
        try:
            # hot path: most reads need no split, and skip the generator
            is_plain = data[-1] == _LINE_FEED and not (bounds.held or _has_long_array(data))
            for piece in (data,) if is_plain else bounds.pieces(data):
                reader.feed(piece)
                while (reply := reader.gets()) is not False:
                    is_complete = True
                    if bounds.is_counting:
                        bounds.reset()
                    if self._pushes or not isinstance(reply, _PUSH):
                        self._on_reply(reply)
            if not is_complete:
                bounds.add(data)
        except (InvalidResponse, TypeError) as error:
            # hiredis raises TypeError for a map with an unhashable key
            self._on_lost(InvalidResponse(str(error)))

    def connection_lost(self, exc: Exception | None) -> None:
        self._on_lost(ConnectionError(f"Connection closed by the server: {exc or 'end of stream'}"))


def _unsent_by_system(transport: asyncio.Transport) -> int:
    """Return how many bytes the kernel keeps until the peer acknowledges them; 0 except on Linux.

    That can be megabytes.
    """
    if fcntl is None or termios is None:
        return 0
    try:
        unsent = fcntl.ioctl(
            transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, bytes(4)
        )
    except (OSError, ValueError, AttributeError):
        return 0
    return struct.unpack("i", unsent)[0]


class StreamWire(Wire):
    """A wire that uses redis-py's public methods, for versions with unknown private attributes.

    Takes two more iterations of the event loop per reply. It only notices whole replies, so it is
    considered silent after 30 seconds, the default deadline of a call: a single reply that takes
    longer to arrive ends the connection. The size of a reply is not limited here.
    """

    patience = 6

    def __init__(self, connection: AbstractConnection, tasks: Tasks, pushes: bool) -> None:
        super().__init__(connection)
        self._pushes = pushes
        self._buffer: list[bytes] = []
        self._bytes_in_transfer = 0
        self._has_data = asyncio.Event()
        self._now = asyncio.get_running_loop().time
        self._scope = anyio.CancelScope()
        self._task = tasks.start(self._serve())

    def write(self, data: bytes) -> None:
        self._buffer.append(data)
        self._has_data.set()

    def unsent_bytes(self) -> int:
        return self._bytes_in_transfer + sum(map(len, self._buffer))

    def _stop(self) -> None:
        self._scope.cancel()

    async def aclose(self) -> None:
        self.abort()
        await asyncio.wait([self._task])
        await super().aclose()

    async def _serve(self) -> None:
        with self._scope:
            try:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._send)
                    tasks.start_soon(self._receive)
            except* (RedisError, OSError) as errors:
                self._on_lost(errors.exceptions[0])

    async def _send(self) -> None:
        while True:
            await self._has_data.wait()
            self._has_data.clear()
            data, self._buffer = self._buffer, []
            self._bytes_in_transfer = sum(map(len, data))
            await self._connection.send_packed_command(data, check_health=False)
            self._bytes_in_transfer = 0

    async def _receive(self) -> None:
        while True:
            try:
                reply = await self._read()
            except _ERROR_REPLIES as error:
                reply = _clear_error(error)
            self.heard_at = self._now()
            self._on_reply(reply)

    async def _read(self) -> Any:
        return await cast(Any, self._connection).read_response(
            disable_decoding=True, disconnect_on_error=False, push_request=self._pushes
        )


def _clear_error(error: Exception) -> Exception:
    """An error reply. Redis 7 replies to a command of more than ten parts, such as EVALSHA, before
    it has read it, if nobody is logged in: as to bytes that are no command."""
    if "Protocol error: unauthenticated" in str(error):
        return AuthenticationError("Authentication required.")
    return error


def seize(connection: AbstractConnection, tasks: Tasks, *, pushes: bool = False) -> Wire:
    """Take over an open connection. Nothing else may use the connection afterwards.

    Args:
        pushes: pass on RESP3's push messages, too, not only replies to commands.
    """
    private = cast(Any, connection)
    try:
        transport = private._writer.transport  # noqa: SLF001
        unread = private._reader._buffer  # noqa: SLF001
        parse_error = private._parser.parse_error  # noqa: SLF001
    except AttributeError as error:
        _logger.warning("unsupported redis-py internals (%s); using the slower public API", error)
        return StreamWire(connection, tasks, pushes)
    if unread:
        raise ConnectionError(f"unexpected data from the server: {len(unread)} bytes")

    def reply_error(text: str) -> Exception:
        return _clear_error(parse_error(text))

    reader = hiredis.Reader(protocolError=InvalidResponse, replyError=reply_error)
    return TransportWire(connection, transport, reader, pushes)
