"""Examples as programs: each is started as its reader starts it."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import httpx
import psutil

from support import wait_until

EXAMPLES = Path(__file__).parents[2] / "examples"


class Program:
    """A command in a folder, with a temporary folder of its own; what it leaves there or running
    is left behind.
    """

    def __init__(self, *command, cwd=EXAMPLES, redis_url=None, **env):
        self._folder = Path(
            tempfile.mkdtemp(prefix="ex-", dir="/tmp")
        )  # short: a socket's path has a limit
        self._output = self._folder / "output"
        self._temporary = self._folder / "tmp"
        self._temporary.mkdir()
        kept = {name: value for name, value in os.environ.items() if name != "REDIS_URL"}
        own = {
            "PORT": "0",
            "PYTHONUNBUFFERED": "1",
            "PYTHONWARNINGS": "default",
            "TMPDIR": str(self._temporary),
        }
        url = {} if redis_url is None else {"REDIS_URL": redis_url}
        with self._output.open("w") as output:
            self.process = subprocess.Popen(
                list(map(str, command)),
                cwd=cwd,
                env=kept | own | url | env,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def output(self):
        return self._output.read_text()

    @property
    def url(self):
        """Where it listens, by the last line that says so; None until it does."""
        found = re.findall(r"(http://127\.0\.0\.1:[1-9]\d*)\b.*\n", self.output)
        if not found:
            assert self.process.poll() is None, self.output
            return None
        return found[-1]

    def processes(self):
        """It and its descendants."""
        with contextlib.suppress(psutil.NoSuchProcess):
            program = psutil.Process(self.process.pid)
            return [program, *program.children(recursive=True)]
        return []

    async def ended(self):
        """Wait until the program has ended, and return its exit code."""
        await wait_until(lambda: self.process.poll() is not None)
        return self.process.returncode

    def servers(self):
        """The embedded servers, and their guards, that were started by this program, however they
        are related to it.
        """
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if str(self._temporary) in " ".join(process.cmdline()):
                    found.append(process.name())
        return found

    def left_behind(self):
        return self.servers() + [str(path) for path in self._temporary.rglob("*")]

    def close(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)


@contextlib.asynccontextmanager
async def talking_to(app):
    base_url = await wait_until(lambda: app.url)
    limits = httpx.Limits(max_connections=50)
    async with httpx.AsyncClient(
        base_url=base_url, limits=limits, timeout=15, trust_env=False
    ) as http:
        yield http
