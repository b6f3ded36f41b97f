"""`max_receives` without a dead-letter queue: a message received too often is deleted, logged and
counted.
"""

import asyncio
import logging

import pytest
from aiorsmq import JSON, AsyncRSMQ, NoDeadLetterQueue, Reject, Retry
from aiorsmq._commands.dead import OVER_MAX_RECEIVES
from aiorsmq.testing import advance

from support import at_once, wait_until


@pytest.fixture
async def jobs(rsmq):
    """A queue that drops what is received a third time."""
    queue = rsmq.queue("jobs")
    await queue.create(max_receives=2)
    return queue


async def spend(queue, body, times=2):
    """Send a message and receive it so many times; it is visible again."""
    id = await queue.send(body)
    for _ in range(times):
        await (await queue.receive()).release()
    return id


async def is_empty(queue):
    return (await queue.attributes()).msgs == 0


async def test_received_too_often(server, jobs, caplog):
    """A message that has been received more often is not handed out again but deleted, with a
    warning in the log.
    """
    id = await spend(jobs, "s3cret")
    good = await jobs.send("good")
    assert (await jobs.receive()).id == good
    (record,) = await wait_until(
        lambda: [record for record in caplog.records if id in record.getMessage()]
    )
    assert record.levelno == logging.WARNING
    assert record.getMessage() == (
        f"dropped message {id} of queue 'jobs', which has no dead-letter queue: received too often"
    )
    assert "s3cret" not in caplog.text
    assert set(server.redis.keys()) == {b"rsmq:jobs:Q", b"rsmq:jobs", b"rsmq:QUEUES"}
    assert server.redis.zrange("rsmq:jobs", 0, -1) == [good.encode()]


@pytest.mark.parametrize("how", ["receive_many", "wait", "stream", "no lease"])
async def test_other_ways_to_receive(server, jobs, how):
    """However they are received."""
    for n in range(5):
        await spend(jobs, str(n))
    match how:
        case "receive_many":
            assert await jobs.receive_many(10) == []
        case "wait":
            assert await jobs.receive(wait=0.05) is None
        case "no lease":
            assert await jobs.receive(vt=0) is None
        case _:
            async with jobs.messages() as stream:
                asking = asyncio.ensure_future(anext(stream))
                await wait_until(lambda: server.redis.zcard("rsmq:jobs") == 0)
                asking.cancel()
    await wait_until(lambda: server.redis.zcard("rsmq:jobs") == 0)


async def test_never_by_default(queue):
    """A queue that was not told to drop anything does not."""
    await spend(queue, "tough", times=20)
    assert (await queue.receive()).receive_count == 21


async def test_pop(jobs):
    """A pop hands out what is there, as ever."""
    await spend(jobs, "x", times=2)
    assert (await jobs.pop()).receive_count == 3


async def test_taken_away(jobs):
    """`max_receives=0` ends it."""
    await spend(jobs, "x")
    await jobs.set_attributes(max_receives=0)
    message = await jobs.receive()
    assert message.receive_count == 3
    await message.delete()


async def test_last_attempt_fails(jobs):
    """A worker drops what fails for the `max_receives`th time at once, and logs it."""
    events = []

    async def handler(message):
        raise ValueError("broken")

    id = await jobs.send("x")
    async with jobs.worker(handler, backoff=at_once, on_event=events.append) as worker:
        await wait_until(lambda: worker.stats.dropped == 1)
    stats = worker.stats
    assert (stats.received, stats.failed, stats.retried, stats.dead, stats.lost_leases) == (
        2,
        2,
        1,
        0,
        0,
    )
    assert (events[-1].kind, events[-1].id, events[-1].reason) == (
        "dropped",
        id,
        "ValueError: broken",
    )
    assert await is_empty(jobs)


async def test_reject(jobs, caplog):
    """`Reject` drops a message at once."""

    async def handler(message):
        raise Reject("no such customer")

    id = await jobs.send("x")
    async with jobs.worker(handler) as worker:
        await wait_until(lambda: worker.stats.dropped == 1)
    assert (worker.stats.received, worker.stats.retried) == (1, 0)
    assert f"message {id} of queue 'jobs', attempt 1: dropped, for " in caplog.text
    assert "its queue has no dead-letter queue: no such customer" in caplog.text
    assert await is_empty(jobs)


async def test_at_a_claim(jobs):
    """What has killed its consumers too often never reaches a handler, and is counted as
    dropped.
    """
    bodies = []
    await spend(jobs, "kills")
    async with jobs.worker(lambda message: bodies.append(message.body)) as worker:
        await wait_until(lambda: worker.stats.dropped == 1)
        await jobs.send("good")
        await wait_until(lambda: worker.stats.succeeded == 1)
    assert (bodies, worker.stats.received) == (["good"], 1)


async def test_nowhere_to_put_it(queue, caplog):
    """With neither, a message that is rejected is redelivered, and the warning says what to do."""

    async def handler(message):
        if message.receive_count == 1:
            raise Reject

    await queue.send("x")
    async with queue.worker(handler, backoff=at_once) as worker:
        await wait_until(lambda: worker.stats.succeeded == 1)
    assert "set one, or only max_receives to drop such messages" in caplog.text


async def test_not_decodable(server, rsmq, jobs):
    """What a codec cannot decode stays until it has been received too often: another consumer's
    might.
    """
    typed = rsmq.queue("jobs", codec=JSON)
    id = await typed.send(b"{no json")
    for _ in range(2):
        assert await typed.receive() is None
        assert server.redis.zscore("rsmq:jobs", id) is not None
        await jobs.change_visibility(id, 0)
    assert await typed.receive() is None
    await wait_until(lambda: server.redis.zcard("rsmq:jobs") == 0)


async def test_fenced(server, jobs):
    """A message that another has received since, or that has been somewhere else, is not dropped
    under them.
    """
    await jobs.set_attributes(max_receives=5)
    await jobs.send("contested")
    stale = await jobs.receive(vt=0)
    held = await jobs.receive()
    assert await jobs._core.bury([stale._record], "stale") == [None]
    server.redis.hset("rsmq:jobs:Q", f"{held.id}:rc", "1")  # as after a move there and back
    server.redis.hset("rsmq:jobs:Q", f"{held.id}:fr", "1")
    assert await jobs._core.bury([stale._record], "stale") == [None]
    assert await jobs._core.dead.bury([held._record], "why", OVER_MAX_RECEIVES, drop="spent") == [
        None
    ]
    assert not await is_empty(jobs)
    await jobs.purge()


async def test_lost_reply(server, jobs, proxy):
    """A drop whose reply is lost is known to have been done."""
    async with AsyncRSMQ.from_url(proxy.url) as other:
        queue = other.queue("jobs")
        await queue.send_many(["a", "b"])
        records = [message._record for message in await queue.receive_many(2)]
        assert await queue._core.bury(records[:1], "first, so that the script is known") == [
            "dropped"
        ]
        proxy.cut_after_execution = 1
        assert await queue._core.bury(records[1:], "second") == ["dropped"]
    assert proxy.cuts == 1
    assert await is_empty(jobs)


@pytest.mark.parametrize("to", ["", "dead"])
async def test_policy_changes_before_the_move(server, rsmq, jobs, to):
    """What was to be dropped goes where the policy says by then: nothing is dropped that should be
    kept.
    """
    await jobs.send("x")
    message = await jobs.receive()
    async with AsyncRSMQ.from_url(server.url) as admin:
        await admin.set_queue_attributes(qname="jobs", dead_letter_queue=to)
    if to:
        assert await jobs._core.bury([message._record], "why") == ["dead"]
        assert server.redis.zcard("rsmq:dead") == 1
    else:
        with pytest.raises(NoDeadLetterQueue):
            await jobs._core.bury([message._record], "why")
        assert await message.delete()


async def test_dead_letter_queue_is_taken_away(server, rsmq):
    """What was to move is dropped if the policy has changed to that by then; what cannot be decoded
    is kept even then.
    """
    queue, typed = rsmq.queue("jobs"), rsmq.queue("jobs", codec=JSON)
    await queue.create(dead_letter_queue="dead")
    await queue.send_many(["x", "y"])
    one, other = await queue.receive_many(2)
    async with AsyncRSMQ.from_url(server.url) as admin:
        await admin.set_queue_attributes(qname="jobs", dead_letter_queue="", max_receives=2)
    assert rsmq.queue("jobs")._core.dead.queue == "dead"
    typed._core.put_aside(other._record, "cannot be decoded", popped=False, peeked=False)
    await typed._core.node.tasks.finish(5)
    assert server.redis.zcard("rsmq:jobs") == 2
    assert await queue._core.bury([one._record], "why") == ["dropped"]
    assert (server.redis.zcard("rsmq:jobs"), server.redis.zcard("rsmq:dead")) == (1, 0)


async def test_in_hand(jobs, server, renew):
    """What the worker's own claim has received once too often is not dropped while its handler
    works on it.
    """
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def handler(message):
        if message.receive_count == 1:
            raise Retry(0)
        begun.set()
        await go_on.wait()

    id = await jobs.send("x")
    async with jobs.worker(handler, concurrency=2) as worker:
        await begun.wait()
        await advance(jobs, "30s")
        await wait_until(lambda: server.redis.hget("rsmq:jobs:Q", f"{id}:rc") == b"3")
        renewed = server.redis.zscore("rsmq:jobs", id)
        renew(worker)  # once it knows what it has received
        await wait_until(lambda: server.redis.zscore("rsmq:jobs", id) > renewed)
        go_on.set()
        await wait_until(lambda: worker.stats.succeeded == 1)
    assert (worker.stats.dropped, worker.stats.lost_leases) == (0, 0)


async def test_full_server(own_server):
    """A full server drops them all the same."""
    server = own_server("--maxmemory-policy", "noeviction")
    async with AsyncRSMQ.from_url(server.url) as rsmq:
        queue = rsmq.queue("jobs")
        await queue.create(max_receives=1)
        await queue.send("x")
        message = await queue.receive()
        server.redis.config_set("maxmemory", "1")
        assert await queue._core.bury([message._record], "why") == ["dropped"]
        server.redis.config_set("maxmemory", "0")
        assert await is_empty(queue)


async def test_dead_letters_are_dropped(server, rsmq):
    """A dead-letter queue may drop what dies there again."""
    queue, dead = rsmq.queue("jobs"), rsmq.queue("dead")
    await dead.create(max_receives=1)
    await queue.create(max_receives=1, dead_letter_queue="dead")
    await spend(queue, "x", times=1)
    assert await queue.receive() is None
    message = await dead.receive(wait=5)
    assert message.receive_count == 1
    await message.release()
    assert await dead.receive() is None
    await wait_until(lambda: server.redis.zcard("rsmq:dead") == 0)


async def test_limit_raised_while_a_handler_runs(rsmq, server):
    """A message that has failed for the last time is redelivered, not dropped, if `max_receives`
    has been raised since.
    """
    queue = rsmq.queue("jobs")
    await queue.create(max_receives=1)
    await queue.send("job")
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def handler(message):
        if message.receive_count == 1:
            begun.set()
            await go_on.wait()
            raise RuntimeError("fails once")

    async with queue.worker(handler, concurrency=1, backoff=at_once) as worker:
        await begun.wait()
        async with AsyncRSMQ.from_url(server.url) as admin:
            await admin.set_queue_attributes(qname="jobs", max_receives=100)
        go_on.set()
        await wait_until(lambda: worker.stats.succeeded)
        assert (worker.stats.dropped, worker.stats.retried) == (0, 1)
