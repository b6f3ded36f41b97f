"""The move to the dead-letter queue: once, to where the policy says now, also if the message cannot
be decoded.
"""

import asyncio

import anyio
import pytest
from aiorsmq import JSON, AsyncRSMQ, NoDeadLetterQueue
from aiorsmq._commands.dead import OVER_MAX_RECEIVES
from redis.exceptions import OutOfMemoryError, ResponseError

from dead_letters.letters import bury, counts, moved, spend
from support import PATIENCE, ids_in, wait_until


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
        """A move for being over max_receives goes ahead although others have received the message
        since, if that was more often than max_receives.
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

    async def test_observers(self, jobs):
        """An observer is told of each message that a claim moved, and why; not of what is moved on
        purpose.
        """

        class Observer:
            deaths = []  # noqa: RUF012

            def still_holds(self, _record):
                return False

            def on_death(self, record, death, reason):
                self.deaths.append((record.raw, death, reason))

        with jobs._core.dead.observed_by(Observer()):
            await bury(jobs, "a", reason="tired")
            await spend(jobs, "b")
            assert await jobs.receive() is None
            died = [(b"b", "dead", "received too often")]
            await wait_until(lambda: Observer.deaths == died)

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
