"""What a send waits for besides the server's own reply."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final, cast

from .._protocol import Seconds, check_seconds
from ..errors import InvalidParameterValue

MAX_TIMEOUT: Final = 60.0
DEFAULT_FSYNC_TIMEOUT: Final = 5.0
"""Seconds; with `appendfsync everysec` a server takes one to two."""
_MAX_REPLICAS = 1000


@dataclass(frozen=True, slots=True)
class Confirm:
    """What a confirmed send waits for; made by `replicas()` and `fsync()`."""

    replicas: int
    """How many replicas must have the message; 0: it must be in the server's append-only file."""
    timeout: float
    """Seconds."""

    @property
    def name(self) -> str:
        """The command that waits for the writes of its connection."""
        return "WAIT" if self.replicas else "WAITAOF"

    @property
    def command(self) -> tuple[str | int, ...]:
        """With its arguments."""
        milliseconds = math.ceil(self.timeout * 1000)
        if self.replicas:
            return self.name, self.replicas, milliseconds
        return self.name, 1, 0, milliseconds

    @property
    def trial(self) -> tuple[str | int, ...]:
        """The same command with nothing to wait for: fails if the server does not allow it."""
        return (self.name, 0, 1) if self.replicas else (self.name, 1, 0, 1)

    @property
    def goal(self) -> int:
        """What `count` must reach."""
        return self.replicas or 1

    def count(self, reply: Any) -> int:
        """Read the reply to the command: how many replicas, or whether it is on disk; 0 for what
        only a proxy would reply."""
        number = reply
        if not self.replicas:
            number = [*cast("list[Any]", reply), None][0] if isinstance(reply, list) else None
        return number if type(number) is int else 0

    def __repr__(self) -> str:
        if self.replicas:
            return f"replicas({self.replicas}, timeout={self.timeout:g})"
        return f"fsync(timeout={self.timeout:g})"


def replicas(n: int, timeout: Seconds) -> Confirm:
    """A send returns when `n` replicas have said that they have the message (WAIT).

    Args:
        n: how many replicas, 1 to 1000.
        timeout: seconds to wait for them, more than 0, up to 60, and less than the client's
            `deadline`. After that the send raises NotConfirmed.
    """
    if type(n) is not int or not 1 <= n <= _MAX_REPLICAS:
        reason = f"must be an int from 1 to {_MAX_REPLICAS}"
        raise InvalidParameterValue("n", n, reason)
    return Confirm(n, _check_timeout(timeout))


def fsync(timeout: Seconds = DEFAULT_FSYNC_TIMEOUT) -> Confirm:
    """A send returns when the server has the message on its own disk (WAITAOF).

    The server must have an append-only file, and be Redis 7.2, Valkey 8, or newer. With
    `appendfsync everysec`, Valkey (up to 9.1 at least) and Redis 7.4 before its mending answer up
    to a second too early: on these, choose `appendfsync always`.

    Args:
        timeout: as for `replicas`.
    """
    return Confirm(0, _check_timeout(timeout))


def check_confirm(confirm: object, deadline: float) -> Confirm | None:
    """Check the `confirm` of a client, a queue or a call; or None."""
    if confirm is None:
        return None
    if not isinstance(confirm, Confirm):
        reason = "must be made by aiorsmq.replicas(n, timeout) or aiorsmq.fsync()"
        raise InvalidParameterValue("confirm", confirm, reason)
    if confirm.timeout >= deadline:
        reason = f"must have a timeout below the client's deadline of {deadline:g} s"
        raise InvalidParameterValue("confirm", confirm, reason)
    return confirm


def _check_timeout(timeout: object) -> float:
    try:
        seconds = check_seconds("timeout", timeout)
    except InvalidParameterValue:
        seconds = 0  # so that the error has the right range
    if not 0 < seconds <= MAX_TIMEOUT:
        reason = f"must be seconds (int, float or timedelta), more than 0 and up to {MAX_TIMEOUT:g}"
        raise InvalidParameterValue("timeout", timeout, reason)
    return float(seconds)
