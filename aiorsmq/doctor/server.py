"""Rules for what a server tells about itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ..models import ServerInfo
from .finding import Finding, Severity, duration, size

OLDEST: Final = {"redis": (6, 2), "valkey": (8, 0)}
NEARLY_FULL: Final = 0.9
CLOCK: Final = 1.0
"""Seconds by which a server's clock may differ."""


def judge_server(server: ServerInfo) -> Iterator[Finding]:
    yield from _judge_memory(server)
    yield from _judge_safety(server)
    yield from _judge_identity(server)
    ahead = server.clock_difference
    if abs(ahead) - server.round_trip / 2 > CLOCK:
        direction = "ahead of" if ahead > 0 else "behind"
        yield _finding(
            "clock-differs",
            "warning",
            f"The server's clock is {duration(abs(ahead))} {direction} this machine's.",
            "Synchronize both clocks, as with chrony.",
            hint="Due times and ages are by the server's clock, so queues work; a step of it makes "
            "leases end early or late.",
        )
    if None in (server.maxmemory, server.maxmemory_policy, server.role):
        yield _finding(
            "server-is-silent",
            "info",
            "The server does not tell this user about its memory and its role.",
            "Allow +info, which `aiorsmq acl observer` has.",
        )
    if server.has_persistence is None:
        yield _finding(
            "persistence-unknown",
            "info",
            "The server does not tell this user whether messages survive when it stops.",
            "Look at appendonly and save with CONFIG GET, as a user who may.",
        )


def _judge_memory(server: ServerInfo) -> Iterator[Finding]:
    used = server.used_memory
    limit = server.maxmemory
    if not used or not limit or used < limit * NEARLY_FULL:
        return
    is_full = used >= limit
    state = "The server is full" if is_full else "The server is nearly full"
    refuses = ": it refuses what is sent" if is_full and not server.may_evict else ""
    yield _finding(
        "server-full" if is_full else "server-nearly-full",
        "critical" if is_full else "warning",
        f"{state}{refuses}. {size(used)} of {size(limit)} are used.",
        f"redis-cli CONFIG SET maxmemory {2 * max(used, limit)}",
        hint="Or let consumers make room: they can go on.",
        look="aiorsmq ls",
    )


def _judge_safety(server: ServerInfo) -> Iterator[Finding]:
    policy = server.maxmemory_policy
    if server.may_evict:
        yield _finding(
            "server-evicts",
            "critical" if server.maxmemory else "warning",
            f"maxmemory-policy is {policy}: a full server drops whole queues without an error.",
            "redis-cli CONFIG SET maxmemory-policy noeviction",
        )
    elif policy is not None and policy != "noeviction":
        yield _finding(
            "server-evicts-reasons",
            "info",
            f"maxmemory-policy is {policy}: a full server drops the reasons of dead letters.",
            "redis-cli CONFIG SET maxmemory-policy noeviction",
        )
    if server.has_persistence is False:
        yield _finding(
            "no-persistence",
            "warning",
            "The server has no persistence: all messages are lost when it stops.",
            "redis-cli CONFIG SET appendonly yes",
            hint="Set it in the server's configuration file, too.",
        )


def _judge_identity(server: ServerInfo) -> Iterator[Finding]:
    if server.role in ("slave", "replica"):
        yield _finding(
            "is-a-replica",
            "critical",
            "The server is a replica: nothing can be sent or received here.",
            "Connect to its primary.",
        )
    name = server.name or ""
    version = server.version or ""
    oldest = OLDEST.get(name)
    numbers = [int(part) for part in version.split(".")[:2] if part.isdecimal()]
    if oldest and len(numbers) == 2 and tuple(numbers) < oldest:
        yield _finding(
            "server-too-old",
            "warning",
            f"The server is {name} {version}; this library is made for {oldest[0]}.{oldest[1]} and "
            "newer.",
            f"Update it to {name} {oldest[0]}.{oldest[1]} or newer.",
        )


def _finding(
    code: str, severity: Severity, text: str, remedy: str, hint: str = "", look: str = ""
) -> Finding:
    return Finding(code, severity, "", text, remedy, hint=hint, look=look)
