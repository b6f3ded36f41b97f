"""What commands print: tables for people, JSON for programs."""

import base64
import dataclasses
import json
import os
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Final

from cyclopts import Parameter
from rich.console import Console
from rich.table import Table
from rich.text import Text

AsJson = Annotated[bool, Parameter(name="--json", negative="", help="Print JSON.")]
"""The type of each listing's flag."""
Yes = Annotated[bool, Parameter(name=["--yes", "-y"], negative="", help="Do not ask.")]
"""The type of the flag of each command that destroys something."""
DryRun = Annotated[bool, Parameter(negative="", help="Change nothing, and say what would be done.")]

console: Final = Console(highlight=False)
notes: Final = Console(stderr=True, highlight=False)
"""For what is not the result: progress, hints. So a pipe gets the result alone."""


_WIDE: Final = 110
_NARROW: Final = 64


def has_width() -> bool:
    """Whether what is printed has to fit: not in a pipe, unless COLUMNS is set."""
    return console.is_terminal or "COLUMNS" in os.environ


def is_wide() -> bool:
    """Whether there is space for the columns that matter least: also in a pipe."""
    return not has_width() or console.width >= _WIDE


def is_narrow() -> bool:
    """Whether there is space only for the columns that matter most."""
    return has_width() and console.width < _NARROW


def print_json(value: object) -> None:
    """Print a value: dataclasses by their fields, times as ISO 8601, bytes as text or base64."""
    print(json_line(plain(value)))


def json_line(value: object) -> str:
    """JSON in one line: as people write, but no character that changes what a terminal shows."""
    text = json.dumps(value, ensure_ascii=False)
    if text.isascii():
        return text
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in text)


def plain(value: Any) -> Any:
    """A value as JSON has it."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value)]
        return {name: plain(getattr(value, name)) for name in names}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
    return _plain_scalar(value)


def _plain_scalar(value: object) -> object:
    match value:
        case datetime():
            return value.isoformat()
        case str():
            return value.encode(errors="surrogateescape").decode(errors="replace")
        case bytes():
            try:
                return value.decode()
            except UnicodeDecodeError:
                return {"base64": base64.b64encode(value).decode()}
        case _:
            return value


def table(*columns: str, title: str | None = None) -> Table:
    """A table without lines. A column whose name begins with ">" is flush right; one that begins
    with "~" gives way in a narrow terminal, and its cells are what `clip` returns."""
    result = Table(box=None, pad_edge=False, title=title, title_justify="left")
    for column in columns:
        name = column.lstrip(">~")
        justify = "right" if column[:1] == ">" else "left"
        no_wrap = column[:1] != "~"
        result.add_column(name, justify=justify, header_style="bold", no_wrap=no_wrap)
    return result


def clip(text: Text) -> Text:
    """Text that is cut where its column ends."""
    text.no_wrap = True
    text.overflow = "ellipsis"
    return text


def foreign(value: bytes | str) -> Text:
    """Text that others wrote: no markup in it has an effect, and no control character."""
    text = value.decode(errors="backslashreplace") if isinstance(value, bytes) else value
    return Text("".join(char if char.isprintable() else escape(char) for char in text))


def escape(char: str) -> str:
    return char.encode("unicode_escape", errors="surrogatepass").decode()


def number(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"
