"""Closes a client that synchronous code has created, although its event loop may be gone by then.

`asyncio.run`, unittest, and the runners of pytest's plugins cancel all tasks that are left before
they close a loop, and wait for them. So a task that waits to be cancelled can still close a client
in its loop. Later nobody could close its connections any more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from ..client import AsyncRSMQ
from .inside import queues_in_use


class LeftRunning(AssertionError):
    """A test has ended, but a worker, a stream or a waiting receive of its client has not."""


class Keeper:
    """Closes a client when its event loop ends, or earlier when `close` is called."""

    client: AsyncRSMQ

    def __init__(self) -> None:
        self._task: asyncio.Task[None] | None = None
        self._ending: _Ending | None = None
        self._queues: list[str] = []
        """In use when the client had to be closed."""

    async def on_connect(self, connection: Any) -> None:
        """For redis-py, which calls this with each new connection, in the client's loop."""
        opening = asyncio.current_task()
        if opening is not None and opening.cancelling():
            raise asyncio.CancelledError  # it came while uvloop connected, and was lost there
        if self._task is None:
            loop = asyncio.get_running_loop()
            self._ending = _Ending(self._look, loop)
            self._task = loop.create_task(self._keep(self._ending), name="aiorsmq.testing")
        await connection.on_connect()

    async def _keep(self, ending: asyncio.Future[None]) -> None:
        with suppress(asyncio.CancelledError):
            await ending
        await self.client.aclose()

    def _look(self) -> None:
        self._queues = self._queues or queues_in_use(self.client)

    def close(self) -> None:
        """Close the client if it is open, and wait for that where the loop lets us.

        Raises LeftRunning if anybody still used it.
        """
        task = self._task
        if task is not None and not task.done():
            loop = task.get_loop()
            if loop.is_closed():
                text = "the client was still open when its event loop was closed"
                raise LeftRunning(f"{text}: end the loop as asyncio.run does, or close the client")
            if loop is _running_loop():
                self._end()  # nobody can wait here
            elif loop.is_running():
                asyncio.run_coroutine_threadsafe(self._finish(task), loop).result()
            else:
                loop.run_until_complete(self._finish(task))
        if self._queues:
            names = ", ".join(map(repr, self._queues))
            text = f"the test left a worker, a stream or a receive running on queue {names}"
            advice = "leave the block of `async with worker`, or cancel its task and await it"
            raise LeftRunning(f"{text}: {advice}")

    async def _finish(self, task: asyncio.Task[None]) -> None:
        self._end()
        await asyncio.wait({task})

    def _end(self) -> None:
        if self._ending is not None:
            self._ending.cancel()


class _Ending(asyncio.Future[None]):
    """Cancelled when the client is to be closed. It looks around first.

    A loop that ends cancels all tasks before it runs any of them. When the keeper's task runs, the
    others may have left already what they were doing.
    """

    def __init__(self, look: Callable[[], None], loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self._look_around = look

    def cancel(self, msg: Any | None = None) -> bool:
        self._look_around()
        return super().cancel(msg)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
