"""What a finding says, and the words that all rules share."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

Severity = Literal["critical", "warning", "info"]

SEVERITIES: Final[tuple[Severity, ...]] = ("critical", "warning", "info")
"""Worst first."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong with a queue or its server, or worth knowing."""

    code: str
    """What it is, for programs: "nobody-listens"."""
    severity: Severity
    """"critical": messages are stuck or lost now; "warning": they will be, or work is done twice;
    "info": good to know."""
    queue: str
    """The queue's name; "" for the server."""
    text: str
    """The facts, in a sentence."""
    remedy: str
    """What to do: a command line, which begins with "aiorsmq " or "redis-cli ", or a sentence."""
    can_repair: bool = False
    """Whether `repair` mends it."""
    hint: str = ""
    """What else it may be, or what else to know; often empty."""
    look: str = ""
    """A command line that shows more, to be run before the remedy; often empty."""

    @property
    def command(self) -> str | None:
        """The remedy, if it is a command line."""
        is_command = self.remedy.startswith(("aiorsmq ", "redis-cli "))
        return self.remedy if is_command else None


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """In the order in which to mend them: by severity, the server's before those of queues."""
    return sorted(findings, key=lambda finding: (SEVERITIES.index(finding.severity), finding.queue))


def command(*words: object) -> str:
    """A command line of this library, quoted for a shell."""
    return shlex.join(["aiorsmq", *map(str, words)])


def count(number: int, noun: str) -> str:
    """A number and its noun: "1 message", "3,000 messages"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def verb(number: int, singular: str, plural: str) -> str:
    return singular if number == 1 else plural


_UNITS: Final = (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1))
"""Unit, its seconds, the next smaller unit, its seconds."""


def duration(seconds: float) -> str:
    """A length of time in one or two units, as "4.2 s", "3 min 5 s", "2 d 4 h"."""
    for unit, length, smaller, part in _UNITS:
        if seconds >= length:
            smaller_units = int(seconds % length // part)
            text = f"{seconds // length:.0f} {unit}"
            return f"{text} {smaller_units} {smaller}" if smaller_units else text
    return f"{seconds:.1f} s" if 0 < seconds < 10 else f"{seconds:.0f} s"


def size(number: float) -> str:
    """Bytes, as "3.2 MiB"."""
    for unit in ("bytes", "KiB", "MiB"):
        if number < 1024:
            return f"{number:,.0f} bytes" if unit == "bytes" else f"{number:,.1f} {unit}"
        number /= 1024
    return f"{number:,.1f} GiB"
