"""The values that the library returns: messages, queue attributes, dead letters, worker events."""

import logging
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import NoneType, TracebackType
from typing import Any, Generic, Literal, NamedTuple, NoReturn, TypedDict, TypeVar

from ._protocol import Seconds, check_id, id_time, milliseconds
from ._record import PendingDeletes, Record, Settles, log_fields
from .errors import InvalidParameterValue

T = TypeVar("T")

_logger = logging.getLogger("aiorsmq.queue")

_LATEST_MS = 253_402_300_799_000  # the last second that a datetime can hold; a score can be later


def utc_from_ms(ms: float) -> datetime:
    return datetime.fromtimestamp(min(max(ms, 0), _LATEST_MS) / 1000, UTC)


class Receipt(NamedTuple):
    """Settles one delivery of a message from anywhere, including other processes.

    It holds plain values and can be pickled. `Queue.delete_message`, `delete_many` and
    `change_visibility` accept a receipt instead of an id and are then fenced: they return False
    and change nothing once another consumer has received the message.
    """

    id: str
    receive_count: int
    first_received: int | None
    """When the message was first received, in ms since the epoch; None if that is unknown."""

    @property
    def fence(self) -> bytes:
        """The same as `Record.fence`."""
        first_received = "" if self.first_received is None else self.first_received
        return f"{self.receive_count} {first_received}".encode()


def id_and_fence(id: object, parameter: str = "id") -> tuple[bytes, bytes]:
    """Return the id and the fence of a receipt, or an id with an empty fence, which never fails."""
    if not isinstance(id, Receipt):
        return check_id(id, parameter).encode(), b""
    is_count = type(id.receive_count) is int
    if not (isinstance(id.id, str) and is_count and type(id.first_received) in (int, NoneType)):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidParameterValue(parameter, id, "must be an unchanged receipt of a message")
    return id.id.encode(errors="surrogateescape"), id.fence  # any id: it has been received


class Message(Generic[T]):
    """One delivery of one message. Immutable.

    `delete`, `extend` and `release` are fenced: they carry the receive count and the time of the
    first receipt, and change nothing once another consumer has received the message, or once it
    has moved to another queue and back.

    `async with message:` deletes the message at the end of the block. If the block raises or is
    cancelled, the message becomes visible again at once. Leaving the block waits until the server
    has deleted the message, except in a stream with `prefetch` that is still being iterated (see
    `Queue.messages`).

    A popped message is no longer in the queue: settling it returns False and does nothing.
    """

    __slots__ = (
        "__weakref__",
        "_body",
        "_lease_end",
        "_pending_deletes",
        "_queue",
        "_record",
        "_settler",
    )

    def __init__(
        self,
        record: Record,
        body: T,
        queue: str,
        settler: Settles | None,
        pending_deletes: PendingDeletes | None = None,
    ) -> None:
        self._record = record
        self._lease_end: bytes | None = None
        """When the lease ends, in ms since the epoch; None until the first `extend`."""
        self._body = body
        self._queue = queue
        self._settler = settler
        self._pending_deletes = pending_deletes

    @property
    def id(self) -> str:
        return self._record.id.decode(errors="surrogateescape")

    @property
    def body(self) -> T:
        """The body, as the queue's codec decoded it."""
        return self._body

    @property
    def raw(self) -> bytes:
        """The body as stored."""
        return self._record.raw

    @property
    def receive_count(self) -> int:
        """How often the message has been received, including this time; 0 if it was only peeked."""
        return int(self._record.receive_count)

    @property
    def sent_at(self) -> datetime:
        """When the message was sent, by the server's clock. Read from the id.

        If the id carries no time, because another library wrote it, this is the earliest time
        known: that of the first receipt, or else `visible_until`.
        """
        seconds = id_time(self.id)
        if seconds is None:
            return self.first_received_at or self.visible_until
        return utc_from_ms(seconds * 1000)

    @property
    def first_received_at(self) -> datetime | None:
        """When the message was first received; None if it never was (see `Queue.peek`)."""
        ms = self._record.first_received
        return utc_from_ms(float(ms)) if ms else None

    @property
    def visible_until(self) -> datetime:
        """When this delivery's lease ends, not counting later calls of `extend`.

        For a popped message: when it was popped. For a peeked message: when it becomes, or
        became, visible.
        """
        return utc_from_ms(float(self._record.visible))

    @property
    def queue(self) -> str:
        """The name of the message's queue."""
        return self._queue

    @property
    def receipt(self) -> Receipt:
        """A value that settles this delivery from another process, see `Receipt`."""
        first_received = self._record.first_received
        return Receipt(self.id, self.receive_count, int(first_received) if first_received else None)

    async def delete(self) -> bool:
        """Delete the message, because it has been processed.

        Returns False and changes nothing if another consumer has received the message since, or
        if it is gone. Also returns False if the reply to the first attempt was lost and a retry
        after the end of the lease finds the message gone, because another consumer may have
        deleted it. Cancelling ends the wait; the message is deleted anyway.
        """
        settler = self._settler
        return settler is not None and await settler.delete(self._record, self._lease_end)

    async def extend(self, vt: Seconds) -> bool:
        """Keep the message hidden for `vt` seconds, counted from now.

        Returns False and changes nothing if another consumer has received the message since, or
        if it is gone. Cancelling ends the wait; the lease is extended anyway.
        """
        vt_ms = milliseconds("vt", vt)
        settler = self._settler
        if settler is None:
            return False
        lease_end = settler.lease_end(vt_ms)
        extended = await settler.change_visibility(self._record, vt_ms)
        if extended:
            self._lease_end = lease_end
        return extended

    async def release(self, delay: Seconds = 0) -> bool:
        """Return the message to the queue, visible after `delay` seconds. Wakes waiting consumers.

        The receive count is kept. Returns False and changes nothing if another consumer has
        received the message since, or if it is gone. Cancelling ends the wait; the message is
        released anyway.
        """
        delay_ms = milliseconds("delay", delay)
        settler = self._settler
        return settler is not None and await settler.release(self._record, delay_ms)

    async def __aenter__(self) -> "Message[T]":
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc_type is None:
            if (
                self._pending_deletes is None
                or self._pending_deletes.abandoned
                or self._settler is None
            ):
                await self.delete()
            else:  # the message's stream waits for the delete
                self._pending_deletes.append(self._settler.delete(self._record, self._lease_end))
            return
        try:
            await self.release()
        except Exception as error:  # noqa: BLE001 - must not replace the block's own exception
            text = "could not release message %s; it will be redelivered when its lease expires: %s"
            extra = log_fields(self.queue, self._record, reason=str(error))
            _logger.warning(text, self.id, error, extra=extra)

    def __copy__(self) -> "Message[T]":
        return self  # immutable

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "cannot pickle a Message: pass message.body and message.receipt instead, and settle "
            "with queue.delete_message(receipt) or queue.change_visibility(receipt, vt)"
        )

    def __repr__(self) -> str:
        return (
            f"<Message {self.id} from {self.queue!r}, received {self.receive_count}x, "
            f"{len(self.raw)} bytes>"
        )


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


Death = Literal["dead", "dropped"]
"""Moved to the dead-letter queue, or deleted because the queue has `max_receives` but none."""

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
