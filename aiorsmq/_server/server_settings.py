"""Warns about server settings that lose messages.

Each client checks once, on its first connection, and does not wait for the replies. Each warning
has its own logger, so that you can silence it by name; `aiorsmq.startup` silences all of them.
"""

from __future__ import annotations

import logging
from typing import Any

from .lane import Lane

_eviction = logging.getLogger("aiorsmq.startup.eviction")
_persistence = logging.getLogger("aiorsmq.startup.persistence")

_SETTINGS = ("maxmemory-policy", "appendonly", "save")


def warn_about_settings(lane: Lane) -> None:
    """Request the settings ahead of the first call, and log a warning for each that is unsafe.

    Does not warn if the server denies CONFIG GET, as it does to most ACL users.
    """
    settings: list[str | None] = []

    def on_reply(reply: Any) -> None:
        settings.append(parse_setting(reply))
        if len(settings) == len(_SETTINGS):
            _check_settings(*settings)

    for name in _SETTINGS:
        lane.call(on_reply, "CONFIG", "GET", name)


def _check_settings(policy: str | None, append_only: str | None, save_points: str | None) -> None:
    if policy is not None and policy.startswith("allkeys-"):
        _eviction.warning(
            "maxmemory-policy is %s: a full server evicts queues without an error; "
            "set maxmemory-policy to noeviction",
            policy,
        )
    if append_only == "no" and save_points == "":
        _persistence.warning(
            "the server has no persistence: all messages are lost when it stops; "
            "set appendonly to yes"
        )


def parse_setting(reply: Any) -> str | None:
    """Return the only value in a reply to CONFIG GET, in RESP2 or RESP3; None for an error."""
    match reply:
        case [_, bytes(value)]:
            return value.decode(errors="replace")
        case {**pairs} if len(pairs) == 1:
            (value,) = pairs.values()
            return value.decode(errors="replace") if isinstance(value, bytes) else None
        case _:
            return None
