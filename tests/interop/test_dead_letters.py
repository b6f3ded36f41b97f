"""A dead-letter policy on queues that Node and PyRSMQ work on too: they ignore it, keep it, and
lose nothing by it.
"""

import pytest
from aiorsmq import QueueDoesNotExist

from interop.peers import ATTRIBUTES
from support import wait_until


@pytest.fixture
def anyio_backend():
    """These are about the wire: one event loop suffices."""
    return "asyncio", {"debug": True}


@pytest.fixture(params=["node", "pyrsmq"])
def peer(request, policy):
    """Another port, with a queue of ours that has a policy."""
    return request.getfixturevalue(request.param)


@pytest.fixture
async def policy(ours):
    await ours.create(max_receives=2, dead_letter_queue="dead")


def policy_of(server):
    return server.redis.hmget("rsmq:jobs:Q", "max_receives", "dead_letter_queue")


async def test_attributes_are_kept(server, ours, peer):
    """Others change attributes of the queue, and read them, as if there were no policy; and keep
    it.
    """
    await peer.set_attributes(vt=7, delay=0, maxsize=2048)
    theirs = await peer.attributes()
    assert (theirs["vt"], theirs["maxsize"]) == (7, 2048)
    assert {name: theirs[name] for name in ATTRIBUTES} == await ours.attributes()
    attributes = await ours.queue.attributes()
    assert (attributes.max_receives, attributes.dead_letter_queue) == (2, "dead")
    assert policy_of(server) == [b"2", b"dead"]


async def test_messages(server, ours, peer):
    """Others send, receive, hide and delete there, as often as they like, and leave no field
    behind.
    """
    id = await peer.send("hello")
    for rc in (1, 2, 3):
        taken = await peer.receive()
        assert (taken.id, taken.body, taken.rc) == (id, "hello", rc)
        assert await peer.hide(id, 0)
    assert await peer.delete(id)
    assert server.message_fields() == set()
    assert server.redis.zcard("rsmq:dead") == 0


async def test_their_receipts_count(server, ours, peer):
    """A message that others have received too often dies at ours; in the dead-letter queue anybody
    can receive it.
    """
    id = await peer.send("hello")
    for _ in range(2):
        assert (await peer.receive()).id == id
        assert await peer.hide(id, 0)
    assert await ours.receive() is None
    await wait_until(lambda: server.redis.zcard("rsmq:dead"))
    assert server.message_fields() == set()
    (letter,) = await ours.client.queue("dead").reasons()
    assert (letter.id, letter.raw, letter.receive_count) == (id, b"hello", 3)


async def test_from_the_dead_letter_queue(server, ours, node):
    """Node reads a dead letter as a new message, and deletes it; its reason stays for its TTL at
    most.
    """
    await ours.create(max_receives=1, dead_letter_queue="dead")
    for body in ("first", "second"):
        await node.send(body)
        await ours.receive(vt=0)
        assert await ours.receive() is None
    await wait_until(lambda: server.redis.zcard("rsmq:dead") == 2)
    reply = await node.call("receiveMessage", qname="dead")
    assert (reply["message"], reply["rc"]) == ("first", 1)
    assert await node.call("deleteMessage", qname="dead", id=reply["id"]) == 1
    assert (await node.call("popMessage", qname="dead"))["message"] == "second"
    assert (await node.call("getQueueAttributes", qname="dead"))["totalsent"] == 2
    assert await ours.client.queue("dead").reasons() == []


async def test_redriven(server, ours, node):
    """Node receives what has been sent back as a new message."""
    await ours.create(max_receives=1, dead_letter_queue="dead")
    id = await node.send("hello")
    await ours.receive(vt=0)
    assert await ours.receive() is None
    await wait_until(lambda: server.redis.zcard("rsmq:dead"))
    assert [count async for count in ours.client.queue("dead").redrive()] == [1]
    taken = await node.receive()
    assert (taken.id, taken.body, taken.rc) == (id, "hello", 1)


async def test_node_hears_of_a_death(server, ours, start_node):
    """A message that comes back is announced, as Node announces what it sends."""
    node = await start_node(realtime=True)
    await ours.create(max_receives=1, dead_letter_queue="dead")
    await ours.send("hello")
    await ours.receive(vt=0)
    assert await ours.receive() is None
    await wait_until(lambda: server.redis.zcard("rsmq:dead"))
    await node.subscribe()
    assert [count async for count in ours.client.queue("dead").redrive()] == [1]
    assert await node.heard() == "1"


async def test_deleted_by_others(server, ours, peer):
    """A queue that others delete is gone with its policy; nothing of it is left."""
    await peer.send("hello")
    await peer.delete_queue()
    assert not server.redis.exists("rsmq:jobs", "rsmq:jobs:Q")
    with pytest.raises(QueueDoesNotExist):
        await ours.attributes()
    assert await peer.queues() == {"dead"}


async def test_dead_letter_queue_deleted_by_node(server, ours, node):
    """A dead-letter queue that Node deletes is made again by the next death."""
    await ours.create(max_receives=1, dead_letter_queue="dead")
    assert await node.call("deleteQueue", qname="dead") == 1
    await node.send("hello")
    await ours.receive(vt=0)
    assert await ours.receive() is None
    await wait_until(lambda: server.redis.zcard("rsmq:dead"))
    assert await node.queues() == {"jobs", "dead"}
    assert (await node.call("getQueueAttributes", qname="dead"))["vt"] == 30


async def test_ours_deletes(server, ours, peer):
    """Our deletion of both leaves nothing that others could see."""
    await peer.send("hello")
    await ours.delete_queue()
    await ours.client.delete_queue(qname="dead")
    assert await peer.queues() == set()
    assert server.redis.keys("*") == []
