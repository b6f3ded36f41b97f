"""One message is looked at, and nobody notices."""

from datetime import UTC, datetime, timedelta

import pytest
import redis
from aiorsmq import InvalidParameterValue, QueueDoesNotExist

from dead_letters.letters import bury
from foreign_data.data import put
from operations.others import NODE_ID, send, sent_bytes
from support import now_ms

foreign_data = pytest.mark.foreign_data


async def test_fresh(server, queue):
    """One that was just sent: all that is known of it, in one script call that changes nothing."""
    before = datetime.now(UTC) - timedelta(seconds=1)
    id = await queue.send("hello")
    keys = server.redis.hgetall("rsmq:jobs:Q")
    server.reset_stats()
    message = await queue.get(id)
    assert server.script_calls() <= 2  # it may not know the script yet
    assert server.redis.hgetall("rsmq:jobs:Q") == keys
    assert (message.id, message.queue, message.raw, message.size) == (id, "jobs", b"hello", 5)
    assert (message.receive_count, message.first_received_at) == (0, None)
    assert before < message.sent_at < datetime.now(UTC) + timedelta(seconds=1)
    assert (message.reason, message.origin, message.is_cut) == ("", "", False)


async def test_visible_and_hidden(server, queue):
    """It says whether it can be received, and when it becomes visible."""
    id = await queue.send("x", delay=500)
    hidden = await queue.get(id)
    assert not hidden.is_visible
    assert hidden.visible_at.timestamp() * 1000 == server.redis.zscore("rsmq:jobs", id)
    await queue.change_visibility(id, 0)
    assert (await queue.get(id)).is_visible


async def test_received(queue):
    """Its receipt settles the delivery that it saw, and no later one."""
    id = await queue.send("x")
    held = await queue.receive(vt=0)
    seen = await queue.get(id)
    assert (seen.receive_count, seen.first_received_at) == (1, held.first_received_at)
    assert seen.receipt == held.receipt
    await queue.receive(vt=0)
    assert not await queue.delete_message(seen.receipt)
    assert await queue.delete_message((await queue.get(id)).receipt)
    assert await queue.get(id) is None


async def test_cut(server, queue):
    """The body is cut on the server."""
    await queue.set_attributes(maxsize=-1)
    id = await queue.send(b"abc" + b"x" * 1_000_000)
    before = sent_bytes(server)
    for max_bytes in (0, 3):
        message = await queue.get(id, max_bytes=max_bytes)
        assert (message.raw, message.size) == (b"abc"[:max_bytes], 1_000_003)
        assert message.is_cut
    assert sent_bytes(server) - before < 50_000
    for max_bytes in (None, 1_000_003, 2**63 - 1, 2**63, 10**400):
        assert len((await queue.get(id, max_bytes=max_bytes)).raw) == 1_000_003


async def test_of_another_program(server, queue):
    """As Node and PyRSMQ send, whatever the body is."""
    send(server, b"\xff\xfe\0", id=NODE_ID)
    message = await queue.get(NODE_ID)
    assert message.raw == b"\xff\xfe\0"
    assert message.sent_at.year == 2020


@foreign_data
async def test_foreign(server, queue):
    """Ids, scores and counts that no RSMQ makes do no harm."""
    for id, fields in {
        "not an id": {"score": float("inf")},
        "grüße": {"score": float("-inf"), "rc": "-7", "fr": "1e300"},
        "x": {"score": 1.5, "rc": "many", "fr": b"\xff"},
    }.items():
        put(server, id, **fields)
        message = await queue.get(id)
        assert message.id == id
        assert message.sent_at is None
        assert (message.receive_count, message.first_received_at) == (0, None)
        assert isinstance(message.visible_at, datetime)
    put(server, b"\xff")
    assert (await queue.get("\udcff")).raw == b"foreign"


@foreign_data
async def test_not_there(server, queue):
    """None for an id that is no message: of nothing, of a setting, of a receive count, of an entry
    without a body, of a body without an entry.
    """
    id = await queue.send("x")
    await queue.receive()
    server.redis.zadd("rsmq:jobs", {"phantom": 1})
    server.redis.hset("rsmq:jobs:Q", "stranded", "body")
    for other in ("0" * 32, "vt", f"{id}:rc", "phantom", "stranded"):
        assert await queue.get(other) is None


async def test_dead_letter(rsmq):
    """Of a dead letter it says why it died, and where."""
    jobs = rsmq.queue("jobs")
    await jobs.create(max_receives=1, dead_letter_queue="dead")
    (id,) = await bury(jobs, "x", reason="no such customer:\ngrüße")
    message = await rsmq.queue("dead").get(id, max_bytes=0)
    assert (message.reason, message.origin) == ("no such customer:\ngrüße", "jobs")
    assert message.raw == b""


@foreign_data
async def test_reasons_of_another_program(server, queue):
    """A reason that is none, and a key of another type in the place of the reasons, say nothing."""
    id = await queue.send("x")
    for written in ("", "1 2", "then 1 jobs why", "1 1 b@d why"):
        server.redis.hset("rsmq:jobs:reasons", id, written)
        assert (await queue.get(id)).reason == ""
    server.redis.set("rsmq:jobs:reasons", "theirs")
    message = await queue.get(id)
    assert (message.raw, message.reason, message.origin) == (b"x", "", "")


@foreign_data
async def test_wrong_types(server, rsmq, queue):
    """Another program's key in the place of a queue raises the server's error."""
    server.redis.set("rsmq:other:Q", "theirs")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        await rsmq.queue("other").get("x")
    with pytest.raises(QueueDoesNotExist):
        await rsmq.queue("missing").get("x")


async def test_lost_reply(far, queue, cut_reply):
    """If the reply is lost, it is asked again."""
    id = await queue.send("x")
    cut_reply(None)
    assert (await far.queue("jobs").get(id)).raw == b"x"


@pytest.mark.parametrize("id", ["", b"x", 5, None, "\ud800"])
async def test_bad_ids(unchanged, queue, id):
    """An id is a str, and not empty."""
    with pytest.raises(InvalidParameterValue) as caught:
        await queue.get(id)
    assert (caught.value.parameter, caught.value.value) == ("id", id)


@pytest.mark.parametrize("max_bytes", [-1, 1.0, "1", True])
async def test_bad_bounds(unchanged, queue, max_bytes):
    """The number of bytes is an int, 0 or more."""
    with pytest.raises(InvalidParameterValue, match="max_bytes"):
        await queue.get("x", max_bytes=max_bytes)


async def test_by_the_clock_of_the_server(server, queue):
    """Whether it is visible is what the server's clock says, to the millisecond."""
    id = await queue.send("x")
    server.redis.zadd("rsmq:jobs", {id: now_ms(server) + 3_600_000})
    assert not (await queue.get(id)).is_visible
