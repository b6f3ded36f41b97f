"""What becomes of one message: its handler runs, and how that ends settles it."""

import asyncio
import logging
import math
from asyncio import Future, Task
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, Generic, TypeVar

from redis.exceptions import RedisError

from ._handlers import Reject, Retry, awaitable, check_plain, exponential, only_one, said_by
from ._leases import Lease
from ._protocol import milliseconds
from ._source import Source
from .errors import NoDeadLetterQueue, RedisSMQException
from .models import Death, EventKind, Message, Record, WorkerEvent

T = TypeVar("T")

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
        for parameter, function in (("backoff", backoff), ("on_error", on_error), ("on_event", on_event)):
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
        """How many messages may be started now: none while several times as many deletes are under way."""
        return max(0, min(self._concurrency - len(self.jobs), 4 * self._concurrency - len(self._deleting)))

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
        error: BaseException | None = None
        limit = None if self._limit is None else asyncio.timeout(self._limit)
        try:
            if limit is None:
                await self._call(job.message)
            else:
                async with limit:
                    await self._call(job.message)
        except (SystemExit, KeyboardInterrupt):  # they end the program
            job.lease.give_back(0)
            self._forget(job)
            raise
        except asyncio.CancelledError as raised:
            error = None if job.lost or job.stopped else raised
        except BaseException as raised:  # noqa: BLE001 - whatever it is, it is the handler's
            error = only_one(raised)
            if limit is not None and limit.expired():
                error = TimeoutError(f"the handler ran for over {self._limit:g} seconds")
        else:
            job.stopped = False  # it has done it after all
        job.has_ended = True
        job.lease.give_up()
        try:
            await self._settle(job, error)
        except (RedisError, RedisSMQException, OSError) as unsettled:
            _logger.warning("could not settle message %s, its lease will end: %s", job.message.id, unsettled)
        finally:
            self._forget(job)

    def _forget(self, job: Job[T]) -> None:
        self.jobs.discard(job)
        self.stir()

    async def _settle(self, job: Job[T], error: BaseException | None) -> None:
        lease = job.lease
        if job.lost:
            self._tell("lease lost", job.source, job.record)
            return
        say = None if error is None else self._judge(job, error)
        if lease.deleting is not None:  # by the handler itself
            self._await_delete(job, lease.deleting)
        elif error is not None:
            await self._fail(job, error, say)
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
        else:
            _logger.warning("could not delete message %s, it will come again: %s", job.message.id, error)

    def _judge(self, job: Job[T], error: BaseException) -> BaseException | None:
        """What is to be followed: a Retry, a Reject, or neither."""
        if isinstance(error, Retry | Reject):
            return error
        self._tell("failed", job.source, job.record, error=error)
        if self._on_error is None or not isinstance(error, Exception):
            return None
        try:
            say = self._on_error(job.message, error)
        except Exception:
            _logger.exception("on_error failed for message %s", job.message.id)
            return None
        return say() if isinstance(say, type) else say

    async def _fail(self, job: Job[T], error: BaseException, say: BaseException | None) -> None:
        if isinstance(say, Reject) or int(job.record.receive_count) >= job.source.shared.max_receives:
            reason = said_by(say if isinstance(say, Reject) else error)
            try:
                (death,) = await job.source.shared.bury([job.record], reason)
            except NoDeadLetterQueue as none:
                advice = "give it one, or max_receives alone to drop such messages"
                _logger.warning("message %s comes again: %s: %s", job.message.id, none, advice)
            else:
                self._tell(death or "lease lost", job.source, job.record, reason=reason)
                return
        await self._release(job, self._delay_ms(job, say))

    def _delay_ms(self, job: Job[T], say: BaseException | None) -> int:
        if isinstance(say, Retry) and say.delay is not None:
            return milliseconds("delay", say.delay)
        receive_count = int(job.record.receive_count)
        try:
            return milliseconds("delay", self._backoff(receive_count))
        except Exception:
            _logger.exception("backoff failed for message %s", job.message.id)
            return milliseconds("delay", exponential()(receive_count))

    async def _release(self, job: Job[T], delay_ms: int) -> None:
        released = await job.lease.give_back(delay_ms)
        self._tell("retried" if released else "lease lost", job.source, job.record, delay=delay_ms / 1000)

    def mourner(self, source: Source[T]) -> Callable[[Record, Death, str], None]:
        """What is to be called when a claim has moved a message to the dead-letter queue, or dropped it."""
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
        _logger.log(level, text, id, event.queue, event.receive_count, kind, again, exc_info=error)
        if self._on_event is not None:
            try:
                self._on_event(event)
            except (Exception, asyncio.CancelledError):  # that one would end who tells
                _logger.exception("on_event failed for message %s", id)
