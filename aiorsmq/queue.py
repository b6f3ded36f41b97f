"""A queue's handle: every verb, in the order of a message's life."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterable
from functools import partial
from types import CoroutineType
from typing import Any, Generic, TypeVar, Unpack

from ._callbacks import ENDS_THE_PROGRAM, check_plain
from ._commands import admin
from ._commands.receive import peek
from ._consuming.core import Shared
from ._consuming.line import Claims
from ._protocol import (
    DEFAULT_DELAY,
    DEFAULT_MAXSIZE,
    DEFAULT_VT,
    Seconds,
    check_count,
    check_id,
    check_look,
    check_seconds,
    milliseconds,
)
from ._record import Record, Settler, Unconfirmed
from .codecs import Codec, why_not
from .errors import InvalidParameterValue
from .models import DeadLetter, Message, QueueAttributes, Receipt
from .stream import Messages
from .worker import Source, Worker, WorkerOptions

T = TypeVar("T")


class Queue(Generic[T]):
    """One queue by its name. Made by `AsyncRSMQ.queue`; making it does no I/O, and the queue need
    not exist.

    Any number of handles may exist for one name, and any number of tasks may use one. Every verb is
    one atomic script and one round trip, unless it says otherwise; calls made at the same time
    share script calls.

    Every verb raises QueueDoesNotExist if the queue is not there, but for those that settle
    messages, which return False: then the messages are not there either. Every verb raises
    InvalidParameterValue before anything is sent, ClientClosed after `aclose()`, NotPermitted if
    the server's ACL refuses a part of it, and redis-py's errors for a server that is unreachable
    for longer than the client's deadline or refuses the call.
    """

    def __init__(self, shared: Shared, codec: Codec[T]) -> None:
        self.name: str = shared.keys.qname
        self._shared = shared
        for function in (getattr(codec, "encode", None), getattr(codec, "decode", None)):
            check_plain("codec", function)
        self._codec = codec

    async def create(
        self,
        *,
        vt: Seconds = DEFAULT_VT,
        delay: Seconds = DEFAULT_DELAY,
        maxsize: int = DEFAULT_MAXSIZE,
        max_receives: int | None = None,
        dead_letter_queue: str | None = None,
        exist_ok: bool = False,
    ) -> bool:
        """Create the queue, and its dead-letter queue if that is not there.

        Args:
            vt: whole seconds for which a received message stays hidden, 0 to 9999999.
            delay: whole seconds for which a sent message stays hidden at first, 0 to 9999999.
            maxsize: the longest message in bytes, 1024 to 65536, or -1 for unlimited.
            max_receives: how often a message may be received, 1 to 1000000, before it moves to the
                dead-letter queue. Without a dead-letter queue such messages are dropped: deleted,
                with a warning in the log; and so are messages that a worker's handler rejects, or
                for which it has failed so often.
            dead_letter_queue: the name of another queue, for messages received too often, rejected,
                or not decodable; refused if dead messages could come back to this queue from there
                by themselves.
            exist_ok: return False, and leave it as it is, if it exists; else that raises
                QueueAlreadyExists. Either way a queue that exists is entered in the set of all
                queues again, if its name was lost there.

        If cancelled, the queue may have been created or not.
        """
        settings = vt, delay, maxsize, max_receives, dead_letter_queue
        return await admin.create_queue(
            self._shared.scripts, self._shared.keys, *settings, exist_ok
        )

    async def attributes(self) -> QueueAttributes:
        """The queue's settings and counters."""
        return await admin.get_queue_attributes(self._shared.scripts, self._shared.keys)

    async def set_attributes(
        self,
        *,
        vt: Seconds | None = None,
        delay: Seconds | None = None,
        maxsize: int | None = None,
        max_receives: int | None = None,
        dead_letter_queue: str | None = None,
    ) -> QueueAttributes:
        """Change settings, at least one, and return all. If cancelled, they may have been changed
        or not.

        As for `create`; a `max_receives` of 0 takes it away. So does an empty `dead_letter_queue`,
        and `max_receives` with it, unless that is given anew.
        """
        settings = vt, delay, maxsize, max_receives, dead_letter_queue
        return await admin.set_queue_attributes(self._shared.scripts, self._shared.keys, *settings)

    async def send(self, body: T | bytes, *, delay: Seconds | None = None) -> str:
        """Send one message and return its id.

        Bytes are sent as they are, everything else as the queue's codec encodes it. When this
        returns, the server has stored the message. If the reply is lost, the send is repeated
        without making a second message.

        Args:
            delay: seconds until it becomes visible; the queue's `delay` if None.

        Raises MessageTooLong if it is over the queue's maxsize, and InvalidParameterValue for what
        the codec refuses, which says of a codec of yours what it raised, but not in which words:
        they may quote the body. Cancelling stops the waiting, not the send.
        """
        return await self.send_as("body", body, delay)

    async def send_as(self, parameter: str, body: T | bytes, delay: Seconds | None) -> str:
        """`send` for those who call the body otherwise, as an error about it is to say."""
        delay_ms = None if delay is None else milliseconds("delay", delay)
        return await self._shared.sender.send((self._encode(body, parameter), delay_ms))

    async def send_many(
        self, bodies: Iterable[T | bytes], *, delay: Seconds | None = None
    ) -> list[str]:
        """Send messages in order, all or none, in one script call; return their ids.

        Other producers' messages do not come in between. Sending thousands at once keeps the server
        from other work for milliseconds. Otherwise as `send`; MessageTooLong is about the first
        that is too long.
        """
        if isinstance(bodies, str | bytes) or not isinstance(bodies, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidParameterValue(
                "bodies", bodies, "must be an iterable of bodies, not one body"
            )
        delay_ms = None if delay is None else milliseconds("delay", delay)
        messages = [(self._encode(body, "bodies"), delay_ms) for body in bodies]
        return await self._shared.sender.send_all(messages) if messages else []

    async def receive(self, *, vt: Seconds | None = None, wait: Seconds = 0) -> Message[T] | None:
        """Receive the next visible message and hide it from others for its lease; None if there is
        none.

        Args:
            vt: seconds of the lease; the queue's `vt` if None.
            wait: seconds to wait for a message if none is visible (a long poll). The wait ends
                within milliseconds of an announcement, on time for messages that become due, and
                sees producers that never announce at the next safety poll.

        Cancelling loses nothing: a message claimed for this call goes to another waiting consumer,
        or back to its old place in the queue. A message that the codec cannot decode, or that has
        been received more often than the queue's `max_receives`, is not handed out: it moves to the
        dead-letter queue, and the log says so. In a queue without one, what has been received too
        often is dropped, and what the codec cannot decode stays, hidden for its lease (a second at
        the least), until it has been received too often; both with a warning in the log.

        None is only returned if the server has said so. An answer that is on its way when the wait
        ends is waited for, up to 5 seconds, or up to the client's deadline while it is arriving; if
        it does not come, redis-py's error is raised.

        A message that arrives after the deadline goes to another waiting consumer, or back into the
        queue: choose a deadline in which your largest message arrives. If the reply is lost, the
        receive is repeated, and what was lost with it stays hidden for its lease: at most 64
        messages, and one more for each repetition.
        """
        claims = self._shared.receiving(vt)
        if not check_seconds("wait", wait):
            record = await claims.take_one()
            if record is None:
                return None
            if (message := self._read(record)) is not None:
                return message
        messages = await self._take(claims, 1, wait, popped=False)
        return messages[0] if messages else None

    async def receive_many(
        self, limit: int, *, vt: Seconds | None = None, wait: Seconds = 0
    ) -> list[Message[T]]:
        """Receive up to `limit` visible messages, as `receive` does; an empty list if there is
        none.

        `wait` is for the first message only: with it come those that are visible by then. One
        script call hands out up to 64 messages or 1 MiB of bodies.
        """
        return await self._take(
            self._shared.receiving(vt), check_count("limit", limit), wait, popped=False
        )

    async def pop(self, *, wait: Seconds = 0) -> Message[T] | None:
        """Receive the next visible message and delete it in the same step; None if there is none.

        At most once: a message whose reply is lost on the way is gone (then redis-py's
        ConnectionError or TimeoutError is raised), and so is one whose handler fails. Cancelling as
        for `receive`: a popped message that reaches nobody is put back, and so is one that arrives
        after the deadline. What the codec cannot decode is put back too, hidden for the queue's vt,
        or if there is a dead-letter queue moved there. `max_receives` does not matter here: a pop
        ends the message anyway.
        """
        messages = await self._take(self._shared.popping(), 1, wait, popped=True)
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
        turn. Messages that `receive` would not hand out go where it says.

        Args:
            vt: seconds of each lease; the queue's `vt` if None.
            prefetch: how many messages may be claimed ahead of the one asked for. Their leases run
                while they wait: choose it so that they are handled well within `vt`. And with it,
                the end of an `async with message` block does not wait until the server has deleted
                the message: as many deletes may be under way. A delete that fails is raised by the
                next step of the iteration; `aclose()` of the stream waits for all. A block that
                ends after the stream was left waits for its own.
            pop: delete each message as it is claimed (at most once), instead of hiding it.
            create: create the queue, with RSMQ's defaults, if it is missing, also when it is
                deleted later; else the iteration raises QueueDoesNotExist.
        """
        check_count("prefetch", prefetch, at_least=0)
        if pop and vt is not None:
            raise InvalidParameterValue(
                "vt", vt, "must not be given with pop=True: a popped message has no lease"
            )
        claims = self._shared.popping() if pop else self._shared.receiving(vt)
        read = partial(self._read, popped=True) if pop else self._read
        return Messages(claims, read, prefetch, self._shared.create_missing if create else None)

    def worker(
        self,
        handler: Callable[[Message[T]], object],
        *,
        vt: Seconds | None = None,
        create: bool = False,
        **options: Unpack[WorkerOptions],
    ) -> Worker[T]:
        """A worker on this queue: `await worker.run()`, or `async with worker:` to run it beside
        other things.

        See `Worker` for what it does and for its options.
        """
        return Worker([self.source(vt, create)], None, handler, **options)

    def source(self, vt: Seconds | None = None, create: bool = False) -> Source[T]:
        """The queue as a `Worker` takes it."""
        return Source(self._shared, vt, self._read, create)

    async def peek(self, limit: int = 10) -> list[Message[T]]:
        """Look at the first messages, hidden ones included, in the order in which they become
        visible.

        Claims nothing and counts as no receipt. `limit` is 1 to 1000. Left out is what the codec
        cannot decode.
        """
        page = await peek(self._shared.scripts, self._shared.keys, check_look(limit))
        return [message for record in page.records if (message := self._read(record, peeked=True))]

    async def reasons(self, limit: int = 100) -> list[DeadLetter]:
        """Why the first messages of this dead-letter queue are here, hidden ones included; as
        `peek` looks at them.

        Reasons are kept until 14 days after the last death. `limit` is 1 to 1000.
        """
        return await self._shared.dead.reasons(check_look(limit))

    def redrive(
        self,
        to: "Queue[Any] | str | None" = None,
        *,
        limit: int | None = None,
        rate: float | None = None,
        where: Callable[[DeadLetter], bool] | None = None,
    ) -> AsyncGenerator[int, None]:
        """Move messages of this dead-letter queue back, as new ones: `async for moved in
        dead.redrive()`.

        Yields how many have been moved so far: at least once, and after each step of 64 at the
        most. Each step is atomic: break off, cancel or kill it at any time, and begin again. It
        moves what was visible when it began, and leaves alone what others hold. A message that dies
        again at once is not moved again.

        Args:
            to: where to; None for where each came from, which leaves those of which that is not
                known, with a warning.
            limit: how many at the most.
            rate: how many a second at the most.
            where: chooses among them: a plain function; one that returns a coroutine is refused
                before any is moved.

        Raises QueueDoesNotExist for this queue, or for one that messages would go to: those before
        have been moved.
        """
        if isinstance(to, Queue):
            if to._shared.keys.ns != self._shared.keys.ns:  # noqa: SLF001 - it is of this class
                raise InvalidParameterValue("to", to, "must be in the same namespace")
            to = to.name
        return self._shared.dead.redrive(to, limit, rate, where)

    async def change_visibility(self, id: str | Receipt, vt: Seconds) -> bool:
        """Hide a message for `vt` seconds from now on, whoever received it; 0 makes it visible now.

        Returns False if there is no such message. Given a Receipt it is fenced, as
        `Message.extend`. Cancelling stops the waiting, not the change. If the reply to a call
        without one is lost, redis-py's ConnectionError or TimeoutError is raised: repeated, the
        call might show what another consumer holds by then.
        """
        vt_ms = milliseconds("vt", vt)
        name, fence = _id_and_fence(id)
        return await self._shared.settler.change_visibility_by_id(name, vt_ms, fence)

    async def delete_message(self, id: str | Receipt) -> bool:
        """Delete a message, whoever received it. Returns False if there is no such message.

        Given a Receipt it is fenced: False, too, and nothing deleted, once another consumer has
        received the message. After a lost reply it is repeated, and True says only that the message
        is gone. Cancelling stops the waiting, not the delete.
        """
        return await self._shared.settler.delete_by_id(*_id_and_fence(id))

    async def delete_many(self, ids: Iterable[str | Receipt]) -> list[bool]:
        """Delete messages, as `delete_message` does, in as few script calls as fit; a bool for
        each, in order.
        """
        if isinstance(ids, str | Receipt) or not isinstance(ids, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidParameterValue("ids", ids, "must be an iterable of ids, not one id")
        checked = [_id_and_fence(id, "ids") for id in ids]
        return await asyncio.gather(*(self._shared.settler.delete_by_id(*one) for one in checked))

    async def purge(self) -> int:
        """Delete the messages that are in the queue now, hidden ones included; return how many.

        The first step takes them all out at once; what is sent after it stays. Then their bodies
        are deleted, in steps that each occupy the server for about a millisecond, and each have the
        client's deadline: a million messages may take a minute. Cancelled or broken off in between,
        the queue is empty all the same, and the next `purge()` deletes the rest, which
        `{ns}:{queue}:purged` names until then. If the reply to the first step is lost, redis-py's
        ConnectionError or TimeoutError is raised: repeated, it would delete what was sent since.
        """
        return await admin.purge(self._shared.scripts, self._shared.keys)

    async def delete(self, *, missing_ok: bool = False) -> bool:
        """Delete the queue with all that is in it.

        A repetition after a lost reply leaves a queue alone that was created under the same name
        since: until the reply has come, or for twice the client's `deadline`, a small hash,
        `{ns}:{queue}:deleted`, remembers the call, and a second script call empties it.

        Returns True, or False if it did not exist and `missing_ok` is set; else that raises
        QueueDoesNotExist. If cancelled, it may have been deleted or not.
        """
        return await admin.delete_queue(self._shared.scripts, self._shared.keys, missing_ok)

    def _encode(self, body: T | bytes, parameter: str) -> bytes:
        if isinstance(body, bytes):
            return body
        try:
            encoded = self._codec.encode(body)
        except Exception as error:  # noqa: BLE001 - not its cause either: a user's codec may quote the body
            reason = why_not(self._codec, error)
        else:
            if type(encoded) is bytes:
                return encoded
            reason = f"{type(self._codec).__name__} did not make bytes of it"
        raise InvalidParameterValue(parameter, body, reason)

    async def _take(
        self, claims: Claims, limit: int, wait: Seconds, *, popped: bool
    ) -> list[Message[T]]:
        scripts, seconds = self._shared.scripts, check_seconds("wait", wait)
        started, until, left = time.monotonic(), scripts.until() + seconds, seconds
        while True:
            records = await claims.take(limit, left)
            messages = [
                message for record in records if (message := self._read(record, popped=popped))
            ]
            if messages or not records:
                return messages
            await scripts.result(asyncio.ensure_future(self._shared.out_of_the_way()), until)
            left = max(0, started + seconds - time.monotonic())

    def _read(
        self,
        record: Record,
        settler: Settler | None = None,
        unconfirmed: Unconfirmed | None = None,
        *,
        popped: bool = False,
        peeked: bool = False,
    ) -> Message[T] | None:
        try:
            body = self._codec.decode(record.raw)
            if type(body) is CoroutineType:
                body.close()
                raise TypeError("decode returned a coroutine")
        except ENDS_THE_PROGRAM:
            raise
        except BaseException as error:  # noqa: BLE001 - whatever a user's codec raises, the others must arrive
            why = f"cannot be decoded by {type(self._codec).__name__} ({type(error).__name__})"
            self._shared.set_aside(record, why, popped=popped, peeked=peeked)
            return None
        return Message(
            record,
            body,
            self.name,
            None if popped else settler or self._shared.settler,
            unconfirmed,
        )

    def __repr__(self) -> str:
        return f"<Queue {self.name!r}>"


def _id_and_fence(id: object, parameter: str = "id") -> tuple[bytes, bytes]:
    if not isinstance(id, Receipt):
        return check_id(id, parameter).encode(), b""
    if not (
        isinstance(id.id, str)
        and type(id.receive_count) is int
        and type(id.first_received) in (int, type(None))
    ):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidParameterValue(parameter, id, "must be the receipt of a message, unchanged")
    return id.id.encode(errors="surrogateescape"), id.fence  # any id: it has been received
