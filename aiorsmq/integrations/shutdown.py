"""Tells when the web server that runs the program begins to stop: the moment to end open streams.

A server that stops waits for its open responses first, and only then for the app. Server-sent
events and WebSockets that wait for the next message never end by themselves.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any, Final, TypeVar

import anyio

__all__ = ["Shutdown"]

T = TypeVar("T")

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


class Shutdown:
    """The stop of the web server that runs this program, from the moment at which it begins.

        with Shutdown(rsmq.end_streams):
            yield  # in the app's lifespan

    Within its block, it begins with the first SIGTERM or SIGINT that reaches the process. It only
    looks on: each signal goes to the server too, which stops, or quits by force, as always. That
    works with servers that install their signal handlers before they start the app, as uvicorn and
    gunicorn do, with several processes, and with automatic reloads.

    It sees no signals in a thread other than the main thread, as in a TestClient, nor signals that
    nothing handles: call `begin` there. uvicorn's `--limit-max-requests` and gunicorn's
    `max_requests` stop a server without a signal: clients that stay connected then hold it, until
    uvicorn's `--timeout-graceful-shutdown` or gunicorn's `timeout` cuts them off.

    Args:
        on_begin: plain functions, called in the event loop when the shutdown begins.
    """

    def __init__(self, *on_begin: Callable[[], object]) -> None:
        self._on_begin = on_begin
        self._beginning = asyncio.Event()
        self._scopes: set[anyio.CancelScope] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._previous_handlers: dict[signal.Signals, Callable[[int, FrameType | None], Any]] = {}

    def __enter__(self) -> Shutdown:
        self._loop = asyncio.get_running_loop()
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                handler = signal.getsignal(number)
                if callable(handler):
                    self._previous_handlers[number] = handler
                    signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._previous_handlers.items():
            if signal.getsignal(number) == self._on_signal:  # nobody has replaced it since
                signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        """Runs between any two steps of the program: so it only schedules."""
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self.begin)
        self._previous_handlers[signal.Signals(number)](number, frame)

    @property
    def has_begun(self) -> bool:
        return self._beginning.is_set()

    def begin(self) -> None:
        """Begin now, as with a signal; the second time nothing happens.

        For servers that tell of their shutdown in another way, and for tests. Call it in the event
        loop.
        """
        if self.has_begun:
            return
        self._beginning.set()
        for scope in self._scopes:
            scope.cancel()
        for callback in self._on_begin:
            callback()

    async def wait(self) -> None:
        """Wait until the shutdown begins."""
        await self._beginning.wait()

    async def stream(self, items: AsyncIterable[T]) -> AsyncGenerator[T, None]:
        """The items of an async iterator until the shutdown begins, for streams that read from
        something else than a queue.

        When it begins, the step that waits for the next item is cancelled. At the end the iterator
        is closed, if it has an `aclose`.
        """
        iterator = aiter(items)
        try:
            while not self.has_begun and (found := await self._next(iterator)):
                yield found[0]
        finally:
            close = getattr(iterator, "aclose", None)
            if close is not None:
                await close()

    async def _next(self, iterator: AsyncIterator[T]) -> list[T]:
        """The next item; none at the end of the iterator, or if the shutdown begins."""
        with suppress(StopAsyncIteration), anyio.CancelScope() as scope:
            self._scopes.add(scope)
            try:
                return [await anext(iterator)]
            finally:
                self._scopes.discard(scope)
        return []
