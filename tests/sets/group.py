"""What sets of servers have in common."""

import random
import shutil
import socket
import sys
import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path

from sets.node import Guard, Node, Tls

PORTS = range(10_000, 30_000)
"""Below those that the system gives to clients: a server that was killed finds its port free."""


class Group:
    """Servers on free ports, which run while the `with` block does. On failure their logs stay.

    Its methods block; in a test with an event loop, call those that wait in a thread.
    """

    def __init__(self, binary: str | None, tls: Tls | None) -> None:
        self._binary = binary
        self._tls = tls
        self.nodes: list[Node] = []
        """The servers that have data."""
        self.keeps_logs = False
        """Whether the servers' logs are to be kept, as if the block had failed."""
        self.folder = Path()
        self._guard: Guard

    def __enter__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="aiorsmq-set-", dir="/tmp"))
        self._guard = Guard(self.folder)
        try:
            self.assemble()
        except BaseException:
            self.keeps_logs = True
            self._end()
            raise
        return self

    def __exit__(self, failed, *_) -> None:
        self.keeps_logs = self.keeps_logs or failed is not None
        self._end()

    def assemble(self) -> None:
        """Start the servers, and wait until they are a set."""
        raise NotImplementedError

    @property
    def servers(self) -> list[Node]:
        """All servers."""
        return self.nodes

    @property
    def well(self) -> list[Node]:
        """The nodes that run and are not frozen."""
        return [node for node in self.nodes if node.is_well]

    @property
    def scheme(self) -> str:
        """Of URLs of its servers."""
        return "redis" if self._tls is None else "rediss"

    def node(self, port: int) -> Node:
        return next(node for node in self.servers if node.port == port)

    def _make(self, kind: type[Node], port: int, *args: str, **options):
        """A server that is not started yet."""
        folder = self.folder / str(port)
        return kind(folder, port, self._guard, *args, binary=self._binary, tls=self._tls, **options)

    def _end(self) -> None:
        for server in self.servers:
            server.stop()
        self._guard.close()
        if self.keeps_logs:
            sys.stderr.write(f"the logs of the servers are in {self.folder}/*/server.log\n")
            for path in self.folder.glob("*/appendonlydir"):
                shutil.rmtree(path)  # what is large
        else:
            shutil.rmtree(self.folder)


def launch_all(nodes: list[Node]) -> None:
    """Start them at once, and wait until all are up."""
    for node in nodes:
        node.launch()
    for node in nodes:
        node.wait_until_up()


def free_ports(count: int) -> list[int]:
    """Ports of this machine on which nobody listens, chosen by chance: other sets look for some,
    too.
    """
    with ExitStack() as stack:
        ports: list[int] = []
        for port in random.sample(PORTS, len(PORTS)):
            with suppress(OSError):
                stack.enter_context(socket.create_server(("127.0.0.1", port)))
                ports.append(port)
            if len(ports) == count:
                return ports
    raise RuntimeError(f"there are no {count} free ports in {PORTS}")
