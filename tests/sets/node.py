"""The servers that a set is made of, and what ends them."""

import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from support import PATIENCE, Server

PROMPT = 2.0
"""Seconds in which a server that is well replies to the set's own commands."""

_GUARD = """
import os, shutil, signal, sys
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
running = set()
for line in sys.stdin:
    what, pid = line.split()
    running.add(pid) if what == "started" else running.discard(pid)
for pid in running:
    try:
        os.kill(int(pid), signal.SIGKILL)
    except ProcessLookupError:
        pass
if running:
    shutil.rmtree(sys.argv[1], ignore_errors=True)
"""


class Guard:
    """A process that kills the servers which still run when this program ends, however it ends,
    and removes their folder then.
    """

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _GUARD, str(folder)],
            stdin=subprocess.PIPE,
            text=True,
            bufsize=1,
            start_new_session=True,
        )

    def say(self, what: str, pid: int) -> None:
        self._process.stdin.write(f"{what} {pid}\n")

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()


class Tls(NamedTuple):
    """The files of a set whose servers speak TLS and nothing else."""

    certificate: str
    """For 127.0.0.1."""
    key: str
    ca: str

    def settings(self, port: int) -> dict[str, str]:
        """Of a server."""
        return {
            "port": "0",
            "tls-port": str(port),
            "tls-cert-file": self.certificate,
            "tls-key-file": self.key,
            "tls-ca-cert-file": self.ca,
            "tls-auth-clients": "no",
            "tls-replication": "yes",
            "tls-cluster": "yes",
        }


class Node(Server):
    """A server of a set, on a TCP port. What its own client asks it replies within `PROMPT`
    seconds, or the client raises.
    """

    def __init__(
        self,
        folder: Path,
        port: int,
        guard: Guard,
        *options: str,
        binary: str | None,
        tls: Tls | None = None,
    ) -> None:
        folder.mkdir()
        self.settings = {"port": str(port)} if tls is None else tls.settings(port)
        self.settings |= {"bind": "127.0.0.1", "protected-mode": "no"}
        listening = [word for name, value in self.settings.items() for word in (f"--{name}", value)]
        super().__init__(folder, *listening, *options, binary=binary)
        self.port = port
        self.url = f"{'redis' if tls is None else 'rediss'}://127.0.0.1:{port}"
        self.redis = redis.Redis(
            host="127.0.0.1",
            port=port,
            ssl=tls is not None,
            ssl_ca_certs=tls and tls.ca,
            protocol=2,
            socket_timeout=PROMPT,
            socket_connect_timeout=PROMPT,
            retry=Retry(NoBackoff(), 0),
        )
        self.is_frozen = False
        self._guard = guard

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.port}>"

    @property
    def is_well(self) -> bool:
        """Whether it runs and has not been frozen."""
        return self.process is not None and self.process.poll() is None and not self.is_frozen

    def launch(self) -> None:
        """Start it, and do not wait until it is up; see `wait_until_up`."""
        with Path(f"{self.folder}/output").open("a") as output:
            self.process = subprocess.Popen(
                self._command, stdout=output, stderr=output, start_new_session=True
            )
        self._guard.say("started", self.process.pid)

    def wait_until_up(self) -> None:
        def is_up() -> bool:
            if self.process.poll() is not None:
                raise RuntimeError(f"{self} has ended:\n{self.log()}")
            return self.redis.ping()

        until(f"{self} is up", is_up)

    def start(self) -> None:
        self.launch()
        self.wait_until_up()

    def freeze(self) -> None:
        """Have it hang: its connections stay, and it does nothing."""
        self.is_frozen = True
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)
        self.is_frozen = False

    def kill(self) -> None:
        super().kill()
        self.is_frozen = False
        self._guard.say("ended", self.process.pid)

    def ask(self, *command: Any) -> Any:
        """What it replies to a command, as it comes from the server."""
        name, *arguments = command
        return self.redis.execute_command(name, *arguments)

    def log(self, lines: int = 15) -> str:
        """The end of what it has logged."""
        logged = [
            line
            for name in ("output", "server.log")
            if (path := Path(f"{self.folder}/{name}")).exists()
            for line in path.read_text(errors="replace").splitlines()
        ]
        return "\n".join(logged[-lines:])


def until(what: str, condition, *, seconds: float = PATIENCE) -> Any:
    """Wait until a condition is true, in which servers may be away, and return what it returned."""
    give_up, trouble = time.monotonic() + seconds, None
    while time.monotonic() < give_up:
        try:
            if result := condition():
                return result
            trouble = None
        except redis.RedisError as error:
            trouble = error
        time.sleep(0.02)
    raise TimeoutError(f"after {seconds} s it is still not so that {what}") from trouble


def fields(reply: Any) -> dict[str, str]:
    """A reply of names and values, which redis-py makes a dict of or not."""
    if not isinstance(reply, dict):
        reply = dict(zip(reply[::2], reply[1::2], strict=True))
    return {_text(name): _text(value) for name, value in reply.items()}


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def is_replica_of(node: Node, primary: Node) -> bool:
    """Whether a node replicates another, and has all that the other had when it came."""
    with suppress(redis.RedisError):
        state = node.redis.info("replication")
        return state.get("master_port") == primary.port and state["master_link_status"] == "up"
    return False
