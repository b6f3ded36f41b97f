"""What a confirmation of each send costs: by a replica, or by the disk.

All are measured on a primary with an append-only file and one replica. The file is written through
each second, but for `fsync()` before each reply: Valkey's WAITAOF answers up to a second too early
otherwise.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from figure import Figure
from server import Server, running_server
from throughput import CALLERS, UNITS, USUAL, one_process

BY_REPLICA = {1: 2_000, 16: 16_000, 64: 32_000, 256: 32_000}
BY_DISK = {1: 1_000, 16: 8_000, 64: 16_000, 256: 32_000}
MESSAGES = {"aiorsmq": USUAL, "aiorsmq replicas": BY_REPLICA, "aiorsmq fsync": BY_DISK}


def measure(_server: Server, contender: str, callers: int) -> dict[str, float]:
    with replicated() as primary:
        if contender == "aiorsmq fsync":
            primary.redis.config_set("appendfsync", "always")
        messages = MESSAGES[contender][callers]
        return one_process(primary, contender, what="send", callers=callers, messages=messages)


@contextmanager
def replicated() -> Iterator[Server]:
    """A primary whose replica answers."""
    with running_server() as primary, running_server() as replica:
        primary.redis.config_set("repl-diskless-sync-delay", 0)
        primary.redis.config_set("appendonly", "yes")
        replica.redis.replicaof("127.0.0.1", primary.port)
        primary.redis.set("x", "y")
        while not primary.redis.wait(1, 100):
            primary.redis.set("x", "y")
        primary.redis.delete("x")
        yield primary


FIGURES = [
    Figure(
        name="confirm",
        title="Send with a replica at hand, unconfirmed and confirmed: messages a second",
        x="callers",
        points=dict.fromkeys(MESSAGES, CALLERS),
        measure=measure,
        units=UNITS,
    )
]
