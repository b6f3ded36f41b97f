"""What those who run a queue do with it; see `aiorsmq.operations`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Generic, Literal, TypeVar, cast

from .. import queue as queues
from .._protocol import Seconds
from ..models import Audit, DeadLetter, Found, Place, ReasonGroup, Receipt, Snapshot, StoredMessage
from ..runs import Redrive
from ._steps import iterate
from ._twin import Twin, current_thread
from .message import Message
from .stream import Announcements

T = TypeVar("T")


class QueueOperations(Generic[T]):
    """The part of `Queue` that operators use."""

    def __init__(self, twin: Twin[queues.Queue[T]]) -> None:
        self.name: str = twin.model.name
        self.ns: str = twin.model.ns
        self._twin = twin

    def snapshot(self) -> Snapshot:
        """What the queue looks like now, for those who look after it."""
        return self._twin.run(lambda queue: queue.snapshot())

    def peek(self, limit: int = 10) -> list[Message[T]]:
        """Look at the first messages, hidden ones included, in the order in which they become
        visible."""
        messages = self._twin.run(lambda queue: queue.peek(limit))
        return [Message(message, current_thread()) for message in messages]

    def get(self, id: str, *, max_bytes: int | None = None) -> StoredMessage | None:
        """Look at one message, hidden or not, without receiving it; None if it is not there."""
        return self._twin.run(lambda queue: queue.get(id, max_bytes=max_bytes))

    def find(
        self,
        *,
        text: str | bytes | None = None,
        state: Literal["visible", "hidden"] | None = None,
        older_than: Seconds | None = None,
        min_receives: int | None = None,
        reason: str | None = None,
        limit: int = 100,
        budget: int = 100_000,
        max_bytes: int = 200,
        after: Place | None = None,
    ) -> Found:
        """Look for messages that meet all conditions, in the order of `peek`, and receive none."""
        return self._twin.run(
            lambda queue: queue.find(
                text=text,
                state=state,
                older_than=older_than,
                min_receives=min_receives,
                reason=reason,
                limit=limit,
                budget=budget,
                max_bytes=max_bytes,
                after=after,
            )
        )

    def announcements(self) -> Announcements:
        """The announcements of the queue as they come, for `for`: each step yields None."""
        return Announcements(self._twin.child(lambda queue: queue.announcements()))

    def replace(
        self,
        id: str | Receipt,
        body: Any,
        *,
        to: QueueOperations[Any] | str | None = None,
        delay: Seconds | None = None,
    ) -> str | None:
        """Edit a message and send it again: delete it, and store another one, in one atomic step;
        return the new id."""
        queue = self._model_of(to)
        return self._twin.run(lambda model: model.replace(id, body, to=queue, delay=delay))

    def reasons(self, limit: int = 100) -> list[DeadLetter]:
        """Why the first messages of this dead-letter queue died, hidden ones included, in the order
        of `peek`."""
        return self._twin.run(lambda queue: queue.reasons(limit))

    def reason_groups(self, *, budget: int = 100_000) -> list[ReasonGroup]:
        """Count the messages of this dead-letter queue by why they died, hidden ones included; the
        largest group first."""
        return self._twin.run(lambda queue: queue.reason_groups(budget=budget))

    def redrive(
        self,
        to: QueueOperations[Any] | str | None = None,
        *,
        limit: int | None = None,
        rate: float | None = None,
        where: Callable[[DeadLetter], bool] | None = None,
        reason: str | None = None,
    ) -> int:
        """Move messages of this dead-letter queue back, as new ones; return their number.

        See `aiorsmq.Queue.redrive`. `where` runs in the event loop's thread.
        """
        queue = self._model_of(to)

        async def run(dead: queues.Queue[T]) -> int:
            return await dead.redrive(queue, limit=limit, rate=rate, where=where, reason=reason)

        return self._twin.run(run)

    def redrive_steps(
        self,
        to: QueueOperations[Any] | str | None = None,
        *,
        limit: int | None = None,
        rate: float | None = None,
        where: Callable[[DeadLetter], bool] | None = None,
        reason: str | None = None,
    ) -> Iterator[int]:
        """`redrive` that tells its progress: moves a step of up to 64 messages for each step of the
        iteration, and yields the number moved so far."""
        queue = self._model_of(to)

        async def begin(dead: queues.Queue[T]) -> Redrive:
            return dead.redrive(queue, limit=limit, rate=rate, where=where, reason=reason)

        return iterate(self._twin, self._twin.run(begin))

    def pause(self) -> bool:
        """Have consumers receive nothing more until `resume`; producers go on sending.

        See `aiorsmq.Queue.pause`.
        """
        return self._twin.run(lambda queue: queue.pause())

    def resume(self) -> bool:
        """End a pause. Returns True, or False if the queue was not paused."""
        return self._twin.run(lambda queue: queue.resume())

    def purge(
        self,
        *,
        older_than: Seconds | None = None,
        min_receives: int | None = None,
        text: str | bytes | None = None,
        state: Literal["visible", "hidden"] | None = None,
        reason: str | None = None,
        dry_run: bool = False,
    ) -> int:
        """Delete the messages that are in the queue now, hidden ones included; return their
        number."""
        return self._twin.run(
            lambda queue: queue.purge(
                older_than=older_than,
                min_receives=min_receives,
                text=text,
                state=state,
                reason=reason,
                dry_run=dry_run,
            )
        )

    def audit(self, *, repair: bool = False, budget: int = 1_000_000) -> Audit:
        """Look through the queue's keys for what is wrong in them; with `repair`, mend it."""
        return self._twin.run(lambda queue: queue.audit(repair=repair, budget=budget))

    def _model_of(self, to: QueueOperations[Any] | str | None) -> queues.Queue[Any] | str | None:
        return to._twin.model if isinstance(to, QueueOperations) else to  # noqa: SLF001 - of this class

    def __repr__(self) -> str:
        return repr(self._twin.model)


def as_list(items: Any) -> Any:
    """The items of an iterable, which may be lazy: it runs in the caller's thread."""
    is_lazy = isinstance(items, Iterable) and not isinstance(items, str | bytes | Mapping)
    return list(cast("Iterable[Any]", items)) if is_lazy else cast("Any", items)
