"""Tries a script call again, as far as that is safe."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any, Final, NamedTuple

from redis.exceptions import (
    AuthenticationError,
    ConnectionError,
    NoScriptError,
    RedisError,
)

from ..errors import QueueDoesNotExist, UnsupportedServer
from .call import Call, Reply, RetryPolicy
from .failures import (
    CONNECT_ERRORS,
    NotSent,
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
from .route import Hop, Route
from .server import Server
from .wire import Argument


class Attempt(NamedTuple):
    """One that was sent."""

    server: Server
    lane: Lane
    reply: asyncio.Future[Reply]


class Failure(NamedTuple):
    """An attempt that failed."""

    error: Exception
    server: Server
    lane: Lane | None


MAX_HOPS: Final = 5
"""How often a call is sent on, from node to node of a cluster, before it pauses."""


class Retrier:
    """The second and later attempts at a call, after a first one that failed or was never made.

    An attempt names its script (EVALSHA), and is followed by one that sends the source (EVAL) only
    if the server does not know it: a user without EVAL can use what an administrator has loaded.
    After each failure, in this order: go where a node of a cluster has sent the call; raise what is
    final (missing queue, no permission, server unsupported); log in again if the login was refused;
    then follow the call's RetryPolicy.
    """

    def __init__(self, route: Route, home: Home) -> None:
        self._route = route
        self._home = home
        self.trouble: dict[str, Exception] = {}
        """By script: the latest error of calls that are being retried."""

    async def retry(
        self,
        call: Call,
        errors: list[Exception],
        first: Failure | None,
        attempts: list[Attempt],
    ) -> Reply:
        """Try until there is a reply, or raise an error that is final.

        Args:
            errors: those met so far; each further one is added.
            first: the first attempt's failure, if it was made.
            attempts: each attempt is added. Cancelling this leaves them alone.
        """
        args = call.args
        hop: Hop | None = None
        hops = 0
        if first is not None:
            hop, args = await self._after(first, call, args, None)
        once = call.policy is RetryPolicy.NEVER
        pauses = backoff()
        while True:
            try:
                server, lane = await self._open(call, hop)
            except CONNECT_ERRORS as not_sent:
                server = self._route.server if hop is None else hop.server
                hop = None
                self._route.suspect()
                if once or not server.connector(call).may_pass(not_sent):
                    raise
                errors.append(not_sent)
                self.trouble[call.script] = not_sent
            except RedisError as refusal:  # of a cluster's map
                _raise_if_final(refusal, call)
                raise
            else:
                if once and not errors:
                    # Opening took a while: the caller may want something else by now.
                    raise ConnectionError("the connection was just opened")
                try:
                    command = _command(call, args, errors)
                    attempt = self._evaluate(server, lane, call, command, hop)
                    attempts.append(Attempt(server, lane, attempt))
                    return await asyncio.shield(attempt)
                except RedisError as error:
                    errors.append(error)
                    hop, args = await self._after(Failure(error, server, lane), call, args, hop)
                    hops += hop is not None
                    if isinstance(error, NoScriptError) or (hop is not None and hops < MAX_HOPS):
                        continue
            await asyncio.sleep(next(pauses))

    async def _open(self, call: Call, hop: Hop | None) -> tuple[Server, Lane]:
        if hop is None:
            return await self._route.open(call)
        return hop.server, await hop.server.connector(call).lane()

    def _evaluate(
        self,
        server: Server,
        lane: Lane,
        call: Call,
        command: tuple[Argument, ...],
        hop: Hop | None,
    ) -> asyncio.Future[Reply]:
        reply: asyncio.Future[Reply] = self._home.loop().create_future()
        reply.add_done_callback(retrieve_error)  # at its deadline, a call stops waiting
        on_reply = partial(resolve, reply)
        is_asking = hop is not None and hop.is_asking
        if call.confirm is not None:
            sent_at = self._home.loop().time()
            server.run_confirmed(
                lane, call.confirm, command, sent_at, on_reply, is_asking=is_asking
            )
            return reply
        send = lane.call_if_alive if call.policy is RetryPolicy.NEVER_IF_UNKNOWN else lane.call
        if is_asking:  # for the next command on the lane
            send(partial(_resolve_if_error, reply), "ASKING")
        send(on_reply, *command)
        return reply

    async def _after(
        self, failure: Failure, call: Call, args: Sequence[Argument], hop: Hop | None
    ) -> tuple[Hop | None, Sequence[Argument]]:
        """Where the next attempt goes, if a node has said so, and its arguments; raises the error
        if there must be none. A script that was missing is sent to where it was missed."""
        if isinstance(failure.error, NoScriptError):
            return hop, args
        hop = self._route.redirect(failure.error, failure.server)
        if hop is None:
            args = await self._next_args(failure, call, args)
            self.trouble[call.script] = failure.error
        return hop, args

    async def _next_args(
        self, failure: Failure, call: Call, args: Sequence[Argument]
    ) -> Sequence[Argument]:
        """The arguments of the next attempt; raises the error if there must be none."""
        error, server, lane = failure
        _raise_if_final(error, call)
        if is_refused_login(error):
            await self._wait_for_login(failure, call)
            return args
        if is_unknown(error) or is_not_yet(error):
            self._route.suspect()
        if call.policy is RetryPolicy.NEVER:
            raise error
        if isinstance(error, NotSent):
            return args
        if is_unknown(error):
            if call.policy is RetryPolicy.NEVER_IF_UNKNOWN:
                raise error
            return call.args if call.marked_args is None else call.marked_args()
        if not is_not_yet(error):
            raise error
        if is_replica(error):
            await server.connector(call).drop(lane)
        return args

    async def _wait_for_login(self, failure: Failure, call: Call) -> None:
        """Have the next attempt log in again, unless no login has ever worked."""
        error = AuthenticationError(str(failure.error))
        if not failure.server.clock.is_known:
            raise error
        connector = failure.server.connector(call)
        await connector.relogin(failure.lane, error)
        if call.policy is RetryPolicy.NEVER or not connector.may_pass(error):
            raise error


def _command(
    call: Call, args: Sequence[Argument], errors: Sequence[Exception]
) -> tuple[Argument, ...]:
    """Names the script, or brings it if the server has just said that it does not know it."""
    script = load(call.script)
    is_missing = bool(errors) and isinstance(errors[-1], NoScriptError)
    command = ("EVAL", script.source) if is_missing else ("EVALSHA", script.sha1)
    return (*command, len(call.keys), *call.keys, *args)


def _resolve_if_error(future: asyncio.Future[Any], reply: Any) -> None:
    if isinstance(reply, Exception):
        resolve(future, reply)


def _raise_if_final(error: Exception, call: Call) -> None:
    if is_missing_queue(error):
        raise QueueDoesNotExist(call.qname) from None
    source = load(call.script).source
    if (refusal := permission_error(error, call.qname, call.script, source, call.keys)) is not None:
        raise refusal from error
    if reason := unsupported_reason(error):
        raise UnsupportedServer(reason) from None  # the server's text may quote bodies
