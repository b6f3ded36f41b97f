"""Messages are deleted by what they are."""

from __future__ import annotations

from typing import Final

from .._protocol import Keys
from .._server.call import Call, Reply
from .._server.node import Node
from .look import START
from .selection import Selection

# Bounds of one script call: about a millisecond of the server's time.
MAX_LOOKS: Final = 250
"""Messages that are looked at."""
MAX_DELETES: Final = 150
"""Messages."""
MAX_BYTES: Final = 256 * 1024
"""Bytes of bodies that are read, after which a step ends."""


async def purge_some(node: Node, keys: Keys, selection: Selection, *, dry_run: bool) -> int:
    """See `Queue.purge`. Goes through the queue once, step by step, each with a deadline of its
    own."""
    total = 0
    place = (START.score, START.id)
    while True:
        mode = "count" if dry_run else "delete"
        args = (MAX_LOOKS, MAX_DELETES, MAX_BYTES, mode, *place, *selection)
        call = Call("purge_some", keys.qname, (*keys.pair, keys.reasons), args)
        number, place = await node.run(call, _read)
        total += number
        if not place[0]:
            return total


def _read(reply: Reply) -> tuple[int, tuple[bytes, bytes]]:
    number, score, id = reply
    return int(number), (score, id)
