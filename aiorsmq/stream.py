"""The async iterator over a queue's messages."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import TracebackType
from typing import Generic, TypeVar

from ._consuming.line import Claims
from ._consuming.waiter import Ahead, Slot
from ._record import Record, Unconfirmed
from ._server.tasks import ended
from .errors import ClientClosed, QueueDoesNotExist
from .models import Message

T = TypeVar("T")

_logger = logging.getLogger(__name__)


class Messages(Generic[T]):
    """The messages of one queue as they come: an async iterator that never ends by itself.

    It is an async context manager too; leaving it, `aclose()`, cancelling a task that waits for the
    next message, and dropping the iterator all hand back what it has claimed ahead (see `prefetch`
    of `Queue.messages`) and has not handed out. The client's `aclose()` ends the iteration. Several
    tasks may iterate over one.
    """

    def __init__(
        self,
        claims: Claims,
        read: Callable[[Record, None, Unconfirmed | None], Message[T] | None],
        prefetch: int,
        create_missing: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._claims = claims
        self._read = read
        self._prefetch = prefetch
        self._create_missing = create_missing
        self._unconfirmed = Unconfirmed() if prefetch else None
        self._ahead: deque[Slot] = deque()
        """All slots that were asked for and not taken."""
        self._done = Ahead()
        self._ended = False
        claims.open_stream(self)

    def __aiter__(self) -> "Messages[T]":
        return self

    async def __anext__(self) -> Message[T]:
        """Wait for the next message.

        Cancelling loses nothing: a message claimed for this call goes to another waiting consumer,
        or back to its old place in the queue. Outages of the server are waited out; raised are
        QueueDoesNotExist (see `create` of `Queue.messages`), and redis-py's errors where waiting
        does not help (no permission, an address that never answered, a password that never worked
        or has been refused for a minute); and with `prefetch`, whatever kept a message from being
        deleted at the end of its block.
        """
        deletes = self._unconfirmed
        while deletes and deletes[0].done():
            deletes.popleft().result()
        if deletes and len(deletes) > self._prefetch:
            await self._confirm(self._prefetch)
        has_waited = False
        while not self._ended:
            done = self._done
            wanted = 1 + self._prefetch + len(done.waiters) - len(self._ahead)
            if wanted > self._prefetch - self._prefetch // 2:
                self._ahead.extend(self._claims.ask(wanted, patient=True, ahead=done))
            if not done.done:
                await self._wait()
                has_waited = True
                continue
            slot = done.done.popleft()
            if self._ahead[0] is slot:
                self._ahead.popleft()
            else:
                self._ahead.remove(slot)
            if (record := slot.record) is None:
                await self._fail(slot)
            elif has_waited or not self._claims.is_over(record):
                # else its lease has ended while it waited here: others may have received it
                message = self._read(record, None, deletes)
                if message is not None:
                    return message
        raise StopAsyncIteration

    async def _wait(self) -> None:
        """Until a slot is done, or the stream has ended."""
        waiter: asyncio.Future[None] = asyncio.Future(loop=self._ahead[0].loop)
        self._done.waiters.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            with suppress(ValueError):  # it has been woken
                self._done.waiters.remove(waiter)
            self._hand_back(keep=len(self._done.waiters))
            if self._done.done:
                self._done.wake()
            raise

    async def _fail(self, slot: Slot) -> None:
        """Raise why a slot is not going to be met, or end; or create the queue that is missing."""
        if isinstance(slot.error, ClientClosed):
            self._ended = True
        elif slot.error is not None:
            self._hand_back(keep=len(self._done.waiters))  # the others have met the same
            if self._create_missing is None or not isinstance(slot.error, QueueDoesNotExist):
                raise slot.error
            await self._create_missing()

    async def _confirm(self, at_most: int = 0) -> None:
        """Wait until no more deletes than that are under way. Raises what the first of them raises
        that fails.
        """
        deletes = self._unconfirmed
        while deletes and (deletes[0].done() or len(deletes) > at_most):
            if deletes[0].done():
                deletes.popleft().result()
                continue
            try:
                await ended(deletes[0])
            except asyncio.CancelledError:
                self._hand_back()
                raise

    def end(self) -> None:
        """End the iteration, wherever it is awaited, and hand back what was not handed out."""
        self._ended = True
        if self._unconfirmed is not None:
            self._unconfirmed.left = True
        self._hand_back()
        while self._done.waiters:
            self._done.wake()

    def _hand_back(self, keep: int = 0) -> None:
        """Leave the line, but for as many slots as other tasks still wait for; those that are done
        come first.
        """
        slots = sorted(self._ahead, key=lambda slot: not slot.done)
        kept, withdrawn = slots[:keep], slots[keep:]
        self._ahead = deque(kept)
        self._done.done = deque(slot for slot in self._done.done if slot in kept)
        self._claims.withdraw(withdrawn)

    async def aclose(self) -> None:
        """End the iteration, also for a task that awaits it just now.

        Waits until the messages are deleted whose blocks have ended (see `prefetch` of
        `Queue.messages`), and raises what kept one of them from being deleted. Cancelling stops the
        waiting, not the deletes.
        """
        self.end()
        try:
            await self._confirm()
        finally:
            _let_go(self._unconfirmed)

    async def __aenter__(self) -> "Messages[T]":
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
            _let_go(self._unconfirmed)

    def __del__(self) -> None:
        if self._ahead and not (loop := self._ahead[0].loop).is_closed():
            loop.call_soon_threadsafe(self._claims.withdraw, self._ahead)
        if self._unconfirmed is not None:
            self._unconfirmed.left = True
        if self._unconfirmed and not (loop := self._unconfirmed[0].get_loop()).is_closed():
            loop.call_soon_threadsafe(_let_go, self._unconfirmed)


def _let_go(deletes: Unconfirmed | None) -> None:
    """Nobody waits for these deletes any more: what keeps one from being done goes to the log."""
    while deletes:
        deletes.popleft().add_done_callback(_log_failure)


def _log_failure(deleting: "asyncio.Future[bool]") -> None:
    if not deleting.cancelled() and (error := deleting.exception()) is not None:
        _logger.warning(
            "could not delete a message whose block has ended, it will come again: %s", error
        )
