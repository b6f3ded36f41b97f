"""What a consumer puts in the line of its queue."""

import asyncio
from collections.abc import Collection

from ._tasks import resolve
from .models import Record


class Slot:
    """One consumer's want of one message; done when it is met, or is not going to be.

    It has a future only if somebody has to wait: a slot that was filled ahead is not waited for.

    Args:
        patient: whether it stays in the line until there is a message; else it is done when there is none now.
        first: those to be met before it, if somebody waits for them: claims may answer in another order than they were
            asked in, and a stream that waits for one slot would not look at its others.
    """

    __slots__ = ("_error", "_first", "_waiter", "done", "loop", "patient", "record")

    def __init__(self, loop: asyncio.AbstractEventLoop, patient: bool, first: "Collection[Slot]" = ()) -> None:
        self.loop: asyncio.AbstractEventLoop = loop
        self.patient: bool = patient
        self._first = first
        self.done: bool = False
        self.record: Record | None = None
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None

    def waiter(self) -> "asyncio.Future[None]":
        """What to wait for; it raises why the slot is not going to be met."""
        self._waiter = asyncio.Future(loop=self.loop)
        if self.done:
            resolve(self._waiter, self._error)
        return self._waiter

    def meet(self, record: Record) -> bool:
        """Fill it, or the first of those that are to be met before it. Returns whether it is done now."""
        if self._waiter is None:
            for slot in self._first:
                if not slot.done:
                    slot.finish(record)
                    return False
        elif not self._waiter.done():
            self._waiter.set_result(None)
        self.done, self.record = True, record  # not by way of `finish`: it is asked for each message
        return True

    def finish(self, record: Record | None) -> None:
        self.done, self.record = True, record
        if self._waiter is not None:
            resolve(self._waiter, None)

    def fail(self, error: Exception) -> None:
        self.done, self._error = True, error
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)
            self._waiter.exception()  # its consumer may be gone; then nobody else needs to hear of it

    def take(self) -> Record | None:
        record, self.record = self.record, None
        return record
