"""In a cluster, Node's rsmq and PyRSMQ can send, at the node that has the slot, and not receive."""

import pytest
from aiorsmq import AsyncRSMQ
from redis.exceptions import ResponseError

from interop.peers import Node, NodeError, Ours, PyRSMQ
from sets.cluster import Cluster
from sets.conftest import keep_logs

NS = "{rsmq}"


@pytest.fixture(scope="module")
def cluster(request):
    with Cluster() as cluster:
        yield from keep_logs(cluster, request)


@pytest.fixture(params=[Node, PyRSMQ])
async def connect(request):
    """`connect(node)`: a peer that is connected to a node."""
    peers = []

    async def connect(node):
        peer = request.param(node.port, ns=NS) if request.param is PyRSMQ else None
        peers.append(peer or await Node.start(node.port, ns=NS))
        return peers[-1]

    yield connect
    for peer in peers:
        await peer.aclose()


@pytest.fixture
async def ours(cluster):
    async with AsyncRSMQ.from_url(cluster.url, ns=NS) as rsmq:
        yield Ours(rsmq)
        await rsmq.queue("jobs").delete()


async def test_at_the_node_of_the_slot(cluster, connect, ours):
    """There they create and delete queues, and send what ours receives; they can receive nothing:
    they pass times to their scripts as keys, which have no tag.
    """
    peer = await connect(cluster.owner_of(NS))
    await peer.create()
    await peer.send("x")
    assert (await ours.attributes())["msgs"] == 1
    for take in (peer.receive, peer.pop):
        with pytest.raises((NodeError, ResponseError), match="same slot"):
            await take()
    assert (await ours.receive()).body == "x"


async def test_at_another_node(cluster, connect, ours):
    """They follow no MOVED."""
    owner = cluster.owner_of(NS)
    peer = await connect(next(node for node in cluster.primaries() if node is not owner))
    await ours.create()
    with pytest.raises((NodeError, ResponseError, TypeError, AttributeError)):
        await peer.send("x")
    assert (await ours.attributes())["msgs"] == 0
