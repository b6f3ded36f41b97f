"""Dead letters: why they died, and their way back."""

import os
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Final

from cyclopts import Parameter
from rich.text import Text

from ..client import AsyncRSMQ
from ..codecs import BYTES
from ..errors import NotPermitted
from ..models import DeadLetter, Place, ReasonGroup, Snapshot, StoredMessage, reason_group
from ..queue import Queue
from .errors import NotDone
from .listing import age, preview, print_rows
from .output import (
    AsJson,
    DryRun,
    clip,
    console,
    foreign,
    is_wide,
    notes,
    number,
    plain,
    print_json,
    table,
)
from .progress import Progress, counted
from .server import DEFAULT_SERVER, Server

BODY_BYTES: Final = 200
"""Of each body in a list."""
PAGE: Final = 1000
UNKNOWN: Final = "(not known)"


async def dead(
    queue: str,
    *,
    list_: Annotated[bool, Parameter(name="--list", negative="")] = False,
    limit: int = 20,
    server: Server = DEFAULT_SERVER,
    json: AsJson = False,
) -> None:
    """Show the dead letters by why they died: how many, since when, and an example.

    Args:
        queue: a queue that has a dead-letter queue, or a dead-letter queue.
        list_: show single dead letters instead.
        limit: the most dead letters to show with --list, up to 1000.
    """
    async with server.connect() as rsmq:
        letters, look = await _dead_letter_queue(rsmq, queue)
        if list_:
            _print_letters(await letters.reasons(limit), look, json=json)
        else:
            with notes.status("counting"):
                groups = await letters.reason_groups()
            _print_groups(groups, look, json=json)


async def _dead_letter_queue(rsmq: AsyncRSMQ, queue: str) -> tuple[Queue[bytes], Snapshot]:
    """The queue's dead-letter queue, or the queue itself if it is one; and what it looks like."""
    look = await rsmq.queue(queue).snapshot()
    if look.dead_letter_queue is not None:
        notes.print(f"dead letters of {queue}: queue {look.dead_letter_queue}", markup=False)
        look = await rsmq.queue(look.dead_letter_queue).snapshot()
    elif not await _is_dead_letter_queue(rsmq, queue):
        raise NotDone(f"{queue} has no dead-letter queue, and is not one of another queue")
    return rsmq.queue(look.name, codec=BYTES), look


async def _is_dead_letter_queue(rsmq: AsyncRSMQ, queue: str) -> bool:
    """Whether a queue names it, or letters in it say so: the queue may have been changed since."""
    with suppress(NotPermitted):  # not all users may look at all queues
        names = {look.dead_letter_queue for look in await rsmq.snapshots()}
        return queue in names or any(letter.queue for letter in await rsmq.queue(queue).reasons())
    return True


def _print_groups(groups: list[ReasonGroup], look: Snapshot, *, json: bool) -> None:
    if json:
        print_json(groups)
        return
    if not groups:
        notes.print(f"no dead letters in {look.name}", markup=False)
        return
    now = look.server_time
    shows_all = is_wide()
    id_column = ("id of the example",) if shows_all else ()
    rows = table("why", ">dead", "~from", ">first ago", ">last ago", "~example", *id_column)
    for group in groups:
        rows.add_row(
            foreign(group.group) if group.group else Text(UNKNOWN, "dim"),
            number(group.count),
            clip(Text(", ".join(qname or UNKNOWN for qname in group.queues))),
            *(age(group.first_died_at, now), age(group.last_died_at, now)),
            clip(foreign(group.example_reason.removeprefix(f"{group.group}: "))),
            *([foreign(group.example_id)] if shows_all else ()),
        )
    print_rows(rows)
    counted_letters = sum(group.count for group in groups)
    if counted_letters < look.messages:
        text = f"counted the first {counted_letters:,} of {counted(look.messages)}"
        notes.print(text, markup=False)


def _print_letters(letters: list[DeadLetter], look: Snapshot, *, json: bool) -> None:
    if json:
        facts: list[dict[str, object]] = [plain(letter) for letter in letters]
        print_json([fact | {"body": fact.pop("raw")} for fact in facts])
        return
    if not letters:
        notes.print(f"no dead letters in {look.name}", markup=False)
        return
    rows = table("id", ">died ago", "from", ">recv", "~reason", "~body")
    for letter in letters:
        raw = letter.raw[:BODY_BYTES]
        rows.add_row(
            foreign(letter.id),
            age(letter.died_at, look.server_time) if letter.queue else "-",
            letter.queue or UNKNOWN,
            f"{letter.receive_count}x" if letter.queue else "-",
            clip(foreign(letter.reason)),
            clip(preview(raw, is_cut=len(raw) < len(letter.raw))),
        )
    print_rows(rows)
    if (further := look.messages - len(letters)) > 0:
        notes.print(f"{further:,} more", markup=False)


async def redrive(
    queue: str,
    *,
    to: str | None = None,
    reason: str | None = None,
    text: str | None = None,
    limit: int | None = None,
    rate: float | None = None,
    dry_run: DryRun = False,
    server: Server = DEFAULT_SERVER,
) -> None:
    """Send dead letters back to the queues that they died in.

    Each keeps its id, and begins with a receive count of 0. Dead letters that are hidden stay. Exit
    code 1 if there are none to send back.

    Args:
        queue: a queue, for the dead letters that died in it; or a dead-letter queue, for all.
        to: send all to this queue; needed for those whose queue is not known.
        reason: only those that died for this reason, as `dead` shows it: the name of an exception.
        text: only those whose body contains this.
        limit: the most to send back.
        rate: the most to send back a second.
    """
    async with server.connect() as rsmq:
        letters, look = await _dead_letter_queue(rsmq, queue)
        choice = _Choice(reason, text, None if look.name == queue else queue, to, limit)
        if dry_run:
            _tell_plan(look.name, await choice.count(letters), limit)
            return
        total = await choice.count(letters) if notes.is_terminal else None
        where = choice.includes if choice.needs_look else None
        run = letters.redrive(to, limit=limit, rate=rate, where=where, reason=reason)
        with Progress("moved", None if total is None else choice.total(total)) as progress:
            async for moved in run:
                progress.update(moved)
    if not progress.count:
        hint = "; `aiorsmq dead` shows the reasons" if reason is not None and look.visible else ""
        raise NotDone(f"nothing to move in {look.name}{hint}")
    console.print(f"moved {counted(progress.count)}", markup=False)


@dataclass(frozen=True)
class _Choice:
    """Which dead letters to send back, and where to."""

    reason: str | None
    text: str | None
    origin: str | None
    """The queue that they died in."""
    target: str | None
    """Where all go; None for back to where they died."""
    limit: int | None

    @property
    def needs_look(self) -> bool:
        return self.origin is not None or self.text is not None

    def includes(self, letter: DeadLetter) -> bool:
        has_text = self.text is None or os.fsencode(self.text) in letter.raw
        return has_text and (self.origin is None or letter.queue in ("", self.origin))

    def total(self, plan: Counter[str]) -> int:
        total = sum(number for target, number in plan.items() if target)
        return total if self.limit is None else min(self.limit, total)

    async def count(self, letters: Queue[bytes]) -> Counter[str]:
        """How many would go to which queue; those whose queue is not known are counted as ""."""
        plan: Counter[str] = Counter()
        place: Place | None = None
        with notes.status("counting"):
            while True:
                found = await letters.find(
                    text=self.text,
                    state="visible",
                    reason=self.reason or None,
                    limit=PAGE,
                    max_bytes=0,
                    after=place,
                )
                matches = [message for message in found.messages if self._counts(message)]
                plan.update(self.target or message.origin for message in matches)
                place = found.next
                if place is None:
                    break
        return plan

    def _counts(self, message: StoredMessage) -> bool:
        has_reason = self.reason is None or reason_group(message.reason) == self.reason
        return has_reason and (self.origin is None or message.origin in ("", self.origin))


def _tell_plan(qname: str, plan: Counter[str], limit: int | None) -> None:
    unknown = plan.pop("", 0)
    targets = ", ".join(f"{number:,} to {target}" for target, number in plan.most_common())
    first = "" if limit is None or limit >= plan.total() else f" (the first {limit:,} of them)"
    if targets:
        console.print(f"would move {targets}{first}", markup=False)
    if unknown:
        text = f"{counted(unknown)} would stay: their queue is not known, name one with --to"
        notes.print(text, markup=False, soft_wrap=True)
    if not targets:
        raise NotDone(f"nothing to move in {qname}")
