"""A real worker that runs until its queue is empty."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final, TypeVar, Unpack

from ..models import Message, WorkerEvent
from ..queue import Queue
from ..worker import Worker, WorkerOptions
from .inside import is_paused, until_handed_back

T = TypeVar("T")

LIMIT: Final = 1000
SETTLING: Final = 1.0
"""Seconds to wait for what a worker hands back when it ends."""
LOOK: Final = 0.02
"""Seconds after which to look at the queue again: others may have changed it."""


async def drain(
    queue: Queue[T],
    handler: Callable[[Message[T]], object],
    *,
    limit: int = LIMIT,
    **options: Unpack[WorkerOptions],
) -> int:
    """Run a real worker on a queue until no message is visible.

    Returns how many messages are done, as `WorkerStats.succeeded` counts them: not those that the
    handler has retried, rejected or released. When it returns, no message is visible, and none is
    in hand. What the handler has failed waits for its backoff, or is in the dead-letter queue, as
    with any worker; then the first exception of the handler is raised, at the end. `Retry` and
    `Reject` are not failures. `advance` makes the retries due, for another `drain`.

    Args:
        limit: how many messages may be received before this gives up with an AssertionError: a
            handler that sends to its own queue never ends.
        options: those of `Worker`.

    Cancelling stops the worker as `Worker.run`. Raises QueueDoesNotExist, and an
    AssertionError if the queue is paused.
    """
    watch = _Watch(options.get("on_event"))
    options["on_event"] = watch.on_event
    worker = queue.worker(handler, **options)
    while await _has_visible(queue) and worker.stats.received < limit:
        async with worker:
            await _until_idle(queue, worker, watch, limit)
        with suppress(TimeoutError):  # while others use the client all the time
            async with asyncio.timeout(SETTLING):
                await until_handed_back(queue)
    if watch.errors:
        raise watch.errors[0]
    if await _has_visible(queue):
        text = f"received {worker.stats.received} messages of queue {queue.name!r}, and there are"
        advice = "does its handler send to the same queue? If not, raise the limit of drain"
        raise AssertionError(f"{text} more: {advice}")
    return worker.stats.succeeded


class _Watch:
    """Sees what happens to the messages of a worker."""

    def __init__(self, on_event: Callable[[WorkerEvent], None] | None) -> None:
        self._on_event = on_event
        self.errors: list[BaseException] = []
        self.news: asyncio.Event = asyncio.Event()

    def on_event(self, event: WorkerEvent) -> None:
        if event.kind == "failed" and event.error is not None:
            self.errors.append(event.error)
        self.news.set()
        if self._on_event is not None:
            self._on_event(event)


async def _until_idle(queue: Queue[T], worker: Worker[T], watch: _Watch, limit: int) -> None:
    """Wait until nothing is left to do. What is claimed at this very moment is handed back by the
    end of the worker, and looked at then."""
    while worker.stats.received < limit:
        watch.news.clear()
        if not (worker.stats.in_flight or await _has_visible(queue)):
            return
        if not worker.stats.in_flight and await is_paused(queue):
            raise AssertionError(f"queue {queue.name!r} is paused: resume it before drain")
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK):
                await watch.news.wait()


async def _has_visible(queue: Queue[T]) -> bool:
    attributes = await queue.attributes()
    return attributes.msgs > attributes.hiddenmsgs
