"""The test kit for synchronous programs."""

import pytest
from aiorsmq import JSON, InvalidParameterValue, testing
from aiorsmq.sync import RSMQ
from aiorsmq.testing import rsmq_test_server
from aiorsmq.testing.sync import advance, drain, queue_contents

from support import PATIENCE


@pytest.fixture(scope="module")
def kit(running_server):
    with rsmq_test_server(running_server.url) as kit:
        yield kit


@pytest.fixture
def rsmq(kit):
    with kit.namespace() as ns, RSMQ.from_url(kit.url, ns=ns, deadline=PATIENCE) as rsmq:
        yield rsmq


@pytest.fixture
def queue(rsmq):
    queue = rsmq.queue("jobs", codec=JSON)
    queue.create()
    return queue


def test_a_day_in_no_time(queue):
    """A delay is advanced past, and a worker's handler gets a synchronous message."""
    queue.send({"n": 1}, delay=86400)
    bodies = []
    assert drain(queue, lambda message: bodies.append(message.body)) == 0
    assert queue_contents(queue).hidden == [{"n": 1}]
    assert advance(queue, "1d") == 1
    assert drain(queue, lambda message: bodies.append(message.body)) == 1
    assert bodies == [{"n": 1}]
    assert queue_contents(queue) == []


def test_the_handler_may_settle(queue):
    """A handler that deletes its message itself has handled it."""
    queue.send("x")
    assert drain(queue, lambda message: None if message.delete() else 1 / 0) == 1


def test_its_error_is_raised(queue):
    """What the handler raises comes out here."""
    queue.send("x")

    def fail(message):
        raise LookupError(message.body)

    with pytest.raises(LookupError, match="x"):
        drain(queue, fail, concurrency=1, backoff=lambda count: 60)
    assert advance(queue, "1m") == 1


async def test_the_other_kind(kit, queue):
    """Each `advance` refuses the other's queues, and says where to look."""
    with pytest.raises(InvalidParameterValue, match=r"Queue 'jobs'.*; for those of aiorsmq\.sync"):
        await testing.advance(queue, "1h")
    with kit.client() as rsmq, pytest.raises(InvalidParameterValue, match=r"an RSMQ of aiorsmq"):
        advance(rsmq.queue("jobs"), "1h")


def test_all_queues(rsmq):
    """Given a client, time passes for all its queues."""
    for name in ("a", "b"):
        rsmq.queue(name).create(delay=60)
        rsmq.queue(name).send("later")
    assert advance(rsmq, 60) == 2
