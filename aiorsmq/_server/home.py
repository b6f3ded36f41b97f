"""The event loop and the process that a client belongs to."""

import asyncio
import os

from ..errors import ClientClosed, WrongEventLoop


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
        running = asyncio.get_running_loop()
        if running is not self._loop:
            self._claim(running)
        return running

    def admit(self) -> asyncio.AbstractEventLoop:
        """`loop()` for a new call. Raises ClientClosed once the client closes."""
        if self.closing:
            raise ClientClosed
        running = asyncio.get_running_loop()  # hot path: spares each message a call of `loop()`
        if running is not self._loop:
            self._claim(running)
        return running

    def _claim(self, running: asyncio.AbstractEventLoop) -> None:
        if self._loop is None:
            self._loop = running
            self._pid = os.getpid()
        elif self._pid != os.getpid():
            raise WrongEventLoop(
                "this AsyncRSMQ belongs to another process: create a new one after a fork"
            )
        else:
            raise WrongEventLoop(
                "this AsyncRSMQ belongs to another event loop: create one in each event loop"
            )
