"""Whose connection settings are used: our own, or those of a client that was given."""

import asyncio
import inspect
import ssl
import time
import traceback
from contextlib import suppress

import anyio
import pytest
import redis
import trustme
from aiorsmq import AsyncRSMQ, InvalidParameterValue, UnsupportedServer
from aiorsmq._server import connector, target
from aiorsmq._server.wire import TransportWire
from redis.asyncio import Redis

from chaos.network import Proxy
from support import PATIENCE, connector_of, free_port, wait_for_listener, wait_until


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
    # The servers that come in wheels are built without TLS: this does it for them, as stunnel
    # would.
    async with Proxy(server.socket, port := free_port(), ssl=context):
        url = f"rediss://localhost:{port}"
        async with AsyncRSMQ.from_url(url, ssl_ca_certs=f"{tmp_path}/ca.pem") as rsmq:
            await round_trip(rsmq)
            assert isinstance(connector_of(rsmq).current()._wire, TransportWire)


async def test_two_connections(server, queue):
    """A client uses two connections, however much it does: one for calls, one for announcements."""
    async with AsyncRSMQ.from_url(server.url) as other:
        await round_trip(other)
        for name in "abc":
            await other.queue(name).create()
            await other.queue(name).receive(wait=0.01)
        assert await wait_until(lambda: server.clients() == 3)  # and one of the fixture's


CALLS = {
    "create": lambda queue: queue.create(exist_ok=True),
    "send": lambda queue: queue.send("secret"),
    "send_many": lambda queue: queue.send_many(["secret", "secret"]),
    "receive": lambda queue: queue.receive(),
    "long poll": lambda queue: queue.receive(wait=60),
    "stream": lambda queue: anext(queue.messages()),
    "delete": lambda queue: queue.delete_message("0" * 32),
    "extend": lambda queue: queue.change_visibility("0" * 32, 5),
}


async def unsupported(rsmq):
    """What each call says that cannot succeed on this server; nothing of it quotes a script or a
    body.
    """
    said = set()
    with suppress(UnsupportedServer):  # the first call is by EVAL
        await rsmq.list_queues()
    for call in CALLS.values():
        with pytest.raises(UnsupportedServer) as caught:
            await call(rsmq.queue("jobs"))
        text = "".join(traceback.format_exception(caught.value))
        assert "local" not in text.replace("localhost", "").partition("UnsupportedServer:")[2]
        assert "redis.call" not in text
        assert "secret" not in str(caught.value)
        said.add(caught.value.reason)
    (reason,) = said
    return reason


async def test_a_cluster(own_server):
    """A client of one server that is part of a cluster is told to use another URL, unless it is at
    the node that has all of its keys.
    """
    ports = free_port(), free_port()
    nodes = [own_server("--port", str(port), "--cluster-enabled", "yes").redis for port in ports]
    nodes[0].execute_command("CLUSTER", "ADDSLOTS", *range(8192))  # 6.2 knows no ADDSLOTSRANGE
    nodes[1].execute_command("CLUSTER", "ADDSLOTS", *range(8192, 16384))
    nodes[0].execute_command("CLUSTER", "MEET", "127.0.0.1", ports[1])
    for node in nodes:
        await wait_until(
            lambda node=node: b"cluster_state:ok" in node.execute_command("CLUSTER", "INFO")
        )
    owner = int(nodes[0].execute_command("CLUSTER", "KEYSLOT", "{rsmq}")) >= 8192
    async with AsyncRSMQ(port=ports[owner], ns="{rsmq}") as rsmq:
        await round_trip(rsmq)
    async with AsyncRSMQ(port=ports[not owner], ns="{rsmq}") as rsmq:
        assert 'redis+cluster://host:port,host:port", ns="{rsmq}"' in await unsupported(rsmq)
    async with AsyncRSMQ(port=ports[owner]) as rsmq:
        assert 'ns="{rsmq}"' in await unsupported(rsmq)


@pytest.mark.parametrize("missing", ["EVALSHA", "EVAL"])
async def test_no_scripts(own_server, missing):
    """A server without scripts, as some services and proxies are, is named as such."""
    async with AsyncRSMQ.from_url(own_server("--rename-command", missing, "").url) as rsmq:
        assert "needs Lua scripts" in await unsupported(rsmq)


@pytest.mark.parametrize("missing", ["HMGET", "TIME"])
async def test_a_command_that_the_scripts_need(own_server, missing):
    """So is one that lacks a command which the scripts call."""
    async with AsyncRSMQ.from_url(own_server("--rename-command", missing, "").url) as rsmq:
        with pytest.raises(UnsupportedServer, match="lacks or has renamed a command"):
            await rsmq.queue("jobs").send("x")


async def test_other_errors_of_scripts(server, rsmq):
    """What is no fault of the server's kind keeps redis-py's class: a key of another type, a full
    server.
    """
    await rsmq.create_queue(qname="jobs")
    await rsmq.create_queue(qname="odd")
    server.redis.delete("rsmq:odd")
    server.redis.set("rsmq:odd", "x")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        await rsmq.send_message(qname="odd", message="x")
    server.redis.delete("rsmq:odd")
    server.redis.config_set("maxmemory", 1)
    try:
        with pytest.raises(redis.ResponseError, match="maxmemory"):
            await rsmq.send_message(qname="jobs", message="x")
    finally:
        server.redis.config_set("maxmemory", 0)


@pytest.mark.parametrize("protocol", [2, 3])
async def test_login_at_a_server_that_knows_none(own_server, protocol):
    """A server that does not know AUTH or HELLO quotes what they were called with; the error does
    not.
    """
    server = own_server("--rename-command", "AUTH", "", "--rename-command", "HELLO", "")
    async with AsyncRSMQ.from_url(
        f"unix://secret:secret@{server.socket}", protocol=protocol
    ) as rsmq:
        with pytest.raises(redis.ResponseError, match="unknown command") as caught:
            await rsmq.list_queues()
    assert "secret" not in "".join(traceback.format_exception(caught.value)).replace(
        "secret:secret@", ""
    )


class Rotation:
    """A user whose password is refused for a while, and who is logged out by it."""

    def __init__(self, server):
        self._redis = server.redis
        self.options = {"username": "rotating", "password": "s3cret"}
        self._redis.acl_setuser(
            "rotating",
            enabled=True,
            reset=True,
            passwords=["+s3cret"],
            keys=["*"],
            channels=["*"],
            categories=["+@all"],
        )
        self._redis.acl_log_reset()

    def begin(self):
        self._redis.acl_setuser("rotating", enabled=True, passwords=["-s3cret", "+other"])
        self._redis.execute_command("CLIENT", "KILL", "USER", "rotating")

    def end(self):
        self._redis.acl_setuser("rotating", enabled=True, passwords=["+s3cret"])

    def refusals(self):
        return sum(
            int(entry["count"]) for entry in self._redis.acl_log() if entry["reason"] == "auth"
        )


@pytest.fixture
def rotation(server):
    yield Rotation(server)
    server.redis.acl_deluser("rotating")
    server.redis.acl_log_reset()


class TestRefusedLogin:
    async def test_login_works_again(self, server, rsmq, rotation, caplog):
        """While a password is rotated, calls, long polls, streams and workers of a client that knew
        it wait.
        """
        names = ["sent", "polled", "streamed", "worked"]
        for name in names:
            await rsmq.create_queue(qname=name)
        async with AsyncRSMQ.from_url(server.url, poll_interval=3600, **rotation.options) as other:
            handled = asyncio.Event()

            async def handler(_):
                handled.set()

            async with other.queue("worked").worker(handler) as worker:
                polling = asyncio.ensure_future(other.queue("polled").receive(wait=60))
                streaming = asyncio.ensure_future(anext(other.queue("streamed").messages()))
                await wait_for_listener(server, *names[1:])
                rotation.begin()
                sending = asyncio.ensure_future(other.queue("sent").send("x"))
                await wait_until(lambda: rotation.refusals() > 5)
                assert not any(waiting.done() for waiting in (sending, polling, streaming))
                assert not worker.healthy
                rotation.end()
                await sending
                for name in names[1:]:
                    await rsmq.send_message(qname=name, message="x")
                await (await polling).delete()
                await (await streaming).delete()
                await asyncio.wait_for(handled.wait(), PATIENCE)
                assert worker.healthy
        assert "s3cret" not in caplog.text
        await rsmq.delete_queue(qname="sent")

    async def test_refused_for_good(self, server, queue, rotation, monkeypatch):
        """After LOGIN_PATIENCE everybody gets redis-py's error, and later calls get it at once."""
        monkeypatch.setattr(connector, "LOGIN_PATIENCE", 0.5)
        async with AsyncRSMQ.from_url(server.url, deadline=3600, **rotation.options) as other:
            other_queue = other.queue("jobs")
            working = asyncio.ensure_future(other_queue.worker(print).run())
            polling = asyncio.ensure_future(other_queue.receive(wait=60))
            streaming = asyncio.ensure_future(anext(other_queue.messages()))
            await wait_for_listener(server)
            rotation.begin()
            for waiting in (
                working,
                polling,
                streaming,
                other_queue.send("x"),
                other_queue.send("x"),
            ):
                with pytest.raises(redis.AuthenticationError):
                    await asyncio.wait_for(waiting, PATIENCE)
            rotation.end()

    async def test_rotated_again(self, server, queue, rotation, monkeypatch):
        """The patience begins again with a refusal after a login that has lasted."""
        monkeypatch.setattr(connector, "CONNECT_TIMEOUT", 0.2)
        async with AsyncRSMQ.from_url(server.url, realtime=False, **rotation.options) as other:
            await other.list_queues()
            since = set()
            for _ in range(2):
                await wait_until(lambda: time.monotonic() > connector_of(other)._opened_at + 0.2)
                before = rotation.refusals()
                rotation.begin()
                sending = asyncio.ensure_future(other.queue("jobs").send("x"))
                await wait_until(lambda before=before: rotation.refusals() > before + 1)
                rotation.end()
                await sending
                since.add(connector_of(other)._refused_since)
            assert len(since) == 2

    async def test_few_attempts(self, server, queue, rotation, monkeypatch):
        """However many calls wait, a login is tried again once each LOGIN_PAUSE."""
        monkeypatch.setattr(connector, "LOGIN_PAUSE", 3600)
        async with AsyncRSMQ.from_url(
            server.url, realtime=False, deadline=3, **rotation.options
        ) as other:
            await other.list_queues()
            rotation.begin()
            calls = [other.queue(f"q{n}").send("x") for n in range(50)]
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
            # A call that cannot say in time why it is late raises TimeoutError.
            kinds = {redis.AuthenticationError, redis.TimeoutError}
            assert {type(outcome) for outcome in outcomes} <= kinds
            assert rotation.refusals() == 1
            rotation.end()

    async def test_never_accepted(self, server, rotation):
        """A password that never worked is refused at once, after one attempt."""
        rotation.begin()
        async with AsyncRSMQ.from_url(server.url, deadline=3600, **rotation.options) as other:
            with pytest.raises(redis.AuthenticationError):
                await other.list_queues()
            assert rotation.refusals() == 1
            with pytest.raises(redis.AuthenticationError):
                await anext(other.queue("jobs").messages())

    async def test_no_password(self, own_server):
        """So is a missing one, where the reply to a call is the first to tell."""
        server = own_server()
        server.redis.config_set("requirepass", "s3cret")
        names = inspect.signature(Redis).parameters.keys() & {
            "driver_info",
            "lib_name",
            "lib_version",
        }
        names = (
            {"driver_info"} if "driver_info" in names else names
        )  # later versions deprecate the others
        client = Redis.from_url(
            server.url, protocol=2, **dict.fromkeys(names)
        )  # says nothing when it connects
        async with AsyncRSMQ(client, deadline=3600) as other:
            with pytest.raises(redis.AuthenticationError):
                await asyncio.wait_for(other.queue("jobs").send("x"), PATIENCE)
        await client.aclose()

    async def test_logged_out(self, own_server):
        """Where an open connection is no longer logged in, the call is made on another."""
        server = own_server()
        server.redis.config_set("requirepass", "s3cret")
        async with AsyncRSMQ.from_url(server.url, realtime=False, password="s3cret") as other:
            queue = other.queue("jobs")
            await queue.create()
            for call in (lambda: queue.send_many(["x"] * 20), queue.attributes):
                before = server.redis.info("stats")["total_connections_received"]
                connector_of(other).current().call(lambda _: None, "RESET")
                await call()
                assert server.redis.info("stats")["total_connections_received"] == before + 1

    async def test_logged_out_for_good(self, server, queue, proxy, monkeypatch):
        """Logins that work and are worth nothing are given up after LOGIN_PATIENCE as well."""
        monkeypatch.setattr(connector, "LOGIN_PATIENCE", 0.5)
        async with AsyncRSMQ.from_url(proxy.url, realtime=False, deadline=2) as other:
            await other.list_queues()
            proxy.unknown = dict.fromkeys(
                [b"EVAL", b"EVALSHA"], b"-NOAUTH Authentication required.\r\n"
            )
            with pytest.raises(redis.AuthenticationError):
                await asyncio.wait_for(anext(other.queue("jobs").messages()), PATIENCE)


async def test_slow_handshake(server, queue, proxy, monkeypatch):
    """A connection whose opening takes several slow round trips is opened: each has its own
    time.
    """
    monkeypatch.setattr(target, "CONNECT_TIMEOUT", 1.0)
    proxy.latency = (0.5, 0.5)
    async with AsyncRSMQ.from_url(
        proxy.url, username="default", password="any", db=1, realtime=False
    ) as rsmq:
        assert await rsmq.list_queues() == set()


async def test_silent_handshake(server, proxy, monkeypatch):
    """One of whose steps gets no reply is given up."""
    monkeypatch.setattr(target, "CONNECT_TIMEOUT", 0.2)
    proxy.silent = True
    async with AsyncRSMQ.from_url(proxy.url, realtime=False) as rsmq:
        with anyio.fail_after(5), pytest.raises(redis.TimeoutError):
            await rsmq.list_queues()
