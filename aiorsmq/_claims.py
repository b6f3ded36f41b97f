"""Demand meets supply: what a queue's waiting consumers want, and the script calls that fetch it.

Claims follow demand. A consumer that wants a message puts an empty slot in the line; one script call claims for all
the slots in it; each message goes into the first slot that still has somebody behind it. A message that finds none is
handed back to its old place in the queue.
"""

import asyncio
import logging
import time
import weakref
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Generator, Iterable, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Protocol

import anyio
from redis.exceptions import RedisError

from ._batch import InFlight
from ._commands.receive import Claim
from ._listener import Flag, Listener
from ._scripts import Scripts
from ._slot import Slot
from ._tasks import Tasks
from .errors import ClientClosed, RedisSMQException
from .models import Record

_logger = logging.getLogger(__name__)


class Stream(Protocol):
    """An iteration over messages, which claims for itself."""

    def end(self) -> None: ...


class Claims:
    """The line of one queue's consumers that claim in the same way (for the same lease, or popping).

    It claims when there is reason to: somebody wants an answer now, there is news, a message is due, or the safety poll
    is. While the line is empty it does nothing, but keeps in mind what it knows.
    """

    def __init__(
        self,
        fetch: Callable[[int, Callable[[Claim | Exception], None]], None],
        hand_back: Callable[[Sequence[Record]], Awaitable[None]],
        note: Callable[[Claim], "asyncio.Future[bool] | None"],
        leases: bool,
        channel: str,
        listener: Listener | None,
        scripts: Scripts,
        poll_interval: float,
        tasks: Tasks,
    ) -> None:
        self._fetch = fetch
        self._hand_back = hand_back
        self._note = note
        self._leases = leases
        self._flag = Flag(channel, self._look)  # at once: a plan would cost a turn of the event loop
        self._listener = listener
        self._scripts = scripts
        self._poll_interval = poll_interval
        self._tasks = tasks
        self._line: deque[Slot] = deque()
        self._some_have_left = False
        self._informed = 0  # how many want to be
        self._streams: weakref.WeakSet[Stream] = weakref.WeakSet()
        self._claiming = InFlight(scripts.is_busy)
        self._look_is_due = False
        self._timer: asyncio.TimerHandle | None = None
        self._claimed_at = -poll_interval
        self._next_ms: float | None = 0
        self._they_last = False  # what was claimed last: with vt=0 two calls at once would claim the same
        self._outage: Exception | None = None

    async def take(self, limit: int, wait: float) -> list[Record]:
        """Claim up to `limit` messages; if there is none, wait up to `wait` seconds for the first, and for no other."""
        if not wait:
            return await self._fill(self.ask(limit, patient=False))
        with anyio.move_on_after(wait):
            if records := await self._fill(self.ask(limit, patient=False)):
                return records
            return await self._fill(self.ask(limit, patient=True))
        if self.outage is not None:
            raise self.outage
        return []

    async def take_one(self) -> Record | None:
        """`take(1, 0)` by the shortest way: it is a fifth of what a receive costs here."""
        slot = self.ask_one(patient=False)
        try:
            await slot.waiter()
        except BaseException:
            self.withdraw((slot,))
            raise
        return slot.take()

    async def _fill(self, slots: list[Slot]) -> list[Record]:
        """Wait for the first slot, and for the others as long as there is more to be had."""
        first = slots[0]
        try:
            await first.waiter()
            if first.record is not None:
                for slot in slots:
                    slot.patient = False
                for slot in slots:
                    if slot.record is None and (slot.done or self._more_are_visible()):
                        await slot.waiter()
        except BaseException:
            self.withdraw(slots)
            raise
        records = [record for slot in slots if (record := slot.take())]
        # A claim that found fewer than were asked for leaves slots in front to be filled by a later one.
        records.sort(key=lambda record: (float(record.place), record.id))
        if len(records) < len(slots):
            self.withdraw(slots)
        return list({record.id: record for record in records}.values())  # with vt=0 one may come twice

    def ask(self, count: int, *, patient: bool, first: Collection[Slot] = ()) -> list[Slot]:
        """Put slots at the end of the line: patient ones, or some that are done when there is no message now.

        `first`: see `Slot`.
        """
        loop = self._tasks.admit()
        slots = [Slot(loop, patient, first) for _ in range(count)]
        self._line += slots
        if not patient:
            self._flag.is_set = True
        self._plan()
        return slots

    def ask_one(self, *, patient: bool) -> Slot:
        slot = Slot(self._tasks.admit(), patient)
        self._line.append(slot)
        if not patient:
            self._flag.is_set = True
        if not self._look_is_due:  # asked here too: it is the usual case, once for each message
            self._plan()
        return slot

    def withdraw(self, slots: Iterable[Slot]) -> None:
        """Leave the line. What the slots hold goes to the next in it, or back into the queue."""
        held: list[Record] = []
        self._some_have_left = True
        for slot in slots:
            if not slot.done:
                slot.finish(None)
                self._plan()  # perhaps there is nobody left to wait for
            elif (record := slot.take()) and not self.is_over(record):
                held.append(record)
        self._give(held)

    def is_over(self, record: Record) -> bool:
        """Whether the lease of a message has ended; a popped one has none."""
        return self._leases and float(record.visible) <= self._scripts.clock.now_ms()

    def open_stream(self, stream: Stream) -> None:
        self._streams.add(stream)

    def close(self) -> None:
        """End the streams and turn everybody away. What was claimed and not handed out goes back into the queue."""
        for stream in list(self._streams):
            stream.end()
        self._look()

    @property
    def outage(self) -> Exception | None:
        """What keeps it from claiming, if anything does."""
        return self._outage or self._scripts.failure()

    @contextmanager
    def kept_informed(self) -> Generator[None]:
        """Hear of news even while nobody waits: for those who ask only if there is a reason to."""
        self._informed += 1
        if self._listener is not None:
            self._listener.watch(self._flag)
        try:
            yield
        finally:
            self._informed -= 1
            self._flag.wanted = bool(self._line) or self._informed > 0

    def has_reason(self) -> bool:
        """Whether a claim now may find something: there is news, a message is due, or the safety poll is."""
        return self._flag.is_set or self._seconds_to_wait() <= 0

    def _plan(self) -> None:
        if not self._look_is_due:
            self._look_is_due = True
            self._tasks.soon(self._look)

    def _look(self) -> None:
        """Claim if somebody waits and there is a reason to; else wait for one."""
        self._look_is_due = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._some_have_left:
            self._line = deque(slot for slot in self._line if not slot.done)
            self._some_have_left = False
        if self._tasks.closing:
            while self._line:
                self._line.popleft().fail(ClientClosed())
        self._flag.wanted = bool(self._line) or self._informed > 0
        if not self._line or (self._claiming and not self._may_claim_too()):
            return
        seconds = 0.0 if self._flag.is_set else self._seconds_to_wait()
        if seconds <= 0:
            self._claim()
            return
        if self._listener is not None:
            self._listener.watch(self._flag)
        self._timer = self._tasks.loop().call_later(seconds, self._look)

    def _may_claim_too(self) -> bool:
        """Whether another claim may join those in flight: there is plenty, and enough want some."""
        return self._more_are_visible() and self._they_last and self._claiming.next_call(len(self._line)) > 0

    def _seconds_to_wait(self) -> float:
        poll = self._claimed_at + self._poll_interval - time.monotonic()
        if self._next_ms is None:
            return poll
        return min(poll, (self._next_ms + 1 - self._scripts.clock.now_ms()) / 1000)

    def _claim(self) -> None:
        """One script call: for everybody in the line, or if there is known to be plenty, for a share of it."""
        count = len(self._line)
        if self._more_are_visible() and self._they_last:
            count = self._claiming.next_call(count)
        self._flag.is_set = False
        asked = [self._line.popleft() for _ in range(count)]
        self._claiming.begin(count)
        try:
            self._fetch(count, partial(self._answer, asked))
        except Exception as error:  # noqa: BLE001 - whatever it is, those who asked must hear of it
            self._answer(asked, error)
        if self._line:
            self._plan()

    def _answer(self, asked: list[Slot], claim: Claim | Exception) -> None:
        self._claiming.end(len(asked))
        if isinstance(claim, Exception):
            self._fail(asked, claim)
        else:
            self._claimed_at, self._next_ms, self._outage = time.monotonic(), claim.next_ms, None
            burial = self._note(claim)
            if burial is not None and self.is_over(claim.dead[0]):  # with vt=0: until they are moved they come again
                burial.add_done_callback(partial(self._go_on, claim.records, asked))
                return
            self._distribute(claim.records, asked)
        self._plan()

    def _go_on(self, records: list[Record], asked: list[Slot], burial: "asyncio.Future[bool]") -> None:
        if burial.cancelled() or not burial.result():
            self._next_ms = None  # they could not be moved: leave them alone until the safety poll
        self._distribute(records, asked)
        self._plan()

    def _distribute(self, records: list[Record], asked: list[Slot]) -> None:
        unmet: list[Slot] = []
        left = deque(records)
        if records:
            self._they_last = not self.is_over(records[0])
        more = self._more_are_visible() and (self._they_last or not records)  # else what is visible are these
        for slot in asked:
            if slot.done:
                continue
            if left:
                if not slot.meet(left.popleft()):
                    unmet.append(slot)
                    self._some_have_left = True  # the one that has got it instead
            elif slot.patient or more:
                unmet.append(slot)
            else:
                slot.finish(None)
        self._line.extendleft(reversed(unmet))
        self._give(left)

    def _fail(self, asked: list[Slot], error: Exception) -> None:
        """The patient wait an outage out; everybody else, and everybody if it is no outage, gets the error."""
        outage = self._scripts.is_outage(error)
        if outage:  # those behind them would meet the same, after waiting for as long
            asked = asked + list(self._line)
            self._line.clear()
        waiting = [slot for slot in asked if not slot.done]
        for slot in waiting:
            if not (outage and slot.patient):
                slot.fail(error)
        if outage:
            if self._outage is None:
                _logger.warning("cannot claim, trying again until it is mended: %s", error)
            self._outage, self._next_ms = error, 0
            self._line.extendleft(slot for slot in reversed(waiting) if slot.patient)

    def _more_are_visible(self) -> bool:
        return self._next_ms is not None and self._next_ms <= self._scripts.clock.now_ms()

    def _give(self, records: Iterable[Record]) -> None:
        unwanted: list[Record] = []
        for record in records:
            while self._line and self._line[0].done:
                self._line.popleft()
            if not self._line:
                unwanted.append(record)
            elif self._line[0].meet(record):
                self._line.popleft()
            else:
                self._some_have_left = True
        if unwanted:
            self._tasks.start(self._return(unwanted))

    async def _return(self, records: list[Record]) -> None:
        try:
            await self._hand_back(records)
        except (RedisError, RedisSMQException, OSError) as error:
            _logger.warning("could not hand %d messages back; their leases will end: %s", len(records), error)
