"""What becomes of a worker's messages: a handler runs for each, and how it ends settles it.

A job's way: `Jobs.start` -> `_handle` -> `_run` (the handler) -> `_settle` -> `_follow`, which
deletes the message (`_await_delete`), releases it (`_release`), or fails the attempt (`_fail`:
buried, or released to be redelivered). Two things may end the handler early: `Job.lose`, when
another consumer has the message, and `Job.stop`, when the worker stops.
"""

import asyncio
import logging
import math
from asyncio import Future, Task
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Generic, TypeVar

from .._callbacks import ENDS_THE_PROGRAM, call_plain, check_plain
from .._protocol import milliseconds
from .._record import Record
from .._server.failures import CALL_ERRORS
from ..errors import InvalidParameterValue, NoDeadLetterQueue, QueueDoesNotExist
from ..handlers import Reject, Retry, exponential
from ..models import Death, EventKind, Message, WorkerEvent
from .calling import as_coroutine_function, check_result, check_verdict, reason_of, unwrap_single
from .intake import Intake
from .leases import Lease

T = TypeVar("T")
Value = TypeVar("Value")

_LEVELS = {
    "failed": logging.ERROR,
    "retried": logging.INFO,
    "dead": logging.WARNING,
    "lease lost": logging.WARNING,
}
"""Log levels of events; DEBUG for other kinds."""

_logger = logging.getLogger("aiorsmq.worker")


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

    @property
    def record(self) -> Record:
        """The latest receipt."""
        return self.lease.record

    def lose(self) -> None:
        self.is_lost = True
        self._cancel()

    def stop(self) -> None:
        self.is_stopped = True
        self._cancel()

    def _cancel(self) -> None:
        if not self.has_ended:
            self.task.cancel()


class Jobs(Generic[T]):
    """Runs a worker's handler for messages, and settles them. For the options, see `Worker`."""

    def __init__(
        self,
        handler: Callable[[Message[T]], object],
        *,
        concurrency: int,
        timeout: float,
        max_lease: float,
        backoff: Callable[[int], float],
        on_error: Callable[[Message[Any], Exception], Retry | Reject | None] | None,
        on_event: Callable[[WorkerEvent], None] | None,
    ) -> None:
        if backoff is exponential:
            raise InvalidParameterValue("backoff", backoff, "must be called: exponential()")
        check_plain("backoff", backoff, "def backoff(receive_count):")
        if on_error is not None:
            check_plain("on_error", on_error, "def on_error(message, error):")
        if on_event is not None:
            check_plain("on_event", on_event, "def on_event(event):")
        self._call = as_coroutine_function(handler, concurrency)
        self.concurrency: int = concurrency
        self._timeout = None if timeout == math.inf else timeout
        self._max_lease = max_lease
        self._backoff = backoff
        self._on_error = on_error
        self._on_event = on_event
        self.counts: Counter[str] = Counter()
        self.running: set[Job[T]] = set()
        self._deletes: set[Future[bool]] = set()
        self._changed = asyncio.Event()

    def free(self) -> int:
        """How many messages may be started now; none while too many deletes are in flight."""
        jobs = self.concurrency - len(self.running)
        deletes = 4 * self.concurrency - len(self._deletes)
        return max(0, min(jobs, deletes))

    @property
    def is_idle(self) -> bool:
        return not (self.running or self._deletes)

    async def wait_for_change(self) -> None:
        """Wait until a handler or a delete has ended, or until `wake()`."""
        self._changed.clear()
        await self._changed.wait()

    def wake(self) -> None:
        self._changed.set()

    def start(self, intake: Intake[T], record: Record) -> None:
        if intake.leases.adopt(record):
            return
        job = Job(intake)
        until = asyncio.get_running_loop().time() + self._max_lease
        job.lease = Lease(intake.leases, record, until, job.lose)
        message = intake.read(record, job.lease)
        if message is None:
            return
        job.message = message
        intake.leases.hold(job.lease)
        self.running.add(job)
        job.task = asyncio.create_task(self._handle(job))
        self._emit("received", job.intake, job.record)

    async def _handle(self, job: Job[T]) -> None:
        try:
            error = await self._run(job)
        except ENDS_THE_PROGRAM:
            self._give_back_now(job)
            raise
        job.has_ended = True
        job.lease.give_up()
        settling = self._settle(job, error)
        if error is None and not job.is_stopped and job.lease.release_ms is None:
            await settling  # it only starts a delete, and awaits nothing
        else:
            # In a new task: the handler may have requested the cancellation of this one.
            job.task = asyncio.create_task(settling)

    async def _run(self, job: Job[T]) -> BaseException | None:
        """Run the handler. Returns the error if the attempt has failed."""
        timeout = None if self._timeout is None else asyncio.timeout(self._timeout)
        try:
            if timeout is None:
                result = await self._call(job.message)
            else:
                async with timeout:
                    result = await self._call(job.message)
            if result is not None and job.lease.deleting is None and job.lease.release_ms is None:
                check_result(result)
        except ENDS_THE_PROGRAM:
            raise
        except asyncio.CancelledError as error:
            return None if job.is_lost or job.is_stopped else error
        except BaseException as error:  # noqa: BLE001 - the handler's
            if timeout is not None and timeout.expired():
                return TimeoutError(f"the handler ran for more than {self._timeout:g} seconds")
            return error
        job.is_stopped = False  # it finished its work in spite of it
        return None

    def _give_back_now(self, job: Job[T]) -> None:
        """The program is ending: release the message without waiting for the reply."""
        job.lease.give_back(0)
        self._forget(job)

    def _forget(self, job: Job[T]) -> None:
        self.running.discard(job)
        self.wake()

    async def _settle(self, job: Job[T], error: BaseException | None) -> None:
        try:
            await self._follow(job, None if error is None else unwrap_single(error))
        except QueueDoesNotExist:
            self._emit("lease lost", job.intake, job.record)
        except CALL_ERRORS as failure:
            text = "could not settle message %s; it will be redelivered when its lease expires: %s"
            _logger.warning(text, job.message.id, failure)
        except ENDS_THE_PROGRAM:
            self._give_back_now(job)
            raise
        finally:
            self._forget(job)

    async def _follow(self, job: Job[T], error: BaseException | None) -> None:
        lease = job.lease
        if job.is_lost:
            self._emit("lease lost", job.intake, job.record)
            return
        verdict = None if error is None else self._judge(job, error)
        if lease.deleting is not None:  # by the handler itself
            self._await_delete(job, lease.deleting)
        elif error is not None:
            await self._fail(job, error, verdict)
        elif job.is_stopped or lease.release_ms is not None:
            await self._release(job, lease.release_ms or 0)
        else:
            self._await_delete(job, lease.delete())

    def _await_delete(self, job: Job[T], deleting: Future[bool]) -> None:
        self._deletes.add(deleting)
        deleting.add_done_callback(partial(self._on_deleted, job))

    def _on_deleted(self, job: Job[T], deleting: Future[bool]) -> None:
        self._deletes.discard(deleting)
        self.wake()
        if deleting.cancelled():
            self._emit("lease lost", job.intake, job.record)
            return
        error = deleting.exception()
        if error is None:
            kind = "succeeded" if deleting.result() else "lease lost"
            self._emit(kind, job.intake, job.record)
        elif isinstance(error, QueueDoesNotExist):
            self._emit("lease lost", job.intake, job.record)
        else:
            text = "could not delete message %s; it will be redelivered: %s"
            _logger.warning(text, job.message.id, error)

    def _judge(self, job: Job[T], error: BaseException) -> Retry | Reject | None:
        """Count the failure, and ask `on_error`. Returns what to follow, if anything."""
        if isinstance(error, Retry | Reject):
            return error
        self._emit("failed", job.intake, job.record, error=error)
        on_error = self._on_error
        if on_error is None or not isinstance(error, Exception):
            return None
        return self._ask(
            "on_error",
            job,
            lambda: check_verdict(call_plain("on_error", on_error, job.message, error)),
        )

    async def _fail(
        self, job: Job[T], error: BaseException, verdict: Retry | Reject | None
    ) -> None:
        """Bury the message if it is rejected or was received too often; otherwise release it."""
        is_rejected = isinstance(verdict, Reject)
        is_spent = int(job.record.receive_count) >= job.intake.core.dead.max_receives
        if is_rejected or is_spent:
            reason = reason_of(verdict if is_rejected else error)
            drop = "rejected" if is_rejected else "spent"
            try:
                (death,) = await job.intake.core.bury([job.record], reason, drop)
            except NoDeadLetterQueue as missing:
                advice = "set one, or only max_receives to drop such messages"
                text = "message %s will be redelivered: %s: %s"
                _logger.warning(text, job.message.id, missing, advice)
            else:
                # None of a message that is not rejected: max_receives may have been raised.
                if death or is_rejected:
                    self._emit(death or "lease lost", job.intake, job.record, reason=reason)
                    return
        await self._release(job, self._delay_ms(job, verdict))

    def _delay_ms(self, job: Job[T], verdict: Retry | Reject | None) -> int:
        receive_count = int(job.record.receive_count)
        delay_ms = self._ask("the delay of a Retry", job, lambda: _retry_delay_ms(verdict))
        if delay_ms is None:
            seconds = partial(call_plain, "backoff", self._backoff, receive_count)
            delay_ms = self._ask("backoff", job, lambda: milliseconds("delay", seconds()))
        if delay_ms is None:
            delay_ms = milliseconds("delay", exponential()(receive_count))
        return delay_ms

    async def _release(self, job: Job[T], delay_ms: int) -> None:
        if await job.lease.give_back(delay_ms):
            self._emit("retried", job.intake, job.record, delay=delay_ms / 1000)
        else:
            self._emit("lease lost", job.intake, job.record)

    def _ask(self, name: str, job: Job[T], call: Callable[[], Value | None]) -> Value | None:
        """The result of a user's function; None, and a record in the log, if it fails."""
        try:
            return call()
        except ENDS_THE_PROGRAM:
            raise
        except BaseException as error:  # noqa: BLE001 - a plain function's CancelledError too
            self._log(logging.ERROR, "%s failed for message %s", name, job.message.id, error=error)
            return None

    def on_death(self, intake: Intake[T], record: Record, death: Death, reason: str) -> None:
        """A message died that no job was running for."""
        self._emit(death, intake, record, reason=reason)

    def _emit(
        self,
        kind: EventKind,
        intake: Intake[T],
        record: Record,
        *,
        error: BaseException | None = None,
        delay: float | None = None,
        reason: str = "",
    ) -> None:
        """Count an event, log it, and pass it to `on_event`."""
        self.counts[kind] += 1
        level = _LEVELS.get(kind, logging.DEBUG)
        if self._on_event is None and not _logger.isEnabledFor(level):
            return
        id = record.id.decode(errors="surrogateescape")
        event = WorkerEvent(kind, intake.name, id, int(record.receive_count), error, delay, reason)
        outcome = kind if delay is None else f"{kind}, redelivered in {delay:.1f} seconds"
        text = "message %s of queue %r, attempt %d: %s"
        self._log(level, text, id, event.queue, event.receive_count, outcome, error=error)
        if self._on_event is not None:
            try:
                call_plain("on_event", self._on_event, event)
            except ENDS_THE_PROGRAM:
                raise
            except BaseException as raised:  # noqa: BLE001 - it must not stop the worker
                self._log(logging.ERROR, "on_event failed for message %s", id, error=raised)

    def _log(
        self, level: int, text: str, *args: object, error: BaseException | None = None
    ) -> None:
        """Log an error of the user's code, even if looking at it raises: logging reads an
        exception's causes and attributes."""
        try:
            _logger.log(level, text, *args, exc_info=error)
        except ENDS_THE_PROGRAM:
            raise
        except BaseException as odd:  # noqa: BLE001
            name = type(odd).__name__
            with suppress(Exception):
                _logger.error("%s (an exception that cannot be logged: %s)", text % args, name)  # noqa: TRY400


def _retry_delay_ms(verdict: Retry | Reject | None) -> int | None:
    if not isinstance(verdict, Retry) or verdict.delay is None:
        return None
    return milliseconds("delay", verdict.delay)
