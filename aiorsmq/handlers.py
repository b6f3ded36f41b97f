"""What a worker's handler may raise, and how long to wait before the next attempt."""

from __future__ import annotations

import random
from collections.abc import Callable

from ._protocol import Seconds, check_seconds


class Retry(Exception):
    """Raised by a handler: redeliver the message.

    Args:
        delay: seconds until then; the worker's backoff if None.
        reason: recorded as the reason of the death if this was the last attempt. Defaults to the
            exception that this one was raised from (`__cause__`).
    """

    delay: Seconds | None = None
    reason: str = "retried too often"

    def __init__(self, delay: Seconds | None = None, reason: str = reason) -> None:
        super().__init__(delay, reason)
        self.delay = None if delay is None else check_seconds("delay", delay)
        self.reason = str(reason)


class Reject(Exception):
    """Raised by a handler: move the message to the dead-letter queue now.

    A queue with `max_receives` and no dead-letter queue drops it. With neither, the message is
    redelivered after the worker's backoff, with a warning in the log.
    """

    reason: str = "rejected"

    def __init__(self, reason: object = reason) -> None:
        super().__init__(reason)
        self.reason = str(reason)


def exponential(first: float = 1.0, longest: float = 300.0) -> Callable[[int], float]:
    """A backoff for workers: `first` seconds after the first attempt, then twice as long after each
    further one, up to `longest`.

    A random part of up to a half is cut off each delay, so that messages that failed together are
    not redelivered together.
    """
    shortest = check_seconds("first", first)
    limit = check_seconds("longest", longest)

    def delay(receive_count: int) -> float:
        return min(shortest * 2 ** min(receive_count - 1, 64), limit) * random.uniform(0.5, 1)

    return delay
