"""Messages: what one sends, another receives, hides, deletes; in all directions."""

import json
import re
from dataclasses import asdict, dataclass
from functools import partial
from itertools import permutations

import anyio
import pytest
from aiorsmq import codecs
from rsmq.consumer import RedisSMQConsumer

from interop.peers import PyRSMQ
from support import wait_until

BODIES = {
    "text": "hello",
    "unicode": "Grüße, 世界, שלום",
    "emoji": "🐇👩‍👩‍👧 \U0001f469\u200d\U0001f692",
    "json": '{"to": "a@example.org", "n": [1, 2.5, null]}',
    "lines": "one\r\ntwo\n\ttab",
    "nul": "\x00\x01\x7f",
    "number": "0012",
    "longest": "x" * 65536,
}


@pytest.fixture
def anyio_backend():
    """These are about the wire: one event loop suffices."""
    return "asyncio", {"debug": True}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
async def test_bodies(everyone, body):
    """A body is received as it was sent, to the last bit, between any two."""
    await everyone[0].create()
    for sender, receiver in permutations(everyone, 2):
        id = await sender.send(body)
        taken = await receiver.receive()
        assert (taken.id, taken.body) == (id, body), (sender, receiver)
        assert await receiver.delete(id)


async def test_empty_body(ours, node, pyrsmq):
    """An empty message is a message, for Node as for us; PyRSMQ sends none, but receives it."""
    await ours.create()
    for sender, receiver in ((ours, node), (node, ours), (ours, pyrsmq)):
        await sender.send("")
        assert (await receiver.pop()).body == ""


async def test_json(ours, node, pyrsmq):
    """The JSON codec reads what PyRSMQ makes of a dict and JSON.stringify of an object, and writes
    what they read.
    """
    await ours.create()
    queue = ours.client.queue("jobs", codec=codecs.JSON)
    job = {"name": "Zoë 🐇", "tags": ["a", "b"], "n": 1.5, "none": None, "yes": True}
    await pyrsmq.call("sendMessage", qname="jobs", message=job)
    await node.send(json.dumps(job, ensure_ascii=False, separators=(",", ":")))
    assert [(await queue.pop()).body for _ in range(2)] == [job, job]
    await queue.send(job)
    assert json.loads((await node.pop()).body) == job


@dataclass
class Job:
    name: str
    tags: list[str]
    n: float
    none: None = None
    yes: bool = True


@pytest.mark.parametrize("codec", [codecs.MsgspecCodec, codecs.PydanticCodec])
@pytest.mark.parametrize("name", ["Zoë 🐇", '"quoted" \\ and /', "\x00\n\x7f\u2028", ""])
async def test_typed(ours, node, pyrsmq, codec, name):
    """A typed queue reads JSON.stringify of an object and PyRSMQ's dict, and writes what JSON.parse
    and PyRSMQ read.
    """
    await ours.create()
    queue = ours.client.queue("jobs", codec=codec(Job))
    job = Job(name, ["a", "b"], 1.5)
    await node.call("sendJson", qname="jobs", value=asdict(job))
    await pyrsmq.call("sendMessage", qname="jobs", message=asdict(job))
    assert [(await queue.pop()).body for _ in range(2)] == [job, job]
    await queue.send_many([job, job])
    assert await node.call("popJson", qname="jobs") == asdict(job)
    assert json.loads((await pyrsmq.pop()).body) == asdict(job)


async def test_bytes(ours, node, pyrsmq):
    """Bytes that are no text, as PyRSMQ may send them, read as text as in Node; `raw` and the BYTES
    codec have them.
    """
    await ours.create()
    body = b"\xff\x00ok"
    for _ in range(3):
        await pyrsmq.call("sendMessage", qname="jobs", message=body)
    as_text, as_bytes = (
        await ours.queue.pop(),
        await ours.client.queue("jobs", codec=codecs.BYTES).pop(),
    )
    assert as_text.body == (await node.pop()).body == "\ufffd\x00ok"
    assert as_text.raw == as_bytes.body == body


async def test_undecodable(server, everyone):
    """What our codec cannot decode stays in the queue for others: hidden for its lease, and
    received once more.
    """
    ours, node, pyrsmq = everyone
    await ours.create()
    id = await node.send("no JSON")
    queue = ours.client.queue("jobs", codec=codecs.JSON)
    assert await queue.receive() is None
    assert (await pyrsmq.attributes())["hiddenmsgs"] == 1
    await node.hide(id, 0)
    assert await queue.pop() is None
    await wait_until(lambda: server.redis.zcard("rsmq:jobs") == 1)
    assert (await node.attributes())["hiddenmsgs"] == 1
    assert await pyrsmq.hide(id, 0)
    taken = await node.pop()
    assert (taken.id, taken.body, taken.rc) == (id, "no JSON", 3)
    assert (await node.attributes())["totalrecv"] == 3


async def test_receive(pair):
    """A message tells how often it was received, and since when, no matter who received it."""
    one, other = pair
    await one.create()
    id = await one.send("hello")
    first = await one.receive(vt=0)
    second = await other.receive(vt=0)
    third = await one.receive(vt=60)
    assert (first.id, first.body, first.rc) == (id, "hello", 1)
    assert second == first._replace(rc=2)
    assert third == first._replace(rc=3)
    assert first.fr >= int(id[:10], 36) // 1000
    assert await other.receive() is None
    assert await one.receive() is None


async def test_receive_nothing(everyone):
    """An empty queue gives nobody a message, and counts no receipt."""
    await everyone[0].create()
    for peer in everyone:
        assert await peer.receive() is None
        assert await peer.pop() is None
        assert (await peer.attributes())["totalrecv"] == 0


async def test_pop(server, pair):
    """A message that one sent and another pops is gone without a trace, whether it was received
    before or not.
    """
    one, other = pair
    await one.create()
    id = await one.send("hello")
    popped = await other.pop()
    assert (popped.id, popped.body, popped.rc) == (id, "hello", 1)
    id = await one.send("again")
    received = await one.receive(vt=0)
    assert await other.pop() == received._replace(rc=2)
    assert server.message_fields() == set()
    assert (await one.attributes())["msgs"] == 0


async def test_delete(server, pair):
    """A message that one received can be deleted by the other: once, and with all its fields."""
    one, other = pair
    await other.create()
    id = await other.send("hello")
    await one.receive()
    assert server.message_fields() == {id, f"{id}:rc", f"{id}:fr"}
    assert await other.delete(id)  # PyRSMQ returns True only if it deleted all three fields
    assert server.message_fields() == set()
    assert not await one.delete(id)
    assert not await other.delete(id)
    assert server.redis.zcard("rsmq:jobs") == 0


async def test_delete_never_received(server, everyone):
    """A message that nobody received can be deleted by any port, no matter who sent it."""
    await everyone[0].create()
    for sender, deleter in permutations(everyone, 2):
        id = await sender.send("hello")
        said = await deleter.delete(id)
        assert said or isinstance(
            deleter, PyRSMQ
        )  # which deletes, and says no: it counts three fields or none
        assert server.redis.zcard("rsmq:jobs") == 0
        assert server.message_fields() == set()


async def test_unknown_id(server, everyone):
    """To hide or delete a message that is not there is a plain no from all of them, and leaves
    nothing behind.
    """
    await everyone[0].create()
    for peer in everyone:
        assert not await peer.hide("0" * 32, 10)
        assert not await peer.delete("0" * 32)
    assert server.message_fields() == set()
    assert server.redis.zcard("rsmq:jobs") == 0


async def test_hide(server, pair):
    """The other may change how long a message stays hidden: until now, or for longer."""
    one, other = pair
    await one.create()
    id = await one.send("hello")
    await one.receive(vt=60)
    assert await other.hide(id, 0)
    assert (await one.receive()).rc == 2
    assert await other.hide(id, 0)
    assert await other.hide(id, 1000)
    seconds, _ = server.redis.time()
    assert 990_000 < server.visible_at(id) - seconds * 1000 < 1_002_000
    assert await one.receive() is None
    assert await other.receive() is None


async def test_longest_vt(pair):
    """The longest vt, 9999999 seconds, is one that the others can still take back."""
    one, other = pair
    await one.create(vt=9999999)
    id = await one.send("hello")
    assert (await one.receive()).id == id
    assert await other.receive() is None
    assert await other.hide(id, 0)
    assert (await other.receive()).id == id
    assert await one.hide(id, 0)
    assert (await one.receive(vt=9999999)).rc == 3


async def test_delay(server, pair):
    """A message that one sent with a delay is received by the other when that is over, not
    before.
    """
    one, other = pair
    await one.create()
    for delay in (600, one.SHORTEST):
        id = await one.send("hello", delay=delay)
        due = server.visible_at(id)
        assert delay * 1000 <= due - int(id[:10], 36) // 1000 < delay * 1000 + 5000
    assert (await other.attributes())["msgs"] == 2
    taken = await wait_until(other.receive)
    assert (taken.id, taken.rc) == (id, 1)
    assert taken.fr >= due


async def test_redelivery(server, pair):
    """A message that one received and did not delete is received by the other when its vt is over,
    not before.
    """
    one, other = pair
    await one.create()
    await other.send("hello")
    first = await one.receive(vt=one.SHORTEST)
    lease_ends = server.visible_at(first.id)
    assert lease_ends == first.fr + one.SHORTEST * 1000
    second = await wait_until(partial(other.receive, vt=60))
    assert second == first._replace(rc=2)
    assert server.visible_at(first.id) - 60_000 >= lease_ends


async def test_fractions(server, everyone):
    """Fractional seconds of ours are whole milliseconds for the others, who receive what they hid
    on time.
    """
    ours, *others = everyone
    await ours.create()
    for other in others:
        id = await ours.send("hello", delay=0.0637)
        due = server.visible_at(id)
        assert (await wait_until(partial(other.receive, vt=0))).fr >= due
        message = await ours.queue.receive(vt=0.1239)
        due = server.visible_at(id)
        assert due == round(message.visible_until.timestamp() * 1000)
        assert (await wait_until(partial(other.receive, vt=600))).rc == 3
        assert server.visible_at(id) - 600_000 >= due
        assert await ours.hide(id, 100 / 3)
        assert server.visible_at(id) < due + 600_000
        assert await other.hide(id, 0)
        assert (await other.pop()).rc == 4


async def test_ids(everyone):
    """Our ids are what Node's validator takes: each of its verbs that takes an id takes ours."""
    ours, node, pyrsmq = everyone
    await ours.create()
    ids = [await ours.send("one"), *(await ours.queue.send_many([f"{n}" for n in range(500)]))]
    assert len(set(ids)) == 501
    assert [id for id in ids if not re.fullmatch(r"[0-9a-z]{10}[a-zA-Z0-9]{22}", id)] == []
    for id in ids[::50]:
        assert await node.hide(id, 60)
        assert await node.delete(id)
    theirs = await node.send("theirs"), await pyrsmq.send("theirs")
    for id in theirs:
        assert await ours.hide(id, 60)
        assert await ours.delete(id)


async def test_sent(server, everyone):
    """`sent_at` is what Node reads from the same id, to the microsecond, no matter who sent the
    message.
    """
    ours, node, _ = everyone
    await ours.create()
    for sender in everyone:
        seconds, microseconds = server.redis.time()
        id = await sender.send("hello")
        (message,) = await ours.queue.peek()
        reply = await node.call("popMessage", qname="jobs")
        assert reply["id"] == message.id == id
        assert round(message.sent_at.timestamp() * 1_000_000) == round(reply["sent"] * 1000)
        before = seconds + microseconds / 1_000_000
        assert before - 0.1 < message.sent_at.timestamp() < before + 5


async def test_order(server, everyone):
    """All three receive in the same order: by the moment of visibility, then by id."""
    await everyone[0].create()
    for n in range(4):
        for sender in everyone:
            await sender.send(f"message {n}")
    await everyone[0].queue.send_many(["of one", "millisecond"] * 3)
    in_order = [id.decode() for id in server.redis.zrange("rsmq:jobs", 0, -1)]
    assert [(await everyone[n % 3].receive()).id for n in range(18)] == in_order


async def test_order_of_one_batch(ours, node):
    """What we send at once, Node receives in that order."""
    await ours.create()
    bodies = [f"message {n}" for n in range(100)]
    await ours.queue.send_many(bodies)
    assert [(await node.pop()).body for _ in bodies] == bodies


async def test_fence(server, everyone):
    """Once another port has received a message, our earlier receipt of it settles nothing any
    more.
    """
    ours, *others = everyone
    await ours.create()
    for other in others:
        await other.send("hello")
        stale = await ours.queue.receive(vt=0)
        taken = await other.receive(vt=600)
        assert taken.rc == 2
        visible_at = server.visible_at(stale.id)
        assert [await stale.delete(), await stale.extend(1), await stale.release()] == [
            False,
            False,
            False,
        ]
        assert server.visible_at(stale.id) == visible_at
        assert await other.delete(stale.id)
        assert await stale.delete() is False
        assert server.message_fields() == set()


async def test_fence_lets_through(everyone):
    """A message that others have only hidden for longer is still ours to settle."""
    ours, *others = everyone
    await ours.create()
    for other in others:
        await other.send("hello")
        message = await ours.queue.receive()
        assert await other.hide(message.id, 600)
        assert await message.extend(60)
        assert await message.delete()


async def test_handler_fails(ours, node):
    """A message whose handler fails with us is Node's to receive at once, and its receive count
    tells.
    """
    await ours.create()
    id = await node.send("hello")
    message = await ours.queue.receive(vt=600)
    with pytest.raises(ZeroDivisionError):
        async with message:
            1 / 0  # noqa: B018
    taken = await node.receive()
    assert (taken.id, taken.rc) == (id, 2)


async def test_handed_back(server, everyone):
    """What our consumer claimed ahead and did not hand out goes back as if it had never been
    received.
    """
    ours, node, _ = everyone
    await ours.create()
    ids = [await ours.send(f"message {n}") for n in range(5)]
    async with ours.queue.messages(vt=600, prefetch=4) as messages:
        assert (await anext(messages)).id == ids[0]
    await wait_until(lambda: server.redis.hget("rsmq:jobs:Q", "totalrecv") == b"1")
    taken = [await node.receive() for _ in range(4)]
    assert [(message.id, message.rc) for message in taken] == [(id, 1) for id in ids[1:]]
    assert (await node.attributes())["totalrecv"] == 5


async def test_purge(server, everyone):
    """A purge of ours takes what others sent and received with it, and leaves the queue for them to
    use.
    """
    ours, node, pyrsmq = everyone
    await node.create()
    for peer in everyone:
        await peer.send("hello")
        await peer.send("later", delay=600)
        await peer.receive()
    assert await ours.queue.purge() == 6
    assert server.message_fields() == set()
    await pyrsmq.send("new")
    assert (await node.receive()).body == "new"


async def test_peek(everyone):
    """A peek shows us what others received and sent, and changes nothing for them."""
    ours, node, pyrsmq = everyone
    await ours.create()
    hidden = await node.send("hidden")
    received = await pyrsmq.receive(vt=600)
    visible = await pyrsmq.send("visible")
    peeked = await ours.queue.peek()
    assert [(message.id, message.body, message.receive_count) for message in peeked] == [
        (visible, "visible", 0),
        (hidden, "hidden", 1),
    ]
    assert peeked[0].first_received_at is None
    assert round(peeked[1].first_received_at.timestamp() * 1000) == received.fr
    assert (await node.receive()).rc == 1
    assert (await node.attributes())["totalrecv"] == 2


async def test_consumer_of_pyrsmq(server, ours):
    """PyRSMQ's own consumer works off what we send, and what it fails at it tries again."""
    await ours.create()
    for n in (1, 2):
        await ours.send(json.dumps({"n": n}))
    seen = []

    def process(message, rc, **_):
        seen.append((message["n"], rc))
        return message["n"] == 1 or rc == 3

    consumer = RedisSMQConsumer("jobs", process, port=server.port, vt=1, empty_queue_delay=0.01)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(anyio.to_thread.run_sync, consumer.run)
        try:
            await wait_until(lambda: server.redis.zcard("rsmq:jobs") == 0)
        finally:
            consumer.stop()
    consumer.rsqm.client.close()
    assert seen == [(1, 1), (2, 1), (2, 2), (2, 3)]
    assert server.message_fields() == set()
