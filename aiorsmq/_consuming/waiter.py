"""What a consumer puts into the line of its queue."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from typing import Protocol

from .._record import Record
from .._server.failing import Failing
from .._server.futures import resolve, retrieve_error


class Stream(Protocol):
    """An iteration over messages, which puts waiters into the line as it needs them."""

    def end(self) -> None: ...


class Mailbox:
    """The waiters of one stream, and where they are delivered: in the order in which they are done.

    That is the order of the claims. It is not always the order of the line: a claim that was cut
    short leaves waiters in front that a later claim serves.
    """

    __slots__ = ("__weakref__", "delivered", "readers", "waiters")

    def __init__(self) -> None:
        self.waiters: deque[Waiter] = deque()
        """In the line, or delivered and not yet read."""
        self.delivered: deque[Waiter] = deque()
        self.readers: deque[asyncio.Future[None]] = deque()
        """Tasks that wait for the next delivery."""

    def deliver(self, waiter: Waiter) -> None:
        self.delivered.append(waiter)
        if self.readers:
            self.wake()

    def wake(self) -> None:
        """Wake the first task that is waiting."""
        while self.readers:
            reader = self.readers.popleft()
            if not reader.done():
                reader.set_result(None)
                return

    def holds_messages(self) -> bool:
        """Whether some were claimed and not yet read."""
        return any(waiter.record is not None for waiter in self.delivered)

    def withdraw_served(self) -> list[Waiter]:
        """Take out the waiters whose messages were claimed and not yet read."""
        served = [waiter for waiter in self.delivered if waiter.record is not None]
        if served:
            self.delivered = deque(waiter for waiter in self.delivered if waiter.record is None)
            self.waiters = deque(waiter for waiter in self.waiters if waiter.record is None)
        return served

    def withdraw(self, keep: int = 0) -> list[Waiter]:
        """Take out all waiters but `keep`: the delivered stay first."""
        waiters = sorted(self.waiters, key=lambda waiter: not waiter.is_done)
        head = waiters[:keep]
        self.waiters = deque(head)
        self.delivered = deque(waiter for waiter in self.delivered if waiter in head)
        return waiters[keep:]


class Waiter:
    """One consumer waiting for one message.

    It is done when it is served (`record`), failed (`error`), or dismissed (neither): no message
    will come. Its consumer awaits `future()`, or reads it from a mailbox.

    Args:
        patient: whether it stays in the line until there is a message. Otherwise it is dismissed
            when there is none now.
        mailbox: of its stream, if it belongs to one.
        until: the deadline, by the event loop's clock, of one that is not patient.
    """

    __slots__ = (
        "_future",
        "_mailbox",
        "error",
        "is_done",
        "loop",
        "needs_own_claim",
        "patient",
        "record",
        "until",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        patient: bool,
        mailbox: Mailbox | None = None,
        until: float = math.inf,
    ) -> None:
        self.loop: asyncio.AbstractEventLoop = loop
        self.patient: bool = patient
        self.until: float = until
        self.is_done: bool = False
        self.record: Record | None = None
        self.error: Exception | None = None
        self.needs_own_claim: bool = False
        """Set on the last of several waiters of one caller: its next waiters are left to the next
        claim where one claim might return the same message twice."""
        self._mailbox = mailbox
        self._future: asyncio.Future[None] | None = None

    def future(self) -> asyncio.Future[None]:
        """Done when the waiter is; raises `error`. Created here: few waiters are awaited."""
        self._future = asyncio.Future(loop=self.loop)
        if self.is_done:
            resolve(self._future, self.error)
        return self._future

    def serve(self, record: Record) -> None:
        self.is_done = True
        self.record = record
        if (mailbox := self._mailbox) is not None:
            mailbox.delivered.append(self)  # hot path: spares each message a call of `deliver`
            if mailbox.readers:
                mailbox.wake()
        elif self._future is not None and not self._future.done():
            self._future.set_result(None)

    def dismiss(self) -> None:
        """No message will come: its consumer has left, or need not wait any longer."""
        self.is_done = True
        if self._future is not None:
            resolve(self._future, None)

    def fail(self, error: Exception, failing: Failing) -> None:
        self.is_done = True
        self.error = error
        if self._mailbox is not None:
            self._mailbox.deliver(self)
        elif self._future is not None and not self._future.done():
            # The consumer may have left: asyncio need not report it.
            self._future.add_done_callback(retrieve_error)
            failing.fail(self._future, error)

    def take(self) -> Record | None:
        record = self.record
        self.record = None
        return record
