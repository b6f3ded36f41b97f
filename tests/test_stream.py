"""Streams: shared fairly; nothing is lost by cancelling, breaking, dropping or closing."""

import asyncio
import gc
import random
import signal
import time
from collections import Counter
from contextlib import AsyncExitStack

import anyio
import anyio.to_thread
import pytest
import redis
from aiorsmq import AsyncRSMQ, ClientClosed, QueueDoesNotExist, WrongEventLoop

from support import PATIENCE, never_polling, wait_for_listener, wait_for_silence, wait_until


def break_deletes(server):
    """Put a key of another type where the messages are."""
    server.redis.rename("rsmq:jobs", "elsewhere")
    server.redis.set("rsmq:jobs", "x")


def mend_deletes(server):
    server.redis.rename("elsewhere", "rsmq:jobs")


async def nothing_is_hidden(server, messages, qname="jobs"):
    """All messages are in the queue, visible, as if they had never been claimed."""

    def as_new():
        fields = server.redis.hgetall(f"rsmq:{qname}:Q")
        visible = server.redis.zcount(f"rsmq:{qname}", "-inf", int(time.time() * 1000))
        counted = [field for field in fields if field.endswith((b":rc", b":fr"))]
        return visible == messages and not counted and fields.get(b"totalrecv", b"0") == b"0"

    await wait_until(as_new)


async def claimed(server, messages):
    """Until the server has handed out so many, and at once: their consumer has not run since."""
    while int(server.redis.hget("rsmq:jobs:Q", "totalrecv") or 0) < messages:
        await asyncio.sleep(0)


def queue_is_visible(server, messages):
    return server.redis.zcount("rsmq:jobs", "-inf", int(time.time() * 1000)) == messages


async def collect(stream):
    with anyio.fail_after(PATIENCE):
        return [message async for message in stream]


class TestSharing:
    async def test_in_turn(self, server, queue):
        """Consumers of one client get the messages in turn."""
        got = Counter()
        async with anyio.create_task_group() as tasks:

            async def consume(name):
                async for message in queue.messages():
                    got[name] += 1
                    await message.delete()

            for name in range(5):
                tasks.start_soon(consume, name)
            await wait_for_listener(server)
            for n in range(100):
                await queue.send("x")
                await wait_until(lambda n=n: got.total() == n + 1)
            tasks.cancel_scope.cancel()
        assert set(got.values()) == {20}

    async def test_never_more_than_wanted(self, server, queue):
        """No more messages are claimed than consumers wait."""
        await queue.send_many(["x"] * 20)
        streams = [queue.messages() for _ in range(3)]
        messages = [await anext(stream) for stream in streams]
        await wait_for_silence(server)
        attributes = await queue.attributes()
        assert (attributes.hiddenmsgs, attributes.totalrecv) == (3, 3)
        await queue.delete_many([message.id for message in messages])

    async def test_different_leases(self, queue):
        """Streams with different leases, and popping ones, share a queue."""
        await queue.send_many(["x"] * 3)
        short, usual, popping = queue.messages(vt=5), queue.messages(), queue.messages(pop=True)
        a, b, c = await anext(short), await anext(usual), await anext(popping)
        assert (b.visible_until - a.visible_until).total_seconds() > 24
        assert (await queue.attributes()).msgs == 2
        assert [await a.delete(), await b.delete(), await c.delete()] == [True, True, False]

    async def test_prefetch(self, server, queue):
        """With prefetch=n a stream claims up to n messages ahead, in few script calls, and hands
        them out in order.
        """
        await queue.send_many([str(n) for n in range(100)])
        server.reset_stats()
        bodies = []
        async with queue.messages(prefetch=20) as stream:
            async for message in stream:
                bodies.append(int(message.body))
                assert int(server.redis.hget("rsmq:jobs:Q", "totalrecv")) <= len(bodies) + 20
                await message.delete()
                if len(bodies) == 100:
                    break
        assert bodies == list(range(100))
        assert server.script_calls() <= 25 + 100  # the claims, and a delete each

    async def test_prefetch_shares_deletes(self, server, queue):
        """With prefetch deletes at the ends of blocks share script calls, not too many; leaving
        waits for them.
        """
        await queue.send_many(["x"] * 320)
        server.reset_stats()
        handled = 0
        async with queue.messages(prefetch=32) as stream:
            async for message in stream:
                async with message:
                    handled += 1
                assert len(stream._pending_deletes) <= 33
                if handled == 320:
                    break
        assert (await queue.attributes()).msgs == 0
        assert server.script_calls() <= 60

    async def test_prefetch_reports_a_delete_that_fails(self, server, queue):
        """A delete that fails after its block is raised by the next step, or by `aclose()`; the
        iteration goes on.
        """
        await queue.send_many(["a", "b", "c"])
        stream = queue.messages(prefetch=1)
        async with await anext(stream):
            break_deletes(server)
        await wait_until(stream._pending_deletes[0].done)
        with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
            await anext(stream)
        mend_deletes(server)
        message = await anext(stream)
        assert message.body == "b"
        async with message:
            break_deletes(server)
        with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
            await stream.aclose()
        mend_deletes(server)

    async def test_prefetch_logs_deletes_that_nobody_waits_for(self, server, queue, caplog):
        """When a stream is left because a delete has failed, or is dropped, the log tells of the
        others that fail.
        """
        await queue.send_many(["x"] * 6)
        with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
            async with queue.messages(prefetch=5) as stream:
                taken = [await anext(stream) for _ in range(3)]
                break_deletes(server)
                for message in taken:
                    async with message:
                        pass
                await wait_until(stream._pending_deletes[2].done)
                await anext(stream)
        await wait_until(
            lambda: caplog.text.count("could not delete a message after its block") == 2
        )
        mend_deletes(server)
        await queue.send("x")
        async with await anext(stream := queue.messages(prefetch=5)):
            break_deletes(server)
        del stream
        await wait_until(
            lambda: caplog.text.count("could not delete a message after its block") == 3
        )
        mend_deletes(server)

    async def test_cancelled_while_it_waits_for_deletes(self, server, queue):
        """A step cancelled while more deletes are under way than `prefetch` hands back, and cancels
        no delete.
        """
        await queue.send_many(["x"] * 6)
        stream = queue.messages(prefetch=1)
        taken = [await anext(stream) for _ in range(3)]
        server.redis.execute_command("CLIENT", "PAUSE", 10_000, "WRITE")
        for message in taken:
            async with message:
                pass
        step = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        step.cancel()
        await asyncio.wait([step])
        server.redis.execute_command("CLIENT", "UNPAUSE")
        await wait_until(lambda: queue_is_visible(server, 3))
        assert [await delete for delete in stream._pending_deletes] == [True] * 3

    async def test_prefetched_in_another_order(self, server, queue):
        """A stream gets a message though the claim of a slot further back brings it: claims may
        answer in any order.
        """
        stream = queue.messages(prefetch=2)
        step = asyncio.ensure_future(anext(stream))
        await wait_for_listener(server)
        stream._line._line.rotate(-1)
        await queue.send("while it waits")
        with anyio.fail_after(PATIENCE):
            assert (await step).body == "while it waits"
        stream._line._line.rotate(-1)
        await queue.send("before it waits")
        await wait_until(lambda: any(slot.record for slot in stream._mailbox.waiters))
        with anyio.fail_after(PATIENCE):
            assert (await anext(stream)).body == "before it waits"

    async def test_order_after_a_gap(self, server, queue):
        """When a slot further back was met first, the messages that follow still come in their
        order.
        """
        stream = queue.messages(prefetch=4)
        step = asyncio.ensure_future(anext(stream))
        await wait_for_listener(server)
        await queue.send("0")
        await step
        stream._line._line.rotate(1)
        await queue.send("1")
        await wait_until(lambda: any(slot.record for slot in stream._mailbox.waiters))
        bodies = [(await anext(stream)).body]
        await queue.send_many(["2", "3", "4"])
        await wait_until(
            lambda: sum(slot.record is not None for slot in stream._mailbox.waiters) == 3
        )
        bodies += [(await anext(stream)).body for _ in range(3)]
        assert bodies == ["1", "2", "3", "4"]

    @pytest.mark.parametrize("how", ["closed", "dropped"])
    async def test_a_block_that_outlives_its_stream(self, server, queue, how):
        """With prefetch, a block that ends after its stream was left waits for its delete, and
        raises if that fails.
        """
        await queue.send_many(["a", "b"])
        stream = queue.messages(prefetch=1)
        first, second = await anext(stream), await anext(stream)
        if how == "closed":
            await stream.aclose()
        del stream
        async with first:
            pass
        assert [message.body for message in await queue.peek()] == ["b"]
        with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
            async with second:
                break_deletes(server)
        mend_deletes(server)

    async def test_several_tasks_on_one_stream(self, queue):
        """Several tasks may iterate over one stream."""
        stream = queue.messages()
        asking = [asyncio.ensure_future(anext(stream)) for _ in range(4)]
        await queue.send_many(["a", "b", "c", "d"])
        messages = await asyncio.gather(*asking)
        assert sorted(message.body for message in messages) == ["a", "b", "c", "d"]
        await queue.delete_many([message.id for message in messages])


class TestNothingIsLost:
    @pytest.mark.parametrize("how", ["asyncio", "anyio"])
    async def test_cancelled_at_random(self, server, queue, how):
        """Consumers cancelled at any moment lose nothing and leave nothing hidden."""
        await queue.send_many([str(n) for n in range(50)])
        delivered = []

        async def one():
            delivered.append(await anext(queue.messages(vt=3600)))

        for _ in range(300):
            pause = random.choice([0, 0, 0.0002, 0.0005, 0.001])
            if how == "asyncio":
                task = asyncio.ensure_future(one())
                for _ in range(random.randrange(6)):
                    await asyncio.sleep(pause)
                task.cancel()
                await asyncio.wait([task])
            else:
                with anyio.move_on_after(pause * random.randrange(6)):
                    await one()
            if delivered:
                await delivered.pop().release()
        await wait_until(lambda: queue_is_visible(server, 50))
        fields = server.redis.hgetall("rsmq:jobs:Q")
        counts = sum(int(value) for field, value in fields.items() if field.endswith(b":rc"))
        assert int(fields.get(b"totalrecv", 0)) == counts

    async def test_a_claim_for_a_cancelled_consumer_goes_to_another(self, server, queue):
        """What was claimed for a consumer that is cancelled goes to another that waits, by no
        further script call.
        """
        other = queue.messages()
        cancelled = asyncio.ensure_future(anext(queue.messages()))
        await wait_for_listener(server)
        waiting = asyncio.ensure_future(anext(other))
        await asyncio.sleep(0)
        await queue.send("x")
        cancelled.cancel()
        message = await waiting
        assert (message.body, message.receive_count) == ("x", 1)
        await message.delete()
        await asyncio.wait([cancelled])

    async def test_what_was_claimed_ahead_goes_to_another(self, server, rsmq, queue):
        """What a stream had claimed ahead when it was left goes to a consumer that waits, by no
        further script call.
        """
        ahead = queue.messages(prefetch=1)
        await queue.send_many(["x", "y"])
        first = await anext(ahead)
        await wait_until(lambda: server.redis.hget("rsmq:jobs:Q", "totalrecv") == b"2")
        server.reset_stats()
        waiting = asyncio.ensure_future(queue.receive(wait=10))
        # it has looked, and again when it was subscribed, and has heard that there is nothing
        await wait_until(lambda: server.script_calls() == 2 and not rsmq._engine._in_flight())
        await ahead.aclose()
        message = await waiting
        assert (message.body, message.receive_count) == ("y", 1)
        assert server.script_calls() == 2
        assert await first.delete()
        assert await message.delete()

    async def test_handed_back_to_its_old_place(self, server, queue):
        """A claimed message that reaches nobody goes back to its old place, as if it had never been
        received.
        """
        await queue.send_many(["first", "second"])
        asking = asyncio.ensure_future(anext(queue.messages()))
        await claimed(server, 1)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await nothing_is_hidden(server, 2)
        assert [message.body for message in await queue.peek()] == ["first", "second"]

    async def test_popped_and_cancelled(self, server, queue):
        """A popped message that reaches nobody is put back, to its old place."""
        await queue.send_many(["first", "second"])
        asking = asyncio.ensure_future(queue.pop())
        await claimed(server, 1)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await nothing_is_hidden(server, 2)
        assert [message.body for message in await queue.peek()] == ["first", "second"]

    async def test_break(self, server, queue):
        """`break` loses nothing and leaves nothing hidden, with prefetch too."""
        await queue.send_many([str(n) for n in range(10)])
        async for message in queue.messages(prefetch=5):
            assert await message.release()
            break
        gc.collect()
        await wait_until(lambda: queue_is_visible(server, 10))

    async def test_dropped(self, server, queue):
        """A stream that is dropped hands back what it had claimed ahead."""
        await queue.send_many([str(n) for n in range(10)])
        stream = queue.messages(prefetch=5)
        await (await anext(stream)).delete()
        assert not queue_is_visible(server, 9)
        del stream
        gc.collect()
        await wait_until(lambda: queue_is_visible(server, 9))

    async def test_cancelled_with_prefetch(self, server, queue):
        """A cancelled step leaves nothing behind that would claim, though the stream is still
        referred to.
        """
        stream = queue.messages(prefetch=5)
        waiting = asyncio.ensure_future(anext(stream))
        await wait_for_listener(server)
        waiting.cancel()
        await asyncio.wait([waiting])
        await queue.send_many(["x"] * 10)
        assert queue_is_visible(server, 10)
        assert len(await queue.receive_many(10)) == 10

    async def test_aclose_of_a_stream(self, server, queue):
        """`aclose()` ends the iteration for a task that awaits it, and hands back what was claimed
        ahead.
        """
        await queue.send_many([str(n) for n in range(10)])
        async with queue.messages(prefetch=5) as stream:
            await (await anext(stream)).delete()
        await wait_until(lambda: queue_is_visible(server, 9))
        with pytest.raises(StopAsyncIteration):
            await anext(stream)

        await queue.purge()
        stream = queue.messages()
        waiting = asyncio.ensure_future(collect(stream))
        await wait_for_listener(server)
        await stream.aclose()
        assert await waiting == []

    async def test_aclose_of_the_client(self, server, queue):
        """The client's `aclose()` ends every stream, turns long polls away, and hands back what was
        claimed.
        """
        await queue.send_many([str(n) for n in range(10)])
        async with never_polling(server) as other:
            await other.queue("empty").create()
            ahead = other.queue("jobs").messages(prefetch=5)
            await (await anext(ahead)).delete()
            streaming = asyncio.ensure_future(collect(other.queue("empty").messages()))
            polling = asyncio.ensure_future(other.queue("empty").receive(wait=10))
            await wait_for_listener(server, "empty")
        assert await streaming == []
        with pytest.raises(ClientClosed):
            await polling
        assert queue_is_visible(server, 9)
        with pytest.raises(StopAsyncIteration):
            await anext(ahead)


class TestEndStreams:
    async def test_those_that_wait(self, server, rsmq, queue):
        """`end_streams()` ends every stream of the client that waits, on any queue, popping or not,
        for all its tasks, and nothing of another client.
        """
        await rsmq.queue("other").create()
        shared = queue.messages(prefetch=3)
        streams = [shared, shared, queue.messages(vt=5), rsmq.queue("other").messages(pop=True)]
        waiting = [asyncio.ensure_future(collect(stream)) for stream in streams]
        async with AsyncRSMQ.from_url(server.url) as second:
            unconcerned = asyncio.ensure_future(anext(second.queue("jobs").messages()))
            await wait_until(lambda: len(server.redis.pubsub_channels()) == 2)
            await wait_until(lambda: server.redis.pubsub_numsub("rsmq:rt:jobs")[0][1] == 2)
            rsmq.end_streams()
            assert await asyncio.gather(*waiting) == [[]] * 4
            await queue.send("x")
            assert await (await unconcerned).delete()

    async def test_later_ones(self, queue, rsmq):
        """A stream that is made later ends at once, on a queue that was not used before too; it may
        be ended and closed again.
        """
        rsmq.end_streams()
        await queue.send("x")
        assert await collect(queue.messages(prefetch=2)) == []
        assert await collect(rsmq.queue("none").messages(create=True)) == []
        rsmq.end_streams()
        async with queue.messages() as stream:
            assert await collect(stream) == []
        assert [message.receive_count for message in await queue.peek()] == [0]

    async def test_before_the_first_call(self, server):
        """It needs no connection, and makes none; after `aclose()` it does nothing."""
        async with AsyncRSMQ.from_url(server.url) as rsmq:
            rsmq.end_streams()
            assert await collect(rsmq.messages("none")) == []
            assert server.clients() == 0
        rsmq.end_streams()

    async def test_claimed_ahead(self, server, rsmq, queue):
        """What was claimed ahead goes back to its old place; what is in hand can still be settled,
        and an iteration that goes on finds its end.
        """
        await queue.send_many([str(n) for n in range(10)])
        bodies = []
        async for message in queue.messages(prefetch=5):
            async with message:
                bodies.append(message.body)
                if message.body == "1":
                    rsmq.end_streams()
        assert bodies == ["0", "1"]
        await wait_until(lambda: queue_is_visible(server, 8))
        assert [m.receive_count for m in await queue.peek()] == [0] * 8
        assert (await queue.attributes()).totalrecv == 2

    async def test_a_claim_in_flight(self, server, rsmq, queue):
        """What a claim brings for a stream that has ended goes back as if never received."""
        await queue.send_many(["first", "second"])
        waiting = asyncio.ensure_future(collect(queue.messages(prefetch=1)))
        await claimed(server, 2)
        rsmq.end_streams()
        assert await waiting == []
        await nothing_is_hidden(server, 2)

    async def test_delivered_and_not_yet_run(self, server, rsmq, queue):
        """A message that was delivered to a task that has not run since goes to the next consumer,
        by no further script call.
        """
        stream = queue.messages()
        waiting = asyncio.ensure_future(collect(stream))
        await wait_for_listener(server)
        polling = asyncio.ensure_future(queue.receive(wait=PATIENCE))
        await asyncio.sleep(0)
        await queue.send("x")
        while not stream._mailbox.delivered:  # looked at in each turn of the event loop
            await asyncio.sleep(0)
        rsmq.end_streams()
        assert await waiting == []
        message = await polling
        assert (message.body, message.receive_count) == ("x", 1)
        assert await message.delete()

    async def test_calls_and_workers_go_on(self, server, rsmq, queue):
        """Calls, long polls and workers go on."""
        handled = asyncio.Event()
        await rsmq.queue("other").create()

        async def handle(message):
            handled.set()

        async with rsmq.queue("other").worker(handle):
            polling = asyncio.ensure_future(queue.receive(wait=PATIENCE))
            await wait_for_listener(server)
            rsmq.end_streams()
            await queue.send("x")
            assert await (await polling).delete()
            await rsmq.queue("other").send("y")
            with anyio.fail_after(PATIENCE):
                await handled.wait()

    async def test_cancelled_as_it_ends(self, server, rsmq, queue):
        """A task that is cancelled in the same step is cancelled, and nothing is lost."""
        await queue.send_many(["x"] * 6)
        stream = queue.messages(prefetch=3)
        assert await (await anext(stream)).delete()
        await queue.purge()
        waiting = [asyncio.ensure_future(collect(stream)) for _ in range(3)]
        await wait_for_listener(server)
        rsmq.end_streams()
        waiting[0].cancel()
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert isinstance(results[0], asyncio.CancelledError)
        assert results[1:] == [[], []]
        await queue.send("after")
        assert await (await queue.receive()).delete()

    async def test_during_an_outage(self, own_server):
        """A stream that rides out an outage ends at once."""
        server = own_server()
        async with AsyncRSMQ.from_url(server.url) as rsmq:
            await rsmq.queue("jobs").create()
            waiting = asyncio.ensure_future(collect(rsmq.queue("jobs").messages()))
            await wait_for_listener(server)
            server.kill()
            await wait_until(lambda: rsmq._node.failure() is not None)
            rsmq.end_streams()
            assert await waiting == []
            server.start()  # closing waits for the claim in flight

    async def test_from_a_signal_handler(self, server, rsmq, queue):
        """A signal handler may have the event loop call it."""
        loop = asyncio.get_running_loop()
        previous = signal.signal(
            signal.SIGUSR1, lambda *_: loop.call_soon_threadsafe(rsmq.end_streams)
        )
        try:
            waiting = asyncio.ensure_future(collect(queue.messages()))
            await wait_for_listener(server)
            signal.raise_signal(signal.SIGUSR1)
            assert await waiting == []
        finally:
            signal.signal(signal.SIGUSR1, previous)

    async def test_in_another_thread(self, rsmq, queue):
        """It refuses another event loop, or none, and changes nothing."""

        async def end():
            rsmq.end_streams()

        with pytest.raises(WrongEventLoop):
            await anyio.to_thread.run_sync(asyncio.run, end())
        with pytest.raises(RuntimeError):
            await anyio.to_thread.run_sync(rsmq.end_streams)
        await queue.send("x")
        assert await (await anext(queue.messages())).delete()


class TestClosedClient:
    @pytest.mark.parametrize("options", [{}, {"prefetch": 3}, {"pop": True}, {"create": True}])
    @pytest.mark.parametrize("entered", [False, True], ids=["plain", "async-with"])
    async def test_open_streams_end(self, server, queue, options, entered):
        """A stream that is being iterated over ends quietly: while it waits, and between two
        messages.
        """
        await queue.send("x")
        async with never_polling(server) as other, AsyncExitStack() as stack:
            await other.queue("empty").create()
            streams = [other.queue(name).messages(**options) for name in ("empty", "jobs")]
            if entered:
                for stream in streams:
                    await stack.enter_async_context(stream)
            waiting = asyncio.ensure_future(collect(streams[0]))
            assert (await anext(streams[1])).body == "x"
            await wait_for_listener(server, "empty")
            await other.aclose()
            assert await waiting == []
            for stream in streams * 2:
                assert await collect(stream) == []

    @pytest.mark.parametrize("options", [{}, {"prefetch": 3}, {"pop": True}, {"create": True}])
    @pytest.mark.parametrize("entered", [False, True], ids=["plain", "async-with"])
    async def test_streams_that_have_not_begun(self, server, queue, options, entered):
        """A stream that is iterated over for the first time after that raises ClientClosed, like
        every call, whenever it was made.
        """
        async with AsyncRSMQ.from_url(server.url) as other, AsyncExitStack() as stack:
            jobs = other.queue("jobs")
            await jobs.attributes()
            streams = [jobs.messages(**options)]
            if entered:
                await stack.enter_async_context(streams[0])
            await other.aclose()
            streams += [jobs.messages(**options), other.messages("jobs", **options)]
            for stream in streams * 2:
                with pytest.raises(ClientClosed):
                    await anext(stream)

    async def test_while_it_closes(self, server, queue):
        """It is the same from the moment at which closing begins."""
        await queue.send_many(["x", "y"])
        other = AsyncRSMQ.from_url(server.url)
        begun = other.queue("jobs").messages()
        await anext(begun)
        new = other.queue("jobs").messages()
        closing = other.aclose()
        with anyio.fail_after(PATIENCE):
            other_end = asyncio.ensure_future(closing)
            while not other._engine.home.closing:
                await asyncio.sleep(0)
            assert await collect(begun) == []
            with pytest.raises(ClientClosed):
                await anext(new)
            await other_end

    async def test_that_creates_its_queue(self, server, rsmq, monkeypatch):
        """So it ends when the client is closed while it creates its missing queue."""
        async with AsyncRSMQ.from_url(server.url) as other:
            await other.list_queues()
            stream = other.queue("missing").messages(create=True)
            create_missing = stream._create_missing

            async def close_first():
                await other.aclose()
                await create_missing()

            monkeypatch.setattr(stream, "_create_missing", close_first)
            assert await collect(stream) == []
        assert await rsmq.list_queues() == set()

    async def test_a_stream_that_was_closed(self, server, queue):
        """A stream that was closed before its client ends, too."""
        async with AsyncRSMQ.from_url(server.url) as other:
            await queue.send("x")
            stream = other.queue("jobs").messages()
            await anext(stream)
            await stream.aclose()
        assert await collect(stream) == []


class TestErrors:
    async def test_unknown_queue(self, rsmq):
        """Iterating over a queue that does not exist raises QueueDoesNotExist."""
        with pytest.raises(QueueDoesNotExist) as caught:
            await anext(rsmq.queue("none").messages())
        assert caught.value.qname == "none"

    async def test_queue_deleted_while_waiting(self, server, queue):
        """Deleting a queue ends its waiting consumers with QueueDoesNotExist, at the next poll or
        announcement.
        """
        async with AsyncRSMQ.from_url(server.url, poll_interval=0.05) as other:
            asking = asyncio.ensure_future(anext(other.queue("jobs").messages()))
            await wait_for_listener(server)
            await queue.delete()
            with pytest.raises(QueueDoesNotExist):
                await asking


class TestLongPolls:
    async def test_nothing_comes(self, queue):
        """A long poll returns None, or an empty list, when its time is over."""
        assert await queue.receive(wait=0.05) is None
        assert await queue.receive_many(5, wait=0.05) == []
        assert await queue.pop(wait=0.05) is None

    async def test_without_wait_one_call(self, server, queue):
        """Without `wait`, receive looks once."""
        await queue.receive()
        server.reset_stats()
        assert await queue.receive() is None
        assert server.script_calls() == 1

    async def test_receive_many_takes_what_is_there(self, server, queue):
        """receive_many returns as soon as there is one message, with all that are visible then, up
        to its limit.
        """
        await queue.send_many([str(n) for n in range(150)])
        messages = await queue.receive_many(1000, wait=10)
        assert [message.body for message in messages] == [str(n) for n in range(150)]
        await queue.delete_many([message.id for message in messages])
        asking = asyncio.ensure_future(queue.receive_many(10, wait=10))
        await wait_for_listener(server)
        await queue.send_many(["a", "b", "c"])
        messages = await asking
        assert [message.body for message in messages] == ["a", "b", "c"]
        await queue.delete_many([message.id for message in messages])

    async def test_receive_many_without_a_lease(self, server, queue):
        """With vt=0, after which all are still visible, receive_many returns each once."""
        ids = await queue.send_many([str(n) for n in range(30)])
        for limit in (
            5,
            8,
            *[30] * 20,
            64,
            100,
        ):  # in the millisecond of the send a second claim has the first ones
            assert [message.id for message in await queue.receive_many(limit, vt=0)] == sorted(ids)[
                :limit
            ]
            await queue.purge()
            ids = await queue.send_many([str(n) for n in range(30)])
        await queue.purge()
        (id,) = await queue.send_many(["x"])
        (message,) = await queue.receive_many(5, vt=0)
        assert (message.id, message.receive_count) == (id, 1)

    async def test_receive_many_cancelled(self, server, queue):
        """Cancelling receive_many hands back all that it had claimed."""
        await queue.send_many([str(n) for n in range(100)])
        asking = asyncio.ensure_future(queue.receive_many(100))
        await claimed(server, 64)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await nothing_is_hidden(server, 100)


async def test_an_error_is_met_once(queue, rsmq):
    """What is claimed ahead meets the same error; after it was raised the iterator goes on."""
    stream = rsmq.queue("later").messages(prefetch=4)
    with pytest.raises(QueueDoesNotExist):
        await anext(stream)
    await rsmq.queue("later").create()
    await rsmq.queue("later").send("hello")
    assert (await anext(stream)).body == "hello"
    await stream.aclose()


async def test_a_lease_that_ended_while_it_was_claimed_ahead(server, queue):
    """Others may have received and deleted it by then: it is handed to nobody."""
    await queue.set_attributes(vt=1)
    await queue.send_many(["a", "b", "c"])
    holding = queue.messages(prefetch=2)
    assert (await anext(holding)).body == "a"
    others = queue.messages(vt=30)
    for _ in "abc":
        assert await (await anext(others)).delete()
    waiting = asyncio.ensure_future(anext(others))
    await wait_for_listener(server)
    await holding.aclose()
    await queue.send("d")
    assert (await waiting).body == "d"
    await others.aclose()


async def test_any_exception_of_a_codec(queue, rsmq):
    """Whatever decoding raises, the healthy messages arrive."""

    class Picky:
        def encode(self, value):
            return value.encode()

        def decode(self, data):
            if data == b"bad":
                raise KeyError(data)
            return data.decode()

    await queue.send_many(["bad", "good"])
    message = await rsmq.queue("jobs", codec=Picky()).receive()
    assert message.body == "good"
