"""A pause on queues that Node and PyRSMQ work on too: they keep it, and go on receiving."""

import pytest

from interop.peers import ATTRIBUTES
from support import fields_of


@pytest.fixture
def anyio_backend():
    """These are about the wire: one event loop suffices."""
    return "asyncio", {"debug": True}


@pytest.fixture
async def paused(ours):
    """A queue of ours."""
    await ours.create()
    await ours.queue.pause()


@pytest.fixture(params=["node", "pyrsmq"])
def peer(request, paused):
    """Another port."""
    return request.getfixturevalue(request.param)


async def test_kept(server, ours, peer):
    """Others change attributes of a paused queue, and read them, as if it were not; and keep the
    pause.
    """
    paused = fields_of(server)[b"paused"]
    await peer.set_attributes(vt=7, delay=0, maxsize=2048)
    theirs = await peer.attributes()
    assert {name: theirs[name] for name in ATTRIBUTES} == await ours.attributes()
    assert fields_of(server)[b"paused"] == paused


async def test_they_receive(server, ours, peer):
    """Others send to a paused queue, receive, pop, hide and delete there, though we do not."""
    id = await peer.send("hello")
    assert await ours.receive() is None
    assert (await peer.receive()).id == id
    assert await peer.hide(id, 0)
    assert await ours.pop() is None
    assert (await peer.pop()).id == id
    id = await peer.send("again")
    assert (await peer.receive()).id == id
    assert await peer.delete(id)
    assert server.message_fields() == set()
    assert await ours.queue.resume() is True


async def test_deleted(ours, peer):
    """A queue that others delete and create again is not paused."""
    await peer.delete_queue()
    await peer.create()
    id = await peer.send("hello")
    assert (await ours.receive()).id == id


async def test_announced(server, ours, node):
    """Node's listeners hear of a pause as of any message: a number."""
    await ours.create()
    await ours.send("hello")
    await node.subscribe()
    await ours.queue.pause()
    assert int(await node.heard()) == 1
