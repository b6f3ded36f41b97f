"""Loads the Lua half of a command."""

from __future__ import annotations

import hashlib
import re
from functools import cache
from importlib.resources import files
from typing import NamedTuple


class Script(NamedTuple):
    source: str
    sha1: str


@cache
def load(name: str) -> Script:
    """The script `_lua/{name}.lua`, with the prelude and what its header includes in front."""
    body = _read(name)
    included = re.findall(r"^-- Include: (\w+)$", body, re.MULTILINE)
    source = "\n".join([_read("prelude"), *map(_read, included), body])
    return Script(source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


def scripts() -> dict[str, str]:
    """The Lua source of each script by its name, for an administrator who loads them with SCRIPT
    LOAD.

    A user that may call EVALSHA but not EVAL can then use this library, and run no script but
    these. The server forgets scripts when it restarts and after SCRIPT FLUSH, and each version of
    this library has its own: load them again then, on a replica and on each node of a cluster too.
    """
    names = (path.name.removesuffix(".lua") for path in (files("aiorsmq") / "_lua").iterdir())
    return {name: load(name).source for name in sorted(names) if not name.startswith("prelude")}


def _read(name: str) -> str:
    return (files("aiorsmq") / "_lua" / f"{name}.lua").read_text("utf-8")
