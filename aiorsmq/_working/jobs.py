"""What becomes of one message: its handler runs, and how that ends settles it."""

import asyncio
import logging
import math
from asyncio import Future, Task
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Generic, TypeVar

from redis.exceptions import RedisError

from .._callbacks import ENDS_THE_PROGRAM, call_plain, check_plain
from .._protocol import milliseconds
from .._record import Record
from ..errors import NoDeadLetterQueue, QueueDoesNotExist, RedisSMQException
from ..handlers import Reject, Retry, exponential
from ..models import Death, EventKind, Message, WorkerEvent
from .calling import awaitable, check_result, only_one, said_by, verdict
from .intake import Source
from .leases import Lease

T = TypeVar("T")
Answer = TypeVar("Answer")

_LEVELS = {
    "failed": logging.ERROR,
    "retried": logging.INFO,
    "dead": logging.WARNING,
    "lease lost": logging.WARNING,
}
"""Of the log; DEBUG for the other kinds of events."""

_logger = logging.getLogger("aiorsmq.worker")


class Job(Generic[T]):
    """One message in hand."""

    message: Message[T]
    lease: Lease
    task: Task[None]

    def __init__(self, source: Source[T]) -> None:
        self.source = source
        self.has_ended = False
        """Whether its handler has."""
        self.lost = False
        """Whether its handler was cancelled because another consumer has received the message,"""
        self.stopped = False
        """or because the worker stops."""

    @property
    def record(self) -> Record:
        """Its last receipt."""
        return self.lease.record

    def lose(self) -> None:
        self.lost = True
        self._cancel()

    def stop(self) -> None:
        self.stopped = True
        self._cancel()

    def _cancel(self) -> None:
        if not self.has_ended:
            self.task.cancel()


class Handling(Generic[T]):
    """Runs a handler for messages in hand, and settles them."""

    def __init__(
        self,
        handler: Callable[[Message[T]], object],
        concurrency: int,
        limit: float,
        max_lease: float,
        backoff: Callable[[int], float],
        on_error: Callable[[Message[Any], Exception], Retry | Reject | None] | None,
        on_event: Callable[[WorkerEvent], None] | None,
    ) -> None:
        for parameter, function in (
            ("backoff", backoff),
            ("on_error", on_error),
            ("on_event", on_event),
        ):
            if function is not None:
                check_plain(parameter, function)
        self._call = awaitable(handler, concurrency)
        self._concurrency = concurrency
        self._limit = None if limit == math.inf else limit
        self._max_lease = max_lease
        self._backoff = backoff
        self._on_error = on_error
        self._on_event = on_event
        self.counts: Counter[str] = Counter()
        self.jobs: set[Job[T]] = set()
        self._deleting: set[Future[bool]] = set()
        self._changed = asyncio.Event()

    def free(self) -> int:
        """How many messages may be started now: none while several times as many deletes are under
        way.
        """
        return max(
            0, min(self._concurrency - len(self.jobs), 4 * self._concurrency - len(self._deleting))
        )

    @property
    def is_idle(self) -> bool:
        return not (self.jobs or self._deleting)

    async def change(self) -> None:
        """Wait until a handler or a delete has ended, or `stir()`."""
        self._changed.clear()
        await self._changed.wait()

    def stir(self) -> None:
        self._changed.set()

    def start(self, source: Source[T], record: Record) -> None:
        if source.leases.adopt(record):
            return
        job = Job(source)
        until = asyncio.get_running_loop().time() + self._max_lease
        job.lease = Lease(source.leases, record, until, job.lose)
        message = source.read(record, job.lease)
        if message is None:
            return
        job.message = message
        source.leases.hold(job.lease)
        self.jobs.add(job)
        job.task = asyncio.create_task(self._handle(job))
        self._tell("received", job.source, job.record)

    async def _handle(self, job: Job[T]) -> None:
        try:
            error = await self._run(job)
        except ENDS_THE_PROGRAM:
            self._part_with(job)
            raise
        job.has_ended = True
        job.lease.give_up()
        settling = self._settle(job, error)
        if (
            error is None and not job.stopped and job.lease.release_ms is None
        ):  # there is nothing to wait for
            await settling
        else:  # in a task of its own, for the handler may have cancelled this one
            job.task = asyncio.create_task(settling)

    async def _run(self, job: Job[T]) -> BaseException | None:
        """Run the handler. Returns why it has failed, if it has."""
        limit = None if self._limit is None else asyncio.timeout(self._limit)
        try:
            if limit is None:
                result = await self._call(job.message)
            else:
                async with limit:
                    result = await self._call(job.message)
            if result is not None and job.lease.deleting is None and job.lease.release_ms is None:
                check_result(result)
        except ENDS_THE_PROGRAM:
            raise
        except asyncio.CancelledError as raised:
            return None if job.lost or job.stopped else raised
        except BaseException as raised:  # noqa: BLE001 - whatever it is, it is the handler's
            if limit is not None and limit.expired():
                return TimeoutError(f"the handler ran for over {self._limit:g} seconds")
            return raised
        job.stopped = False  # it has done it after all
        return None

    def _part_with(self, job: Job[T]) -> None:
        """Give it back at once: the program ends."""
        job.lease.give_back(0)
        self._forget(job)

    def _forget(self, job: Job[T]) -> None:
        self.jobs.discard(job)
        self.stir()

    async def _settle(self, job: Job[T], error: BaseException | None) -> None:
        try:
            await self._follow(job, None if error is None else only_one(error))
        except QueueDoesNotExist:
            self._tell("lease lost", job.source, job.record)
        except (RedisError, RedisSMQException, OSError) as unsettled:
            _logger.warning(
                "could not settle message %s, its lease will end: %s", job.message.id, unsettled
            )
        except ENDS_THE_PROGRAM:
            self._part_with(job)
            raise
        finally:
            self._forget(job)

    async def _follow(self, job: Job[T], error: BaseException | None) -> None:
        lease = job.lease
        if job.lost:
            self._tell("lease lost", job.source, job.record)
            return
        judgment = None if error is None else self._judge(job, error)
        if lease.deleting is not None:  # by the handler itself
            self._await_delete(job, lease.deleting)
        elif error is not None:
            await self._fail(job, error, judgment)
        elif job.stopped or lease.release_ms is not None:
            await self._release(job, lease.release_ms or 0)
        else:
            self._await_delete(job, lease.delete())

    def _await_delete(self, job: Job[T], deleting: Future[bool]) -> None:
        self._deleting.add(deleting)
        deleting.add_done_callback(partial(self._deleted, job))

    def _deleted(self, job: Job[T], deleting: Future[bool]) -> None:
        self._deleting.discard(deleting)
        self.stir()
        if deleting.cancelled() or (error := deleting.exception()) is None:
            done = not deleting.cancelled() and deleting.result()
            self._tell("succeeded" if done else "lease lost", job.source, job.record)
        elif isinstance(error, QueueDoesNotExist):
            self._tell("lease lost", job.source, job.record)
        else:
            _logger.warning(
                "could not delete message %s, it will come again: %s", job.message.id, error
            )

    def _judge(self, job: Job[T], error: BaseException) -> Retry | Reject | None:
        """What is to be followed, if anything."""
        if isinstance(error, Retry | Reject):
            return error
        self._tell("failed", job.source, job.record, error=error)
        on_error = self._on_error
        if on_error is None or not isinstance(error, Exception):
            return None
        return self._ask(
            "on_error", job, lambda: verdict(call_plain("on_error", on_error, job.message, error))
        )

    async def _fail(
        self, job: Job[T], error: BaseException, judgment: Retry | Reject | None
    ) -> None:
        is_rejected = isinstance(judgment, Reject)
        if is_rejected or int(job.record.receive_count) >= job.source.shared.max_receives:
            reason = said_by(judgment if is_rejected else error)
            try:
                (death,) = await job.source.shared.bury(
                    [job.record], reason, "rejected" if is_rejected else "spent"
                )
            except NoDeadLetterQueue as none:
                advice = "give it one, or max_receives alone to drop such messages"
                _logger.warning("message %s comes again: %s: %s", job.message.id, none, advice)
            else:
                if death or is_rejected:
                    self._tell(death or "lease lost", job.source, job.record, reason=reason)
                    # else the lease is lost, or max_receives has been raised since it was heard of
                    return
        await self._release(job, self._delay_ms(job, judgment))

    def _delay_ms(self, job: Job[T], judgment: Retry | Reject | None) -> int:
        receive_count = int(job.record.receive_count)
        delay_ms = self._ask("the delay of a Retry", job, lambda: _delay_of(judgment))
        if delay_ms is None:
            seconds = partial(call_plain, "backoff", self._backoff, receive_count)
            delay_ms = self._ask("backoff", job, lambda: milliseconds("delay", seconds()))
        return milliseconds("delay", exponential()(receive_count)) if delay_ms is None else delay_ms

    async def _release(self, job: Job[T], delay_ms: int) -> None:
        released = await job.lease.give_back(delay_ms)
        if released:
            self._tell("retried", job.source, job.record, delay=delay_ms / 1000)
        else:
            self._tell("lease lost", job.source, job.record)

    def _ask(self, name: str, job: Job[T], ask: Callable[[], Answer | None]) -> Answer | None:
        """What a function of the user's answers; None if it fails, and the log says so."""
        try:
            return ask()
        except ENDS_THE_PROGRAM:
            raise
        except BaseException as error:  # noqa: BLE001 - a CancelledError is its own, too: it is no coroutine
            self._log(logging.ERROR, "%s failed for message %s", name, job.message.id, error=error)
            return None

    def mourner(self, source: Source[T]) -> Callable[[Record, Death, str], None]:
        """What is to be called when a claim has moved a message to the dead-letter queue, or
        dropped it.
        """
        return lambda record, death, reason: self._tell(death, source, record, reason=reason)

    def _tell(
        self,
        kind: EventKind,
        source: Source[T],
        record: Record,
        error: BaseException | None = None,
        delay: float | None = None,
        reason: str = "",
    ) -> None:
        self.counts[kind] += 1
        level = _LEVELS.get(kind, logging.DEBUG)
        if self._on_event is None and not _logger.isEnabledFor(level):
            return
        id = record.id.decode(errors="surrogateescape")
        event = WorkerEvent(kind, source.name, id, int(record.receive_count), error, delay, reason)
        again = "" if delay is None else f", comes again in {delay:.1f} seconds"
        text = "message %s of queue %r, attempt %d: %s%s"
        self._log(level, text, id, event.queue, event.receive_count, kind, again, error=error)
        if self._on_event is not None:
            try:
                call_plain("on_event", self._on_event, event)
            except ENDS_THE_PROGRAM:
                raise
            except BaseException as raised:  # noqa: BLE001 - any other would end who tells
                self._log(logging.ERROR, "on_event failed for message %s", id, error=raised)

    def _log(
        self, level: int, text: str, *args: object, error: BaseException | None = None
    ) -> None:
        """Logging looks at an exception's causes and attributes, and these can be anything."""
        try:
            _logger.log(level, text, *args, exc_info=error)
        except ENDS_THE_PROGRAM:
            raise
        except BaseException as odd:  # noqa: BLE001
            with suppress(Exception):
                odd_name = type(odd).__name__
                _logger.error("%s (an exception that cannot be logged: %s)", text % args, odd_name)  # noqa: TRY400


def _delay_of(judgment: Retry | Reject | None) -> int | None:
    if not isinstance(judgment, Retry) or judgment.delay is None:
        return None
    return milliseconds("delay", judgment.delay)
