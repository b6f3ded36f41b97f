"""taskiq on a Redis stream, which also keeps each job's result."""

import asyncio
import logging
from collections.abc import AsyncGenerator

from redis.asyncio import Redis
from shared import TASK, Countdown, main, measure
from taskiq import AckableMessage, AsyncTaskiqDecoratedTask
from taskiq.api import run_receiver_task
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

URL = f"redis://127.0.0.1:{TASK.port}"


class Broker(RedisStreamBroker):
    """Counts what has been acknowledged."""

    countdown: Countdown

    async def listen(self) -> AsyncGenerator[AckableMessage, None]:
        async for message in super().listen():

            async def ack(acknowledge=message.ack) -> None:
                await acknowledge()
                self.countdown.deleted()

            yield AckableMessage(data=message.data, ack=ack)


async def no_op() -> None:
    pass


async def contend() -> None:
    brokers: dict[str, Broker] = {}

    async def prepare(name: str, jobs: int) -> None:
        brokers[name] = broker = Broker(URL, queue_name=name).with_result_backend(
            RedisAsyncResultBackend(URL)
        )
        await broker.startup()
        job: AsyncTaskiqDecoratedTask = broker.register_task(no_op, "no_op")
        for _ in range(0, jobs, TASK.callers):
            await asyncio.gather(*(job.kiq() for _ in range(TASK.callers)))

    async def work(name: str, jobs: int) -> dict:
        brokers[name].countdown = Countdown(jobs)
        receiver = run_receiver_task(brokers[name], max_async_tasks=TASK.callers)
        return await brokers[name].countdown.run([receiver])

    await measure(prepare, work, left)


async def left(name: str) -> int:
    async with Redis.from_url(URL) as redis:
        (group,) = await redis.xinfo_groups(name)
        return group["pending"] + group["lag"]


logging.disable()  # it warns of being stopped
main(contend)
