"""A worker keeps the leases of running handlers, and no others."""

import asyncio
import time
from itertools import pairwise

from aiorsmq import AsyncRSMQ
from aiorsmq._working import leases
from aiorsmq.testing import advance

from support import PATIENCE, Handler, Stubborn, at_once, stalls, wait_until


async def test_lease_is_renewed(queue, server):
    """A handler that runs for longer than vt keeps its message."""
    await queue.set_attributes(vt=2)
    started, go_on = asyncio.Event(), asyncio.Event()

    async def handler(message):
        started.set()
        await go_on.wait()

    id = await queue.send("long")
    async with queue.worker(handler) as worker:
        await started.wait()
        first = server.redis.zscore("rsmq:jobs", id)
        await wait_until(
            lambda: server.redis.zscore("rsmq:jobs", id) > first + 1000
        )  # by two renewals
        assert await queue.receive() is None
        assert (
            server.redis.hget("rsmq:jobs:Q", f"{id}:rc") == b"1"
        )  # the worker has not received it again either
        go_on.set()
        await wait_until(lambda: worker.stats.succeeded == 1)
    assert worker.stats.received == 1


async def test_one_call_renews_all(queue, server):
    """A hundred messages in flight cost one renewal call per interval, a third of vt."""
    go_on = asyncio.Event()

    async def handler(message):
        await go_on.wait()

    await queue.change_visibility(await queue.send("x"), 0)  # so that the server knows the script
    await queue.purge()
    ids = await queue.send_many(["x"] * 100)
    async with queue.worker(handler, concurrency=100, vt=3) as worker:
        await wait_until(lambda: worker.stats.in_flight == 100)

        def scores():
            return server.redis.zmscore("rsmq:jobs", ids)

        renewed = []
        for _ in range(2):
            before = scores()
            server.reset_stats()
            await wait_until(
                lambda before=before: all(
                    new > old for new, old in zip(scores(), before, strict=True)
                )
            )
            renewed.append(server.script_calls())
        go_on.set()
        await wait_until(lambda: worker.stats.succeeded == 100)
    assert renewed == [1, 1]


async def test_an_ended_handler_is_not_renewed(queue, server, renew):
    """Nothing renews the lease of a message whose handler has ended: it is redelivered when its
    backoff ends.
    """
    go_on = asyncio.Event()

    async def handler(message):
        if message.body == "fails":
            raise ValueError
        await go_on.wait()

    failing, _ = await queue.send_many(["fails", "goes on"])
    async with queue.worker(handler, backoff=lambda receive_count: 50) as worker:
        await wait_until(lambda: worker.stats.retried == 1)
        score = server.redis.zscore("rsmq:jobs", failing)
        going_on = server.redis.zrange("rsmq:jobs", 0, 0)[0]
        before = server.redis.zscore("rsmq:jobs", going_on)
        renew(worker)
        await wait_until(lambda: server.redis.zscore("rsmq:jobs", going_on) > before)
        assert server.redis.zscore("rsmq:jobs", failing) == score
        go_on.set()
        await wait_until(lambda: worker.stats.succeeded == 1)
    await queue.purge()


async def test_handler_extends_by_itself(queue, server, renew):
    """A lease that a handler has extended beyond vt is not cut short by a renewal."""
    extended, go_on = asyncio.Event(), asyncio.Event()

    async def handler(message):
        if message.body == "x":
            assert await message.extend(60)
            extended.set()
        await go_on.wait()

    long, usual = await queue.send_many(["x", "y"])
    async with queue.worker(handler) as worker:
        await extended.wait()
        extended_until, before = server.redis.zmscore("rsmq:jobs", [long, usual])
        renew(worker)
        await wait_until(lambda: server.redis.zscore("rsmq:jobs", usual) > before)
        assert server.redis.zscore("rsmq:jobs", long) == extended_until
        go_on.set()
        await wait_until(lambda: worker.stats.succeeded == 2)


async def test_lost_lease(queue, server, renew):
    """A handler whose message another consumer has received is cancelled, and leaves the message
    alone.
    """
    cancelled, started = asyncio.Event(), asyncio.Event()

    async def handler(message):
        started.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    id = await queue.send("taken away")
    async with queue.worker(handler, concurrency=1) as worker:
        await started.wait()
        async with AsyncRSMQ.from_url(server.url) as other:
            server.redis.zadd(
                "rsmq:jobs", {id: 1}
            )  # not by our own command: an announcement would race with us
            message = await other.queue("jobs").receive(vt=30)
            assert message.receive_count == 2
            renew(worker)
            await wait_until(cancelled.is_set)
            await wait_until(lambda: worker.stats.lost_leases == 1)
            assert await message.delete()
    assert (worker.stats.succeeded, worker.stats.retried, worker.stats.failed) == (0, 0, 0)


async def test_result_after_a_lost_lease(queue, server):
    """What a handler returns after its lease was lost is discarded: the delete is refused."""
    started, go_on = asyncio.Event(), asyncio.Event()

    async def handler(message):
        if message.receive_count == 1:
            started.set()
            await go_on.wait()

    id = await queue.send("taken away")
    async with queue.worker(handler, concurrency=1) as worker:
        await started.wait()
        server.redis.hset("rsmq:jobs:Q", f"{id}:rc", 2)  # as if received by another
        go_on.set()
        await wait_until(lambda: worker.stats.lost_leases == 1)
        assert server.redis.zscore("rsmq:jobs", id)
        assert worker.stats.succeeded == 0
    await queue.purge()


async def test_timeout(queue):
    """A handler that runs past `timeout` is cancelled, and its message is redelivered."""
    events = []

    async def handler(message):
        if message.receive_count == 1:
            await asyncio.sleep(60)

    await queue.send("slow")
    async with queue.worker(
        handler, timeout=0.05, backoff=at_once, on_event=events.append
    ) as worker:
        await wait_until(lambda: worker.stats.succeeded == 1)
    assert [event.kind for event in events] == [
        "received",
        "failed",
        "retried",
        "received",
        "succeeded",
    ]
    assert "0.05 seconds" in str(events[1].error)


async def test_max_lease(queue):
    """After `max_lease` a message is not held, though its handler does not end when it is
    cancelled.
    """
    stubborn = Stubborn()

    await queue.send("stuck")
    async with queue.worker(stubborn, vt=0.5, max_lease=1.2, concurrency=1) as worker:
        await stubborn.begun.wait()
        begun = time.monotonic()
        async with stalls() as lost:
            other = await queue.receive(wait=10)
            assert 0.9 - lost() < time.monotonic() - begun < 2.5 + lost()
        assert other.receive_count == 2
        stubborn.go_on.set()
        await wait_until(lambda: worker.stats.lost_leases == 1)
        await other.delete()


async def test_short_max_lease(queue):
    """`max_lease` holds where it is shorter than vt, too."""
    stubborn = Stubborn()

    await queue.send("x")
    async with queue.worker(stubborn, vt=60, max_lease=0.5, concurrency=1) as worker:
        await stubborn.begun.wait()
        message = await queue.receive(wait=5)
        assert message.receive_count == 2
        stubborn.go_on.set()
        await wait_until(lambda: worker.stats.lost_leases == 1)
        await message.delete()


async def test_vt_changes_during_a_handler(queue, server, renew):
    """A worker keeps the leases that it began with when the queue's vt is changed."""
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def handler(message):
        begun.set()
        await go_on.wait()

    id = await queue.send("x")
    async with queue.worker(handler) as worker:
        await begun.wait()
        await queue.set_attributes(vt=1)
        first = server.redis.zscore("rsmq:jobs", id)
        renew(worker)
        renewed = await wait_until(
            lambda: (score := server.redis.zscore("rsmq:jobs", id)) > first and score
        )
        assert renewed - time.time() * 1000 > 1000
        go_on.set()
        await wait_until(lambda: worker.stats.succeeded == 1)


async def test_last_receipt_by_its_own_claim(rsmq, server, renew):
    """A message that the worker's own claim has received once too often is not dead while its
    handler works on it.
    """
    queue = rsmq.queue("jobs")
    await queue.create(max_receives=1, dead_letter_queue="dead")
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def handler(message):
        begun.set()
        await go_on.wait()

    id = await queue.send("x")
    async with queue.worker(handler, concurrency=2) as worker:
        await begun.wait()
        await advance(queue, "30s")
        await wait_until(lambda: server.redis.hget("rsmq:jobs:Q", f"{id}:rc") == b"2")
        renewed = server.redis.zscore("rsmq:jobs", id)
        renew(worker)
        await wait_until(lambda: server.redis.zscore("rsmq:jobs", id) > renewed)
        go_on.set()
        await wait_until(lambda: worker.stats.succeeded == 1)
    assert (worker.stats.dead, worker.stats.lost_leases) == (0, 0)
    assert server.redis.zcard("rsmq:dead") == 0


async def test_claimed_before_it_was_renewed(queue, server, renew):
    """A message whose lease has ended, and that its worker itself receives again, stays with its
    handler.
    """
    handler = Handler()
    id = await queue.send("slow to be renewed")
    async with queue.worker(handler, concurrency=2) as worker:
        await handler.begun.wait()
        await advance(queue, "30s")
        await wait_until(lambda: server.redis.hget("rsmq:jobs:Q", f"{id}:rc") == b"2")
        renewed = server.redis.zscore("rsmq:jobs", id)
        renew(worker)
        await wait_until(lambda: server.redis.zscore("rsmq:jobs", id) > renewed)
        handler.go_on.set()
        await wait_until(lambda: worker.stats.succeeded == 1)
    assert (worker.stats.received, worker.stats.lost_leases, handler.cancelled) == (1, 0, 0)
    assert server.redis.zcard("rsmq:jobs") == 0


async def pass_ticks():
    """Let the event loop be looked at a few times, with a TICK of 0.01."""
    end = asyncio.get_running_loop().time() + 0.1
    await wait_until(lambda: asyncio.get_running_loop().time() > end)


def stalls_in(caplog):
    return [record for record in caplog.records if "event loop was blocked" in record.msg]


async def test_blocked_event_loop(rsmq, queue, caplog, monkeypatch):
    """An event loop that is blocked for longer than leases is logged, once for all queues."""
    monkeypatch.setattr(leases, "TICK", 0.01)
    others = rsmq.queue("others")
    await others.create()
    begun = []
    go_on = asyncio.Event()

    async def handler(message):
        begun.append(message)
        await go_on.wait()

    await queue.send("x")
    await others.send("x")
    async with rsmq.worker([queue, others], handler, vt=1) as worker:
        await wait_until(lambda: len(begun) == 2)
        time.sleep(1.2)  # noqa: ASYNC251 - that is the fault
        await wait_until(lambda: stalls_in(caplog))
        await pass_ticks()
        go_on.set()
        await wait_until(lambda: worker.stats.in_flight == 0)
    records = stalls_in(caplog)
    record = max(records, key=lambda record: record.seconds)
    assert record.seconds > 1
    for earlier, later in pairwise(records):  # the machine may have stalled, too
        assert later.created - later.seconds > earlier.created - 0.1
    assert f"for {record.seconds:.1f} seconds; leases may have expired" in record.getMessage()


async def test_blocked_by_the_last_handler(queue, caplog, monkeypatch):
    """So is one whose only message is done when it goes on."""
    monkeypatch.setattr(leases, "TICK", 0.01)

    async def handler(message):
        await asyncio.sleep(0.1)
        if message.receive_count == 1:
            time.sleep(1.2)  # noqa: ASYNC251 - that is the fault

    await queue.send("x")
    async with queue.worker(handler, vt=1, backoff=at_once) as worker:
        await wait_until(lambda: stalls_in(caplog))
        await wait_until(lambda: worker.stats.succeeded == 1)


async def test_blocked_for_less_than_a_lease(queue, caplog, monkeypatch):
    """One that is blocked for a part of the leases is not: nothing can have happened to them."""
    monkeypatch.setattr(leases, "TICK", 0.01)

    async def handler(message):
        await asyncio.sleep(0.1)
        time.sleep(0.8)  # noqa: ASYNC251 - that is the fault

    await queue.send("x")
    async with queue.worker(handler, vt=300) as worker:
        await wait_until(lambda: worker.stats.succeeded == 1)
    assert stalls_in(caplog) == []


async def test_blocked_after_the_end_of_a_lease(queue, caplog, monkeypatch):
    """Nor is one that is blocked after a lease has ended, if no other ends in between."""
    monkeypatch.setattr(leases, "TICK", 0.01)
    stubborn = Stubborn()
    await queue.send("x")
    async with queue.worker(stubborn, vt=300, max_lease=0.5, concurrency=1) as worker:
        await stubborn.begun.wait()
        message = await queue.receive(wait=PATIENCE)
        await pass_ticks()
        caplog.clear()  # the machine may have stalled
        time.sleep(0.8)  # noqa: ASYNC251 - that is the fault
        await pass_ticks()
        stubborn.go_on.set()
        await wait_until(lambda: worker.stats.lost_leases == 1)
    assert message.receive_count == 2
    assert stalls_in(caplog) == []
    await message.delete()


async def test_delete_by_a_worker_whose_lease_was_renewed(far, queue, proxy, renew):
    """A delete whose reply is lost succeeds when it is repeated within a renewed lease."""
    await queue.send_many(["warm-up", "job"])
    there = far.queue("jobs")
    renewals = []

    async def handler(message):
        if message.body == "job":
            first = message.visible_until
            renew(worker)
            await wait_until(lambda: lease() > first.timestamp() * 1000)
            renewals.append(message)
            proxy.cut_after_execution = 1

    def lease():
        (held,) = worker._intakes[0].leases.held.values()
        return float(held.visible_until)

    worker = there.worker(handler, concurrency=1)
    async with worker:
        await wait_until(lambda: worker.stats.succeeded == 2)
    assert renewals
    assert worker.stats.lost_leases == 0
