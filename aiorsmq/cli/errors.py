"""Errors in one line, and the exit codes."""

import signal
from typing import Final

from ..errors import InvalidParameterValue, RedisSMQException

FAILURE: Final = 1
"""Refused by the server, or nothing found."""
WRONG_USAGE: Final = 2
UNREACHABLE: Final = 3
INTERRUPTED: Final = 128 + signal.SIGINT


class Unreachable(Exception):
    """The server cannot be reached. Its text names the address."""


class NotDone(Exception):
    """Refused by the server, or nothing found."""


EXPECTED: Final = (Unreachable, NotDone, RedisSMQException)
"""What a command may raise: told in one line. Anything else is a bug, and has a traceback."""


def explain(error: Exception) -> str:
    return " ".join(str(error).split())


def exit_code(error: Exception) -> int:
    match error:
        case Unreachable():
            return UNREACHABLE
        case InvalidParameterValue():
            return WRONG_USAGE
        case _:
            return FAILURE
