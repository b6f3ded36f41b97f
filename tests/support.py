"""What tests use to start servers, to look at them, to disturb them, and to wait."""

import asyncio
import importlib
import logging
import os
import pydoc
import re
import socket
import subprocess
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import redis
from aiorsmq import AsyncRSMQ
from aiorsmq._server.connector import Connector
from aiorsmq.embedded import _find_binary
from redis.backoff import ConstantBackoff
from redis.retry import Retry

PATIENCE = 25.0
"""Seconds after which a test that waits gives up: plenty on a slow machine, less than the library's
own deadline.
"""

CHROMIUM = "/usr/bin/chromium"
CHROMIUM_OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


class Server:
    """A server process on a unix socket, and a plain redis-py client to look at it and to play
    another program.
    """

    def __init__(self, folder: Path, *options: str, binary: str | None = None) -> None:
        self.folder = folder
        self.socket = f"{folder}/server.sock"
        self.url = f"unix://{self.socket}"
        self._command = [
            binary or os.environ.get("AIORSMQ_TEST_SERVER") or str(_find_binary()),
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
            unix_socket_path=self.socket,
            retry=self._patient,
            retry_on_error=[redis.BusyLoadingError],
            protocol=2,
        )

    def start(self) -> None:
        self.process = subprocess.Popen(self._command)
        self._patient.call_with_retry(
            self.redis.ping, lambda _: None
        )  # some versions retry no missing socket

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
        return sum(
            stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("evalsha", "eval")
        )

    def commands(self) -> dict[str, int]:
        """How often each command was called since `reset_stats`, by scripts too."""
        stats = self.redis.info("commandstats")
        return {name.removeprefix("cmdstat_"): stat["calls"] for name, stat in stats.items()}

    def reset_stats(self) -> None:
        self.redis.config_resetstat()

    def clients(self) -> int:
        """How many connections there are, without this class's own."""
        return len(self.redis.client_list()) - 1

    def empty(self) -> None:
        """Have nothing stored, nothing counted, and no connection of a program that an earlier test
        has left behind.
        """
        self.redis.connection_pool.disconnect()  # or one of its own would be killed
        for kind in ("normal", "pubsub"):
            self.redis.client_kill_filter(_type=kind, skipme=True)
        self.redis.flushall()
        self.reset_stats()


class Stubborn:
    """A handler that does not end when it is cancelled, only when it may go on."""

    def __init__(self):
        self.begun = asyncio.Event()
        self.go_on = asyncio.Event()

    async def __call__(self, message):
        self.begun.set()
        while not self.go_on.is_set():
            with suppress(asyncio.CancelledError):
                await self.go_on.wait()


class Handler:
    """Says when it has begun, and waits until it is told to go on."""

    def __init__(self):
        self.begun = asyncio.Event()
        self.go_on = asyncio.Event()
        self.cancelled = 0

    async def __call__(self, message):
        self.begun.set()
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


@asynccontextmanager
async def stalls():
    """`async with stalls() as lost`: `lost()` is by how many seconds bare sleeps have overrun so
    far while the block runs.

    That is what a machine that stalls, or is busy, takes from everybody. A bound in seconds that
    has to be is widened by it: `assert took < bound + lost()`.
    """
    loop = asyncio.get_running_loop()
    overrun, due = 0.0, loop.time()

    async def watch():
        nonlocal overrun, due
        while True:
            due = loop.time() + 0.01
            await asyncio.sleep(0.01)
            overrun += loop.time() - due

    watching = asyncio.create_task(watch())
    try:
        yield lambda: overrun + max(loop.time() - due, 0)
    finally:
        watching.cancel()


async def insist(process, number, answer):
    """Send a signal until there is an answer, and return that: a signal that comes soon after
    another counts as the same one.
    """
    answering = asyncio.ensure_future(answer)
    while not answering.done():
        process.send_signal(number)
        await asyncio.wait([answering], timeout=2)
    return answering.result()


async def wait_until(condition, *, timeout=PATIENCE):
    """Wait until a condition, plain or async, is true, and return what it returned; fail after
    `timeout` seconds.
    """
    with anyio.fail_after(timeout):
        while True:
            result = condition()
            if hasattr(result, "__await__"):
                result = await result
            if result:
                return result
            await anyio.sleep(0.002)


async def next_millisecond() -> None:
    """Let the server's clock, which is this machine's, tick: a message is placed 1 ms later if it
    is moved in the millisecond of its first receipt, and what was sent just now is of an earlier
    one from here on.
    """
    await anyio.sleep(0.002)


def at_once(receive_count: int) -> float:
    """A worker's backoff that does not make a test wait."""
    return 0.0


def fields_in(record: logging.LogRecord) -> dict[str, object]:
    """What the library has added to a record in the log, by `extra=`."""
    names = ("queue", "id", "attempt", "reason", "seconds")
    return {name: vars(record)[name] for name in names if name in vars(record)}


def now_ms(server: Server) -> int:
    """The server's time in milliseconds, as scores are."""
    seconds, microseconds = server.redis.time()
    return seconds * 1000 + microseconds // 1000


def keyspace(server: Server) -> dict[bytes, tuple[bytes, object]]:
    """All keys with their types and contents."""
    read = {
        b"hash": server.redis.hgetall,
        b"set": server.redis.smembers,
        b"string": server.redis.get,
        b"zset": lambda key: server.redis.zrange(key, 0, -1, withscores=True),
    }
    types = {key: server.redis.type(key) for key in server.redis.keys("*")}
    return {key: (type, read[type](key)) for key, type in types.items()}


def fields_of(server: Server, qname: str = "jobs") -> dict[bytes, bytes]:
    """The hash of a queue."""
    return server.redis.hgetall(f"rsmq:{qname}:Q")


def ids_in(server: Server, qname: str = "jobs") -> list[str]:
    """The ids of a queue's messages, hidden ones too, the next to be received first."""
    return [id.decode() for id in server.redis.zrange(f"rsmq:{qname}", 0, -1)]


def connector_of(rsmq: AsyncRSMQ) -> Connector:
    """What opens the lane of a client's calls."""
    return rsmq._node._route.server.calls


async def wait_for_listener(server: Server, *qnames: str) -> None:
    """Wait until somebody is subscribed to the announcements of each queue ("jobs" by default)."""
    channels = [f"rsmq:rt:{qname}" for qname in qnames or ("jobs",)]
    await wait_until(lambda: all(count for _, count in server.redis.pubsub_numsub(*channels)))


async def wait_for_silence(server: Server) -> None:
    """Wait until the server gets no more script calls."""
    before = -1
    while before != (before := server.script_calls()):
        await asyncio.sleep(0.05)


def never_polling(server: Server, **options: Any) -> AsyncRSMQ:
    """A client that practically never polls: what wakes its consumers is something else."""
    return AsyncRSMQ.from_url(server.url, poll_interval=3600, **options)


async def restart(server: Server, seconds_away: float) -> None:
    """Kill a server, and start it again after some seconds."""
    server.kill()
    await anyio.sleep(seconds_away)
    await anyio.to_thread.run_sync(server.start)


def make_it_theirs(server: Server, qname: str) -> None:
    """Put another program's key in the place of a queue: what no consumer can wait out; and
    announce it.
    """
    server.redis.delete(f"rsmq:{qname}", f"rsmq:{qname}:Q")
    server.redis.set(f"rsmq:{qname}:Q", "theirs")
    server.redis.publish(f"rsmq:rt:{qname}", "1")


def check_keys(connection: redis.Redis) -> None:
    """Nothing but queues: no key that RSMQ does not know, no field without a message, no message
    without a body.
    """
    for key in connection.keys("*"):
        name = key.decode(errors="replace")
        if name.endswith(":Q") and connection.type(key) == b"hash":
            fields = {field.split(b":")[0] for field in connection.hkeys(key)}
            fields -= {
                b"vt",
                b"delay",
                b"maxsize",
                b"created",
                b"modified",
                b"totalsent",
                b"totalrecv",
            }
            fields -= {b"max_receives", b"dead_letter_queue", b"paused"}
            messages = set(connection.zrange(key[:-2], 0, -1))
            assert fields == messages, (
                f"{name}: fields {fields - messages}, phantoms {messages - fields}"
            )
        elif name.endswith((":reasons", ":deleted")) and connection.type(key) == b"hash":
            assert connection.ttl(key) > 0, f"{name} is kept forever"
        else:
            assert connection.type(key) in (b"set", b"zset"), name


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


INTERNAL = re.compile(
    r"\*<class|<class '\w+\.|"  # a TypedDict, or any other class, in place of its name
    r"\bat 0x|"  # an object without a repr
    r"\baiorsmq(?:\.\w+)*\._\w+\."  # a private module
)


def check_help(name: str) -> None:
    """`help()` says what a module is, and of none of its names what is internal."""
    module = importlib.import_module(name)
    text = pydoc.render_doc(module, renderer=pydoc.plaintext)
    # pydoc lists each file of a package, and nothing can keep it from that
    text = re.sub(r"\nPACKAGE CONTENTS\n.*?\n\n", "\n\n", text, flags=re.DOTALL)
    assert re.search(rf"{name} - \w", text)
    names = [getattr(module, public) for public in getattr(module, "__all__", ())]
    texts = [text, *(pydoc.render_doc(value, renderer=pydoc.plaintext) for value in names)]
    assert [line for text in texts for line in text.splitlines() if INTERNAL.search(line)] == []
