"""One connection for all announcements, which may fail in any way without a message being missed."""

import asyncio
import logging

from aiorsmq import AsyncRSMQ, _connection, _listener, _pipeline

from support import wait_until


async def listening(server, *qnames):
    channels = [f"rsmq:rt:{qname}" for qname in qnames]
    await wait_until(lambda: all(count for _, count in server.redis.pubsub_numsub(*channels)))


async def test_one_connection_for_all_queues(server, rsmq):
    """Consumers of many queues share one PUBSUB connection."""
    qnames = [f"q{n}" for n in range(20)]
    for qname in qnames:
        await rsmq.create_queue(qname=qname)
    asking = [asyncio.ensure_future(rsmq.receive_message(qname=qname, wait=10)) for qname in qnames]
    await listening(server, *qnames)
    assert len(server.redis.client_list(_type="pubsub")) == 1
    for qname in qnames:
        await rsmq.send_message(qname=qname, message=qname)
    for message in await asyncio.gather(*asking):
        assert message.body == message.queue
        await message.delete()


async def test_killed(server, queue, caplog):
    """A killed connection is replaced, what was announced meanwhile is not missed, and the log has a line for each."""
    with caplog.at_level(logging.INFO, "aiorsmq"):
        async with AsyncRSMQ.from_url(server.url, poll_interval=3600) as other:
            for n in range(10):
                asking = asyncio.ensure_future(other.queue("jobs").receive(wait=10))
                await listening(server, "jobs")
                server.redis.client_kill_filter(_type="pubsub", skipme=False)
                await queue.send(str(n))
                message = await asking
                assert message.body == str(n)
                await message.delete()
    assert {record.message.split(":")[0].split(",")[0] for record in caplog.records} <= {
        "not listening",
        "listening again",
    }


async def test_not_permitted(server, queue, caplog):
    """Without the right to SUBSCRIBE a client says so once, and polls."""
    server.redis.acl_setuser(
        "deaf", enabled=True, passwords=["+pw"], keys=["rsmq:*"], reset=True, categories=["+@all"], reset_channels=True
    )
    try:
        with caplog.at_level(logging.WARNING, "aiorsmq"):
            async with AsyncRSMQ.from_url(server.url, username="deaf", password="pw", poll_interval=0.05) as other:
                for n in range(3):
                    asking = asyncio.ensure_future(other.queue("jobs").receive(wait=10))
                    await wait_until(lambda: caplog.records)
                    await queue.send(str(n))
                    await (await asking).delete()
                await other.queue("jobs").send("stored although it cannot be announced")
        assert [record.message.split(",")[0] for record in caplog.records] == ["not permitted to listen"]
        assert (await queue.attributes()).msgs == 1
    finally:
        server.redis.acl_deluser("deaf")


async def test_sends_without_the_right_to_announce(server, queue):
    """Without the right to PUBLISH messages are stored, released and made visible all the same; nobody hears of it."""
    server.redis.acl_setuser(
        "mute", enabled=True, passwords=["+pw"], keys=["rsmq:*"], reset=True, categories=["+@all"], reset_channels=True
    )
    try:
        async with AsyncRSMQ.from_url(server.url, username="mute", password="pw") as other:
            id = await other.queue("jobs").send("x")
            message = await other.queue("jobs").receive()
            assert await message.release()
            assert [(m.id, m.receive_count) for m in await queue.receive_many(5)] == [(id, 2)]
    finally:
        server.redis.acl_deluser("mute")


async def test_silent_connection(server, queue, proxy, monkeypatch):
    """A connection on which nothing comes any more, though it is open, is noticed by its unanswered PING."""
    monkeypatch.setattr(_listener, "PING_INTERVAL", 0.1)
    monkeypatch.setattr(_listener, "DEAD_AFTER", 0.1)
    monkeypatch.setattr(_connection, "CONNECT_TIMEOUT", 0.5)
    monkeypatch.setattr(_pipeline, "REPLY_TIMEOUT", 0.5)
    async with AsyncRSMQ.from_url(proxy.url, poll_interval=3600) as other:
        asking = asyncio.ensure_future(other.queue("jobs").receive(vt=0.5, wait=30))
        await listening(server, "jobs")
        first = server.redis.client_list(_type="pubsub")[0]["id"]
        proxy.silent = True
        await queue.send("into the void")
        await wait_until(lambda: first not in [client["id"] for client in server.redis.client_list(_type="pubsub")])
        proxy.silent = False
        message = await asking
        assert message.body == "into the void"
    await queue.delete()


async def test_pings(server, queue, monkeypatch):
    """An idle connection is kept, and kept alive, by PINGs."""
    monkeypatch.setattr(_listener, "PING_INTERVAL", 0.05)
    async with AsyncRSMQ.from_url(server.url, poll_interval=3600) as other:
        asking = asyncio.ensure_future(other.queue("jobs").receive(wait=10))
        await listening(server, "jobs")
        first = server.redis.client_list(_type="pubsub")[0]["id"]
        await wait_until(lambda: server.commands().get("ping", 0) > 5)
        assert server.redis.client_list(_type="pubsub")[0]["id"] == first
        asking.cancel()
        await asyncio.wait([asking])


async def test_unsubscribes(server, queue, monkeypatch):
    """A queue that nobody waits for any more is unsubscribed after a while, and the connection closed with the last."""
    monkeypatch.setattr(_listener, "PING_INTERVAL", 0.05)
    async with AsyncRSMQ.from_url(server.url, poll_interval=0.05) as other:
        await other.queue("more").create()
        staying = asyncio.ensure_future(other.queue("more").receive(wait=10))
        assert await other.queue("jobs").receive(wait=0.2) is None
        await wait_until(lambda: server.redis.pubsub_numsub("rsmq:rt:jobs", "rsmq:rt:more")[0][1] == 0)
        await listening(server, "more")
        staying.cancel()
        await wait_until(lambda: server.redis.client_list(_type="pubsub") == [])
        await queue.send("x")
        message = await other.queue("jobs").receive(wait=10)
        await message.delete()


async def test_unsubscribes_long_before_the_next_poll(server, queue, monkeypatch):
    """A long poll that is over, or cancelled, keeps nobody listening until the safety poll."""
    monkeypatch.setattr(_listener, "PING_INTERVAL", 0.05)
    async with AsyncRSMQ.from_url(server.url, poll_interval=3600) as other:
        assert await other.queue("jobs").receive(wait=0.1) is None
        await wait_until(lambda: server.redis.client_list(_type="pubsub") == [])
        asking = asyncio.ensure_future(other.queue("jobs").receive(wait=10))
        await listening(server, "jobs")
        asking.cancel()
        await wait_until(lambda: server.redis.client_list(_type="pubsub") == [])
