"""How long a message takes from `send` to its handler, from one process to another, at 200 a
second.
"""

from statistics import median

from figure import Figure
from processes import Process
from server import Server

A_SECOND = 200
WARM_UP, COUNTED = A_SECOND, 5 * A_SECOND
CONTENDERS = ("aiorsmq", "aiorsmq uvloop", "streams", "Node rsmq", "BullMQ")


def measure(server: Server, contender: str, _a_second: int) -> dict[str, float]:
    task = {"callers": 1, "messages": WARM_UP + COUNTED}
    with (
        Process(contender, server, what="await", **task) as consumer,
        Process(contender, server, what="pace", **task) as producer,
    ):
        consumer.go()
        producer.go()
        producer.done()
        us = sorted(ns / 1000 for ns in consumer.done()["ns"][WARM_UP:])
    return {"median": median(us), "p99": us[len(us) * 99 // 100]}


FIGURES = [
    Figure(
        name="latency",
        title="From send to handler, from process to process",
        x="messages a second",
        points=dict.fromkeys(CONTENDERS, (A_SECOND,)),
        measure=measure,
        units={"median": "µs", "p99": "µs"},
    )
]
