"""Queues: created, described, changed, listed, deleted, emptied."""

from collections.abc import Callable, Sequence
from typing import Final

from .._protocol import Keys, check_max_receives, check_maxsize, check_qname, queues_key, whole_seconds
from .._scripts import DEADLINE, Call, Reply, Scripts
from ..errors import InvalidParameterValue, QueueAlreadyExists, QueueDoesNotExist
from ..models import QueueAttributes, utc_from_ms

_NEEDS_DEAD_LETTER_QUEUE: Final = "needs a dead_letter_queue, given with it or set before"

PURGE_STEP: Final = 200
"""Messages that one script call of a purge deletes: about a millisecond of the server's time."""


async def create_queue(
    scripts: Scripts,
    keys: Keys,
    vt: object,
    delay: object,
    maxsize: object,
    max_receives: object,
    dead_letter_queue: object,
    exist_ok: bool,
) -> bool:
    settings = (keys.qname, whole_seconds("vt", vt), whole_seconds("delay", delay), check_maxsize(maxsize))
    most = "" if max_receives is None else check_max_receives(max_receives)
    if max_receives is not None and dead_letter_queue is None:
        raise InvalidParameterValue("max_receives", max_receives, _NEEDS_DEAD_LETTER_QUEUE)
    name = None if dead_letter_queue is None else _check_dead_letter_queue(keys, dead_letter_queue)
    lately = round(DEADLINE) + 1

    def call(chain: Sequence[str]) -> Call:
        args = (*settings, most, *chain)
        ours = (*keys.both, keys.queues, *_chain_keys(keys, chain))
        return Call("create_queue", keys.qname, ours, ("first", *args), again=(lately, *args))

    (created,) = await _with_chain(scripts, keys.qname, name, call)
    if not created and not exist_ok:
        raise QueueAlreadyExists(keys.qname)
    return bool(created)


async def delete_queue(scripts: Scripts, keys: Keys, missing_ok: bool) -> bool:
    four = (*keys.both, keys.queues, keys.reasons)
    call = Call("delete_queue", keys.qname, four, ("first", keys.qname), again=("retry", keys.qname))
    (deleted,) = await scripts.run(call)
    if not deleted and not missing_ok:
        raise QueueDoesNotExist(keys.qname)
    return bool(deleted)


async def list_queues(scripts: Scripts, ns: str) -> set[str]:
    names = await scripts.run(Call("list_queues", "*", (queues_key(ns),), ()))
    return {name.decode(errors="surrogateescape") for name in names}


async def get_queue_attributes(scripts: Scripts, keys: Keys) -> QueueAttributes:
    return _attributes(await scripts.run(Call("attributes", keys.qname, keys.both, (keys.qname, ""))))


async def set_queue_attributes(
    scripts: Scripts,
    keys: Keys,
    vt: object,
    delay: object,
    maxsize: object,
    max_receives: object,
    dead_letter_queue: object,
) -> QueueAttributes:
    changes: list[str | int] = []
    if vt is not None:
        changes += "vt", whole_seconds("vt", vt)
    if delay is not None:
        changes += "delay", whole_seconds("delay", delay)
    if maxsize is not None:
        changes += "maxsize", check_maxsize(maxsize)
    if max_receives is not None:
        changes += "max_receives", check_max_receives(max_receives)
        if dead_letter_queue == "":
            raise InvalidParameterValue("max_receives", max_receives, _NEEDS_DEAD_LETTER_QUEUE)
    name = None
    if dead_letter_queue is not None:
        name = _check_dead_letter_queue(keys, dead_letter_queue) if dead_letter_queue != "" else None
        changes += "dead_letter_queue", name or ""
    if not changes:
        names = "vt, delay, maxsize, max_receives, dead_letter_queue"
        raise InvalidParameterValue(names, None, "at least one of them must be given")
    needed = "needed" if max_receives is not None and name is None else ""

    def call(chain: Sequence[str]) -> Call:
        ours = (*keys.both, keys.queues, *_chain_keys(keys, chain)) if chain else keys.both
        return Call("attributes", keys.qname, ours, (keys.qname, needed, *changes, *chain))

    reply = await _with_chain(scripts, keys.qname, name, call)
    if reply == [-1]:
        raise InvalidParameterValue("max_receives", max_receives, _NEEDS_DEAD_LETTER_QUEUE)
    return _attributes(reply)


def _check_dead_letter_queue(keys: Keys, name: object) -> str:
    name = check_qname(name, "dead_letter_queue")
    if name == keys.qname:
        raise InvalidParameterValue("dead_letter_queue", name, "must be another queue")
    return name


def _chain_keys(keys: Keys, chain: Sequence[str]) -> list[str]:
    return [keys.of(chain[0]).messages, *(keys.of(name).queue for name in chain)] if chain else []


async def _with_chain(
    scripts: Scripts, qname: str, dead_letter_queue: str | None, call: Callable[[Sequence[str]], Call]
) -> Reply:
    """Make a call that gives a queue its dead-letter queue, unless their dead would go round in a circle.

    The script writes only if it was given the whole chain of dead-letter queues behind that one, and if the chain ends;
    else it says how it goes on. So whatever others change meanwhile, no circle is closed.
    """
    chain = [] if dead_letter_queue is None else [dead_letter_queue]
    while True:
        reply = await scripts.run(call(chain))
        if not (len(reply) == 3 and reply[0] == -1):
            return reply
        del chain[reply[1] :]
        following = reply[2].decode()
        if following in (qname, *chain):
            way = " -> ".join((qname, *chain, following))
            raise InvalidParameterValue("dead_letter_queue", dead_letter_queue, f"closes a circle: {way}")
        chain += [following] if following else []


async def purge(scripts: Scripts, keys: Keys) -> int:
    """Delete as many messages as there are at the first step, first those that are due first."""
    deleted, left = await scripts.run(Call("purge", keys.qname, keys.both, (PURGE_STEP,), retry_unknown=False))
    total, of = deleted, deleted + left
    while deleted and total < of:
        step = min(PURGE_STEP, of - total)
        deleted, _ = await scripts.run(Call("purge", keys.qname, keys.both, (step,), retry_unknown=False))
        total += deleted
    return total


def _attributes(reply: Reply) -> QueueAttributes:
    *numbers, max_receives, dead_letter_queue = reply
    vt, delay, maxsize, totalrecv, totalsent, created, modified, msgs, hiddenmsgs = map(int, numbers)
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
        max_receives=int(max_receives) if max_receives else None,
        dead_letter_queue=dead_letter_queue.decode() or None,
    )
