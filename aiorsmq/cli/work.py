"""A worker as a program."""

import asyncio
import importlib
import logging
import signal
import sys
import traceback
from collections.abc import Callable, Generator, Sequence
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, Final

from cyclopts import Parameter

from ..client import AsyncRSMQ
from ..errors import InvalidParameterValue, QueueDoesNotExist
from ..models import WorkerStats
from ..queue import Queue
from ..worker import Worker
from . import loading
from .durations import Duration
from .errors import EXPECTED, NotDone, exit_code, explain
from .health import DEFAULT_HEALTH, Health, probes, serve
from .loading import ModuleFailed, load, load_codec
from .logs import DEFAULT_LOGS, Logs, forget_handlers
from .reload import NO_RELOAD, Reload, end_with_parent, is_child, run_again_and_again
from .server import OUTAGE, Server

PATIENT: Final = 1.0
"""Seconds after which it is said that the server does not answer yet."""
BURST_POLL: Final = 0.1
"""Seconds between two looks at whether the queues are empty."""
END: Final = 15.0
"""Seconds that a worker may take to end after its grace."""

_LOADER_FILES: Final = (
    loading.__file__,
    importlib.__file__,
    "<frozen importlib._bootstrap>",
    "<frozen importlib._bootstrap_external>",
)
"""Files of frames that a traceback of the user's code begins with."""

_log = logging.getLogger("aiorsmq.work")


@Parameter(name="*")
@dataclass(frozen=True)
class Limits:
    """How a worker works; see `aiorsmq.Worker`."""

    concurrency: int = 10
    """Handlers at a time."""
    vt: Duration | None = None
    """How long each lease is, renewed while the handler runs; otherwise the queue's vt."""
    timeout: Duration | None = None
    """After how long a handler is cancelled, and its attempt has failed."""
    max_lease: Duration | None = None
    """After how long a message is given up, even if its handler goes on."""
    grace: Duration = 30
    """How long handlers have to end when the worker stops."""


@Parameter(name="*")
@dataclass(frozen=True)
class WorkServer(Server):
    """The server of a worker, which may start later than the worker."""

    deadline: Annotated[float, Parameter(env_var="AIORSMQ_DEADLINE")] = 30
    """Seconds that a call may take."""
    connect_timeout: Duration = 30
    """How long to wait for the server at the start. It rides out later outages."""


DEFAULT_LIMITS: Final = Limits()
DEFAULT_SERVER: Final = WorkServer()


def work(
    handler: str,
    queues: list[str],
    /,
    *,
    codec: str = "TEXT",
    create: Annotated[bool, Parameter(negative="")] = False,
    burst: Annotated[bool, Parameter(negative="")] = False,
    limits: Limits = DEFAULT_LIMITS,
    health: Health = DEFAULT_HEALTH,
    logs: Logs = DEFAULT_LOGS,
    reload: Reload = NO_RELOAD,
    server: WorkServer = DEFAULT_SERVER,
) -> None:
    """Run a worker: a function of yours gets each message of the queues.

    SIGTERM and Ctrl-C stop it gracefully, with exit code 0: it claims no more, and handlers have
    `--grace` to end. A second one, half a second later or more, skips that.

    Args:
        handler: the function, as "shop.jobs:handle"; the current directory is searched first.
        queues: names in order of priority; or as "mail=3 news=1" each with a weight, by how often
            it is asked first.
        codec: of the bodies: TEXT, BYTES, JSON, or one of yours, as "shop.codecs:ORDERS".
        create: create missing queues with RSMQ's defaults.
        burst: end when the queues are empty: no message is visible, and none is being handled.
            Messages that are delayed, or wait for another attempt, are left.
    """
    if reload.is_wanted and not is_child():
        sys.exit(run_again_and_again(reload))
    if is_child():
        end_with_parent(limits.grace + END)
    health.check()
    weights = parse_queues(queues)
    with ExitStack() as starting:
        starting.enter_context(ending_at_sigterm())
        forget_handlers()
        program = Program(
            handler=_load_code(load, "handler", handler),
            name=handler,
            weights=weights,
            codec=_load_code(load_codec, codec),
            options=dict(asdict(limits), create=create),
            server=server,
        )
        is_our_log = logs.begin()
        try:
            asyncio.run(program.run(health, burst=burst, on_start=starting.close))
        except EXPECTED as error:
            if not (is_our_log and logs.is_json):
                raise
            _log.error("%s", explain(error))
            sys.exit(exit_code(error))


def parse_queues(words: Sequence[str]) -> dict[str, float | None]:
    """The weights of queues, from "jobs" or "jobs=3". All have one, or none has."""
    weights: dict[str, float | None] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if name in weights:
            raise InvalidParameterValue("queues", list(words), "must be different queues")
        try:
            weights[name] = float(text) if equals else None
        except ValueError:
            reason = "must be the name of a queue, or name=weight, as mail=3"
            raise InvalidParameterValue("queues", word, reason) from None
    if len({weight is None for weight in weights.values()}) > 1:
        raise InvalidParameterValue("queues", list(words), "must have a weight each, or none")
    return weights


def _load_code(loader: Callable[..., Any], *arguments: str) -> Any:
    """What the user's modules have. If one raises, show where, and end in one line."""
    if (folder := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, folder)
    try:
        return loader(*arguments)
    except ModuleFailed as failure:
        error = failure.error
        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_code.co_filename in _LOADER_FILES:
            trace = trace.tb_next
        traceback.print_exception(error.with_traceback(trace))
        raise NotDone(str(failure)) from error


@contextmanager
def ending_at_sigterm() -> Generator[None]:
    """In the block, SIGTERM ends the program at once, with exit code 0: also if it is process 1 of
    a container, for which the kernel does nothing by itself. A handler that the block installs
    stays."""
    previous = signal.signal(signal.SIGTERM, _end)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGTERM) is _end:
            signal.signal(signal.SIGTERM, previous)


def _end(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)


@dataclass
class Program:
    """One worker, from its start to its end."""

    handler: Any
    name: str
    """How the handler was named."""
    weights: dict[str, float | None]
    codec: Any
    options: dict[str, Any]
    server: WorkServer
    is_starting: bool = True

    async def run(self, health: Health, *, burst: bool, on_start: Callable[[], None]) -> None:
        timeout = self.server.connect_timeout
        async with AsyncExitStack() as stack:
            rsmq = await stack.enter_async_context(self.server.connect(connect_timeout=timeout))
            queues = [rsmq.queue(name, codec=self.codec) for name in self.weights]
            worker = self._new_worker(rsmq, queues)
            if health.health_port is not None:
                routes = probes(lambda: "starting" if self.is_starting else worker.trouble)
                serving = serve(health.health_host, health.health_port, routes)
                url = await stack.enter_async_context(serving)
                _log.info("answering probes at %s/livez and /readyz", url, extra={"url": url})
            await self._wait_for(rsmq, queues)
            self._log_start(rsmq)
            self.is_starting = False
            on_start()  # from here on the worker takes the signals
            try:
                await (run_burst(rsmq, worker, list(self.weights)) if burst else worker.run())
            finally:
                _log_end(worker.stats)

    def _new_worker(self, rsmq: AsyncRSMQ, queues: list[Queue[Any]]) -> Worker[Any]:
        weights = self.weights.values()
        weighed = queues if None in weights else dict(zip(queues, weights, strict=True))
        try:
            return rsmq.worker(weighed, self.handler, **self.options)
        except InvalidParameterValue as error:
            if error.parameter != "handler":
                raise
            raise InvalidParameterValue("handler", self.name, error.reason) from error

    async def _wait_for(self, rsmq: AsyncRSMQ, queues: list[Queue[Any]]) -> None:
        """Wait until the server answers."""
        text = "waiting up to %g seconds for the server at %s"
        loop = asyncio.get_running_loop()
        timeout = self.server.connect_timeout
        telling = loop.call_later(PATIENT, _log.info, text, timeout, rsmq.address)
        try:
            for queue in queues:
                try:
                    await queue.attributes()
                except QueueDoesNotExist:
                    if not self.options["create"]:
                        raise
        except QueueDoesNotExist as error:
            advice = f"`aiorsmq create {error.qname}` does that, and so does --create"
            raise NotDone(f"queue {error.qname!r} does not exist: create it; {advice}") from error
        finally:
            telling.cancel()

    def _log_start(self, rsmq: AsyncRSMQ) -> None:
        weights = self.weights.items()
        names = [name if weight is None else f"{name}={weight:.12g}" for name, weight in weights]
        concurrency = self.options["concurrency"]
        facts = {
            "queues": names,
            "handler": self.name,
            "concurrency": concurrency,
            "server": rsmq.address,
            "version": _version(),
        }
        text = "working on %s with %s, %d at a time, at %s (aiorsmq %s)"
        arguments = (", ".join(names), self.name, concurrency, rsmq.address, _version())
        _log.info(text, *arguments, extra=facts)


def _log_end(stats: WorkerStats) -> None:
    """Its counts; of those that tell of trouble the ones that are not 0."""
    counts = asdict(stats)
    words = [
        f"{count} {name.replace('_', ' ')}"
        for name, count in counts.items()
        if count or name in ("received", "succeeded")
    ]
    _log.info("stopped: %s", ", ".join(words), extra=counts)


async def run_burst(rsmq: AsyncRSMQ, worker: Worker[Any], names: list[str]) -> None:
    """Run the worker until the queues are empty."""

    async def watch() -> None:
        try:
            await wait_until_empty(rsmq, worker, names)
        finally:
            worker.stop()

    watching = asyncio.create_task(watch())
    try:
        await worker.run()
    finally:
        watching.cancel()
        await asyncio.wait({watching})
    if not watching.cancelled():
        watching.result()


async def wait_until_empty(rsmq: AsyncRSMQ, worker: Worker[Any], names: list[str]) -> None:
    """Wait until, twice in a row, no message can be claimed, and none is in hand."""
    looks = 0
    while looks < 2:
        await asyncio.sleep(BURST_POLL)
        received = worker.stats.received
        try:
            queues = await rsmq.snapshots(names)
        except OUTAGE:
            looks = 0
            continue
        stats = worker.stats
        is_idle = stats.received == received and not stats.in_flight
        waiting = [queue for queue in queues if queue.visible and queue.paused_since is None]
        looks = looks + 1 if is_idle and not waiting else 0


def _version() -> str:
    try:
        return metadata.version("aiorsmq-realtime")
    except metadata.PackageNotFoundError:  # the sources, not installed
        return "unknown"
