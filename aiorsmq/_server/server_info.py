"""Asks a server what it is like, as far as it tells this user."""

from __future__ import annotations

import time
from typing import Any, Final

from .._protocol import utc_from_ms
from ..models import ServerInfo
from .call import Call, Reply
from .node import Node
from .server_settings import parse_setting

_SETTINGS: Final = ("maxmemory", "maxmemory-policy", "appendonly", "save")


async def server_info(node: Node) -> ServerInfo:
    """See `AsyncRSMQ.server_info`."""
    until = node.until()
    replies: list[Any] | None = None
    ask_time = Call("time", "*", (), ())
    while replies is None:
        await node.run(ask_time, until=until)  # opens the connection, and waits out an outage
        replies = await node.ask(("INFO",), *(("CONFIG", "GET", name) for name in _SETTINGS))
    # The connection is open, so this takes one round trip.
    before = time.time()
    server_time = await node.run(ask_time, _seconds, until)
    after = time.time()
    facts = _parse_info(replies[0])
    settings = dict(zip(_SETTINGS, map(parse_setting, replies[1:]), strict=True))
    name = facts.get("server_name") or ("redis" if "redis_version" in facts else None)
    append_only = facts.get("aof_enabled") or settings["appendonly"]
    return ServerInfo(
        server_time=utc_from_ms(server_time * 1000),
        clock_difference=server_time - (before + after) / 2,
        round_trip=after - before,
        name=name,
        version=facts.get(f"{name}_version") or facts.get("redis_version"),
        role=facts.get("role"),
        connected_clients=_integer(facts.get("connected_clients")),
        used_memory=_integer(facts.get("used_memory")),
        maxmemory=_integer(facts.get("maxmemory") or settings["maxmemory"]),
        maxmemory_policy=facts.get("maxmemory_policy") or settings["maxmemory-policy"],
        appendonly=None if append_only is None else append_only in ("1", "yes"),
        save=settings["save"],
    )


def _seconds(reply: Reply) -> float:
    seconds, microseconds = map(int, reply)
    return seconds + microseconds / 1_000_000


def _parse_info(reply: Any) -> dict[str, str]:
    """The reply to INFO; nothing for an error."""
    if not isinstance(reply, bytes):
        return {}
    pairs = (line.partition(":") for line in reply.decode(errors="replace").splitlines())
    return {name: value for name, colon, value in pairs if colon}


def _integer(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None
