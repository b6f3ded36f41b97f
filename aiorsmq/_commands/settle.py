"""Messages are deleted, hidden for longer, made visible again, or put back as if never received."""

from __future__ import annotations

from asyncio import Future
from collections.abc import Callable, Sequence
from functools import partial
from itertools import compress
from typing import Any

from .._protocol import Keys
from .._record import Record
from .._server.batch import Batch, OnResults
from .._server.call import Call, Reply, RetryPolicy
from .._server.node import Node
from .._server.wire import Argument

_Delete = tuple[bytes, bytes, bytes]
"""Id, fence, and the end of the lease in ms; the last two may be empty."""
_Change = tuple[bytes, bytes, int]
"""Id, fence, and ms from now."""


class QueueSettler:
    """Settles the messages of one queue; concurrent calls share a script call.

    A record's fence leaves the message alone if it has been received since; an empty fence does
    not.

    What a repetition after a lost reply does if others have acted in between:

    - A fenced change or delete is refused if another consumer has received the message.
    - A fenced delete that finds the message gone returns True only if its lease has not ended:
      until then nobody else can have deleted it.
    - A delete by id returns True if the message is gone.
    - A change by id is not repeated: it might show or hide what another consumer holds by now.
    - Undoing a receipt is fenced by its lease too. Putting back what was popped is not repeated.
    """

    def __init__(self, node: Node, keys: Keys) -> None:
        self._node = node
        self._keys = keys
        self._channel = keys.channel if node.realtime else ""
        self._deletes: Batch[_Delete, bool] = Batch(self._submit_deletes, node)
        submit_changes = partial(self._submit_changes, RetryPolicy.SAFE)
        self._changes: Batch[_Change, bool] = Batch(submit_changes, node)
        submit_changes_by_id = partial(self._submit_changes, RetryPolicy.NEVER_IF_UNKNOWN)
        self._changes_by_id: Batch[_Change, bool] = Batch(submit_changes_by_id, node)

    def delete(self, record: Record, lease_end: bytes | None = None) -> Future[bool]:
        return self._deletes.submit((record.id, record.fence, lease_end or record.visible))

    def lease_end(self, vt_ms: int) -> bytes:
        """The earliest time in ms at which a lease of `vt_ms` that begins now ends."""
        return b"%d" % (self._node.clock.now_ms() + vt_ms)

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
        """Hide messages for some ms from now on, in one script call that is never repeated."""
        args: list[Argument] = [""]
        for record, vt_ms in leases:
            args += record.id, record.fence, vt_ms
        call = self._call("change_visibility", args, RetryPolicy.NEVER)
        return await self._node.run(call, partial(_bools, len(leases)))

    async def hand_back(self, records: Sequence[Record]) -> None:
        """Undo the receipt of messages that reached nobody."""
        args: list[Argument] = [self._channel]
        for record in records:
            args += record.id, record.fence, record.visible, record.place
        await self._node.run(self._call("hand_back", args))

    async def restore(self, records: Sequence[Record], *, min_hiding_ms: int | None = None) -> None:
        """Put popped messages back that reached nobody, in their old places.

        Not repeated after a lost reply: another consumer may have popped them by then. At worst
        they are lost.

        Args:
            min_hiding_ms: hide them instead, for the queue's vt and for this long at least.
        """
        args: list[Argument] = [self._channel, min_hiding_ms or 0]
        for record in records:
            place = record.place if min_hiding_ms is None else b""
            args += record.id, record.raw, record.receive_count, record.first_received, place
        await self._node.run(self._call("restore", args, RetryPolicy.NEVER_IF_UNKNOWN))

    def _submit_deletes(
        self, items: Sequence[_Delete], on_results: OnResults[bool], until: float
    ) -> None:
        ids, fences, lease_ends = zip(*items, strict=True)

        def on_reply(reply: Reply | Exception) -> None:
            if isinstance(reply, Exception):
                on_results(reply)
                return
            deleted = [True] * len(items)
            for position in reply:
                deleted[position] = False
            if len(set(ids)) < len(ids):
                deleted = _first_deleters(ids, fences, deleted)
            on_results(deleted)

        def marked_args() -> Sequence[Argument]:
            return "retry", "each", *ids, *fences, *lease_ends

        have_one_fence = fences.count(fences[0]) == len(ids)
        args = ("first", fences[0], *ids) if have_one_fence else ("first", "each", *ids, *fences)
        call = self._call("delete", args, RetryPolicy.SAFE_WITH_MARK, marked_args)
        self._node.submit(call, on_reply, until)

    def _submit_changes(
        self,
        policy: RetryPolicy,
        items: Sequence[_Change],
        on_results: OnResults[bool],
        until: float,
    ) -> None:
        args = [self._channel, *(word for item in items for word in item)]
        call = self._call("change_visibility", args, policy)
        self._node.submit(call, partial(_on_changes, on_results), until)

    def _call(
        self,
        script: str,
        args: Sequence[Argument],
        policy: RetryPolicy = RetryPolicy.SAFE,
        marked_args: Callable[[], Sequence[Argument]] | None = None,
    ) -> Call:
        return Call(script, self._keys.qname, self._keys.pair, args, policy, marked_args)


def _first_deleters(
    ids: Sequence[bytes], fences: Sequence[bytes], deleted: Sequence[bool]
) -> list[bool]:
    """Of deletes that name one message, the one with the latest receipt deleted it, or the first
    one that named it."""
    deleters: dict[bytes, int] = {}
    positions = compress(range(len(ids)), deleted)
    for position in sorted(positions, key=lambda position: -_receive_count(fences[position])):
        deleters.setdefault(ids[position], position)
    return [deleters.get(id) == position for position, id in enumerate(ids)]


def _receive_count(fence: bytes) -> int:
    return int(fence.partition(b" ")[0]) if fence else 0


def _bools(number: int, reply: Reply) -> list[bool]:
    if len(reply) != number:
        raise ValueError("not one result for each")
    return list(map(bool, reply))


def _on_changes(on_results: OnResults[bool], outcome: Any) -> None:
    on_results(outcome if isinstance(outcome, Exception) else list(map(bool, outcome)))
