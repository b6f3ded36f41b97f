"""A consumer that waits is woken by whatever makes a message visible, and how long after."""

import asyncio
import statistics
import time

import pytest
from aiorsmq import AsyncRSMQ

from support import PATIENCE, never_polling, wait_for_listener, wait_for_silence

POLL = 0.25
LATE = 1.0
"""Seconds; what wakes at once takes milliseconds, what is missed takes forever."""


class Lateness:
    """How many milliseconds after its moment each message came."""

    def __init__(self):
        self.ms = []

    async def of(self, asking, since=None):
        """Wait for a message, and delete it. `since`: when it became visible; else now is meant."""
        since = since or time.time()
        message = await asyncio.wait_for(asking, PATIENCE)
        self.ms.append((time.time() - since) * 1000)
        assert await message.delete()
        return message

    def __str__(self):
        return (
            f"{len(self.ms)} woken, after {statistics.median(self.ms):.1f} ms (at most "
            f"{max(self.ms):.1f})"
        )


def polling(server):
    return AsyncRSMQ.from_url(server.url, poll_interval=POLL)


async def waiting(server, rsmq):
    """A consumer that waits, subscribed, with nothing more to do."""
    asking = asyncio.ensure_future(rsmq.queue("jobs").receive(wait=3600))
    await wait_for_listener(server)
    await wait_for_silence(server)
    return asking


def send_silently(server, n):
    """As a port does that announces nothing."""
    id = f"{n:032d}"
    with server.redis.pipeline() as transaction:
        transaction.zadd("rsmq:jobs", {id: int(time.time() * 1000)})
        transaction.hset("rsmq:jobs:Q", id, "psst")
        transaction.hincrby("rsmq:jobs:Q", "totalsent", 1)
        transaction.execute()


async def test_subscribing_while_it_is_sent(server, queue, seed, scale, report):
    """What is sent at any moment of a subscription is not missed, though nobody ever polls."""
    late = Lateness()
    rsmq = never_polling(server)
    for n in range(scale(60, 300)):
        if seed.random() < 0.5:
            await rsmq.aclose()
            rsmq = never_polling(server)
        else:
            server.redis.client_kill_filter(_type="pubsub", skipme=False)
        asking = asyncio.ensure_future(rsmq.queue("jobs").receive(wait=3600))
        for _ in range(seed.randrange(40)):
            await asyncio.sleep(0)
        await asyncio.sleep(seed.choice([0, 0, seed.uniform(0, 0.005)]))
        since = time.time()
        await queue.send(str(n))
        assert (await late.of(asking, since)).body == str(n)
    await rsmq.aclose()
    report(f"{late}", f"all woken, within {LATE:g} s")
    assert max(late.ms) < LATE * 1000


async def test_announced(server, queue, scale, report):
    """An announced message wakes a consumer at once."""
    late = Lateness()
    async with never_polling(server) as rsmq:
        for _ in range(scale(15, 100)):
            asking = await waiting(server, rsmq)
            since = time.time()
            await queue.send("now")
            await late.of(asking, since)
    report(f"{late}", f"within {LATE:g} s, poll_interval an hour")
    assert max(late.ms) < LATE * 1000


async def test_delayed(server, queue, seed, scale, report):
    """A delayed message wakes a consumer when it is due, not before."""
    late = Lateness()
    async with never_polling(server) as rsmq:
        due = {}
        for n in range(scale(20, 100)):
            delay = seed.uniform(0.05, 0.5)
            since = time.time()
            await queue.send(str(n), delay=delay)
            due[str(n)] = since + delay
        while due:
            message = await asyncio.wait_for(rsmq.queue("jobs").receive(wait=10), PATIENCE)
            late.ms.append((time.time() - due.pop(message.body)) * 1000)
            await message.delete()
    report(f"{late}", f"not early, within {LATE:g} s")
    assert min(late.ms) >= -1  # scores are whole milliseconds
    assert max(late.ms) < LATE * 1000


async def test_expired_lease(server, queue, seed, scale, report):
    """A message whose lease ends wakes a consumer then, not before."""
    late = Lateness()
    await queue.send_many(["x"] * scale(20, 100))
    held = [await queue.receive(vt=seed.uniform(0.05, 0.5)) for _ in range(scale(20, 100))]
    ends = {message.id: message.visible_until.timestamp() for message in held}
    async with never_polling(server) as rsmq:
        while ends:
            message = await asyncio.wait_for(rsmq.queue("jobs").receive(wait=10), PATIENCE)
            late.ms.append((time.time() - ends.pop(message.id)) * 1000)
            assert message.receive_count == 2
            assert await message.delete()
    assert not any([await message.delete() for message in held])
    report(f"{late}", f"not early, within {LATE:g} s")
    assert min(late.ms) >= -1
    assert max(late.ms) < LATE * 1000


async def test_silent_producer(server, queue, scale, report):
    """A message that nobody announces is seen at the next poll."""
    late = Lateness()
    async with polling(server) as rsmq:
        for n in range(scale(4, 12)):
            asking = await waiting(server, rsmq)
            send_silently(server, n)
            await late.of(asking)
    report(f"{late}", f"within poll_interval, {POLL:g} s, and {LATE:g} s")
    assert max(late.ms) < (POLL + LATE) * 1000


@pytest.mark.parametrize("whose", ["ours", "another port's"])
async def test_visibility_of_0(server, queue, scale, report, whose):
    """A hidden message that another client shows wakes a consumer: at once if announced, else at
    the next poll.
    """
    late = Lateness()
    async with never_polling(server) if whose == "ours" else polling(server) as rsmq:
        for _ in range(scale(4, 12)):
            id = await queue.send("x")
            held = await queue.receive(vt=3600)
            asking = await waiting(server, rsmq)
            since = time.time()
            if whose == "ours":
                await queue.change_visibility(id, 0)
            else:
                server.redis.zadd("rsmq:jobs", {id: int(time.time() * 1000)})
            assert (await late.of(asking, since)).receive_count == 2
            assert not await held.delete()
    limit = LATE if whose == "ours" else POLL + LATE
    report(f"{late}", f"within {limit:g} s")
    assert max(late.ms) < limit * 1000


async def test_listener_killed_just_before(server, queue, scale, report):
    """What is announced to a killed listener wakes its consumer when it has subscribed again,
    though nobody polls.
    """
    late = Lateness()
    async with never_polling(server) as rsmq:
        for _ in range(scale(15, 50)):
            asking = await waiting(server, rsmq)
            since = time.time()
            server.redis.client_kill_filter(_type="pubsub", skipme=False)
            await queue.send("x")
            await late.of(asking, since)
    report(f"{late}", f"within {LATE:g} s")
    assert max(late.ms) < LATE * 1000
