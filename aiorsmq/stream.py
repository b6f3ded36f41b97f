"""The async iterator over a queue's messages."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Generic, TypeVar

from ._consuming.line import ConsumerLine
from ._consuming.waiter import Mailbox, Waiter
from ._record import PendingDeletes, Record
from ._server.futures import wait_until_done
from ._server.home import Home
from .errors import ClientClosed, QueueDoesNotExist
from .models import Message

T = TypeVar("T")

_logger = logging.getLogger("aiorsmq.stream")


class Messages(Generic[T]):
    """The messages of one queue as they come: an async iterator that never ends by itself.

    It is an async context manager too. Leaving it, `aclose()`, cancelling a task that waits for the
    next message, and dropping the iterator all hand back messages that it has claimed ahead (see
    `prefetch` of `Queue.messages`) and not handed out. Several tasks may iterate over one iterator.

    When the client is closed, a stream that has begun ends quietly. Every other stream raises
    ClientClosed when its iteration begins, like every call.
    """

    def __init__(
        self,
        line: ConsumerLine,
        read: Callable[[Record, None, PendingDeletes | None], Message[T] | None],
        *,
        home: Home,
        prefetch: int = 0,
        create_missing: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._line = line
        self._read = read
        self._home = home
        self._prefetch = prefetch
        self._create_missing = create_missing
        self._pending_deletes = PendingDeletes(line.qname) if prefetch else None
        self._mailbox = Mailbox()
        self._loop: asyncio.AbstractEventLoop | None = None
        """Where it is iterated; None before it begins."""
        self._ended = False
        line.audience.open_stream(self)

    def __aiter__(self) -> Messages[T]:
        return self

    async def __anext__(self) -> Message[T]:
        """Wait for the next message.

        Cancelling loses nothing: a message claimed for this call goes to another waiting consumer,
        or back to its old place in the queue.

        Outages of the server are ridden out. Raises QueueDoesNotExist (see `create` of
        `Queue.messages`); redis-py's errors where waiting does not help (no permission, an address
        that never answered, a password that never worked or has been refused for a minute); and
        with `prefetch`, the error of a delete at the end of an earlier block.
        """
        deletes = self._pending_deletes
        while deletes and deletes[0].done():
            deletes.popleft().result()
        if deletes and len(deletes) > self._prefetch:
            await self._wait_for_deletes(self._prefetch)
        mailbox = self._mailbox
        has_waited = False
        while not self._ended:
            try:
                self._join_line()
            except ClientClosed:  # it has begun to close, and ends its streams next
                break
            if not mailbox.delivered:
                await self._wait()
                has_waited = True
                continue
            waiter = mailbox.delivered.popleft()
            if mailbox.waiters[0] is waiter:  # hot path: spares most messages the search
                mailbox.waiters.popleft()
            else:
                mailbox.waiters.remove(waiter)
            if (record := waiter.record) is None:
                await self._handle_failure(waiter)
            elif has_waited or not self._line.is_over(record):
                # A lease that ended while the message waited here: others may have received it.
                message = self._read(record, None, deletes)
                if message is not None:
                    return message
        raise self._last_step()

    def _last_step(self) -> Exception:
        """What a call raises once the iteration has ended."""
        is_refused = self._home.closing and self._loop is None
        return ClientClosed() if is_refused else StopAsyncIteration()

    def _join_line(self) -> None:
        """Ask for a message for each iterating task and `prefetch` more; several at once, to
        share a claim."""
        mailbox = self._mailbox
        number = 1 + self._prefetch + len(mailbox.readers) - len(mailbox.waiters)
        if number > self._prefetch - self._prefetch // 2:
            mailbox.waiters += self._line.join(number, patient=True, mailbox=mailbox)
            self._loop = mailbox.waiters[-1].loop
            if self._prefetch:
                self._line.audience.begin_ahead(mailbox)

    async def _wait(self) -> None:
        """Wait for a delivery, or for the end of the iteration."""
        reader: asyncio.Future[None] = asyncio.Future(loop=self._mailbox.waiters[0].loop)
        self._mailbox.readers.append(reader)
        try:
            await reader
        except asyncio.CancelledError:
            with suppress(ValueError):  # already woken
                self._mailbox.readers.remove(reader)
            self._hand_back(keep=len(self._mailbox.readers))
            if self._mailbox.delivered:
                self._mailbox.wake()
            raise

    async def _handle_failure(self, waiter: Waiter) -> None:
        """Raise the waiter's error, or end the iteration, or create the missing queue."""
        if isinstance(waiter.error, ClientClosed):
            self._ended = True
        elif waiter.error is not None:
            self._hand_back(keep=len(self._mailbox.readers))  # the others met the same error
            if self._create_missing is None or not isinstance(waiter.error, QueueDoesNotExist):
                raise waiter.error
            with suppress(ClientClosed):  # it ends its streams
                await self._create_missing()

    async def _wait_for_deletes(self, limit: int = 0) -> None:
        """Wait until at most `limit` deletes are in flight. Raises the error of one that failed."""
        deletes = self._pending_deletes
        while deletes and (deletes[0].done() or len(deletes) > limit):
            if deletes[0].done():
                deletes.popleft().result()
                continue
            try:
                await wait_until_done(deletes[0])
            except asyncio.CancelledError:
                self._hand_back()
                raise

    def end(self) -> None:
        """End the iteration, also for tasks that await it; hand back what was not handed out."""
        self._ended = True
        if self._pending_deletes is not None:
            self._pending_deletes.abandoned = True
        self._hand_back()
        while self._mailbox.readers:
            self._mailbox.wake()

    def _hand_back(self, keep: int = 0) -> None:
        """Leave the line, but for the `keep` waiters that other tasks need: the delivered first."""
        self._line.leave(self._mailbox.withdraw(keep))
        if not self._mailbox.waiters:
            self._line.audience.end_ahead(self._mailbox)

    async def aclose(self) -> None:
        """End the iteration, also for a task that awaits it.

        Waits until the messages are deleted whose blocks have ended (see `prefetch` of
        `Queue.messages`), and raises the error of one that failed. Cancelling stops the waiting,
        not the deletes.
        """
        self.end()
        try:
            await self._wait_for_deletes()
        finally:
            _abandon(self._pending_deletes)

    async def __aenter__(self) -> Messages[T]:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc_type is None:
            await self.aclose()
        else:
            self.end()
            _abandon(self._pending_deletes)

    def __del__(self) -> None:
        loop = self._loop
        if loop is None or loop.is_closed():
            return
        if self._mailbox.waiters or self._prefetch:  # a pause may have taken the waiters
            loop.call_soon_threadsafe(_leave, self._line, self._mailbox)
        if self._pending_deletes is not None:
            self._pending_deletes.abandoned = True
            loop.call_soon_threadsafe(_abandon, self._pending_deletes)


def _leave(line: ConsumerLine, mailbox: Mailbox) -> None:
    line.leave(mailbox.withdraw())
    line.audience.end_ahead(mailbox)


def _abandon(deletes: PendingDeletes | None) -> None:
    """Nobody waits for these deletes any more: log the errors of those that fail."""
    while deletes:
        deletes.popleft().add_done_callback(partial(_log_failure, deletes.queue))


def _log_failure(queue: str, deleting: asyncio.Future[bool]) -> None:
    if not deleting.cancelled() and (error := deleting.exception()) is not None:
        text = "could not delete a message after its block; it will be redelivered: %s"
        _logger.warning(text, error, extra={"queue": queue, "reason": str(error)})
