"""Group commit: items submitted while a script call is in flight go out together in the next."""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate, islice
from typing import Final, Generic, TypeVar

from .deadlines import NO_REPLY, NOT_SENT, DeadlineTimer
from .futures import resolve
from .node import Node

Item = TypeVar("Item")
Result = TypeVar("Result")
OnResults = Callable[[Sequence[Result | Exception] | Exception], None]
"""Gets a result or an exception for each item, in their order, or one exception for all."""
_Waiting = tuple[Item, "asyncio.Future[Result]", int, float]
"""An item, its future, its size in bytes, and when it was submitted."""

# Bounds of one script call, so that it occupies the server for less than about a millisecond.
MAX_ITEMS: Final = 64
MAX_BYTES: Final = 256 * 1024
# The fewest items of a call that goes out while another is in flight, or ahead of more items.
MIN_ITEMS: Final = 8


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

    def next_call(self, waiting: int, is_busy: bool) -> int:
        del is_busy
        return min(waiting, MAX_ITEMS) if waiting >= self.threshold else 0

    def begin(self, items: int) -> None:
        self.calls += 1
        self.threshold = 1 if items == MAX_ITEMS else math.inf

    def end(self, items: int) -> None:
        del items
        self.calls -= 1
        if not self.calls:
            self.threshold = 1


class _Sent(Generic[Result]):
    """A script call in flight."""

    def __init__(self, futures: "Sequence[asyncio.Future[Result]]", deadline: float) -> None:
        self.futures = futures
        self.deadline = deadline


class Batch(Generic[Item, Result]):
    """Gathers the calls of one kind for one queue.

    A call's time runs from `submit`: it fails at its deadline, whether it still waits to go out or
    for the reply.

    Args:
        commit: runs one script call for some items until a deadline.
        in_flight: counts them.
    """

    def __init__(
        self,
        commit: "Callable[[Sequence[Item], OnResults[Result], float], None]",
        node: Node,
        in_flight: InFlight | None = None,
    ) -> None:
        self._commit = commit
        self._node = node
        self._home = node.home
        self._in_flight = in_flight or InFlight()
        self._waiting: deque[_Waiting[Item, Result]] = deque()
        self._bytes = 0
        """The size of all waiting items."""
        self._call_is_planned = False
        self._sent: deque[_Sent[Result]] = deque()
        self._timer = DeadlineTimer(node.home, self._expire)

    def submit(self, item: Item, size: int = 0) -> "asyncio.Future[Result]":
        """Queue an item of `size` bytes for the next call; cancelling the future does not withdraw
        it."""
        loop = self._home.admit()
        future: asyncio.Future[Result] = asyncio.Future(loop=loop)
        self._waiting.append((item, future, size, loop.time()))
        self._bytes += size
        if not self._call_is_planned:
            self._plan_call()
        return future

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
        self._plan_call()

    def _leave(self, number: int) -> "Sequence[_Waiting[Item, Result]]":
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
            if self._node.concerns_all(outcome):
                futures = [*futures, *(future for _, future, _, _ in self._waiting)]
                self._waiting.clear()
                self._bytes = 0
            outcome = [outcome] * len(futures)
        for future, result in zip(futures, outcome, strict=True):
            if isinstance(result, Exception):
                resolve(future, result)
            elif not future.done():  # hot path: spares each message a call of `resolve`
                future.set_result(result)
        self._plan_call()

    def _expire(self, now: float) -> float:
        """Fail the calls whose deadline has passed; return the next deadline."""
        deadline_of = self._node.deadline_of
        while self._waiting and deadline_of(self._waiting[0][3]) <= now:
            _, future, size, _ = self._waiting.popleft()
            self._bytes -= size
            resolve(future, self._node.late(NOT_SENT))
        for sent in self._sent:
            if sent.deadline <= now:
                for future in sent.futures:
                    resolve(future, self._node.late(NO_REPLY))
        deadlines = [sent.deadline for sent in self._sent if sent.deadline > now]
        if self._waiting:
            deadlines.append(deadline_of(self._waiting[0][3]))
        return min(deadlines, default=math.inf)
