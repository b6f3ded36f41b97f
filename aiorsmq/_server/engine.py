"""What a client runs on: its tasks, its listener, and the servers that take its calls."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import anyio
import anyio.lowlevel

from .._protocol import Seconds
from .age import check_age
from .cluster import ClusterRoutes
from .cluster_target import ClusterTarget
from .connector import Connector
from .failing import Failing
from .home import Home
from .listener import Listener
from .reach import Reach
from .route import Route, Routes
from .server import Server
from .server_settings import warn_about_settings
from .target import Target
from .tasks import Tasks
from .turn import Turn

DEADLINE: Final = 30.0
"""Seconds that a call may take, unless the client says otherwise."""
CLOSE_TIMEOUT: Final = 5.0
"""Seconds that `aclose()` gives to calls in flight."""


def _ignore(_: Any = None) -> None: ...


class Engine:
    """What all `Node`s of a client share.

    Args:
        target: where the server is; closed by `aclose()`.
        deadline: seconds that a call may take.
        connect_timeout: seconds for which calls wait for a server that was never reached.
        realtime: whether to announce what is sent, and to listen.
        max_connection_age: seconds after which a connection is replaced by another; None: never.
            Raises InvalidParameterValue.
        on_lost: called when a server or the network has ended a connection.
    """

    def __init__(
        self,
        target: Target,
        *,
        deadline: float = DEADLINE,
        connect_timeout: float = 0.0,
        realtime: bool = True,
        max_connection_age: Seconds | None = None,
        on_lost: Callable[[], None] = _ignore,
    ) -> None:
        self.target: Target = target
        self.home: Home = Home()
        self.turn: Turn = Turn(self.home)
        self.tasks: Tasks = Tasks(self.home)
        self.failing: Failing = Failing(self.home)
        self.deadline: float = deadline
        self.realtime: bool = realtime
        self.reach: Reach = Reach(self.home, connect_timeout)
        self.upkeep: Tasks = Tasks(self.home)
        open_wire = partial(target.open, self.upkeep, pushes=True)
        self._max_age = check_age("max_connection_age", max_connection_age)
        self.listener: Listener = Listener(open_wire, self.upkeep, self._max_age)
        self._on_lost = on_lost
        self._routes = self._find_routes(target)
        self.quiet: asyncio.Event = asyncio.Event()
        """Set when a server has no call in flight any more."""
        target.on_moved = self._leave
        target.on_renewed = self._renewed

    def route(self, ns: str) -> Route:
        """See `Routes.route`."""
        return self._routes.route(ns)

    def _find_routes(self, target: Target) -> Routes:
        on_reached = warn_about_settings if target.keeps_data else _ignore
        connect = partial(
            Connector,
            tasks=self.upkeep,
            reach=self.reach,
            on_reached=on_reached,
            on_lost=self._on_lost,
            max_age=self._max_age,
        )
        make_server = partial(Server, connect=connect)
        if not isinstance(target, ClusterTarget):
            return Routes(make_server(target))
        return ClusterRoutes(
            target,
            self.upkeep,
            self.reach,
            make_server=make_server,
            on_reached=on_reached,
            on_departure=self.listener.leave,
        )

    def _leave(self) -> None:
        """Drop the connections, as others are to be opened elsewhere."""
        self.listener.leave()
        for server in self._routes.servers():
            self.upkeep.start(server.leave())

    def _renewed(self, credentials: tuple[str, ...]) -> None:
        self.home.call_soon(partial(self._log_in, credentials))

    def _log_in(self, credentials: tuple[str, ...]) -> None:
        """Have the open connections use renewed credentials."""
        for server in self._routes.servers():
            server.log_in(credentials)
        self.listener.renew()  # a connection with subscriptions does not take AUTH

    async def until_idle(self) -> None:
        """Wait until no call is in flight, and no task is left that may make one."""
        while self._in_flight() or self.turn.has_callbacks() or self.tasks.are_running():
            await self._until_quiet()
            await self.tasks.wait()

    async def aclose(self) -> None:
        """Let calls in flight finish, for CLOSE_TIMEOUT, and leave no task or connection behind."""
        await self.listener.aclose()
        until = anyio.current_time() + CLOSE_TIMEOUT
        with anyio.CancelScope(deadline=until):
            await self._until_quiet()
        await self.tasks.finish(until - anyio.current_time())
        await self._routes.aclose()
        await self.target.aclose()
        await self.upkeep.finish(CLOSE_TIMEOUT)
        await self.failing.wait()

    async def _until_quiet(self) -> None:
        """Wait until no call is in flight, nor about to be."""
        while self._in_flight() or self.turn.has_callbacks():
            if self._in_flight():
                self.quiet.clear()
                await self.quiet.wait()
            else:
                await anyio.lowlevel.checkpoint()

    def _in_flight(self) -> int:
        return sum(server.in_flight for server in self._routes.servers())
