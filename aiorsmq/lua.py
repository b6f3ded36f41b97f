"""The Lua scripts that run on the server, for an administrator."""

from __future__ import annotations

from importlib.resources import files

from ._server.lua import load

__all__ = ["scripts"]


def scripts() -> dict[str, str]:
    """The Lua source of each script by its name, for an administrator who loads them with SCRIPT
    LOAD.

    A user that may call EVALSHA but not EVAL can then use this library, and run no script but
    these. The server forgets scripts when it restarts and after SCRIPT FLUSH, and each version of
    this library has its own: load them again then, on a replica and on each node of a cluster too.
    """
    names = (path.name.removesuffix(".lua") for path in (files("aiorsmq") / "_lua").iterdir())
    return {name: load(name).source for name in sorted(names) if not name.startswith("prelude")}
