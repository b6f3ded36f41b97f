"""A message is deleted, hidden for longer, made visible again, or put back as if it had never been handed out."""

from asyncio import Future
from collections.abc import Awaitable, Sequence
from functools import partial
from typing import Any

from .._batch import Answered, Batch
from .._protocol import Keys
from .._scripts import Call, Reply, Scripts
from .._tasks import Tasks
from .._wire import Argument
from ..models import Record


class Settler:
    """Settles the messages of one queue; concurrent calls share a script call.

    A receive count fences: the message is left alone if it has been received since. An empty one is no fence.
    Deleting and extending may be retried without harm.
    """

    def __init__(self, scripts: Scripts, keys: Keys, tasks: Tasks, channel: str) -> None:
        self._scripts = scripts
        self._keys = keys
        self._channel = channel
        self._deletes: Batch[tuple[bytes, bytes], bool] = Batch(
            self._submit_deletes, tasks, scripts.is_busy, scripts.concerns_all
        )
        self._changes: Batch[tuple[bytes, bytes, int], bool] = Batch(
            self._submit_changes, tasks, scripts.is_busy, scripts.concerns_all
        )

    def delete(self, id: bytes, receive_count: bytes) -> Future[bool]:
        return self._deletes.submit((id, receive_count))

    def change_visibility(self, id: bytes, receive_count: bytes, vt_ms: int) -> Awaitable[bool]:
        return self._changes.submit((id, receive_count, vt_ms))

    def release(self, id: bytes, receive_count: bytes, delay_ms: int) -> Awaitable[bool]:
        return self.change_visibility(id, receive_count, delay_ms)

    async def renew(self, leases: Sequence[tuple[Record, int]]) -> list[bool]:
        """Hide messages for so many ms from now on, in one script call that is not repeated."""
        args: list[Argument] = [""]
        for record, vt_ms in leases:
            args += record.id, record.receive_count, vt_ms
        return await self._scripts.run(
            self._call("change_visibility", args, repeat=False), partial(_bools, len(leases))
        )

    async def hand_back(self, records: Sequence[Record]) -> None:
        """Undo the receipt of messages that reached nobody."""
        args: list[Argument] = [self._channel]
        for record in records:
            args += record.id, record.receive_count, record.visible, record.place
        await self._scripts.run(self._call("hand_back", args, retry_unknown=False))

    async def restore(self, records: Sequence[Record], *, hide: bool = False) -> None:
        """Put popped messages back that reached nobody; `hide` those that nobody here can use, for the queue's vt."""
        args: list[Argument] = [self._channel]
        for record in records:
            args += record.id, record.raw, record.receive_count, record.first_received, b"" if hide else record.place
        await self._scripts.run(self._call("restore", args))

    def _submit_deletes(self, items: Sequence[tuple[bytes, bytes]], answered: Answered[bool]) -> None:
        ids, receive_counts = zip(*items, strict=True)

        def replied(reply: Reply | Exception) -> None:
            if isinstance(reply, Exception):
                answered(reply)
                return
            deleted = [True] * len(items)
            for position in reply:
                deleted[position] = False
            if len(set(ids)) < len(ids):  # named twice: the first to delete a message has done it
                by: dict[bytes, int] = {}
                deleted = [done and by.setdefault(ids[at], at) == at for at, done in enumerate(deleted)]
            answered(deleted)

        same = receive_counts.count(receive_counts[0]) == len(ids)
        args = ("first", receive_counts[0], *ids) if same else ("first", "each", *ids, *receive_counts)
        self._scripts.submit(self._call("delete", args, again="retry"), replied)

    def _submit_changes(self, items: Sequence[tuple[bytes, bytes, int]], answered: Answered[bool]) -> None:
        args = [self._channel, *(word for item in items for word in item)]
        self._scripts.submit(self._call("change_visibility", args), partial(_answer, answered))

    def _call(self, script: str, args: Sequence[Argument], **options: Any) -> Call:
        return Call(script, self._keys.qname, self._keys.both, args, **options)


def _bools(number: int, reply: Reply) -> list[bool]:
    if len(reply) != number:
        raise ValueError("not one for each")
    return list(map(bool, reply))


def _answer(answered: Answered[bool], outcome: Any) -> None:
    answered(outcome if isinstance(outcome, Exception) else list(map(bool, outcome)))
