"""Queues are looked for whose names are missing from the set of all queues."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import compress
from typing import Any, Final

from .._protocol import Keys, check_count, is_qname, queues_key
from .._server.call import Call, Reply
from .._server.node import Node
from .admin import list_queues

SCAN_STEP: Final = 500
"""Keys of one step: a fraction of a millisecond of the server's time."""

CHECK_STEP: Final = 200
"""Queues of one script call: a fraction of a millisecond of the server's time."""

_SPECIAL: Final = re.compile(r"([*?\[\]\\])")
"""What means something else in a pattern of SCAN."""


async def find_unlisted(node: Node, ns: str, budget: int) -> list[str] | None:
    """See `AsyncRSMQ.find_unlisted`."""
    check_count("budget", budget)
    escaped = _SPECIAL.sub(r"\\\1", ns)
    found: set[str] = set()
    cursor = b"0"
    examined = 0
    while examined < budget:
        count = min(SCAN_STEP, budget - examined)
        reply = await _scan(node, cursor, f"{escaped}:*:Q", count)
        if reply is None:
            return None
        cursor, keys = reply
        examined += count
        names = (bytes(key).decode(errors="surrogateescape") for key in keys)
        found.update(name[len(ns) + 1 : -2] for name in names)
        if cursor == b"0":
            break
    candidates = sorted(filter(is_qname, found - await list_queues(node, ns)))
    return await _check(node, ns, candidates)


async def _check(node: Node, ns: str, qnames: Sequence[str]) -> list[str]:
    """Leave out queues that were deleted, or created, since they were found."""
    unlisted: list[str] = []
    for start in range(0, len(qnames), CHECK_STEP):
        step = qnames[start : start + CHECK_STEP]
        keys = (queues_key(ns), *(Keys(ns, qname).queue for qname in step))
        flags: Reply = await node.run(Call("unlisted", "*", keys, step))
        unlisted += compress(step, flags)
    return unlisted


async def _scan(node: Node, cursor: bytes, pattern: str, count: int) -> Any:
    """The reply to one SCAN; None if the server refuses it."""
    while True:
        words = ("SCAN", cursor, "MATCH", pattern, "COUNT", str(count), "TYPE", "hash")
        replies = await node.ask(words)
        if replies is not None:
            return None if isinstance(replies[0], Exception) else replies[0]
        await node.run(Call("time", "*", (), ()))  # opens the connection, and waits out an outage
