"""worker.py and what is beneath it: handlers run, leases are kept, nothing is lost when it
stops.
"""

import asyncio
import re
import threading
import time

import pytest
from aiorsmq import (
    JSON,
    AsyncRSMQ,
    InvalidParameterValue,
    QueueDoesNotExist,
    Reject,
    Retry,
    exponential,
)
from aiorsmq._working import leases

from support import PATIENCE, Stubborn, at_once, stalls, wait_until


async def test_success(queue):
    """A message whose handler returns is deleted."""
    bodies = []

    async def handler(message):
        bodies.append(message.body)

    await queue.send_many(["a", "b"])
    async with queue.worker(handler) as worker:
        await wait_until(lambda: worker.stats.succeeded == 2)
    assert bodies == ["a", "b"]
    assert (await queue.attributes()).msgs == 0


async def test_plain_function(queue):
    """A plain function runs in a thread, as many at a time as handlers may."""
    together = threading.Barrier(3)
    threads = set()

    def handler(message):
        threads.add(threading.get_ident())
        together.wait(PATIENCE)

    await queue.send_many(["a", "b", "c"])
    async with queue.worker(handler, concurrency=3) as worker:
        await wait_until(lambda: worker.stats.succeeded == 3)
    assert threading.get_ident() not in threads


async def test_concurrency(queue):
    """It claims for free handlers only: what it cannot start stays visible for others."""
    go_on = asyncio.Event()

    async def handler(message):
        await go_on.wait()

    await queue.send_many(["a", "b", "c", "d"])
    async with queue.worker(handler, concurrency=3) as worker:
        await wait_until(lambda: worker.stats.in_flight == 3)
        assert (await queue.attributes()).hiddenmsgs == 3
        other = await queue.receive()
        assert other.body == "d"
        await other.release()
        go_on.set()
        await wait_until(lambda: worker.stats.succeeded == 4)


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
        )  # the worker has not received it anew either
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
    """A handler that runs past `timeout` is cancelled, and its message comes again."""
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


async def test_blocked_event_loop(queue, caplog, monkeypatch):
    """An event loop that is blocked while a message is in hand is logged, with the lag."""
    monkeypatch.setattr(leases, "TICK", 0.01)

    async def handler(message):
        await asyncio.sleep(0.1)
        time.sleep(0.8)  # noqa: ASYNC251 - that is the fault

    def lags():
        return re.findall(r"the event loop was blocked for (\d\.\d) seconds", caplog.text)

    await queue.send("x")
    async with queue.worker(handler):
        await wait_until(lambda: any(float(lag) >= 0.7 for lag in lags()))


async def test_an_ended_handler_is_not_renewed(queue, server, renew):
    """Nothing renews the lease of a message whose handler has ended: it comes again when its
    backoff says.
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


async def test_backoff(queue):
    """A failed message comes again after `backoff`, which is asked with its receive count."""
    counts = []

    def backoff(receive_count):
        counts.append(receive_count)
        return 0.05

    async def handler(message):
        if message.receive_count < 4:
            raise ValueError

    await queue.send("x")
    async with queue.worker(handler, backoff=backoff) as worker:
        await wait_until(lambda: worker.stats.succeeded == 1)
    assert counts == [1, 2, 3]
    assert (worker.stats.failed, worker.stats.retried) == (3, 3)


def test_exponential():
    """The usual backoff doubles, has a cap, and is cut at random by up to a half."""
    backoff = exponential(first=2, longest=10)
    for receive_count, longest in ((1, 2), (2, 4), (3, 8), (4, 10), (10**9, 10)):
        delays = [backoff(receive_count) for _ in range(200)]
        assert longest / 2 <= min(delays) < longest * 0.6
        assert longest * 0.9 < max(delays) <= longest


async def test_retry(queue):
    """`Retry` is no failure, and says when the message comes again; without a delay the backoff
    does.
    """
    events = []

    async def handler(message):
        if message.receive_count == 1:
            raise Retry(delay=0.1)
        if message.receive_count == 2:
            raise Retry

    await queue.send("x")
    async with queue.worker(
        handler, backoff=lambda receive_count: 0.2, on_event=events.append
    ) as worker:
        await wait_until(lambda: worker.stats.succeeded == 1)
    assert [event.delay for event in events if event.kind == "retried"] == [0.1, 0.2]
    assert worker.stats.failed == 0


async def test_reject_without_a_dead_letter_queue(queue, caplog):
    """`Reject` where there is no dead-letter queue is logged, and the message comes again."""

    async def handler(message):
        if message.receive_count == 1:
            raise Reject("hopeless")

    await queue.send("x")
    async with queue.worker(handler, backoff=at_once) as worker:
        await wait_until(lambda: worker.stats.succeeded == 1)
    assert "has no dead-letter queue" in caplog.text
    assert worker.stats.retried == 1


@pytest.fixture
async def mortal(rsmq):
    """A queue with a dead-letter queue, and that one."""
    queue, dead = rsmq.queue("mortal"), rsmq.queue("dead")
    await queue.create(max_receives=2, dead_letter_queue="dead")
    return queue, dead


async def test_reject(mortal):
    """`Reject` moves the message to the dead-letter queue at once, with its reason."""
    queue, dead = mortal
    events = []

    async def handler(message):
        raise Reject("no such customer")

    id = await queue.send("x")
    async with queue.worker(handler, on_event=events.append) as worker:
        await wait_until(lambda: worker.stats.dead == 1)
    (letter,) = await dead.reasons()
    assert (letter.id, letter.reason, letter.receive_count) == (id, "no such customer", 1)
    assert [(event.kind, event.reason) for event in events] == [
        ("received", ""),
        ("dead", "no such customer"),
    ]
    assert worker.stats.failed == 0


async def test_last_attempt_fails(mortal):
    """What fails for the `max_receives`th time dies at once, of its exception."""
    queue, dead = mortal

    async def handler(message):
        raise ValueError("broken")

    await queue.send("x")
    async with queue.worker(handler, backoff=at_once) as worker:
        await wait_until(lambda: worker.stats.dead == 1)
    (letter,) = await dead.reasons()
    assert (letter.reason, letter.receive_count, letter.queue) == (
        "ValueError: broken",
        2,
        "mortal",
    )
    assert (worker.stats.failed, worker.stats.retried) == (2, 1)


async def test_death_at_a_claim(mortal):
    """What has killed its consumers too often never reaches a handler, and is counted as dead."""
    queue, dead = mortal
    events, bodies = [], []

    async def handler(message):
        bodies.append(message.body)

    await queue.send("kills")
    for _ in range(2):  # two that received it and were never heard of again
        await (await queue.receive()).release()
    await queue.send("good")
    async with queue.worker(handler, on_event=events.append) as worker:
        await wait_until(lambda: (worker.stats.dead, worker.stats.succeeded) == (1, 1))
    assert bodies == ["good"]
    assert "dead" in [event.kind for event in events]
    assert [letter.raw for letter in await dead.reasons()] == [b"kills"]


async def test_dead_because_nobody_can_read_it(rsmq, mortal):
    """What the codec cannot decode dies at once."""
    queue, dead = mortal
    await queue.send("no JSON")
    async with rsmq.queue("mortal", codec=JSON).worker(print) as worker:
        await wait_until(lambda: worker.stats.dead == 1)
    (letter,) = await dead.reasons()
    assert "JsonCodec" in letter.reason


async def test_on_error(queue):
    """`on_error` may turn an exception into a Retry; if it fails itself, the backoff decides."""
    seen = []

    def on_error(message, error):
        seen.append(type(error))
        if isinstance(error, KeyError):
            return Retry(0)
        raise RuntimeError

    async def handler(message):
        if message.receive_count == 1:
            raise KeyError
        if message.receive_count == 2:
            raise ValueError

    await queue.send("x")
    async with queue.worker(handler, on_error=on_error, backoff=at_once) as worker:
        await wait_until(lambda: worker.stats.succeeded == 1)
    assert seen == [KeyError, ValueError]
    assert (worker.stats.failed, worker.stats.retried) == (2, 2)


@pytest.mark.parametrize("fails", [False, True])
async def test_handler_settles_by_itself(queue, server, renew, fails):
    """A handler may delete or release its message itself; then the worker leaves it alone, and does
    not cancel it.
    """
    go_on = asyncio.Event()

    async def handler(message):
        if message.id == other:
            await go_on.wait()
            return
        if message.receive_count == 1:
            assert await message.release(0.05)
        else:
            assert await message.delete()
        before = server.redis.zscore("rsmq:jobs", other)
        renew(worker)
        await wait_until(lambda: server.redis.zscore("rsmq:jobs", other) > before)
        if fails:
            raise ValueError

    other = await queue.send("in hand beside it")
    await queue.send("x")
    async with queue.worker(handler, concurrency=2, backoff=at_once) as worker:
        await wait_until(lambda: worker.stats.received == 3 and worker.stats.in_flight == 1)
        go_on.set()
    assert worker.stats.lost_leases == 0
    assert worker.stats.failed == (2 if fails else 0)
    assert (await queue.attributes()).msgs == 0


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


async def test_events(queue):
    """Each event says which message of which queue it is about."""
    events = []

    async def handler(message):
        pass

    id = await queue.send("x")
    async with queue.worker(handler, on_event=events.append) as worker:
        await wait_until(lambda: worker.stats.succeeded == 1)
    assert [(event.kind, event.queue, event.id, event.receive_count) for event in events] == [
        ("received", "jobs", id, 1),
        ("succeeded", "jobs", id, 1),
    ]


async def test_event_callback_fails(queue, caplog):
    """An `on_event` that fails is logged, and keeps nothing from being done."""

    def on_event(event):
        raise RuntimeError("no")

    async def handler(message):
        pass

    await queue.send("x")
    async with queue.worker(handler, on_event=on_event) as worker:
        await wait_until(lambda: worker.stats.succeeded == 1)
    assert "on_event failed" in caplog.text


async def test_body_that_cannot_be_decoded(rsmq, queue):
    """A handler is not given what the codec cannot decode; the others go on."""
    bodies = []

    async def handler(message):
        bodies.append(message.body)

    await queue.send_many(["no JSON", "1", "2"])
    async with rsmq.queue("jobs", codec=JSON).worker(handler) as worker:
        await wait_until(lambda: worker.stats.succeeded == 2)
    assert bodies == [1, 2]
    assert (await queue.attributes()).hiddenmsgs == 1
    await queue.purge()


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


async def test_weights(rsmq):
    """With weights, a queue of weight 3 is served three times as often as one of weight 1 while
    both have messages.
    """
    order = []

    async def handler(message):
        order.append(message.queue)

    for name in ("often", "seldom"):
        await rsmq.queue(name).create()
        await rsmq.queue(name).send_many(["x"] * 400)
    async with rsmq.worker({"often": 3, "seldom": 1}, handler, concurrency=1) as worker:
        await wait_until(lambda: worker.stats.succeeded == 800)
    first = order[:400]
    assert 255 <= first.count("often") <= 345  # 300, and five times its deviation


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


@pytest.mark.parametrize(
    ("options", "parameter"),
    [
        ({"concurrency": 0}, "concurrency"),
        ({"timeout": 0}, "timeout"),
        ({"max_lease": -1}, "max_lease"),
        ({"vt": 0}, "vt"),
        ({"grace": "long"}, "grace"),
    ],
)
async def test_bad_options(queue, options, parameter):
    """An option that makes no sense is refused, by name."""

    async def handler(message):
        pass

    with pytest.raises(InvalidParameterValue) as raised:
        queue.worker(handler, **options)
    assert raised.value.parameter == parameter


async def test_bad_queues(rsmq, queue):
    """So are a handler that cannot be called, no queues, and a weight of nothing."""
    for queues, handler in (
        (["jobs"], "handler"),
        ([], print),
        ("jobs", print),
        ({"jobs": 0}, print),
    ):
        with pytest.raises(InvalidParameterValue):
            rsmq.worker(queues, handler)


async def test_queue_without_leases(rsmq):
    """A worker on a queue whose vt is 0 needs a vt of its own."""
    queue = rsmq.queue("jobs")
    await queue.create(vt=0)
    with pytest.raises(InvalidParameterValue, match="give it a vt"):
        await queue.worker(print).run()


async def test_missing_queue(rsmq):
    """A worker on a queue that does not exist says so at once."""
    with pytest.raises(QueueDoesNotExist):
        await rsmq.queue("nowhere").worker(print).run()
    with pytest.raises(QueueDoesNotExist):
        async with rsmq.queue("nowhere").worker(print):
            pytest.fail("entered")
