"""PyRSMQ's consumer, awaited: what becomes of each message, and how it ends."""

import asyncio
import functools
import random
import threading
import time

import anyio
import anyio.from_thread
import pytest
from aiorsmq.pyrsmq import InvalidParameterValue, RedisSMQ, RedisSMQConsumer

from support import PATIENCE, wait_until

A_LONG_TIME = 3600


@pytest.fixture
async def jobs(server):
    """A controller whose default queue exists, and which announces."""
    async with RedisSMQ(
        qname="jobs", realtime=True, options={"unix_socket_path": server.socket}
    ) as jobs:
        await jobs.createQueue().exec()
        yield jobs


@pytest.fixture
async def start(server):
    """Starts consumers of the queue, which never look twice of their own accord; in the end they
    are stopped.
    """
    started = []

    def start(processor, **params):
        where = {} if "rsmq" in params else {"options": {"unix_socket_path": server.socket}}
        consumer = RedisSMQConsumer(
            "jobs", processor, **{"empty_queue_delay": A_LONG_TIME} | where | params
        )
        consumer.running = asyncio.create_task(consumer.run())
        started.append(consumer)
        return consumer

    yield start
    for consumer in started:
        await consumer.stop()
        consumer.running.cancel()
        await asyncio.wait([consumer.running])


def is_waiting(server):
    """Whether a consumer has looked, found nothing, and listens."""
    return server.redis.pubsub_numsub("rsmq:rt:jobs") == [(b"rsmq:rt:jobs", 1)]


def is_empty(server):
    return server.redis.zcard("rsmq:jobs") == 0


class Seen(list):
    """A processor: notes what it is called with, and answers what it was told to, in turn, then
    True.
    """

    def __init__(self, *answers):
        self.answers = iter(answers)

    def __call__(self, id, message, rc, ts):
        self.append((id, message, rc, ts))
        answer = next(self.answers, True)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def awaited(self, **params):
        return self(**params)

    def bodies(self):
        return [message for _, message, _, _ in self]


def as_plain(seen):
    return seen


def as_async(seen):
    return seen.awaited


def as_partial(seen):
    return functools.partial(seen.awaited)


def as_lambda(seen):
    return lambda message, **params: seen.awaited(message=message, **params)


class TestProcessor:
    @pytest.mark.parametrize("form", [as_plain, as_async, as_partial, as_lambda])
    async def test_true(self, server, jobs, start, form):
        """Any form of processor is called with id, message, rc and ts; when it returns True, the
        message is deleted.
        """
        seen = Seen()
        start(form(seen))
        id = await jobs.sendMessage(message={"n": 1})
        await wait_until(lambda: is_empty(server))
        ((seen_id, message, rc, ts),) = seen
        assert (seen_id, message, rc) == (id, {"n": 1}, 1)
        assert int(id[:10], 36) // 1000 <= ts <= time.time() * 1000 + 1000

    async def test_plain_in_a_thread(self, server, jobs, start):
        """A plain processor runs in a thread, where it may block."""
        threads = []
        start(lambda **_: threads.append(threading.current_thread()) or True)
        await jobs.sendMessage(message="x")
        await wait_until(lambda: is_empty(server))
        assert threads != [threading.main_thread()]

    @pytest.mark.parametrize("form", [as_plain, as_async])
    @pytest.mark.parametrize("answer", [False, None, RuntimeError("hunter2")], ids=repr)
    async def test_failure(self, server, jobs, start, caplog, form, answer):
        """When it returns anything else, or raises, the message comes back: at once, if there is no
        `retry_delay`.
        """
        seen = Seen(answer, answer)
        start(form(seen))
        await jobs.sendMessage(message="hunter2")
        await wait_until(lambda: is_empty(server))
        assert [rc for _, _, rc, _ in seen] == [1, 2, 3]
        assert "failed and will be redelivered in 0 s" in caplog.text
        assert "hunter2" not in caplog.text

    async def test_retry_delay(self, server, jobs, start):
        """With a `retry_delay` it comes back after that, and wakes the consumer by itself."""
        called = []

        def processor(rc, **_):
            called.append((rc, time.monotonic()))
            return rc > 1

        start(processor, retry_delay=0.3)
        await jobs.sendMessage(message="x")
        await wait_until(lambda: is_empty(server))
        (first, failed), (second, again) = called
        assert (first, second) == (1, 2)
        assert again - failed > 0.29

    async def test_decode(self, server, jobs, start):
        """JSON is handed out as what it says, unless `decode` is False; all else is text."""
        seen = Seen()
        decoding = start(seen)
        for body in ({"a": 1}, "7", "text", ""):
            await jobs.sendMessage(message=body)
        await wait_until(lambda: is_empty(server))
        assert seen.bodies() == [{"a": 1}, 7, "text", ""]
        assert await decoding.stop(PATIENCE)
        seen.clear()
        start(seen, decode=False)
        await jobs.sendMessage(message={"a": 1})
        await wait_until(lambda: is_empty(server))
        assert seen.bodies() == ['{"a": 1}']

    async def test_order(self, server, jobs, start):
        """Messages are handed out one after the other, in order."""
        for n in range(50):
            await jobs.sendMessage(message=n)
        happened = []

        async def processor(message, **_):
            happened.append(("begins", message))
            await asyncio.sleep(0.001)
            happened.append(("ends", message))
            return True

        start(processor)
        await wait_until(lambda: is_empty(server))
        assert happened == [(what, n) for n in range(50) for what in ("begins", "ends")]


class TestLease:
    async def test_extended(self, server, jobs, start, renew):
        """While the processor works the lease is extended: nobody else gets the message."""
        done = asyncio.Event()
        received = []

        async def processor(rc, **_):
            received.append(rc)
            await done.wait()
            return True

        consumer = start(processor)
        id = await jobs.sendMessage(message="x")
        first = await wait_until(lambda: received and server.redis.zscore("rsmq:jobs", id))
        renew(consumer._worker)
        await wait_until(lambda: server.redis.zscore("rsmq:jobs", id) > first)
        done.set()
        await wait_until(lambda: is_empty(server))
        assert received == [1]

    async def test_vt(self, server, jobs, start):
        """`vt` is the lease, in place of the queue's."""
        started, done = asyncio.Event(), asyncio.Event()

        async def processor(**_):
            started.set()
            await done.wait()
            return True

        start(processor, vt=1000)
        id = await jobs.sendMessage(message="x")
        await started.wait()
        now, _ = server.redis.time()
        assert 990 < server.redis.zscore("rsmq:jobs", id) / 1000 - now <= 1001
        done.set()
        await wait_until(lambda: is_empty(server))

    async def test_lost(self, server, jobs, start, caplog):
        """A message that somebody else has received since is theirs: it is not deleted under
        them.
        """
        started, done = asyncio.Event(), asyncio.Event()

        async def processor(**_):
            started.set()
            await done.wait()
            return True

        consumer = start(processor)
        id = await jobs.sendMessage(message="x")
        await started.wait()
        await jobs.changeMessageVisibility(id=id, vt=0)
        assert (await jobs.receiveMessage(vt=A_LONG_TIME))["rc"] == 2
        done.set()
        await wait_until(lambda: "lease lost" in caplog.text)
        assert await consumer.stop(PATIENCE)
        assert await jobs.deleteMessage(id=id)


class TestWaiting:
    async def test_announced(self, server, jobs, start):
        """An idle consumer is woken by what is announced: it need not poll."""
        seen = Seen()
        start(seen.awaited)
        await wait_until(lambda: is_waiting(server))
        for n in range(3):
            await jobs.sendMessage(message=n)
            await wait_until(lambda: is_empty(server))
        assert seen.bodies() == [0, 1, 2]

    @pytest.mark.parametrize(("realtime", "delay"), [(True, 0.05), (False, 0.05), (False, 0)])
    async def test_unannounced(self, server, jobs, start, realtime, delay):
        """What nobody announces is found after `empty_queue_delay`, which may be 0; so is all
        without `realtime`.
        """
        seen = Seen()
        start(seen.awaited, empty_queue_delay=delay, realtime=realtime)
        with anyio.fail_after(PATIENCE):
            async with RedisSMQ(
                qname="jobs", options={"unix_socket_path": server.socket}
            ) as silent:
                for n in range(10):
                    await silent.sendMessage(message=n)
                    await wait_until(lambda: is_empty(server))
        assert seen.bodies() == list(range(10))
        assert is_waiting(server) is realtime

    async def test_delayed(self, server, jobs, start):
        """What becomes due while the consumer waits wakes it on time."""
        await jobs.sendMessage(message="x", delay=0.3)
        seen = Seen()
        start(seen.awaited)
        await wait_until(lambda: is_empty(server))
        assert seen.bodies() == ["x"]

    async def test_outage(self, own_server, start):
        """The consumer waits until an outage of the server is over."""
        server = own_server("--appendonly", "yes", "--appendfsync", "always")
        seen = Seen()
        options = {"unix_socket_path": server.socket}
        consumer = start(seen.awaited, options=options, empty_queue_delay=0.1)
        async with RedisSMQ(qname="jobs", options=options) as jobs:
            await wait_until(lambda: is_waiting(server))
            server.kill()
            server.start()
            await jobs.sendMessage(message="x")
            await wait_until(lambda: seen.bodies() == ["x"])
        assert await consumer.stop(PATIENCE)


class TestQueue:
    async def test_created(self, server, start):
        """A queue that is missing is created, with what the consumer was given for it."""
        start(Seen(), vt=7, delay=3)
        await wait_until(lambda: is_waiting(server))
        assert server.redis.hmget("rsmq:jobs:Q", "vt", "delay", "maxsize") == [b"7", b"3", b"65535"]

    async def test_with_a_controller(self, server, jobs, start):
        """A consumer may be given a controller, which stays open; it waits and listens in its own
        way.
        """
        seen = Seen()
        silent = RedisSMQ(ns="rsmq", options={"unix_socket_path": server.socket}, exceptions=False)
        consumer = start(seen.awaited, rsmq=silent)
        await wait_until(lambda: is_waiting(server))
        await jobs.sendMessage(message="x")
        await wait_until(lambda: is_empty(server))
        assert await consumer.stop(PATIENCE)
        assert await silent.listQueues() == {"jobs"}
        await silent.quit()

    async def test_deleted(self, server, jobs, start):
        """When its queue is deleted, the consumer goes on as soon as it is there again."""
        seen = Seen()
        consumer = start(seen.awaited, empty_queue_delay=0.01)
        await wait_until(lambda: is_waiting(server) and consumer._worker.healthy)
        await jobs.deleteQueue()
        await wait_until(lambda: not consumer._worker.healthy)
        await jobs.createQueue()
        await jobs.sendMessage(message="x")
        await wait_until(lambda: seen.bodies() == ["x"])

    def test_refused(self):
        """What is wrong with a consumer's own parameters is said when it is made."""
        controller = RedisSMQ()
        for wrong in (
            {"retry_delay": -1},
            {"empty_queue_delay": "2"},
            {"vt": -1},
            {"vt": 0},
            {"rsmq": controller, "ns": "x"},
        ):
            with pytest.raises(InvalidParameterValue) as caught:
                RedisSMQConsumer("jobs", print, **wrong)
            assert caught.value.parameter == next(iter(wrong))


class TestEnding:
    async def test_stop_while_waiting(self, server, jobs, start):
        """An idle consumer stops at once, and leaves no connection; it may be run again."""
        seen = Seen()
        consumer = start(seen.awaited)
        for n in range(2):
            await wait_until(lambda: is_waiting(server))
            assert await consumer.stop(wait=PATIENCE) is True
            await consumer.running
            await wait_until(lambda: server.clients() == 1)
            consumer.running = asyncio.create_task(consumer.run())
            await jobs.sendMessage(message=n)
            await wait_until(lambda: is_empty(server))
        assert seen.bodies() == [0, 1]

    async def test_stop_while_working(self, server, jobs, start):
        """A busy consumer finishes the message in hand, and takes no other."""
        started, done = asyncio.Event(), asyncio.Event()

        async def processor(**_):
            started.set()
            await done.wait()
            return True

        consumer = start(processor)
        for n in range(2):
            await jobs.sendMessage(message=n)
        await started.wait()
        assert await consumer.stop() is False
        assert await consumer.stop(0.01) is False
        done.set()
        await consumer.running
        assert await consumer.stop() is True
        assert (await jobs.popMessage())["message"] == "1"

    @pytest.mark.parametrize("form", ["plain", "async"])
    async def test_stop_from_within(self, server, jobs, start, form):
        """A processor may stop its consumer."""

        def plain(**_):
            anyio.from_thread.run(consumer.stop)
            return True

        async def coroutine(**_):
            await consumer.stop()
            return True

        consumer = start(plain if form == "plain" else coroutine)
        await jobs.sendMessage(message="x")
        await consumer.running
        assert is_empty(server)

    async def test_stop_before(self, jobs, start):
        """A consumer that was stopped before it runs does nothing."""
        seen = Seen()
        consumer = start(seen)
        await consumer.stop()
        await jobs.sendMessage(message="x")
        with anyio.fail_after(PATIENCE):
            await consumer.running
        assert seen == []

    async def test_cancelled_while_waiting(self, server, jobs, start):
        """A waiting consumer that is cancelled ends, and leaves no connection."""
        consumer = start(Seen())
        await wait_until(lambda: is_waiting(server))
        consumer.running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await consumer.running
        await wait_until(lambda: server.clients() == 1)

    async def test_cancelled_while_working(self, server, jobs):
        """A consumer that is cancelled once more cancels its `async def` processor: the message is
        visible at once.
        """
        started, cancelled = asyncio.Event(), []

        async def processor(**_):
            started.set()
            try:
                await asyncio.sleep(A_LONG_TIME)
            except asyncio.CancelledError:
                cancelled.append(True)
                raise

        params = {
            "vt": A_LONG_TIME,
            "retry_delay": A_LONG_TIME,
            "options": {"unix_socket_path": server.socket},
        }
        run = RedisSMQConsumer("jobs", processor, **params).run
        await jobs.sendMessage(message="x")
        running = asyncio.create_task(run())
        await started.wait()
        running.cancel()
        await anyio.sleep(0.01)
        assert not running.done()
        running.cancel()
        await asyncio.wait([running], timeout=PATIENCE)
        assert running.cancelled()
        assert cancelled == [True]
        assert (await jobs.popMessage())["rc"] == 2

    @pytest.mark.parametrize("answer", [True, False])
    async def test_cancelled_while_a_thread_works(self, server, jobs, start, renew, answer):
        """A processor is waited for when its consumer is cancelled, keeps its lease, and what it
        returns counts.
        """
        started, done = threading.Event(), threading.Event()

        def processor(**_):
            started.set()
            done.wait()
            return answer

        consumer = start(processor)
        id = await jobs.sendMessage(message="x")
        await wait_until(started.is_set)
        first = server.redis.zscore("rsmq:jobs", id)
        consumer.running.cancel()
        renew(consumer._worker)
        try:
            await wait_until(lambda: server.redis.zscore("rsmq:jobs", id) > first)
        finally:
            done.set()
        await asyncio.wait([consumer.running])
        assert consumer.running.cancelled()
        assert is_empty(server) is answer
        if not answer:
            assert (await jobs.popMessage())["rc"] == 2

    async def test_cancelled_at_any_moment(self, server, jobs, start):
        """Whenever consumers are cancelled, no message is lost, and none is processed to its end
        twice.
        """
        for n in range(200):
            await jobs.sendMessage(message=n)
        done = []

        async def processor(message, **_):
            await asyncio.sleep(random.choice([0, 0, 0.001]))
            done.append(message)
            return True

        for seed in range(40):
            consumer = start(processor, vt=A_LONG_TIME)
            await anyio.sleep(seed % 10 * 0.003)
            consumer.running.cancel()
            await asyncio.wait([consumer.running])
            assert consumer.running.cancelled()
        start(processor, vt=A_LONG_TIME)
        await wait_until(lambda: is_empty(server))
        assert sorted(done) == list(range(200))
