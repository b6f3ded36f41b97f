"""Group commit: calls that come while a script call is in flight go out together as the next one."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, Generic, TypeVar

from ._tasks import Tasks, resolve

Item = TypeVar("Item")
Result = TypeVar("Result")
Answered = Callable[[Sequence[Result | Exception] | Exception], None]

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

    def next_call(self, waiting: int) -> int:
        """How many of the waiting items go out in the next script call; 0 if they are to gather.

        They gather while a call is in flight, until they are as many as it holds; two may be in flight. And if the
        server has nothing to do, not all go at once: it works on the first while the client packs the next, and the
        callers of the first go on while it works on the next. So client and server work at the same time.
        """
        if self._calls and (self._calls == 2 or waiting < max(MIN_ITEMS, self._items)):
            return 0
        return min(waiting if self._is_busy() else max(-(-waiting // 2), MIN_ITEMS), waiting, MAX_ITEMS)

    def begin(self, items: int) -> None:
        self._calls += 1
        self._items += items

    def end(self, items: int) -> None:
        self._calls -= 1
        self._items -= items

    def __bool__(self) -> bool:
        return self._calls > 0


class Batch(Generic[Item, Result]):
    """Gathers the calls of one kind for one queue.

    Args:
        commit: runs one script call for some items, and answers with a result or an exception for each, in their order,
            or with one exception for all of them.
        size: an item's length in bytes.
    """

    def __init__(
        self,
        commit: "Callable[[list[Item], Answered[Result]], None]",
        tasks: Tasks,
        is_busy: Callable[[], bool],
        size: Callable[[Item], int] = lambda _: 0,
    ) -> None:
        self._commit = commit
        self._tasks = tasks
        self._in_flight = InFlight(is_busy)
        self._size = size
        self._waiting: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._call_is_due = False

    def submit(self, item: Item) -> "asyncio.Future[Result]":
        """Have the item committed; it will be, even if the future is cancelled."""
        future: asyncio.Future[Result] = self._tasks.admit().create_future()
        self._waiting.append((item, future))
        self._plan_call()
        return future

    def _plan_call(self) -> None:
        if not self._call_is_due and self._in_flight.next_call(len(self._waiting)):
            self._call_is_due = True
            self._tasks.soon(self._call)

    def _call(self) -> None:
        self._call_is_due = False
        call: list[tuple[Item, asyncio.Future[Result]]] = []
        room = MAX_BYTES
        for _ in range(self._in_flight.next_call(len(self._waiting))):
            room -= self._size(self._waiting[0][0])
            if room < 0 and call:
                break
            call.append(self._waiting.popleft())
        self._in_flight.begin(len(call))
        try:
            self._commit([item for item, _ in call], partial(self._answer, call))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the callers' to handle
            self._answer(call, error)
        self._plan_call()

    def _answer(
        self, call: list[tuple[Item, "asyncio.Future[Result]"]], outcome: Sequence[Result | Exception] | Exception
    ) -> None:
        self._in_flight.end(len(call))
        results = [outcome] * len(call) if isinstance(outcome, Exception) else outcome
        for (_, future), result in zip(call, results, strict=True):
            resolve(future, result)
        self._plan_call()
