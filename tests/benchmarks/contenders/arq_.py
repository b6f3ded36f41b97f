"""arq, which also keeps each job's result. It polls: here without a pause, by default every half
second.
"""

import asyncio

from arq.connections import RedisSettings, create_pool
from arq.worker import Worker
from shared import TASK, Countdown, main, measure


async def no_op(_context: dict) -> None:
    pass


async def contend() -> None:
    redis = await create_pool(RedisSettings(port=TASK.port))

    async def prepare(queue: str, jobs: int) -> None:
        for _ in range(0, jobs, TASK.callers):
            await asyncio.gather(
                *(redis.enqueue_job("no_op", _queue_name=queue) for _ in range(TASK.callers))
            )

    async def work(queue: str, jobs: int) -> dict:
        countdown = Countdown(jobs)

        async def after_job_end(_context: dict) -> None:
            countdown.deleted()

        worker = Worker(
            [no_op],
            redis_pool=redis,
            queue_name=queue,
            max_jobs=TASK.callers,
            poll_delay=0.001,
            after_job_end=after_job_end,
            handle_signals=False,
        )
        return await countdown.run([worker.async_run()])

    await measure(prepare, work, redis.zcard)


main(contend)
