"""A queue is paused, and resumed."""

from __future__ import annotations

import math
from secrets import token_hex
from typing import Literal

from .._protocol import Keys
from .._server.call import Call, single_int
from .._server.node import Node


async def pause(node: Node, keys: Keys) -> bool:
    """See `Queue.pause`."""
    return await _change(node, keys, "pause")


async def resume(node: Node, keys: Keys) -> bool:
    """See `Queue.resume`."""
    return await _change(node, keys, "resume")


async def _change(node: Node, keys: Keys, action: Literal["pause", "resume"]) -> bool:
    """Announced even if the client sends no announcements: consumers have to obey at once."""
    memory = 2 * math.ceil(node.deadline)  # seconds: longer than the call may be repeated
    args = (action, keys.channel, token_hex(8), memory)
    call = Call("pause", keys.qname, (*keys.pair, keys.deleted), args)
    return bool(await node.run(call, single_int))
