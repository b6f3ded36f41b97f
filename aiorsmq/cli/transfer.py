"""A queue is taken out as JSON lines, and put in again."""

import json
import sys
from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import Annotated, BinaryIO

from cyclopts import Parameter

from ..client import AsyncRSMQ
from ..errors import InvalidParameterValue
from ..models import ExportHeader, Place
from . import reading
from .errors import WrongUsage
from .look import read_place, write_place
from .output import console, notes
from .progress import Progress, counted
from .server import DEFAULT_SERVER, Server


async def export(
    queue: str,
    *,
    file: Path | None = None,
    after: str | None = None,
    server: Server = DEFAULT_SERVER,
) -> None:
    """Write all messages as JSON lines, hidden ones too, byte for byte; receive none.

    The first line has the settings of the queue. Of a queue in use a message may come twice, or be
    missed: pause it first.

    Args:
        queue: its name.
        file: a new file to write to; standard output by default.
        after: go on where an earlier export ended early, as it said; then the file is continued.
    """
    place = None if after is None else read_place(after)
    async with server.connect() as rsmq:
        lines = rsmq.queue(queue).export(after=place)
        header = await anext(lines) if place is None else b""
        total = ExportHeader.parse(header).total if header else None
        written = _Written()
        with (
            _target(file, is_continued=place is not None) as target,
            Progress("exported", total, hint=written.hint) as progress,
        ):
            target.write(header)
            async for line in lines:
                target.write(line)
                written.last = line
                progress.advance(1)
            target.flush()
    notes.print(f"exported {counted(progress.count)} of {queue}", markup=False, soft_wrap=True)


class _Written:
    """Where an export is."""

    last: bytes = b""

    def hint(self, _count: int) -> str:
        if not self.last:
            return ""
        line = json.loads(self.last)
        place = Place(str(line["visible_at"]), line["id"])
        return f"; go on with --after '{write_place(place)}'"


@contextmanager
def _target(path: Path | None, *, is_continued: bool) -> Generator[BinaryIO]:
    if path is None:
        yield sys.stdout.buffer
        return
    try:
        file = path.open("ab" if is_continued else "xb")
    except FileExistsError:
        raise WrongUsage(f"{path} exists already") from None
    except OSError as error:
        raise WrongUsage(f"cannot write {path}: {error.strerror}") from error
    with file:
        yield file


async def import_(
    queue: str,
    *,
    file: Path | None = None,
    keep_ids: Annotated[bool, Parameter(negative="")] = False,
    keep_times: Annotated[bool, Parameter(negative="")] = False,
    skip: int = 0,
    create: Annotated[bool, Parameter(negative="")] = False,
    server: Server = DEFAULT_SERVER,
) -> None:
    """Send the messages of an export.

    They are new messages, visible at once, unless the flags say otherwise. If it ends early, it
    says with which --skip to go on. By then 100 lines more may be stored; --keep-ids stores none
    of these twice.

    Args:
        queue: the queue to send them to.
        file: the export; standard input by default.
        keep_ids: keep ids, receive counts and reasons; a message that is there already is left
            alone.
        keep_times: keep the times at which messages become visible.
        skip: lines that were imported before.
        create: create the queue if it does not exist, with the settings in the export.
    """
    total = await reading.count_lines(file)
    async with server.connect() as rsmq, aclosing(reading.lines(file)) as lines:
        all_lines = await _create(rsmq, queue, lines) if create else lines
        run = rsmq.queue(queue).import_lines(
            all_lines, keep_ids=keep_ids, keep_times=keep_times, skip=skip
        )
        with Progress("imported", total, unit="line", hint=_next) as progress:
            async for count in run:
                progress.update(count)
    text = f"imported {counted(run.stored)} into {queue}"
    console.print(text, markup=False, soft_wrap=True)


def _next(count: int) -> str:
    return f"; go on with --skip {count}" if count else ""


async def _create(
    rsmq: AsyncRSMQ, queue: str, lines: AsyncGenerator[bytes]
) -> AsyncGenerator[bytes]:
    """Create the queue as the first line says, and return all lines."""
    first = await anext(lines, b"")
    try:
        header = ExportHeader.parse(first)
    except InvalidParameterValue as error:
        raise WrongUsage(f"--create: the first line of the export {error.reason}") from None
    await rsmq.queue(queue).create(exist_ok=True, **header.settings)
    return _chain(first, lines)


async def _chain(first: bytes, lines: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    yield first
    async for line in lines:
        yield line
