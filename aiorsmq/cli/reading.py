"""What commands read: files, standard input, answers. Ctrl-C ends each wait."""

import asyncio
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final

from .errors import NotDone, WrongUsage
from .output import notes

_CHUNK: Final = 1024 * 1024
_NEWLINE: Final = b"\n"


def stdin_is_terminal() -> bool:
    return sys.stdin.isatty()


async def chunks(path: Path | None) -> AsyncGenerator[bytes]:
    """The bytes of a file, or of standard input if there is no path or it is "-"."""
    if path is None or str(path) == "-":
        while chunk := await _read_stdin():
            yield chunk
        return
    with _open(path) as file:
        while chunk := file.read(_CHUNK):
            yield chunk


def _open(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise WrongUsage(f"cannot read {path}: {error.strerror}") from error


async def _read_stdin() -> bytes:
    """What is there, as soon as something is; b"" at the end."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    with suppress(PermissionError, NotImplementedError):  # a file, which is always readable
        loop.add_reader(0, readable.set)
        try:
            await readable.wait()
        finally:
            loop.remove_reader(0)
    return os.read(0, _CHUNK)


async def read(path: Path | None) -> bytes:
    return b"".join([chunk async for chunk in chunks(path)])


async def lines(path: Path | None) -> AsyncGenerator[bytes]:
    """The lines, without their ends; otherwise byte for byte."""
    pieces: list[bytes] = []
    async for chunk in chunks(path):
        first, *following = chunk.split(_NEWLINE)
        pieces.append(first)
        for piece in following:
            yield b"".join(pieces)
            pieces = [piece]
    if last := b"".join(pieces):
        yield last


def is_file(path: Path | None) -> bool:
    """Whether it can be read twice."""
    return path is not None and path.is_file()


async def count_lines(path: Path | None) -> int | None:
    """How many lines a file has; None if it can be read only once."""
    if not is_file(path):
        return None
    count = 0
    last = _NEWLINE
    async for chunk in chunks(path):
        count += chunk.count(_NEWLINE)
        last = chunk
    return count + (not last.endswith(_NEWLINE))


async def confirm(question: str, *, yes: bool) -> None:
    """Go on only if the user wants it: raises NotDone otherwise."""
    if yes:
        return
    if not stdin_is_terminal():
        raise WrongUsage(f"{question} Nobody can be asked here: use --yes")
    notes.print(f"{question} [y/N] ", end="", markup=False, soft_wrap=True)
    answer = await _read_stdin()
    if answer.strip().lower() not in (b"y", b"yes"):
        raise NotDone("nothing was done")
