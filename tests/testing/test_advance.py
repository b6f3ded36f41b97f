"""`advance`: what was to come in hours comes now, to real consumers."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from aiorsmq import AsyncRSMQ, InvalidParameterValue, QueueDoesNotExist
from aiorsmq.testing import advance, drain, queue_contents
from redis.exceptions import ConnectionError

from support import PATIENCE, Handler, ids_in, never_polling, wait_for_listener, wait_until


@pytest.fixture
async def calm(server):
    """A queue of a client that never polls: what wakes its consumers is the announcement."""
    async with never_polling(server) as rsmq:
        queue = rsmq.queue("jobs")
        await queue.create()
        yield queue


@pytest.mark.parametrize(
    "duration", ["1h", "60m", "3600s", "3600000ms", "0.5d", 3600, timedelta(hours=1)], ids=str
)
async def test_a_delay_ends(queue, duration):
    """A delayed message can be received once its delay has been advanced past."""
    await queue.send("later", delay=3600)
    assert await queue.receive() is None
    assert await advance(queue, duration) == 1
    assert (await queue.receive()).body == "later"


async def test_no_more_than_that(queue):
    """What is due later than that stays hidden, and is due that much earlier."""
    await queue.send("in an hour", delay=3600)
    await queue.send("in two", delay=7200)
    (_, before) = await queue.peek()
    assert await advance(queue, "90m") == 1
    (_, after) = await queue.peek()
    assert before.visible_until - after.visible_until == timedelta(minutes=90)
    assert (await queue_contents(queue)).hidden == ["in two"]


async def test_a_consumer_is_woken(server, calm):
    """A consumer that waits gets what has become visible at once, in the order of the times."""
    received = []

    async def consume():
        async for message in calm.messages():
            received.append(message.body)
            await message.delete()

    consuming = asyncio.create_task(consume())
    await wait_for_listener(server)
    for minutes in (30, 10, 20):
        await calm.send(f"in {minutes}", delay=timedelta(minutes=minutes))
    assert await advance(calm, "1h") == 3
    await wait_until(lambda: len(received) == 3)
    assert received == ["in 10", "in 20", "in 30"]
    consuming.cancel()


async def test_a_consumer_learns_the_new_time(server, calm):
    """A consumer that waits for a due time wakes at the new one, without another word."""
    await calm.send("later", delay=3600)
    receiving = asyncio.create_task(calm.receive(wait=PATIENCE))
    await wait_for_listener(server)
    assert await advance(calm, 3599.5) == 0
    assert (await receiving).body == "later"


async def test_a_lease_ends(queue):
    """A message in hand whose lease has been advanced past goes to the next consumer, and the
    first can no longer settle it.
    """
    await queue.send("job")
    first = await queue.receive(vt=3600)
    assert await queue.receive() is None
    assert await advance(queue, "1h") == 1
    second = await queue.receive()
    assert (second.id, second.receive_count) == (first.id, 2)
    assert not await first.delete()
    assert not await first.extend(60)
    assert not await first.release()
    assert await second.delete()


async def test_who_still_has_it_can_settle_it(queue):
    """A lease that has ended is no harm as long as nobody else has received the message."""
    await queue.send("job")
    message = await queue.receive()
    await advance(queue, "1h")
    assert await message.delete()
    assert await queue_contents(queue) == []


async def test_a_worker_goes_on_with_its_own(server, queue, renew):
    """A worker that receives again what it is handling handles it once."""
    handler = Handler()
    async with queue.worker(handler) as worker:
        id = await queue.send("job")
        await handler.begun.wait()
        await advance(queue, "1h")
        await wait_until(lambda: server.redis.hget("rsmq:jobs:Q", f"{id}:rc") == b"2")
        received = server.redis.zscore("rsmq:jobs", id)
        renew(worker)  # once it knows what it has received
        await wait_until(lambda: server.redis.zscore("rsmq:jobs", id) > received)
        handler.go_on.set()
        await wait_until(lambda: worker.stats.succeeded)
    assert worker.stats.received == 1
    assert handler.cancelled == 0


async def test_a_worker_loses_a_lease(server, queue, renew):
    """A worker whose message another program has received by then cancels its handler."""
    handler = Handler()
    async with AsyncRSMQ.from_url(server.url) as other:
        async with queue.worker(handler, concurrency=1, vt=60) as worker:
            await queue.send("job")
            await handler.begun.wait()
            await advance(queue, "1m")
            received = await other.queue("jobs").receive(vt=3600)
            renew(worker)
            await wait_until(lambda: worker.stats.lost_leases)
        assert handler.cancelled == 1
        assert await received.delete()


async def test_backoffs_and_death(server, rsmq):
    """Each retry is due after its backoff, and the last failure moves the message to the dead
    letters.
    """
    queue = rsmq.queue("jobs")
    await queue.create(max_receives=3, dead_letter_queue="dead")
    await queue.send("poison")

    def fail(message):
        raise ValueError(f"attempt {message.receive_count}")

    for attempt in (1, 2, 3):
        assert await queue_contents(queue) == ["poison"]
        with pytest.raises(ValueError, match=f"attempt {attempt}"):
            await drain(queue, fail, backoff=lambda count: 600)
        assert await advance(queue, "10m") == (attempt < 3)
    assert await queue_contents(queue) == []
    assert await queue_contents(rsmq.queue("dead")) == ["poison"]


async def test_leases_that_end_count(rsmq):
    """A message whose leases end again and again dies as it would in time."""
    queue = rsmq.queue("jobs")
    await queue.create(max_receives=2, dead_letter_queue="dead")
    await queue.send("stuck")
    for _ in range(2):
        assert await queue.receive() is not None
        await advance(queue, "31s")
    assert await queue.receive() is None
    await wait_until(lambda: queue_contents(rsmq.queue("dead")))
    (letter,) = await rsmq.queue("dead").reasons()
    assert letter.receive_count == 3


async def test_dead_letters_age(server, rsmq):
    """A dead letter has died that much earlier, and its reason is forgotten 14 days after that."""
    queue = rsmq.queue("jobs")
    await queue.create(max_receives=1, dead_letter_queue="dead")
    dead = rsmq.queue("dead")
    await queue.send("poison")
    with pytest.raises(ZeroDivisionError):
        await drain(queue, lambda message: 1 / 0)
    (before,) = await dead.reasons()
    await advance(dead, "13d")
    (after,) = await dead.reasons()
    assert before.died_at - after.died_at == timedelta(days=13)
    assert after.reason == before.reason == "ZeroDivisionError: division by zero"
    await advance(dead, "2d")
    (forgotten,) = await dead.reasons()
    assert (forgotten.raw, forgotten.reason) == (b"poison", "")


async def test_what_stays(server, queue):
    """Ids, the times in them and the first receipts stay as they are, and so do other queues."""
    await queue.send("a")
    received = await queue.receive()
    before = server.redis.hgetall("rsmq:jobs:Q")
    await advance(queue, "1d")
    (peeked,) = await queue.peek()
    assert peeked.sent_at == received.sent_at
    assert peeked.first_received_at == received.first_received_at
    assert datetime.now(UTC) - peeked.sent_at < timedelta(hours=1)
    assert server.redis.hgetall("rsmq:jobs:Q") == before


async def test_all_queues_of_a_client(server, rsmq):
    """Given a client, time passes for all queues of its namespace, and for no other."""
    other = AsyncRSMQ.from_url(server.url, ns="other")
    async with other:
        for queue in (rsmq.queue("a"), rsmq.queue("b"), other.queue("a")):
            await queue.create(delay=60)
            await queue.send("later")
        assert await advance(rsmq, "1m") == 2
        assert await rsmq.queue("a").receive() is not None
        assert await rsmq.queue("b").receive() is not None
        assert await other.queue("a").receive() is None


async def test_a_large_queue_stays_in_order(server, queue):
    """Thousands of messages are moved in one step and keep their order."""
    await queue.send_many(map(str, range(3000)), delay=60)
    before = ids_in(server)
    assert await advance(queue, "1m") == 3000
    assert ids_in(server) == before


async def test_a_lost_reply_is_not_repeated(server, far, cut_reply):
    """Time does not pass twice when the reply is lost: the error is raised."""
    queue = far.queue("jobs")
    await queue.create()
    id = await queue.send("later", delay=3600)
    before = server.redis.zscore("rsmq:jobs", id)
    cut_reply(None)
    with pytest.raises(ConnectionError):
        await advance(queue, "10m")
    assert before - server.redis.zscore("rsmq:jobs", id) == 600_000


@pytest.mark.parametrize("duration", ["", "2", "2 hours", "1h30m", "-1h", "h", -1, 1e9, None, True])
async def test_what_is_no_duration(server, queue, duration):
    """What is no duration is refused with what is accepted, and nothing moves."""
    await queue.send("later", delay=3600)
    with pytest.raises(InvalidParameterValue, match=r"^duration=.*must be ") as caught:
        await advance(queue, duration)
    assert caught.value.value == duration
    assert await queue.receive() is None


async def test_what_is_no_queue(queue):
    """Anything but a queue or a client is refused."""
    with pytest.raises(InvalidParameterValue, match=r"target='jobs': must be a Queue or an Async"):
        await advance("jobs", "1h")


async def test_no_such_queue(rsmq):
    """A queue that does not exist has no time."""
    with pytest.raises(QueueDoesNotExist):
        await advance(rsmq.queue("nosuch"), "1h")
