"""A program that starts again whenever its code changes: for development."""

import asyncio
import importlib.util
import os
import signal
import sys
import threading
import time
from asyncio.subprocess import Process
from contextlib import aclosing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

from cyclopts import Parameter

from ..errors import ExtraNotInstalled
from .errors import NotDone
from .output import foreign, notes

_PIPE: Final = "AIORSMQ_RELOAD_PIPE"
"""Tells a child which descriptor ends with its parent."""


@Parameter(name="*")
@dataclass(frozen=True)
class Reload:
    """When a program starts again."""

    reload: Annotated[bool, Parameter(negative="")] = False
    """Start again when a .py file below the current directory changes; for development."""
    reload_dir: Annotated[list[Path] | None, Parameter(negative="")] = None
    """Another folder to watch so; may be given several times."""

    @property
    def is_wanted(self) -> bool:
        return self.reload or bool(self.reload_dir)


NO_RELOAD: Final = Reload()


def is_child() -> bool:
    """Whether this program was started by `run_again_and_again`."""
    return _PIPE in os.environ


def end_with_parent(patience: float) -> None:
    """Get SIGTERM when the parent has ended, however it ended, and end that many seconds later at
    the latest."""
    pipe = int(os.environ.pop(_PIPE))
    os.set_inheritable(pipe, False)

    def wait() -> None:
        os.read(pipe, 1)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(patience)
        os._exit(1)

    threading.Thread(target=wait, name="reload", daemon=True).start()


def run_again_and_again(options: Reload) -> int:
    """Run this very command in a child again and again; gives the exit code of the last.

    SIGTERM and Ctrl-C go to the child, and end both. If the child ends by itself, as it does when
    its code cannot be imported, the next change starts another.
    """
    if importlib.util.find_spec("watchfiles") is None:
        raise ExtraNotInstalled("--reload", "reload")
    if sys.platform == "win32":
        raise NotDone("--reload is not supported on Windows")
    folders = [Path.cwd(), *(options.reload_dir or ())]
    for folder in folders:
        if not folder.is_dir():
            raise NotDone(f"--reload-dir: no folder {str(folder)!r}")
    return asyncio.run(_Parent().run(folders))


class _Parent:
    def __init__(self) -> None:
        self._stopping = asyncio.Event()
        self._child: Process | None = None
        self._pipes = os.pipe()
        """Nobody writes: its end is the end of this program."""

    async def run(self, folders: list[Path]) -> int:
        from watchfiles import PythonFilter, awatch  # noqa: PLC0415 - the extra `reload`  # pyright: ignore[reportUnknownVariableType]

        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal)
        changes = awatch(*folders, watch_filter=PythonFilter(), stop_event=self._stopping)
        code = 0
        async with aclosing(changes):
            while not self._stopping.is_set():
                change = asyncio.ensure_future(anext(changes, None))
                await asyncio.sleep(0)  # it watches from here on
                child = await self._start()
                ending = asyncio.create_task(child.wait())
                await asyncio.wait({change, ending}, return_when=asyncio.FIRST_COMPLETED)
                if not change.done():
                    text = f"The worker has ended with exit code {ending.result()}."
                    notes.print(f"{text} Waiting for a change.", soft_wrap=True)
                paths = sorted(path for _, path in await change or ())
                if not self._stopping.is_set():
                    name = paths[0].removeprefix(f"{folders[0]}{os.sep}")
                    notes.print(foreign(f"{name} has changed: starting again."), soft_wrap=True)
                    self._signal_child()
                code = await ending
        return code if code >= 0 else 128 - code

    async def _start(self) -> Process:
        command = [sys.executable, *sys.orig_argv[1:]]
        env = os.environ | {_PIPE: str(self._pipes[0])}
        self._child = await asyncio.create_subprocess_exec(
            *command, env=env, pass_fds=[self._pipes[0]]
        )
        if self._stopping.is_set():  # the signal came while it started
            self._signal_child()
        return self._child

    def _on_signal(self) -> None:
        self._stopping.set()
        self._signal_child()

    def _signal_child(self) -> None:
        with suppress(ProcessLookupError):
            if self._child is not None and self._child.returncode is None:
                self._child.send_signal(signal.SIGTERM)
