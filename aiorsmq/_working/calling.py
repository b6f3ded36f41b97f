"""Calls what the user of a worker gives it, and reads what that returns or raises."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar, cast

import anyio.to_thread

from .._callbacks import ENDS_THE_PROGRAM, is_unrun
from ..errors import InvalidParameterValue
from ..handlers import Reject, Retry
from ..models import Message

T = TypeVar("T")


MAX_DEPTH: Final = 100
"""How many causes, or groups of one, are looked through."""


def only_one(error: BaseException) -> BaseException:
    """What a handler has raised; of a group of one, as it comes out of a task group, what is in it.

    Something else stands for what cannot be looked at: its class can have properties of any sort.
    """
    try:
        return _only_one(error)
    except ENDS_THE_PROGRAM:
        raise
    except BaseException as odd:  # noqa: BLE001
        what = f"{type(error).__name__}, which raises {type(odd).__name__} when it is looked at"
        return RuntimeError(f"the handler raised {what}")


def _only_one(error: BaseException) -> BaseException:
    for _ in range(MAX_DEPTH):
        if isinstance(error, Retry | Reject) or not _is_group(error):
            return error
        inner = cast("BaseExceptionGroup[BaseException]", error).exceptions
        if len(inner) != 1:
            return error
        (error,) = inner
    raise RecursionError


def _is_group(error: BaseException) -> bool:
    return isinstance(error, BaseExceptionGroup)


def verdict(answer: Any) -> Retry | Reject | None:
    """What `on_error` has returned, made of its class if it is one."""
    if isinstance(answer, type) and issubclass(answer, Retry | Reject):
        answer = answer()
    if answer is None or isinstance(answer, Retry | Reject):
        return answer
    raise TypeError(f"it returned {_name(answer)}, which is no Retry, Reject or None")


def said_by(error: BaseException) -> str:
    """An exception as the reason of a death, whatever it does when it is looked at."""
    try:
        for _ in range(MAX_DEPTH):  # causes can form a circle
            if not isinstance(error, Retry | Reject) or error.__cause__ is None:
                break
            error = error.__cause__
        return (
            str(error.reason)
            if isinstance(error, Retry | Reject)
            else f"{type(error).__name__}: {error}"
        )
    except ENDS_THE_PROGRAM:
        raise
    except BaseException:  # noqa: BLE001 - its own, from `__str__`
        return type(error).__name__


def check_result(result: Any) -> None:
    """Raise TypeError for what a handler cannot have meant by "done"."""
    if result is False:  # rsmq-worker's way to keep a message
        raise TypeError(
            "the handler returned False: raise Retry to keep the message, Reject to give it up"
        )
    if isinstance(result, BaseException) or _is_exception_class(result):
        raise TypeError(f"the handler returned {_name(result)} instead of raising it")
    if is_unrun(result):
        raise TypeError(f"the handler returned a {type(result).__name__}, which nobody runs")


def _is_exception_class(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, BaseException)


def _name(value: Any) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else f"a {type(value).__name__}"


def awaitable(
    handler: Callable[[Message[T]], object], threads: int
) -> Callable[[Message[T]], Awaitable[object]]:
    """The handler, called in a thread if it is a plain function: in one of so many, also of those
    that are given up.
    """
    if (
        not callable(handler)
        or inspect.isgeneratorfunction(handler)
        or inspect.isasyncgenfunction(handler)
    ):
        raise InvalidParameterValue(
            "handler", handler, "must be a function that takes a message, and not a generator"
        )
    call = getattr(handler, "__call__", None)  # noqa: B004 - of an object of the user's class
    if inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(call):
        return cast("Callable[[Message[T]], Awaitable[object]]", handler)
    free = asyncio.Semaphore(threads)

    async def in_thread(message: Message[T]) -> object:
        await free.acquire()
        limiter = anyio.CapacityLimiter(1)  # `free` is the limit
        running = asyncio.ensure_future(
            anyio.to_thread.run_sync(_outcome, handler, message, limiter=limiter)
        )
        running.add_done_callback(lambda _: free.release())
        try:
            result, error = await asyncio.shield(running)
        except asyncio.CancelledError:
            running.add_done_callback(
                lambda done: done.cancelled() or done.exception()
            )  # nobody else looks at it
            raise
        if error is not None:
            try:
                raise error
            finally:
                del error  # else they hold each other
        return await result if inspect.isawaitable(result) else result

    return in_thread


def _outcome(
    handler: Callable[[Message[T]], object], message: Message[T]
) -> tuple[Any, BaseException | None]:
    """What a handler returns or raises. Between threads it is a value: they look at exceptions, and
    some cannot be.
    """
    try:
        return handler(message), None
    except BaseException as error:  # noqa: BLE001
        return None, error
