"""A cluster: three primaries with a replica each."""

import time
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import redis
from redis.crc import key_slot

from sets.group import Group, free_ports, launch_all
from sets.node import Node, Tls, fields, is_replica_of, until

PRIMARIES = 3
SLOTS = 16384
FAILOVER_TIMEOUT = 6.0
"""Seconds after which a replica has given up a failover that it was asked for."""


class ClusterNode(Node):
    """A node of a cluster; `bus` is the port on which it speaks to the other nodes."""

    def __init__(self, *args, bus: int, **options) -> None:
        super().__init__(*args, "--cluster-port", str(bus), **options)
        self.bus = bus

    @property
    def id(self) -> str:
        return self.ask("CLUSTER", "MYID").decode()

    def state(self) -> dict[str, str]:
        """What it says in CLUSTER INFO."""
        lines = self.ask("CLUSTER", "INFO").decode().split()
        return dict(line.split(":", 1) for line in lines)

    def part(self) -> "Part":
        """What it takes its own part in the cluster for."""
        for line in self.ask("CLUSTER", "NODES").decode().splitlines():
            id, _, flags, primary, _, _, epoch, _, *slots = line.split()
            if "myself" in flags:
                ranges = [entry.split("-") for entry in slots if not entry.startswith("[")]
                return Part(
                    id,
                    "master" in flags,
                    primary,
                    int(epoch),
                    {slot for first, *last in ranges for slot in _range(first, *last)},
                )
        raise AssertionError("CLUSTER NODES has no line for the node itself")


class Part(NamedTuple):
    """A node's part in a cluster."""

    id: str
    is_primary: bool
    primary: str
    """For a replica, the id of its primary."""
    epoch: int
    """Of two nodes that claim a slot, the one with the higher epoch is right."""
    slots: set[int]


class Cluster(Group):
    """`with Cluster() as cluster`: three primaries, with a third of the slots each and a replica
    each.

    Args:
        node_timeout: seconds without a reply after which a node takes another for dead.
        binary: the server, Redis 7 or newer; by default the one that all tests run on.
        tls: see `Tls`; the binary has to know TLS then.
        options: of all nodes, such as `"--cluster-require-full-coverage", "no"`.
    """

    nodes: list[ClusterNode]

    def __init__(
        self,
        *options: str,
        node_timeout: float = 2.0,
        binary: str | None = None,
        tls: Tls | None = None,
    ) -> None:
        super().__init__(binary, tls)
        self._options = options
        self._node_timeout = node_timeout

    @property
    def addresses(self) -> list[tuple[str, int]]:
        return [("127.0.0.1", node.port) for node in self.nodes]

    @property
    def url(self) -> str:
        return (
            f"{self.scheme}+cluster://{','.join(f'{host}:{port}' for host, port in self.addresses)}"
        )

    def assemble(self) -> None:
        count = PRIMARIES * 2
        ports = free_ports(count * 2)
        options = (
            *("--cluster-enabled", "yes", "--appendonly", "yes"),
            *("--cluster-node-timeout", f"{self._node_timeout * 1000:.0f}"),
            *("--repl-diskless-sync-delay", "0", *self._options),
        )
        for port, bus in zip(ports[:count], ports[count:], strict=True):
            self.nodes.append(self._make(ClusterNode, port, *options, bus=bus))
        launch_all(self.nodes)
        first, *others = self.nodes
        for epoch, node in enumerate(self.nodes, 1):  # else they have to agree on them first
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", epoch)
        for node in others:
            first.ask("CLUSTER", "MEET", "127.0.0.1", node.port, node.bus)
        bounds = [SLOTS * n // PRIMARIES for n in range(PRIMARIES + 1)]
        for node, (start, end) in zip(self.nodes, pairwise(bounds), strict=False):
            node.ask("CLUSTER", "ADDSLOTSRANGE", start, end - 1)
        until("the nodes have met", lambda: all(self._knows_all(node) for node in self.nodes))
        for primary, replica in zip(self.nodes, self.nodes[PRIMARIES:], strict=False):
            join = partial(replica.ask, "CLUSTER", "REPLICATE", primary.id)
            until(f"{replica} knows {primary}", join)
        self.wait_until_whole()

    def owner(self, slot: int) -> ClusterNode:
        """The node that says that it serves a slot: the right one, if several say so."""
        parts = [
            (part.epoch, node.port)
            for node, part in self._parts().items()
            if part.is_primary and slot in part.slots
        ]
        if not parts:
            raise LookupError(f"no node that is well serves slot {slot}")
        return self.node(max(parts)[1])

    def owner_of(self, key: str) -> ClusterNode:
        return self.owner(key_slot(key.encode()))

    def primaries(self) -> list[ClusterNode]:
        """Those that serve slots."""
        return [node for node, part in self._parts().items() if part.is_primary and part.slots]

    def replica_of(self, primary: ClusterNode) -> ClusterNode:
        """A node that replicates another, and has its data."""
        return until(
            f"{primary} has a replica",
            lambda: next((node for node in self.well if is_replica_of(node, primary)), None),
        )

    def failover(self, primary: ClusterNode) -> ClusterNode:
        """Have the replica of a node take its slots, by CLUSTER FAILOVER; returns the replica once
        it has. It is asked again if it gives up, as it does if the others do not vote in time.
        """
        replica = self.replica_of(primary)
        given_up = 0.0

        def is_done() -> bool:
            nonlocal given_up
            if replica.part().is_primary:
                return True
            if time.monotonic() > given_up:
                given_up = time.monotonic() + FAILOVER_TIMEOUT
                replica.ask("CLUSTER", "FAILOVER")
            return False

        until(f"{replica} has taken over", is_done, seconds=60)
        return replica

    def wait_for_failover(self, slot: int, before: ClusterNode) -> ClusterNode:
        """Wait until another node serves a slot, and return it."""

        def taken() -> ClusterNode | None:
            try:
                owner = self.owner(slot)
            except LookupError:
                return None
            return owner if owner is not before else None

        return until(f"{before} serves slot {slot} no more", taken, seconds=60)

    def move(self, slot: int, target: ClusterNode, *, pause: float = 0.0) -> None:
        """Move a slot key by key, with a pause of so many seconds after each key."""
        source = self.owner(slot)
        self.begin_move(slot, source, target)
        self.finish_move(slot, source, target, pause=pause)

    def finish_move(
        self, slot: int, source: ClusterNode, target: ClusterNode, *, pause: float = 0.0
    ) -> None:
        """Move the keys that are still there, and then the slot."""
        while keys := source.ask("CLUSTER", "GETKEYSINSLOT", slot, 10):
            for key in keys:
                self.move_key(key, source, target)
                time.sleep(pause)
        self.end_move(slot, source, target)

    def begin_move(self, slot: int, source: ClusterNode, target: ClusterNode) -> None:
        """From here on the source replies ASK to what asks for keys that it does not have."""
        target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", source.id)
        source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", target.id)

    def move_key(self, key: bytes | str, source: ClusterNode, target: ClusterNode) -> None:
        source.ask("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", key)

    def end_move(self, slot: int, source: ClusterNode, target: ClusterNode) -> None:
        """From here on the source replies MOVED."""
        id = target.id
        target.ask("CLUSTER", "SETSLOT", slot, "NODE", id)  # first: a slot is never nobody's
        source.ask("CLUSTER", "SETSLOT", slot, "NODE", id)
        for node in self.primaries():
            node.ask("CLUSTER", "SETSLOT", slot, "NODE", id)

    def move_at_once(self, slot: int, target: ClusterNode) -> None:
        """Move a slot by Valkey 9's atomic migration."""
        source = self.owner(slot)
        source.ask("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", target.id)

        def has_moved() -> bool:
            migrations = source.ask("CLUSTER", "GETSLOTMIGRATIONS")
            states = [fields(migration) for migration in migrations]
            failed = [state for state in states if state["state"] in ("failed", "canceled")]
            if failed:
                raise RuntimeError(f"the migration of slot {slot} failed: {failed}")
            return self.owner(slot) is target

        until(f"{target} has slot {slot}", has_moved)

    def wait_until_whole(self, *, seconds: float = 60) -> None:
        """Wait until every node runs and does its part: before the next fault."""
        until("the cluster is whole", self._is_whole, seconds=seconds)

    def _is_whole(self) -> bool:
        parts = {node: node.part() for node in self.nodes}
        primaries = {
            part.id: node for node, part in parts.items() if part.is_primary and part.slots
        }
        return (
            len(primaries) == PRIMARIES
            and all(node.state()["cluster_state"] == "ok" for node in self.nodes)
            and all(self._knows_all(node) for node in self.nodes)
            and all(
                part.primary in primaries and is_replica_of(node, primaries[part.primary])
                for node, part in parts.items()
                if not part.slots
            )
        )

    def _knows_all(self, node: ClusterNode) -> bool:
        text = node.ask("CLUSTER", "NODES").decode()
        words = ("handshake", "fail", "disconnected")
        is_healthy = not any(word in text.replace("nofailover", "") for word in words)
        return is_healthy and text.count("\n") == len(self.nodes)

    def _parts(self) -> dict[ClusterNode, Part]:
        """What each node says that is well and replies."""
        parts: dict[ClusterNode, Part] = {}
        for node in self.well:
            try:
                parts[node] = node.part()
            except redis.RedisError:  # it has just been killed, or is loading
                continue
        return parts


def _range(first: str, last: str | None = None) -> range:
    return range(int(first), int(last or first) + 1)
