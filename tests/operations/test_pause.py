"""A paused queue takes messages, and hands out none to any kind of consumer until it is resumed."""

import asyncio
import logging

import anyio
import pytest
from aiorsmq import AsyncRSMQ, QueueDoesNotExist
from aiorsmq.pyrsmq import NoMessageInQueue, RedisSMQ
from aiorsmq.testing import drain

from conformance.server import announcements
from support import (
    PATIENCE,
    Handler,
    fields_in,
    fields_of,
    ids_in,
    keyspace,
    never_polling,
    now_ms,
    restart,
    wait_for_listener,
    wait_for_silence,
    wait_until,
)


@pytest.fixture
async def other(server):
    """The queue in another client, one that never polls."""
    async with never_polling(server) as rsmq:
        yield rsmq.queue("jobs")


@pytest.fixture
def deaf(server):
    """The URL of a user who may not listen."""
    server.redis.execute_command(
        *("ACL", "SETUSER", "deaf", "reset", "on", ">pw", "+@all", "allkeys", "resetchannels")
    )
    yield {"username": "deaf", "password": "pw"}
    server.redis.acl_deluser("deaf")


async def until_known(queue, *, paused=True):
    await wait_until(lambda: queue._core.pause.is_on is paused)


class TestAnswers:
    async def test_pause(self, server, queue):
        """`pause` says whether the queue was not paused, and the queue keeps since when it is."""
        before = now_ms(server)
        assert await queue.pause() is True
        paused = fields_of(server)[b"paused"]
        assert before <= int(paused) <= now_ms(server)
        await wait_until(lambda: now_ms(server) > int(paused))
        assert await queue.pause() is False
        assert fields_of(server)[b"paused"] == paused

    async def test_resume(self, server, queue):
        """`resume` says whether it was paused, and leaves no trace in the queue."""
        before = fields_of(server)
        assert await queue.resume() is False
        await queue.pause()
        assert await queue.resume() is True
        assert await queue.resume() is False
        assert fields_of(server) == before

    async def test_missing(self, server, rsmq):
        """A queue that does not exist can be neither paused nor resumed."""
        before = keyspace(server)
        with pytest.raises(QueueDoesNotExist):
            await rsmq.queue("jobs").pause()
        with pytest.raises(QueueDoesNotExist):
            await rsmq.queue("jobs").resume()
        assert keyspace(server) == before

    @pytest.mark.parametrize("first", ["pause", "resume"])
    async def test_lost_reply(self, server, far, queue, cut_reply, first):
        """If the reply is lost, the call returns what its first attempt did, and does not undo what
        others have done since.
        """
        there = far.queue("jobs")
        await there.pause()
        await there.resume()
        if first == "resume":
            await queue.pause()
        undo = queue.resume if first == "pause" else queue.pause
        undone = []

        async def do_the_opposite():
            undone.append(await undo())

        cut_reply(do_the_opposite)
        assert await getattr(there, first)() is True
        assert undone == [True]
        assert (b"paused" in fields_of(server)) is (first == "resume")

    @pytest.mark.parametrize("call", ["pause", "resume"])
    async def test_lost_reply_of_no_change(self, far, queue, cut_reply, call):
        """So does a call that found nothing to do."""
        there = far.queue("jobs")
        await there.resume()
        if call == "pause":
            await queue.pause()
        undo = queue.resume if call == "pause" else queue.pause
        cut_reply(undo)
        assert await getattr(there, call)() is False
        assert await getattr(queue, call)() is True

    async def test_token_is_forgotten(self, server, queue):
        """What a call leaves for its repetition goes by itself."""
        await queue.pause()
        assert 0 < server.redis.ttl("rsmq:jobs:deleted") <= 60

    async def test_tokens_do_not_pile_up(self, server, queue):
        """What calls leave goes too if the next ones come before it expires."""
        long_ago = now_ms(server) // 1000 - 1000
        old = {f"{n:016x}": f"{n % 2} {long_ago}" for n in range(1000)}
        server.redis.hset("rsmq:jobs:deleted", mapping=old)
        for _ in range(500):
            await queue.pause()
            await queue.resume()
        kept = server.redis.hgetall("rsmq:jobs:deleted")
        assert len(kept.keys() - {token.encode() for token in old}) == 1000
        assert len(kept) < 1500

    async def test_full_server(self, own_server):
        """A full server can be paused and resumed."""
        server = own_server("--maxmemory", "8mb", "--maxmemory-policy", "noeviction")
        async with AsyncRSMQ.from_url(server.url) as rsmq:
            queue = rsmq.queue("jobs")
            await queue.create()
            await queue.send("x")
            server.redis.config_set("maxmemory", "1mb")
            assert await queue.pause() is True
            assert await queue.receive() is None
            assert await queue.resume() is True
            assert (await queue.receive()).body == "x"


async def by_receive(queue):
    return await queue.receive()


async def by_long_poll(queue):
    return await queue.receive(wait=0.2)


async def by_receive_many(queue):
    return await queue.receive_many(5)


async def by_another_vt(queue):
    return await queue.receive(vt=0)


async def by_pop(queue):
    return await queue.pop()


async def by_long_pop(queue):
    return await queue.pop(wait=0.2)


CALLS = [by_receive, by_long_poll, by_receive_many, by_another_vt, by_pop, by_long_pop]


class TestConsumers:
    @pytest.mark.parametrize("take", CALLS)
    async def test_calls(self, server, queue, take):
        """Calls find nothing in a paused queue, change nothing there, and find it after that."""
        await queue.send_many(["1", "2"])
        await queue.pause()
        before = keyspace(server)
        assert not await take(queue)
        assert keyspace(server) == before
        await queue.resume()
        assert await take(queue)

    async def test_pyrsmq(self, server, queue):
        """PyRSMQ's API says that there is no message."""
        await queue.send("x")
        await queue.pause()
        async with RedisSMQ(options={"unix_socket_path": server.socket}, qname="jobs") as theirs:
            with pytest.raises(NoMessageInQueue):
                await theirs.receiveMessage().exec()
            with pytest.raises(NoMessageInQueue):
                await theirs.popMessage().exec()
            await queue.resume()
            assert (await theirs.receiveMessage().exec())["message"] == "x"

    @pytest.mark.parametrize("options", [{}, {"pop": True}, {"prefetch": 2}, {"create": True}])
    async def test_stream(self, queue, other, options):
        """A stream waits; what is sent meanwhile comes in its order at once when it is resumed."""
        await queue.pause()
        await queue.send_many(["1", "2"])
        async with other.messages(**options) as messages:
            step = asyncio.ensure_future(anext(messages))
            await until_known(other)
            await queue.send("3")
            assert len(await queue.peek(5)) == 3
            assert not step.done()
            await queue.resume()
            with anyio.fail_after(PATIENCE):
                bodies = [(await step).body, (await anext(messages)).body]
                bodies.append((await anext(messages)).body)
        assert bodies == ["1", "2", "3"]

    async def test_during_a_long_poll(self, server, queue, other):
        """A pause that begins during a long poll keeps it from what is sent then; the end of the
        pause gives it that.
        """
        polling = asyncio.ensure_future(other.receive(wait=PATIENCE))
        await wait_for_listener(server)
        await queue.pause()
        await until_known(other)
        await queue.send("x")
        await wait_for_silence(server)
        assert not polling.done()
        await queue.resume()
        assert (await polling).body == "x"

    async def test_ends_a_long_poll_on_time(self, queue):
        """A long poll on a paused queue ends when its time is over, with nothing."""
        await queue.pause()
        await queue.send("x")
        with anyio.fail_after(PATIENCE):
            assert await queue.receive(wait=0.05) is None

    async def test_due_meanwhile(self, server, queue, other):
        """A delayed message that becomes due in a pause wakes nobody, and is there after it."""
        step = asyncio.ensure_future(other.receive(wait=PATIENCE))
        await wait_for_listener(server)
        id = await queue.send("x", delay=0.3)
        await queue.pause()
        await until_known(other)
        await wait_for_silence(server)
        server.reset_stats()
        await wait_until(lambda: now_ms(server) > server.redis.zscore("rsmq:jobs", id) + 100)
        assert server.script_calls() == 0
        await queue.resume()
        assert (await step).id == id

    async def test_counts(self, server, queue, other):
        """A paused queue that is full of messages is asked once by those who wait, and no more."""
        await queue.send_many(["x"] * 100)
        await queue.pause()
        server.reset_stats()

        async def handler(message):
            pass

        async with other.worker(handler) as worker, other.messages(prefetch=5) as messages:
            step = asyncio.ensure_future(anext(messages))
            await until_known(other)
            await wait_for_listener(server)
            await wait_for_silence(server)
            await asyncio.sleep(0.2)
            # the worker: its attributes, a claim, and two when it and the stream begin to listen
            assert server.script_calls() <= 8
            server.reset_stats()
            await asyncio.sleep(0.3)
            assert server.script_calls() == 0
            await queue.resume()
            await step
            await wait_until(lambda: worker.stats.succeeded)

    async def test_polls(self, server, queue):
        """Who never hears that a pause has ended notices at the next safety poll."""
        await queue.pause()
        await queue.send("x")
        async with AsyncRSMQ.from_url(server.url, poll_interval=0.05, realtime=False) as rsmq:
            polling = asyncio.ensure_future(rsmq.queue("jobs").receive(wait=PATIENCE))
            await until_known(rsmq.queue("jobs"))
            server.redis.hdel("rsmq:jobs:Q", "paused")
            assert (await polling).body == "x"

    async def test_silent_client(self, server, queue, other):
        """A client that announces nothing else announces a pause and its end."""
        async with AsyncRSMQ.from_url(server.url, realtime=False) as rsmq:
            silent = rsmq.queue("jobs")
            polling = asyncio.ensure_future(other.receive(wait=PATIENCE))
            await wait_for_listener(server)
            await silent.pause()
            await until_known(other)
            await silent.send("x")
            await silent.resume()
            assert (await polling).body == "x"

    async def test_not_permitted_to_listen(self, server, queue, deaf):
        """Who may not listen obeys at the next claim, and hands back then what it has claimed
        ahead.
        """
        ids = await queue.send_many(["1", "2", "3"])
        async with AsyncRSMQ.from_url(server.url, poll_interval=3600, **deaf) as rsmq:
            there = rsmq.queue("jobs")
            async with there.messages(prefetch=2) as messages:
                first = await anext(messages)
                await wait_until(lambda: len(messages._mailbox.delivered) == 2)
                await queue.pause()
                assert await there.receive() is None
                await wait_until(lambda: fields_of(server).get(f"{ids[1]}:rc".encode()) is None)
                assert await first.delete()
        await queue.resume()
        assert [message.body for message in await queue.receive_many(5)] == ["2", "3"]


class TestAhead:
    @pytest.mark.parametrize("pop", [False, True])
    async def test_handed_back(self, server, queue, other, pop):
        """What a stream has claimed ahead returns at once to its old place, as if it had not been
        received; what is in hand can be settled.
        """
        ids = await queue.send_many(["1", "2", "3", "4"])
        earlier = {f"{ids[1]}:rc": "7", f"{ids[1]}:fr": "1600000000000"}
        server.redis.hset("rsmq:jobs:Q", mapping=earlier)
        places = server.redis.zrange("rsmq:jobs", 0, -1, withscores=True)[1:]
        async with other.messages(prefetch=3, pop=pop) as messages:
            first = await anext(messages)
            await wait_until(lambda: len(messages._mailbox.delivered) == 3)
            await wait_for_listener(server)
            assert ids_in(server) == ([] if pop else ids)
            await queue.pause()
            await wait_until(
                lambda: server.redis.zrange("rsmq:jobs", 0, 2, withscores=True) == places
            )
            fields = fields_of(server)
            kept = {name: fields[name.encode()].decode() for name in earlier}
            assert kept == earlier
            assert not {f"{id}:rc".encode() for id in ids[2:]} & fields.keys()
            assert fields[b"totalrecv"] == b"1"
            if not pop:
                assert await first.delete()
            step = asyncio.ensure_future(anext(messages))
            await wait_for_silence(server)
            assert not step.done()
            await queue.resume()
            assert [(await step).id, (await anext(messages)).id] == ids[1:3]

    async def test_not_to_another(self, server, queue, other):
        """What a cancelled consumer leaves in a paused queue goes back, and not to the next one."""
        await queue.send_many(["1", "2"])
        async with other.messages(prefetch=1) as messages:
            await anext(messages)
            await wait_until(lambda: messages._mailbox.delivered)
            other._core.pause.is_on = True  # as if another line had learnt it
            waiting = asyncio.ensure_future(other.receive(wait=PATIENCE))
            server.redis.hset("rsmq:jobs:Q", "paused", "1")
            await wait_for_silence(server)
        await wait_for_silence(server)
        assert not waiting.done()
        assert [message.receive_count for message in await queue.peek(5)] == [0, 1]
        await queue.resume()
        assert (await waiting).body == "2"

    async def test_idle_stream_is_not_left_listening(self, server, queue):
        """A stream that was dropped with messages claimed ahead leaves no subscription."""
        await queue.send_many(["1", "2"])
        messages = queue.messages(prefetch=1)
        await anext(messages)
        await wait_for_listener(server)
        assert queue._core._default_line._flag.is_wanted
        del messages
        await wait_until(lambda: not queue._core._default_line._flag.is_wanted)

    async def test_stream_is_not_left_listening(self, server, queue, other):
        """Nor does one whose messages a pause has taken back."""
        await queue.send_many(["1", "2"])
        messages = other.messages(prefetch=1)
        await anext(messages)
        await wait_for_listener(server)
        await queue.pause()
        await wait_until(lambda mailbox=messages._mailbox: not mailbox.waiters)
        await wait_for_silence(server)
        assert other._core._default_line._flag.is_wanted
        del messages
        await wait_until(lambda: not other._core._default_line._flag.is_wanted)


class TestWorkers:
    async def test_pause(self, server, queue, other):
        """A worker ends the job in hand, whose lease it renews, and takes no other; it is healthy
        meanwhile, and goes on at once.
        """
        await queue.send_many(["1", "2"])
        handler = Handler()
        async with other.worker(handler, vt=0.6, concurrency=1) as worker:
            await handler.begun.wait()
            await queue.pause()
            scores = server.redis.zrange("rsmq:jobs", 0, -1, withscores=True)
            hidden = max(score for _, score in scores)
            await wait_until(
                lambda: (
                    max(s for _, s in server.redis.zrange("rsmq:jobs", 0, -1, withscores=True))
                    > hidden
                )
            )
            handler.go_on.set()
            await wait_until(lambda: worker.stats.succeeded == 1)
            await until_known(other)
            await wait_for_silence(server)
            assert worker.stats.received == 1
            assert (worker.trouble, worker.healthy) == (None, True)
            await queue.resume()
            await wait_until(lambda: worker.stats.succeeded == 2)

    async def test_retry(self, server, queue, other):
        """A job that fails in a pause is released as ever, and comes again after it."""
        await queue.send("x")
        begun, go_on = asyncio.Event(), asyncio.Event()

        async def handler(message):
            begun.set()
            await go_on.wait()
            if message.receive_count == 1:
                raise ValueError

        async with other.worker(handler, backoff=lambda _: 0.0) as worker:
            await begun.wait()
            await queue.pause()
            go_on.set()
            await wait_until(lambda: worker.stats.retried == 1)
            await until_known(other)
            await wait_for_silence(server)
            assert worker.stats.received == 1
            (message,) = await queue.peek()
            assert message.visible_until.timestamp() * 1000 <= now_ms(server)
            await queue.resume()
            await wait_until(lambda: worker.stats.succeeded == 1)

    async def test_death(self, rsmq, queue, other):
        """A job that fails for the last time in a pause dies in it, of what it failed of."""
        await rsmq.queue("dead").create()
        await queue.set_attributes(max_receives=1, dead_letter_queue="dead")
        await queue.send("x")
        handler = Handler()

        async def fail(message):
            await handler(message)
            raise ValueError("bad")

        async with other.worker(fail, concurrency=2) as worker:
            await handler.begun.wait()
            await queue.pause()
            await until_known(other)
            handler.go_on.set()
            await wait_until(lambda: worker.stats.dead + worker.stats.retried)
        assert [letter.reason for letter in await rsmq.queue("dead").reasons()] == [
            "ValueError: bad"
        ]

    @pytest.mark.parametrize("queues", [["paused", "open"], {"paused": 1000, "open": 1}])
    async def test_others_are_served(self, server, rsmq, queues):
        """A paused queue, however important, keeps a worker from none of the others."""
        for name in ("paused", "open"):
            await rsmq.queue(name).create()
        await rsmq.queue("paused").send_many(["x"] * 20)
        await rsmq.queue("paused").pause()
        await rsmq.queue("open").send_many(["x"] * 20)
        handled = []

        async def handler(message):
            handled.append(message.queue)

        async with (
            never_polling(server) as working,
            working.worker(queues, handler, concurrency=2) as worker,
        ):
            await wait_until(lambda: len(handled) == 20)
            await rsmq.queue("open").send("x")
            await wait_until(lambda: len(handled) == 21)
            assert set(handled) == {"open"}
            assert worker.healthy
            await rsmq.queue("paused").resume()
            await wait_until(lambda: len(handled) == 41)

    async def test_drain(self, queue):
        """Draining a paused queue in a test fails, and says why."""
        await queue.send("x")
        await queue.pause()

        async def handler(message):
            pass

        with anyio.fail_after(PATIENCE), pytest.raises(AssertionError, match="'jobs' is paused"):
            await drain(queue, handler)
        await queue.resume()
        assert await drain(queue, handler) == 1


class TestState:
    async def test_not_affected(self, rsmq, queue):
        """Sends, looks, settling, redrives and purges go on."""
        await rsmq.queue("dead").create()
        await queue.set_attributes(dead_letter_queue="dead", max_receives=1)
        await queue.send("x")
        message = await queue.receive()
        await queue.pause()
        await rsmq.queue("dead").pause()
        assert await message.extend(5)
        assert await queue._core.bury([message._record], "tired") == ["dead"]
        assert await rsmq.queue("dead").redrive() == 1
        await queue.send("y")
        assert [message.body for message in await queue.peek()] == ["x", "y"]
        assert await queue.purge() == 2

    async def test_restart(self, own_server):
        """A pause outlives the server, if its data do, and consumers wait through both."""
        server = own_server("--appendonly", "yes", "--appendfsync", "always")
        async with AsyncRSMQ.from_url(server.url) as rsmq, never_polling(server) as waiting:
            queue = rsmq.queue("jobs")
            await queue.create()
            await queue.pause()
            await queue.send("x")
            step = asyncio.ensure_future(waiting.queue("jobs").receive(wait=PATIENCE))
            await until_known(waiting.queue("jobs"))
            await restart(server, 0)
            assert await queue.receive() is None
            await wait_for_listener(server)
            assert not step.done()
            await queue.resume()
            assert (await step).body == "x"

    async def test_kept(self, server, queue):
        """Creating, ensuring and changing a queue keep the pause; its end is not a setting."""
        await queue.pause()
        paused = fields_of(server)[b"paused"]
        await queue.create(exist_ok=True)
        await queue.ensure(vt=7, max_receives=3)
        await queue.set_attributes(vt=8, max_receives=0)
        assert fields_of(server)[b"paused"] == paused

    async def test_deleted(self, queue):
        """A queue that is deleted and created again is not paused."""
        await queue.pause()
        await queue.delete()
        await queue.create()
        await queue.send("x")
        assert (await queue.receive()).body == "x"
        assert await queue.pause() is True

    @pytest.mark.parametrize("value", [b"yes", b"-1", b"\xff", b"0"])
    async def test_foreign_value(self, server, queue, value):
        """Whatever others have written as the time, the queue is paused, and can be resumed."""
        await queue.send("x")
        server.redis.hset("rsmq:jobs:Q", "paused", value)
        assert await queue.receive() is None
        assert await queue.pause() is False
        assert fields_of(server)[b"paused"] == value
        assert await queue.resume() is True
        assert (await queue.receive()).body == "x"

    async def test_empty_value(self, server, queue):
        """An empty text is no pause."""
        await queue.send("x")
        server.redis.hset("rsmq:jobs:Q", "paused", "")
        assert (await queue.receive()).body == "x"
        assert await queue.resume() is False
        assert await queue.pause() is True
        assert await queue.receive() is None

    async def test_payload(self, server, queue):
        """What announces a pause is the number of messages, as ever, with a zero in front."""
        await queue.send_many(["1", "2"])
        with announcements(server) as heard:
            await queue.pause()
            await queue.pause()
            await queue.resume()
            await queue.resume()
            assert heard() == [b"02", b"2"]

    async def test_log(self, server, queue, other, caplog):
        """A client logs once that a queue is paused, and once that it is resumed."""
        caplog.set_level(logging.INFO, "aiorsmq.queue")
        steps = [asyncio.ensure_future(other.receive(wait=PATIENCE)) for _ in range(2)]
        steps.append(asyncio.ensure_future(other.pop(wait=PATIENCE)))
        await wait_for_listener(server)
        await queue.pause()
        await until_known(other)
        await queue.send_many(["x"] * 3)
        await wait_for_silence(server)
        await queue.resume()
        await asyncio.gather(*steps)
        assert [record.getMessage() for record in caplog.records] == [
            "queue 'jobs' is paused: it hands out nothing",
            "queue 'jobs' is resumed",
        ]
        assert [fields_in(record) for record in caplog.records] == [{"queue": "jobs"}] * 2
