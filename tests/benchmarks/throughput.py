"""Messages a second, and what each costs: sent, received, streamed, from end to end, and as
jobs.
"""

from functools import partial
from typing import Any

from figure import Figure
from processes import Process
from server import Server, Usage

OURS = ("aiorsmq", "aiorsmq uvloop")
CALLERS = (1, 16, 64, 256)
# How many messages each sends; and receives, half of that. The same number where that takes seconds
# at most: the fuller a queue, the dearer is each of its messages, for the server's caches hold
# less of it.
USUAL = {1: 6_000, 16: 32_000, 64: 64_000, 256: 64_000}
MESSAGES = {
    "aiorsmq": USUAL,
    "aiorsmq uvloop": USUAL,
    "aiorsmq.sync": USUAL,
    "aiorsmq.sync uvloop": USUAL,
    "Node rsmq": USUAL,
    "PyRSMQ": dict.fromkeys(CALLERS, 2_048),
    "streams": {1: 6_000, 16: 12_800, 64: 12_800, 256: 12_800},
    "streams batched": USUAL,
    "ceiling": {64: 64_000},
}
PINGS = {1: 10_000, 64: 100_000}
STREAMS = {  # consumers, messages claimed ahead for each, messages
    "1": (1, 0, 3_000),
    "1 prefetch 32": (1, 32, 32_000),
    "16": (16, 0, 16_000),
    "64": (64, 0, 32_000),
    "64 prefetch 8": (64, 8, 32_000),
    "256": (256, 0, 32_000),
    "256 prefetch 8": (256, 8, 32_000),
}
PREFETCH = 8  # of this library's consumers, where others fetch ahead too or could
SATURATED = {
    "aiorsmq": 32_000,
    "aiorsmq uvloop": 32_000,
    "Node rsmq": 32_000,
    "streams": 6_400,
    "BullMQ": 6_400,
}
JOBS = {"aiorsmq": 32_000, "BullMQ": 32_000, "SAQ": 1_280, "arq": 1_920, "taskiq": 1_920}
UNITS = {
    "rate": "messages/s",
    "server": "µs/message",
    "client": "µs/message",
    "calls": "script calls/message",
    "commands": "commands/message",
}


def send_or_receive(what: str, server: Server, contender: str, callers: int) -> dict[str, float]:
    messages = MESSAGES[contender][callers] // (2 if what == "receive" else 1)
    return one_process(server, contender, what=what, callers=callers, messages=messages)


def ping(server: Server, contender: str, connections: int) -> dict[str, float]:
    return one_process(
        server, contender, what="ping", callers=connections, messages=PINGS[connections]
    )


def send_many(server: Server, contender: str, _at_once: int) -> dict[str, float]:
    return one_process(server, contender, what="send_many", callers=1, messages=200_000)


def stream(server: Server, contender: str, consumers: str) -> dict[str, float]:
    callers, prefetch, messages = STREAMS[consumers]
    return one_process(
        server, contender, what="consume", callers=callers, prefetch=prefetch, messages=messages
    )


def jobs(server: Server, contender: str, callers: int) -> dict[str, float]:
    return one_process(
        server, contender, what="jobs", callers=callers, prefetch=PREFETCH, messages=JOBS[contender]
    )


def one_process(server: Server, contender: str, **task: Any) -> dict[str, float]:
    with Process(contender, server, **task) as process:
        before = server.usage()
        process.go()
        done = process.done()
        return metrics([done], server.usage() - before)


def saturated(server: Server, contender: str, callers: int) -> dict[str, float]:
    task = {"callers": callers, "prefetch": PREFETCH, "messages": SATURATED[contender]}
    with (
        Process(contender, server, what="drain", **task) as consumer,
        Process(contender, server, what="produce", **task) as producer,
    ):
        before = server.usage()
        consumer.go()
        producer.go()
        sent, received = producer.done(), consumer.done()
        return metrics([sent, received], server.usage() - before)


def metrics(done: list[dict[str, Any]], used: Usage) -> dict[str, float]:
    """Of a producer and a consumer, or of one process: from the first message's start to the last
    one's end.
    """
    first, last = done[0], done[-1]
    messages = last["messages"]
    return {
        "rate": messages * 1e9 / (last["ended"] - first["started"]),
        "server": used.cpu_us / messages,
        "client": sum(process["cpu_us"] for process in done) / messages,
        "calls": used.script_calls / messages,
        "commands": used.commands / messages,
    }


RSMQ_AND_STREAMS = {
    contender: CALLERS
    for contender in MESSAGES
    if contender != "ceiling" and not contender.startswith("aiorsmq.sync")
}
THREADS = dict.fromkeys(("aiorsmq.sync", "aiorsmq.sync uvloop", "PyRSMQ"), (1, 16))
FIGURES = [
    Figure(
        name="send",
        title="Send: messages a second",
        x="callers",
        points=RSMQ_AND_STREAMS | {"ceiling": (64,)},
        measure=partial(send_or_receive, "send"),
        units=UNITS,
    ),
    Figure(
        name="receive",
        title="Receive + delete: messages a second",
        x="callers",
        points=RSMQ_AND_STREAMS,
        measure=partial(send_or_receive, "receive"),
        units=UNITS,
    ),
    Figure(
        name="sync_send",
        title="Send, called by threads: messages a second",
        x="threads",
        points=THREADS,
        measure=partial(send_or_receive, "send"),
        units=UNITS,
    ),
    Figure(
        name="sync_receive",
        title="Receive + delete, called by threads: messages a second",
        x="threads",
        points=THREADS,
        measure=partial(send_or_receive, "receive"),
        units=UNITS,
    ),
    Figure(
        name="ping",
        title="A bare PING by redis-benchmark: commands a second",
        x="connections",
        points={"ceiling": tuple(PINGS)},
        measure=ping,
        units={"rate": "commands/s", "server": "µs/command", "client": "µs/command"},
    ),
    Figure(
        name="send_many",
        title="send_many: messages a second",
        x="messages at once",
        points=dict.fromkeys(OURS, (100,)),
        measure=send_many,
        units=UNITS,
    ),
    Figure(
        name="stream",
        title="async for msg in queue.messages(), each deleted by its block: messages a second",
        x="consumers",
        points=dict.fromkeys(OURS, tuple(STREAMS)),
        measure=stream,
        units=UNITS,
    ),
    Figure(
        name="saturated",
        title="End to end, a producer and a consumer process (aiorsmq: prefetch=8): messages "
        "a second",
        x="callers",
        points=dict.fromkeys(SATURATED, (64,)),
        measure=saturated,
        units=UNITS,
    ),
    Figure(
        name="jobs",
        title="No-op jobs processed a second (aiorsmq: prefetch=8; all others also keep the state "
        "of jobs)",
        x="concurrency",
        points=dict.fromkeys(JOBS, (64,)),
        measure=jobs,
        units=UNITS,
    ),
]
