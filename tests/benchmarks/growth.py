"""What grows with the number of messages, of those who wait, and with the size of bodies."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import pairwise
from statistics import median
from typing import Any

from aiorsmq import AsyncRSMQ, Message, Queue
from figure import Figure
from processes import Process
from server import Server

BODY = "x" * 100
SIZES = {
    "1 KiB": (1024, 16_000),
    "64 KiB": (64 * 1024, 2_048),
    "1 MiB": (1024 * 1024, 160),
}  # bytes, messages
LARGEST = {"64 messages of 100 bytes": 100, "64 messages of 4 KiB": 4096}
STORED = 100_000

Work = Callable[[AsyncRSMQ, Server, Any], Awaitable[dict[str, float]]]


def here(work: Work, server: Server, _contender: str, point: Any) -> dict[str, float]:
    """Measure this library in this process."""

    async def run() -> dict[str, float]:
        async with AsyncRSMQ(port=server.port) as rsmq:
            return await work(rsmq, server, point)

    return asyncio.run(run())


async def waiting(rsmq: AsyncRSMQ, server: Server, messages: int) -> dict[str, float]:
    """Send, receive and delete some thousand messages, in small turns, so that the number of
    waiting messages stays the same.

    First some turns that do not count. A server whose hash table has just doubled, as it does at
    917,504 messages, moves a bit of it with each command; that costs two to four times as much
    until all is moved.
    """
    queue = rsmq.queue("benchmark")
    await queue.create(vt=3600)
    for _ in range(0, messages, 1000):
        await queue.send_many([BODY] * 1000)
    spent = {"send": 0.0, "receive": 0.0, "delete": 0.0}
    settling, turns, turn = 20, 5, 1024
    for number in range(settling + turns):
        marks = [_script_us(server)]
        await _share(64, [BODY] * turn, queue.send)
        marks.append(_script_us(server))
        received = await _share(64, range(turn), lambda _: _receive(queue))
        marks.append(_script_us(server))
        await _share(64, received, Message.delete)
        marks.append(_script_us(server))
        for verb, (before, after) in zip(spent, pairwise(marks), strict=True):
            spent[verb] += after - before if number >= settling else 0
    return {verb: us / (turns * turn) for verb, us in spent.items()}


def memory(server: Server, contender: str, messages: int) -> dict[str, float]:
    with Process(contender, server, what="send", callers=32, messages=messages) as client:
        client.go()
        client.done()
    keys = ("rsmq:benchmark", "rsmq:benchmark:Q")
    return {"memory": sum(server.redis.memory_usage(key, samples=0) for key in keys) / messages}


async def wake_up(rsmq: AsyncRSMQ, server: Server, others: int) -> dict[str, float]:
    """Send to the one when all wait, again and again."""
    us: list[float] = []
    handled = asyncio.Event()

    async def consume(queue: Queue[str]) -> None:
        async for message in queue.messages():
            us.append((time.monotonic_ns() - int(message.body)) / 1000)
            await message.delete()
            handled.set()

    queues = [rsmq.queue(f"queue{number}") for number in range(others + 1)]
    for queue in queues:
        await queue.create()
    async with asyncio.TaskGroup() as group:
        consumers = [group.create_task(consume(queue)) for queue in queues]
        while len(server.redis.pubsub_channels()) < len(queues):
            await asyncio.sleep(0.05)
        for _ in range(300):
            await asyncio.sleep(0.003)  # it waits again
            handled.clear()
            await queues[0].send(str(time.monotonic_ns()))
            await handled.wait()
        for consumer in consumers:
            consumer.cancel()
    return {"median": median(us)}


async def bodies(rsmq: AsyncRSMQ, _server: Server, size: str) -> dict[str, float]:
    length, messages = SIZES[size]
    queue = rsmq.queue("benchmark")
    await queue.create(vt=3600, maxsize=-1)
    body = "x" * length
    started = time.perf_counter()
    await _share(16, [body] * messages, queue.send)
    sent = time.perf_counter()
    await _share(16, range(messages), lambda _: _receive_and_delete(queue))
    deleted = time.perf_counter()
    rates = {"sent": messages / (sent - started), "received": messages / (deleted - sent)}
    megabytes = {
        "send": rates["sent"] * length / 1e6,
        "receive + delete": rates["received"] * length / 1e6,
    }
    return megabytes | rates


async def longest(rsmq: AsyncRSMQ, server: Server, batch: str) -> dict[str, float]:
    """With so many callers every script call is as full as it may be, but for the first ones."""
    callers, messages = 256, 2560
    queue = rsmq.queue("benchmark")
    await queue.create(vt=3600)
    bodies = ["x" * LARGEST[batch]] * messages
    server.redis.config_set("slowlog-max-len", messages)
    server.redis.config_set("slowlog-log-slower-than", 0)
    found: dict[str, float] = {}
    for _ in range(2):  # the server loads the scripts in the first turn
        server.redis.slowlog_reset()
        await _share(callers, bodies, queue.send)
        found["send"] = _longest_script_us(server)
        received = await _share(callers, range(messages), lambda _: _receive(queue))
        found["receive"] = _longest_script_us(server)
        await _share(callers, received, Message.delete)
        found["delete"] = _longest_script_us(server)
    server.redis.config_set("slowlog-log-slower-than", -1)
    return found


async def _receive(queue: Queue[str]) -> Message[str]:
    message = await queue.receive()
    assert message is not None, "a message is missing"
    return message


async def _receive_and_delete(queue: Queue[str]) -> None:
    message = await _receive(queue)
    assert await message.delete()


async def _share(callers: int, items: Any, one: Callable[[Any], Awaitable[Any]]) -> list[Any]:
    """Do something with each item, so many callers taking the next one as they are done with
    theirs.
    """
    left = iter(items)
    results: list[Any] = []

    async def caller() -> None:
        for item in left:
            results.append(await one(item))  # noqa: PERF401 - one after the other is what a caller does

    await asyncio.gather(*(caller() for _ in range(callers)))
    return results


def _script_us(server: Server) -> float:
    stats = server.redis.info("commandstats")
    return sum(stats.get(f"cmdstat_{name}", {"usec": 0})["usec"] for name in ("eval", "evalsha"))


def _longest_script_us(server: Server) -> float:
    """Since this was asked for the last time."""
    entries = server.redis.slowlog_get(server.redis.slowlog_len())
    server.redis.slowlog_reset()
    return max(
        entry["duration"] for entry in entries if entry["command"].upper().startswith(b"EVAL")
    )


FIGURES = [
    Figure(
        name="waiting",
        title="Cost of a message while others wait",
        x="messages waiting",
        points={"aiorsmq": (1_000, 100_000, 1_000_000)},
        measure=partial(here, waiting),
        units=dict.fromkeys(("send", "receive", "delete"), "µs of server time/message"),
    ),
    Figure(
        name="memory",
        title="Memory of a message of 100 bytes",
        x="messages",
        points={"aiorsmq": (STORED,), "Node rsmq": (STORED,)},
        measure=memory,
        units={"memory": "bytes/message"},
        rounds=3,
    ),
    Figure(
        name="wakeup",
        title="From send to handler while others wait on other queues, in one process",
        x="others",
        points={"aiorsmq": (1, 100, 1000)},
        measure=partial(here, wake_up),
        units={"median": "µs"},
    ),
    Figure(
        name="bodies",
        title="Large bodies, 16 callers",
        x="body",
        points={"aiorsmq": tuple(SIZES)},
        measure=partial(here, bodies),
        units={
            "send": "MB/s",
            "receive + delete": "MB/s",
            "sent": "messages/s",
            "received": "messages/s",
        },
    ),
    Figure(
        name="longest",
        title="The longest single script, 256 callers",
        x="largest batch",
        points={"aiorsmq": tuple(LARGEST)},
        measure=partial(here, longest),
        units=dict.fromkeys(("send", "receive", "delete"), "µs of server time"),
    ),
]
