"""One run of a script, and what may be done if its reply is lost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import Any, NamedTuple

from ..models import Confirm
from .wire import Argument

Reply = list[Any]


class RetryPolicy(Enum):
    """What is done after an attempt that failed.

    "Unknown" is an outcome that only the server knows: the connection was lost, or the reply did
    not come. Refusals for now (LOADING, READONLY, ...) are not unknown: nothing was executed.
    """

    SAFE = auto()
    """Try again: a second execution changes nothing."""
    SAFE_WITH_MARK = auto()
    """Try again, after an unknown outcome with the arguments that `Call.marked_args` makes: they
    tell the script that it may have been executed already."""
    NEVER_IF_UNKNOWN = auto()
    """Try again, but raise an unknown outcome: a second execution would do harm."""
    NEVER = auto()
    """Raise the first failure: a later attempt would be out of date. A script that the server does
    not know is sent again, since nothing was executed."""


def single_int(reply: Reply) -> int:
    """Read a reply of one number."""
    (number,) = map(int, reply)
    return number


class Call(NamedTuple):
    """One run of a script."""

    script: str
    """Its file in `_lua`, without `.lua`."""
    qname: str
    """The queue that errors name."""
    keys: Sequence[str]
    args: Sequence[Argument]
    policy: RetryPolicy = RetryPolicy.SAFE
    marked_args: Callable[[], Sequence[Argument]] | None = None
    """With SAFE_WITH_MARK."""
    holds_messages: bool = False
    """Whether the reply does. A reply that is arriving at the deadline is then waited for, so that
    its messages can be put back."""
    confirm: Confirm | None = None
    """What confirms what it writes, and on the lane for that; None if nothing needs to."""

    def __repr__(self) -> str:  # without args: they hold bodies
        return f"<Call of {self.script} of queue {self.qname!r}>"
