"""What becomes of a worker's messages: a handler runs for each, and how it ends settles it.

A job's way: `Jobs.start` -> `_handle` -> `_run` (the handler) -> `_settle` -> `_follow`, which
deletes the message (`_await_delete`), releases it (`_release`), or fails the attempt (`_fail`:
buried, or released to be redelivered). Two things may end the handler early: `Job.lose`, when
another consumer has the message, and `Job.stop`, when the worker stops.
"""

from __future__ import annotations

import asyncio
import logging
import math
from asyncio import Future
from collections.abc import Callable
from functools import partial
from typing import Any, Generic, TypeVar

from .._callbacks import ENDS_THE_PROGRAM, call_plain, check_plain
from .._protocol import milliseconds
from .._record import Record, log_fields
from .._server.failures import CALL_ERRORS
from ..errors import InvalidParameterValue, NoDeadLetterQueue, QueueDoesNotExist
from ..handlers import Reject, Retry, exponential
from ..models import Death, Message, WorkerEvent, WorkerStats
from .calling import as_coroutine_function, check_result, check_verdict, reason_of, unwrap_single
from .events import Events, log_error
from .intake import Intake
from .job import Job
from .leases import Lease

T = TypeVar("T")
Value = TypeVar("Value")


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
        self.events: Events[T] = Events(on_event)
        self.running: set[Job[T]] = set()
        self._deletes: set[Future[bool]] = set()
        self._changed = asyncio.Event()

    def stats(self) -> WorkerStats:
        counts = self.events.counts
        return WorkerStats(
            in_flight=len(self.running),
            received=counts["received"],
            succeeded=counts["succeeded"],
            failed=counts["failed"],
            retried=counts["retried"],
            dead=counts["dead"],
            dropped=counts["dropped"],
            lost_leases=counts["lease_lost"],
        )

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
        self.events.emit("received", job)
        self.events.log(job)

    async def _handle(self, job: Job[T]) -> None:
        loop = asyncio.get_running_loop()
        began_at = loop.time()
        try:
            error = await self._run(job)
        except ENDS_THE_PROGRAM:
            self._give_back_now(job)
            raise
        job.has_ended = True
        job.duration = loop.time() - began_at
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
            self._lose(job)
        except CALL_ERRORS as failure:
            self._note_unsettled(job, failure)
        except ENDS_THE_PROGRAM:
            self._give_back_now(job)
            raise
        finally:
            self.events.log(job)
            self._forget(job)

    def _lose(self, job: Job[T]) -> None:
        self.events.emit("lease_lost", job, "lease lost")

    def _note_unsettled(self, job: Job[T], failure: BaseException) -> None:
        text = "could not be settled; it will be redelivered when its lease expires"
        job.note(logging.WARNING, f"{text}: {failure}")

    async def _follow(self, job: Job[T], error: BaseException | None) -> None:
        lease = job.lease
        if job.is_lost:
            self._lose(job)
            return
        verdict = None if error is None else self._judge(job, error)
        if lease.deleting is not None:  # by the handler itself
            self._await_delete(job, lease.deleting)
        elif error is not None:
            await self._fail(job, verdict)
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
        error = None if deleting.cancelled() else deleting.exception()
        if error is not None and not isinstance(error, QueueDoesNotExist):
            self._note_unsettled(job, error)
        elif error is None and not deleting.cancelled() and deleting.result():
            self.events.emit("succeeded", job)
        else:
            self._lose(job)
        self.events.log(job)

    def _judge(self, job: Job[T], error: BaseException) -> Retry | Reject | None:
        """Count the failure, and ask `on_error`. Returns what to follow, if anything."""
        job.reason = reason_of(error)
        if isinstance(error, Retry | Reject):
            return error
        job.error = error
        self.events.emit("failed", job, error=error, reason=job.reason)
        on_error = self._on_error
        if on_error is None or not isinstance(error, Exception):
            return None
        return self._ask(
            "on_error",
            job,
            lambda: check_verdict(call_plain("on_error", on_error, job.message, error)),
        )

    async def _fail(self, job: Job[T], verdict: Retry | Reject | None) -> None:
        """Bury the message if it is rejected or was received too often; otherwise release it."""
        dead = job.intake.core.dead
        is_rejected = isinstance(verdict, Reject)
        if is_rejected:
            job.reason = reason_of(verdict)
        if is_rejected or int(job.record.receive_count) >= dead.max_receives:
            drop = "rejected" if is_rejected else "spent"
            try:
                (death,) = await job.intake.core.bury([job.record], job.reason, drop)
            except NoDeadLetterQueue as missing:
                advice = "set one, or only max_receives to drop such messages"
                job.note(logging.WARNING, f"{missing} ({advice})")
            else:
                # None of a message that is not rejected: max_receives may have been raised.
                if death:
                    is_shown = job.error is not None and not is_rejected
                    note = _note_of_death(death, dead.queue, "" if is_shown else job.reason)
                    self.events.emit(death, job, note, reason=job.reason)
                    return
                if is_rejected:
                    self._lose(job)
                    return
        if job.reason == Retry.reason:  # the reason of a death, if that had followed
            job.reason = ""
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
            delay = delay_ms / 1000
            note = f"redelivered in {delay:.1f} seconds"
            self.events.emit("retried", job, note, delay=delay, reason=job.reason)
        else:
            self._lose(job)

    def _ask(self, name: str, job: Job[T], call: Callable[[], Value | None]) -> Value | None:
        """The result of a user's function; None, and a record in the log, if it fails."""
        try:
            return call()
        except ENDS_THE_PROGRAM:
            raise
        except BaseException as error:  # noqa: BLE001 - a plain function's CancelledError too
            extra = log_fields(job.intake.core.keys, job.record)
            text = "%s failed for message %s"
            log_error(logging.ERROR, text, name, job.message.id, error=error, extra=extra)
            return None


def _retry_delay_ms(verdict: Retry | Reject | None) -> int | None:
    if not isinstance(verdict, Retry) or verdict.delay is None:
        return None
    return milliseconds("delay", verdict.delay)


def _note_of_death(death: Death, target: str, reason: str) -> str:
    note = f"moved to dead-letter queue {target!r}"
    if death == "dropped":
        note = "dropped, for its queue has no dead-letter queue"
    return f"{note}: {reason}" if reason else note
