"""A contender at work, in a process of its own."""

import json
import subprocess
from typing import Any

import environments
from server import Server


class ContenderFailed(Exception):
    """It did not do all of its work; its standard error says why."""


class Process:
    """One contender and its one task. It prepares, waits for `go`, works, says what it did, and
    ends.

    A context manager: entering waits until it is prepared, leaving until it has found that all was
    done.
    """

    def __init__(self, contender: str, server: Server, **task: Any) -> None:
        self._task = {"port": server.port, "socket": server.socket, "contender": contender, **task}
        self._task["uvloop"] = environments.CONTENDERS[contender].uvloop
        self._command = [*environments.command(contender), json.dumps(self._task)]

    def __enter__(self) -> "Process":
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        try:
            self._read("ready")
        except BaseException as error:
            self.__exit__(type(error))
            raise
        return self

    def go(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()

    def done(self) -> dict[str, Any]:
        """Wait until it has done its work. At least `messages`, `started` and `ended` (monotonic
        ns), and `cpu_us`.
        """
        return json.loads(self._read("{"))

    def _read(self, expected: str) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.startswith(expected):
            raise ContenderFailed(f"{self._task} said {line!r}")
        return line

    def __exit__(self, failed: type[BaseException] | None = None, *_: object) -> None:
        if failed:
            self._process.kill()
        self._process.communicate()
        if not failed and self._process.returncode != 0:
            raise ContenderFailed(f"{self._task} left work undone")
