"""Opened, iterated, left and closed again and again, and iterators dropped: nothing of it stays
behind.
"""

import asyncio
import gc
import threading
import time
from collections import Counter

import anyio
import psutil
from aiorsmq import AsyncRSMQ, Message, Messages, Queue
from aiorsmq._consuming.core import QueueCore
from aiorsmq._consuming.waiter import Waiter
from aiorsmq.stream import ConsumerLine

from support import PATIENCE, wait_until

OURS = (AsyncRSMQ, Queue, QueueCore, Messages, Message, ConsumerLine, Waiter)


class Belongings:
    """What this process and its server hold, as counts."""

    def __init__(self, server):
        gc.collect()
        self.counts = Counter(
            type(thing).__name__ for thing in gc.get_objects() if isinstance(thing, OURS)
        )
        self.counts |= {
            "tasks": len(asyncio.all_tasks()),
            "threads": threading.active_count(),
            "files": psutil.Process().num_fds(),
            "connections": server.clients(),
            "subscriptions": len(server.redis.pubsub_channels()),
            "keys": server.redis.dbsize(),
            "messages": server.redis.zcard("rsmq:jobs"),
            "hidden messages": server.redis.zcount(
                "rsmq:jobs", f"({time.time() * 1000:.0f}", "+inf"
            ),
        }


async def left_behind(server, before):
    """What there is more than before. A subscription goes with the next ping but one: that gets its
    time.
    """
    with anyio.move_on_after(PATIENCE):
        await wait_until(lambda: not Belongings(server).counts - before.counts)
    return Belongings(server).counts - before.counts


async def leave(rsmq, seed):
    """Take some messages from a stream, and leave it in one of the ways that there are."""
    stream = rsmq.queue("jobs").messages(vt=3600, prefetch=seed.choice([0, 0, 3]))
    for _ in range(seed.randrange(3)):
        await (await anext(stream)).release()
    match seed.choice(["wait", "break", "drop", "close", "cancel", "nothing"]):
        case "wait":
            assert await rsmq.queue("empty").receive(wait=0.02) is None  # so that it listens
        case "break":
            async for message in stream:
                await message.release()
                break
        case "close":
            await stream.aclose()
        case "cancel":
            asking = asyncio.ensure_future(anext(stream))
            for _ in range(seed.randrange(5)):
                await asyncio.sleep(0)
            asking.cancel()
            if await asyncio.wait([asking]) and not asking.cancelled():
                await asking.result().release()
        case "drop":
            del stream
            gc.collect(0)


async def test_opened_and_closed(server, rsmq, queue, seed, scale, report):
    """Opening a client, iterating, leaving the loop and closing leaves nothing behind, however
    often.
    """
    await queue.send_many([str(n) for n in range(10)])
    await rsmq.queue("empty").create()
    before, times = Belongings(server), scale(60, 300)

    async def once():
        async with AsyncRSMQ.from_url(server.url) as another:
            await leave(another, seed)

    with anyio.fail_after(PATIENCE):
        for _ in range(times):
            await once()
    left = await left_behind(server, before)
    report(f"{times} clients opened and closed: {left.total()} things left {dict(left) or ''}", "0")
    assert not left


async def test_dropped_iterators(server, rsmq, queue, seed, scale, report):
    """Iterators that are left or dropped leave nothing claimed, and nothing behind in their
    client.
    """
    await queue.send_many([str(n) for n in range(10)])
    await rsmq.queue("empty").create()
    assert await rsmq.queue("empty").receive(wait=0.1) is None  # it has both connections now
    before, times = Belongings(server), scale(100, 300)
    with anyio.fail_after(PATIENCE):
        for _ in range(times):
            await leave(rsmq, seed)
    left = await left_behind(server, before)
    report(f"{times} iterators left or dropped: {left.total()} things left {dict(left) or ''}", "0")
    assert not left
    assert (await queue.attributes()).msgs == 10
