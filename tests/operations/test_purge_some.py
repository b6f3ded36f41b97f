"""A purge with conditions deletes what meets them, and nothing else."""

import asyncio

import pytest
from aiorsmq import AsyncRSMQ, InvalidParameterValue, QueueDoesNotExist
from aiorsmq._server.clock import _base36
from redis.exceptions import ResponseError

from dead_letters.letters import bury
from support import fields_of, ids_in, keyspace, wait_until


async def test_text(server, queue):
    """By what is in the body: hidden messages too, with all that is stored of them."""
    ids = await queue.send_many(["a 1", "b 2", b"\xffa 3"])
    await queue.receive_many(3)
    assert await queue.purge(text="a ") == 2
    assert ids_in(server) == [ids[1]]
    left = {name for name in fields_of(server) if name.startswith(ids[1].encode())}
    assert len(left) == 3
    assert await queue.purge(text=b"2") == 1
    assert await queue.purge(text="2") == 0


async def test_state(queue):
    """By whether they can be received now."""
    await queue.send("held")
    held = await queue.receive(vt=300)
    await queue.send("a")
    await queue.send("b", delay=300)
    assert await queue.purge(state="visible") == 1
    assert sorted(message.body for message in await queue.peek()) == ["b", "held"]
    assert await queue.purge(state="hidden") == 2
    assert await held.delete() is False


async def test_min_receives(queue):
    """By how often they have been received."""
    await queue.send("twice")
    for _ in range(2):
        await (await queue.receive()).release()
    await queue.send("never")
    assert await queue.purge(min_receives=3) == 0
    assert await queue.purge(min_receives=2) == 1
    assert [message.body for message in await queue.peek()] == ["never"]


async def test_older_than(server, queue):
    """By when they were sent, as their ids say; an id that carries no time is never old enough."""
    us = int((await queue.send("new"))[:10], 36) - 3600 * 1_000_000
    for n, id in enumerate((_base36(us) + "x" * 22, "x" * 30)):
        server.redis.zadd("rsmq:jobs", {id: 5})
        server.redis.hset("rsmq:jobs:Q", id, f"old {n}")
    assert await queue.purge(older_than=3700) == 0
    assert await queue.purge(older_than=3600) == 1
    assert [message.body for message in await queue.peek()] == ["old 1", "new"]


async def test_reason(server, rsmq):
    """By why they died; the reasons go too."""
    jobs = rsmq.queue("jobs")
    await jobs.create(dead_letter_queue="dead")
    await bury(jobs, "a", reason="ValueError: bad")
    (other,) = await bury(jobs, "b", reason="received too often")
    assert await rsmq.queue("dead").purge(reason="ValueError") == 1
    assert ids_in(server, "dead") == [other]
    assert server.redis.hkeys("rsmq:dead:reasons") == [other.encode()]


async def test_all(queue):
    """Only what meets all of the conditions."""
    await queue.send_many(["a", "b"])
    await queue.receive_many(2, vt=300)
    await queue.send_many(["a", "b"])
    assert await queue.purge(text="a", state="hidden", min_receives=1) == 1
    assert sorted(message.body for message in await queue.peek()) == ["a", "b", "b"]


async def test_dry_run(server, queue):
    """A dry run counts, and changes nothing; without conditions it counts all."""
    await queue.send_many([str(n) for n in range(500)])
    before = keyspace(server)
    assert await queue.purge(text="1", dry_run=True) == await queue.purge(text="1", dry_run=True)
    assert await queue.purge(dry_run=True) == 500
    assert keyspace(server) == before
    assert await queue.purge(text="1", dry_run=True) == await queue.purge(text="1")


@pytest.mark.parametrize("size", [10, 3000])
async def test_many(queue, size):
    """Any number of messages, large ones too, whatever part of them is deleted."""
    for start in range(0, 2000, 500):
        await queue.send_many([f"{n % 3}".ljust(size) for n in range(start, start + 500)])
    assert await queue.purge(text="1") == 667
    assert await queue.purge(text="2") == 666
    assert await queue.purge(text="0") == 667


async def test_while_sending(queue):
    """It ends though messages are sent all the time, and leaves what does not meet the
    conditions.
    """
    await queue.send_many(["old"] * 2000)
    purging = asyncio.ensure_future(queue.purge(text="old"))
    sent = [await queue.send("new")]
    while not purging.done():
        sent.append(await queue.send("new"))
    assert await purging == 2000
    assert (await queue.attributes()).msgs == len(sent)


async def test_cancelled(server, queue):
    """What was deleted stays deleted; another purge deletes the rest."""
    await queue.send_many(["old"] * 3000)
    purging = asyncio.ensure_future(queue.purge(text="old"))
    await wait_until(lambda: server.redis.zcard("rsmq:jobs") < 3000)
    purging.cancel()
    await asyncio.wait([purging])
    left = (await queue.attributes()).msgs
    assert 0 < left < 3000
    assert await queue.purge(text="old") == left


async def test_lost_reply(queue, far, cut_reply):
    """A step whose reply is lost is repeated: all that meets the conditions is gone, and what its
    first attempt has deleted is not counted.
    """
    there = far.queue("jobs")
    assert await there.purge(text="old") == 0
    await queue.send_many(["old"] * 400)
    cut_reply(lambda: queue.send("new"))
    assert await there.purge(text="old") == 250
    assert [message.body for message in await queue.peek()] == ["new"]


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        *(("older_than", value) for value in (-1, "1", 10**7)),
        *(("min_receives", value) for value in (0, -1, 1.5, "1", True)),
        *(("text", value) for value in ("", b"", 1, "x" * 1025)),
        *(("state", value) for value in ("", "held", 1)),
        *(("reason", value) for value in ("", 1)),
    ],
)
async def test_bad_input(server, queue, parameter, value):
    """Bad input is refused before anything is sent: it never means all messages."""
    await queue.send("a")
    server.reset_stats()
    with pytest.raises(InvalidParameterValue) as refused:
        await queue.purge(**{parameter: value})
    assert refused.value.parameter == parameter
    assert server.script_calls() == 0


async def test_missing(rsmq):
    """A queue that does not exist is named."""
    with pytest.raises(QueueDoesNotExist):
        await rsmq.queue("nowhere").purge(text="a")


@pytest.mark.foreign_data
async def test_foreign(server, queue):
    """Entries without a body, foreign ids and another program's keys are survived."""
    server.redis.zadd("rsmq:jobs", {f"{n:032}": 5 for n in range(600)})
    server.redis.zadd("rsmq:jobs", {b"\xff \n": "inf", "x" * 30: "-inf"})
    server.redis.hset("rsmq:jobs:Q", mapping={b"\xff \n": b"bad", "x" * 30: b"bad"})
    server.redis.set("rsmq:jobs:reasons", "theirs")
    await queue.send("good")
    assert await queue.purge(text="bad") == 2
    assert await queue.purge(older_than=0) == 1
    assert server.redis.get("rsmq:jobs:reasons") == b"theirs"


async def test_full_server(own_server):
    """A full server can be purged by conditions."""
    server = own_server("--maxmemory", "8mb", "--maxmemory-policy", "noeviction")
    async with AsyncRSMQ.from_url(server.url) as rsmq:
        queue = rsmq.queue("jobs")
        await queue.create()
        with pytest.raises(ResponseError):
            while True:
                await queue.send("x" * 60_000)
        server.redis.config_set("maxmemory", "1mb")
        total = (await queue.attributes()).msgs
        assert await queue.purge(text="x") == total
        assert (await queue.attributes()).msgs == 0
