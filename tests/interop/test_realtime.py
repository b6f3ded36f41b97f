"""Announcements: who hears whom, and what becomes of those who say nothing. On both event loops."""

import asyncio
import time
from contextlib import asynccontextmanager
from statistics import median

import anyio
import pytest
from aiorsmq import AsyncRSMQ, QueueDoesNotExist

from interop.peers import Ours
from support import PATIENCE, stalls, wait_until

POLL_INTERVAL = 0.2


@pytest.fixture
async def patient(server):
    """Ours, with a safety poll that comes too late for any test: what it gets, it was told of or
    knew.
    """
    async with AsyncRSMQ.from_url(server.url, poll_interval=60) as rsmq:
        yield Ours(rsmq)


@pytest.fixture
async def polling(server):
    """Ours, with a quick safety poll."""
    async with AsyncRSMQ.from_url(server.url, poll_interval=POLL_INTERVAL) as rsmq:
        yield Ours(rsmq)


@pytest.fixture(params=["node", "pyrsmq"])
def silent(request):
    """One that publishes nothing: Node's rsmq as it is by default, and PyRSMQ as it always is."""
    return request.getfixturevalue(request.param)


def is_listening(server):
    return server.redis.pubsub_numsub("rsmq:rt:jobs") == [(b"rsmq:rt:jobs", 1)]


@asynccontextmanager
async def waiting(server, ours, **options):
    """A stream of ours that has looked, found nothing, and listens."""
    async with ours.queue.messages(**options) as messages:
        first = asyncio.create_task(anext(messages))
        await wait_until(lambda: is_listening(server))

        async def next_one():
            nonlocal first
            with anyio.fail_after(PATIENCE):
                message = await first
            first = asyncio.create_task(anext(messages))
            return message

        yield next_one
        first.cancel()
        await asyncio.wait([first])


async def test_node_hears_us(ours, start_node):
    """What Node's subscribers hear of our sends is what they hear of Node's: ZCARD as decimal
    text.
    """
    node = await start_node(realtime=True)
    await ours.create()
    await node.subscribe()
    for n in (1, 3, 5):
        await ours.send("hello")
        assert await node.heard() == str(n)
        await node.send("hello")
        assert await node.heard() == str(n + 1)
    await ours.send("later", delay=600)
    assert await node.heard() == "7"


async def test_what_is_announced(server, ours, node):
    """Announced are a batch, once; a release; a shortened visibility. Not: a receive, a lease
    extended, a delete.
    """
    await ours.create()
    await node.subscribe()
    await ours.queue.send_many(["hello"] * 10)
    assert await node.heard() == "10"
    message = await ours.queue.receive()
    await message.extend(60)
    await message.delete()
    message = await ours.queue.receive()
    await message.release()
    assert await node.heard() == "9"
    message = await ours.queue.receive(vt=60)
    await ours.hide(message.id, 30)
    assert await node.heard() == "9"
    assert await ours.pop() is not None
    await ours.send("hello")
    assert await node.heard() == "9"
    assert server.commands()["publish"] == 4


async def test_who_says_nothing(server, node, pyrsmq):
    """With realtime=False we are as silent as PyRSMQ and Node's default."""
    await node.create()
    await node.subscribe()
    async with AsyncRSMQ.from_url(server.url, realtime=False) as rsmq:
        for silent in (Ours(rsmq), node, pyrsmq):
            await silent.send("hello")
    async with AsyncRSMQ.from_url(server.url) as rsmq:
        await Ours(rsmq).send("hello")
    assert await node.heard() == "4"
    assert server.commands()["publish"] == 1


async def test_node_works_off_what_it_hears(ours, node):
    """A worker in Node that receives when it hears an announcement misses nothing that we send."""
    await ours.create()
    await node.subscribe()
    sending = asyncio.gather(*(ours.send(f"message {n}") for n in range(50)))
    bodies = set()
    while len(bodies) < 50:
        await node.heard()
        while taken := await node.pop():
            bodies.add(taken.body)
    await sending
    assert bodies == {f"message {n}" for n in range(50)}


async def test_node_wakes_us(server, patient, start_node):
    """A send of Node's with realtime wakes our waiting consumer at once, not at the next safety
    poll.
    """
    node = await start_node(realtime=True)
    await node.create()
    elapsed = []
    async with waiting(server, patient) as next_one, stalls() as lost:
        for n in range(5):
            start = time.monotonic()
            await node.send(f"message {n}")
            message = await next_one()
            elapsed.append(time.monotonic() - start)
            assert message.body == f"message {n}"
            await message.delete()
        assert median(elapsed) < 0.5 + lost()


async def test_node_ends_our_long_poll(server, patient, start_node):
    """A send of Node's with realtime ends a long poll of ours."""
    node = await start_node(realtime=True)
    await node.create()
    for body in ("while we begin to listen", "while we listen"):
        server.reset_stats()
        long_poll = asyncio.create_task(patient.queue.receive(wait=50))
        await wait_until(lambda: is_listening(server) and server.script_calls())
        await node.send(body)
        with anyio.fail_after(PATIENCE):
            message = await long_poll
        assert message.body == body


async def test_one_burst_many_consumers(server, patient, start_node):
    """Of a burst of Node's, each of our waiting consumers gets one message."""
    node = await start_node(realtime=True)
    await node.create()
    consumers = [asyncio.create_task(patient.queue.receive(wait=50)) for _ in range(20)]
    await wait_until(lambda: is_listening(server))
    await asyncio.gather(*(node.send(f"message {n}") for n in range(20)))
    with anyio.fail_after(PATIENCE):
        messages = await asyncio.gather(*consumers)
    assert {message.body for message in messages} == {f"message {n}" for n in range(20)}
    assert [message.receive_count for message in messages] == [1] * 20


async def test_silent_producers(server, polling, silent):
    """A producer that publishes nothing is served within the poll interval."""
    await silent.create()
    elapsed = []
    async with waiting(server, polling) as next_one, stalls() as lost:
        for n in range(3):
            start = time.monotonic()
            await silent.send(f"message {n}")
            message = await next_one()
            elapsed.append(time.monotonic() - start)
            assert message.body == f"message {n}"
        assert median(elapsed) < POLL_INTERVAL + 0.5 + lost()
    assert "publish" not in server.commands()


async def test_made_visible_in_silence(server, polling, silent):
    """A message that another makes visible, which nobody announces, is ours within the poll
    interval.
    """
    await silent.create()
    id = await silent.send("hello", delay=600)
    async with waiting(server, polling) as next_one, stalls() as lost:
        assert await silent.hide(id, 0)
        start = time.monotonic()
        message = await next_one()
        assert time.monotonic() - start < POLL_INTERVAL + 1 + lost()
        assert message.id == id
    assert "publish" not in server.commands()


async def test_delays_of_others(server, patient, silent):
    """A message that another sent with a delay is ours on time, though nothing is published
    then.
    """
    await silent.create()
    id = await silent.send("hello", delay=silent.SHORTEST)
    due = server.visible_at(id)
    async with waiting(server, patient) as next_one, stalls() as lost:
        message = await next_one()
        assert message.id == id
        assert due <= server.visible_at(id) - 30_000 < due + 1000 * (1 + lost())


async def test_announced_delay(server, patient, start_node):
    """A delayed message that Node announces when it sends it wakes our waiting consumer when it is
    due.
    """
    node = await start_node(realtime=True)
    await node.create()
    async with waiting(server, patient) as next_one, stalls() as lost:
        await node.send("now")
        assert (await next_one()).body == "now"
        id = await node.send("later", delay=1)
        due = server.visible_at(id)
        message = await next_one()
        assert message.id == id
        assert due <= server.visible_at(id) - 30_000 < due + 1000 * (1 + lost())


async def test_leases_of_others(server, patient, silent):
    """A message that another received and did not delete is ours when its lease ends, on time."""
    await silent.create()
    id = await silent.send("hello")
    await silent.receive(vt=silent.SHORTEST)
    due = server.visible_at(id)
    async with waiting(server, patient) as next_one, stalls() as lost:
        message = await next_one()
        assert (message.id, message.receive_count) == (id, 2)
        assert due <= server.visible_at(id) - 30_000 < due + 1000 * (1 + lost())


async def test_queue_deleted(server, polling, silent):
    """A waiting consumer of ours learns within the poll interval that another has deleted the
    queue.
    """
    await silent.create()
    async with waiting(server, polling) as next_one:
        await silent.delete_queue()
        with pytest.raises(QueueDoesNotExist):
            await next_one()
