"""A full server: sends are refused, and consumers still empty the queue."""

import asyncio

import anyio
import pytest
from aiorsmq import JSON, AsyncRSMQ
from redis.exceptions import OutOfMemoryError, ResponseError

from foreign_data.data import messages_left, score_of, stream
from support import PATIENCE, keyspace, now_ms, wait_until


@pytest.fixture
async def full(own_server):
    """A server at maxmemory with noeviction, far over it so that no single delete makes room, and a
    queue in it.
    """
    server = own_server("--maxmemory", "8mb", "--maxmemory-policy", "noeviction")
    async with AsyncRSMQ.from_url(server.url) as rsmq:
        queue = rsmq.queue("jobs")
        await queue.create()
        await queue.send_many(["first", "{no json", "[1]", "[2]", "[3]"])
        with refused_as_full():
            while True:
                await queue.send("x" * 60_000)
        server.redis.config_set("maxmemory", "1mb")
        yield server, queue


def refused_as_full():
    def says_so(error):
        return isinstance(error, OutOfMemoryError) or "OOM" in str(error)

    return pytest.raises(ResponseError, check=says_so)


async def test_sends(full):
    """A send to it is refused at once and stores nothing."""
    server, queue = full
    before = keyspace(server)
    with anyio.fail_after(PATIENCE):
        for send in (
            lambda: queue.send("x"),
            lambda: queue.send("x", delay=5),
            lambda: queue.send_many(["x", "y"]),
            lambda: asyncio.gather(*(queue.send("x") for _ in range(10))),
        ):
            with refused_as_full():
                await send()
    assert keyspace(server) == before


async def test_settings(full):
    """So is making another queue, and changing one."""
    server, queue = full
    before = keyspace(server)
    with refused_as_full():
        await queue.set_attributes(vt=5)
    async with AsyncRSMQ.from_url(server.url) as rsmq:
        with refused_as_full():
            await rsmq.create_queue(qname="new")
    assert keyspace(server) == before


async def test_drained(full):
    """Consumers receive, extend, release and delete, until it is empty; then sends work
    again.
    """
    server, queue = full
    total = (await queue.attributes()).msgs
    message = await queue.receive(vt=50)
    assert (message.body, message.receive_count) == ("first", 1)
    before = now_ms(server)
    assert await message.extend(100) is True
    assert score_of(server, message.id) >= before + 100_000
    assert await message.release() is True
    assert await queue.change_visibility(message.id, 50) is True
    assert await queue.change_visibility(message.id, 0) is True
    (again,) = [found for found in await queue.receive_many(total) if found.id == message.id]
    assert again.receive_count == 2
    assert server.redis.hget("rsmq:jobs:Q", f"{again.id}:rc") == b"2"
    assert int(server.redis.hget("rsmq:jobs:Q", "totalrecv")) == total + 1
    for id in server.redis.zrange("rsmq:jobs", 0, -1):
        await queue.change_visibility(id.decode(), 0)
    assert await queue.delete_message(message.id) is True
    assert await queue.pop() is not None
    with refused_as_full():
        await queue.send("x")
    for left in await stream(queue, total - 2):
        assert await left.delete() is True
    assert messages_left(server) == (0, set())
    server.redis.config_set("maxmemory", "8mb")
    id = await queue.send("at last")
    assert (await queue.receive()).id == id


async def test_room_again(full):
    """Once there is room, sends work again."""
    server, queue = full
    server.redis.config_set("maxmemory", "100mb")
    assert await queue.send("x")


async def test_handed_back(full):
    """What was claimed ahead goes back to its old place."""
    server, queue = full
    async with queue.messages(prefetch=2) as messages:
        message = await anext(messages)
        await wait_until(lambda: int(server.redis.hget("rsmq:jobs:Q", "totalrecv")) == 3)
    await wait_until(lambda: server.redis.hget("rsmq:jobs:Q", "totalrecv") == b"1")
    assert await message.delete() is True
    bodies = [peeked.body for peeked in await queue.peek(4)]
    assert bodies == ["{no json", "[1]", "[2]", "[3]"]
    assert [peeked.receive_count for peeked in await queue.peek(4)] == [0] * 4


async def test_popped_and_cancelled(full):
    """What was popped and reached nobody is put back."""
    server, queue = full
    asking = asyncio.ensure_future(queue.pop())
    while server.redis.hget("rsmq:jobs:Q", "totalrecv") is None:
        await asyncio.sleep(0)
    asking.cancel()
    await asyncio.wait([asking])
    assert asking.cancelled()
    await wait_until(lambda: server.redis.hget("rsmq:jobs:Q", "totalrecv") == b"0")
    assert (await queue.peek(1))[0].body == "first"


async def test_no_json_popped(full):
    """What was popped and cannot be decoded is put back, hidden."""
    server, queue = full
    async with AsyncRSMQ.from_url(server.url) as rsmq:
        jobs = rsmq.queue("jobs", codec=JSON)
        assert (await jobs.pop()).body == [1]
    assert {"first", "{no json"} <= {message.body for message in await queue.peek(1000)}
    assert (await queue.attributes()).hiddenmsgs == 2


@pytest.mark.parametrize("how", ["purge", "delete"])
async def test_emptied(full, how):
    """It can be purged, and its queues deleted."""
    server, queue = full
    total = (await queue.attributes()).msgs
    assert await getattr(queue, how)() == (total if how == "purge" else True)
    assert server.redis.exists("rsmq:jobs") == 0
