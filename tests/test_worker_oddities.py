"""worker.py: whatever a handler does, its message is done, comes again, or is dead; and is counted
once.
"""

import asyncio
import threading
import time

import anyio
import pytest
from aiorsmq import InvalidParameterValue, Reject, Retry
from redis.exceptions import ResponseError

from support import Stubborn, at_once, make_it_theirs, wait_until


@pytest.fixture
async def mortal(rsmq):
    """A queue with a dead-letter queue, and that one."""
    queue, dead = rsmq.queue("mortal"), rsmq.queue("dead")
    await queue.create(max_receives=2, dead_letter_queue="dead")
    return queue, dead


class Strange(BaseException):
    """As other languages' panics, or pytest's own failures."""


@pytest.mark.parametrize("error", [Strange("x"), BaseExceptionGroup("two", [Strange(), Strange()])])
async def test_any_exception(mortal, error):
    """What is no Exception is a failed attempt as well: the handler's place is free again, its
    message comes again.
    """
    queue, _ = mortal

    async def handler(message):
        if message.body == "x":
            raise error

    await queue.send_many(["x", "y"])
    async with queue.worker(handler, concurrency=1, backoff=at_once) as worker:
        await wait_until(lambda: (worker.stats.dead, worker.stats.succeeded) == (1, 1))
    assert (worker.stats.failed, worker.stats.retried, worker.stats.in_flight) == (2, 1, 0)


async def test_exception_without_words(mortal):
    """An exception that cannot be told is a reason all the same."""
    queue, dead = mortal

    class Mute(Exception):
        def __str__(self):
            raise RuntimeError

    async def handler(message):
        raise Mute

    await queue.send("x")
    async with queue.worker(handler, backoff=at_once) as worker:
        await wait_until(lambda: worker.stats.dead == 1)
    assert [letter.reason for letter in await dead.reasons()] == ["Mute"]


async def test_group_of_one(mortal):
    """A Reject that comes out of a task group is a Reject."""
    queue, dead = mortal

    async def reject():
        raise Reject("in a group")

    async def handler(message):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(reject)

    await queue.send("x")
    async with queue.worker(handler) as worker:
        await wait_until(lambda: worker.stats.dead == 1)
    assert [letter.reason for letter in await dead.reasons()] == ["in a group"]


@pytest.mark.parametrize(
    ("say", "reasons"),
    [
        (lambda: Reject(ValueError("no text")), {"no text"}),
        (lambda: Retry(0), {"retried too often"}),
        (lambda: Retry(0, "still no answer"), {"still no answer"}),
    ],
)
async def test_reasons(mortal, say, reasons):
    """The reason of a death is what the handler has said."""
    queue, dead = mortal

    async def handler(message):
        raise say()

    await queue.send("x")
    async with queue.worker(handler) as worker:
        await wait_until(lambda: worker.stats.dead == 1)
    assert {letter.reason for letter in await dead.reasons()} == reasons


async def test_reason_of_a_retry_is_its_cause(mortal):
    """If a Retry is raised from an exception, that is what the message has died of."""
    queue, dead = mortal

    async def handler(message):
        raise Retry(0) from KeyError("the real reason")

    await queue.send("x")
    async with queue.worker(handler) as worker:
        await wait_until(lambda: worker.stats.dead == 1)
    assert [letter.reason for letter in await dead.reasons()] == ["KeyError: 'the real reason'"]


async def test_message_as_context_manager(mortal):
    """`async with message` in a handler does not stand in the way of what it raises: that
    decides.
    """
    queue, _ = mortal
    attempts = []

    async def handler(message):
        attempts.append(message.body)
        async with message:
            if message.body == "reject":
                raise Reject("hopeless")
            if message.receive_count == 1:
                raise Retry(delay=0.3)

    await queue.send_many(["reject", "retry"])
    async with queue.worker(handler) as worker:
        await wait_until(lambda: (worker.stats.dead, worker.stats.succeeded) == (1, 1))
    assert sorted(attempts) == ["reject", "retry", "retry"]
    assert worker.stats.lost_leases == 0
    assert (await queue.attributes()).msgs == 0


async def test_release_by_the_handler(queue):
    """A message that its handler releases is one that is retried."""
    events = []

    async def handler(message):
        if message.receive_count == 1:
            assert await message.release(0.2)

    await queue.send("x")
    async with queue.worker(handler, on_event=events.append) as worker:
        await wait_until(lambda: worker.stats.succeeded == 1)
    assert [(event.kind, event.delay) for event in events[:2]] == [
        ("received", None),
        ("retried", 0.2),
    ]


@pytest.mark.parametrize("option", ["backoff", "on_event"])
async def test_callbacks_that_fail(queue, option, caplog):
    """A callback that fails, or says what makes no sense, is logged, and the message comes again
    nevertheless.
    """
    bad = {
        "backoff": lambda receive_count: "soon",
        "on_event": lambda event: (_ for _ in ()).throw(asyncio.CancelledError),
    }

    async def handler(message):
        if message.receive_count == 1:
            raise ValueError

    await queue.send("x")
    async with queue.worker(handler, **{"backoff": at_once} | {option: bad[option]}) as worker:
        await wait_until(lambda: worker.stats.succeeded == 1)
    assert f"{option} failed for message" in caplog.text


async def test_on_error_returns_a_class(mortal):
    """`on_error` may return Reject itself."""
    queue, _ = mortal

    async def handler(message):
        raise ValueError

    await queue.send("x")
    async with queue.worker(handler, on_error=lambda message, error: Reject) as worker:
        await wait_until(lambda: worker.stats.dead == 1)
    assert worker.stats.retried == 0


async def test_what_is_no_handler(queue):
    """Generators, which nobody would run, and asynchronous callbacks, which nobody would await, are
    refused.
    """

    def generator(message):
        yield message

    async def generate(message):
        yield message

    async def callback(*_):
        pass

    for handler in (generator, generate, None):
        with pytest.raises(InvalidParameterValue, match="handler="):
            queue.worker(handler)
    for option in ("backoff", "on_error", "on_event"):
        with pytest.raises(InvalidParameterValue, match=f"{option}="):
            queue.worker(print, **{option: callback})


async def test_function_that_returns_a_generator(mortal):
    """A plain function that returns a generator has done nothing: its attempt has failed."""
    queue, _ = mortal
    await queue.send("x")
    async with queue.worker(lambda message: (n for n in ()), backoff=at_once) as worker:
        await wait_until(lambda: worker.stats.dead == 1)
    assert worker.stats.failed == 2


async def test_threads_are_bounded(queue):
    """Threads that cannot be cancelled keep their places: there are never more than
    `concurrency`.
    """
    go_on = threading.Event()
    most = 0

    def handler(message):
        nonlocal most
        most = max(most, threading.active_count())
        go_on.wait()

    before = threading.active_count()
    await queue.send_many(["x"] * 10)
    async with queue.worker(handler, concurrency=2, timeout=0.02, backoff=at_once) as worker:
        await wait_until(lambda: worker.stats.failed > 10)
        go_on.set()
    assert most <= before + 2
    await queue.purge()


async def test_late_end(queue, monkeypatch):
    """What a handler has done after the worker has stopped waiting for it is deleted all the
    same.
    """
    monkeypatch.setattr("aiorsmq.worker.CLEANUP", 0.05)
    stubborn = Stubborn()

    await queue.send("x")
    async with queue.worker(stubborn, grace=0) as worker:
        await stubborn.begun.wait()
    stubborn.go_on.set()
    await wait_until(lambda: worker.stats.succeeded == 1)
    assert (await queue.attributes()).msgs == 0


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


async def test_vt_changes_meanwhile(queue, server, renew):
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
    queue = rsmq.queue("mortal")
    await queue.create(max_receives=1, dead_letter_queue="dead")
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def handler(message):
        begun.set()
        await go_on.wait()

    id = await queue.send("x")
    async with queue.worker(handler, concurrency=2) as worker:
        await begun.wait()
        server.redis.zadd("rsmq:mortal", {id: 1})
        server.redis.publish("rsmq:rt:mortal", "1")
        await wait_until(lambda: server.redis.hget("rsmq:mortal:Q", f"{id}:rc") == b"2")
        renewed = server.redis.zscore("rsmq:mortal", id)
        renew(worker)
        await wait_until(lambda: server.redis.zscore("rsmq:mortal", id) > renewed)
        go_on.set()
        await wait_until(lambda: worker.stats.succeeded == 1)
    assert (worker.stats.dead, worker.stats.lost_leases) == (0, 0)
    assert server.redis.zcard("rsmq:dead") == 0


async def test_urgent_beside_a_full_queue(rsmq):
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


async def test_deaths_are_counted_once(mortal):
    """Of two workers in one program, one counts what a claim has found dead."""
    queue, _ = mortal
    await queue.send("x")
    for _ in range(2):
        await (await queue.receive()).release()
    async with queue.worker(print) as one, queue.worker(print) as other:
        await wait_until(lambda: one.stats.dead + other.stats.dead == 1)
        await queue.send("y")
        await wait_until(lambda: one.stats.succeeded + other.stats.succeeded == 1)
        assert one.stats.dead + other.stats.dead == 1


async def test_queue_named_twice(rsmq, queue):
    """A queue is asked once."""
    with pytest.raises(InvalidParameterValue, match="queues="):
        rsmq.worker(["jobs", "jobs"], print)


async def test_again_after_a_failure(server, queue):
    """A worker that has ended, for whatever reason, works when it is run again; `stop()` in between
    says nothing.
    """
    worker = queue.worker(lambda message: None)
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        async with worker:
            await wait_until(lambda: worker.healthy)
            make_it_theirs(server, "jobs")
            await wait_until(lambda: not worker.healthy)
    worker.stop()
    server.redis.delete("rsmq:jobs:Q")
    await queue.create()
    await queue.send("x")
    async with worker:
        await wait_until(lambda: worker.stats.succeeded == 1)


async def test_begun_twice_at_the_same_time(queue):
    """Of two runs that begin at the same moment, one is refused."""
    worker = queue.worker(print)
    running = [asyncio.create_task(worker.run()) for _ in range(2)]
    done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
    with pytest.raises(RuntimeError, match="running already"):
        await done.pop()
    await wait_until(lambda: worker.healthy)
    worker.stop()
    await asyncio.wait(running)
