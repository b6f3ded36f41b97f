"""The leases of what a worker has in hand: renewed all together, given up one by one."""

import asyncio
import logging
from asyncio import Future
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from redis.exceptions import RedisError

from .._commands.settle import Settler
from .._record import Record
from .._server.failures import backoff
from .._server.scripts import Scripts

TICK: Final = 1.0
"""Seconds between two looks at whether the event loop is on time, while something is in hand."""
LAG: Final = 0.5
"""Seconds by which the event loop may be late before the log says so."""
SECOND_LOOK: Final = 0.1
"""Seconds after which a renewal that was refused is tried again: perhaps our own claim has received
the message, and is on its way to `adopt`.
"""
MAX_RENEWED: Final = 1000
"""Leases that one script call renews at the most: about a millisecond of the server's time."""

_logger = logging.getLogger("aiorsmq.worker")


class Lease:
    """The lease of one message in hand. It is the message's settler: so what a handler does itself
    is known.

    What it settles is the last receipt, which may be a later one than the handler's message tells;
    see `adopt`.
    """

    def __init__(
        self, leases: "Leases", record: Record, until: float, lost: Callable[[], None]
    ) -> None:
        self.record = record
        self.until = until
        """The moment of the event loop's clock from which it is not renewed any more."""
        self.lost = lost
        self.deleting: Future[bool] | None = None
        """Once it was deleted, perhaps by the handler itself."""
        self.release_ms: int | None = None
        """If the handler has released it: then it is visible so long after its end, unless that
        decides otherwise.
        """
        self.visible_until: bytes = record.visible
        """The end of the lease in ms, as renewed."""
        self.extended_until: float = 0.0
        self.refused: Record | None = None
        """The receipt whose renewal has been refused once."""
        self._leases = leases

    def delete(
        self, _record: Record | None = None, _lease_end: bytes | None = None, /
    ) -> Future[bool]:
        self.give_up()
        self.deleting = self._leases.settler.delete(self.record, self.visible_until)
        return self.deleting

    def lease_end(self, vt_ms: int, /) -> bytes:
        return self._leases.settler.lease_end(vt_ms)

    def release(self, _record: Record, delay_ms: int, /) -> Future[bool]:
        self.release_ms = delay_ms
        will_be = asyncio.get_running_loop().create_future()
        will_be.set_result(self.is_held)
        return will_be

    def change_visibility(self, _record: Record, vt_ms: int, /) -> Awaitable[bool]:
        self.extended_until = asyncio.get_running_loop().time() + vt_ms / 1000
        lease_end = self.lease_end(vt_ms)
        change = self._leases.settler.change_visibility(self.record, vt_ms)
        change.add_done_callback(partial(self._extended, lease_end))
        return change

    def _extended(self, lease_end: bytes, change: Future[bool]) -> None:
        if not change.cancelled() and change.exception() is None and change.result():
            self.visible_until = lease_end

    def give_back(self, delay_ms: int) -> Awaitable[bool]:
        """Make the message visible after so long."""
        self.give_up()
        return self._leases.settler.release(self.record, delay_ms)

    def give_up(self) -> None:
        """From now on it is not renewed."""
        held, id = self._leases.held, self.record.id
        if held.get(id) is self:
            del held[id]

    @property
    def is_held(self) -> bool:
        return self._leases.held.get(self.record.id) is self


class Leases:
    """What a worker has in hand of one queue.

    A renewal is sent once and never repeated as it was: what has ended meanwhile must not be
    renewed by it.
    """

    def __init__(self, settler: Settler, scripts: Scripts, vt: float) -> None:
        self.settler = settler
        self.held: dict[bytes, Lease] = {}
        """By id."""
        self._scripts = scripts
        self._vt = vt
        self._visible = b""
        self._renew_at = 0.0
        self._held_some = asyncio.Event()

    def hold(self, lease: Lease) -> None:
        """Renew it from now on."""
        if (
            lease.record.visible != self._visible or not self.held
        ):  # else of the same claim, with the same lease
            self._visible = lease.record.visible
            left = (float(self._visible) - self._scripts.clock.now_ms()) / 1000
            renew_at = asyncio.get_running_loop().time() + min(left, self._vt) / 3
            self._renew_at = min(self._renew_at, renew_at) if self.held else renew_at
        older = self.held.get(lease.record.id)
        if older is not None:  # the message moved away and came back, or outlived its `max_lease`
            older.lost()
        self.held[lease.record.id] = lease
        self._held_some.set()

    def adopt(self, record: Record) -> bool:
        """Whether a message that was received is in hand already, for which nobody else has
        received it since.

        After an outage, or when this program was stopped, its claim can come before its renewal.
        Then the lease goes on as the new receipt's, and the handler with it.
        """
        lease = self.held.get(record.id)
        if lease is None or lease.until <= asyncio.get_running_loop().time():
            return False
        if record.first_received != lease.record.first_received:
            return False  # it has moved to another queue and back since
        if int(record.receive_count) != int(lease.record.receive_count) + 1:
            return False
        lease.record, lease.visible_until = record, record.visible
        return True

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
                _logger.warning(
                    "the event loop was blocked for %.1f seconds, leases may have ended", lag
                )
            if self.held and loop.time() >= self._renew_at:
                self._renew_at = loop.time() + self._vt / 3
                try:
                    await self._renew()
                    pauses, failing = backoff(), False
                except (RedisError, OSError) as error:
                    if not failing:
                        _logger.warning(
                            "cannot renew %d leases, trying again: %s", len(self.held), error
                        )
                    failing = True
                    self._renew_at = min(self._renew_at, loop.time() + next(pauses))

    async def _renew(self) -> None:
        now = asyncio.get_running_loop().time()
        due = [
            lease
            for lease in self.held.values()
            if lease.until > now > lease.extended_until - self._vt
        ]
        for start in range(0, len(due), MAX_RENEWED):
            some = due[start : start + MAX_RENEWED]
            records = [lease.record for lease in some]
            vts = [round(min(self._vt, lease.until - now) * 1000) for lease in some]
            ends = [self.settler.lease_end(vt_ms) for vt_ms in vts]
            renewed = await self.settler.renew(list(zip(records, vts, strict=True)))
            for lease, record, lease_end, is_ours in zip(some, records, ends, renewed, strict=True):
                if is_ours:
                    lease.visible_until = lease_end
                if is_ours or not lease.is_held or lease.record is not record:
                    continue
                if lease.refused is record:
                    lease.give_up()
                    lease.lost()
                else:
                    lease.refused = record
                    self._renew_at = min(self._renew_at, now + SECOND_LOOK)
