"""A delivery of a message, and what settles it."""

from __future__ import annotations

import logging
from datetime import datetime
from types import NoneType, TracebackType
from typing import Generic, NamedTuple, NoReturn, TypeVar

from .._protocol import Keys, Seconds, check_id, id_time, milliseconds, utc_from_ms
from .._record import PendingDeletes, Record, Settles, log_fields
from ..errors import InvalidParameterValue

T = TypeVar("T")

_logger = logging.getLogger("aiorsmq.queue")


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
        "_keys",
        "_lease_end",
        "_pending_deletes",
        "_record",
        "_settler",
    )

    def __init__(
        self,
        record: Record,
        body: T,
        keys: Keys,
        settler: Settles | None,
        pending_deletes: PendingDeletes | None = None,
    ) -> None:
        self._record = record
        self._lease_end: bytes | None = None
        """When the lease ends, in ms since the epoch; None until the first `extend`."""
        self._body = body
        self._keys = keys
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
        return self._keys.qname

    @property
    def ns(self) -> str:
        """The namespace of the message's queue."""
        return self._keys.ns

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

    async def __aenter__(self) -> Message[T]:
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
            extra = log_fields(self._keys, self._record, reason=str(error))
            _logger.warning(text, self.id, error, extra=extra)

    def __copy__(self) -> Message[T]:
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
