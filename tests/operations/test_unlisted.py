"""Queues are found whose names are missing from the set of all queues."""

import anyio
import pytest
import redis
from aiorsmq import AsyncRSMQ, InvalidParameterValue


@pytest.mark.foreign_data
async def test_find_unlisted(server, rsmq):
    """Queues that no list has are found, in this namespace only; within a budget."""
    for name in ("a", "b"):
        await rsmq.queue(name).create()
    server.redis.srem("rsmq:QUEUES", "b")
    server.redis.hset("other:c:Q", "vt", 1)
    server.redis.hset("rsmq:no queue:Q", "vt", 1)
    server.redis.set("rsmq:d:Q", "no hash")
    assert await rsmq.find_unlisted() == ["b"]
    assert await rsmq.find_unlisted(budget=1) in ([], ["b"])
    with pytest.raises(InvalidParameterValue):
        await rsmq.find_unlisted(budget=0)
    server.redis.flushall()
    async with AsyncRSMQ.from_url(server.url, ns="odd[*]") as odd:
        server.redis.hset("odd[*]:e:Q", "vt", 1)
        server.redis.hset("odd*:f:Q", "vt", 1)
        assert await odd.find_unlisted() == ["e"]
    server.redis.flushall()


async def test_in_use(server, rsmq):
    """Queues that are created and deleted meanwhile are not taken for unlisted ones."""
    server.redis.hset("rsmq:lost:Q", "vt", 30)
    is_over = False

    async def create_and_delete(qname):
        while not is_over:
            await rsmq.create_queue(qname=qname)
            await rsmq.delete_queue(qname=qname)

    async with anyio.create_task_group() as others:
        for n in range(20):
            others.start_soon(create_and_delete, f"q{n}")
        for _ in range(20):
            assert await rsmq.find_unlisted() == ["lost"]
        is_over = True


async def test_deadline(proxy):
    """A server that says nothing is waited for until the deadline."""
    async with AsyncRSMQ.from_url(proxy.url, deadline=0.2) as rsmq:
        await rsmq.list_queues()
        proxy.silent = True
        with pytest.raises(redis.TimeoutError, match="no reply before the deadline"):
            await rsmq.find_unlisted()
        proxy.silent = False
