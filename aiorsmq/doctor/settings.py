"""Rules for a queue's settings as they are stored: other programs write what no library reads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ..models import Snapshot
from .finding import Finding, command, duration

MAX_SECONDS: Final = 9_999_999
PYRSMQ_MAXSIZE: Final = 65_565
"""What PyRSMQ writes by default: 65536 with two figures exchanged."""
LONG_DELAY: Final = 3600

_DEFAULTS: Final = {"vt": 30, "delay": 0, "maxsize": 65_536}


def judge_settings(queue: Snapshot) -> Iterator[Finding]:
    missing = [name for name in _DEFAULTS if name not in queue.stored]
    if missing:
        yield Finding(
            "half-made",
            "critical",
            queue.name,
            f"It has no {' and no '.join(missing)}: Node rsmq and PyRSMQ cannot use it.",
            command("doctor", queue.name, "--repair", "--yes"),
            can_repair=True,
        )
    for name in ("vt", "delay"):
        if name not in missing:
            yield from _judge_seconds(queue, name)
    if "maxsize" not in missing:
        yield from _judge_maxsize(queue)
    yield from _judge_policy(queue)


def _judge_seconds(queue: Snapshot, name: str) -> Iterator[Finding]:
    stored = queue.stored[name]
    value: int = getattr(queue, name)
    number = _number(stored)
    if number is None:
        says = f"that is no number, and {value} s is used instead."
        yield _wrong(queue, "unreadable-setting", name, says)
    elif not 0 <= number <= MAX_SECONDS:
        says = f"it must be from 0 to {MAX_SECONDS} seconds."
        yield _wrong(queue, "setting-out-of-range", name, says)
    elif number >= 1000 and number % 1000 == 0:
        says = f"that is {duration(number)}. Milliseconds may be meant, as rsmq_async writes them."
        yield _wrong(queue, f"{name}-in-milliseconds", name, says, max(1, int(number) // 1000))
    elif not number.is_integer():
        says = "Node rsmq cuts the fraction off, and other programs may not read it at all."
        yield _wrong(queue, "fractional-setting", name, says, max(1, round(number)))
    elif name == "vt" and number == 0:
        says = "a received message stays visible, and is delivered over and over."
        yield _wrong(queue, "no-vt", name, says)


def _judge_maxsize(queue: Snapshot) -> Iterator[Finding]:
    number = _number(queue.stored["maxsize"])
    if number is None:
        says = f"that is no number, and {queue.maxsize} bytes is used instead."
        yield _wrong(queue, "unreadable-setting", "maxsize", says)
    elif number == PYRSMQ_MAXSIZE:
        yield Finding(
            "maxsize-of-pyrsmq",
            "info",
            queue.name,
            f"maxsize is {PYRSMQ_MAXSIZE}, as PyRSMQ writes it by mistake; 65536 is the largest.",
            command("set", queue.name, "--maxsize", 65_536),
        )
    elif number != -1 and not 1024 <= number <= 65_536:
        says = "it must be from 1024 to 65536 bytes, or -1 for unlimited."
        yield _wrong(queue, "setting-out-of-range", "maxsize", says)


def _judge_policy(queue: Snapshot) -> Iterator[Finding]:
    if queue.dead_letter_queue is None and queue.stored.get("dead_letter_queue"):
        says = "no other queue can have that name, so it does not count, nor does max_receives."
        yield _wrong(queue, "unreadable-setting", "dead_letter_queue", says, f"{queue.name}-dead")
    elif queue.max_receives is None and "max_receives" in queue.stored:
        says = "it must be a number from 1 on, and counts as no limit."
        yield _wrong(queue, "unreadable-setting", "max_receives", says, 5)
    if queue.max_receives is not None and queue.dead_letter_queue is None:
        yield Finding(
            "drops-messages",
            "warning",
            queue.name,
            f"Messages are deleted after {queue.max_receives} receives: max_receives is set, and "
            "there is no dead-letter queue.",
            command("set", queue.name, "--dead-letter-queue", f"{queue.name}-dead"),
        )
    if queue.dead_letter_queue is not None and queue.dead is None:
        yield Finding(
            "dead-letter-queue-missing",
            "info",
            queue.name,
            f"Its dead-letter queue {queue.dead_letter_queue} does not exist, or you may not look "
            "at it; the first dead message creates it.",
            command("create", queue.dead_letter_queue),
        )


def _wrong(
    queue: Snapshot, code: str, name: str, says: str, better: int | str | None = None
) -> Finding:
    better = _DEFAULTS[name] if better is None else better
    remedy = command("set", queue.name, f"--{name.replace('_', '-')}", better)
    text = f"{name} is stored as {queue.stored[name]!r}: {says}"
    return Finding(code, "warning", queue.name, text, remedy)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if abs(number) < 1e15 else None  # neither infinite nor NaN
