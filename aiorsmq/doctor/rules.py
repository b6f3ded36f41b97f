"""Rules for what one snapshot of a queue shows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ..models import Snapshot
from .finding import Finding, command, count, duration, verb, worst_first
from .settings import LONG_DELAY, judge_settings

PATIENCE: Final = 10.0
"""Seconds that a message may wait before it is said that nobody listens: who polls comes by
then."""
LATE: Final = 60.0
"""Seconds after which a message that waits is late."""


def judge(snapshot: Snapshot, *, is_dead_letter_queue: bool = False) -> list[Finding]:
    """What a snapshot shows to be wrong, worst first.

    Args:
        is_dead_letter_queue: whether messages are to stay in it until somebody looks at them.
    """
    findings = list(judge_settings(snapshot))
    findings += _judge_pause(snapshot)
    if not is_dead_letter_queue and snapshot.paused_since is None:
        findings += _judge_waiting(snapshot)
        findings += _judge_delay(snapshot)
    if snapshot.dead:
        findings.append(_dead_letters(snapshot, snapshot.dead))
    return worst_first(findings)


def _judge_pause(queue: Snapshot) -> Iterator[Finding]:
    if queue.paused_since is None:
        return
    since = (queue.server_time - queue.paused_since).total_seconds()
    moment = f"{queue.paused_since:%Y-%m-%d %H:%M} UTC, {duration(max(since, 0))} ago"
    waiting = "nothing waits"
    if queue.visible:
        age = duration(queue.oldest_claimable_age)
        waiting = f"{count(queue.visible, 'message')} wait{verb(queue.visible, 's', '')}"
        waiting += f", the first for {age}"
    yield Finding(
        "paused",
        "critical" if queue.visible else "warning",
        queue.name,
        f"Paused since {moment}; {waiting}.",
        command("resume", queue.name),
    )


def _judge_waiting(queue: Snapshot) -> Iterator[Finding]:
    """Nobody takes what waits, or not soon enough. A snapshot shows who listens, and not who
    polls; what is in flight shows that somebody has received."""
    age = queue.oldest_claimable_age
    waiting = count(queue.visible, "message")
    wait = verb(queue.visible, "waits", "wait")
    if queue.consumers == 0 and age >= (LATE if queue.in_flight else PATIENCE):
        in_flight = ""
        if queue.in_flight:
            in_flight = f"; {queue.in_flight:,} in flight, so somebody has received lately"
        yield Finding(
            "nobody-listens",
            "warning" if queue.in_flight else "critical",
            queue.name,
            f"{waiting} {wait}, the first for {duration(age)}, and nobody listens{in_flight}.",
            command("work", "MODULE:HANDLER", queue.name),
            hint="Consumers that poll, as Node rsmq and PyRSMQ do, or are busy for long, are seen "
            "only by --watch.",
            look=command("doctor", queue.name, "--watch", 5),
        )
    elif queue.consumers and age >= LATE:
        listeners = count(queue.consumers, "client")
        listen = verb(queue.consumers, "listens", "listen")
        yield Finding(
            "falls-behind",
            "warning",
            queue.name,
            f"{waiting} {wait}, the first for {duration(age)}, although {listeners} {listen}; "
            f"{queue.in_flight:,} in flight.",
            "Run more consumers, or let each handle more messages at once.",
            look=command("top"),
        )


def _judge_delay(queue: Snapshot) -> Iterator[Finding]:
    is_hidden = queue.hidden and not queue.visible and not queue.in_flight
    if not (is_hidden and queue.delay >= LATE and queue.next_due):
        return
    due = (queue.next_due - queue.server_time).total_seconds()
    hidden = f"all {queue.hidden:,} messages are" if queue.hidden > 1 else "its message is"
    yield Finding(
        "delay-hides-all",
        "warning" if queue.delay >= LONG_DELAY else "info",
        queue.name,
        f"The queue's delay is {duration(queue.delay)}: {hidden} hidden, the first for another "
        f"{duration(max(due, 0))}.",
        command("set", queue.name, "--delay", 0),
        hint="That is for messages to come; those that are there keep their time.",
    )


def _dead_letters(queue: Snapshot, dead: int) -> Finding:
    name = queue.dead_letter_queue or ""
    return Finding(
        "dead-letters",
        "info",
        queue.name,
        f"{count(dead, 'message')} {verb(dead, 'is', 'are')} in its dead-letter queue {name}.",
        command("dead", name),
    )
