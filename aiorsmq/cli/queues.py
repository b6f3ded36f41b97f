"""Queues: listed, described, created, changed, deleted."""

from collections.abc import Container
from contextlib import suppress
from functools import partial
from typing import Annotated, Final, Literal

from cyclopts import Parameter
from rich.text import Text

from ..client import AsyncRSMQ
from ..doctor import duration, judge
from ..errors import ClientClosed
from ..models import QueueSettings, Snapshot
from . import reading
from .durations import Duration
from .errors import NotDone, WrongUsage
from .listing import print_rows, short
from .output import (
    AsJson,
    DryRun,
    Yes,
    clip,
    console,
    foreign,
    is_narrow,
    is_wide,
    notes,
    number,
    plain,
    print_json,
    table,
)
from .progress import counted
from .server import DEFAULT_SERVER, Server

DeadLetterQueue = Annotated[str | None, Parameter(alias="--dlq")]


async def ls(*, server: Server = DEFAULT_SERVER, json: AsJson = False) -> None:
    """List the queues: what waits in each, and for how long."""
    async with server.connect() as rsmq:
        queues = await rsmq.snapshots()
    if json:
        print_json([facts(queue) for queue in queues])
        return
    if not queues:
        raise NotDone(f"no queues in namespace {server.ns!r}")
    shows_all = is_wide()
    shows_more = not is_narrow()
    rows = table(
        *("~queue", ">visible"),
        *((">in flight", ">delayed") if shows_more else ()),
        ">oldest",
        *((">dead",) if shows_more else ()),
        *((">listening", ">sent", ">received") if shows_all else ()),
        "state",
    )
    dead_letter_queues = {queue.dead_letter_queue for queue in queues}
    for queue in queues:
        totals = (queue.consumers, queue.totalsent, queue.totalrecv)
        hidden = (estimate(queue, queue.in_flight), estimate(queue, queue.delayed))
        rows.add_row(
            clip(Text(queue.name)),
            number(queue.visible),
            *(hidden if shows_more else ()),
            short(queue.oldest_claimable_age) if queue.visible else "-",
            *((number(queue.dead),) if shows_more else ()),
            *(map(number, totals) if shows_all else ()),
            state(queue, dead_letter_queues),
        )
    print_rows(rows)


async def info(queue: str, *, server: Server = DEFAULT_SERVER, json: AsJson = False) -> None:
    """Describe one queue: its settings and what it holds.

    Args:
        queue: its name.
    """
    async with server.connect() as rsmq:
        look = await rsmq.queue(queue).snapshot()
    if json:
        print_json(facts(look))
        return
    rows = table("", "")
    rows.show_header = False
    waiting = f", the first for {duration(look.oldest_claimable_age)}" if look.visible else ""
    rows.add_row("queue", look.name)
    rows.add_row("visible", number(look.visible) + waiting)
    rows.add_row("in flight", estimate(look, look.in_flight))
    rows.add_row("delayed", estimate(look, look.delayed))
    if look.next_due is not None:
        seconds = (look.next_due - look.server_time).total_seconds()
        rows.add_row("next due", f"in {duration(seconds)}")
    rows.add_row("dead letters", number(look.dead))
    rows.add_row("listening", f"{number(look.consumers)} clients")
    rows.add_row("sent, received", f"{look.totalsent:,}, {look.totalrecv:,}")
    rows.add_row("state", state(look))
    for name, value in look.stored.items():
        rows.add_row(name, foreign(value))
    rows.add_row("created", f"{look.created:%Y-%m-%d %H:%M:%S} UTC")
    rows.add_row("modified", f"{look.modified:%Y-%m-%d %H:%M:%S} UTC")
    console.print(rows)


async def create(
    queue: str,
    *,
    vt: Duration | None = None,
    delay: Duration | None = None,
    maxsize: int | None = None,
    max_receives: int | None = None,
    dead_letter_queue: DeadLetterQueue = None,
    server: Server = DEFAULT_SERVER,
) -> None:
    """Create a queue, and its dead-letter queue.

    Args:
        queue: its name.
        vt: for how long a received message stays hidden; 30 by default.
        delay: for how long a sent message stays hidden at first; 0 by default.
        maxsize: bytes of the longest message, or -1 for unlimited; 65536 by default.
        max_receives: how often a message may be received before it dies.
        dead_letter_queue: where dead messages go.
    """
    async with server.connect() as rsmq:
        await rsmq.queue(queue).create(
            vt=vt,
            delay=delay,
            maxsize=maxsize,
            max_receives=max_receives,
            dead_letter_queue=dead_letter_queue,
        )
    console.print(f"created {queue}")
    _warn_of_drops(max_receives, dead_letter_queue)


def _warn_of_drops(max_receives: int | None, dead_letter_queue: str | None) -> None:
    if max_receives and not dead_letter_queue:
        text = f"messages that are received more than {max_receives} times are deleted now:"
        notes.print(f"{text} name a --dlq to keep them", markup=False)


async def set_(
    queue: str,
    *,
    vt: Duration | None = None,
    delay: Duration | None = None,
    maxsize: int | None = None,
    max_receives: int | None = None,
    dead_letter_queue: DeadLetterQueue = None,
    dry_run: DryRun = False,
    server: Server = DEFAULT_SERVER,
) -> None:
    """Change settings of a queue, and show the old and the new values.

    Args:
        queue: its name.
        vt: for how long a received message stays hidden.
        delay: for how long a sent message stays hidden at first.
        maxsize: bytes of the longest message, or -1 for unlimited.
        max_receives: how often a message may be received before it dies; 0 for no limit.
        dead_letter_queue: where dead messages go; '' for nowhere, which ends the limit too.
    """
    settings = QueueSettings(
        vt=vt,
        delay=delay,
        maxsize=maxsize,
        max_receives=max_receives,
        dead_letter_queue=dead_letter_queue,
    )
    if all(value is None for value in settings.values()):
        raise WrongUsage("name a setting to change, as --vt 60")
    async with server.connect() as rsmq:
        before = await rsmq.queue(queue).snapshot()
        if dry_run:
            await _check(queue, settings)
            new = _expect(settings)
        else:
            after = await rsmq.queue(queue).set_attributes(**settings)
            new = {name: getattr(after, name) for name in settings}
            _warn_of_drops(after.max_receives, after.dead_letter_queue)
    rows = table("setting", ">old", "", "new")
    for name, value in new.items():
        old = getattr(before, name)
        if old != value:
            rows.add_row(name, _setting(old), "->", Text(_setting(value), "green"))
    if rows.row_count:
        console.print(rows)
    if dry_run:
        notes.print("nothing was changed: this was a dry run", markup=False)
    elif not rows.row_count:
        notes.print("the settings were so already", markup=False)


async def _check(queue: str, settings: QueueSettings) -> None:
    """Refuse wrong values, as the change would."""
    rsmq = AsyncRSMQ()
    await rsmq.aclose()
    with suppress(ClientClosed):  # that it says after it has checked them
        await rsmq.queue(queue).set_attributes(**settings)


def _expect(settings: QueueSettings) -> dict[str, object]:
    """What the settings will be; those that are not named, and stay, are left out."""
    new: dict[str, object] = {name: value for name, value in settings.items() if value is not None}
    if new.get("max_receives") == 0:
        new["max_receives"] = None
    if new.get("dead_letter_queue") == "":
        new["dead_letter_queue"] = None
        new.setdefault("max_receives", None)
    return new


def _setting(value: object) -> str:
    match value:
        case None:
            return "-"
        case float():
            return f"{value:.0f}"
        case _:
            return str(value)


async def rm(
    queue: str,
    *,
    missing_ok: Annotated[bool, Parameter(negative="")] = False,
    yes: Yes = False,
    server: Server = DEFAULT_SERVER,
) -> None:
    """Delete a queue with all its messages.

    Args:
        queue: its name.
        missing_ok: do not fail if it does not exist.
    """
    async with server.connect() as rsmq:
        handle = rsmq.queue(queue)
        if not yes:
            looks = await rsmq.snapshots([queue])
            text = f" and its {counted(looks[0].messages)}" if looks else ""
            await reading.confirm(f"Delete queue {queue}{text}?", yes=yes)
        is_deleted = await handle.delete(missing_ok=missing_ok)
    console.print(f"deleted {queue}" if is_deleted else f"no queue {queue}", markup=False)


async def pause(queue: str, *, server: Server = DEFAULT_SERVER) -> None:
    """Have all consumers receive nothing more until `resume`; sends go on.

    Consumers that use this library obey at once. Node rsmq and PyRSMQ know of no pause.

    Args:
        queue: its name.
    """
    async with server.connect() as rsmq:
        is_new = await rsmq.queue(queue).pause()
    console.print(f"paused {queue}" if is_new else f"{queue} was paused already", markup=False)


async def resume(queue: str, *, server: Server = DEFAULT_SERVER) -> None:
    """End a pause.

    Args:
        queue: its name.
    """
    async with server.connect() as rsmq:
        was_paused = await rsmq.queue(queue).resume()
    console.print(f"resumed {queue}" if was_paused else f"{queue} was not paused", markup=False)


async def purge(
    queue: str,
    *,
    older_than: Duration | None = None,
    min_receives: int | None = None,
    text: str | None = None,
    state: Literal["visible", "hidden"] | None = None,
    reason: str | None = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    server: Server = DEFAULT_SERVER,
) -> None:
    """Delete all messages of a queue, or those that meet all conditions; hidden ones too.

    Args:
        queue: its name.
        older_than: sent longer ago than this.
        min_receives: received at least so often.
        text: with this in the body.
        state: only visible, or only hidden ones.
        reason: with this in the reason, for dead letters.
    """
    async with server.connect() as rsmq:
        purge_queue = partial(
            rsmq.queue(queue).purge,
            older_than=older_than,
            min_receives=min_receives,
            text=text,
            state=state,
            reason=reason,
        )
        if dry_run or not yes:
            with notes.status("counting"):
                count = await purge_queue(dry_run=True)
            if dry_run:
                console.print(f"would delete {counted(count)} of {queue}", markup=False)
                return
            await reading.confirm(f"Delete {counted(count)} of {queue}?", yes=yes)
        with notes.status("deleting"):
            deleted = await purge_queue()
    console.print(f"deleted {counted(deleted)} of {queue}", markup=False)


def facts(queue: Snapshot) -> dict[str, object]:
    """A snapshot as JSON has it, with what is computed."""
    computed = {
        name: getattr(queue, name) for name in ("messages", "in_flight", "delayed", "is_estimated")
    }
    return plain(queue) | computed


def estimate(queue: Snapshot, value: int) -> str:
    return f"~{value:,}" if queue.is_estimated else f"{value:,}"


_STATES: Final = {
    "paused": "paused",
    "nobody-listens": "nobody listens",
    "falls-behind": "falls behind",
    "delay-hides-all": "all delayed",
}
"""Words for findings of `doctor`."""
_COLOURS: Final = {"critical": "red", "warning": "yellow", "info": ""}


def state(queue: Snapshot, dead_letter_queues: Container[str | None] = ()) -> Text:
    """In one word or two, what an operator should know first, by the rules of `doctor`.

    Args:
        dead_letter_queues: the names of those that are known: nobody needs to listen to them.
    """
    is_dead_letter_queue = queue.name in dead_letter_queues
    for finding in judge(queue, is_dead_letter_queue=is_dead_letter_queue):
        if finding.code in _STATES:
            return Text(_STATES[finding.code], _COLOURS[finding.severity])
    if is_dead_letter_queue and queue.messages:
        return Text("dead letters", "yellow")
    return Text("ok", "green")
