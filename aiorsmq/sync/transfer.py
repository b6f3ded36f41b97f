"""A queue's messages on their way into a file, and out of one; see `aiorsmq.transfer`."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import suppress
from itertools import islice
from typing import Any, Generic, TypeVar, cast

from .. import queue as queues
from ..errors import ClientClosed
from ..models import Place
from ..runs import Import
from ._steps import iterate
from ._twin import Twin

T = TypeVar("T")

_LINES = 100
"""How many lines of an export come with one call."""


class QueueTransfer(Generic[T]):
    """The part of `Queue` that exports and imports."""

    _twin: Twin[queues.Queue[T]]

    def export(self, *, after: Place | None = None) -> Iterator[bytes]:
        r"""The messages of the queue as JSON lines, each with its `\n`, hidden ones included; for
        `for`."""
        model = self._twin.model
        model.export(after=after)  # checks it
        return self._export(after)

    def _export(self, after: Place | None) -> Iterator[bytes]:
        async def begin(queue: queues.Queue[T]) -> AsyncGenerator[bytes, None]:
            return cast("AsyncGenerator[bytes, None]", queue.export(after=after))

        lines = self._twin.run(begin)

        async def read(_: object) -> list[bytes]:
            page: list[bytes] = []
            async for line in lines:
                page.append(line)
                if len(page) == _LINES:
                    break
            return page

        try:
            while page := self._twin.run(read):
                yield from page
        finally:
            with suppress(ClientClosed):
                self._twin.run(lambda _: lines.aclose())

    def import_lines(
        self,
        lines: Iterable[bytes | str],
        *,
        keep_ids: bool = False,
        keep_times: bool = False,
        skip: int = 0,
    ) -> int:
        """Store the messages of an export; return their number.

        See `aiorsmq.Queue.import_lines`. `lines` may be lazy: it is iterated in this thread.
        """
        run, feed = self._begin(lines, keep_ids=keep_ids, keep_times=keep_times, skip=skip)
        for _ in iterate(self._twin, run, feed.fill):
            pass
        return run.stored

    def import_steps(
        self,
        lines: Iterable[bytes | str],
        *,
        keep_ids: bool = False,
        keep_times: bool = False,
        skip: int = 0,
    ) -> Iterator[int]:
        """`import_lines` that tells its progress: stores a step of up to 100 lines for each step of
        the iteration, and yields the number of lines that are done."""
        run, feed = self._begin(lines, keep_ids=keep_ids, keep_times=keep_times, skip=skip)
        return iterate(self._twin, run, feed.fill)

    def _begin(self, lines: Any, **options: Any) -> tuple[Import, _Feed]:
        is_iterable = isinstance(lines, Iterable) and not isinstance(lines, str | bytes)
        feed = _Feed(cast("Iterable[bytes | str]", lines) if is_iterable else ())
        source = cast("Any", feed if is_iterable else lines)  # which is refused

        async def begin(queue: queues.Queue[T]) -> Import:
            return queue.import_lines(source, **options)

        return self._twin.run(begin), feed


class _Feed:
    """Lines that are read in the thread of the caller, before each step that takes them."""

    def __init__(self, lines: Iterable[bytes | str]) -> None:
        self._lines = iter(lines)
        self._ready: deque[bytes | str] = deque()

    def fill(self) -> None:
        self._ready += islice(self._lines, Import.LINES_PER_STEP - len(self._ready))

    def __aiter__(self) -> _Feed:
        return self

    async def __anext__(self) -> bytes | str:
        if not self._ready:
            raise StopAsyncIteration
        return self._ready.popleft()
