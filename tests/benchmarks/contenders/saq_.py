"""SAQ, which also keeps each job's state and result."""

import asyncio

from saq import Queue, Worker
from shared import TASK, Countdown, main, measure


async def no_op(_context: dict) -> None:
    pass


async def contend() -> None:
    async def prepare(name: str, jobs: int) -> None:
        queue = connect(name)
        for _ in range(0, jobs, TASK.callers):
            await asyncio.gather(*(queue.enqueue("no_op") for _ in range(TASK.callers)))
        await queue.disconnect()

    async def work(name: str, jobs: int) -> dict:
        countdown = Countdown(jobs)

        async def after_process(_context: dict) -> None:
            countdown.deleted()

        worker = Worker(
            connect(name), [no_op], concurrency=TASK.callers, after_process=after_process
        )
        return await countdown.run([worker.start()])

    async def left(name: str) -> int:
        queue = connect(name)
        return await queue.count("incomplete")

    await measure(prepare, work, left)


def connect(name: str) -> Queue:
    return Queue.from_url(f"redis://127.0.0.1:{TASK.port}", name=name)


main(contend)
