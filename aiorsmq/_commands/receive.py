"""Messages are received, popped, or peeked at."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple

from .._protocol import Keys, read_policy
from .._record import Record
from .._server.call import Call, Reply, RetryPolicy
from .._server.node import Node

# Bounds of one script call: about a millisecond of the server's time.
MAX_CLAIM: Final = 64
"""Messages."""
MAX_CLAIM_BYTES: Final = 1024 * 1024
"""Bytes of bodies, after which the script stops."""

_logger = logging.getLogger("aiorsmq.queue")

# hot path: halves the cost of `Record(...)`.
_new_record: Callable[[tuple[bytes, ...]], Record] = partial(tuple[bytes, ...].__new__, Record)


class Claim(NamedTuple):
    """What one script call handed out."""

    records: list[Record]
    next_ms: float | None
    """When the first message that is left becomes, or became, visible; None if none is left."""
    has_more: bool
    """Whether the script stopped early: it left visible messages behind."""
    dead: list[Record]
    """Messages received too often: not to be handed out, but moved to the dead-letter queue, or
    dropped if there is none."""
    dead_letter_queue: str
    """Its name; "" if there is none."""
    max_receives: float
    """Infinity if there is no limit."""
    is_paused: bool = False
    """Whether nothing was handed out because the queue is paused."""


_PAUSED: Final = Claim([], None, False, [], "", math.inf, is_paused=True)


class Page(NamedTuple):
    """What one look at a queue showed."""

    records: list[Record]
    reasons: list[bytes]
    """Why each message came to this queue, as `move.lua` writes it; empty if not known."""
    highest: bytes
    """The highest score that was looked at."""
    last: tuple[bytes, bytes] | None
    """Score and id of the last entry that was looked at; None if there are no more."""


def receive(
    node: Node,
    keys: Keys,
    vt_ms: int | None,
    limit: int,
    on_claim: Callable[[Claim | Exception], None],
) -> None:
    """Claim up to `limit` visible messages; `vt_ms` None is the queue's vt. With a limit of 0 it
    only looks.

    If the reply is lost, its messages come back when their leases expire, and the call is repeated
    for one message: on a line that loses every large reply, each attempt hides what it claims.
    """
    lease = "" if vt_ms is None else vt_ms
    call = Call(
        "receive",
        keys.qname,
        keys.pair,
        (min(limit, MAX_CLAIM), lease, MAX_CLAIM_BYTES),
        RetryPolicy.SAFE_WITH_MARK,
        lambda: (min(limit, 1), lease, MAX_CLAIM_BYTES),
        holds_messages=True,
    )
    node.submit(call, partial(_on_reply, keys, on_claim))


def pop(node: Node, keys: Keys, limit: int, on_claim: Callable[[Claim | Exception], None]) -> None:
    """Claim and delete up to `limit` visible messages. If the reply is lost, its messages are gone,
    and the error is raised."""
    args = (min(limit, MAX_CLAIM), "pop", MAX_CLAIM_BYTES)
    policy = RetryPolicy.NEVER_IF_UNKNOWN
    call = Call("receive", keys.qname, keys.pair, args, policy, holds_messages=True)
    node.submit(call, partial(_on_reply, keys, on_claim, popped=True))


async def peek(
    node: Node,
    keys: Keys,
    limit: int,
    *,
    max_bytes: int = 2**50,
    highest: bytes | str = "+inf",
    after: tuple[bytes | str, bytes | str] = ("-inf", ""),
    reasons: bool = False,
) -> Page:
    """Look at messages in their order, and receive none.

    Args:
        max_bytes: of bodies, after which the page ends.
        highest: the highest score to look at, or "now".
        after: score and id of the last entry of the page before.
        reasons: whether to read why each message came to this queue.
    """
    all_keys = (*keys.pair, keys.reasons) if reasons else keys.pair
    call = Call("peek", keys.qname, all_keys, (limit, max_bytes, highest, *after))
    return await node.run(call, _read_page)


def _read_page(reply: Reply) -> Page:
    highest, last_id, last_score, *fields = reply
    float(highest)  # raises now, if the reply is not a page
    records: list[Record] = []
    reasons: list[bytes] = []
    for id, body, count, first_received, score, reason in zip(*[iter(fields)] * 6, strict=True):
        records.append(Record(id, body, count, first_received, score, score))
        reasons.append(reason)
    return Page(records, reasons, highest, (last_score, last_id) if last_id else None)


def _on_reply(
    keys: Keys,
    on_claim: Callable[[Claim | Exception], None],
    outcome: Reply | Exception,
    *,
    popped: bool = False,
) -> None:
    on_claim(outcome if isinstance(outcome, Exception) else _read_claim(keys, outcome, popped))


def _read_claim(keys: Keys, reply: Reply, popped: bool) -> Claim:
    if reply == [b"paused"]:
        return _PAUSED
    next_ms, visible, now, phantoms, max_receives, dead_letter_queue, has_more, *pages = reply
    float(visible)  # raises now, if the reply is not a claim: each record is asked for it later
    records: list[Record] = []
    for due, values, first_receipts in zip(*[iter(pages)] * 3, strict=True):
        records += _read_records(due, values, first_receipts, now, visible)
    if int(phantoms):
        text = "removed %d entries without a body from queue %r"
        _logger.warning(text, phantoms, keys.qname, extra={"queue": keys.qname})
        records = [record for record in records if record.raw is not None]  # pyright: ignore[reportUnnecessaryComparison]
    limit = math.inf
    target = ""
    if max_receives or dead_letter_queue:
        limit, target = read_policy(keys.qname, max_receives, dead_letter_queue)
    dead: list[Record] = []
    if limit < math.inf and not popped:  # a pop ends the message anyway
        dead = [record for record in records if int(record.receive_count) > limit]
        if dead:
            records = [record for record in records if int(record.receive_count) <= limit]
    return Claim(records, float(next_ms) if next_ms else None, bool(has_more), dead, target, limit)


def _read_records(
    due: list[bytes],
    values: list[bytes],
    first_receipts: list[bytes] | None,
    now: bytes,
    visible: bytes,
) -> map[Record]:
    """The messages of one page of `receive.lua`: ids and scores, bodies and counts, and the first
    receipts of those that have been received before."""
    ids = due[::2]
    counts = values[1::2]
    earlier = iter(first_receipts or ())  # some servers send an empty list as nil
    received = [next(earlier) if count else now for count in counts]
    fields = (
        ids,
        values[::2],
        [count or b"1" for count in counts],
        received,
        due[1::2],
        [visible] * len(ids),
    )
    return map(_new_record, zip(*fields, strict=True))
