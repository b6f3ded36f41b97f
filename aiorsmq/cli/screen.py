"""What `top` draws. Pure functions: the same facts make the same picture."""

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any, Final, NamedTuple

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ..doctor import duration
from ..models import Snapshot
from .output import foreign, number
from .queues import estimate, state
from .rates import CELL, CELLS, History, Rates

_MINUTE: Final = round(60 / CELL)
"""Bars of a sparkline that are a minute."""
_GAP: Final = 2
_WIDEST_SHARE: Final = 24
"""Columns that a long name may take before other columns are left out."""


@dataclass
class Facts:
    """What is known of the server."""

    address: str
    ns: str
    interval: float
    queues: Sequence[Snapshot] = ()
    history: History = field(default_factory=History)
    pattern: str = "*"
    age: float = 0.0
    """For how many seconds nothing has been heard of the server."""
    error: str | None = None
    """Why the last look failed."""
    warning: str | None = None


@dataclass
class View:
    """What the user wants to see."""

    sort: str = "oldest"
    reverse: bool = False
    filter: str = ""
    is_typing: bool = False
    """Whether keys go to the filter."""
    selected: str | None = None
    """The name of the queue; None for the first in the table."""
    has_details: bool = False
    has_help: bool = False
    is_held: bool = False
    """Whether the screen stays as it is."""


class Row(NamedTuple):
    queue: Snapshot
    rates: Rates
    dead_letter_queues: Container[str | None] = ()
    """Of all queues."""


@dataclass(frozen=True)
class Column:
    cell: Callable[[Row], str | Text]
    order: Callable[[Row], Any]
    """What the column is sorted by: the greatest first, except for words."""
    width: int = 5
    is_words: bool = False


def _unknown(value: float | None) -> float:
    return -1 if value is None else value


def state_of(row: Row) -> Text:
    """As `ls` says it. Who receives need not listen: a consumer that is busy does not."""
    is_received = bool(row.rates.received)
    queue = replace(row.queue, consumers=None) if is_received else row.queue
    return state(queue, row.dead_letter_queues)


COLUMNS: Final[dict[str, Column]] = {
    "queue": Column(lambda row: row.queue.name, lambda row: row.queue.name, is_words=True),
    "visible": Column(lambda row: number(row.queue.visible), lambda row: row.queue.visible, 7),
    "in flight": Column(
        lambda row: estimate(row.queue, row.queue.in_flight), lambda row: row.queue.in_flight
    ),
    "delayed": Column(
        lambda row: estimate(row.queue, row.queue.delayed), lambda row: row.queue.delayed
    ),
    "oldest": Column(
        lambda row: duration(row.queue.oldest_claimable_age) if row.queue.visible else "-",
        lambda row: row.queue.oldest_claimable_age if row.queue.visible else -1,
        width=9,
    ),
    "in/s": Column(lambda row: rate(row.rates.sent), lambda row: _unknown(row.rates.sent)),
    "out/s": Column(lambda row: rate(row.rates.received), lambda row: _unknown(row.rates.received)),
    "dead": Column(lambda row: _dead(row.queue), lambda row: _unknown(row.queue.dead)),
    "listening": Column(
        lambda row: number(row.queue.consumers), lambda row: _unknown(row.queue.consumers)
    ),
    "state": Column(
        state_of,
        lambda row: (state_of(row).plain == "ok", state_of(row).plain),
        is_words=True,
    ),
}
_TREND: Final = "trend"
_LEFT_OUT: Final = (
    *("delayed", "listening", _TREND, "in flight", "dead", "out/s", "in/s", "oldest", "state"),
)
"""The columns that a narrow screen lacks; the first ones first."""


def rate(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.1f}" if 0 < value < 10 else f"{value:,.0f}"


def _dead(queue: Snapshot) -> Text:
    return Text(number(queue.dead), "red" if queue.dead else "")


def is_match(name: str, pattern: str) -> bool:
    """Whether a name matches a pattern with "*" or "?", or contains a text without."""
    if any(char in pattern for char in "*?["):
        return fnmatchcase(name, pattern)
    return pattern in name


def rows(facts: Facts, view: View) -> list[Row]:
    """The queues that the view shows, in its order."""
    dead_letter_queues = {queue.dead_letter_queue for queue in facts.queues}
    found = [
        Row(queue, facts.history.rates(queue.name), dead_letter_queues)
        for queue in facts.queues
        if is_match(queue.name, view.filter)
    ]
    column = COLUMNS[view.sort]
    found.sort(key=lambda row: row.queue.name)
    found.sort(key=column.order, reverse=column.is_words == view.reverse)
    return found


def selected_index(shown: Sequence[Row], view: View) -> int:
    names = [row.queue.name for row in shown]
    return names.index(view.selected) if view.selected in names else 0


def screen(facts: Facts, view: View, *, width: int, height: int) -> RenderableType:
    """The whole screen, in at most `height` lines."""
    top = [*_header(facts, view, width), Text()]
    shown = rows(facts, view)
    bottom = [Text(), *_footer(view)]
    space = max(height - len(top) - len(bottom), 2)
    if view.has_details and shown:
        middle: RenderableType = details(facts, shown[selected_index(shown, view)], space)
        filling = 0
    elif shown:
        lines = space - 1  # the table has a head
        selected = selected_index(shown, view)
        first = max(0, min(selected - lines // 2, len(shown) - lines))
        page = shown[first : first + lines]
        if len(page) < len(shown):
            place = f"{first + 1} to {first + len(page)} of {len(shown):,}"
            bottom[0] = Text(place, "dim")
        middle = table_of(facts, page, view=view, selected=selected - first, width=width)
        filling = lines - len(page)
    else:
        middle = _nothing(facts, view)
        filling = space - 1
    return Group(*top, middle, *[Text()] * filling, *bottom)


def _header(facts: Facts, view: View, width: int) -> list[Text]:
    look = max((queue.server_time for queue in facts.queues), default=None)
    after = f"  namespace {foreign(facts.ns)}"
    after += f"  {look:%H:%M:%S} UTC" if look else ""
    after += f"  every {facts.interval:g} s"
    before = "aiorsmq top  "
    space = max(width - len(before) - len(after), 10)
    address = facts.address
    if len(address) > space:
        address = "…" + address[1 - space :]
    first = Text.assemble((before, "bold"), address, after, no_wrap=True, overflow="ellipsis")
    return [first, _totals(facts, view), *_trouble(facts, view)]


def _totals(facts: Facts, view: View) -> Text:
    queues = [queue for queue in facts.queues if is_match(queue.name, view.filter)]
    rates = [facts.history.rates(queue.name) for queue in queues]
    dead = {queue.dead_letter_queue or "": queue.dead or 0 for queue in queues}  # may be shared
    parts = [
        f"{len(queues):,} {'queue' if len(queues) == 1 else 'queues'}",
        f"{sum(queue.visible for queue in queues):,} visible",
        f"in {rate(_total([queue_rates.sent for queue_rates in rates]))}/s",
        f"out {rate(_total([queue_rates.received for queue_rates in rates]))}/s",
        f"{sum(dead.values()):,} dead",
        f"{sum(queue.in_flight for queue in queues):,} in flight",
        f"{sum(queue.delayed for queue in queues):,} delayed",
    ]
    return Text("  ".join(parts), no_wrap=True, overflow="ellipsis")


def _total(values: Sequence[float | None]) -> float | None:
    summands = [value for value in values if value is not None]
    return sum(summands) if summands else None


def _trouble(facts: Facts, view: View) -> list[Text]:
    """One line, empty if all is well."""
    line = Text(no_wrap=True, overflow="ellipsis")
    if facts.error is not None:
        line.append(f"shown is what was {duration(facts.age)} ago: {facts.error}", "bold red")
    elif view.is_held:
        line.append(f"display paused; shown is what was {duration(facts.age)} ago", "bold yellow")
    elif facts.age > max(2 * facts.interval, 2):
        line.append(f"no answer for {duration(facts.age)}", "bold yellow")
    elif facts.warning is not None:
        line.append_text(foreign(facts.warning))
        line.stylize("yellow")
    return [line]


def _nothing(facts: Facts, view: View) -> Text:
    if facts.queues:
        return Text.assemble("No queue matches ", foreign(view.filter), "; Esc shows all.")
    if facts.pattern != "*":
        return Text.assemble("No queue matches ", foreign(facts.pattern), " yet.")
    ns = foreign(facts.ns)
    return Text.assemble("No queues in namespace ", ns, " yet. They appear here when made.")


def _footer(view: View) -> list[Text]:
    if view.is_typing:
        line = Text.assemble(("filter: ", "bold"), foreign(view.filter), ("█", "bold"))
        line.append("  part of a name, or a pattern with *; Enter keeps it, Esc clears it", "dim")
        return [line]
    keys = [("s", f"sort: {view.sort}"), ("S", "reverse"), ("/", "filter"), ("p", "pause")]
    if view.is_held:
        keys[3] = ("p", "go on")
    if view.filter:
        keys[2] = ("/", f"filter {foreign(view.filter)}")
    keys += [("Enter", "back" if view.has_details else "details"), ("?", "help"), ("q", "quit")]
    line = Text(no_wrap=True, overflow="ellipsis")
    for key, meaning in keys:
        line.append(key, "bold")
        line.append(f" {meaning}  ")
    return [*(_help() if view.has_help else []), line]


def _help() -> list[Text]:
    lines = (
        "visible: can be received now; oldest: for how long the next one could have been",
        "in flight: received and not deleted; delayed: never received; ~ is an estimate",
        "in/s, out/s: sent and received a second; what is received twice counts twice",
        "dead: in the dead-letter queue; listening: clients of this library that wait",
        "Up, Down, j, k, Page Up, Page Down, Home, End: select a queue",
    )
    return [Text(line, "dim", no_wrap=True, overflow="ellipsis") for line in lines]


def table_of(
    facts: Facts,
    page: Sequence[Row],
    *,
    view: View | None = None,
    selected: int | None = None,
    width: int | None = None,
    has_trend: bool = True,
) -> Table:
    """The table of some queues.

    Args:
        view: marks the column that is sorted by.
        width: of the screen: columns that do not fit are left out. None for as wide as it takes,
            and no trend.
    """
    cells = {
        name: [Text.assemble(column.cell(row)) for row in page] for name, column in COLUMNS.items()
    }
    widths = {
        name: max(
            COLUMNS[name].width,
            _heading(name, view).cell_len,
            *(cell.cell_len for cell in column),
        )
        for name, column in cells.items()
    }
    if width is not None:
        widths = _fit(widths, width, has_trend=has_trend)
        bars = widths.get(_TREND, 0)
        lines = [facts.history.sparkline(row.queue.name, bars).rjust(bars) for row in page]
        cells[_TREND] = [Text(line, "cyan") for line in lines]
    result = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0))
    for name, columns in widths.items():
        is_left = name == _TREND or COLUMNS[name].is_words
        justify = "left" if is_left else "right"
        heading = _trend_heading(columns) if name == _TREND else _heading(name, view)
        result.add_column(heading, justify=justify, width=columns, no_wrap=True)
    for index in range(len(page)):
        style = "bold underline" if index == selected else ""
        result.add_row(*(cells[name][index] for name in widths), style=style)
    return result


def _trend_heading(columns: int) -> str:
    heading = f"last {columns // _MINUTE} min"
    return heading if columns == _MINUTE else f"visible, {heading}"


def _heading(name: str, view: View | None) -> Text:
    if view is None or name != view.sort:
        return Text(name, "bold")
    is_rising = COLUMNS[name].is_words != view.reverse
    return Text(name + ("▲" if is_rising else "▼"), "bold cyan")


def _fit(widths: dict[str, int], width: int, *, has_trend: bool) -> dict[str, int]:
    """The columns that fit, with their widths."""
    longest = widths["queue"]
    fitting: dict[str, int] = {}
    for name, columns in widths.items():
        fitting[name] = min(columns, _WIDEST_SHARE) if name == "queue" else columns
        if name == "out/s" and has_trend:
            fitting[_TREND] = _MINUTE
    for name in _LEFT_OUT:
        if _used(fitting) > width:
            fitting.pop(name, None)
    fitting["queue"] = max(1, min(longest, fitting["queue"] + width - _used(fitting)))
    if _TREND in fitting:
        minutes = min((width - _used(fitting)) // _MINUTE, CELLS // _MINUTE - 1)
        fitting[_TREND] += minutes * _MINUTE
    return fitting


def _used(widths: dict[str, int]) -> int:
    return sum(widths.values()) + _GAP * (len(widths) - 1)


def details(facts: Facts, row: Row, height: int) -> Table:
    """All about one queue, or what fits in the height."""
    queue = row.queue
    waiting = f", the first for {duration(queue.oldest_claimable_age)}" if queue.visible else ""
    trend = Text(facts.history.sparkline(queue.name, CELLS).strip(), "cyan")
    dead_letter_queue = queue.dead_letter_queue
    lines: list[tuple[str, str | Text]] = [
        ("queue", queue.name),
        ("state", state_of(row)),
        ("visible", number(queue.visible) + waiting),
        ("", trend.append(f"  {CELL:g} s a bar", "dim")),
        ("in flight", estimate(queue, queue.in_flight)),
        ("delayed", estimate(queue, queue.delayed) + _next_due(queue)),
        ("sent", f"{queue.totalsent:,}, {rate(row.rates.sent)} a second"),
        ("received", f"{queue.totalrecv:,}, {rate(row.rates.received)} a second"),
        ("dead letters", number(queue.dead) + (f" in {dead_letter_queue}" if queue.dead else "")),
        ("listening", f"{number(queue.consumers)} clients"),
        *((name, foreign(value)) for name, value in queue.stored.items()),
        ("created", f"{queue.created:%Y-%m-%d %H:%M:%S} UTC"),
        ("modified", f"{queue.modified:%Y-%m-%d %H:%M:%S} UTC"),
    ]
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), show_header=False)
    table.add_column(style="bold", no_wrap=True, min_width=17)
    table.add_column(no_wrap=True)
    lines += [("", "")] * (height - len(lines))
    for name, value in lines[:height]:
        table.add_row(name, value)
    return table


def _next_due(queue: Snapshot) -> str:
    if queue.next_due is None:
        return ""
    seconds = max((queue.next_due - queue.server_time).total_seconds(), 0)
    return f"; the next hidden message is due in {duration(seconds)}"
