"""The event loop and the process that a client belongs to."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import anyio

from ..errors import ClientClosed, WrongEventLoop

OTHER_LOOP: Final = (
    "this AsyncRSMQ belongs to another event loop: create one in each event loop (in tests, in a "
    "fixture of the test's loop); in Flask, or Django under WSGI, use aiorsmq.sync.RSMQ or "
    "aiorsmq.integrations.django"
)
OTHER_PROCESS: Final = "this AsyncRSMQ belongs to another process: create a new one after a fork"
NOT_ASYNCIO: Final = (
    "aiorsmq runs on asyncio only, because redis-py does: it cannot be used under trio"
)
NO_LOOP: Final = (
    "no event loop is running: use asyncio.run(...), or aiorsmq.sync in code without await"
)


class Home:
    """Where a client is used: the event loop and the process of its first call, and no other."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = os.getpid()
        self.closing: bool = False
        """Set when the client closes: new calls are refused."""
        self.has_ended_streams: bool = False
        """Set when the client ends its streams: new streams end at once."""

    @property
    def used(self) -> bool:
        return self._loop is not None

    def loop(self) -> asyncio.AbstractEventLoop:
        """The running event loop. Raises WrongEventLoop if it is not the client's."""
        running = running_loop()
        if running is not self._loop:
            self._claim(running)
        return running

    def admit(self) -> asyncio.AbstractEventLoop:
        """`loop()` for a new call. Raises ClientClosed once the client closes."""
        if self.closing:
            raise ClientClosed
        try:
            running = asyncio.get_running_loop()  # hot path: spares each message a call of `loop()`
        except RuntimeError:
            raise _missing_loop() from None
        if running is not self._loop:
            self._claim(running)
        return running

    def call_soon(self, callback: Callable[[], object]) -> None:
        """Call it in the client's event loop, from any thread, if that runs."""
        if self._loop is not None and self._pid == os.getpid():
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(callback)

    def _claim(self, running: asyncio.AbstractEventLoop) -> None:
        if self._loop is None:
            self._loop = running
            self._pid = os.getpid()
        elif self._pid != os.getpid():
            raise WrongEventLoop(OTHER_PROCESS)
        else:
            raise WrongEventLoop(OTHER_LOOP)


def running_loop() -> asyncio.AbstractEventLoop:
    """The running event loop. Raises WrongEventLoop if none of asyncio is running."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise _missing_loop() from None


def _missing_loop() -> WrongEventLoop:
    try:
        anyio.current_time()  # under trio there is one
    except RuntimeError:
        return WrongEventLoop(NO_LOOP)
    return WrongEventLoop(NOT_ASYNCIO)
