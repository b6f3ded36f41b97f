"""One connection with many calls under way: what is called with a command, and answers in the order of the calls.

redis-py opens the connection; then its transport is taken over. An asyncio protocol around hiredis's reader answers a
call inside the read callback, where redis-py's StreamReader costs two more turns of the event loop: send and receive
are about a third faster. That touches private attributes of redis-py, all in `seize`; where they are not as expected,
`StreamPipeline` does the same through redis-py's public methods.
"""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
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
    TimeoutError,
)

from ._tasks import Tasks

Argument = str | bytes | int
_pack = cast(Callable[[tuple[Argument, ...]], bytes], hiredis.pack_command)  # pyright: ignore[reportUnknownMemberType]
Answered = Callable[[Any], None]
"""Gets the reply to a call, or as an exception the server's error or the loss of the connection."""

REPLY_TIMEOUT: Final = 5.0
"""Seconds without a byte, while calls wait for their replies, after which a connection is given up."""

# redis-py raises these when they come as the reply to a call, although they are ConnectionErrors by class.
_REPLIES = (ResponseError, BusyLoadingError, AuthenticationError, AuthorizationError)

_logger = logging.getLogger(__name__)


class Pipeline(ABC):
    """Calls go out as they are made. A lost connection answers those under way, and only those, with redis-py's
    ConnectionError or TimeoutError: whether the server executed them is unknown then.
    """

    def __init__(self, connection: AbstractConnection) -> None:
        self.lost: bool = False
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._unanswered: deque[Answered] = deque()
        self._heard_at = 0.0
        self._watchdog: asyncio.TimerHandle | None = None

    def call(self, answered: Answered, *command: Argument) -> None:
        """Send a command; `answered` is called once, from the event loop, and must not raise."""
        data = _pack(command)
        if not self._unanswered:
            self._heard_at = self._loop.time()
            if self._watchdog is None:
                self._watchdog = self._loop.call_later(REPLY_TIMEOUT, self._check_silence)
        self._unanswered.append(answered)
        self._write(data)

    def lose(self, error: Exception) -> None:
        if self.lost:
            return
        self.lost = True
        if self._watchdog is not None:
            self._watchdog.cancel()
        self._stop()
        while self._unanswered:
            self._unanswered.popleft()(error)

    async def aclose(self) -> None:
        self.lose(ConnectionError("Connection closed by the client"))
        await self._connection.disconnect(nowait=True)

    @abstractmethod
    def _write(self, data: bytes) -> None: ...

    @abstractmethod
    def _stop(self) -> None:
        """Stop reading and writing."""

    def _answer(self, reply: Any) -> None:
        self._heard_at = self._loop.time()
        self._unanswered.popleft()(reply)

    def _check_silence(self) -> None:
        self._watchdog = None
        if not self._unanswered or self.lost:
            return
        left = self._heard_at + REPLY_TIMEOUT - self._loop.time()
        if left > 0:
            self._watchdog = self._loop.call_later(left, self._check_silence)
        else:
            self.lose(TimeoutError(f"No reply from the server for {REPLY_TIMEOUT:g} seconds"))


class TransportPipeline(Pipeline, asyncio.Protocol):
    """On the transport of a connection that redis-py has opened and authenticated."""

    def __init__(self, connection: AbstractConnection, transport: asyncio.Transport, reader: "hiredis.Reader") -> None:
        super().__init__(connection)
        self._transport = transport
        self._reader = reader
        self._write = transport.write
        transport.set_protocol(self)

    def _write(self, data: bytes) -> None: ...  # the transport's own

    def _stop(self) -> None:
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        try:
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not False:
                if isinstance(reply, hiredis.PushNotification):
                    continue  # RESP3's, to nobody's call
                self._answer(reply)
        except InvalidResponse as error:
            self.lose(error)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lose(ConnectionError(f"Connection closed by the server: {exc or 'end of stream'}"))


class StreamPipeline(Pipeline):
    """Through redis-py's public methods: slower by two turns of the event loop a call."""

    def __init__(self, connection: AbstractConnection, tasks: Tasks) -> None:
        super().__init__(connection)
        self._unsent: list[bytes] = []
        self._something_to_send = asyncio.Event()
        self._both = anyio.CancelScope()
        self._serving = tasks.start(self._serve())

    def _write(self, data: bytes) -> None:
        self._unsent.append(data)
        self._something_to_send.set()

    def _stop(self) -> None:
        self._both.cancel()

    async def aclose(self) -> None:
        self.lose(ConnectionError("Connection closed by the client"))
        await asyncio.wait([self._serving])
        await super().aclose()

    async def _serve(self) -> None:
        async with anyio.create_task_group() as both:
            self._both = both.cancel_scope
            both.start_soon(self._send)
            both.start_soon(self._receive)

    async def _send(self) -> None:
        try:
            while not self.lost:
                await self._something_to_send.wait()
                self._something_to_send.clear()
                unsent, self._unsent = self._unsent, []
                await self._connection.send_packed_command(unsent, check_health=False)
        except (RedisError, OSError) as error:
            self.lose(error)

    async def _receive(self) -> None:
        try:
            while not self.lost:
                try:
                    self._answer(await read(self._connection))
                except _REPLIES as error:
                    self._answer(error)
        except (RedisError, OSError) as error:
            self.lose(error)


async def read(connection: AbstractConnection, *, push_request: bool = False) -> Any:
    """One reply, as bytes; cancelling loses none. `push_request`: RESP3's announcements, too, count as replies."""
    return await cast(Any, connection).read_response(
        disable_decoding=True, disconnect_on_error=False, push_request=push_request
    )


def seize(connection: AbstractConnection, tasks: Tasks) -> Pipeline:
    """Make a pipeline of an open connection, which is read by nobody else from now on."""
    private = cast(Any, connection)
    try:
        transport, unread = private._writer.transport, private._reader._buffer  # noqa: SLF001
        parse_error = private._parser.parse_error  # noqa: SLF001
    except AttributeError as missing:
        _logger.warning("this version of redis-py is not as expected (%s): calls take the slower path", missing)
        return StreamPipeline(connection, tasks)
    if unread:
        raise ConnectionError(f"the server said {len(unread)} bytes that nobody asked for")
    return TransportPipeline(
        connection, transport, hiredis.Reader(protocolError=InvalidResponse, replyError=parse_error)
    )
