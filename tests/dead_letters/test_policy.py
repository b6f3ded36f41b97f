"""A queue's policy: how often a message may be received, and where it goes when it dies."""

import asyncio
from itertools import pairwise

import pytest
from aiorsmq import (
    AsyncRSMQ,
    InvalidParameterValue,
    NoDeadLetterQueue,
    QueueAlreadyExists,
    QueueDoesNotExist,
)
from aiorsmq._commands.dead import OVER_MAX_RECEIVES
from redis.exceptions import ResponseError

from dead_letters.letters import spend
from support import fields_of, ids_in

foreign_data = pytest.mark.foreign_data


async def test_create(server, rsmq, jobs):
    """A queue is created with its policy, and its dead-letter queue with it, with RSMQ's
    defaults.
    """
    before = await jobs.attributes()
    assert (before.max_receives, before.dead_letter_queue) == (1, "dead")
    assert await rsmq.list_queues() == {"jobs", "dead"}
    other = await rsmq.get_queue_attributes(qname="dead")
    assert (other.vt, other.delay, other.maxsize) == (30, 0, 65536)
    assert (other.max_receives, other.dead_letter_queue) == (None, None)
    assert fields_of(server, "jobs").keys() - fields_of(server, "dead").keys() == {
        b"max_receives",
        b"dead_letter_queue",
    }


async def test_none(queue):
    """A queue has none unless it is given one."""
    attributes = await queue.attributes()
    assert (attributes.max_receives, attributes.dead_letter_queue) == (None, None)


async def test_keeps_what_is_there(rsmq, dead):
    """A dead-letter queue that is there stays as it is."""
    await dead.create(vt=7, delay=3, maxsize=2048)
    await rsmq.create_queue(qname="jobs", max_receives=3, dead_letter_queue="dead")
    attributes = await dead.attributes()
    assert (attributes.vt, attributes.delay, attributes.maxsize) == (7, 3, 2048)


async def test_create_what_is_there(rsmq, queue):
    """Creating a queue that is there gives it no policy, and makes no dead-letter queue."""
    assert not await queue.create(max_receives=3, dead_letter_queue="dead", exist_ok=True)
    with pytest.raises(QueueAlreadyExists):
        await queue.create(max_receives=3, dead_letter_queue="dead")
    assert (await queue.attributes()).dead_letter_queue is None
    assert await rsmq.list_queues() == {"jobs"}


async def test_set(rsmq, queue):
    """A policy is set, changed in part, and taken away as a whole; the other attributes
    stay.
    """
    attributes = await queue.set_attributes(max_receives=3, dead_letter_queue="dead")
    assert (attributes.max_receives, attributes.dead_letter_queue, attributes.vt) == (
        3,
        "dead",
        30,
    )
    assert await rsmq.list_queues() == {"jobs", "dead"}
    attributes = await rsmq.set_queue_attributes(qname="jobs", max_receives=5)
    assert (attributes.max_receives, attributes.dead_letter_queue) == (5, "dead")
    attributes = await rsmq.set_queue_attributes(qname="jobs", dead_letter_queue="other", vt=7)
    assert (attributes.max_receives, attributes.dead_letter_queue, attributes.vt) == (
        5,
        "other",
        7,
    )
    attributes = await queue.set_attributes(vt=8)
    assert (attributes.max_receives, attributes.dead_letter_queue, attributes.vt) == (
        5,
        "other",
        8,
    )
    attributes = await queue.set_attributes(dead_letter_queue="")
    assert (attributes.max_receives, attributes.dead_letter_queue, attributes.vt) == (
        None,
        None,
        8,
    )


async def test_removed_without_a_trace(server, queue):
    """A policy that is taken away leaves no field behind."""
    before = fields_of(server, "jobs").keys()
    await queue.set_attributes(max_receives=3, dead_letter_queue="dead")
    await queue.set_attributes(dead_letter_queue="")
    assert fields_of(server, "jobs").keys() == before


async def test_without_a_number(server, rsmq, dead):
    """A dead-letter queue alone kills nobody for being received often."""
    queue = rsmq.queue("jobs")
    await queue.create(dead_letter_queue="dead")
    await spend(queue, "tough", times=20)
    message = await queue.receive()
    assert (message.body, message.receive_count) == ("tough", 21)
    assert ids_in(server, "dead") == []


async def test_dead_letter_queue_is_made_again(server, rsmq, jobs, dead):
    """Setting the policy creates a dead-letter queue that has been deleted."""
    await dead.delete()
    await jobs.set_attributes(max_receives=2, dead_letter_queue="dead")
    assert await rsmq.list_queues() == {"jobs", "dead"}


async def test_one_round_trip(server, queue):
    """Setting a policy is one script call."""
    server.reset_stats()
    await queue.set_attributes(max_receives=3, dead_letter_queue="dead")
    assert server.script_calls() <= 2  # EVALSHA, and EVAL if the server did not know it


@pytest.mark.parametrize("value", [-1, 1_000_001, 1.5, True, "3", b"3"])
async def test_bad_number(rsmq, queue, value):
    """max_receives is an int from 1 to 1000000; 0 only takes it away."""
    before = await queue.attributes()
    for call in (
        queue.set_attributes(max_receives=value, dead_letter_queue="dead"),
        rsmq.queue("new").create(max_receives=value, dead_letter_queue="dead"),
    ):
        with pytest.raises(InvalidParameterValue) as refused:
            await call
        assert (refused.value.parameter, refused.value.value) == ("max_receives", value)
    assert await queue.attributes() == before
    assert await rsmq.list_queues() == {"jobs"}


@pytest.mark.parametrize("value", ["a b", "QUEUES", "x" * 161, 1, b"dead", "jobs", "dead\n"])
async def test_bad_name(rsmq, queue, value):
    """A dead-letter queue is a queue's name, and another one's."""
    with pytest.raises(InvalidParameterValue) as refused:
        await queue.set_attributes(dead_letter_queue=value)
    assert (refused.value.parameter, refused.value.value) == ("dead_letter_queue", value)
    await queue.delete()
    with pytest.raises(InvalidParameterValue):
        await queue.create(dead_letter_queue=value)
    assert await rsmq.list_queues() == set()


async def test_number_alone(server, rsmq, queue):
    """max_receives without a dead-letter queue is a policy too, and is changed and taken away
    like one.
    """
    before = fields_of(server, "jobs").keys()
    await rsmq.create_queue(qname="new", max_receives=4)
    attributes = await rsmq.get_queue_attributes(qname="new")
    assert (attributes.max_receives, attributes.dead_letter_queue) == (4, None)
    for changes, policy in (
        ({"max_receives": 3}, (3, None)),
        ({"max_receives": 0}, (None, None)),
        ({"max_receives": 3, "dead_letter_queue": "dead"}, (3, "dead")),
        ({"max_receives": 0}, (None, "dead")),
        ({"max_receives": 5}, (5, "dead")),
        ({"max_receives": 2, "dead_letter_queue": ""}, (2, None)),
        ({"dead_letter_queue": "dead"}, (2, "dead")),
        ({"max_receives": 0, "dead_letter_queue": ""}, (None, None)),
    ):
        attributes = await queue.set_attributes(**changes)
        assert (attributes.max_receives, attributes.dead_letter_queue) == policy
    assert fields_of(server, "jobs").keys() == before
    with pytest.raises(InvalidParameterValue, match="max_receives=0"):
        await rsmq.create_queue(qname="other", max_receives=0)


async def test_of_a_missing_queue(rsmq):
    """The policy of a queue that is not there cannot be set, and makes no dead-letter queue."""
    with pytest.raises(QueueDoesNotExist):
        await rsmq.queue("jobs").set_attributes(dead_letter_queue="dead")
    assert await rsmq.list_queues() == set()


@pytest.mark.parametrize("length", [2, 3, 7])
async def test_circle(server, rsmq, length):
    """Queues that would send their dead in a circle, of any length, are refused; the reason
    shows the way.
    """
    names = [f"q{n}" for n in range(length)]
    for name in names:
        await rsmq.create_queue(qname=name)
    for one, other in pairwise(names):
        await rsmq.set_queue_attributes(qname=one, dead_letter_queue=other)
    before = fields_of(server, names[-1])
    with pytest.raises(InvalidParameterValue) as refused:
        await rsmq.set_queue_attributes(qname=names[-1], dead_letter_queue=names[0])
    assert refused.value.parameter == "dead_letter_queue"
    assert refused.value.reason.endswith(" -> ".join([names[-1], *names]))
    assert fields_of(server, names[-1]) == before


async def test_circle_closed_by_create(rsmq, jobs, dead):
    """A queue that is created cannot close a circle either."""
    await dead.delete()
    with pytest.raises(InvalidParameterValue, match="dead -> jobs -> dead"):
        await dead.create(dead_letter_queue="jobs")
    assert await rsmq.list_queues() == {"jobs"}


async def test_chain(rsmq):
    """A chain that ends is allowed: the dead of one may die again in the next."""
    for name, following in (("c", "d"), ("b", "c"), ("a", "b")):
        await rsmq.create_queue(qname=name, dead_letter_queue=following)
    assert await rsmq.list_queues() == {"a", "b", "c", "d"}
    await rsmq.set_queue_attributes(qname="a", dead_letter_queue="d")


async def test_two_admins(server):
    """Of two admins that set opposite policies at the same time, one is refused."""
    async with AsyncRSMQ.from_url(server.url) as one, AsyncRSMQ.from_url(server.url) as other:
        for n in range(20):
            a, b = one.queue(f"a{n}"), other.queue(f"b{n}")
            await a.create()
            await b.create()
            outcomes = await asyncio.gather(
                a.set_attributes(dead_letter_queue=b.name),
                b.set_attributes(dead_letter_queue=a.name),
                return_exceptions=True,
            )
            assert [type(outcome) for outcome in outcomes].count(InvalidParameterValue) == 1


async def test_chain_that_changes_in_between(server, rsmq, monkeypatch):
    """A chain that has become another one between the looks at it is followed where it now
    goes.
    """
    for name, following in (("c", "d"), ("b", "c")):
        await rsmq.create_queue(qname=name, dead_letter_queue=following)
    await rsmq.create_queue(qname="a")
    run, looks = rsmq._node.run, []

    async def run_and_change(call, *rest):
        looks.append(call)
        if len(looks) == 2:
            server.redis.hset("rsmq:b:Q", "dead_letter_queue", "a")
        return await run(call, *rest)

    monkeypatch.setattr(rsmq._node, "run", run_and_change)
    with pytest.raises(InvalidParameterValue, match="a -> b -> a"):
        await rsmq.set_queue_attributes(qname="a", dead_letter_queue="b")


@foreign_data
@pytest.mark.parametrize("name", ["jobs", "QUEUES", "a b", "x" * 161, b"\xff", "dead\n"])
async def test_senseless_name(server, rsmq, queue, name):
    """A dead-letter queue that another program has misnamed reads as none; and nothing is
    dropped for it.
    """
    server.redis.hset("rsmq:jobs:Q", mapping={"max_receives": 1, "dead_letter_queue": name})
    attributes = await queue.attributes()
    assert (attributes.max_receives, attributes.dead_letter_queue) == (None, None)
    await spend(queue, "alive", times=2)
    message = await queue.receive()
    assert (message.body, message.receive_count) == ("alive", 3)
    with pytest.raises(NoDeadLetterQueue):
        await queue._core.bury([message._record], "why")
    attributes = await queue.set_attributes(max_receives=3)
    assert (attributes.max_receives, attributes.dead_letter_queue) == (None, None)
    await rsmq.create_queue(qname="first", dead_letter_queue="jobs")
    assert server.redis.hget("rsmq:jobs:Q", "dead_letter_queue") == (
        name if name == b"\xff" else name.encode()
    )


@foreign_data
@pytest.mark.parametrize(
    "number", ["", "0", "-1", "1.5", "many", "1e3", " 3", "0x10", "9" * 16, b"\xff"]
)
async def test_senseless_number(server, queue, number):
    """A max_receives that another program has set to what is no number reads as none."""
    server.redis.hset("rsmq:jobs:Q", mapping={"max_receives": number, "dead_letter_queue": "dead"})
    attributes = await queue.attributes()
    assert (attributes.max_receives, attributes.dead_letter_queue) == (None, "dead")
    await spend(queue, "alive", times=2)
    message = await queue.receive()
    assert message.receive_count == 3
    assert await queue._core.dead.bury([message._record], "why", OVER_MAX_RECEIVES) == [None]


@foreign_data
async def test_circle_of_others(server, rsmq, queue):
    """A circle that another program has made elsewhere is not followed forever."""
    for name, following in (("b", "c"), ("c", "b")):
        await rsmq.create_queue(qname=name)
        server.redis.hset(f"rsmq:{name}:Q", "dead_letter_queue", following)
    with pytest.raises(InvalidParameterValue, match="jobs -> b -> c -> b"):
        await queue.set_attributes(dead_letter_queue="b")


@foreign_data
@pytest.mark.parametrize("key", ["rsmq:dead", "rsmq:dead:Q"])
async def test_keys_of_another_type(server, rsmq, queue, key):
    """A dead-letter queue whose keys are another program's is refused, and nothing is
    changed.
    """
    server.redis.set(key, "theirs")
    before = fields_of(server, "jobs")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await queue.set_attributes(dead_letter_queue="dead")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await rsmq.create_queue(qname="new", dead_letter_queue="dead")
    assert (fields_of(server, "jobs"), await rsmq.list_queues()) == (before, {"jobs"})
