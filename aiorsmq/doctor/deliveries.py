"""Rules for messages that were received more than once: a poison message, or a vt that is shorter
than the work."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from ..models import Snapshot, StoredMessage
from .finding import Finding, command, count, duration, verb

MANY_RECEIVES: Final = 5
"""A message that was received more often is suspect, unless the queue says how many are allowed."""


def judge_deliveries(queue: Snapshot, messages: Sequence[StoredMessage]) -> Iterator[Finding]:
    """Args:
    messages: some that were received at least twice.
    """
    limit = MANY_RECEIVES if queue.max_receives is None else queue.max_receives
    suspects = [message for message in messages if message.receive_count > limit]
    expired = [message for message in messages if _is_expired(queue, message)]
    is_systematic = len(expired) > 1 and 2 * len(expired) >= len(messages)
    if is_systematic or (len(expired) == 1 and not suspects and expired[0].receive_count > 2):
        yield _vt_too_short(queue, expired)
        suspects = [message for message in suspects if message not in expired]
    if suspects:
        yield _poison(queue, suspects)
    if suspects and queue.dead_letter_queue is None and queue.max_receives is None:
        dead = f"{queue.name}-dead"
        yield Finding(
            "no-dead-letter-queue",
            "warning",
            queue.name,
            f"{count(len(suspects), 'message')} {verb(len(suspects), 'is', 'are')} received over "
            "and over, and there is no dead-letter queue to take such messages out.",
            command(
                *("set", queue.name, "--max-receives", MANY_RECEIVES),
                *("--dead-letter-queue", dead),
            ),
            hint="Consumers of this library obey it; Node rsmq and PyRSMQ do not.",
        )


def _interval(queue: Snapshot, message: StoredMessage) -> float | None:
    """Seconds between two deliveries on average, if each lease lasts `vt`."""
    if message.receive_count < 2 or message.first_received_at is None:
        return None
    lasted = (message.visible_at - message.first_received_at).total_seconds()
    return (lasted - queue.vt) / (message.receive_count - 1)


def _is_expired(queue: Snapshot, message: StoredMessage) -> bool:
    """Whether the message seems to be delivered whenever its lease has run out."""
    interval = _interval(queue, message)
    # The next consumer may come a little later: who polls does so every few seconds.
    return bool(queue.vt and interval and 0.95 * queue.vt <= interval <= 1.5 * queue.vt + 5)


def _vt_too_short(queue: Snapshot, expired: Sequence[StoredMessage]) -> Finding:
    worst = max(expired, key=lambda message: message.receive_count)
    interval = _interval(queue, worst) or queue.vt
    subject = f"{len(expired)} messages come" if len(expired) > 1 else "A message comes"
    return Finding(
        "vt-too-short",
        "warning",  # a failing handler whose backoff is as long as vt looks the same
        queue.name,
        f"{subject} back whenever a lease ends: {worst.id} was received "
        f"{count(worst.receive_count, 'time')}, every {duration(interval)}, and vt is "
        f"{duration(queue.vt)}. So it looks as if the work takes longer than vt, and is done again "
        "and again.",
        command("set", queue.name, "--vt", max(queue.vt * 5, 30)),
        hint="Or it fails, and is retried about as late, or the consumer dies at it: its log tells."
        " A worker of this library renews its leases, whatever vt is.",
    )


def _poison(queue: Snapshot, suspects: Sequence[StoredMessage]) -> Finding:
    worst = max(suspects, key=lambda message: message.receive_count)
    text = f"Message {worst.id} was received {count(worst.receive_count, 'time')}"
    if worst.first_received_at is not None:
        since = (queue.server_time - worst.first_received_at).total_seconds()
        text += f" in {duration(max(since, 0))}"
    text += " and is still there, so it fails each time"
    if queue.max_receives is not None:
        text += f"; max_receives is {queue.max_receives}, and its consumer does not obey"
    if len(suspects) > 1:
        text += f"; so {verb(len(suspects) - 1, 'does', 'do')} {len(suspects) - 1:,} more"
    return Finding(
        "poison-message",
        "critical",
        queue.name,
        f"{text}.",
        command("delete", queue.name, worst.id),
        hint="`aiorsmq move` keeps it in another queue instead, `aiorsmq edit` mends it.",
        look=command("get", queue.name, worst.id),
    )
