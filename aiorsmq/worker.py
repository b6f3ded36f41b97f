"""A worker: claims messages while handlers are free, and loses none when it stops."""

from __future__ import annotations

import asyncio
import logging
import math
from asyncio import Task
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from types import TracebackType
from typing import Any, Final, Generic, TypeVar, get_args

import anyio

from ._protocol import Seconds, check_seconds, check_seconds_at_least, describe
from ._record import log_fields
from ._working.block import Block, WhenDead
from ._working.claimer import Claimer
from ._working.intake import MIN_LEASE, Intake, check_different
from ._working.jobs import Jobs
from ._working.leases import Stalls
from ._working.options import WorkerOptions
from ._working.signals import die_gracefully, handle_signals
from .errors import ClientClosed, InvalidParameterValue
from .handlers import Reject, Retry, exponential
from .models import Message, WorkerEvent, WorkerStats

__all__ = ["Worker", "WorkerOptions"]

T = TypeVar("T")

MAX_CONCURRENCY: Final = 10_000
CLEANUP: Final = 5.0
"""Seconds that a cancelled handler may take to end when the worker stops."""
SECOND_SIGNAL: Final = 0.5
"""Seconds after which a signal is a second one. Before that it is the first, sent to a process and
to its group, as `timeout` does, or forwarded by a wrapper."""

_logger = logging.getLogger("aiorsmq.worker")


class Worker(Generic[T]):
    """Runs `handler(message)` for each message, `concurrency` at a time. Created by `Queue.worker`
    or `AsyncRSMQ.worker`.

    `await worker.run()` is for a program that does nothing else; `async with worker:` works in the
    background of the block. Either way SIGTERM stops it gracefully, unless another part of the
    program, such as a web server, handles SIGTERM: see `run` and `__aenter__`.

    It claims messages only when handlers are free. While a handler runs, the lease of its message
    is renewed, together with all others, in one script call each third of `vt`; so `vt` only
    controls how soon a crashed worker's job is retried. When the handler returns, the message is
    deleted. When it raises, the message is redelivered after `backoff`; but if it has been received
    `max_receives` times, it moves to the dead-letter queue, with the exception as the reason, or is
    dropped if there is no dead-letter queue.

    Settling is fenced: if another consumer has received the message in between, the handler is
    cancelled and its result is discarded.

    The worker rides out server outages of any length. A handler that keeps running through one
    keeps its message, unless another consumer has received it. A queue that is deleted later is
    waited for, with a warning in the log: the worker looks for it at each `poll_interval`, and goes
    on working on its other queues.

    What waiting does not mend (a permission, a key of another type, a login that is refused for a
    minute) ends it: `error` is what it died of. `run` raises that; a block is interrupted, or the
    program gets SIGTERM: see `when_dead`. Whether it can claim is in `healthy`, and why not in
    `trouble`.

    Each attempt that does not succeed is one record in the log of `aiorsmq.worker`, at ERROR if the
    handler has failed, with the traceback and what follows.

    Args:
        handler: an `async def`, or a plain function, which runs in a thread. It may raise `Retry`
            or `Reject`. It may settle the message itself: `delete` takes effect at once, `release`
            when it has ended. Its result is ignored, except for results that cannot mean "done":
            False, an exception, or a coroutine that nobody has awaited fail the attempt, and the
            log says why.
            Threads cannot be cancelled: when a threaded handler is cancelled, its thread keeps
            running and keeps its place among `concurrency` threads, and its result is discarded.
            The program ends when its threads have ended.
        concurrency: handlers at a time, 1 to 10000.
        vt: seconds of each lease, 0.1 or more: how long a message stays hidden if this program
            dies. If None, the queue's `vt` at the start.
        create: create a missing queue with RSMQ's defaults, at the start and when it is deleted
            later.
        timeout: seconds after which a handler is cancelled and its attempt has failed.
        max_lease: seconds, from the receipt, after which a message is no longer held, even if its
            cancelled handler has not ended; its attempt has failed.
        backoff: the seconds until a failed message is redelivered, given its receive count;
            `exponential()` if None.
        on_error: called with the message and its handler's exception; may return a Retry or a
            Reject to follow.
        on_event: called with each WorkerEvent, in the event loop: keep it short.
        grace: seconds that handlers have to end when the worker stops. After that they are
            cancelled and their messages released. Keep it below the time after which your platform
            kills the program.
        when_dead: what happens if the worker dies in an `async with`. "interrupt" cancels the task
            that entered the block, as `asyncio.timeout` does, and raises the worker's error at the
            end of the block. "terminate" sends SIGTERM to the program, once, for which web servers
            stop gracefully, and lets the block go on to its end, where the error is raised: take it
            in the lifespan of an app, whose requests are served by other tasks.

    `backoff`, `on_error` and `on_event` are plain functions. If one of them fails, or returns what
    makes no sense, that is logged, and `exponential()` is the backoff.
    """

    def __init__(
        self,
        intakes: Sequence[Intake[T]],
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
        when_dead: WhenDead = "interrupt",
    ) -> None:
        check_different(intakes)
        if type(concurrency) is not int or not 1 <= concurrency <= MAX_CONCURRENCY:
            reason = f"must be an int from 1 to {MAX_CONCURRENCY}"
            raise InvalidParameterValue("concurrency", concurrency, reason)
        self._intakes = intakes
        self._max_lease = math.inf
        if max_lease is not None:
            self._max_lease = check_seconds_at_least(MIN_LEASE, "max_lease", max_lease)
        limit = math.inf if timeout is None else check_seconds_at_least(0.001, "timeout", timeout)
        self._jobs: Jobs[T] = Jobs(
            handler,
            concurrency=concurrency,
            timeout=min(limit, self._max_lease),
            max_lease=self._max_lease,
            backoff=backoff or exponential(),
            on_error=on_error,
            on_event=on_event,
        )
        self._claimer: Claimer[T] = Claimer(intakes, weights, self._jobs)
        self._grace = check_seconds("grace", grace)
        if when_dead not in get_args(WhenDead):
            raise InvalidParameterValue(
                "when_dead", when_dead, 'must be "interrupt" or "terminate"'
            )
        self._when_dead: WhenDead = when_dead
        self._error: Exception | None = None
        self._stopping = asyncio.Event()
        self._skip_grace = False
        self._signalled_at: float | None = None
        """When the first signal came, in the event loop's time."""
        self._starting: anyio.CancelScope | None = None
        self._is_running = False
        self._is_working = False
        """Running, and past `_prepare`."""
        self._task: Task[None] | None = None
        self._block: Block | None = None
        """While one is entered and not being left."""

    @property
    def stats(self) -> WorkerStats:
        """What has become of the messages so far."""
        return self._jobs.stats()

    @property
    def error(self) -> Exception | None:
        """What it died of; None if it has not, and again from its next start on."""
        return self._error

    @property
    def trouble(self) -> str | None:
        """Why it cannot claim, for people to read; None while it can.

        It can while it is running, the server answers, and its queues exist, paused or not. A
        connection that ends is noticed at once, one that falls silent within about 20 seconds; with
        `realtime=False`, within `poll_interval` and 15 seconds. A queue that is deleted is noticed
        at the next claim, within `poll_interval` while handlers are free.
        """
        if self._error is not None:
            return f"died of {type(self._error).__name__}: {self._error}"
        if not self._is_running:
            return "not running"
        if self._stopping.is_set():
            return "stopping"
        if not self._is_working:
            return "starting"
        return next(filter(None, (intake.trouble for intake in self._intakes)), None)

    @property
    def healthy(self) -> bool:
        """Whether it can claim; if not, `trouble` says why."""
        return self.trouble is None

    def __repr__(self) -> str:
        names = ", ".join(describe(intake.core.keys) for intake in self._intakes)
        text = f"<Worker of {names}: {self.trouble or 'running'}"
        if self._is_running:
            text += f", {len(self._jobs.running)} of {self._jobs.concurrency} handlers busy"
        return f"{text}>"

    async def run(self, *, signals: bool = True) -> None:
        """Work until `stop()` is called or this is cancelled.

        In either case it stops claiming, hands back what was not started, waits up to `grace`
        seconds for handlers while renewing their leases, and then cancels them and releases their
        messages. Cancelling it a second time skips the wait.

        With `signals`, SIGTERM and SIGINT stop it too, unless another part of the program handles
        SIGTERM, as a web server does. A second signal, half a second later or more, skips the wait.
        A signal while it waits for the server at the start ends the wait.

        Raises QueueDoesNotExist if a queue does not exist at the start, and redis-py's errors where
        waiting does not help. A login that worked before and is refused is retried for a minute.
        """
        with handle_signals(self._on_signal) if signals else nullcontext():
            with anyio.CancelScope() as starting:
                await self._prepare(starting)
            if not starting.cancelled_caught:
                await self._run(nullcontext())

    def stop(self) -> None:
        """Stop gracefully, as if `run()` had been cancelled, without raising. Returns at once."""
        if self._is_running:
            self._stopping.set()

    async def __aenter__(self) -> Worker[T]:
        """Work in the background of the block.

        If nothing else in the program handles SIGTERM, now or when it comes, it stops the worker as
        it stops `run()`: handlers get `grace` to end, a second SIGTERM skips that, and messages
        in hand are released. The program then dies of the signal, as it would have: the rest of the
        block does not run. This is so in the main thread only. SIGINT is asyncio's, which cancels
        the block.

        If the worker dies, the block is interrupted, or the program gets SIGTERM: see `when_dead`.
        A block that was entered in a task which has ended since cannot be interrupted. Closing the
        worker's client ends it too, with a warning in the log, and does not interrupt the block.

        Raises QueueDoesNotExist, and redis-py's errors if the server cannot be reached.
        """
        await self._prepare()
        self._block = Block(self._when_dead)
        self._task = asyncio.create_task(self._run(die_gracefully(self._on_signal)))
        self._task.add_done_callback(_log_failure)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop, as `run()` does. Raises the error that the worker has died of, unless the block
        raises something other than its interruption. A cancellation from outside goes on."""
        task = self._task
        block = self._block
        self._task = None
        self._block = None
        if task is None or block is None:
            raise RuntimeError("this worker was not entered")
        is_interrupted = block.leave()
        if not task.done():
            self.stop()
        await self._wait_for_end(task)
        if exc_type is None or (is_interrupted and exc_type is asyncio.CancelledError):
            task.result()

    async def _prepare(self, starting: anyio.CancelScope | None = None) -> None:
        if self._is_running:
            raise RuntimeError("this worker is already running")
        self._is_running = True
        self._starting = starting
        self._skip_grace = False
        self._signalled_at = None
        self._error = None
        self._stopping.clear()
        try:
            for intake in self._intakes:
                await intake.prepare(self._max_lease)
        except BaseException as error:
            self._is_running = False
            self._note_error(error)
            raise

    async def _run(self, heeding_signals: AbstractContextManager[None]) -> None:
        try:
            with ExitStack() as stack:
                stack.enter_context(heeding_signals)
                for intake in self._intakes:
                    stack.enter_context(intake.open(self._jobs.events.emit_death))
                self._is_working = True
                await self._work()
                if self._signalled_at is not None:  # the program may die now
                    with anyio.move_on_after(CLEANUP):
                        for intake in self._intakes:
                            await intake.core.node.engine.until_idle()
        except BaseException as error:
            self._note_error(error)
            raise
        finally:
            self._is_running = False
            self._is_working = False

    async def _work(self) -> None:
        """Claim and renew until told to stop, or until one of these tasks fails."""
        working = [asyncio.create_task(self._claimer.claim(self._stopping))]
        stalls = Stalls()
        working += [asyncio.create_task(intake.leases.keep(stalls)) for intake in self._intakes]
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({stopping, *working}, return_when=asyncio.FIRST_COMPLETED)
            for task in working:
                error = task.exception() if task.done() and not task.cancelled() else None
                if not isinstance(error, ClientClosed):
                    self._note_error(error)  # at once: handlers have their grace after that
        finally:
            stopping.cancel()
            await self._wait_for_end(asyncio.create_task(self._end(*working)))
        for task in working:
            if task.cancelled():
                continue
            if isinstance(task.exception(), ClientClosed):
                reason = "its client was closed"
                _logger.warning("the worker has stopped: %s", reason, extra={"reason": reason})
            else:
                task.result()

    def _on_signal(self) -> None:
        now = asyncio.get_running_loop().time()
        if self._signalled_at is None:
            self._signalled_at = now
        elif now >= self._signalled_at + SECOND_SIGNAL:
            self._end_grace()
        if self._starting is not None and not self._is_working:
            self._starting.cancel()
        self.stop()

    def _end_grace(self) -> None:
        self._skip_grace = True
        self._jobs.wake()

    async def _wait_for_end(self, ending: Task[None]) -> None:
        """Wait for a task in spite of cancellation; being cancelled skips the grace."""
        with anyio.CancelScope(shield=True):
            try:
                await asyncio.wait({ending})
            except asyncio.CancelledError:
                self._end_grace()
                await asyncio.wait({ending})
                raise

    async def _end(self, claiming: Task[None], *renewing: Task[None]) -> None:
        """Stop in this order: claiming, handlers (gracefully, then cancelled), renewing."""
        self._stopping.set()
        claiming.cancel()
        await asyncio.wait({claiming})
        if not claiming.cancelled() and isinstance(claiming.exception(), ClientClosed):
            self._end_grace()  # nothing can be settled any more
        jobs = self._jobs
        with anyio.move_on_after(self._grace):
            while jobs.running and not self._skip_grace:
                await jobs.wait_for_change()
        for job in jobs.running:
            job.stop()
        with anyio.move_on_after(CLEANUP):
            while not jobs.is_idle:
                await jobs.wait_for_change()
        for job in jobs.running:
            job.lease.give_up()
            if not job.has_ended:
                text = "the handler of message %s was cancelled but is still running"
                _logger.error(
                    text, job.message.id, extra=log_fields(job.intake.core.keys, job.record)
                )
        for task in renewing:
            task.cancel()
        await asyncio.wait(renewing)

    def _note_error(self, error: BaseException | None) -> None:
        """Note what it dies of, and tell the block; not one that is being left, which raises it."""
        if isinstance(error, Exception):
            self._error = error
            if self._block is not None:
                self._block.notify()


def _log_failure(task: Task[None]) -> None:
    if not task.cancelled() and isinstance(error := task.exception(), Exception):
        _logger.error("the worker has stopped: %s", error, extra={"reason": str(error)})
