"""What a send stores.

As Node rsmq 0.12.4 does it; each docstring is a sentence of the specification.
"""

import asyncio
from datetime import timedelta

import pytest
from aiorsmq import BYTES, JSON, MessageTooLong

from conformance.server import announcements, score
from support import fields_of, ids_in, keyspace, now_ms


@pytest.mark.parametrize(
    "body",
    [
        "",
        "plain",
        "žluťoučký 🐎",
        'quotes " and \\ and \r\n',
        "nul \0 inside",
        "x" * 65536,
        "0",
        " ",
    ],
    ids=["empty", "ascii", "unicode", "escapes", "nul", "long", "number", "blank"],
)
async def test_text(server, queue, body):
    """A body that is a str is stored as UTF-8 and comes back as it was."""
    id = await queue.send(body)
    assert fields_of(server)[id.encode()] == body.encode()
    message = await queue.receive()
    assert (message.body, message.raw) == (body, body.encode())


async def test_binary(server, rsmq, queue):
    """A body of bytes is stored as it is; BYTES hands it out, and `raw` has it whatever the
    codec.
    """
    body = bytes(range(256)) + b"\r\n$-1\r\n"
    ids = [await queue.send(body), await rsmq.queue("jobs", codec=BYTES).send(body)]
    assert [fields_of(server)[id.encode()] for id in ids] == [body, body]
    as_text = await queue.receive()
    as_bytes = await rsmq.queue("jobs", codec=BYTES).receive()
    assert (as_text.raw, as_bytes.raw, as_bytes.body) == (body, body, body)
    assert as_text.body == body.decode(errors="replace")


@pytest.mark.parametrize(
    "body", [{"a": [1, 2.5, None, True], "ž": "🐎"}, [], "text", 0, None, False]
)
async def test_json(server, rsmq, queue, body):
    """With JSON a body is what JSON can say, stored as compact JSON text, and comes back as it
    was.
    """
    jobs = rsmq.queue("jobs", codec=JSON)
    id = await jobs.send(body)
    message = await jobs.receive()
    assert message.body == body
    assert type(message.body) is type(body)
    assert message.raw == fields_of(server)[id.encode()]
    assert b": " not in message.raw
    assert b", " not in message.raw


async def test_size_is_in_bytes(server, rsmq):
    """A message's size is its length in bytes; at maxsize it is taken, over it it is refused
    and not stored.
    """
    await rsmq.create_queue(qname="jobs", maxsize=1024)
    queue = rsmq.queue("jobs")
    await queue.send("é" * 512)
    before = keyspace(server)
    with pytest.raises(MessageTooLong) as caught:
        await queue.send("é" * 512 + "x")
    assert (caught.value.qname, caught.value.size, caught.value.maxsize) == ("jobs", 1025, 1024)
    assert keyspace(server) == before


async def test_unlimited_size(rsmq):
    """With maxsize -1 a message may be of any size."""
    await rsmq.create_queue(qname="jobs", maxsize=-1)
    queue = rsmq.queue("jobs")
    await queue.send("x" * 3_000_000)
    assert len((await queue.receive()).body) == 3_000_000


@pytest.mark.parametrize("delay", [0.05, timedelta(milliseconds=50)], ids=["float", "timedelta"])
async def test_delay(server, queue, delay):
    """A message sent with a delay is hidden for that time, to the millisecond."""
    before = now_ms(server)
    id = await queue.send("later", delay=delay)
    after = now_ms(server)
    due = int(score(server, id))
    assert before + 50 <= due <= after + 50
    message = await queue.receive(wait=10)
    assert now_ms(server) >= due
    assert (message.body, message.receive_count) == ("later", 1)


async def test_queue_delay(server, rsmq):
    """The queue's delay holds for a message that is sent without one; a delay of 0 overrides
    it.
    """
    await rsmq.create_queue(qname="jobs", delay=100)
    queue = rsmq.queue("jobs")
    before = now_ms(server)
    usual, own = await queue.send("usual"), await queue.send("own", delay=0)
    many = await queue.send_many(["a", "b"])
    after = now_ms(server)
    for id in (usual, *many):
        assert before + 100_000 <= int(score(server, id)) <= after + 100_000
    assert before <= int(score(server, own)) <= after
    assert (await queue.receive()).id == own
    assert await queue.receive() is None


async def test_send_many(server, queue):
    """send_many stores messages in their order, in one script call, visible at the same
    moment.
    """
    await queue.attributes()
    server.reset_stats()
    bodies = [str(n) for n in range(1500)]
    ids = await queue.send_many(bodies)
    assert server.script_calls() == 1
    assert ids_in(server) == ids
    assert (
        len({int(score) for _, score in server.redis.zrange("rsmq:jobs", 0, -1, withscores=True)})
        == 1
    )
    assert server.redis.hmget("rsmq:jobs:Q", ids) == [body.encode() for body in bodies]
    assert fields_of(server)[b"totalsent"] == b"1500"


async def test_send_many_delayed(server, queue):
    """The delay of send_many holds for each of its messages."""
    ids = await queue.send_many(["a", "b"], delay=100)
    assert await queue.receive() is None
    assert int(score(server, ids[0])) == int(score(server, ids[1])) > now_ms(server) + 90_000


async def test_send_many_of_none(server, queue):
    """send_many of no messages sends none."""
    before = keyspace(server)
    assert await queue.send_many([]) == []
    assert keyspace(server) == before


@pytest.mark.parametrize("position", [0, 1, 2])
async def test_send_many_is_atomic(server, queue, position):
    """send_many with one message that is too long stores none."""
    await queue.set_attributes(maxsize=1024)
    bodies = ["x", "x", "x"]
    bodies[position] = "x" * 1025
    before = keyspace(server)
    with announcements(server) as heard:
        with pytest.raises(MessageTooLong) as caught:
            await queue.send_many(bodies)
        assert heard() == []
    assert (caught.value.qname, caught.value.size, caught.value.maxsize) == ("jobs", 1025, 1024)
    assert keyspace(server) == before


async def test_each_of_several_sends(queue):
    """Of sends made at the same time, one that is too long fails alone."""
    await queue.set_attributes(maxsize=1024)
    sends = [queue.send(body) for body in ("a", "x" * 1025, "b")]
    first, second, third = await asyncio.gather(*sends, return_exceptions=True)
    assert isinstance(second, MessageTooLong)
    assert [message.id for message in await queue.peek()] == [first, third]
