"""Probes of a program that is no web server: whether it is alive, and whether it can work."""

import asyncio
import socket
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from threading import Thread
from typing import Any, Final

from anyio.to_thread import run_sync
from cyclopts import Parameter

from ..errors import InvalidParameterValue
from .errors import NotDone

Answer = tuple[HTTPStatus, str]
Routes = Mapping[str, Callable[[], Answer]]
"""What is answered to a GET, by path. The functions run in threads."""

MAX_PORT: Final = 65535
PROBE_TIMEOUT: Final = 2.0
"""Seconds in which the event loop must answer a probe."""
CLIENT_TIMEOUT: Final = 10.0
"""Seconds after which a client that says nothing is hung up on."""
POLL: Final = 0.1
"""Seconds that the end of the server may take."""


@Parameter(name="*")
@dataclass(frozen=True)
class Health:
    """Where a program answers probes."""

    health_port: int | None = None
    """Answer the probes /livez and /readyz here; 0 is any free port, which the log tells."""
    health_host: str = "127.0.0.1"
    """The address for that. Kubernetes asks from outside: 0.0.0.0, or :: for IPv6."""

    def check(self) -> None:
        if self.health_port is not None and not 0 <= self.health_port <= MAX_PORT:
            reason = f"must be from 0 to {MAX_PORT}"
            raise InvalidParameterValue("health_port", self.health_port, reason)


DEFAULT_HEALTH: Final = Health()


def probes(trouble: Callable[[], str | None]) -> Routes:
    """The routes /livez and /readyz, with the answers that web apps give: see
    `aiorsmq.integrations`.

    Args:
        trouble: why the program cannot do its work, or None; called in the event loop.
    """
    loop = asyncio.get_running_loop()

    async def answer() -> Answer:
        reason = trouble()
        if reason is None:
            return HTTPStatus.OK, "ready"
        return HTTPStatus.SERVICE_UNAVAILABLE, f"worker: {reason}"

    def readyz() -> Answer:
        asking = asyncio.run_coroutine_threadsafe(answer(), loop)
        try:
            return asking.result(PROBE_TIMEOUT)
        except TimeoutError:
            asking.cancel()
            text = f"the event loop has been blocked for {PROBE_TIMEOUT:g} seconds"
            return HTTPStatus.SERVICE_UNAVAILABLE, text

    def livez() -> Answer:
        status, text = readyz()
        is_blocked = status != HTTPStatus.OK and not text.startswith("worker: ")
        return (status, text) if is_blocked else (HTTPStatus.OK, "alive")

    return {"/livez": livez, "/readyz": readyz}


@asynccontextmanager
async def serve(host: str, port: int, routes: Routes) -> AsyncGenerator[str]:
    """Answer GET and HEAD, in threads, within the block; gives the URL.

    Raises NotDone if it cannot listen there.
    """
    try:
        server = _Server((host, port), routes)
    except OSError as error:
        raise NotDone(f"cannot listen on {_join(host, port)}: {error.strerror or error}") from error
    thread = Thread(target=server.serve_forever, args=(POLL,), name="health", daemon=True)
    thread.start()
    try:
        yield f"http://{_join(host, server.server_address[1])}"
    finally:
        await run_sync(server.shutdown)
        server.server_close()


def _join(host: str, port: object) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class _Server(ThreadingTCPServer):
    """Not an HTTPServer: that looks up the name of its host, which can take seconds."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], routes: Routes) -> None:
        self.routes = routes
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing: it is a client that has hung up early."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server  # pyright: ignore[reportIncompatibleVariableOverride]
    timeout = CLIENT_TIMEOUT

    def do_GET(self) -> None:
        route = self.server.routes.get(self.path.partition("?")[0])
        status, text = route() if route else (HTTPStatus.NOT_FOUND, "not found")
        body = text.encode(errors="replace")
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815

    def version_string(self) -> str:
        return "aiorsmq"

    def log_message(self, format: str, *args: Any) -> None:
        """Probes come every few seconds: not logged."""
