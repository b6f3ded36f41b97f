"""Cancelled at any await, by asyncio and by anyio: nothing is lost, nothing stays hidden, no reply
goes astray.
"""

import asyncio
import itertools
import time

import anyio
from aiorsmq import AsyncRSMQ

from support import wait_for_listener, wait_until

AN_HOUR = 3600


class Work:
    """What a program does with one queue, and its account: which bodies it has sent, which it has
    deleted.
    """

    def __init__(self, queue, seed):
        self.queue = queue
        self.seed = seed
        self.numbers = itertools.count()
        self.sent = set()
        self.deleted = []
        self.held = []
        self.stream = queue.messages(vt=AN_HOUR, prefetch=4)

    def new_body(self):
        body = f"body {next(self.numbers)}"
        self.sent.add(body)  # a send that has begun is carried out, whatever becomes of its caller
        return body

    async def send(self):
        assert len(await self.queue.send(self.new_body())) == 32

    async def send_many(self):
        assert len(await self.queue.send_many([self.new_body() for _ in range(3)])) == 3

    async def receive(self):
        self.hold(await self.queue.receive(vt=AN_HOUR))

    async def receive_many(self):
        self.hold(*await self.queue.receive_many(5, vt=AN_HOUR, wait=self.seed.choice([0, 10])))

    async def poll_long(self):
        self.hold(await self.queue.receive(vt=AN_HOUR, wait=10))

    async def iterate(self):
        self.hold(await anext(self.queue.messages(vt=AN_HOUR)))

    async def iterate_ahead(self):
        self.hold(await anext(self.stream))

    async def pop(self):
        if (message := await self.queue.pop(wait=self.seed.choice([0, 10]))) is not None:
            self.deleted.append(message)

    async def delete(self):
        if self.held:
            message = self.held.pop()
            self.deleted.append(message)
            assert await message.delete()

    async def release(self):
        if self.held:
            assert await self.held.pop().release()

    async def look(self):
        assert await self.queue.change_visibility("no-such-id", 5) is False
        assert (await self.queue.attributes()).vt == 30

    def hold(self, *messages):
        for message in messages:
            if message is not None:
                assert message.body in self.sent
                self.held.append(message)

    def anything(self):
        verbs = [
            self.send,
            self.send_many,
            self.receive,
            self.receive_many,
            self.poll_long,
            self.iterate,
            self.iterate_ahead,
            self.pop,
            self.delete,
            self.delete,
            self.release,
            self.look,
        ]
        return self.seed.choice(verbs)()


async def pause(seed):
    """A few turns of the event loop, or up to two milliseconds."""
    if seed.random() < 0.7:
        for _ in range(seed.randrange(12)):
            await asyncio.sleep(0)
    else:
        await asyncio.sleep(seed.uniform(0, 0.002))


async def by_cancel(work, seed):
    task = asyncio.ensure_future(work)
    await pause(seed)
    task.cancel()
    await asyncio.wait([task])
    return task.cancelled() or task.result() is not None


async def by_wait_for(work, seed):
    try:
        await asyncio.wait_for(work, seed.uniform(0, 0.003))
    except asyncio.TimeoutError:
        return True
    return False


async def by_scope(work, seed):
    scope = anyio.CancelScope()

    async def scoped():
        with scope:
            await work

    task = asyncio.ensure_future(scoped())
    await pause(seed)
    scope.cancel()
    await task
    return scope.cancelled_caught


async def by_move_on_after(work, seed):
    with anyio.move_on_after(seed.uniform(0, 0.003)) as scope:
        await work
    return scope.cancelled_caught


async def test_cancelled_at_random_awaits(server, queue, seed, scale, report):
    """Cancelling loses nothing, hides nothing, costs no connection and mixes up no reply; what was
    begun is done.
    """
    wanted = scale(300, 1500)
    cancelled = finished = 0
    async with AsyncRSMQ.from_url(server.url) as rsmq:
        work = Work(rsmq.queue("jobs"), seed)
        for _ in range(10):
            await work.send_many()
        await rsmq.queue("idle").create()
        idle = asyncio.ensure_future(
            rsmq.queue("idle").receive(wait=AN_HOUR)
        )  # so that the listener has work throughout
        await wait_for_listener(server, "idle")
        connections = {client["id"] for client in server.redis.client_list()}

        async def disturb():
            nonlocal cancelled, finished
            while cancelled < wanted:
                how = seed.choice([by_cancel, by_wait_for, by_scope, by_move_on_after])
                if await how(work.anything(), seed):
                    cancelled += 1
                else:
                    finished += 1

        await asyncio.gather(*(disturb() for _ in range(5)))
        await rsmq.list_queues()
        lost_connections = connections - {client["id"] for client in server.redis.client_list()}
        await work.stream.aclose()
        while work.held:
            await work.release()
        idle.cancel()
        await asyncio.wait([idle])
    left = {body.decode() for body in bodies(server).values()}
    await wait_until(lambda: hidden(server) == 0)
    deleted = [message.body for message in work.deleted]
    lost, twice = (
        work.sent - left - set(deleted),
        len(deleted) - len(set(deleted)) + len(left & set(deleted)),
    )
    report(
        f"{cancelled} cancelled, {finished} finished before; {len(work.sent)} messages: "
        f"{len(lost)} lost, "
        f"{twice} twice, {hidden(server)} hidden; {len(lost_connections)} connections lost",
        "0 lost, twice, hidden, connections",
    )
    assert not lost
    assert not twice
    assert not left - work.sent
    assert not lost_connections
    receipts = sum(message.receive_count for message in work.deleted) + sum(counts(server))
    assert int(server.redis.hget("rsmq:jobs:Q", "totalrecv")) == receipts


def hidden(server):
    return server.redis.zcount("rsmq:jobs", f"({time.time() * 1000:.0f}", "+inf")


def bodies(server):
    return {
        id: server.redis.hget("rsmq:jobs:Q", id) for id in server.redis.zrange("rsmq:jobs", 0, -1)
    }


def counts(server):
    fields = server.redis.hgetall("rsmq:jobs:Q")
    return [int(value) for field, value in fields.items() if field.endswith(b":rc")]
