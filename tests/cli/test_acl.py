"""`aiorsmq acl` prints what a role needs; an observer sees everything and changes nothing."""

import asyncio

import pytest
from aiorsmq.cli.acl import acl_line
from aiorsmq.cli.app import _COMMANDS
from aiorsmq.cli.roles import ADDITIONS, ROLES

from support import keyspace

DEAD = "the dead letter"


async def test_line(cli):
    """One line for redis-cli, with a placeholder for the password; the note goes to stderr."""
    result = await cli("acl", "worker", "--queue", "jobs", "--dlq", "dead", "--user", "bob")
    assert len(result.out.splitlines()) == 1
    assert result.out.startswith("ACL SETUSER bob reset on >PASSWORD ~rsmq:jobs ~rsmq:jobs:Q ")
    assert " &rsmq:rt:jobs &rsmq:rt:dead " in result.out
    assert "PASSWORD" in result.err
    everywhere = (await cli("acl", "observer", "--ns", "a[b")).out
    assert r"observer reset on >PASSWORD ~a\[b:* &a\[b:rt:* +eval " in everywhere
    no_queue = await cli("acl", "worker", "--dlq", "dead", expect=2)
    assert "--queue" in no_queue.err
    await cli("acl", "king", expect=2)


async def test_additions(cli):
    """What a user needs besides its role is added; sentinels have users of their own."""
    line = (await cli("acl", "producer", "--confirm", "replicas", "--confirm", "fsync")).out
    assert line.endswith(" +wait +waitaof\n")
    line = (await cli("acl", "producer", "--url", "rediss+cluster://a", "--ns", "{b}")).out
    assert line.endswith(" +cluster|slots +asking\n")
    assert " ~{b}:* " in line
    assert (await cli("acl", "worker", "--url", "redis+sentinel://a/b")).out.endswith(" +role\n")
    await cli("acl", "producer", "--confirm", "luck", expect=2)
    for url in ("redis+cluster://a", "redis-sentinel://a/b"):
        wrong = await cli("acl", "producer", "--url", url, expect=2)
        assert not wrong.out
        assert "hash tag" in wrong.err or "must start with" in wrong.err
    line = (await cli("acl", "sentinels", "--user", "app")).out
    assert line.startswith("ACL SETUSER app reset on >PASSWORD &+failover-state-send-slaveof-noone")
    assert " &+switch-master &+monitor +sentinel|master " in line
    assert "~" not in line


@pytest.mark.parametrize("role", ROLES)
async def test_accepted(server, role):
    """A server accepts the line of each role as it is."""
    additions = [name for name in ADDITIONS if name != "fsync"]  # Redis 7.0 does not know that
    for line in (
        acl_line(role, "someone"),
        acl_line(role, "someone", "rsmq", "jobs", "dead", additions),
    ):
        assert server.redis.execute_command(*line.split()) == b"OK"
        user = server.redis.execute_command("ACL", "GETUSER", "someone")
        rights = dict(zip(user[::2], user[1::2], strict=True))
        assert b"nopass" not in rights[b"flags"]
    server.redis.acl_deluser("someone")


WRITES = {
    "create": ["new"],
    "set": ["jobs", "--vt", "5"],
    "rm": ["jobs", "--yes"],
    "purge": ["jobs", "--yes"],
    "send": ["jobs", "hello"],
    "receive": ["jobs"],
    "pop": ["jobs"],
    "delete": ["jobs", "{id}"],
    "edit": ["jobs", "{id}", "--body", "new"],
    "move": ["jobs", "dead", "{id}"],
    "redrive": ["jobs"],
    "pause": ["jobs"],
    "resume": ["jobs"],
    "import": ["jobs"],
}
"""The commands that change something."""
READS = {
    "ls": [],
    "info": ["jobs"],
    "peek": ["jobs"],
    "get": ["jobs", "{id}"],
    "find": ["jobs", "--text", "body"],
    "dead": ["jobs"],
    "top": ["--once"],
    "check": ["jobs"],
    "doctor": [],
    "export": ["jobs"],
}
OTHERS = {
    "acl",  # asks no server
    "demo",  # has a server of its own
    "tail",  # never ends; reads what `find` reads
    "work",  # never ends; receives as `receive` does
    "bench",  # has queues of its own
}


def names():
    commands = [command for group in _COMMANDS.values() for command in group]
    return [command.__name__.strip("_").replace("_", "-") for command in commands]


@pytest.fixture
async def observer(server, rsmq):
    """A place where something can be changed, and the observer's environment."""
    jobs = rsmq.queue("jobs")
    await jobs.create(max_receives=1, dead_letter_queue="dead", vt=600)
    await jobs.send(DEAD)
    await jobs.receive(vt=0)
    await asyncio.sleep(0.002)
    assert await jobs.receive() is None  # it has died
    id = await jobs.send("the body")
    line = acl_line("observer", "watcher").replace("PASSWORD", "pw")
    server.redis.execute_command(*line.split())
    yield id, {"AIORSMQ_URL": server.url.replace("unix://", "unix://watcher:pw@")}
    server.redis.acl_deluser("watcher")


def test_all_commands_are_tried():
    """A command is one that reads, or one that writes; a new one is entered here."""
    assert not set(names()) - WRITES.keys() - READS.keys() - OTHERS


@pytest.mark.parametrize("name", [name for name in READS if name in names()])
async def test_observer_looks(cli, server, observer, name):
    """An observer can run each command that looks, and it changes no key."""
    id, env = observer
    before = keyspace(server)
    arguments = [word.format(id=id) for word in READS[name]]
    result = await cli(name, *arguments, env=env, expect=None)
    assert "no permission" not in result.err + result.out
    assert result.code == 0 or (name in ("check", "doctor") and result.out), result
    assert keyspace(server) == before


@pytest.mark.parametrize("name", [name for name in WRITES if name in names()])
async def test_observer_changes_nothing(cli, server, rsmq, observer, name):
    """An observer can run no command that writes, and each leaves the keys as they were."""
    id, env = observer
    before = keyspace(server)
    arguments = [word.format(id=id) for word in WRITES[name]]
    exported = b"".join([line async for line in rsmq.queue("jobs").export()])
    result = await cli(name, *arguments, input=exported, env=env, expect=1)
    assert "no permission" in result.err, result
    assert keyspace(server) == before


async def test_observer_repairs_nothing(cli, server, observer):
    """Nor can an observer repair."""
    server.redis.srem("rsmq:QUEUES", "jobs")
    _, env = observer
    before = keyspace(server)
    result = await cli("doctor", "--repair", "--yes", env=env, expect=1)
    assert "failed  jobs: not done; this user may not" in result.out
    assert keyspace(server) == before
