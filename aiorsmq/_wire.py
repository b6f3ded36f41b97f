"""An open connection: what is written goes out, and what comes in is passed on, reply by reply.

redis-py opens the connection; then its transport is taken over. An asyncio protocol around hiredis's reader passes a
reply on inside the read callback, where redis-py's StreamReader costs two more turns of the event loop: send and
receive are about a third faster. That touches private attributes of redis-py, all in `seize`; where they are not as
expected, `StreamWire` does the same through redis-py's public methods.
"""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, cast

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

from ._tasks import Tasks

Argument = str | bytes | int
pack = cast(Callable[[tuple[Argument, ...]], bytes], hiredis.pack_command)  # pyright: ignore[reportUnknownMemberType]
"""A command as bytes; a tenth of what redis-py's own packing costs."""

# redis-py raises these when they come as the reply to a command, although they are ConnectionErrors by class.
_REPLIES = (ResponseError, BusyLoadingError, AuthenticationError, AuthorizationError)

_PUSH = cast(type, getattr(hiredis, "PushNotification", ()))  # RESP3's; hiredis 3.0 and 3.1 have no class for it

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
        """Have each reply, an error as an exception, passed to `received`, and to `lost` why there will be no more.

        Both are called from the event loop, and must not raise.
        """
        self._received = received
        self._lost = lost

    @abstractmethod
    def write(self, data: bytes) -> None: ...

    @abstractmethod
    def unsent(self) -> int:
        """How many bytes have not been sent yet."""

    def abort(self) -> None:
        """Stop reading and writing at once; nothing is passed on any more."""
        self.attach(_nobody, _nobody)
        self._stop()

    @abstractmethod
    def _stop(self) -> None: ...

    async def aclose(self) -> None:
        self.abort()
        await self._connection.disconnect(nowait=True)


class TransportWire(Wire, asyncio.Protocol):
    """On the transport of a connection that redis-py has opened and authenticated."""

    def __init__(
        self, connection: AbstractConnection, transport: asyncio.Transport, reader: "hiredis.Reader", pushes: bool
    ) -> None:
        super().__init__(connection)
        self._transport = transport
        self._reader = reader
        self._pushes = pushes
        self._now = asyncio.get_running_loop().time
        self.write = transport.write
        transport.set_protocol(self)

    def write(self, data: bytes) -> None: ...  # the transport's own

    def unsent(self) -> int:
        return self._transport.get_write_buffer_size()

    def _stop(self) -> None:
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self.heard_at = self._now()
        self._reader.feed(data)
        while True:
            try:
                reply = self._reader.gets()
            except (InvalidResponse, TypeError) as error:  # hiredis's TypeError: a list as the key of a map
                self._lost(InvalidResponse(str(error)))
                return
            if reply is False:
                return
            if self._pushes or not isinstance(reply, _PUSH):
                self._received(reply)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost(ConnectionError(f"Connection closed by the server: {exc or 'end of stream'}"))


class StreamWire(Wire):
    """Through redis-py's public methods: slower by two turns of the event loop a reply.

    They tell of whole replies only. So a silence is one after 30 seconds, as long as a call may take by default: a
    reply that takes longer than that to arrive, with none before it, is cut.
    """

    patience = 6

    def __init__(self, connection: AbstractConnection, tasks: Tasks, pushes: bool) -> None:
        super().__init__(connection)
        self._pushes = pushes
        self._unsent: list[bytes] = []
        self._something_to_send = asyncio.Event()
        self._now = asyncio.get_running_loop().time
        self._both = anyio.CancelScope()
        self._serving = tasks.start(self._serve())

    def write(self, data: bytes) -> None:
        self._unsent.append(data)
        self._something_to_send.set()

    def unsent(self) -> int:
        return sum(map(len, self._unsent))

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
            await self._connection.send_packed_command(unsent, check_health=False)

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
        _logger.warning("this version of redis-py is not as expected (%s): calls take the slower path", missing)
        return StreamWire(connection, tasks, pushes)
    if unread:
        raise ConnectionError(f"the server said {len(unread)} bytes that nobody asked for")
    reader = hiredis.Reader(protocolError=InvalidResponse, replyError=parse_error)
    return TransportWire(connection, transport, reader, pushes)
