"""Group commit: items submitted while a script call is in flight go out together in the next."""

from __future__ import annotations

import asyncio
import math
import sys
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate, islice
from typing import Any, Final, Generic, NamedTuple, TypeVar

from ..models import MaxWaiting
from .deadlines import NO_REPLY, NOT_SENT, DeadlineTimer
from .failing import MAX_FAILED
from .futures import resolve
from .node import Node

Item = TypeVar("Item")
Result = TypeVar("Result")
OnResults = Callable[[Sequence[Result | Exception] | Exception], None]
"""Gets a result or an exception for each item, in their order, or one exception for all."""
_Waiting = tuple[Item, "asyncio.Future[Result]", int, float]
"""An item, its future, its size in bytes, and when it was submitted."""

NO_LIMIT: Final = MaxWaiting(sys.maxsize, sys.maxsize)

# Bounds of one script call, so that it occupies the server for less than about a millisecond.
MAX_ITEMS: Final = 64
MAX_BYTES: Final = 256 * 1024
# The fewest items of a call that goes out while another is in flight, or ahead of more items.
MIN_ITEMS: Final = 8
# The fewest in the line of a full batch that are looked through for callers who have left.
MIN_SWEPT: Final = 1000


class InFlight:
    """The script calls of one kind that are in flight, and whether another may join them.

    With no call in flight, one waiting item is enough for a call. With one in flight, the next call
    needs the same number of items. With two, it needs many times MAX_ITEMS: more than two calls are
    only worth it on a slow line.
    """

    def __init__(self) -> None:
        self.calls: int = 0
        self.threshold: float = 1
        """How many items must be waiting for another call to go out."""
        self._items = 0

    def next_call(self, waiting: int, is_busy: bool) -> int:
        """How many of the waiting items go out in the next script call; 0 if they must gather.

        An idle server gets only a half at first: it works on these while the client packs the
        rest, and their callers go on while it works on the rest.
        """
        if waiting < self.threshold:
            return 0
        share = waiting if is_busy else max(-(-waiting // 2), MIN_ITEMS)
        return min(share, waiting, MAX_ITEMS)

    def begin(self, items: int) -> None:
        self._count(1, items)

    def end(self, items: int) -> None:
        self._count(-1, -items)

    def _count(self, calls: int, items: int) -> None:
        self.calls += calls
        self._items += items
        if self.calls == 0:
            self.threshold = 1
        elif self.calls == 1:
            self.threshold = max(MIN_ITEMS, self._items)
        else:
            self.threshold = MAX_ITEMS << self.calls


class Gathering(InFlight):
    """Of calls that take long, but no longer if several go out together.

    All that wait go out, in several calls if they must; the next gather until these are done.
    """

    def __init__(self) -> None:
        super().__init__()
        self._waiting = 0

    def next_call(self, waiting: int, is_busy: bool) -> int:
        del is_busy
        self._waiting = waiting
        return min(waiting, MAX_ITEMS) if waiting >= self.threshold else 0

    def begin(self, items: int) -> None:
        self.calls += 1
        self.threshold = 1 if items < self._waiting else math.inf

    def end(self, items: int) -> None:
        del items
        self.calls -= 1
        if not self.calls:
            self.threshold = 1


class _Sent(Generic[Result]):
    """A script call in flight."""

    def __init__(self, futures: Sequence[asyncio.Future[Result]], deadline: float) -> None:
        self.futures = futures
        self.deadline = deadline
        self.is_late = False
        """Whether its callers were told that it missed its deadline."""


class Bulk(NamedTuple):
    """Many messages with a script call of their own, which take up room until it has ended.

    Args:
        begin: makes the script call, when it is their turn.
    """

    begin: Callable[[], None]
    future: asyncio.Future[Any]
    number: int
    size: int


class Batch(Generic[Item, Result]):
    """Gathers the calls of one kind for one queue.

    A call's time runs from `submit`: it fails at its deadline, whether it still waits to go out or
    for the reply.

    When it is full, further items wait their turn, in line; cancelling their futures withdraws
    them. As long as there is a line, it is full.

    Args:
        commit: runs one script call for some items until a deadline.
        in_flight: counts them.
        limits: how much may wait before it is full.
    """

    def __init__(
        self,
        commit: Callable[[Sequence[Item], OnResults[Result], float], None],
        node: Node,
        in_flight: InFlight | None = None,
        limits: MaxWaiting = NO_LIMIT,
    ) -> None:
        self._commit = commit
        self._node = node
        self._home = node.home
        self._failing = node.failing
        self._in_flight = in_flight or InFlight()
        self._waiting: deque[_Waiting[Item, Result]] = deque()
        self._bytes = 0
        """The size of all waiting items."""
        self._max_items = limits.messages
        self._max_bytes = limits.bytes
        """Both without what bulks take up that have begun."""
        self._line: deque[_Waiting[Item | Bulk, Any]] = deque()
        self._sweep_at = MIN_SWEPT
        """The length of the line at which to look for callers who have left."""
        self._call_is_planned = False
        self._sent: deque[_Sent[Result]] = deque()
        self._timer = DeadlineTimer(node.home, self._expire)

    def submit(self, item: Item, size: int = 0) -> asyncio.Future[Result]:
        """Queue an item of `size` bytes for the next call. Cancelling the future does not withdraw
        it, unless it still waits its turn."""
        loop = self._home.admit()
        future: asyncio.Future[Result] = asyncio.Future(loop=loop)
        if len(self._waiting) >= self._max_items or self._bytes >= self._max_bytes:
            self._join_line((item, future, size, loop.time()))
            return future
        self._waiting.append((item, future, size, loop.time()))
        self._bytes += size
        if not self._call_is_planned:
            self._plan_call()
        return future

    def submit_bulk(self, bulk: Bulk) -> None:
        """Begin it now, or when it is its turn. `end_bulk` must follow its end."""
        if self._is_full():
            self._join_line((bulk, bulk.future, bulk.size, self._home.loop().time()))
        else:
            self._begin_bulk(bulk)

    def _begin_bulk(self, bulk: Bulk) -> None:
        self._max_items -= bulk.number
        self._max_bytes -= bulk.size
        try:
            bulk.begin()
        except Exception as error:  # noqa: BLE001 - its caller handles it
            resolve(bulk.future, error)
            self.end_bulk(bulk.number, bulk.size, None)

    def end_bulk(self, number: int, size: int, error: Exception | None) -> None:
        """Make room again; those who wait would meet the same error if it concerns all."""
        self._max_items += number
        self._max_bytes += size
        if error is not None and self._node.concerns_all(error):
            self._fail_waiting(error)
        self._admit()

    def _is_full(self) -> bool:
        return len(self._waiting) >= self._max_items or self._bytes >= self._max_bytes

    def _join_line(self, waiting: _Waiting[Item | Bulk, Any]) -> None:
        if len(self._line) >= self._sweep_at:
            self._line = deque(entry for entry in self._line if not entry[1].done())
            self._sweep_at = max(2 * len(self._line), MIN_SWEPT)
        self._line.append(waiting)
        if not self._timer.is_armed:
            self._timer.arm(self._node.deadline_of(waiting[3]))

    def _admit(self) -> None:
        """Let in those whose turn it is. Who has left by now is not sent, nor who is too late."""
        now = self._home.loop().time() if self._line else 0.0
        while self._line and not self._is_full():
            item, future, size, time = self._line[0]
            if not future.done() and self._node.deadline_of(time) <= now:
                break  # `_expire` fails it, after those that were submitted before
            self._line.popleft()
            if future.done():
                continue
            if isinstance(item, Bulk):
                self._begin_bulk(item)
            else:
                self._waiting.append((item, future, size, time))
                self._bytes += size
        self._plan_call()

    def _plan_call(self) -> None:
        if len(self._waiting) >= self._in_flight.threshold and not self._call_is_planned:
            self._call_is_planned = True
            self._node.turn.add(self._call)

    def _call(self, is_crowded: bool) -> None:
        self._call_is_planned = False
        is_busy = is_crowded or self._node.is_busy()
        number = self._fitting(self._in_flight.next_call(len(self._waiting), is_busy))
        if not number:  # its items failed with an earlier call
            return
        items, futures, sizes, times = zip(*self._leave(number), strict=True)
        self._bytes -= sum(sizes)
        self._in_flight.begin(number)
        sent = _Sent(futures, self._node.deadline_of(times[0]))
        self._sent.append(sent)
        if not self._timer.is_armed:
            self._timer.arm(sent.deadline)
        try:
            self._commit(items, partial(self._resolve, sent), sent.deadline)
        except Exception as error:  # noqa: BLE001 - the callers handle it
            self._resolve(sent, error)
        if self._line:
            self._admit()
        else:
            self._plan_call()

    def _leave(self, number: int) -> Sequence[_Waiting[Item, Result]]:
        """The first items, taken off the waiting ones."""
        if number == len(self._waiting):
            waiting = self._waiting
            self._waiting = deque()
            return waiting
        return [self._waiting.popleft() for _ in range(number)]

    def _fitting(self, number: int) -> int:
        """How many of the first `number` items fit into one script call: at least one."""
        if self._bytes <= MAX_BYTES or not number:
            return number
        sizes = accumulate(size for _, _, size, _ in islice(self._waiting, number))
        return max(1, sum(size <= MAX_BYTES for size in sizes))

    def _resolve(
        self, sent: _Sent[Result], outcome: Sequence[Result | Exception] | Exception
    ) -> None:
        futures = sent.futures
        if not isinstance(outcome, Exception) and len(outcome) != len(futures):
            raise ValueError("not one result for each item")
        self._sent.remove(sent)
        self._in_flight.end(len(futures))
        if isinstance(outcome, Exception):
            for future in futures:
                self._failing.fail(future, outcome)
            if self._node.concerns_all(outcome):
                self._fail_waiting(outcome)
        else:
            for future, result in zip(futures, outcome, strict=True):
                if isinstance(result, Exception):
                    resolve(future, result)
                elif not future.done():  # hot path: spares each message a call of `resolve`
                    future.set_result(result)
        self._plan_call()

    def _fail_waiting(self, error: Exception) -> None:
        """Fail all that have not been sent."""
        for waiting in (self._waiting, self._line):
            for _, future, _, _ in waiting:
                self._failing.fail(future, error)
            waiting.clear()
        self._bytes = 0

    def _expire(self, now: float) -> float:
        """Fail the calls whose deadline has passed; return the next deadline."""
        node = self._node
        for sent in self._sent:
            if sent.deadline <= now and not sent.is_late:
                sent.is_late = True
                for future in sent.futures:
                    self._failing.fail(future, node.late(NO_REPLY))
        overdue = MAX_FAILED  # the rest in the next turn
        while self._waiting and overdue and node.deadline_of(self._waiting[0][3]) <= now:
            _, future, size, _ = self._waiting.popleft()
            self._bytes -= size
            self._failing.fail(future, node.late(NOT_SENT))
            overdue -= 1
        while self._line and overdue and node.deadline_of(self._line[0][3]) <= now:
            self._failing.fail(self._line.popleft()[1], node.late(NOT_SENT))
            overdue -= 1
        if overdue:
            self._admit()
        deadlines = [sent.deadline for sent in self._sent if not sent.is_late]
        heads = [waiting[0] for waiting in (self._waiting, self._line) if waiting]
        deadlines += [node.deadline_of(submitted_at) for _, _, _, submitted_at in heads]
        return min(deadlines, default=math.inf)
