"""What a consumer puts in the line of its queue."""

import asyncio
import math
from collections import deque

from .._record import Record
from .._server.tasks import resolve


class Ahead:
    """The slots of one stream that are done, in the order in which they were, and who waits for the
    next.

    In that order, not in that of the line: a claim that was cut short leaves slots in front that a
    later one fills.
    """

    __slots__ = ("done", "waiters")

    def __init__(self) -> None:
        self.done: deque[Slot] = deque()
        self.waiters: deque[asyncio.Future[None]] = deque()

    def wake(self) -> None:
        """Wake the first that waits."""
        while self.waiters:
            waiter = self.waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return


class Slot:
    """One consumer's want of one message; done when it is met, or is not going to be.

    It has a future only if somebody has to wait: a slot that was filled ahead is not waited for.

    Args:
        patient: whether it stays in the line until there is a message; else it is done when there
            is none now.
        ahead: of its stream, which it enters when it is done; else somebody waits for it.
        until: the deadline, by the event loop's clock, of one that is not patient.
    """

    __slots__ = (
        "_ahead",
        "_waiter",
        "done",
        "error",
        "is_last_of_many",
        "loop",
        "patient",
        "record",
        "until",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        patient: bool,
        ahead: Ahead | None = None,
        until: float = math.inf,
    ) -> None:
        self.loop: asyncio.AbstractEventLoop = loop
        self.patient: bool = patient
        self.until: float = until
        self.done: bool = False
        self.record: Record | None = None
        self.error: Exception | None = None
        self.is_last_of_many: bool = False
        """Of several for one caller, who wants different messages in them."""
        self._ahead = ahead
        self._waiter: asyncio.Future[None] | None = None

    def waiter(self) -> "asyncio.Future[None]":
        """What to wait for; it raises why the slot is not going to be met."""
        self._waiter = asyncio.Future(loop=self.loop)
        if self.done:
            resolve(self._waiter, self.error)
        return self._waiter

    def meet(self, record: Record) -> None:
        self.done, self.record = (
            True,
            record,
        )  # not by way of `finish`: it is asked for each message
        if (ahead := self._ahead) is not None:
            ahead.done.append(self)
            if ahead.waiters:
                ahead.wake()
        elif self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def finish(self) -> None:
        """Nothing comes: its consumer has left, or need not wait any longer."""
        self.done = True
        if self._waiter is not None:
            resolve(self._waiter, None)

    def fail(self, error: Exception) -> None:
        self.done, self.error = True, error
        if self._ahead is not None:
            self._ahead.done.append(self)
            self._ahead.wake()
        elif self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)
            # its consumer may be gone; then nobody else needs to hear of it
            self._waiter.exception()

    def take(self) -> Record | None:
        record, self.record = self.record, None
        return record
