"""Dead letters are looked at by why they died, and sent back, from the command line."""

import signal

import pytest

from dead_letters.letters import bury
from support import ids_in, keyspace, wait_until


@pytest.fixture
async def dead(rsmq):
    for name in ("jobs", "mails"):
        await rsmq.create_queue(qname=name, dead_letter_queue="dead")
    return rsmq.queue("dead")


async def test_dead(inside, rsmq, dead):
    """`dead` takes the queue or its dead-letter queue, and groups by reason, or lists; both also as
    JSON.
    """
    assert "no dead letters" in (await inside("dead", "jobs")).err
    (first, _) = await bury(rsmq.queue("jobs"), "a", "b", reason="ValueError: [red] 1")
    await bury(rsmq.queue("mails"), "c", reason="ValueError: 2")
    await bury(rsmq.queue("mails"), "d", reason="TimeoutError")
    await dead.send("direct")
    result = await inside("dead", "jobs")
    assert result.err == "dead letters of jobs: queue dead\n"
    rows = [line.split() for line in result.out.splitlines()[1:]]
    assert rows[0][:4] == ["ValueError", "3", "jobs,", "mails"]
    assert rows[0][-3:] == ["[red]", "1", first]
    assert [row[0] for row in rows[1:]] == ["(not", "TimeoutError"]
    by_itself = await inside("dead", "dead", "--json")
    assert [(group["group"], group["count"]) for group in by_itself.json()] == [
        ("ValueError", 3),
        ("", 1),
        ("TimeoutError", 1),
    ]
    letters = await inside("dead", "dead", "--list", "--limit", "2", "--json")
    assert [letter["body"] for letter in letters.json()] == ["a", "b"]
    listed = await inside("dead", "dead", "--list", "--limit", "2")
    assert len(listed.out.splitlines()) == 3
    assert "3 more" in listed.err


async def test_redrive(inside, server, rsmq, dead):
    """`redrive` sends back what died in the queue, or all of a dead-letter queue, by reason and
    text; with --dry-run it only says how many.
    """
    await bury(rsmq.queue("jobs"), "a", "b", reason="ValueError: 1")
    await bury(rsmq.queue("mails"), "c", reason="ValueError: 2")
    await bury(rsmq.queue("mails"), "d", reason="TimeoutError")
    stray = await dead.send("direct")
    before = keyspace(server)
    result = await inside("redrive", "jobs", "--dry-run")
    assert result.out == "would move 2 to jobs\n"
    assert "1 message would stay" in result.err
    result = await inside("redrive", "dead", "--reason", "ValueError", "--limit", "1", "--dry-run")
    assert result.out == "would move 2 to jobs, 1 to mails (the first 1 of them)\n"
    assert (await inside("redrive", "dead", "--text", "d", "--to", "jobs", "--dry-run")).out == (
        "would move 2 to jobs\n"  # "d" and "direct"
    )
    await inside("redrive", "dead", "--reason", "Value", "--dry-run", expect=1)
    assert keyspace(server) == before
    assert (await inside("redrive", "dead", "--reason", "TimeoutError")).out == "moved 1 message\n"
    assert (await inside("redrive", "jobs", "--text", "a")).out == "moved 1 message\n"
    assert (await inside("redrive", "jobs")).out == "moved 1 message\n"
    assert (len(ids_in(server, "mails")), len(ids_in(server, "jobs"))) == (1, 2)
    await inside("redrive", "jobs", expect=1)
    await inside("redrive", "mails")
    assert ids_in(server, "dead") == [stray]
    await inside("redrive", "dead", "--to", "jobs")
    assert ids_in(server, "dead") == []


async def test_interrupted(start, finish_cli, server, rsmq, dead):
    """Ctrl-C in the middle of a redrive says how many were moved; the others stay."""
    await bury(rsmq.queue("jobs"), *map(str, range(500)))
    process = await start("redrive", "jobs", "--rate", "40")
    await wait_until(lambda: len(ids_in(server)) >= 8)
    process.send_signal(signal.SIGINT)
    result = await finish_cli(process, expect=130)
    note, told = result.err.splitlines()
    assert note == "dead letters of jobs: queue dead"
    moved = int(told.removeprefix("aiorsmq: interrupted: moved ").split()[0])
    assert told == f"aiorsmq: interrupted: moved {moved} messages"
    assert 4 <= moved <= len(ids_in(server)) <= moved + 4  # one step may not be counted yet
    assert len(ids_in(server)) + len(ids_in(server, "dead")) == 500


async def test_edit_of_a_dead_letter(inside, in_terminal, rsmq, dead):
    """An edited dead letter goes to the queue that it died in; one that was not edited stays."""
    jobs = rsmq.queue("jobs")
    (id,) = await bury(jobs, "wrong", reason="ValueError: 1")
    code, seen = await in_terminal(None, "edit", "dead", id, env={"EDITOR": "true"})
    assert (code, "not edited" in seen) == (1, True)
    assert (await dead.get(id)).raw == b"wrong"
    result = await inside("edit", "dead", id, "--body", "right")
    assert result.err == "sent to jobs\n"
    assert (await jobs.get(result.out.strip())).raw == b"right"
    assert (await dead.snapshot()).messages == 0


async def test_no_dead_letters_there(inside, rsmq):
    """A queue that is no dead-letter queue is not taken for one."""
    plain = rsmq.queue("plain")
    await plain.ensure()
    await plain.send("alive")
    for command in (["dead", "plain"], ["redrive", "plain", "--to", "plain2"]):
        result = await inside(*command, expect=1)
        assert "plain has no dead-letter queue, and is not one of another queue" in result.err
    assert (await plain.snapshot()).messages == 1
