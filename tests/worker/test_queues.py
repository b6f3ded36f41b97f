"""A worker on several queues: in the order of their priority or their weights."""

import asyncio
import signal

import pytest
from aiorsmq import AsyncRSMQ, InvalidParameterValue, QueueDoesNotExist

from support import stalls, wait_until


async def test_strict_priority(rsmq):
    """In a list of queues, one is asked when those before it have nothing."""
    order, go_on = [], asyncio.Event()

    async def handler(message):
        order.append(message.queue)
        await go_on.wait()

    urgent, bulk = rsmq.queue("urgent"), rsmq.queue("bulk")
    await urgent.create()
    await bulk.create()
    await bulk.send_many(["x"] * 5)
    await urgent.send_many(["x"] * 5)
    go_on.set()
    async with rsmq.worker([urgent, "bulk"], handler, concurrency=1) as worker:
        await wait_until(lambda: worker.stats.succeeded == 10)
        go_on.clear()
        await bulk.send_many(["x"] * 2)
        await wait_until(lambda: worker.stats.in_flight == 1)
        await urgent.send("x")
        await wait_until(worker._intakes[0].line.has_reason)  # its announcement has come
        go_on.set()
        await wait_until(lambda: worker.stats.succeeded == 13)
    assert order == ["urgent"] * 5 + ["bulk"] * 5 + ["bulk", "urgent", "bulk"]


async def test_urgent_before_a_full_queue(rsmq):
    """An urgent message is next, though the queue behind it has never been empty."""
    order, go_on = [], asyncio.Semaphore(20)

    async def handler(message):
        order.append(message.queue)
        await go_on.acquire()

    urgent, bulk = rsmq.queue("urgent"), rsmq.queue("bulk")
    await urgent.create()
    await bulk.create()
    await bulk.send_many(["x"] * 300)
    async with rsmq.worker([urgent, bulk], handler, concurrency=1) as worker:
        await wait_until(lambda: len(order) == 21)
        await urgent.send("x")
        await wait_until(worker._intakes[0].line.has_reason)  # its announcement has come
        for _ in range(281):
            go_on.release()
        await wait_until(lambda: worker.stats.succeeded == 301)
    assert order.index("urgent") == 21


async def test_weights(rsmq):
    """With weights, a queue of weight 3 is served three times as often as one of weight 1 while
    both have messages.
    """
    order = []

    async def handler(message):
        order.append(message.queue)

    for name in ("often", "seldom"):
        await rsmq.queue(name).create()
        await rsmq.queue(name).send_many(["x"] * 200)
    async with rsmq.worker({"often": 3, "seldom": 1}, handler, concurrency=1) as worker:
        await wait_until(lambda: worker.stats.succeeded == 400)
    first = order[:200]
    assert 119 <= first.count("often") <= 181  # 150, and five times its deviation


async def test_several_queues_wait_together(rsmq):
    """A worker on several queues wakes for each of them, and an idle one makes no script calls."""

    async def handler(message):
        pass

    queues = [rsmq.queue(f"q{i}") for i in range(5)]
    for queue in queues:
        await queue.create()
    async with rsmq.worker(queues, handler) as worker:
        for done, queue in enumerate(queues, 1):
            await wait_until(lambda: worker.healthy)
            await queue.send("x")
            await wait_until(lambda done=done: worker.stats.succeeded == done)


async def test_queue_named_twice(rsmq, queue):
    """A queue is asked once."""
    with pytest.raises(InvalidParameterValue, match="queues="):
        rsmq.worker(["jobs", "jobs"], print)


async def test_missing_queue(rsmq):
    """A worker on a queue that does not exist raises at once."""
    with pytest.raises(QueueDoesNotExist):
        await rsmq.queue("nowhere").worker(print).run()
    with pytest.raises(QueueDoesNotExist):
        async with rsmq.queue("nowhere").worker(print):
            pytest.fail("entered")


async def test_queue_without_leases(rsmq):
    """A worker on a queue whose vt is 0 needs a vt of its own."""
    queue = rsmq.queue("jobs")
    await queue.create(vt=0)
    with pytest.raises(InvalidParameterValue, match="pass vt to worker"):
        await queue.worker(print).run()


@pytest.mark.parametrize("outage", ["hangs", "is away"])
async def test_a_server_holds_up_its_own_queues(own_server, rsmq, outage):
    """While the server of one queue is away, the worker goes on with queues of other servers, idle
    or busy; when it is back, so are its messages.
    """
    handled = []

    async def handler(message):
        handled.append(message.body)

    server = own_server("--appendonly", "yes", "--appendfsync", "always")
    async with AsyncRSMQ.from_url(server.url, poll_interval=0.1) as other:
        queue, theirs = rsmq.queue("here"), other.queue("there")
        await queue.create()
        await theirs.create()
        worker = rsmq.worker({queue: 1, theirs: 1}, handler, concurrency=2)
        async with worker, stalls() as lost:
            await theirs.send("first")
            await wait_until(lambda: handled)
            if outage == "hangs":
                server.process.send_signal(signal.SIGSTOP)
            else:
                server.kill()
            loop = asyncio.get_running_loop()
            began_at = loop.time()
            await queue.send_many(["busy"] * 1000)
            for _ in range(3):
                await queue.send("idle")
                await asyncio.sleep(0.3)  # its poll of the other queue is due
            await wait_until(lambda: len(handled) == 1004)
            assert loop.time() - began_at < 10 + lost()  # and not a deadline of 30
            if outage == "hangs":
                server.process.send_signal(signal.SIGCONT)
            else:
                server.start()
            await theirs.send("last")
            await wait_until(lambda: handled[-1] == "last")
            await queue.send_many(["again"] * 50)
            await theirs.send_many(["again"] * 50)
            await wait_until(lambda: worker.stats.succeeded == 1105)
        assert (await theirs.attributes()).msgs == 0
