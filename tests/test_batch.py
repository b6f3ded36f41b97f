"""Group commit: calls made at the same time share script calls, and each gets its own result."""

import asyncio

import pytest
from aiorsmq import AsyncRSMQ, InvalidParameterValue, MessageTooLong, QueueDoesNotExist
from redis.exceptions import TimeoutError

from support import wait_until


async def test_a_send_is_one_script_call(server, queue):
    """A send is one script call."""
    await queue.send("warm up: load the script")
    server.reset_stats()
    await queue.send("hello")
    assert server.script_calls() == 1


async def test_a_thousand_sends(server, queue):
    """1,000 concurrent sends are at most 40 script calls, and keep their order."""
    server.reset_stats()
    ids = await asyncio.gather(*(queue.send(str(n)) for n in range(1000)))
    assert server.script_calls() <= 40
    assert ids == sorted(ids)
    assert [message.body for message in await queue.peek(1000)] == [str(n) for n in range(1000)]


async def test_a_thousand_deletes_and_extends(server, queue):
    """Concurrent extends and deletes share script calls too."""
    await queue.send_many(["x"] * 1000)
    messages = await queue.receive_many(1000)
    server.reset_stats()
    assert all(await asyncio.gather(*(message.extend(60) for message in messages)))
    assert server.script_calls() <= 40
    server.reset_stats()
    assert all(await asyncio.gather(*(message.delete() for message in messages)))
    assert server.script_calls() <= 40


async def test_each_its_own_error(queue):
    """One message that is too long is refused; those that shared its script call are stored."""
    results = await asyncio.gather(
        queue.send("a"), queue.send("b" * 65537), queue.send("c"), return_exceptions=True
    )
    assert isinstance(results[1], MessageTooLong)
    assert [message.id for message in await queue.peek()] == [results[0], results[2]]


async def test_each_its_own_result(queue):
    """Each delete gets its own answer, in a shared script call."""
    id = await queue.send("x")
    assert await queue.delete_many([id, "0" * 32, id]) == [True, False, False]


async def test_deletes_of_different_deliveries(server, queue):
    """Deletes that share a script call are each fenced by the receive count of its own delivery."""
    twice, once, by_id = await queue.send_many(["twice", "once", "by id"])
    stale = await queue.receive(vt=0)
    received = {message.id: message for message in await queue.receive_many(3)}
    assert received[twice].receive_count == 2
    server.reset_stats()
    deletes = (
        received[twice].delete(),
        stale.delete(),
        received[once].delete(),
        queue.delete_message(by_id),
    )
    assert await asyncio.gather(*deletes) == [True, False, True, True]
    assert server.script_calls() == 1
    assert (await queue.attributes()).msgs == 0


async def test_an_error_for_all(rsmq):
    """What makes the whole script call fail, all of its callers get."""
    none = rsmq.queue("none")
    results = await asyncio.gather(*(none.send("x") for _ in range(3)), return_exceptions=True)
    assert [type(result) for result in results] == [QueueDoesNotExist] * 3


async def test_cancelled_sends(queue):
    """A caller that is cancelled disturbs no other; what it has submitted is sent."""
    sends = [asyncio.ensure_future(queue.send(str(n))) for n in range(10)]
    await asyncio.sleep(0)
    sends[3].cancel()
    results = await asyncio.gather(*sends, return_exceptions=True)
    assert isinstance(results[3], asyncio.CancelledError)
    assert [message.body for message in await queue.peek()] == [str(n) for n in range(10)]


async def test_cut_by_bytes(server, rsmq):
    """A script call holds no more than about 256 KiB, so that it does not occupy the server for
    long.
    """
    queue = rsmq.queue("large")
    await queue.create(maxsize=-1)
    server.reset_stats()
    await asyncio.gather(*(queue.send(b"x" * 100_000) for _ in range(10)))
    assert server.script_calls() >= 5
    await queue.send(b"x" * 2_000_000)  # one message may be longer
    assert (await queue.attributes()).msgs == 11


async def test_invalid_before_it_joins(server, queue):
    """A call with bad input fails alone, and before anything is sent."""
    results = await asyncio.gather(
        queue.send("a"), queue.send(1), queue.send("c"), return_exceptions=True
    )
    assert isinstance(results[1], InvalidParameterValue)
    assert [message.body for message in await queue.peek()] == ["a", "c"]


async def test_too_long_in_a_repeated_send(server, proxy):
    """A send whose reply was lost says again which messages were too long."""
    async with AsyncRSMQ.from_url(proxy.url) as other:
        queue = other.queue("jobs")
        await queue.create(maxsize=1024)
        proxy.cut_after_execution = 1
        short, long = await asyncio.gather(
            queue.send("short"), queue.send("x" * 2000), return_exceptions=True
        )
        assert isinstance(long, MessageTooLong)
        assert [message.id for message in await queue.peek()] == [short]


async def test_deadline_after_a_cancelled_call(server, queue, proxy):
    """A call whose neighbour in the script call was cancelled has its deadline all the same."""
    async with AsyncRSMQ.from_url(proxy.url, realtime=False, deadline=1) as other:
        there = other.queue("jobs")
        await there.send("before")
        proxy.silent = True
        kept, cancelled = (asyncio.ensure_future(there.send(body)) for body in "ab")
        await wait_until(other._engine._in_flight)
        cancelled.cancel()
        with pytest.raises(TimeoutError, match="no reply before the deadline"):
            await kept
        proxy.silent = False
