"""`aiorsmq bench`: the table of docs/performance.md, on the user's own server."""

import asyncio
import importlib
import platform
import re
import secrets
import statistics
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Annotated, Any, Final

from cyclopts import Parameter
from cyclopts.validators import Number
from redis import Redis as BlockingRedis
from redis.asyncio import Redis
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from ..client import AsyncRSMQ
from ..queue import Queue
from .errors import NotDone
from .measures import RATES, Bench, InThreads, Work, capacity, ping, wake
from .output import AsJson, console, foreign, notes, plain, print_json
from .server import DEFAULT_SERVER, Server

OVERHEAD: Final = 200
"""Bytes of the server's memory that a message takes in addition to its body, rounded up."""
PING_BY: Final = "a bare PING by redis-py, 1 at a time"
WAKE_UP: Final = "from send to a waiting consumer"


@dataclass(frozen=True)
class Options:
    rounds: int
    seconds: float
    """Of a round."""
    size: int


@dataclass(frozen=True)
class Row:
    """What was measured: a value for each round."""

    name: str
    unit: str
    values: list[float]
    pyrsmq: list[float] | None = None


def bench(
    *,
    rounds: Annotated[int, Parameter(validator=Number(gte=1, lte=1000))] = 5,
    seconds: Annotated[float, Parameter(validator=Number(gte=0.01, lte=600))] = 2,
    size: Annotated[int, Parameter(validator=Number(gte=24, lte=65536))] = 100,
    uvloop: Annotated[bool, Parameter(negative="")] = False,
    server: Server = DEFAULT_SERVER,
    json: AsJson = False,
) -> None:
    """Measure how fast this server is from this machine.

    It writes to a queue of its own, which it deletes at the end, also after Ctrl-C. PyRSMQ is
    measured too if it is installed. Your programs share the server with it for half a minute.

    Args:
        rounds: of each row; shown are their median, the lowest and the highest.
        seconds: that a row takes, all rounds together.
        size: bytes of a message.
        uvloop: run on uvloop, if it is installed.
    """
    options = Options(rounds, seconds / rounds, size)
    if not uvloop:
        asyncio.run(run(server, options, json))
    elif find_spec("uvloop"):
        importlib.import_module("uvloop").run(run(server, options, json))
    else:
        raise NotDone("--uvloop needs another package: pip install uvloop")


async def run(server: Server, options: Options, json: bool) -> None:
    if "+" in server.url.partition("://")[0]:
        raise NotDone("bench measures one server, not a set of them: give the URL of the primary")
    async with server.connect() as rsmq, own_queue(rsmq) as queue:
        if rsmq.embedded_server is not None:
            server = replace(server, url=rsmq.embedded_server.url)
        pyrsmq = load_pyrsmq(server, queue.name)
        facts = await describe(server, rsmq, pyrsmq)
        if not json:
            introduce(facts, queue.name, options)
        rows: list[Row] = []
        progress = Progress(
            *(TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn()),
            console=notes,
            transient=True,
        )
        task = progress.add_task("", total=rounds_in_all(options, pyrsmq))

        def step(name: str) -> None:
            progress.update(task, description=name, advance=1)

        with progress if notes.is_terminal else nullcontext():
            async for row in measure(server, queue, pyrsmq, options, step):
                rows.append(row)
                if not json:
                    show(row, progress, has_pyrsmq=pyrsmq is not None)
    if json:
        figures = {"rounds": options.rounds, "seconds": options.seconds, "size": options.size}
        print_json(facts | figures | {"rows": [as_json(row) for row in rows]})


@asynccontextmanager
async def own_queue(rsmq: AsyncRSMQ) -> AsyncGenerator[Queue[str]]:
    """A queue for the block, with a name that nobody else has."""
    queue = rsmq.queue(f"aiorsmq-bench-{secrets.token_hex(4)}")
    await queue.create(vt=3600, maxsize=-1)
    try:
        yield queue
    finally:  # Ctrl-C cancels the block once
        try:
            written = (await queue.attributes()).totalsent
            await queue.delete(missing_ok=True)
        except BaseException:
            notes.print(f"{queue.name} may be left behind.")
            raise
        notes.print(f"Deleted {queue.name}, to which {written:,} messages had been sent.")


async def measure(
    server: Server,
    queue: Queue[str],
    pyrsmq: InThreads | None,
    options: Options,
    step: Callable[[str], None],
) -> AsyncGenerator[Row]:
    """All rows in their order; `step` is called after each round."""
    bench = Bench(queue, "x" * options.size, options.seconds)

    async def rates(name: str, work: Work, callers: int, fill: bool) -> list[float]:
        count = await bench.size_of_round(work, callers, fill)
        values: list[float] = []
        for _ in range(options.rounds):
            values.append(count / await bench.round(work, count, fill))
            step(name)
        return values

    async with Redis.from_url(redis_url(server)) as redis:  # pyright: ignore[reportUnknownMemberType]

        async def work(count: int) -> None:
            await ping(redis, count)

        yield Row(PING_BY, "/s", await rates(PING_BY, work, 1, fill=False))
    for row in RATES:
        act = partial(row.own_work, bench, row.at_once)
        values = await rates(row.name, act, row.callers, row.fill)
        peers_values = None
        if pyrsmq is not None and row.pyrsmq is not None:
            act = partial(row.pyrsmq, pyrsmq, bench.body, row.at_once)
            peers_values = await rates(f"{row.name}, PyRSMQ", act, row.callers, row.fill)
        yield Row(row.name, "/s", values, peers_values)
    async with server.connect() as sender:
        times: list[list[float]] = []
        for _ in range(options.rounds):
            times.append(await wake(sender.queue(queue.name), queue, bench))
            step(WAKE_UP)
    yield Row(f"{WAKE_UP}, median", " µs", [1e6 * statistics.median(round_) for round_ in times])
    highest = [1e6 * percentile_99(round_) for round_ in times]
    yield Row("the same, 99th percentile", " µs", highest)


def percentile_99(values: list[float]) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[98]


def rounds_in_all(options: Options, pyrsmq: InThreads | None) -> int:
    compared = sum(row.pyrsmq is not None for row in RATES) if pyrsmq else 0
    return options.rounds * (len(RATES) + compared + 2)


def redis_url(server: Server) -> str:
    """The URL as redis-py knows it."""
    return re.sub("^valkey", "redis", server.url)


def load_pyrsmq(server: Server, qname: str) -> InThreads | None:
    """PyRSMQ, if it is installed, on the same queue."""
    try:
        pyrsmq: Any = importlib.import_module("rsmq")
        connection: Any = BlockingRedis.from_url(redis_url(server))  # pyright: ignore[reportUnknownMemberType]
        return InThreads(pyrsmq.RedisSMQ(client=connection, ns=server.ns, qname=qname))
    except (ImportError, AttributeError):
        return None


async def describe(
    server: Server, rsmq: AsyncRSMQ, pyrsmq: InThreads | None
) -> dict[str, str | None]:
    """What the figures depend on."""
    info = await rsmq.server_info()
    name = f"{info.name or 'a server'} {info.version or ''}".strip()
    return {
        "server": name,
        "address": rsmq.address,
        "namespace": server.ns,
        "python": platform.python_version(),
        "loop": type(asyncio.get_running_loop()).__module__.partition(".")[0],
        "aiorsmq": version_of("aiorsmq-realtime"),
        "redis-py": version_of("redis"),
        "PyRSMQ": None if pyrsmq is None else version_of("PyRSMQ"),
    }


def version_of(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "0+unknown"


def introduce(facts: dict[str, str | None], qname: str, options: Options) -> None:
    messages = capacity(options.size)
    memory = messages * (options.size + OVERHEAD) / 1e6
    packages = [name for name in ("aiorsmq", "redis-py", "PyRSMQ") if facts[name]]
    versions = ", ".join(f"{name} {facts[name]}" for name in packages)
    console.print(
        foreign(f"{facts['server']} at {facts['address']}"),
        f"Python {facts['python']} on {facts['loop']}; {versions}",
        f"Writes messages of {options.size} bytes to {qname}, at most {messages:,} at a time: "
        f"about {memory:.0f} MB of the server's memory. Shown are medians of {options.rounds} "
        "rounds.",
        sep="\n",
    )
    heads = ["", "aiorsmq", "range"] + ["PyRSMQ"] * bool(facts["PyRSMQ"])
    console.print("\n" + columns(*heads), style="bold")


def show(row: Row, progress: Progress, *, has_pyrsmq: bool) -> None:
    """Print a row where the bar is, and the bar below it."""
    if notes.is_terminal:
        progress.stop()
    console.print(line(row, has_pyrsmq=has_pyrsmq))
    if notes.is_terminal:
        progress.start()


def line(row: Row, *, has_pyrsmq: bool) -> str:
    median = shown(statistics.median(row.values)) + row.unit
    spread = f"{shown(min(row.values))}..{shown(max(row.values))}"
    peers_median = shown(statistics.median(row.pyrsmq)) + row.unit if row.pyrsmq else ""
    return columns(row.name, median, spread, *[peers_median] * has_pyrsmq)


def columns(name: str, *values: str) -> str:
    widths = (11, 17, 11)
    cells = (f"{value:>{width}}" for value, width in zip(values, widths, strict=False))
    return f"{name:<39}{''.join(cells)}".rstrip()


def shown(value: float) -> str:
    """With three digits that count."""
    return f"{float(f'{value:.3g}'):,.0f}"


def as_json(row: Row) -> dict[str, Any]:
    return plain(row) | {"unit": row.unit.strip(), "median": statistics.median(row.values)}
