"""One connection for all announcements, which may fail in any way without a message being
missed.
"""

import asyncio
import itertools
import logging

import pytest
from aiorsmq import AsyncRSMQ
from aiorsmq._server import lane, listener, target

from support import wait_for_listener, wait_until


async def test_one_connection_for_all_queues(server, rsmq):
    """Consumers of many queues share one PUBSUB connection."""
    qnames = [f"q{n}" for n in range(20)]
    for qname in qnames:
        await rsmq.create_queue(qname=qname)
    asking = [asyncio.ensure_future(rsmq.receive_message(qname=qname, wait=10)) for qname in qnames]
    await wait_for_listener(server, *qnames)
    assert len(server.redis.client_list(_type="pubsub")) == 1
    for qname in qnames:
        await rsmq.send_message(qname=qname, message=qname)
    for message in await asyncio.gather(*asking):
        assert message.body == message.queue
        await message.delete()


async def test_killed(server, queue, caplog):
    """A killed connection is replaced, what was announced in between is not missed, and the log has
    a line for each.
    """
    with caplog.at_level(logging.INFO, "aiorsmq"):
        async with AsyncRSMQ.from_url(server.url, poll_interval=3600) as other:
            for n in range(10):
                asking = asyncio.ensure_future(other.queue("jobs").receive(wait=10))
                await wait_for_listener(server, "jobs")
                server.redis.client_kill_filter(_type="pubsub", skipme=False)
                await queue.send(str(n))
                message = await asking
                assert message.body == str(n)
                await message.delete()
    assert {record.message.split(":")[0].split(",")[0] for record in caplog.records} <= {
        "listener disconnected",
        "listener reconnected",
    }


async def test_not_permitted(server, queue, caplog):
    """Without the right to SUBSCRIBE a client logs it once, and polls."""
    server.redis.acl_setuser(
        "deaf",
        enabled=True,
        passwords=["+pw"],
        keys=["rsmq:*"],
        reset=True,
        categories=["+@all"],
        reset_channels=True,
    )
    try:
        with caplog.at_level(logging.WARNING, "aiorsmq"):
            async with AsyncRSMQ.from_url(
                server.url, username="deaf", password="pw", poll_interval=0.05
            ) as other:
                for n in range(3):
                    asking = asyncio.ensure_future(other.queue("jobs").receive(wait=10))
                    await wait_until(lambda: caplog.records)
                    await queue.send(str(n))
                    await (await asking).delete()
                await other.queue("jobs").send("stored although it cannot be announced")
        assert [record.message.split(",")[0] for record in caplog.records] == [
            "no permission to subscribe"
        ]
        assert (await queue.attributes()).msgs == 1
    finally:
        server.redis.acl_deluser("deaf")


async def test_one_channel_is_refused(server, caplog, monkeypatch):
    """A channel that is refused leaves the others alone, and is heard when it is permitted, on the
    same connection.
    """
    monkeypatch.setattr(listener, "PING_INTERVAL", 0.5)
    monkeypatch.setattr(listener, "RETRY_REFUSED", 0.1)
    user = {"username": "half", "password": "pw"}
    server.redis.acl_setuser(
        "half",
        enabled=True,
        passwords=["+pw"],
        keys=["rsmq:*"],
        reset=True,
        categories=["+@all"],
        reset_channels=True,
        channels=["rsmq:rt:open"],
    )
    try:
        with caplog.at_level(logging.WARNING, "aiorsmq"):
            async with (
                AsyncRSMQ.from_url(server.url) as sending,
                AsyncRSMQ.from_url(server.url, poll_interval=3600, **user) as other,
            ):
                for qname in ("open", "closed"):
                    await sending.create_queue(qname=qname)
                closed = asyncio.ensure_future(other.receive_message(qname="closed", wait=30))
                await wait_until(lambda: caplog.records)
                for _ in range(3):
                    heard = asyncio.ensure_future(other.receive_message(qname="open", wait=30))
                    await wait_for_listener(server, "open")
                    await sending.send_message(qname="open", message="x")
                    await (await heard).delete()
                # From here on somebody waits, so the connection stays open.
                heard = asyncio.ensure_future(other.receive_message(qname="open", wait=30))
                await wait_for_listener(server, "open")
                first = server.redis.client_list(_type="pubsub")[0]["id"]
                await sending.send_message(qname="closed", message="x")
                server.redis.acl_setuser("half", enabled=True, channels=["rsmq:rt:closed"])
                await (await closed).delete()
                assert [client["id"] for client in server.redis.client_list(_type="pubsub")] == [
                    first
                ]
                heard.cancel()
        assert [record.name for record in caplog.records] == ["aiorsmq.startup.channel"]
        assert "rsmq:rt:closed" in caplog.text
    finally:
        server.redis.acl_deluser("half")
        server.redis.acl_log_reset()


class TestUnknown:
    """What a proxy, or a server whose administrator has renamed it, does not know."""

    @pytest.fixture
    def eager(self, monkeypatch):
        """Outages are over at once, refusals never."""
        monkeypatch.setattr(listener, "RETRY_REFUSED", 3600)
        monkeypatch.setattr(listener, "backoff", lambda limit=0.001: itertools.repeat(limit))

    async def poll(self, url, queue, caplog):
        """Receive by polling, for a while."""
        with caplog.at_level(logging.INFO, "aiorsmq"):
            async with AsyncRSMQ.from_url(url, poll_interval=0.01) as other:
                for n in range(20):
                    asking = asyncio.ensure_future(other.queue("jobs").receive(wait=10))
                    await wait_until(lambda: caplog.records)
                    await queue.send(str(n))
                    await (await asking).delete()
        assert [record.message.split(",")[0] for record in caplog.records] == [
            "listener disconnected"
        ]

    async def test_subscribe_on_a_server(self, own_server, caplog, eager):
        """Without SUBSCRIBE a client logs it once, polls, and opens no further connection."""
        server = own_server("--rename-command", "SUBSCRIBE", "")
        async with AsyncRSMQ.from_url(server.url) as rsmq:
            queue = rsmq.queue("jobs")
            await queue.create()
            before = server.redis.info("stats")["total_connections_received"]
            await self.poll(server.url, queue, caplog)
        assert server.redis.info("stats")["total_connections_received"] == before + 2

    @pytest.mark.parametrize(
        "reply", [b"-ERR unsupported command 'SUBSCRIBE'\r\n", b"-invalid request\r\n", b""]
    )
    async def test_subscribe_behind_a_proxy(self, server, queue, proxy, caplog, eager, reply):
        """So behind a proxy that does not know it, whatever it says, and if it closes the
        connection instead.
        """
        proxy.unknown[b"SUBSCRIBE"] = reply
        before = server.redis.info("stats")["total_connections_received"]
        await self.poll(proxy.url, queue, caplog)
        assert server.redis.info("stats")["total_connections_received"] == before + 2

    @pytest.mark.parametrize("reply", [b"-ERR unknown command\r\n", b""])
    async def test_subscribe_works_again(self, server, queue, proxy, monkeypatch, reply):
        """It is tried again, rarely: then announcements are heard."""
        monkeypatch.setattr(listener, "RETRY_REFUSED", 0.1)
        proxy.unknown[b"SUBSCRIBE"] = reply
        async with AsyncRSMQ.from_url(proxy.url, poll_interval=3600) as other:
            asking = asyncio.ensure_future(other.queue("jobs").receive(wait=30))
            await wait_until(lambda: other._engine.listener._outage_logged)
            proxy.unknown.clear()
            await wait_for_listener(server, "jobs")
            await queue.send("x")
            await (await asking).delete()

    @pytest.mark.parametrize("reply", [b"-ERR unknown command 'PING'\r\n", b""])
    async def test_ping(self, server, queue, proxy, monkeypatch, reply):
        """Without PING it listens all the same, and notices a silent connection; one that closes on
        it is lost once.
        """
        monkeypatch.setattr(listener, "PING_INTERVAL", 0.05)
        proxy.unknown[b"PING"] = reply
        async with AsyncRSMQ.from_url(proxy.url, poll_interval=3600) as other:
            before = server.redis.info("stats")["total_connections_received"]
            asking = asyncio.ensure_future(other.queue("jobs").receive(wait=30))
            await wait_until(lambda: server.commands().get("unsubscribe", 0) > 5)
            assert server.redis.info("stats")["total_connections_received"] <= before + 2 + (
                not reply
            )
            monkeypatch.setattr(listener, "DEAD_AFTER", 0.1)
            monkeypatch.setattr(target, "CONNECT_TIMEOUT", 0.5)
            first = server.redis.client_list(_type="pubsub")[0]["id"]
            proxy.silent = True
            await wait_until(
                lambda: (
                    first
                    not in [client["id"] for client in server.redis.client_list(_type="pubsub")]
                )
            )
            proxy.silent = False
            await queue.send("x")
            await (await asking).delete()

    async def test_no_sign_of_life(self, server, queue, proxy, monkeypatch):
        """With neither PING nor UNSUBSCRIBE it listens, on one connection."""
        monkeypatch.setattr(listener, "PING_INTERVAL", 0.05)
        monkeypatch.setattr(listener, "DEAD_AFTER", 0.05)
        proxy.unknown = {
            b"PING": b"-ERR unknown command\r\n",
            b"UNSUBSCRIBE": b"-ERR unknown command\r\n",
        }
        async with AsyncRSMQ.from_url(proxy.url, poll_interval=0.05) as other:
            asking = asyncio.ensure_future(other.queue("jobs").receive(wait=30))
            await wait_for_listener(server, "jobs")
            first = server.redis.client_list(_type="pubsub")[0]["id"]
            await wait_until(lambda: len(other._engine.listener._refusals) == 2)
            server.reset_stats()
            await wait_until(lambda: server.script_calls() > 5)
            assert server.redis.client_list(_type="pubsub")[0]["id"] == first
            await queue.send("x")
            await (await asking).delete()


async def test_sends_without_the_right_to_announce(server, queue):
    """Without the right to PUBLISH messages are stored, released and made visible all the same;
    nobody hears of it.
    """
    server.redis.acl_setuser(
        "mute",
        enabled=True,
        passwords=["+pw"],
        keys=["rsmq:*"],
        reset=True,
        categories=["+@all"],
        reset_channels=True,
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
    """A connection on which nothing comes any more, though it is open, is noticed by its unanswered
    PING.
    """
    monkeypatch.setattr(listener, "PING_INTERVAL", 0.1)
    monkeypatch.setattr(listener, "DEAD_AFTER", 0.1)
    monkeypatch.setattr(target, "CONNECT_TIMEOUT", 0.5)
    monkeypatch.setattr(lane, "REPLY_TIMEOUT", 0.5)
    async with AsyncRSMQ.from_url(proxy.url, poll_interval=3600) as other:
        asking = asyncio.ensure_future(other.queue("jobs").receive(vt=0.5, wait=30))
        await wait_for_listener(server, "jobs")
        first = server.redis.client_list(_type="pubsub")[0]["id"]
        proxy.silent = True
        await queue.send("into the void")
        await wait_until(
            lambda: (
                first not in [client["id"] for client in server.redis.client_list(_type="pubsub")]
            )
        )
        proxy.silent = False
        message = await asking
        assert message.body == "into the void"
    await queue.delete()


async def test_pings(server, queue, monkeypatch):
    """An idle connection is kept, and kept alive, by PINGs."""
    monkeypatch.setattr(listener, "PING_INTERVAL", 0.05)
    async with AsyncRSMQ.from_url(server.url, poll_interval=3600) as other:
        asking = asyncio.ensure_future(other.queue("jobs").receive(wait=10))
        await wait_for_listener(server, "jobs")
        first = server.redis.client_list(_type="pubsub")[0]["id"]
        await wait_until(lambda: server.commands().get("ping", 0) > 5)
        assert server.redis.client_list(_type="pubsub")[0]["id"] == first
        asking.cancel()
        await asyncio.wait([asking])


async def test_unsubscribes(server, queue, monkeypatch):
    """A queue that nobody waits for any more is unsubscribed after a while, and the connection
    closed with the last.
    """
    monkeypatch.setattr(listener, "PING_INTERVAL", 0.05)
    async with AsyncRSMQ.from_url(server.url, poll_interval=0.05) as other:
        await other.queue("more").create()
        staying = asyncio.ensure_future(other.queue("more").receive(wait=10))
        assert await other.queue("jobs").receive(wait=0.2) is None
        await wait_until(
            lambda: server.redis.pubsub_numsub("rsmq:rt:jobs", "rsmq:rt:more")[0][1] == 0
        )
        await wait_for_listener(server, "more")
        staying.cancel()
        await wait_until(lambda: server.redis.client_list(_type="pubsub") == [])
        await queue.send("x")
        message = await other.queue("jobs").receive(wait=10)
        await message.delete()


async def test_unsubscribes_long_before_the_next_poll(server, queue, monkeypatch):
    """A long poll that is over, or cancelled, keeps nobody listening until the safety poll."""
    monkeypatch.setattr(listener, "PING_INTERVAL", 0.05)
    async with AsyncRSMQ.from_url(server.url, poll_interval=3600) as other:
        assert await other.queue("jobs").receive(wait=0.1) is None
        await wait_until(lambda: server.redis.client_list(_type="pubsub") == [])
        asking = asyncio.ensure_future(other.queue("jobs").receive(wait=10))
        await wait_for_listener(server, "jobs")
        asking.cancel()
        await wait_until(lambda: server.redis.client_list(_type="pubsub") == [])
