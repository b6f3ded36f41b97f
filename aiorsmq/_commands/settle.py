"""A message is deleted, hidden for longer, made visible again, or put back as if it had never been
handed out.
"""

from asyncio import Future
from collections.abc import Sequence
from functools import partial
from itertools import compress
from typing import Any

from .._protocol import Keys
from .._record import Record
from .._server.batch import Answered, Batch
from .._server.scripts import Call, Reply, Scripts
from .._server.tasks import Tasks
from .._server.wire import Argument

_Delete = tuple[bytes, bytes, bytes]
"""Id, fence, and the end of the lease in ms; the last two may be empty."""
_Change = tuple[bytes, bytes, int]
"""Id, fence, and ms from now."""


class Settler:
    """Settles the messages of one queue; concurrent calls share a script call.

    A record's fence leaves the message alone if it has been received since; an empty fence fences
    nothing.

    What a repetition after a lost reply does if others have acted in between: a fenced change is
    refused if another consumer has received the message; so is a fenced delete, and one that finds
    the message gone says True only if its lease has not ended, for then nobody else can have
    deleted it. A delete by id says True of what is gone. A change by id is not repeated: it might
    show or hide what another consumer holds by now. Undoing a receipt is fenced by its lease, too;
    putting back what was popped is not repeated.
    """

    def __init__(self, scripts: Scripts, keys: Keys, tasks: Tasks, channel: str) -> None:
        self._scripts = scripts
        self._keys = keys
        self._channel = channel
        self._deletes: Batch[_Delete, bool] = Batch(self._submit_deletes, tasks, scripts)
        self._changes: Batch[_Change, bool] = Batch(self._submit_changes, tasks, scripts)
        self._changes_by_id: Batch[_Change, bool] = Batch(
            partial(self._submit_changes, retry_unknown=False), tasks, scripts
        )

    def delete(self, record: Record, lease_end: bytes | None = None) -> Future[bool]:
        return self._deletes.submit((record.id, record.fence, lease_end or record.visible))

    def lease_end(self, vt_ms: int) -> bytes:
        """When a lease that begins now ends at the earliest, in ms."""
        return b"%d" % (self._scripts.clock.now_ms() + vt_ms)

    def delete_by_id(self, id: bytes, fence: bytes = b"") -> Future[bool]:
        return self._deletes.submit((id, fence, b""))

    def change_visibility(self, record: Record, vt_ms: int) -> Future[bool]:
        return self._changes.submit((record.id, record.fence, vt_ms))

    def change_visibility_by_id(self, id: bytes, vt_ms: int, fence: bytes = b"") -> Future[bool]:
        changes = self._changes if fence else self._changes_by_id
        return changes.submit((id, fence, vt_ms))

    def release(self, record: Record, delay_ms: int) -> Future[bool]:
        return self.change_visibility(record, delay_ms)

    async def renew(self, leases: Sequence[tuple[Record, int]]) -> list[bool]:
        """Hide messages for so many ms from now on, in one script call that is not repeated."""
        args: list[Argument] = [""]
        for record, vt_ms in leases:
            args += record.id, record.fence, vt_ms
        return await self._scripts.run(
            self._call("change_visibility", args, repeat=False), partial(_bools, len(leases))
        )

    async def hand_back(self, records: Sequence[Record]) -> None:
        """Undo the receipt of messages that reached nobody."""
        args: list[Argument] = [self._channel]
        for record in records:
            args += record.id, record.fence, record.visible, record.place
        await self._scripts.run(self._call("hand_back", args))

    async def restore(self, records: Sequence[Record], *, hide: int | None = None) -> None:
        """Put popped messages back that reached nobody, or hide them for the queue's vt, so many ms
        at the least.

        Not repeated after a lost reply: by then another consumer may have popped them. At worst
        they are gone.
        """
        args: list[Argument] = [self._channel, hide or 0]
        for record in records:
            place = record.place if hide is None else b""
            args += record.id, record.raw, record.receive_count, record.first_received, place
        await self._scripts.run(self._call("restore", args, retry_unknown=False))

    def _submit_deletes(
        self, items: Sequence[_Delete], answered: Answered[bool], until: float
    ) -> None:
        ids, fences, leases = zip(*items, strict=True)

        def replied(reply: Reply | Exception) -> None:
            if isinstance(reply, Exception):
                answered(reply)
                return
            deleted = [True] * len(items)
            for position in reply:
                deleted[position] = False
            if len(set(ids)) < len(
                ids
            ):  # named twice: the last receipt has deleted it, or the first who named it
                by: dict[bytes, int] = {}
                for at in sorted(
                    compress(range(len(ids)), deleted), key=lambda at: -_count(fences[at])
                ):
                    by.setdefault(ids[at], at)
                deleted = [by.get(id) == at for at, id in enumerate(ids)]
            answered(deleted)

        def again() -> Sequence[Argument]:
            return "retry", "each", *ids, *fences, *leases

        same = fences.count(fences[0]) == len(ids)
        args = ("first", fences[0], *ids) if same else ("first", "each", *ids, *fences)
        self._scripts.submit(self._call("delete", args, again=again), replied, until)

    def _submit_changes(
        self,
        items: Sequence[_Change],
        answered: Answered[bool],
        until: float,
        *,
        retry_unknown: bool = True,
    ) -> None:
        args = [self._channel, *(word for item in items for word in item)]
        call = self._call("change_visibility", args, retry_unknown=retry_unknown)
        self._scripts.submit(call, partial(_answer, answered), until)

    def _call(self, script: str, args: Sequence[Argument], **options: Any) -> Call:
        return Call(script, self._keys.qname, self._keys.both, args, **options)


def _count(fence: bytes) -> int:
    return int(fence.partition(b" ")[0]) if fence else 0


def _bools(number: int, reply: Reply) -> list[bool]:
    if len(reply) != number:
        raise ValueError("not one for each")
    return list(map(bool, reply))


def _answer(answered: Answered[bool], outcome: Any) -> None:
    answered(outcome if isinstance(outcome, Exception) else list(map(bool, outcome)))
