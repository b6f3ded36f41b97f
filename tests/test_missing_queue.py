"""A queue that does not exist, or no longer: who raises, who waits, who creates it."""

import asyncio
from contextlib import nullcontext, suppress

import anyio
import pytest
from aiorsmq import AsyncRSMQ, NotPermitted, QueueAlreadyExists, QueueDoesNotExist, Reject

from bad_input.calls import METHODS
from support import PATIENCE, wait_for_listener, wait_until

OPERATIONS = {
    "attributes": lambda queue: queue.attributes(),
    "set_attributes": lambda queue: queue.set_attributes(vt=1),
    "send": lambda queue: queue.send("x"),
    "send_delayed": lambda queue: queue.send("x", delay=5),
    "send_many": lambda queue: queue.send_many(["x", "y"]),
    "receive": lambda queue: queue.receive(),
    "receive_vt": lambda queue: queue.receive(vt=5),
    "receive_wait": lambda queue: queue.receive(wait=1000),
    "receive_many": lambda queue: queue.receive_many(5, wait=1000),
    "pop": lambda queue: queue.pop(),
    "pop_wait": lambda queue: queue.pop(wait=1000),
    "messages": lambda queue: anext(queue.messages()),
    "messages_prefetch": lambda queue: anext(queue.messages(prefetch=5)),
    "messages_pop": lambda queue: anext(queue.messages(pop=True)),
    "peek": lambda queue: queue.peek(),
    "purge": lambda queue: queue.purge(),
    "delete": lambda queue: queue.delete(),
}


@pytest.fixture
async def polling(server):
    """A client that looks often."""
    async with AsyncRSMQ.from_url(server.url, poll_interval=0.02) as rsmq:
        yield rsmq


def warnings_of(caplog, text):
    return [record.getMessage() for record in caplog.records if text in record.getMessage()]


def is_defined(server, qname="jobs"):
    return server.redis.hmget(f"rsmq:{qname}:Q", "vt", "delay", "maxsize") == [
        b"30",
        b"0",
        b"65536",
    ]


class TestCalls:
    @pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
    async def test_unknown(self, rsmq, unchanged, operation):
        """Every operation on a queue that does not exist raises QueueDoesNotExist at once, and
        makes nothing.
        """
        with anyio.fail_after(PATIENCE), pytest.raises(QueueDoesNotExist) as caught:
            await operation(rsmq.queue("none"))
        assert caught.value.qname == "none"
        assert "'none'" in str(caught.value)

    @pytest.mark.parametrize(
        "name",
        sorted(
            METHODS.keys()
            - {
                "queue",
                "create_queue",
                "ensure_queue",
                "delete_queue",
                "messages",
                "delete_message",
                "change_message_visibility",
            }
        ),
    )
    async def test_unknown_by_method(self, rsmq, unchanged, name):
        """So do RSMQ's own methods."""
        with pytest.raises(QueueDoesNotExist) as caught:
            await METHODS[name](rsmq, "none")
        assert caught.value.qname == "none"

    async def test_unknown_among_known(self, rsmq, queue):
        """It is that queue's callers who hear of it, and nobody else's."""
        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(queue.send, "x")
            for _ in range(5):
                with pytest.raises(QueueDoesNotExist):
                    await rsmq.queue("none").send("x")
        assert (await queue.attributes()).msgs == 5

    async def test_settling_in_a_queue_that_is_gone(self, server, rsmq, queue):
        """Where there is no queue there is no message: whatever settles one returns False, and
        makes nothing.
        """
        await queue.send("x")
        message = await queue.receive()
        await queue.delete()
        for settling in (
            *(message.delete(), message.extend(5), message.release()),
            *(queue.delete_message(message.id), queue.delete_message(message.receipt)),
            *(queue.change_visibility(message.id, 5), queue.change_visibility(message.receipt, 0)),
            rsmq.delete_message(qname="jobs", id=message.id),
            rsmq.change_message_visibility(qname="jobs", id=message.id, vt=5),
        ):
            assert await settling is False
        assert await queue.delete_many([message.id, message.receipt]) == [False, False]
        assert server.redis.keys("*") == []

    @pytest.mark.parametrize("ending", ["succeeds", "fails", "is rejected"])
    async def test_a_worker_whose_queue_is_gone(self, server, queue, ending):
        """A worker's message whose queue is gone counts as a lost lease, however its handler
        ends.
        """
        await queue.create(exist_ok=True)
        begun, gone = asyncio.Event(), asyncio.Event()

        async def handler(message):
            begun.set()
            await gone.wait()
            if ending != "succeeds":
                raise Reject if ending == "is rejected" else KeyError

        worker = queue.worker(handler)
        await queue.send("x")
        with suppress(QueueDoesNotExist):  # of the next claim
            async with worker:
                await begun.wait()
                await queue.delete()
                gone.set()
                await wait_until(lambda: worker.stats.lost_leases == 1)
        assert worker.stats.in_flight == 0
        assert server.redis.keys("*") == []


class TestWorker:
    async def test_waits(self, server, polling, caplog):
        """A worker whose queue is deleted waits for it, with one warning, and goes on when it is
        there again.
        """
        queue = polling.queue("jobs")
        await queue.create()
        async with queue.worker(lambda message: None) as worker:
            assert await wait_until(lambda: worker.healthy)
            await queue.delete()
            await wait_until(lambda: not worker.healthy)
            server.reset_stats()
            await wait_until(lambda: server.script_calls() > 3)  # it looks again and again
            assert server.redis.exists("rsmq:jobs:Q") == 0
            await queue.create()
            await wait_until(lambda: worker.healthy)
            await queue.send("x")
            await wait_until(lambda: worker.stats.succeeded == 1)
        assert warnings_of(caplog, "no longer exists") == [
            "queue 'jobs' no longer exists: waiting for it"
        ]

    async def test_looks_at_the_poll_interval(self, server, queue):
        """It does not look more often than its `poll_interval`."""
        async with queue.worker(print) as worker:
            await wait_until(lambda: worker.healthy)
            await queue.delete()
            server.redis.publish("rsmq:rt:jobs", "1")
            await wait_until(lambda: not worker.healthy)
            await queue.delete(missing_ok=True)
            server.reset_stats()
            for _ in range(100):
                await queue.delete(missing_ok=True)
            assert server.script_calls() == 100

    async def test_creates(self, server, rsmq):
        """With `create` it makes a queue that is missing when it starts, with RSMQ's defaults."""
        queue = rsmq.queue("jobs")
        async with queue.worker(lambda message: None, create=True) as worker:
            assert is_defined(server)
            await queue.send("x")
            await wait_until(lambda: worker.stats.succeeded == 1)

    async def test_creates_again(self, server, queue):
        """And one that is deleted while it works, as soon as it notices, whatever its
        `poll_interval`.
        """
        async with queue.worker(lambda message: None, create=True) as worker:
            await wait_until(lambda: worker.healthy)
            for n in range(3):
                await queue.delete()
                server.redis.publish("rsmq:rt:jobs", "1")
                await wait_until(lambda: is_defined(server))
                await queue.send("x")
                await wait_until(lambda n=n: worker.stats.succeeded == n + 1)

    async def test_creates_what_is_there(self, queue):
        """`create` leaves a queue that is there as it is."""
        await queue.set_attributes(vt=7, max_receives=3)
        async with queue.worker(print, create=True):
            pass
        attributes = await queue.attributes()
        assert (attributes.vt, attributes.max_receives) == (7, 3)

    async def test_without(self, rsmq):
        """Without it, a queue that is missing at the start is an error at once, also if there are
        others.
        """
        await rsmq.create_queue(qname="one")
        with pytest.raises(QueueDoesNotExist, match="other"):
            await rsmq.worker(["one", "other"], print).run()

    @pytest.mark.parametrize("queues", [["gone", "there"], {"gone": 3, "there": 1}])
    async def test_others_go_on(self, polling, queues):
        """Of several queues, one that is missing does not keep the worker from the others."""
        gone, there = polling.queue("gone"), polling.queue("there")
        await gone.create()
        await there.create()
        async with polling.worker(queues, lambda message: None) as worker:
            await wait_until(lambda: worker.healthy)
            await gone.delete()
            await wait_until(lambda: not worker.healthy)
            for n in range(5):
                await there.send("x")
                await wait_until(lambda n=n: worker.stats.succeeded == n + 1)
            await gone.create()
            await gone.send("x")
            await wait_until(lambda: worker.stats.succeeded == 6)

    async def test_all_created(self, server, rsmq):
        """`create` is for all of its queues."""
        async with rsmq.worker(["a", "b"], print, create=True):
            assert await rsmq.list_queues() == {"a", "b"}

    async def test_in_hand(self, polling):
        """A message in hand whose queue is deleted is lost with it, and counted so."""
        queue = polling.queue("jobs")
        await queue.create()
        begun, go_on = asyncio.Event(), asyncio.Event()

        async def handler(message):
            begun.set()
            await go_on.wait()
            if message.body == "fails":
                raise ValueError

        for body in ("fails", "returns"):
            begun.clear()
            go_on.clear()
            async with queue.worker(handler, create=True) as worker:
                await queue.send(body)
                await begun.wait()
                await queue.delete()
                go_on.set()
                await wait_until(lambda: worker.stats.lost_leases == 1)
                assert (worker.stats.received, worker.stats.in_flight) == (1, 0)

    async def test_stops(self, queue, server):
        """It stops while it waits."""
        async with queue.worker(print) as worker:
            await wait_until(lambda: worker.healthy)
            await queue.delete()
            server.redis.publish("rsmq:rt:jobs", "1")
            await wait_until(lambda: not worker.healthy)
            worker.stop()
            with anyio.fail_after(5):
                await wait_until(lambda: not worker._is_running)

    async def test_through_an_outage(self, own_server):
        """A worker also waits for a server that goes away while the queue is missing."""
        server = own_server()
        async with AsyncRSMQ.from_url(server.url, poll_interval=0.02) as rsmq:
            queue = rsmq.queue("jobs")
            async with queue.worker(lambda message: None, create=True) as worker:
                await wait_until(lambda: worker.healthy)
                server.kill()  # it keeps nothing
                server.start()
                await wait_until(lambda: is_defined(server))
                await queue.send("x")
                await wait_until(lambda: worker.stats.succeeded == 1)

    async def test_may_not_create(self, server, queue):
        """A worker that may not create what is missing ends, and says why."""
        server.redis.acl_setuser(
            "reader",
            enabled=True,
            nopass=True,
            keys="*",
            channels="*",
            categories=["+@all"],
            commands=["-hset"],
        )
        try:
            async with AsyncRSMQ.from_url(
                server.url, username="reader", password="x", poll_interval=0.02
            ) as rsmq:
                with pytest.raises(NotPermitted, match=r"grant \+hset"):
                    async with rsmq.queue("jobs").worker(print, create=True) as worker:
                        await wait_until(lambda: worker.healthy)
                        await queue.delete()
                        await wait_until(lambda: not worker._is_working)
        finally:
            server.redis.acl_deluser("reader")


class TestStream:
    async def test_creates(self, server, rsmq):
        """A stream with `create` makes a queue that is missing, with RSMQ's defaults."""
        stream = rsmq.messages("jobs", create=True)
        asking = asyncio.ensure_future(anext(stream))
        await wait_until(lambda: is_defined(server))
        await rsmq.send_message(qname="jobs", message="x")
        async with await asking as message:
            assert message.body == "x"

    @pytest.mark.parametrize("options", [{}, {"prefetch": 8}, {"pop": True}])
    async def test_creates_again(self, server, polling, options):
        """And one that is deleted while it waits, as often as that happens."""
        queue = polling.queue("jobs")
        async with queue.messages(create=True, **options) as stream:
            for n in range(3):
                asking = asyncio.ensure_future(anext(stream))
                await wait_until(lambda: is_defined(server))
                await queue.send(str(n))
                async with await asking as message:
                    assert message.body == str(n)
                asking = asyncio.ensure_future(anext(stream))
                await wait_until(
                    lambda: server.redis.zcard("rsmq:jobs") == 0
                )  # with prefetch it is deleted later
                await queue.attributes()
                await queue.delete()
                await wait_until(lambda: is_defined(server))
                await queue.send("again")
                async with await asking as message:
                    assert message.body == "again"

    async def test_without(self, rsmq):
        """Without it the iteration raises QueueDoesNotExist."""
        with pytest.raises(QueueDoesNotExist):
            await anext(rsmq.messages("jobs"))

    async def test_only_one_creates(self, server, polling):
        """Of two streams of one queue that is deleted, the one that was not told to create it
        raises.
        """
        queue = polling.queue("jobs")
        await queue.create()
        plain, creating = queue.messages(), queue.messages(create=True)
        asking = [asyncio.ensure_future(anext(stream)) for stream in (plain, creating)]
        await wait_for_listener(server)
        await queue.delete()
        with pytest.raises(QueueDoesNotExist):
            await asking[0]
        await queue.create(exist_ok=True)
        await queue.send("x")
        async with await asking[1]:
            pass


class TestSetOfAllQueues:
    async def test_restored(self, server, rsmq, queue):
        """A queue whose name the set of all queues has lost is entered again by `create`, and
        otherwise left alone.
        """
        await queue.set_attributes(vt=7)
        for expected in (nullcontext(), pytest.raises(QueueAlreadyExists)):
            server.redis.srem("rsmq:QUEUES", "jobs")
            assert await rsmq.list_queues() == set()
            with expected:
                assert await queue.create(exist_ok=isinstance(expected, nullcontext)) is False
            assert await rsmq.list_queues() == {"jobs"}
        assert (await queue.attributes()).vt == 7

    @pytest.mark.parametrize("who", ["worker", "stream"])
    async def test_restored_by_consumers(self, server, rsmq, queue, who):
        """A worker with `create` does so when it starts; a stream does not look as long as it can
        receive.
        """
        server.redis.srem("rsmq:QUEUES", "jobs")
        if who == "worker":
            async with queue.worker(print, create=True):
                assert await rsmq.list_queues() == {"jobs"}
        else:
            await queue.send("x")
            async with queue.messages(create=True) as stream, await anext(stream):
                assert await rsmq.list_queues() == set()
            server.redis.sadd("rsmq:QUEUES", "jobs")

    async def test_writes_nothing_else(self, server, queue):
        """Creating a queue that is there, and is in the set, writes nothing."""
        server.reset_stats()
        assert not await queue.create(exist_ok=True)
        assert not {"sadd", "hset", "hsetnx", "zadd"} & server.commands().keys()

    async def test_full_server(self, own_server):
        """On a full server it stays as it is, and `create` says that the queue is there."""
        server = own_server("--maxmemory-policy", "noeviction")
        async with AsyncRSMQ.from_url(server.url) as rsmq:
            await rsmq.create_queue(qname="jobs")
            server.redis.srem("rsmq:QUEUES", "jobs")
            server.redis.config_set("maxmemory", "1")
            assert not await rsmq.create_queue(qname="jobs", exist_ok=True)
            server.redis.config_set("maxmemory", "0")
