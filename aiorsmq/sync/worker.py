"""A worker whose handlers are plain functions, for synchronous programs."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from contextlib import ExitStack, nullcontext, suppress
from functools import partial, wraps
from types import TracebackType
from typing import Any, Generic, TypedDict, TypeVar, Unpack

from .. import models, worker
from .._protocol import Seconds
from .._working.block import WhenDead
from .._working.calling import check_handler
from ..errors import ClientClosed, InvalidParameterValue
from ..handlers import Reject, Retry
from ..models import WorkerEvent, WorkerStats
from ._signals import dying_gracefully, stopping_at_signals
from ._thread import LoopThread
from ._twin import Twin, current_thread, running_thread
from .message import Message

T = TypeVar("T")


class WorkerOptions(TypedDict, total=False):
    """The options of `Queue.worker` and `RSMQ.worker`; see `aiorsmq.Worker`."""

    concurrency: int
    timeout: Seconds | None
    max_lease: Seconds | None
    backoff: Callable[[int], float] | None
    on_error: Callable[[Message[Any], Exception], Retry | Reject | None] | None
    on_event: Callable[[WorkerEvent], None] | None
    grace: Seconds
    when_dead: WhenDead


class Worker(Generic[T]):
    """Runs `handler(message)` for each message in a thread, `concurrency` at a time. Created by
    `Queue.worker` or `RSMQ.worker`.

    Otherwise as `aiorsmq.Worker`, with its options. Handlers are plain functions and get an
    `aiorsmq.sync.Message`. `backoff`, `on_error` and `on_event` run in the event loop's thread,
    where calls of this package are refused with a RuntimeError: keep them short.
    """

    def __init__(self, twin: Twin[worker.Worker[T]]) -> None:
        self._twin = twin
        self._block = ExitStack()
        self._thread: LoopThread | None = None
        """That of the block."""
        self._is_stopped = False
        """Whether `stop` has been called since the last run."""

    @property
    def stats(self) -> WorkerStats:
        """What has become of the messages so far."""
        return self._twin.object.stats

    @property
    def error(self) -> Exception | None:
        """What it died of; None if it has not, and again from its next start on."""
        return self._twin.object.error

    @property
    def trouble(self) -> str | None:
        """Why it cannot claim, for people to read; None while it can."""
        return self._twin.object.trouble

    @property
    def healthy(self) -> bool:
        """Whether it can claim; if not, `trouble` says why."""
        return self._twin.object.healthy

    def __repr__(self) -> str:
        return repr(self._twin.object)

    def run(self, *, signals: bool = True) -> None:
        """Work until `stop()` is called or this is interrupted.

        With `signals`, SIGTERM and SIGINT stop it gracefully, and the second signal skips the wait
        for handlers, unless it comes within half a second, as the same stop does that arrives
        twice: in the main thread, unless another part of the program handles SIGTERM. An exception
        that interrupts it, such as KeyboardInterrupt, stops it in the same way, and propagates.
        """
        try:
            with stopping_at_signals(self.stop) if signals else nullcontext():
                self._twin.run(lambda worker: current_thread().run_worker(self._work(worker)))
        finally:
            self._is_stopped = False

    async def _work(self, worker: worker.Worker[T]) -> None:
        asyncio.get_running_loop().call_soon(self._heed_stop, worker)  # once it can be stopped
        await worker.run(signals=False)

    def _heed_stop(self, worker: worker.Worker[T]) -> None:
        if self._is_stopped:
            worker.stop()

    def stop(self) -> None:
        """Stop gracefully, as if `run()` had been interrupted, without raising. Returns at once.

        It may be called from any thread, and from a signal handler. If that is faster than the
        thread that is about to call `run()`, that returns at once.
        """
        self._is_stopped = True
        thread = running_thread()
        if thread is not None:
            thread.post(self._twin.object.stop)

    def __enter__(self) -> Worker[T]:
        """Work in the background of the block.

        At SIGTERM, in the main thread and unless another part of the program handles it, the worker
        stops as `run()` does, and then the program dies of the signal.

        A worker that dies is logged, and its error is raised at the end of the block: a thread
        cannot be interrupted before. `when_dead="terminate"` ends the program instead.
        """
        self._twin.run(lambda worker: worker.__aenter__())
        self._thread = running_thread()
        self._block = ExitStack()
        self._block.enter_context(dying_gracefully(self.stop, partial(self._leave, None)))
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop, as `run()` does. Raises the error that ended the worker early, unless the block
        raises."""
        try:
            with self._block:
                self._leave(exc_type, exc, traceback)
        finally:
            self._is_stopped = False

    def _leave(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        if self._thread is not running_thread():
            return  # its client was closed, or this is a forked child
        with suppress(ClientClosed):  # it has ended by that
            self._twin.run(lambda worker: worker.__aexit__(exc_type, exc, traceback))


def adapt(
    handler: Callable[[Message[T]], object],
) -> Callable[[models.Message[T]], object]:
    """The handler, for an asynchronous worker."""
    line = "def handler(message):"
    call = getattr(handler, "__call__", None)  # noqa: B004 - of an object of the user's class
    if inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(call):
        reason = f"must be a plain function: `{line} ...`; for an async one use AsyncRSMQ"
        raise InvalidParameterValue("handler", handler, reason)
    check_handler(handler, line)

    @wraps(handler)
    def call_with_message(message: models.Message[T]) -> object:
        return handler(Message(message, current_thread()))

    return call_with_message


def adapt_options(**options: Unpack[WorkerOptions]) -> worker.WorkerOptions:
    """The options, for an asynchronous worker."""
    choices: Any = dict(options)
    if callable(on_error := options.get("on_error")):

        @wraps(on_error)
        def call_with_message(message: models.Message[Any], error: Exception) -> object:
            return on_error(Message(message, current_thread()), error)

        choices["on_error"] = call_with_message
    return choices
