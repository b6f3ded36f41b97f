"""The line of a queue's waiting consumers, and the script calls that claim messages for them.

Claims follow demand: a consumer puts an empty waiter into the line, one script call claims for all
waiters in it, and each message goes to the first waiter whose consumer is still there. A message
that finds none is handed back to its old place in the queue.

What the line does next is decided in one place, `outlook.decide`.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial

from .._commands.receive import Claim
from .._protocol import Keys
from .._record import Record
from .._server.batch import InFlight
from .._server.deadlines import NO_REPLY, NOT_SENT, DeadlineTimer
from .._server.failures import CALL_ERRORS
from .._server.flag import Flag
from .._server.lane import REPLY_TIMEOUT
from .._server.node import Node
from ..errors import ClientClosed
from .audience import Audience
from .outlook import Ask, Moment, Outlook, WaitUntil, decide
from .pause import Pause
from .waiter import Mailbox, Waiter

_logger = logging.getLogger("aiorsmq.queue")


class ConsumerLine:
    """The consumers of one queue that claim in the same way: for the same lease, or popping.

    While nobody waits it does nothing, but it keeps its outlook.

    Args:
        fetch: claims up to a number of messages, and calls back.
        hand_back: undoes the receipt of messages, in the background.
        move_dead: moves the dead messages of a claim away; returns the task, if there are any.
        leases: whether messages are leased; False for popping.
        pause: what is known about a pause of the queue.
    """

    def __init__(
        self,
        node: Node,
        keys: Keys,
        *,
        fetch: Callable[[int, Callable[[Claim | Exception], None]], None],
        hand_back: Callable[[list[Record]], None],
        move_dead: Callable[[Claim], asyncio.Future[bool] | None],
        leases: bool,
        pause: Pause,
        poll_interval: float,
    ) -> None:
        self.qname: str = keys.qname
        self._node = node
        self._fetch = fetch
        self._hand_back = hand_back
        self._move_dead = move_dead
        self._leases = leases
        self._pause = pause
        self._poll_interval = poll_interval
        # The flag looks at once: planning a look would cost a turn of the event loop.
        self._flag = Flag(keys.channel, self._look)
        self.audience: Audience = Audience(node, self._flag)
        self._outlook = Outlook()
        self._line: deque[Waiter] = deque()
        self._line_has_gaps = False
        self._claimed_for: list[list[Waiter]] = []
        """The waiters of each claim in flight."""
        self._claims = InFlight()
        self._deadlines = DeadlineTimer(node.home, self._expire)
        self._look_planned = False
        self._timer: asyncio.TimerHandle | None = None

    async def take(self, limit: int, wait: float) -> list[Record]:
        """Claim up to `limit` messages; if there are none, wait up to `wait` seconds for the first.

        An empty list means that the server said so. A claim in flight when the wait ends is waited
        for, for REPLY_TIMEOUT or while its reply is arriving. If it is not answered, or if no claim
        was ever answered, the error is raised.
        """
        waiters = self.join(limit, patient=False)
        if not wait:
            return await self._collect(waiters)
        loop = self._node.home.loop()
        ends = loop.time() + wait
        timer = loop.call_at(ends, self._end_wait, waiters)
        try:
            with self._node.while_heard("receive", ends, REPLY_TIMEOUT):
                records = await self._collect(waiters)
                if records or loop.time() >= ends:
                    return records
                waiters[:] = self.join(limit, patient=True)
                return await self._collect(waiters)
        finally:
            timer.cancel()
        raise self._node.trouble("receive") or self._node.late(NO_REPLY)

    def _end_wait(self, waiters: list[Waiter]) -> None:
        """A wait is over: waiters that were told "none" leave, others wait for their answer."""
        line = set(self._line)
        trouble = self.outage or self._node.trouble("receive")
        for waiter in waiters:
            was_answered = waiter.patient and waiter in line
            waiter.patient = False
            if waiter.is_done or not (trouble or was_answered):
                continue
            self._line_has_gaps = True
            if trouble is None:
                waiter.dismiss()
            else:
                waiter.fail(trouble, self._node.failing)
            self._plan()

    async def take_one(self) -> Record | None:
        """`take(1, 0)`. hot path: saves a fifth of what a receive costs here."""
        waiter = self.join_one(patient=False)
        try:
            await waiter.future()
        except BaseException:
            self.leave((waiter,))
            raise
        return waiter.take()

    async def _collect(self, waiters: list[Waiter]) -> list[Record]:
        """Wait for the first waiter, and for the others as long as there are more messages."""
        try:
            await waiters[0].future()
            if waiters[0].record is not None:
                for waiter in waiters:
                    waiter.patient = False
                with suppress(*CALL_ERRORS):  # the messages that came are handed out
                    for waiter in waiters:
                        if waiter.record is None and (waiter.is_done or self._more_are_visible()):
                            await waiter.future()
        except BaseException:
            self.leave(waiters)
            raise
        records = [record for waiter in waiters if (record := waiter.take())]
        # A claim that was cut short leaves waiters in front that a later claim serves.
        records.sort(key=lambda record: (float(record.place), record.id))
        if len(records) < len(waiters):
            self.leave(waiters)
        return list({record.id: record for record in records}.values())  # vt=0 may repeat one

    def join(self, count: int, *, patient: bool, mailbox: Mailbox | None = None) -> list[Waiter]:
        """Put waiters at the end of the line; see `Waiter`."""
        loop = self._node.home.admit()
        until = math.inf if patient else self._until()
        waiters = [Waiter(loop, patient, mailbox, until) for _ in range(count)]
        waiters[-1].needs_own_claim = count > 1 and mailbox is None
        self._line += waiters
        if not patient:
            self._flag.is_set = True
        self._plan()
        return waiters

    def join_one(self, *, patient: bool) -> Waiter:
        """`join(1)[0]`. hot path: spares each receive a list and its loop."""
        loop = self._node.home.admit()
        waiter = Waiter(loop, True) if patient else Waiter(loop, False, None, self._until())
        self._line.append(waiter)
        if not patient:
            self._flag.is_set = True
        if not self._look_planned:  # hot path: spares most receives a call of `_plan`
            self._plan()
        return waiter

    def leave(self, waiters: Iterable[Waiter]) -> None:
        """Leave the line. Messages already served go to the next waiters, or back to the queue."""
        unused: list[Record] = []
        self._line_has_gaps = True
        for waiter in waiters:
            if not waiter.is_done:
                waiter.dismiss()
            elif (record := waiter.take()) and not self.is_over(record):
                unused.append(record)
        self._plan()  # to stop listening if nobody is left
        self._pass_on(unused)

    def is_over(self, record: Record) -> bool:
        """Whether a message's lease has ended; a popped message has no lease."""
        return self._leases and float(record.visible) <= self._node.clock.now_ms()

    def close(self) -> None:
        """End the streams and turn everybody away; unused messages go back into the queue."""
        self.audience.end_streams()
        self._look()

    @property
    def outage(self) -> Exception | None:
        """What keeps the line from claiming, if anything."""
        return self._outlook.outage or self._node.failure()

    def look_again(self) -> None:
        """Claim for those who wait: news may have been missed, or the server may be gone."""
        self._flag.is_set = True
        self._plan()

    def has_reason(self) -> bool:
        """Whether a claim may find something: there is news, or a look is due."""
        now = self._now()
        return self._flag.is_set or self._outlook.due_at(now, self._poll_interval) <= now.time

    def _plan(self) -> None:
        if not self._look_planned:
            self._look_planned = True
            self._node.turn.add(self._look)

    def _now(self) -> Moment:
        return Moment(self._node.home.loop().time(), self._node.clock.now_ms())

    def _look(self, is_crowded: bool = False) -> None:
        """Do what `decide` says."""
        self._look_planned = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._line_has_gaps:
            self._line = deque(waiter for waiter in self._line if not waiter.is_done)
            self._line_has_gaps = False
        if self._node.home.closing:
            while self._line:
                self._line.popleft().fail(ClientClosed(), self._node.failing)
        waiting = len(self._line)
        self.audience.note(has_waiters=waiting > 0)
        if not waiting:
            if self._flag.is_urgent and self.audience.holds_messages():
                self._claim(0)
            return
        step = decide(
            self._outlook,
            self._now(),
            waiting=waiting,
            claims_in_flight=self._claims.calls,
            share=self._claims.next_call(waiting, is_crowded or self._node.is_busy()),
            has_news=self._flag.is_set,
            poll_interval=self._poll_interval,
        )
        if isinstance(step, Ask):
            self._claim(step.number)
        elif isinstance(step, WaitUntil):
            self._node.watch(self._flag)
            self._timer = self._node.home.loop().call_at(step.time, self._look)

    def _claim(self, count: int) -> None:
        self._flag.is_urgent = False
        waiters = self._leave_line(count)
        if not self._line:  # otherwise the flag still stands for those who are left
            self._flag.is_set = False
        self._claims.begin(len(waiters))
        self._claimed_for.append(waiters)
        try:
            self._fetch(len(waiters), partial(self._on_claim, waiters))
        except Exception as error:  # noqa: BLE001 - the consumers handle it
            self._on_claim(waiters, error)
        if self._line:
            self._plan()

    def _leave_line(self, count: int) -> list[Waiter]:
        """The first waiters of the line, for a claim.

        Where messages are visible again at once (vt=0), a claim serves at most one caller of
        `receive_many`: the next claim for that caller then finds other messages first.
        """
        if self._outlook.claim_is_leased:
            return [self._line.popleft() for _ in range(count)]
        waiters: list[Waiter] = []
        while len(waiters) < count and not (waiters and waiters[-1].needs_own_claim):
            waiters.append(self._line.popleft())
        return waiters

    def _on_claim(self, waiters: list[Waiter], claim: Claim | Exception) -> None:
        self._claims.end(len(waiters))
        self._claimed_for = [group for group in self._claimed_for if group is not waiters]
        if isinstance(claim, Exception):
            self._fail(waiters, claim)
            if not waiters:  # it was for a pause only, and others still need the news
                self._flag.is_set = True
        else:
            self._outlook = self._outlook_after(claim)
            self._pause.learn(is_on=claim.is_paused)
            if claim.is_paused:
                self.leave(self.audience.withdraw_served())
            moving = self._move_dead(claim)
            if moving is not None and self.is_over(claim.dead[0]):
                # With vt=0 they come with every claim until they are moved.
                moving.add_done_callback(partial(self._on_moved, claim, waiters))
                return
            self._distribute(claim, waiters)
        self._plan()

    def _outlook_after(self, claim: Claim) -> Outlook:
        now = self._node.home.loop().time()
        if not claim.records:
            before = self._outlook
            return Outlook(now, claim.next_ms, before.claim_is_leased, before.distinct_ms)
        first = claim.records[0]
        return Outlook(now, claim.next_ms, not self.is_over(first), float(first.visible) + 1)

    def _on_moved(self, claim: Claim, waiters: list[Waiter], moving: asyncio.Future[bool]) -> None:
        if moving.cancelled() or not moving.result():
            # They could not be moved: leave them alone until the safety poll.
            self._outlook = self._outlook._replace(next_ms=None)
            claim = claim._replace(has_more=False)
        self._distribute(claim, waiters)
        self._plan()

    def _distribute(self, claim: Claim, waiters: list[Waiter]) -> None:
        records = deque(claim.records)
        unserved: list[Waiter] = []
        for waiter in waiters:
            if waiter.is_done:
                continue
            if records:
                waiter.serve(records.popleft())
            elif waiter.patient or claim.has_more:
                unserved.append(waiter)
                if not waiter.patient:  # it needs an answer, even if another claim says "none"
                    self._flag.is_set = True
            else:
                waiter.dismiss()
        self._line.extendleft(reversed(unserved))
        self._pass_on(records)

    def _fail(self, waiters: list[Waiter], error: Exception) -> None:
        """Patient waiters ride out an outage. Everyone else gets the error, and so do all waiters
        if it is not an outage."""
        is_outage = self._node.is_outage(error)
        if is_outage:  # those behind would meet the same error, after waiting as long
            waiters = [*waiters, *self._line]
            self._line.clear()
        waiting = [waiter for waiter in waiters if not waiter.is_done]
        for waiter in waiting:
            if not (is_outage and waiter.patient):
                waiter.fail(error, self._node.failing)
        if is_outage:
            if self._outlook.outage is None:
                _logger.warning("claim failed, retrying: %s", error, extra={"queue": self.qname})
            self._outlook = self._outlook._replace(outage=error, next_ms=0.0)
            self._line.extendleft(waiter for waiter in reversed(waiting) if waiter.patient)

    def _more_are_visible(self) -> bool:
        return self._outlook.more_are_visible(self._node.clock.now_ms())

    def _pass_on(self, records: Iterable[Record]) -> None:
        """Serve the next waiters; hand back what is left over, or all if the queue is paused."""
        unwanted: list[Record] = []
        for record in records:
            while self._line and self._line[0].is_done:
                self._line.popleft()
            if self._line and not self._pause.is_on:
                self._line.popleft().serve(record)
            else:
                unwanted.append(record)
        if unwanted:
            self._hand_back(unwanted)

    def _until(self) -> float:
        """The deadline of a waiter that is not patient."""
        until = self._node.until()
        if not self._deadlines.is_armed:
            self._deadlines.arm(until)
        return until

    def _expire(self, now: float) -> float:
        """Fail the waiters whose deadline has passed; return the next deadline."""
        next_deadline = math.inf
        groups = [(waiters, NO_REPLY) for waiters in self._claimed_for]
        for waiters, reason in [*groups, (self._line, NOT_SENT)]:
            for waiter in [waiter for waiter in waiters if not waiter.is_done]:
                if waiter.until <= now:
                    waiter.fail(self._node.late(reason), self._node.failing)
                    self._line_has_gaps = True
                else:
                    next_deadline = min(next_deadline, waiter.until)
        return next_deadline
