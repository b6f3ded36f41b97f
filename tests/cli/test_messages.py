"""Messages are sent, received, looked at, edited and moved from the command line."""

import asyncio
import json
import signal
import sys

import pytest
from aiorsmq import BYTES

from dead_letters.letters import bury
from support import PATIENCE, ids_in, keyspace, wait_until

HOSTILE = 'a [red]b[/red] \x1b[31mc\x1b[0m \x07"\n[/] \u202ed'
"""Markup, escapes and a control character."""
LOOKS = ("peek jobs", "find jobs --text [red]", "get jobs ID", "receive jobs", "dead dead --list")


def bodies(server, qname="jobs"):
    """In order."""
    return [server.redis.hget(f"rsmq:{qname}:Q", id) for id in ids_in(server, qname)]


async def test_send(cli, inside, server, queue, tmp_path):
    """A body is an argument, a file or standard input, and is sent byte for byte; what cannot be
    meant is refused.
    """
    binary = bytes(range(256)) + b"\n"
    path = tmp_path / "body"
    path.write_bytes(binary)
    first = await inside("send", "jobs", "[red]é\n")
    (second,) = (await cli("send", "jobs", "-", "--json", input=binary)).json()
    await inside("send", "jobs", "--file", str(path))
    assert bodies(server) == ["[red]é\n".encode(), binary, binary]
    assert [first.out.strip(), second] == ids_in(server)[:2]
    await inside("send", "jobs", "later", "--delay", "1h")
    assert (await queue.snapshot()).delayed == 1
    for words in (("--typo",), (), ("a", "--lines"), ("a", "--file", str(path)), ("--file", "/no")):
        await inside("send", "jobs", *words, expect=2)
    assert len(ids_in(server)) == 4


async def test_send_lines(cli, inside, server, queue, tmp_path):
    """With --lines each line is a message, in order; if one is refused, all before it have been
    sent in steps, and it says where to go on.
    """
    path = tmp_path / "lines"
    path.write_text("".join(f"[red] {number}\r\n" for number in range(10_000)) + "last")
    result = await cli("send", "jobs", "--lines", "--file", str(path))
    assert result.out == "sent 10,001 messages\n"
    assert bodies(server) == [f"[red] {number}\r".encode() for number in range(10_000)] + [b"last"]
    await queue.purge()
    ids = (await cli("send", "jobs", "--lines", "--json", input=b"a\n\nb\n")).json()
    assert ids == ids_in(server)
    assert bodies(server) == [b"a", b"", b"b"]
    path.write_text("short\n" * 150 + "long" * 100_000)
    result = await inside("send", "jobs", "--lines", "--file", str(path), expect=1)
    assert "sent 100 of 151 messages; line 101 is next" in result.err
    assert len(ids_in(server)) == 103


async def test_receive(inside, server, queue):
    """`receive` leaves the messages hidden, says so, and with --delete deletes what it printed."""
    ids = await queue.send_many(["a", "b", "c"])
    result = await inside("receive", "jobs", "--limit", "2", "--vt", "1h")
    assert [line.split() for line in result.out.splitlines()] == [
        [ids[0], "1x", "a"],
        [ids[1], "1x", "b"],
    ]
    assert "2 messages stay in the queue, hidden until" in result.err
    result = await inside("receive", "jobs", "--limit", "5", "--delete", "--json")
    assert (json.loads(result.out)["body"], result.err) == ("c", "")
    assert ids_in(server) == ids[:2]
    result = await inside("receive", "jobs", expect=1)
    assert "2 hidden" in result.err
    await inside("pop", "jobs", "--wait", "0.01", expect=1)
    await queue.change_visibility(ids[0], 0)
    assert (await inside("pop", "jobs", "--json")).json()["receive_count"] == 2
    assert ids_in(server) == [ids[1]]


async def test_get(inside, queue, rsmq):
    """`get` shows one message: JSON with indents and each number as it was written, what is not
    text in hexadecimal, a long body cut; with --raw it writes the body byte for byte.
    """
    binary = bytes(range(256)) * 20
    await queue.set_attributes(maxsize=-1)
    number, odd, large = await rsmq.queue("jobs", codec=BYTES).send_many(
        [b'{"a": [1.50, 1e400], "a": {}, "\\u00e9": "x, [y]"}', binary, b"x" * 300_000]
    )
    text = (await inside("get", "jobs", number)).out
    assert (
        '\n{\n  "a": [\n    1.50,\n    1e400\n  ],\n  "a": {},\n  "\\u00e9": "x, [y]"\n}\n' in text
    )
    result = await inside("get", "jobs", odd)
    assert "\n00000010  10 11 12" in result.out
    assert "4,096 of 5,120 bytes" in result.err
    assert (await inside("get", "jobs", odd, "--raw")).raw == binary
    result = await inside("get", "jobs", large)
    assert f"\n{'x' * 262_144}\n" in result.out
    assert "262,144 of 300,000 bytes" in result.err
    assert len((await inside("get", "jobs", large, "--json")).json()["body"]) == 300_000
    await inside("get", "jobs", "nothing", expect=1)


async def test_find(inside, queue):
    """`find` says how far it got, and goes on from there."""
    ids = await queue.send_many([f"body {number}" for number in range(30)])
    await queue.receive_many(2, vt=1000)
    first = await inside("find", "jobs", "--text", "body", "--limit", "10")
    assert "looked at 10 of 30 messages" in first.err
    place = first.err.split("--after '")[1].split("'")[0]
    result = await inside("find", "jobs", "--after", place, "--limit", "100", "--json")
    assert [message["id"] for message in result.json()["messages"]] == ids[12:] + ids[:2]
    hidden = await inside("find", "jobs", "--state", "hidden", "--min-receives", "1", "--json")
    assert hidden.json()["total"] == 30
    assert len(hidden.json()["messages"]) == 2
    result = await inside("find", "jobs", "--text", "29", "--budget", "5", expect=1)
    assert "looked at 5 of 30 messages" in result.err
    assert "--after" in result.err
    await inside("find", "jobs", "--after", "x", expect=2)
    peeked = (await inside("peek", "jobs", "--limit", "3", "--json")).json()
    assert [message["body"] for message in peeked] == ["body 2", "body 3", "body 4"]
    assert "27 more" in (await inside("peek", "jobs", "--limit", "3")).err


@pytest.mark.parametrize("look", LOOKS)
async def test_hostile_bodies(inside, rsmq, look):
    """Nothing that is in a body has an effect on the terminal."""
    jobs = rsmq.queue("jobs")
    await jobs.ensure(dead_letter_queue="dead", max_receives=9)
    await bury(jobs, HOSTILE, reason=f"Error: {HOSTILE}")
    id = await jobs.send(HOSTILE)
    out = (await inside(*look.replace("ID", id).split())).out
    assert "a [red]b[/red] \\x1b[31mc\\x1b[0m \\x07" in out
    assert not {"\x1b", "\x07", "\u202e"} & set(out)


async def test_hostile_json(inside, queue):
    """JSON has escapes for what a terminal may take for a command, and is read as it was sent."""
    body = "Grüße 🐘 \x1b[2J \x9b2J \x7f \u202e \u2028 \U000e0001"
    await queue.send(body)
    result = await inside("peek", "jobs", "--json")
    assert [message["body"] for message in result.json()] == [body]
    assert "Grüße 🐘" in result.out
    assert result.out.removesuffix("\n").isprintable()


async def test_delete(inside, server, queue):
    """`delete` says how many were there; of several it asks first."""
    ids = await queue.send_many(["a", "b", "c", "d"])
    assert (await inside("delete", "jobs", ids[0])).out == "deleted 1\n"
    assert "--yes" in (await inside("delete", "jobs", *ids, expect=2)).err
    result = await inside("delete", "jobs", *ids[:3], "nothing", "-y")
    assert result.out == "deleted 2, not there 2\n"
    assert ids_in(server) == ids[3:]
    await inside("delete", "jobs", ids[0], expect=1)


async def test_edit(cli, inside, in_terminal, server, queue, rsmq, tmp_path):
    """`edit` replaces a message by one with the body that is given, or that comes from standard
    input or the editor; by none if there is none.
    """
    first, second, third = await queue.send_many(["a", "b", "c"])
    await rsmq.create_queue(qname="other")
    new = (await inside("edit", "jobs", first, "--body", "[x]", "--to", "other")).out.strip()
    assert (ids_in(server, "other"), bodies(server, "other")) == ([new], [b"[x]"])
    await cli("edit", "jobs", second, input=b"\x00\n")
    await inside("edit", "jobs", third, expect=2)  # from no input
    editor = {"EDITOR": f"{sys.executable} -c \"import sys; open(sys.argv[1], 'w').write('d\\n')\""}
    code, _ = await in_terminal(None, "edit", "jobs", third, env=editor)
    assert code == 0
    assert bodies(server) == [b"\x00\n", b"d"]
    code, seen = await in_terminal(None, "edit", "jobs", ids_in(server)[1], env=editor)
    assert (code, "not edited" in seen) == (1, True)
    await inside("edit", "jobs", "nothing", "--body", "x", expect=1)


async def test_move(inside, server, queue, rsmq):
    """`move` takes the messages that are named, or all that are visible, and tells what stays."""
    ids = await queue.send_many([f"{number:02}" for number in range(20)])
    await rsmq.create_queue(qname="other")
    await queue.receive(vt=1000)
    result = await inside("move", "jobs", "other", ids[0], "nothing")
    assert "moved 1 message to other, not there 1" in result.err
    assert bodies(server, "other") == [b"00"]
    await queue.receive(vt=1000)
    assert "moved 10" in (await inside("move", "jobs", "other", "--text", "1")).out
    result = await inside("move", "jobs", "other", "--limit", "5")
    assert (result.out, result.err) == (
        "moved 5 messages to other\n",
        "1 message not moved: in flight or delayed\n",
    )
    await inside("move", "jobs", "nowhere", expect=1)
    await inside("move", "jobs", "jobs", ids[19], expect=2)


async def test_interrupted_move(start, finish_cli, server, queue, rsmq):
    """Ctrl-C ends a long command cleanly, and it says what was done."""
    await queue.send_many(["a"] * 2000)
    await rsmq.create_queue(qname="other")
    process = await start("move", "jobs", "other", "--rate", "50")
    await wait_until(lambda: server.redis.zcard("rsmq:other") >= 10)
    process.send_signal(signal.SIGINT)
    result = await finish_cli(process, expect=130)
    moved = int(result.err.removeprefix("aiorsmq: interrupted: moved ").split()[0])
    assert result.err == f"aiorsmq: interrupted: moved {moved} of 2,000 messages\n"
    assert moved <= server.redis.zcard("rsmq:other") <= moved + 10


async def next_body(process):
    async with asyncio.timeout(PATIENCE):
        return json.loads(await process.stdout.readline())["body"]


async def test_tail(start, finish_cli, server, queue):
    """`tail` shows what is sent from now on, each message once, and changes nothing."""
    await queue.send("old")
    process = await start("tail", "jobs", "--json")
    await process.stderr.readline()
    await queue.send_many(["a", "b"])
    await queue.send("later", delay=1000)
    seen = [await next_body(process) for _ in range(3)]
    assert sorted(seen) == ["a", "b", "later"]
    before = keyspace(server)
    await queue.receive(vt=1000)  # is no new message
    await queue.send("c")
    assert await next_body(process) == "c"
    assert (await queue.attributes()).totalrecv == 1
    assert len(before) == len(keyspace(server))
    process.send_signal(signal.SIGINT)
    result = await finish_cli(process, expect=130)
    assert (result.out, result.err) == ("", "aiorsmq: interrupted: 4 messages shown\n")


async def test_closed_pipe(start, finish_cli, queue):
    """A reader that has seen enough ends the command, quietly."""
    await queue.send_many(["x" * 1000] * 2000)
    for words in (("export", "jobs"), ("find", "jobs", "--limit", "2000"), ("ls", "--json")):
        process = await start(*words, stdout=asyncio.subprocess.PIPE)
        process._transport.get_pipe_transport(1).close()
        result = await finish_cli(process, expect=1)
        assert result.err == ""
