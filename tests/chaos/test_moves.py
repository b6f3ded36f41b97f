"""Messages die and are sent back all the time, and receipts from before are used: none settles what
another holds.
"""

import asyncio
import random
import time
from collections import Counter

import anyio
import redis
from aiorsmq import AsyncRSMQ

from support import check_keys, now_ms, wait_until

LEASE = 0.4


class Consumers:
    """Of both queues. Each remembers its receipts, and uses old ones at random."""

    def __init__(self, chance):
        self.chance = chance
        self.did = Counter()
        self.latest = {}
        """The last receipt that anybody got, by id."""
        self.old = []
        self.deleted = Counter()
        self.perhaps = set()
        self.wrong = []
        self.ends = 0.0

    async def consume(self, queues):
        while time.monotonic() < self.ends:
            with self.errors():
                queue = self.chance.choice(queues)
                for message in await queue.receive_many(3, vt=LEASE, wait=0.05):
                    self.latest[message.id] = message
                    self.old.append(message)
                    await self.settle(queue, message)
            with self.errors():
                await self.use_an_old_receipt()

    async def settle(self, queue, message):
        ways = ["bury"] * 9 if queue.name == "jobs" else ["forget"] * 3
        how = self.chance.choice([*ways, *["release", "extend", "forget"] * 2, "delete"])
        if how == "bury":
            done = await queue._core.bury([message._record], "for no reason") == ["dead"]
        elif how == "extend":
            done = await message.extend(LEASE)
        else:
            done = how == "forget" or await getattr(message, how)()
        if how == "delete":
            self.note_delete(message, done)
        self.did[how if done else f"{how} refused"] += 1
        held = time.time() < message.visible_until.timestamp() - 0.02
        # Others: if the reply was lost, and by the time of the repetition another has received it,
        # or it has moved on.
        if how in ("delete", "extend") and not done and held and self.latest[message.id] is message:
            self.wrong.append(f"{how} of {message} was refused to its holder")

    async def use_an_old_receipt(self):
        """One whose lease has ended long since: so it cannot be taken for that of an own lost
        attempt.
        """
        over = [one for one in self.old if one.visible_until.timestamp() + 3 * LEASE < time.time()]
        if not over:
            return
        message = self.chance.choice(over)
        is_stale = self.latest[message.id] is not message
        how = self.chance.choice(["delete", "extend", "release"])
        call = getattr(message, how)
        done = await (call(0) if how == "extend" else call())
        self.did[f"old {how}" if done else "old refused"] += 1
        if done and is_stale:
            self.wrong.append(
                f"{how} by {message}, when another had received it as {self.latest[message.id]}"
            )
        if how == "delete":
            self.note_delete(message, done)

    def note_delete(self, message, done):
        """One that is repeated when its lease has ended, and finds the message gone, says False."""
        if done:
            self.deleted[message.id] += 1
        else:
            self.perhaps.add(message.id)

    def errors(self):
        return _Counting(self.did)


class _Counting:
    """Counts what may be raised where others take the dead-letter queue away, and a long poll that
    was not answered.
    """

    def __init__(self, did):
        self.did = did

    def __enter__(self):
        return self

    def __exit__(self, kind, error, _traceback):
        self.did["unanswered"] += isinstance(error, redis.ConnectionError)
        return isinstance(error, redis.ConnectionError)


async def test_stale_receipts(server, proxy, seed, scale, report):
    """None of the receipts from before a move settles anything, though replies are lost; each
    message is done once.
    """
    number, consumers = scale(80, 1500), Consumers(random.Random(seed.random()))
    async with (
        AsyncRSMQ.from_url(server.url) as near,
        AsyncRSMQ.from_url(proxy.url) as one,
        AsyncRSMQ.from_url(proxy.url) as other,
    ):
        jobs = near.queue("jobs")
        await jobs.create(vt=1, max_receives=4, dead_letter_queue="dead")
        ids = await jobs.send_many([str(n) for n in range(number)])
        consumers.ends = time.monotonic() + scale(4, 60)

        async def send_back():
            while True:
                async for _ in (
                    seed.choice((one, near)).queue("dead").redrive(limit=seed.randint(1, 40))
                ):
                    pass
                await anyio.sleep(seed.uniform(0, 0.05))

        proxy.cut_share = 0.05
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(send_back)
            queues = [
                (rsmq.queue("jobs"), rsmq.queue("jobs"), rsmq.queue("dead"))
                for rsmq in (near, one, other)
            ]
            await asyncio.gather(*(consumers.consume(some) for some in queues * 3))
            tasks.cancel_scope.cancel()
        proxy.cut_share = 0.0
        await wait_until(lambda: no_lease(server))
        left = {
            id.decode()
            for name in ("jobs", "dead")
            for id in server.redis.zrange(f"rsmq:{name}", 0, -1)
        }
        moves = (
            server.redis.hget("rsmq:dead:Q", "totalsent"),
            server.redis.hget("rsmq:jobs:Q", "totalsent"),
        )
    died, back = int(moves[0] or 0), int(moves[1]) - number
    done, twice = len(consumers.deleted), sum(times > 1 for times in consumers.deleted.values())
    report(
        f"{proxy.cuts} replies cut, {died} deaths, {back} sent back, {dict(consumers.did)}: "
        f"{done} of {number} done, "
        f"{twice} twice, {len(left)} left, {len(consumers.wrong)} wrong",
        "all done or left; twice, wrong 0",
    )
    assert consumers.wrong == []
    assert twice == 0
    assert not consumers.deleted.keys() & left
    assert set(ids) - consumers.deleted.keys() - left <= consumers.perhaps
    assert back <= died <= back + number
    assert consumers.did["old refused"] > scale(20, 500)
    assert min(back, proxy.cuts) > scale(20, 200)
    check_keys(server.redis)


def no_lease(server):
    after_now = f"({now_ms(server)}", "+inf"
    return not any(server.redis.zcount(f"rsmq:{name}", *after_now) for name in ("jobs", "dead"))
