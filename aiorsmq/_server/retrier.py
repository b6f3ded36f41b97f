"""Tries a script call again, as far as that is safe."""

import asyncio
from collections.abc import Sequence
from functools import partial

from redis.exceptions import (
    AuthenticationError,
    ConnectionError,
    NoScriptError,
    RedisError,
)

from ..errors import QueueDoesNotExist, UnsupportedServer
from .call import Call, Reply, RetryPolicy
from .clock import Clock
from .connector import Connector
from .failures import (
    CONNECT_ERRORS,
    backoff,
    is_missing_queue,
    is_not_yet,
    is_refused_login,
    is_replica,
    is_unknown,
    permission_error,
    unsupported_reason,
)
from .futures import resolve, retrieve_error
from .home import Home
from .lane import Lane
from .lua import load
from .wire import Argument

Attempts = list["asyncio.Future[Reply]"]
"""The replies that the attempts at a call wait for, or waited for."""


class Retrier:
    """The second and later attempts at a call, after a first one that failed or was never made.

    Each attempt sends the script's source (EVAL): a server that was restarted has forgotten it.
    After each failure, in this order: raise what is final (missing queue, no permission, server
    unsupported); log in again if the login was refused; then follow the call's RetryPolicy.
    """

    def __init__(self, connector: Connector, home: Home, clock: Clock) -> None:
        self._connector = connector
        self._home = home
        self._clock = clock
        self.trouble: dict[str, Exception] = {}
        """By script: the latest error of calls that are being retried."""

    async def retry(
        self, call: Call, errors: list[Exception], lane: Lane | None, attempts: Attempts
    ) -> Reply:
        """Try until there is a reply, or raise an error that is final.

        Args:
            errors: those met so far, on `lane`; each further one is added.
            attempts: each attempt is added. Cancelling this leaves them alone.
        """
        args = call.args
        if errors:
            args = await self._next_args(errors[0], call, args, lane)
            if not isinstance(errors[0], NoScriptError):
                self.trouble[call.script] = errors[0]
        once = call.policy is RetryPolicy.NEVER
        pauses = backoff()
        while True:
            try:
                lane = await self._connector.lane()
            except CONNECT_ERRORS as not_sent:
                if once or not self._connector.may_pass(not_sent):
                    raise
                errors.append(not_sent)
                self.trouble[call.script] = not_sent
            else:
                if once and not errors:
                    # Opening took a while: the caller may want something else by now.
                    raise ConnectionError("the connection was just opened")
                try:
                    attempts.append(self._evaluate(lane, call, args))
                    return await asyncio.shield(attempts[-1])
                except RedisError as error:
                    errors.append(error)
                    args = await self._next_args(error, call, args, lane)
                    self.trouble[call.script] = error
            await asyncio.sleep(next(pauses))

    def _evaluate(
        self, lane: Lane, call: Call, args: Sequence[Argument]
    ) -> "asyncio.Future[Reply]":
        source = load(call.script).source
        reply: asyncio.Future[Reply] = self._home.loop().create_future()
        reply.add_done_callback(retrieve_error)  # at its deadline, a call stops waiting
        lane.call(partial(resolve, reply), "EVAL", source, len(call.keys), *call.keys, *args)
        return reply

    async def _next_args(
        self, error: Exception, call: Call, args: Sequence[Argument], lane: Lane | None
    ) -> Sequence[Argument]:
        """The arguments of the next attempt; raises the error if there must be none."""
        _raise_if_final(error, call)
        if is_refused_login(error):
            await self._wait_for_login(AuthenticationError(str(error)), call, lane)
            return args
        if isinstance(error, NoScriptError):
            return args
        if call.policy is RetryPolicy.NEVER:
            raise error
        if is_unknown(error):
            if call.policy is RetryPolicy.NEVER_IF_UNKNOWN:
                raise error
            return call.args if call.marked_args is None else call.marked_args()
        if not is_not_yet(error):
            raise error
        if is_replica(error):
            await self._connector.drop(lane)
        return args

    async def _wait_for_login(self, error: Exception, call: Call, lane: Lane | None) -> None:
        """Have the next attempt log in again, unless no login has ever worked."""
        if not self._clock.is_known:
            raise error
        await self._connector.relogin(lane, error)
        if call.policy is RetryPolicy.NEVER or not self._connector.may_pass(error):
            raise error


def _raise_if_final(error: Exception, call: Call) -> None:
    if is_missing_queue(error):
        raise QueueDoesNotExist(call.qname) from None
    source = load(call.script).source
    if (refusal := permission_error(error, call.qname, call.script, source, call.keys)) is not None:
        raise refusal from error
    if reason := unsupported_reason(error):
        raise UnsupportedServer(reason) from None  # the server's text may quote bodies
