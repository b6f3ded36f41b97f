"""Queues: their settings, and what they look like now."""

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
