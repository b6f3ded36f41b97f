"""Consumers of this library that have nothing to do, measured between the first word and the
second.
"""

import asyncio
import json
import resource
import sys

from aiorsmq import AsyncRSMQ, Queue
from shared import TASK


async def idle(rsmq: AsyncRSMQ) -> None:
    queues = [rsmq.queue(f"queue{number}") for number in range(TASK.queues)]
    for queue in queues:
        await queue.create(exist_ok=True)
    async with asyncio.TaskGroup() as group:
        consumers = [
            group.create_task(_consume(queue)) for queue in queues for _ in range(TASK.callers)
        ]
        print("ready", flush=True)
        await _word()
        cpu_us = _used_us()
        await _word()
        print(json.dumps({"cpu_us": _used_us() - cpu_us}), flush=True)
        for consumer in consumers:
            consumer.cancel()


async def _consume(queue: Queue[str]) -> None:
    async for message in queue.messages():
        sys.exit(f"nobody sent {message.body!r}")


async def _word() -> None:
    """Wait for it next to the consumers."""
    await asyncio.to_thread(sys.stdin.readline)


def _used_us() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return (used.ru_utime + used.ru_stime) * 1e6
