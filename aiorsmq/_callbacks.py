"""Plain functions of the user's: a coroutine in place of what they should return is true, and
nobody runs it.
"""

import inspect
from collections.abc import Callable
from typing import Final, TypeVar

from .errors import InvalidParameterValue

T = TypeVar("T")

ENDS_THE_PROGRAM: Final = (SystemExit, KeyboardInterrupt)
"""Raised by a function of the user's they go on up; everything else is an outcome like any
other.
"""

_KINDS = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)


def check_plain(parameter: str, function: object) -> None:
    call = getattr(function, "__call__", None)  # noqa: B004 - of an object of the user's class
    if not callable(function) or any(is_kind(function) or is_kind(call) for is_kind in _KINDS):
        raise InvalidParameterValue(parameter, function, "must be a plain function")


def call_plain(parameter: str, function: Callable[..., T], *args: object) -> T:
    """Call a function that `check_plain` could not see through, such as a lambda round a
    coroutine.
    """
    result = function(*args)
    if result is not None and is_unrun(result):
        reason = f"must be a plain function, and it returned a {type(result).__name__}"
        raise InvalidParameterValue(parameter, function, reason)
    return result


def is_unrun(result: object) -> bool:
    """Whether it is work that was not done: a coroutine, a generator. A coroutine is closed: nobody
    will await it.
    """
    if inspect.iscoroutine(result):
        result.close()
        return True
    return inspect.isawaitable(result) or inspect.isgenerator(result) or inspect.isasyncgen(result)
