"""TLS to a server that speaks it itself: what connects, and what each refusal says."""

import asyncio
import re
import ssl
import sys
from pathlib import Path

import anyio
import pytest
import redis
from aiorsmq import AsyncRSMQ
from aiorsmq._server.wire import TransportWire

from chaos.network import Proxy
from docs.page import DOCS, blocks
from support import PATIENCE, free_port, stalls, wait_for_listener, wait_until
from tls.conftest import HOUR

PAGE = DOCS / "operations" / "tls.md"
PROGRAMS = {block.name: block.text for block in blocks(PAGE) if block.language == "python"}
QUICK = 4.0
"""Seconds: less than a timeout to connect."""
NO_REPLY_TO_LOGIN = {"lib_name": None, "lib_version": None}
"""With these redis-py sends nothing while it connects."""
logins = pytest.mark.parametrize(
    "login",
    [
        {},
        pytest.param(
            NO_REPLY_TO_LOGIN,
            marks=pytest.mark.filterwarnings("ignore:.*lib_name:DeprecationWarning"),
        ),
    ],
    ids=["login", "silent"],
)


async def round_trip(rsmq):
    queue = rsmq.queue("jobs")
    await queue.create(exist_ok=True)
    await queue.send("hello")
    assert (await queue.pop()).body == "hello"


async def refusal(rsmq, *, error=redis.ConnectionError, within=QUICK):
    """What the first call says; it does not wait for its deadline."""
    async with rsmq, stalls() as lost:
        with pytest.raises(error) as caught, anyio.fail_after(within + 20):
            began = asyncio.get_running_loop().time()
            await rsmq.list_queues()
        assert asyncio.get_running_loop().time() - began < within + lost()
    return str(caught.value)


WAYS = {
    "URL": lambda port, path: AsyncRSMQ.from_url(f"rediss://localhost:{port}?ssl_ca_certs={path}"),
    "option": lambda port, path: AsyncRSMQ.from_url(
        f"rediss://localhost:{port}", ssl_ca_certs=path
    ),
    "valkeys": lambda port, path: AsyncRSMQ.from_url(
        f"valkeys://localhost:{port}", ssl_ca_certs=path
    ),
    "host": lambda port, path: AsyncRSMQ(host="localhost", port=port, ssl=True, ssl_ca_certs=path),
    "text": lambda port, path: AsyncRSMQ(
        host="localhost", port=port, ssl=True, ssl_ca_data=Path(path).read_text()
    ),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
async def test_own_authority(tls_server, authority, caplog, way):
    """A client trusts the CA that its URL or options name, and warns of nothing."""
    server = tls_server()
    async with way(server.tls_port, authority.path) as rsmq:
        await round_trip(rsmq)
    assert "aiorsmq.startup.tls" not in {record.name for record in caplog.records}


async def test_program_of_the_page(tls_server, authority):
    """The first program in docs/operations/tls.md sends a message."""
    server = tls_server()
    program = PROGRAMS["hello.py"]
    for example, here in {
        "queues.example.com:6380": f"localhost:{server.tls_port}",
        "/etc/ssl/company.pem": authority.path,
    }.items():
        assert example in program
        program = program.replace(example, here)
    with anyio.fail_after(PATIENCE):
        done = await anyio.run_process([sys.executable, "-W", "error", "-c", program])
    assert b"msgs=1" in done.stdout


class TestRefusals:
    async def test_unknown_authority(self, tls_server):
        """The system does not know the CA."""
        server = tls_server()
        text = await refusal(AsyncRSMQ.from_url(server.tls_url))
        assert re.search("certificate verify failed: (self.signed|unable to get)", text)

    async def test_other_name(self, tls_server, trusting, authority):
        server = tls_server(files=authority.issue("elsewhere"))
        text = await refusal(trusting(server))
        assert "certificate is not valid for 'localhost'" in text
        assert "may" not in text, "there is nothing to guess"

    async def test_expired(self, tls_server, trusting, authority):
        server = tls_server(files=authority.issue("localhost", lasts=-HOUR))
        assert "certificate has expired" in await refusal(trusting(server))

    @logins
    async def test_no_client_certificate(self, tls_server, trusting, login):
        """The server wants a client certificate, and the error says so."""
        server = tls_server("--tls-auth-clients", "yes")
        text = await refusal(trusting(server, **login))
        assert "requires a client certificate that it accepts (ssl_certfile" in text

    @logins
    async def test_client_certificate_of_another(self, tls_server, trusting, foreigner, login):
        """The server does not know the CA of the client's certificate."""
        server = tls_server("--tls-auth-clients", "yes")
        text = await refusal(trusting(server, **foreigner.issue("me").options, **login))
        assert "requires a client certificate that it accepts (ssl_certfile" in text

    async def test_expired_client_certificate(self, tls_server, trusting, authority):
        server = tls_server("--tls-auth-clients", "yes")
        text = await refusal(trusting(server, **authority.issue("me", lasts=-HOUR).options))
        assert "requires a client certificate that it accepts (ssl_certfile" in text

    @logins
    async def test_plain_client(self, tls_server, login):
        """A client without TLS at a TLS port is told of TLS."""
        server = tls_server()
        text = await refusal(AsyncRSMQ.from_url(f"redis://localhost:{server.tls_port}", **login))
        assert "the server may speak only TLS (connect by a rediss:// URL" in text

    async def test_plain_server(self, own_server):
        """A server without TLS waits for the rest of a command, or rejects what it got."""
        own_server("--port", str(port := free_port()))
        text = await refusal(
            AsyncRSMQ.from_url(f"rediss://localhost:{port}"),
            error=(redis.ConnectionError, redis.TimeoutError),
            within=5 + QUICK,
        )
        assert "the server may not speak TLS (a redis:// URL connects without)" in text

    async def test_nobody_there(self, trusting):
        """A port at which nobody listens has nothing to do with TLS."""
        for scheme in ("redis", "rediss"):
            text = await refusal(AsyncRSMQ.from_url(f"{scheme}://localhost:{free_port()}"))
            assert "TLS" not in text

    async def test_outage(self, server):
        """A server that was reached, and now closes connections, is not suspected of TLS."""
        async with (
            Proxy(server.socket, port := free_port()) as between,
            AsyncRSMQ.from_url(between.url, deadline=5) as rsmq,
        ):
            await round_trip(rsmq)
            await between.refuse()
            async with await asyncio.start_server(hang_up, "localhost", port):
                with pytest.raises(redis.ConnectionError) as caught:
                    await rsmq.list_queues()
        assert "TLS" not in str(caught.value)


async def hang_up(reader, writer):
    writer.transport.abort()


async def test_client_certificate(tls_server, trusting, authority):
    """A client certificate that the server trusts is let in."""
    server = tls_server("--tls-auth-clients", "yes")
    async with trusting(server, **authority.issue("me").options) as rsmq:
        await round_trip(rsmq)


@pytest.mark.parametrize(
    "options", [{}, {"ssl_min_version": ssl.TLSVersion.TLSv1_3}], ids=["no option", "option"]
)
async def test_tls_1_3_alone(tls_server, trusting, options):
    """A server that allows TLS 1.3 alone needs no option, and nothing slower."""
    server = tls_server("--tls-protocols", "TLSv1.3")
    async with trusting(server, **options) as rsmq:
        await round_trip(rsmq)
        tls = wire_of(rsmq)._transport.get_extra_info("ssl_object")
        assert tls.version() == "TLSv1.3"


def wire_of(rsmq):
    wire = rsmq._node._route.server.calls.current()._wire
    assert isinstance(wire, TransportWire)
    return wire


async def test_consumer_is_woken(tls_server, trusting):
    """Announcements come by TLS, too: a consumer that practically never polls gets the message."""
    server = tls_server()
    async with trusting(server, poll_interval=3600) as rsmq, trusting(server) as other:
        queue = rsmq.queue("jobs")
        await queue.create()
        waiting = asyncio.create_task(queue.receive(wait=60))
        await wait_for_listener(server)
        await other.queue("jobs").send("hello")
        with anyio.fail_after(25):
            assert (await waiting).body == "hello"


async def test_large_messages(tls_server, trusting):
    """Messages of many TLS records arrive whole, in both directions."""
    server = tls_server()
    bodies = [str(n) * 60_000 for n in range(10)]
    async with trusting(server) as rsmq:
        queue = rsmq.queue("jobs")
        await queue.create()
        await queue.send_many(bodies)
        assert [message.body for message in await queue.receive_many(10)] == bodies


async def test_killed_connections(tls_server, trusting):
    """All connections are killed again and again under load: every message arrives once."""
    server = tls_server()
    async with trusting(server) as producer, trusting(server) as consumer:
        queue = producer.queue("jobs")
        await queue.create(vt=300)
        sent, delivered = [], []

        async def send(name):
            for n in range(100):
                sent.append(await queue.send(f"{name}/{n}"))
                await anyio.sleep(0.01)

        async def consume():
            async for message in consumer.queue("jobs").messages():
                delivered.append(message.id)
                await message.delete()

        consuming = asyncio.create_task(consume())
        sending = asyncio.gather(*(send(name) for name in range(10)))
        await wait_until(lambda: delivered)
        kills = 0
        while not sending.done():
            await wait_until(lambda: server.clients() >= 2 or sending.done())
            for kind in ("normal", "pubsub"):
                kills += server.redis.execute_command("CLIENT", "KILL", "TYPE", kind)
            await anyio.sleep(0.05)
        await sending
        assert kills > 4
        await wait_until(lambda: server.redis.zcard("rsmq:jobs") == 0)
        consuming.cancel()
        assert set(sent) <= set(delivered)
        assert len(sent) == len(set(sent)) == 1000


UNCHECKED = {
    "certificate, option": ("", {"ssl_cert_reqs": "none"}, "certificate is not checked"),
    "certificate, URL": ("?ssl_cert_reqs=none", {}, "certificate is not checked"),
    "name, option": ("", {"ssl_check_hostname": False}, "name in the server's certificate"),
    "name, URL": ("?ssl_check_hostname=false", {}, "name in the server's certificate"),
}


@pytest.mark.parametrize(("query", "options", "words"), UNCHECKED.values(), ids=UNCHECKED)
async def test_unchecked(tls_server, authority, caplog, query, options, words):
    """A client that does not check who the server is says so once, however often it connects."""
    server = tls_server(files=authority.issue("elsewhere"))
    url = f"{server.tls_url}{query}"
    async with AsyncRSMQ.from_url(url, ssl_ca_certs=authority.path, **options) as rsmq:
        await round_trip(rsmq)
        server.redis.execute_command("CLIENT", "KILL", "TYPE", "normal")
        waiting = asyncio.create_task(rsmq.queue("jobs").receive(wait=60))
        await wait_for_listener(server)
        await rsmq.queue("jobs").send("hello")
        assert await waiting
    said = [record for record in caplog.records if record.name == "aiorsmq.startup.tls"]
    assert [words in record.getMessage() for record in said] == [True]


async def test_context_of_ones_own(tls_server, authority, foreigner, caplog):
    """The documentation's connection class has redis-py use an SSLContext, and nothing else."""
    names = {}
    exec(compile(PROGRAMS["context.py"], str(PAGE), "exec"), names)
    server = tls_server("--tls-auth-clients", "yes")
    context = ssl.create_default_context(cafile=authority.path)
    context.load_cert_chain(*authority.issue("me"))
    async with names["connect"]("localhost", server.tls_port, context) as rsmq:
        await round_trip(rsmq)
        wire_of(rsmq)
        await rsmq.queue("jobs").receive(wait=0.01)
    assert "aiorsmq.startup.tls" not in {record.name for record in caplog.records}
    stranger = ssl.create_default_context(cafile=foreigner.path)
    text = await refusal(names["connect"]("localhost", server.tls_port, stranger))
    assert "certificate verify failed" in text
