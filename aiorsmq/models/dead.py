"""Messages that have died."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

Death = Literal["dead", "dropped"]
"""Moved to the dead-letter queue, or deleted because the queue has `max_receives` but none."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message in a dead-letter queue, and why it is there.

    If its reason has expired, or if it was sent there directly, only `id` and `raw` are known.
    Then `reason` and `queue` are empty, `receive_count` is 0, and `died_at` is when the message
    becomes, or became, visible.
    """

    id: str
    raw: bytes = field(repr=False)
    """The body as stored."""
    reason: str
    died_at: datetime
    queue: str
    """The queue that the message was moved from."""
    receive_count: int
    """How often it was received there, including the receive that exceeded `max_receives`."""
