"""PyRSMQ, in a thread for each caller."""

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from redis import Redis
from rsmq import RedisSMQ
from shared import BODY, TASK, WARM_UP, check_left, measured


def contend() -> None:
    work = {"send": send, "receive": receive}[TASK.what]
    with ThreadPoolExecutor(TASK.callers) as threads:
        rsmq = connect("warm-up", WARM_UP, threads)
        share(WARM_UP, lambda: work(rsmq), threads)
        rsmq = connect("benchmark", TASK.messages, threads)
        with measured():
            share(TASK.messages, lambda: work(rsmq), threads)
    check_left(rsmq.getQueueAttributes().execute()["msgs"])


def connect(qname: str, messages: int, threads: ThreadPoolExecutor) -> RedisSMQ:
    rsmq = RedisSMQ(client=Redis(port=TASK.port, max_connections=1000), qname=qname)
    rsmq.createQueue().vt(3600).execute()
    if TASK.what == "receive":
        share(messages, lambda: send(rsmq), threads)
    return rsmq


def send(rsmq: RedisSMQ) -> None:
    rsmq.sendMessage().message(BODY).execute()


def receive(rsmq: RedisSMQ) -> None:
    message = rsmq.receiveMessage().execute()
    if not rsmq.deleteMessage(id=message["id"]).execute():
        sys.exit("a message is missing")


def share(messages: int, one: Callable[[], None], threads: ThreadPoolExecutor) -> None:
    def caller(_: int) -> None:
        for _ in range(messages // TASK.callers):
            one()

    list(threads.map(caller, range(TASK.callers)))


contend()
