"""Group commit: calls that come while a script call is in flight go out together as the next
one.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate, islice
from typing import Final, Generic, Protocol, TypeVar
from weakref import WeakMethod

from .tasks import NO_REPLY, NOT_SENT, SLACK, Tasks, call_if_alive, resolve

Item = TypeVar("Item")
Result = TypeVar("Result")
Answered = Callable[[Sequence[Result | Exception] | Exception], None]
_Waiting = tuple[Item, "asyncio.Future[Result]", int, float]
"""Its size in bytes, and when it was submitted, come last."""

# What one script call may hold, so that it occupies the server for less than about a millisecond.
MAX_ITEMS: Final = 64
MAX_BYTES: Final = 256 * 1024
# What it holds at least, if another is in flight, or if more could have gone with it.
MIN_ITEMS: Final = 8


class InFlight:
    """The script calls of one kind that are under way, and whether another may join them."""

    def __init__(self, is_busy: Callable[[], bool]) -> None:
        self._is_busy = is_busy
        self._calls = 0
        self._items = 0
        self.enough: float = 1
        """How many items must wait for another call to go out."""

    def next_call(self, waiting: int) -> int:
        """How many of the waiting items go out in the next script call; 0 if they are to gather.

        They gather while a call is in flight, until they are as many as it holds; two may be in
        flight, and more where many times as many wait: on a slow line the replies of two come too
        seldom.

        And if the server has nothing to do, not all go at once: it works on the first while the
        client packs the next, and the callers of the first go on while it works on the next. So
        client and server work at the same time.
        """
        if waiting < self.enough:
            return 0
        return min(
            waiting if self._is_busy() else max(-(-waiting // 2), MIN_ITEMS), waiting, MAX_ITEMS
        )

    def begin(self, items: int) -> None:
        self._count(1, items)

    def end(self, items: int) -> None:
        self._count(-1, -items)

    def _count(self, calls: int, items: int) -> None:
        self._calls += calls
        self._items += items
        if self._calls < 2:
            self.enough = max(MIN_ITEMS, self._items) if self._calls else 1
        else:
            self.enough = MAX_ITEMS << self._calls

    def __bool__(self) -> bool:
        return self._calls > 0


class Server(Protocol):
    """What a batch asks of the `Scripts` that run its calls."""

    def is_busy(self) -> bool: ...
    def concerns_all(self, error: Exception, /) -> bool: ...
    def deadline_of(self, asked: float, /) -> float: ...
    def late(self, reason: str, /) -> Exception: ...


class Batch(Generic[Item, Result]):
    """Gathers the calls of one kind for one queue.

    A call's time runs from `submit`: at its deadline it fails, whether it still waits to go out or
    for the reply.

    Args:
        commit: runs one script call for some items until a deadline, and answers with a result or
            an exception for each, in their order, or with one exception for all of them.
        server: `concerns_all` says whether an error is one that those who wait would meet as well.
    """

    def __init__(
        self,
        commit: "Callable[[Sequence[Item], Answered[Result], float], None]",
        tasks: Tasks,
        server: Server,
    ) -> None:
        self._commit = commit
        self._tasks = tasks
        self._server = server
        self._in_flight = InFlight(server.is_busy)
        self._waiting: deque[_Waiting[Item, Result]] = deque()
        self._bytes = 0
        """Of all that wait."""
        self._call_is_due = False
        self._calls: deque[tuple[float, Sequence[asyncio.Future[Result]]]] = deque()
        """Those under way, with the deadline of the first in each."""
        self._expiry: asyncio.TimerHandle | None = None

    def submit(self, item: Item, size: int = 0) -> "asyncio.Future[Result]":
        """Have the item, of so many bytes, committed; it will be, even if the future is
        cancelled.
        """
        loop = self._tasks.admit()
        future: asyncio.Future[Result] = asyncio.Future(loop=loop)
        self._waiting.append((item, future, size, loop.time()))
        self._bytes += size
        if not self._call_is_due:
            self._plan_call()
        return future

    def _plan_call(self) -> None:
        if len(self._waiting) >= self._in_flight.enough and not self._call_is_due:
            self._call_is_due = True
            self._tasks.soon(self._call)

    def _call(self) -> None:
        self._call_is_due = False
        number = self._that_fit(self._in_flight.next_call(len(self._waiting)))
        if not number:  # those for whom it was planned have met the end of the call before
            return
        if number == len(self._waiting):
            call, self._waiting = self._waiting, deque()
        else:
            call = [self._waiting.popleft() for _ in range(number)]
        items, futures, sizes, _ = zip(*call, strict=True)
        self._bytes -= sum(sizes)
        self._in_flight.begin(number)
        deadline = self._server.deadline_of(call[0][3])
        under_way = deadline, futures
        self._calls.append(under_way)
        if self._expiry is None:
            self._expire_at(deadline)
        try:
            self._commit(items, partial(self._answer, under_way), deadline)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the callers' to handle
            self._answer(under_way, error)
        self._plan_call()

    def _that_fit(self, items: int) -> int:
        """How many of so many waiting items fit into one script call: one at least, if there is
        one.
        """
        if self._bytes <= MAX_BYTES or not items:
            return items
        sizes = accumulate(size for _, _, size, _ in islice(self._waiting, items))
        return max(1, sum(size <= MAX_BYTES for size in sizes))

    def _answer(
        self,
        under_way: "tuple[float, Sequence[asyncio.Future[Result]]]",
        outcome: Sequence[Result | Exception] | Exception,
    ) -> None:
        _, futures = under_way
        if not isinstance(outcome, Exception) and len(outcome) != len(futures):
            raise ValueError("not a result for each")
        self._calls.remove(under_way)
        self._in_flight.end(len(futures))
        if isinstance(outcome, Exception):
            if self._server.concerns_all(outcome):
                futures = [*futures, *(future for _, future, _, _ in self._waiting)]
                self._waiting.clear()
                self._bytes = 0
            outcome = [outcome] * len(futures)
        for future, result in zip(futures, outcome, strict=True):
            if isinstance(result, Exception):
                resolve(future, result)
            elif not future.done():  # not by way of `resolve`: it is asked for each message
                future.set_result(result)
        self._plan_call()

    def _expire_at(self, deadline: float) -> None:
        """The timer does not keep the batch: it may be dropped with its queue's last handle."""
        loop = self._tasks.loop()
        self._expiry = loop.call_at(deadline + SLACK, call_if_alive, WeakMethod(self._expire))

    def _expire(self) -> None:
        """Fail the calls whose time is up, and look again when that of the next is."""
        now = self._tasks.loop().time() - SLACK
        while self._waiting and self._server.deadline_of(self._waiting[0][3]) <= now:
            _, future, size, _ = self._waiting.popleft()
            self._bytes -= size
            resolve(future, self._server.late(NOT_SENT))
        for deadline, futures in self._calls:
            if deadline <= now:
                for future in futures:
                    resolve(future, self._server.late(NO_REPLY))
        left = [deadline for deadline, _ in self._calls if deadline > now]
        left += [self._server.deadline_of(self._waiting[0][3])] if self._waiting else []
        self._expiry = None
        if left:
            self._expire_at(min(left))
