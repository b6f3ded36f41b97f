"""Real sets of servers, each fault of them under load, and a table: `python tests/sets/faults.py`.

Twenty senders and a consumer on another client work on one queue, in processes of their own. It
ends with 1 if a message that was acknowledged is lost, if one was stored twice, or if a caller got
an error that is not redis-py's for a server that is away.

    --server NAME=BINARY    a server to run the sets on; without a binary the one of all tests;
                            several are allowed
    --profile quick         a part of the faults, on the first server: two minutes at most
    --fault WORDS           only those whose name has these words
"""

import argparse
import asyncio
import random
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from redis import RedisError
from redis.crc import key_slot

sys.path.insert(0, str(Path(__file__).parents[1]))

from chaos.history import Verdict
from sets.cluster import Cluster
from sets.group import Group
from sets.node import until
from sets.programs import SetLoad, in_thread
from sets.sentinels import Sentinels

SLOT = key_slot(b"{rsmq}")
KEY_PAUSE = 0.5
"""Seconds between two keys of a slot that is moved: for so long a queue is on two nodes."""
BEFORE, AFTER = 100, 200
"""How many messages are sent and deleted before a fault, and after it."""


class Fault(NamedTuple):
    name: str
    group: type[Group]
    inflict: Callable[[Any], None]
    """Does it, and returns when the servers have got over it."""
    prepare: Callable[[Any], None] = lambda _: None
    """What comes before the load."""
    is_quick: bool = False
    needs_valkey: bool = False
    must_lose: bool = False
    """Whether it is a control: the client knows one server only, and the checker must see that."""


def planned(group: Sentinels) -> None:
    group.failover()


def crash(group: Sentinels) -> None:
    before = group.primary()
    before.kill()
    group.wait_for_failover(before)
    before.start()


def hang(group: Sentinels) -> None:
    before = group.primary()
    before.freeze()
    group.wait_for_failover(before)
    time.sleep(2)
    before.thaw()


def thaw(group: Sentinels) -> None:
    """It comes back when the failover that replaces it has just begun."""
    before = group.primary()
    before.freeze()
    until(
        "a sentinel replaces the primary",
        lambda: any("failover_in_progress" in one.state()["flags"] for one in group.sentinels),
    )
    before.thaw()
    group.wait_for_failover(before)


def kill_first(group: Sentinels) -> None:
    group.sentinels[0].kill()


def freeze_first(group: Sentinels) -> None:
    group.sentinels[0].freeze()


def lose_sight(group: Sentinels) -> None:
    """All connections break, and the primary moves, while a sentinel is away."""
    for kind in ("normal", "pubsub"):
        group.primary().ask("CLIENT", "KILL", "TYPE", kind)
    time.sleep(1)
    group.failover()
    first = group.sentinels[0]
    if first.is_frozen:
        first.thaw()
    else:
        first.start()


def move_by_key(group: Cluster) -> None:
    group.move(SLOT, _other_than(group, group.owner(SLOT)), pause=KEY_PAUSE)


def move_at_once(group: Cluster) -> None:
    group.move_at_once(SLOT, _other_than(group, group.owner(SLOT)))


def cluster_planned(group: Cluster) -> None:
    group.failover(group.owner(SLOT))


def cluster_crash(group: Cluster) -> None:
    before = group.owner(SLOT)
    before.kill()
    group.wait_for_failover(SLOT, before)
    before.start()


def cluster_hang(group: Cluster) -> None:
    before = group.owner(SLOT)
    before.freeze()
    group.wait_for_failover(SLOT, before)
    time.sleep(2)
    before.thaw()


def flush_scripts(group: Cluster) -> None:
    for _ in range(20):
        for node in group.nodes:
            node.ask("SCRIPT", "FLUSH")
        time.sleep(0.1)


def _other_than(group: Cluster, owner):
    return next(node for node in group.primaries() if node is not owner)


FAULTS = [
    Fault("planned failover", Sentinels, planned, is_quick=True),
    Fault("killed primary", Sentinels, crash),
    Fault("hung primary", Sentinels, hang),
    Fault("frozen and thawed primary", Sentinels, thaw, is_quick=True),
    Fault("dead first sentinel", Sentinels, lose_sight, kill_first),
    Fault("hung first sentinel", Sentinels, lose_sight, freeze_first),
    Fault("control: planned, one address", Sentinels, planned, must_lose=True),
    Fault("slot moved key by key", Cluster, move_by_key, is_quick=True),
    Fault("slot moved at once", Cluster, move_at_once, needs_valkey=True),
    Fault("CLUSTER FAILOVER", Cluster, cluster_planned),
    Fault("killed primary", Cluster, cluster_crash, is_quick=True),
    Fault("hung primary", Cluster, cluster_hang),
    Fault("SCRIPT FLUSH", Cluster, flush_scripts),
]
KNOWN = ("lost", "duplicated", "undocumented")
"""The kinds of violations that have a column of their own."""
LEGEND = "sends, received: the longest gap between two of them"
HEADINGS = (
    *("fault", "server", "set", "acknowledged", "lost", "doubled", "sends", "received"),
    "errors that reached callers",
)
COLUMNS = "{:<30} {:<10} {:<12} {:>12} {:>5} {:>7} {:>9} {:>9}  {}"


class Outcome(NamedTuple):
    verdict: Verdict
    sends: float
    """The longest gap between two sends that were acknowledged, in seconds."""
    deliveries: float

    def breaches(self, fault: Fault) -> list[str]:
        """What must not be."""
        if fault.must_lose:
            missed = "the checker has not seen what must have been lost"
            return [] if self.verdict.lost else [missed]
        kinds = ("lost", "duplicated", "unexpected", "undocumented")
        found = {kind: getattr(self.verdict, kind) for kind in kinds}
        return [f"{len(some)} {kind}, as {some[0]}" for kind, some in found.items() if some]

    def row(self, fault: Fault, server: str) -> str:
        others = Counter(what.partition(":")[0] for what in self.verdict.violations)
        also = [f"{count} {kind}" for kind, count in others.items() if kind not in KNOWN]
        errors = ", ".join(f"{count} {name}" for name, count in self.verdict.errors.items())
        return COLUMNS.format(
            fault.name,
            server,
            fault.group.__name__.lower(),
            f"{self.verdict.acknowledged:,}",
            len(self.verdict.lost),
            len(self.verdict.duplicated),
            f"{self.sends:.1f} s",
            f"{self.deliveries:.1f} s",
            "; ".join([errors or "none", *also]),
        )


async def run(faults: list[Fault], server: str, binary: str | None) -> list[str]:
    """All faults on sets of a server, one after another; returns what was wrong."""
    wrong: list[str] = []
    for kind in (Sentinels, Cluster):
        coming = [fault for fault in reversed(faults) if fault.group is kind]
        while coming:
            with kind(binary=binary) as group:
                is_valkey = "valkey_version" in group.nodes[0].redis.info("server")
                while coming and not group.keeps_logs:  # else a new set, and the logs of this one
                    if (fault := coming.pop()).needs_valkey and not is_valkey:
                        continue
                    found = await report(fault, group, server)
                    group.keeps_logs = bool(found)
                    name = f"{fault.name}, {kind.__name__.lower()}, {server}"
                    wrong += [f"{name}: {what}" for what in found]
    return wrong


async def report(fault: Fault, group: Any, server: str) -> list[str]:
    """Print a fault's line; returns what was wrong."""
    folder = group.folder / f"programs-{time.monotonic():.0f}"
    folder.mkdir()
    try:
        outcome = await undergo(fault, group, folder)
    except (AssertionError, TimeoutError, LookupError, RuntimeError, RedisError) as error:
        print(COLUMNS.format(fault.name, server, *"-" * 6, f"FAILED: {error!r}"), flush=True)
        return ["".join(traceback.format_exception(error))]
    print(outcome.row(fault, server), flush=True)
    return outcome.breaches(fault)


async def undergo(fault: Fault, group: Any, folder: Path) -> Outcome:
    """A load, the fault, and what has become of the messages."""
    load = SetLoad(group, folder, random.Random(fault.name))
    await load.create_queue()
    await in_thread(fault.prepare, group)
    try:
        producer = load.start_all(group.primary().url if fault.must_lose else group.url)
        await load.all_run()
        await load.moves_on(BEFORE, timeout=60)
        await in_thread(fault.inflict, group)
        await in_thread(group.wait_until_whole)
        if fault.must_lose:  # it never finds the new primary
            producer.kill()
        else:
            await load.moves_on(AFTER, timeout=60)
        await load.empty(within=60)
        verdict = await load.judge()
    finally:
        load.stop()
    return Outcome(verdict, load.longest_gap("sent"), load.longest_gap("delivered"))


async def main() -> str | None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--profile", choices=("quick", "full"), default="full")
    parser.add_argument("--server", action="append", default=[], metavar="NAME=BINARY")
    parser.add_argument("--fault", default="", metavar="WORDS")
    options = parser.parse_args()
    is_quick = options.profile == "quick"
    faults = [
        fault
        for fault in FAULTS
        if (fault.is_quick or not is_quick) and options.fault in fault.name
    ]
    servers = [server.partition("=") for server in options.server] or [("valkey", "", "")]
    print(f"{LEGEND}\n{COLUMNS.format(*HEADINGS)}")
    wrong: list[str] = []
    for server, _, binary in servers[:1] if is_quick else servers:
        wrong += await run(faults, server, binary or None)
    return "\n".join(wrong) or None


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that all blocks are left
    sys.exit(asyncio.run(main()))
