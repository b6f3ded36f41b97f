"""Whose connection settings are used: our own, or those of a client that was given."""

import ssl

import pytest
import redis
import trustme
from aiorsmq import AsyncRSMQ, InvalidParameterValue
from aiorsmq._wire import TransportWire
from redis.asyncio import Redis

from chaos.network import Proxy
from support import free_port, wait_until


async def round_trip(rsmq):
    queue = rsmq.queue("jobs")
    await queue.create(exist_ok=True)
    await queue.send(b"\xff\xfe \xf0\x9f\x90\x87")
    async with queue.messages() as stream:
        message = await anext(stream)
    assert message.raw == b"\xff\xfe \xf0\x9f\x90\x87"
    assert await message.delete()


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("decode_responses", [False, True])
async def test_a_given_client(server, decode_responses, protocol):
    """A given redis.asyncio.Redis is used whatever its decode_responses, and stays open."""
    client = Redis.from_url(server.url, decode_responses=decode_responses, protocol=protocol)
    async with AsyncRSMQ(client) as rsmq:
        await round_trip(rsmq)
        silent = rsmq.queue("jobs").receive(wait=0.1)
        assert await silent is None
    assert await client.ping()
    await client.aclose()


async def test_a_small_pool(server):
    """A pool that is used up does not hold up the queue, nor the queue the pool."""
    client = Redis.from_url(server.url, max_connections=1, protocol=2)
    async with client.pubsub() as busy, AsyncRSMQ(client) as rsmq:
        await busy.subscribe("anything")
        await round_trip(rsmq)
    await client.aclose()


async def test_options_with_a_client(server):
    """Options for a connection cannot be given together with a client."""
    client = Redis.from_url(server.url)
    with pytest.raises(InvalidParameterValue):
        AsyncRSMQ(client, db=3)
    await client.aclose()


async def test_host_and_port(own_server):
    """Host, port and redis-py's options connect; a password never appears in the repr."""
    server = own_server("--port", str(port := free_port()))
    server.redis.config_set("requirepass", "s3cret")
    async with AsyncRSMQ(host="127.0.0.1", port=port, password="s3cret", db=1) as rsmq:
        await round_trip(rsmq)
        assert "s3cret" not in repr(rsmq)
        assert f"127.0.0.1:{port}" in repr(rsmq)
    async with AsyncRSMQ.from_url(f"redis://:s3cret@127.0.0.1:{port}/2") as rsmq:
        await round_trip(rsmq)
        assert "s3cret" not in repr(rsmq)
    async with AsyncRSMQ(host="127.0.0.1", port=port, password="wrong") as rsmq:
        with pytest.raises(redis.AuthenticationError):
            await rsmq.list_queues()


async def test_tls(server, tmp_path):
    """rediss:// connects by TLS."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    # The servers that come in wheels are built without TLS: this does it for them, as stunnel would.
    async with Proxy(server.socket, port := free_port(), ssl=context):
        url = f"rediss://localhost:{port}"
        async with AsyncRSMQ.from_url(url, ssl_ca_certs=f"{tmp_path}/ca.pem") as rsmq:
            await round_trip(rsmq)
            assert isinstance(rsmq._connections.current()._wire, TransportWire)


async def test_enough_rights(server):
    """An ACL of `~rsmq:* &rsmq:rt:*` and the commands that the scripts call is enough."""
    server.redis.acl_setuser(
        "worker", enabled=True, passwords=["+pw"], keys=["rsmq:*"], channels=["rsmq:rt:*"], reset=True,
        reset_channels=True, commands=["+time"],
        categories=["+@read", "+@write", "+@pubsub", "+@scripting", "+@connection"],
    )  # fmt: skip
    try:
        async with AsyncRSMQ.from_url(server.url, username="worker", password="pw") as rsmq:
            await round_trip(rsmq)
            await rsmq.list_queues()
            await rsmq.delete_queue(qname="jobs")
    finally:
        server.redis.acl_deluser("worker")


async def test_two_connections(server, queue):
    """A client uses two connections, however much it does: one for calls, one for announcements."""
    async with AsyncRSMQ.from_url(server.url) as other:
        await round_trip(other)
        for name in "abc":
            await other.queue(name).create()
            await other.queue(name).receive(wait=0.01)
        assert await wait_until(lambda: server.clients() == 3)  # and one of the fixture's
