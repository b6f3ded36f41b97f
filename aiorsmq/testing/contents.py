"""What is in a queue, to be compared with what a test expects."""

from __future__ import annotations

import asyncio
from typing import Final, Generic, TypeVar

from ..queue import Queue

T = TypeVar("T")

MAX_MESSAGES: Final = 1000
"""Messages that can be looked at."""


class QueueContents(list[T], Generic[T]):
    """The bodies of a queue's messages, decoded, the next to be received first.

    A list of all. A body that the queue's codec cannot decode is there as stored, as bytes.
    """

    def __init__(self, visible: list[T], hidden: list[T]) -> None:
        super().__init__([*visible, *hidden])
        self.visible: list[T] = visible
        """Those that can be received now."""
        self.hidden: list[T] = hidden
        """Those that are delayed, in hand, or waiting to be retried."""


async def queue_contents(queue: Queue[T]) -> QueueContents[T | bytes]:
    """What is in a queue. Receives nothing.

    `assert await queue_contents(queue) == [first, second]` is about all messages, in the order in
    which they become visible; `.visible` and `.hidden` are parts of it. For dead letters, ask for
    the contents of the dead-letter queue; `Queue.reasons` tells why they are there.

    Raises QueueDoesNotExist, and AssertionError if there are more than 1000 messages.
    """
    attributes, letters, messages = await asyncio.gather(
        queue.attributes(), queue.reasons(MAX_MESSAGES), queue.peek(MAX_MESSAGES)
    )
    if attributes.msgs > MAX_MESSAGES:
        text = f"queue {queue.name!r} has {attributes.msgs} messages"
        raise AssertionError(f"{text}, and queue_contents is for up to {MAX_MESSAGES}")
    decoded = {message.id: message.body for message in messages}
    bodies = [decoded.get(letter.id, letter.raw) for letter in letters]
    number = attributes.msgs - attributes.hiddenmsgs
    return QueueContents(bodies[:number], bodies[number:])
