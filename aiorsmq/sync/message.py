"""A message that synchronous code settles."""

from __future__ import annotations

import logging
from datetime import datetime
from types import TracebackType
from typing import Generic, NoReturn, TypeVar

from .. import models
from .._protocol import Seconds
from ..errors import ClientClosed, WrongEventLoop
from ..models import Receipt
from ._thread import LoopThread

T = TypeVar("T")

_logger = logging.getLogger("aiorsmq.queue")


class Message(Generic[T]):
    """One delivery of one message. Immutable; see `aiorsmq.Message`.

    `with message:` deletes the message at the end of the block. If the block raises, the message
    becomes visible again at once.

    It belongs to the process that received it. Elsewhere settle its `receipt`.
    """

    __slots__ = ("__weakref__", "_message", "_thread")

    def __init__(self, message: models.Message[T], thread: LoopThread) -> None:
        self._message = message
        self._thread = thread

    @property
    def id(self) -> str:
        return self._message.id

    @property
    def body(self) -> T:
        """The body, as the queue's codec decoded it."""
        return self._message.body

    @property
    def raw(self) -> bytes:
        """The body as stored."""
        return self._message.raw

    @property
    def receive_count(self) -> int:
        """How often the message has been received, including this time; 0 if it was only peeked."""
        return self._message.receive_count

    @property
    def sent_at(self) -> datetime:
        """When the message was sent, by the server's clock. Read from the id."""
        return self._message.sent_at

    @property
    def first_received_at(self) -> datetime | None:
        """When the message was first received; None if it never was (see `Queue.peek`)."""
        return self._message.first_received_at

    @property
    def visible_until(self) -> datetime:
        """When this delivery's lease ends, not counting later calls of `extend`."""
        return self._message.visible_until

    @property
    def queue(self) -> str:
        """The name of the message's queue."""
        return self._message.queue

    @property
    def ns(self) -> str:
        """The namespace of the message's queue."""
        return self._message.ns

    @property
    def receipt(self) -> Receipt:
        """A value that settles this delivery from another process, see `Receipt`."""
        return self._message.receipt

    def delete(self) -> bool:
        """Delete the message, because it has been processed."""
        return self._thread.run(self._message.delete())

    def extend(self, vt: Seconds) -> bool:
        """Keep the message hidden for `vt` seconds, counted from now."""
        return self._thread.run(self._message.extend(vt))

    def release(self, delay: Seconds = 0) -> bool:
        """Return the message to the queue, visible after `delay` seconds. Wakes waiting
        consumers."""
        return self._thread.run(self._message.release(delay))

    def __enter__(self) -> Message[T]:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self._thread.run(self._message.__aexit__(exc_type, exc, traceback))
        except (ClientClosed, WrongEventLoop) as error:
            if exc_type is None:
                raise
            extra = {
                "queue": self.queue,
                "ns": self.ns,
                "id": self.id,
                "attempt": self.receive_count,
            }
            _logger.warning("could not release message %s: %s", self.id, error, extra=extra)

    def __copy__(self) -> Message[T]:
        return self  # immutable

    def __reduce__(self) -> NoReturn:
        self._message.__reduce__()

    def __repr__(self) -> str:
        return repr(self._message)
