"""Messages die: they move to the dead-letter queue, are looked at there, and are sent back. Without
a dead-letter queue they may be dropped."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import compress
from typing import Any, Final, Literal, NamedTuple, Protocol

from .._callbacks import call_plain, check_plain
from .._protocol import Keys, check_count, check_qname, check_rate, utc_from_ms
from .._record import Record, log_fields
from .._server.call import Call, Reply, RetryPolicy
from .._server.node import Node
from .._server.wire import Argument
from ..errors import InvalidParameterValue, NoDeadLetterQueue, QueueDoesNotExist
from ..models import DeadLetter, Death
from .reasons import UNKNOWN, read_death
from .receive import Claim, Page, peek

# Bounds of one script call: about a millisecond of the server's time.
MAX_MOVE: Final = 64
"""Messages."""
MAX_MOVE_BYTES: Final = 256 * 1024
"""Bytes of bodies, after which a page ends."""
MAX_REASON: Final = 500
"""Characters that are kept of a reason."""
REASONS_TTL: Final = 14 * 24 * 3600
"""Seconds after the last death for which the reasons of a dead-letter queue are kept."""

Drop = Literal["", "spent", "rejected"]
"""Messages that may be dropped: none, those received `max_receives` times, or all."""

# These stand for a fence, see `move.lua`.
OVER_MAX_RECEIVES: Final = b""
IF_VISIBLE: Final = b"*"
AT_SCORE: Final = b"@"
"""Followed by the score."""

_logger = logging.getLogger("aiorsmq.queue")


class Observer(Protocol):
    """A worker, as the dead letters of its queue see it."""

    def still_holds(self, record: Record) -> bool:
        """Whether a message that was received too often is being handled here, and not dead yet."""
        ...

    def on_death(self, record: Record, death: Death, reason: str) -> None:
        """A message has died in the background: a claim found it, or the codec cannot decode it."""
        ...


class DeadLetters:
    """The dead letters of one queue: those that leave it, or if it is a dead-letter queue, those
    that are in it."""

    def __init__(self, node: Node, keys: Keys) -> None:
        self._node = node
        self._keys = keys
        self._observers: list[Observer] = []
        self.queue: str = ""
        """The name of the dead-letter queue, as last heard; "" if there is none."""
        self.max_receives: float = math.inf
        """How often a message may be received, as last heard; infinity if there is no limit."""

    @contextmanager
    def observed_by(self, observer: Observer) -> Generator[None]:
        """Ask the observer about each message that was received too often, and tell it of deaths.

        Of several observers only the first is told of a death, so that each is counted once.
        """
        self._observers.append(observer)
        try:
            yield
        finally:
            self._observers.remove(observer)

    def move_dead(self, claim: Claim) -> asyncio.Task[bool] | None:
        """Move the dead messages of a claim away, and remember the settings that it told.

        Returns the task of `start_burial`; None if none is dead.
        """
        if claim.is_paused:  # it told nothing
            return None
        self.queue = claim.dead_letter_queue
        self.max_receives = claim.max_receives
        dead = [record for record in claim.dead if not self._is_held(record)]
        if not dead:
            return None
        return self.start_burial(dead, "received too often", OVER_MAX_RECEIVES, drop="spent")

    def _is_held(self, record: Record) -> bool:
        return any(observer.still_holds(record) for observer in self._observers)

    def start_burial(
        self, records: Sequence[Record], reason: str, fence: bytes | None = None, *, drop: Drop = ""
    ) -> asyncio.Task[bool]:
        """`bury` in a task. Its result: whether it succeeded; a failure is logged."""
        return self._node.tasks.start(self._bury_in_background(records, reason, fence, drop))

    async def _bury_in_background(
        self, records: Sequence[Record], reason: str, fence: bytes | None, drop: Drop
    ) -> bool:
        for start in range(0, len(records), MAX_MOVE):
            step = records[start : start + MAX_MOVE]
            try:
                deaths = await self.bury(step, reason, fence, drop=drop)
            except Exception as error:  # noqa: BLE001 - nobody awaits this task
                text = "could not move %d dead messages out of queue %r, where they stay (%r): %s"
                number = len(records) - start
                extra = {"queue": self._keys.qname, "reason": reason}
                _logger.warning(text, number, self._keys.qname, reason, error, extra=extra)
                return False
            for record, death in zip(step, deaths, strict=True):
                if death:
                    self._tell(record, death, reason)
        return True

    def _tell(self, record: Record, death: Death, reason: str) -> None:
        """Log a death, and tell the first observer."""
        extra = log_fields(self._keys, record, reason=reason)
        if death == "dead":
            text = "moved message %s of queue %r to dead-letter queue %r: %s"
            args = (self.queue, reason)
        else:
            text = "dropped message %s of queue %r, which has no dead-letter queue: %s"
            args = (reason,)
        _logger.warning(text, extra["id"], extra["queue"], *args, extra=extra)
        for observer in self._observers[:1]:
            observer.on_death(record, death, reason)

    async def bury(
        self, records: Sequence[Record], reason: str, fence: bytes | None = None, *, drop: Drop = ""
    ) -> list[Death | None]:
        """Move messages to the dead-letter queue; see `QueueCore.bury`.

        Args:
            fence: for all of them, instead of each one's own.
            drop: which to drop if the queue's settings say so; others are only moved.
        """
        reason = reason[:MAX_REASON] or "no reason given"
        deaths: list[Death | None] = []
        for start in range(0, len(records), MAX_MOVE):
            deaths += await self._bury_step(records[start : start + MAX_MOVE], reason, fence, drop)
        return deaths

    async def _bury_step(
        self, records: Sequence[Record], reason: str, fence: bytes | None, drop: Drop
    ) -> list[Death | None]:
        fenced = [(record.id, record.fence if fence is None else fence) for record in records]
        try:
            target, moves = await self._move_or_drop(fenced, reason, drop)
        except QueueDoesNotExist:  # its messages do not exist either, as for `Message.delete`
            return [None] * len(records)
        if target:
            return ["dead" if has_moved else None for has_moved in moves]
        return ["dropped" if has_moved else None for has_moved in moves]

    async def _move_or_drop(
        self, fenced: list[tuple[bytes, bytes]], reason: str, drop: Drop
    ) -> tuple[str, list[bool]]:
        """Returns where the messages went, "" if they were dropped, and which are gone.

        A script that was told the wrong dead-letter queue does nothing and says which it is.
        """
        target = self.queue
        while True:
            if target or not drop:
                # A queue is never its own dead-letter queue: its own name asks for the right one.
                status, values = await self._move(target or self._keys.qname, fenced, reason)
            else:
                status, values = await self._drop(fenced, drop)
            if status:
                return target, list(map(bool, values))
            previous = target
            target = self.queue = values[0].decode()
            if not target and not (previous and drop):
                raise NoDeadLetterQueue(self._keys.qname)

    async def _drop(
        self, fenced: Sequence[tuple[bytes, bytes]], drop: Drop
    ) -> tuple[int, list[Any]]:
        """One call of `drop.lua`."""
        args: list[Argument] = [self._keys.qname, drop, *(word for pair in fenced for word in pair)]
        call = Call(
            "drop",
            self._keys.qname,
            self._keys.pair,
            ("first", *args),
            RetryPolicy.SAFE_WITH_MARK,
            lambda: ("retry", *args),
        )
        return await self._node.run(call, partial(_read_move, len(fenced)))

    async def _move(
        self, target: str, fenced: Sequence[tuple[bytes, bytes]], reason: str
    ) -> tuple[int, list[Any]]:
        """One call of `move.lua`. Without a reason it is the way back: then a missing queue is an
        error."""
        keys = self._keys
        destination = keys.sibling(target)
        args: list[Argument] = [
            keys.qname,
            target,
            destination.channel if self._node.realtime else "",
            reason.encode(errors="backslashreplace"),
            REASONS_TTL,
            *(word for pair in fenced for word in pair),
        ]
        dead_letters = destination if reason else keys
        call = Call(
            "move",
            keys.qname,
            (*keys.pair, *destination.pair, keys.queues, dead_letters.reasons),
            ("first", *args),
            RetryPolicy.SAFE_WITH_MARK,
            lambda: ("retry", *args),
        )
        status, values = await self._node.run(call, partial(_read_move, len(fenced)))
        if status < 0:
            raise QueueDoesNotExist(target)
        return status, values

    async def reasons(self, limit: int) -> list[DeadLetter]:
        """See `Queue.reasons`."""
        page = await peek(self._node, self._keys, limit, reasons=True)
        return [letter for _, letter in self._letters(page)]

    def redrive(
        self,
        to: object,
        limit: object,
        rate: object,
        where: Callable[[DeadLetter], bool] | None,
        reason: object,
    ) -> AsyncGenerator[int, None]:
        """See `Queue.redrive`."""
        target = None if to is None else check_qname(to, "to")
        if target == self._keys.qname:
            raise InvalidParameterValue("to", target, "must be another queue")
        limit_count = math.inf if limit is None else check_count("limit", limit)
        if where is not None:
            check_plain("where", where, "def where(letter):")
        limit_rate = math.inf if rate is None else check_rate(rate)
        if reason is not None and not isinstance(reason, str):
            raise InvalidParameterValue("reason", reason, "must be a str or None")

        def is_selected(letter: DeadLetter) -> bool:
            if reason is not None and letter.group != reason:
                return False
            return where is None or call_plain("where", where, letter)

        return self._redrive(target, limit_count, limit_rate, is_selected)

    async def _redrive(
        self,
        target: str | None,
        limit: float,
        rate: float,
        is_selected: Callable[[DeadLetter], bool],
    ) -> AsyncGenerator[int, None]:
        """Page by page; each page begins after the last message that stays."""
        moved = 0
        yielded = False
        without_origin = 0
        started = time.monotonic()
        step = int(min(MAX_MOVE, max(1, rate / 10)))
        cursor = _Cursor()
        while cursor.has_more and moved < limit:
            page = await cursor.read(self._node, self._keys)
            selected = [
                (target or letter.queue, record)
                for record, letter in self._letters(page)
                if is_selected(letter)
            ]
            without_origin += sum(not qname for qname, _ in selected)
            moved_ids: set[bytes] = set()
            for qname, group in _in_steps(selected, step):
                records = group[: int(min(step, limit - moved))]
                if records:
                    await asyncio.sleep(max(0.0, started + moved / rate - time.monotonic()))
                    fenced = [(record.id, AT_SCORE + record.place) for record in records]
                    _, flags = await self._move(qname, fenced, "")
                    moved_ids.update(record.id for record in compress(records, flags))
                    moved += sum(flags)
                    yielded = True
                    yield moved
            cursor.advance(page, moved_ids)
        if without_origin:
            text = "left %d messages in queue %r, whose origin is not known: use redrive(to=...)"
            extra = {"queue": self._keys.qname}
            _logger.warning(text, without_origin, self._keys.qname, extra=extra)
        if not yielded:
            yield 0

    def _letters(self, page: Page) -> Iterator[tuple[Record, DeadLetter]]:
        for record, written in zip(page.records, page.reasons, strict=True):
            death = read_death(self._keys, written)
            died_ms = float(record.place) if death is UNKNOWN else death.ms
            yield (
                record,
                DeadLetter(
                    record.id.decode(errors="surrogateescape"),
                    record.raw,
                    death.reason,
                    utc_from_ms(died_ms),
                    death.queue,
                    death.receive_count,
                ),
            )


class _Cursor:
    """Where a redrive is in its dead-letter queue."""

    def __init__(self) -> None:
        self.has_more = True
        self._highest: bytes | str = "now"
        self._after: tuple[bytes | str, bytes | str] = ("-inf", "")

    async def read(self, node: Node, keys: Keys) -> Page:
        return await peek(
            node,
            keys,
            MAX_MOVE,
            max_bytes=MAX_MOVE_BYTES,
            highest=self._highest,
            after=self._after,
            reasons=True,
        )

    def advance(self, page: Page, moved_ids: set[bytes]) -> None:
        """Go on after the last message of a page that is still there.

        What the first page showed as the highest score stays the end: a message that dies again is
        not moved twice.
        """
        staying = [record for record in page.records if record.id not in moved_ids]
        if staying:
            self._after = (staying[-1].place, staying[-1].id)
        elif not page.records and page.last:  # a page of nothing but entries without a body
            self._after = page.last
        self._highest = page.highest
        self.has_more = page.last is not None


class _Moved(NamedTuple):
    """The reply of `move.lua` and `drop.lua`."""

    status: int
    """1 if done; 0 if told the wrong dead-letter queue; -1 if the target does not exist."""
    values: list[Any]
    """For each message whether it is gone; or the name of the right dead-letter queue."""


def _read_move(number: int, reply: Reply) -> _Moved:
    status, *values = reply
    if len(values) != {1: number, 0: 1, -1: 0}[status]:
        raise ValueError("unexpected number of values")
    return _Moved(status, values)


def _in_steps(selected: list[tuple[str, Record]], size: int) -> Iterator[tuple[str, list[Record]]]:
    """Groups of at most `size` messages that go to the same queue; without those whose queue is not
    known."""
    for qname in dict.fromkeys(qname for qname, _ in selected if qname):
        records = [record for target, record in selected if target == qname]
        for start in range(0, len(records), size):
            yield qname, records[start : start + size]
