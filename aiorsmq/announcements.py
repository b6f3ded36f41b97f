"""The async iterator over a queue's announcements."""

from __future__ import annotations

import asyncio
from types import TracebackType

from ._consuming.core import QueueCore
from ._server.flag import Flag
from .errors import ClientClosed


class Announcements:
    """The announcements of one queue, without contents: an async iterator that never ends by
    itself.

    Each step means that the queue may look different now. It claims nothing. It is an async context
    manager too; leaving it, `aclose()`, and dropping the iterator stop the listening. Of several
    tasks that iterate over one iterator, one gets each announcement.

    When the client is closed, an iterator that has begun ends quietly. Every other one raises
    ClientClosed when its iteration begins, like every call.
    """

    def __init__(self, core: QueueCore) -> None:
        self._core = core  # kept alive: it ends this with its streams
        self._flag = Flag(core.keys.channel, self._wake)
        self._readers: set[asyncio.Future[None]] = set()
        self._has_begun = False
        self._ended = False
        core.receiving(None).audience.open_stream(self)

    def __aiter__(self) -> Announcements:
        return self

    async def __anext__(self) -> None:
        """Wait for the next announcement. Cancelling loses none."""
        node = self._core.node
        while not self._ended:
            try:
                loop = node.home.admit()
            except ClientClosed:  # it has begun to close, and ends its streams next
                break
            node.watch(self._flag)
            if not self._has_begun:
                self._has_begun = True
                self._flag.is_set = not node.realtime  # otherwise the listener sets it
            if self._flag.is_set:
                self._flag.is_set = False
                return
            await self._wait(loop)
        is_refused = node.home.closing and not self._has_begun
        raise ClientClosed if is_refused else StopAsyncIteration

    async def _wait(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wait until woken; while nobody listens, for `poll_interval` at most."""
        reader: asyncio.Future[None] = loop.create_future()
        self._readers.add(reader)
        try:
            async with asyncio.timeout(self._core.poll_interval):
                await reader
        except asyncio.TimeoutError:
            if not self._core.node.is_listening(self._flag):
                self._flag.is_set = True
        finally:
            self._readers.discard(reader)

    def _wake(self) -> None:
        for reader in self._readers:
            if not reader.done():
                reader.set_result(None)

    def end(self) -> None:
        """End the iteration, also for tasks that await it."""
        self._ended = True
        self._flag.is_wanted = False
        self._wake()

    async def aclose(self) -> None:
        """End the iteration, also for a task that awaits it."""
        self.end()

    async def __aenter__(self) -> Announcements:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.end()

    def __del__(self) -> None:
        self._flag.is_wanted = False
