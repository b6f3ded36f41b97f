"""What a worker counts and tells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from .._protocol import DEFAULT_NS
from .message import Message


@dataclass(frozen=True, slots=True)
class WorkerStats:
    """Counters of a worker, since it was created.

    Each received message is in flight, or is counted as succeeded, retried, dead, dropped or lost.
    When the worker stops, or while the server does not answer, a message may instead be left until
    its lease expires. A failed attempt is counted as failed as well.
    """

    in_flight: int = 0
    received: int = 0
    succeeded: int = 0
    failed: int = 0
    """Attempts that timed out or raised an exception other than Retry and Reject."""
    retried: int = 0
    """Messages released for another attempt."""
    dead: int = 0
    """Messages moved to a dead-letter queue, by this worker or by a claim of the same client."""
    dropped: int = 0
    """Messages deleted because the queue has `max_receives` but no dead-letter queue.

    Deleted by this worker or by a claim of the same client.
    """
    lost_leases: int = 0
    """Messages that were deleted or received by another consumer while their handler still ran."""


EventKind = Literal["received", "succeeded", "failed", "retried", "dead", "dropped", "lease_lost"]


@dataclass(frozen=True, slots=True)
class WorkerEvent:
    """Something that happened to one message. Passed to `on_event`.

    An attempt begins with "received" and ends with one of "succeeded", "retried", "dead", "dropped"
    and "lease_lost"; "failed" comes before, if the handler raised something other than Retry or
    Reject. If the server does not answer at the end, the last event is missing, and a warning in
    the log says why. Messages that were received too often, or that the codec cannot decode, have
    only "dead" or "dropped".
    """

    kind: EventKind
    queue: str
    id: str
    receive_count: int
    error: BaseException | None = None
    """The exception, for "failed"."""
    delay: float | None = None
    """Seconds until the message is redelivered, for "retried"."""
    reason: str = ""
    """Why: the exception, in words, for "failed" and what follows from it; or the reason of a Retry
    or Reject. Empty if there is none."""
    message: Message[Any] | None = None
    """The message; None if no handler got it. It is here to be looked at, not to be settled."""
    duration: float | None = None
    """Seconds that the handler ran; None before its end, and if there was none."""
    age: float | None = None
    """Seconds from the sending of the message to this event, its delay included.

    By the server's clock, as well as its replies tell it; never negative. None if the id does not
    say when it was sent, because another library wrote it.
    """
    ns: str = DEFAULT_NS
    """The namespace of the queue."""
