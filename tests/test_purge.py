"""A purge takes what is there when it begins, whatever happens while it runs."""

import asyncio

import pytest
import redis

from support import wait_until


async def test_what_is_sent_while_it_runs(server, queue):
    """It takes what is there when it begins, hidden messages included, and nothing that is sent
    while it runs.
    """
    await queue.send_many(["old"] * 1000, delay=500)
    await queue.send_many(["old"] * 1000)
    await queue.receive_many(100, vt=900)
    purging = asyncio.ensure_future(queue.purge())
    sent = []
    while not purging.done():
        sent.append(await queue.send("new"))
    assert await purging <= 2000 + len(sent)
    left = [message.id for message in await queue.peek(1000)]
    assert left == sent[-len(left) :]
    assert left[:1] != sent[:1] or len(left) == len(sent)
    assert (await queue.attributes()).hiddenmsgs == 0


async def test_cancelled(server, queue):
    """When it is cancelled, the queue is still empty, and the next purge deletes the rest of what
    was stored.
    """
    await queue.send_many(["old"] * 3000)
    purging = asyncio.ensure_future(queue.purge())
    await wait_until(lambda: server.redis.exists("rsmq:jobs:purged"))
    purging.cancel()
    await asyncio.wait([purging])
    assert (await queue.attributes()).msgs == 0
    await queue.send("new")
    assert await queue.purge() == 1
    assert not server.redis.exists("rsmq:jobs:purged")


async def test_receipts_of_what_was_purged(server, queue):
    """What was taken out is gone for those who hold it, though its body may still be there."""
    await queue.send_many(["a", "b"])
    held = await queue.receive_many(2)
    server.redis.rename(
        "rsmq:jobs", "rsmq:jobs:purged"
    )  # as the first step of a purge that was cancelled
    assert [await held[0].delete(), await held[1].extend(5)] == [False, False]
    assert await queue.purge() == 0


async def test_come_back(server, queue):
    """What an unfinished purge has left to delete stays if it has come back since."""
    id = await queue.send("moved away before, and back since")
    server.redis.zadd("rsmq:jobs:purged", {id: 1, "gone": 2})
    server.redis.hset("rsmq:jobs:Q", "gone", "body")
    purging = asyncio.ensure_future(queue.purge())
    assert await purging == 1
    assert server.redis.hexists("rsmq:jobs:Q", "gone") is False


async def test_lost_reply(server, far, queue, cut_reply):
    """The step that empties the queue is not repeated: it would take what was sent since."""
    assert await far.queue("jobs").purge() == 0
    await queue.send("old")
    cut_reply(lambda: queue.send("new"))
    with pytest.raises(redis.ConnectionError):
        await far.queue("jobs").purge()
    assert [message.body for message in await queue.peek()] == ["new"]
