"""Warns of a server that is set up to lose messages: asked once a client, over its first
connection, without waiting.

Each warning has a logger of its own, by whose name it can be silenced; that of `aiorsmq.startup`
silences all.
"""

import logging
from typing import Any

from .lane import Lane

_eviction = logging.getLogger("aiorsmq.startup.eviction")
_persistence = logging.getLogger("aiorsmq.startup.persistence")

_SETTINGS = ("maxmemory-policy", "appendonly", "save")


def warn(lane: Lane) -> None:
    """Ask for the settings that matter, ahead of the first call, so that its reply is the last to
    wait for.

    A server that does not tell them, as to most ACL users, is not warned of.
    """
    settings: list[str | None] = []

    def told(reply: Any) -> None:
        settings.append(_value(reply))
        if len(settings) == len(_SETTINGS):
            _judge(*settings)

    for name in _SETTINGS:
        lane.call(told, "CONFIG", "GET", name)


def _judge(policy: str | None, append_only: str | None, save_points: str | None) -> None:
    if policy is not None and policy.startswith("allkeys-"):
        _eviction.warning(
            "the server's maxmemory-policy is %s: when it is full it will drop queues without an "
            "error, "
            "which noeviction prevents",
            policy,
        )
    if append_only == "no" and save_points == "":
        _persistence.warning(
            "the server keeps neither an append-only file nor snapshots: when it stops all "
            "messages are gone, "
            "which appendonly prevents"
        )


def _value(reply: Any) -> str | None:
    """The one value in a reply to CONFIG GET, as RESP2 or RESP3 has it."""
    match reply:
        case [_, bytes(value)]:
            return value.decode(errors="replace")
        case {**pairs} if len(pairs) == 1:
            (value,) = pairs.values()
            return value.decode(errors="replace") if isinstance(value, bytes) else None
        case _:
            return None
