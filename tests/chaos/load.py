"""Producers and consumers in processes of their own, on one queue of one server; and the end of a run: the drain."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from chaos.history import Operation, Verdict, check, read_content, read_history
from support import Server, check_keys, wait_until

QNAME = "jobs"
CLIENT = Path(__file__).parent / "client.py"
DEFAULTS = {
    "qname": QNAME,
    "poll_interval": 1.0,
    "tasks": 4,  # of a producer: each sends one message after another; of a consumer: each iterates
    "pause": 0.004,  # seconds, on average, between two sends, or for which a message is handled
    "count": -1,  # messages that each task of a producer sends; -1 for no end
    "delayed": 0.0,  # share of the messages sent with a delay of up to a second
    "prefetch": 0,
    "extend": 0.0,  # shares of the messages that a consumer extends before it deletes them,
    "release": 0.0,  # releases instead,
    "late": 0.0,  # and deletes only when their lease has ended
    "constants": {},  # of the library, to be other than they are: {"aiorsmq._listener.PING_INTERVAL": 0.5}
}


class Program:
    """A running producer or consumer."""

    def __init__(self, folder: Path, options: dict[str, Any]) -> None:
        self.role = options["role"]
        self.name = options["name"]
        self.history = folder / f"{self.name}.jsonl"
        self.errors = folder / f"{self.name}.stderr"
        self.killed = False
        with self.history.open("wb") as history, self.errors.open("wb") as errors:
            command = [sys.executable, "-W", "error", str(CLIENT), json.dumps(options)]
            self.process = subprocess.Popen(command, stdout=history, stderr=errors)

    @property
    def operations(self) -> list[Operation]:
        return read_history([self.history])

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
        """Wait for its end, which is an orderly one: no warning, no exception that nobody looked at."""
        await wait_until(lambda: not self.runs, timeout=timeout)
        if not self.killed:
            assert (self.process.returncode, self.errors.read_text()) == (0, ""), self.name


class Load:
    """What works on the queue. Made by the fixture `load_on`; further operations may be added to `history`."""

    def __init__(self, server: Server, folder: Path, chance) -> None:
        self.server = server
        self.programs: list[Program] = []
        self.history: list[Operation] = []
        self._folder = folder
        self._chance = chance

    async def start(self, role: str, *, url: str | None = None, **options: Any) -> Program:
        """Start a "producer" or a "consumer" and wait until it has reached the server; see DEFAULTS."""
        unknown = options.keys() - DEFAULTS.keys()
        assert not unknown, unknown
        own = {"role": role, "name": f"{role}{len(self.programs)}", "seed": self._chance.random()}
        program = Program(self._folder, DEFAULTS | own | {"url": url or self.server.url} | options)
        self.programs.append(program)
        await wait_until(lambda: b'"started"' in program.history.read_bytes() or not program.runs)
        assert program.runs, program.errors.read_text()
        return program

    async def drain(self, *, within: float, one_by_one: bool = False) -> tuple[Verdict, float]:
        """End the producers, wait until the queue is empty, end the consumers, and judge.

        Returns the verdict, and how many seconds it took until the queue was empty. `one_by_one`: each consumer asks
        for one message at a time, which is when order is promised.
        """
        for program in self._running("producer"):
            program.terminate()
            await program.has_ended()
        started = time.monotonic()
        if not self._running("consumer"):
            await self.start("consumer", tasks=1)
        queue = f"rsmq:{QNAME}"
        await wait_until(lambda: self.server.redis.zcard(queue) == 0, timeout=within)
        seconds = time.monotonic() - started
        consumers = {program.name for program in self.programs if program.role == "consumer"}
        for program in self._running("consumer"):
            program.terminate()
            await program.has_ended()
        await wait_until(lambda: self.server.clients() == 0)
        assert self.server.redis.pubsub_channels() == []
        check_keys(self.server.redis)
        return check(self.operations(), self._content(), one_by_one=consumers if one_by_one else ()), seconds

    def operations(self) -> list[Operation]:
        return self.history + read_history(program.history for program in self.programs)

    def count(self, op: str) -> int:
        """How often all programs have said it so far."""
        needle = f'"op": "{op}"'.encode()
        return sum(program.history.read_bytes().count(needle) for program in self.programs)

    def stop(self) -> None:
        for program in self.programs:
            if program.runs:
                program.kill()

    def _running(self, role: str) -> list[Program]:
        return [program for program in self.programs if program.role == role and program.runs]

    def _content(self):
        return read_content(self.server.redis, QNAME)
