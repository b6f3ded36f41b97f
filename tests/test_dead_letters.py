"""Messages that cannot be handled move to the dead-letter queue, once and with their reason, and
back when told to.
"""

import asyncio
import logging
import time
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import anyio
import pytest
import redis
from aiorsmq import (
    JSON,
    AsyncRSMQ,
    ClientClosed,
    DeadLetter,
    InvalidParameterValue,
    NoDeadLetterQueue,
    QueueAlreadyExists,
    QueueDoesNotExist,
)
from aiorsmq._commands.dead import OVER_MAX_RECEIVES
from redis.exceptions import OutOfMemoryError, ResponseError

from support import (
    PATIENCE,
    fields_of,
    ids_in,
    next_millisecond,
    now_ms,
    wait_for_listener,
    wait_until,
)

foreign_data = pytest.mark.foreign_data


@pytest.fixture
async def jobs(rsmq):
    """A queue whose messages die when they are received a second time."""
    queue = rsmq.queue("jobs")
    await queue.create(max_receives=1, dead_letter_queue="dead")
    return queue


@pytest.fixture
def dead(rsmq):
    return rsmq.queue("dead")


async def spend(queue, *bodies, times=1):
    """Send messages and receive each so many times; they are visible again."""
    ids = [await queue.send(body) for body in bodies]
    for _ in range(times):
        for message in await queue.receive_many(len(ids), vt=1000):
            await message.release()
    return ids


async def bury(queue, *bodies, reason="of old age"):
    """Send messages and have them die."""
    await queue.send_many(bodies)
    records = [message._record for message in await queue.receive_many(len(bodies))]
    assert await queue._core.bury(records, reason) == ["dead"] * len(bodies)
    await next_millisecond()
    return [record.id.decode() for record in records]


async def moved(server, ids, qname="dead"):
    """Wait until just these are in the other queue."""
    await wait_until(lambda: sorted(ids_in(server, qname)) == sorted(ids))


async def counts(redrive):
    return [count async for count in redrive]


class TestPolicy:
    async def test_create(self, server, rsmq, jobs):
        """A queue is created with its policy, and its dead-letter queue with it, with RSMQ's
        defaults.
        """
        before = await jobs.attributes()
        assert (before.max_receives, before.dead_letter_queue) == (1, "dead")
        assert await rsmq.list_queues() == {"jobs", "dead"}
        other = await rsmq.get_queue_attributes(qname="dead")
        assert (other.vt, other.delay, other.maxsize) == (30, 0, 65536)
        assert (other.max_receives, other.dead_letter_queue) == (None, None)
        assert fields_of(server, "jobs").keys() - fields_of(server, "dead").keys() == {
            b"max_receives",
            b"dead_letter_queue",
        }

    async def test_none(self, queue):
        """A queue has none unless it is given one."""
        attributes = await queue.attributes()
        assert (attributes.max_receives, attributes.dead_letter_queue) == (None, None)

    async def test_keeps_what_is_there(self, rsmq, dead):
        """A dead-letter queue that is there stays as it is."""
        await dead.create(vt=7, delay=3, maxsize=2048)
        await rsmq.create_queue(qname="jobs", max_receives=3, dead_letter_queue="dead")
        attributes = await dead.attributes()
        assert (attributes.vt, attributes.delay, attributes.maxsize) == (7, 3, 2048)

    async def test_create_what_is_there(self, rsmq, queue):
        """Creating a queue that is there gives it no policy, and makes no dead-letter queue."""
        assert not await queue.create(max_receives=3, dead_letter_queue="dead", exist_ok=True)
        with pytest.raises(QueueAlreadyExists):
            await queue.create(max_receives=3, dead_letter_queue="dead")
        assert (await queue.attributes()).dead_letter_queue is None
        assert await rsmq.list_queues() == {"jobs"}

    async def test_set(self, rsmq, queue):
        """A policy is set, changed in part, and taken away as a whole; the other attributes
        stay.
        """
        attributes = await queue.set_attributes(max_receives=3, dead_letter_queue="dead")
        assert (attributes.max_receives, attributes.dead_letter_queue, attributes.vt) == (
            3,
            "dead",
            30,
        )
        assert await rsmq.list_queues() == {"jobs", "dead"}
        attributes = await rsmq.set_queue_attributes(qname="jobs", max_receives=5)
        assert (attributes.max_receives, attributes.dead_letter_queue) == (5, "dead")
        attributes = await rsmq.set_queue_attributes(qname="jobs", dead_letter_queue="other", vt=7)
        assert (attributes.max_receives, attributes.dead_letter_queue, attributes.vt) == (
            5,
            "other",
            7,
        )
        attributes = await queue.set_attributes(vt=8)
        assert (attributes.max_receives, attributes.dead_letter_queue, attributes.vt) == (
            5,
            "other",
            8,
        )
        attributes = await queue.set_attributes(dead_letter_queue="")
        assert (attributes.max_receives, attributes.dead_letter_queue, attributes.vt) == (
            None,
            None,
            8,
        )

    async def test_removed_without_a_trace(self, server, queue):
        """A policy that is taken away leaves no field behind."""
        before = fields_of(server, "jobs").keys()
        await queue.set_attributes(max_receives=3, dead_letter_queue="dead")
        await queue.set_attributes(dead_letter_queue="")
        assert fields_of(server, "jobs").keys() == before

    async def test_without_a_number(self, server, rsmq, dead):
        """A dead-letter queue alone kills nobody for being received often."""
        queue = rsmq.queue("jobs")
        await queue.create(dead_letter_queue="dead")
        await spend(queue, "tough", times=20)
        message = await queue.receive()
        assert (message.body, message.receive_count) == ("tough", 21)
        assert ids_in(server, "dead") == []

    async def test_dead_letter_queue_is_made_again(self, server, rsmq, jobs, dead):
        """Setting the policy creates a dead-letter queue that has been deleted."""
        await dead.delete()
        await jobs.set_attributes(max_receives=2, dead_letter_queue="dead")
        assert await rsmq.list_queues() == {"jobs", "dead"}

    async def test_one_round_trip(self, server, queue):
        """Setting a policy is one script call."""
        server.reset_stats()
        await queue.set_attributes(max_receives=3, dead_letter_queue="dead")
        assert server.script_calls() <= 2  # EVALSHA, and EVAL if the server did not know it

    @pytest.mark.parametrize("value", [-1, 1_000_001, 1.5, True, "3", b"3"])
    async def test_bad_number(self, rsmq, queue, value):
        """max_receives is an int from 1 to 1000000; 0 only takes it away."""
        before = await queue.attributes()
        for call in (
            queue.set_attributes(max_receives=value, dead_letter_queue="dead"),
            rsmq.queue("new").create(max_receives=value, dead_letter_queue="dead"),
        ):
            with pytest.raises(InvalidParameterValue) as refused:
                await call
            assert (refused.value.parameter, refused.value.value) == ("max_receives", value)
        assert await queue.attributes() == before
        assert await rsmq.list_queues() == {"jobs"}

    @pytest.mark.parametrize("value", ["a b", "QUEUES", "x" * 161, 1, b"dead", "jobs", "dead\n"])
    async def test_bad_name(self, rsmq, queue, value):
        """A dead-letter queue is a queue's name, and another one's."""
        with pytest.raises(InvalidParameterValue) as refused:
            await queue.set_attributes(dead_letter_queue=value)
        assert (refused.value.parameter, refused.value.value) == ("dead_letter_queue", value)
        await queue.delete()
        with pytest.raises(InvalidParameterValue):
            await queue.create(dead_letter_queue=value)
        assert await rsmq.list_queues() == set()

    async def test_number_alone(self, server, rsmq, queue):
        """max_receives without a dead-letter queue is a policy too, and is changed and taken away
        like one.
        """
        before = fields_of(server, "jobs").keys()
        await rsmq.create_queue(qname="new", max_receives=4)
        attributes = await rsmq.get_queue_attributes(qname="new")
        assert (attributes.max_receives, attributes.dead_letter_queue) == (4, None)
        for changes, policy in (
            ({"max_receives": 3}, (3, None)),
            ({"max_receives": 0}, (None, None)),
            ({"max_receives": 3, "dead_letter_queue": "dead"}, (3, "dead")),
            ({"max_receives": 0}, (None, "dead")),
            ({"max_receives": 5}, (5, "dead")),
            ({"max_receives": 2, "dead_letter_queue": ""}, (2, None)),
            ({"dead_letter_queue": "dead"}, (2, "dead")),
            ({"max_receives": 0, "dead_letter_queue": ""}, (None, None)),
        ):
            attributes = await queue.set_attributes(**changes)
            assert (attributes.max_receives, attributes.dead_letter_queue) == policy
        assert fields_of(server, "jobs").keys() == before
        with pytest.raises(InvalidParameterValue, match="max_receives=0"):
            await rsmq.create_queue(qname="other", max_receives=0)

    async def test_of_a_missing_queue(self, rsmq):
        """The policy of a queue that is not there cannot be set, and makes no dead-letter queue."""
        with pytest.raises(QueueDoesNotExist):
            await rsmq.queue("jobs").set_attributes(dead_letter_queue="dead")
        assert await rsmq.list_queues() == set()

    @pytest.mark.parametrize("length", [2, 3, 7])
    async def test_circle(self, server, rsmq, length):
        """Queues that would send their dead in a circle, of any length, are refused; the reason
        shows the way.
        """
        names = [f"q{n}" for n in range(length)]
        for name in names:
            await rsmq.create_queue(qname=name)
        for one, other in pairwise(names):
            await rsmq.set_queue_attributes(qname=one, dead_letter_queue=other)
        before = fields_of(server, names[-1])
        with pytest.raises(InvalidParameterValue) as refused:
            await rsmq.set_queue_attributes(qname=names[-1], dead_letter_queue=names[0])
        assert refused.value.parameter == "dead_letter_queue"
        assert refused.value.reason.endswith(" -> ".join([names[-1], *names]))
        assert fields_of(server, names[-1]) == before

    async def test_circle_closed_by_create(self, rsmq, jobs, dead):
        """A queue that is created cannot close a circle either."""
        await dead.delete()
        with pytest.raises(InvalidParameterValue, match="dead -> jobs -> dead"):
            await dead.create(dead_letter_queue="jobs")
        assert await rsmq.list_queues() == {"jobs"}

    async def test_chain(self, rsmq):
        """A chain that ends is allowed: the dead of one may die again in the next."""
        for name, following in (("c", "d"), ("b", "c"), ("a", "b")):
            await rsmq.create_queue(qname=name, dead_letter_queue=following)
        assert await rsmq.list_queues() == {"a", "b", "c", "d"}
        await rsmq.set_queue_attributes(qname="a", dead_letter_queue="d")

    async def test_two_admins(self, server):
        """Of two admins that set opposite policies at the same time, one is refused."""
        async with AsyncRSMQ.from_url(server.url) as one, AsyncRSMQ.from_url(server.url) as other:
            for n in range(20):
                a, b = one.queue(f"a{n}"), other.queue(f"b{n}")
                await a.create()
                await b.create()
                outcomes = await asyncio.gather(
                    a.set_attributes(dead_letter_queue=b.name),
                    b.set_attributes(dead_letter_queue=a.name),
                    return_exceptions=True,
                )
                assert [type(outcome) for outcome in outcomes].count(InvalidParameterValue) == 1

    async def test_chain_that_changes_meanwhile(self, server, rsmq, monkeypatch):
        """A chain that has become another one between the looks at it is followed where it now
        goes.
        """
        for name, following in (("c", "d"), ("b", "c")):
            await rsmq.create_queue(qname=name, dead_letter_queue=following)
        await rsmq.create_queue(qname="a")
        run, looks = rsmq._node.run, []

        async def run_and_change(call, *rest):
            looks.append(call)
            if len(looks) == 2:
                server.redis.hset("rsmq:b:Q", "dead_letter_queue", "a")
            return await run(call, *rest)

        monkeypatch.setattr(rsmq._node, "run", run_and_change)
        with pytest.raises(InvalidParameterValue, match="a -> b -> a"):
            await rsmq.set_queue_attributes(qname="a", dead_letter_queue="b")

    @foreign_data
    @pytest.mark.parametrize("name", ["jobs", "QUEUES", "a b", "x" * 161, b"\xff", "dead\n"])
    async def test_senseless_name(self, server, rsmq, queue, name):
        """A dead-letter queue that another program has misnamed reads as none; and nothing is
        dropped for it.
        """
        server.redis.hset("rsmq:jobs:Q", mapping={"max_receives": 1, "dead_letter_queue": name})
        attributes = await queue.attributes()
        assert (attributes.max_receives, attributes.dead_letter_queue) == (None, None)
        await spend(queue, "alive", times=2)
        message = await queue.receive()
        assert (message.body, message.receive_count) == ("alive", 3)
        with pytest.raises(NoDeadLetterQueue):
            await queue._core.bury([message._record], "why")
        attributes = await queue.set_attributes(max_receives=3)
        assert (attributes.max_receives, attributes.dead_letter_queue) == (None, None)
        await rsmq.create_queue(qname="first", dead_letter_queue="jobs")
        assert server.redis.hget("rsmq:jobs:Q", "dead_letter_queue") == (
            name if name == b"\xff" else name.encode()
        )

    @foreign_data
    @pytest.mark.parametrize(
        "number", ["", "0", "-1", "1.5", "many", "1e3", " 3", "0x10", "9" * 16, b"\xff"]
    )
    async def test_senseless_number(self, server, queue, number):
        """A max_receives that another program has set to what is no number reads as none."""
        server.redis.hset(
            "rsmq:jobs:Q", mapping={"max_receives": number, "dead_letter_queue": "dead"}
        )
        attributes = await queue.attributes()
        assert (attributes.max_receives, attributes.dead_letter_queue) == (None, "dead")
        await spend(queue, "alive", times=2)
        message = await queue.receive()
        assert message.receive_count == 3
        assert await queue._core.dead.bury([message._record], "why", OVER_MAX_RECEIVES) == [None]

    @foreign_data
    async def test_circle_of_others(self, server, rsmq, queue):
        """A circle that another program has made elsewhere is not followed for ever."""
        for name, following in (("b", "c"), ("c", "b")):
            await rsmq.create_queue(qname=name)
            server.redis.hset(f"rsmq:{name}:Q", "dead_letter_queue", following)
        with pytest.raises(InvalidParameterValue, match="jobs -> b -> c -> b"):
            await queue.set_attributes(dead_letter_queue="b")

    @foreign_data
    @pytest.mark.parametrize("key", ["rsmq:dead", "rsmq:dead:Q"])
    async def test_keys_of_another_type(self, server, rsmq, queue, key):
        """A dead-letter queue whose keys are another program's is refused, and nothing is
        changed.
        """
        server.redis.set(key, "theirs")
        before = fields_of(server, "jobs")
        with pytest.raises(ResponseError, match="WRONGTYPE"):
            await queue.set_attributes(dead_letter_queue="dead")
        with pytest.raises(ResponseError, match="WRONGTYPE"):
            await rsmq.create_queue(qname="new", dead_letter_queue="dead")
        assert (fields_of(server, "jobs"), await rsmq.list_queues()) == (before, {"jobs"})


class TestReceivedTooOften:
    @pytest.mark.parametrize(
        "how", ["receive", "receive_many", "wait", "stream", "prefetch", "message"]
    )
    async def test_moves(self, server, rsmq, jobs, dead, how):
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
    async def test_impatient(self, server, jobs, wait):
        """A receive that meets dead messages first returns the good one behind them."""
        ids = await spend(jobs, *map(str, range(5)))
        good = await jobs.send("good")
        server.reset_stats()
        message = await jobs.receive(wait=wait)
        assert (message.id, message.receive_count) == (good, 1)
        await moved(server, ids)
        assert await jobs.receive() is None

    async def test_many(self, server, jobs):
        """receive_many returns the good ones among the dead, as many as it was asked for."""
        ids = await spend(jobs, *(f"dead {n}" for n in range(150)))
        good = await jobs.send_many([f"good {n}" for n in range(150)])
        messages = await jobs.receive_many(100)
        assert [message.id for message in messages] == good[:100]
        await moved(server, ids)
        assert [message.id for message in await jobs.receive_many(1000)] == good[100:]

    async def test_in_front_of_a_stream(self, server, jobs):
        """A stream steps over them."""
        ids = await spend(jobs, *(f"dead {n}" for n in range(10)))
        await jobs.send("good")
        async with jobs.messages(prefetch=4) as stream:
            with anyio.fail_after(PATIENCE):
                message = await anext(stream)
            assert message.body == "good"
            await message.delete()
        await moved(server, ids)

    async def test_the_last_time(self, server, rsmq):
        """A message is handed out max_receives times, not once more or less."""
        queue = rsmq.queue("jobs")
        await queue.create(max_receives=3, dead_letter_queue="dead")
        id = await queue.send("mortal")
        for n in range(1, 4):
            message = await queue.receive(vt=0)
            assert message.receive_count == n
        assert await queue.receive() is None
        await moved(server, [id])

    async def test_lease_ended(self, server, jobs, dead):
        """A consumer that dies with its message, and only lets the lease end, has used up one
        receipt.
        """
        id = await jobs.send("mortal")
        assert await jobs.receive(vt=0.05)
        asking = asyncio.ensure_future(jobs.receive(wait=60))
        await moved(server, [id])
        asking.cancel()
        await asyncio.wait([asking])

    async def test_handed_back(self, server, jobs):
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

    async def test_without_a_lease(self, server, jobs):
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
    async def test_without_a_lease_and_nowhere_to_go(self, server, jobs, caplog):
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

    async def test_popped(self, server, jobs):
        """A pop takes it all the same: it ends the message."""
        (id,) = await spend(jobs, "mortal")
        message = await jobs.pop()
        assert (message.id, message.receive_count) == (id, 2)
        assert ids_in(server, "dead") == []

    async def test_policy_of_the_moment(self, server, rsmq, jobs):
        """What counts is the policy at the receipt, whoever has changed it."""
        (id,) = await spend(jobs, "mortal")
        async with AsyncRSMQ.from_url(server.url) as admin:
            await admin.set_queue_attributes(qname="jobs", max_receives=2)
            message = await jobs.receive()
            assert message.receive_count == 2
            await message.release()
            await admin.set_queue_attributes(qname="jobs", dead_letter_queue="elsewhere")
            assert await jobs.receive() is None
        await moved(server, [id], "elsewhere")

    async def test_policy_taken_away_meanwhile(self, server, jobs):
        """Without a policy it is handed out again."""
        await spend(jobs, "mortal")
        await jobs.set_attributes(dead_letter_queue="")
        assert (await jobs.receive()).receive_count == 2

    async def test_deleted_dead_letter_queue(self, server, rsmq, jobs, dead):
        """A dead-letter queue that has been deleted is made again by the first message that goes
        there.
        """
        (id,) = await spend(jobs, "mortal")
        await dead.delete()
        assert await jobs.receive() is None
        await moved(server, [id])
        assert await rsmq.list_queues() == {"jobs", "dead"}
        assert (await dead.attributes()).vt == 30

    async def test_longer_than_its_maxsize(self, server, rsmq, dead):
        """A dead message fits into any dead-letter queue, and is not delayed there."""
        await dead.create(maxsize=1024, delay=1000)
        queue = rsmq.queue("jobs")
        await queue.create(maxsize=-1, max_receives=1, dead_letter_queue="dead")
        await spend(queue, "x" * 100_000)
        assert await queue.receive() is None
        await wait_until(lambda: server.redis.zcard("rsmq:dead"))
        assert (await dead.receive()).body == "x" * 100_000

    async def test_again_in_the_dead_letter_queue(self, server, rsmq, jobs, dead):
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

    async def test_wakes_a_consumer(self, server, jobs):
        """A death is announced: a consumer of the dead-letter queue wakes."""
        async with AsyncRSMQ.from_url(server.url, poll_interval=3600) as other:
            asking = asyncio.ensure_future(other.queue("dead").receive(wait=30))
            await wait_for_listener(server, "dead")
            (id,) = await spend(jobs, "mortal")
            assert await jobs.receive() is None
            with anyio.fail_after(PATIENCE):
                assert (await asking).id == id

    async def test_silent(self, server, jobs, dead):
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

    async def test_two_clients(self, server, jobs):
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

    async def test_cost(self, server, jobs):
        """The dead of one claim move in one script call."""
        ids = await spend(jobs, *map(str, range(40)))
        async with AsyncRSMQ.from_url(server.url) as other:
            await other.get_queue_attributes(qname="jobs")
            server.reset_stats()
            assert await other.queue("jobs").receive_many(40) == []
            await moved(server, ids)
            assert server.script_calls() <= 6  # it claims in two halves, and then finds nothing

    async def test_closing(self, server, rsmq):
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

    async def test_lost_reply(self, server, rsmq, jobs, proxy):
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

    async def test_log(self, server, jobs, caplog):
        """The log says how many went where, and nothing of what is in them."""
        await spend(jobs, "s3cret")
        with caplog.at_level(logging.INFO, "aiorsmq"):
            assert await jobs.receive() is None
            await wait_until(lambda: "moved" in caplog.text)
        assert [record.getMessage() for record in caplog.records] == [
            "moved 1 from queue 'jobs' to 'dead'"
        ]

    @foreign_data
    @pytest.mark.parametrize("key", ["rsmq:dead", "rsmq:dead:Q"])
    async def test_keys_of_another_type(self, server, jobs, key, caplog):
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
    async def test_reasons_of_another_type(self, server, jobs, dead):
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
    async def test_message_of_another_program(self, server, jobs, dead):
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
    async def test_phantom(self, server, jobs):
        """An entry without a body does not die: it is removed, as ever."""
        server.redis.zadd("rsmq:jobs", {"f" * 32: 1})
        server.redis.hset("rsmq:jobs:Q", "f" * 32 + ":rc", "7")
        assert await jobs.receive() is None
        assert (server.redis.zcard("rsmq:jobs"), server.redis.zcard("rsmq:dead")) == (0, 0)


class TestBury:
    async def test_fenced(self, server, jobs):
        """A message that has been received since by another is left alone."""
        await jobs.send("contested")
        first = await jobs.receive(vt=0)
        await jobs.set_attributes(max_receives=5)
        second = await jobs.receive()
        assert await jobs._core.bury([first._record], "stale") == [None]
        assert await jobs._core.bury([second._record], "mine") == ["dead"]
        assert await jobs._core.bury([second._record], "mine") == [None]  # it is gone
        assert ids_in(server, "dead") == [first.id]

    async def test_over_count(self, server, jobs):
        """As over max_receives it moves whoever has received it since, if that was more often than
        max_receives.
        """
        await jobs.send_many(["a", "b"])
        await jobs.set_attributes(max_receives=4)
        held = [message._record for message in await jobs.receive_many(2, vt=0)]
        for _ in range(3):
            assert await jobs.receive(vt=0)
        assert await jobs._core.dead.bury(held, "too old", OVER_MAX_RECEIVES) == [None, None]
        server.redis.hset("rsmq:jobs:Q", f"{held[0].id.decode()}:rc", "5")
        assert await jobs._core.dead.bury(held, "too old", OVER_MAX_RECEIVES) == ["dead", None]

    async def test_nothing_known_yet(self, server, rsmq, jobs):
        """The dead-letter queue need not have been heard of: the server says which it is."""
        async with AsyncRSMQ.from_url(server.url) as other:
            await jobs.send("mortal")
            message = await jobs.receive()
            queue = other.queue("jobs")
            assert queue._core.dead.queue == ""
            assert await queue._core.bury([message._record], "why") == ["dead"]
            assert queue._core.dead.queue == "dead"

    async def test_remembered_wrongly(self, server, jobs):
        """It goes where the policy says now, not where it said at the last receive."""
        await jobs.send("mortal")
        message = await jobs.receive()
        assert jobs._core.dead.queue == "dead"
        async with AsyncRSMQ.from_url(server.url) as admin:
            await admin.set_queue_attributes(qname="jobs", dead_letter_queue="elsewhere")
        assert await jobs._core.bury([message._record], "why") == ["dead"]
        assert (ids_in(server, "dead"), ids_in(server, "elsewhere")) == ([], [message.id])

    async def test_no_policy(self, server, queue):
        """Without a dead-letter queue it raises, and the message stays."""
        await queue.send("immortal")
        message = await queue.receive()
        with pytest.raises(NoDeadLetterQueue) as error:
            await queue._core.bury([message._record], "why")
        assert error.value.qname == "jobs"
        assert ids_in(server, "jobs") == [message.id]

    async def test_no_queue(self, jobs):
        """Without the queue there is no message, and nothing is moved."""
        await jobs.send("mortal")
        message = await jobs.receive()
        await jobs.delete()
        assert await jobs._core.bury([message._record], "why") == [None]

    async def test_many(self, server, jobs, dead):
        """Any number move, in steps, and keep their order."""
        ids = await jobs.send_many([str(n) for n in range(500)])
        messages = await jobs.receive_many(500)
        server.reset_stats()
        assert (
            await jobs._core.bury([message._record for message in messages], "all of them")
            == ["dead"] * 500
        )
        assert server.script_calls() <= 10
        assert [message.id for message in await dead.receive_many(500)] == ids
        assert await jobs._core.bury([], "none") == []

    async def test_mourners(self, jobs):
        """Whoever asked is told of each message that a claim moved, and why; not of what others
        bury on purpose.
        """
        told = []
        jobs._core.mourners.append(
            lambda record, death, reason: told.append((record.raw, death, reason))
        )
        await bury(jobs, "a", reason="tired")
        await spend(jobs, "b")
        assert await jobs.receive() is None
        await wait_until(lambda: told == [(b"b", "dead", "received too often")])

    async def test_full_server(self, own_server):
        """A full server moves the dead all the same, and lets a new policy be refused."""
        server = own_server("--maxmemory-policy", "noeviction")
        async with AsyncRSMQ.from_url(server.url) as rsmq:
            jobs, dead = rsmq.queue("jobs"), rsmq.queue("dead")
            await jobs.create(max_receives=1, dead_letter_queue="dead")
            await rsmq.create_queue(qname="other")
            await spend(jobs, "mortal", "rejected")
            await dead.delete()
            server.redis.config_set("maxmemory", "100kb")  # far over it
            with pytest.raises((OutOfMemoryError, ResponseError), match=r"OOM|maxmemory"):
                await jobs.send("one more")
            assert await jobs.receive() is None
            await wait_until(lambda: server.redis.zcard("rsmq:dead") == 2)
            assert len(await dead.reasons()) == 2
            assert await counts(dead.redrive()) == [2]
            with pytest.raises((OutOfMemoryError, ResponseError), match=r"OOM|maxmemory"):
                await rsmq.set_queue_attributes(qname="other", dead_letter_queue="new")
            assert "new" not in await rsmq.list_queues()


class TestNotDecodable:
    @pytest.fixture
    async def typed(self, rsmq, jobs):
        await jobs.set_attributes(max_receives=5)
        return rsmq.queue("jobs", codec=JSON)

    @pytest.mark.parametrize("how", ["receive", "receive_many", "stream", "pop", "pop_stream"])
    async def test_moves(self, server, typed, dead, how):
        """What the codec cannot decode moves at the first receipt, popped or not; the others are
        handed out.
        """
        id = await typed.send(b"{no json")
        await typed.send({"n": 1})
        match how:
            case "receive":
                message = await typed.receive()
            case "receive_many":
                (message,) = await typed.receive_many(10)
            case "pop":
                message = await typed.pop()
            case _:
                async with typed.messages(pop=how == "pop_stream") as stream:
                    message = await anext(stream)
        assert message.body == {"n": 1}
        await moved(server, [id])
        (letter,) = await dead.reasons()
        assert letter.reason == "cannot be decoded by JsonCodec (JSONDecodeError)"
        assert (letter.raw, letter.receive_count) == (b"{no json", 1)

    async def test_without_a_lease(self, server, typed):
        """With vt=0 too."""
        id = await typed.send(b"{no json")
        with anyio.fail_after(PATIENCE):
            assert await typed.receive(vt=0) is None
        await moved(server, [id])

    async def test_stream_without_a_lease(self, server, typed):
        """A stream with vt=0, which receives it over and over, gets rid of it."""
        id = await typed.send(b"{no json")
        asking = asyncio.ensure_future(anext(typed.messages(vt=0)))
        await moved(server, [id])
        asking.cancel()
        await asyncio.wait([asking])

    async def test_peek(self, server, typed):
        """Looking at it does it no harm."""
        await typed.send({"n": 1})
        assert await typed.receive(vt=0)  # so that the policy is known
        id = await typed.send(b"{no json")
        assert [message.body for message in await typed.peek()] == [{"n": 1}]
        server.reset_stats()
        assert server.redis.zcard("rsmq:dead") == 0
        assert (await typed.attributes()).msgs == 2
        assert id in ids_in(server, "jobs")

    async def test_read_by_another_since(self, server, typed, jobs):
        """A consumer whose codec reads it, and that has received it since, keeps it."""
        id = await typed.send(b"{no json")
        (record,) = await typed._core.receiving(0).take(1, 0)
        message = await jobs.receive()
        typed._core.put_aside(record, "cannot be decoded", popped=False, peeked=False)
        await typed._core.node.tasks.finish(5)
        assert ids_in(server, "jobs") == [id]
        assert await message.delete()


class TestReasons:
    async def test_reasons(self, server, jobs, dead):
        """A dead letter says why it died, when, where, and after how many receipts; without
        claiming it.
        """
        before = datetime.now(UTC) - timedelta(seconds=1)
        ids = await bury(jobs, "a", "b", reason="no such customer: grüße\n🐇")
        letters = await dead.reasons()
        assert [letter.id for letter in letters] == ids
        for letter, raw in zip(letters, (b"a", b"b"), strict=True):
            assert isinstance(letter, DeadLetter)
            assert (letter.raw, letter.reason) == (raw, "no such customer: grüße\n🐇")
            assert (letter.queue, letter.receive_count) == ("jobs", 1)
            assert before < letter.died_at <= datetime.now(UTC) + timedelta(seconds=1)
            assert letter.died_at.tzinfo is UTC
        assert (await dead.attributes()).totalrecv == 0

    async def test_received_too_often(self, server, rsmq, dead):
        """Of one that was received too often the receipt counts that found it so."""
        queue = rsmq.queue("jobs")
        await queue.create(max_receives=3, dead_letter_queue="dead")
        await spend(queue, "mortal", times=3)
        assert await queue.receive() is None
        (letter,) = await wait_until(dead.reasons)
        assert (letter.reason, letter.receive_count) == ("received too often", 4)

    async def test_hidden(self, server, jobs, dead):
        """Those that somebody holds are shown too."""
        await bury(jobs, "a", "b")
        held = await dead.receive()
        assert {letter.id for letter in await dead.reasons()} > {held.id}

    async def test_limit(self, jobs, dead):
        """As many as asked for, at most 1000."""
        await bury(jobs, *map(str, range(30)))
        assert [letter.raw for letter in await dead.reasons(limit=2)] == [b"0", b"1"]
        for limit in (0, 1001, "1", 1.0, True):
            with pytest.raises(InvalidParameterValue):
                await dead.reasons(limit=limit)

    async def test_not_dead(self, queue):
        """A message that was just sent there has no reason."""
        id = await queue.send("alive", delay=100)
        (letter,) = await queue.reasons()
        assert (letter.id, letter.reason, letter.queue, letter.receive_count) == (id, "", "", 0)
        assert letter.died_at > datetime.now(UTC) + timedelta(seconds=50)  # when it becomes visible

    async def test_missing_queue(self, dead):
        """A queue that is not there has none."""
        with pytest.raises(QueueDoesNotExist):
            await dead.reasons()

    async def test_repr(self, jobs, dead):
        """The body is not shown where a dead letter is printed."""
        await bury(jobs, "s3cret")
        assert "s3cret" not in repr(await dead.reasons())

    @pytest.mark.parametrize(
        ("reason", "kept"),
        [("x" * 1000, "x" * 500), ("", "no reason given"), ("\ud800", "\\ud800"), (" a ", " a ")],
    )
    async def test_odd_reasons(self, jobs, dead, reason, kept):
        """Of a reason 500 characters are kept; any text will do."""
        await bury(jobs, "a", reason=reason)
        (letter,) = await dead.reasons()
        assert letter.reason == kept

    async def test_kept_for_a_time(self, server, jobs, dead):
        """Reasons are kept until 14 days after the last death."""
        await bury(jobs, "a")
        assert 14 * 24 * 3600 - 60 < server.redis.ttl("rsmq:dead:reasons") <= 14 * 24 * 3600
        server.redis.expire("rsmq:dead:reasons", 60)
        await bury(jobs, "b")
        assert server.redis.ttl("rsmq:dead:reasons") > 3600
        server.redis.delete("rsmq:dead:reasons")
        letters = await dead.reasons()
        assert [(letter.raw, letter.reason) for letter in letters] == [(b"a", ""), (b"b", "")]

    async def test_pruned(self, server, jobs, dead):
        """Reasons of messages that are gone do not pile up: no more of them than a few per message
        that is there.
        """
        for n in range(40):
            await bury(jobs, *(f"{n}/{m}" for m in range(10)))
            await dead.delete_many([message.id for message in await dead.receive_many(10)])
        assert server.redis.hlen("rsmq:dead:reasons") <= 40
        ids = set(await bury(jobs, "there"))
        assert {id.decode() for id in server.redis.hkeys("rsmq:dead:reasons")} >= ids

    async def test_those_of_the_living_stay(self, server, jobs, dead):
        """A reason is not pruned while its message is there."""
        ids = await bury(jobs, *map(str, range(100)))
        for _ in range(30):
            (gone,) = await bury(jobs, "short")
            await dead.delete_message(gone)
        assert {id.decode() for id in server.redis.hkeys("rsmq:dead:reasons")} >= set(ids)

    async def test_go_with_the_queue(self, server, jobs, dead):
        """Deleting a dead-letter queue deletes its reasons."""
        await bury(jobs, "a")
        await dead.delete()
        assert server.redis.exists("rsmq:dead:reasons") == 0

    @foreign_data
    @pytest.mark.parametrize(
        "written",
        [
            "",
            "soon",
            "1 2 jobs",
            "a b jobs why",
            "1 x jobs why",
            "1 1 a/b why",
            b"\xff",
            "1 1 dead why",
        ],
    )
    async def test_senseless(self, server, jobs, dead, written):
        """A reason that another program has overwritten reads as none, and the message stays unless
        told where.
        """
        (id,) = await bury(jobs, "a")
        server.redis.hset("rsmq:dead:reasons", id, written)
        (letter,) = await dead.reasons()
        assert (letter.reason, letter.queue, letter.receive_count) == ("", "", 0)
        assert await counts(dead.redrive()) == [0]
        assert await counts(dead.redrive("jobs")) == [1]


class TestRedrive:
    async def test_back(self, server, rsmq, jobs, dead):
        """Messages go back to where they came from, as new ones, and their reasons go."""
        await rsmq.create_queue(qname="other", dead_letter_queue="dead")
        ids = await bury(jobs, "a", "b")
        others = await bury(rsmq.queue("other"), "c")
        held = await dead.receive(vt=0)
        await next_millisecond()
        before = now_ms(server)
        assert await counts(dead.redrive()) == [2, 3]
        assert (ids_in(server, "jobs"), ids_in(server, "other"), ids_in(server, "dead")) == (
            ids,
            others,
            [],
        )
        assert server.redis.exists("rsmq:dead:reasons") == 0
        message = await jobs.receive()
        assert (message.id, message.body, message.receive_count) == (held.id, "a", 1)
        assert message.first_received_at.timestamp() * 1000 >= before
        assert (await jobs.attributes()).totalsent == 4

    async def test_nothing_to_do(self, jobs, dead):
        """At least one count is told."""
        assert await counts(dead.redrive()) == [0]

    async def test_many(self, server, jobs, dead):
        """Any number, in steps of 64 at the most, counted up."""
        ids = []
        for n in range(5):
            ids += await bury(jobs, *(f"{n}/{m}" for m in range(100)))
        told = await counts(dead.redrive())
        assert told == sorted(told)
        assert told[-1] == 500
        assert max(later - earlier for earlier, later in pairwise([0, *told])) <= 64
        assert sorted(ids_in(server, "jobs")) == sorted(ids)
        assert ids_in(server, "dead") == []

    async def test_large_bodies(self, server, rsmq, jobs, dead):
        """A step ends at some 256 KiB of bodies."""
        await bury(jobs, *("x" * 60_000 for _ in range(20)))
        told = await counts(dead.redrive())
        assert told[-1] == 20
        assert len(told) >= 4

    async def test_elsewhere(self, server, rsmq, jobs, dead):
        """`to` is another queue, by its name or its handle."""
        ids = await bury(jobs, "a", "b")
        await rsmq.create_queue(qname="elsewhere")
        assert await counts(dead.redrive("elsewhere", limit=1)) == [1]
        assert await counts(dead.redrive(rsmq.queue("elsewhere", codec=JSON))) == [1]
        assert ids_in(server, "elsewhere") == ids

    async def test_limit(self, server, jobs, dead):
        """`limit` messages at the most, the oldest first."""
        ids = await bury(jobs, *map(str, range(100)))
        assert (await counts(dead.redrive(limit=70)))[-1] == 70
        assert (ids_in(server, "jobs"), ids_in(server, "dead")) == (ids[:70], ids[70:])

    async def test_where(self, server, jobs, dead):
        """`where` chooses by what a dead letter says; the others stay where they are."""
        await bury(jobs, *map(str, range(300)), reason="bad luck")
        others = await bury(jobs, *map(str, range(300)), reason="bad input")
        asked = []

        def where(letter):
            asked.append(letter)
            return letter.reason == "bad luck" and int(letter.raw) % 3 == 0

        assert (await counts(dead.redrive(where=where)))[-1] == 100
        assert len(asked) == 600
        assert server.redis.zcard("rsmq:jobs") == 100
        assert set(ids_in(server, "dead")) > set(others)
        assert await counts(dead.redrive(where=lambda _: False)) == [0]

    async def test_where_raises(self, server, jobs, dead):
        """What `where` raises comes out, and nothing more is moved."""
        ids = await bury(jobs, "a")
        with pytest.raises(ZeroDivisionError):
            await counts(dead.redrive(where=lambda _: 1 / 0))
        assert ids_in(server, "dead") == ids

    async def test_rate(self, server, jobs, dead):
        """`rate` messages a second at the most, spread evenly."""
        await bury(jobs, *map(str, range(100)))
        started, told = time.monotonic(), []
        async for count in dead.redrive(rate=200):
            told.append(count)
            assert count <= 200 * (time.monotonic() - started) + 20
        assert told[-1] == 100
        assert len(told) >= 5

    async def test_held(self, server, jobs, dead):
        """What a consumer of the dead-letter queue holds stays with it."""
        first, second = await bury(jobs, "a", "b")
        held = await dead.receive()
        assert held.id == first
        assert await counts(dead.redrive()) == [1]
        assert (ids_in(server, "jobs"), ids_in(server, "dead")) == ([second], [first])
        assert await held.release()
        assert await counts(dead.redrive()) == [1]

    async def test_received_meanwhile(self, server, jobs, dead):
        """What is received between the look at it and the move stays with its consumer."""
        await bury(jobs, "a", "b")
        held = []

        def where(letter):
            if not held:
                script = "redis.call('ZADD', KEYS[1], 9999999999999, ARGV[1])"
                server.redis.eval(script, 1, "rsmq:dead", letter.id)
                held.append(letter.id)
            return True

        assert await counts(dead.redrive(where=where)) == [1]
        assert ids_in(server, "dead") == held

    async def test_dies_again(self, server, rsmq, dead):
        """What dies again while it goes on is not moved in circles."""
        queue = rsmq.queue("jobs", codec=JSON)
        await queue.create(dead_letter_queue="dead")
        await bury(rsmq.queue("jobs"), *(b"{no json" for _ in range(200)))
        stream = queue.messages()
        consuming = asyncio.ensure_future(anext(stream))
        with anyio.fail_after(PATIENCE):
            told = [count async for count in dead.redrive(rate=1000)]
        assert told[-1] == 200
        await wait_until(lambda: server.redis.zcard("rsmq:dead") == 200)
        consuming.cancel()
        await asyncio.wait([consuming])

    async def test_queue_worked_on_meanwhile(self, server, jobs, dead):
        """No message is passed over because others are taken from the dead-letter queue
        meanwhile.
        """
        ids = await bury(jobs, *map(str, range(400)))
        server.redis.zadd(
            "rsmq:dead", dict.fromkeys(ids, 5)
        )  # in whatever order they are among equals
        passed, total = [], 0

        def where(letter):
            if int(letter.raw) % 2 and letter.id not in passed:
                passed.append(letter.id)
            return int(letter.raw) % 2 == 0

        async for count in dead.redrive(where=where):
            total = count
            await dead.delete_many(
                [*passed[:10], passed[-1]]
            )  # in front of where it goes on, and where it does
        assert total == 200
        assert set(ids_in(server, "jobs")) == set(ids[::2])

    async def test_broken_off(self, server, jobs, dead):
        """It can be broken off at any step and begun again; nothing is lost or doubled."""
        ids = await bury(jobs, *map(str, range(300)))
        async for count in dead.redrive(rate=10_000):
            assert count == 64
            break
        assert server.redis.zcard("rsmq:jobs") == 64
        redrive = dead.redrive()
        assert await anext(redrive) == 64
        await redrive.aclose()
        with anyio.move_on_after(0.2):
            await counts(dead.redrive(rate=10))
        await counts(dead.redrive())
        assert sorted(ids_in(server, "jobs")) == sorted(ids)
        assert server.redis.zcard("rsmq:dead") == 0

    async def test_unknown_origin(self, server, jobs, dead, caplog):
        """What nobody knows the origin of stays, with one warning, unless `to` says where it
        goes.
        """
        (id,) = await bury(jobs, "a")
        strays = [await dead.send("x"), await dead.send("y")]
        with caplog.at_level(logging.WARNING, "aiorsmq"):
            assert await counts(dead.redrive()) == [1]
        assert [record.getMessage() for record in caplog.records] == [
            "left 2 messages in queue 'dead': it is not known where they came from"
        ]
        assert (ids_in(server, "jobs"), ids_in(server, "dead")) == ([id], strays)
        seen = []
        assert await counts(dead.redrive("jobs", where=lambda letter: not seen.append(letter))) == [
            2
        ]
        assert [(letter.reason, letter.queue) for letter in seen] == [("", "")] * 2
        assert ids_in(server, "dead") == []

    async def test_missing_destination(self, server, rsmq, jobs, dead):
        """A queue that is not there is not made again: it raises, and the messages stay."""
        ids = await bury(jobs, "a")
        with pytest.raises(QueueDoesNotExist) as error:
            await counts(dead.redrive("elsewhere"))
        assert error.value.qname == "elsewhere"
        await jobs.delete()
        with pytest.raises(QueueDoesNotExist) as error:
            await counts(dead.redrive())
        assert error.value.qname == "jobs"
        assert ids_in(server, "dead") == ids
        await dead.delete()
        with pytest.raises(QueueDoesNotExist) as error:
            await counts(dead.redrive())
        assert error.value.qname == "dead"

    @pytest.mark.parametrize(
        ("parameter", "value"),
        [
            *(("to", value) for value in ("dead", "", "a b", 1)),
            *(("limit", value) for value in (0, -1, 1.5, "1", True)),
            *(("rate", value) for value in (0, -1, float("inf"), float("nan"), "1", True)),
            *(("where", value) for value in (1, "x", asyncio.sleep)),
        ],
    )
    async def test_bad_input(self, jobs, dead, parameter, value):
        """Bad input is refused at the call, before the first step."""
        with pytest.raises(InvalidParameterValue) as refused:
            dead.redrive(**{parameter: value})
        assert refused.value.parameter == parameter

    async def test_another_namespace(self, server, dead):
        """A handle from another namespace is refused."""
        async with AsyncRSMQ.from_url(server.url, ns="other") as other:
            with pytest.raises(InvalidParameterValue):
                dead.redrive(other.queue("jobs"))

    async def test_wakes_a_consumer(self, server, jobs, dead):
        """A consumer that waits at the destination is woken."""
        (id,) = await bury(jobs, "a")
        async with AsyncRSMQ.from_url(server.url, poll_interval=3600) as other:
            asking = asyncio.ensure_future(other.queue("jobs").receive(wait=30))
            await wait_for_listener(server)
            assert await counts(dead.redrive()) == [1]
            with anyio.fail_after(PATIENCE):
                assert (await asking).id == id

    async def test_lost_reply(self, server, jobs, proxy):
        """A step whose reply is lost is counted."""
        await bury(jobs, *map(str, range(100)))
        async with AsyncRSMQ.from_url(proxy.url) as other:

            def where(letter):
                proxy.cut_after_execution = (
                    int(letter.raw) >= 64
                )  # they have been looked at, and are moved next
                return True

            assert await counts(other.queue("dead").redrive(where=where)) == [64, 100]
        assert proxy.cuts == 1
        assert int(fields_of(server, "jobs")[b"totalsent"]) == 200

    @foreign_data
    @pytest.mark.parametrize("count", [1, 64, 2500])
    async def test_phantoms(self, server, jobs, dead, count):
        """Entries without a body are stepped over."""
        ids = await bury(jobs, *map(str, range(10)))
        server.redis.zadd("rsmq:dead", {f"{n:032}": 1 for n in range(count)})
        assert (await counts(dead.redrive()))[-1] == 10
        assert sorted(ids_in(server, "jobs")) == sorted(ids)

    @foreign_data
    async def test_equal_scores(self, server, jobs, dead):
        """Thousands that became visible in the same millisecond are walked through like others."""
        pipeline = server.redis.pipeline()
        for n in range(3000):
            pipeline.zadd("rsmq:dead", {f"{n:032}": 5})
            pipeline.hset("rsmq:dead:Q", f"{n:032}", str(n))
        pipeline.execute()
        told = await counts(dead.redrive("jobs", where=lambda letter: int(letter.raw) % 2 == 1))
        assert told[-1] == 1500

    async def test_closed(self, server):
        """After aclose() it raises ClientClosed."""
        async with AsyncRSMQ.from_url(server.url) as other:
            await other.create_queue(qname="dead")
            redrive = other.queue("dead").redrive()
        with pytest.raises(ClientClosed):
            await anext(redrive)
