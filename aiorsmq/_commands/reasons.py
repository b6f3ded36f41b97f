"""Why messages died, as `move.lua` has written it."""

from __future__ import annotations

from typing import NamedTuple

from .._protocol import Keys, is_qname


class WrittenDeath(NamedTuple):
    """How one message died."""

    ms: int
    """When."""
    receive_count: int
    """How often it had been received."""
    queue: str
    """Where."""
    reason: str


UNKNOWN = WrittenDeath(0, 0, "", "")


def read_death(dead_letters: Keys, written: bytes) -> WrittenDeath:
    """UNKNOWN if it was forgotten, or written by another program. A queue is never its own
    dead-letter queue."""
    try:
        ms, count, qname, reason = written.decode(errors="replace").split(" ", 3)
        death = WrittenDeath(int(ms), int(count), qname, reason)
    except ValueError:
        return UNKNOWN
    return death if is_qname(qname) and qname != dead_letters.qname else UNKNOWN
