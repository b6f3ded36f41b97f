"""The log of a program that runs for long: lines for people, or JSON for programs."""

import json
import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal

from cyclopts import Parameter

from .output import escape, plain

_OWN_FIELDS: Final = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
"""What logging itself puts into a record; all else comes from `extra=`."""


@Parameter(name="*")
@dataclass(frozen=True)
class Logs:
    """What is logged, and how."""

    log_format: Annotated[
        Literal["text", "json"], Parameter(env_var="AIORSMQ_LOG_FORMAT", negative="")
    ] = "text"
    """Lines for people, or a JSON object a line."""
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Parameter(env_var="AIORSMQ_LOG_LEVEL")
    ] = "info"
    """The least level; debug has the attempts that succeed, too."""

    @property
    def is_json(self) -> bool:
        return self.log_format == "json"

    def begin(self) -> bool:
        """Log to stderr, unless the program has set up its log itself; tell whether."""
        root = logging.root
        if root.handlers:
            return False
        handler = logging.StreamHandler()
        handler.setFormatter(_JsonLines() if self.is_json else _Lines())
        root.addHandler(handler)
        root.setLevel(self.log_level.upper())
        logging.captureWarnings(capture=True)
        return True


DEFAULT_LOGS: Final = Logs()


def forget_handlers() -> None:
    """Undo what the command line logs its own warnings with: a module that is imported now can set
    up the log with `logging.basicConfig`."""
    root = logging.root
    for handler in list(root.handlers):
        root.removeHandler(handler)


class _Lines(logging.Formatter):
    """For people. No control character in what others wrote has an effect on a terminal."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s", "%Y-%m-%d %H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return "".join(
            char if char.isprintable() or char in "\n\t" else escape(char) for char in text
        )


class _JsonLines(logging.Formatter):
    """For programs: time, level, logger, message, what `extra=` added, and the exception."""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {
            "time": time,
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        for name, value in vars(record).items():
            if name not in _OWN_FIELDS and name not in line:
                line[name] = plain(value)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            line["stack"] = self.formatStack(record.stack_info)
        return json.dumps(line, default=repr)
