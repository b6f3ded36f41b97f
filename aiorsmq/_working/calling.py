"""Calls what the user of a worker passes in, and reads what that returns or raises."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar, cast

import anyio.to_thread

from .._callbacks import ENDS_THE_PROGRAM, check_signature, is_unrun
from .._server.futures import retrieve_error
from ..errors import InvalidParameterValue
from ..handlers import Reject, Retry
from ..models import Message

T = TypeVar("T")

MAX_DEPTH: Final = 100
"""How many causes, or nested groups, are looked through; causes can form a cycle."""


def as_coroutine_function(
    handler: Callable[[Message[T]], object], threads: int
) -> Callable[[Message[T]], Awaitable[object]]:
    """The handler itself, or for a plain function one that calls it in a thread.

    At most `threads` run, including those whose caller was cancelled: they cannot be stopped.
    """
    check_handler(handler, "async def handler(message):")
    call = getattr(handler, "__call__", None)  # noqa: B004 - of an object of the user's class
    if inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(call):
        return cast("Callable[[Message[T]], Awaitable[object]]", handler)
    free = asyncio.Semaphore(threads)

    async def call_in_thread(message: Message[T]) -> object:
        await free.acquire()
        limiter = anyio.CapacityLimiter(1)  # no limit: `free` is the limit
        running = asyncio.ensure_future(
            anyio.to_thread.run_sync(_outcome, handler, message, limiter=limiter)
        )
        running.add_done_callback(lambda _: free.release())
        try:
            result, error = await asyncio.shield(running)
        except asyncio.CancelledError:
            running.add_done_callback(retrieve_error)
            raise
        if error is not None:
            try:
                raise error
            finally:
                del error  # breaks the reference cycle with its traceback
        return await result if inspect.isawaitable(result) else result

    return call_in_thread


def check_handler(handler: Any, line: str) -> None:
    """Refuse what cannot be a handler, and show the line that begins one."""
    reason = ""
    if is_unrun(handler):
        reason = "is the result of a call: pass the function itself, as in `worker(handler)`"
    elif not callable(handler):
        reason = f"must be a function: `{line} ...`"
    elif inspect.isgeneratorfunction(handler) or inspect.isasyncgenfunction(handler):
        reason = f"must not be a generator; without `yield`: `{line} ...`"
    elif isinstance(handler, type) and any("__call__" in vars(base) for base in handler.__mro__):
        reason = f"must be an object of this class: `worker({handler.__name__}(...))`"
    if reason:
        raise InvalidParameterValue("handler", handler, reason)
    check_signature("handler", handler, line)


def _outcome(
    handler: Callable[[Message[T]], object], message: Message[T]
) -> tuple[Any, BaseException | None]:
    """What a handler returns or raises, as values: the bridge between threads looks at exceptions,
    and some exceptions cannot be looked at."""
    try:
        return handler(message), None
    except BaseException as error:  # noqa: BLE001
        return None, error


def check_result(result: Any) -> None:
    """Raise TypeError for a result that cannot mean "done"."""
    if result is False:  # how an rsmq-worker handler keeps a message
        raise TypeError(
            "the handler returned False: raise Retry to redeliver the message, Reject to give it up"
        )
    if isinstance(result, BaseException) or _is_exception_class(result):
        raise TypeError(f"the handler returned {_describe(result)} instead of raising it")
    if is_unrun(result):
        name = type(result).__name__
        raise TypeError(
            f"the handler returned a {name} that was never awaited: await it in the handler"
        )


def _is_exception_class(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, BaseException)


def _describe(value: Any) -> str:
    if isinstance(value, type):
        return f"the class {value.__name__}"
    return f"an object of type {type(value).__name__}"


def check_verdict(verdict: Any) -> Retry | Reject | None:
    """What `on_error` has returned; an instance, if it is a class."""
    if isinstance(verdict, type) and issubclass(verdict, Retry | Reject):
        verdict = verdict()
    if verdict is None or isinstance(verdict, Retry | Reject):
        return verdict
    raise TypeError(f"on_error must return a Retry, a Reject or None, not {_describe(verdict)}")


def unwrap_single(error: BaseException) -> BaseException:
    """The error that a handler has raised, unwrapped if it is the only one in its group.

    An exception that cannot be looked at, because its attributes raise, becomes a RuntimeError.
    """
    try:
        return _unwrap_single(error)
    except ENDS_THE_PROGRAM:
        raise
    except BaseException as odd:  # noqa: BLE001
        names = f"{type(error).__name__}, which raises {type(odd).__name__} when it is looked at"
        return RuntimeError(f"the handler raised {names}")


def _unwrap_single(error: BaseException) -> BaseException:
    for _ in range(MAX_DEPTH):
        if isinstance(error, Retry | Reject) or not _is_group(error):
            return error
        errors = cast("BaseExceptionGroup[BaseException]", error).exceptions
        if len(errors) != 1:
            return error
        (error,) = errors
    raise RecursionError


def _is_group(error: BaseException) -> bool:
    return isinstance(error, BaseExceptionGroup)


def reason_of(error: BaseException) -> str:
    """The reason of a death: for a Retry or Reject its cause or reason, otherwise the exception
    itself. Never raises."""
    try:
        for _ in range(MAX_DEPTH):
            if not isinstance(error, Retry | Reject) or error.__cause__ is None:
                break
            error = error.__cause__
        if isinstance(error, Retry | Reject):
            return str(error.reason)
        text = str(error)
        return f"{type(error).__name__}: {text}" if text else type(error).__name__
    except ENDS_THE_PROGRAM:
        raise
    except BaseException:  # noqa: BLE001 - raised by its __str__
        return type(error).__name__
