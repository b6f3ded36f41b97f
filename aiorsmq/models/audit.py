"""What is wrong with a queue, and what its server is like."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Findings:
    """What an audit has found of one kind."""

    count: int = 0
    repaired: int = 0
    """How many of them are repaired now."""
    examples: list[str] = field(default_factory=list[str])
    """The names of the first ten."""


@dataclass(frozen=True, slots=True)
class Audit:
    """What is wrong in the keys of a queue. See `Queue.audit`."""

    queue: str
    has_settings: bool
    """Whether there is a `vt`. Without it other programs do not see a queue; `ensure()` mends
    that."""
    is_listed: bool
    """Whether its name is in the set of all queues; `ensure()` adds it. A repair removes the name
    if nothing else of the queue is there."""
    messages: int
    """How many messages the queue held when the audit began, phantoms included."""
    unfinished_purge: int
    """Messages that a purge has taken out and not yet deleted; the next `purge()` deletes them."""
    phantoms: Findings
    """Messages without a body, left by crashed writers. No consumer gets them."""
    leaked_fields: Findings
    """Receive counts and first receipts of messages that are gone. They take memory."""
    stranded_bodies: Findings
    """Messages that are stored and have no place in the queue, so that no consumer gets them."""
    unknown_fields: Findings
    """Fields of the queue's hash that no RSMQ knows. Never changed."""
    unknown_members: Findings
    """Members of the queue that have the name of a setting, or of a receive count: deleting such a
    message would delete that. Never changed."""
    examined: int
    """How many members and fields were looked at."""
    is_complete: bool
    """Whether that were all; False if the budget was used up before."""

    @property
    def is_clean(self) -> bool:
        """Whether nothing is wrong, as far as it was looked at."""
        findings = (
            self.phantoms,
            self.leaked_fields,
            self.stranded_bodies,
            self.unknown_fields,
            self.unknown_members,
        )
        broken = sum(finding.count - finding.repaired for finding in findings)
        return self.has_settings and self.is_listed and not broken


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """What a server says about itself; None for what it does not say, or not to this user. See
    `AsyncRSMQ.server_info`."""

    server_time: datetime
    clock_difference: float
    """By how many seconds the server's clock is ahead of this machine's; negative if it is
    behind. As exact as half of `round_trip`."""
    round_trip: float
    """Seconds that the question for the time took."""
    name: str | None
    """"redis" or "valkey", or as the server calls itself."""
    version: str | None
    role: str | None
    """"master" or "slave"."""
    connected_clients: int | None
    used_memory: int | None
    """Bytes."""
    maxmemory: int | None
    """Bytes; 0 for no limit."""
    maxmemory_policy: str | None
    appendonly: bool | None
    save: str | None
    """When snapshots are made, as configured; empty for never."""

    @property
    def has_persistence(self) -> bool | None:
        """Whether messages survive a restart, at least those of the latest snapshot; None if that
        is not known."""
        if self.appendonly or self.save:
            return True
        return None if self.appendonly is None or self.save is None else False

    @property
    def may_evict(self) -> bool | None:
        """Whether a full server drops queues without an error; None if that is not known."""
        policy = self.maxmemory_policy
        return None if policy is None else policy.startswith("allkeys-")
