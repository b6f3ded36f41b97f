"""What the user of a worker gives it: handlers, what these may raise, backoffs."""

import random
from collections.abc import Callable

from ._protocol import Seconds, check_seconds


class Retry(Exception):
    """Raised by a handler: the message is to come again.

    Args:
        delay: in so many seconds; if None, after the worker's backoff.
        reason: why the message has died if this was the last attempt; that is its cause, if it is
            raised from one.
    """

    delay: Seconds | None = None
    reason: str = "retried too often"

    def __init__(self, delay: Seconds | None = None, reason: str = reason) -> None:
        super().__init__(delay, reason)
        self.delay = None if delay is None else check_seconds("delay", delay)
        self.reason = str(reason)


class Reject(Exception):
    """Raised by a handler: the message is hopeless, and goes to the dead-letter queue at once.

    A queue with `max_receives` and no dead-letter queue drops it at once. With neither it comes
    again after the worker's backoff, with a warning in the log.
    """

    reason: str = "rejected"

    def __init__(self, reason: object = reason) -> None:
        super().__init__(reason)
        self.reason = str(reason)


def exponential(first: float = 1.0, longest: float = 300.0) -> Callable[[int], float]:
    """A backoff: `first` seconds after the first attempt, twice as long after each further one,
    `longest` at the most.

    Each is cut at random by up to a half, so that what failed together does not come again
    together.
    """

    def delay(receive_count: int) -> float:
        return min(first * 2 ** min(receive_count - 1, 64), longest) * random.uniform(0.5, 1)

    return delay
