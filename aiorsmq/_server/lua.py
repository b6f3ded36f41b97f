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


def _read(name: str) -> str:
    return (files("aiorsmq") / "_lua" / f"{name}.lua").read_text("utf-8")
