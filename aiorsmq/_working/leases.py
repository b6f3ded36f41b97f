"""The leases of the messages that a worker holds: renewed together, given up one by one."""

from __future__ import annotations

import asyncio
import logging
import math
from asyncio import Future
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from .._commands.settle import QueueSettler
from .._record import Record
from .._server.failures import SERVER_ERRORS, backoff
from .._server.node import Node

TICK: Final = 1.0
"""Seconds between two checks that the event loop is on time, while messages are held."""
LAG: Final = 0.5
"""Seconds by which the event loop may be late before that is called blocked."""
SECOND_LOOK: Final = 0.1
"""Seconds after which a refused renewal is tried again: our own claim may have received the message
and be on its way to `adopt`."""
MAX_RENEWED: Final = 1000
"""Leases renewed by one script call: about a millisecond of the server's time."""

_logger = logging.getLogger("aiorsmq.worker")


class Stalls:
    """The times for which a worker's event loop is blocked: each is logged once, for all queues,
    and only if a lease has ended in it."""

    def __init__(self) -> None:
        self._logged_at = -math.inf

    def note(self, due_at: float, has_ended: bool) -> None:
        """The loop is later than `due_at`. `has_ended`: whether a lease has ended in between."""
        now = asyncio.get_running_loop().time()
        seconds = now - due_at
        if seconds <= LAG or not has_ended or due_at <= self._logged_at:
            return
        self._logged_at = now
        text = "the event loop was blocked for %.1f seconds; leases may have expired"
        _logger.warning(text, seconds, extra={"seconds": seconds})


class Lease:
    """The lease of one message that a worker holds.

    It is the message's settler, so the worker knows what a handler settles itself. It settles the
    latest receipt, which may be a later one than the handler's message shows; see `Leases.adopt`.
    """

    def __init__(
        self, leases: Leases, record: Record, until: float, on_lost: Callable[[], None]
    ) -> None:
        self._leases = leases
        self.record: Record = record
        self.until: float = until
        """When it is no longer renewed, by the event loop's clock."""
        self.on_lost = on_lost
        self.deleting: Future[bool] | None = None
        """Set once the message was deleted, perhaps by the handler itself."""
        self.release_ms: int | None = None
        """Set if the handler has released the message: the delay that then follows its end."""
        self.visible_until: bytes = record.visible
        """The end of the lease in ms, as renewed."""
        self.extended_until: float = 0.0
        self.refused: Record | None = None
        """The receipt whose renewal was refused once."""

    def delete(
        self, _record: Record | None = None, _lease_end: bytes | None = None, /
    ) -> Future[bool]:
        self.give_up()
        self.deleting = self._leases.settler.delete(self.record, self.visible_until)
        return self.deleting

    def lease_end(self, vt_ms: int, /) -> bytes:
        return self._leases.settler.lease_end(vt_ms)

    def release(self, _record: Record, delay_ms: int, /) -> Future[bool]:
        """Release it when the handler has ended; the result is whether it is held now."""
        self.release_ms = delay_ms
        released = asyncio.get_running_loop().create_future()
        released.set_result(self.is_held)
        return released

    def change_visibility(self, _record: Record, vt_ms: int, /) -> Awaitable[bool]:
        self.extended_until = asyncio.get_running_loop().time() + vt_ms / 1000
        lease_end = self.lease_end(vt_ms)
        change = self._leases.settler.change_visibility(self.record, vt_ms)
        change.add_done_callback(partial(self._on_extended, lease_end))
        return change

    def _on_extended(self, lease_end: bytes, change: Future[bool]) -> None:
        if not change.cancelled() and change.exception() is None and change.result():
            self.visible_until = lease_end

    def give_back(self, delay_ms: int) -> Awaitable[bool]:
        """Make the message visible after a delay."""
        self.give_up()
        return self._leases.settler.release(self.record, delay_ms)

    def give_up(self) -> None:
        """Stop renewing it."""
        held = self._leases.held
        if held.get(self.record.id) is self:
            del held[self.record.id]

    @property
    def is_held(self) -> bool:
        return self._leases.held.get(self.record.id) is self


class Leases:
    """The leases that a worker holds in one queue.

    A renewal is sent once and never repeated unchanged: it must not renew a lease that has been
    given up since.
    """

    def __init__(self, node: Node, settler: QueueSettler, qname: str, vt: float) -> None:
        self._node = node
        self._qname = qname
        self._vt = vt
        self.settler: QueueSettler = settler
        self.held: dict[bytes, Lease] = {}
        """By id."""
        self._visible = b""
        self._renew_at = 0.0
        self._any_held = asyncio.Event()

    def hold(self, lease: Lease) -> None:
        """Renew it from now on."""
        visible = lease.record.visible
        # hot path: the messages of one claim have the same lease; only the first is looked at.
        if visible != self._visible or not self.held:
            self._visible = visible
            remaining = (float(visible) - self._node.clock.now_ms()) / 1000
            renew_at = asyncio.get_running_loop().time() + min(remaining, self._vt) / 3
            self._renew_at = min(self._renew_at, renew_at) if self.held else renew_at
        previous = self.held.get(lease.record.id)
        if previous is not None:  # the message moved and came back, or outlived its `max_lease`
            previous.on_lost()
        self.held[lease.record.id] = lease
        self._any_held.set()

    def adopt(self, record: Record) -> bool:
        """Whether a received message is held already, and nobody else has received it in between.

        After an outage, or after this program was stopped, a message's claim can come before its
        renewal. Its lease then continues as the new receipt's, and its handler goes on.
        """
        lease = self.held.get(record.id)
        if lease is None or lease.until <= asyncio.get_running_loop().time():
            return False
        if record.first_received != lease.record.first_received:
            return False  # it has moved to another queue and back since
        if int(record.receive_count) != int(lease.record.receive_count) + 1:
            return False
        lease.record = record
        lease.visible_until = record.visible
        return True

    async def keep(self, stalls: Stalls) -> None:
        """Renew what is held, each third of a lease, until cancelled."""
        loop = asyncio.get_running_loop()
        pauses = backoff()
        is_failing = False
        while True:
            await self._tick(stalls)
            if not self.held or loop.time() < self._renew_at:
                continue
            self._renew_at = loop.time() + self._vt / 3
            try:
                await self._renew()
                pauses = backoff()
                is_failing = False
            except SERVER_ERRORS as error:
                if not is_failing:
                    text = "renewing %d leases of queue %r failed, retrying: %s"
                    extra = {"queue": self._qname, "reason": str(error)}
                    _logger.warning(text, len(self.held), self._qname, error, extra=extra)
                is_failing = True
                self._renew_at = min(self._renew_at, loop.time() + next(pauses))

    async def _tick(self, stalls: Stalls) -> None:
        """Wait for the next renewal, for TICK at most; note whether the event loop was blocked."""
        while not self.held:
            self._any_held.clear()
            await self._any_held.wait()
        loop = asyncio.get_running_loop()
        wake_at = min(self._renew_at, loop.time() + TICK)
        now_ms = self._node.clock.now_ms()
        ends = (float(lease.visible_until) for lease in self.held.values())
        first_end = min((end for end in ends if end > now_ms), default=math.inf)
        await asyncio.sleep(wake_at - loop.time())
        stalls.note(wake_at, has_ended=first_end <= self._node.clock.now_ms())

    async def _renew(self) -> None:
        now = asyncio.get_running_loop().time()
        due = [
            lease
            for lease in self.held.values()
            if lease.until > now > lease.extended_until - self._vt
        ]
        for start in range(0, len(due), MAX_RENEWED):
            await self._renew_step(due[start : start + MAX_RENEWED], now)

    async def _renew_step(self, leases: list[Lease], now: float) -> None:
        records = [lease.record for lease in leases]
        vts = [round(min(self._vt, lease.until - now) * 1000) for lease in leases]
        ends = [self.settler.lease_end(vt_ms) for vt_ms in vts]
        renewals = await self.settler.renew(list(zip(records, vts, strict=True)))
        for lease, record, end, is_renewed in zip(leases, records, ends, renewals, strict=True):
            if is_renewed:
                lease.visible_until = end
            elif lease.is_held and lease.record is record:
                self._on_refused(lease, now)

    def _on_refused(self, lease: Lease, now: float) -> None:
        """A lease is lost when the renewal of the same receipt is refused twice."""
        if lease.refused is lease.record:
            lease.give_up()
            lease.on_lost()
        else:
            lease.refused = lease.record
            self._renew_at = min(self._renew_at, now + SECOND_LOOK)
