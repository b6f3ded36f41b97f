"""What those who run a queue do with it: look at what it holds, and mend it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, Literal, TypeVar

from ._commands import admin, look, pause
from ._commands.audit import audit
from ._commands.groups import count_groups
from ._commands.purge import purge_some
from ._commands.receive import peek
from ._commands.replace import replace
from ._commands.selection import check_selection
from ._commands.snapshot import snapshot
from ._consuming.core import QueueCore
from ._consuming.reader import MessageReader
from ._protocol import (
    Keys,
    Seconds,
    check_count,
    check_peek_limit,
    check_qname,
    describe,
    milliseconds,
)
from .announcements import Announcements
from .codecs import Codec, check_codec, encode_body
from .errors import InvalidParameterValue
from .models import (
    Audit,
    Confirm,
    DeadLetter,
    Found,
    Message,
    Place,
    ReasonGroup,
    Receipt,
    Snapshot,
    StoredMessage,
    id_and_fence,
)
from .runs import Redrive

T = TypeVar("T")


class QueueOperations(Generic[T]):
    """The part of `Queue` that operators use; see there for what holds for all its methods."""

    def __init__(self, core: QueueCore, codec: Codec[T], confirm: Confirm | None = None) -> None:
        self.name: str = core.keys.qname
        self.ns: str = core.keys.ns
        self._core = core
        self._codec = check_codec(codec)
        self._sender = core.sender_for(confirm)
        self._reader = MessageReader(core, codec)

    async def snapshot(self) -> Snapshot:
        """What the queue looks like now, for those who look after it.

        Takes the server as long for a million messages as for a few. Changes nothing, and needs no
        right to write. A dead-letter queue is counted at the same moment.
        """
        core = self._core
        return await snapshot(core.node, core.keys, core.dead.queue)

    async def peek(self, limit: int = 10) -> list[Message[T]]:
        """Look at the first messages, hidden ones included, in the order in which they become
        visible.

        Receives nothing and counts no receipt. Messages that the codec cannot decode are left out.
        `limit` is 1 to 1000.
        """
        page = await peek(self._core.node, self._core.keys, check_peek_limit(limit))
        read = self._reader.read
        return [message for record in page.records if (message := read(record, peeked=True))]

    async def get(self, id: str, *, max_bytes: int | None = None) -> StoredMessage | None:
        """Look at one message, hidden or not, without receiving it; None if it is not there.

        The server sends the first `max_bytes` bytes of the body, or all if None. Of a dead letter
        it also says why it died, and in which queue, if that is known.
        """
        if max_bytes is not None:
            check_count("max_bytes", max_bytes, minimum=0)
        return await look.get(self._core.node, self._core.keys, id, max_bytes)

    async def find(
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
        """Look for messages that meet all conditions, in the order of `peek`, and receive none.

        Goes through the queue in steps of about a millisecond of the server's time, and stops when
        it has found `limit` messages or looked at `budget`: `find(..., after=found.next)` goes on
        from there. Only what was found travels. A message that is received or released in between
        changes its place, and may be met twice, or not at all. Cancelling changes nothing.

        Args:
            text: is in the body as stored, byte for byte.
            state: visible, or hidden: in flight, delayed, or waiting to be retried. The others are
                not counted as looked at.
            older_than: seconds since it was sent, by its id and the server's clock. Ids that other
                programs made may carry no time: these do not match.
            min_receives: how often it was received.
            reason: is in the reason why it died.
            limit: the most messages to return.
            budget: the most messages to look at.
            max_bytes: of each body, to return.
            after: where an earlier search stopped.
        """
        selection = check_selection(
            text=text,
            state=state,
            older_than=older_than,
            min_receives=min_receives,
            reason=reason,
        )
        return await look.find(
            self._core.node,
            self._core.keys,
            selection,
            limit=check_count("limit", limit),
            budget=check_count("budget", budget),
            max_bytes=check_count("max_bytes", max_bytes, minimum=0),
            after=look.check_place(after),
        )

    def announcements(self) -> Announcements:
        """The announcements of the queue as they come, for `async for`: each step yields None.

        The first step comes as soon as it listens, so that nothing is missed between a look at the
        queue and the next announcement. Then one comes for each announcement, or for several that
        came while your code was busy; also when the connection is lost, and when it is there again.
        Producers that send no announcements are not noticed, nor are ends of delays and leases.

        While it cannot listen (`realtime=False`, no permission, an outage) a step comes every
        `poll_interval` seconds.
        """
        return Announcements(self._core)

    async def replace(
        self,
        id: str | Receipt,
        body: Any,
        *,
        to: QueueOperations[Any] | str | None = None,
        delay: Seconds | None = None,
    ) -> str | None:
        """Edit a message and send it again: delete it, and store another one, in one atomic step;
        return the new id.

        Works even if another consumer holds the message. With a Receipt it is fenced. Returns None,
        and changes nothing, if the message is gone or, with a Receipt, was received since. Of a
        dead letter the reason goes too. One INFO record of the logger `aiorsmq.queue` tells it.

        Args:
            body: bytes are stored as they are, anything else is encoded by the codec of `to`, if
                that is a handle, or else by this queue's.
            to: the queue to store the new message in; this one if None.
            delay: seconds until it becomes visible; the `delay` of `to` if None.

        Raises QueueDoesNotExist if either queue does not exist, and MessageTooLong if the body is
        over the maxsize of `to`. A call whose reply is lost is repeated, and makes no second
        message. If by then neither message is there, nobody can tell what happened: redis-py's
        TimeoutError is raised. Cancelling stops the waiting, not the call.
        """
        old = id_and_fence(id)
        delay_ms = None if delay is None else milliseconds("delay", delay)
        codec = to._codec if isinstance(to, QueueOperations) else self._codec  # noqa: SLF001 - of this class
        target = self._core.keys if to is None else self._keys_of(to)
        raw = encode_body(codec, body, "body")
        return await replace(self._core.node, self._core.keys, target, old, raw, delay_ms)

    def _keys_of(self, to: QueueOperations[Any] | str) -> Keys:
        if isinstance(to, QueueOperations):
            keys = to._core.keys  # noqa: SLF001 - of this class
            if keys.ns != self._core.keys.ns:
                reason = f"must be in the same namespace, {self.ns!r}: a move is one script call"
                raise InvalidParameterValue("to", to, reason)
            return keys
        return self._core.keys.sibling(check_qname(to, "to"))

    async def reasons(self, limit: int = 100) -> list[DeadLetter]:
        """Why the first messages of this dead-letter queue died, hidden ones included, in the order
        of `peek`.

        Reasons are kept until 14 days after the last death. `limit` is 1 to 1000.
        """
        return await self._core.dead.reasons(check_peek_limit(limit))

    async def reason_groups(self, *, budget: int = 100_000) -> list[ReasonGroup]:
        """Count the messages of this dead-letter queue by why they died, hidden ones included; the
        largest group first.

        A group is the name of an exception (see `DeadLetter.group`), and
        `redrive(reason=group.group)` moves it. Messages whose reason is not known are the group "".
        Looks at the first `budget` messages in steps of about a millisecond of the server's time,
        and reads no bodies. A message that changes its place in between may not be counted.
        """
        return await count_groups(self._core.node, self._core.keys, check_count("budget", budget))

    def redrive(
        self,
        to: QueueOperations[Any] | str | None = None,
        *,
        limit: int | None = None,
        rate: float | None = None,
        where: Callable[[DeadLetter], bool] | None = None,
        reason: str | None = None,
    ) -> Redrive:
        """Move messages of this dead-letter queue back, as new ones: `await dead.redrive()` returns
        their number, and `async for moved in dead.redrive()` yields the number moved so far.

        Nothing is moved before that; see `Redrive`, also for what cancelling does. A run moves the
        messages that were visible when it began, and leaves those that others hold. A message that
        dies again during the run is not moved twice.

        Args:
            to: the queue to move them to. If None, each message returns to its original queue;
                messages whose original queue is not known stay, with a warning.
            limit: the most messages to move.
            rate: the most messages to move a second.
            where: chooses the messages to move; a plain function.
            reason: move only the dead letters of this group, see `reason_groups`. With `where`,
                both choose.

        Raises QueueDoesNotExist if this queue or a target queue does not exist; messages before
        that have been moved.
        """
        target = None if to is None else self._keys_of(to).qname
        return Redrive(self._core.dead.redrive(target, limit, rate, where, reason))

    async def pause(self) -> bool:
        """Have consumers receive nothing more until `resume`; producers go on sending.

        Returns True, or False if the queue was paused already; then nothing changes, nor does the
        time since when it is paused.

        All consumers that use this library obey, by whichever client, and at once where they
        listen for announcements; others at their next claim. They find no message, as in an empty
        queue: what waits goes on waiting, and workers stay healthy. Messages claimed ahead (see
        `prefetch` of `messages`) return to their old places. A message in hand stays there: it can
        be settled, its lease is renewed, and a handler goes on to its end.

        Not affected: sending, settling, `peek`, `purge`, `redrive`, and moves of dead letters.
        Node rsmq, PyRSMQ and other RSMQs know of no pause and go on receiving, but keep it.

        The pause is a field of the queue's hash, `paused`, with the server's time in milliseconds;
        any text in it but an empty one counts. It survives `create`, `ensure` and restarts, and
        ends when the queue is deleted.

        If the reply is lost, the call is repeated, and returns what the first attempt would have.
        If cancelled, the queue may have been paused or not.
        """
        return await pause.pause(self._core.node, self._core.keys)

    async def resume(self) -> bool:
        """End a pause. Returns True, or False if the queue was not paused.

        Consumers that wait are woken. Repeated and cancelled as `pause`.
        """
        return await pause.resume(self._core.node, self._core.keys)

    async def purge(
        self,
        *,
        older_than: Seconds | None = None,
        min_receives: int | None = None,
        text: str | bytes | None = None,
        state: Literal["visible", "hidden"] | None = None,
        reason: str | None = None,
        dry_run: bool = False,
    ) -> int:
        """Delete the messages that are in the queue now, hidden ones included; return their number.

        Without conditions, the first step takes them all out at once; messages sent after it stay.
        Their bodies are then deleted in steps. Each step occupies the server for about a
        millisecond and has the client's deadline to itself. A million messages may take a minute.

        If it is cancelled or fails in between, the queue is empty anyway; the key
        `{ns}:{queue}:purged` names the rest, and the next `purge()` deletes it. If the reply to the
        first step is lost, redis-py's ConnectionError or TimeoutError is raised. It is not
        repeated: that would delete messages sent since.

        With conditions, it goes through the queue once, in such steps, and deletes the messages
        that meet all of them. A message is looked at and deleted in the same step, even if a
        consumer holds it. One that changes its place in between may be missed, and one that is sent
        in between may be deleted. If it is cancelled or fails in between, what was deleted stays
        deleted. A step whose reply is lost is repeated; what its first attempt has deleted is not
        counted.

        Args:
            older_than: seconds since the message was sent, as its id says.
            min_receives: how often it has been received at least.
            text: is in the body as stored.
            state: "visible" spares those that are held or delayed; "hidden" takes these only.
            reason: is in the reason why it died, as for `find`.
            dry_run: delete nothing, and count what would be deleted.
        """
        selection = check_selection(
            text=text,
            state=state,
            older_than=older_than,
            min_receives=min_receives,
            reason=reason,
        )
        if selection.is_everything and not dry_run:
            return await admin.purge(self._core.node, self._core.keys)
        return await purge_some(self._core.node, self._core.keys, selection, dry_run=dry_run)

    async def audit(self, *, repair: bool = False, budget: int = 1_000_000) -> Audit:
        """Look through the queue's keys for what is wrong in them; with `repair`, mend it.

        Goes through all members and fields in steps of about a millisecond of the server's time,
        and stops when it has looked at about `budget`. Each step judges what is there at that time,
        so a queue in use gives no false findings. A queue that is half made can be audited, too.

        `repair` removes messages without a body, and counts of messages that are gone. It makes
        bodies that have no place in the queue visible messages; their receive counts stay. A name
        in the set of all queues is removed if nothing else of the queue is there. What it does not
        know it leaves alone; a missing `vt`, or a name that is not listed, is for `ensure()`. If it
        is cancelled or fails in between, what was repaired stays so: call it again to go on.

        Raises QueueDoesNotExist if nothing of the queue exists.
        """
        budget = check_count("budget", budget)
        return await audit(self._core.node, self._core.keys, repair=repair, budget=budget)

    def __repr__(self) -> str:
        return f"<Queue {describe(self._core.keys)}>"
