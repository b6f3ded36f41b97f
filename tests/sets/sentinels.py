"""A primary with replicas, watched by three sentinels."""

from sets.group import Group, free_ports, launch_all
from sets.node import Node, Tls, fields, is_replica_of, until

SERVICE = "main"
"""The name by which the sentinels know the primary."""
FAILOVER_TIMEOUT = 10.0
"""Seconds after which the sentinels try a failover again."""


class SentinelNode(Node):
    """A sentinel: it keeps what it knows in the file that configures it."""

    def __init__(self, *args, **options) -> None:
        super().__init__(*args, **options)
        self._configuration = self.folder / "sentinel.conf"
        self._command = [self._command[0], str(self._configuration), "--sentinel"]

    def watch(self, primary: Node, down_after: float) -> None:
        """Say what to watch, before it is started for the first time."""
        options = self.settings | {
            "dir": self.folder,
            "logfile": f"{self.folder}/server.log",
            "sentinel monitor": f"{SERVICE} 127.0.0.1 {primary.port} 2",
            "sentinel down-after-milliseconds": f"{SERVICE} {down_after * 1000:.0f}",
            "sentinel failover-timeout": f"{SERVICE} {FAILOVER_TIMEOUT * 1000:.0f}",
        }
        lines = [f"{name} {value}\n" for name, value in options.items()]
        self._configuration.write_text("".join(lines))

    def state(self) -> dict[str, str]:
        """What it knows of the primary."""
        return fields(self.ask("SENTINEL", "MASTER", SERVICE))


class Sentinels(Group):
    """`with Sentinels() as sentinels`: a primary, its replicas and three sentinels.

    Args:
        replicas: how many.
        down_after: seconds without a reply after which a sentinel takes the primary for dead.
        binary: the server; by default the one that all tests run on.
        tls: see `Tls`; the binary has to know TLS then.
        options: of the primary and the replicas.
    """

    def __init__(
        self,
        *options: str,
        replicas: int = 1,
        down_after: float = 2.0,
        binary: str | None = None,
        tls: Tls | None = None,
    ) -> None:
        super().__init__(binary, tls)
        self.sentinels: list[SentinelNode] = []
        self._options = options
        self._replicas = replicas
        self._down_after = down_after

    @property
    def servers(self) -> list[Node]:
        return [*self.sentinels, *self.nodes]

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Those of the sentinels."""
        return [("127.0.0.1", sentinel.port) for sentinel in self.sentinels]

    @property
    def url(self) -> str:
        hosts = ",".join(f"{host}:{port}" for host, port in self.addresses)
        return f"{self.scheme}+sentinel://{hosts}/{SERVICE}"

    def assemble(self) -> None:
        ports = free_ports(1 + self._replicas + 3)
        common = ("--appendonly", "yes", "--repl-diskless-sync-delay", "0", *self._options)
        primary, *_ = ports
        for port in ports[:-3]:
            role = () if port == primary else ("--replicaof", "127.0.0.1", str(primary))
            self.nodes.append(self._make(Node, port, *common, *role))
        for port in ports[-3:]:
            self.sentinels.append(self._make(SentinelNode, port))
            self.sentinels[-1].watch(self.nodes[0], self._down_after)
        launch_all(self.nodes)
        until("the replicas have the primary's data", self._is_replicated)
        launch_all(self.sentinels)
        self.wait_until_whole()

    def primary(self) -> Node:
        """The primary, as the sentinel says that knows of the latest failover."""
        states = [sentinel.state() for sentinel in self.sentinels if sentinel.is_well]
        latest = max(states, key=lambda state: int(state["config-epoch"]))
        return self.node(int(latest["port"]))

    def replicas(self) -> list[Node]:
        """The nodes that replicate the primary and have its data."""
        primary = self.primary()
        return [node for node in self.well if is_replica_of(node, primary)]

    def failover(self) -> Node:
        """Have a planned failover made, and return the new primary once the sentinels know it.

        It is asked for again if the sentinels give it up: one of them can take a replica that is
        being promoted for one that has to be told whom to replicate.
        """
        before = self.primary()
        leader = next(sentinel for sentinel in self.sentinels if sentinel.is_well)

        def is_done() -> bool:
            state = leader.state()
            if state["port"] == str(before.port) and "failover" not in state["flags"]:
                leader.ask("SENTINEL", "FAILOVER", SERVICE)
            return state["port"] != str(before.port)

        until(f"{leader} has replaced {before}", is_done, seconds=60)
        return self.wait_for_failover(before)

    def wait_for_failover(self, before: Node, *, seconds: float = 60) -> Node:
        """Wait until all sentinels that are well name another primary, and return that."""

        def named() -> Node | None:
            primary = self.primary()
            ports = {sentinel.state()["port"] for sentinel in self.sentinels if sentinel.is_well}
            return primary if primary is not before and ports == {str(primary.port)} else None

        return until(f"{before} is the primary no more", named, seconds=seconds)

    def wait_until_whole(self, *, seconds: float = 60) -> None:
        """Wait until every server runs and does its part: before the next fault."""

        def is_whole() -> bool:
            states = [sentinel.state() for sentinel in self.sentinels]
            met = all(
                state["num-other-sentinels"] == "2"
                and state["num-slaves"] == str(self._replicas)
                and state["flags"] == "master"
                and state["port"] == states[0]["port"]
                for state in states
            )
            return met and len(self.replicas()) == self._replicas

        until("the set is whole", is_whole, seconds=seconds)

    def _is_replicated(self) -> bool:
        return all(is_replica_of(node, self.nodes[0]) for node in self.nodes[1:])
