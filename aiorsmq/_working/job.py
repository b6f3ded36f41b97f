"""One message in the hands of a worker."""

from __future__ import annotations

import logging
from asyncio import Task
from typing import Generic, TypeVar

from .._record import Record
from ..models import Message
from .intake import Intake
from .leases import Lease

T = TypeVar("T")


class Job(Generic[T]):
    """One message that is being handled."""

    message: Message[T]
    lease: Lease
    task: Task[None]

    def __init__(self, intake: Intake[T]) -> None:
        self.intake = intake
        self.has_ended = False
        """Whether its handler has ended."""
        self.is_lost = False
        """Whether its handler was cancelled because another consumer has the message."""
        self.is_stopped = False
        """Whether its handler was cancelled because the worker stops."""
        self.duration: float | None = None
        """Seconds that its handler ran, once that has ended."""
        self.reason = ""
        """Why the attempt has failed, or is to be followed by another."""
        self.error: BaseException | None = None
        """What the handler has raised, if that is to be logged."""
        self.notes: list[str] = []
        """What has happened, to be logged."""
        self.level = logging.DEBUG
        """The level to log it at."""

    @property
    def record(self) -> Record:
        """The latest receipt."""
        return self.lease.record

    def note(self, level: int, text: str) -> None:
        """Remember what has happened; `Events.log` logs it."""
        self.notes.append(text)
        self.level = max(self.level, level)

    def forget_notes(self) -> None:
        self.notes.clear()
        self.level = logging.DEBUG
        self.error = None

    def lose(self) -> None:
        self.is_lost = True
        self._cancel()

    def stop(self) -> None:
        self.is_stopped = True
        self._cancel()

    def _cancel(self) -> None:
        if not self.has_ended:
            self.task.cancel()
