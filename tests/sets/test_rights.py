"""A user behind sentinels, or in a cluster, with the lines that `aiorsmq acl` prints."""

from contextlib import aclosing

import anyio
import pytest
from aiorsmq import AsyncRSMQ, NotPermitted
from aiorsmq._server.sentinels import EVENTS
from aiorsmq.cli.acl import SENTINELS, acl_line
from aiorsmq.cli.roles import AT_SENTINELS
from redis.exceptions import AuthorizationError

from permissions.calls import Place, send_again, send_confirmed_again
from permissions.rights import OPTIONAL, ROLES, refused_meanwhile
from support import PATIENCE

NS = "{rsmq}"


@pytest.fixture
def anyio_backend():
    """One event loop is enough: what is refused is the servers' affair."""
    return "asyncio", {"debug": True}


@pytest.fixture
def grant():
    """`grant(servers, line)` gives a user the rights of a line, without the commands in `without`,
    and begins their logs of refusals; `grant.all(servers)` gives all.
    """
    users = []

    def grant(servers, line, without=()):
        words = line.replace("PASSWORD", "pw").split()
        for server in servers:
            server.ask(*(word for word in words if word not in without))
            server.redis.acl_log_reset()
            users.append((server, words[2]))

    yield grant
    for server, user in users:
        server.redis.acl_deluser(user)


def log_in(url, user="someone", **options):
    url = url.replace("://", f"://{user}:pw@")
    return AsyncRSMQ.from_url(url, poll_interval=0.02, deadline=PATIENCE, **options)


@pytest.mark.parametrize("name", ["producer", "confirming producer", "consumer", "worker"])
async def test_behind_sentinels(sentinels, grant, name):
    """Behind sentinels a user needs ROLE besides, and one of the sentinels' own to ask them: with
    that it can do all that its role is for, and nothing is refused to it.
    """
    primary = sentinels.primary()
    role = ROLES[name]
    confirms = name == "confirming producer"
    additions = ["sentinel", "replicas"] if confirms else ["sentinel"]
    line = acl_line(name.split()[-1], "someone", "rsmq", "jobs", "dead", additions)
    for call in (*role.calls, *role.programs):
        if call in (send_again, send_confirmed_again):  # connections must be cut
            continue
        primary.redis.flushall()
        grant([primary], line)
        grant(sentinels.sentinels, acl_line(SENTINELS, "watcher"))
        login = {"sentinel_username": "watcher", "sentinel_password": "pw"}
        async with (
            AsyncRSMQ.from_url(primary.url) as own,
            log_in(sentinels.url, **login) as user,
            aclosing(call(Place(primary, None, own, user, []))) as steps,
        ):
            await anext(steps)
            with anyio.fail_after(PATIENCE):
                await anext(steps, None)
        for server in (primary, *sentinels.sentinels):
            assert refused_meanwhile(server) <= OPTIONAL, call.__name__


async def test_without_role(sentinels, grant):
    """Without ROLE it is told so."""
    grant(sentinels.nodes, acl_line("producer", "someone"))
    async with log_in(sentinels.url) as user:
        with pytest.raises(AuthorizationError, match=r"behind sentinels the user needs \+role"):
            await user.queue("jobs").send("x")


@pytest.mark.parametrize("command", AT_SENTINELS.required.split())
async def test_without_a_question(sentinels, grant, command):
    """Without the right to ask sentinels it is told what to grant there."""
    grant(sentinels.sentinels, acl_line(SENTINELS, "watcher"), [f"+{command}"])
    login = {"sentinel_username": "watcher", "sentinel_password": "pw"}
    async with AsyncRSMQ.from_url(sentinels.url, **login) as user:
        with pytest.raises(AuthorizationError, match=rf"needs .*\+{command}".replace("|", r"\|")):
            await user.list_queues()


def test_events():
    """Its channels are the events that a client listens to."""
    assert AT_SENTINELS.channels.encode().split() == [*EVENTS]


async def use(jobs):
    """What a worker's client does, by single calls; its queue has one message."""
    await jobs.send("x")
    message = await jobs.receive()
    assert await message.extend(60)
    assert await message.delete()
    await jobs.pop()


COMMANDS = "hmget hset zadd time eval zrem hdel zmscore zrangebyscore"


@pytest.mark.parametrize("command", COMMANDS.split())
async def test_in_a_cluster(cluster, grant, command):
    """In a cluster, too, a call for which a command is missing names it, the script and the
    queue.
    """
    owner = cluster.owner_of(NS)
    owner.redis.flushall()
    line = acl_line("worker", "someone", NS, additions=["cluster"])
    async with AsyncRSMQ.from_url(cluster.url, ns=NS) as own:
        await own.create_queue(qname="jobs")
        await own.queue("jobs").send("first")
    grant(cluster.nodes, line)
    async with log_in(cluster.url, ns=NS) as user:
        await use(user.queue("jobs"))
        await user.queue("jobs").send("second")
    assert refused_meanwhile(owner) <= OPTIONAL
    for node in cluster.nodes:
        node.redis.script_flush()
    grant(cluster.nodes, line, [f"+{command}"])
    async with log_in(cluster.url, ns=NS) as user:
        with pytest.raises(NotPermitted) as refused:
            await use(user.queue("jobs"))
    error = refused.value
    assert (error.command, error.grant, error.qname) == (command.upper(), f"+{command}", "jobs")
    assert error.script in ("send", "receive", "change_visibility", "delete")
