"""Mends what needs no decision."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..client import AsyncRSMQ
from ..errors import QueueAlreadyExists, RedisSMQException
from ..models import Audit, QueueSettings
from .finding import Finding, count

_BY_AUDIT = {
    "stranded-bodies": "put the messages back, visible now",
    "phantoms": "remove the places that have no message",
    "leaked-fields": "remove the fields of messages that are gone",
}
_PLANS = _BY_AUDIT | {
    "half-made": "complete it with RSMQ's defaults, and list it",
    "not-listed": "add its name to the set of all queues",
    "left-in-list": "remove its name from the set of all queues",
}


@dataclass(frozen=True, slots=True)
class Repair:
    """What `repair` did about one finding."""

    finding: Finding
    is_done: bool
    text: str
    """What was done, or why it was not."""


def plan(finding: Finding) -> str:
    """What `repair` will do, as in "put the messages back"; "" if it does nothing."""
    return _PLANS.get(finding.code, "") if finding.can_repair else ""


async def repair(rsmq: AsyncRSMQ, findings: Iterable[Finding]) -> list[Repair]:
    """Mend what needs no decision, and tell what was done; other findings are left out.

    It puts stranded messages back, removes phantoms and leaked fields, completes half-made queues,
    and corrects the set of all queues. A setting that is there is never changed. It looks again at
    each, so old findings do no harm. If it is cancelled or fails in between, what was done stays;
    a queue that cannot be repaired does not stop the others.
    """
    by_queue: dict[str, list[Finding]] = {}
    for finding in findings:
        if plan(finding):
            by_queue.setdefault(finding.queue, []).append(finding)
    results: list[Repair] = []
    for name, group in by_queue.items():
        results += await _repair_queue(rsmq, name, group)
    return results


async def _repair_queue(rsmq: AsyncRSMQ, name: str, group: list[Finding]) -> list[Repair]:
    codes = {finding.code for finding in group}
    try:
        if "left-in-list" in codes:
            await _remove_name(rsmq, name)
            outcomes = {"left-in-list": "removed its name from the set of all queues"}
        else:
            outcomes = await _mend(rsmq, name, codes)
    except RedisSMQException as error:
        return [Repair(finding, is_done=False, text=str(error)) for finding in group]
    return [
        Repair(
            finding,
            is_done=finding.code in outcomes,
            text=outcomes.get(finding.code, "not done; this user may not"),
        )
        for finding in group
    ]


async def _remove_name(rsmq: AsyncRSMQ, name: str) -> None:
    """Remove a name from the set of all queues, unless something of the queue is there by now."""
    audit = await rsmq.queue(name).audit(repair=True)
    if audit.is_listed:
        raise QueueAlreadyExists(name)


async def _mend(rsmq: AsyncRSMQ, name: str, codes: set[str]) -> dict[str, str]:
    """What was done, by the code of the finding."""
    queue = rsmq.queue(name)
    outcomes: dict[str, str] = {}
    if codes & {"half-made", "not-listed"}:
        await queue.ensure()
        await _complete(rsmq, name)
        outcomes["half-made"] = "completed it"
        if name in await rsmq.list_queues():  # `ensure` goes on without that right
            outcomes["not-listed"] = "added its name to the set of all queues"
    if codes & set(_BY_AUDIT):
        outcomes |= _repaired(await queue.audit(repair=True))
    return outcomes


async def _complete(rsmq: AsyncRSMQ, name: str) -> None:
    """Store what `ensure` leaves alone in a queue that has a vt: what is read anyway."""
    look = await rsmq.queue(name).snapshot()
    settings = QueueSettings()
    if "delay" not in look.stored:
        settings["delay"] = look.delay
    if "maxsize" not in look.stored:
        settings["maxsize"] = look.maxsize
    if settings:
        await rsmq.queue(name).set_attributes(**settings)


def _repaired(audit: Audit) -> dict[str, str]:
    return {
        "stranded-bodies": f"put {count(audit.stranded_bodies.repaired, 'message')} back",
        "phantoms": f"removed {count(audit.phantoms.repaired, 'place')} without a message",
        "leaked-fields": f"removed {count(audit.leaked_fields.repaired, 'field')}",
    }
