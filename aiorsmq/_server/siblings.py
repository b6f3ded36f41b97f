"""Warns when two clients of one program, in one process or two, each have an embedded server
without a `path`.

Such a server keeps a file about its owner in its folder. A process reads those of all servers that
are up once it has written its own, so of two that start at once, at least one sees the other.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..embedded import EmbeddedServer

_logger = logging.getLogger("aiorsmq.startup.embedded")

_OWNER: Final = "owner"
_warnings: Final[set[tuple[int, str]]] = set()
"""Process ids and warnings that were logged: by this process, and by those it was forked from."""

_TWO_CLIENTS: Final = (
    "two clients of this process (%d) have an embedded:// server each and share no queues: start "
    "one EmbeddedServer and give both clients its url, or give both a URL such as "
    "redis://localhost:6379"
)
_TWO_PROCESSES: Final = (
    "process %d and this one (%d) have an embedded:// server each and do not see each other's "
    "messages: give both the URL of one server, such as redis://localhost:6379 or the url of one "
    "EmbeddedServer; embedded:///folder is for one process, too"
)


def announce_server(server: EmbeddedServer) -> None:
    """Log that the server is private, and warn of another client's in this process, and of one in
    a sibling, once per process each.

    Neither warns nor is found under pytest: a pytest-xdist worker may well have its own server,
    and so may the program whose tests run.
    """
    _logger.info(
        "the embedded server at %s is private to this client, and its messages are gone when it "
        "ends",
        server.url,
    )
    if "PYTEST_VERSION" in os.environ:
        return
    with suppress(OSError):  # a warning is not worth a failure
        owner = _this_process()
        _write_owner(Path(server.socket).parent, owner)
        neighbors = list(_list_other_owners(server))
        if any(neighbor.pid == owner.pid for neighbor in neighbors):
            _warn_once(_TWO_CLIENTS, owner.pid)
        sibling = next(filter(owner.is_sibling, neighbors), None)
        if sibling is not None:
            _warn_once(_TWO_PROCESSES, sibling.pid, owner.pid)


def _warn_once(warning: str, *pids: int) -> None:
    if (os.getpid(), warning) not in _warnings:
        _warnings.add((os.getpid(), warning))
        _logger.warning(warning, *pids)


@dataclass(frozen=True)
class _Owner:
    """A process that has an embedded server, and what shows which program it belongs to."""

    pid: int
    parent: int
    group: int
    directory: str

    def is_sibling(self, owner: _Owner) -> bool:
        """Whether an owner is another process and belongs to the same program.

        The workers of a web server share a process group. What honcho or two terminals start only
        shares the working directory, which says nothing if it is the root, as for services.
        """
        return self.pid != owner.pid and (
            self.group == owner.group
            or self.pid == owner.parent
            or self.parent == owner.pid
            or self.directory == owner.directory != "/"
        )


def _this_process() -> _Owner:
    return _Owner(os.getpid(), os.getppid(), os.getpgrp(), str(Path.cwd()))


def _write_owner(folder: Path, owner: _Owner) -> None:
    text = f"{owner.pid} {owner.parent} {owner.group} {owner.directory}"
    (folder / _OWNER).touch(mode=0o600)
    (folder / _OWNER).write_bytes(os.fsencode(text))


def _list_other_owners(server: EmbeddedServer) -> Iterator[_Owner]:
    """The owners of this user's other servers that are up; this process may be one."""
    path = Path(server.socket)
    for folder in set(path.parent.parent.glob("aiorsmq-*")) - {path.parent}:
        with suppress(OSError, ValueError):  # gone in the meantime, or not ours
            if folder.lstat().st_uid == os.geteuid() and _accepts(folder / path.name):
                text = os.fsdecode((folder / _OWNER).read_bytes())
                pid, parent, group, directory = text.split(" ", 3)
                yield _Owner(int(pid), int(parent), int(group), directory)


def _accepts(path: Path) -> bool:
    """Whether a server listens on a socket. Does not wait for it."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        return probe.connect_ex(str(path)) == 0
