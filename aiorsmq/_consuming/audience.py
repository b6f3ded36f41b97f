"""Who wants the announcements of a line's queue, though nobody may be waiting in the line."""

from __future__ import annotations

import weakref
from collections.abc import Generator
from contextlib import contextmanager

from .._server.flag import Flag
from .._server.node import Node
from .waiter import Mailbox, Stream, Waiter


class Audience:
    """The streams of a line, and those who observe it."""

    def __init__(self, node: Node, flag: Flag) -> None:
        self._node = node
        self._flag = flag
        self._has_waiters = False
        self.observers: int = 0
        self._streams: weakref.WeakSet[Stream] = weakref.WeakSet()
        self._claiming_ahead: weakref.WeakSet[Mailbox] = weakref.WeakSet()

    def open_stream(self, stream: Stream) -> None:
        self._streams.add(stream)
        if self._node.home.has_ended_streams:
            stream.end()

    def end_streams(self) -> None:
        """End the streams; unused messages go to other consumers, or back into the queue."""
        for stream in list(self._streams):
            stream.end()

    @contextmanager
    def observed(self) -> Generator[None]:
        """Listen even while nobody waits: for consumers that ask `has_reason` first."""
        self.observers += 1
        self._node.watch(self._flag)
        try:
            yield
        finally:
            self.observers -= 1
            self.note(has_waiters=self._has_waiters)

    def begin_ahead(self, mailbox: Mailbox) -> None:
        """Listen while a stream may hold messages that it has claimed ahead, for a pause."""
        self._claiming_ahead.add(mailbox)
        self._node.watch(self._flag)

    def end_ahead(self, mailbox: Mailbox) -> None:
        self._claiming_ahead.discard(mailbox)
        self.note(has_waiters=self._has_waiters)

    def holds_messages(self) -> bool:
        return any(mailbox.holds_messages() for mailbox in self._claiming_ahead)

    def withdraw_served(self) -> list[Waiter]:
        """Take out the waiters whose messages were claimed ahead and not handed out."""
        mailboxes = list(self._claiming_ahead)
        return [waiter for mailbox in mailboxes for waiter in mailbox.withdraw_served()]

    def note(self, *, has_waiters: bool) -> None:
        """Go on listening, or not."""
        self._has_waiters = has_waiters
        self._flag.is_wanted = has_waiters or self.observers > 0 or len(self._claiming_ahead) > 0
