"""A message is replaced by another one, in the same step."""

from __future__ import annotations

import logging
from functools import partial

from .._protocol import Keys
from .._server.call import Call, Reply, RetryPolicy
from .._server.node import Node
from ..errors import MessageTooLong, QueueDoesNotExist

_UNKNOWN = (
    "the reply was lost, and then neither message was there: another consumer has taken the old "
    "one, or the new one"
)

_logger = logging.getLogger("aiorsmq.queue")


async def replace(
    node: Node,
    keys: Keys,
    target: Keys,
    old: tuple[bytes, bytes],
    body: bytes,
    delay_ms: int | None,
) -> str | None:
    """See `Queue.replace`. `old`: the id, and a fence or b""."""
    until = node.until()
    channel = target.channel if node.realtime else ""
    mark = "first"
    while True:
        us, (new_id,) = node.clock.mint(1)
        delay = "" if delay_ms is None else delay_ms
        args = (*old, us, channel, delay, new_id, body)
        call = Call(
            "replace",
            keys.qname,
            (*keys.pair, *target.pair, keys.reasons),
            (mark, *args),
            RetryPolicy.SAFE_WITH_MARK,
            partial(_marked, *args),
        )
        read = partial(_read, keys.qname, target.qname, old[0], new_id)
        match await node.run(call, read, until):
            case [b"replaced"]:
                return new_id
            case [b"gone"]:
                return None
            case [b"too long", maxsize]:
                raise MessageTooLong(target.qname, len(body), int(maxsize))
            case [b"no target"]:
                raise QueueDoesNotExist(target.qname)
            case [b"unknown"]:
                raise node.late(_UNKNOWN)
            case _:  # the clock: the reply told the server's time
                node.clock.restart()
                mark = "minted"


def _marked(*args: bytes | str | int) -> tuple[bytes | str | int, ...]:
    return "retry", *args


def _read(qname: str, target: str, old_id: bytes, new_id: str, reply: Reply) -> Reply:
    """Logs it here, because the caller may have been cancelled."""
    numbers = {b"replaced": 1, b"gone": 1, b"too long": 2, b"no target": 1, b"unknown": 1}
    if len(reply) != numbers.get(reply[0], 1 if reply == [b"clock"] else 0):
        raise ValueError("unknown status")
    if reply[0] == b"replaced":
        id = old_id.decode(errors="replace")
        text = "replaced message %s of queue %r by message %s in queue %r"
        _logger.info(text, id, qname, new_id, target, extra={"queue": qname, "id": id})
    return reply
