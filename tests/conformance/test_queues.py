"""Queues of RSMQ: created, listed, changed and deleted.

As Node rsmq 0.12.4 does it; each docstring is a sentence of the specification.
"""

from datetime import UTC, datetime, timedelta

import anyio
import pytest
from aiorsmq import AsyncRSMQ, MessageTooLong, QueueAlreadyExists, QueueDoesNotExist

from support import fields_of, keyspace, now_ms, wait_until


async def test_create(server, rsmq):
    """create_queue returns True; for a queue that exists it raises QueueAlreadyExists and
    changes nothing.
    """
    assert await rsmq.create_queue(qname="jobs", vt=20) is True
    before = keyspace(server)
    with pytest.raises(QueueAlreadyExists) as caught:
        await rsmq.create_queue(qname="jobs", vt=40)
    assert caught.value.qname == "jobs"
    assert keyspace(server) == before


async def test_exist_ok(server, rsmq):
    """With exist_ok create_queue returns False for a queue that exists, and changes nothing."""
    assert await rsmq.create_queue(qname="jobs", vt=20, exist_ok=True) is True
    before = keyspace(server)
    assert await rsmq.create_queue(qname="jobs", vt=40, exist_ok=True) is False
    assert keyspace(server) == before


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ({"vt": 0, "delay": 0, "maxsize": 1024}, (b"0", b"0", b"1024")),
        (
            {"vt": 9_999_999, "delay": 9_999_999, "maxsize": 65536},
            (b"9999999", b"9999999", b"65536"),
        ),
        ({"vt": 30.0, "delay": 5.0, "maxsize": -1}, (b"30", b"5", b"-1")),
        ({"vt": timedelta(minutes=2), "delay": timedelta(seconds=1)}, (b"120", b"1", b"65536")),
    ],
)
async def test_limits(server, queue, rsmq, given, stored):
    """vt and delay may be 0 to 9999999 whole seconds, maxsize 1024 to 65536 bytes or -1, all
    stored as integers.
    """
    await rsmq.create_queue(qname="new", **given)
    attributes = await queue.set_attributes(**given)
    for hash in (fields_of(server, "new"), fields_of(server, "jobs")):
        assert (hash[b"vt"], hash[b"delay"], hash[b"maxsize"]) == stored
    assert (attributes.vt, attributes.delay, attributes.maxsize) == tuple(map(int, stored))


@pytest.mark.parametrize("qname", ["q", "A-Z_a-z_0-9", "x" * 160, "queues", "-", "_"])
async def test_names(server, rsmq, qname):
    """A queue's name is 1 to 160 letters, digits, hyphens and underscores."""
    await rsmq.create_queue(qname=qname)
    assert await rsmq.list_queues() == {qname}
    assert server.redis.exists(f"rsmq:{qname}:Q")


async def test_list(rsmq):
    """list_queues returns the names of all queues."""
    assert await rsmq.list_queues() == set()
    for name in ("a", "b", "c"):
        await rsmq.create_queue(qname=name)
    await rsmq.delete_queue(qname="b")
    assert await rsmq.list_queues() == {"a", "c"}


async def test_delete_queue(server, rsmq):
    """delete_queue returns True; for a queue that does not exist it raises
    QueueDoesNotExist.
    """
    await rsmq.create_queue(qname="jobs")
    assert await rsmq.delete_queue(qname="jobs") is True
    with pytest.raises(QueueDoesNotExist) as caught:
        await rsmq.delete_queue(qname="jobs")
    assert caught.value.qname == "jobs"


async def test_missing_ok(rsmq):
    """With missing_ok delete_queue returns False for a queue that does not exist."""
    await rsmq.create_queue(qname="jobs")
    assert await rsmq.delete_queue(qname="jobs", missing_ok=True) is True
    assert await rsmq.delete_queue(qname="jobs", missing_ok=True) is False


async def test_attributes(server, rsmq):
    """The attributes are the settings, the totals, the times in UTC, the number of messages,
    and of hidden ones.
    """
    await rsmq.create_queue(qname="jobs", vt=20, delay=0, maxsize=2048)
    queue = rsmq.queue("jobs")
    await queue.send_many(["a", "b", "c"])
    await queue.send("hidden", delay=100)
    await queue.receive()
    await queue.pop()
    attributes = await queue.attributes()
    assert (attributes.vt, attributes.delay, attributes.maxsize) == (20, 0, 2048)
    assert (attributes.totalsent, attributes.totalrecv) == (4, 2)
    assert (attributes.msgs, attributes.hiddenmsgs) == (3, 2)
    assert attributes.created == attributes.modified
    assert attributes.created == datetime.fromtimestamp(int(fields_of(server)[b"created"]), UTC)
    assert attributes.created.tzinfo is UTC
    assert await rsmq.get_queue_attributes(qname="jobs") == attributes


async def test_hiddenmsgs(server, queue):
    """hiddenmsgs counts a message to the millisecond: hidden until its score, visible from then
    on.
    """
    id = await queue.send("x", delay=100)
    assert (await queue.attributes()).hiddenmsgs == 1
    due = now_ms(server) + 50
    server.redis.zadd("rsmq:jobs", {id: due})

    async def visible():
        before = now_ms(server)
        hidden = (await queue.attributes()).hiddenmsgs
        assert hidden == 1 or now_ms(server) >= due
        assert hidden == 0 or before < due
        return hidden == 0

    await wait_until(visible)


async def test_totals(queue):
    """The totals count every send and every receipt, also the second of one message; deleting
    takes none away.
    """
    await queue.send("x")
    for _ in range(3):
        await queue.receive(vt=0)
    assert await queue.purge() == 1
    attributes = await queue.attributes()
    assert (attributes.totalsent, attributes.totalrecv, attributes.msgs) == (1, 3, 0)


@pytest.mark.parametrize(("name", "value"), [("vt", 99), ("delay", 7), ("maxsize", 1024)])
async def test_set_attributes(server, queue, name, value):
    """set_queue_attributes changes what it is given and `modified`, and returns all
    attributes.
    """
    server.redis.hset("rsmq:jobs:Q", mapping={"created": 1, "modified": 1})
    before, seconds = fields_of(server), server.redis.time()[0]
    attributes = await queue.set_attributes(**{name: value})
    after = fields_of(server)
    assert seconds <= int(after[b"modified"]) <= server.redis.time()[0]
    assert after == before | {
        name.encode(): str(value).encode(),
        b"modified": after[b"modified"],
    }
    assert attributes == await queue.attributes()
    assert getattr(attributes, name) == value


async def test_changed_attributes_apply(queue):
    """Changed attributes hold for what is sent and received from then on."""
    await queue.set_attributes(vt=0, delay=0, maxsize=1024)
    with pytest.raises(MessageTooLong):
        await queue.send("x" * 1025)
    await queue.send("x")
    assert [(await queue.receive()).receive_count for _ in range(3)] == [1, 2, 3]
    await queue.set_attributes(vt=100, delay=100)
    await queue.receive()
    assert await queue.receive() is None
    await queue.send("delayed")
    assert (await queue.attributes()).hiddenmsgs == 2


async def test_methods(server):
    """AsyncRSMQ has RSMQ's methods; without a qname they mean the client's."""
    async with AsyncRSMQ.from_url(server.url, qname="jobs") as rsmq:
        assert await rsmq.create_queue(vt=20) is True
        assert await rsmq.create_queue(qname="other") is True
        assert await rsmq.list_queues() == {"jobs", "other"}
        assert (await rsmq.set_queue_attributes(delay=1)).delay == 1
        assert (await rsmq.get_queue_attributes()).vt == 20
        ids = [await rsmq.send_message(message=body, delay=0) for body in ("a", "b", "c")]
        message = await rsmq.receive_message(vt=10)
        assert (message.id, message.body, message.queue) == (ids[0], "a", "jobs")
        assert await rsmq.change_message_visibility(id=message.id, vt=100) is True
        assert await rsmq.delete_message(id=message.id) is True
        assert await rsmq.delete_message(id=message.id) is False
        assert await rsmq.change_message_visibility(id=message.id, vt=100) is False
        assert (await rsmq.pop_message()).id == ids[1]
        assert (await anext(rsmq.messages())).id == ids[2]
        assert await rsmq.receive_message() is None
        assert await rsmq.receive_message(qname="other") is None
        assert await rsmq.pop_message(qname="other") is None
        assert await rsmq.delete_queue() is True
        assert await rsmq.list_queues() == {"other"}


async def test_handles_share(rsmq, queue):
    """Any number of handles of one name mean one queue, and need not exist when they are
    made.
    """
    early = rsmq.queue("new")
    with pytest.raises(QueueDoesNotExist):
        await early.send("x")
    await rsmq.queue("new").create()
    await early.send("x")
    assert (await rsmq.queue("new").receive()).body == "x"
    assert early.name == "new"


async def test_made_twice(rsmq, queue, unchanged):
    """A queue that exists is not made again: its settings stay."""
    for make in (
        lambda: queue.create(vt=99),
        lambda: rsmq.queue("jobs").create(),
        lambda: rsmq.create_queue(qname="jobs", delay=5),
    ):
        with pytest.raises(QueueAlreadyExists) as caught:
            await make()
        assert caught.value.qname == "jobs"
        assert "'jobs'" in str(caught.value)


async def test_made_twice_at_the_same_time(server, rsmq):
    """Of two that make a queue at the same time, one is told that it exists."""
    outcomes = []

    async def make(vt):
        try:
            outcomes.append((vt, await rsmq.create_queue(qname="new", vt=vt)))
        except QueueAlreadyExists:
            outcomes.append((vt, False))

    async with anyio.create_task_group() as tasks:
        for vt in (10, 20):
            tasks.start_soon(make, vt)
    (winner,) = [vt for vt, made in outcomes if made]
    assert len(outcomes) == 2
    assert int(server.redis.hget("rsmq:new:Q", "vt")) == winner
