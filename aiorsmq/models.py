"""What the library hands out: messages and the attributes of queues."""

import logging
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import NoneType, TracebackType
from typing import Generic, Literal, NamedTuple, NoReturn, TypedDict, TypeVar

from ._protocol import Seconds, check_id, id_time, milliseconds
from ._record import PendingDeletes, Record, Settles
from .errors import InvalidParameterValue

T = TypeVar("T")

_logger = logging.getLogger(__name__)

_LATEST_MS = 253_402_300_799_000  # the last second that a datetime can say; scores can be anything


def utc_from_ms(ms: float) -> datetime:
    return datetime.fromtimestamp(min(max(ms, 0), _LATEST_MS) / 1000, UTC)


class Receipt(NamedTuple):
    """What settles one delivery of a message from anywhere, another process included; plain values,
    to be pickled.

    `Queue.delete_message`, `delete_many` and `change_visibility` take it in place of an id, and are
    fenced by it: they return False, and change nothing, once another consumer has received the
    message.
    """

    id: str
    receive_count: int
    first_received: int | None
    """When the message was received for the first time, in ms since the epoch."""

    @property
    def fence(self) -> bytes:
        """As `Record.fence`."""
        return (
            f"{self.receive_count} {'' if self.first_received is None else self.first_received}"
        ).encode()


def id_and_fence(id: object, parameter: str = "id") -> tuple[bytes, bytes]:
    """What settles the message of an id, which fences nothing, or of a receipt."""
    if not isinstance(id, Receipt):
        return check_id(id, parameter).encode(), b""
    is_count = type(id.receive_count) is int
    if not (isinstance(id.id, str) and is_count and type(id.first_received) in (int, NoneType)):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidParameterValue(parameter, id, "must be an unchanged receipt of a message")
    return id.id.encode(errors="surrogateescape"), id.fence  # any id: it has been received


class Message(Generic[T]):
    """One delivery of one message. Immutable; it knows its queue and can settle itself.

    `delete`, `extend` and `release` are fenced: they carry the receive count and the first receipt
    of this delivery, and change nothing once another consumer has received the message, or it has
    moved to another queue and back.

    `async with message:` deletes it at the end of the block, and makes it visible again at once if
    the block raises or is cancelled. The end of the block waits until the server has deleted it,
    but for the messages of a stream with `prefetch` that goes on (see `Queue.messages`).

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
        """In ms, once extended."""
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
        """How often the message has been received, this time included; 0 for one that was only
        peeked at.
        """
        return int(self._record.receive_count)

    @property
    def sent_at(self) -> datetime:
        """When it was sent, by the server's clock, as its id tells.

        For a foreign id that carries no time: the earliest moment known, its first receipt or
        `visible_until`.
        """
        seconds = id_time(self.id)
        if seconds is None:
            return self.first_received_at or self.visible_until
        return utc_from_ms(seconds * 1000)

    @property
    def first_received_at(self) -> datetime | None:
        """When it was received for the first time; None for one that never was (see
        `Queue.peek`).
        """
        ms = self._record.first_received
        return utc_from_ms(float(ms)) if ms else None

    @property
    def visible_until(self) -> datetime:
        """When this delivery's lease ends and others may receive the message, as of this delivery.

        Of a popped message: when it was popped. Of a peeked one: when it becomes, or became,
        visible.
        """
        return utc_from_ms(float(self._record.visible))

    @property
    def queue(self) -> str:
        """The name of its queue."""
        return self._queue

    @property
    def receipt(self) -> Receipt:
        """What settles this delivery from another process: see `Receipt`."""
        first_received = self._record.first_received
        return Receipt(self.id, self.receive_count, int(first_received) if first_received else None)

    async def delete(self) -> bool:
        """Delete the message; the work is done.

        Returns False, and changes nothing, if another consumer has received it meanwhile, or if it
        is gone; also if the reply was lost, the lease has ended, and by the time of the repetition
        it is gone: another may have deleted it. Cancelling stops the waiting, not the delete.
        """
        settler = self._settler
        return settler is not None and await settler.delete(self._record, self._lease_end)

    async def extend(self, vt: Seconds) -> bool:
        """Keep the message hidden for `vt` seconds from now on.

        Returns False, and changes nothing, if another consumer has received it meanwhile, or if it
        is gone. Cancelling stops the waiting, not the change.
        """
        vt_ms, settler = milliseconds("vt", vt), self._settler
        if settler is None:
            return False
        lease_end = settler.lease_end(vt_ms)
        extended = await settler.change_visibility(self._record, vt_ms)
        if extended:
            self._lease_end = lease_end
        return extended

    async def release(self, delay: Seconds = 0) -> bool:
        """Give the message back: visible after `delay` seconds, and announced to waiting consumers.

        The receive count stays. Returns False, and changes nothing, if another consumer has
        received it meanwhile, or if it is gone. Cancelling stops the waiting, not the change.
        """
        delay_ms, settler = milliseconds("delay", delay), self._settler
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
            else:  # the stream that it came from waits
                self._pending_deletes.append(self._settler.delete(self._record, self._lease_end))
            return
        try:
            await self.release()
        except Exception as error:  # noqa: BLE001 - the block's own exception is what matters
            _logger.warning("could not release message %s, its lease will end: %s", self.id, error)

    def __copy__(self) -> "Message[T]":
        return self  # immutable

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a Message cannot be pickled: pass its body and its receipt, and settle it there with "
            "queue.delete_message(receipt) or queue.change_visibility(receipt, vt)"
        )

    def __repr__(self) -> str:
        return (
            f"<Message {self.id} from {self.queue!r}, received {self.receive_count}x, "
            f"{len(self.raw)} bytes>"
        )


class QueueSettings(TypedDict, total=False):
    """The settings of `Queue.create` and `Queue.set_attributes`; see there."""

    vt: Seconds | None
    delay: Seconds | None
    maxsize: int | None
    max_receives: int | None
    dead_letter_queue: str | None


@dataclass(frozen=True, slots=True)
class QueueAttributes:
    """A queue's settings and counters, all of one moment."""

    vt: int
    """Seconds for which a received message stays hidden, unless the receive says otherwise."""
    delay: int
    """Seconds for which a sent message stays hidden, unless the send says otherwise."""
    maxsize: int
    """The longest message in bytes; -1 for unlimited."""
    totalrecv: int
    """How often messages were received; a message received twice counts twice."""
    totalsent: int
    created: datetime
    modified: datetime
    msgs: int
    """Messages in the queue, hidden ones included."""
    hiddenmsgs: int
    """Those among them that are not visible now; exact to the millisecond (Node rsmq: to the
    second).
    """
    max_receives: int | None
    """How often a message may be received before it moves to the dead-letter queue, or if there is
    none, is dropped; None for any number.
    """
    dead_letter_queue: str | None
    """Where messages go that were received too often, were rejected, or cannot be decoded; None for
    nowhere.
    """


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message in a dead-letter queue, and how it came there.

    Of one whose reason has been forgotten, or that was sent there, only `id` and `raw` are known:
    then `reason` and `queue` are empty, `receive_count` is 0, and `died_at` is when it becomes, or
    became, visible.
    """

    id: str
    raw: bytes = field(repr=False)
    """The body as stored."""
    reason: str
    died_at: datetime
    queue: str
    """The queue that it was moved from."""
    receive_count: int
    """How often it had been received there, the receipt included that found it received too
    often.
    """


@dataclass(frozen=True, slots=True)
class WorkerStats:
    """What has become of the messages since the worker was made.

    Each one received is in flight, or is counted as succeeded, retried, dead, dropped or lost; or,
    when the worker stops or the server does not answer, left to its lease. One whose attempt failed
    is counted as failed too.
    """

    in_flight: int = 0
    received: int = 0
    succeeded: int = 0
    failed: int = 0
    """Attempts that ended with an exception other than Retry and Reject, or ran out of time."""
    retried: int = 0
    """Released to come again."""
    dead: int = 0
    """Moved to a dead-letter queue, by this worker or by a claim of its client's."""
    dropped: int = 0
    """Given up and deleted, for the queue has `max_receives` and no dead-letter queue: by this
    worker or by a claim of its client's.
    """
    lost_leases: int = 0
    """Another consumer received the message, or it was deleted, before its handler had ended."""


Death = Literal["dead", "dropped"]
"""Moved to a dead-letter queue; or deleted, of a queue with `max_receives` and no dead-letter
queue.
"""

EventKind = Literal["received", "succeeded", "failed", "retried", "dead", "dropped", "lease lost"]


@dataclass(frozen=True, slots=True)
class WorkerEvent:
    """What has happened to one message, for `on_event`."""

    kind: EventKind
    queue: str
    id: str
    receive_count: int
    error: BaseException | None = None
    """Of "failed"."""
    delay: float | None = None
    """Of "retried": seconds after which it comes again."""
    reason: str = ""
    """Of "dead" and "dropped"."""
