"""Messages: looked at, and not received."""

import asyncio
import sys
from datetime import datetime, timedelta
from typing import Annotated, Final, Literal

from cyclopts import Parameter
from rich.text import Text

from ..models import Found, Place, StoredMessage
from ..queue import Queue
from .durations import Duration
from .errors import Interrupted, NotDone, WrongUsage
from .listing import (
    PRETTY_BYTES,
    age,
    message_rows,
    preview,
    print_body,
    print_line,
    print_rows,
    shown_bytes,
    state_of,
    stored_facts,
)
from .output import AsJson, console, foreign, notes, print_json, table
from .progress import counted
from .server import DEFAULT_SERVER, Server

State = Literal["visible", "hidden"]


async def peek(
    queue: str, *, limit: int = 10, server: Server = DEFAULT_SERVER, json: AsJson = False
) -> None:
    """Show the first messages, hidden ones too, and receive none.

    They are in the order in which they become visible, with the first 200 bytes of each body.

    Args:
        queue: the name of the queue.
        limit: the most messages to show.
    """
    async with server.connect() as rsmq:
        handle = rsmq.queue(queue)
        now = (await handle.snapshot()).server_time
        found = await handle.find(limit=limit, budget=limit)
    if json:
        print_json([stored_facts(message) for message in found.messages])
        return
    if not found.messages:
        notes.print(f"no messages in {queue}", markup=False)
        return
    print_rows(message_rows(found.messages, now))
    if (further := found.total - len(found.messages)) > 0:
        notes.print(f"{further:,} more", markup=False)


async def get(
    queue: str,
    id: str,
    *,
    raw: Annotated[bool, Parameter(negative="")] = False,
    server: Server = DEFAULT_SERVER,
    json: AsJson = False,
) -> None:
    """Show one message, hidden or not, and do not receive it.

    Exit code 1 if it is not there.

    Args:
        queue: the name of the queue.
        id: the id of the message.
        raw: write the body to standard output, byte for byte, and nothing else.
    """
    max_bytes = None if raw or json else PRETTY_BYTES
    async with server.connect() as rsmq:
        handle = rsmq.queue(queue)
        now = (await handle.snapshot()).server_time
        message = await handle.get(id, max_bytes=max_bytes)
    if message is None:
        raise NotDone(f"no message {id} in {queue}")
    if raw:
        sys.stdout.buffer.write(message.raw)
    elif json:
        print_json(stored_facts(message))
    else:
        _describe(message, now)
        console.print()
        print_body(message)
        if (shown := shown_bytes(message)) < message.size:
            text = f"These are {shown:,} of {message.size:,} bytes; --raw writes all."
            notes.print(text, markup=False, soft_wrap=True)


def _describe(message: StoredMessage, now: datetime) -> None:
    rows = table("", "")
    rows.show_header = False
    rows.add_row("id", foreign(message.id))
    rows.add_row("queue", message.queue)
    rows.add_row("state", state_of(message, now))
    rows.add_row("sent", _moment(message.sent_at, now))
    rows.add_row("first received", _moment(message.first_received_at, now))
    rows.add_row("received", f"{message.receive_count}x")
    rows.add_row("size", counted(message.size, "byte"))
    if message.reason:
        rows.add_row("died in", message.origin or "-")
        rows.add_row("reason", foreign(message.reason))
    print_rows(rows)


def _moment(time: datetime | None, now: datetime) -> str:
    return "-" if time is None else f"{time:%Y-%m-%d %H:%M:%S} UTC, {age(time, now)} ago"


async def find(
    queue: str,
    *,
    text: str | None = None,
    state: State | None = None,
    older_than: Duration | None = None,
    min_receives: int | None = None,
    reason: str | None = None,
    limit: int = 20,
    budget: int = 100_000,
    after: str | None = None,
    server: Server = DEFAULT_SERVER,
    json: AsJson = False,
) -> None:
    """Search the messages, hidden ones too, and receive none.

    Exit code 1 if none is found. All conditions must be met.

    Args:
        queue: the name of the queue.
        text: what the body contains, byte for byte.
        state: visible or hidden.
        older_than: since it was sent.
        min_receives: how often it was received.
        reason: what the reason of a dead letter contains.
        limit: the most messages to find.
        budget: the most messages to look at.
        after: where an earlier search stopped, as it said.
    """
    async with server.connect() as rsmq:
        handle = rsmq.queue(queue)
        now = (await handle.snapshot()).server_time
        with notes.status("searching"):
            found = await handle.find(
                text=text,
                state=state,
                older_than=older_than,
                min_receives=min_receives,
                reason=reason,
                limit=limit,
                budget=budget,
                after=None if after is None else read_place(after),
            )
    looks = f"looked at {found.examined:,} of {counted(found.total)}"
    if json:
        print_json(_found_facts(found))
    elif found.messages:
        print_rows(message_rows(found.messages, now))
        notes.print(looks, markup=False)
    if found.next is not None:
        text = f"go on with --after '{write_place(found.next)}'"
        notes.print(text, markup=False, soft_wrap=True)
    if not found.messages:
        raise NotDone(f"nothing found in {queue}, {looks}")


def _found_facts(found: Found) -> dict[str, object]:
    return {
        "messages": [stored_facts(message) for message in found.messages],
        "examined": found.examined,
        "total": found.total,
        "next": None if found.next is None else write_place(found.next),
    }


def write_place(place: Place) -> str:
    return f"{place.score}/{place.id}"


def read_place(text: str) -> Place:
    score, slash, id = text.partition("/")
    if not slash:
        raise WrongUsage(f"--after {text}: must be what an earlier search said")
    return Place(score, id)


PAUSE: Final = 0.25
"""Seconds between two looks of `tail`: not more often than a reader can follow."""
POLL: Final = 1.0
"""Seconds after which it looks without an announcement: not all producers send them."""
OVERLAP_MS: Final = 2000
"""What it looks at again: a message may be stored a little later than its id says."""
STEP: Final = 1000
HIDDEN_BUDGET: Final = 2000
REMEMBERED: Final = 100_000
"""Ids that it knows it has shown."""


async def tail(queue: str, *, server: Server = DEFAULT_SERVER, json: AsJson = False) -> None:
    """Show new messages as they come, and receive none. Ctrl-C ends it.

    Not shown is what was received and deleted before it could be looked at: it looks four times a
    second at most. If more than 2,000 messages are hidden, not all of these are looked at.

    Args:
        queue: the name of the queue.
        json: print one line of JSON for each message.
    """
    count = 0
    try:
        async with server.connect() as rsmq:
            handle = rsmq.queue(queue)
            news = _News(handle)
            await news.begin()
            text = (
                f"New messages of {queue}, from now on; Ctrl-C ends. What is received and deleted"
            )
            notes.print(f"{text} at once may not be shown.", markup=False, soft_wrap=True)
            async with handle.announcements() as announcements:
                while True:
                    try:
                        async with asyncio.timeout(POLL):
                            await anext(announcements)
                    except TimeoutError:
                        pass
                    for message in await news.look():
                        _print_news(message, json=json)
                        count += 1
                    await asyncio.sleep(PAUSE)
    except asyncio.CancelledError:
        raise Interrupted(f"interrupted: {counted(count)} shown") from None


def _print_news(message: StoredMessage, *, json: bool) -> None:
    if json:
        print_json(stored_facts(message))
    else:
        sent = Text(f"{message.sent_at or message.visible_at:%H:%M:%S}", "dim")
        print_line(sent, foreign(message.id), preview(message.raw, is_cut=message.is_cut))
    console.file.flush()


class _News:
    """What came into a queue since it was looked at last."""

    def __init__(self, queue: Queue[str]) -> None:
        self._queue = queue
        self._shown: dict[str, None] = {}

    async def begin(self) -> None:
        """What is there now is not new."""
        now = (await self._queue.snapshot()).server_time
        self._since = now - timedelta(milliseconds=OVERLAP_MS)  # clocks of producers differ
        self._latest_ms = now.timestamp() * 1000
        await self.look()

    async def look(self) -> list[StoredMessage]:
        messages = await self._find_hidden() + await self._find_visible()
        new = {message.id: message for message in messages if self._is_new(message)}
        self._shown |= dict.fromkeys(new)
        for id in list(self._shown)[: max(0, len(self._shown) - REMEMBERED)]:
            del self._shown[id]
        return sorted(new.values(), key=lambda message: message.sent_at or message.visible_at)

    async def _find_hidden(self) -> list[StoredMessage]:
        found = await self._queue.find(state="hidden", limit=STEP, budget=HIDDEN_BUDGET)
        return found.messages

    async def _find_visible(self) -> list[StoredMessage]:
        """Those that became visible since shortly before the last look."""
        place = Place(str(self._latest_ms - OVERLAP_MS), "")
        messages: list[StoredMessage] = []
        while True:
            found = await self._queue.find(state="visible", limit=STEP, after=place)
            messages += found.messages
            if found.next is None:
                break
            place = found.next
        times = (message.visible_at.timestamp() * 1000 for message in messages)
        self._latest_ms = max(self._latest_ms, *times, 0.0)
        return messages

    def _is_new(self, message: StoredMessage) -> bool:
        is_sent_since = message.sent_at is None or message.sent_at >= self._since
        return is_sent_since and message.id not in self._shown
