"""Where programs run: sets of servers, and what may happen to them."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import MappingProxyType

from aiorsmq import replicas
from redis.crc import key_slot

from chaos.site import Site
from sets.cluster import Cluster
from sets.node import Node
from sets.sentinels import Sentinels
from support import keyspace

PAUSE = 0.02
"""Seconds before each key that moves."""


class SetSite(Site):
    """One of the servers of a set: it has other clients than ours, too.

    Args:
        events: how often something is to happen to the set.
    """

    def __init__(self, server: Node, events: int) -> None:
        super().__init__(server)
        self.events = events

    def _write(self) -> None:
        """So that WAIT has something to wait for: all that was written so far."""
        self.redis.set("last", "write")
        self.redis.delete("last")

    def kill_clients(self) -> None:
        for client in self._clients():
            self.redis.client_kill_filter(_id=client)
        while self._clients():
            pass

    def _clients(self) -> list[str]:
        own = str(self.redis.client_id())
        return [
            client["id"]
            for kind in ("normal", "pubsub")
            for client in self.redis.client_list(_type=kind)
            if client["id"] != own and not client["name"].startswith("sentinel-")
        ]


class ReplicatedSite(SetSite):
    """A primary, whose replica must have what is sent."""

    options = MappingProxyType({"confirm": replicas(1, timeout=0.05)})

    def __init__(self, sentinels: Sentinels, events: int) -> None:
        super().__init__(sentinels.primary(), events)
        (self._replica,) = sentinels.replicas()
        self.hangs = False

    def hang(self) -> None:
        """Have the replica hang; all that it has said has come by then."""
        self._replica.freeze()
        self.hangs = True
        self._write()
        while self.redis.wait(1, 50):
            self._write()

    def go_on(self) -> None:
        self._replica.thaw()
        self.hangs = False

    def has_copy_of(self, qname: str, id: str) -> bool:
        """Whether the replica has a message, of which it has said so."""
        return not self.hangs and self._replica.redis.hexists(self.key(f"{qname}:Q"), id)

    def replica_has_it_all(self) -> bool:
        self._write()
        assert self.redis.wait(1, 10_000) == 1
        return keyspace(self) == keyspace(self._replica)


class SentinelSite(SetSite):
    """What three sentinels say is the primary."""

    def __init__(self, sentinels: Sentinels, events: int) -> None:
        super().__init__(sentinels.primary(), events)
        self._sentinels = sentinels

    @property
    def url(self) -> str:
        return self._sentinels.url

    def fail_over(self) -> None:
        """As planned; the replica has everything by then, which sentinels do not see to."""
        self._sentinels.wait_until_whole()
        self._write()
        assert self.redis.wait(1, 10_000) == 1
        self._server = self._sentinels.failover()


class ClusterSite(SetSite):
    """The node of a cluster that has the slot of all queues."""

    ns = "{rsmq}"
    slot = key_slot(b"rsmq")

    def __init__(self, cluster: Cluster, events: int) -> None:
        super().__init__(cluster.owner(self.slot), events)
        self._cluster = cluster

    @property
    def url(self) -> str:
        return self._cluster.url

    def fail_over(self) -> None:
        self._cluster.wait_until_whole()
        self._server = self._cluster.failover(self._server)

    def move(self, begun: threading.Event | None = None) -> None:
        """Move all queues to another node, key by key; faster than a call is given up."""
        source = self._server
        target = next(node for node in self._cluster.primaries() if node is not source)
        self._cluster.begin_move(self.slot, source, target)
        if begun is not None:
            begun.set()
        for key in source.ask("CLUSTER", "GETKEYSINSLOT", self.slot, 10):
            time.sleep(PAUSE)
            self._cluster.move_key(key, source, target)
        self._cluster.end_move(self.slot, source, target)
        self._server = target

    @contextmanager
    def moving(self):
        """`move` while the block runs."""
        begun = threading.Event()
        with ThreadPoolExecutor(1) as thread:
            move = thread.submit(self.move, begun)
            begun.wait()
            yield
        move.result()
