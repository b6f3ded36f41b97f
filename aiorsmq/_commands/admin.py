"""Queues: created, described, changed, listed, deleted, emptied."""

import asyncio
import math
from collections.abc import Callable, Sequence
from functools import partial
from secrets import token_hex
from typing import Final, NamedTuple, TypeVar

from .._protocol import (
    Keys,
    check_max_receives,
    check_maxsize,
    check_qname,
    queues_key,
    whole_seconds,
)
from .._server.scripts import Call, Reply, Scripts
from ..errors import InvalidParameterValue, QueueAlreadyExists, QueueDoesNotExist
from ..models import QueueAttributes, utc_from_ms

T = TypeVar("T")

PURGE_STEP: Final = 200
"""Messages that one script call of a purge deletes: about a millisecond of the server's time."""
PURGE_STEPS: Final = 8
"""Calls of a purge that are under way at once at the most: a slow line would make it take as much
longer.
"""


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
    settings = (
        keys.qname,
        whole_seconds("vt", vt),
        whole_seconds("delay", delay),
        check_maxsize(maxsize),
    )
    most = "" if max_receives is None else check_max_receives(max_receives)
    name = None if dead_letter_queue is None else _check_dead_letter_queue(keys, dead_letter_queue)
    lately = math.ceil(scripts.deadline) + 1

    def call(chain: Sequence[str]) -> Call:
        args = (*settings, most, *chain)
        ours = (*keys.both, keys.queues, *_chain_keys(keys, chain))
        return Call(
            "create_queue", keys.qname, ours, ("first", *args), again=lambda: (lately, *args)
        )

    created = await _with_chain(scripts, keys.qname, name, call, _only)
    if not created and not exist_ok:
        raise QueueAlreadyExists(keys.qname)
    return bool(created)


async def delete_queue(scripts: Scripts, keys: Keys, missing_ok: bool) -> bool:
    side_keys = keys.reasons, keys.purged, keys.deleted
    args = (
        keys.qname,
        token_hex(8),
        2 * math.ceil(scripts.deadline),
    )  # longer than it may be repeated
    call = Call(
        *("delete_queue", keys.qname, (*keys.both, keys.queues, *side_keys), ("first", *args)),
        again=lambda: ("retry", *args),
    )
    until = scripts.until()
    deleted = await scripts.run(call, _only, until)
    if deleted:
        forgetting = scripts.run(call._replace(args=("forget", *args), repeat=False), until=until)
        await asyncio.gather(
            forgetting, return_exceptions=True
        )  # if it fails: the server forgets by itself
    elif not missing_ok:
        raise QueueDoesNotExist(keys.qname)
    return bool(deleted)


async def list_queues(scripts: Scripts, ns: str) -> set[str]:
    return await scripts.run(Call("list_queues", "*", (queues_key(ns),), ()), _names)


async def get_queue_attributes(scripts: Scripts, keys: Keys) -> QueueAttributes:
    return await scripts.run(Call("attributes", keys.qname, keys.both, (keys.qname,)), _attributes)


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
    name = None
    if dead_letter_queue is not None:
        name = (
            _check_dead_letter_queue(keys, dead_letter_queue) if dead_letter_queue != "" else None
        )
        changes += "dead_letter_queue", name or ""
    if max_receives is not None:
        changes += "max_receives", check_max_receives(max_receives, at_least=0) or ""
    elif dead_letter_queue == "":  # what had somewhere to go must not be dropped now
        changes += "max_receives", ""
    if not changes:
        names = "vt, delay, maxsize, max_receives, dead_letter_queue"
        raise InvalidParameterValue(names, None, "at least one of them must be given")

    def call(chain: Sequence[str]) -> Call:
        ours = (*keys.both, keys.queues, *_chain_keys(keys, chain)) if chain else keys.both
        return Call("attributes", keys.qname, ours, (keys.qname, *changes, *chain))

    return await _with_chain(scripts, keys.qname, name, call, _attributes)


def _check_dead_letter_queue(keys: Keys, name: object) -> str:
    name = check_qname(name, "dead_letter_queue")
    if name == keys.qname:
        raise InvalidParameterValue("dead_letter_queue", name, "must be another queue")
    return name


def _chain_keys(keys: Keys, chain: Sequence[str]) -> list[str]:
    return [keys.of(chain[0]).messages, *(keys.of(name).queue for name in chain)] if chain else []


async def _with_chain(
    scripts: Scripts,
    qname: str,
    dead_letter_queue: str | None,
    call: Callable[[Sequence[str]], Call],
    read: Callable[[Reply], T],
) -> T:
    """Make a call that gives a queue its dead-letter queue, unless their dead would go round in a
    circle.

    The script writes only if it was given the whole chain of dead-letter queues behind that one,
    and if the chain ends; else it says how it goes on. So whatever others change meanwhile, no
    circle is closed.
    """
    chain, until = [] if dead_letter_queue is None else [dead_letter_queue], scripts.until()
    while True:
        result = await scripts.run(call(chain), partial(_or_following, read), until)
        if not isinstance(result, _Following):
            return result
        right, following = result
        del chain[right:]
        if following in (qname, *chain):
            way = " -> ".join((qname, *chain, following))
            raise InvalidParameterValue(
                "dead_letter_queue", dead_letter_queue, f"closes a circle: {way}"
            )
        chain += [following] if following else []


async def purge(scripts: Scripts, keys: Keys) -> int:
    """Take all messages out at once, then delete them step by step; after what an earlier purge has
    left.
    """

    def call(what: str, *, retry_unknown: bool) -> Call:
        all_keys = *keys.both, keys.purged
        return Call("purge", keys.qname, all_keys, (what, PURGE_STEP), retry_unknown=retry_unknown)

    taken, left = -1, 0
    while taken < 0:  # not repeated: it would take out what was sent since
        taken, left = await scripts.run(call("begin", retry_unknown=False), _two)
    while left:
        steps = min(-(-left // PURGE_STEP), PURGE_STEPS)
        step = call("go on", retry_unknown=True)
        done = await asyncio.gather(*(scripts.run(step, _two) for _ in range(steps)))
        left = min(left for _, left in done)
    return taken


class _Following(NamedTuple):
    """How a chain of dead-letter queues goes on, of which not all was given."""

    right: int
    name: str


def _or_following(read: Callable[[Reply], T], reply: Reply) -> T | _Following:
    if len(reply) == 3 and reply[0] == -1:
        return _Following(int(reply[1]), reply[2].decode())
    return read(reply)


def _only(reply: Reply) -> int:
    (number,) = map(int, reply)
    return number


def _two(reply: Reply) -> tuple[int, int]:
    one, other = map(int, reply)
    return one, other


def _names(reply: Reply) -> set[str]:
    return {name.decode(errors="surrogateescape") for name in reply}


def _attributes(reply: Reply) -> QueueAttributes:
    *numbers, max_receives, dead_letter_queue = reply
    vt, delay, maxsize, totalrecv, totalsent, created, modified, msgs, hiddenmsgs = map(
        int, numbers
    )
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
