"""A line on which each reply takes long, replies that all come late, and requests that come after
their repetition.
"""

import asyncio
import contextlib
import time
from collections import Counter, defaultdict
from functools import partial

import anyio
import pytest
import redis
from aiorsmq import BYTES, AsyncRSMQ
from aiorsmq._consuming import line
from aiorsmq._server import lane


@pytest.fixture
def patience(scale, monkeypatch):
    """In the quick profile a silence is noticed sooner, so that the line need not be as slow."""
    if quick := scale(0.3, None):
        for module in (lane, line):
            monkeypatch.setattr(module, "REPLY_TIMEOUT", quick)


async def consume(ask, got):
    while asked := await ask():
        got += asked if isinstance(asked, list) else [asked]


async def test_slow_line(server, proxy, patience, seed, scale, report):
    """Nothing is received twice, and nothing popped is lost, because a message takes long to
    arrive.
    """
    number, proxy.rate = scale(20, 60), scale(1_000_000, 200_000)
    bodies = [b"%d " % n + b"x" * seed.choice((100, 60_000, 200_000)) for n in range(number)]
    consumers = {
        "receive": lambda queue: queue.receive(vt=300),
        "receive_many": lambda queue: queue.receive_many(9, vt=300),
        "pop": lambda queue: queue.pop(),
    }
    figures = []
    for name, ask in consumers.items():
        got = []
        async with AsyncRSMQ.from_url(server.url) as near, AsyncRSMQ.from_url(proxy.url) as far:
            queue = near.queue(name, codec=BYTES)
            await queue.create(maxsize=-1)
            await queue.send_many(bodies)

            there = far.queue(name, codec=BYTES)
            await asyncio.gather(*(consume(partial(ask, there), got) for _ in range(3)))
            received = (await queue.attributes()).totalrecv
        assert sorted(message.body for message in got) == sorted(bodies)
        assert {message.receive_count for message in got} == {1}
        figures.append(f"{name} {len(got)} of {number}, received {received} times")
        assert received == number
    report(
        f"{sum(map(len, bodies)) / 1e6:.1f} MB at {proxy.rate:,} bytes a second: "
        f"{'; '.join(figures)}",
        "each once",
    )
    proxy.rate = 0


async def test_late_replies(server, proxy, scale, report):
    """However many calls there are at once, late replies do not add up: no call fails at its
    deadline.
    """
    number = scale(1000, 10_000)
    async with AsyncRSMQ.from_url(proxy.url, deadline=scale(10, 30)) as rsmq:
        queue = rsmq.queue("jobs")
        await queue.create(vt=300)
        proxy.latency = scale((0.1, 0.25), (0.2, 0.5))
        results = {
            "sends": await asyncio.gather(
                *(queue.send(f"{n}") for n in range(number)), return_exceptions=True
            )
        }
        many = await asyncio.gather(
            *(queue.receive() for _ in range(number)), return_exceptions=True
        )
        results["receives"] = many
        messages = [message for message in many if message and not isinstance(message, Exception)]
        halves = messages[::2], messages[1::2]
        settling = [*(one.delete() for one in halves[0]), *(one.extend(300) for one in halves[1])]
        results["settled"] = await asyncio.gather(*settling, return_exceptions=True)
        results["deletes"] = await queue.delete_many([message.id for message in halves[1]])
        proxy.latency = None
        left = (await queue.attributes()).msgs
    done = {
        name: sum(not isinstance(one, Exception) and bool(one) for one in some)
        for name, some in results.items()
    }
    errors = Counter(
        repr(one) for some in results.values() for one in some if isinstance(one, Exception)
    )
    report(f"of {number:,}: {done}, left {left}, errors {dict(errors) or 0}", "all; left, errors 0")
    assert done == {"sends": number, "receives": number, "settled": number, "deletes": number // 2}
    assert len({message.id for message in messages}) == number
    assert left == 0


VT = 2.0


class Ledger:
    """What producers and consumers did, and what of it cannot be true. Times are the server's, in
    seconds.
    """

    def __init__(self, chance):
        self.chance = chance
        self.did = Counter()
        self.broken = []
        self.sent = {}
        self.seen = set()
        self.deleted = set()
        self.leases = defaultdict(float)
        self.repeated = 0
        """Messages that were stored again after they had been deleted."""

    async def produce(self, queue, name, ends):
        n = 0
        while time.monotonic() < ends:
            n += 1
            self.sent[body := f"{name}/{n}"] = None
            self.sent[body] = await queue.send(body, delay=self.chance.choice([None, None, 0.2]))
            await anyio.sleep(self.chance.uniform(0, 0.05))

    async def consume(self, queue, goes_on):
        while await goes_on():
            message = None
            with contextlib.suppress(
                redis.ConnectionError
            ):  # a poll whose claim was not answered when it ended
                message = await queue.receive(vt=VT, wait=0.3)
            if message is not None:
                self.received(message)
                await anyio.sleep(self.chance.uniform(0, 0.2))
                await self.settle(message)

    def received(self, message):
        until = message.visible_until.timestamp()
        self.did["received"] += 1
        self.seen.add(message.body)
        if (
            message.id in self.deleted
        ):  # then its send has arrived since, and `totalsent` must count it
            self.deleted.discard(message.id)
            self.repeated += 1
        if until - VT < self.leases[message.id] - 0.002:
            self.broken.append(
                f"{message} came {self.leases[message.id] - until + VT:.3f} s before a lease "
                "had ended"
            )
        self.leases[message.id] = until

    async def settle(self, message):
        how, until = (
            self.chance.choice(["delete"] * 6 + ["release", "extend", ""]),
            message.visible_until.timestamp(),
        )
        if how == "extend" and await message.extend(VT + 1):
            until = self.leases[message.id] = time.time() + VT + 0.9
            how = "delete"
        if how == "release":
            self.leases.pop(message.id, None)
            self.did[how if await message.release() else "release refused"] += 1
        elif how == "delete":
            self.note_delete(message, await message.delete(), until)

    def note_delete(self, message, done, until):
        self.did["delete" if done else "delete refused"] += 1
        if done and message.id in self.deleted:
            self.broken.append(f"{message} was deleted by two")
        elif done:
            self.deleted.add(message.id)
            self.leases.pop(message.id, None)
        elif time.time() < until - 0.05:
            self.broken.append(f"{message} could not be deleted by its holder")


async def test_late_requests(server, proxy, seed, scale, report):
    """A first attempt that arrives after its repetition, and after what others did then, breaks no
    promise.
    """
    ledger, ends = Ledger(seed), time.monotonic() + scale(3, 60)
    async with AsyncRSMQ.from_url(server.url) as near:
        jobs = near.queue("jobs")
        await jobs.create()

        async def goes_on():
            return proxy.late_share or (await jobs.attributes()).msgs

        async with AsyncRSMQ.from_url(proxy.url) as one, AsyncRSMQ.from_url(proxy.url) as other:
            await asyncio.gather(one.list_queues(), other.list_queues())
            proxy.late_share = 0.03
            queues = [rsmq.queue("jobs") for rsmq in (one, other)]
            async with anyio.create_task_group() as consumers:
                for queue in queues * 8:
                    consumers.start_soon(ledger.consume, queue, goes_on)
                await asyncio.gather(
                    *(ledger.produce(queue, n, ends) for n, queue in enumerate(queues * 2))
                )

                await proxy.all_have_arrived()
                proxy.late_share = 0.0
        attributes = await jobs.attributes()
    lost = ledger.sent.keys() - ledger.seen
    report(
        f"{proxy.late} requests late: {len(ledger.sent)} sent, {dict(ledger.did)}, lost "
        f"{len(lost)}, stored "
        f"{attributes.totalsent}, stored again {ledger.repeated}, broken {len(ledger.broken)}",
        "lost, broken 0; stored = sent + stored again",
    )
    assert ledger.broken == []
    assert lost == set()
    assert attributes.totalsent == len(ledger.sent) + ledger.repeated
    assert None not in ledger.sent.values()
    assert proxy.late > scale(10, 100)
