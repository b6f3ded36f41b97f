"""Behind sentinels no acknowledged message is lost, whatever happens to the primary."""

import asyncio
import logging
import time
from collections import Counter
from contextlib import asynccontextmanager
from functools import partial

import pytest
import redis
from aiorsmq import AsyncRSMQ, ClientClosed, InvalidParameterValue, UnsupportedServer
from aiorsmq._server import engine, lane, listener, target
from aiorsmq.cli import bench
from aiorsmq.cli.app import new_app
from aiorsmq.cli.errors import EXPECTED, NotDone, explain
from aiorsmq.cli.server import Server
from aiorsmq.pyrsmq import RedisSMQ
from aiorsmq.sync import RSMQ
from aiorsmq.testing import rsmq_test_server
from anyio.to_thread import run_sync
from redis.asyncio.sentinel import MasterNotFoundError, Sentinel
from redis.exceptions import AuthorizationError

from sets.node import fields, is_replica_of, until
from sets.sentinels import SERVICE, Sentinels
from support import PATIENCE, wait_until

_log = logging.getLogger("tests.sets")

FOREVER = 3600.0
SENDERS = 10
NEEDED = ("+sentinel|master", "+sentinel|get-master-addr-by-name", "+subscribe", "+ping")
CHANNELS = (
    *("&+failover-state-send-slaveof-noone", "&-failover-abort-slave-timeout"),
    *("&+promoted-slave", "&+switch-master", "&+monitor"),
)


@pytest.fixture(scope="module")
def running_set():
    with Sentinels(down_after=1.0) as sentinels:
        for sentinel in sentinels.sentinels:  # else a set needs ten seconds to be whole again
            sentinel.ask("SENTINEL", "DEBUG", "PUBLISH-PERIOD", "500", "INFO-PERIOD", "1000")
        yield sentinels


@pytest.fixture
def sentinels(running_set):
    """A whole set without data. Afterwards nobody is connected to it."""
    running_set.primary().redis.flushall()
    yield running_set
    for server in running_set.servers:
        if server.is_frozen:
            server.thaw()
        elif not server.is_well:
            server.start()
    running_set.wait_until_whole()
    for server in running_set.servers:
        until(f"nobody is connected to {server}", partial(is_left, server))


@pytest.fixture
async def rsmq(sentinels):
    async with AsyncRSMQ.from_url(sentinels.url, poll_interval=FOREVER) as rsmq:
        await rsmq.create_queue(qname="jobs")
        yield rsmq


@pytest.fixture
def patient(monkeypatch):
    """Silence is never noticed: only the news of a failover ends a connection."""
    monkeypatch.setattr(lane, "REPLY_TIMEOUT", FOREVER)
    monkeypatch.setattr(listener, "PING_INTERVAL", FOREVER)
    monkeypatch.setattr(target, "CONNECT_TIMEOUT", FOREVER)
    monkeypatch.setattr(target, "OPEN_TIMEOUT", FOREVER)


def is_left(server):
    """Whether only the servers of the set, and its own client, are connected to a server."""
    return all(
        client["name"].startswith("sentinel-")
        or client["flags"] in ("S", "M")
        or client["cmd"].startswith("client")
        for client in server.redis.client_list()
    )


class Traffic:
    """Senders, which can be stopped for a moment."""

    def __init__(self, queue):
        self.acknowledged = []
        self.longest_gap = 0.0
        self._queue = queue
        self._in_flight = 0
        self._may_send = asyncio.Event()
        self._may_send.set()
        self._sent_at = time.monotonic()

    async def send(self, sender):
        number = 0
        while True:
            await self._may_send.wait()
            self._in_flight += 1
            body = f"{sender}-{number}"
            await self._queue.send(body)
            self._in_flight -= 1
            self.acknowledged.append(body)
            now = time.monotonic()
            self.longest_gap = max(self.longest_gap, now - self._sent_at)
            self._sent_at = now
            number += 1
            await asyncio.sleep(0.02)

    async def pause(self):
        self._may_send.clear()
        await wait_until(lambda: not self._in_flight)

    def go_on(self):
        self._may_send.set()

    async def flow(self, count=5 * SENDERS):
        """Wait until so many more are acknowledged."""
        enough = len(self.acknowledged) + count
        await wait_until(lambda: len(self.acknowledged) >= enough)


@asynccontextmanager
async def traffic(rsmq):
    """Traffic for the block. Afterwards each acknowledged message is there, once."""
    queue = rsmq.queue("jobs")
    traffic = Traffic(queue)
    async with asyncio.TaskGroup() as group:
        senders = [group.create_task(traffic.send(sender)) for sender in range(SENDERS)]
        await traffic.flow()
        yield traffic
        await traffic.flow()
        await traffic.pause()
        for sender in senders:
            sender.cancel()
    arrived = Counter()
    while messages := await queue.receive_many(100, vt=60):
        arrived.update(message.body for message in messages)
    lost = [body for body in traffic.acknowledged if body not in arrived]
    doubled = [body for body, count in arrived.items() if count > 1]
    _log.info("%d sent, longest gap %.1f s", len(traffic.acknowledged), traffic.longest_gap)
    assert (lost, doubled) == ([], [])


async def until_replicated(primary):
    """Wait until the replica has all: what it has not is lost with the primary."""

    def is_behind():
        state = primary.redis.info("replication")
        return state["slave0"]["offset"] != state["master_repl_offset"]

    await wait_until(lambda: not is_behind())


class TestFailover:
    async def test_planned(self, sentinels, rsmq, caplog):
        """What the old primary would still accept during a planned failover waits for the new
        one. The log names both, once.
        """
        before = sentinels.primary()
        async with traffic(rsmq) as flow:
            await run_sync(sentinels.failover)
            await flow.flow()
            await run_sync(sentinels.wait_until_whole)
        (record,) = [record for record in caplog.records if "failover:" in record.message]
        assert (record.name, record.levelname) == ("aiorsmq.client", "WARNING")
        after = sentinels.primary()
        assert f"127.0.0.1:{after.port} now, it was 127.0.0.1:{before.port}" in record.message

    @pytest.mark.parametrize("fault", ["kill", "freeze"])
    async def test_unplanned(self, sentinels, rsmq, fault):
        """Calls wait until the sentinels have replaced a primary that was killed or hangs; the old
        one gets none when it is back.
        """
        before = sentinels.primary()
        async with traffic(rsmq) as flow:
            await flow.pause()
            await until_replicated(before)
            getattr(before, fault)()
            flow.go_on()
            await run_sync(sentinels.wait_for_failover, before)
            await run_sync(before.start if fault == "kill" else before.thaw)
            await run_sync(sentinels.wait_until_whole)

    async def test_consumer(self, sentinels, rsmq, patient):
        """A consumer hears of what is sent to the new primary, though its connections to the old
        one hang.
        """
        queue = rsmq.queue("jobs")
        before = sentinels.primary()
        async with AsyncRSMQ.from_url(sentinels.url) as producer:
            receiving = asyncio.create_task(queue.receive(wait=PATIENCE))
            await wait_until(lambda: before.redis.pubsub_numsub("rsmq:rt:jobs")[0][1])
            await until_replicated(before)
            before.freeze()
            await run_sync(sentinels.wait_for_failover, before)
            id = await producer.queue("jobs").send("after")
            message = await asyncio.wait_for(receiving, PATIENCE)
            assert message is not None
            assert (message.id, message.body) == (id, "after")
            assert before.is_frozen

    async def test_connecting(self, sentinels, patient):
        """A connection to a frozen primary that opens when another has taken its place, because it
        thaws, is not used.
        """
        before = sentinels.primary()
        before.freeze()
        async with AsyncRSMQ.from_url(sentinels.url, connect_timeout=PATIENCE) as rsmq:
            creating = asyncio.create_task(rsmq.create_queue(qname="jobs"))
            after = await run_sync(sentinels.wait_for_failover, before)
            before.thaw()
            await asyncio.wait_for(creating, PATIENCE)
            assert after.redis.exists("rsmq:jobs:Q")

    async def test_replica(self, sentinels):
        """A server that the sentinels take for the primary, and that is none, answers nothing: what
        it knows is of the past.
        """
        late, *others = sentinels.sentinels
        late.kill()
        before = sentinels.primary()
        after = await run_sync(sentinels.failover)
        await run_sync(until, "the old primary replicates", partial(is_replica_of, before, after))
        for sentinel in others:
            sentinel.freeze()
        await run_sync(late.start)
        assert late.state()["port"] == str(before.port)
        async with AsyncRSMQ.from_url(sentinels.url) as rsmq:
            with pytest.raises(redis.ConnectionError, match="not the primary"):
                await rsmq.list_queues()
            for sentinel in others:
                sentinel.thaw()
            await run_sync(sentinels.wait_until_whole)
            assert await rsmq.list_queues() == set()


class TestSentinels:
    @pytest.mark.parametrize("fault", ["kill", "freeze"])
    async def test_first_is_gone(self, sentinels, rsmq, fault):
        """A sentinel that is dead or hangs keeps nobody out: neither who connects, nor who has to
        connect again.
        """
        first, *_ = sentinels.sentinels
        getattr(first, fault)()
        sentinels.primary().redis.client_kill_filter(_type="normal")
        assert await rsmq.list_queues() == {"jobs"}
        async with AsyncRSMQ.from_url(sentinels.url) as late:
            assert await late.list_queues() == {"jobs"}

    async def test_all_are_gone(self, sentinels, rsmq):
        """Without sentinels, who is connected stays connected, and who is not is told; with
        `connect_timeout` it waits for them.
        """
        for sentinel in sentinels.sentinels:
            sentinel.kill()
        await rsmq.queue("jobs").send("x")
        async with AsyncRSMQ.from_url(sentinels.url) as other:
            with pytest.raises(redis.ConnectionError) as caught:
                await other.list_queues()
        assert str(caught.value).startswith("no sentinel answers: ")
        assert all(str(sentinel.port) in str(caught.value) for sentinel in sentinels.sentinels)
        async with AsyncRSMQ.from_url(sentinels.url, connect_timeout=PATIENCE) as early:
            listing = asyncio.create_task(early.list_queues())
            await asyncio.sleep(0.1)
            assert not listing.done()
            for sentinel in sentinels.sentinels:
                await run_sync(sentinel.start)
            assert await listing == {"jobs"}

    async def test_unknown_service(self, sentinels):
        """A name that the sentinels do not know is in the error, with who was asked."""
        url = sentinels.url.replace(f"/{SERVICE}", "/other")
        async with AsyncRSMQ.from_url(url) as rsmq:
            with pytest.raises(MasterNotFoundError, match="no primary named 'other' at sentinel"):
                await rsmq.list_queues()

    async def test_server_that_is_none(self, sentinels):
        """A server that is named for a sentinel is named in the error, as no sentinel."""
        port = sentinels.primary().port
        async with AsyncRSMQ.from_url(f"redis+sentinel://127.0.0.1:{port}/{SERVICE}") as rsmq:
            with pytest.raises(redis.ConnectionError, match=f"{port}: is not a sentinel"):
                await rsmq.list_queues()

    @pytest.mark.parametrize("scheme", ["redis", "redis+cluster"])
    async def test_sentinel_as_server(self, sentinels, scheme):
        """With another scheme, a sentinel is no server that has queues: the error names the URL."""
        first, *_ = sentinels.sentinels
        async with AsyncRSMQ.from_url(f"{scheme}://127.0.0.1:{first.port}", ns="{x}") as rsmq:
            with pytest.raises(UnsupportedServer, match=r"redis\+sentinel://"):
                await rsmq.list_queues()

    async def test_closing(self, sentinels, monkeypatch):
        """A client that is closed while it asks leaves no task and no connection behind."""
        monkeypatch.setattr(engine, "CLOSE_TIMEOUT", 0.2)
        before = asyncio.all_tasks()
        for sentinel in sentinels.sentinels:
            sentinel.freeze()
        rsmq = AsyncRSMQ.from_url(sentinels.url)
        listing = asyncio.create_task(rsmq.list_queues())
        await asyncio.sleep(0.1)
        assert len(asyncio.all_tasks() - before) > len(sentinels.sentinels)
        await rsmq.aclose()
        with pytest.raises(ClientClosed):
            await listing
        assert asyncio.all_tasks() == before

    async def test_login(self, sentinels):
        """The sentinels have a login of their own, with few rights; it is refused by name."""
        for sentinel in sentinels.sentinels:
            sentinel.ask("ACL", "SETUSER", "app", "reset", "on", ">s@cret", *NEEDED, *CHANNELS)
        url = f"{sentinels.url}?sentinel_username=app&sentinel_password="
        async with AsyncRSMQ.from_url(f"{url}s%40cret") as rsmq:
            await rsmq.create_queue(qname="jobs")
            heard = [partial(is_heard, sentinel) for sentinel in sentinels.sentinels]
            await wait_until(lambda: all(is_so() for is_so in heard))
        for sentinel in sentinels.sentinels:
            refused = [entry["object"] for entry in map(fields, sentinel.ask("ACL", "LOG"))]
            assert {*refused} <= {"client|setinfo"}
        async with AsyncRSMQ.from_url(f"{url}wrong") as rsmq:
            with pytest.raises(redis.AuthenticationError, match=r"^sentinel 127") as caught:
                await rsmq.list_queues()
            assert "wrong" not in str(caught.value)
        for sentinel in sentinels.sentinels:
            sentinel.ask("ACL", "SETUSER", "app", "-sentinel|master")
        async with AsyncRSMQ.from_url(f"{url}s%40cret") as rsmq:
            with pytest.raises(AuthorizationError, match=r"user needs \+sentinel\|master"):
                await rsmq.list_queues()
        for sentinel in sentinels.sentinels:
            sentinel.ask("ACL", "DELUSER", "app")
            sentinel.ask("ACL", "LOG", "RESET")

    async def test_hostname(self, sentinels):
        """Sentinels may name the primary by a host name."""
        first, *_ = sentinels.sentinels
        for option in ("resolve-hostnames", "announce-hostnames"):
            first.ask("SENTINEL", "CONFIG", "SET", option, "yes")
        port = str(sentinels.primary().port)
        first.ask("SENTINEL", "MONITOR", "named", "localhost", port, "1")
        async with AsyncRSMQ.from_url(f"redis+sentinel://127.0.0.1:{first.port}/named") as rsmq:
            assert await rsmq.list_queues() == set()
        first.ask("SENTINEL", "REMOVE", "named")
        for option in ("resolve-hostnames", "announce-hostnames"):
            first.ask("SENTINEL", "CONFIG", "SET", option, "no")


def is_heard(sentinel):
    """Whether somebody listens to all events that count."""
    return any(int(client["sub"]) == len(CHANNELS) for client in sentinel.redis.client_list())


class TestClients:
    async def test_no_role(self, sentinels):
        """A user who may not ask a server whether it is the primary is told so."""
        for node in sentinels.nodes:
            node.ask("ACL", "SETUSER", "app", "reset", "on", ">pw", "~*", "&*", "+@all", "-role")
        async with AsyncRSMQ.from_url(sentinels.url, username="app", password="pw") as rsmq:
            with pytest.raises(AuthorizationError, match=r"user needs \+role"):
                await rsmq.list_queues()
        for node in sentinels.nodes:
            node.ask("ACL", "DELUSER", "app")

    async def test_given(self, sentinels):
        """A client that redis-py's Sentinel made follows the primary in the same way, whatever its
        options, and stays the user's to close.
        """
        manager = Sentinel(
            [("127.0.0.1", 1), *sentinels.addresses],
            sentinel_kwargs={"socket_timeout": 0.5, "protocol": 3},
            decode_responses=True,
            db=3,
        )
        client = manager.master_for(SERVICE)
        async with AsyncRSMQ(client) as rsmq:
            await rsmq.create_queue(qname="jobs")
            async with traffic(rsmq):
                await run_sync(sentinels.failover)
        assert await client.exists("rsmq:jobs:Q")
        await client.aclose()
        await manager.aclose()

    async def test_given_client_of_replicas(self, sentinels):
        """Replicas take no calls: a client of them is refused."""
        client = Sentinel(sentinels.addresses).slave_for(SERVICE)
        with pytest.raises(InvalidParameterValue, match=r"use Sentinel\(...\).master_for"):
            AsyncRSMQ(client)


async def run_command(capsys, command, url):
    """What a command of the command line says, in this process."""
    error = ""
    options = {"exit_on_error": False, "result_action": "return_value"}
    try:
        await new_app("test").run_async((*command.split(), "--url", url), **options)
    except EXPECTED as raised:
        error = explain(raised)
    return capsys.readouterr().out + error


class TestWaysIn:
    async def test_command_line(self, sentinels, rsmq, capsys):
        """The command line takes their URL, and shows it without a password."""
        for node in sentinels.nodes:
            node.ask("ACL", "SETUSER", "app", "reset", "on", ">s%cret", "~*", "&*", "+@all")
        url = sentinels.url.replace("://", "://app:s%25cret@")
        wrong = url.replace("s%25cret", "wrong")
        commands = ("ls", "info jobs", "check", "doctor")
        outputs = [await run_command(capsys, command, url) for command in commands]
        outputs.append(await run_command(capsys, "ls", wrong))
        assert not any("cret" in output for output in outputs)
        listed, described, judged, examined, refused = outputs
        assert "jobs" in listed
        assert "jobs" in described
        assert judged.startswith("OK")
        assert examined == "Nothing is wrong.\n"
        assert f"service {SERVICE} at 127.0.0.1:" in refused
        assert "refuses the login" in refused
        with pytest.raises(NotDone, match="give the URL of the primary"):
            await bench.run(Server(url), bench.Options(1, 1, 1), json=False)
        for node in sentinels.nodes:
            node.ask("ACL", "DELUSER", "app")

    def test_sync(self, sentinels):
        """So does the synchronous client."""
        with RSMQ.from_url(sentinels.url) as rsmq:
            queue = rsmq.queue("jobs")
            queue.create()
            id = queue.send("x")
            assert queue.receive().id == id

    async def test_pyrsmq(self, sentinels):
        """PyRSMQ's API takes a client of them."""
        client = Sentinel(sentinels.addresses).master_for(SERVICE)
        async with RedisSMQ(client, qname="jobs") as controller:
            await controller.createQueue().exec()
            assert await controller.listQueues().exec() == {"jobs"}

    def test_kit(self, sentinels):
        """Tests can run on a set, too."""
        with rsmq_test_server(sentinels.url) as server, server.namespace() as ns:
            server.create_queue(ns, "jobs")
            assert server.redis.exists(f"{ns}:jobs:Q")
        assert not sentinels.primary().redis.keys("*")
