"""redis-py's connections, opened with the settings that the facts call for.

Two are needed: one for all calls, one for the listener. Neither comes out of the client's pool, so that a small or
busy pool cannot hold them up; they are made by that pool, with its settings.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable

import anyio
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, AuthorizationError, RedisError, ResponseError, TimeoutError

from ._pipeline import Pipeline
from ._settings import CONNECT_TIMEOUT, no_retry
from ._tasks import Tasks
from ._wire import Wire, seize
from .errors import ClientClosed


def _is_known(opening: "asyncio.Task[Pipeline]") -> None:
    """Those who waited may all have given up before it failed: then asyncio would complain that nobody has heard."""
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
        return str(settings.get("path") or (f"{host}:{port}" if host else type(self._pool).__name__))

    def given_up_at(self) -> float:
        """When a server that was never reached is given up: `connect_timeout` after this was first asked."""
        if self._given_up_at is None:
            self._given_up_at = self._tasks.loop().time() + self._connect_timeout
        return self._given_up_at

    def is_expected(self) -> bool:
        """Whether trying again may help: the server was reached once, or may not be up yet."""
        return self.ever_open or self._tasks.loop().time() < self.given_up_at()

    def current(self) -> Pipeline | None:
        """The pipeline, if it is open."""
        return None if self._pipeline is None or self._pipeline.lost else self._pipeline

    async def pipeline(self) -> Pipeline:
        """The pipeline, opened if need be. Raises what redis-py raises; nothing has been sent then."""
        if (pipeline := self.current()) is not None:
            return pipeline
        if self._closed:
            raise ClientClosed
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
            raise
        else:
            if not self.ever_open:
                self.ever_open, self.reached_at = True, self._tasks.loop().time()
                if self.when_reached is not None:
                    self.when_reached(self._pipeline)
            self.failure = None
            return self._pipeline
        finally:
            self._opening = None

    async def open(self, *, pushes: bool = False) -> Wire:
        """Open and authenticate one connection; the caller closes it. `pushes`: see `seize`."""
        if self.before_opening is not None:
            await self.before_opening()
        connection = self._pool.make_connection()
        connection.retry = no_retry()
        try:
            with anyio.fail_after(CONNECT_TIMEOUT):
                await connection.connect()
        except BaseException as error:
            await connection.disconnect(nowait=True)
            if type(error) is asyncio.TimeoutError:
                raise TimeoutError("Timeout connecting to server") from None
            if ", with args beginning with" in str(error):  # of AUTH, which a proxy may not know
                raise ResponseError(str(error).partition(", with args")[0]) from None
            if isinstance(error.__cause__, AuthenticationError | AuthorizationError):
                raise error.__cause__ from None  # redis-py 8.1 wraps a wrong password, which waiting does not mend
            raise
        connection.socket_timeout = None  # it would abort the wait for a reply that nobody asked for yet
        return seize(connection, self._tasks, pushes=pushes)

    async def drop(self, pipeline: Pipeline | None) -> None:
        """Give a pipeline up, as after a failover that left it at a replica; the next call opens another.

        One that is not the current one has been given up already; those who call on the current one are not disturbed.
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
