"""What the tests of bad input share."""

import reprlib
from contextlib import asynccontextmanager

import pytest
from aiorsmq import InvalidParameterValue

from support import keyspace


@pytest.fixture
async def refused(server, rsmq, queue):
    """A context in which something must be refused by the client: the server hears nothing of it,
    then or later.
    """

    @asynccontextmanager
    async def check(parameter, value, accepted):
        await rsmq.list_queues()
        before = keyspace(server)
        server.reset_stats()
        with pytest.raises(InvalidParameterValue) as caught:
            yield
        await rsmq.list_queues()  # on the same connection: what was sent before it has arrived
        assert server.script_calls() == 1
        assert server.commands().keys() <= {
            "evalsha",
            "time",
            "smembers",
            "info",
            "config",
            "config|resetstat",
        }
        assert keyspace(server) == before
        error = caught.value
        assert isinstance(error, ValueError)
        assert error.parameter == parameter
        assert error.value is value
        is_hidden = parameter in {"message", "body", "bodies", "client", "host"} or "://" in str(
            value
        )
        shown = f"<{type(value).__name__}>" if is_hidden else reprlib.repr(value)
        assert str(error).startswith(f"{parameter}={shown}: ")
        assert repr(error) == f"InvalidParameterValue({str(error)!r})"
        assert accepted in error.reason

    return check
