"""`aiorsmq doctor` says what is wrong and what to do; `--repair` does what needs no decision."""

import shlex

import pytest
from aiorsmq import AsyncRSMQ
from aiorsmq.cli.doctor import adapt
from aiorsmq.cli.server import Server

MESSAGE = "fo0bar1q2w" + "Zz9" * 7 + "A"


@pytest.fixture
async def broken(server, rsmq):
    """A queue with a message that has no place, and one whose name nobody lists."""
    await rsmq.queue("jobs").create()
    server.redis.hset("rsmq:jobs:Q", MESSAGE, "body")
    await rsmq.queue("mail").create()
    server.redis.srem("rsmq:QUEUES", "mail")


@pytest.mark.foreign_data
async def test_screen(cli, rsmq, server, broken):
    """Worst first; the evidence in lines that fit, each command in one line to be copied."""
    await rsmq.queue("jobs").set_attributes(vt=30_000)
    result = await cli("doctor", env={"COLUMNS": "60"}, expect=1)
    blocks = result.out.split("\n\n")
    assert [block.split()[:3] for block in blocks[:2]] == [
        ["critical", "jobs", "stranded-bodies"],
        ["warning", "the", "server"],
    ]
    assert MESSAGE in blocks[0]
    assert blocks[0].endswith("      do: aiorsmq doctor jobs --repair --yes")
    assert blocks[-1].startswith("1 critical, 3 warning\n")
    assert "do: aiorsmq set jobs --vt 30\n" in result.out
    prose = [line for line in result.out.splitlines() if "do: " not in line]
    assert max(map(len, prose)) <= 60
    assert not [line for line in result.out.splitlines() if line.endswith(" ")]


async def test_json(cli, rsmq, queue):
    """With --json each finding has its fields. What is only good to know is exit code 0."""
    server = (await cli("doctor", "--json", expect=1)).json()
    assert [finding["code"] for finding in server] == ["no-persistence"]
    rsmq_url = server[0]["remedy"].split()
    assert rsmq_url[:2] == ["redis-cli", "-s"]


async def test_nothing_wrong(cli, own_server):
    """A server and queues that are well: exit code 0; info only: too."""
    server = own_server("--appendonly", "yes")
    env = {"AIORSMQ_URL": server.url}
    await cli("create", "jobs", env=env)
    assert (await cli("doctor", env=env)).out == "Nothing is wrong.\n"
    server.redis.hset("rsmq:jobs:Q", "maxsize", 65565)
    result = await cli("doctor", "jobs", "--watch", "0.1", env=env)
    assert "maxsize-of-pyrsmq" in result.out
    assert result.out.endswith("\n1 info\n")
    missing = await cli("doctor", "nothing", env=env, expect=1)
    assert missing.out == ""
    assert "'nothing' does not exist" in missing.err


async def test_repair(cli, rsmq, server, broken):
    """It says what it will do, does nothing unless it may, and then says what it has done."""
    plan = "jobs: will put the messages back, visible now"
    refused = await cli("doctor", "--repair", expect=2)
    assert plan in refused.out
    assert "use --yes" in refused.err
    assert server.redis.zcard("rsmq:jobs") == 0
    result = await cli("doctor", "--repair", "--yes")
    assert plan in result.out
    assert "done  jobs: put 1 message back" in result.out
    assert "done  mail: added its name to the set of all queues" in result.out
    assert (await rsmq.queue("jobs").receive()).body == "body"
    assert (await cli("doctor", "--repair", "--yes")).out == "Nothing to repair.\n"


async def test_repair_json(cli, server, broken):
    """With --json it prints what was done."""
    results = (await cli("doctor", "--repair", "--yes", "--json")).json()
    assert {(result["finding"]["queue"], result["is_done"]) for result in results} == {
        ("jobs", True),
        ("mail", True),
    }


async def test_flags_in_commands(cli, server):
    """The commands are for the server and the namespace that were named, without a password."""
    server.redis.hset("other:jobs:Q", mapping={"vt": 2.5, "delay": 0, "maxsize": 65536})
    server.redis.sadd("other:QUEUES", "jobs")
    nowhere = {"AIORSMQ_URL": "redis://127.0.0.1:1"}
    arguments = ("--ns", "other", "--url", server.url)
    result = await cli("doctor", *arguments, "--json", env=nowhere, expect=1)
    remedies = [finding["remedy"] for finding in result.json()]
    command = f"aiorsmq set jobs --vt 2 --ns other --url {shlex.quote(server.url)}"
    assert remedies == [f"redis-cli -s {server.socket} CONFIG SET appendonly yes", command]
    await cli(*shlex.split(command)[1:], env=nowhere)
    assert server.redis.hget("other:jobs:Q", "vt") == b"2"
    server.redis.execute_command("ACL", "SETUSER", "someone", "on", ">s3cret", "+@all", "~*", "&*")
    server.redis.hset("rsmq:jobs:Q", mapping={"vt": 2.5, "delay": 0, "maxsize": 65536})
    url = server.url.replace("unix://", "unix://someone:s3cret@")
    result = await cli("doctor", "jobs", "--url", url, "--json", env=nowhere, expect=1)
    server.redis.acl_deluser("someone")
    command = f"aiorsmq set jobs --vt 2 --url {url.replace('s3cret', 'PASSWORD')}"
    assert command in [finding["remedy"] for finding in result.json()]
    assert "s3cret" not in result.out + result.err


async def test_commands_are_for_the_same_server(monkeypatch):
    """A command to be copied is for the server that was looked at, never for the default one; with
    PASSWORD for its password."""
    monkeypatch.setenv("AIORSMQ_URL", "redis://usual")
    for url, shown in (
        ("redis://usual", None),
        ("redis://ann:s3cret@db:1/2", "redis://ann:PASSWORD@db:1/2"),
        ("rediss://:s3cret@db", "rediss://:PASSWORD@db"),
        ("redis://s3cret@db", "redis://:PASSWORD@db"),
        ("redis://db?protocol=2&password=s3cret", "'redis://db?protocol=2&password=PASSWORD'"),
        ("unix:///tmp/socket?password=s3cret", "'unix:///tmp/socket?password=PASSWORD'"),
    ):
        async with AsyncRSMQ.from_url(url) as rsmq:
            flags = f" --url {shown}" if shown else ""
            command = adapt("aiorsmq resume jobs", rsmq, Server(url))
            assert command == f"aiorsmq resume jobs{flags}"
            has_tls = "--tls" in adapt("redis-cli CONFIG GET save", rsmq, Server(url)).split()
            assert has_tls == url.startswith("rediss")
