"""Synchronous fixtures: a test here runs no event loop of its own."""

import pytest
from aiorsmq.sync import RSMQ

from support import check_keys
from sync.programs import eventually, loop_threads


@pytest.fixture
def server(running_server):
    """The server, empty. Afterwards no connection, no thread and no odd key may be left."""
    running_server.empty()
    yield running_server
    eventually(lambda: running_server.clients() == 0)
    assert running_server.redis.pubsub_channels() == []
    eventually(lambda: loop_threads() == [])
    check_keys(running_server.redis)


@pytest.fixture
def rsmq(server):
    with RSMQ.from_url(server.url) as rsmq:
        yield rsmq


@pytest.fixture
def queue(rsmq):
    queue = rsmq.queue("jobs")
    queue.create()
    return queue
