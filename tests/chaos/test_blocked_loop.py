"""The event loop is blocked for longer than the watchdogs wait: nothing is lost, and no connection
is held for dead.
"""

import asyncio
import threading
import time

import anyio
import pytest
from aiorsmq import AsyncRSMQ
from aiorsmq._server import lane, listener

from support import PATIENCE, wait_for_listener, wait_until

WATCHDOG = 0.2


@pytest.fixture(
    params=[
        pytest.param(("asyncio", {"debug": True}), id="asyncio"),
        pytest.param(
            ("asyncio", {"debug": True, "use_uvloop": True}), id="uvloop"
        ),  # runs timers before it reads
    ]
)
def anyio_backend(request):
    return request.param


@pytest.fixture
def blocked(scale, monkeypatch):
    """Seconds that are longer than the watchdogs wait; their own in the full profile, shorter ones
    in the quick one.
    """
    if scale("quick", "full") == "quick":
        monkeypatch.setattr(listener, "PING_INTERVAL", WATCHDOG)
        monkeypatch.setattr(listener, "DEAD_AFTER", WATCHDOG)
        monkeypatch.setattr(lane, "REPLY_TIMEOUT", WATCHDOG)
    return 1.3 * max(lane.REPLY_TIMEOUT, listener.PING_INTERVAL, listener.DEAD_AFTER)


async def ask_for_ever(rsmq):
    """There is always a call under way."""
    while True:
        await rsmq.list_queues()


async def test_nothing_is_lost(server, queue, seed, scale, report, blocked, caplog):
    """Replies that were read late are no silence: calls under way get theirs, on the same
    connections.
    """
    rounds, got = scale(5, 1), []
    async with AsyncRSMQ.from_url(server.url) as rsmq:
        jobs = rsmq.queue("jobs")
        await rsmq.queue("idle").create()
        idle = asyncio.ensure_future(rsmq.queue("idle").receive(wait=3600))
        busy = asyncio.ensure_future(ask_for_ever(rsmq))
        await wait_for_listener(server, "idle")
        connections = {client["id"] for client in server.redis.client_list()}
        for n in range(rounds):
            await queue.send_many([f"{n}a", f"{n}b"])
            calls = [
                asyncio.ensure_future(call)
                for call in (jobs.pop(), jobs.receive(), jobs.send(f"{n}c"))
            ]
            for _ in range(seed.randrange(1, 5)):
                await asyncio.sleep(0)
            time.sleep(blocked * seed.uniform(1, 1.5))  # noqa: ASYNC251
            popped, received, _ = await asyncio.gather(*calls)
            got += [popped.body, received.body]
            assert received.receive_count == 1
            assert await received.delete()
            last = await jobs.receive()
            got.append(last.body)
            assert await last.delete()
            await asyncio.sleep(0)
        lost_connections = connections - {client["id"] for client in server.redis.client_list()}
        for task in (idle, busy):
            task.cancel()
        await asyncio.wait([idle, busy])
        assert busy.cancelled()
    report(
        f"blocked {rounds} times for {blocked:.1f} s and more: {3 * rounds - len(set(got))} of "
        f"{3 * rounds} messages "
        f"lost, {len(lost_connections)} connections",
        "0",
    )
    assert sorted(got) == sorted(f"{n}{which}" for n in range(rounds) for which in "abc")
    assert not lost_connections
    assert "no data received" not in caplog.text
    assert "jumped" not in caplog.text


async def test_leases_that_end_while_blocked(server, queue, report):
    """What others have received in that time is theirs: late calls are refused, what was claimed
    ahead is dropped.
    """
    theirs = []

    async def work():
        async with AsyncRSMQ.from_url(server.url) as other:
            while len(theirs) < 4:
                message = await other.queue("jobs").receive(vt=60, wait=10)
                theirs.append((message.body, message.receive_count))
                await message.release(delay=60)

    await queue.send_many(["a", "b", "c", "d"])
    async with queue.messages(vt=0.3, prefetch=3) as stream:
        mine = await anext(stream)
        await wait_until(lambda: server.redis.hget("rsmq:jobs:Q", "totalrecv") == b"4")
        others = threading.Thread(target=asyncio.run, args=[work()])
        others.start()
        others.join()  # and the loop is blocked
        refused = [await mine.delete(), await mine.extend(60), await mine.release()]
        asking = asyncio.ensure_future(anext(stream))
        await queue.send("e")
        with anyio.fail_after(PATIENCE):
            message = await asking
        assert message.body == "e"
        assert await message.delete()
    report(
        f"{len(theirs)} leases ended; {refused.count(False)} of 3 late calls refused, 3 of 3 "
        "claimed ahead dropped",
        "all",
    )
    assert sorted(theirs) == [(body, 2) for body in "abcd"]
    assert not any(refused)
    assert (await queue.attributes()).msgs == 4
