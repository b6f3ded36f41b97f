"""A queue's times are moved back. Only the test kit does that."""

from __future__ import annotations

from .._protocol import Keys, Seconds, milliseconds
from .._server.call import Call, RetryPolicy, single_int
from .._server.node import Node


async def advance(node: Node, keys: Keys, duration: Seconds) -> int:
    """See `aiorsmq.testing.advance`. Announces it even if the client sends no announcements."""
    args = (milliseconds("duration", duration), keys.channel)
    all_keys = (*keys.pair, keys.reasons)
    call = Call("advance", keys.qname, all_keys, args, RetryPolicy.NEVER_IF_UNKNOWN)
    return await node.run(call, single_int)
