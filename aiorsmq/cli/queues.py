"""Queues: listed, described, created, changed, deleted."""

from typing import Annotated

from cyclopts import Parameter
from rich.text import Text

from ..models import Snapshot
from .errors import NotDone
from .output import AsJson, console, duration, foreign, number, plain, print_json, table
from .server import DEFAULT_SERVER, Server


async def ls(*, server: Server = DEFAULT_SERVER, json: AsJson = False) -> None:
    """List the queues: what waits in each, and for how long."""
    async with server.connect() as rsmq:
        queues = await rsmq.snapshots()
    if json:
        print_json([facts(queue) for queue in queues])
        return
    if not queues:
        raise NotDone(f"no queues in namespace {server.ns!r}")
    rows = table(
        *("queue", ">visible", ">in flight", ">delayed", ">oldest"),
        *(">dead", ">listening", ">sent", ">received", "state"),
    )
    for queue in queues:
        rows.add_row(
            queue.name,
            number(queue.visible),
            *(estimate(queue, queue.in_flight), estimate(queue, queue.delayed)),
            duration(queue.oldest_claimable_age) if queue.visible else "-",
            *(number(queue.dead), number(queue.consumers)),
            *(number(queue.totalsent), number(queue.totalrecv)),
            state(queue),
        )
    console.print(rows)


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
    vt: float | None = None,
    delay: float | None = None,
    maxsize: int | None = None,
    max_receives: int | None = None,
    dead_letter_queue: Annotated[str | None, Parameter(alias="--dlq")] = None,
    server: Server = DEFAULT_SERVER,
) -> None:
    """Create a queue, and its dead-letter queue.

    Args:
        queue: its name.
        vt: seconds for which a received message stays hidden; 30 by default.
        delay: seconds for which a sent message stays hidden at first; 0 by default.
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


def facts(queue: Snapshot) -> dict[str, object]:
    """A snapshot as JSON has it, with what is computed."""
    computed = {
        name: getattr(queue, name) for name in ("messages", "in_flight", "delayed", "is_estimated")
    }
    return plain(queue) | computed


def estimate(queue: Snapshot, value: int) -> str:
    return f"~{value:,}" if queue.is_estimated else f"{value:,}"


def state(queue: Snapshot) -> Text:
    """In one word or two, what an operator should know first."""
    if queue.paused_since is not None:
        return Text("paused", "yellow")
    if queue.visible and queue.consumers == 0:
        return Text("nobody listens", "yellow")
    return Text("ok", "green")
