"""Queues: created, described, changed, listed, deleted, emptied."""

from typing import Final

from .._protocol import Keys, check_maxsize, queues_key, whole_seconds
from .._scripts import DEADLINE, Call, Reply, Scripts
from ..errors import InvalidParameterValue, QueueAlreadyExists, QueueDoesNotExist
from ..models import QueueAttributes, utc_from_ms

PURGE_STEP: Final = 200
"""Messages that one script call of a purge deletes: about a millisecond of the server's time."""


async def create_queue(
    scripts: Scripts, keys: Keys, vt: object, delay: object, maxsize: object, exist_ok: bool
) -> bool:
    args = (keys.qname, whole_seconds("vt", vt), whole_seconds("delay", delay), check_maxsize(maxsize))
    three = (*keys.both, keys.queues)
    lately = round(DEADLINE) + 1
    call = Call("create_queue", keys.qname, three, ("first", *args), again=(lately, *args))
    created = await scripts.run(call, _only)
    if not created and not exist_ok:
        raise QueueAlreadyExists(keys.qname)
    return bool(created)


async def delete_queue(scripts: Scripts, keys: Keys, missing_ok: bool) -> bool:
    three = (*keys.both, keys.queues)
    call = Call("delete_queue", keys.qname, three, ("first", keys.qname), again=("retry", keys.qname))
    deleted = await scripts.run(call, _only)
    if not deleted and not missing_ok:
        raise QueueDoesNotExist(keys.qname)
    return bool(deleted)


async def list_queues(scripts: Scripts, ns: str) -> set[str]:
    return await scripts.run(Call("list_queues", "*", (queues_key(ns),), ()), _names)


async def get_queue_attributes(scripts: Scripts, keys: Keys) -> QueueAttributes:
    return await scripts.run(Call("attributes", keys.qname, keys.both, ()), _attributes)


async def set_queue_attributes(
    scripts: Scripts, keys: Keys, vt: object, delay: object, maxsize: object
) -> QueueAttributes:
    changes: list[str | int] = []
    if vt is not None:
        changes += "vt", whole_seconds("vt", vt)
    if delay is not None:
        changes += "delay", whole_seconds("delay", delay)
    if maxsize is not None:
        changes += "maxsize", check_maxsize(maxsize)
    if not changes:
        raise InvalidParameterValue("vt, delay, maxsize", None, "at least one of them must be given")
    return await scripts.run(Call("attributes", keys.qname, keys.both, changes), _attributes)


async def purge(scripts: Scripts, keys: Keys) -> int:
    """Delete as many messages as there are at the first step, first those that are due first."""
    call = Call("purge", keys.qname, keys.both, (PURGE_STEP,), retry_unknown=False)
    deleted, left = await scripts.run(call, _two)
    total, of = deleted, deleted + left
    while deleted and total < of:
        step = min(PURGE_STEP, of - total)
        deleted, _ = await scripts.run(call._replace(args=(step,)), _two)
        total += deleted
    return total


def _only(reply: Reply) -> int:
    (number,) = map(int, reply)
    return number


def _two(reply: Reply) -> tuple[int, int]:
    one, other = map(int, reply)
    return one, other


def _names(reply: Reply) -> set[str]:
    return {name.decode(errors="surrogateescape") for name in reply}


def _attributes(reply: Reply) -> QueueAttributes:
    vt, delay, maxsize, totalrecv, totalsent, created, modified, msgs, hiddenmsgs = map(int, reply)
    return QueueAttributes(
        vt=vt,
        delay=delay,
        maxsize=maxsize,
        totalrecv=totalrecv,
        totalsent=totalsent,
        created=utc_from_ms(created * 1000),
        modified=utc_from_ms(modified * 1000),
        msgs=msgs,
        hiddenmsgs=hiddenmsgs,
    )
