"""What the log says of a server that is set up to lose messages."""

import asyncio
import logging
import re
from contextlib import contextmanager

import pytest
from aiorsmq import AsyncRSMQ, EmbeddedServer
from aiorsmq.doctor import examine
from redis import ResponseError
from redis.asyncio import Redis

from docs.page import DOCS, blocks
from support import wait_for_listener, wait_until

EVICTION, PERSISTENCE = "aiorsmq.startup.eviction", "aiorsmq.startup.persistence"


@pytest.fixture
def careless(server):
    """The server: it keeps nothing, and drops queues when it is full."""
    server.redis.config_set("maxmemory-policy", "allkeys-lru")
    yield server
    server.redis.config_set("maxmemory-policy", "noeviction")


@pytest.fixture
def warnings(caplog):
    """The names of the loggers that have warned."""
    with caplog.at_level(logging.WARNING, PERSISTENCE):
        yield lambda: sorted(
            record.name for record in caplog.records if record.name.startswith("aiorsmq")
        )


def asked(server):
    commands = server.commands()
    return commands.get("config|get", commands.get("config", 0))


@pytest.mark.parametrize("protocol", [2, 3])
async def test_once_a_client(careless, warnings, protocol):
    """An eviction policy that drops queues, and no persistence, are warned of once, however often
    it connects.
    """
    client = Redis.from_url(careless.url, protocol=protocol)
    async with AsyncRSMQ(client) as rsmq:
        await rsmq.create_queue(qname="jobs")
        await wait_until(lambda: warnings() == [EVICTION, PERSISTENCE])
        careless.reset_stats()
        for _ in range(3):
            careless.redis.client_kill_filter(_type="normal")
            await rsmq.send_message(qname="jobs", message="x")
        assert "config|get" not in careless.commands()
    assert warnings() == [EVICTION, PERSISTENCE]
    await client.aclose()


@pytest.mark.parametrize(("setting", "value"), [("appendonly", "yes"), ("save", "3600 1000000")])
async def test_persistent(own_server, warnings, setting, value):
    """A server with an append-only file or save points, and noeviction, gives no reason to warn."""
    server = own_server(f"--{setting}", *value.split())
    async with AsyncRSMQ.from_url(server.url) as rsmq:
        await rsmq.create_queue(qname="jobs")
        await wait_until(lambda: asked(server) >= 2)
        await rsmq.list_queues()
    assert warnings() == []


@contextmanager
def silenced(name):
    logging.getLogger(name).setLevel(logging.ERROR)
    yield
    logging.getLogger(name).setLevel(logging.NOTSET)


@pytest.mark.parametrize(
    ("name", "heard"),
    [(EVICTION, [PERSISTENCE]), (PERSISTENCE, [EVICTION]), ("aiorsmq.startup", [])],
)
async def test_silenced(careless, caplog, name, heard):
    """Each is silenced by the name of its logger, all of them by that of their parent."""
    with caplog.at_level(logging.NOTSET, PERSISTENCE), silenced(name):
        async with AsyncRSMQ.from_url(careless.url) as rsmq:
            await rsmq.list_queues()
            await wait_until(lambda: asked(careless) >= 3)
            await rsmq.list_queues()
    assert [record.name for record in caplog.records] == heard


async def test_not_told(careless, warnings):
    """A user who may not ask for the settings is not warned, and works."""
    careless.redis.acl_setuser(
        "worker",
        enabled=True,
        passwords=["+pw"],
        keys=["rsmq:*"],
        channels=["rsmq:rt:*"],
        reset=True,
        reset_channels=True,
        categories=["+@all", "-@admin"],
    )
    try:
        async with AsyncRSMQ.from_url(careless.url, username="worker", password="pw") as rsmq:
            await rsmq.create_queue(qname="jobs")
            await wait_until(careless.redis.acl_log)
            await rsmq.send_message(qname="jobs", message="x")
        assert warnings() == []
    finally:
        careless.redis.acl_deluser("worker")
        careless.redis.acl_log_reset()


@pytest.mark.parametrize("protocol", [2, 3])
async def test_not_known(own_server, caplog, protocol):
    """A server without CONFIG, CLIENT and INFO is used like any other, and the log says nothing."""
    server = own_server(
        *(word for name in ("CONFIG", "CLIENT", "INFO") for word in ("--rename-command", name, ""))
    )
    client = Redis.from_url(server.url, protocol=protocol)
    with caplog.at_level(logging.NOTSET, "aiorsmq"):
        async with AsyncRSMQ(client, poll_interval=3600) as rsmq:
            await rsmq.create_queue(qname="jobs")
            asking = asyncio.ensure_future(rsmq.receive_message(qname="jobs", wait=10))
            await wait_for_listener(server)
            await rsmq.send_message(qname="jobs", message="x")
            assert await (await asking).delete()
    await client.aclose()
    assert caplog.records == []


async def test_no_round_trip_of_its_own(careless, warnings):
    """The first call does not wait for the answers; nothing is asked of the server later on."""
    async with AsyncRSMQ.from_url(careless.url, poll_interval=0.05) as rsmq:
        await rsmq.create_queue(qname="jobs")
        await wait_until(lambda: len(warnings()) == 2)
        careless.reset_stats()
        asking = asyncio.ensure_future(rsmq.receive_message(qname="jobs", wait=10))
        await wait_until(lambda: careless.script_calls() > 3)
        assert "config|get" not in careless.commands()
        await rsmq.send_message(qname="jobs", message="x")
        await (await asking).delete()


async def test_embedded(warnings):
    """An embedded server without a path is meant to keep nothing: no warning, however one connects
    to it.
    """
    async with AsyncRSMQ.from_url("embedded://") as rsmq:
        await rsmq.create_queue(qname="jobs")
    async with EmbeddedServer() as server, AsyncRSMQ.from_url(server.url) as rsmq:
        await rsmq.create_queue(qname="jobs")
        await rsmq.list_queues()
    assert warnings() == []


SETTINGS_PAGE = DOCS / "operations" / "server-settings.md"
CONF = {block.name: block.text for block in blocks(SETTINGS_PAGE) if block.language == "ini"}


def options(name):
    """A file of docs/operations/server-settings.md, as arguments of a server."""
    _, *lines = CONF[name].splitlines()
    return [word for line in lines for word in f"--{line}".split()]


async def test_settings_of_the_page(own_server, warnings):
    """A server with the settings that docs/operations/server-settings.md recommends starts, and
    gives no reason to warn; what the page leaves at its default has the default that it names.
    """
    server = own_server(*options("redis.conf"))
    async with AsyncRSMQ.from_url(server.url) as rsmq:
        await rsmq.queue("jobs").ensure()
        assert await examine(rsmq) == []
    assert warnings() == []
    text = SETTINGS_PAGE.read_text()
    rows = re.findall(r"^\| `([\w-]+)(?: pubsub)?` \| (?:`(.*?)`|empty) \|", text, re.MULTILINE)
    assert len(rows) == 9
    for name, default in rows:
        older = {"busy-reply-threshold": "lua-time-limit"}.get(name, name)
        (value,) = (server.redis.config_get(name) or server.redis.config_get(older)).values()
        assert value.rpartition("pubsub ")[2] == default, name


async def test_settings_with_replicas(own_server):
    """Without a replica, a server with the page's further settings refuses to send, at once, and a
    worker ends.
    """
    server = own_server(*options("redis.conf"), *options("replicated.conf"))
    server.redis.config_set("min-replicas-to-write", 0)
    async with AsyncRSMQ.from_url(server.url) as rsmq:
        queue = rsmq.queue("jobs")
        await queue.ensure()
        server.redis.config_set("min-replicas-to-write", 1)
        for call in (queue.send("x"), queue.worker(print).run()):
            with pytest.raises(ResponseError, match="NOREPLICAS"):
                await call
