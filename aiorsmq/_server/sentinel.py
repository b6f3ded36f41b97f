"""A primary and its replicas, watched by sentinels."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any, cast

from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import AuthorizationError, ConnectionError, NoPermissionError

from ..errors import ClientClosed
from .failover import Address
from .quorum import Quorum
from .sentinels import Sentinel
from .target import Target, take_over
from .tasks import Tasks
from .wire import Wire

_logger = logging.getLogger("aiorsmq.client")


class SentinelTarget(Target):
    """The primary, wherever it is. Listens to all sentinels from the first `open` to `aclose`.

    Each time a connection is opened, all sentinels are asked at once, and the highest epoch is
    believed. A client that is cut off from all sentinels keeps the connections that it has.

    Args:
        client: has the settings of connections to the primary; its address is not used.
        sentinels: their clients, for the settings.
        is_ours: whether to close `client`.
        min_others: see `Sentinel`.
        force_host: the primary's host, whatever the sentinels say.
    """

    def __init__(
        self,
        client: Redis,
        sentinels: Sequence[Redis],
        service: str,
        *,
        is_ours: bool,
        min_others: int = 0,
        force_host: str | None = None,
    ) -> None:
        super().__init__(client)
        self._sentinels = [Sentinel(sentinel, service, min_others) for sentinel in sentinels]
        self._service = service
        self._is_ours = is_ours
        self._force_host = force_host
        self._quorum: Quorum | None = None
        self._connected_to: Address | None = None

    @property
    def address(self) -> str:
        places = ",".join(sentinel.address for sentinel in self._sentinels)
        return f"service {self._service} at {places}"

    @property
    def keeps_data(self) -> bool:
        return True

    async def open(self, tasks: Tasks, *, pushes: bool = False) -> Wire:
        if self._quorum is None:
            self._quorum = Quorum(self._sentinels, self._service, tasks.home, self._leave)
        primary = self._quorum.primary
        while True:
            await primary.settled()
            address = await self._quorum.find()
            if primary.is_held():
                continue
            connection = self._pool.make_connection()
            try:
                with primary.opening() as opening:
                    await self._connect(connection, address)
                if not opening.cancel_called:
                    self._log_move(address)
                    return take_over(connection, tasks, pushes=pushes)
            except BaseException:
                await connection.disconnect(nowait=True)
                raise
            await connection.disconnect(nowait=True)

    def suspect(self) -> None:
        if self._quorum is not None:
            with suppress(ClientClosed):
                self._quorum.look()

    async def aclose(self) -> None:
        if self._quorum is not None:
            await self._quorum.aclose()
        if self._is_ours:
            await self.client.aclose()

    def _leave(self) -> None:
        self.on_moved()

    def _log_move(self, address: Address) -> None:
        """Tell of a failover, once, with the first connection to the new primary."""
        before, self._connected_to = self._connected_to, address
        if before is not None and before != address:
            text = "failover: the primary of service %s is %s:%d now, it was %s:%d"
            _logger.warning(text, self._service, *address, *before)

    async def _connect(self, connection: AbstractConnection, address: Address) -> None:
        """Connect to what should be the primary. Raises ConnectionError if it is not, or not yet:
        a replica would answer reads, with what was true before."""
        host = self._force_host or address[0]
        port = address[1]
        await self.log_in(connection, partial(_connect_to, connection, host, port))
        await connection.send_command("ROLE")
        try:
            reply = cast(Any, await connection.read_response(disable_decoding=True))
        except NoPermissionError as error:
            raise AuthorizationError(f"behind sentinels the user needs +role: {error}") from None
        if reply[0] != b"master":
            raise ConnectionError(f"{host}:{port} is not the primary yet, or not any more")


async def _connect_to(connection: Any, host: str, port: int) -> None:
    if hasattr(connection, "connect_to"):  # redis-py's: its `connect` would ask sentinels itself
        await connection.connect_to((host, port))
    else:
        connection.host = host
        connection.port = port
        await connection.connect()
