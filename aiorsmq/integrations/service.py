"""A client and its workers inside a web server, for frameworks that have no module here too."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from http import HTTPStatus
from types import TracebackType
from typing import Any, Final

from ..client import AsyncRSMQ
from ..errors import NotPermitted, QueueDoesNotExist
from ..worker import Worker
from .shutdown import Shutdown

__all__ = ["Service"]

PROBE_TIMEOUT: Final = 2.0
"""Seconds in which the server must answer a readiness probe."""


class Service:
    """A client and its workers for as long as a web server serves the app.

        async with AsyncRSMQ.from_url(url) as rsmq, Service(rsmq, rsmq.queue("jobs").worker(work)):
            yield  # in the app's lifespan

    Within the block the workers run, and the streams of the client end when the server begins to
    stop: see `Shutdown`. At the end of the block the workers stop gracefully. The client stays
    open; close it after the block.

    A worker that dies ends the program, by SIGTERM to the server, which stops as usual: the app
    must not take jobs that nobody does. The block is not interrupted; its end raises the worker's
    error. Where nothing handles SIGTERM, as in tests, none is sent.

    Raises what `async with worker` raises if a worker cannot start.
    """

    def __init__(self, rsmq: AsyncRSMQ, *workers: Worker[Any]) -> None:
        self.rsmq: AsyncRSMQ = rsmq
        self.workers: tuple[Worker[Any], ...] = workers
        self.shutdown: Shutdown = Shutdown(rsmq.end_streams)
        self._stack = AsyncExitStack()
        self._has_server = False
        """Whether a server handles SIGTERM; a worker in a block of its own handles it too."""

    async def __aenter__(self) -> Service:
        self._has_server = callable(signal.getsignal(signal.SIGTERM))
        async with AsyncExitStack() as stack:
            stack.enter_context(self.shutdown)
            for worker in self.workers:
                await stack.enter_async_context(_run_apart(worker, self._terminate))
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._stack.__aexit__(exc_type, exc, traceback)

    def _terminate(self) -> None:
        if self._has_server and not self.shutdown.has_begun:
            signal.raise_signal(signal.SIGTERM)

    async def readiness(self) -> tuple[HTTPStatus, str]:
        """Whether the app can do its work: status and text of the answer to a readiness probe.

        200 if all workers can claim; without workers, if the server answers within 2 seconds.
        Otherwise 503 with the reason; also once the shutdown has begun. Never raises.
        """
        reason = await self._trouble()
        return (HTTPStatus.SERVICE_UNAVAILABLE, reason) if reason else (HTTPStatus.OK, "ready")

    async def _trouble(self) -> str | None:
        if self.shutdown.has_begun:
            return "the program is stopping"
        for worker in self.workers:
            if worker.trouble:
                return f"worker: {worker.trouble}"
        if self.workers:
            return None
        try:
            async with asyncio.timeout(PROBE_TIMEOUT):
                with suppress(QueueDoesNotExist, NotPermitted):  # then the server has answered
                    await self.rsmq.get_queue_attributes(qname="readiness-probe")
        except TimeoutError:
            return f"the server has not answered for {PROBE_TIMEOUT:g} seconds"
        except Exception as error:  # noqa: BLE001 - the reason, whatever it is
            return f"the server cannot be used: {error}"
        return None


@asynccontextmanager
async def _run_apart(worker: Worker[Any], on_death: Callable[[], None]) -> AsyncGenerator[None]:
    """Run a worker in a task of its own, which its death may interrupt."""
    has_started = asyncio.Event()
    stopping = asyncio.Event()

    async def work() -> None:
        async with worker:
            has_started.set()
            try:
                await stopping.wait()
            finally:
                if worker.error is not None:
                    on_death()

    working = asyncio.create_task(work())
    starting = asyncio.create_task(has_started.wait())
    try:
        await asyncio.wait({working, starting}, return_when=asyncio.FIRST_COMPLETED)
        if has_started.is_set():
            yield
    finally:
        starting.cancel()
        stopping.set()
        if not has_started.is_set():
            working.cancel()  # it may be waiting for the server
        with suppress(Exception):  # raised below, unless the block raises
            await working
    working.result()
