"""Long calls that are made step by step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from ..errors import ClientClosed
from ..runs import Run
from ._twin import Twin


def _ignore() -> None: ...


def iterate(twin: Twin[Any], run: Run, before_each: Callable[[], None] = _ignore) -> Iterator[int]:
    """What a run yields. `before_each` is called before each step, in this thread."""

    async def step(_: object) -> int | None:
        return await anext(run, None)

    try:
        while True:
            before_each()
            number = twin.run(step)
            if number is None:
                return
            yield number
    finally:
        with suppress(ClientClosed):
            twin.run(lambda _: run.aclose())
