"""`top`: the queues of a server, all the time."""

import asyncio
import logging
import signal
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from typing import Annotated, Final, Literal

import anyio
from cyclopts import Parameter
from rich.console import Console
from rich.live import Live

from ..client import AsyncRSMQ
from ..errors import InvalidParameterValue, RedisSMQException
from ..models import Snapshot
from .durations import Duration
from .errors import NotDone, Unreachable, explain
from .keys import keyboard
from .output import AsJson, console, print_json
from .queues import facts as facts_of
from .screen import COLUMNS, Facts, View, is_match, rows, screen, selected_index, table_of
from .server import DEFAULT_SERVER, Server, readable_errors

MIN_EVERY: Final = 0.2
_PAGE: Final = 10
_ANY_WIDTH: Final = 1000
_STEPS: Final = {
    "down": 1,
    "j": 1,
    "up": -1,
    "k": -1,
    "page down": _PAGE,
    "page up": -_PAGE,
    "home": -sys.maxsize,
    "end": sys.maxsize,
}

Sort = Literal[
    "queue", "visible", "in-flight", "delayed", "oldest", "in", "out", "dead", "listening", "state"
]
_COLUMN_OF: Final = {"in-flight": "in flight", "in": "in/s", "out": "out/s"}


async def top(
    pattern: str = "*",
    *,
    interval: Annotated[Duration, Parameter(name="--every")] = 1,
    sort: Sort = "oldest",
    once: Annotated[bool, Parameter(negative="")] = False,
    server: Server = DEFAULT_SERVER,
    json: AsJson = False,
) -> int:
    """Watch the queues: what waits, how fast it comes and goes.

    Keys: s and S sort, / filters, p pauses the display, Enter shows one queue, ? helps, q quits.
    Without a terminal, or with --json, one table is printed, as with --once.

    Args:
        pattern: watch only queues whose name it matches, as "mail*", or contains, as "mail".
        interval: how often to look; 0.2 or more.
        sort: the column that comes first.
        once: print one table, with the rates of one interval, and end.
    """
    if interval < MIN_EVERY:
        raise InvalidParameterValue("every", interval, f"must be {MIN_EVERY} seconds or more")
    view = View(sort=_COLUMN_OF.get(sort, sort))
    async with server.connect() as rsmq:
        watch = Watch(rsmq, Facts(rsmq.address, server.ns, interval, pattern=pattern), view)
        await watch.look()
        if once or json or not sys.stdout.isatty() or console.is_dumb_terminal:
            await asyncio.sleep(interval)
            await watch.look()
            _print_once(watch.facts, view, json=json)
            return 0
        return await watch.show()


def _print_once(facts: Facts, view: View, *, json: bool) -> None:
    shown = rows(facts, view)
    if json:
        print_json(
            [
                {
                    **facts_of(queue),
                    "sent_per_second": rates.sent,
                    "received_per_second": rates.received,
                }
                for queue, rates, _ in shown
            ]
        )
    elif not shown:
        matching = "" if facts.pattern == "*" else f" that match {facts.pattern!r}"
        raise NotDone(f"no queues{matching} in namespace {facts.ns!r}")
    else:
        width = console.width if sys.stdout.isatty() else None
        table = table_of(facts, shown, width=width, has_trend=False)
        Console(highlight=False, width=width or _ANY_WIDTH).print(table)


class Watch:
    """Looks at the queues, again and again, and shows them on the terminal."""

    def __init__(self, rsmq: AsyncRSMQ, facts: Facts, view: View) -> None:
        self.facts = facts
        self.view = view
        self._rsmq = rsmq
        self._heard_at = 0.0
        self._warning: str | None = None
        self._end_signal: int | None = None
        self._has_ended = False
        self._change = asyncio.Event()
        self._go_on = asyncio.Event()
        self._go_on.set()

    async def look(self) -> None:
        """Ask the server once."""
        self._warning = None
        queues = await self._snapshots()
        self._heard_at = asyncio.get_running_loop().time()
        self.facts.history.add(queues)
        self.facts.queues = queues
        self.facts.warning = self._warning
        self.facts.error = None

    async def _snapshots(self) -> list[Snapshot]:
        pattern = self.facts.pattern
        if pattern == "*":
            return await self._rsmq.snapshots()
        names = [name for name in await self._rsmq.list_queues() if is_match(name, pattern)]
        try:
            return await self._rsmq.snapshots(names)
        except InvalidParameterValue:  # the set has other texts, too
            return [queue for queue in await self._rsmq.snapshots() if queue.name in names]

    async def show(self) -> int:
        """Show the queues until the user quits. Returns the exit code."""
        with (
            _signals(self._on_signal),
            self._warnings(),
            keyboard(self.press, self.end),
            Live(console=console, screen=True, auto_refresh=False) as live,
        ):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._keep_looking)
                while not self._has_ended:
                    self._change.clear()
                    self._draw(live)
                    await asyncio.sleep(0.02)  # keys that are held down are drawn together
                    with suppress(TimeoutError):
                        async with asyncio.timeout(1):
                            await self._change.wait()
                tasks.cancel_scope.cancel()
        return 0 if self._end_signal is None else 128 + self._end_signal

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(self.facts.interval)
            await self._go_on.wait()
            try:
                with readable_errors(self._rsmq):
                    await self.look()
            except (Unreachable, NotDone, RedisSMQException) as error:
                self.facts.error = explain(error)
            self._change.set()

    def _draw(self, live: Live) -> None:
        self.facts.age = asyncio.get_running_loop().time() - self._heard_at
        width, height = console.size
        live.update(screen(self.facts, self.view, width=width, height=height), refresh=True)

    @contextmanager
    def _warnings(self) -> Generator[None]:
        """Show on the screen what is logged, and not across it."""
        handler = logging.Handler(logging.WARNING)
        handler.addFilter(lambda record: not record.name.startswith("aiorsmq.startup."))
        handler.emit = self._on_record
        handlers = logging.root.handlers[:]
        logging.root.handlers[:] = [handler]
        try:
            yield
        finally:
            logging.root.handlers[:] = handlers

    def _on_record(self, record: logging.LogRecord) -> None:
        self._warning = record.getMessage()

    def _on_signal(self, number: int) -> None:
        if number != getattr(signal, "SIGWINCH", None):
            self._end_signal = number
            self._has_ended = True
        self._change.set()

    def end(self) -> None:
        self._has_ended = True
        self._change.set()

    def press(self, key: str) -> None:
        """Do what a key of the keyboard is for."""
        self._change.set()
        if self.view.is_typing:
            self._type(key)
        elif key == "q":
            self.end()
        elif key == "p":
            self.view.is_held = not self.view.is_held
            (self._go_on.clear if self.view.is_held else self._go_on.set)()
        else:
            press(self.view, key, self.facts)

    def _type(self, key: str) -> None:
        view = self.view
        match key:
            case "enter":
                view.is_typing = False
            case "esc":
                view.is_typing = False
                view.filter = ""
            case "clear":
                view.filter = ""
            case "backspace":
                view.filter = view.filter[:-1]
            case _:
                view.filter += key if len(key) == 1 else ""


def press(view: View, key: str, facts: Facts) -> None:
    """Change what the user sees."""
    names = list(COLUMNS)
    match key:
        case "s":
            view.sort = names[(names.index(view.sort) + 1) % len(names)]
            view.reverse = False
        case "S":
            view.reverse = not view.reverse
        case "/":
            view.is_typing = True
            view.has_details = False
        case "?":
            view.has_help = not view.has_help
        case "enter":
            view.has_details = not view.has_details
        case "esc" if view.has_details or view.has_help:
            view.has_details = False
            view.has_help = False
        case "esc":
            view.filter = ""
        case _ if key in _STEPS:
            _select(view, _STEPS[key], facts)
        case _:
            pass


def _select(view: View, step: int, facts: Facts) -> None:
    shown = rows(facts, view)
    if shown:
        index = selected_index(shown, view) + step
        view.selected = shown[min(max(index, 0), len(shown) - 1)].queue.name


@contextmanager
def _signals(on_signal: Callable[[int], None]) -> Generator[None]:
    """Call `on_signal` for those that end a program or tell of a resized terminal."""
    loop = asyncio.get_running_loop()
    names = ("SIGTERM", "SIGHUP", "SIGWINCH")
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    with suppress(NotImplementedError):  # on Windows
        for number in numbers:
            loop.add_signal_handler(number, on_signal, number)
    try:
        yield
    finally:
        with suppress(NotImplementedError):
            for number in numbers:
                loop.remove_signal_handler(number)
