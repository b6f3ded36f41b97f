"""The queues of one client, in all namespaces."""

from __future__ import annotations

from typing import Final
from weakref import WeakValueDictionary

from .._protocol import Keys, Seconds, check_seconds_at_least
from .._server.engine import Engine
from .._server.node import Node
from .._server.route import Route
from ..models import MaxWaiting, check_max_waiting
from .core import QueueCore

MIN_POLL_INTERVAL: Final = 0.01


class QueueCores:
    """The core of each queue for which there is a handle, or somebody who waits."""

    def __init__(self, *, poll_interval: Seconds, max_waiting: MaxWaiting) -> None:
        self._poll_interval = check_seconds_at_least(
            MIN_POLL_INTERVAL, "poll_interval", poll_interval
        )
        self._max_waiting = check_max_waiting(max_waiting)
        self._cores: WeakValueDictionary[tuple[str, str], QueueCore] = WeakValueDictionary()
        self._nodes: WeakValueDictionary[Route, Node] = WeakValueDictionary()

    def core(self, engine: Engine, ns: str, name: str) -> QueueCore:
        core = self._cores.get((ns, name))
        if core is None:
            core = QueueCore(
                self.node(engine, ns),
                Keys(ns, name),
                poll_interval=self._poll_interval,
                max_waiting=self._max_waiting,
            )
            self._cores[ns, name] = core
        return core

    def node(self, engine: Engine, ns: str) -> Node:
        """Where the queues of a namespace are; the same one for all of a server."""
        route = engine.route(ns)
        if (node := self._nodes.get(route)) is None:
            node = self._nodes[route] = Node(engine, route)
        return node

    def cores(self) -> list[QueueCore]:
        return list(self._cores.values())

    def look_again(self) -> None:
        """Claim for those who wait: without a connection nobody knows whether the server is
        there."""
        for core in self.cores():
            core.look_again()

    def end_streams(self) -> None:
        for core in self.cores():
            core.end_streams()

    def close(self) -> None:
        for core in self.cores():
            core.close()
