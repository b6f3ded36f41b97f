"""How far a long command is, and what was done when it ends early."""

import asyncio
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final

from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from .errors import Interrupted
from .output import notes

SHOW_AFTER: Final = 0.5
"""Seconds; what is done by then needs no bar."""


class Progress:
    """Counts what is done in its block. Shows a bar with the time that remains, if stderr is a
    terminal and the block takes longer than a moment. If the block fails, a note tells what was
    done; if it is cancelled, as by Ctrl-C, Interrupted is raised and tells it.

    Args:
        verb: in the past, as "moved".
        total: how many there are; None if that is not known.
        hint: what to say in addition when the block ends early: how to go on.
    """

    def __init__(
        self,
        verb: str,
        total: int | None = None,
        *,
        unit: str = "message",
        hint: Callable[[int], str] = lambda _: "",
    ) -> None:
        self.count: int = 0
        self._verb = verb
        self._of_total = "" if total is None else f" of {total:,}"
        self._unit = unit
        self._hint = hint
        self._started = time.monotonic()
        self._next_update = 0.0
        self._bar = Bar(
            *(TextColumn(verb), BarColumn(), TextColumn("{task.fields[count]}")),
            TimeRemainingColumn(compact=True),
            *(TextColumn("left"),) * (total is not None),
            console=notes,
            transient=True,
            disable=not notes.is_terminal,
        )
        self._task = self._bar.add_task(verb, total=total, count=counted(0, unit))

    def update(self, count: int) -> None:
        self.count = count
        self._bar.update(self._task, completed=count, count=f"{count:,}{self._of_total}")
        if time.monotonic() - self._started > SHOW_AFTER:
            self._bar.start()

    def advance(self, number: int) -> None:
        """As often as one likes: a bar is drawn ten times a second."""
        self.count += number
        if time.monotonic() > self._next_update:
            self._next_update = time.monotonic() + 0.1
            self.update(self.count)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._bar.disable:  # before rich 14.2 it prints an empty line then
            self._bar.stop()
        if exc_type is None:
            return
        amount = f"{self.count:,}{self._of_total} {plural(self._unit)}"
        text = f"{self._verb} {amount}{self._hint(self.count)}"
        if exc_type is asyncio.CancelledError:
            raise Interrupted(f"interrupted: {text}")
        is_told = isinstance(exc, Interrupted | BrokenPipeError)
        if isinstance(exc, Exception) and self.count and not is_told:
            notes.print(f"{text}, then:", markup=False, soft_wrap=True)


def counted(number: int, unit: str = "message") -> str:
    """As "1 message", "2,000 messages"."""
    return f"{number:,} {unit if number == 1 else plural(unit)}"


def plural(unit: str) -> str:
    return f"{unit}s"
