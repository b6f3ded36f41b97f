"""Messages: sent, received, popped, deleted."""

import os
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Annotated, Final

from cyclopts import Parameter

from ..codecs import BYTES
from ..errors import NotPermitted
from ..models import Message
from ..queue import Queue
from . import reading
from .durations import Duration
from .errors import NotDone, WrongUsage
from .listing import message_facts, print_line, whole
from .output import AsJson, Yes, console, foreign, notes, print_json
from .progress import Progress, counted
from .server import DEFAULT_SERVER, Server

BATCH: Final = 100
"""Messages that are sent in one step."""
BATCH_BYTES: Final = 256 * 1024
"""Bytes after which a step begins."""
RECEIVE_STEP: Final = 64


async def send(
    queue: str,
    body: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    *,
    file: Path | None = None,
    lines: Annotated[bool, Parameter(negative="")] = False,
    delay: Duration | None = None,
    server: Server = DEFAULT_SERVER,
    json: AsJson = False,
) -> None:
    """Send a message, or each line of a file as one. Prints the id.

    Args:
        queue: the name of the queue.
        body: the message. If it is "-" or missing, standard input is sent, byte for byte.
        file: a file to send, byte for byte.
        lines: send each line as a message, without its end.
        delay: how long the message stays hidden; the queue's delay by default.
        json: print a list of the ids.
    """
    _check_sources(body, file, lines=lines)
    async with server.connect() as rsmq:
        handle = rsmq.queue(queue, codec=BYTES)
        if lines:
            ids = await _send_lines(handle, file, delay)
            text = f"sent {counted(len(ids))}"
        else:
            raw = await reading.read(file) if body in (None, "-") else os.fsencode(body or "")
            if not raw and body is None and file is None:
                raise WrongUsage("standard input is empty; '' sends an empty message")
            ids = [await handle.send(raw, delay=delay)]
            text = ids[0]
    if json:
        print_json(ids)
    else:
        console.print(text, markup=False)


def _check_sources(body: str | None, file: Path | None, *, lines: bool) -> None:
    if body is not None and body.startswith("-") and body != "-":
        raise WrongUsage(
            f"no option {body}; pipe a body that begins with a hyphen into the command"
        )
    if body not in (None, "-") and (file is not None or lines):
        raise WrongUsage("give a body, or a file, or standard input")
    if body is None and file is None and reading.stdin_is_terminal():
        raise WrongUsage(
            "nothing to send: give a body or --file, or pipe something into the command"
        )


async def _send_lines(queue: Queue[bytes], file: Path | None, delay: float | None) -> list[str]:
    ids: list[str] = []
    total = await reading.count_lines(file)
    with Progress("sent", total, hint=_next_line) as progress:
        async with aclosing(_batches(reading.lines(file))) as batches:
            async for batch in batches:
                ids += await queue.send_many(batch, delay=delay)
                progress.update(len(ids))
    return ids


def _next_line(count: int) -> str:
    return f"; line {count + 1:,} is next"


async def _batches(lines: AsyncGenerator[bytes]) -> AsyncGenerator[list[bytes]]:
    batch: list[bytes] = []
    size = 0
    async with aclosing(lines):
        async for line in lines:
            batch.append(line)
            size += len(line)
            if len(batch) == BATCH or size >= BATCH_BYTES:
                yield batch
                batch = []
                size = 0
    if batch:
        yield batch


async def receive(
    queue: str,
    *,
    limit: int = 1,
    vt: Duration | None = None,
    wait: Duration = 0,
    delete: Annotated[bool, Parameter(negative="")] = False,
    server: Server = DEFAULT_SERVER,
    json: AsJson = False,
) -> None:
    """Receive messages, as a consumer does.

    Exit code 1 if there is none. Prints the id, how often it was received, and the body.

    Args:
        queue: the name of the queue.
        limit: the most messages to receive.
        vt: how long they are hidden from other consumers; the queue's vt by default.
        wait: how long to wait for the first message.
        delete: delete each message when it is printed. Without this they become visible again.
        json: print one line of JSON for each message.
    """
    last: Message[bytes] | None = None
    count = 0
    async with server.connect() as rsmq:
        handle = rsmq.queue(queue, codec=BYTES)
        while count < limit:
            step = min(RECEIVE_STEP, limit - count)
            messages = await handle.receive_many(step, vt=vt, wait=0 if count else wait)
            for message in messages:
                _print_message(message, json=json)
                if delete:
                    await message.delete()
                last = message
            count += len(messages)
            if not messages:
                break
        if last is None:
            raise NotDone(await _explain_none(handle))
        if not delete:
            subject = "It stays" if count == 1 else f"These {counted(count)} stay"
            text = f"{subject} in the queue, hidden until {last.visible_until:%H:%M:%S} UTC"
            notes.print(f"{text}; --delete deletes.", markup=False, soft_wrap=True)


async def pop(
    queue: str, *, wait: Duration = 0, server: Server = DEFAULT_SERVER, json: AsJson = False
) -> None:
    """Receive the next message and delete it in the same step.

    Exit code 1 if there is none.

    Args:
        queue: the name of the queue.
        wait: how long to wait for a message.
    """
    async with server.connect() as rsmq:
        handle = rsmq.queue(queue, codec=BYTES)
        message = await handle.pop(wait=wait)
        if message is None:
            raise NotDone(await _explain_none(handle))
    _print_message(message, json=json)


async def _explain_none(queue: Queue[bytes]) -> str:
    with suppress(NotPermitted):  # consumers may not look
        look = await queue.snapshot()
        if look.paused_since is not None:
            return f"{queue.name} is paused; aiorsmq resume {queue.name} ends that"
        if look.hidden:
            return f"no visible message in {queue.name}; {look.hidden:,} hidden"
    return f"no visible message in {queue.name}"


def _print_message(message: Message[bytes], *, json: bool) -> None:
    if json:
        print_json(message_facts(message))
    else:
        print_line(foreign(message.id), f"{message.receive_count}x", whole(message.raw))
    console.file.flush()  # what is deleted next has been printed


async def delete(
    queue: str,
    *ids: str,
    yes: Yes = False,
    server: Server = DEFAULT_SERVER,
) -> None:
    """Delete messages by their ids, even if a consumer holds them.

    Exit code 1 if none is there.

    Args:
        queue: the name of the queue.
        ids: the ids of the messages. For several it asks first.
    """
    if not ids:
        raise WrongUsage("name one id or more")
    if len(ids) > 1:
        await reading.confirm(f"Delete {counted(len(ids))} of {queue}?", yes=yes)
    async with server.connect() as rsmq:
        deleted = await rsmq.queue(queue).delete_many(dict.fromkeys(ids))
    missing = deleted.count(False)
    text = f"deleted {deleted.count(True):,}" + (f", not there {missing:,}" if missing else "")
    if missing == len(deleted):
        raise NotDone(text)
    console.print(text, markup=False)
