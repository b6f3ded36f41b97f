"""A receipt settles what it was given for, and nothing that another consumer holds, whatever has
happened since.
"""

import asyncio
import copy
import json
import pickle
import sys

import anyio
import pytest
from aiorsmq import AsyncRSMQ, InvalidParameterValue, Receipt, Reject
from aiorsmq._server.lua import load

from support import next_millisecond, wait_until


@pytest.fixture
async def jobs(rsmq):
    queue = rsmq.queue("jobs")
    await queue.create(vt=30, max_receives=5, dead_letter_queue="dead")
    return queue


@pytest.fixture
async def other(server):
    """A queue of another client."""
    async with AsyncRSMQ.from_url(server.url) as rsmq:
        yield rsmq.queue("jobs")


async def die_and_come_back(queue, dead):
    """Have the queue's next message rejected, and sent back from the dead-letter queue."""

    async def reject(_message):
        raise Reject("no")

    async with queue.worker(reject) as worker:
        await wait_until(lambda: worker.stats.dead)
    await next_millisecond()
    assert [moved async for moved in dead.redrive()] == [1]


async def received_before_a_move(jobs, other, rsmq):
    """A receipt whose message has since died, been sent back, and been received again: by `holder`,
    once.
    """
    await jobs.send("job")
    stale = await jobs.receive(vt=0)
    await die_and_come_back(other, rsmq.queue("dead"))
    holder = await other.receive()
    assert (stale.id, stale.receive_count) == (holder.id, holder.receive_count)
    return stale, holder


@pytest.mark.parametrize(
    "settle",
    [
        lambda message: message.delete(),
        lambda message: message.extend(900),
        lambda message: message.release(),
    ],
    ids=["delete", "extend", "release"],
)
async def test_a_receipt_from_before_a_move(rsmq, jobs, other, settle):
    """A message that died and was sent back is not settled by a receipt from before: it changes
    nothing.
    """
    stale, holder = await received_before_a_move(jobs, other, rsmq)
    assert await settle(stale) is False
    assert await jobs.receive() is None
    (peeked,) = await jobs.peek()
    assert peeked.visible_until == holder.visible_until
    assert await holder.delete() is True


async def test_a_receipt_from_before_a_move_by_many(rsmq, jobs, other):
    """So it is among others, in one script call."""
    stale, holder = await received_before_a_move(jobs, other, rsmq)
    await jobs.send_many(["a", "b"])
    fresh = await jobs.receive_many(2)
    assert await asyncio.gather(*(message.delete() for message in (fresh[0], stale, fresh[1]))) == [
        True,
        False,
        True,
    ]
    assert await holder.delete() is True


async def test_a_lease_from_before_a_move_is_not_renewed(rsmq, jobs, other):
    """A worker does not renew, extend or bury the message of another consumer by a receipt from
    before a move.
    """
    stale, holder = await received_before_a_move(jobs, other, rsmq)
    shared = jobs._core
    assert await shared.settler.renew([(stale._record, 900_000)]) == [False]
    assert await shared.bury([stale._record], "stale") == [None]
    await shared.settler.hand_back([stale._record._replace(visible=holder._record.visible)])
    assert await jobs.receive() is None
    assert await holder.delete() is True


async def test_a_worker_that_receives_its_message_again(rsmq, jobs, other):
    """A worker whose message has moved away, come back, and been received by another before it is
    redelivered does not take that for its own lease: the handler is cancelled, and another attempt
    begins.
    """
    attempts, cancelled, busy = [], [], asyncio.Event()

    async def handler(message):
        if message.body == "busy":
            await busy.wait()
            return
        attempts.append(message)
        if len(attempts) == 1:
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.append(message)

    worker = jobs.worker(handler, vt=60, concurrency=2)
    await jobs.send_many(["job", "busy"])
    async with worker:
        await wait_until(lambda: worker.stats.in_flight == 2 and attempts)
        assert await other._core.bury([attempts[0]._record], "by another program") == ["dead"]
        await next_millisecond()
        assert [moved async for moved in rsmq.queue("dead").redrive()] == [1]
        assert await (await other.receive()).release()
        busy.set()
        await wait_until(lambda: worker.stats.succeeded == 2)
        await wait_until(lambda: worker.stats.lost_leases == 1)
    assert [message.receive_count for message in attempts] == [1, 2]
    assert cancelled == attempts[:1]
    assert (await jobs.attributes()).msgs == 0


async def test_received_again_in_the_millisecond_of_a_move(server, jobs):
    """Even within one millisecond no two receipts of a message are the same: what was first
    received just now comes back from a move a millisecond later.
    """
    await jobs.send("job")
    message = await jobs.receive()
    received_now = """
        redis.call('HSET', KEYS[2], ARGV[7] .. ':fr',
                   string.format('%d%03d', time[1], math.floor(time[2] / 1000)))
    """
    before, found, after = load("move").source.partition("local reply = {")
    assert found
    source = before + received_now + found + after
    keys = [
        "rsmq:jobs",
        "rsmq:jobs:Q",
        "rsmq:dead",
        "rsmq:dead:Q",
        "rsmq:QUEUES",
        "rsmq:dead:reasons",
    ]
    rest = ["first", "jobs", "dead", "", "why", 60, message.id, ""]
    server.redis.hset("rsmq:jobs:Q", f"{message.id}:rc", "9")
    seconds, microseconds, *_ = server.redis.eval(source, len(keys), *keys, *rest)
    now = int(seconds) * 1000 + int(microseconds) // 1000
    assert server.redis.zscore("rsmq:dead", message.id) == now + 1


async def test_a_message_cannot_be_pickled(jobs):
    """A message belongs to its process; the error says what to pass to another."""
    await jobs.send("job")
    message = await jobs.receive()
    with pytest.raises(TypeError, match=r"pass message\.body and message\.receipt"):
        pickle.dumps(message)
    assert copy.copy(message) is message


ELSEWHERE = """
import asyncio, pickle, sys
from aiorsmq import AsyncRSMQ

async def main(url, receipt):
    async with AsyncRSMQ.from_url(url) as rsmq:
        jobs = rsmq.queue("jobs")
        print(await jobs.change_visibility(receipt, 60), await jobs.delete_message(receipt))

asyncio.run(main(*pickle.load(sys.stdin.buffer)))
"""


async def test_a_receipt_in_another_process(server, jobs):
    """A receipt is plain values: it is pickled, and settles the message from another process."""
    await jobs.send("job")
    given = pickle.dumps((server.url, (await jobs.receive()).receipt))
    done = await anyio.run_process([sys.executable, "-c", ELSEWHERE], input=given)
    assert done.stdout.split() == [b"True", b"True"]
    assert (await jobs.attributes()).msgs == 0


@pytest.mark.parametrize(
    "settle",
    [
        lambda queue, receipt: queue.delete_message(receipt),
        lambda queue, receipt: queue.delete_many([receipt]),
        lambda queue, receipt: queue.change_visibility(receipt, 900),
    ],
    ids=["delete_message", "delete_many", "change_visibility"],
)
@pytest.mark.parametrize("since", ["received again", "moved and received"])
async def test_a_receipt_is_a_fence(rsmq, jobs, other, settle, since):
    """Given a receipt in place of an id, a verb changes nothing once another consumer has received
    the message.
    """
    if since == "received again":
        await jobs.send("job")
        stale, holder = await jobs.receive(vt=0), await other.receive()
    else:
        stale, holder = await received_before_a_move(jobs, other, rsmq)
    assert await settle(jobs, stale.receipt) in (False, [False])
    (peeked,) = await jobs.peek()
    assert peeked.visible_until == holder.visible_until
    by_json = Receipt(*json.loads(json.dumps(holder.receipt)))
    assert by_json == holder.receipt
    assert await settle(jobs, by_json) in (True, [True])


async def test_a_receipt_of_nothing(jobs):
    """What was peeked at has a receipt, too: good until somebody receives the message."""
    await jobs.send("job")
    (peeked,) = await jobs.peek()
    assert peeked.receipt == Receipt(peeked.id, 0, None)
    message = await jobs.receive()
    assert await jobs.delete_message(peeked.receipt) is False
    popped = await message.release() and await jobs.pop()
    assert await jobs.delete_message(popped.receipt) is False


@pytest.mark.parametrize(
    "receipt",
    [Receipt(5, 1, 1), Receipt("x", "1", 1), Receipt("x", 1, "1"), Receipt("x", 1.5, None)],
)
async def test_no_receipt(jobs, receipt):
    """A receipt is not to be written by hand."""
    with pytest.raises(InvalidParameterValue, match="receipt of a message"):
        await jobs.delete_message(receipt)
    with pytest.raises(InvalidParameterValue, match="iterable of ids"):
        await jobs.delete_many(receipt)
