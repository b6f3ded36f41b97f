"""Which server takes a call."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from .call import Call
from .lane import Lane
from .server import Server
from .wire import Argument


class Hop(NamedTuple):
    """Where a server has sent a call on to."""

    server: Server
    is_asking: bool
    """Whether ASKING must come ahead of the call."""


class Route:
    """The way to the server of some queues. Here there is only one server."""

    def __init__(self, server: Server) -> None:
        self.server: Server = server
        """Who takes their calls, as far as is known."""

    async def open(self, call: Call) -> tuple[Server, Lane]:
        """The server that takes a call, and the lane to it, opened if need be. Raises redis-py's
        errors; then nothing has been sent."""
        return self.server, await self.server.connector(call).lane()

    def redirect(self, error: Exception, server: Server) -> Hop | None:
        """Where a call goes on, if that is what a server's error says."""
        del error, server
        return None

    def suspect(self) -> None:
        """Look, in the background, whether another server takes the calls: one has failed."""

    async def ask_others(self, *command: Argument) -> list[Any]:
        """What other servers reply to a plain command that changes nothing: those that announce
        what this one announces, as far as they reply within a second."""
        del command
        return []


class Routes:
    """The servers of a target, and the ways to them. Here there is only one."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._route = Route(server)

    def route(self, ns: str) -> Route:
        """The way to the server of a namespace's queues; the same one for the same server."""
        del ns
        return self._route

    def servers(self) -> Iterable[Server]:
        return (self._server,)

    async def aclose(self) -> None:
        for server in self.servers():
            await server.aclose()
