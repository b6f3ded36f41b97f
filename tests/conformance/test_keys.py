"""The keys and ids of RSMQ.

As Node rsmq 0.12.4 does it; each docstring is a sentence of the specification.
"""

import asyncio
import re
from itertools import pairwise

import pytest
from aiorsmq import AsyncRSMQ, QueueDoesNotExist

from conformance.server import score
from support import fields_of, ids_in, now_ms, wait_until

DIGITS = re.compile(rb"[0-9]+")


ID = re.compile(r"[0-9a-z]{10}[A-Za-z0-9]{22}")


async def test_keys_of_a_new_queue(server, rsmq):
    """A new queue is a name in the set {ns}:QUEUES and a hash {ns}:{q}:Q of five fields, and
    nothing else.
    """
    before = server.redis.time()[0]
    await rsmq.create_queue(qname="jobs", vt=20, delay=3, maxsize=2048)
    after = server.redis.time()[0]
    assert set(server.redis.keys("*")) == {b"rsmq:QUEUES", b"rsmq:jobs:Q"}
    assert server.redis.type("rsmq:QUEUES") == b"set"
    assert server.redis.smembers("rsmq:QUEUES") == {b"jobs"}
    hash = fields_of(server)
    created = hash.pop(b"created")
    assert before <= int(created) <= after
    assert hash == {b"vt": b"20", b"delay": b"3", b"maxsize": b"2048", b"modified": created}


async def test_defaults(server, rsmq):
    """By default vt is 30, delay 0 and maxsize 65536."""
    await rsmq.create_queue(qname="jobs")
    hash = fields_of(server)
    assert (hash[b"vt"], hash[b"delay"], hash[b"maxsize"]) == (b"30", b"0", b"65536")


async def test_keys_of_a_sent_message(server, queue):
    """A sent message is its id in the sorted set {ns}:{q}, at the ms of its sending, and its
    body under its id.
    """
    before = now_ms(server)
    id = await queue.send("hello")
    after = now_ms(server)
    assert server.redis.type("rsmq:jobs") == b"zset"
    assert ids_in(server) == [id]
    assert DIGITS.fullmatch(score(server, id))
    assert before <= int(score(server, id)) <= after
    new = set(fields_of(server)) - {b"vt", b"delay", b"maxsize", b"created", b"modified"}
    assert {field: fields_of(server)[field] for field in new} == {
        id.encode(): b"hello",
        b"totalsent": b"1",
    }


async def test_keys_of_a_received_message(server, queue):
    """A receipt moves the score to the end of the lease, sets {id}:rc and {id}:fr (ms), and
    counts in totalrecv.
    """
    id = (await queue.send("hello")).encode()
    before = now_ms(server)
    await queue.receive(vt=20)
    after = now_ms(server)
    hash = fields_of(server)
    assert set(hash) == {
        *(b"vt", b"delay", b"maxsize", b"created", b"modified", b"totalsent", b"totalrecv"),
        *(id, id + b":rc", id + b":fr"),
    }
    assert (hash[id], hash[id + b":rc"], hash[b"totalrecv"]) == (b"hello", b"1", b"1")
    assert DIGITS.fullmatch(hash[id + b":fr"])
    assert before <= int(hash[id + b":fr"]) <= after
    assert int(score(server, id)) == int(hash[id + b":fr"]) + 20_000


async def test_keys_of_a_second_receipt(server, queue):
    """Each further receipt adds one to {id}:rc and leaves {id}:fr as it is."""
    id = (await queue.send("hello")).encode()
    await queue.receive(vt=0)
    first = fields_of(server)
    await wait_until(lambda: now_ms(server) > int(first[id + b":fr"]))
    for count in (b"2", b"3"):
        await queue.receive(vt=0)
        assert fields_of(server)[id + b":rc"] == count
        assert fields_of(server)[id + b":fr"] == first[id + b":fr"]


@pytest.mark.parametrize("how", ["delete", "delete_message", "delete_many", "pop", "purge"])
async def test_keys_of_a_deleted_message(server, queue, how):
    """Nothing of a message stays when it is deleted, popped or purged: no member, no field."""
    id = await queue.send("hello")
    message = await queue.receive(vt=0)
    await {
        "delete": message.delete,
        "delete_message": lambda: queue.delete_message(id),
        "delete_many": lambda: queue.delete_many([id]),
        "pop": queue.pop,
        "purge": queue.purge,
    }[how]()
    assert not server.redis.exists("rsmq:jobs")
    left = {b"vt", b"delay", b"maxsize", b"created", b"modified", b"totalsent", b"totalrecv"}
    assert set(fields_of(server)) == left


async def test_keys_of_a_deleted_queue(server, queue):
    """Nothing of a queue stays when it is deleted."""
    await queue.send_many(["a", "b"])
    await queue.receive()
    assert await queue.delete() is True
    assert server.redis.keys("*") == []


async def test_namespace(server):
    """All keys begin with the namespace, and one namespace sees nothing of another."""
    async with (
        AsyncRSMQ.from_url(server.url, ns="other") as other,
        AsyncRSMQ.from_url(server.url) as rsmq,
    ):
        await other.create_queue(qname="jobs")
        await other.send_message(qname="jobs", message="x")
        assert set(server.redis.keys("*")) == {b"other:QUEUES", b"other:jobs:Q", b"other:jobs"}
        assert await other.list_queues() == {"jobs"}
        assert await rsmq.list_queues() == set()
        with pytest.raises(QueueDoesNotExist):
            await rsmq.receive_message(qname="jobs")


async def test_id(server, queue):
    """An id is 32 characters: the server's time in µs in base 36, which makes 10, and 22 at
    random.
    """
    before = server.redis.time()
    id = await queue.send("x")
    after = server.redis.time()
    assert ID.fullmatch(id)
    seconds = int(id[:10], 36) / 1e6
    assert before[0] + before[1] / 1e6 - 0.1 < seconds < after[0] + after[1] / 1e6 + 0.1


async def test_ids_of_a_batch(server, queue):
    """The ids of a batch ascend in its order, and so do those of the batches and messages that
    follow.
    """
    ids = await queue.send_many(["x"] * 100)
    ids.append(await queue.send("x"))
    ids += await queue.send_many(["x"] * 100)
    ids += await asyncio.gather(*(queue.send("x") for _ in range(100)))
    assert all(ID.fullmatch(id) for id in ids)
    assert all(earlier < later for earlier, later in pairwise(ids))
    assert ids_in(server) == ids


async def test_ids_of_all_queues(rsmq):
    """The ids of one client ascend across its queues."""
    queues = [rsmq.queue(name) for name in ("a", "b")]
    for queue in queues:
        await queue.create()
    ids = [await queues[n % 2].send("x") for n in range(20)]
    assert ids == sorted(set(ids))
