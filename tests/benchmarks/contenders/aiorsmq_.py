"""This library."""

import asyncio
import sys

from aiorsmq import AsyncRSMQ, Message, Queue
from idle import idle
from shared import BODY, TASK, Countdown, is_to_fill, main, measure, pace, share, stamp


async def contend() -> None:
    async with AsyncRSMQ(port=TASK.port) as rsmq:
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
        await delete(message)

    await share(messages, one)


async def consume(queue: Queue[str], messages: int) -> dict:
    countdown = Countdown(messages)

    async def consumer() -> None:
        async for message in queue.messages(prefetch=TASK.prefetch):
            countdown.handle(message.body)
            await delete(message)
            countdown.deleted()

    return await countdown.run([consumer() for _ in range(TASK.callers)])


async def jobs(queue: Queue[str], messages: int) -> dict:
    countdown = Countdown(messages)

    async def consumer() -> None:
        async for message in queue.messages():
            async with message:
                await no_op()
            countdown.deleted()

    return await countdown.run([consumer() for _ in range(TASK.callers)])


async def no_op() -> None:
    pass


async def delete(message: Message[str]) -> None:
    if not await message.delete():
        sys.exit("a message is missing")


WORK = {
    "send": send,
    "produce": send,
    "pace": lambda queue, messages: pace(messages, queue.send),
    "send_many": send_many,
    "receive": receive,
    "consume": consume,
    "drain": consume,
    "await": consume,
    "jobs": jobs,
}
main(contend)
