"""How messages are shown: one a row, or as JSON."""

import json
import re
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..doctor import duration
from ..models import Message, StoredMessage
from .output import clip, console, foreign, has_width, plain, table

FILE_WIDTH: Final = 1000
"""Columns of what is printed into a file or a pipe."""
PRETTY_BYTES: Final = 256 * 1024
"""A body that is longer is shown as it is, and cut."""
HEX_BYTES: Final = 4096
"""Bytes of a binary body that are shown."""


def print_rows(rows: Table) -> None:
    """Print a table as wide as the terminal, or in a pipe as wide as it has to be."""
    if has_width():
        console.print(rows)
    else:
        Console(file=console.file, width=FILE_WIDTH, highlight=False).print(rows)


def print_line(*parts: str | Text) -> None:
    """Print one line, however long, with spaces between the parts."""
    console.print(Text("  ").join(Text(part) if isinstance(part, str) else part for part in parts),
                  soft_wrap=True)  # fmt: skip


def message_rows(messages: Iterable[StoredMessage], now: datetime) -> Table:
    """A table of messages, the beginning of each body last."""
    rows = table("id", ">age", "state", ">recv", "~body")
    for message in messages:
        rows.add_row(
            foreign(message.id),
            age(message.sent_at, now),
            state_of(message, now),
            f"{message.receive_count}x",
            clip(preview(message.raw, is_cut=message.is_cut)),
        )
    return rows


def age(time: datetime | None, now: datetime) -> str:
    """How long ago that was, in one unit; "-" if it is not known."""
    return "-" if time is None else short((now - time).total_seconds())


def short(seconds: float) -> str:
    """A length of time in one unit."""
    return " ".join(duration(max(0.0, seconds)).split()[:2])


def state_of(message: StoredMessage, now: datetime) -> Text:
    if message.is_visible:
        return Text("visible", "green")
    kind = "in flight" if message.receive_count else "delayed"
    return Text(f"{kind} {short((message.visible_at - now).total_seconds())}", "yellow")


def whole(raw: bytes) -> Text:
    """A whole body in one line."""
    return foreign(raw.decode()) if is_text(raw) else Text(f"0x{raw.hex()}")


def preview(raw: bytes, *, is_cut: bool = False) -> Text:
    """The beginning of a body in one line."""
    if is_text(raw, is_cut=is_cut):
        text = foreign(raw.decode(errors="ignore"))
    else:
        text = Text("0x" + raw[:64].hex())
        is_cut = is_cut or len(raw) > 64
    return text.append("…") if is_cut else text


def is_text(raw: bytes, *, is_cut: bool = False) -> bool:
    """Whether it is UTF-8. Of what is cut, the last character may be incomplete."""
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        return is_cut and error.start >= len(raw) - 3 and "end of data" in error.reason
    return True


def stored_facts(message: StoredMessage) -> dict[str, object]:
    """A stored message as JSON has it."""
    facts: dict[str, object] = plain(message)
    facts.pop("receipt")
    body = facts.pop("raw")
    if message.is_cut and is_text(message.raw, is_cut=True):
        body = message.raw.decode(errors="ignore")
    return facts | {"is_cut": message.is_cut, "body": body}


def message_facts(message: Message[bytes]) -> dict[str, object]:
    """A received message as JSON has it."""
    names = ("id", "queue", "receive_count", "sent_at", "first_received_at", "visible_until")
    return {name: plain(getattr(message, name)) for name in names} | {"body": plain(message.raw)}


def print_body(message: StoredMessage) -> None:
    """Print a body line by line: JSON indented, what is not text in hexadecimal."""
    raw = message.raw
    if not is_text(raw, is_cut=message.is_cut):
        _print_hex(raw)
        return
    text = raw.decode(errors="ignore")
    if not message.is_cut:
        with suppress(ValueError, RecursionError):  # else it is shown as it is
            json.loads(text)
            text = indent(text)
    for line in text.split("\n"):
        console.print(foreign(line), soft_wrap=True)


_WORD: Final = re.compile(r'"(?:[^"\\]|\\.)*"|[][{},:]|[^][{},:"\s]+')


def indent(text: str) -> str:
    """JSON with indents. Each number and string stays as it was written."""
    result: list[str] = []
    depth = 0
    previous = ""
    for word in _WORD.findall(text):
        if word in ("}", "]"):
            depth -= 1
        is_empty = previous + word in ("{}", "[]")
        if (previous in ("{", "[", ",") or word in ("}", "]")) and not is_empty:
            result.append("\n" + "  " * depth)
        result.append(": " if word == ":" else word)
        if word in ("{", "["):
            depth += 1
        previous = word
    return "".join(result)


def _print_hex(raw: bytes) -> None:
    for start in range(0, min(len(raw), HEX_BYTES), 16):
        row = raw[start : start + 16]
        letters = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        console.print(f"{start:08x}  {row.hex(' '):47}  {letters}", markup=False, soft_wrap=True)


def shown_bytes(message: StoredMessage) -> int:
    """How many bytes of the body `print_body` shows."""
    if is_text(message.raw, is_cut=message.is_cut):
        return len(message.raw)
    return min(len(message.raw), HEX_BYTES)
