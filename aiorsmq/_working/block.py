"""The block of an `async with`, which the end of background work interrupts."""

import asyncio
from typing import Final

INTERRUPTED: Final = "the worker of this block has died"


class Block:
    """A block that can be interrupted, as `asyncio.timeout` does it: by cancelling its task.

    Made in the task that enters the block.
    """

    def __init__(self) -> None:
        self._task = asyncio.current_task()
        self._cancelling = self._task.cancelling() if self._task else 0
        self._is_interrupted = False

    def interrupt(self) -> None:
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
