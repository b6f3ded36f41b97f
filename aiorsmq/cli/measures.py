"""What `aiorsmq bench` measures: one function for each kind of row, of this library and of others.

A round does the work with a number of messages that takes about `seconds`, and no more than
`capacity` allows. What fills the queue before a round, and empties it after, is not measured.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import anyio
import anyio.to_thread
from redis.asyncio import Redis

from ..models import Message
from ..queue import Queue
from ..stream import Messages
from .errors import NotDone

CAPACITY: Final = 20_000
"""Messages that are in the queue at the same time, at most."""
CAPACITY_BYTES: Final = 50_000_000
"""Of their bodies."""
FILL_BYTES: Final = 50_000
"""Of one call while the queue is filled."""
BEAT: Final = 0.003
"""Seconds between two messages whose way is timed: the consumer has time to wait again."""


Work = Callable[[int], Awaitable[None]]
"""Handles a number of messages."""


@dataclass(frozen=True)
class Bench:
    """One run: where it writes, what, and how long a round takes."""

    queue: Queue[str]
    body: str
    seconds: float

    async def size_of_round(self, work: Work, callers: int, fill: bool) -> int:
        """How many messages make a round: from trials, which warm up what is measured as well."""
        count = 8 * callers
        while True:
            seconds = await self.round(work, count, fill)
            limit = capacity(len(self.body)) // callers * callers
            if count >= limit or seconds >= self.seconds / 4:
                messages = round(count * self.seconds / seconds / callers) * callers
                return max(callers, min(messages, limit))
            count = min(count * 4, limit)

    async def round(self, work: Work, count: int, fill: bool) -> float:
        """The seconds that the work takes with that number of messages."""
        step = max(1, FILL_BYTES // len(self.body))
        for start in range(0, count if fill else 0, step):
            await self.queue.send_many([self.body] * min(step, count - start))
        started = time.perf_counter()
        await work(count)
        seconds = time.perf_counter() - started
        await self.queue.purge()
        return seconds


def capacity(size: int) -> int:
    """How many messages of that size are in the queue at the same time, at most."""
    return min(CAPACITY, CAPACITY_BYTES // size)


@contextmanager
def first_error() -> Generator[None]:
    """A task group's first error comes out of the block as itself."""
    try:
        yield
    except ExceptionGroup as group:
        raise group.exceptions[0] from group


async def share(count: int, callers: int, act: Callable[[], Awaitable[object]]) -> None:
    """Do something `count` times in all, by callers that take equal parts."""

    async def call() -> None:
        for _ in range(count // callers):
            await act()

    with first_error():
        async with anyio.create_task_group() as tasks:
            for _ in range(callers):
                tasks.start_soon(call)


async def send(bench: Bench, callers: int, count: int) -> None:
    await share(count, callers, lambda: bench.queue.send(bench.body))


async def receive(bench: Bench, callers: int, count: int) -> None:
    async def receive_and_delete() -> None:
        message = await bench.queue.receive()
        if message is None or not await message.delete():
            raise NotDone(f"a message is missing: does another program use {bench.queue.name}?")

    await share(count, callers, receive_and_delete)


async def stream(bench: Bench, prefetch: int, count: int) -> None:
    """By one consumer. Leaving the stream waits until all are deleted."""
    received = 0
    async with bench.queue.messages(prefetch=prefetch) as messages:
        async for message in messages:
            async with message:
                received += 1
            if received == count:
                break


async def work(bench: Bench, concurrency: int, count: int) -> None:
    """By a worker whose handler does nothing, until the server has deleted all."""
    finished = asyncio.Event()

    def count_down(_event: object) -> None:
        if worker.stats.succeeded == count:
            finished.set()

    worker = bench.queue.worker(no_op, concurrency=concurrency, on_event=count_down)
    async with worker:
        await finished.wait()


async def no_op(_message: Message[str]) -> None: ...


async def ping(redis: Redis, count: int) -> None:
    for _ in range(count):
        await redis.execute_command("PING")  # pyright: ignore[reportUnknownMemberType]


async def wake(sender: Queue[str], consumer: Queue[str], bench: Bench) -> list[float]:
    """The seconds from `send` to a consumer that waits, of one message after the other."""
    times: list[float] = []
    arrived = asyncio.Event()

    async def consume(messages: Messages[str]) -> None:
        async for message in messages:
            times.append(time.perf_counter() - float(message.body))
            await message.delete()
            arrived.set()

    with first_error():
        async with consumer.messages() as messages, anyio.create_task_group() as tasks:
            tasks.start_soon(consume, messages)
            ending = time.perf_counter() + bench.seconds
            while len(times) < 2 or time.perf_counter() < ending:
                await anyio.sleep(BEAT)
                arrived.clear()
                await sender.send(repr(time.perf_counter()).ljust(len(bench.body)))
                await arrived.wait()
            tasks.cancel_scope.cancel()
    return times


class InThreads:
    """PyRSMQ's calls, which block, by threads."""

    def __init__(self, rsmq: Any) -> None:
        self._rsmq = rsmq

    async def send(self, body: str, callers: int, count: int) -> None:
        await self._share(count, callers, lambda: self._rsmq.sendMessage(message=body).execute())

    async def receive(self, _body: str, callers: int, count: int) -> None:
        await self._share(count, callers, self._receive)

    async def _share(self, count: int, callers: int, act: Callable[[], None]) -> None:
        def call(_caller: int) -> None:
            for _ in range(count // callers):
                act()

        def wait() -> None:
            with ThreadPoolExecutor(callers) as threads:
                list(threads.map(call, range(callers)))

        await anyio.to_thread.run_sync(wait)  # a cancellation waits for its end

    def _receive(self) -> None:
        message = self._rsmq.receiveMessage().execute()
        self._rsmq.deleteMessage(id=message["id"]).execute()


@dataclass(frozen=True)
class Rate:
    """A row of messages a second."""

    name: str
    own_work: Callable[[Bench, int, int], Awaitable[None]]
    at_once: int
    """Callers, or what `own_work` takes in their place."""
    callers: int
    """What a round's number of messages is a multiple of."""
    fill: bool
    pyrsmq: Callable[[InThreads, str, int, int], Awaitable[None]] | None = None


CALLERS: Final = (1, 16, 64)
RATES: Final = (
    *(Rate(f"send, {n} at a time", send, n, n, False, InThreads.send) for n in CALLERS),
    *(
        Rate(f"receive + delete, {n} at a time", receive, n, n, True, InThreads.receive)
        for n in CALLERS
    ),
    Rate("stream, 1 consumer, prefetch 32", stream, 32, 1, True),
    Rate("worker, 64 handlers that do nothing", work, 64, 1, True),
)
