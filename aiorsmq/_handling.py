"""What becomes of one message: its handler runs, and how that ends settles it."""

import asyncio
import inspect
import logging
import math
import random
from asyncio import Future, Task
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Generic, TypeVar, cast

import anyio
import anyio.to_thread

from ._claims import Claims
from ._commands.admin import get_queue_attributes
from ._leases import Lease, Leases
from ._protocol import Seconds, check_seconds, milliseconds
from ._shared import Shared
from .errors import InvalidParameterValue, NoDeadLetterQueue
from .models import EventKind, Message, Record, Settler, WorkerEvent

T = TypeVar("T")

_LEVELS = {"failed": logging.ERROR, "retried": logging.INFO, "lease lost": logging.WARNING}
"""Of the log; DEBUG for the other kinds of events. What is dead is logged by who moves it."""

_logger = logging.getLogger("aiorsmq.worker")


class Retry(Exception):
    """Raised by a handler: the message is to come again.

    Args:
        delay: in so many seconds; if None, after the worker's backoff.
    """

    def __init__(self, delay: Seconds | None = None) -> None:
        super().__init__(delay)
        self.delay = None if delay is None else check_seconds("delay", delay)


class Reject(Exception):
    """Raised by a handler: the message is hopeless, and goes to the dead-letter queue at once.

    Without a dead-letter queue it comes again after the worker's backoff, and the log says so.
    """

    def __init__(self, reason: str = "rejected") -> None:
        super().__init__(reason)
        self.reason = reason


def exponential(first: float = 1.0, longest: float = 300.0) -> Callable[[int], float]:
    """A backoff: `first` seconds after the first attempt, twice as long after each further one, `longest` at the most.

    Each is cut at random by up to a half, so that what failed together does not come again together.
    """

    def delay(receive_count: int) -> float:
        return min(first * 2 ** min(receive_count - 1, 64), longest) * random.uniform(0.5, 1)

    return delay


class Source(Generic[T]):
    """One queue, as a worker sees it."""

    def __init__(
        self, shared: Shared, vt: Seconds | None, read: Callable[[Record, Settler], Message[T] | None]
    ) -> None:
        self.name: str = shared.keys.qname
        self.shared = shared
        self.claims: Claims = shared.receiving(vt)
        self.leases: Leases = Leases(shared.settler, shared.scripts, None if vt is None else milliseconds("vt", vt))
        self.read = read
        if self.leases.vt_ms == 0:
            raise InvalidParameterValue("vt", vt, "must be more than 0: a worker needs leases")

    async def check(self) -> None:
        """The queue must be there, and its messages must have leases."""
        attributes = await get_queue_attributes(self.shared.scripts, self.shared.keys)
        if self.leases.vt_ms is None and not attributes.vt:
            reason = f"is the vt of queue {self.name!r}, and a worker needs leases: give it a vt of its own"
            raise InvalidParameterValue("vt", 0, reason)


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
        self._call = _awaitable(handler, concurrency)
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
        return min(self._concurrency - len(self.jobs), 4 * self._concurrency - len(self._deleting))

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
        error: Exception | None = None
        limit = None if self._limit is None else asyncio.timeout(self._limit)
        try:
            if limit is None:
                await self._call(job.message)
            else:
                async with limit:
                    await self._call(job.message)
        except asyncio.CancelledError:
            if not (job.lost or job.stopped):
                error = RuntimeError("the handler raised CancelledError")
        except Exception as raised:  # noqa: BLE001 - whatever it is, it is the handler's
            error = raised
            if limit is not None and limit.expired():
                error = TimeoutError(f"the handler ran for over {self._limit:g} seconds")
        else:
            job.stopped = False  # it has done it after all
        job.has_ended = True
        try:
            await self._settle(job, error)
        except Exception as unsettled:  # noqa: BLE001 - the server's, or that of a user's `backoff`
            _logger.warning("could not settle message %s, its lease will end: %s", job.message.id, unsettled)
        finally:
            self.jobs.discard(job)
            self.stir()

    async def _settle(self, job: Job[T], error: Exception | None) -> None:
        by_itself = job.lease.settled
        job.lease.give_up()
        if job.lost:
            self._tell("lease lost", job.source, job.record)
        elif error is not None:
            await self._fail(job, error, by_itself)
        elif by_itself:
            self._tell("succeeded", job.source, job.record)
        elif job.stopped:
            await self._release(job, 0)
        else:
            deleting = job.lease.delete(job.record.id, job.record.receive_count)
            self._deleting.add(deleting)
            deleting.add_done_callback(partial(self._deleted, job))

    def _deleted(self, job: Job[T], deleting: Future[bool]) -> None:
        self._deleting.discard(deleting)
        self.stir()
        if deleting.cancelled() or (error := deleting.exception()) is not None:
            error = "it was cancelled" if deleting.cancelled() else deleting.exception()
            _logger.warning("could not delete message %s, it will come again: %s", job.message.id, error)
        else:
            self._tell("succeeded" if deleting.result() else "lease lost", job.source, job.record)

    async def _fail(self, job: Job[T], error: Exception, by_itself: bool) -> None:
        say = error
        if not isinstance(error, Retry | Reject):
            self._tell("failed", job.source, job.record, error=error)
            say = self._ask(job.message, error)
        if by_itself:
            return
        if isinstance(say, Reject):
            reason = say.reason
        elif int(job.record.receive_count) >= job.source.shared.max_receives:
            reason = f"{type(error).__name__}: {error}"
        else:
            reason = None
        if reason is not None:
            try:
                (moved,) = await job.source.shared.bury([job.record], reason)
            except NoDeadLetterQueue as none:
                _logger.warning("message %s comes again, though it was rejected: %s", job.message.id, none)
            else:
                self._tell("dead" if moved else "lease lost", job.source, job.record, reason=reason)
                return
        delay = say.delay if isinstance(say, Retry) else None
        await self._release(job, self._backoff(int(job.record.receive_count)) if delay is None else delay)

    async def _release(self, job: Job[T], delay: float) -> None:
        released = await job.lease.release(job.record.id, job.record.receive_count, milliseconds("delay", delay))
        self._tell("retried" if released else "lease lost", job.source, job.record, delay=delay)

    def _ask(self, message: Message[T], error: Exception) -> Retry | Reject | None:
        if self._on_error is None:
            return None
        try:
            return self._on_error(message, error)
        except Exception:
            _logger.exception("on_error failed for message %s", message.id)
            return None

    def mourner(self, source: Source[T]) -> Callable[[Record, str], None]:
        """What is to be called when a claim has moved a message to the dead-letter queue."""
        return lambda record, reason: self._tell("dead", source, record, reason=reason)

    def _tell(
        self,
        kind: EventKind,
        source: Source[T],
        record: Record,
        error: Exception | None = None,
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
            except Exception:
                _logger.exception("on_event failed for message %s", id)


def _awaitable(handler: Callable[[Message[T]], object], threads: int) -> Callable[[Message[T]], Awaitable[object]]:
    """The handler, called in a thread if it is a plain function."""
    if not callable(handler):
        raise InvalidParameterValue("handler", handler, "must be a function that takes a message")
    if inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(getattr(handler, "__call__", None)):  # noqa: B004
        return cast("Callable[[Message[T]], Awaitable[object]]", handler)
    limiter: anyio.CapacityLimiter | None = None

    async def in_thread(message: Message[T]) -> object:
        nonlocal limiter
        limiter = limiter or anyio.CapacityLimiter(threads)  # here: it needs a running event loop
        result = await anyio.to_thread.run_sync(handler, message, abandon_on_cancel=True, limiter=limiter)
        return await result if inspect.isawaitable(result) else result

    return in_thread
