"""Queues are looked for whose names are missing from the set of all queues."""

import re
from typing import Any, Final

from .._protocol import check_count, is_qname
from .._server.call import Call
from .._server.node import Node
from .admin import list_queues

SCAN_STEP: Final = 500
"""Keys of one step: a fraction of a millisecond of the server's time."""

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
    return sorted(filter(is_qname, found - await list_queues(node, ns)))


async def _scan(node: Node, cursor: bytes, pattern: str, count: int) -> Any:
    """The reply to one SCAN; None if the server refuses it."""
    while True:
        words = ("SCAN", cursor, "MATCH", pattern, "COUNT", str(count), "TYPE", "hash")
        replies = await node.ask(words)
        if replies is not None:
            return None if isinstance(replies[0], Exception) else replies[0]
        await node.run(Call("time", "*", (), ()))  # opens the connection, and waits out an outage
