"""Queues are looked at as a whole."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from .._protocol import Keys, check_qname, is_qname, read_policy, utc_from_ms
from .._server.call import Call, Reply
from .._server.node import Node
from ..errors import InvalidParameterValue, NotPermitted, QueueDoesNotExist
from ..models import Snapshot
from .admin import list_queues

MAX_QUEUES: Final = 8
"""Queues of one script call: about a millisecond of the server's time, more if they are huge."""

MAX_CALLS: Final = 8
"""Calls in flight at once: others want to be served in between."""

_SETTINGS: Final = ("vt", "delay", "maxsize", "max_receives", "dead_letter_queue")

_logger = logging.getLogger("aiorsmq.queue")

_Look = tuple[Snapshot, str] | Exception | None
"""A queue without its number of dead letters, and the name of its dead-letter queue."""


async def snapshot(node: Node, keys: Keys, dead_letter_queue: str) -> Snapshot:
    """See `Queue.snapshot`.

    Args:
        dead_letter_queue: its name as last heard, "" if there is none. A call that was told
            another than the server's is repeated.
    """
    while True:
        names = [keys.qname, *filter(None, [dead_letter_queue])]
        try:
            looks = await _look(node, [keys.sibling(name) for name in names])
        except NotPermitted as error:
            if error.command or not dead_letter_queue:
                raise
            # The user must not look into the dead-letter queue.
            looks = await _look(node, [keys])
            looks[dead_letter_queue] = None
        match looks[keys.qname]:
            case None:
                raise QueueDoesNotExist(keys.qname)
            case Exception() as error:
                raise error
            case queue, name if name in ("", dead_letter_queue):
                return _with_dead(queue, name, looks)
            case _, dead_letter_queue:
                pass


async def snapshots(node: Node, ns: str, qnames: object) -> list[Snapshot]:
    """See `AsyncRSMQ.snapshots`."""
    if qnames is None:
        names = list(filter(is_qname, await list_queues(node, ns)))
    else:
        names = _check_names(qnames)
    looks = await _look_at_all(node, [Keys(ns, name) for name in names])
    behind = {look[1] for look in looks.values() if isinstance(look, tuple)} - {"", *looks}
    looks_behind = await _look_at_all(node, [Keys(ns, name) for name in behind])
    for name, look in looks.items():
        if isinstance(look, Exception):
            _logger.warning("left out queue %r: %s", name, look, extra={"queue": name})
    everywhere = looks | looks_behind
    found = [look for look in looks.values() if isinstance(look, tuple)]
    return sorted(
        (_with_dead(queue, name, everywhere) for queue, name in found),
        key=lambda queue: queue.name,
    )


def _check_names(qnames: object) -> list[str]:
    if isinstance(qnames, str) or not isinstance(qnames, Iterable):
        raise InvalidParameterValue("qnames", qnames, "must be an iterable of names")
    return list(dict.fromkeys(check_qname(name, "qnames") for name in qnames))  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]


async def _look_at_all(node: Node, queues: Sequence[Keys]) -> dict[str, _Look]:
    steps = [queues[start : start + MAX_QUEUES] for start in range(0, len(queues), MAX_QUEUES)]
    looks: dict[str, _Look] = {}
    for start in range(0, len(steps), MAX_CALLS):
        calls = (_look(node, step) for step in steps[start : start + MAX_CALLS])
        for found in await asyncio.gather(*calls):
            looks |= found
    return looks


async def _look(node: Node, queues: Sequence[Keys]) -> dict[str, _Look]:
    """One call of `snapshot.lua`."""

    def read(reply: Reply) -> dict[str, _Look]:
        now_ms, *values = reply
        pairs = zip(queues, values, strict=True)
        return {keys.qname: _read(keys, value, float(now_ms)) for keys, value in pairs}

    all_keys = [key for keys in queues for key in keys.pair]
    channels = [keys.channel for keys in queues]
    looks: dict[str, _Look] = await node.run(
        Call("snapshot", queues[0].qname, all_keys, channels), read
    )
    for reply in await node.ask_others("PUBSUB", "NUMSUB", *channels):
        listeners = dict(zip(reply[::2], reply[1::2], strict=True))
        for keys in queues:
            looks[keys.qname] = _with_listeners(looks[keys.qname], listeners[keys.channel.encode()])
    return looks


def _read(keys: Keys, values: Any, now_ms: float) -> _Look:
    if values is None or isinstance(values, Exception):
        return values
    visible, hidden, sample, received, oldest, next_due, paused, listeners, *numbers = values
    stored = {
        name: value for name, value in zip(_SETTINGS, numbers[7:], strict=True) if value is not None
    }
    max_receives = stored.get("max_receives", b"")
    limit, name = read_policy(keys.qname, max_receives, stored.get("dead_letter_queue", b""))
    vt, delay, maxsize, totalrecv, totalsent, created, modified = map(int, numbers[:7])
    queue = Snapshot(
        name=keys.qname,
        server_time=utc_from_ms(now_ms),
        visible=visible,
        hidden=hidden,
        hidden_sample=sample,
        sample_received=received,
        oldest_claimable_age=(now_ms - max(float(oldest), 0.0)) / 1000 if oldest else 0.0,
        next_due=utc_from_ms(float(next_due)) if next_due else None,
        totalsent=totalsent,
        totalrecv=totalrecv,
        dead=None,
        consumers=int(listeners) if listeners != b"" else None,
        paused_since=utc_from_ms(float(paused)) if paused else None,
        vt=vt,
        delay=delay,
        maxsize=maxsize,
        max_receives=None if limit == math.inf else int(limit),
        dead_letter_queue=name or None,
        created=utc_from_ms(created * 1000),
        modified=utc_from_ms(modified * 1000),
        stored={name: value.decode(errors="replace") for name, value in stored.items()},
    )
    return queue, name


def _with_listeners(look: _Look, listeners: int) -> _Look:
    """Count those in that are connected to another node."""
    match look:
        case Snapshot(consumers=int(consumers)) as queue, name:
            return replace(queue, consumers=consumers + listeners), name
        case _:
            return look


def _with_dead(queue: Snapshot, dead_letter_queue: str, looks: Mapping[str, _Look]) -> Snapshot:
    """Tell how many dead letters there are, if that is known."""
    match looks.get(dead_letter_queue):
        case Snapshot() as dead, _:
            return replace(queue, dead=dead.messages)
        case _:
            return queue
