"""Messages as they are stored: looked at, and not received."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from .message import Receipt


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A message that was looked at. See `Queue.get` and `Queue.find`."""

    id: str
    queue: str
    raw: bytes = field(repr=False)
    """The body as stored, or the beginning of it."""
    size: int
    """Bytes of the whole body."""
    receive_count: int
    sent_at: datetime | None
    """Read from the id, by the server's clock; None if the id carries no time."""
    first_received_at: datetime | None
    visible_at: datetime
    """When it becomes, or became, visible."""
    is_visible: bool
    """Whether it could be received when it was looked at."""
    receipt: Receipt
    """Settles the message as it was when it was looked at: refused once it has been received
    since."""
    reason: str = ""
    """Why it died, if it is a dead letter whose reason is known."""
    origin: str = ""
    """The queue that it died in, if that is known."""

    @property
    def is_cut(self) -> bool:
        """Whether `raw` is only the beginning."""
        return len(self.raw) < self.size


@dataclass(frozen=True, slots=True)
class Place:
    """Where a search stopped, to go on from there."""

    score: str
    id: str


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found, and how far it got. See `Queue.find`."""

    messages: list[StoredMessage]
    examined: int
    """How many messages were looked at."""
    total: int
    """How many messages the queue held when the search began."""
    next: Place | None
    """Where to go on: `find(..., after=found.next)`; None if all were looked at."""
