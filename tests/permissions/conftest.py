"""How a call is made without some right."""

import logging
from contextlib import aclosing
from typing import ClassVar

import anyio
import pytest
from aiorsmq import AsyncRSMQ, NotPermitted

from permissions.calls import Place
from permissions.rights import Listening, grant_all, keyspace_without_totals
from support import PATIENCE, check_keys


@pytest.fixture
def anyio_backend():
    """One event loop is enough: what is refused is the server's affair."""
    return "asyncio", {"debug": True}


class Attempt:
    """`await attempt(call, refuse, is_one_call=...)`: make a call without what `refuse` takes away;
    its NotPermitted, or None if it works.
    """

    used: ClassVar[dict[str, set[str]]] = {}
    """The commands that a call uses, by its name."""

    def __init__(self, server, proxy, own):
        self._server, self._proxy, self._own = server, proxy, own
        self.listening = Listening()

    async def __call__(self, call, refuse, *, is_one_call, before_login=False):
        server, refusals = self._server, self.listening.refusals
        server.redis.flushall()
        grant_all(server)
        refusals.clear()
        options = {"username": "someone", "password": "pw", "poll_interval": 0.02}
        async with AsyncRSMQ.from_url(self._proxy.url, **options) as user:
            if not before_login:
                await user.list_queues()  # its connection is open
            place = Place(server, self._proxy, self._own, user, refusals)
            async with aclosing(call(place)) as steps:
                await anext(steps)
                before = keyspace_without_totals(server)
                server.redis.script_flush()
                refuse()
                try:
                    with anyio.fail_after(PATIENCE):
                        await anext(steps, None)
                except NotPermitted as refused:
                    if is_one_call:
                        assert keyspace_without_totals(server) == before
                    return refused
                finally:
                    check_keys(server.redis)
        return refusals[0] if refusals else None

    async def uses(self, call, command):
        """Whether a call uses a command when it may; found out once for each call."""
        name = call.__name__
        if name not in self.used:
            await self(call, self._server.reset_stats, is_one_call=False)
            self.used[name] = set(self._server.commands())
        return not self.used[name].isdisjoint((command, command.split("|")[0]))


@pytest.fixture
async def attempt(server, proxy, rsmq):
    """See `Attempt`."""
    attempt = Attempt(server, proxy, rsmq)
    logging.getLogger("aiorsmq").addHandler(attempt.listening)
    yield attempt
    logging.getLogger("aiorsmq").removeHandler(attempt.listening)
    server.redis.acl_deluser("someone")
