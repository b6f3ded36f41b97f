"""The block of an `async with`, which the end of background work interrupts."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Final, Literal

WhenDead = Literal["interrupt", "terminate"]
"""Whether to interrupt the block when its worker dies, or to end the program."""
INTERRUPTED: Final = "the worker of this block has died"


class Block:
    """A block that can be interrupted, as `asyncio.timeout` does it: by cancelling its task.

    Made in the task that enters the block.
    """

    def __init__(self, when_dead: WhenDead) -> None:
        self._when_dead = when_dead
        self._is_notified = False
        self._task = asyncio.current_task()
        self._cancelling = self._task.cancelling() if self._task else 0
        self._is_interrupted = False

    def notify(self) -> None:
        """The worker has died: do what is to be done, once."""
        if self._is_notified:
            return
        self._is_notified = True
        if self._when_dead == "terminate":
            os.kill(os.getpid(), signal.SIGTERM)
        else:
            self._interrupt()

    def _interrupt(self) -> None:
        """Cancel the task that entered the block, unless that has ended."""
        if self._task is not None and not self._task.done():
            self._is_interrupted = True
            self._task.cancel(INTERRUPTED)

    def leave(self) -> bool:
        """Take the cancellation back, at the end of the block. Returns whether it was the only one:
        then a CancelledError is ours, and otherwise it must go on.

        In another task than the one that entered, all cancellation is somebody else's.
        """
        task = self._task
        if not self._is_interrupted or task is None or task is not asyncio.current_task():
            return False
        return task.uncancel() <= self._cancelling
