"""A message as a script returned it, and what settles it."""

from asyncio import Future
from collections import deque
from collections.abc import Awaitable
from typing import NamedTuple, Protocol


class Record(NamedTuple):
    """A message as a script returned it, not yet parsed: most of it is never asked for."""

    id: bytes
    raw: bytes
    receive_count: bytes
    first_received: bytes
    """In ms; empty if it never was."""
    place: bytes
    """Its score before the script: where a message that is handed back belongs."""
    visible: bytes
    """Its score after the script."""

    @property
    def fence(self) -> bytes:
        """Tells this receipt from every other, as `_common.lua` makes it: a move to another queue
        and back resets the receive count, but not to the same first receipt.
        """
        return self.receive_count + b" " + self.first_received

    def __repr__(self) -> str:  # no body
        return f"<Record {self.id!r}, received {self.receive_count!r}x, {len(self.raw)} bytes>"


class Settles(Protocol):
    """What a message needs to settle itself; see `_commands.settle`."""

    def delete(self, record: Record, lease_end: bytes | None = None, /) -> Future[bool]: ...
    def lease_end(self, vt_ms: int, /) -> bytes: ...
    def change_visibility(self, record: Record, vt_ms: int, /) -> Awaitable[bool]: ...
    def release(self, record: Record, delay_ms: int, /) -> Awaitable[bool]: ...


class PendingDeletes(deque["Future[bool]"]):
    """The deletes of one stream's messages that no block waits for; the stream does, until it is
    left.
    """

    abandoned: bool = False
