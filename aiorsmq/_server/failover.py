"""Which server is the primary, as far as the sentinels have told. No I/O."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Final, NamedTuple

import anyio
from redis.exceptions import ConnectionError

from .home import Home

HOLD: Final = 5.0
"""Seconds for which calls wait for a failover that is taking the old primary's place."""

Address = tuple[str, int]


class View(NamedTuple):
    """What one sentinel says."""

    epoch: int
    """Grows with each failover: of two sentinels, the one with the higher epoch is right."""
    address: Address
    is_replacing: bool
    """Whether a failover is between making a replica the primary, and the news of that."""


# A failover as clients see it, and what `Primary` does:
#
# - A replica is about to be made the primary: `hold`. What the old primary accepts from here on is
#   lost, though it goes on accepting for ten seconds more. `settled` makes new connections wait.
# - The sentinel in charge, then the others, name the new primary: `learn` ends the hold.
# - Or the failover is given up: `release`. Or nothing is heard: the hold ends by itself.


class Primary:
    """The address of the primary.

    Args:
        sentinels: how many there are.
        on_moved: called when connections to the address known so far are to be given up.
    """

    def __init__(self, home: Home, sentinels: int, on_moved: Callable[[], None]) -> None:
        self._home = home
        self._sentinels = sentinels
        self._on_moved = on_moved
        self._epoch = -1
        """The one that is believed."""
        self.address: Address | None = None
        """None before the first view."""
        self._views: dict[str, View] = {}
        self._free = asyncio.Event()
        self._free.set()
        self._held_at = -math.inf
        self._openings: set[anyio.CancelScope] = set()

    def require_address(self) -> Address:
        """The address. Raises ConnectionError before the first view."""
        if self.address is None:
            raise ConnectionError("no sentinel has named a primary yet")
        return self.address

    def learn(self, sentinel: str, view: View) -> None:
        """A sentinel's view, in place of its former one."""
        former = self._views.get(sentinel)
        self._views[sentinel] = view
        self._look()
        if view.is_replacing:
            # Not again for the same failover: it may last longer than calls can wait.
            if self._home.loop().time() > self._held_at + 6 * HOLD:
                self.hold()
        elif former is not None and former.is_replacing:
            self.release()

    def forget(self, sentinel: str) -> None:
        """A sentinel that cannot be asked has no say: its view may be of another time."""
        if self._views.pop(sentinel, None) is not None:
            self._look()

    def _look(self) -> None:
        """Believe the highest epoch; of several with that, the most.

        One that is lower than before is believed only if most sentinels can be asked: those that
        are set up again begin with 0. A few may know an old primary that hung along with them.
        """
        if not self._views:
            return
        epoch = max(view.epoch for view in self._views.values())
        if epoch < self._epoch and 2 * len(self._views) <= self._sentinels:
            return
        self._epoch = epoch
        named = Counter(view.address for view in self._views.values() if view.epoch == epoch)
        favourites = [address for address in named if named[address] == max(named.values())]
        if self.address in favourites:
            return
        before = self.address
        self.address = favourites[0]
        if before is not None:
            self._leave()
        self.release()

    def hold(self) -> None:
        """Have everybody leave the primary, and nobody connect to it."""
        self._held_at = self._home.loop().time()
        self._free.clear()
        self._leave()

    def release(self) -> None:
        self._free.set()

    def _leave(self) -> None:
        for opening in self._openings:
            opening.cancel()
        self._on_moved()

    def is_held(self) -> bool:
        """Whether a failover is under way, as far as is known, and has not been for too long."""
        return not self._free.is_set() and self._home.loop().time() < self._held_at + HOLD

    async def settled(self) -> None:
        """Wait for as long as `is_held`."""
        if self.is_held():
            with anyio.move_on_after(self._held_at + HOLD - self._home.loop().time()):
                await self._free.wait()

    @contextmanager
    def opening(self) -> Generator[anyio.CancelScope]:
        """A block that opens a connection to the address: cancelled when that changes. It may
        have ended by then, so look at `cancel_called`."""
        with anyio.CancelScope() as scope:
            self._openings.add(scope)
            try:
                yield scope
            finally:
                self._openings.discard(scope)
