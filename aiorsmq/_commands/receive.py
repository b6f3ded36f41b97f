"""Messages are handed out, or looked at."""

import logging
import math
from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple

from .._protocol import Keys, read_policy
from .._record import Record
from .._server.scripts import Call, Reply, Scripts

MAX_CLAIM: Final = 64
"""Messages that one script call hands out at the most, and bytes after which it stops: about a
millisecond.
"""
MAX_CLAIM_BYTES: Final = 1024 * 1024

_logger = logging.getLogger(__name__)

_new_record: Callable[[tuple[bytes, ...]], Record] = partial(
    tuple[bytes, ...].__new__, Record
)  # half of the cost


class Claim(NamedTuple):
    """What one script call handed out."""

    records: list[Record]
    next_ms: float | None
    """When the first message that is left becomes, or became, visible; None if none is left."""
    more: bool
    """Whether it stopped early: visible messages are left that it did not hand out."""
    dead: list[Record]
    """Those among them that were received too often: not to be handed out, but moved to the
    dead-letter queue, or if there is none, dropped.
    """
    dead_letter_queue: str
    """Its name; "" if there is none."""
    max_receives: float


class Page(NamedTuple):
    """What one look at a queue showed."""

    records: list[Record]
    reasons: list[bytes]
    """Why each came to this queue, as `move.lua` writes it; empty for what is not known."""
    highest: bytes
    """The highest score that was looked at."""
    last: tuple[bytes, bytes] | None
    """Score and id of the last entry that was looked at; None if there are no more."""


def receive(
    scripts: Scripts,
    keys: Keys,
    vt_ms: int | None,
    limit: int,
    answered: Callable[[Claim | Exception], None],
) -> None:
    """Claim up to `limit` visible messages. A lost reply is retried: what it held comes back when
    its lease ends.

    The retry claims one: on a line that loses every large reply, each attempt hides what it claims.
    """
    lease = "" if vt_ms is None else vt_ms
    args = (min(limit, MAX_CLAIM), lease, MAX_CLAIM_BYTES)
    call = Call(
        "receive",
        keys.qname,
        keys.both,
        args,
        lambda: (1, lease, MAX_CLAIM_BYTES),
        holds_messages=True,
    )
    scripts.submit(call, partial(_answer, keys, answered))


def pop(
    scripts: Scripts, keys: Keys, limit: int, answered: Callable[[Claim | Exception], None]
) -> None:
    """Claim and delete up to `limit` visible messages. A lost reply is raised: what it held is
    gone.
    """
    args = (min(limit, MAX_CLAIM), "pop", MAX_CLAIM_BYTES)
    call = Call("receive", keys.qname, keys.both, args, retry_unknown=False, holds_messages=True)
    scripts.submit(call, partial(_answer, keys, answered, popped=True))


async def peek(
    scripts: Scripts,
    keys: Keys,
    limit: int,
    *,
    max_bytes: int = 2**50,
    highest: bytes | str = "+inf",
    after: tuple[bytes | str, bytes | str] = ("-inf", ""),
    reasons: bool = False,
) -> Page:
    """Look at some messages in their order. `highest`: of their scores, or "now"; `after`: score
    and id of the last.
    """
    ours = (*keys.both, keys.reasons) if reasons else keys.both
    return await scripts.run(
        Call("peek", keys.qname, ours, (limit, max_bytes, highest, *after)), _page
    )


def _page(reply: Reply) -> Page:
    up_to, last_id, last_score, *seen = reply
    float(up_to)
    sixes = list(zip(*[iter(seen)] * 6, strict=True))
    records = [
        Record(id, body, count, first, place, place) for id, body, count, first, place, _ in sixes
    ]
    return Page(
        records, [six[5] for six in sixes], up_to, (last_score, last_id) if last_id else None
    )


def _answer(
    keys: Keys,
    answered: Callable[[Claim | Exception], None],
    outcome: Reply | Exception,
    *,
    popped: bool = False,
) -> None:
    answered(outcome if isinstance(outcome, Exception) else _claim(keys, outcome, popped))


def _claim(keys: Keys, reply: Reply, popped: bool) -> Claim:
    next_ms, visible, now, phantoms, max_receives, dead_letter_queue, more, *looked_at = reply
    float(
        visible
    )  # each record will be asked for it, but now is the time to find that it is no number
    records: list[Record] = []
    for due, values, firsts in zip(*[iter(looked_at)] * 3, strict=True):
        ids, places, bodies, counts = due[::2], due[1::2], values[::2], values[1::2]
        earlier = iter(firsts or ())  # some servers say an empty list as nil
        received = [next(earlier) if count else now for count in counts]
        fields = (
            ids,
            bodies,
            [count or b"1" for count in counts],
            received,
            places,
            [visible] * len(ids),
        )
        records += map(_new_record, zip(*fields, strict=True))
    if int(phantoms):
        _logger.warning("removed %d entries without a body from queue %r", phantoms, keys.qname)
        records = [record for record in records if record.raw is not None]  # pyright: ignore[reportUnnecessaryComparison]
    most, name = math.inf, ""
    if max_receives or dead_letter_queue:
        most, name = read_policy(keys.qname, max_receives, dead_letter_queue)
    dead: list[Record] = []
    if (
        most < math.inf and not popped
    ):  # what is popped is gone, and its consumer the last one anyway
        dead = [record for record in records if int(record.receive_count) > most]
        records = (
            [record for record in records if int(record.receive_count) <= most] if dead else records
        )
    return Claim(records, float(next_ms) if next_ms else None, bool(more), dead, name, most)
