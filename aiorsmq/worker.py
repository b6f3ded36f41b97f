"""A worker: claims messages of one queue or several, while handlers are free, and stops without
losing any.
"""

import asyncio
import logging
import math
import random
from asyncio import Task
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from operator import itemgetter
from types import TracebackType
from typing import Any, Final, Generic, TypedDict, TypeVar

import anyio

from ._protocol import Seconds, at_least, check_count, check_seconds
from ._working.intake import SHORTEST_LEASE, Source
from ._working.jobs import Handling
from ._working.signals import heed_signals
from .errors import ClientClosed, InvalidParameterValue, QueueDoesNotExist
from .handlers import Reject, Retry, exponential
from .models import Message, WorkerEvent, WorkerStats

T = TypeVar("T")

MAX_CONCURRENCY: Final = 10_000
MAX_TAKEN: Final = 256
"""Messages that are claimed at a time at the most."""
CLEANUP: Final = 5.0
"""Seconds that a cancelled handler may take to end when the worker stops."""

_logger = logging.getLogger(__name__)


class WorkerOptions(TypedDict, total=False):
    """The options of `Queue.worker` and `AsyncRSMQ.worker`; see `Worker`."""

    concurrency: int
    timeout: Seconds | None
    max_lease: Seconds | None
    backoff: Callable[[int], float]
    on_error: Callable[[Message[Any], Exception], Retry | Reject | None]
    on_event: Callable[[WorkerEvent], None]
    grace: Seconds


class Worker(Generic[T]):
    """Runs `handler(message)` for each message, `concurrency` at a time. Made by `Queue.worker` or
    `AsyncRSMQ.worker`.

    It claims when a handler is free, not before. While a handler runs, its message's lease is
    renewed, with all others in one script call each third of `vt`. When it returns, the message is
    deleted; when it raises, the message comes again after `backoff`, or if it has been received
    `max_receives` times goes to the dead-letter queue, with the exception as the reason; a queue
    with `max_receives` alone drops it. Settling is fenced: if another consumer has received the
    message meanwhile, the handler is cancelled and what it returns is discarded. Outages of the
    server, however long, are waited out; a handler that runs on through one, and on after it, keeps
    its message if nobody else has received it.

    A queue that is deleted later is waited for too, with a warning in the log: the worker looks for
    it at each `poll_interval`, goes on when it is there again, and works on its other queues all
    the while.

    Args:
        handler: `async def`, or a plain function, which runs in a thread. It may raise `Retry` or
            `Reject`, and may settle the message itself: `delete` at once, `release` when it has
            ended. What it returns does not matter, but for what cannot mean that it is done: False,
            an exception, a coroutine that nobody has awaited. With these its attempt has failed,
            and the log says why. Threads cannot be cancelled: where a handler is, its thread runs
            on, keeps its place among `concurrency` threads, and what it returns is discarded; the
            program ends when its threads have.
        concurrency: handlers at a time, 1 to 10000.
        vt: seconds of the leases, for which a message stays hidden if this program dies; 0.1 at
            least. If None, what the queue's `vt` is when the worker starts.
        create: create a queue that is missing, with RSMQ's defaults: when the worker starts, and
            when it is deleted later.
        timeout: seconds after which a handler is cancelled; its attempt has failed.
        max_lease: seconds after its receipt from which a message is not held, whether or not its
            handler has ended when it was cancelled; its attempt has failed.
        backoff: seconds before a message comes again, from how often it has been received;
            `exponential()` if None.
        on_error: called with the message and what its handler raised; may return a Retry or a
            Reject to be followed.
        on_event: called with each WorkerEvent, in the event loop: keep it short. These three are
            plain functions. One that fails, or returns what makes no sense, is logged, and does not
            matter further: then `exponential()` is the backoff.
        grace: seconds that handlers have to end when the worker stops; then they are cancelled and
            their messages released.
    """

    def __init__(
        self,
        sources: Sequence[Source[T]],
        weights: Sequence[float] | None,
        handler: Callable[[Message[T]], object],
        *,
        concurrency: int = 10,
        timeout: Seconds | None = None,
        max_lease: Seconds | None = None,
        backoff: Callable[[int], float] | None = None,
        on_error: Callable[[Message[Any], Exception], Retry | Reject | None] | None = None,
        on_event: Callable[[WorkerEvent], None] | None = None,
        grace: Seconds = 30.0,
    ) -> None:
        names = [source.name for source in sources]
        if len(set(names)) < len(names):
            raise InvalidParameterValue("queues", names, "must each be there once")
        if check_count("concurrency", concurrency) > MAX_CONCURRENCY:
            raise InvalidParameterValue(
                "concurrency", concurrency, f"must be an int from 1 to {MAX_CONCURRENCY}"
            )
        self._sources, self._weights = sources, weights
        self._max_lease = (
            math.inf if max_lease is None else at_least(SHORTEST_LEASE, "max_lease", max_lease)
        )
        limit = math.inf if timeout is None else at_least(0.001, "timeout", timeout)
        self._handling: Handling[T] = Handling(
            handler,
            concurrency,
            min(limit, self._max_lease),
            self._max_lease,
            backoff or exponential(),
            on_error,
            on_event,
        )
        self._grace = check_seconds("grace", grace)
        self._stopping = asyncio.Event()
        self._in_a_hurry = False
        self._is_running = False
        self._is_working = False
        """Running, and no longer finding out about its queues."""
        self._task: Task[None] | None = None

    @property
    def stats(self) -> WorkerStats:
        """What has become of the messages so far."""
        counts = self._handling.counts
        return WorkerStats(
            in_flight=len(self._handling.jobs),
            received=counts["received"],
            succeeded=counts["succeeded"],
            failed=counts["failed"],
            retried=counts["retried"],
            dead=counts["dead"],
            dropped=counts["dropped"],
            lost_leases=counts["lease lost"],
        )

    @property
    def healthy(self) -> bool:
        """Whether it can claim: it is running, the server answers, and its queues are there.

        A connection that ends is noticed at once, one that falls silent within about 20 seconds;
        or where nothing is listened to, within `poll_interval` and 15 seconds.
        """
        ready = self._is_working and not self._stopping.is_set()
        return ready and all(
            source.claims.outage is None and not source.is_missing for source in self._sources
        )

    async def run(self, *, signals: bool = True) -> None:
        """Work until `stop()` is called or this is cancelled.

        Either way it stops claiming, hands back what was not started, lets handlers end for `grace`
        seconds, with their leases renewed, and then cancels them and releases their messages. Being
        cancelled once more skips the wait.

        With `signals`, SIGTERM and SIGINT stop it too, and the second one skips the wait: unless
        another part of the program, such as a web server, handles SIGTERM.

        Raises QueueDoesNotExist if a queue is not there when it starts, and redis-py's errors where
        waiting does not help; a password that worked before and is refused is waited for, for a
        minute.
        """
        await self._prepare()
        await self._run(signals)

    def stop(self) -> None:
        """Have it end as when `run()` is cancelled, but without an exception. Returns at once."""
        if self._is_running:
            self._stopping.set()

    async def __aenter__(self) -> "Worker[T]":
        """Work beside the block. Raises QueueDoesNotExist, and redis-py's errors for a server that
        is not there.
        """
        await self._prepare()
        self._task = asyncio.create_task(self._run(signals=False))
        self._task.add_done_callback(_log_failure)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop, as `run()` does. Raises what kept it from working meanwhile, if the block raises
        nothing.
        """
        task, self._task = self._task, None
        if task is None:
            raise RuntimeError("this worker was not entered")
        if not task.done():
            self.stop()
        await self._await_end(task)
        if exc_type is None:
            task.result()

    async def _prepare(self) -> None:
        if self._is_running:
            raise RuntimeError("this worker is running already")
        self._is_running, self._in_a_hurry = True, False
        self._stopping.clear()
        try:
            for source in self._sources:
                await source.prepare(self._max_lease)
        except BaseException:
            self._is_running = False
            raise

    async def _run(self, signals: bool) -> None:
        try:
            with ExitStack() as stack:
                if signals:
                    stack.enter_context(heed_signals(self._on_signal))
                for source in self._sources:
                    stack.enter_context(source.open(self._handling.mourner(source)))
                self._is_working = True
                await self._work()
        finally:
            self._is_running = self._is_working = False

    async def _work(self) -> None:
        working = [asyncio.create_task(self._claim())]
        working += [asyncio.create_task(source.leases.keep()) for source in self._sources]
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({stopping, *working}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            await self._await_end(asyncio.create_task(self._end(*working)))
        for task in working:
            if not task.cancelled() and isinstance(task.exception(), ClientClosed):
                _logger.warning("the worker has stopped: its client was closed")
            elif not task.cancelled():
                task.result()

    def _on_signal(self) -> None:
        if self._stopping.is_set():
            self._hurry()
        self.stop()

    def _hurry(self) -> None:
        self._in_a_hurry = True
        self._handling.stir()

    async def _await_end(self, ending: Task[None]) -> None:
        """Wait until it has ended, whoever is cancelled meanwhile; but being cancelled here skips
        the grace.
        """
        with anyio.CancelScope(shield=True):
            try:
                await asyncio.wait({ending})
            except asyncio.CancelledError:
                self._hurry()
                await asyncio.wait({ending})
                raise

    async def _end(self, claiming: Task[None], *keeping: Task[None]) -> None:
        self._stopping.set()
        claiming.cancel()
        await asyncio.wait({claiming})
        if not claiming.cancelled() and isinstance(claiming.exception(), ClientClosed):
            self._hurry()  # nothing can be settled any more
        handling = self._handling
        with anyio.move_on_after(self._grace):
            while handling.jobs and not self._in_a_hurry:
                await handling.change()
        for job in handling.jobs:
            job.stop()
        with anyio.move_on_after(CLEANUP):
            while not handling.is_idle:
                await handling.change()
        for job in handling.jobs:
            job.lease.give_up()
            if not job.has_ended:
                _logger.error(
                    "the handler of message %s does not end though it is cancelled", job.message.id
                )
        for task in keeping:
            task.cancel()
        await asyncio.wait(keeping)

    async def _claim(self) -> None:
        """Claim for the free handlers: from each queue that may have something, else wait for
        news.
        """
        handling = self._handling
        while not self._stopping.is_set():
            while not handling.free():
                await handling.change()
            found = False
            for source in self._in_turn():
                if handling.free() and source.may_have_some():
                    records = await source.take(min(handling.free(), MAX_TAKEN))
                    if records and not source.claims.is_over(
                        records[0]
                    ):  # else others may have received them
                        for record in records:
                            handling.start(source, record)
                        found = True
            if not found:
                await self._wait_for_news()

    def _in_turn(self) -> Iterable[Source[T]]:
        if self._weights is None:
            return self._sources
        draws = [random.random() ** (1 / weight) for weight in self._weights]
        return [
            source
            for _, source in sorted(
                zip(draws, self._sources, strict=True), key=itemgetter(0), reverse=True
            )
        ]

    async def _wait_for_news(self) -> None:
        """Stand in the line of each queue until one of them has a message, or it is time to look
        for one not there.
        """
        timeout = self._seconds_to_the_next_look()
        sources = [source for source in self._sources if not source.is_missing]
        if not sources:
            await asyncio.sleep(timeout or 0)
            return
        slots = [source.claims.ask_one(patient=True) for source in sources]
        try:
            waiters = [slot.waiter() for slot in slots]
            await asyncio.wait(waiters, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            for source, slot, waiter in zip(sources, slots, waiters, strict=True):
                if not waiter.done():
                    continue
                try:
                    waiter.result()  # raises why there will be no message
                except QueueDoesNotExist:
                    source.miss()
                    continue
                if (
                    self._handling.free()
                    and (record := slot.take())
                    and not source.claims.is_over(record)
                ):
                    self._handling.start(source, record)
        finally:
            for source, slot in zip(sources, slots, strict=True):
                source.claims.withdraw((slot,))

    def _seconds_to_the_next_look(self) -> float | None:
        looks = [source.look_at for source in self._sources if source.is_missing]
        return max(0.0, min(looks) - asyncio.get_running_loop().time()) if looks else None


def _log_failure(task: Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _logger.error("the worker has stopped: %s", error)
