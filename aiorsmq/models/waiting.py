"""How much may wait to be sent."""

from __future__ import annotations

from typing import Final, NamedTuple

from ..errors import InvalidParameterValue


class MaxWaiting(NamedTuple):
    """How many messages of a queue, with how many bytes in their bodies, may wait to be sent; both
    1 or more, which is checked when a client gets them.

    While that many wait, because the server is slow or away, a further `send` or `send_many` waits
    its turn; see `AsyncRSMQ`.
    """

    messages: int = 100_000
    bytes: int = 64 * 1024 * 1024


DEFAULT_MAX_WAITING: Final = MaxWaiting()


def check_max_waiting(limits: object) -> MaxWaiting:
    if isinstance(limits, MaxWaiting) and all(type(limit) is int and limit > 0 for limit in limits):
        return limits
    reason = "must be MaxWaiting(messages=..., bytes=...), both an int >= 1"
    raise InvalidParameterValue("max_waiting", limits, reason)
