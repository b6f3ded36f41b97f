"""The server of some queues as the client sees it: calls go in, replies and announcements come out.

A call's way: `Node.submit` writes EVALSHA on a lane; the reply comes back through the read callback
of the wire (`Wire` -> `Lane._on_reply` -> `first_reply` -> `Node._finish`) to the `on_reply` of the
command. That first attempt needs no task and no timer. A first attempt that fails goes on in a
task, in `Retrier.retry`, and ends in `Node._finish` too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Final, TypeVar

import anyio
from redis.exceptions import (
    InvalidResponse,
    NoScriptError,
    RedisError,
    TimeoutError,
    TryAgainError,
)

from ..errors import ClientClosed, UnsupportedServer
from .call import Call, Reply, RetryPolicy
from .clock import Clock
from .deadlines import NO_REPLY, SLACK
from .engine import Engine
from .failing import Failing
from .failures import LOGIN_REFUSED, is_not_yet, is_try_again, is_unknown, redirection
from .flag import Flag
from .futures import resolve
from .home import Home
from .lane import OnReply
from .lua import load
from .retrier import Attempt, Failure, Retrier
from .route import Route
from .server import Server
from .tasks import Tasks
from .turn import Turn
from .wire import Argument

T = TypeVar("T")

_SLOT_IN_MOVE: Final = (
    "the slot of queue {!r} is being moved to another node of the cluster key by key, and a queue "
    "without messages has to wait until that ends; Valkey 9 moves slots in one step "
    "(CLUSTER MIGRATESLOTS)"
)
_WHEN_ALIVE: Final = RetryPolicy.NEVER_IF_UNKNOWN


def _unchanged(reply: Reply) -> Reply:
    return reply


def _set_result(future: asyncio.Future[Any], reply: Any) -> None:
    """Unlike `resolve`, with an error as the result."""
    if not future.done():
        future.set_result(reply)


class Node:
    """Runs scripts on one server, listens to its channels, and keeps its time.

    Which server that is may change: see `Route`.
    """

    def __init__(self, engine: Engine, route: Route) -> None:
        self.engine: Engine = engine
        self.home: Home = engine.home
        self.turn: Turn = engine.turn
        self.tasks: Tasks = engine.tasks
        self.failing: Failing = engine.failing
        self.deadline: float = engine.deadline
        self.realtime: bool = engine.realtime
        self._reach = engine.reach
        self._route = route
        self._retrier = Retrier(route, engine.home)

    @property
    def clock(self) -> Clock:
        """The server's."""
        return self._route.server.clock

    def until(self) -> float:
        """The deadline of a call made now, by the event loop's clock."""
        return self.deadline_of(self.home.loop().time())

    def deadline_of(self, time: float) -> float:
        """The deadline of a call made then; later if the server had not been reached by then."""
        until = time + self.deadline
        if time >= self._reach.reached_at:
            return until
        return max(until, self._reach.given_up_at())

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
        server = self._route.server
        connector = server.calls if call.confirm is None else server.confirmed()  # hot path
        lane = connector.current()

        def first_reply(reply: Any) -> None:
            if isinstance(reply, Exception):
                failure = Failure(reply, server, lane)
                self.tasks.start(self._persist(call, server, started, until, on_reply, failure))
            else:
                self._finish(call, server, started, on_reply, reply, server)

        if lane is None:
            self.tasks.start(self._persist(call, server, started, until, on_reply, None))
        else:
            sha1 = load(call.script).sha1
            if call.confirm is None:
                send = lane.call_if_alive if call.policy is _WHEN_ALIVE else lane.call
                send(first_reply, "EVALSHA", sha1, len(call.keys), *call.keys, *call.args)
            else:
                command = ("EVALSHA", sha1, len(call.keys), *call.keys, *call.args)
                server.run_confirmed(lane, call.confirm, command, started, first_reply)
        server.in_flight += 1

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
        lane = self._route.server.calls.current()
        if lane is None:
            return None
        futures: list[asyncio.Future[Any]] = []
        for command in commands:
            futures.append(self.home.loop().create_future())
            lane.call(partial(_set_result, futures[-1]), *command)
        replies = [await self.result(future, until) for future in futures]
        return None if lane.lost else replies

    async def ask_others(self, *command: Argument) -> list[Any]:
        """See `Route.ask_others`."""
        return await self._route.ask_others(*command)

    async def result(self, future: asyncio.Future[T], until: float) -> T:
        """Wait until the future is done, or until the deadline of its call.

        Cancelling stops the waiting, not the call.
        """
        try:
            async with asyncio.timeout_at(until + SLACK):
                return await future
        except asyncio.TimeoutError:
            if future.done() and not future.cancelled():  # in the last moment
                return future.result()
            raise self.late(NO_REPLY) from None

    @contextmanager
    def while_heard(self, script: str, ends: float, patience: float) -> Generator[None]:
        """Cancel the block `patience` seconds after `ends`.

        While a reply is arriving, `patience` starts over with each byte, up to the deadline.
        """
        loop = self.home.loop()

        def look() -> None:
            nonlocal timer
            lane = self._route.server.calls.current()
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
            self.engine.listener.watch(flag)

    def is_listening(self, flag: Flag) -> bool:
        """See `Listener.is_listening`."""
        return self.engine.listener.is_listening(flag)

    def late(self, reason: str) -> Exception:
        """What a call raises that has missed its deadline."""
        return TimeoutError(reason)

    def trouble(self, script: str) -> Exception | None:
        """The latest error of calls of a script that are being retried."""
        return self._retrier.trouble.get(script)

    def failure(self) -> Exception | None:
        """Why the server cannot be reached, if it cannot."""
        return self._route.server.calls.failure

    def is_busy(self) -> bool:
        """Whether the server is working on calls of this client."""
        return self._route.server.in_flight > 0

    def concerns_all(self, error: Exception) -> bool:
        """Whether an error was not the call's fault: other calls would meet it as well."""
        return isinstance(error, ClientClosed | UnsupportedServer) or self.is_outage(error)

    def is_outage(self, error: Exception) -> bool:
        """Whether trying again later may help: a server that was reached before is away or not
        ready, or refuses the login for now."""
        if not isinstance(error, RedisError) or not self._route.server.calls.may_pass(error):
            return False
        return isinstance(error, LOGIN_REFUSED) or is_unknown(error) or is_not_yet(error)

    async def _persist(
        self,
        call: Call,
        server: Server,
        started: float,
        until: float,
        on_reply: OnReply,
        failure: Failure | None,
    ) -> None:
        """See a call through to its deadline. `failure`: the first attempt's, if it was made."""
        outcome: Any = ClientClosed()  # stands if this task is cancelled
        errors = [] if failure is None else [failure.error]
        attempts: list[Attempt] = []
        try:
            async with asyncio.timeout_at(until):
                outcome = await self._retrier.retry(call, errors, failure, attempts)
        except asyncio.TimeoutError:
            outcome = self._missed_deadline(call, errors)
            if call.holds_messages and attempts:
                with suppress(RedisError):
                    outcome = await attempts[-1].reply
        except Exception as error:  # noqa: BLE001 - the caller handles it
            outcome = error
        finally:
            replied = attempts[-1].server if attempts else server
            self._finish(call, server, started, on_reply, outcome, replied)

    def _missed_deadline(self, call: Call, errors: list[Exception]) -> Exception:
        """The last error that the call met; NoScriptError and redirections explain nothing."""
        for error in reversed(errors):
            if is_try_again(error):
                return TryAgainError(_SLOT_IN_MOVE.format(call.qname))
            if not (isinstance(error, NoScriptError) or redirection(error)):
                return error
        name = f"{call.script} of queue {call.qname!r}"
        return self.late(f"{name} did not succeed within {self.deadline:g} seconds")

    def _finish(
        self,
        call: Call,
        server: Server,
        started: float,
        on_reply: OnReply,
        outcome: Any,
        replied: Server,
    ) -> None:
        """End a call that was first meant for `server`; `replied` may be another by now."""
        server.in_flight -= 1
        if not server.in_flight:
            self.engine.quiet.set()
        if self._retrier.trouble:
            self._retrier.trouble.pop(call.script, None)
        if isinstance(outcome, Exception):
            on_reply(outcome)
        else:
            try:
                if call.confirm is None:  # else that was done when the script replied
                    seconds, microseconds = outcome[:2]
                    del outcome[:2]
                    if jump := replied.clock.learn(seconds, microseconds, started):
                        replied.warn_of_jump(jump)
                on_reply(outcome)
            except Exception as error:  # noqa: BLE001 - its text may quote a body
                reason = f"unexpected reply to script {call.script} ({type(error).__name__})"
                on_reply(InvalidResponse(reason))
        self.turn.plan()
