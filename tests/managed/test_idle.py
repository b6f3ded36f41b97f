"""A connection that was idle: a load balancer or a router may have forgotten it, and says nothing.

What a client does after 15 seconds of silence, it does here after any silence.
"""

import asyncio
import time

import pytest
from aiorsmq import AsyncRSMQ
from aiorsmq._server import lane

from support import stalls, wait_until


@pytest.fixture
def always_in_doubt(monkeypatch):
    monkeypatch.setattr(lane, "QUIET", -1.0)
    monkeypatch.setattr(lane, "REPLY_TIMEOUT", 20.0)  # what a call takes that does not ask


async def forget_connections(proxy):
    async with proxy.black_hole(forget=True):
        pass


async def send(queue):
    assert await queue.send("new")
    assert len(await queue.peek(10)) == 3  # stored once


async def receive(queue):
    message = await queue.receive()
    assert message.body == "first"
    assert await message.delete()


async def pop(queue):
    message = await queue.pop()
    assert message.body == "first"
    assert [left.body for left in await queue.peek(10)] == ["second"]


async def pop_and_send(queue):
    """The send makes the connection doubtful; the pop must not follow it blindly."""
    sending = asyncio.ensure_future(queue.send("new"))
    await asyncio.sleep(0)
    assert (await queue.pop()).body == "first"
    await sending
    assert [left.body for left in await queue.peek(10)] == ["second", "new"]


async def delete(queue):
    (message, _) = await queue.peek(10)
    assert await queue.delete_message(message.id)


@pytest.mark.parametrize("call", [send, receive, pop, pop_and_send, delete])
async def test_forgotten(server, queue, always_in_doubt, proxy, far, call):
    """A connection that was forgotten costs a second: the call is made on another one, and does not
    fail, a pop included.
    """
    await queue.send_many(["first", "second"])
    await forget_connections(proxy)
    async with stalls() as lost:
        started = time.monotonic()
        await call(far.queue("jobs"))
        took = time.monotonic() - started
        assert 0.9 < took < 10 + lost()


async def test_arrives_late(server, queue, proxy, far, always_in_doubt):
    """What arrives after all, once the client has given the connection up, takes no message."""
    await queue.send_many(["first", "second"])
    before = server.redis.info("stats")["total_connections_received"]
    async with proxy.black_hole(forget=False):
        popping = asyncio.ensure_future(far.queue("jobs").pop())
        await wait_until(
            lambda: server.redis.info("stats")["total_connections_received"] > before
        )  # it tries another connection
    assert (await popping).body == "first"
    await proxy.all_have_arrived()
    assert [left.body for left in await queue.peek(10)] == ["second"]


async def test_alive(server, queue, far, monkeypatch):
    """A connection that is well is kept; it costs one PING, whatever waits for it."""
    server.reset_stats()
    before = server.redis.info("stats")["total_connections_received"]
    far_queue = far.queue("jobs")
    with monkeypatch.context() as patch:
        patch.setattr(lane, "QUIET", -1.0)
        calls = [far_queue.pop(), far_queue.receive(), far_queue.send("x"), far_queue.attributes()]
        await asyncio.gather(*calls)
        assert server.commands()["ping"] <= len(calls)
    pings = server.commands()["ping"]
    await far_queue.send("y")
    await far_queue.pop()
    assert server.commands()["ping"] == pings  # not after less than 15 seconds
    assert server.redis.info("stats")["total_connections_received"] == before


async def test_ping_is_refused(server, queue, always_in_doubt):
    """A user that may not PING loses nothing: an error is a reply."""
    rights = ["~*", "&*", "+@all", "-ping"]
    server.redis.execute_command("ACL", "SETUSER", "silent", "reset", "on", ">p", *rights)
    try:
        async with AsyncRSMQ.from_url(server.url, username="silent", password="p") as rsmq:
            await rsmq.list_queues()
            before = server.redis.info("stats")["total_connections_received"]
            for body in ("a", "b"):
                await rsmq.queue("jobs").send(body)
                assert (await rsmq.queue("jobs").pop()).body == body
            assert server.redis.info("stats")["total_connections_received"] == before
    finally:
        server.redis.acl_deluser("silent")
        server.redis.acl_log_reset()


async def test_blocked_loop(server, queue, always_in_doubt, monkeypatch):
    """An event loop that is blocked does not take a reply that has arrived for silence."""
    monkeypatch.setattr(lane, "PONG_TIMEOUT", 0.2)
    async with AsyncRSMQ.from_url(server.url, realtime=False) as rsmq:
        await rsmq.list_queues()
        before = server.redis.info("stats")["total_connections_received"]
        sending = asyncio.ensure_future(rsmq.queue("jobs").send("x"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        time.sleep(0.5)  # noqa: ASYNC251 - blocks the loop
        await sending
        assert server.redis.info("stats")["total_connections_received"] == before
