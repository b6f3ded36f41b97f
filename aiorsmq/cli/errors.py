"""Errors in one line, and the exit codes."""

import re
import signal
from typing import Final

from ..errors import InvalidParameterValue, QueueDoesNotExist, RedisSMQException

FAILURE: Final = 1
"""Refused by the server, or nothing found."""
WRONG_USAGE: Final = 2
UNREACHABLE: Final = 3
INTERRUPTED: Final = 128 + signal.SIGINT


class Unreachable(Exception):
    """The server cannot be reached. Its text names the address."""


class NotDone(Exception):
    """Refused by the server, or nothing found."""


class WrongUsage(Exception):
    """Arguments that do not go together, or cannot be used."""


class Interrupted(Exception):
    """Ctrl-C came. Its text tells what was done until then."""


EXPECTED: Final = (Unreachable, NotDone, WrongUsage, Interrupted, RedisSMQException)
"""What a command may raise: told in one line. So is an OSError: a disk is full, a file is gone.
Anything else is a bug, and has a traceback."""


def explain(error: Exception) -> str:
    if isinstance(error, QueueDoesNotExist):
        return f"queue {error.qname!r} does not exist; create it with: aiorsmq create {error.qname}"
    if isinstance(error, OSError):
        return ": ".join(filter(None, (error.filename, error.strerror))) or str(error)
    return " ".join(str(error).split())


def hide_passwords(text: str) -> str:
    """A text without what URLs in it say before the host, and as a password."""
    text = re.sub(r"(\w://)[^\s'\"]*@", r"\1...@", text)
    return re.sub(r"(password=)[^\s&'\"]*", r"\1...", text)


def exit_code(error: Exception) -> int:
    match error:
        case Unreachable():
            return UNREACHABLE
        case InvalidParameterValue() | WrongUsage():
            return WRONG_USAGE
        case Interrupted():
            return INTERRUPTED
        case _:
            return FAILURE
