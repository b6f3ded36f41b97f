"""Connections that are replaced when they are old: `max_connection_age`."""

import asyncio
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from aiorsmq import AsyncRSMQ, ClientClosed, InvalidParameterValue
from aiorsmq._server import age, connector, listener
from aiorsmq.sync import RSMQ

from chaos.network import Proxy
from support import never_polling, wait_for_listener, wait_until


class Endpoint:
    """An address that can be moved, as a name in the DNS."""

    def __init__(self, folder):
        self.path = Path(f"{folder}/endpoint.sock")
        self.url = f"unix://{self.path}"

    def move(self, to):
        link = self.path.with_suffix(".new")
        link.symlink_to(to)
        link.replace(self.path)


@pytest.fixture
def endpoint(server):
    endpoint = Endpoint(server.folder)
    yield endpoint
    endpoint.path.unlink()


@pytest.fixture
async def second_proxy(server):
    async with Proxy(server.socket, f"{server.folder}/second.sock") as proxy:
        yield proxy


def connections(server):
    return server.redis.info("stats")["total_connections_received"]


@asynccontextmanager
async def load(queue, senders):
    """Senders and a consumer at work on a queue; afterwards each message was received once."""
    sent, received = [], []
    over = asyncio.Event()

    async def send(name):
        while not over.is_set():
            body = f"{name}-{len(sent)}"
            await queue.send(body)
            sent.append(body)
            await asyncio.sleep(0.001)

    async def consume():
        async for message in queue.messages():
            async with message:
                received.append(message.body)

    consuming = asyncio.ensure_future(consume())
    sending = [asyncio.ensure_future(send(name)) for name in range(senders)]
    try:
        yield sent
    finally:
        over.set()
        await asyncio.gather(*sending)
        await wait_until(lambda: len(received) >= len(sent) or consuming.done())
        consuming.cancel()
        await asyncio.wait([consuming])
    assert sorted(received) == sorted(sent)


async def test_moves(server, queue, proxy, second_proxy, endpoint):
    """Under load, both connections move to where the address points now. No call fails, and none is
    made twice.
    """
    endpoint.move(proxy.listen_at)
    async with AsyncRSMQ.from_url(endpoint.url, max_connection_age=1) as rsmq:
        async with load(rsmq.queue("jobs"), 8) as sent:
            await wait_until(lambda: proxy.connections == 2)
            endpoint.move(second_proxy.listen_at)
            await wait_until(lambda: proxy.connections == 0)
            assert second_proxy.connections == 2
            before = len(sent)
            await proxy.refuse()  # as the old server ends
            await wait_until(lambda: len(sent) > before + 100)
        assert server.redis.hget("rsmq:jobs:Q", "totalsent") == str(len(sent)).encode()
    await proxy.listen()


async def test_calls_in_flight(server, queue, proxy, second_proxy, endpoint):
    """A call in flight gets its reply on the old connection, which is closed after that: a pop that
    takes longer than the age is not lost.
    """
    await queue.send_many(map(str, range(6)))
    endpoint.move(proxy.listen_at)
    async with AsyncRSMQ.from_url(endpoint.url, max_connection_age=1, realtime=False) as rsmq:
        await rsmq.list_queues()
        endpoint.move(second_proxy.listen_at)
        proxy.latency = second_proxy.latency = (1.5, 1.5)
        popped = [(await rsmq.queue("jobs").pop()).body for _ in range(3)]
        await wait_until(lambda: proxy.connections == 0)
        assert popped == ["0", "1", "2"]
        assert len(await queue.peek(10)) == 3


async def test_announcements(server, queue):
    """No announcement is missed while the listener moves."""
    async with never_polling(server, max_connection_age=1) as rsmq:
        other = rsmq.queue("jobs")
        before = connections(server)
        n = 0
        while connections(server) < before + 6:  # two connections, each replaced a few times
            receiving = asyncio.ensure_future(other.receive(wait=60))
            await asyncio.sleep(0.02)
            await queue.send(str(n))
            message = await receiving
            assert message.body == str(n)
            await message.delete()
            n += 1


async def test_nowhere_to_go(server, queue, endpoint, monkeypatch, caplog):
    """If no other connection can be opened, the one that there is stays, without a word."""
    monkeypatch.setattr(connector, "RENEW_PAUSE", 0.05)
    monkeypatch.setattr(listener, "RENEW_PAUSE", 0.05)
    attempts = 0

    def refuse(_, writer):
        nonlocal attempts
        attempts += 1
        writer.transport.abort()

    nobody = f"{server.folder}/nobody.sock"
    endpoint.move(server.socket)
    async with (
        await asyncio.start_unix_server(refuse, nobody),
        AsyncRSMQ.from_url(endpoint.url, max_connection_age=1) as rsmq,
    ):
        polling = asyncio.ensure_future(rsmq.queue("jobs").receive(wait=60))
        await wait_for_listener(server)
        before = connections(server)
        endpoint.move(nobody)
        await wait_until(lambda: attempts > 5)
        await rsmq.queue("jobs").send("x")
        assert (await polling).body == "x"
        assert connections(server) == before
    assert not [record for record in caplog.records if record.name == "aiorsmq.client"]


async def test_idle_client(server):
    """A client that does nothing has its connection replaced, too, and no second one left."""
    async with AsyncRSMQ.from_url(server.url, max_connection_age=1) as rsmq:
        await rsmq.list_queues()
        before = connections(server)
        await wait_until(lambda: connections(server) >= before + 2)
        await wait_until(lambda: server.clients() == 1)


async def test_closed_while_it_moves(server, queue, proxy):
    """A client that closes in the middle of it leaves nothing behind."""
    rsmq = AsyncRSMQ.from_url(proxy.url, max_connection_age=1)
    polling = asyncio.ensure_future(rsmq.queue("jobs").receive(wait=60))
    await wait_for_listener(server)
    proxy.silent = True  # a connection that is opened now does not open
    await wait_until(lambda: proxy.connections > 2)
    await rsmq.aclose()
    with pytest.raises(ClientClosed):
        await polling


def test_spread():
    """Connections of one moment are not replaced in one moment; none gets older than it may be."""
    ages = [age.lifetime(100) for _ in range(1000)]
    assert 90 <= min(ages) < 92
    assert 98 < max(ages) <= 100
    assert age.lifetime(float("inf")) == float("inf")


@pytest.mark.parametrize("make", [AsyncRSMQ, AsyncRSMQ.from_url, RSMQ, RSMQ.from_url])
def test_it_is_a_time(make):
    """max_connection_age is None, or a time of a second or more."""
    args = ["redis://localhost"] if "from_url" in str(make) else []
    for value in (0, 0.9, -1, "5", True, float("nan"), 10_000_000):
        with pytest.raises(InvalidParameterValue, match="max_connection_age"):
            make(*args, max_connection_age=value)
    for value in (None, 1, 1.5, timedelta(hours=1)):
        make(*args, max_connection_age=value)
