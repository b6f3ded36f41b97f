"""What the latest claim told about a queue, and what the line of its consumers does next. No I/O.

`decide` is the only place that says when to claim, and for how many at most. Its states:

- nobody waits, or claims in flight serve those who do: NOTHING;
- there is news, or a message is due, or the safety poll is: Ask;
- otherwise: WaitUntil the first of these.
"""

from __future__ import annotations

import math
from typing import NamedTuple


class Moment(NamedTuple):
    """Now, by two clocks."""

    time: float
    """Seconds, by the event loop's clock."""
    server_ms: float
    """Milliseconds, by the server's clock."""


class Outlook(NamedTuple):
    """What the latest answer to a claim told. Each answer replaces it."""

    claimed_at: float = -math.inf
    """When the answer came, by the event loop's clock."""
    next_ms: float | None = 0.0
    """When the first message that was left becomes, or became, visible; None if none was left."""
    claim_is_leased: bool = False
    """Whether the messages it handed out were still leased when they came. With vt=0 they are not:
    a second claim at the same time would return the same ones."""
    distinct_ms: float = 0.0
    """From when on a claim finds first what the latest one has not handed out."""
    outage: Exception | None = None
    """Why the latest claim failed, if the server was away."""

    def more_are_visible(self, now_ms: float) -> bool:
        return self.next_ms is not None and self.next_ms <= now_ms

    def due_at(self, now: Moment, poll_interval: float) -> float:
        """When a claim is worth trying without news: a message is due, or the safety poll is."""
        poll_at = self.claimed_at + poll_interval
        if self.next_ms is None:
            return poll_at
        return min(poll_at, now.time + (self.next_ms + 1 - now.server_ms) / 1000)


class Ask(NamedTuple):
    """Claim now."""

    number: int
    """For how many of the consumers that wait."""


class WaitUntil(NamedTuple):
    """Look again at this time, by the event loop's clock, or at the next news."""

    time: float


class Nothing(NamedTuple):
    """Wait for an answer, or for a consumer."""


NOTHING = Nothing()


def decide(
    outlook: Outlook,
    now: Moment,
    *,
    waiting: int,
    claims_in_flight: int,
    share: int,
    has_news: bool,
    poll_interval: float,
) -> Ask | WaitUntil | Nothing:
    """What the line does next.

    Args:
        waiting: consumers in the line.
        share: how many of them the next claim should serve where there is plenty, so that claims
            can follow each other; 0 if they should gather.
        has_news: whether an announcement has come, or a consumer wants an answer now.
    """
    there_is_plenty = outlook.claim_is_leased and outlook.more_are_visible(now.server_ms)
    if not waiting or (claims_in_flight and not (there_is_plenty and share)):
        return NOTHING
    ask_at = now.time if has_news else outlook.due_at(now, poll_interval)
    if not outlook.claim_is_leased:
        ask_at = max(ask_at, now.time + (outlook.distinct_ms - now.server_ms) / 1000)
    if ask_at > now.time:
        return WaitUntil(ask_at)
    return Ask(share if there_is_plenty else waiting)
