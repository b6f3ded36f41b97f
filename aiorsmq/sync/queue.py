"""A handle for one queue; its methods are in the order of a message's life."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from .. import errors
from .._protocol import Seconds
from .._working.block import WhenDead
from ..handlers import Reject, Retry
from ..models import Confirm, Ensured, QueueAttributes, Receipt, WorkerEvent
from ._twin import current_thread
from .confirm import retried_here
from .message import Message
from .operations import QueueOperations, as_list
from .stream import Messages
from .transfer import QueueTransfer
from .worker import Worker, adapt, adapt_options

T = TypeVar("T")


class Queue(QueueOperations[T], QueueTransfer[T]):
    """One queue, by its name. Created by `RSMQ.queue`.

    Each method does, returns and raises what the method of `aiorsmq.Queue` does: see there. Any
    number of threads may use one handle. An exception that interrupts a call that waits, such as
    KeyboardInterrupt, cancels it, and propagates: a message that was claimed for it goes back, and
    what was sent may have arrived.
    """

    def create(
        self,
        *,
        vt: Seconds | None = None,
        delay: Seconds | None = None,
        maxsize: int | None = None,
        max_receives: int | None = None,
        dead_letter_queue: str | None = None,
        exist_ok: bool = False,
    ) -> bool:
        """Create the queue, and its dead-letter queue if that does not exist. At the start of a
        program use `ensure`, which also updates a queue that exists."""
        return self._twin.run(
            lambda queue: queue.create(
                vt=vt,
                delay=delay,
                maxsize=maxsize,
                max_receives=max_receives,
                dead_letter_queue=dead_letter_queue,
                exist_ok=exist_ok,
            )
        )

    def ensure(
        self,
        *,
        vt: Seconds | None = None,
        delay: Seconds | None = None,
        maxsize: int | None = None,
        max_receives: int | None = None,
        dead_letter_queue: str | None = None,
    ) -> Ensured:
        """Create the queue as `create` does, or change the settings that you name and that
        differ."""
        return self._twin.run(
            lambda queue: queue.ensure(
                vt=vt,
                delay=delay,
                maxsize=maxsize,
                max_receives=max_receives,
                dead_letter_queue=dead_letter_queue,
            )
        )

    def attributes(self) -> QueueAttributes:
        """The queue's settings and counters."""
        return self._twin.run(lambda queue: queue.attributes())

    def set_attributes(
        self,
        *,
        vt: Seconds | None = None,
        delay: Seconds | None = None,
        maxsize: int | None = None,
        max_receives: int | None = None,
        dead_letter_queue: str | None = None,
    ) -> QueueAttributes:
        """Change one setting or more, and return all attributes."""
        return self._twin.run(
            lambda queue: queue.set_attributes(
                vt=vt,
                delay=delay,
                maxsize=maxsize,
                max_receives=max_receives,
                dead_letter_queue=dead_letter_queue,
            )
        )

    def send(
        self,
        body: T | bytes,
        *,
        delay: Seconds | None = None,
        confirm: Confirm | None = None,
    ) -> str:
        """Send one message and return its id."""
        try:
            return self._twin.run(lambda queue: queue.send(body, delay=delay, confirm=confirm))
        except errors.NotConfirmed as error:
            raise retried_here(error) from None

    def send_many(
        self,
        bodies: Iterable[T | bytes],
        *,
        delay: Seconds | None = None,
        confirm: Confirm | None = None,
    ) -> list[str]:
        """Send messages in order, all or none, in one script call; return their ids."""
        bodies = as_list(bodies)
        try:
            return self._twin.run(
                lambda queue: queue.send_many(bodies, delay=delay, confirm=confirm)
            )
        except errors.NotConfirmed as error:
            raise retried_here(error) from None

    def receive(self, *, vt: Seconds | None = None, wait: Seconds = 0) -> Message[T] | None:
        """Receive the next visible message and hide it for its lease; None if there is none."""
        message = self._twin.run(lambda queue: queue.receive(vt=vt, wait=wait))
        return message and Message(message, current_thread())

    def receive_many(
        self, limit: int, *, vt: Seconds | None = None, wait: Seconds = 0
    ) -> list[Message[T]]:
        """Receive up to `limit` visible messages, as `receive` does; an empty list if there
        are none."""
        messages = self._twin.run(lambda queue: queue.receive_many(limit, vt=vt, wait=wait))
        return [Message(message, current_thread()) for message in messages]

    def pop(self, *, wait: Seconds = 0) -> Message[T] | None:
        """Receive the next visible message and delete it in the same step; None if there is
        none."""
        message = self._twin.run(lambda queue: queue.pop(wait=wait))
        return message and Message(message, current_thread())

    def messages(
        self,
        *,
        vt: Seconds | None = None,
        prefetch: int = 0,
        pop: bool = False,
        create: bool = False,
    ) -> Messages[T]:
        """The messages of the queue as they come, for `for`."""
        return Messages(
            self._twin.child(
                lambda queue: queue.messages(vt=vt, prefetch=prefetch, pop=pop, create=create)
            )
        )

    def worker(
        self,
        handler: Callable[[Message[T]], object],
        *,
        concurrency: int = 10,
        vt: Seconds | None = None,
        create: bool = False,
        timeout: Seconds | None = None,
        max_lease: Seconds | None = None,
        backoff: Callable[[int], float] | None = None,
        on_error: Callable[[Message[Any], Exception], Retry | Reject | None] | None = None,
        on_event: Callable[[WorkerEvent], None] | None = None,
        grace: Seconds = 30.0,
        when_dead: WhenDead = "interrupt",
    ) -> Worker[T]:
        """A worker on this queue: it calls the handler with each message.

        `worker.run()` runs it until it is stopped; `with worker:` runs it in the background of the
        block. `aiorsmq.Worker` says what becomes of the messages.

        Args:
            handler: a plain function, which runs in a thread. It may raise `Retry` or `Reject`.
            concurrency: handlers at a time, 1 to 10000.
            vt: seconds of each lease, 0.1 or more; the queue's `vt` if None. Leases are renewed
                while handlers run: this is how long a message stays hidden if the program dies.
            create: create a missing queue with RSMQ's defaults, at the start or later.
            timeout: seconds after which a handler is cancelled and its attempt has failed.
            max_lease: seconds after which a message is no longer held, even if its cancelled
                handler has not ended.
            backoff: the seconds until a failed message is redelivered, given its receive count;
                `exponential()` if None.
            on_error: called with the message and its handler's exception; may return a `Retry` or
                a `Reject`.
            on_event: called with each `WorkerEvent`. Calls of this package are refused in it.
            grace: seconds that handlers have to end when the worker stops.
            when_dead: what a worker that dies in a `with` block does: raise its error at the end
                of the block ("interrupt"), or "terminate" the program by SIGTERM, too.
        """
        call = adapt(handler)
        options = adapt_options(
            concurrency=concurrency,
            timeout=timeout,
            max_lease=max_lease,
            backoff=backoff,
            on_error=on_error,
            on_event=on_event,
            grace=grace,
            when_dead=when_dead,
        )
        return Worker(
            self._twin.child(lambda queue: queue.worker(call, vt=vt, create=create, **options))
        )

    def change_visibility(self, id: str | Receipt, vt: Seconds) -> bool:
        """Hide a message for `vt` seconds from now on, even if another consumer holds it."""
        return self._twin.run(lambda queue: queue.change_visibility(id, vt))

    def delete_message(self, id: str | Receipt) -> bool:
        """Delete a message, even if another consumer holds it. Returns False if it does not
        exist."""
        return self._twin.run(lambda queue: queue.delete_message(id))

    def delete_many(self, ids: Iterable[str | Receipt]) -> list[bool]:
        """Delete messages as `delete_message` does, in few script calls; one result for each, in
        order."""
        ids = as_list(ids)
        return self._twin.run(lambda queue: queue.delete_many(ids))

    def delete(self, *, missing_ok: bool = False) -> bool:
        """Delete the queue with all its messages."""
        return self._twin.run(lambda queue: queue.delete(missing_ok=missing_ok))
