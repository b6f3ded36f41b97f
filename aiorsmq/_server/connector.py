"""redis-py's connections, opened with the settings that the facts call for.

Two are needed: one for all calls, one for the listener. Neither comes out of the client's pool, so
that a small or busy pool cannot hold them up; they are made by that pool, with its settings.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from typing import Final

import anyio
from redis.asyncio import Redis
from redis.exceptions import (
    AuthorizationError,
    NoPermissionError,
    RedisError,
    ResponseError,
    TimeoutError,
)

from ..errors import ClientClosed
from .failures import LOGIN_REFUSED
from .lane import Pipeline
from .settings import CONNECT_TIMEOUT, no_retry
from .tasks import Tasks
from .wire import Wire, seize

LOGIN_PATIENCE: Final = 60.0
"""Seconds from the first refusal on for which a client that was logged in before takes a refused
password or token for one that is being rotated.
"""
LOGIN_PAUSE: Final = 0.25
"""Seconds from a refused login of such a client to its next, however many calls want one."""
OPEN_TIMEOUT: Final = 30.0
"""Seconds that all steps of opening a connection may take: on a slow line a login is several round
trips.
"""


def _is_known(opening: "asyncio.Task[Pipeline]") -> None:
    """Those who waited may all have given up before it failed: then asyncio would complain that
    nobody has heard.
    """
    if not opening.cancelled():
        opening.exception()


class Connections:
    """Opens what one AsyncRSMQ needs."""

    def __init__(self, client: Redis, tasks: Tasks, connect_timeout: float = 0) -> None:
        self._pool = client.connection_pool
        self._tasks = tasks
        self._connect_timeout = connect_timeout
        self._given_up_at: float | None = None
        self._pipeline: Pipeline | None = None
        self._opening: asyncio.Task[Pipeline] | None = None
        self._closed = False
        self.ever_open: bool = False
        """Whether the server was ever reached: an address that never answered is probably wrong."""
        self.reached_at: float = math.inf
        """When that was, by the event loop's clock."""
        self.failure: Exception | None = None
        """Why the latest attempt to open the pipeline failed; None if it did not."""
        self._opened_at = self._refused_at = -math.inf
        self._refused_since: float | None = None
        self.before_opening: Callable[[], Awaitable[None]] | None = None
        """Awaited before a connection is opened."""
        self.when_lost: Callable[[], None] = lambda: None
        """Called when the server, or the network, has ended the pipeline."""
        self.when_reached: Callable[[Pipeline], None] | None = None
        """Called with the first pipeline, before any call is made on it."""

    @property
    def address(self) -> str:
        """Where the server is, without what is secret."""
        settings = self._pool.connection_kwargs
        host, port = settings.get("host"), settings.get("port", 6379)
        return str(
            settings.get("path") or (f"{host}:{port}" if host else type(self._pool).__name__)
        )

    def given_up_at(self) -> float:
        """When a server that was never reached is given up: `connect_timeout` after this was first
        asked.
        """
        if self._given_up_at is None:
            self._given_up_at = self._tasks.loop().time() + self._connect_timeout
        return self._given_up_at

    def current(self) -> Pipeline | None:
        """The pipeline, if it is open."""
        return None if self._pipeline is None or self._pipeline.lost else self._pipeline

    async def pipeline(self) -> Pipeline:
        """The pipeline, opened if need be. Raises what redis-py raises; nothing has been sent
        then.
        """
        if (pipeline := self.current()) is not None:
            return pipeline
        if self._closed:
            raise ClientClosed
        if self.failure is not None and time.monotonic() < self._refused_at + LOGIN_PAUSE:
            raise self.failure.with_traceback(None)
        if self._opening is None or self._opening.done():
            self._opening = self._tasks.start(self._open_pipeline())
            self._opening.add_done_callback(_is_known)
        return await asyncio.shield(self._opening)

    async def _open_pipeline(self) -> Pipeline:
        try:
            await self.drop(self._pipeline)
            self._pipeline = Pipeline(await self.open(), self.when_lost)
        except (RedisError, OSError) as error:
            self.failure = error
            if isinstance(error, LOGIN_REFUSED) and self.ever_open:
                self._note_refusal(error)
            raise
        else:
            if not self.ever_open:
                self.ever_open, self.reached_at = True, self._tasks.loop().time()
                if self.when_reached is not None:
                    self.when_reached(self._pipeline)
            self.failure, self._opened_at = None, time.monotonic()
            return self._pipeline
        finally:
            self._opening = None

    def may_pass(self, error: Exception) -> bool:
        """Whether what keeps this client from the server may be over later: it was reached once, or
        may not be up yet.

        A refused login may for LOGIN_PATIENCE, if one has worked: after that the password is wrong.
        """
        if not isinstance(error, LOGIN_REFUSED):
            return self.ever_open or self._tasks.loop().time() < self.given_up_at()
        if not self.ever_open:
            return False
        return (
            self._refused_since is not None
            and time.monotonic() < self._refused_since + LOGIN_PATIENCE
        )

    async def relogin(self, pipeline: Pipeline | None, error: Exception) -> None:
        """Give a pipeline up on which the server says that nobody is logged in."""
        if pipeline is not None and pipeline is self._pipeline:
            self._note_refusal(error)
            await self.drop(pipeline)

    def _note_refusal(self, error: Exception) -> None:
        self.failure, self._refused_at = error, time.monotonic()
        has_worked = (
            self._refused_at > self._opened_at + CONNECT_TIMEOUT
        )  # else it may have been refused by each reply
        if self._refused_since is None or (has_worked and self._opened_at > self._refused_since):
            self._refused_since = self._refused_at

    async def open(self, *, pushes: bool = False) -> Wire:
        """Open and authenticate one connection; the caller closes it. `pushes`: see `seize`."""
        if self.before_opening is not None:
            await self.before_opening()
        connection = self._pool.make_connection()
        connection.retry = no_retry()
        connection.socket_timeout = CONNECT_TIMEOUT
        connection.socket_connect_timeout = min(
            connection.socket_connect_timeout or math.inf, CONNECT_TIMEOUT
        )
        try:
            with anyio.fail_after(OPEN_TIMEOUT):
                await connection.connect()
        except BaseException as error:
            await connection.disconnect(nowait=True)
            if type(error) is asyncio.TimeoutError or isinstance(
                error.__cause__, TimeoutError
            ):  # 8.1 wraps its own
                raise TimeoutError("Timeout connecting to server") from None
            if ", with args beginning with" in str(error):  # of AUTH, which a proxy may not know
                raise ResponseError(str(error).partition(", with args")[0]) from None
            refusal = (
                error.__cause__ if isinstance(error.__cause__, RedisError) else error
            )  # redis-py 8.1 wraps it
            if isinstance(refusal, NoPermissionError):
                raise AuthorizationError(str(refusal)) from None
            if isinstance(refusal, LOGIN_REFUSED):
                raise refusal from None
            raise
        connection.socket_timeout = (
            None  # it would abort the wait for a reply that nobody asked for yet
        )
        return seize(connection, self._tasks, pushes=pushes)

    async def drop(self, pipeline: Pipeline | None) -> None:
        """Give a pipeline up, as after a failover that left it at a replica; the next call opens
        another.

        One that is not the current one has been given up already; those who call on the current one
        are not disturbed.
        """
        if pipeline is not None and pipeline is self._pipeline:
            self._pipeline = None
            await pipeline.aclose()

    async def aclose(self) -> None:
        self._closed = True
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.wait([self._opening])
        await self.drop(self._pipeline)
