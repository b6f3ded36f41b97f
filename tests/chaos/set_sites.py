"""Where programs run: sets of servers, and what may happen to them."""

from redis.crc import key_slot

from chaos.site import Site
from sets.cluster import Cluster
from sets.sentinels import Sentinels


class SetSite(Site):
    """One of the servers of a set: it has other clients than ours, too."""

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


class SentinelSite(SetSite):
    """What three sentinels say is the primary."""

    def __init__(self, sentinels: Sentinels) -> None:
        super().__init__(sentinels.primary())
        self._sentinels = sentinels

    @property
    def url(self) -> str:
        return self._sentinels.url

    def fail_over(self) -> None:
        """As planned; the replica has everything by then, which sentinels do not see to."""
        self.redis.set("last", "write")
        self.redis.delete("last")
        assert self.redis.wait(1, 10_000) == 1
        self._server = self._sentinels.failover()
        self._sentinels.wait_until_whole()


class ClusterSite(SetSite):
    """The node of a cluster that has the slot of all queues."""

    ns = "{rsmq}"
    slot = key_slot(b"rsmq")

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster.owner(self.slot))
        self._cluster = cluster

    @property
    def url(self) -> str:
        return self._cluster.url

    def fail_over(self) -> None:
        self._server = self._cluster.failover(self._server)
        self._cluster.wait_until_whole()

    def move(self) -> None:
        """Move all queues to another node."""
        target = next(node for node in self._cluster.primaries() if node is not self._server)
        self._cluster.move(self.slot, target)
        self._server = target
