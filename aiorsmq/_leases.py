"""The leases of what a worker has in hand: renewed all together, given up one by one."""

import asyncio
import logging
from asyncio import Future
from collections.abc import Awaitable, Callable
from typing import Final

from redis.exceptions import RedisError

from ._commands.settle import Settler
from ._scripts import Scripts, backoff
from .errors import QueueDoesNotExist
from .models import Record

TICK: Final = 1.0
"""Seconds between two looks at whether the event loop is on time, while something is in hand."""
LAG: Final = 0.5
"""Seconds by which the event loop may be late before the log says so."""
MAX_RENEWED: Final = 1000
"""Leases that one script call renews at the most: about a millisecond of the server's time."""

_logger = logging.getLogger("aiorsmq.worker")


class Lease:
    """The lease of one message in hand. It is the message's settler: so what a handler does itself is known."""

    def __init__(self, leases: "Leases", record: Record, until: float, lost: Callable[[], None]) -> None:
        self.record = record
        self.until = until
        """The moment of the event loop's clock from which it is not renewed any more."""
        self.lost = lost
        self.settled: bool = False
        """Whether it was deleted, released or lost: by the handler itself, or when that had ended."""
        self.extended_until = 0.0
        self._leases = leases

    def delete(self, id: bytes, receive_count: bytes) -> Future[bool]:
        self.give_up()
        return self._leases.settler.delete(id, receive_count)

    def release(self, id: bytes, receive_count: bytes, delay_ms: int) -> Awaitable[bool]:
        self.give_up()
        return self._leases.settler.release(id, receive_count, delay_ms)

    def change_visibility(self, id: bytes, receive_count: bytes, vt_ms: int) -> Awaitable[bool]:
        self.extended_until = asyncio.get_running_loop().time() + vt_ms / 1000
        return self._leases.settler.change_visibility(id, receive_count, vt_ms)

    def give_up(self) -> None:
        """From now on it is not renewed."""
        self.settled = True
        self._leases.held.discard(self)


class Leases:
    """What a worker has in hand of one queue.

    A renewal is sent once and never repeated as it was: what has ended meanwhile must not be renewed by it.
    """

    def __init__(self, settler: Settler, scripts: Scripts, vt_ms: int | None) -> None:
        self.settler = settler
        self.held: set[Lease] = set()
        self._scripts = scripts
        self.vt_ms = vt_ms
        """None for the queue's."""
        self._visible = b""
        self._seconds = 0.0
        self._renew_at = 0.0
        self._held_some = asyncio.Event()

    def hold(self, lease: Lease) -> None:
        """Renew it from now on."""
        if lease.record.visible != self._visible or not self.held:  # else of the same claim, with the same lease
            self._visible = lease.record.visible
            self._seconds = max((float(self._visible) - self._scripts.clock.now_ms()) / 1000, 0.03)
            renew_at = asyncio.get_running_loop().time() + self._seconds / 3
            self._renew_at = min(self._renew_at, renew_at) if self.held else renew_at
        self.held.add(lease)
        self._held_some.set()

    async def keep(self) -> None:
        """Renew what is held, each third of a lease, for ever."""
        loop, pauses, failing = asyncio.get_running_loop(), backoff(), False
        while True:
            while not self.held:
                self._held_some.clear()
                await self._held_some.wait()
            wake_at = min(self._renew_at, loop.time() + TICK)
            await asyncio.sleep(wake_at - loop.time())
            if (lag := loop.time() - wake_at) > LAG:
                _logger.warning("the event loop was blocked for %.1f seconds, leases may have ended", lag)
            if self.held and loop.time() >= self._renew_at:
                self._renew_at = loop.time() + self._seconds / 3
                try:
                    await self._renew()
                    pauses, failing = backoff(), False
                except (RedisError, OSError) as error:
                    if not failing:
                        _logger.warning("cannot renew %d leases, trying again: %s", len(self.held), error)
                    failing = True
                    self._renew_at = min(self._renew_at, loop.time() + next(pauses))

    async def _renew(self) -> None:
        now = asyncio.get_running_loop().time()
        due = [lease for lease in self.held if lease.until > now > lease.extended_until - self._seconds]
        for start in range(0, len(due), MAX_RENEWED):
            some = due[start : start + MAX_RENEWED]
            try:
                renewed = await self.settler.renew([(lease.record, self._vt_of(lease, now)) for lease in some])
            except QueueDoesNotExist:
                renewed = [False] * len(some)
            for lease, is_ours in zip(some, renewed, strict=True):
                if not is_ours and not lease.settled:
                    lease.give_up()
                    lease.lost()

    def _vt_of(self, lease: Lease, now: float) -> int | None:
        left = lease.until - now
        return round(left * 1000) if left < self._seconds else self.vt_ms
