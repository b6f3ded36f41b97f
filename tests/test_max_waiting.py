"""How much may wait to be sent: what is more waits its turn; and what fails, fails a few at a
time.
"""

import asyncio
import signal
from collections import Counter
from contextlib import asynccontextmanager, suppress

import pytest
from aiorsmq import AsyncRSMQ, ClientClosed, MaxWaiting, QueueDoesNotExist
from aiorsmq._server import batch, failing
from redis.exceptions import ConnectionError, TimeoutError

from support import ids_in

LIMITS = {"by number": MaxWaiting(messages=10), "by bytes": MaxWaiting(bytes=1000)}
limits = pytest.mark.parametrize("limits", LIMITS.values(), ids=LIMITS)

BODY = "x" * 100
ENOUGH = 50
"""More sends than wait and are in flight under these limits."""


@asynccontextmanager
async def stopped(own_server, **options):
    """A server that does not answer for now, a client, and its queue."""
    server = own_server()
    async with AsyncRSMQ.from_url(server.url, **options) as rsmq:
        queue = rsmq.queue("jobs")
        await queue.create()
        server.process.send_signal(signal.SIGSTOP)
        try:
            yield server, rsmq, queue
        finally:
            resume(server)


def resume(server):
    server.process.send_signal(signal.SIGCONT)


async def begin(*calls):
    """Start calls, and wait until they have been made."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    for _ in range(3):
        await asyncio.sleep(0)
    return tasks


async def cancel(tasks):
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


@limits
async def test_withdrawn(own_server, limits):
    """A send that waits its turn is withdrawn by cancelling it; one whose turn had come is sent."""
    async with stopped(own_server, max_waiting=limits) as (server, _, queue):
        first = await begin(*(queue.send(BODY) for _ in range(10)))
        others = await begin(*(queue.send(BODY) for _ in range(ENOUGH)))
        withdrawn = await begin(*(queue.send(b"withdrawn") for _ in range(5)))
        last = await begin(queue.send("last"))
        await cancel([*first, *withdrawn])
        resume(server)
        await asyncio.gather(*others, *last)
        bodies = [message.body for message in await queue.peek(1000)]
        assert bodies == [BODY] * (10 + ENOUGH) + ["last"]
        assert len(ids_in(server)) == len(bodies)


@limits
async def test_order(server, limits):
    """Sends that have waited their turn go out in order, and are as many script calls as others,
    but for those that the limit makes smaller.
    """
    async with AsyncRSMQ.from_url(server.url, max_waiting=limits) as rsmq:
        queue = rsmq.queue("jobs")
        await queue.create()
        server.reset_stats()
        bodies = [f"{n:0100}" for n in range(500)]
        ids = await asyncio.gather(*map(queue.send, bodies))
        assert ids == sorted(ids)
        assert [message.body for message in await queue.peek(1000)] == bodies
        assert server.script_calls() <= 500 / 8 + 10


async def test_one_large_message(server):
    """A message that is larger than the limit is sent when it is its turn."""
    async with AsyncRSMQ.from_url(server.url, max_waiting=MaxWaiting(1, 1)) as rsmq:
        queue = rsmq.queue("jobs")
        await queue.create()
        ids = await asyncio.gather(*(queue.send("x" * 1000) for _ in range(20)))
        ids += await queue.send_many(["x"] * 20)
        assert ids_in(server) == ids


@limits
async def test_send_many_counts(own_server, limits):
    """`send_many` counts until it has its reply, and waits its turn as a send does."""
    async with stopped(own_server, max_waiting=limits) as (server, _, queue):
        many = await begin(queue.send_many([BODY] * 10))
        withdrawn = await begin(queue.send("withdrawn"), queue.send_many(["withdrawn"]))
        kept = await begin(queue.send("kept"), queue.send_many(["a", "b"]), queue.send("c"))
        await cancel(withdrawn)
        assert not any(task.done() for task in [*many, *kept])
        resume(server)
        await asyncio.gather(*many, *kept)
        bodies = sorted(message.body for message in await queue.peek(1000))
        assert bodies == sorted([*[BODY] * 10, "kept", "a", "b", "c"])


async def test_after_an_error(server):
    """A `send_many` that fails makes room again."""
    async with AsyncRSMQ.from_url(server.url, max_waiting=MaxWaiting(10)) as rsmq:
        missing = rsmq.queue("missing")
        for _ in range(3):
            with pytest.raises(QueueDoesNotExist):
                await missing.send_many(["x"] * 20)
        batch = missing._core.sender._batch
        assert (batch._max_items, batch._bytes) == (10, 0)


async def test_deadline(own_server):
    """A call that waits its turn has its deadline counted from the call; it fails in order, was not
    sent, and the error says so.
    """
    options = {"max_waiting": MaxWaiting(10), "deadline": 0.5}
    failed = {}

    async def fail(call, name):
        with pytest.raises(TimeoutError) as raised:
            await call
        failed[name] = str(raised.value)

    async with stopped(own_server, **options) as (server, _, queue):
        loop = asyncio.get_running_loop()
        began_at = loop.time()
        await asyncio.gather(
            *(fail(queue.send(str(n)), str(n)) for n in range(ENOUGH)),
            fail(queue.send_many(["many"]), "many"),
            fail(queue.send("last"), "last"),
        )
        assert loop.time() - began_at >= 0.5
        assert list(failed) == [*map(str, range(ENOUGH)), "many", "last"]
        resume(server)
        await queue.attributes()  # what was in flight has been executed
        stored = {message.body for message in await queue.peek(1000)}
        not_sent = {name for name, text in failed.items() if "it was not sent" in text}
        assert {"many", "last"} < not_sent
        assert len(not_sent) >= ENOUGH - 30
        assert not not_sent & stored


async def test_other_calls(own_server):
    """Only sends wait their turn; what settles messages of a full queue does not."""
    async with stopped(own_server, max_waiting=MaxWaiting(1)) as (server, _, queue):
        resume(server)
        ids = await queue.send_many(["x"] * 3)
        server.process.send_signal(signal.SIGSTOP)
        sends = await begin(*(queue.send(BODY) for _ in range(ENOUGH)))
        deletes = await begin(*map(queue.delete_message, ids))
        await cancel(deletes)
        resume(server)
        await asyncio.gather(*sends)
        assert set(ids).isdisjoint(ids_in(server))


async def test_closing(own_server, monkeypatch):
    """Closing the client ends those who wait their turn with ClientClosed."""
    monkeypatch.setattr("aiorsmq._server.engine.CLOSE_TIMEOUT", 0.1)
    async with stopped(own_server, max_waiting=MaxWaiting(10)) as (_, rsmq, queue):
        many = [queue.send_many([BODY] * 10) for _ in range(3)]
        calls = await begin(*(queue.send(BODY) for _ in range(300)), *many)
        await rsmq.aclose()
        results = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(result) for result in results} == {ClientClosed}


async def test_outage(own_server):
    """An outage that lasts for longer than the deadline fails those who wait their turn, too."""
    options = {"max_waiting": MaxWaiting(10), "deadline": 0.3}
    async with stopped(own_server, **options) as (server, _, queue):
        server.kill()
        calls = [queue.send(BODY) for _ in range(ENOUGH)] + [queue.send_many(["x"])]
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(result) for result in results} <= {ConnectionError, TimeoutError}
        server.start()
        await queue.create()
        await queue.send("again")


async def test_those_who_have_left(own_server, monkeypatch):
    """Sends that were cancelled while they waited their turn do not fill the memory."""
    monkeypatch.setattr(batch, "MIN_SWEPT", 100)
    async with stopped(own_server, max_waiting=MaxWaiting(10)) as (server, _, queue):
        waiting = await begin(*(queue.send(BODY) for _ in range(ENOUGH)))
        for _ in range(10):
            await cancel(await begin(*(queue.send(BODY) for _ in range(100))))
            assert len(queue._core.sender._batch._line) <= 100 + ENOUGH
        resume(server)
        await asyncio.gather(*waiting)


CALLS = {
    "sends": lambda queue: queue.send("x"),
    "receives": lambda queue: queue.receive(),
    "deletes": lambda queue: queue.delete_message("0" * 32),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("outage", ["hangs", "is away"])
async def test_failing_many(own_server, monkeypatch, call, outage):
    """Many calls that fail together fail in order, and a limited number in each turn of the event
    loop.
    """
    for module in (batch, failing):
        monkeypatch.setattr(module, "MAX_FAILED", 50)
    turn = 0
    failed_in = []

    async def count_turns():
        nonlocal turn
        while True:
            turn += 1
            await asyncio.sleep(0)

    async def fail(queue, number):
        with suppress(ConnectionError, TimeoutError):
            await call(queue)
        failed_in.append((number, turn))

    options = {"deadline": 1, "max_waiting": MaxWaiting(300)}
    async with stopped(own_server, **options) as (server, _, queue):
        if outage == "is away":
            server.kill()
        counting = asyncio.create_task(count_turns())
        failures = await begin(*(fail(queue, number) for number in range(1000)))
        await asyncio.wait(failures)
        await cancel([counting])
        if outage == "is away":
            server.start()
    numbers, turns = zip(*failed_in, strict=True)
    assert max(Counter(turns).values()) <= 2 * 50  # in a turn that begins with a few failures
    never_sent = [number for number in numbers if number >= 600]  # calls in flight may fail later
    assert never_sent == list(range(600, 1000))
