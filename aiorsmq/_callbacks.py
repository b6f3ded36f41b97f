"""Checks for callbacks that must be plain functions.

An `async def` in their place would return a coroutine, which is truthy and never runs.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Final, TypeVar

from .errors import InvalidParameterValue

T = TypeVar("T")

ENDS_THE_PROGRAM: Final = (SystemExit, KeyboardInterrupt)
"""Exceptions that propagate when a user's function raises them; all others are handled."""

_CHECKS = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)


def check_signature(parameter: str, function: Any, line: str) -> None:
    """Refuse a function that cannot be called with the arguments of `line`, such as "def f(x):".

    A builtin that does not say what it takes is accepted. So is a function with annotations that
    are imported for type checkers only: from Python 3.14 on, looking at it evaluates them.
    """
    names = line.partition("(")[2].partition(")")[0].split(", ")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError, NameError):
        return
    try:
        signature.bind(*names)
    except TypeError:
        arguments = f"{len(names)} argument{'s' * (len(names) > 1)}"
        reason = f"must take {arguments}, as in `{line} ...`"
        raise InvalidParameterValue(parameter, function, reason) from None


def check_plain(parameter: str, function: object, line: str = "") -> None:
    """Refuse what is not a plain function, or cannot be called with the arguments of `line`."""
    call = getattr(function, "__call__", None)  # noqa: B004 - its method, if it is an object
    if not callable(function) or any(check(function) or check(call) for check in _CHECKS):
        raise InvalidParameterValue(
            parameter, function, "must be a plain function, not async and not a generator"
        )
    if line:
        check_signature(parameter, function, line)


def call_plain(parameter: str, function: Callable[..., T], *args: object) -> T:
    """Call a plain function, and check its result.

    Finds what `check_plain` cannot see, such as a lambda that returns a coroutine.
    """
    result = function(*args)
    if result is not None and is_unrun(result):
        reason = f"must be a plain function, but it returned a {type(result).__name__}"
        raise InvalidParameterValue(parameter, function, reason)
    return result


def is_unrun(result: object) -> bool:
    """Whether a result is a coroutine, an awaitable or a generator that has not run.

    A coroutine is closed, because nothing will await it.
    """
    if inspect.iscoroutine(result):
        result.close()
        return True
    return inspect.isawaitable(result) or inspect.isgenerator(result) or inspect.isasyncgen(result)
