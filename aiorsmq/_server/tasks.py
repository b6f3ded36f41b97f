"""Tasks that outlive the call that started them."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import anyio

from .home import Home

T = TypeVar("T")


class Tasks:
    """Running tasks that the client owns and waits for when it closes.

    Not a task group: a client may be entered and left in different tasks.
    """

    def __init__(self, home: Home) -> None:
        self.home: Home = home
        self._running: set[asyncio.Task[Any]] = set()

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = self.home.loop().create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    def are_running(self) -> bool:
        return bool(self._running)

    async def wait(self) -> None:
        """Wait for all of them."""
        while self._running:
            await asyncio.wait(self._running)

    async def finish(self, seconds: float) -> None:
        """Wait for all of them; cancel those that are still running after `seconds`."""
        with anyio.move_on_after(seconds):
            await self.wait()
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running)
