"""Demand meets supply: what a queue's waiting consumers want, and the script calls that fetch it.

Claims follow demand. A consumer that wants a message puts an empty slot in the line; one script
call claims for all the slots in it; each message goes into the first slot that still has somebody
behind it. A message that finds none is handed back to its old place in the queue.
"""

import asyncio
import logging
import math
import time
import weakref
from collections import deque
from collections.abc import Awaitable, Callable, Generator, Iterable, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Protocol

from redis.exceptions import RedisError

from .._commands.receive import Claim
from .._record import Record
from .._server.batch import InFlight
from .._server.lane import REPLY_TIMEOUT
from .._server.listener import Flag, Listener
from .._server.scripts import Scripts
from .._server.tasks import NO_REPLY, NOT_SENT, SLACK, Tasks, call_if_alive
from ..errors import ClientClosed, RedisSMQException
from .waiter import Ahead, Slot

_logger = logging.getLogger(__name__)


class Stream(Protocol):
    """An iteration over messages, which claims for itself."""

    def end(self) -> None: ...


class Claims:
    """The line of one queue's consumers that claim in the same way (for the same lease, or
    popping).

    It claims when there is reason to: somebody wants an answer now, there is news, a message is
    due, or the safety poll is. While the line is empty it does nothing, but keeps in mind what it
    knows.
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
        self._flag = Flag(
            channel, self._look
        )  # at once: a plan would cost a turn of the event loop
        self._listener = listener
        self._scripts = scripts
        self._poll_interval = poll_interval
        self._tasks = tasks
        self._line: deque[Slot] = deque()
        self._line_has_gaps = False
        self._asked: list[list[Slot]] = []
        """For whom claims are under way."""
        self._expiry: asyncio.TimerHandle | None = None
        self._informed = 0  # how many want to be
        self._streams: weakref.WeakSet[Stream] = weakref.WeakSet()
        self._claiming = InFlight(scripts.is_busy)
        self._look_is_due = False
        self._timer: asyncio.TimerHandle | None = None
        self._claimed_at = -poll_interval
        self._next_ms: float | None = 0
        self._they_last = (
            False  # what was claimed last: with vt=0 two calls at once would claim the same
        )
        self._distinct_ms: float = 0
        """From when on a claim finds first what the last one has not handed out."""
        self._outage: Exception | None = None

    async def take(self, limit: int, wait: float) -> list[Record]:
        """Claim up to `limit` messages; if there is none, wait up to `wait` seconds for the first,
        and for no other.

        Nothing is returned only if the server has said so. A claim that is under way when the wait
        ends is waited for, for REPLY_TIMEOUT or while it is arriving; if that was never answered,
        or if no claim was, the error is raised.
        """
        slots = self.ask(limit, patient=False)
        if not wait:
            return await self._fill(slots)
        loop = self._tasks.loop()
        ends = loop.time() + wait
        giving_up = loop.call_at(ends, self._give_up, slots)
        try:
            with self._scripts.while_heard("receive", ends, REPLY_TIMEOUT):
                records = await self._fill(slots)
                if records or loop.time() >= ends:
                    return records
                slots += self.ask(limit, patient=True)
                del slots[:limit]
                return await self._fill(slots)
        finally:
            giving_up.cancel()
        raise self._scripts.trouble("receive") or self._scripts.late(NO_REPLY)

    def _give_up(self, slots: list[Slot]) -> None:
        """The wait is over: who was told that there is nothing leaves; who has no answer yet waits
        for it.
        """
        line, trouble = set(self._line), self.outage or self._scripts.trouble("receive")
        for slot in slots:
            has_been_answered, slot.patient = slot.patient, False
            if slot.done or (trouble is None and not (has_been_answered and slot in line)):
                continue
            self._line_has_gaps = True
            if trouble is None:
                slot.finish()
            else:
                slot.fail(trouble)
            self._plan()

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
                with suppress(RedisError, RedisSMQException):  # what has come is handed out
                    for slot in slots:
                        if slot.record is None and (slot.done or self._more_are_visible()):
                            await slot.waiter()
        except BaseException:
            self.withdraw(slots)
            raise
        records = [record for slot in slots if (record := slot.take())]
        # A claim that found fewer than were asked for leaves slots in front to be filled by a later
        # one.
        records.sort(key=lambda record: (float(record.place), record.id))
        if len(records) < len(slots):
            self.withdraw(slots)
        return list(
            {record.id: record for record in records}.values()
        )  # with vt=0 one may come twice

    def ask(self, count: int, *, patient: bool, ahead: Ahead | None = None) -> list[Slot]:
        """Put slots at the end of the line: patient ones, or some that are done when there is no
        message now.

        `ahead`: see `Slot`.
        """
        loop, until = self._tasks.admit(), math.inf if patient else self._until()
        slots = [Slot(loop, patient, ahead, until) for _ in range(count)]
        slots[-1].is_last_of_many = count > 1 and ahead is None
        self._line += slots
        if not patient:
            self._flag.is_set = True
        self._plan()
        return slots

    def ask_one(self, *, patient: bool) -> Slot:
        loop = self._tasks.admit()
        slot = Slot(loop, True) if patient else Slot(loop, False, None, self._until())
        self._line.append(slot)
        if not patient:
            self._flag.is_set = True
        if not self._look_is_due:  # asked here too: it is the usual case, once for each message
            self._plan()
        return slot

    def withdraw(self, slots: Iterable[Slot]) -> None:
        """Leave the line. What the slots hold goes to the next in it, or back into the queue."""
        held: list[Record] = []
        self._line_has_gaps = True
        for slot in slots:
            if not slot.done:
                slot.finish()
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
        """End the streams and turn everybody away. What was claimed and not handed out goes back
        into the queue.
        """
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

    def look_again(self) -> None:
        """There may be news that was not heard, or no server: find out if somebody waits."""
        self._flag.is_set = True
        self._plan()

    def has_reason(self) -> bool:
        """Whether a claim now may find something: there is news, a message is due, or the safety
        poll is.
        """
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
        if self._line_has_gaps:
            self._line = deque(slot for slot in self._line if not slot.done)
            self._line_has_gaps = False
        if self._tasks.closing:
            while self._line:
                self._line.popleft().fail(ClientClosed())
        self._flag.wanted = bool(self._line) or self._informed > 0
        if not self._line or (self._claiming and not self._may_claim_too()):
            return
        seconds = 0.0 if self._flag.is_set else self._seconds_to_wait()
        if not self._they_last:
            seconds = max(seconds, (self._distinct_ms - self._scripts.clock.now_ms()) / 1000)
        if seconds <= 0:
            self._claim()
            return
        if self._listener is not None:
            self._listener.watch(self._flag)
        self._timer = self._tasks.loop().call_later(seconds, self._look)

    def _may_claim_too(self) -> bool:
        """Whether another claim may join those in flight: there is plenty, and enough want some."""
        return (
            self._more_are_visible()
            and self._they_last
            and self._claiming.next_call(len(self._line)) > 0
        )

    def _seconds_to_wait(self) -> float:
        poll = self._claimed_at + self._poll_interval - time.monotonic()
        if self._next_ms is None:
            return poll
        return min(poll, (self._next_ms + 1 - self._scripts.clock.now_ms()) / 1000)

    def _claim(self) -> None:
        """One script call: for everybody in the line, or if there is known to be plenty, for a
        share of it.
        """
        count = len(self._line)
        if self._more_are_visible() and self._they_last:
            count = self._claiming.next_call(count)
        asked = self._leave_line(count)
        if not self._line:  # else those who are left have their answer still to come
            self._flag.is_set = False
        self._claiming.begin(len(asked))
        self._asked.append(asked)
        try:
            self._fetch(len(asked), partial(self._answer, asked))
        except Exception as error:  # noqa: BLE001 - whatever it is, those who asked must hear of it
            self._answer(asked, error)
        if self._line:
            self._plan()

    def _leave_line(self, count: int) -> list[Slot]:
        """The first slots of the line, for a claim.

        Where messages do not last (vt=0) one script call claims for one caller of `receive_many` at
        the most: so the next claim for the same caller finds others first.
        """
        if self._they_last:
            return [self._line.popleft() for _ in range(count)]
        asked: list[Slot] = []
        while len(asked) < count and not (asked and asked[-1].is_last_of_many):
            asked.append(self._line.popleft())
        return asked

    def _answer(self, asked: list[Slot], claim: Claim | Exception) -> None:
        self._claiming.end(len(asked))
        self._asked = [slots for slots in self._asked if slots is not asked]
        if isinstance(claim, Exception):
            self._fail(asked, claim)
        else:
            self._claimed_at, self._next_ms, self._outage = time.monotonic(), claim.next_ms, None
            burial = self._note(claim)
            if burial is not None and self.is_over(
                claim.dead[0]
            ):  # with vt=0: until they are moved they come again
                burial.add_done_callback(partial(self._go_on, claim, asked))
                return
            self._distribute(claim, asked)
        self._plan()

    def _go_on(self, claim: Claim, asked: list[Slot], burial: "asyncio.Future[bool]") -> None:
        if burial.cancelled() or not burial.result():
            self._next_ms = None  # they could not be moved: leave them alone until the safety poll
            claim = claim._replace(more=False)
        self._distribute(claim, asked)
        self._plan()

    def _distribute(self, claim: Claim, asked: list[Slot]) -> None:
        unmet: list[Slot] = []
        left = deque(claim.records)
        if left:
            self._they_last = not self.is_over(left[0])
            self._distinct_ms = float(left[0].visible) + 1
        for slot in asked:
            if slot.done:
                continue
            if left:
                slot.meet(left.popleft())
            elif slot.patient or claim.more:
                unmet.append(slot)
                self._flag.is_set = (
                    self._flag.is_set or not slot.patient
                )  # another claim may say meanwhile: no more
            else:
                slot.finish()
        self._line.extendleft(reversed(unmet))
        self._give(left)

    def _fail(self, asked: list[Slot], error: Exception) -> None:
        """The patient wait an outage out; everybody else, and everybody if it is no outage, gets
        the error.
        """
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
            else:
                self._line.popleft().meet(record)
        if unwanted:
            self._tasks.start(self._return(unwanted))

    def _until(self) -> float:
        """The deadline of a slot that is not patient; its timer does not keep the line alive."""
        until = self._scripts.until()
        if self._expiry is None:
            self._expire_at(until)
        return until

    def _expire_at(self, until: float) -> None:
        self._expiry = self._tasks.loop().call_at(
            until + SLACK, call_if_alive, weakref.WeakMethod(self._expire)
        )

    def _expire(self) -> None:
        """Fail the slots whose time is up, and look again when that of the next is."""
        now, left = self._tasks.loop().time() - SLACK, math.inf
        for slots, reason in (
            (self._line, NOT_SENT),
            *((asked, NO_REPLY) for asked in self._asked),
        ):
            for slot in [slot for slot in slots if not slot.done]:
                if slot.until <= now:
                    slot.fail(self._scripts.late(reason))
                    self._line_has_gaps = True
                else:
                    left = min(left, slot.until)
        self._expiry = None
        if left < math.inf:
            self._expire_at(left)

    async def _return(self, records: list[Record]) -> None:
        try:
            await self._hand_back(records)
        except (RedisError, RedisSMQException, OSError) as error:
            _logger.warning(
                "could not hand %d messages back; their leases will end: %s", len(records), error
            )
