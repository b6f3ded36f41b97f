"""Queues: what one creates, changes and deletes is so for the others."""

import asyncio
import time

import pytest
from aiorsmq import AsyncRSMQ, MessageTooLong, QueueAlreadyExists, QueueDoesNotExist

from interop.peers import NodeError, Ours, PyRSMQ
from support import wait_until


@pytest.fixture
def anyio_backend():
    """These are about the wire: one event loop suffices."""
    return "asyncio", {"debug": True}


async def test_create(pair):
    """A queue that one creates is there for the other, with all its attributes."""
    one, other = pair
    await one.create(vt=7, delay=3, maxsize=2048)
    assert await other.queues() == {"jobs"}
    attributes = await other.attributes()
    assert attributes == await one.attributes()
    now = time.time()
    assert now - 60 < attributes.pop("created") == attributes.pop("modified") <= now
    assert attributes == {"vt": 7, "delay": 3, "maxsize": 2048} | dict.fromkeys(
        ("totalrecv", "totalsent", "msgs", "hiddenmsgs"), 0
    )


async def test_defaults(ours, node):
    """A queue created without a word about its attributes gets those that Node gives it."""
    await ours.create()
    made_by_us = await ours.attributes()
    await ours.delete_queue()
    await node.create()
    made_by_node = await ours.attributes()
    for name in ("vt", "delay", "maxsize"):
        assert made_by_us[name] == made_by_node[name], name


async def test_create_twice(pair):
    """A queue that is there cannot be created again by another port, and stays as it is."""
    one, other = pair
    await one.create(vt=7)
    before = await one.attributes()
    with pytest.raises(QueueAlreadyExists):
        await other.create(vt=8)
    assert await one.attributes() == before


async def test_create_at_once(everyone):
    """Of three ports that create a queue at the same time, exactly one is told that it did."""

    async def create(peer, qname):
        try:
            await peer.create(qname)
        except QueueAlreadyExists:
            return False
        return True

    qnames = [f"jobs-{n}" for n in range(20)]
    for qname in qnames:
        assert sum(await asyncio.gather(*(create(peer, qname) for peer in everyone))) == 1
    for peer in everyone:
        assert await peer.queues() == set(qnames)


async def test_list(everyone):
    """All share one list of queues, no matter who created them, with names from [A-Za-z0-9_-] up to
    what all of them take.
    """
    names = ["j" * 64, "Az09_-", "jobs"]  # PyRSMQ takes 64 characters, Node and we 160
    for peer, name in zip(everyone, names, strict=True):
        await peer.create(name)
    for peer in everyone:
        assert await peer.queues() == set(names)


async def test_long_name(ours, node):
    """A queue's name may have 160 characters, in Node as with us."""
    await ours.create("j" * 160)
    await node.create("k" * 160)
    assert await ours.queues() == await node.queues() == {"j" * 160, "k" * 160}


async def test_set_attributes(server, pair):
    """Attributes that one sets are seen by the other, and so is when that was."""
    one, other = pair
    await one.create()
    server.redis.hset("rsmq:jobs:Q", mapping={"created": 1, "modified": 1})
    changed = await other.set_attributes(vt=11, delay=4, maxsize=4096)
    assert changed == await one.attributes()
    assert (changed["vt"], changed["delay"], changed["maxsize"], changed["created"]) == (
        11,
        4,
        4096,
        1,
    )
    assert time.time() - 60 < changed["modified"] <= time.time()


async def test_ensure(everyone):
    """A queue that another port created is changed in place, and one that is ensured here is a
    queue to it.
    """
    ours, *others = everyone
    for peer in others:
        await peer.create(vt=7, maxsize=2048)
        ensured = await ours.queue.ensure(vt=8, delay=3, maxsize=2048, dead_letter_queue="dead")
        assert ensured.changed == {
            "vt": (7, 8),
            "delay": (0, 3),
            "dead_letter_queue": (None, "dead"),
        }
        assert await peer.queues() == {"jobs", "dead"}
        assert await peer.attributes() == await ours.attributes()
        await ours.delete_queue()
        assert (await ours.queue.ensure(vt=9)).created
        id = await peer.send("x")
        assert (await peer.receive()).id == id
        assert (await peer.attributes())["vt"] == 9
        await peer.delete_queue()
        await ours.client.delete_queue(qname="dead")


async def test_settings_count(server, pair):
    """The vt and the delay that one sets are what the other's sends and receives go by."""
    one, other = pair
    await one.create(vt=100, delay=1000)
    id = await other.send("hello")
    sent_ms = int(id[:10], 36) // 1000
    assert 1_000_000 <= server.visible_at(id) - sent_ms < 1_005_000
    await one.hide(id, 0)
    taken = await other.receive()
    assert server.visible_at(id) == taken.fr + 100_000


async def test_delete_queue(server, pair):
    """A queue that one deletes is gone for the other, with all messages, received or not."""
    one, other = pair
    await one.create()
    for body in ("hidden", "visible"):
        await one.send(body)
    await one.receive()
    await other.delete_queue()
    assert server.redis.keys() == []
    assert await one.queues() == set()
    for refused in (
        one.attributes(),
        one.send("hello"),
        one.receive(),
        one.pop(),
        one.delete_queue(),
    ):
        with pytest.raises(QueueDoesNotExist):
            await refused


async def test_maxsize_counts_bytes(ours, node):
    """Our maxsize counts bytes; Node counts UTF-16 units, and what it lets through we receive."""
    await node.create(maxsize=1024)
    with pytest.raises(MessageTooLong) as caught:
        await ours.send("\u00e9" * 1024)
    assert caught.value.size == 2048
    await node.send("\u00e9" * 1024)
    assert (await ours.pop()).body == "\u00e9" * 1024
    await ours.send("\u00e9" * 512)
    assert (await node.pop()).body == "\u00e9" * 512
    for too_long in (ours.send("\u00e9" * 512 + "x"), node.send("x" * 1025)):
        with pytest.raises((MessageTooLong, NodeError)):
            await too_long
    assert (await ours.attributes())["msgs"] == 0


async def test_maxsize_of_pyrsmq(everyone):
    """PyRSMQ's own maxsize, 65565, is one that we would not write, and is followed as it is."""
    ours, node, pyrsmq = everyone
    await pyrsmq.create()
    for peer in everyone:
        assert (await peer.attributes())["maxsize"] == 65565
    longest = "x" * 65565
    for sender in everyone:
        await sender.send(longest)
        assert (await ours.pop()).body == longest
    await ours.send(longest)
    assert (await pyrsmq.pop()).body == longest
    for too_long in (ours.send(longest + "x"), node.send(longest + "x")):
        with pytest.raises((MessageTooLong, NodeError)):
            await too_long
    with pytest.raises(ValueError, match="65536 bytes, or -1"):
        await ours.set_attributes(maxsize=65565)


async def test_unlimited(pair):
    """A maxsize of -1 is no limit for any of them."""
    one, other = pair
    await one.create(maxsize=-1)
    assert (await other.attributes())["maxsize"] == -1
    body = "x" * 1_000_000
    await other.send(body)
    assert (await one.pop()).body == body


async def test_fractional_vt_of_pyrsmq(server, everyone):
    """A fractional vt or delay that PyRSMQ wrote on the queue is read as Node reads it: as its
    integer part.
    """
    ours, node, pyrsmq = everyone
    await pyrsmq.create(vt=2.75, delay=1000.5)
    for name, value in (("vt", 2), ("delay", 1000)):
        assert (await ours.attributes())[name] == (await node.attributes())[name] == value
    for peer in (ours, node):
        id = await peer.send("hello")
        assert 1_000_000 <= server.visible_at(id) - int(id[:10], 36) // 1000 < 1_000_400
        await peer.hide(id, 0)
        taken = await peer.receive()
        assert server.visible_at(id) == taken.fr + 2000


async def test_counters(everyone):
    """The counters are the same for every reader, with messages sent, received, popped and deleted
    by all three.
    """
    await everyone[0].create()
    for peer in everyone:
        for n in range(4):
            await peer.send(f"message {n}")
        await peer.send("later", delay=600)
        await peer.pop()
        await peer.receive()
        assert await peer.delete((await peer.receive()).id)
    expected = {"totalsent": 15, "totalrecv": 9, "msgs": 9, "hiddenmsgs": 6}

    async def all_agree():  # Node counts what became visible within this second as hidden still
        read = [await peer.attributes() for peer in everyone]
        return read[0] == read[1] == read[2] and read[0]

    agreed = await wait_until(all_agree)
    assert {name: agreed[name] for name in expected} == expected


async def test_namespace(server, start_node, ours):
    """A namespace is the same for all, and apart from every other."""
    await ours.create("elsewhere")
    node, pyrsmq = await start_node(ns="ns:2"), PyRSMQ(server.port, ns="ns:2")
    async with AsyncRSMQ.from_url(server.url, ns="ns:2") as rsmq:
        everyone = Ours(rsmq), node, pyrsmq
        await node.create()
        for peer in everyone:
            assert await peer.queues() == {"jobs"}
            await peer.send(type(peer).__name__)
        assert {(await peer.pop()).body for peer in everyone} == {"Ours", "Node", "PyRSMQ"}
    await pyrsmq.aclose()
    assert await ours.queues() == {"elsewhere"}
