"""This library's synchronous side, in a thread for each caller."""

import asyncio
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from aiorsmq.sync import RSMQ, Queue
from shared import BODY, TASK, WARM_UP, check_left, measured


def contend() -> None:
    if TASK.uvloop:
        import uvloop  # noqa: PLC0415 - only one contender has it

        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    work = {"send": send, "receive": receive}[TASK.what]
    with ThreadPoolExecutor(TASK.callers) as threads, RSMQ(port=TASK.port) as rsmq:
        queue = prepare(rsmq.queue("warm-up"), WARM_UP)
        share(WARM_UP, lambda: work(queue), threads)
        queue = prepare(rsmq.queue("benchmark"), TASK.messages)
        with measured():
            share(TASK.messages, lambda: work(queue), threads)
        check_left(queue.attributes().msgs)


def prepare(queue: Queue[str], messages: int) -> Queue[str]:
    queue.create(vt=3600)
    if TASK.what == "receive":
        for _ in range(messages // TASK.callers):
            queue.send_many([BODY] * TASK.callers)
    return queue


def send(queue: Queue[str]) -> None:
    queue.send(BODY)


def receive(queue: Queue[str]) -> None:
    message = queue.receive()
    if message is None or not message.delete():
        sys.exit("a message is missing")


def share(messages: int, one: Callable[[], None], threads: ThreadPoolExecutor) -> None:
    def caller(_: int) -> None:
        for _ in range(messages // TASK.callers):
            one()

    list(threads.map(caller, range(TASK.callers)))


contend()
