"""One measurement in a process of its own: url, what, callers, messages; prints messages a second."""

import asyncio
import sys
import time

from aiorsmq import AsyncRSMQ, Queue

BODY = "x" * 100


async def main(url: str, what: str, callers: int, messages: int) -> None:
    async with AsyncRSMQ.from_url(url) as rsmq:
        queue = rsmq.queue("benchmark")
        await queue.create(vt=3600, exist_ok=True)
        if what == "receive":
            for _ in range(0, messages, 1000):
                await queue.send_many([BODY] * 1000)
        work = {"send": send, "receive": receive_and_delete}[what]
        await asyncio.gather(*(work(queue, 1) for _ in range(callers)))  # warm up
        started = time.perf_counter()
        await asyncio.gather(*(work(queue, messages // callers - 1) for _ in range(callers)))
        print(callers * (messages // callers - 1) / (time.perf_counter() - started))


async def send(queue: Queue[str], messages: int) -> None:
    for _ in range(messages):
        await queue.send(BODY)


async def receive_and_delete(queue: Queue[str], messages: int) -> None:
    for _ in range(messages):
        message = await queue.receive()
        if message is None or not await message.delete():
            sys.exit("a message is missing")


asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
