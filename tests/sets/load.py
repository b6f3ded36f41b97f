"""A cluster under load, and what can happen to it meanwhile."""

import asyncio
from contextlib import aclosing

import pytest
from aiorsmq import AsyncRSMQ
from redis.crc import key_slot

from support import wait_until

NS = "{rsmq}"
SLOT = key_slot(b"{rsmq}:jobs")


def other_than(cluster, owner):
    """Another primary."""
    return next(node for node in cluster.primaries() if node is not owner)


class Load:
    """`async with Load(...) as load`: senders to one queue, and a sender and a consumer of another.

    At the end nothing that was acknowledged may be missing, nothing may be there twice, and no call
    may have failed.
    """

    def __init__(self, cluster, rsmq, url, senders=8):
        self.cluster = cluster
        self.kept = rsmq.queue("kept")
        self.taken = rsmq.queue("taken")
        self.consumer = AsyncRSMQ.from_url(url, ns=NS, poll_interval=3600)
        self.sent, self.received, self.counts = [], [], []
        self.tasks = []
        self.senders = senders
        self.is_over = False

    async def __aenter__(self):
        await self.kept.create()
        await self.taken.create()
        self.consuming = asyncio.create_task(self.consume())
        self.tasks = [
            *(asyncio.create_task(self.send(self.kept, number)) for number in range(self.senders)),
            asyncio.create_task(self.send(self.taken, "live")),
        ]
        await self.some_more()
        return self

    async def __aexit__(self, *error):
        self.is_over = True
        if error == (None, None, None):
            await asyncio.gather(*self.tasks)
            live = {body for _, body in self.sent if body.startswith("live")}
            await wait_until(lambda: live <= {body for body, _ in self.received})
        self.consuming.cancel()
        await self.consumer.aclose()
        if error == (None, None, None):
            self.check(live)

    async def some_more(self):
        """Wait until more has been sent, by everybody, and received."""
        sent, received = len(self.sent), len(self.received)
        await wait_until(lambda: len(self.sent) > sent + 50 and len(self.received) > received + 1)

    async def send(self, queue, name):
        number = 0
        while not self.is_over:
            body = f"{name}-{number}"
            self.sent.append((await queue.send(body), body))
            number += 1
            await asyncio.sleep(0.02)

    async def consume(self):
        async with aclosing(self.consumer.queue("taken").messages(vt=3)) as messages:
            async for message in messages:
                self.received.append((message.body, message.receive_count))
                await message.delete()

    def check(self, live):
        owner = self.cluster.owner(SLOT)
        fields = owner.redis.hgetall(f"{NS}:kept:Q")
        kept = [(id, body) for id, body in self.sent if body not in live]
        stored = {id.decode() for id in owner.redis.zrange(f"{NS}:kept", 0, -1)}
        assert {id for id, _ in kept} == stored
        assert sorted(body for _, body in kept) == sorted(
            value.decode() for name, value in fields.items() if len(name) == 32
        )
        assert {body for body, _ in self.received} == live


async def by_key(cluster, owner, load):
    await asyncio.to_thread(cluster.move, SLOT, other_than(cluster, owner), pause=0.1)


async def at_once(cluster, owner, load):
    if "valkey_version" not in owner.redis.info("server"):
        pytest.skip("only Valkey 9 moves a slot at once")
    await asyncio.to_thread(cluster.move_at_once, SLOT, other_than(cluster, owner))


async def planned(cluster, owner, load):
    await asyncio.to_thread(cluster.failover, owner)


async def killed(cluster, owner, load):
    owner.kill()
    await asyncio.to_thread(cluster.wait_for_failover, SLOT, owner)
    await load.some_more()
    await asyncio.to_thread(owner.start)


async def hung(cluster, owner, load):
    owner.freeze()
    await asyncio.to_thread(cluster.wait_for_failover, SLOT, owner)
    await load.some_more()
    owner.thaw()


async def forgetful(cluster, owner, load):
    for node in cluster.nodes:
        node.ask("SCRIPT", "FLUSH")


FAULTS = (forgetful, by_key, at_once, planned, killed, hung)
"""Each leaves the cluster with all of its nodes."""
