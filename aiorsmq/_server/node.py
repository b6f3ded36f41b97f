"""One server as the client sees it: calls go in, replies and announcements come out.

A call's way: `Node.submit` writes EVALSHA on the lane; the reply comes back through the read
callback of the wire (`Wire` -> `Lane._on_reply` -> `first_reply` -> `Node._finish`) to the
`on_reply` of the command. That first attempt needs no task and no timer. A first attempt that
fails goes on in a task, in `Retrier.retry`, and ends in `Node._finish` too.
"""

import asyncio
import logging
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Final, TypeVar

import anyio
import anyio.lowlevel
from redis.exceptions import InvalidResponse, NoScriptError, RedisError, TimeoutError

from ..errors import ClientClosed, UnsupportedServer
from .call import Call, Reply
from .clock import Clock
from .connector import Connector
from .deadlines import NO_REPLY, SLACK
from .failures import LOGIN_REFUSED, is_not_yet, is_unknown
from .futures import resolve
from .home import Home
from .lane import Lane, OnReply
from .listener import Flag, Listener
from .lua import load
from .retrier import Attempts, Retrier
from .server_settings import warn_about_settings
from .target import Target
from .tasks import Tasks
from .turn import Turn
from .wire import Argument

T = TypeVar("T")

DEADLINE: Final = 30.0
"""Seconds that a call may take, unless the client says otherwise."""
CLOSE_TIMEOUT: Final = 5.0
"""Seconds that `aclose()` gives to calls in flight."""

_logger = logging.getLogger("aiorsmq.client")

_JUMPED = "the server's clock jumped by %+.0f seconds: %s"
_JUMPED_BACK = (
    "messages that were visible or leased stay hidden for that much longer; "
    "change_visibility(id, 0) makes one visible"
)
_JUMPED_FORWARD = "leases and delays shorter than that have ended"


def _unchanged(reply: Reply) -> Reply:
    return reply


def _set_result(future: "asyncio.Future[Any]", reply: Any) -> None:
    """Unlike `resolve`, with an error as the result."""
    if not future.done():
        future.set_result(reply)


def _ignore(_: object = None) -> None: ...


class Node:
    """Runs scripts on one server, listens to its channels, and keeps its time.

    Args:
        target: where the server is; closed by `aclose()`.
        deadline: seconds that a call may take.
        connect_timeout: seconds for which calls wait for a server that was never reached.
        realtime: whether to announce what is sent, and to listen.
        on_lost: called when the server or the network has ended the connection.
    """

    def __init__(
        self,
        target: Target,
        *,
        deadline: float = DEADLINE,
        connect_timeout: float = 0.0,
        realtime: bool = True,
        on_lost: Callable[[], None] = _ignore,
    ) -> None:
        self.target: Target = target
        self.home: Home = Home()
        self.turn: Turn = Turn(self.home)
        self.tasks: Tasks = Tasks(self.home)
        self.clock: Clock = Clock()
        self.deadline: float = deadline
        self.realtime: bool = realtime
        self._upkeep = Tasks(self.home)
        self._connector = Connector(
            target,
            self._upkeep,
            connect_timeout=connect_timeout,
            on_reached=warn_about_settings if target.keeps_data else _ignore,
            on_lost=on_lost,
        )
        self._retrier = Retrier(self._connector, self.home, self.clock)
        open_wire = partial(target.open, self._upkeep, pushes=True)
        self._listener = Listener(open_wire, self._upkeep)
        self._in_flight = 0
        self._quiet = asyncio.Event()

    def until(self) -> float:
        """The deadline of a call made now, by the event loop's clock."""
        return self.deadline_of(self.home.loop().time())

    def deadline_of(self, time: float) -> float:
        """The deadline of a call made then; later if the server had not been reached by then."""
        until = time + self.deadline
        if time >= self._connector.reached_at:
            return until
        return max(until, self._connector.given_up_at())

    def submit(self, call: Call, on_reply: OnReply, until: float | None = None) -> None:
        """Run a script. `on_reply` gets its reply, without the server's time, or an exception.

        The exception is redis-py's, or one of ours. What the server refuses comes at once; what
        may pass (an outage, LOADING) comes at the deadline if it has not passed by then; that a
        server which was never reached cannot be reached comes after `connect_timeout`.

        `on_reply` must read the whole reply before it acts on it. If it raises, the reply was not
        this script's, and `on_reply` is called again with an InvalidResponse.

        Args:
            until: the deadline of the caller's own call. A reply that is arriving then is still
                passed on, however late it is complete.
        """
        started = self.home.loop().time()
        if until is None:
            until = self.until()
        lane = self._connector.current()

        def first_reply(reply: Any) -> None:
            if isinstance(reply, Exception):
                self.tasks.start(self._persist(call, started, until, on_reply, (reply, lane)))
            else:
                self._finish(call, reply, started, on_reply)

        if lane is None:
            self.tasks.start(self._persist(call, started, until, on_reply, None))
        else:
            sha1 = load(call.script).sha1
            lane.call(first_reply, "EVALSHA", sha1, len(call.keys), *call.keys, *call.args)
        self._in_flight += 1

    async def run(
        self, call: Call, read: Callable[[Reply], Any] = _unchanged, until: float | None = None
    ) -> Any:
        """`submit`, and wait for what `read` makes of the reply.

        Cancelling stops the waiting, not the call.
        """
        if until is None:
            until = self.until()
        future: asyncio.Future[Any] = self.home.loop().create_future()

        def on_reply(outcome: Reply | Exception) -> None:
            resolve(future, outcome if isinstance(outcome, Exception) else read(outcome))

        self.submit(call, on_reply, until)
        return await self.result(future, until)

    async def ask(self, *commands: Sequence[Argument]) -> list[Any] | None:
        """The replies to plain commands that change nothing; what the server refuses comes as an
        exception in its place. None if there is no connection, or if it was lost. Has a deadline of
        its own."""
        until = self.until()
        lane = self._connector.current()
        if lane is None:
            return None
        futures: list[asyncio.Future[Any]] = []
        for command in commands:
            futures.append(self.home.loop().create_future())
            lane.call(partial(_set_result, futures[-1]), *command)
        replies = [await self.result(future, until) for future in futures]
        return None if lane.lost else replies

    async def result(self, future: "asyncio.Future[T]", until: float) -> T:
        """Wait until the future is done, or until the deadline of its call.

        Cancelling stops the waiting, not the call.
        """
        try:
            async with asyncio.timeout_at(until + SLACK):
                return await future
        except asyncio.TimeoutError:
            raise self.late(NO_REPLY) from None

    @contextmanager
    def while_heard(self, script: str, ends: float, patience: float) -> Generator[None]:
        """Cancel the block `patience` seconds after `ends`.

        While a reply is arriving, `patience` starts over with each byte, up to the deadline.
        """
        loop = self.home.loop()

        def look() -> None:
            nonlocal timer
            lane = self._connector.current()
            heard_at = ends if lane is None or self.trouble(script) else lane.heard_at
            latest = ends + max(patience, self.deadline)
            cancel_at = min(max(ends, heard_at) + patience, latest)
            if cancel_at <= loop.time():
                scope.cancel()
            else:
                timer = loop.call_at(cancel_at, look)

        with anyio.CancelScope() as scope:
            timer = loop.call_at(ends + patience, look)
            try:
                yield
            finally:
                timer.cancel()

    def watch(self, flag: Flag) -> None:
        """See `Listener.watch`; without `realtime` this does nothing."""
        if self.realtime:
            self._listener.watch(flag)

    def is_listening(self, flag: Flag) -> bool:
        """See `Listener.is_listening`."""
        return self._listener.is_listening(flag)

    def late(self, reason: str) -> Exception:
        """What a call raises that has missed its deadline."""
        return TimeoutError(reason)

    def trouble(self, script: str) -> Exception | None:
        """The latest error of calls of a script that are being retried."""
        return self._retrier.trouble.get(script)

    def failure(self) -> Exception | None:
        """Why the server cannot be reached, if it cannot."""
        return self._connector.failure

    def is_busy(self) -> bool:
        """Whether the server is working on calls of this client."""
        return self._in_flight > 0

    def concerns_all(self, error: Exception) -> bool:
        """Whether an error was not the call's fault: other calls would meet it as well."""
        return isinstance(error, ClientClosed | UnsupportedServer) or self.is_outage(error)

    def is_outage(self, error: Exception) -> bool:
        """Whether trying again later may help: a server that was reached before is away or not
        ready, or refuses the login for now."""
        if not isinstance(error, RedisError) or not self._connector.may_pass(error):
            return False
        return isinstance(error, LOGIN_REFUSED) or is_unknown(error) or is_not_yet(error)

    async def until_idle(self) -> None:
        """Wait until no call is in flight, and no task is left that may make one."""
        while self.is_busy() or self.turn.has_callbacks() or self.tasks.are_running():
            await self._until_quiet()
            await self.tasks.wait()

    async def aclose(self) -> None:
        """Let calls in flight finish, for CLOSE_TIMEOUT, and leave no task or connection behind."""
        await self._listener.aclose()
        until = anyio.current_time() + CLOSE_TIMEOUT
        with anyio.CancelScope(deadline=until):
            await self._until_quiet()
        await self.tasks.finish(until - anyio.current_time())
        await self._connector.aclose()
        await self._upkeep.finish(CLOSE_TIMEOUT)
        await self.target.aclose()

    async def _until_quiet(self) -> None:
        """Wait until no call is in flight, nor about to be."""
        while self._in_flight or self.turn.has_callbacks():
            if self._in_flight:
                self._quiet.clear()
                await self._quiet.wait()
            else:
                await anyio.lowlevel.checkpoint()

    async def _persist(
        self,
        call: Call,
        started: float,
        until: float,
        on_reply: OnReply,
        failed: tuple[Exception, Lane | None] | None,
    ) -> None:
        """See a call through to its deadline. `failed`: the first attempt's error and lane, if it
        was made."""
        outcome: Any = ClientClosed()  # stands if this task is cancelled
        errors = [] if failed is None else [failed[0]]
        lane = None if failed is None else failed[1]
        attempts: Attempts = []
        try:
            async with asyncio.timeout_at(until):
                outcome = await self._retrier.retry(call, errors, lane, attempts)
        except asyncio.TimeoutError:
            outcome = self._missed_deadline(call, errors)
            if call.holds_messages and attempts:
                with suppress(RedisError):
                    outcome = await attempts[-1]
        except Exception as error:  # noqa: BLE001 - the caller handles it
            outcome = error
        finally:
            self._finish(call, outcome, started, on_reply)

    def _missed_deadline(self, call: Call, errors: list[Exception]) -> Exception:
        """The last error that the call met; NoScriptError explains nothing."""
        for error in reversed(errors):
            if not isinstance(error, NoScriptError):
                return error
        name = f"{call.script} of queue {call.qname!r}"
        return self.late(f"{name} did not succeed within {self.deadline:g} seconds")

    def _finish(self, call: Call, outcome: Any, started: float, on_reply: OnReply) -> None:
        self._in_flight -= 1
        if not self._in_flight:
            self._quiet.set()
        if self._retrier.trouble:
            self._retrier.trouble.pop(call.script, None)
        if isinstance(outcome, Exception):
            on_reply(outcome)
        else:
            try:
                seconds, microseconds = outcome[:2]
                del outcome[:2]
                if jump := self.clock.learn(seconds, microseconds, started):
                    effect = _JUMPED_BACK if jump < 0 else _JUMPED_FORWARD
                    _logger.warning(_JUMPED, jump, effect, extra={"seconds": jump})
                on_reply(outcome)
            except Exception as error:  # noqa: BLE001 - its text may quote a body
                reason = f"unexpected reply to script {call.script} ({type(error).__name__})"
                on_reply(InvalidResponse(reason))
        self.turn.plan()
