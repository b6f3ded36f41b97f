"""This library."""

import asyncio
import sys
import time

from aiorsmq import AsyncRSMQ, Queue, fsync, replicas
from idle import idle
from shared import BODY, TASK, Countdown, is_to_fill, main, measure, pace, share, stamp

CONFIRM = {"aiorsmq replicas": replicas(1, timeout=20), "aiorsmq fsync": fsync(timeout=20)}


async def contend() -> None:
    async with AsyncRSMQ(port=TASK.port, confirm=CONFIRM.get(TASK.contender)) as rsmq:
        if TASK.what == "idle":
            await idle(rsmq)
            return

        async def prepare(qname: str, messages: int) -> None:
            await rsmq.queue(qname).create(vt=3600, exist_ok=True)
            if is_to_fill(qname):
                await asyncio.gather(*(rsmq.queue(qname).send(stamp()) for _ in range(messages)))

        async def work(qname: str, messages: int) -> dict | None:
            return await WORK[TASK.what](rsmq.queue(qname), messages)

        async def left(qname: str) -> int:
            return (await rsmq.queue(qname).attributes()).msgs

        await measure(prepare, work, left)


async def send(queue: Queue[str], messages: int) -> None:
    await share(messages, lambda: queue.send(BODY))


async def send_many(queue: Queue[str], messages: int) -> None:
    await share(messages // 100, lambda: queue.send_many([BODY] * 100))


async def receive(queue: Queue[str], messages: int) -> None:
    async def one() -> None:
        message = await queue.receive()
        if message is None:
            sys.exit("a message is missing")
        if not await message.delete():
            sys.exit("a message is missing")

    await share(messages, one)


async def consume(queue: Queue[str], messages: int) -> dict:
    """Delete each message by its block; what is measured ends when the server has deleted them
    all.
    """
    countdown = Countdown(messages)

    async def consumer() -> None:
        async for message in queue.messages(prefetch=TASK.prefetch):
            async with message:
                countdown.handle(message.body)
                if TASK.what == "jobs":
                    await no_op()
            countdown.deleted()

    said = await countdown.run([consumer() for _ in range(TASK.callers)])
    while (await queue.attributes()).msgs:
        pass
    return said | {"ended": time.monotonic_ns()}


async def no_op() -> None:
    pass


WORK = {
    "send": send,
    "produce": send,
    "pace": lambda queue, messages: pace(messages, queue.send),
    "send_many": send_many,
    "receive": receive,
    "consume": consume,
    "drain": consume,
    "await": consume,
    "jobs": consume,
}
main(contend)
