"""Where a server is, and how a connection to it is opened.

Connections are created by the redis-py client's pool, with its settings, but never taken out of
that pool: a small or busy pool cannot hold them up.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

import anyio
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import (
    AuthorizationError,
    ConnectionError,
    NoPermissionError,
    RedisError,
    ResponseError,
    TimeoutError,
)

from ..embedded import EmbeddedServer, is_volatile
from .credentials import follow
from .failures import LOGIN_REFUSED, SERVER_ERRORS, without_arguments
from .options import CONNECT_TIMEOUT, no_retry
from .siblings import announce_server
from .tasks import Tasks
from .tls import Handshakes
from .wire import Wire, seize

OPEN_TIMEOUT: Final = 30.0
"""Seconds for all steps of opening a connection: on a slow line a login is several round trips."""


def _ignore() -> None: ...


def _ignore_credentials(_: tuple[str, ...]) -> None: ...


class Target:
    """A server, reached with the settings of a redis-py client's pool.

    Which one is for the subclasses to say.

    Args:
        handshakes: of a client that has several targets.
        pool: see `follow`; by default the client's pool.
    """

    def __init__(
        self, client: Redis, handshakes: Handshakes | None = None, pool: Any = None
    ) -> None:
        self.client: Redis = client
        self.on_moved: Callable[[], None] = _ignore
        """Called when the server is another one now: all connections are dropped."""
        self._pool = client.connection_pool
        self._handshakes = handshakes or Handshakes()
        self.on_renewed: Callable[[tuple[str, ...]], None] = _ignore_credentials
        """Called, perhaps in another thread, with new credentials for the open connections."""
        provider = self._pool.connection_kwargs.get("credential_provider")
        self._follower = follow(provider, self._renewed, pool or self._pool)

    @property
    def address(self) -> str:
        """Where the server is; without user name and password."""
        settings = self._pool.connection_kwargs
        if path := settings.get("path"):
            return str(path)
        if host := settings.get("host"):
            return f"{host}:{settings.get('port', 6379)}"
        return type(self._pool).__name__

    @property
    def keeps_data(self) -> bool:
        """Whether the server is meant to keep its data when it stops."""
        return not is_volatile(self.address)

    async def open(self, tasks: Tasks, *, pushes: bool = False) -> Wire:
        """Open and authenticate a connection, which the caller closes. Raises redis-py's errors.

        Args:
            tasks: own what the connection runs.
            pushes: see `seize`.
        """
        connection = self._pool.make_connection()
        await self.log_in(connection, connection.connect)
        return take_over(connection, tasks, pushes=pushes)

    async def log_in(
        self, connection: AbstractConnection, connect: Callable[[], Awaitable[None]]
    ) -> None:
        """See the function; warns once of what TLS leaves unchecked."""
        await log_in(connection, connect, self._handshakes)
        self._handshakes.note_success(connection)

    def suspect(self) -> None:
        """Look whether the server is still the right one: it has answered as if it were not."""

    def _renewed(self, credentials: tuple[str, ...]) -> None:
        self.on_renewed(credentials)

    async def aclose(self) -> None:
        """Close what is ours; a subclass overrides this if something is."""


class GivenTarget(Target):
    """The server of a client that the user gave us, which stays the user's to close."""


class DirectTarget(Target):
    """A server at an address; its redis-py client is ours."""

    async def aclose(self) -> None:
        await self.client.aclose()


class EmbeddedTarget(DirectTarget):
    """A server of our own, started before the first connection is opened."""

    def __init__(self, server: EmbeddedServer, client: Redis) -> None:
        super().__init__(client)
        self.server: EmbeddedServer = server
        self._is_announced = False

    async def open(self, tasks: Tasks, *, pushes: bool = False) -> Wire:
        await self.server.start()
        if not (self.keeps_data or self._is_announced):
            self._is_announced = True
            announce_server(self.server)
        return await super().open(tasks, pushes=pushes)

    async def aclose(self) -> None:
        await super().aclose()
        await self.server.stop()


async def log_in(
    connection: AbstractConnection,
    connect: Callable[[], Awaitable[None]],
    handshakes: Handshakes,
) -> None:
    """Have redis-py connect and log in, once, and raise what the server said, not what wraps it."""
    connection.retry = no_retry()
    connection.socket_timeout = CONNECT_TIMEOUT
    connect_timeout = connection.socket_connect_timeout or math.inf
    connection.socket_connect_timeout = min(connect_timeout, CONNECT_TIMEOUT)
    try:
        with anyio.fail_after(OPEN_TIMEOUT):
            await connect()
            if not _has_login(connection):
                await _probe(connection)
    except Exception as error:  # noqa: BLE001 - raised again
        await connection.disconnect(nowait=True)
        raise handshakes.explain(_refusal(error), connection) from None
    except BaseException:
        await connection.disconnect(nowait=True)
        raise


def _refusal(error: Exception) -> Exception:
    """What the server said, without what wraps it, and without secrets."""
    cause = error.__cause__
    if type(error) is asyncio.TimeoutError or isinstance(cause, TimeoutError):
        return TimeoutError("Timeout connecting to server")
    if (text := without_arguments(error)) != str(error):
        return ResponseError(text)
    if isinstance(error, RuntimeError) and "closed" in str(error):
        # What uvloop raises for writing to a connection that the server has closed.
        return ConnectionError("Connection closed by the server")
    refusal = cause if isinstance(cause, RedisError) else error  # redis-py 8.1 wraps it
    if isinstance(refusal, NoPermissionError):
        return AuthorizationError(str(refusal))
    if not isinstance(error, SERVER_ERRORS):  # a credential provider's; redis-py 8 wraps it so
        return ConnectionError(error)
    return refusal if isinstance(refusal, LOGIN_REFUSED) else error


def take_over(connection: AbstractConnection, tasks: Tasks, *, pushes: bool) -> Wire:
    """See `seize`; for a connection that `log_in` has opened."""
    connection.socket_timeout = None  # else redis-py aborts reads while no reply is due
    return seize(connection, tasks, pushes=pushes)


def _has_login(connection: AbstractConnection) -> bool:
    """Whether redis-py has waited for a reply of the server's, so that the server is known to be
    one, and to have accepted a client certificate."""
    settings = ("db", "client_name", "username", "password", "credential_provider")
    libraries = ("driver_info", "lib_name", "lib_version")
    return connection.redis_connect_func is None and any(
        getattr(connection, name, None) for name in (*settings, *libraries)
    )


async def _probe(connection: AbstractConnection) -> None:
    """Wait for a reply."""
    await connection.send_command("PING")
    with suppress(ResponseError):
        await connection.read_response()
