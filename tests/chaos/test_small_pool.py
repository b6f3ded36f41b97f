"""A user's client with a pool of two connections, both in use, and fifty callers."""

import asyncio

import anyio
import pytest
from aiorsmq import AsyncRSMQ
from redis.asyncio import BlockingConnectionPool, ConnectionPool, Redis

from support import wait_until

CALLERS = 50


@pytest.mark.parametrize("pool", [ConnectionPool, BlockingConnectionPool])
async def test_two_connections_and_fifty_callers(server, queue, scale, report, pool):
    """Neither waits for the other; all messages come, by two more connections."""
    each, got = scale(20, 60), []
    client = Redis.from_pool(
        pool.from_url(server.url, max_connections=2, protocol=2, socket_timeout=None)
    )
    others = server.clients()
    async with AsyncRSMQ(client) as rsmq:
        blocked = [
            asyncio.ensure_future(client.blpop(f"mine{n}")) for n in range(2)
        ]  # the pool is used up
        await wait_until(lambda: server.redis.info("clients")["blocked_clients"] == 2)

        async def call(n):
            for number in range(each):
                await rsmq.queue("jobs").send(f"{n} {number}")
                message = await rsmq.queue("jobs").receive(wait=10)
                got.append(message.body)
                assert await message.delete()

        async with anyio.create_task_group() as callers:
            for n in range(CALLERS):
                callers.start_soon(call, n)
        connections = server.clients() - others
        for n in range(2):
            server.redis.rpush(f"mine{n}", "x")
        assert [value for _, value in await asyncio.gather(*blocked)] == [b"x", b"x"]
        assert await client.ping()
    await client.aclose()
    report(
        f"{len(set(got))} of {CALLERS * each} messages handled, {connections} connections", "all, 4"
    )
    assert sorted(got) == sorted(f"{n} {number}" for n in range(CALLERS) for number in range(each))
    assert connections <= 4
