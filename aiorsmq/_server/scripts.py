"""Runs the Lua half of a command: by its SHA1, retried as far as that is safe, its error words made
exceptions.
"""

import asyncio
import hashlib
import logging
import re
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from functools import cache, partial
from importlib.resources import files
from typing import Any, Final, NamedTuple, TypeVar

import anyio
import anyio.lowlevel
from redis.exceptions import (
    AuthenticationError,
    ConnectionError,
    InvalidResponse,
    NoScriptError,
    RedisError,
    TimeoutError,
)

from ..errors import ClientClosed, QueueDoesNotExist, UnsupportedServer
from .clock import Clock
from .connector import Connections
from .failures import (
    LOGIN_REFUSED,
    backoff,
    is_not_yet,
    is_refused_login,
    is_replica,
    is_unknown,
    not_permitted,
    unsupported,
)
from .lane import Answered, Pipeline
from .tasks import NO_REPLY, SLACK, Tasks, resolve
from .wire import Argument

Reply = list[Any]
T = TypeVar("T")

DEADLINE: Final = 30.0
"""Seconds after which a call gives up, unless its client says otherwise."""

_logger = logging.getLogger(__name__)

_JUMPED = "the server's clock has jumped by %+.0f seconds: %s"
_BACK = (
    "messages that were visible or leased are hidden for so much longer; "
    "change_visibility(id, 0) shows one again"
)
_FORWARD = "leases shorter than that have ended"


class _Script(NamedTuple):
    source: str
    sha1: str


@cache
def _load(name: str) -> _Script:
    """A script behind _common, and behind what its header says that it comes with."""
    own = _read(name)
    source = "\n".join(
        [_read("_common"), *map(_read, re.findall(r"^-- With +(\w+)$", own, re.MULTILINE)), own]
    )
    return _Script(source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


def _read(name: str) -> str:
    return (files("aiorsmq") / "_lua" / f"{name}.lua").read_text("utf-8")


class Call(NamedTuple):
    """One run of a script."""

    script: str
    """Its file in `_lua`, without `.lua`."""
    qname: str
    """The queue that an error is to name."""
    keys: Sequence[str]
    args: Sequence[Argument]
    again: Callable[[], Sequence[Argument]] | None = None
    """Makes the arguments of an attempt that follows one of unknown outcome, if they differ."""
    retry_unknown: bool = True
    """False if a second execution would do harm: then an unknown outcome is raised."""
    repeat: bool = True
    """False if it would be out of date by the time of a second attempt: then every failure is
    raised at once.
    """
    holds_messages: bool = False
    """Whether its reply does: one that is on its way at the deadline is waited for, so that they
    are put back.
    """

    def __repr__(self) -> str:  # no body
        return f"<Call of {self.script} of queue {self.qname!r}>"


def _as_it_is(reply: Reply) -> Reply:
    return reply


class Scripts:
    """Runs scripts on one server, and keeps the time that their replies tell.

    The first attempt needs no task and no timer of its own: `submit` writes, and the read callback
    answers. What does not come out well at once goes on in a task of the client, until it does,
    cannot, or the deadline is reached.
    """

    def __init__(self, connections: Connections, tasks: Tasks, deadline: float) -> None:
        self._connections = connections
        self._tasks = tasks
        self.deadline: float = deadline
        """Seconds that a call has."""
        self._under_way = 0
        self._trouble: dict[str, Exception] = {}
        self._quiet = asyncio.Event()
        self.clock: Clock = Clock()

    def until(self) -> float:
        """The deadline of a call that is made now, by the event loop's clock."""
        return self.deadline_of(self._tasks.loop().time())

    def deadline_of(self, asked: float) -> float:
        """The deadline of a call that was made then: later if the server had not been reached
        yet.
        """
        until = asked + self.deadline
        return (
            until
            if asked >= self._connections.reached_at
            else max(until, self._connections.given_up_at())
        )

    def late(self, reason: str) -> Exception:
        return TimeoutError(reason)

    def submit(self, call: Call, answered: Answered, until: float | None = None) -> None:
        """Run a script. `answered` gets its reply, without the server's time that begins it, or an
        exception.

        That is one of redis-py's: at once what the server refuses; at the deadline what it did not
        get over by then; and at once, too, or after `connect_timeout`, that a server cannot be
        reached that never was before. It reads the whole reply before it acts on it: if that
        raises, the reply is none of this script's, and it gets an InvalidResponse instead.

        Args:
            until: the deadline of the caller's call. A reply that is on its way then still comes,
                however late.
        """
        started = self._tasks.loop().time()
        if until is None:
            until = self.until()
        pipeline = self._connections.current()

        def first_reply(reply: Any) -> None:
            if isinstance(reply, Exception):
                self._tasks.start(self._persist(call, started, until, reply, pipeline, answered))
            else:
                self._answer(call, reply, started, answered)

        if pipeline is None:
            self._tasks.start(self._persist(call, started, until, None, None, answered))
        else:
            pipeline.call(
                first_reply,
                "EVALSHA",
                _load(call.script).sha1,
                len(call.keys),
                *call.keys,
                *call.args,
            )
        self._under_way += 1

    async def run(
        self, call: Call, read: Callable[[Reply], Any] = _as_it_is, until: float | None = None
    ) -> Any:
        """As `submit`, for one who waits, for what `read` makes of the reply.

        Cancelling stops the waiting, not the call.
        """
        if until is None:
            until = self.until()
        future: asyncio.Future[Any] = self._tasks.loop().create_future()

        def answered(outcome: Reply | Exception) -> None:
            resolve(future, outcome if isinstance(outcome, Exception) else read(outcome))

        self.submit(call, answered, until)
        return await self.result(future, until)

    async def result(self, future: "asyncio.Future[T]", until: float) -> T:
        """Wait for what a call is going to set, until its deadline; cancelling stops the waiting,
        not the call.
        """
        try:
            async with asyncio.timeout_at(until + SLACK):
                return await future
        except asyncio.TimeoutError:
            raise self.late(NO_REPLY) from None

    @contextmanager
    def while_heard(self, script: str, ends: float, patience: float) -> Generator[None]:
        """Cancel the block so many seconds after `ends`; later, up to the deadline, while a reply
        is arriving.
        """
        loop = self._tasks.loop()

        def look() -> None:
            nonlocal timer
            pipeline = self._connections.current()
            heard_at = ends if pipeline is None or script in self._trouble else pipeline.heard_at
            at = min(max(ends, heard_at) + patience, ends + max(patience, self.deadline))
            if at <= loop.time():
                scope.cancel()
            else:
                timer = loop.call_at(at, look)

        with anyio.CancelScope() as scope:
            timer = loop.call_at(ends + patience, look)
            try:
                yield
            finally:
                timer.cancel()

    def trouble(self, script: str) -> Exception | None:
        """What calls of a script that are being repeated have met last."""
        return self._trouble.get(script)

    def is_busy(self) -> bool:
        """Whether the server has something to do for this client, or will have at once."""
        return self._under_way > 0 or self._tasks.several_are_due

    async def quiet(self) -> None:
        """Wait until no call is under way, nor about to be."""
        while self._under_way or self._tasks.has_due():
            if self._under_way:
                self._quiet.clear()
                await self._quiet.wait()
            else:
                await anyio.lowlevel.checkpoint()

    def _answer(self, call: Call, outcome: Any, started: float, answered: Answered) -> None:
        self._under_way -= 1
        if not self._under_way:
            self._quiet.set()
        if self._trouble:
            self._trouble.pop(call.script, None)
        if isinstance(outcome, Exception):
            answered(outcome)
        else:
            try:
                seconds, microseconds = outcome[:2]
                del outcome[:2]
                if jump := self.clock.learn(seconds, microseconds, started):
                    _logger.warning(_JUMPED, jump, _BACK if jump < 0 else _FORWARD)
                answered(outcome)
            except Exception as error:  # noqa: BLE001 - and its text may quote a body
                answered(
                    InvalidResponse(
                        f"the reply is not one of the script {call.script} ({type(error).__name__})"
                    )
                )
        self._tasks.plan_due()

    async def _persist(
        self,
        call: Call,
        started: float,
        until: float,
        error: Exception | None,
        pipeline: Pipeline | None,
        answered: Answered,
    ) -> None:
        outcome: Any = ClientClosed()  # stands if this task is cancelled
        errors = [] if error is None else [error]
        attempts: list[asyncio.Future[Reply]] = []
        try:
            async with asyncio.timeout_at(until):
                outcome = await self._retry(call, errors, pipeline, attempts)
        except asyncio.TimeoutError:
            late = (
                f"{call.script} of queue {call.qname!r} did not succeed within "
                f"{self.deadline:g} seconds"
            )
            known = [error for error in errors if not isinstance(error, NoScriptError)]
            outcome = known[-1] if known else TimeoutError(late)
            if call.holds_messages and attempts:
                with suppress(RedisError):
                    outcome = await attempts[-1]
        except Exception as refused:  # noqa: BLE001 - whatever it is, it is the caller's to handle
            outcome = refused
        finally:
            self._answer(call, outcome, started, answered)

    async def _retry(
        self,
        call: Call,
        errors: list[Exception],
        pipeline: Pipeline | None,
        attempts: "list[asyncio.Future[Reply]]",
    ) -> Reply:
        """Try until there is a reply, or an error that is not to be retried. `errors`: those met so
        far, on `pipeline`.

        By EVAL: the server may have been restarted, and have forgotten the script. The replies that
        were waited for are added to `attempts`; cancelling leaves them alone.
        """
        args, pauses = call.args, backoff()
        if errors:
            args = await self._learn_from(errors[0], call, args, pipeline)
            if not isinstance(errors[0], NoScriptError):
                self._trouble[call.script] = errors[0]
        while True:
            try:
                pipeline = await self._connections.pipeline()
            except (ConnectionError, TimeoutError, OSError) as not_sent:
                if not (call.repeat and self._connections.may_pass(not_sent)):
                    raise
                errors.append(not_sent)
                self._trouble[call.script] = not_sent
            else:
                if not (call.repeat or errors):
                    raise ConnectionError(
                        "the connection was just opened"
                    )  # who asked may want something else by now
                try:
                    attempts.append(self._evaluate(pipeline, call, args))
                    return await asyncio.shield(attempts[-1])
                except RedisError as error:
                    errors.append(error)
                    args = await self._learn_from(error, call, args, pipeline)
                    self._trouble[call.script] = error
            await asyncio.sleep(next(pauses))

    def _evaluate(
        self, pipeline: Pipeline, call: Call, args: Sequence[Argument]
    ) -> "asyncio.Future[Reply]":
        script = _load(call.script)
        reply: asyncio.Future[Reply] = self._tasks.loop().create_future()
        pipeline.call(
            partial(resolve, reply), "EVAL", script.source, len(call.keys), *call.keys, *args
        )
        return reply

    async def _learn_from(
        self, error: Exception, call: Call, args: Sequence[Argument], pipeline: Pipeline | None
    ) -> Sequence[Argument]:
        """Raise the error if it is not to be retried; else return the arguments to try again
        with.
        """
        if "QUEUE_DOES_NOT_EXIST" in str(error):
            raise QueueDoesNotExist(call.qname) from None
        source = _load(call.script).source
        if (
            refusal := not_permitted(error, call.qname, call.script, source, call.keys)
        ) is not None:
            raise refusal from error
        if reason := unsupported(error):
            raise UnsupportedServer(
                reason
            ) from None  # the server's text quotes the script, or bodies
        if is_refused_login(error):
            await self._wait_for_login(AuthenticationError(str(error)), call, pipeline)
            return args
        if not (call.repeat or isinstance(error, NoScriptError)):
            raise error
        if is_unknown(error):
            if not call.retry_unknown:
                raise error
            return call.args if call.again is None else call.again()
        if not isinstance(error, NoScriptError) and not is_not_yet(error):
            raise error
        if is_replica(error):
            await self._connections.drop(pipeline)
        return args

    async def _wait_for_login(
        self, error: Exception, call: Call, pipeline: Pipeline | None
    ) -> None:
        """Have the next attempt log in, unless no login has ever worked."""
        if self.clock.known:
            await self._connections.relogin(pipeline, error)
        if not (self.clock.known and call.repeat and self._connections.may_pass(error)):
            raise error

    def failure(self) -> Exception | None:
        """Why the server cannot be reached, if it cannot."""
        return self._connections.failure

    def concerns_all(self, error: Exception) -> bool:
        """Whether a call that ended so was not the reason: the server is away or no server for us,
        or we are closed.
        """
        return isinstance(error, ClientClosed | UnsupportedServer) or self.is_outage(error)

    def is_outage(self, error: Exception) -> bool:
        """Whether trying again later may help: the server is expected, and is away or not ready
        now.

        Or it refuses the login, not for long.
        """
        if not isinstance(error, RedisError) or not self._connections.may_pass(error):
            return False
        return isinstance(error, LOGIN_REFUSED) or is_unknown(error) or is_not_yet(error)
