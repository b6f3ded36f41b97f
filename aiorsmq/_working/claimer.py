"""Claims messages of a worker's queues while handlers are free."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import Final, Generic, TypeVar

from .._record import Record
from ..errors import QueueDoesNotExist
from .intake import Intake
from .jobs import Jobs

T = TypeVar("T")

MAX_TAKEN: Final = 256
"""Messages that are claimed at a time."""
PATIENCE: Final = 1.0
"""Seconds without a byte from a queue's server after which the other queues are served: they may be
on other servers."""


class Claimer(Generic[T]):
    """Starts jobs for messages of several queues, in order of priority or by weight."""

    def __init__(
        self, intakes: Sequence[Intake[T]], weights: Sequence[float] | None, jobs: Jobs[T]
    ) -> None:
        self._intakes = intakes
        self._weights = weights
        self._jobs = jobs

    async def claim(self, stopping: asyncio.Event) -> None:
        """Claim for free handlers from each queue that may have messages; otherwise wait for
        news."""
        jobs = self._jobs
        try:
            while not stopping.is_set():
                while not jobs.free():
                    await jobs.wait_for_change()
                found = False
                for intake in self._in_turn():
                    if jobs.free() and intake.may_have_messages():
                        found |= self._start_all(intake, await self._take(intake))
                if not found:
                    await self._wait_for_news()
        finally:
            for intake in self._intakes:
                intake.end_probe()

    async def _take(self, intake: Intake[T]) -> Sequence[Record]:
        limit = min(self._jobs.free(), MAX_TAKEN)
        if len(self._intakes) == 1:
            return await intake.take(limit)
        if intake.probe is not None:
            return intake.read_probe(intake.probe)
        now = asyncio.get_running_loop().time()
        with intake.core.node.while_heard("receive", now, PATIENCE):
            return await intake.take(limit)
        intake.begin_probe()
        return ()

    def _start_all(self, intake: Intake[T], records: Sequence[Record]) -> bool:
        """Start jobs for claimed messages; not if their lease is over: others may have them."""
        if not records or intake.line.is_over(records[0]):
            return False
        for record in records:
            self._jobs.start(intake, record)
        return True

    def _in_turn(self) -> Iterable[Intake[T]]:
        """All queues, in the order in which to ask them; drawn at random if they have weights."""
        if self._weights is None:
            return self._intakes
        draws = [random.random() ** (1 / weight) for weight in self._weights]
        pairs = zip(draws, self._intakes, strict=True)
        return [intake for _, intake in sorted(pairs, key=itemgetter(0), reverse=True)]

    async def _wait_for_news(self) -> None:
        """Wait in the line of each queue until one has a message, or until it is time to look for
        a missing queue."""
        timeout = self._seconds_to_next_look()
        intakes = [intake for intake in self._intakes if not intake.is_missing]
        if not intakes:
            await asyncio.sleep(timeout or 0)
            return
        waiters = [intake.probe or intake.line.join_one(patient=True) for intake in intakes]
        try:
            futures = [waiter.future() for waiter in waiters]
            await asyncio.wait(futures, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            for intake, waiter, future in zip(intakes, waiters, futures, strict=True):
                if not future.done() or waiter is intake.probe:
                    continue
                try:
                    future.result()
                except QueueDoesNotExist:
                    intake.note_missing()
                    continue
                if self._jobs.free() and (record := waiter.take()):
                    self._start_all(intake, [record])
        finally:
            for intake, waiter in zip(intakes, waiters, strict=True):
                if waiter is not intake.probe:
                    intake.line.leave((waiter,))

    def _seconds_to_next_look(self) -> float | None:
        """Until a missing queue is looked for; None if none is missing."""
        looks = [intake.look_at for intake in self._intakes if intake.is_missing]
        return max(0.0, min(looks) - asyncio.get_running_loop().time()) if looks else None
