"""What the user of a worker gives it: handlers, what these may raise, backoffs."""

import asyncio
import inspect
import random
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

import anyio.to_thread

from ._protocol import Seconds, check_seconds
from .errors import InvalidParameterValue
from .models import Message

T = TypeVar("T")


class Retry(Exception):
    """Raised by a handler: the message is to come again.

    Args:
        delay: in so many seconds; if None, after the worker's backoff.
        reason: why the message has died if this was the last attempt; that is its cause, if it is raised from one.
    """

    def __init__(self, delay: Seconds | None = None, reason: str = "retried too often") -> None:
        super().__init__(delay, reason)
        self.delay: float | None = None if delay is None else check_seconds("delay", delay)
        self.reason: str = str(reason)


class Reject(Exception):
    """Raised by a handler: the message is hopeless, and goes to the dead-letter queue at once.

    A queue with `max_receives` and no dead-letter queue drops it at once. With neither it comes again after the
    worker's backoff, with a warning in the log.
    """

    def __init__(self, reason: object = "rejected") -> None:
        super().__init__(reason)
        self.reason: str = str(reason)


def exponential(first: float = 1.0, longest: float = 300.0) -> Callable[[int], float]:
    """A backoff: `first` seconds after the first attempt, twice as long after each further one, `longest` at the most.

    Each is cut at random by up to a half, so that what failed together does not come again together.
    """

    def delay(receive_count: int) -> float:
        return min(first * 2 ** min(receive_count - 1, 64), longest) * random.uniform(0.5, 1)

    return delay


def only_one(error: BaseException) -> BaseException:
    """What is in a group of one, as it comes out of a task group."""
    while isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        if len(group.exceptions) > 1:
            return group
        error = next(iter(group.exceptions))
    return error


def said_by(error: BaseException) -> str:
    """An exception as the reason of a death."""
    if isinstance(error, Retry | Reject):
        return error.reason if error.__cause__ is None else said_by(error.__cause__)
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # noqa: BLE001 - its own, from `__str__`
        return type(error).__name__


def check_plain(parameter: str, function: object) -> None:
    if function is not None and (not callable(function) or inspect.iscoroutinefunction(function)):
        raise InvalidParameterValue(parameter, function, "must be a plain function")


def awaitable(handler: Callable[[Message[T]], object], threads: int) -> Callable[[Message[T]], Awaitable[object]]:
    """The handler, called in a thread if it is a plain function: in one of so many, also of those that are given up."""
    if not callable(handler) or inspect.isgeneratorfunction(handler) or inspect.isasyncgenfunction(handler):
        raise InvalidParameterValue("handler", handler, "must be a function that takes a message, and not a generator")
    if inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(getattr(handler, "__call__", None)):  # noqa: B004
        return cast("Callable[[Message[T]], Awaitable[object]]", handler)
    free = asyncio.Semaphore(threads)

    async def in_thread(message: Message[T]) -> object:
        await free.acquire()
        limiter = anyio.CapacityLimiter(1)  # `free` is the limit
        running = asyncio.ensure_future(anyio.to_thread.run_sync(handler, message, limiter=limiter))
        running.add_done_callback(lambda _: free.release())
        try:
            result: Any = await asyncio.shield(running)
        except asyncio.CancelledError:
            running.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody else looks at it
            raise
        if inspect.isawaitable(result):
            return await result
        if inspect.isgenerator(result) or inspect.isasyncgen(result):
            raise TypeError("the handler returned a generator, which nobody runs")
        return result

    return in_thread
