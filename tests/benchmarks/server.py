"""The server that everything is measured on, and what it says about its work."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from aiorsmq import EmbeddedServer
from anyio.from_thread import start_blocking_portal
from redis import Redis


class Usage(NamedTuple):
    """What the server has done since it was started."""

    cpu_us: float
    script_calls: int
    commands: int
    """All that were executed, those that scripts ran included; not INFO, with which this is asked
    for.
    """

    def __sub__(self, before: "Usage") -> "Usage":
        return Usage(*(b - a for a, b in zip(before, self, strict=True)))


class Server:
    """Valkey without persistence, on a unix socket and on loopback TCP."""

    def __init__(self, path: str) -> None:
        self.socket = path
        self.redis = Redis(unix_socket_path=path, protocol=2)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self.redis.config_set(
            "lazyfree-lazy-user-flush", "no"
        )  # else it clears up during the next measurement
        self.redis.config_set("bind", "127.0.0.1")
        self.redis.config_set("port", self.port)

    @property
    def version(self) -> str:
        return f"Valkey {self.redis.info('server')['valkey_version']}"

    def usage(self) -> Usage:
        cpu = self.redis.info("cpu")
        calls = {name: stat["calls"] for name, stat in self.redis.info("commandstats").items()}
        calls.pop("cmdstat_info", None)
        script_calls = sum(calls.get(f"cmdstat_{name}", 0) for name in ("eval", "evalsha"))
        return Usage(
            (cpu["used_cpu_user"] + cpu["used_cpu_sys"]) * 1e6, script_calls, sum(calls.values())
        )


@contextmanager
def running_server() -> Iterator[Server]:
    # its loop runs in a thread: who measures is free to run one of its own
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(EmbeddedServer()) as embedded,
    ):
        server = Server(embedded.socket)
        with server.redis:
            yield server
