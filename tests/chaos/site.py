"""Where programs run: one server."""

from types import MappingProxyType

from support import Server


class Site:
    """One server. `redis` reaches it without the library, also as another program."""

    ns = "rsmq"
    options = MappingProxyType({})
    """For the client."""

    def __init__(self, server: Server) -> None:
        self._server = server

    @property
    def server(self) -> Server:
        """The one that has the queues."""
        return self._server

    @property
    def url(self) -> str:
        return self.server.url

    @property
    def redis(self):
        return self.server.redis

    def key(self, name: str) -> str:
        return f"{self.ns}:{name}"

    def clear(self) -> None:
        self.redis.flushall()

    def forget_scripts(self) -> None:
        self.redis.script_flush()

    def kill_clients(self) -> None:
        """Until the end of the stream has arrived: a client does the same then, however fast it
        is.
        """
        for kind in ("normal", "pubsub"):
            self.redis.client_kill_filter(_type=kind, skipme=True)
        while self._clients():
            pass

    def _clients(self) -> int:
        return self.server.clients()
