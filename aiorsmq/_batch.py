"""Group commit: calls that come while a script call is in flight go out together as the next one."""

import asyncio
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
# What it holds at least if a turn of work is cut though one call could hold it all.
MIN_ITEMS: Final = 16


def items_per_call(count: int, busy: bool) -> int:
    """Into how large calls to cut a turn of work.

    If the server has nothing to do, into several: it works on the first while the client packs the next, and the
    callers of the first go on while it works on the others. That is up to twice as fast.
    """
    return MAX_ITEMS if busy else min(max(-(-count // 4), MIN_ITEMS), MAX_ITEMS)


class Batch(Generic[Item, Result]):
    """Gathers the calls of one kind for one queue.

    Args:
        commit: runs one script call for some items, and answers with a result or an exception for each, in their order,
            or with one exception for all of them.
        size: an item's length in bytes, if that matters.
    """

    def __init__(
        self,
        commit: "Callable[[list[Item], Answered[Result]], None]",
        tasks: Tasks,
        is_busy: Callable[[], bool],
        size: Callable[[Item], int] | None = None,
    ) -> None:
        self._commit = commit
        self._tasks = tasks
        self._is_busy = is_busy
        self._size = size
        self._waiting: list[tuple[Item, asyncio.Future[Result]]] = []
        self._in_flight = 0
        self._turn_is_due = False

    def submit(self, item: Item) -> "asyncio.Future[Result]":
        """Have the item committed; it will be, even if the future is cancelled."""
        future: asyncio.Future[Result] = self._tasks.new_future()
        self._waiting.append((item, future))
        self._plan_turn()
        return future

    def _plan_turn(self) -> None:
        if self._waiting and not self._in_flight and not self._turn_is_due:
            self._turn_is_due = True
            self._tasks.soon(self._take_turn)

    def _take_turn(self) -> None:
        self._turn_is_due = False
        turn, self._waiting = self._waiting, []
        calls = self._cut(turn)
        self._in_flight = len(calls)
        for call in calls:
            try:
                self._commit([item for item, _ in call], partial(self._answer, call))
            except Exception as error:  # noqa: BLE001 - whatever it is, it is the callers' to handle
                self._answer(call, error)

    def _cut(
        self, turn: list[tuple[Item, "asyncio.Future[Result]"]]
    ) -> list[list[tuple[Item, "asyncio.Future[Result]"]]]:
        most = items_per_call(len(turn), self._is_busy())
        if self._size is None:
            return [turn[first : first + most] for first in range(0, len(turn), most)]
        calls: list[list[tuple[Item, asyncio.Future[Result]]]] = []
        room = 0
        for entry in turn:
            size = self._size(entry[0])
            if not calls or len(calls[-1]) == most or size > room:
                calls.append([])
                room = MAX_BYTES
            calls[-1].append(entry)
            room -= size
        return calls

    def _answer(
        self, call: list[tuple[Item, "asyncio.Future[Result]"]], outcome: Sequence[Result | Exception] | Exception
    ) -> None:
        self._in_flight -= 1
        results = [outcome] * len(call) if isinstance(outcome, Exception) else outcome
        for (_, future), result in zip(call, results, strict=True):
            resolve(future, result)
        self._plan_turn()
