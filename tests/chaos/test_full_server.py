"""A server at its maxmemory: sends are refused as such, consumers work it empty, and then sends
work again.
"""

import asyncio

import anyio
import pytest
from aiorsmq import AsyncRSMQ
from redis import OutOfMemoryError, ResponseError

from support import wait_until


def says_full(error):
    return isinstance(error, OutOfMemoryError) or "OOM" in str(
        error
    )  # inside a script 6.2 takes the class away


async def fill(queue):
    """Eight at a time, until all are refused; the bodies that were stored, and how often it was
    refused.
    """
    stored, refused, number = [], 0, 0
    while True:
        bodies = [f"{number + n} ".ljust(20_000, "x") for n in range(8)]
        number += len(bodies)
        outcomes = await asyncio.gather(
            *(queue.send(body) for body in bodies), return_exceptions=True
        )
        errors = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
        assert all(says_full(error) for error in errors), errors
        refused += len(errors)
        stored += [
            body for body, outcome in zip(bodies, outcomes, strict=True) if isinstance(outcome, str)
        ]
        if len(errors) == len(bodies):
            return stored, refused


async def test_refused_and_drained(own_server, scale, report):
    """Every send to a full server is refused or stored, and consumers drain n of n while it is
    still full.
    """
    server = own_server("--maxmemory", scale("16mb", "64mb"), "--maxmemory-policy", "noeviction")
    async with AsyncRSMQ.from_url(server.url) as rsmq:
        queue = rsmq.queue("jobs")
        await queue.create()
        stored, refused = await fill(queue)
        server.redis.config_set("maxmemory", "1mb")  # far over it: no delete makes room
        drained = []

        async def consume():
            async for message in queue.messages():
                await message.delete()
                drained.append(message.body)

        async with anyio.create_task_group() as consumers:
            for _ in range(10):
                consumers.start_soon(consume)
            with pytest.raises(ResponseError, check=says_full):
                await queue.send("while it is full")
            await wait_until(lambda: not server.redis.zcard("rsmq:jobs"))
            await wait_until(lambda: len(drained) >= len(stored))
            consumers.cancel_scope.cancel()
        server.redis.config_set("maxmemory", "16mb")
        assert await queue.send("there is room again")
        attributes = await queue.attributes()
    report(f"{refused} sends refused; drained {len(drained)} of {len(stored)}", "n of n")
    assert sorted(drained) == sorted(stored)
    assert (attributes.msgs, attributes.totalsent, attributes.totalrecv) == (
        1,
        len(stored) + 1,
        len(stored),
    )
