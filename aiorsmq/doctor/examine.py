"""Looks at queues and their server, and judges what it sees."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Final

from redis.exceptions import ResponseError

from ..client import AsyncRSMQ
from ..errors import InvalidParameterValue, NotPermitted, QueueDoesNotExist
from ..models import Snapshot, StoredMessage
from .deliveries import judge_deliveries
from .finding import Finding, worst_first
from .keys import judge_keys
from .rules import judge
from .server import judge_server
from .watch import Heard, judge_change, listening, with_change

BUDGET: Final = 200_000
"""Members and fields of each queue, unless the caller says otherwise."""
SAMPLE: Final = 100
"""Messages that were received at least twice."""
LOOKS: Final = 20_000
"""Messages that are looked at for these."""
GLANCE: Final = 1.0
"""Seconds in which a consumer that is busy shows itself: it does not listen, and receives."""


async def examine(
    rsmq: AsyncRSMQ,
    qnames: Iterable[str] | None = None,
    *,
    watch: float = 0,
    budget: int = BUDGET,
    on_step: Callable[[str], None] | None = None,
) -> list[Finding]:
    """Everything that is wrong with the server and with queues: all, or those that you name. Worst
    first. Changes nothing.

    What this user may not look at is told in a finding. Cancelling it does no harm.

    Args:
        watch: seconds for which to watch the queues: that shows consumers that poll, and producers
            that do not announce.
        budget: the most members and fields to look at in each queue.
        on_step: called with the name of what is looked at next.

    Raises QueueDoesNotExist if nothing of a queue that you name exists.
    """
    examination = _Examination(rsmq, None if qnames is None else list(dict.fromkeys(qnames)))
    on_step = on_step or _ignore
    on_step("the server")
    examination.findings += judge_server(await rsmq.server_info())
    before, is_behind = await examination.first_look()
    judged = {
        name: judge(look, is_dead_letter_queue=name in is_behind) for name, look in before.items()
    }
    is_alone = any(found.code == "nobody-listens" for found in chain(*judged.values()))
    looks_again_at = asyncio.get_running_loop().time() + (GLANCE if is_alone else 0)
    after: Mapping[str, Snapshot] = {}
    heard: Mapping[str, Heard] = {}
    if watch:
        on_step(f"what happens in {watch:g} s")
        async with listening(rsmq, list(before)) as heard:
            await asyncio.sleep(watch)
            after = await examination.look(list(before))
            await examination.hear_out(before, after, heard)
    for name in examination.names:
        on_step(name)
        await examination.examine_keys(name, budget)
        if name in before:
            await examination.examine_messages(before[name])
    if not after:
        await asyncio.sleep(looks_again_at - asyncio.get_running_loop().time())
        after = await examination.look(list(before))
    for name, look in before.items():
        examination.judge(judged[name], look, after.get(name, look), heard.get(name))
    return examination.result()


def _ignore(_: str) -> None: ...


class _Examination:
    def __init__(self, rsmq: AsyncRSMQ, named: Sequence[str] | None) -> None:
        self._rsmq = rsmq
        self._named = named
        self.names: list[str] = list(named or ())
        """The queues to look at."""
        self.findings: list[Finding] = []
        self._phantoms: dict[str, int] = {}

    async def first_look(self) -> tuple[dict[str, Snapshot], set[str]]:
        """The queues to look at, by name, and the names of all dead-letter queues."""
        for name in self.names:
            self._rsmq.queue(name)  # raises if no queue can have that name
        everywhere: dict[str, Snapshot] = {}
        try:
            names = await self._rsmq.list_queues()
            everywhere = await self.look(None)
        except NotPermitted:
            if self._named is None:
                raise
        else:
            if self._named is None:
                await self._choose(names)
        dead = {look.dead_letter_queue or "" for look in everywhere.values()} - {""}
        if self._named is None:
            self.names = sorted({*self.names, *dead})
        missing = [name for name in self.names if name not in everywhere]
        everywhere |= await self.look(missing) if missing else {}
        before = {name: everywhere[name] for name in self.names if name in everywhere}
        return before, dead | {look.dead_letter_queue or "" for look in before.values()}

    async def _choose(self, listed: set[str]) -> None:
        """All queues: those that are listed, and those that are found without the list."""
        unlisted = await self._rsmq.find_unlisted() or []
        for name in sorted(listed | {*unlisted}):
            try:
                self._rsmq.queue(name)
            except InvalidParameterValue:
                text = f"The set of all queues has the name {name!r}, which no queue can have."
                remedy = "Remove it with SREM, if no program needs it."
                self.findings.append(Finding("impossible-name", "info", "", text, remedy))
            else:
                self.names.append(name)

    async def look(self, names: Sequence[str] | None) -> dict[str, Snapshot]:
        return {look.name: look for look in await self._rsmq.snapshots(names)}

    async def hear_out(
        self,
        before: Mapping[str, Snapshot],
        after: Mapping[str, Snapshot],
        heard: Mapping[str, Heard],
    ) -> None:
        """Give announcements of what was sent the time to arrive."""
        for name, entry in heard.items():
            if name in after and after[name].totalsent > before[name].totalsent:
                await entry.hear_out()

    async def examine_keys(self, name: str, budget: int) -> None:
        try:
            audit = await self._rsmq.queue(name).audit(budget=budget)
        except QueueDoesNotExist:
            if self._named is not None:
                raise
        except NotPermitted as error:
            text = f"Its keys cannot be looked through: this user may not ({error.grant})."
            remedy = f"Grant {error.grant}: `aiorsmq acl observer` has all that is needed."
            self.findings.append(Finding("not-permitted", "info", name, text, remedy))
        except ResponseError as error:
            if "WRONGTYPE" not in str(error):
                raise
            text = "One of its keys holds something else, so no program can use it."
            remedy = "Look at its keys with TYPE, and ask who wrote them."
            self.findings.append(Finding("foreign-keys", "critical", name, text, remedy))
        else:
            self.findings += judge_keys(audit)
            self._phantoms[name] = audit.phantoms.count

    async def examine_messages(self, look: Snapshot) -> None:
        """Those that were received at least twice: of the visible and of the hidden, because a long
        queue has many that come before the hidden ones."""
        queue = self._rsmq.queue(look.name)
        messages: dict[str, StoredMessage] = {}
        try:
            for state in ("hidden", "visible"):
                found = await queue.find(
                    state=state, min_receives=2, limit=SAMPLE, budget=LOOKS, max_bytes=0
                )
                messages |= {message.id: message for message in found.messages}
        except (QueueDoesNotExist, NotPermitted):
            return  # deleted since; or told of by the audit
        self.findings += judge_deliveries(look, list(messages.values()))

    def judge(
        self,
        findings: Iterable[Finding],
        before: Snapshot,
        after: Snapshot,
        heard: Heard | None,
    ) -> None:
        is_waiting = before.visible > self._phantoms.get(before.name, 0)
        for finding in findings:
            if finding.code in ("nobody-listens", "falls-behind") and not is_waiting:
                continue
            changed = with_change(finding, before, after)
            if changed is not None:
                self.findings.append(changed)
        self.findings += judge_change(before, after, heard)

    def result(self) -> list[Finding]:
        """Each once: a snapshot and an audit show the same half-made queue."""
        half_made: set[str] = set()
        findings: list[Finding] = []
        for finding in self.findings:
            if finding.code == "half-made" and finding.queue in half_made:
                continue
            if finding.code == "half-made":
                half_made.add(finding.queue)
            findings.append(finding)
        return worst_first(findings)
