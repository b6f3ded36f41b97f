"""Rules for what an audit of a queue's keys shows."""

from __future__ import annotations

from collections.abc import Iterator

from ..models import Audit, Findings
from .finding import Finding, Severity, command, count, verb


def judge_keys(audit: Audit) -> Iterator[Finding]:
    yield from _judge_making(audit)
    name = "stranded-bodies"
    number = audit.stranded_bodies.count
    text = f"{count(number, 'message')} {verb(number, 'is', 'are')} stored without a place in the "
    text += f"queue, so nobody gets {verb(number, 'it', 'them')}"
    yield from _repairable(audit, name, "critical", audit.stranded_bodies, text)
    number = audit.phantoms.count
    text = f"{count(number, 'place')} in the queue {verb(number, 'has', 'have')} no message, left "
    text += "by a crashed program; Node rsmq and PyRSMQ receive nothing for "
    text += verb(number, "it", "them")
    yield from _repairable(audit, "phantoms", "warning", audit.phantoms, text)
    number = audit.leaked_fields.count
    text = f"{count(number, 'field')} of messages that are gone {verb(number, 'takes', 'take')} "
    text += "memory"
    yield from _repairable(audit, "leaked-fields", "warning", audit.leaked_fields, text)
    yield from _unknown(audit)


def _judge_making(audit: Audit) -> Iterator[Finding]:
    """Of a queue that is not quite there."""
    name = audit.queue
    repair = command("doctor", name, "--repair", "--yes")
    is_empty = not (audit.messages or audit.unfinished_purge or audit.examined)
    if audit.has_settings and audit.is_listed:
        return
    if audit.has_settings:
        text = "Its name is missing from the set of all queues: it works, and no list shows it."
        yield Finding("not-listed", "warning", name, text, repair, can_repair=True)
    elif is_empty:
        text = "Its name is in the set of all queues, and nothing else of it is there."
        hint = f"If it is needed: `{command('create', name)}`."
        yield Finding("left-in-list", "warning", name, text, repair, can_repair=True, hint=hint)
    else:
        held = count(audit.messages, "message")
        text = f"It has no vt, so Node rsmq and PyRSMQ do not see it; it holds {held}."
        hint = "The repair gives it RSMQ's defaults where it has none: vt 30, delay 0."
        yield Finding("half-made", "critical", name, text, repair, can_repair=True, hint=hint)


def _repairable(
    audit: Audit, code: str, severity: Severity, found: Findings, text: str
) -> Iterator[Finding]:
    if found.count:
        text = f"{text} ({_examples(found)})."
        remedy = command("doctor", audit.queue, "--repair", "--yes")
        yield Finding(code, severity, audit.queue, text, remedy, can_repair=True)


def _unknown(audit: Audit) -> Iterator[Finding]:
    fields = audit.unknown_fields
    if fields.count:
        yield Finding(
            "unknown-fields",
            "info",
            audit.queue,
            f"{count(fields.count, 'field')} in its hash {verb(fields.count, 'is', 'are')} of no "
            f"RSMQ: {_examples(fields)}.",
            "Ask who wrote them; they do no harm.",
        )
    members = audit.unknown_members
    if members.count:
        yield Finding(
            "unknown-members",
            "warning",
            audit.queue,
            f"{count(members.count, 'message')} {verb(members.count, 'has', 'have')} the name of a "
            f"setting: {_examples(members)}.",
            "Do not delete such a message, that would delete the setting; "
            "remove its member with ZREM.",
        )
    if audit.unfinished_purge:
        yield Finding(
            "unfinished-purge",
            "info",
            audit.queue,
            f"{count(audit.unfinished_purge, 'message')} of a purge that was interrupted "
            f"{verb(audit.unfinished_purge, 'takes', 'take')} memory.",
            "The next purge of the queue deletes them.",
        )
    if not audit.is_complete:
        yield Finding(
            "not-all-looked-at",
            "info",
            audit.queue,
            f"Only {audit.examined:,} of its members and fields were looked at.",
            command("doctor", audit.queue, "--budget", 100_000_000),
        )


def _examples(found: Findings) -> str:
    examples = ", ".join(found.examples[:2])
    return examples if found.count <= 2 else f"{examples}, ..."
