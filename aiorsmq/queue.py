"""A handle for one queue; its methods are in the order of a message's life."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, TypeVar

from ._commands import admin
from ._commands.send import Sender
from ._protocol import Seconds, check_count, check_seconds, milliseconds
from ._working.block import WhenDead
from ._working.intake import Intake
from .codecs import encode_body
from .errors import InvalidParameterValue
from .handlers import Reject, Retry
from .models import (
    Confirm,
    Ensured,
    Message,
    QueueAttributes,
    Receipt,
    WorkerEvent,
    check_confirm,
    id_and_fence,
)
from .operations import QueueOperations
from .stream import Messages
from .transfer import QueueTransfer
from .worker import Worker

T = TypeVar("T")


class Queue(QueueOperations[T], QueueTransfer[T]):
    """One queue, by its name. Created by `AsyncRSMQ.queue`.

    Any number of handles may exist for one name, and any number of tasks may use one. Each method
    is one atomic script and one round trip, unless it says otherwise; calls made at the same time
    share script calls.

    All methods raise InvalidParameterValue before anything is sent, ClientClosed after `aclose()`,
    NotPermitted if the server's ACL refuses a part of the call, and redis-py's errors for a server
    that cannot be reached before the client's deadline, or that refuses the call. They raise
    QueueDoesNotExist for a missing queue, except for methods that settle messages: those return
    False, because the messages do not exist either.
    """

    async def create(
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
        program use `ensure`, which also updates a queue that exists.

        Args:
            vt: whole seconds for which a received message stays hidden, 0 to 9999999; 30 if None.
            delay: whole seconds for which a sent message stays hidden at first, 0 to 9999999; 0 if
                None.
            maxsize: the longest message in bytes, 1024 to 65536, or -1 for unlimited; 65536 if
                None.
            max_receives: how often a message may be received, 1 to 1000000, before it moves to the
                dead-letter queue; no limit if None. Without a dead-letter queue such messages are
                dropped, that is, deleted with a warning in the log; and so are messages that a
                worker's handler rejects, or for which it has failed that often.
            dead_letter_queue: the name of another queue, for messages that were received too often,
                rejected, or cannot be decoded. Refused if dead messages could return from there to
                this queue by themselves.
            exist_ok: if the queue exists, return False and leave its settings as they are, instead
                of raising QueueAlreadyExists. A warning in the log names each setting that you
                named and that differs, with both values. Either way the queue's name is added to
                the set of all queues again if it was lost there.

        If cancelled, the queue may have been created or not.
        """
        settings = admin.queue_settings(vt, delay, maxsize, max_receives, dead_letter_queue)
        return await admin.create_queue(
            self._core.node, self._core.keys, settings, exist_ok=exist_ok
        )

    async def ensure(
        self,
        *,
        vt: Seconds | None = None,
        delay: Seconds | None = None,
        maxsize: int | None = None,
        max_receives: int | None = None,
        dead_letter_queue: str | None = None,
    ) -> Ensured:
        """Create the queue as `create` does, or change the settings that you name and that differ.

        Settings that are None stay as they are, or get the defaults of `create`. As for
        `set_attributes`, a `max_receives` of 0 and an empty `dead_letter_queue` mean none. A
        dead-letter queue that you name is created if it does not exist.

        Returns what was done. If anything was, one INFO record of the logger `aiorsmq.queue` says
        it too, so two programs that disagree about a setting both show it. If cancelled, the queue
        may have been created or changed, or not. If the reply is lost, the call is repeated, and
        changes of the first attempt are neither returned nor logged.
        """
        settings = admin.queue_settings(vt, delay, maxsize, max_receives, dead_letter_queue)
        return await admin.ensure_queue(self._core.node, self._core.keys, settings)

    async def attributes(self) -> QueueAttributes:
        """The queue's settings and counters."""
        return await admin.get_queue_attributes(self._core.node, self._core.keys)

    async def set_attributes(
        self,
        *,
        vt: Seconds | None = None,
        delay: Seconds | None = None,
        maxsize: int | None = None,
        max_receives: int | None = None,
        dead_letter_queue: str | None = None,
    ) -> QueueAttributes:
        """Change one setting or more, and return all attributes.

        As for `create`. A `max_receives` of 0 removes the limit. An empty `dead_letter_queue`
        removes the dead-letter queue, and the limit with it unless `max_receives` is given too.
        If cancelled, the settings may have been changed or not.
        """
        settings = admin.queue_settings(vt, delay, maxsize, max_receives, dead_letter_queue)
        return await admin.set_queue_attributes(self._core.node, self._core.keys, settings)

    async def send(
        self,
        body: T | bytes,
        *,
        delay: Seconds | None = None,
        confirm: Confirm | None = None,
    ) -> str:
        """Send one message and return its id.

        Bytes are sent as they are, anything else is encoded by the queue's codec. When this
        returns, the server has stored the message. If the reply is lost, the send is repeated
        without storing a second message.

        Args:
            delay: seconds until the message becomes visible; the queue's `delay` if None.
            confirm: return only when replicas or the disk have the message, too: see `replicas()`
                and `fsync()`. None is what this handle was made with.

        Raises MessageTooLong if the body is over the queue's maxsize, NotConfirmed if it is stored
        and not confirmed in time, and InvalidParameterValue if the codec cannot encode it. For a
        codec of yours that error names what it raised, but not its text, which may quote the body.
        Cancelling stops the waiting, not the send; one that still waits its turn, because of the
        client's `max_waiting`, is withdrawn.
        """
        sender = self._sender if confirm is None else self._sender_for(confirm)  # hot path
        delay_ms = None if delay is None else milliseconds("delay", delay)
        sending = sender.send((encode_body(self._codec, body, "body"), delay_ms))
        del body  # many may wait, and the encoded one is enough
        return await sending

    async def _send_as(
        self, parameter: str, body: T | bytes, delay: Seconds | None, confirm: Confirm | None
    ) -> str:
        """`send`, with another name for the body in errors."""
        delay_ms = None if delay is None else milliseconds("delay", delay)
        message = encode_body(self._codec, body, parameter), delay_ms
        return await self._sender_for(confirm).send(message)

    def _sender_for(self, confirm: Confirm | None) -> Sender:
        if confirm is None:
            return self._sender
        return self._core.sender_for(check_confirm(confirm, self._core.node.deadline))

    async def send_many(
        self,
        bodies: Iterable[T | bytes],
        *,
        delay: Seconds | None = None,
        confirm: Confirm | None = None,
    ) -> list[str]:
        """Send messages in order, all or none, in one script call; return their ids.

        No other producer's message comes between them. Thousands of messages keep the server from
        other work for milliseconds. Otherwise as `send`; MessageTooLong is about the first message
        that is too long, NotConfirmed about all of them.
        """
        if isinstance(bodies, str | bytes) or not isinstance(bodies, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidParameterValue(
                "bodies", bodies, "must be an iterable of bodies, not a single body"
            )
        delay_ms = None if delay is None else milliseconds("delay", delay)
        sender = self._sender_for(confirm)
        messages = [(encode_body(self._codec, body, "bodies"), delay_ms) for body in bodies]
        return await sender.send_all(messages) if messages else []

    async def receive(self, *, vt: Seconds | None = None, wait: Seconds = 0) -> Message[T] | None:
        """Receive the next visible message and hide it for its lease; None if there is none.

        Args:
            vt: seconds of the lease; the queue's `vt` if None.
            wait: seconds to wait for a message if none is visible (a long poll). The wait ends
                within milliseconds of an announcement, and on time for a message that becomes due.
                Messages of producers that send no announcements are found at the next safety poll.

        Cancelling loses nothing: a message claimed for this call goes to another waiting consumer,
        or back to its old place in the queue.

        Two kinds of messages are not handed out. One that has been received more often than the
        queue's `max_receives` moves to the dead-letter queue, or is dropped if there is none. One
        that the codec cannot decode moves to the dead-letter queue; if there is none, it stays,
        hidden for its lease and for a second at least, until it has been received too often. Both
        are logged.

        None means that the server said so. If its answer is on the way when `wait` ends, it is
        waited for: up to 5 seconds, or while it is arriving up to the client's deadline. If it does
        not come, redis-py's error is raised.

        A message that arrives after the deadline goes to another waiting consumer, or back into the
        queue: choose a deadline in which your largest message can arrive. If the reply is lost, the
        receive is repeated, and the messages in the lost reply stay hidden for their lease: at most
        64, and one more for each repetition.
        """
        line = self._core.receiving(vt)
        if not check_seconds("wait", wait):
            record = await line.take_one()
            if record is None:
                return None
            if (message := self._reader.read(record)) is not None:
                return message
        messages = await self._reader.take(line, 1, wait)
        return messages[0] if messages else None

    async def receive_many(
        self, limit: int, *, vt: Seconds | None = None, wait: Seconds = 0
    ) -> list[Message[T]]:
        """Receive up to `limit` visible messages, as `receive` does; an empty list if there
        are none.

        `wait` is for the first message; the others are those that are visible by then. One script
        call hands out up to 64 messages or 1 MiB of bodies.
        """
        check_count("limit", limit)
        return await self._reader.take(self._core.receiving(vt), limit, wait)

    async def pop(self, *, wait: Seconds = 0) -> Message[T] | None:
        """Receive the next visible message and delete it in the same step; None if there is none.

        At most once: a message is gone if the reply is lost (redis-py's ConnectionError or
        TimeoutError is raised then), or if your code fails after this returns.

        Cancelling is as for `receive`: a popped message that reaches nobody is put back, and so is
        one that arrives after the deadline. A message that the codec cannot decode moves to the
        dead-letter queue; if there is none, it is put back, hidden for the queue's vt. `pop`
        ignores `max_receives`.
        """
        messages = await self._reader.take(self._core.popping(), 1, wait, popped=True)
        return messages[0] if messages else None

    def messages(
        self,
        *,
        vt: Seconds | None = None,
        prefetch: int = 0,
        pop: bool = False,
        create: bool = False,
    ) -> Messages[T]:
        """The messages of the queue as they come, for `async for`.

        Any number of streams of one client share script calls; each message goes to one of them, in
        turn. Messages that `receive` would not hand out are treated as there. When the client is
        closed, streams that have begun end quietly; others raise ClientClosed.

        Args:
            vt: seconds of each lease; the queue's `vt` if None.
            prefetch: how many messages may be claimed ahead. Their leases run while they wait, so
                all of them should be handled well within `vt`. With `prefetch`, the end of an
                `async with message` block does not wait for the delete: up to that many deletes run
                in the background. If one fails, the next step of the iteration raises its error;
                `aclose()` of the stream waits for all. A block that ends after the stream was left
                waits for its own delete.
            pop: delete each message as it is claimed (at most once), instead of hiding it.
            create: create the queue with RSMQ's defaults if it does not exist, also when it is
                deleted later. If False, the iteration raises QueueDoesNotExist.
        """
        check_count("prefetch", prefetch, minimum=0)
        if pop and vt is not None:
            reason = "must not be given with pop=True: a popped message has no lease"
            raise InvalidParameterValue("vt", vt, reason)
        return Messages(
            self._core.popping() if pop else self._core.receiving(vt),
            partial(self._reader.read, popped=True) if pop else self._reader.read,
            home=self._core.node.home,
            prefetch=prefetch,
            create_missing=self._core.create_missing if create else None,
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

        `await worker.run()` runs it until it is stopped; `async with worker:` runs it in the
        background of the block. `Worker` says what becomes of the messages.

        Args:
            handler: an `async def`, or a plain function, which runs in a thread. It may raise
                `Retry` or `Reject`.
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
            on_event: called with each `WorkerEvent`.
            grace: seconds that handlers have to end when the worker stops.
            when_dead: what a worker that dies does to its `async with` block: "interrupt" it, or
                "terminate" the program by SIGTERM.
        """
        return Worker(
            [self._intake(vt, create=create)],
            None,
            handler,
            concurrency=concurrency,
            timeout=timeout,
            max_lease=max_lease,
            backoff=backoff,
            on_error=on_error,
            on_event=on_event,
            grace=grace,
            when_dead=when_dead,
        )

    def _intake(self, vt: Seconds | None, *, create: bool) -> Intake[T]:
        return Intake(self._core, vt, self._reader.read, create=create)

    async def change_visibility(self, id: str | Receipt, vt: Seconds) -> bool:
        """Hide a message for `vt` seconds from now on, even if another consumer holds it.

        A `vt` of 0 makes it visible now.

        Returns False if there is no such message. With a Receipt it is fenced, as `Message.extend`.
        Cancelling stops the waiting, not the change.

        Without a Receipt, a call whose reply is lost raises redis-py's ConnectionError or
        TimeoutError. It is not repeated: that might show a message that another consumer holds by
        then.
        """
        vt_ms = milliseconds("vt", vt)
        message_id, fence = id_and_fence(id)
        return await self._core.settler.change_visibility_by_id(message_id, vt_ms, fence)

    async def delete_message(self, id: str | Receipt) -> bool:
        """Delete a message, even if another consumer holds it. Returns False if it does not exist.

        With a Receipt it is fenced: it returns False and deletes nothing if another consumer has
        received the message since. A call whose reply is lost is repeated; True then only means
        that the message is gone. Cancelling stops the waiting, not the delete.
        """
        return await self._core.settler.delete_by_id(*id_and_fence(id))

    async def delete_many(self, ids: Iterable[str | Receipt]) -> list[bool]:
        """Delete messages as `delete_message` does, in few script calls; one result for each, in
        order."""
        if isinstance(ids, str | Receipt) or not isinstance(ids, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidParameterValue("ids", ids, "must be an iterable of ids, not a single id")
        checked = [id_and_fence(id, "ids") for id in ids]
        delete = self._core.settler.delete_by_id
        return await asyncio.gather(*(delete(id, fence) for id, fence in checked))

    async def delete(self, *, missing_ok: bool = False) -> bool:
        """Delete the queue with all its messages.

        Returns True, or False if it did not exist and `missing_ok` is set; without that it raises
        QueueDoesNotExist. If cancelled, the queue may have been deleted or not.

        If the reply is lost, the call is repeated, and leaves alone a queue that was created under
        the same name since: a small hash, `{ns}:{queue}:deleted`, remembers the call until its
        reply has come, or for twice the client's `deadline`.
        """
        return await admin.delete_queue(self._core.node, self._core.keys, missing_ok=missing_ok)
