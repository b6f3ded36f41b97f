"""A client of a cluster: what it does while slots move and nodes die."""

import asyncio
import logging
import sys
from contextlib import aclosing
from pathlib import Path

import pytest
import redis
from aiorsmq import (
    AsyncRSMQ,
    ClientClosed,
    InvalidParameterValue,
    NotPermitted,
    UnsupportedServer,
)
from aiorsmq._protocol import id_time
from aiorsmq._server import cluster as engine
from aiorsmq._server import lane
from aiorsmq.cli.acl import acl_line
from aiorsmq.testing import rsmq_test_server
from redis.asyncio import RedisCluster

from managed.test_credentials import Streaming, streaming
from sets.cluster import Cluster
from sets.conftest import keep_logs
from sets.load import FAULTS, NS, SLOT, Load, other_than
from sets.node import until
from support import PATIENCE, free_port, wait_until

FAKETIME = list(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
NAME = "ours"
"""What all connections of a client say that they are."""


@pytest.fixture(scope="module")
def cluster(request):
    """A cluster that goes on while a node is away."""
    with Cluster("--cluster-require-full-coverage", "no") as cluster:
        yield from keep_logs(cluster, request)


@pytest.fixture
def url(cluster):
    """Of an empty cluster. Afterwards no connection may be left."""
    for node in cluster.primaries():
        node.ask("FLUSHALL")
    yield f"{cluster.url}?client_name={NAME}"
    until("no connection is left", lambda: not any(map(connections, cluster.nodes)))


@pytest.fixture
async def rsmq(url):
    async with AsyncRSMQ.from_url(url, ns=NS, poll_interval=3600) as rsmq:
        yield rsmq


@pytest.fixture
async def queue(rsmq):
    queue = rsmq.queue("jobs")
    await queue.create()
    return queue


def connections(node, type="normal"):
    return (
        [client for client in node.redis.client_list(_type=type) if client["name"] == NAME]
        if node.is_well
        else []
    )


def far_tag(cluster):
    """A namespace whose slot is on another node."""
    owner = cluster.owner(SLOT)
    tags = (f"{{far-{number}}}" for number in range(100))
    return next(tag for tag in tags if cluster.owner_of(tag) is not owner)


async def listening_node(nodes):
    """The node that a client listens to."""

    def find():
        return next((node for node in nodes if connections(node, "pubsub")), None)

    return await wait_until(find)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
async def test_fault_under_load(cluster, rsmq, url, fault):
    """Nothing that was acknowledged is lost or doubled, no call fails, and a consumer receives on:
    when slots move, when nodes fail, hang and come back, and when scripts are forgotten."""
    async with Load(cluster, rsmq, url) as load:
        await fault(cluster, cluster.owner(SLOT), load)
        await load.some_more()
        await asyncio.to_thread(cluster.wait_until_whole)
        await load.some_more()


async def test_hung_node(cluster, queue, url):
    """A node that hangs holds up its own slots only, and these until its replica has taken over."""
    owner = cluster.owner(SLOT)
    async with AsyncRSMQ.from_url(url, ns=far_tag(cluster)) as far:
        await far.queue("jobs").create()
        owner.freeze()
        waiting = asyncio.create_task(queue.send("x"))
        for _ in range(20):
            await far.queue("jobs").send("x")
        assert not waiting.done()
        await asyncio.to_thread(cluster.wait_for_failover, SLOT, owner)
        await waiting
    owner.thaw()
    assert await queue.receive() is not None
    await asyncio.to_thread(cluster.wait_until_whole)


async def test_moved_once(cluster, queue, caplog):
    """One call is told that a slot has moved; those after it go where it is. The log says so."""
    caplog.set_level(logging.INFO, "aiorsmq.client")
    source = cluster.owner(SLOT)
    target = other_than(cluster, source)
    await asyncio.to_thread(cluster.move, SLOT, target)
    source.ask("CONFIG", "RESETSTAT")
    for _ in range(3):
        await queue.send("x")
    assert source.redis.info("errorstats")["errorstat_MOVED"]["count"] == 1
    said = f"slot {SLOT} is at 127.0.0.1:{target.port} now, it was at 127.0.0.1:{source.port}"
    assert caplog.messages.count(said) == 1


async def test_slot_on_its_way(cluster, queue, url):
    """While a slot is being moved, calls go to the node that has the queue already, and to the
    other one for queues that it still has."""
    staying = queue
    source = cluster.owner(SLOT)
    target = other_than(cluster, source)
    await staying.send("here")
    async with AsyncRSMQ.from_url(url, ns=NS, deadline=5) as gone:
        moved = gone.queue("moved")
        await moved.create()
        await moved.send("there")
        cluster.begin_move(SLOT, source, target)
        for key in ("moved", "moved:Q"):
            cluster.move_key(f"{NS}:{key}", source, target)
        await asyncio.gather(*(moved.send(f"{number}") for number in range(20)))
        assert (await moved.receive()).body == "there"
        assert (await staying.receive()).body == "here"
        assert cluster.owner(SLOT) is source
    cluster.finish_move(SLOT, source, target)


async def test_pop_on_its_way(cluster, queue, url, monkeypatch):
    """A pop that is sent on to a node which was not heard for long waits for its reply to a PING,
    as any pop does: it does not fail, and a node that hangs does not make it later, for nobody."""
    monkeypatch.setattr(lane, "QUIET", -1.0)
    monkeypatch.setattr(lane, "PONG_TIMEOUT", 0.3)  # well before the cluster takes it for dead
    source = cluster.owner(SLOT)
    target = other_than(cluster, source)
    await queue.send_many(["first", "second"])
    cluster.begin_move(SLOT, source, target)
    for key in ("jobs", "jobs:Q"):
        cluster.move_key(f"{NS}:{key}", source, target)
    assert (await queue.pop()).body == "first"
    target.freeze()
    popping = asyncio.create_task(queue.pop())
    await asyncio.wait([popping], timeout=0.6)
    target.thaw()
    assert (await popping).body == "second"
    cluster.finish_move(SLOT, source, target)
    await asyncio.to_thread(cluster.wait_until_whole)


async def test_half_a_queue(cluster, queue, url):
    """A queue whose keys are on both nodes is waited for: a call until its deadline, a stream as
    long as it takes."""
    source = cluster.owner(SLOT)
    target = other_than(cluster, source)
    async with AsyncRSMQ.from_url(url, ns=NS, deadline=0.5, poll_interval=0.1) as hasty:
        receiving = asyncio.create_task(anext(aiter(hasty.queue("jobs").messages())))
        await listening_node(cluster.nodes)
        cluster.begin_move(SLOT, source, target)
        cluster.move_key(f"{NS}:jobs:Q", source, target)
        with pytest.raises(redis.exceptions.TryAgainError, match="'jobs' is being moved"):
            await hasty.queue("jobs").send("x")
        sending = asyncio.create_task(queue.send("y"))
        await asyncio.sleep(0.1)
        assert not sending.done()
        assert not receiving.done()
        cluster.finish_move(SLOT, source, target)
        await sending
        assert (await receiving).body == "y"


async def test_listening_node_dies(cluster, queue):
    """The subscription moves to another node when its own dies."""
    async with aclosing(queue.messages()) as messages:
        receiving = asyncio.create_task(anext(messages))
        node = await listening_node(cluster.nodes)
        while node is cluster.owner(SLOT):  # its death has been tested
            await asyncio.to_thread(cluster.move, SLOT, other_than(cluster, node))
        node.kill()
        assert await listening_node(cluster.nodes) is not node
        await queue.send("x")
        assert (await receiving).body == "x"
    await asyncio.to_thread(node.start)
    await asyncio.to_thread(cluster.wait_until_whole)


async def test_listening_node_leaves(cluster, queue, url, monkeypatch):
    """The subscription moves on when its node is well, but in the cluster no more."""
    monkeypatch.setattr(engine, "MAP_AGE", 0.2)
    async with (
        AsyncRSMQ.from_url(url, ns=NS, poll_interval=3600) as rsmq,
        aclosing(rsmq.queue("jobs").messages()) as messages,
    ):
        receiving = asyncio.create_task(anext(messages))
        replicas = [node for node in cluster.nodes if not node.part().is_primary]
        while (node := await listening_node(cluster.nodes)) not in replicas:
            node.redis.client_kill_filter(_type="pubsub")
            await wait_until(lambda node=node: not connections(node, "pubsub"))
        primary = next(other for other in cluster.nodes if other.id == node.part().primary)
        id = node.id
        node.ask("CLUSTER", "RESET", "HARD")
        others = [other for other in cluster.nodes if other is not node]
        for other in others:
            other.ask("CLUSTER", "FORGET", id)
        assert await listening_node(others) is not node
        await queue.send("x")
        assert (await receiving).body == "x"
    others[0].ask("CLUSTER", "MEET", "127.0.0.1", node.port, node.bus)
    await asyncio.to_thread(
        until, "it replicates", lambda: node.ask("CLUSTER", "REPLICATE", primary.id)
    )
    await asyncio.to_thread(cluster.wait_until_whole)


async def test_clocks_that_differ(cluster, queue, caplog):
    """Each node has its own time: ids carry that of the node that stores them, and no clock is said
    to have jumped."""
    replica = cluster.replica_of(cluster.owner(SLOT))
    if not FAKETIME or replica.redis.info("memory")["mem_allocator"] != "libc":
        pytest.skip("needs libfaketime, and a server whose allocator does not ask for the time")
    command = replica._command
    await restart(cluster, replica, ["env", f"LD_PRELOAD={FAKETIME[0]}", "FAKETIME=+60s", *command])
    before = await queue.send("x")
    await asyncio.to_thread(cluster.failover, cluster.owner(SLOT))
    after = await queue.send("x")
    assert 59 < id_time(after) - id_time(before) < 61 + PATIENCE
    assert "jumped" not in caplog.text
    await asyncio.to_thread(cluster.failover, replica)
    assert id_time(await queue.send("x")) < id_time(after)
    await restart(cluster, replica, command)


async def restart(cluster, node, command):
    await asyncio.to_thread(cluster.wait_until_whole)
    node.kill()
    node._command = command
    await asyncio.to_thread(node.start)
    await asyncio.to_thread(cluster.wait_until_whole)


async def test_dead_and_hung_nodes_at_first(cluster, url, queue):
    """A client connects if one of the nodes that it is given is well, whichever that is."""
    well = other_than(cluster, cluster.owner(SLOT))
    hung = cluster.replica_of(cluster.owner(SLOT))
    hung.freeze()
    hosts = [f"127.0.0.1:{port}" for port in (free_port(), hung.port, well.port)]
    async with AsyncRSMQ.from_url(f"redis+cluster://{','.join(hosts)}", ns=NS) as rsmq:
        await rsmq.queue("jobs").send("x")
        assert rsmq.address == ",".join(hosts)
    hung.thaw()
    await asyncio.to_thread(cluster.wait_until_whole)


async def test_no_node_at_all():
    """Without one, calls fail as those of a client of one server do."""
    url = f"redis+cluster://:secret@localhost:{free_port()},localhost:{free_port()}"
    async with AsyncRSMQ.from_url(url, ns=NS) as rsmq:
        with pytest.raises(redis.ConnectionError):
            await rsmq.list_queues()
        assert "secret" not in repr(rsmq)


async def test_names_that_are_not_known(cluster, queue, rsmq):
    """Nodes that are to be reached by names, but were given none, are reached at the host of the
    node that tells of them."""
    for node in cluster.nodes:
        node.ask("CONFIG", "SET", "cluster-preferred-endpoint-type", "hostname")
    source = cluster.owner(SLOT)
    target = other_than(cluster, source)
    await asyncio.to_thread(cluster.move, SLOT, target)
    await queue.send("x")
    routes = rsmq._engine._routes
    assert set(routes._by_address) <= {*cluster.addresses}
    for node in cluster.nodes:
        node.ask("CONFIG", "SET", "cluster-preferred-endpoint-type", "ip")


async def test_busy_node_at_first(cluster, queue):
    """A node that a script of others keeps busy is waited for."""
    node = cluster.owner(SLOT)
    node.ask("CONFIG", "SET", "lua-time-limit", "1")
    busy = redis.Redis(port=node.port, socket_timeout=PATIENCE)
    working = asyncio.create_task(asyncio.to_thread(busy.eval, "while true do end", 0))
    await asyncio.to_thread(until, "it is busy", lambda: is_busy(node))
    async with AsyncRSMQ.from_url(f"redis+cluster://127.0.0.1:{node.port}", ns=NS) as rsmq:
        sending = asyncio.create_task(rsmq.queue("jobs").send("x"))
        await asyncio.wait([sending], timeout=0.3)
        node.ask("SCRIPT", "KILL")
        await sending
    with pytest.raises(redis.ResponseError, match="killed"):
        await working
    busy.close()


def is_busy(node):
    try:
        node.ask("PING")
    except redis.ResponseError as error:
        return "BUSY" in str(error)
    return False


async def test_given_cluster(cluster, queue):
    """A RedisCluster that is given lends its settings, and stays its user's to close."""
    async with RedisCluster("127.0.0.1", cluster.nodes[4].port, decode_responses=True) as own:
        async with AsyncRSMQ(own, ns=NS) as rsmq:
            await rsmq.queue("jobs").send("x")
        assert await own.hget(f"{NS}:jobs:Q", "totalsent") == "1"


@streaming
async def test_given_cluster_with_a_token(cluster, queue):
    """New credentials reach the connections of the RedisCluster that was given, as well."""
    for node in cluster.nodes:
        for name in ("first", "second"):
            node.ask("ACL", "SETUSER", name, "reset", "on", f">{name}", "~*", "&*", "+@all")
    provider = Streaming("first")
    port = cluster.owner(SLOT).port
    async with RedisCluster("127.0.0.1", port, credential_provider=provider) as own:
        await own.get(NS)
        async with AsyncRSMQ(own, ns=NS) as rsmq:
            await rsmq.queue("jobs").send("x")
            await provider.renew("second")
            node = own.get_node_from_key(NS)
            assert await own.execute_command("ACL WHOAMI", target_nodes=node) == "second"
            await wait_until(lambda: logins(cluster.owner(SLOT)).count("second") == 2)  # with ours
    for node in cluster.nodes:
        node.ask("ACL", "DELUSER", "first", "second")


def logins(node):
    """Who is logged in on each connection."""
    return [client["user"] for client in node.redis.client_list(_type="normal")]


async def test_looking_around(cluster, rsmq, queue):
    """What looks at the server looks at the node of the queues; those who listen are counted on all
    nodes."""
    async with aclosing(queue.messages()) as messages:
        receiving = asyncio.create_task(anext(messages))
        while await listening_node(cluster.nodes) is cluster.owner(SLOT):
            cluster.owner(SLOT).redis.client_kill_filter(_type="pubsub")
            await wait_until(lambda: not connections(cluster.owner(SLOT), "pubsub"))
        (look,) = await rsmq.snapshots()
        assert look.consumers == 1
        await queue.send("x")
        await receiving
    cluster.owner(SLOT).ask("SREM", f"{NS}:QUEUES", "jobs")
    assert await rsmq.find_unlisted() == ["jobs"]
    assert (await rsmq.server_info()).role == "master"


async def test_command_line(cluster, queue, url):
    """The command line takes the URL of a cluster."""
    for word, output in (("ls", b"jobs"), ("doctor", b"Nothing is wrong")):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "aiorsmq", word, "--url", url, "--ns", NS),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        assert output in (await process.communicate())[0]


def test_kit(url):
    """The kit for tests takes a cluster, too: each test has a namespace with a tag."""
    with rsmq_test_server(url) as server:
        with server.namespace() as ns:
            server.create_queue(ns, "jobs", vt=5)
            assert server.redis.hget(f"{ns}:jobs:Q", "vt") == b"5"
        assert list(server.redis.scan_iter(f"{ns}:*")) == []


class TestRefused:
    """What cannot work in a cluster is refused before anything is sent."""

    @pytest.mark.parametrize("ns", ["rsmq", "{}", "{}rsmq", "a{b}c{d}", "{a", "a}", "}a{", "{{a}}"])
    async def test_namespace(self, ns):
        """A namespace has one hash tag, with something in it."""
        with pytest.raises(InvalidParameterValue, match=r'"\{rsmq\}" for all queues') as caught:
            AsyncRSMQ.from_url("redis+cluster://host", ns=ns)
        assert caught.value.parameter == "ns"

    def test_suggestion(self):
        """The error says what to write instead of the namespace that was given."""
        with pytest.raises(
            InvalidParameterValue, match=r'"\{shop\}" for .* "shop:\{jobs\}" for each'
        ):
            AsyncRSMQ.from_url("redis+cluster://host", ns="shop")

    async def test_database(self):
        """A cluster has database 0 alone."""
        for url, options in (("host/1", {}), ("host?db=1", {}), ("host", {"db": 1})):
            with pytest.raises(InvalidParameterValue, match=r"a cluster has no other|in a cluster"):
                AsyncRSMQ.from_url(f"redis+cluster://{url}", ns=NS, **options)

    @pytest.mark.parametrize("hosts", ["a,,b", ",a", "a,", "a:x", "a,b:70000", "a b"])
    def test_hosts(self, hosts):
        """What is wrong with a URL is said, and no password with it."""
        for scheme in ("redis", "rediss", "valkey", "valkeys"):
            with pytest.raises(InvalidParameterValue) as caught:
                AsyncRSMQ.from_url(f"{scheme}+cluster://:secret@{hosts}", ns=NS)
            assert "secret" not in str(caught.value)
            assert f"{scheme}+cluster://..." in str(caught.value)

    async def test_blocking_client(self):
        """The client is redis-py's asynchronous one."""
        blocking = redis.RedisCluster.__new__(redis.RedisCluster)
        with pytest.raises(InvalidParameterValue, match=r"must be a redis\.asyncio\.RedisCluster"):
            AsyncRSMQ(blocking, ns=NS)

    async def test_server_without_cluster(self, own_server):
        """A server that is in no cluster needs another URL."""
        port = free_port()
        own_server("--port", str(port))
        async with AsyncRSMQ.from_url(f"redis+cluster://127.0.0.1:{port}", ns=NS) as rsmq:
            with pytest.raises(UnsupportedServer, match="use a redis:// URL"):
                await rsmq.list_queues()


@pytest.fixture
async def user(cluster):
    """Another's client; `user.grant(*rules)` gives it these rights everywhere, and no others."""

    def grant(*rules):
        for node in cluster.nodes:
            node.ask("ACL", "SETUSER", "someone", "reset", "on", ">pw", "resetchannels", *rules)
            node.ask("ACL", "LOG", "RESET")

    async with AsyncRSMQ.from_url(
        cluster.url.replace("//", "//someone:pw@"), ns=NS, deadline=5
    ) as rsmq:
        rsmq.grant = grant
        yield rsmq
    for node in cluster.nodes:
        node.ask("ACL", "DELUSER", "someone")


@pytest.mark.parametrize("role", ["producer", "worker"])
async def test_rights(cluster, queue, user, role):
    """In a cluster, a user needs `asking` and `cluster|slots` besides the words of its role."""
    rules = acl_line(role, "someone", NS, "jobs", "dead", ["cluster"]).split()[5:]
    user.grant(*rules)
    jobs = user.queue("jobs")
    await jobs.send("x")
    source = cluster.owner(SLOT)
    target = other_than(cluster, source)
    cluster.begin_move(SLOT, source, target)
    for key in ("jobs", "jobs:Q"):
        cluster.move_key(f"{NS}:{key}", source, target)
    await jobs.send("x")
    cluster.finish_move(SLOT, source, target)
    await jobs.send("x")
    refused = {entry["object"] for node in cluster.nodes for entry in node.redis.acl_log()}
    assert refused <= {"config|get", "client|setinfo"}


async def test_login_refused_on_the_way(cluster, queue, user):
    """A node to which a slot is being moved, and that does not know a new password yet, is waited
    for."""
    user.grant("allkeys", "allchannels", "+@all")
    await user.queue("jobs").send("x")
    source = cluster.owner(SLOT)
    target = other_than(cluster, source)
    target.ask("ACL", "SETUSER", "someone", "resetpass", ">other")
    cluster.begin_move(SLOT, source, target)
    for key in ("jobs", "jobs:Q"):
        cluster.move_key(f"{NS}:{key}", source, target)
    sending = asyncio.create_task(user.queue("jobs").send("y"))
    await asyncio.wait([sending], timeout=0.3)
    target.ask("ACL", "SETUSER", "someone", ">pw")
    await sending
    cluster.finish_move(SLOT, source, target)


async def test_sent_on_after_the_end(cluster, queue, rsmq):
    """A call that is sent on to another node while the client closes opens no connection."""
    await rsmq.aclose()
    with pytest.raises(ClientClosed):
        rsmq._engine._routes.redirected("127.0.0.1", free_port(), None)


async def test_without_rights(cluster, queue, user, url):
    """Without them, the error names what is missing."""
    user.grant("allkeys", "+@all", "-cluster|slots")
    with pytest.raises(
        NotPermitted, match=r"denies command CLUSTER\|SLOTS; grant \+cluster\|slots"
    ):
        await user.queue("jobs").send("x")
    user.grant("allkeys", "+@all", "-asking")
    source = cluster.owner(SLOT)
    target = other_than(cluster, source)
    cluster.begin_move(SLOT, source, target)
    for key in ("jobs", "jobs:Q"):
        cluster.move_key(f"{NS}:{key}", source, target)
    with pytest.raises(NotPermitted, match=r"grant \+asking"):
        await user.queue("jobs").send("x")
    cluster.finish_move(SLOT, source, target)
