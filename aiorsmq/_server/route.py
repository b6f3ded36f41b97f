"""Which server takes a call."""

from collections.abc import Iterable

from .server import Server


class Route:
    """The way to the server of some queues. Here there is only one server."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def server(self) -> Server:
        """Who takes their calls, as far as is known."""
        return self._server


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
