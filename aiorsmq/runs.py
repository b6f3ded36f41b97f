"""Long calls that tell their progress."""

from __future__ import annotations

import warnings
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import aclosing
from typing import Any, Final, Literal


class Run:
    """A long call that is made in steps: it does nothing until it is awaited or iterated over.

    `await` returns a number, and `async for` yields one after each step, at least once. It runs
    once; RuntimeError is raised if it is used again, and a RuntimeWarning is given if it is never
    used.

    Each step is atomic. If the run is cancelled, or the loop is left, the step that was sent may
    still be carried out, and what was done stays done.
    """

    _verb = ""
    """The method that returns it."""

    def __init__(self, steps: AsyncGenerator[int, None]) -> None:
        self._steps = steps
        self._state: Literal["new", "awaited", "iterated", "over"] = "new"

    def __await__(self) -> Generator[Any, Any, int]:
        if self._state != "new":
            raise self._used_before()
        self._state = "awaited"
        return self._run().__await__()

    async def _run(self) -> int:
        last = 0
        async with aclosing(self._steps):
            async for number in self._steps:
                last = number
        return last

    def __aiter__(self) -> Run:
        if self._state not in ("new", "iterated"):
            raise self._used_before()
        return self

    async def __anext__(self) -> int:
        if self._state == "awaited":
            raise self._used_before()
        if self._state == "new":
            self._state = "iterated"
        try:
            return await anext(self._steps)
        except BaseException:
            self._state = "over"
            raise

    async def aclose(self) -> None:
        """End the run. What was done stays done."""
        self._state = "over"
        await self._steps.aclose()

    def __del__(self) -> None:
        if self._state == "new":
            text = f"{self._verb}(...) was never awaited or iterated"
            warnings.warn(text, RuntimeWarning, source=self, stacklevel=2)

    def _used_before(self) -> RuntimeError:
        verb = self._verb
        return RuntimeError(f"this {verb} was awaited or iterated before: call {verb}(...) again")


class Redrive(Run):
    """One run of `Queue.redrive`. It moves nothing until it is awaited or iterated over.

    `await` returns the number of messages moved. `async for` yields the number moved so far: at
    least once, and after each step of up to 64. A Redrive runs once; RuntimeError is raised if it
    is used again, and a RuntimeWarning is given if it is never used.

    Each step is atomic. If the run is cancelled, or the loop is left, the step that was sent may
    still be carried out. What was moved stays moved, and another run moves the rest. An await that
    is cancelled or raises does not tell how many were moved.
    """

    _verb = "redrive"


class Import(Run):
    """One run of `Queue.import_lines`. It stores nothing until it is awaited or iterated over.

    `await` returns the number of messages stored. `async for` yields the number of lines that are
    done, counted from the first one: at least once, and after each step of up to LINES_PER_STEP
    lines. Another run goes on there with `skip=` that number. An Import runs once; RuntimeError is
    raised if it is used again, and a RuntimeWarning is given if it is never used.

    Each step is atomic. If the run is cancelled, or the loop is left, the step that was sent may
    still be carried out. What was stored stays. An await that is cancelled or raises does not tell
    how many were stored; `stored` does.
    """

    LINES_PER_STEP: Final = 100

    _verb = "import_lines"

    def __init__(self, steps: AsyncGenerator[int, None], count: Callable[[], int]) -> None:
        super().__init__(steps)
        self._count = count

    @property
    def stored(self) -> int:
        """How many messages have been stored so far.

        Messages that a lost reply would have told of are not counted with `keep_ids`.
        """
        return self._count()

    async def _run(self) -> int:
        await super()._run()
        return self.stored
