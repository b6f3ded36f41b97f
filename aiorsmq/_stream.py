"""The async iterator over a queue's messages."""

import asyncio
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Generic, TypeVar

from ._claims import Claims, Slot
from .errors import ClientClosed
from .models import Message, Record

T = TypeVar("T")


class Messages(Generic[T]):
    """The messages of one queue as they come: an async iterator that never ends by itself.

    It is an async context manager too; leaving it, `aclose()`, cancelling a task that waits for the next message, and
    dropping the iterator all hand back what it has claimed ahead (see `prefetch` of `Queue.messages`) and has not
    handed out. The client's `aclose()` ends the iteration. Several tasks may iterate over one.
    """

    def __init__(
        self,
        claims: Claims,
        read: "Callable[[Record, None, deque[asyncio.Future[bool]] | None], Message[T] | None]",
        prefetch: int,
    ) -> None:
        self._claims = claims
        self._read = read
        self._prefetch = prefetch
        self._unconfirmed: deque[asyncio.Future[bool]] | None = deque() if prefetch else None
        """Deletes that no block waits for."""
        self._ahead: deque[Slot] = deque()
        self._awaited: set[Slot] = set()
        self._ended = False
        claims.open_stream(self)

    def __aiter__(self) -> "Messages[T]":
        return self

    async def __anext__(self) -> Message[T]:
        """Wait for the next message.

        Cancelling loses nothing: a message claimed for this call goes to another waiting consumer, or back to its old
        place in the queue. Outages of the server are waited out; raised are QueueDoesNotExist, and redis-py's errors
        where waiting does not help (no permission, wrong password, an address that never answered); and with
        `prefetch`, whatever kept a message from being deleted at the end of its block.
        """
        deletes = self._unconfirmed
        while deletes and (deletes[0].done() or len(deletes) > self._prefetch):
            await deletes.popleft()
        while not self._ended:
            if len(self._ahead) <= self._prefetch // 2:
                wanted = 1 + self._prefetch - len(self._ahead)
                self._ahead.extend(self._claims.ask(wanted, patient=True))
            slot = self._ahead.popleft()
            if (record := slot.record) is None:
                record = await self._wait_for(slot)
            elif self._claims.is_over(record):
                continue  # its lease has ended while it waited here: others may have received it
            if record is not None and (message := self._read(record, None, deletes)) is not None:
                return message
        raise StopAsyncIteration

    async def _wait_for(self, slot: Slot) -> Record | None:
        self._awaited.add(slot)
        try:
            await slot.waiter()
            return slot.take()
        except asyncio.CancelledError:
            self._claims.withdraw((slot, *self._ahead))
            self._ahead.clear()
            raise
        except ClientClosed:
            self._ended = True
            return None
        except Exception:
            self._claims.withdraw(self._ahead)  # they have met the same
            self._ahead.clear()
            raise
        finally:
            self._awaited.discard(slot)

    def end(self) -> None:
        """End the iteration, wherever it is awaited, and hand back what was not handed out."""
        self._ended = True
        for slot in self._awaited:
            if not slot.done:
                slot.finish(None)
        self._claims.withdraw([*self._awaited, *self._ahead])
        self._ahead.clear()

    async def _confirm(self) -> None:
        """Wait for all deletes. Raises what the first of them raises that fails."""
        while self._unconfirmed:
            await self._unconfirmed.popleft()

    async def aclose(self) -> None:
        """End the iteration, also for a task that awaits it just now.

        Waits until the messages are deleted whose blocks have ended (see `prefetch` of `Queue.messages`), and raises
        what kept one of them from being deleted. Cancelling stops the waiting, not the deletes.
        """
        self.end()
        await self._confirm()

    async def __aenter__(self) -> "Messages[T]":
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.end()
        if exc_type is None:
            await self._confirm()

    def __del__(self) -> None:
        if self._ahead and not (loop := self._ahead[0].loop).is_closed():
            loop.call_soon_threadsafe(self._claims.withdraw, self._ahead)
