"""A handle for one queue; its methods are in the order of a message's life."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar, Unpack

from .. import errors
from .._protocol import Seconds
from ..models import Confirm, Ensured, QueueAttributes, Receipt
from ._twin import current_thread
from .confirm import retried_here
from .message import Message
from .operations import QueueOperations, as_list
from .stream import Messages
from .transfer import QueueTransfer
from .worker import Worker, WorkerOptions, adapt, adapt_options

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
        vt: Seconds | None = None,
        create: bool = False,
        **options: Unpack[WorkerOptions],
    ) -> Worker[T]:
        """A worker on this queue; see `Worker` for what it does and for its options.

        `worker.run()` runs it until it is stopped; `with worker:` runs it in the background of the
        block.
        """
        call = adapt(handler)
        choices = adapt_options(options)
        return Worker(
            self._twin.child(lambda queue: queue.worker(call, vt=vt, create=create, **choices))
        )

    def peek(self, limit: int = 10) -> list[Message[T]]:
        """Look at the first messages, hidden ones included, in the order in which they become
        visible."""
        messages = self._twin.run(lambda queue: queue.peek(limit))
        return [Message(message, current_thread()) for message in messages]

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
