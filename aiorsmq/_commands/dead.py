"""A message dies: it moves to the dead-letter queue, is looked at there, and is sent back; or it is
dropped.
"""

import asyncio
import logging
import math
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from functools import partial
from itertools import compress
from typing import Any, Final, Literal

from .._callbacks import call_plain, check_plain
from .._protocol import Keys, check_count, check_qname, check_rate
from .._record import Record
from .._server.scripts import Call, Reply, Scripts
from .._server.tasks import Tasks
from .._server.wire import Argument
from ..errors import InvalidParameterValue, NoDeadLetterQueue, QueueDoesNotExist
from ..models import DeadLetter, Death, utc_from_ms
from .receive import Claim, Page, peek

MAX_MOVE: Final = 64
"""Messages that one script call moves at the most, and bytes after which a page of them ends: about
a millisecond.
"""
MAX_MOVE_BYTES: Final = 256 * 1024
MAX_REASON: Final = 500
"""Characters that are kept of a reason."""
REASONS_TTL: Final = 14 * 24 * 3600
"""Seconds after the last death for which the reasons of a dead-letter queue are kept."""

Drop = Literal["", "spent", "rejected"]
"""Messages that may be dropped: none, those received `max_receives` times, or all."""

# What stands for a fence, see `move.lua`.
OVER_MAX_RECEIVES: Final = b""
IF_VISIBLE: Final = b"*"
AT: Final = b"@"
"""Before a score."""

_logger = logging.getLogger(__name__)


class DeadLetters:
    """The dead of one queue on their way to its dead-letter queue; or if it is one, those that lie
    there.
    """

    def __init__(self, scripts: Scripts, keys: Keys, tasks: Tasks, *, announces: bool) -> None:
        self._scripts = scripts
        self._keys = keys
        self._tasks = tasks
        self._announces = announces
        self.queue: str = ""
        """The name of the dead-letter queue, as last heard; "" if there is none."""
        self.max_receives: float = math.inf
        """How often a message may be received, as last heard."""
        self.mourners: list[Callable[[Record, Death, str], None]] = []
        """The first is called with each message that a claim moved or dropped, or that nobody
        reads; and with what has become of it, and the reason.
        """
        self.adopters: list[Callable[[Record], bool]] = []
        """Each is asked whether a message that was received too often is still in hand, and not
        dead yet.
        """

    def note(self, claim: Claim) -> asyncio.Task[bool] | None:
        """Take in what a claim says. Returns the burial of those that were received too often, if
        there are any.
        """
        self.queue, self.max_receives = claim.dead_letter_queue, claim.max_receives
        dead = [
            record for record in claim.dead if not any(adopt(record) for adopt in self.adopters)
        ]
        if not dead:
            return None
        return self.start_burial(dead, "received too often", OVER_MAX_RECEIVES, drop="spent")

    def start_burial(
        self, records: Sequence[Record], reason: str, fence: bytes | None = None, *, drop: Drop = ""
    ) -> asyncio.Task[bool]:
        """`bury` for those who do not wait for it. Its result: whether it went well; else the log
        says so.
        """
        return self._tasks.start(self._bury_quietly(records, reason, fence, drop))

    async def _bury_quietly(
        self, records: Sequence[Record], reason: str, fence: bytes | None, drop: Drop
    ) -> bool:
        try:
            deaths = await self.bury(records, reason, fence, drop=drop)
        except Exception as error:  # noqa: BLE001 - nobody waits for it
            number, queue = len(records), self._keys.qname
            _logger.warning(
                "could not move %d dead messages out of queue %r (%r): %s",
                number,
                queue,
                reason,
                error,
            )
            return False
        if self.mourners:
            for record, death in zip(records, deaths, strict=True):
                if death:
                    self.mourners[0](record, death, reason)
        return True

    async def bury(
        self, records: Sequence[Record], reason: str, fence: bytes | None = None, *, drop: Drop = ""
    ) -> list[Death | None]:
        """Move messages to the dead-letter queue; see `Shared.bury`.

        `fence`: of all, instead of each one's. `drop`: which to drop if the policy says so; else
        they are only moved.
        """
        reason = reason[:MAX_REASON] or "no reason given"
        deaths: list[Death | None] = []
        for at in range(0, len(records), MAX_MOVE):
            some = records[at : at + MAX_MOVE]
            fenced = [(one.id, one.fence if fence is None else fence) for one in some]
            try:
                to, gone = await self._bury(fenced, reason, drop)
            except QueueDoesNotExist:  # and its messages with it, as for `Message.delete`
                to, gone = "", [False] * len(some)
            death: Death = "dead" if to else "dropped"
            deaths.extend(death if is_gone else None for is_gone in gone)
            if to and any(gone):
                _logger.info("moved %d from queue %r to %r", sum(gone), self._keys.qname, to)
            for record in () if to else compress(some, gone):
                id, count = record.id.decode(errors="replace"), int(record.receive_count)
                _logger.warning(
                    "dropped message %s of queue %r, received %d times", id, self._keys.qname, count
                )
        return deaths

    async def _bury(
        self, fenced: list[tuple[bytes, bytes]], reason: str, drop: Drop
    ) -> tuple[str, list[bool]]:
        """Returns where they went, "" if they were dropped, and which have gone."""
        to = self.queue
        while True:
            if to or not drop:  # it is never its own: then the script says which it is
                done, rest = await self._move(to or self._keys.qname, fenced, reason)
            else:
                done, rest = await self._drop(fenced, drop)
            if done:
                return to, list(map(bool, rest))
            asked, self.queue = to, rest[0].decode()
            to = self.queue
            if not to and not (asked and drop):
                raise NoDeadLetterQueue(self._keys.qname)

    async def _drop(
        self, fenced: Sequence[tuple[bytes, bytes]], drop: Drop
    ) -> tuple[int, list[Any]]:
        """One script call, see `drop.lua`."""
        args: list[Argument] = [self._keys.qname, drop, *(word for pair in fenced for word in pair)]
        call = Call(
            "drop",
            self._keys.qname,
            self._keys.both,
            ("first", *args),
            again=lambda: ("retry", *args),
        )
        return await self._scripts.run(call, partial(_read_move, len(fenced)))

    async def _move(
        self, to: str, fenced: Sequence[tuple[bytes, bytes]], reason: str
    ) -> tuple[int, list[Any]]:
        """One script call, see `move.lua`. Without a reason it is the way back, and a missing queue
        is an error.
        """
        keys, other = self._keys, self._keys.of(to)
        channel = other.channel if self._announces else ""
        why = reason.encode(errors="backslashreplace")
        args: list[Argument] = [
            keys.qname,
            to,
            channel,
            why,
            REASONS_TTL,
            *(word for pair in fenced for word in pair),
        ]
        all_keys = (*keys.both, *other.both, keys.queues, (other if reason else keys).reasons)
        call = Call("move", keys.qname, all_keys, ("first", *args), again=lambda: ("retry", *args))
        done, rest = await self._scripts.run(call, partial(_read_move, len(fenced)))
        if done < 0:
            raise QueueDoesNotExist(to)
        return done, rest

    async def reasons(self, limit: int) -> list[DeadLetter]:
        page = await peek(self._scripts, self._keys, limit, reasons=True)
        return [letter for _, letter in self._letters(page)]

    def redrive(
        self, to: object, limit: object, rate: object, where: Callable[[DeadLetter], bool] | None
    ) -> AsyncGenerator[int, None]:
        """Send messages back, see `Queue.redrive`."""
        name = None if to is None else check_qname(to, "to")
        if name == self._keys.qname:
            raise InvalidParameterValue("to", name, "must be another queue")
        at_most = math.inf if limit is None else check_count("limit", limit)
        if where is not None:
            check_plain("where", where)
        return self._redrive(name, at_most, math.inf if rate is None else check_rate(rate), where)

    async def _redrive(
        self, to: str | None, limit: float, rate: float, where: Callable[[DeadLetter], bool] | None
    ) -> AsyncGenerator[int, None]:
        """Page by page; each begins behind the last message that stays."""
        total, told, homeless, started = 0, False, 0, time.monotonic()
        step = int(min(MAX_MOVE, max(1, rate / 10)))
        highest: bytes | str = "now"
        after: tuple[bytes | str, bytes | str] = ("-inf", "")
        more = True
        while more and total < limit:
            page = await peek(
                *(self._scripts, self._keys, MAX_MOVE),
                max_bytes=MAX_MOVE_BYTES,
                highest=highest,
                after=after,
                reasons=True,
            )
            chosen = [
                (to or letter.queue, record)
                for record, letter in self._letters(page)
                if where is None or call_plain("where", where, letter)
            ]
            homeless += sum(not name for name, _ in chosen)
            gone: set[bytes] = set()
            for name, records in _in_steps(chosen, step):
                some = records[: int(min(step, limit - total))]
                if some:
                    await asyncio.sleep(max(0.0, started + total / rate - time.monotonic()))
                    _, moved = await self._move(
                        name, [(record.id, AT + record.place) for record in some], ""
                    )
                    gone.update(record.id for record in compress(some, moved))
                    total, told = total + sum(moved), True
                    yield total
            stay = [record for record in page.records if record.id not in gone]
            if stay:
                after = stay[-1].place, stay[-1].id
            elif not page.records and page.last:  # nothing but entries without a body
                after = page.last
            highest, more = page.highest, page.last is not None
        if homeless:
            _logger.warning(
                "left %d messages in queue %r: it is not known where they came from",
                homeless,
                self._keys.qname,
            )
        if not told:
            yield 0

    def _letters(self, page: Page) -> Iterator[tuple[Record, DeadLetter]]:
        for record, written in zip(page.records, page.reasons, strict=True):
            died_at, receive_count, queue, reason = utc_from_ms(float(record.place)), 0, "", ""
            try:
                ms, count, name, why = written.decode(errors="replace").split(" ", 3)
                died_at, receive_count, queue, reason = (
                    utc_from_ms(int(ms)),
                    int(count),
                    self._origin(name),
                    why,
                )
            except ValueError:  # it has been forgotten, or was another program's
                pass
            id = record.id.decode(errors="surrogateescape")
            yield record, DeadLetter(id, record.raw, reason, died_at, queue, receive_count)

    def _origin(self, name: str) -> str:
        if name == self._keys.qname:
            raise ValueError("a queue is never its own dead-letter queue")
        return check_qname(name)


def _read_move(number: int, reply: Reply) -> tuple[int, list[Any]]:
    done, *rest = reply
    if len(rest) != {1: number, 0: 1, -1: 0}[done]:
        raise ValueError("not as many as there should be")
    return done, rest


def _in_steps(chosen: list[tuple[str, Record]], size: int) -> Iterator[tuple[str, list[Record]]]:
    """Those that go to the same queue together, so many at the most; without those that go to
    none.
    """
    for name in dict.fromkeys(name for name, _ in chosen if name):
        records = [record for to, record in chosen if to == name]
        for at in range(0, len(records), size):
            yield name, records[at : at + size]
