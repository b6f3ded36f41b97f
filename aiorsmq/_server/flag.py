"""What the listener sets when a queue may have a message to claim."""

from __future__ import annotations

import weakref
from collections.abc import Callable


class Flag:
    """Set when a queue may have a message to claim.

    That is: a message was announced, the channel was (re)subscribed, or the listener stopped
    listening to it. The event loop calls `on_news` each time the listener sets the flag.
    """

    def __init__(self, channel: str, on_news: Callable[[], None]) -> None:
        self.channel: bytes = channel.encode()
        self.is_set: bool = False
        self.is_urgent: bool = False
        """Whether the news concern messages claimed ahead, too: the queue was paused, or may have
        been before the channel was (re)subscribed."""
        self.is_wanted: bool = False
        self._on_news = weakref.WeakMethod(on_news)

    def set(self) -> None:
        self.is_set = True
        if (on_news := self._on_news()) is not None:
            on_news()
