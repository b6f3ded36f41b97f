"""Messages that have died."""

from __future__ import annotations

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

    @property
    def group(self) -> str:
        """What the reasons of like deaths have in common: the name of the exception, that is, the
        text before the first colon; or the whole reason. Empty if the reason is not known."""
        return reason_group(self.reason)


@dataclass(frozen=True, slots=True)
class ReasonGroup:
    """Dead letters that died for like reasons. See `Queue.reason_groups`."""

    group: str
    """`DeadLetter.group` of each; empty for those whose reason is not known."""
    count: int
    queues: dict[str, int]
    """How many came from each queue, most first. A queue that is not known is ""."""
    first_died_at: datetime | None
    """The earliest of their deaths; None if no reason is known."""
    last_died_at: datetime | None
    example_id: str
    """The one that is next in turn."""
    example_reason: str
    """Its whole reason."""


def reason_group(reason: str) -> str:
    """See `DeadLetter.group`."""
    return reason.partition(":")[0].strip() or reason
