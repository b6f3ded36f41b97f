"""Queues are listed, described, created, changed, deleted."""

import signal

from dead_letters.letters import bury
from support import ids_in, keyspace


async def test_ls(cli, rsmq):
    """`ls` says what waits in each queue; with --json for programs."""
    await rsmq.queue("jobs").ensure(max_receives=3, dead_letter_queue="dead")
    await rsmq.queue("jobs").send_many(["a", "b"])
    await rsmq.queue("jobs").receive(vt=60)
    lines = (await cli("ls")).out.splitlines()
    assert lines[0].split()[:4] == ["queue", "visible", "in", "flight"]
    assert lines[2].split()[:4] == ["jobs", "1", "1", "0"]
    dead, jobs = (await cli("ls", "--json")).json()
    assert (dead["name"], dead["messages"]) == ("dead", 0)
    assert (jobs["visible"], jobs["in_flight"], jobs["dead"]) == (1, 1, 0)
    assert jobs["stored"]["vt"] == "30"


async def test_set(inside, rsmq):
    """`set` shows each setting that changes, old and new; with --dry-run it changes nothing, and
    refuses what the change would refuse.
    """
    queue = rsmq.queue("jobs")
    await queue.ensure(max_receives=3, dead_letter_queue="dead")
    changes = ("--vt", "2m", "--delay", "0", "--max-receives", "5")
    plan = await inside("set", "jobs", *changes, "--dry-run")
    assert "dry run" in plan.err
    assert (await queue.attributes()).vt == 30
    done = await inside("set", "jobs", *changes)
    assert done.out == plan.out
    assert [line.split() for line in done.out.splitlines()[1:]] == [
        ["vt", "30", "->", "120"],
        ["max_receives", "3", "->", "5"],
    ]
    assert (await queue.attributes()).vt == 120
    removed = await inside("set", "jobs", "--dlq", "", "--dry-run")
    assert await queue.set_attributes(dead_letter_queue="")
    assert ["max_receives", "5", "->", "-"] in [line.split() for line in removed.out.splitlines()]
    assert (await queue.attributes()).max_receives is None
    wrong = await inside("set", "jobs", "--vt", "200d", "--dry-run", expect=2)
    assert "0 to 9999999" in wrong.err
    await inside("set", "jobs", expect=2)


async def test_rm(inside, rsmq):
    """`rm` deletes a queue with its messages if the user says so."""
    await rsmq.queue("jobs").create()
    await rsmq.queue("jobs").send("a")
    refusal = await inside("rm", "jobs", expect=2)
    assert "its 1 message" in refusal.err
    assert "--yes" in refusal.err
    assert await rsmq.list_queues() == {"jobs"}
    await inside("rm", "jobs", "--yes")
    assert await rsmq.list_queues() == set()
    await inside("rm", "jobs", "--yes", expect=1)
    await inside("rm", "jobs", "--yes", "--missing-ok")


async def test_purge(inside, rsmq, server):
    """`purge` deletes all messages or those that meet the conditions, and with --dry-run none."""
    queue = rsmq.queue("jobs")
    await queue.create()
    await queue.send_many(["red 1", "red 2", "blue"])
    await queue.receive(vt=60)
    reds = ("purge", "jobs", "--text", "red")
    assert "would delete 2 messages" in (await inside(*reds, "--dry-run")).out
    assert "Delete 2 messages" in (await inside(*reds, expect=2)).err
    assert len(ids_in(server)) == 3
    assert "deleted 1 message " in (await inside(*reds, "--state", "visible", "--yes")).out
    assert "deleted 0" in (await inside("purge", "jobs", "--older-than", "2h", "--yes")).out
    assert "deleted 2 messages" in (await inside("purge", "jobs", "--yes")).out
    assert ids_in(server) == []


async def test_questions(in_terminal, rsmq, server):
    """In a terminal a destructive command asks, and does nothing unless the answer is yes."""
    queue = rsmq.queue("jobs")
    await queue.create()
    await queue.send_many(["a", "b"])
    code, seen = await in_terminal("n", "purge", "jobs")
    assert (code, len(ids_in(server))) == (1, 2)
    assert "nothing was done" in seen
    code, seen = await in_terminal(signal.SIGINT, "purge", "jobs")
    assert (code, len(ids_in(server))) == (130, 2)
    assert "Interrupted" in seen
    code, seen = await in_terminal("y", "purge", "jobs")
    assert (code, ids_in(server)) == (0, [])


async def test_pause(inside, rsmq):
    """`pause` keeps consumers from receiving, which they are told, and `resume` ends that."""
    queue = rsmq.queue("jobs")
    await queue.create()
    assert (await inside("pause", "jobs")).out == "paused jobs\n"
    assert (await inside("pause", "jobs")).out == "jobs was paused already\n"
    await inside("send", "jobs", "a")
    assert "jobs is paused" in (await inside("receive", "jobs", expect=1)).err
    assert (await inside("resume", "jobs")).out == "resumed jobs\n"
    assert (await inside("resume", "jobs")).out == "jobs was not paused\n"
    assert (await queue.receive()).body == "a"


OBSERVER = """
    eval evalsha time hmget hexists hlen hscan sismember smembers zcard zcount zrange zrangebyscore
    zrank zscan zscore pubsub subscribe unsubscribe ping
"""
KEYS = ("QUEUES", "jobs", "jobs:Q", "jobs:reasons", "dead", "dead:Q", "dead:reasons")
READING = (
    *(("ls",), ("info", "jobs"), ("peek", "jobs"), ("find", "jobs", "--text", "a")),
    *(("get", "jobs", "ID"), ("dead", "jobs"), ("dead", "dead", "--list"), ("export", "jobs")),
    *(("redrive", "jobs", "--dry-run"), ("set", "jobs", "--vt", "5", "--dry-run")),
    ("purge", "jobs", "--dry-run"),
)
WRITING = (
    *(
        ("set", "jobs", "--vt", "5"),
        ("rm", "jobs", "-y"),
        ("purge", "jobs", "-y"),
        ("pause", "jobs"),
    ),
    *(("send", "jobs", "a"), ("receive", "jobs"), ("pop", "jobs"), ("delete", "jobs", "ID")),
    *(
        ("edit", "jobs", "ID", "--body", "b"),
        ("move", "jobs", "dead"),
        ("move", "jobs", "dead", "ID"),
    ),
    *(("redrive", "jobs"), ("create", "other")),
)


async def test_observer(inside, rsmq, server):
    """Who may only read can see all and change nothing, and is told so in one line."""
    jobs = rsmq.queue("jobs")
    await jobs.ensure(dead_letter_queue="dead", max_receives=3)
    await bury(jobs, "x", reason="ValueError: y")
    id = await jobs.send("a")
    commands = [f"+{command}" for command in OBSERVER.split()]
    keys = [f"~rsmq:{key}" for key in KEYS]
    acl = ("reset", "on", ">pw", "-@all", *commands, *keys, "&rsmq:rt:*")
    server.redis.execute_command("ACL", "SETUSER", "observer", *acl)
    url = server.url.replace("unix://", "unix://observer:pw@")
    before = keyspace(server)
    for command in READING:
        result = await inside(*[id if word == "ID" else word for word in command], url=url)
        assert result.out
    for command in WRITING:
        words = [id if word == "ID" else word for word in command]
        result = await inside(*words, url=url, expect=1)
        assert "no permission" in result.err.splitlines()[-1]
    assert keyspace(server) == before
    server.redis.execute_command("ACL", "DELUSER", "observer")


async def test_long_names(cli, rsmq):
    """In a narrow terminal the names give way, and not the numbers."""
    queue = rsmq.queue("q" * 100)
    await queue.ensure()
    await queue.send_many(["a"] * 1234)
    row = (await cli("ls", env={"COLUMNS": "80"})).out.splitlines()[1]
    assert len(row) <= 80
    assert "…" in row
    assert row.split()[1] == "1,234"
    head, row = (await cli("ls", env={"COLUMNS": "40"})).out.splitlines()
    assert head.split() == ["queue", "visible", "oldest", "state"]
    assert row.startswith("qqq")
    assert row.split()[1] == "1,234"


async def test_limit_without_a_dead_letter_queue(inside, rsmq):
    """Who makes a queue delete what was received too often is told."""
    for command in (["create", "jobs"], ["set", "jobs"]):
        result = await inside(*command, "--max-receives", "5")
        assert "received more than 5 times are deleted now" in result.err
    assert "deleted" not in (await inside("set", "jobs", "--dlq", "dead")).err
