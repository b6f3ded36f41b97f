"""Time that passes when a test wants it to."""

from __future__ import annotations

import asyncio
import re
from datetime import timedelta
from typing import Any, Final

from ..client import AsyncRSMQ
from ..errors import InvalidParameterValue
from ..queue import Queue
from .inside import advance_queue

_UNITS: Final = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_TEXT = re.compile(r"(\d+(?:\.\d+)?) ?(ms|s|m|h|d)")


async def advance(target: Queue[Any] | AsyncRSMQ, duration: float | timedelta | str) -> int:
    """Let time pass for a queue, or for all queues of a client's namespace.

    Returns how many hidden messages have become visible. Consumers that wait are woken, and find
    them in the order in which they would have become visible.

    Args:
        duration: "90s", "15m", "2h", "1d", "500ms", or seconds, 0 to 9999999.

    One atomic script for each queue moves the stored times back by the duration:

    - when each message becomes visible, so delays, backoffs and leases end;
    - when each dead letter died, and when its reason is forgotten.

    A message in hand whose lease ends in this way is still being handled. As when a program was
    stopped for that long: the next consumer receives it, and the first one can no longer settle it.
    A worker that receives its own message again keeps its lease and goes on.

    What stays: the ids, and so `Message.sent_at`; the first receipts, as the receipts of messages
    in hand contain them; `created` and `modified` of a queue; the server's clock; and what runs by
    the clock of a program, such as the `timeout` of a handler or the `wait` of a receive.

    Raises InvalidParameterValue and QueueDoesNotExist. A call whose reply is lost is not repeated.
    """
    seconds = _seconds(duration)
    if isinstance(target, Queue):
        return await advance_queue(target, seconds)
    if not isinstance(target, AsyncRSMQ):  # pyright: ignore[reportUnnecessaryIsInstance]
        reason = "must be a Queue or an AsyncRSMQ; for those of aiorsmq.sync, aiorsmq.testing.sync"
        raise InvalidParameterValue("target", target, f"{reason} has another advance")
    queues = [target.queue(name) for name in await target.list_queues()]
    return sum(await asyncio.gather(*(advance_queue(queue, seconds) for queue in queues)))


def _seconds(duration: float | timedelta | str) -> float | timedelta:
    if not isinstance(duration, str):
        return duration
    if (match := _TEXT.fullmatch(duration)) is None:
        reason = 'must be like "90s", "15m", "2h", "1d" or "500ms", or be seconds'
        raise InvalidParameterValue("duration", duration, reason)
    return float(match[1]) * _UNITS[match[2]]
