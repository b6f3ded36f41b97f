"""An open connection: what is written goes out, and what comes in is passed on, reply by reply.

redis-py opens the connection; then its transport is taken over. An asyncio protocol around
hiredis's reader passes a reply on inside the read callback, where redis-py's StreamReader costs two
more turns of the event loop: send and receive are about a third faster. That touches private
attributes of redis-py, all in `seize`; where they are not as expected, `StreamWire` does the same
through redis-py's public methods.
"""

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
pack = cast(Callable[[tuple[Argument, ...]], bytes], hiredis.pack_command)  # pyright: ignore[reportUnknownMemberType]
"""A command as bytes; a tenth of what redis-py's own packing costs."""

# redis-py raises these when they come as the reply to a command, although they are ConnectionErrors
# by class.
_REPLIES = (ResponseError, BusyLoadingError, AuthenticationError, AuthorizationError)

_PUSH = cast(
    type, getattr(hiredis, "PushNotification", ())
)  # RESP3's; hiredis 3.0 and 3.1 have no class for it

# What one reply may hold. The largest that there is reason to ask for: the names of millions of
# queues; a body as large as servers take by default; `peek(1000)` of bodies of 64 KiB, each byte of
# which may look like the end of an element.
MAX_ELEMENTS: Final = 4_000_000
"""In arrays of 10,000 elements or more. hiredis makes room for all when an array begins, whether
they come or not.
"""
MAX_BULK: Final = 512 * 1024 * 1024
MAX_BYTES: Final = 2 * 1024 * 1024 * 1024
MAX_LINES: Final = 2**25

_BUFFER = 1024 * 1024  # more than what comes in at once
_CONSUMED = 1024  # as many bytes of which it has made elements hiredis may keep
_LINE_FEED = 10

# The types for which hiredis makes room; RESP3's are looked for in RESP2, too. Lines of bodies may
# begin so as well: if such a line is found, the reader tells whether it is part of a body.
_long_array = re.compile(rb"\*(?<![^\n]\*)\d{5}").search
_long_set = re.compile(rb"~(?<![^\n]~)\d{5}").search
_long_push = re.compile(rb">(?<![^\n]>)\d{5}").search
_long_attribute = re.compile(rb"\|(?<![^\n]\|)\d{5}").search
_long_arrays = re.compile(rb"[*~>|](?<![^\n][*~>|])(\d{5,})").finditer
_cut_array = re.compile(rb"[*~>|]\d*\Z").search

_logger = logging.getLogger(__name__)


def _nobody(_: Any) -> None: ...


class Wire(ABC):
    """Reads by itself, from its making on; `attach` comes before the next await."""

    patience: int = 1
    """How many times as long a silence may last as on a wire that notes each byte."""

    def __init__(self, connection: AbstractConnection) -> None:
        self._connection = connection
        self.heard_at: float = 0.0
        """When something came in last, by the event loop's clock."""

    def attach(self, received: Callable[[Any], None], lost: Callable[[Exception], None]) -> None:
        """Have each reply, an error as an exception, passed to `received`, and to `lost` why there
        will be no more.

        Both are called from the event loop, and must not raise.
        """
        self._received = received
        self._lost = lost

    @abstractmethod
    def write(self, data: bytes) -> None: ...

    @abstractmethod
    def unsent(self) -> int:
        """How many bytes have not left this machine yet, as far as it can tell."""

    def abort(self) -> None:
        """Stop reading and writing at once; nothing is passed on any more."""
        self.attach(_nobody, _nobody)
        self._stop()

    @abstractmethod
    def _stop(self) -> None: ...

    async def aclose(self) -> None:
        self.abort()
        await self._connection.disconnect(nowait=True)


def _has_long_array(data: bytes) -> object:
    """Whether one seems to begin in it. One type after the other, and `in` first: it is asked for
    each message.
    """
    return (
        _long_array(data)
        or (b">" in data and _long_push(data))
        or (b"~" in data and _long_set(data))
        or (b"|" in data and _long_attribute(data))
    )


class Bounds:
    """Refuses replies that are larger than any should be, before they stall the event loop or fill
    the memory.
    """

    def __init__(self, reader: "hiredis.Reader") -> None:
        self._reader = reader
        self.held: bytes = b""
        """The beginning of what may be an array, and says in the next piece how long it is."""
        self.used: bool = False
        """Whether anything is counted for the reply that is coming in."""
        self.reset()

    def reset(self) -> None:
        """A reply is complete: the next may be as large."""
        self.used = False
        self._elements = self._bytes = self._lines = 0

    def pieces(self, data: bytes) -> Generator[bytes]:
        """Cut before each long array, so that the reader tells whether that is one, or part of a
        body.

        The reader is to be fed each piece, and asked for its replies, before the next.
        """
        data, self.held = self.held + data, b""
        if cut := _cut_array(data, max(0, len(data) - 16)):
            data, self.held = data[: cut.start()], data[cut.start() :]
        begin = 0
        for array in _long_arrays(data) if _has_long_array(data) else ():
            yield data[begin : array.start()]
            begin = array.start()
            if not self._reader.has_data():  # it waits for no end of a body
                self.used = True
                self._elements += int(array[1][:20])
                self._check("elements", self._elements, MAX_ELEMENTS)
        yield data[begin:]

    def add(self, data: bytes) -> None:
        """Count what came in of a reply that is not complete."""
        self.used = True
        self._bytes += len(data)
        buffered = self._reader.len()
        self._check("bytes", self._bytes, MAX_BYTES)
        self._check("bytes in one string", buffered, MAX_BULK + _BUFFER)
        if buffered < len(data) + _CONSUMED:  # elements have been made of it
            self._lines += data.count(b"\r\n")
            self._check("lines", self._lines, MAX_LINES)

    def _check(self, what: str, number: int, most: int) -> None:
        if number > most:
            raise InvalidResponse(f"a reply of the server has more than {most:,} {what}")


class TransportWire(Wire, asyncio.Protocol):
    """On the transport of a connection that redis-py has opened and authenticated."""

    def __init__(
        self,
        connection: AbstractConnection,
        transport: asyncio.Transport,
        reader: "hiredis.Reader",
        pushes: bool,
    ) -> None:
        super().__init__(connection)
        self._transport = transport
        self._reader = reader
        self._bounds = Bounds(reader)
        self._pushes = pushes
        self._now = asyncio.get_running_loop().time
        self.write = transport.write
        transport.set_protocol(self)

    def write(self, data: bytes) -> None: ...  # the transport's own

    def unsent(self) -> int:
        return self._transport.get_write_buffer_size() + _unsent_by_system(self._transport)

    def _stop(self) -> None:
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self.heard_at = self._now()
        bounds, reader, any_reply = self._bounds, self._reader, False
        try:
            plain = data[-1] == _LINE_FEED and not (bounds.held or _has_long_array(data))
            for piece in (data,) if plain else bounds.pieces(data):
                reader.feed(piece)
                while (reply := reader.gets()) is not False:
                    any_reply = True
                    if bounds.used:
                        bounds.reset()
                    if self._pushes or not isinstance(reply, _PUSH):
                        self._received(reply)
            if not any_reply:
                bounds.add(data)
        except (
            InvalidResponse,
            TypeError,
        ) as error:  # hiredis's TypeError: a list as the key of a map
            self._lost(InvalidResponse(str(error)))

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost(ConnectionError(f"Connection closed by the server: {exc or 'end of stream'}"))


def _unsent_by_system(transport: asyncio.Transport) -> int:
    """What it holds, megabytes if need be, until the other side has confirmed it; 0 where it is not
    Linux.
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
    """Through redis-py's public methods: slower by two turns of the event loop a reply.

    They tell of whole replies only. So a silence is one after 30 seconds, as long as a call may
    take by default: a reply that takes longer than that to arrive, with none before it, is cut. And
    how much a reply may hold is left to redis-py.
    """

    patience = 6

    def __init__(self, connection: AbstractConnection, tasks: Tasks, pushes: bool) -> None:
        super().__init__(connection)
        self._pushes = pushes
        self._unsent: list[bytes] = []
        self._leaving = 0
        self._something_to_send = asyncio.Event()
        self._now = asyncio.get_running_loop().time
        self._both = anyio.CancelScope()
        self._serving = tasks.start(self._serve())

    def write(self, data: bytes) -> None:
        self._unsent.append(data)
        self._something_to_send.set()

    def unsent(self) -> int:
        return self._leaving + sum(map(len, self._unsent))

    def _stop(self) -> None:
        self._both.cancel()

    async def aclose(self) -> None:
        self.abort()
        await asyncio.wait([self._serving])
        await super().aclose()

    async def _serve(self) -> None:
        with self._both:
            try:
                async with anyio.create_task_group() as both:
                    both.start_soon(self._send)
                    both.start_soon(self._receive)
            except* (RedisError, OSError) as errors:
                self._lost(errors.exceptions[0])

    async def _send(self) -> None:
        while True:
            await self._something_to_send.wait()
            self._something_to_send.clear()
            unsent, self._unsent = self._unsent, []
            self._leaving = sum(map(len, unsent))
            await self._connection.send_packed_command(unsent, check_health=False)
            self._leaving = 0

    async def _receive(self) -> None:
        while True:
            try:
                reply = await self._read()
            except _REPLIES as error:
                reply = error
            self.heard_at = self._now()
            self._received(reply)

    async def _read(self) -> Any:
        return await cast(Any, self._connection).read_response(
            disable_decoding=True, disconnect_on_error=False, push_request=self._pushes
        )


def seize(connection: AbstractConnection, tasks: Tasks, *, pushes: bool = False) -> Wire:
    """Take over an open connection, which is used by nobody else from now on.

    `pushes`: pass on RESP3's announcements, too; else only replies to commands.
    """
    private = cast(Any, connection)
    try:
        transport, unread = private._writer.transport, private._reader._buffer  # noqa: SLF001
        parse_error = private._parser.parse_error  # noqa: SLF001
    except AttributeError as missing:
        _logger.warning(
            "this version of redis-py is not as expected (%s): calls take the slower path", missing
        )
        return StreamWire(connection, tasks, pushes)
    if unread:
        raise ConnectionError(f"the server said {len(unread)} bytes that nobody asked for")
    reader = hiredis.Reader(protocolError=InvalidResponse, replyError=parse_error)
    return TransportWire(connection, transport, reader, pushes)
