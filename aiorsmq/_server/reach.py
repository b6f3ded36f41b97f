"""Whether a server was ever reached, and for how long to try if not."""

from __future__ import annotations

import math

from .home import Home


class Reach:
    """What the connectors of a client share: a target of several servers is reached with the first
    of them.

    Args:
        connect_timeout: seconds for which calls wait for a target that was never reached.
    """

    def __init__(self, home: Home, connect_timeout: float) -> None:
        self._home = home
        self._connect_timeout = connect_timeout
        self._given_up_at: float | None = None
        self.reached_at: float = math.inf
        """When it was first reached, by the event loop's clock."""

    @property
    def ever(self) -> bool:
        return self.reached_at < math.inf

    def note(self) -> None:
        """It is reached."""
        self.reached_at = min(self.reached_at, self._home.loop().time())

    def given_up_at(self) -> float:
        """When a target that was never reached is given up: `connect_timeout` after the first time
        this was asked."""
        if self._given_up_at is None:
            self._given_up_at = self._home.loop().time() + self._connect_timeout
        return self._given_up_at

    def may_come(self) -> bool:
        """Whether trying again may help."""
        return self.ever or self._home.loop().time() < self.given_up_at()
