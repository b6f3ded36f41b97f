"""What the contenders in Python share: their task, warming up, the word they wait for, how they say
what they did.
"""

import asyncio
import json
import resource
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

TASK = SimpleNamespace(**{"prefetch": 0, **json.loads(sys.argv[1])})
BODY = "x" * 100
WARM_UP = max(1, TASK.messages // 10 // TASK.callers) * TASK.callers

signal.alarm(120)  # one that hangs dies, and is reported


def main(measure: Callable[[], Coroutine[Any, Any, None]]) -> None:
    if TASK.uvloop:
        import uvloop  # noqa: PLC0415 - only one contender has it

        uvloop.run(measure())
    else:
        asyncio.run(measure())


async def measure(
    prepare: Callable[[str, int], Awaitable[None]],
    work: Callable[[str, int], Awaitable[dict[str, Any] | None]],
    left: Callable[[str], Awaitable[int]],
) -> None:
    """Prepare and do the task, measured; before that do some of it in another queue. Then count
    what is left.
    """
    await prepare("warm-up", WARM_UP)
    await work("warm-up", WARM_UP)
    await prepare("benchmark", TASK.messages)
    with measured() as said:
        said.update(await work("benchmark", TASK.messages) or {})
    check_left(await left("benchmark"))


def check_left(messages: int) -> None:
    expected = TASK.messages if TASK.what in {"send", "send_many"} else 0
    if messages != expected and TASK.what not in {
        "produce",
        "pace",
    }:  # those have a consumer, who looks
        sys.exit(f"{messages} messages are in the queue, not {expected}")


@contextmanager
def measured(whose: int = resource.RUSAGE_SELF) -> Iterator[dict[str, Any]]:
    """Wait for the word, measure the block, and report that, with what the block puts into the
    dictionary.
    """
    print("ready", flush=True)
    sys.stdin.readline()
    said: dict[str, Any] = {"messages": TASK.messages, "started": time.monotonic_ns()}
    cpu_us = _cpu_us(whose)
    yield said
    said = {"ended": time.monotonic_ns(), "cpu_us": _cpu_us(whose) - cpu_us} | said
    print(json.dumps(said), flush=True)


def _cpu_us(whose: int) -> float:
    used = resource.getrusage(whose)
    return (used.ru_utime + used.ru_stime) * 1e6


async def share(messages: int, one: Callable[[], Awaitable[object]]) -> None:
    """Do something with each of so many messages, the callers sharing them evenly."""

    async def caller() -> None:
        for _ in range(messages // TASK.callers):
            await one()

    await asyncio.gather(*(caller() for _ in range(TASK.callers)))


async def pace(messages: int, send: Callable[[str], Awaitable[object]]) -> None:
    """Send bodies that tell the time, 200 a second."""
    due = time.monotonic()
    for _ in range(messages):
        due += 1 / 200
        await asyncio.sleep(due - time.monotonic())
        await send(stamp())


def stamp() -> str:
    """A body that tells the time."""
    return str(time.monotonic_ns()).ljust(len(BODY))


def is_to_fill(qname: str) -> bool:
    """Whether the messages are in the queue before the work; else another process sends them during
    the work, or there are none.
    """
    return TASK.what in {"receive", "consume", "jobs"} or (
        TASK.what in {"drain", "await"} and qname == "warm-up"
    )


class Countdown:
    """Until so many messages have been handled and deleted; and how long those took on their way
    that tell the time.
    """

    def __init__(self, messages: int) -> None:
        self._left = messages
        self._ended = 0
        self._finished = asyncio.Event()
        self._ns: list[int] = []

    @property
    def goes_on(self) -> bool:
        return self._left > 0

    def handle(self, body: str | bytes) -> None:
        if TASK.what == "await":
            self._ns.append(time.monotonic_ns() - int(body))

    def deleted(self) -> None:
        self._left -= 1
        if self._left == 0:
            self._ended = time.monotonic_ns()
            self._finished.set()

    async def run(self, workers: list[Coroutine[Any, Any, object]]) -> dict[str, Any]:
        """Let the workers work until then; return what is to be reported."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(worker) for worker in workers]
            await self._finished.wait()
            for task in tasks:
                task.cancel()
        if self._left < 0:
            sys.exit("more messages came than were sent")
        return {"ended": self._ended, "ns": self._ns}
