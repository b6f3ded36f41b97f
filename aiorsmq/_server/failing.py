"""Failing many calls: a few in each turn of the event loop, so that it does not stall."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Final

import anyio.lowlevel

from .home import Home

MAX_FAILED: Final = 1000
"""Calls that fail in one turn of the event loop. Each wakes a task."""


class Failing:
    """Fails calls in order: at once, or in a later turn of the event loop after MAX_FAILED."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._allowance = MAX_FAILED
        """How many may still fail in this turn."""
        self._pending: deque[tuple[asyncio.Future[Any], Exception]] = deque()

    def fail(self, future: asyncio.Future[Any], error: Exception) -> None:
        """Set the future's exception, unless its caller has stopped waiting by then."""
        if not self._allowance:
            self._pending.append((future, error))
        elif not future.done():
            if self._allowance == MAX_FAILED:
                self._home.loop().call_soon(self._begin_turn)
            self._allowance -= 1
            future.set_exception(error)

    def _begin_turn(self) -> None:
        self._allowance = MAX_FAILED
        while self._pending and self._allowance:
            self.fail(*self._pending.popleft())

    async def wait(self) -> None:
        """Wait until all have failed."""
        while self._pending:
            await anyio.lowlevel.checkpoint()
