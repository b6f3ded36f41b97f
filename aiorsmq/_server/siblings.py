"""Warns when two processes of one program each have an embedded server without a `path`.

Such a server keeps a file about its owner in its folder. A process reads those of all servers that
are up once it has written its own, so of two that start at once, at least one sees the other.
"""

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
_warned_pids: Final[set[int]] = set()
"""The processes that have warned: this one, and the ones that it was forked from."""


def announce_server(server: EmbeddedServer) -> None:
    """Log that the server is private, and warn of a sibling, once per process.

    Neither warns nor is found under pytest: a pytest-xdist worker may well have its own server,
    and so may the program whose tests run.
    """
    _logger.info(
        "the embedded server at %s is private to this process, and its messages are gone when it "
        "ends",
        server.url,
    )
    if "PYTEST_VERSION" in os.environ:
        return
    with suppress(OSError):  # a warning is not worth a failure
        owner = _this_process()
        _write_owner(Path(server.socket).parent, owner)
        sibling = next(filter(owner.is_sibling, _list_owners(server)), None)
        if sibling is not None and owner.pid not in _warned_pids:
            _warned_pids.add(owner.pid)
            _logger.warning(
                "process %d and this one (%d) have an embedded:// server each and do not see each "
                "other's messages: give both the URL of one server, such as "
                "redis://localhost:6379 or the url of one EmbeddedServer; "
                "embedded:///folder is for one process, too",
                sibling.pid,
                owner.pid,
            )


@dataclass(frozen=True)
class _Owner:
    """A process that has an embedded server, and what shows which program it belongs to."""

    pid: int
    parent: int
    group: int
    directory: str

    def is_sibling(self, owner: "_Owner") -> bool:
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


def _list_owners(server: EmbeddedServer) -> Iterator[_Owner]:
    """The owners of this user's servers that are up, this one included."""
    path = Path(server.socket)
    for folder in path.parent.parent.glob("aiorsmq-*"):
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
