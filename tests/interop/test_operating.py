"""The queue of Node rsmq or PyRSMQ is looked after with the library and its command line."""

import asyncio
import json
import sys

import pytest

from support import PATIENCE


@pytest.fixture
def anyio_backend():
    """These are about the wire: one event loop suffices."""
    return "asyncio", {"debug": True}


@pytest.fixture(params=["node", "pyrsmq"])
def peer(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def cli(server):
    """Run a command on the test's server; its output."""

    async def run(*arguments, input=b"", expect=0):
        url = f"redis://127.0.0.1:{server.port}"
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "aiorsmq", *arguments, "--url", url),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(PATIENCE):
            out, err = await process.communicate(input)
        assert process.returncode == expect, (out, err)
        return out.decode()

    return run


async def test_snapshot(ours, peer):
    """What waits, is in flight, is delayed, and the totals of another port's queue."""
    await peer.create(vt=60)
    for body in ("a", "b", "c"):
        await peer.send(body)
    await peer.send("later", delay=100)
    await peer.receive()
    look = await ours.queue.snapshot()
    assert (look.visible, look.in_flight, look.delayed) == (2, 1, 1)
    assert (look.totalsent, look.totalrecv, look.consumers) == (4, 1, 0)
    assert 0 <= look.oldest_claimable_age < PATIENCE
    assert look.stored["vt"] == "60"


async def test_find_and_get(ours, peer):
    """Messages of another port are found and shown, and stay as they are for it."""
    await peer.create()
    ids = [await peer.send(body) for body in ("apple", "pear")]
    found = await ours.queue.find(text="pea")
    assert [message.id for message in found.messages] == [ids[1]]
    assert (await ours.queue.get(ids[0])).raw == b"apple"
    assert [(await peer.receive()).rc for _ in ids] == [1, 1]


async def test_audit_of_a_queue_in_use(ours, peer):
    """Whatever another port does with its messages, an audit finds nothing wrong."""
    await peer.create()
    for number in range(20):
        await peer.send(f"body {number}")
    for _ in range(10):
        message = await peer.receive()
        await peer.delete(message.id)
    await peer.receive()
    assert (await ours.queue.audit()).is_clean


async def test_replace(ours, peer):
    """A message is edited for another port's consumers."""
    await peer.create()
    id = await peer.send("wrong")
    new_id = await ours.queue.replace(id, "right")
    message = await peer.receive()
    assert (message.id, message.body, message.rc) == (new_id, "right", 1)
    assert await peer.receive() is None


async def test_export_and_import(server, ours, peer, cli):
    """A queue is taken home and brought back, with ids, counts and due times: the other port goes
    on as if nothing had been.
    """
    await peer.create(vt=60)
    ids = [await peer.send(body) for body in ("one", "zwei ü", "three")]
    first = await peer.receive()
    before = server.redis.zrange("rsmq:jobs", 0, -1, withscores=True)
    fields = server.redis.hgetall("rsmq:jobs:Q")
    lines = await cli("export", "jobs")
    assert [json.loads(line)["id"] for line in lines.splitlines()[1:]] == [*ids[1:], first.id]
    await cli("rm", "jobs", "--yes")
    kept = ("--create", "--keep-ids", "--keep-times")
    await cli("import", "jobs", *kept, input=lines.encode())
    assert server.redis.zrange("rsmq:jobs", 0, -1, withscores=True) == before
    again = server.redis.hgetall("rsmq:jobs:Q")
    for name in (b"vt", b"delay", *(id.encode() for id in ids)):
        assert again[name] == fields[name]
    assert again[f"{first.id}:rc".encode()] == b"1"
    assert (await peer.receive()).body == "zwei ü"


async def test_command_line(ours, peer, cli):
    """The queue of another port is listed, checked, searched and mended from a shell."""
    await peer.create()
    await peer.send("hello")
    (queue,) = json.loads(await cli("ls", "--json"))
    assert (queue["name"], queue["visible"], queue["totalsent"]) == ("jobs", 1, 1)
    assert "hello" in await cli("find", "jobs", "--text", "ell")
    await cli("check", "jobs", "--depth-crit", "0", expect=2)
    await cli("send", "jobs", "from a shell")
    assert {(await peer.receive()).body for _ in range(2)} == {"hello", "from a shell"}
    await cli("purge", "jobs", "--yes")
    assert (await peer.attributes())["msgs"] == 0
