"""What queues looked like in the last minutes, and how fast messages come and go."""

import math
from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple

from ..models import Snapshot

WINDOW: Final = 3.0
"""Seconds over which a rate is the average, if snapshots are closer together."""
CELL: Final = 5.0
"""Seconds of one bar of a sparkline."""
CELLS: Final = 60
"""How many bars are remembered."""
_BARS: Final = "▁▂▃▄▅▆▇█"


class Rates(NamedTuple):
    """Messages per second by the server's clock; None until there are two snapshots."""

    sent: float | None = None
    received: float | None = None


class History:
    """The last minutes of queues, by the server's clock. Knows only queues of the last `add`."""

    def __init__(self) -> None:
        self._queues: dict[str, _Past] = {}

    def add(self, queues: Sequence[Snapshot]) -> None:
        before = self._queues
        self._queues = {queue.name: before.get(queue.name) or _Past() for queue in queues}
        for queue in queues:
            self._queues[queue.name].add(queue)

    def rates(self, name: str) -> Rates:
        return self._queues[name].rates() if name in self._queues else Rates()

    def sparkline(self, name: str, width: int) -> str:
        """The visible messages of the last `width * CELL` seconds, newest at the end."""
        return sparkline(self._queues[name].depths(width)) if name in self._queues else ""


class _Past:
    def __init__(self) -> None:
        self._recent: deque[Snapshot] = deque()
        self._depths: deque[tuple[int, int]] = deque(maxlen=CELLS)
        """Per cell its number, counted from the epoch, and the most visible messages seen in it."""

    def add(self, queue: Snapshot) -> None:
        if self._recent and not _follows(queue, self._recent[-1]):
            self._recent.clear()  # created again, or the server's clock has been set back
        recent = self._recent
        recent.append(queue)
        while len(recent) > 2 and _seconds_between(recent[1], queue) >= WINDOW:
            recent.popleft()
        cell = math.floor(queue.server_time.timestamp() / CELL)
        depth = queue.visible
        while self._depths and self._depths[-1][0] >= cell:
            depth = max(depth, self._depths.pop()[1])
        self._depths.append((cell, depth))

    def rates(self) -> Rates:
        if len(self._recent) < 2:
            return Rates()
        first, last = self._recent[0], self._recent[-1]  # a pair
        elapsed = _seconds_between(first, last)
        return Rates(
            (last.totalsent - first.totalsent) / elapsed,
            (last.totalrecv - first.totalrecv) / elapsed,
        )

    def depths(self, width: int) -> list[int | None]:
        depths = dict(self._depths)
        newest = self._depths[-1][0]
        return [depths.get(cell) for cell in range(newest - width + 1, newest + 1)]


def _follows(queue: Snapshot, before: Snapshot) -> bool:
    return (
        _seconds_between(before, queue) > 0
        and queue.created == before.created
        and queue.totalsent >= before.totalsent
        and queue.totalrecv >= before.totalrecv
    )


def _seconds_between(first: Snapshot, last: Snapshot) -> float:
    return (last.server_time - first.server_time).total_seconds()


def sparkline(values: Sequence[float | None]) -> str:
    """A bar for each value, from 0 to the highest value, and a space where there is none."""
    highest = max((value for value in values if value is not None), default=0)
    return "".join(" " if value is None else _bar(value, highest) for value in values)


def _bar(value: float, highest: float) -> str:
    return _BARS[math.ceil(value / highest * (len(_BARS) - 1)) if highest > 0 else 0]
