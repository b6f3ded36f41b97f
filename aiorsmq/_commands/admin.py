"""Queues: created, described, changed, listed, deleted, emptied."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from secrets import token_hex
from typing import Final, Literal, NamedTuple, TypeVar

from .._protocol import (
    DEFAULT_DELAY,
    DEFAULT_MAXSIZE,
    DEFAULT_VT,
    Keys,
    Seconds,
    check_max_receives,
    check_maxsize,
    check_qname,
    queues_key,
    utc_from_ms,
    whole_seconds,
)
from .._server.call import Call, Reply, RetryPolicy, single_int
from .._server.node import Node
from ..errors import InvalidParameterValue, QueueAlreadyExists, QueueDoesNotExist
from ..models import Ensured, QueueAttributes, QueueSettings, SettingValue

T = TypeVar("T")

PURGE_STEP: Final = 200
"""Messages deleted by one script call of a purge: about a millisecond of the server's time."""
PURGE_CALLS: Final = 8
"""Calls of a purge in flight at once: on a slow line, one at a time takes longer."""

_DEFAULTS: Final[dict[str, str | int]] = {
    "vt": DEFAULT_VT,
    "delay": DEFAULT_DELAY,
    "maxsize": DEFAULT_MAXSIZE,
    "max_receives": "",
    "dead_letter_queue": "",
}
"""As a queue's hash stores them; "" stands for none."""

_logger = logging.getLogger("aiorsmq.queue")


def queue_settings(
    vt: Seconds | None,
    delay: Seconds | None,
    maxsize: int | None,
    max_receives: int | None,
    dead_letter_queue: str | None,
) -> QueueSettings:
    """The settings in the order of the signatures that have them."""
    return QueueSettings(
        vt=vt,
        delay=delay,
        maxsize=maxsize,
        max_receives=max_receives,
        dead_letter_queue=dead_letter_queue,
    )


async def create_queue(
    node: Node, keys: Keys, settings: QueueSettings, *, exist_ok: bool = False
) -> bool:
    """See `Queue.create`."""
    checked = _check_settings(keys, settings, may_clear=False)
    created, differences = await _create_or_compare(node, keys, checked, "keep")
    if not created and not exist_ok:
        raise QueueAlreadyExists(keys.qname)
    if differences:
        pairs = differences.items()
        found = "; ".join(f"{name} is {old!r}, not {new!r}" for name, (old, new) in pairs)
        text = "queue %r exists with other settings: %s; use ensure(...) to change them"
        _logger.warning(text, keys.qname, found, extra={"queue": keys.qname})
    return created


async def ensure_queue(node: Node, keys: Keys, settings: QueueSettings) -> Ensured:
    """See `Queue.ensure`."""
    changes = _check_changes(keys, settings)
    return Ensured(*await _create_or_compare(node, keys, changes, "change"))


async def _create_or_compare(
    node: Node, keys: Keys, named: dict[str, str | int], mode: Literal["keep", "change"]
) -> _Creation:
    """One call of `create_queue.lua`: what to do with the settings of a queue that exists is its
    mode."""
    settings = named | {name: _DEFAULTS[name] for name in _DEFAULTS if name not in named}
    words = [word for setting in settings.items() for word in setting]
    lately = math.ceil(node.deadline) + 1

    def call(chain: Sequence[str]) -> Call:
        args = (keys.qname, mode, len(named), *words, *chain)
        all_keys = (*keys.pair, keys.queues, *_chain_keys(keys, chain))
        return Call(
            "create_queue",
            keys.qname,
            all_keys,
            ("first", *args),
            RetryPolicy.SAFE_WITH_MARK,
            lambda: (lately, *args),
        )

    def read(reply: Reply) -> _Creation:
        creation = _read_creation(named, reply)
        if mode == "change":  # here, because the caller may have been cancelled
            _log_changes(keys.qname, Ensured(*creation))
        return creation

    return await _run_with_chain(node, keys.qname, str(settings["dead_letter_queue"]), call, read)


def _log_changes(qname: str, ensured: Ensured) -> None:
    if ensured.created or ensured.changed:
        _logger.info("queue %r: %s", qname, ensured, extra={"queue": qname})


async def delete_queue(node: Node, keys: Keys, *, missing_ok: bool = False) -> bool:
    """See `Queue.delete`."""
    all_keys = (*keys.pair, keys.queues, keys.reasons, keys.purged, keys.deleted)
    memory = 2 * math.ceil(node.deadline)  # seconds: longer than the call may be repeated
    args = (keys.qname, token_hex(8), memory)
    policy = RetryPolicy.SAFE_WITH_MARK
    call = Call(
        "delete_queue", keys.qname, all_keys, ("first", *args), policy, lambda: ("retry", *args)
    )
    until = node.until()
    deleted = await node.run(call, single_int, until)
    if deleted:
        forget = call._replace(args=("forget", *args), policy=RetryPolicy.NEVER)
        # A failure does no harm: the server forgets by itself.
        await asyncio.gather(node.run(forget, until=until), return_exceptions=True)
    elif not missing_ok:
        raise QueueDoesNotExist(keys.qname)
    return bool(deleted)


async def list_queues(node: Node, ns: str) -> set[str]:
    """See `AsyncRSMQ.list_queues`."""
    return await node.run(Call("list_queues", "*", (queues_key(ns),), ()), _names)


async def get_queue_attributes(node: Node, keys: Keys) -> QueueAttributes:
    """See `Queue.attributes`."""
    return await node.run(Call("attributes", keys.qname, keys.pair, (keys.qname,)), _attributes)


async def set_queue_attributes(node: Node, keys: Keys, settings: QueueSettings) -> QueueAttributes:
    """See `Queue.set_attributes`."""
    changes = _check_changes(keys, settings)
    if not changes:
        raise InvalidParameterValue(", ".join(_DEFAULTS), None, "at least one must be given")
    dead_letter_queue = changes.get("dead_letter_queue")
    words = [word for change in changes.items() for word in change]

    def call(chain: Sequence[str]) -> Call:
        all_keys = (*keys.pair, keys.queues, *_chain_keys(keys, chain)) if chain else keys.pair
        return Call("attributes", keys.qname, all_keys, (keys.qname, *words, *chain))

    return await _run_with_chain(node, keys.qname, str(dead_letter_queue or ""), call, _attributes)


async def purge(node: Node, keys: Keys) -> int:
    """Take all messages out at once, then delete them step by step, with what an earlier purge
    left."""

    def call(step: str, policy: RetryPolicy) -> Call:
        return Call("purge", keys.qname, (*keys.pair, keys.purged), (step, PURGE_STEP), policy)

    purged = -1
    remaining = 0
    while purged < 0:
        # Never repeated: a repetition would take out what was sent since.
        purged, remaining = await node.run(call("begin", RetryPolicy.NEVER_IF_UNKNOWN), _two_ints)
    while remaining:
        number = min(-(-remaining // PURGE_STEP), PURGE_CALLS)
        step = call("go on", RetryPolicy.SAFE)
        replies = await asyncio.gather(*(node.run(step, _two_ints) for _ in range(number)))
        remaining = min(remaining for _, remaining in replies)
    return purged


def _check_changes(keys: Keys, settings: QueueSettings) -> dict[str, str | int]:
    checked = _check_settings(keys, settings, may_clear=True)
    if checked.get("dead_letter_queue") == "":
        # Without a dead-letter queue, max_receives alone would drop messages.
        checked.setdefault("max_receives", "")
    return checked


def _check_settings(
    keys: Keys, settings: QueueSettings, *, may_clear: bool
) -> dict[str, str | int]:
    """The settings that were named, that is, are not None, as the queue's hash stores them.

    Args:
        may_clear: whether a `max_receives` of 0 and an empty `dead_letter_queue` take a setting
            away, stored as "".
    """
    checked: dict[str, str | int] = {}
    if (vt := settings.get("vt")) is not None:
        checked["vt"] = whole_seconds("vt", vt)
    if (delay := settings.get("delay")) is not None:
        checked["delay"] = whole_seconds("delay", delay)
    if (maxsize := settings.get("maxsize")) is not None:
        checked["maxsize"] = check_maxsize(maxsize)
    if (max_receives := settings.get("max_receives")) is not None:
        fewest = 0 if may_clear else 1
        checked["max_receives"] = check_max_receives(max_receives, fewest) or ""
    if (qname := settings.get("dead_letter_queue")) is not None:
        is_cleared = may_clear and qname == ""
        checked["dead_letter_queue"] = "" if is_cleared else _check_dead_letter_queue(keys, qname)
    return checked


def _check_dead_letter_queue(keys: Keys, qname: object) -> str:
    checked = check_qname(qname, "dead_letter_queue")
    if checked == keys.qname:
        raise InvalidParameterValue("dead_letter_queue", qname, "must be another queue")
    return checked


def _chain_keys(keys: Keys, chain: Sequence[str]) -> list[str]:
    if not chain:
        return []
    return [keys.sibling(chain[0]).messages, *(keys.sibling(qname).queue for qname in chain)]


async def _run_with_chain(
    node: Node,
    qname: str,
    dead_letter_queue: str,
    call: Callable[[Sequence[str]], Call],
    read: Callable[[Reply], T],
) -> T:
    """Run a call that may give a queue its dead-letter queue; refuse it if that makes a cycle.

    The script writes only if it was given the whole chain of dead-letter queues, and if the chain
    ends. Otherwise it says which queue is next. So no cycle is made, whatever other clients change
    at the same time.
    """
    chain = [dead_letter_queue] if dead_letter_queue else []
    until = node.until()
    while True:
        result = await node.run(call(chain), partial(_read_or_mismatch, read), until)
        if not isinstance(result, _ChainMismatch):
            return result
        del chain[result.correct :]
        if result.next_queue in (qname, *chain):
            cycle = " -> ".join((qname, *chain, result.next_queue))
            reason = f"would create a cycle: {cycle}"
            raise InvalidParameterValue("dead_letter_queue", dead_letter_queue, reason)
        if result.next_queue:
            chain.append(result.next_queue)


class _ChainMismatch(NamedTuple):
    """The chain that a script was given is not the one on the server."""

    correct: int
    """How many of its first queues are."""
    next_queue: str
    """The one that follows these; empty if the chain ends there."""


def _read_or_mismatch(read: Callable[[Reply], T], reply: Reply) -> T | _ChainMismatch:
    if len(reply) == 3 and reply[0] == -1:
        return _ChainMismatch(int(reply[1]), reply[2].decode())
    return read(reply)


class _Creation(NamedTuple):
    """What became of a queue that was to exist."""

    created: bool
    differences: dict[str, tuple[SettingValue, SettingValue]]
    """Of a queue that existed: the settings that were named and differed, with both values."""


def _read_creation(named: Mapping[str, str | int], reply: Reply) -> _Creation:
    created, *words = reply
    differences: dict[str, tuple[SettingValue, SettingValue]] = {}
    for word, old in zip(words[::2], words[1::2], strict=True):
        name = word.decode()
        differences[name] = (_setting_value(name, old), _setting_value(name, named[name]))
    return _Creation(bool(created), differences)


def _setting_value(name: str, stored: bytes | str | int) -> SettingValue:
    """As `QueueAttributes` has it."""
    if stored in (b"", ""):
        return None
    if name != "dead_letter_queue":
        return int(stored)
    return stored.decode() if isinstance(stored, bytes) else str(stored)


def _two_ints(reply: Reply) -> tuple[int, int]:
    first, second = map(int, reply)
    return first, second


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
