"""Producers and consumers in processes of their own, on one queue of one server; and the end of a
run: the drain.
"""

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import anyio
from aiorsmq import AsyncRSMQ
from aiorsmq._server.engine import DEADLINE

from chaos.history import Operation, Verdict, check, read_content, read_history
from support import Server, check_keys, wait_until

QNAME = "jobs"
CLIENT = Path(__file__).parent / "client.py"
DEFAULTS = {
    "qname": QNAME,
    "ns": "rsmq",
    "vt": 0.5,
    "poll_interval": 1.0,
    "deadline": DEADLINE,
    # of a producer: each sends one message after another; of a consumer: each iterates, or handles
    "tasks": 4,
    "pause": 0.008,  # seconds, on average, between two sends, or for which a message is handled
    "count": -1,  # messages that each task of a producer sends; -1 for no end
    "delayed": 0.0,  # share of the messages sent with a delay of up to a second
    "prefetch": 0,
    "extend": 0.0,  # shares of the messages that a consumer extends before it deletes them,
    "release": 0.0,  # releases instead,
    "late": 0.0,  # and deletes only when their lease has ended
    "reject": 0,  # a worker rejects every so manieth message of each task of a producer; 0 for none
    # of the library, to be other than they are: {"aiorsmq._server.listener.PING_INTERVAL": 0.5}
    "constants": {},
}

MIXED = {"tasks": 16, "extend": 0.1, "release": 0.1, "late": 0.003}
"""A consumer that does all that one can do, and is still faster than a producer."""

SOON = {
    "aiorsmq._server.target.CONNECT_TIMEOUT": 0.5,
    "aiorsmq._server.listener.DEAD_AFTER": 0.5,
    "aiorsmq._server.listener.PING_INTERVAL": 0.5,
    "aiorsmq._server.lane.REPLY_TIMEOUT": 0.5,
}
"""So that the quick profile need not wait for the library's own."""


class Program:
    """A running producer or consumer."""

    def __init__(self, folder: Path, options: dict[str, Any]) -> None:
        self.role = options["role"]
        self.asks_one_by_one = (
            self.role == "consumer" and options["tasks"] == 1 and not options["prefetch"]
        )
        self.name = options["name"]
        self.history = folder / f"{self.name}.jsonl"
        self.errors = folder / f"{self.name}.stderr"
        self.killed = False
        self._counts: Counter[str] = Counter()
        self._counted_up_to = 0
        with self.history.open("wb") as history, self.errors.open("wb") as errors:
            command = [sys.executable, "-W", "error", str(CLIENT), json.dumps(options)]
            self.process = subprocess.Popen(command, stdout=history, stderr=errors)

    @property
    def operations(self) -> list[Operation]:
        return read_history([self.history])

    def count(self, op: str) -> int:
        """How often it has said it so far."""
        with self.history.open("rb") as history:
            history.seek(self._counted_up_to)
            for line in history.read().splitlines(keepends=True):
                if line.endswith(b"\n"):  # else the rest is still to come
                    self._counts[json.loads(line)["op"]] += 1
                    self._counted_up_to += len(line)
        return self._counts[op]

    @property
    def runs(self) -> bool:
        return self.process.poll() is None

    def terminate(self) -> None:
        self.process.terminate()

    def kill(self) -> None:
        self.killed = True
        self.process.kill()
        self.process.wait()

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    async def has_ended(self, timeout: float = 40) -> None:
        """Wait for its end, which is an orderly one: no warning, no exception that nobody looked
        at.
        """
        await wait_until(lambda: not self.runs, timeout=timeout)
        if not self.killed:
            assert (self.process.returncode, self.errors.read_text()) == (0, ""), self.name


class Load:
    """What works on the queue. Made by the fixture `load_on`; further operations may be added to
    `history`.
    """

    ns = "rsmq"

    def __init__(self, server: Server, folder: Path, chance) -> None:
        self.server = server
        self.programs: list[Program] = []
        self.history: list[Operation] = []
        self._folder = folder
        self._chance = chance

    async def create_queue(self, qname: str = QNAME) -> None:
        async with AsyncRSMQ.from_url(self.server.url, ns=self.ns) as rsmq:
            await rsmq.queue(qname).create()

    def start(self, role: str, *, url: str | None = None, **options: Any) -> Program:
        """Start a "producer", a "consumer" or a "worker"; see DEFAULTS."""
        unknown = options.keys() - DEFAULTS.keys()
        assert not unknown, unknown
        own = {"role": role, "name": f"{role}{len(self.programs)}", "seed": self._chance.random()}
        where = {"url": url or self.server.url, "ns": self.ns}
        program = Program(self._folder, DEFAULTS | own | where | options)
        self.programs.append(program)
        return program

    async def all_run(self) -> None:
        """Wait until those that have been started have reached the server."""
        for program in self.programs:
            await wait_until(lambda program=program: program.count("started") or not program.runs)
            assert program.count("started"), program.errors.read_text()

    async def replace(self, role: str, times: int, **options: Any) -> Counter[str]:
        """Kill the oldest program of a role, or ask it to end, and start another in its place.

        Returns how many ended which way.
        """
        ends: Counter[str] = Counter()
        for n in range(times):
            await anyio.sleep(self._chance.uniform(0.1, 0.5))
            program, how = self._running(role)[0], ("kill", "terminate")[n % 2]
            getattr(program, how)()
            await program.has_ended()
            ends[how] += 1
            self.start(role, **options)
            await self.all_run()
        return ends

    async def moves_on(self, messages: int = 50, *, timeout: float = 20) -> None:
        """Wait until so many more have been sent, and so many more deleted."""
        for op in ("sent", "deleted"):
            enough = self.count(op) + messages
            await wait_until(lambda op=op, enough=enough: self.count(op) >= enough, timeout=timeout)

    async def drain(self, *, within: float, in_order: bool = False) -> tuple[Verdict, float]:
        """`empty`, then `judge`: the verdict, and how many seconds it took until the queue was
        empty.
        """
        seconds = await self.empty(within=within)
        return await self.judge(in_order=in_order), seconds

    async def empty(self, *, within: float) -> float:
        """End the producers and wait until the queue is empty; return how many seconds that
        took.
        """
        await self._end("producer")
        started = time.monotonic()
        if not (self._running("consumer") or self._running("worker")):
            self.start("consumer", tasks=1, pause=0)
        await wait_until(lambda: self.server.redis.zcard(f"{self.ns}:{QNAME}") == 0, timeout=within)
        return time.monotonic() - started

    async def judge(self, *, in_order: bool = False) -> Verdict:
        """End the consumers and workers, see that nothing is left behind, and check what all have
        done.

        `in_order`: consumers that ask for one message at a time must have got them in their order;
        that is so if nobody has handed any back.
        """
        await self._end("consumer")
        await self._end("worker")
        await self.nothing_is_left()
        check_keys(self.server.redis)
        ordered = [
            program.name for program in self.programs if in_order and program.asks_one_by_one
        ]
        content = read_content(self.server.redis, QNAME, self.ns)
        return check(self.operations(), content, one_by_one=ordered)

    async def nothing_is_left(self) -> None:
        """See that the programs have left neither a connection nor a subscription."""
        await wait_until(lambda: self.server.clients() == 0)
        assert self.server.redis.pubsub_channels() == []

    def operations(self) -> list[Operation]:
        return self.history + read_history(program.history for program in self.programs)

    def count(self, op: str) -> int:
        """How often all programs have said it so far."""
        return sum(program.count(op) for program in self.programs)

    def stop(self) -> None:
        for program in self.programs:
            if program.runs:
                program.kill()

    async def _end(self, role: str) -> None:
        running = self._running(role)
        for program in running:
            program.terminate()
        for program in running:
            await program.has_ended()

    def _running(self, role: str) -> list[Program]:
        return [program for program in self.programs if program.role == role and program.runs]
