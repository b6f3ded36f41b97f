"""The iterators over a queue's messages, and over its announcements."""

from __future__ import annotations

from types import TracebackType
from typing import Generic, TypeVar

from .. import announcements, stream
from ._twin import Twin, current_thread
from .message import Message

T = TypeVar("T")


class Messages(Generic[T]):
    """The messages of one queue as they come: an iterator that never ends by itself.

    It is a context manager too. Leaving it, `close()`, interrupting a thread that waits for the
    next message, and dropping the iterator, as `break` does, all hand back messages that it has
    claimed ahead (see `prefetch` of `Queue.messages`) and not handed out. The client's `close()`
    ends the iteration. Several threads may iterate over one iterator. In a forked process it begins
    again, with no messages of its own.
    """

    def __init__(self, twin: Twin[stream.Messages[T]]) -> None:
        self._twin = twin

    def __iter__(self) -> Messages[T]:
        return self

    def __next__(self) -> Message[T]:
        """Wait for the next message."""
        try:
            message = self._twin.run(lambda messages: messages.__anext__())
        except StopAsyncIteration:
            raise StopIteration from None
        return Message(message, current_thread())

    def close(self) -> None:
        """End the iteration, also for a thread that awaits it."""
        self._twin.run(lambda messages: messages.aclose())

    def __enter__(self) -> Messages[T]:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._twin.run(lambda messages: messages.__aexit__(exc_type, exc, traceback))


class Announcements:
    """The announcements of one queue, without contents: an iterator that never ends by itself.

    It is a context manager too; leaving it, `close()`, and dropping the iterator stop the
    listening. The client's `close()` ends the iteration.
    """

    def __init__(self, twin: Twin[announcements.Announcements]) -> None:
        self._twin = twin

    def __iter__(self) -> Announcements:
        return self

    def __next__(self) -> None:
        """Wait for the next announcement."""
        try:
            self._twin.run(lambda announcements: announcements.__anext__())
        except StopAsyncIteration:
            raise StopIteration from None

    def close(self) -> None:
        """End the iteration, also for a thread that awaits it."""
        self._twin.run(lambda announcements: announcements.aclose())

    def __enter__(self) -> Announcements:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
