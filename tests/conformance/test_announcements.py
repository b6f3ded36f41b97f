"""What is announced, and as what.

As Node rsmq 0.12.4 does it; each docstring is a sentence of the specification.
"""

import asyncio

from aiorsmq import AsyncRSMQ

from conformance.server import announcements


async def test_announced(server, queue):
    """A sent message is announced on {ns}:rt:{q} with the number of messages in the queue, as
    decimal text.
    """
    with announcements(server) as heard:
        await queue.send("a")
        await queue.send("b", delay=100)
        await queue.receive()
        await queue.send("c")
        assert heard() == [b"1", b"2", b"3"]


async def test_batch_is_announced_once(server, queue):
    """Messages that are stored together are announced once."""
    await queue.send("x")
    with announcements(server) as heard:
        await queue.send_many(["x"] * 5)
        assert heard() == [b"6"]
        server.reset_stats()
        await asyncio.gather(*(queue.send("x") for _ in range(100)))
        announced = heard()
        assert len(announced) == server.script_calls()
        assert announced[-1] == b"106"


async def test_made_visible_is_announced(server, queue):
    """A message that is released, or whose visibility is shortened, is announced."""
    id = await queue.send("x")
    with announcements(server) as heard:
        message = await queue.receive(vt=100)
        assert heard() == []
        await message.release()
        assert heard() == [b"1"]
        message = await queue.receive(vt=100)
        await message.release(delay=50)
        await queue.change_visibility(id, 40)
        await queue.change_visibility(id, 0)
        assert heard() == [b"1"] * 3


async def test_what_is_not_announced(server, queue):
    """Receiving, extending, deleting, popping, peeking and purging announce nothing."""
    await queue.send_many(["a", "b", "c", "d"])
    with announcements(server) as heard:
        first, second, _ = await queue.receive_many(3, vt=100)
        await first.extend(200)
        await queue.change_visibility(first.id, 300)
        await first.delete()
        await queue.delete_message(second.id)
        await queue.pop()
        await queue.peek()
        await queue.attributes()
        await queue.set_attributes(vt=20)
        await queue.purge()
        assert heard() == []


async def test_realtime_false(server, queue):
    """With realtime=False nothing is announced."""
    async with AsyncRSMQ.from_url(server.url, realtime=False) as silent:
        jobs = silent.queue("jobs")
        with announcements(server) as heard:
            await jobs.send("a")
            await jobs.send_many(["b", "c"])
            await (await jobs.receive()).release()
            await jobs.change_visibility((await jobs.receive()).id, 0)
            assert heard() == []
            await queue.send("d")
            assert heard() == [b"4"]
