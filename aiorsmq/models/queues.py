"""Queues: their settings, and what they look like now."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TypedDict

from .._protocol import Seconds


class QueueSettings(TypedDict, total=False):
    """The settings of a queue, described at `Queue.create`. None means that it is not named."""

    vt: Seconds | None
    delay: Seconds | None
    maxsize: int | None
    max_receives: int | None
    dead_letter_queue: str | None


SettingValue = int | str | None


@dataclass(frozen=True, slots=True)
class Ensured:
    """What `Queue.ensure` has done; its str says it in words."""

    created: bool
    """Whether the queue was created."""
    changed: dict[str, tuple[SettingValue, SettingValue]]
    """The settings of an existing queue that were changed, each with its old and its new value."""

    def __str__(self) -> str:
        if self.created:
            return "created"
        changes = [f"{name} from {old!r} to {new!r}" for name, (old, new) in self.changed.items()]
        return f"changed {', '.join(changes)}" if changes else "unchanged"


@dataclass(frozen=True, slots=True)
class QueueAttributes:
    """A consistent snapshot of a queue's settings and counters."""

    vt: int
    """Seconds that a received message stays hidden, unless the receive overrides it."""
    delay: int
    """Seconds that a sent message stays hidden, unless the send overrides it."""
    maxsize: int
    """The maximum message size in bytes; -1 for unlimited."""
    totalrecv: int
    """How often messages were received; a message received twice counts twice."""
    totalsent: int
    created: datetime
    modified: datetime
    msgs: int
    """Messages in the queue, including hidden ones."""
    hiddenmsgs: int
    """Messages that are hidden now; exact to the millisecond (Node rsmq: to the second)."""
    max_receives: int | None
    """How often a message may be received; None for no limit.

    After that it moves to the dead-letter queue, or is dropped if there is none.
    """
    dead_letter_queue: str | None
    """The queue for messages that were received too often, were rejected, or cannot be decoded."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a queue looks like at one moment. See `Queue.snapshot`."""

    name: str
    server_time: datetime
    """The moment, by the server's clock; all ages are counted from it."""
    visible: int
    """Messages that can be received now; exact."""
    hidden: int
    """Messages that are in flight, delayed, or waiting to be retried; exact."""
    hidden_sample: int
    """How many hidden messages were looked at, spread evenly over all: all of up to 100."""
    sample_received: int
    """How many of these have been received at least once."""
    oldest_claimable_age: float
    """For how many seconds the message that is next in turn could have been received; 0.0 if none
    is visible."""
    next_due: datetime | None
    """When the next hidden message becomes visible; None if none is hidden."""
    totalsent: int
    totalrecv: int
    """How often messages were received; a message received twice counts twice."""
    dead: int | None
    """Messages in the dead-letter queue, which other queues may share; None if there is none, or if
    the user must not look into it."""
    consumers: int | None
    """Clients that listen to the queue's announcements; None if the server does not say.

    Node rsmq and PyRSMQ poll and are not counted, and a client of this library listens only while
    it has a worker, a consumer that waits, a stream with `prefetch`, or an iterator of
    announcements.
    """
    paused_since: datetime | None
    """When the queue was paused; None if it is not."""
    vt: int
    delay: int
    maxsize: int
    max_receives: int | None
    dead_letter_queue: str | None
    created: datetime
    modified: datetime
    stored: dict[str, str]
    """The settings as stored, by name. Other programs may have written what no library reads: a
    `vt` in milliseconds, or with a fraction. `vt`, `delay` and `maxsize` are what this library
    reads."""

    @property
    def messages(self) -> int:
        """All messages, hidden ones included."""
        return self.visible + self.hidden

    @property
    def in_flight(self) -> int:
        """Hidden messages that have been received, and are held or wait to be retried.

        Exact if up to 100 messages are hidden, otherwise an estimate (see `is_estimated`).
        """
        if not self.hidden_sample:
            return 0
        return round(self.hidden * self.sample_received / self.hidden_sample)

    @property
    def delayed(self) -> int:
        """Hidden messages that have never been received. As exact as `in_flight`."""
        return self.hidden - self.in_flight

    @property
    def is_estimated(self) -> bool:
        """Whether `in_flight` and `delayed` are estimates."""
        return self.hidden_sample < self.hidden
