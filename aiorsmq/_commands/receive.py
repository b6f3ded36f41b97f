"""Messages are handed out, or looked at."""

import logging
from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple

from .._protocol import Keys
from .._scripts import Call, Reply, Scripts
from ..models import Record

MAX_CLAIM: Final = 64
"""Messages that one script call hands out at the most, and bytes after which it stops: about a millisecond."""
MAX_CLAIM_BYTES: Final = 1024 * 1024

_logger = logging.getLogger(__name__)


class Claim(NamedTuple):
    """What one script call handed out."""

    records: list[Record]
    next_ms: float | None
    """When the first message that is left becomes, or became, visible; None if none is left."""


def receive(
    scripts: Scripts, keys: Keys, vt_ms: int | None, limit: int, answered: Callable[[Claim | Exception], None]
) -> None:
    """Claim up to `limit` visible messages. A lost reply is retried: what it held comes back when its lease ends."""
    args = (min(limit, MAX_CLAIM), "" if vt_ms is None else vt_ms, MAX_CLAIM_BYTES)
    scripts.submit(Call("receive", keys.qname, keys.both, args), partial(_answer, keys, answered))


def pop(scripts: Scripts, keys: Keys, limit: int, answered: Callable[[Claim | Exception], None]) -> None:
    """Claim and delete up to `limit` visible messages. A lost reply is raised: what it held is gone."""
    args = (min(limit, MAX_CLAIM), "pop", MAX_CLAIM_BYTES)
    call = Call("receive", keys.qname, keys.both, args, retry_unknown=False)
    scripts.submit(call, partial(_answer, keys, answered))


async def peek(scripts: Scripts, keys: Keys, limit: int) -> list[Record]:
    return await scripts.run(Call("peek", keys.qname, keys.both, (limit,)), _peeked)


def _peeked(reply: Reply) -> list[Record]:
    fives = zip(*[iter(reply)] * 5, strict=True)
    return [Record(id, body, count, first, place, place) for id, body, count, first, place in fives]


def _answer(keys: Keys, answered: Callable[[Claim | Exception], None], outcome: Reply | Exception) -> None:
    answered(outcome if isinstance(outcome, Exception) else _claim(keys, outcome))


def _claim(keys: Keys, reply: Reply) -> Claim:
    next_ms, visible, now, phantoms, *looked_at = reply
    float(visible)  # each record will be asked for it, but now is the time to find that it is no number
    if int(phantoms):
        _logger.warning("removed %d entries without a body from queue %r", phantoms, keys.qname)
    records: list[Record] = []
    for due, values, firsts in zip(*[iter(looked_at)] * 3, strict=True):
        earlier = iter(firsts or ())  # some servers say an empty list as nil
        records += [
            Record(id, body, count or b"1", next(earlier) if count else now, place, visible)
            for id, place, body, count in zip(due[::2], due[1::2], values[::2], values[1::2], strict=True)
            if body is not None
        ]
    return Claim(records, float(next_ms) if next_ms else None)
