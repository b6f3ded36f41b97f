"""Makes messages of the records that were claimed, with a queue's codec."""

from __future__ import annotations

import asyncio
import time
from types import CoroutineType
from typing import Generic, TypeVar

from .._callbacks import ENDS_THE_PROGRAM
from .._protocol import Seconds, check_seconds
from .._record import PendingDeletes, Record, Settles
from ..codecs import Codec
from ..models import Message
from .core import QueueCore
from .line import ConsumerLine

T = TypeVar("T")


class MessageReader(Generic[T]):
    """Reads messages of one queue; what the codec cannot decode is put aside."""

    def __init__(self, core: QueueCore, codec: Codec[T]) -> None:
        self._core = core
        self._codec = codec

    async def take(
        self, line: ConsumerLine, limit: int, wait: Seconds, *, popped: bool = False
    ) -> list[Message[T]]:
        """`ConsumerLine.take`, read; taken again if none of its messages could be decoded."""
        node = self._core.node
        seconds = check_seconds("wait", wait)
        started = time.monotonic()
        until = node.until() + seconds
        remaining = seconds
        while True:
            records = await line.take(limit, remaining)
            read = [self.read(record, popped=popped) for record in records]
            messages = [message for message in read if message is not None]
            if messages or not records:
                return messages
            await node.result(asyncio.ensure_future(self._core.until_put_aside()), until)
            remaining = max(0, started + seconds - time.monotonic())

    def read(
        self,
        record: Record,
        settler: Settles | None = None,
        pending_deletes: PendingDeletes | None = None,
        *,
        popped: bool = False,
        peeked: bool = False,
    ) -> Message[T] | None:
        """The message of a record; None if it cannot be decoded.

        Args:
            settler: settles the message, instead of the queue's.
            pending_deletes: see `Message`.
        """
        try:
            body = self._codec.decode(record.raw)
            if type(body) is CoroutineType:
                body.close()
                raise TypeError("decode returned a coroutine")
        except ENDS_THE_PROGRAM:
            raise
        except BaseException as error:  # noqa: BLE001 - a user's codec; other messages must arrive
            codec = type(self._codec).__name__
            reason = f"cannot be decoded by {codec} ({type(error).__name__})"
            self._core.put_aside(record, reason, popped=popped, peeked=peeked)
            return None
        core = self._core
        if popped:
            return Message(record, body, core.keys, None, pending_deletes)
        return Message(record, body, core.keys, settler or core.settler, pending_deletes)
