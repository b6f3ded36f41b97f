"""Dead letters are counted by why they died."""

from __future__ import annotations

from collections import Counter
from typing import Final

from .._protocol import Keys, utc_from_ms
from .._server.call import Call, Reply
from .._server.node import Node
from ..models import ReasonGroup, reason_group
from .look import START
from .reasons import WrittenDeath, read_death

STEP: Final = 250
"""Messages in one script call: about a millisecond of the server's time."""


async def count_groups(node: Node, keys: Keys, budget: int) -> list[ReasonGroup]:
    """See `Queue.reason_groups`. Step by step, each with a deadline of its own."""
    groups: dict[str, _Group] = {}
    counted: set[bytes] = set()
    place = (START.score, START.id)
    examined = 0
    while examined < budget:
        args = (min(STEP, budget - examined), *place)
        call = Call("deaths", keys.qname, (*keys.pair, keys.reasons), args)
        looks, deaths, place = await node.run(call, _read)
        for id, written in deaths:
            if id not in counted:  # else it has moved on in between
                counted.add(id)
                death = read_death(keys, written)
                group = _Group(id, death.reason)
                groups.setdefault(reason_group(death.reason), group).add(death)
        examined += looks
        if not place[0]:
            break
    by_count = sorted(groups.items(), key=lambda item: (-item[1].count, item[0]))
    return [group.value(name) for name, group in by_count]


class _Group:
    """What is known so far."""

    def __init__(self, id: bytes, reason: str) -> None:
        self.count = 0
        self._example = (id.decode(errors="surrogateescape"), reason)
        self._queues: Counter[str] = Counter()
        self._first_ms: int | None = None
        self._last_ms: int | None = None

    def add(self, death: WrittenDeath) -> None:
        ms = death.ms
        self.count += 1
        self._queues[death.queue] += 1
        if ms:
            self._first_ms = ms if self._first_ms is None else min(ms, self._first_ms)
            self._last_ms = max(ms, self._last_ms or 0)

    def value(self, name: str) -> ReasonGroup:
        first = None if self._first_ms is None else utc_from_ms(self._first_ms)
        last = None if self._last_ms is None else utc_from_ms(self._last_ms)
        queues = dict(self._queues.most_common())
        return ReasonGroup(name, self.count, queues, first, last, *self._example)


def _read(reply: Reply) -> tuple[int, list[tuple[bytes, bytes]], tuple[bytes, bytes]]:
    looks, score, id, *fields = reply
    return int(looks), list(zip(*[iter(fields)] * 2, strict=True)), (score, id)
