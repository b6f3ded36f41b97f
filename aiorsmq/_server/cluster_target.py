"""Where a cluster is: the start-up nodes, and how a connection to any node is opened."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from typing import Any

from redis.asyncio import ConnectionPool, Redis, RedisCluster

from .options import check_client
from .slots import Address, Remap
from .target import Target
from .tasks import Tasks
from .wire import Wire


def _keep_address(host: str, port: int) -> Address:
    return host, port


class ClusterTarget(Target):
    """The nodes of a cluster. `open` connects to any of them, and to the next one each time: a
    message that is published anywhere is heard everywhere.

    Args:
        client: has the settings of all connections; never connects itself.
        startup: the nodes to ask first.
        remap: see `Remap`.
        is_ours: whether to close the client.
        pool: see `Target`.
    """

    def __init__(
        self,
        client: Redis,
        startup: Sequence[Address],
        remap: Remap = _keep_address,
        *,
        is_ours: bool,
        pool: Any = None,
    ) -> None:
        super().__init__(client, pool=pool)
        self.startup: Sequence[Address] = startup
        self.nodes: Sequence[Address] = startup
        """Those in the cluster, as far as is known."""
        self.listening_at: Address | None = None
        """The node that `open` connected to last."""
        self.remap: Remap = remap
        self._is_ours = is_ours
        self._turns = itertools.count(random.randrange(len(startup)))

    @property
    def address(self) -> str:
        return ",".join(f"{host}:{port}" for host, port in self.startup)

    def node(self, address: Address) -> Target:
        """One of the nodes."""
        host, port = address
        settings: dict[str, Any] = self._pool.connection_kwargs | {"host": host, "port": port}
        pool = ConnectionPool(connection_class=self._pool.connection_class, **settings)
        return Target(Redis(connection_pool=pool), self._handshakes)

    async def open(self, tasks: Tasks, *, pushes: bool = False) -> Wire:
        self.listening_at = self.nodes[next(self._turns) % len(self.nodes)]
        return await self.node(self.listening_at).open(tasks, pushes=pushes)

    async def aclose(self) -> None:
        if self._is_ours:
            await self.client.aclose()


def given_cluster(cluster: RedisCluster) -> ClusterTarget:
    """The cluster of a client that the user gave us, which stays the user's to close; no I/O."""
    manager = cluster.nodes_manager
    nodes = list(manager.startup_nodes.values())
    connection_class = nodes[0].connection_class
    pool = ConnectionPool(connection_class=connection_class, **nodes[0].connection_kwargs)
    client = check_client(Redis(connection_pool=pool))
    startup = [(node.host, int(node.port)) for node in nodes]
    remap = manager.remap_host_port
    return ClusterTarget(client, startup, remap, is_ours=False, pool=_Nodes(manager))


class _Nodes:
    """The nodes of a RedisCluster, which redis-py tells of renewed credentials one by one."""

    def __init__(self, manager: Any) -> None:
        self._manager = manager

    async def re_auth_callback(self, token: Any) -> None:
        for node in [*self._manager.nodes_cache.values()]:
            await node.re_auth_callback(token)
