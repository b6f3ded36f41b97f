"""Deadlines of calls that wait: one timer for all calls of an owner."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final
from weakref import WeakMethod

from .home import Home

SLACK: Final = 0.05
"""Seconds after its deadline in which a call itself may still say why it missed it."""
NOT_SENT: Final = "the call was still waiting for earlier calls at its deadline; it was not sent"
NO_REPLY: Final = "no reply before the deadline; the server may or may not have executed the call"


class DeadlineTimer:
    """Calls `expire(now)` once the earliest deadline has passed.

    `expire` fails the calls whose deadline is not after `now`, by the event loop's clock, and
    returns the next deadline, or infinity. The timer does not keep the method's object alive.
    """

    def __init__(self, home: Home, expire: Callable[[float], float]) -> None:
        self._home = home
        self._expire = WeakMethod(expire)
        self.is_armed: bool = False

    def arm(self, deadline: float) -> None:
        """Later deadlines need not be told: `expire` returns them."""
        self.is_armed = True
        self._home.loop().call_at(deadline + SLACK, self._ring)

    def _ring(self) -> None:
        self.is_armed = False
        if (expire := self._expire()) is None:
            return
        deadline = expire(self._home.loop().time() - SLACK)
        if deadline < math.inf:
            self.arm(deadline)
