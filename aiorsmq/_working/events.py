"""What becomes of a worker's messages: it is counted, passed to `on_event`, and logged.

The events of one attempt are one record in the log, which `Events.log` writes at its end.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, Generic, TypeVar

from .._callbacks import ENDS_THE_PROGRAM, call_plain
from .._protocol import id_time
from .._record import Record, log_fields
from ..models import Death, EventKind, WorkerEvent
from .intake import Intake
from .job import Job

T = TypeVar("T")

LEVELS: Final = {
    "failed": logging.ERROR,
    "retried": logging.INFO,
    "dead": logging.WARNING,
    "dropped": logging.WARNING,
    "lease_lost": logging.WARNING,
}
"""Log levels of events; DEBUG for other kinds."""

_logger = logging.getLogger("aiorsmq.worker")


class Events(Generic[T]):
    """Counts the events of a worker, and tells of them."""

    def __init__(self, on_event: Callable[[WorkerEvent], None] | None) -> None:
        self._on_event = on_event
        self.counts: Counter[str] = Counter()

    def emit(
        self,
        kind: EventKind,
        job: Job[T],
        note: str = "",
        *,
        error: BaseException | None = None,
        delay: float | None = None,
        reason: str = "",
    ) -> None:
        """Count an event, and pass it to `on_event`; its `note` is logged with the job."""
        self.counts[kind] += 1
        level = LEVELS.get(kind, logging.DEBUG)
        if _logger.isEnabledFor(level):
            job.note(level, note or kind)
        if self._on_event is not None:
            self._call(
                self._on_event,
                kind,
                job.intake,
                job.record,
                error=error,
                delay=delay,
                reason=reason,
                message=job.message,
                duration=job.duration,
            )

    def emit_death(self, intake: Intake[T], record: Record, death: Death, reason: str) -> None:
        """A message died that no job was running for. Who moved it away has logged it."""
        self.counts[death] += 1
        if self._on_event is not None:
            self._call(self._on_event, death, intake, record, reason=reason)

    def _call(
        self,
        on_event: Callable[[WorkerEvent], None],
        kind: EventKind,
        intake: Intake[T],
        record: Record,
        **facts: Any,
    ) -> None:
        id = record.id.decode(errors="surrogateescape")
        sent_at = id_time(id)
        age = None
        if sent_at is not None:
            age = max(0.0, intake.core.node.clock.now_ms() / 1000 - sent_at)
        count = int(record.receive_count)
        keys = intake.core.keys
        event = WorkerEvent(kind, keys.qname, id, count, ns=keys.ns, age=age, **facts)
        try:
            call_plain("on_event", on_event, event)
        except ENDS_THE_PROGRAM:
            raise
        except BaseException as raised:  # noqa: BLE001 - it must not stop the worker
            extra = log_fields(intake.core.keys, record)
            log_error(
                logging.ERROR, "on_event failed for message %s", id, error=raised, extra=extra
            )

    def log(self, job: Job[T]) -> None:
        """Log what has happened to a job since the last time."""
        if not job.notes:
            return
        extra = log_fields(job.intake.core.keys, job.record)
        if job.reason:
            extra["reason"] = job.reason
        if job.duration is not None:
            extra["seconds"] = job.duration
        text = "message %s of queue %r, attempt %d: %s"
        args = (extra["id"], extra["queue"], extra["attempt"], ", ".join(job.notes))
        log_error(job.level, text, *args, error=job.error, extra=extra)
        job.forget_notes()


def log_error(
    level: int, text: str, *args: object, error: BaseException | None, extra: dict[str, object]
) -> None:
    """Log an error of the user's code, even if looking at it raises: logging reads an exception's
    causes and attributes."""
    try:
        _logger.log(level, text, *args, exc_info=error, extra=extra)
    except ENDS_THE_PROGRAM:
        raise
    except BaseException as odd:  # noqa: BLE001
        text = f"{text % args} (an exception that cannot be logged: {type(odd).__name__})"
        with suppress(Exception):
            _logger.error("%s", text, extra=extra)  # noqa: TRY400
