"""What tests use to start servers, to look at them, to disturb them, and to wait."""

import asyncio
import os
import socket
import subprocess
from pathlib import Path
from typing import Any

import anyio
import redis
from aiorsmq.embedded import _find_binary
from redis.backoff import ConstantBackoff
from redis.retry import Retry


class Server:
    """A server process on a unix socket, and a plain redis-py client to look at it and to play another program."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.socket = f"{folder}/server.sock"
        self.url = f"unix://{self.socket}"
        self._command = [
            os.environ.get("AIORSMQ_TEST_SERVER") or str(_find_binary()),
            *("--port", "0", "--unixsocket", self.socket, "--dir", str(folder), "--save", ""),
            *("--logfile", f"{folder}/server.log", "--enable-debug-command", "yes"),
            *options,
        ]
        if "redis-server" in self._command[0]:  # 6.2 does not know that option, and needs none
            at = self._command.index("--enable-debug-command")
            del self._command[at : at + 2]
        self.process: subprocess.Popen[bytes] | None = None
        self._patient = Retry(ConstantBackoff(0.01), 1000)
        self.redis = redis.Redis(
            unix_socket_path=self.socket, retry=self._patient, retry_on_error=[redis.BusyLoadingError], protocol=2
        )

    def start(self) -> None:
        self.process = subprocess.Popen(self._command)
        self._patient.call_with_retry(self.redis.ping, lambda _: None)  # some versions retry no missing socket

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        if self.process is not None:
            self.redis.close()
            self.kill()

    def script_calls(self) -> int:
        """How many scripts have been run since `reset_stats`."""
        stats = self.redis.info("commandstats")
        return sum(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("evalsha", "eval"))

    def commands(self) -> dict[str, int]:
        """How often each command was called since `reset_stats`, by scripts too."""
        stats = self.redis.info("commandstats")
        return {name.removeprefix("cmdstat_"): stat["calls"] for name, stat in stats.items()}

    def reset_stats(self) -> None:
        self.redis.config_resetstat()

    def clients(self) -> int:
        """How many connections there are besides this class's own."""
        return len(self.redis.client_list()) - 1


async def wait_until(condition, *, timeout=10.0):
    """Wait until a condition, plain or async, is true, and return what it returned; fail after `timeout` seconds."""
    with anyio.fail_after(timeout):
        while True:
            result = condition()
            if hasattr(result, "__await__"):
                result = await result
            if result:
                return result
            await anyio.sleep(0.002)


def check_keys(connection: redis.Redis) -> None:
    """Nothing but queues: no key that RSMQ does not know, no field without a message, no message without a body."""
    for key in connection.keys("*"):
        name = key.decode(errors="replace")
        if name.endswith(":Q") and connection.type(key) == b"hash":
            fields = {field.split(b":")[0] for field in connection.hkeys(key)}
            fields -= {b"vt", b"delay", b"maxsize", b"created", b"modified", b"totalsent", b"totalrecv"}
            messages = set(connection.zrange(key[:-2], 0, -1))
            assert fields == messages, f"{name}: fields {fields - messages}, phantoms {messages - fields}"
        else:
            assert connection.type(key) in (b"set", b"zset"), name


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


class Proxy:
    """Stands between a client and a server, and does to the replies what it is told."""

    def __init__(self, server_socket: str, listen_at: str | int, **options: Any) -> None:
        self._server_socket = server_socket
        self._listen_at = listen_at
        self._options = options
        self.url = f"unix://{listen_at}"
        self.cut_after_execution = 0
        """How many replies are to be cut: the server has executed, the connection is closed instead of answering."""
        self.silent = False
        """Whether connections on which the server says something fall silent, and stay open."""
        self._copies: set[asyncio.Task[None]] = set()
        self._serving = 0

    async def __aenter__(self):
        if isinstance(self._listen_at, int):
            self._listening = await asyncio.start_server(self._serve, "localhost", self._listen_at, **self._options)
        else:
            self._listening = await asyncio.start_unix_server(self._serve, self._listen_at)
        return self

    async def __aexit__(self, *_):
        self._listening.close()
        for copy in self._copies:
            copy.cancel()
        await wait_until(lambda: not self._serving)

    async def _serve(self, reader, writer):
        self._serving += 1
        server_reader, server_writer = await asyncio.open_unix_connection(self._server_socket)
        copies = [
            asyncio.ensure_future(self._copy(reader, server_writer, is_reply=False)),
            asyncio.ensure_future(self._copy(server_reader, writer, is_reply=True)),
        ]
        self._copies.update(copies)
        await asyncio.wait(copies, return_when=asyncio.FIRST_COMPLETED)
        for copy in copies:
            copy.cancel()
        for end in (writer, server_writer):
            end.transport.abort()
        self._serving -= 1

    async def _copy(self, reader, writer, *, is_reply):
        silent = False
        while data := await reader.read(65536):
            silent = silent or (is_reply and self.silent)  # for good: nothing is missing in the middle of a stream
            if silent:
                continue
            if is_reply and self.cut_after_execution and b"OK" not in data[:4]:  # not the handshake's
                self.cut_after_execution -= 1
                return
            writer.write(data)
            await writer.drain()
