"""One queue within one client: what all its handles share, so that they share script calls."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final
from weakref import WeakValueDictionary

from .._commands.admin import create_queue
from .._commands.dead import IF_VISIBLE, DeadLetters, Drop
from .._commands.receive import pop, receive
from .._commands.send import Sender
from .._commands.send_confirmed import ConfirmedSender
from .._commands.settle import QueueSettler
from .._protocol import Keys, Seconds, milliseconds
from .._record import Record, log_fields
from .._server.failures import CALL_ERRORS, SERVER_ERRORS
from .._server.node import Node
from .._server.tasks import Tasks
from ..models import Confirm, Death, MaxWaiting
from .line import ConsumerLine
from .pause import Pause

MIN_HIDING: Final = 1.0
"""Seconds for which a message that the codec cannot decode is hidden at least."""

_logger = logging.getLogger("aiorsmq.queue")


class QueueCore:
    """The commands of one queue, and its lines of consumers: one line for each vt, one for pops."""

    def __init__(
        self, node: Node, keys: Keys, *, poll_interval: float, max_waiting: MaxWaiting
    ) -> None:
        self.node: Node = node
        self.keys: Keys = keys
        self.poll_interval: float = poll_interval
        self._max_waiting = max_waiting
        self.sender: Sender = Sender(node, keys, max_waiting)
        self.settler: QueueSettler = QueueSettler(node, keys)
        self.dead: DeadLetters = DeadLetters(node, keys)
        self.pause: Pause = Pause(keys.qname)
        self._confirmed_senders: WeakValueDictionary[Confirm, ConfirmedSender]
        self._confirmed_senders = WeakValueDictionary()
        self._asides: set[asyncio.Task[Any]] = set()
        self._lines: WeakValueDictionary[int | str | None, ConsumerLine] = WeakValueDictionary()
        self._default_line = self._new_line(None)  # kept alive, and what it knows with it

    def sender_for(self, confirm: Confirm | None) -> Sender:
        """The one that those share who want the same confirmation."""
        if confirm is None:
            return self.sender
        sender = self._confirmed_senders.get(confirm)
        if sender is None:
            sender = ConfirmedSender(self.node, self.keys, self._max_waiting, confirm)
            self._confirmed_senders[confirm] = sender
        return sender

    def receiving(self, vt: Seconds | None) -> ConsumerLine:
        """The line of those who receive with this vt; None is the queue's."""
        if vt is None:
            return self._default_line
        vt_ms = milliseconds("vt", vt)
        return self._lines.get(vt_ms) or self._new_line(vt_ms)

    def popping(self) -> ConsumerLine:
        return self._lines.get("pop") or self._new_line("pop")

    async def create_missing(self) -> None:
        """Create the queue with RSMQ's defaults, unless it exists.

        An outage is not raised: the caller's next call meets it too.
        """
        try:
            await create_queue(self.node, self.keys, {}, exist_ok=True)
        except SERVER_ERRORS as error:
            if not self.node.is_outage(error):
                raise

    async def bury(
        self, records: Sequence[Record], reason: str, drop: Drop = "rejected"
    ) -> list[Death | None]:
        """Move messages to the dead-letter queue, or drop them if the queue's settings say so.

        A message that was received again since is left alone. Returns what became of each; None if
        it was received again or is gone. One script call for each 64 messages; cancelling stops the
        waiting, not the call. Raises NoDeadLetterQueue.
        """
        return await self.dead.bury(records, reason, drop=drop)

    def put_aside(self, record: Record, reason: str, *, popped: bool, peeked: bool) -> None:
        """Get a message out of the way that the codec cannot decode.

        It moves to the dead-letter queue. Without one it stays in the queue, hidden for its lease,
        and for MIN_HIDING at least: otherwise consumers would receive it without end.
        """
        if peeked or not self.dead.queue:
            text = "left message %s in queue %r: %s"
            self._warn(text, record, self.keys.qname, reason, reason=reason)
        if peeked:
            return
        left_ms = float(record.visible) - self.node.clock.now_ms()
        if popped:
            task = self.node.tasks.start(self._put_back_hidden(record, reason))
        elif self.dead.queue:
            # With vt=0 it may have been received again by now: then its visibility is the fence.
            fence = IF_VISIBLE if left_ms <= 0 else None
            task = self.dead.start_burial((record,), reason, fence)
        elif left_ms < MIN_HIDING * 1000:
            task = self.node.tasks.start(self._hide(record))
        else:
            return
        self._asides.add(task)
        task.add_done_callback(self._asides.discard)

    async def until_put_aside(self) -> None:
        """Wait until what was put aside is no longer visible."""
        if self._asides:
            await asyncio.wait(self._asides)

    async def _hide(self, record: Record) -> None:
        try:
            await self.settler.change_visibility(record, round(MIN_HIDING * 1000))
        except Exception as error:  # noqa: BLE001 - nobody awaits this task
            text = "could not hide message %s, which cannot be decoded: %s"
            self._warn(text, record, error, reason=str(error))

    async def _put_back_hidden(self, record: Record, reason: str) -> None:
        try:
            await self.settler.restore((record,), min_hiding_ms=round(MIN_HIDING * 1000))
        except Exception as error:  # noqa: BLE001 - nobody awaits this task
            text = "could not put back popped message %s; it is lost: %s"
            self._warn(text, record, error, reason=str(error))
        else:
            if self.dead.queue:
                self.dead.start_burial((record,), reason)

    def _warn(self, text: str, record: Record, *args: object, reason: str) -> None:
        extra = log_fields(self.keys, record, reason=reason)
        _logger.warning(text, extra["id"], *args, extra=extra)

    def look_again(self) -> None:
        for line in list(self._lines.values()):
            line.look_again()

    def end_streams(self) -> None:
        for line in list(self._lines.values()):
            line.audience.end_streams()

    def close(self) -> None:
        for line in list(self._lines.values()):
            line.close()

    def _new_line(self, kind: int | str | None) -> ConsumerLine:
        """A line for a vt in ms, for the queue's vt (None), or for pops."""
        if isinstance(kind, str):
            fetch = partial(pop, self.node, self.keys)
            undo = self.settler.restore
        else:
            fetch = partial(receive, self.node, self.keys, kind)
            undo = self.settler.hand_back
        line = ConsumerLine(
            self.node,
            self.keys,
            fetch=fetch,
            hand_back=partial(_hand_back, self.node.tasks, self.keys.qname, undo),
            move_dead=self.dead.move_dead,
            leases=not isinstance(kind, str),
            pause=self.pause,
            poll_interval=self.poll_interval,
        )
        self._lines[kind] = line
        return line


def _hand_back(
    tasks: Tasks,
    qname: str,
    undo: Callable[[Sequence[Record]], Awaitable[None]],
    records: list[Record],
) -> None:
    """Undo the receipt of messages in the background. Holds no QueueCore: the lines hold this."""
    tasks.start(_hand_back_in_background(qname, undo, records))


async def _hand_back_in_background(
    qname: str, undo: Callable[[Sequence[Record]], Awaitable[None]], records: list[Record]
) -> None:
    try:
        await undo(records)
    except CALL_ERRORS as error:
        text = "could not hand back %d messages; they return when their leases expire: %s"
        _logger.warning(text, len(records), error, extra={"queue": qname, "reason": str(error)})
