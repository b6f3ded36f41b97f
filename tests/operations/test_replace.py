"""A message is edited and sent again, in one step."""

import asyncio
import logging

import anyio
import pytest
from aiorsmq import (
    JSON,
    AsyncRSMQ,
    InvalidParameterValue,
    MessageTooLong,
    QueueDoesNotExist,
    Receipt,
)
from redis.exceptions import TimeoutError

from dead_letters.letters import bury
from support import (
    PATIENCE,
    fields_in,
    fields_of,
    ids_in,
    keyspace,
    next_millisecond,
    now_ms,
    wait_for_listener,
)


@pytest.fixture
async def jobs(rsmq):
    queue = rsmq.queue("jobs")
    await queue.create(vt=60, dead_letter_queue="dead")
    return queue


async def test_in_its_queue(server, jobs, caplog):
    """The old message is gone and the new one, with a later id, is there; the log tells it."""
    old, other = await jobs.send_many(["a", "b"])
    await next_millisecond()
    with caplog.at_level(logging.INFO, "aiorsmq.queue"):
        new = await jobs.replace(old, "A")
    assert ids_in(server) == [other, new]
    assert new > other
    message = (await jobs.receive_many(2))[1]
    assert (message.id, message.body, message.receive_count) == (new, "A", 1)
    assert int(fields_of(server)[b"totalsent"]) == 3
    (record,) = caplog.records
    assert (
        record.getMessage()
        == f"replaced message {old} of queue 'jobs' by message {new} in queue 'jobs'"
    )
    assert fields_in(record) == {"queue": "jobs", "id": old}


async def test_dead_letter(server, rsmq, jobs):
    """A dead letter goes back with another body, and its reason goes with the old one."""
    (id,) = await bury(jobs, "{no json", reason="ValueError: bad")
    dead = rsmq.queue("dead")
    before = now_ms(server)
    new = await dead.replace(id, {"a": 1}, to=rsmq.queue("jobs", codec=JSON), delay=60)
    assert (ids_in(server, "dead"), ids_in(server)) == ([], [new])
    assert server.redis.exists("rsmq:dead:reasons") == 0
    assert before + 60_000 <= server.redis.zscore("rsmq:jobs", new) <= now_ms(server) + 60_000
    assert fields_of(server)[new.encode()] == b'{"a":1}'


async def test_delay_of_the_target(server, rsmq, jobs):
    """Without `delay` it gets that of the queue it goes to."""
    await rsmq.create_queue(qname="slow", delay=100)
    id = await jobs.send("a")
    before = now_ms(server)
    new = await jobs.replace(id, "b", to="slow")
    assert server.redis.zscore("rsmq:slow", new) >= before + 100_000


async def test_held(jobs):
    """By its id a message is replaced though a consumer holds it, who then cannot settle it."""
    await jobs.send("a")
    held = await jobs.receive()
    assert await jobs.replace(held.id, "b")
    assert await held.delete() is False
    assert (await jobs.receive()).body == "b"


async def test_fenced(server, jobs):
    """By a receipt it is replaced only as long as nobody has received it since."""
    await jobs.send("a")
    stale = (await jobs.receive(vt=0)).receipt
    held = await jobs.receive()
    before = keyspace(server)
    assert await jobs.replace(stale, "b") is None
    assert keyspace(server) == before
    assert await jobs.replace(held.receipt, "b")
    assert await jobs.replace(held.receipt, "c") is None


async def test_gone(server, jobs, caplog):
    """What is not there is not replaced: nothing changes, and nothing is logged."""
    id = await jobs.send("a")
    await jobs.delete_message(id)
    before = keyspace(server)
    with caplog.at_level(logging.INFO, "aiorsmq.queue"):
        assert await jobs.replace(id, "b") is None
    assert keyspace(server) == before
    assert caplog.records == []


async def test_too_long(server, rsmq, jobs):
    """The maxsize of the target counts; the old message stays."""
    await rsmq.create_queue(qname="small", maxsize=1024)
    id = await jobs.send("a")
    before = keyspace(server)
    with pytest.raises(MessageTooLong) as refused:
        await jobs.replace(id, "x" * 1025, to="small")
    assert (refused.value.qname, refused.value.size, refused.value.maxsize) == (
        "small",
        1025,
        1024,
    )
    assert keyspace(server) == before
    assert await jobs.replace(id, "x" * 1024, to="small")


async def test_missing(server, rsmq, jobs):
    """Either queue that does not exist is named; nothing changes."""
    id = await jobs.send("a")
    before = keyspace(server)
    with pytest.raises(QueueDoesNotExist) as missing:
        await jobs.replace(id, "b", to="elsewhere")
    assert missing.value.qname == "elsewhere"
    with pytest.raises(QueueDoesNotExist) as missing:
        await rsmq.queue("nowhere").replace(id, "b", to="jobs")
    assert missing.value.qname == "nowhere"
    assert keyspace(server) == before


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        *(("id", value) for value in ("", "a b", 1, Receipt("x", "1", None))),
        *(("body", value) for value in (1, None)),
        *(("to", value) for value in ("", "a b", 1, "QUEUES")),
        *(("delay", value) for value in (-1, "1", 10**7)),
    ],
)
async def test_bad_input(server, jobs, parameter, value):
    """Bad input is refused before anything is sent."""
    server.reset_stats()
    with pytest.raises(InvalidParameterValue) as refused:
        await jobs.replace(**{"id": "0" * 32, "body": "x"} | {parameter: value})
    assert refused.value.parameter == parameter
    assert server.script_calls() == 0


async def test_another_namespace(server, jobs):
    """A handle from another namespace is refused."""
    async with AsyncRSMQ.from_url(server.url, ns="other") as other:
        with pytest.raises(InvalidParameterValue):
            await jobs.replace("0" * 32, "x", to=other.queue("jobs"))


async def test_wakes_a_consumer(server, rsmq, jobs):
    """Who waits at the target is woken."""
    await rsmq.create_queue(qname="other")
    id = await jobs.send("a")
    async with AsyncRSMQ.from_url(server.url, poll_interval=3600) as waiting:
        asking = asyncio.ensure_future(waiting.queue("other").receive(wait=30))
        await wait_for_listener(server, "other")
        new = await jobs.replace(id, "b", to="other")
        with anyio.fail_after(PATIENCE):
            assert (await asking).id == new


async def test_wrong_clock(server, jobs):
    """An id that was minted by a wrong clock is minted again."""
    id = await jobs.send("a")
    jobs._core.node.clock._offset_us -= 3600 * 1_000_000
    before = now_ms(server)
    new = await jobs.replace(id, "b")
    (message,) = await jobs.peek()
    assert message.id == new
    assert before - 1000 < message.sent_at.timestamp() * 1000 <= now_ms(server)


@pytest.mark.parametrize("to", ["jobs", "other"])
async def test_lost_reply(server, rsmq, jobs, far, cut_reply, to):
    """A call whose reply is lost is repeated: it returns the id of the one new message."""
    await rsmq.create_queue(qname="other")
    there = far.queue("jobs")
    await there.replace(await jobs.send("warm-up"), "x", to=to)
    id = await jobs.send("a")
    cut_reply(None)
    new = await there.replace(id, "b", to=to)
    assert ids_in(server, to)[-1] == new
    assert id not in ids_in(server)
    assert sum(int(fields_of(server, name).get(b"totalsent", 0)) for name in ("jobs", "other")) == 4


async def test_lost_request(server, jobs, far, proxy):
    """So is one that the server has not heard."""
    id = await jobs.send("a")
    proxy.cut_before_execution = 1
    new = await far.queue("jobs").replace(id, "b")
    assert ids_in(server) == [new]


async def test_lost_reply_and_received(jobs, far, cut_reply):
    """If the new message is received and deleted before the repetition, nobody can tell: it
    raises, and makes no second message.
    """
    there = far.queue("jobs")
    await there.replace(await jobs.send("warm-up"), "x")
    assert await jobs.pop()
    id = await jobs.send("a")
    cut_reply(jobs.pop)
    with pytest.raises(TimeoutError, match="reply was lost"):
        await there.replace(id, "b")
    assert (await jobs.attributes()).msgs == 0


async def test_lost_request_and_received(jobs, far, proxy):
    """A receipt that has become stale before the repetition is refused."""
    there = far.queue("jobs")
    await jobs.send("a")
    stale = await jobs.receive(vt=0)
    proxy.cut_before_execution = 1
    proxy.before_cut = jobs.receive
    assert await there.replace(stale.receipt, "b") is None
    assert (await jobs.peek())[0].body == "a"


@pytest.mark.foreign_data
async def test_foreign(server, jobs):
    """An entry without a body counts as gone; another program's key for the reasons is left
    alone.
    """
    server.redis.zadd("rsmq:jobs", {"phantom": 1})
    server.redis.set("rsmq:jobs:reasons", "theirs")
    assert await jobs.replace("phantom", "b") is None
    new = await jobs.replace(await jobs.send("a"), "b")
    assert ids_in(server) == ["phantom", new]
    assert server.redis.get("rsmq:jobs:reasons") == b"theirs"
