"""What a server says that does not work just now: which calls wait, which raise what, and how soon
they work again.
"""

import asyncio
import time

import anyio
import pytest
import redis
from aiorsmq import AsyncRSMQ

from chaos.conditions import busy, loading, master_down, misconf, no_replicas, readonly
from support import wait_for_listener

RECOVERED = 3.0
"""Seconds: the longest pause between two attempts is 1."""


@pytest.mark.parametrize("condition", [loading, busy, readonly, master_down])
async def test_waits(own_server, report, condition, caplog):
    """Calls, long polls and streams wait until the server works again, and then work; nothing is
    done twice.
    """
    server = own_server("--appendonly", "yes", "--key-load-delay", "100")
    async with AsyncRSMQ.from_url(server.url, poll_interval=0.2) as rsmq:
        queue, stream = rsmq.queue("jobs"), rsmq.queue("jobs").messages()
        await queue.create()
        asking = asyncio.ensure_future(anext(stream))
        await wait_for_listener(server)
        async with condition(server):
            calls = [
                asyncio.ensure_future(call)
                for call in (queue.send("one"), queue.send_many(["two", "three"]))
            ]
            polling = asyncio.ensure_future(queue.receive(wait=20))
            await asyncio.sleep(0.5)
            assert not any(call.done() for call in (*calls, polling, asking))
        since = time.monotonic()
        await asyncio.gather(*calls)
        messages = [await asking, await polling, await anext(stream)]
        recovered = time.monotonic() - since
        assert {message.body for message in messages} == {"one", "two", "three"}
        assert all([await message.delete() for message in messages])
        attributes = await queue.attributes()
    report(f"waited, recovered after {recovered * 1000:.0f} ms", f"{RECOVERED:g} s")
    assert recovered < RECOVERED
    assert (attributes.totalsent, attributes.msgs) == (3, 0)
    assert "jumped" not in caplog.text  # a late answer is no jump of the clock


@pytest.mark.parametrize(("condition", "word"), [(misconf, "MISCONF"), (no_replicas, "NOREPLICAS")])
async def test_refused(own_server, report, condition, word):
    """Calls and streams raise what the server says, at once; nothing is written; afterwards the
    same ones work.
    """
    server = own_server()
    async with AsyncRSMQ.from_url(server.url, poll_interval=0.2) as rsmq:
        queue = rsmq.queue("jobs")
        await queue.create()
        stream = queue.messages()
        errors = set()
        async with condition(server):
            with anyio.fail_after(2):
                for call in (
                    lambda: queue.send("x"),
                    queue.receive,
                    lambda: queue.receive(wait=60),
                    stream.__anext__,
                ):
                    with pytest.raises(redis.ResponseError, match=word) as caught:
                        await call()
                    errors.add(type(caught.value).__name__)
            assert (await queue.attributes()).totalsent == 0  # reading works
        since = time.monotonic()
        await queue.send("y")
        message = await anext(stream)
        recovered = time.monotonic() - since
        assert message.body == "y"
        assert await message.delete()
        attributes = await queue.attributes()
    report(
        f"{', '.join(sorted(errors))}, recovered after {recovered * 1000:.0f} ms",
        f"at once, {RECOVERED:g} s",
    )
    assert recovered < RECOVERED
    assert (attributes.totalsent, attributes.msgs) == (1, 0)
