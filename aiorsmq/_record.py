"""A message as a script returned it, and the interface that settles it."""

from __future__ import annotations

from asyncio import Future
from collections import deque
from collections.abc import Awaitable
from typing import NamedTuple, Protocol


class Record(NamedTuple):
    """A message as a script returned it. Left unparsed, because most fields are never read."""

    id: bytes
    raw: bytes
    receive_count: bytes
    first_received: bytes
    """When it was first received, in ms since the epoch; empty if it never was."""
    place: bytes
    """Its score before the script ran: the place that a message is handed back to."""
    visible: bytes
    """Its score after the script ran."""

    @property
    def fence(self) -> bytes:
        """Identifies this delivery, in the format of `prelude.lua`.

        The receive count alone is not enough: a move to another queue and back resets it, but
        changes the time of the first receipt.
        """
        return self.receive_count + b" " + self.first_received

    def __repr__(self) -> str:  # no body
        return f"<Record {self.id!r}, received {self.receive_count!r}x, {len(self.raw)} bytes>"


class Named(Protocol):
    """A queue's name and namespace."""

    @property
    def qname(self) -> str: ...
    @property
    def ns(self) -> str: ...


def log_fields(queue: Named, record: Record, **facts: object) -> dict[str, object]:
    """The fields of a record in the log that is about a message."""
    id = record.id.decode(errors="replace")
    attempt = int(record.receive_count)
    return {"queue": queue.qname, "ns": queue.ns, "id": id, "attempt": attempt, **facts}


class Settles(Protocol):
    """The methods that a message is settled with; implemented in `_commands.settle`."""

    def delete(self, record: Record, lease_end: bytes | None = None, /) -> Future[bool]: ...
    def lease_end(self, vt_ms: int, /) -> bytes: ...
    def change_visibility(self, record: Record, vt_ms: int, /) -> Awaitable[bool]: ...
    def release(self, record: Record, delay_ms: int, /) -> Awaitable[bool]: ...


class PendingDeletes(deque["Future[bool]"]):
    """Deletes that a stream waits for in place of its messages' blocks, until the stream ends."""

    abandoned: bool = False

    def __init__(self, queue: str) -> None:
        super().__init__()
        self.queue: str = queue
