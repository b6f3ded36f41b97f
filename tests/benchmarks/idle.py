"""What consumers cost while there is nothing to do."""

import time
from contextlib import ExitStack
from itertools import takewhile

from figure import Figure
from processes import Process
from server import Server

SETTLING = 7.0  # rsmq-worker reaches its longest pause, ten seconds, after six
SECONDS = 10.0
WAITING = {  # processes, queues in each, consumers of each queue in each
    "100 consumers, one queue": (1, 1, 100),
    "100 queues": (1, 100, 1),
    "20 processes": (20, 1, 1),
}


def measure(server: Server, contender: str, waiting: str) -> dict[str, float]:
    processes, queues, callers = WAITING[waiting]
    with ExitStack() as stack:
        clients = [
            stack.enter_context(
                Process(contender, server, what="idle", queues=queues, callers=callers, messages=0)
            )
            for _ in range(processes)
        ]
        time.sleep(SETTLING)
        with server.redis.monitor() as monitor:
            before = server.usage()
            for client in clients:
                client.go()
            time.sleep(SECONDS)
            used = server.usage() - before
            server.redis.echo("the end")
            seen = takewhile(lambda command: command["command"] != "ECHO the end", monitor.listen())
            sent = sum(
                command["client_type"] == "tcp" for command in seen
            )  # not by a script, nor by us
        for client in clients:
            client.go()
        client_us = sum(client.done()["cpu_us"] for client in clients)
    return {
        "commands": sent / SECONDS,
        "executed": used.commands / SECONDS,
        "scripts": used.script_calls / SECONDS,
        "client": client_us / SECONDS,
        "server": used.cpu_us / SECONDS,
    }


FIGURES = [
    Figure(
        name="idle",
        title="Idle: what waiting consumers cost",
        x="waiting",
        points={"aiorsmq": tuple(WAITING), "rsmq-worker": ("100 consumers, one queue",)},
        measure=measure,
        units={
            "commands": "commands/s",
            "executed": "commands/s, those in scripts too",
            "scripts": "script calls/s",
            "client": "µs of CPU/s",
            "server": "µs of CPU/s, its own clockwork included",
        },
        rounds=3,
    )
]
