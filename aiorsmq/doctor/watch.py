"""What is seen only if a queue is watched for some seconds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any, Final

from ..client import AsyncRSMQ
from ..models import Snapshot
from ..queue import Queue
from .finding import Finding, command, count, duration, verb

POLL: Final = 4.0
"""Seconds in which who polls comes by."""
GRACE: Final = 1.0
"""Seconds by which an announcement may come after what it announces."""


class Heard:
    """What was heard of a queue."""

    def __init__(self) -> None:
        self.listens: asyncio.Event = asyncio.Event()
        self.announced: asyncio.Event = asyncio.Event()

    async def hear_out(self) -> None:
        """Wait for an announcement that may be under way."""
        with suppress(TimeoutError):
            async with asyncio.timeout(GRACE):
                await self.announced.wait()


@asynccontextmanager
async def listening(rsmq: AsyncRSMQ, qnames: Sequence[str]) -> AsyncGenerator[Mapping[str, Heard]]:
    """Listen to queues in the block, from its beginning on."""
    heard = {name: Heard() for name in qnames}
    tasks = [asyncio.create_task(_listen(rsmq.queue(name), heard[name])) for name in qnames]
    try:
        with suppress(TimeoutError):
            async with asyncio.timeout(GRACE):
                for entry in heard.values():
                    await entry.listens.wait()
        yield heard
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _listen(queue: Queue[Any], heard: Heard) -> None:
    async with queue.announcements() as announcements:
        await anext(announcements)
        heard.listens.set()
        await anext(announcements)
        heard.announced.set()


def judge_change(before: Snapshot, after: Snapshot, heard: Heard | None) -> Iterator[Finding]:
    """What has become worse between two snapshots."""
    seconds = (after.server_time - before.server_time).total_seconds()
    sent = after.totalsent - before.totalsent
    if heard and heard.listens.is_set() and sent > 0 and not heard.announced.is_set():
        yield Finding(
            "silent-producers",
            "info",
            after.name,
            f"{count(sent, 'message')} {verb(sent, 'was', 'were')} sent in {duration(seconds)}, "
            "and none was announced: consumers find them only when they poll.",
            "Let producers announce: `realtime: true` in Node rsmq; this library does.",
        )
    if before.dead is not None and after.dead is not None and after.dead > before.dead:
        died = after.dead - before.dead
        yield Finding(
            "messages-die",
            "warning",
            after.name,
            f"{count(died, 'message')} {verb(died, 'has', 'have')} died in {duration(seconds)}; "
            f"{after.dead_letter_queue} holds {after.dead:,}.",
            command("dead", after.dead_letter_queue or ""),
        )


def with_change(finding: Finding, before: Snapshot, after: Snapshot) -> Finding | None:
    """A finding of the first snapshot, as the second one shows it; None if it does not stand."""
    received = after.totalrecv - before.totalrecv
    grown = after.messages - before.messages
    seconds = (after.server_time - before.server_time).total_seconds()
    if finding.code == "nobody-listens":
        if received > 0:
            return None
        if seconds >= POLL:
            text = f"{finding.text} None was received in {duration(seconds)}."
            return replace(finding, severity="critical", text=text, hint="", look="")
    if finding.code == "paused" and grown > 0:
        text = f"{finding.text} It grew by {grown:,} in {duration(seconds)}."
        return replace(finding, severity="critical", text=text)
    return finding
