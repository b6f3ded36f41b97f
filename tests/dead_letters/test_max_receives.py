"""A message received more often than `max_receives` moves to the dead-letter queue."""

import asyncio
import logging

import anyio
import pytest
import redis
from aiorsmq import AsyncRSMQ, ClientClosed

from dead_letters.letters import counts, moved, spend
from support import PATIENCE, fields_in, fields_of, ids_in, now_ms, wait_for_listener, wait_until

foreign_data = pytest.mark.foreign_data


@pytest.mark.parametrize(
    "how", ["receive", "receive_many", "wait", "stream", "prefetch", "message"]
)
async def test_moves(server, rsmq, jobs, dead, how):
    """What was received more often than max_receives is not handed out but moved, as a new
    message, with its id.
    """
    (id,) = await spend(jobs, "mortal")
    before = now_ms(server)
    receiving = {
        "receive": jobs.receive,
        "message": lambda: rsmq.receive_message(qname="jobs", wait=3600),
        "receive_many": lambda: jobs.receive_many(10),
        "wait": lambda: jobs.receive(wait=3600),
        "stream": lambda: anext(jobs.messages()),
        "prefetch": lambda: anext(jobs.messages(prefetch=8)),
    }
    asking = asyncio.ensure_future(receiving[how]())
    if how.startswith("receive"):
        assert not await asking
    await moved(server, [id])
    assert asking.done() == how.startswith("receive")
    asking.cancel()
    await asyncio.wait([asking])
    assert ids_in(server, "jobs") == []
    (score,) = [score for _, score in server.redis.zrange("rsmq:dead", 0, -1, withscores=True)]
    assert before <= score <= now_ms(server)
    message = await dead.receive()
    assert (message.id, message.body, message.receive_count) == (id, "mortal", 1)
    assert message.first_received_at.timestamp() * 1000 >= before
    attributes = await dead.attributes()
    assert (attributes.totalsent, attributes.totalrecv, attributes.msgs) == (1, 1, 1)


@pytest.mark.parametrize("wait", [0, 5])
async def test_impatient(server, jobs, wait):
    """A receive that meets dead messages first returns the good one behind them."""
    ids = await spend(jobs, *map(str, range(5)))
    good = await jobs.send("good")
    server.reset_stats()
    message = await jobs.receive(wait=wait)
    assert (message.id, message.receive_count) == (good, 1)
    await moved(server, ids)
    assert await jobs.receive() is None


async def test_many(server, jobs):
    """receive_many returns the good ones among the dead, up to its limit."""
    ids = await spend(jobs, *(f"dead {n}" for n in range(150)))
    good = await jobs.send_many([f"good {n}" for n in range(150)])
    messages = await jobs.receive_many(100)
    assert [message.id for message in messages] == good[:100]
    await moved(server, ids)
    assert [message.id for message in await jobs.receive_many(1000)] == good[100:]


async def test_in_front_of_a_stream(server, jobs):
    """A stream steps over them."""
    ids = await spend(jobs, *(f"dead {n}" for n in range(10)))
    await jobs.send("good")
    async with jobs.messages(prefetch=4) as stream:
        with anyio.fail_after(PATIENCE):
            message = await anext(stream)
        assert message.body == "good"
        await message.delete()
    await moved(server, ids)


async def test_the_last_time(server, rsmq):
    """A message is handed out max_receives times, not once more or less."""
    queue = rsmq.queue("jobs")
    await queue.create(max_receives=3, dead_letter_queue="dead")
    id = await queue.send("mortal")
    for n in range(1, 4):
        message = await queue.receive(vt=0)
        assert message.receive_count == n
    assert await queue.receive() is None
    await moved(server, [id])


async def test_lease_ended(server, jobs, dead):
    """A consumer that dies with its message, and only lets the lease end, has used up one
    receipt.
    """
    id = await jobs.send("mortal")
    assert await jobs.receive(vt=0.05)
    asking = asyncio.ensure_future(jobs.receive(wait=60))
    await moved(server, [id])
    asking.cancel()
    await asyncio.wait([asking])


async def test_handed_back(server, jobs):
    """A message that is claimed ahead, and handed back, has not been received, however often
    that happens.
    """
    ids = await jobs.send_many([str(n) for n in range(6)])
    for id in ids[:5]:
        async with jobs.messages(prefetch=8) as stream:
            message = await anext(stream)
            assert message.id == id
            await message.delete()
        await wait_until(
            lambda: not any(field.endswith(b":rc") for field in fields_of(server, "jobs"))
        )
    message = await jobs.receive()
    assert (message.id, message.receive_count) == (ids[5], 1)


async def test_without_a_lease(server, jobs):
    """With vt=0 too: the dead go, and the good one behind them is returned."""
    ids = await spend(jobs, "dead 0", "dead 1")
    good = await jobs.send("good")
    with anyio.fail_after(PATIENCE):
        message = await jobs.receive(vt=0)
    assert message.id == good
    await moved(server, ids)
    with anyio.fail_after(PATIENCE):
        assert await jobs.receive(vt=0) is None  # the good one has become one of the dead
    await moved(server, [*ids, good])


@foreign_data
async def test_without_a_lease_and_nowhere_to_go(server, jobs, caplog):
    """With vt=0, what cannot be moved does not keep client and server busy."""
    await spend(jobs, "dead")
    server.redis.delete("rsmq:dead")
    server.redis.set("rsmq:dead", "theirs")
    with anyio.fail_after(PATIENCE):
        assert await jobs.receive(vt=0) is None
    server.reset_stats()
    with anyio.move_on_after(0.5):
        await jobs.receive(vt=0, wait=60)
    assert server.script_calls() <= 5
    assert "could not move" in caplog.text


async def test_popped(server, jobs):
    """A pop takes it all the same: it ends the message."""
    (id,) = await spend(jobs, "mortal")
    message = await jobs.pop()
    assert (message.id, message.receive_count) == (id, 2)
    assert ids_in(server, "dead") == []


async def test_policy_of_the_moment(server, rsmq, jobs):
    """The policy at the time of the receipt counts, no matter who has changed it."""
    (id,) = await spend(jobs, "mortal")
    async with AsyncRSMQ.from_url(server.url) as admin:
        await admin.set_queue_attributes(qname="jobs", max_receives=2)
        message = await jobs.receive()
        assert message.receive_count == 2
        await message.release()
        await admin.set_queue_attributes(qname="jobs", dead_letter_queue="elsewhere")
        assert await jobs.receive() is None
    await moved(server, [id], "elsewhere")


async def test_policy_taken_away(server, jobs):
    """Without a policy it is handed out again."""
    await spend(jobs, "mortal")
    await jobs.set_attributes(dead_letter_queue="")
    assert (await jobs.receive()).receive_count == 2


async def test_deleted_dead_letter_queue(server, rsmq, jobs, dead):
    """A dead-letter queue that has been deleted is made again by the first message that goes
    there.
    """
    (id,) = await spend(jobs, "mortal")
    await dead.delete()
    assert await jobs.receive() is None
    await moved(server, [id])
    assert await rsmq.list_queues() == {"jobs", "dead"}
    assert (await dead.attributes()).vt == 30


async def test_longer_than_its_maxsize(server, rsmq, dead):
    """A dead message fits into any dead-letter queue, and is not delayed there."""
    await dead.create(maxsize=1024, delay=1000)
    queue = rsmq.queue("jobs")
    await queue.create(maxsize=-1, max_receives=1, dead_letter_queue="dead")
    await spend(queue, "x" * 100_000)
    assert await queue.receive() is None
    await wait_until(lambda: server.redis.zcard("rsmq:dead"))
    assert (await dead.receive()).body == "x" * 100_000


async def test_again_in_the_dead_letter_queue(server, rsmq, jobs, dead):
    """A dead-letter queue may have one of its own."""
    await dead.set_attributes(max_receives=1, dead_letter_queue="graveyard")
    (id,) = await spend(jobs, "mortal")
    assert await jobs.receive() is None
    await moved(server, [id])
    assert await dead.receive(vt=0)
    assert await dead.receive() is None
    await moved(server, [id], "graveyard")
    (letter,) = await rsmq.queue("graveyard").reasons()
    assert (letter.id, letter.queue, letter.receive_count) == (id, "dead", 2)


async def test_wakes_a_consumer(server, jobs):
    """A death is announced: a consumer of the dead-letter queue wakes."""
    async with AsyncRSMQ.from_url(server.url, poll_interval=3600) as other:
        asking = asyncio.ensure_future(other.queue("dead").receive(wait=30))
        await wait_for_listener(server, "dead")
        (id,) = await spend(jobs, "mortal")
        assert await jobs.receive() is None
        with anyio.fail_after(PATIENCE):
            assert (await asking).id == id


async def test_silent(server, jobs, dead):
    """With realtime=False nothing is announced."""
    await spend(jobs, "mortal")
    with (
        redis.Redis(unix_socket_path=server.socket, protocol=2) as client,
        client.pubsub() as pubsub,
    ):
        pubsub.subscribe("rsmq:rt:dead")
        assert pubsub.get_message(timeout=PATIENCE)["type"] == "subscribe"
        async with AsyncRSMQ.from_url(server.url, realtime=False) as silent:
            assert await silent.queue("jobs").receive() is None
            await wait_until(lambda: server.redis.zcard("rsmq:dead"))
        server.redis.publish("rsmq:rt:dead", "that was all")
        assert pubsub.get_message(timeout=PATIENCE)["data"] == b"that was all"


async def test_two_clients(server, jobs):
    """Two clients that find the same message dead move it once."""
    ids = await spend(jobs, *map(str, range(50)))
    async with AsyncRSMQ.from_url(server.url) as other:
        await asyncio.gather(
            *(
                queue.receive_many(10, vt=0)
                for queue in (jobs, other.queue("jobs"))
                for _ in range(10)
            )
        )
        await moved(server, ids)
    assert int(fields_of(server, "dead")[b"totalsent"]) == 50


async def test_cost(server, jobs):
    """The dead of one claim move in one script call."""
    ids = await spend(jobs, *map(str, range(40)))
    async with AsyncRSMQ.from_url(server.url) as other:
        await other.get_queue_attributes(qname="jobs")
        server.reset_stats()
        assert await other.queue("jobs").receive_many(40) == []
        await moved(server, ids)
        assert server.script_calls() <= 6  # it claims in two halves, and then finds nothing


async def test_closing(server, rsmq):
    """A client that is closed just then moves what it found, or leaves it to its lease; nothing
    is lost.
    """
    async with AsyncRSMQ.from_url(server.url) as other:
        queue = other.queue("jobs")
        await queue.create(max_receives=1, dead_letter_queue="dead")
        (id,) = await spend(queue, "mortal")
        asking = asyncio.ensure_future(queue.receive(wait=10))
        await wait_until(lambda: int(fields_of(server, "jobs")[b"totalrecv"]) == 2)
    with pytest.raises(ClientClosed):
        await asking
    assert ids_in(server, "jobs") + ids_in(server, "dead") == [id]


async def test_lost_reply(server, rsmq, jobs, proxy):
    """A move whose reply is lost is known to have been done."""
    async with AsyncRSMQ.from_url(proxy.url) as other:
        queue = other.queue("jobs")
        await jobs.send_many(["a", "b"])
        records = [message._record for message in await queue.receive_many(2)]
        await queue._core.bury(records[:1], "first, so that the script is known")
        proxy.cut_after_execution = 1
        assert await queue._core.bury(records[1:], "second") == ["dead"]
    assert proxy.cuts == 1
    assert server.redis.zcard("rsmq:dead") == 2
    assert int(fields_of(server, "dead")[b"totalsent"]) == 2


async def test_log(server, jobs, caplog):
    """The log says which went where and why, and nothing of what is in them."""
    (id,) = await spend(jobs, "s3cret")
    with caplog.at_level(logging.INFO, "aiorsmq"):
        assert await jobs.receive() is None
        await wait_until(lambda: "moved" in caplog.text)
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("aiorsmq.queue", "WARNING")
    assert record.getMessage() == (
        f"moved message {id} of queue 'jobs' to dead-letter queue 'dead': received too often"
    )
    assert fields_in(record) == {
        "queue": "jobs",
        "id": id,
        "attempt": 2,
        "reason": "received too often",
    }


@foreign_data
@pytest.mark.parametrize("key", ["rsmq:dead", "rsmq:dead:Q"])
async def test_keys_of_another_type(server, jobs, key, caplog):
    """What cannot be moved stays as it is, hidden for its lease, with a warning; others are
    handed out.
    """
    (id,) = await spend(jobs, "mortal")
    await jobs.send("good")
    server.redis.delete(key)
    server.redis.set(key, "theirs")
    before = fields_of(server, "jobs")
    assert (await jobs.receive()).body == "good"
    await wait_until(lambda: "could not move" in caplog.text)
    after = fields_of(server, "jobs")
    assert {name: after[name] for name in before if name.startswith(id.encode())}.keys() == {
        name for name in before if name.startswith(id.encode())
    }
    assert server.redis.zscore("rsmq:jobs", id) > now_ms(server)
    assert server.redis.get(key) == b"theirs"


@foreign_data
async def test_reasons_of_another_type(server, jobs, dead):
    """Another program's key in place of the reasons stops nothing, and stays."""
    server.redis.set("rsmq:dead:reasons", "theirs")
    (id,) = await spend(jobs, "mortal")
    assert await jobs.receive() is None
    await moved(server, [id])
    (letter,) = await dead.reasons()
    assert (letter.id, letter.reason, letter.queue) == (id, "", "")
    assert await counts(dead.redrive("jobs")) == [1]
    await dead.delete()
    assert server.redis.get("rsmq:dead:reasons") == b"theirs"


@foreign_data
async def test_message_of_another_program(server, jobs, dead):
    """Messages of any id, with any receive count, die and come back like others."""
    for id in ("f" * 30, "with:colon", b"\xff\x00"):
        server.redis.zadd("rsmq:jobs", {id: 1})
        server.redis.hset("rsmq:jobs:Q", id, b"\xff")
        server.redis.hset(
            "rsmq:jobs:Q", (id if isinstance(id, bytes) else id.encode()) + b":rc", "7"
        )
    assert await jobs.receive() is None
    await wait_until(lambda: server.redis.zcard("rsmq:dead") == 3)
    letters = await dead.reasons()
    assert {letter.receive_count for letter in letters} == {8}
    assert {letter.raw for letter in letters} == {b"\xff"}
    assert await counts(dead.redrive()) == [3]
    assert set(server.redis.zrange("rsmq:jobs", 0, -1)) == {
        b"f" * 30,
        b"with:colon",
        b"\xff\x00",
    }


@foreign_data
async def test_phantom(server, jobs):
    """An entry without a body does not die: it is removed, as ever."""
    server.redis.zadd("rsmq:jobs", {"f" * 32: 1})
    server.redis.hset("rsmq:jobs:Q", "f" * 32 + ":rc", "7")
    assert await jobs.receive() is None
    assert (server.redis.zcard("rsmq:jobs"), server.redis.zcard("rsmq:dead")) == (0, 0)
