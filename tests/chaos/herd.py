"""Thirty consumers of one queue, in one process: `herd.py URL`. At the end of its input it prints
what each has had.
"""

import asyncio
import json
import sys
from collections import Counter

import anyio
from aiorsmq import AsyncRSMQ

CONSUMERS = 30


async def main(url: str) -> None:
    had: Counter[int] = Counter()
    async with AsyncRSMQ.from_url(url) as rsmq, anyio.create_task_group() as tasks:

        async def consume(number: int) -> None:
            async for message in rsmq.queue("jobs").messages():
                had[number] += 1
                await asyncio.sleep(float(message.body))  # the work
                await message.delete()

        for number in range(CONSUMERS):
            tasks.start_soon(consume, number)
        await asyncio.to_thread(sys.stdin.read)
        tasks.cancel_scope.cancel()
    sys.stdout.write(json.dumps([had[number] for number in range(CONSUMERS)]))


asyncio.run(main(sys.argv[1]))
