"""Messages that are in the wrong state or place: edited, moved."""

import asyncio
import os
import shlex
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from ..codecs import BYTES
from ..models import DeadLetter, StoredMessage
from ..queue import Queue
from . import reading
from .errors import NotDone, WrongUsage
from .output import console, notes
from .progress import Progress, counted
from .server import DEFAULT_SERVER, Server


async def edit(
    queue: str,
    id: str,
    *,
    body: str | None = None,
    file: Path | None = None,
    to: str | None = None,
    server: Server = DEFAULT_SERVER,
) -> None:
    """Edit a message or dead letter and send it again, in one step. Prints the new id.

    The new body is `--body`, `--file`, standard input, or what $EDITOR makes of the old one.
    Nothing happens if the message is received in between.

    Args:
        queue: the name of the queue.
        id: the id of the message.
        body: the new body.
        file: a file with the new body; "-" for standard input.
        to: the queue to send it to; the same by default, and of a dead letter the queue that it
            died in.
    """
    if body is not None and file is not None:
        raise WrongUsage("give a body or a file, not both")
    async with server.connect() as rsmq:
        handle = rsmq.queue(queue, codec=BYTES)
        message = await handle.get(id)
        if message is None:
            raise NotDone(f"no message {id} in {queue}")
        target = to or message.origin or None
        if body is not None:
            new_id = await _replace(handle, message, os.fsencode(body), target)
        elif file is not None or not reading.stdin_is_terminal():
            if not (raw := await reading.read(file)):
                raise WrongUsage("no new body: what was read is empty; --body '' makes it so")
            new_id = await _replace(handle, message, raw, target)
        else:
            new_id = await _edit_and_replace(handle, message, target, must_edit=to is None)
    console.print(new_id, markup=False)
    if target not in (None, queue):
        notes.print(f"sent to {target}", markup=False)


async def _replace(
    queue: Queue[bytes], message: StoredMessage, body: bytes, target: str | None
) -> str:
    new_id = await queue.replace(message.receipt, body, to=target)
    if new_id is None:
        raise NotDone(f"message {message.id} was received since, or is gone: nothing was changed")
    return new_id


async def _edit_and_replace(
    queue: Queue[bytes], message: StoredMessage, target: str | None, *, must_edit: bool
) -> str:
    """With an editor. If it fails afterwards, the edited text is kept."""
    descriptor, name = tempfile.mkstemp(prefix="aiorsmq-", suffix=".txt")
    path = Path(name)
    with os.fdopen(descriptor, "wb") as copy:
        copy.write(message.raw)
    is_edited = False
    try:
        await _run_editor(path)
        body = _read_copy(path)
        if not message.raw.endswith(b"\n"):
            body = body.removesuffix(b"\n")  # editors add one
        is_edited = body != message.raw
        if not is_edited and must_edit:
            raise NotDone("not edited: nothing was changed")
        new_id = await _replace(queue, message, body, target)
    except BaseException:
        if is_edited:
            notes.print(f"The edited text is in {path}", markup=False, soft_wrap=True)
        else:
            _remove(path)
        raise
    _remove(path)
    return new_id


def _read_copy(path: Path) -> bytes:
    return path.read_bytes()


def _remove(path: Path) -> None:
    path.unlink()


async def _run_editor(path: Path) -> None:
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    try:
        process = await asyncio.create_subprocess_exec(*shlex.split(editor), str(path))
    except OSError as error:
        raise NotDone(f"cannot run the editor {editor}: {error.strerror}") from error
    if await process.wait():
        raise NotDone(f"the editor {editor} failed: nothing was changed")


async def move(
    queue: str,
    to: str,
    *ids: str,
    limit: int | None = None,
    rate: float | None = None,
    text: str | None = None,
    server: Server = DEFAULT_SERVER,
) -> None:
    """Move messages to another queue: those that you name, or all that are visible.

    They are visible there at once, and begin with a receive count of 0. Without ids, hidden
    messages stay, and each keeps its id. A message that you name is moved even if it is hidden, and
    gets a new id, which is printed.

    Args:
        queue: the queue that they are in.
        to: the queue to move them to.
        ids: the ids of the messages; all visible ones if there are none.
        limit: the most messages to move.
        rate: the most messages to move a second.
        text: move only messages whose body contains this.
    """
    if ids and (limit, rate, text) != (None, None, None):
        raise WrongUsage("--limit, --rate and --text are for a move without ids")
    if to == queue:
        raise WrongUsage("a message is moved to another queue")
    async with server.connect() as rsmq:
        handle = rsmq.queue(queue, codec=BYTES)
        if ids:
            await _move_ids(handle, to, dict.fromkeys(ids))
            return
        total, hidden = await _count(handle, text)
        if limit is not None and total is not None:
            total = min(limit, total)
        where = None if text is None else _has_text(os.fsencode(text))
        with Progress("moved", total) as progress:
            async for moved in handle.redrive(to, limit=limit, rate=rate, where=where):
                progress.update(moved)
    console.print(f"moved {counted(progress.count)} to {to}", markup=False)
    if hidden:
        notes.print(f"{counted(hidden)} not moved: in flight or delayed", markup=False)


def _has_text(text: bytes) -> Callable[[DeadLetter], bool]:
    return lambda letter: text in letter.raw


async def _count(queue: Queue[bytes], text: str | None) -> tuple[int | None, int]:
    """How many are to be moved, None if that is not known; and how many are hidden."""
    look = await queue.snapshot()
    return look.visible if text is None else None, look.hidden


async def _move_ids(queue: Queue[bytes], target: str, ids: Iterable[str]) -> None:
    missing = 0
    moved = 0
    for id in ids:
        message = await queue.get(id)
        new_id = message and await queue.replace(message.receipt, message.raw, to=target, delay=0)
        if new_id:
            console.print(new_id, markup=False)
            moved += 1
        else:
            missing += 1
    tail = f", not there {missing:,}" if missing else ""
    if not moved:
        raise NotDone(f"moved 0{tail}")
    notes.print(f"moved {counted(moved)} to {target}{tail}", markup=False)
