"""Dead letters on their way back."""

import warnings
from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing
from typing import Any, Literal


class Redrive:
    """One run of `Queue.redrive`. It moves nothing until it is awaited or iterated over.

    `await` returns the number of messages moved. `async for` yields the number moved so far: at
    least once, and after each step of up to 64. A Redrive runs once; RuntimeError is raised if it
    is used again, and a RuntimeWarning is given if it is never used.

    Each step is atomic. If the run is cancelled, or the loop is left, the step that was sent may
    still be carried out. What was moved stays moved, and another run moves the rest. An await that
    is cancelled or raises does not tell how many were moved.
    """

    def __init__(self, steps: AsyncGenerator[int, None]) -> None:
        self._steps = steps
        self._state: Literal["new", "awaited", "iterated", "over"] = "new"

    def __await__(self) -> Generator[Any, Any, int]:
        if self._state != "new":
            raise _used_before()
        self._state = "awaited"
        return self._run().__await__()

    async def _run(self) -> int:
        total = 0
        async with aclosing(self._steps):
            async for moved in self._steps:
                total = moved
        return total

    def __aiter__(self) -> "Redrive":
        if self._state not in ("new", "iterated"):
            raise _used_before()
        return self

    async def __anext__(self) -> int:
        if self._state == "awaited":
            raise _used_before()
        if self._state == "new":
            self._state = "iterated"
        try:
            return await anext(self._steps)
        except BaseException:
            self._state = "over"
            raise

    async def aclose(self) -> None:
        """End the run. What was moved stays moved."""
        self._state = "over"
        await self._steps.aclose()

    def __del__(self) -> None:
        if self._state == "new":
            text = "redrive(...) was never awaited or iterated"
            warnings.warn(text, RuntimeWarning, source=self, stacklevel=2)


def _used_before() -> RuntimeError:
    return RuntimeError("this redrive was awaited or iterated before: call redrive(...) again")
