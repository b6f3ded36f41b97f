"""A page of the documentation: its blocks, in their order, and a shell to try them in."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from support import PATIENCE

PROJECT = Path(__file__).parents[2]
DOCS = PROJECT / "docs"
FENCE = re.compile(
    r"^(?:<!-- (?P<note>[\w ]+) -->\n)?(?P<indent> *)```(?P<language>\w+)[^\n]*\n"
    r"(?P<text>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
NAME = re.compile(r"(?:#|//|;) ([\w./-]+\.\w+|Dockerfile)\n")
MARK = "--- the command has ended:"


@dataclass
class Block:
    language: str
    text: str
    line: int
    note: str
    """What a comment above the fence says of it."""
    output: str | None = None
    """What is shown right below a program."""

    @property
    def name(self) -> str | None:
        """Of the file that the block is, by its first line."""
        found = NAME.match(self.text)
        return found[1] if found else None

    @property
    def steps(self) -> list[tuple[str, str]]:
        """The commands of a session, and what each prints."""
        found = re.split(r"^\$ (.*(?:(?<=\\)\n.*)*)\n", self.text, flags=re.MULTILINE)
        assert not found[0], f"line {self.line}: a session begins with a command"
        return list(zip(found[1::2], found[2::2], strict=True))


def blocks(path: Path) -> list[Block]:
    page = path.read_text()
    found: list[Block] = []
    end = 0
    for match in FENCE.finditer(page):
        text = re.sub(rf"^{match['indent']}", "", match["text"], flags=re.MULTILINE)
        program = found[-1] if found and page[end : match.start()].isspace() else None
        end = match.end()
        if program and (program.language, match["language"]) == ("python", "text"):
            program.output = text
            continue
        line = page.count("\n", 0, match.start("language")) + 1
        found.append(Block(match["language"], text, line, match["note"] or ""))
    fences = len(re.findall(r"^ *```\w", page, re.MULTILINE))
    assert fences == len(FENCE.findall(page)), "a fence is not closed"
    return found


def matches(shown: str, printed: str) -> bool:
    """Whether this was printed; `...` stands for any text, as in a doctest."""
    lines = "\n".join(line.rstrip() for line in printed.splitlines()).rstrip("\n")
    pattern = re.escape(shown.rstrip("\n")).replace(re.escape("..."), ".*?")
    return re.fullmatch(pattern, lines, re.DOTALL) is not None


class Shell:
    """What a reader types, in one bash: a `cd` holds for the commands after it."""

    def __init__(self, folder: Path, **env: str) -> None:
        bin = folder.with_name("bin")
        bin.mkdir()
        if not (Path(sys.executable).parent / "aiorsmq").exists():  # the sources are on PYTHONPATH
            (bin / "aiorsmq").write_text(f'#!/bin/sh\nexec {sys.executable} -m aiorsmq "$@"\n')
            (bin / "aiorsmq").chmod(0o755)
        quiet = {"NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "100", "PYTHONUNBUFFERED": "1"}
        path = os.pathsep.join([str(bin), str(Path(sys.executable).parent), os.environ["PATH"]])
        self._shell = subprocess.Popen(
            ["bash", "--norc"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=folder,
            env=os.environ | quiet | {"PATH": path} | env,
            start_new_session=True,
        )
        self._log = bin / "background"
        self._log.touch()
        self._running: list[int] = []

    def run(self, command: str, timeout: float = 4 * PATIENCE) -> tuple[str, int]:
        """What the command prints, and its exit code."""
        assert self._shell.stdin
        assert self._shell.stdout
        self._shell.stdin.write(f"{{ {command}\n}} </dev/null\necho '{MARK}' $?\n")
        self._shell.stdin.flush()
        stop = threading.Timer(timeout, self._kill)
        stop.start()
        printed = ""
        for line in self._shell.stdout:
            before, mark, code = line.partition(MARK)
            printed += before
            if mark:
                stop.cancel()
                return printed, int(code)
        raise AssertionError(f"{command} did not end, and printed:\n{printed}")

    def start(self, command: str, shown: str) -> None:
        """Have the command run in the background, and wait until it has printed this."""
        before = len(self._log.read_text())
        pid, _ = self.run(f"{command} >>{self._log} 2>&1 & echo $!")
        self._running.append(int(pid))
        self.wait_for(shown, before)

    def wait_for(self, shown: str, since: int = 0) -> None:
        """Wait until these lines have been printed in the background, others between them."""
        lines = [re.escape(line).replace(re.escape("..."), ".*?") for line in shown.splitlines()]
        pattern = re.compile("^" + r"$.*?^".join(lines) + "$", re.DOTALL | re.MULTILINE)
        end = time.monotonic() + 2 * PATIENCE
        while not pattern.search(printed := self._log.read_text()[since:]):
            assert time.monotonic() < end, f"not printed:\n{shown}\nbut:\n{printed}"
            time.sleep(0.02)

    def close(self) -> None:
        """End all that runs as Ctrl-C or a stop of the machine would: nothing may stay."""
        for pid in self._running:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        ended, _ = self.run("wait; echo ended")
        self._kill()
        self._shell.wait()
        for pipe in (self._shell.stdin, self._shell.stdout):
            if pipe:
                pipe.close()
        assert ended.endswith("ended\n"), ended

    def _kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._shell.pid, signal.SIGKILL)
