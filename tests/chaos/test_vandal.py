"""Another program writes nonsense into a queue's keys while consumers work: no consumer is troubled
by it.
"""

import asyncio
import logging
import re
import time

import anyio
import pytest
from aiorsmq import AsyncRSMQ

from support import wait_until

pytestmark = pytest.mark.foreign_data

NO_NUMBERS = [b"abc", b"", b"nan", b"-inf", b"1e300", b"9" * 30, b"-5", b"3.7", b" 7 ", b"\xff\x00"]
ODD_IDS = [
    b"7",
    b"\xff\xfe",
    b"%s %d",
    b":",
    b"a:rc:fr",
    b"{}",
    "\N{SNOWMAN}".encode() * 40,
    b"x" * 300,
    b"\r\n",
]


class Vandal:
    """Writes by raw commands what RSMQ never does; counts what must still arrive, and what must
    go.
    """

    def __init__(self, connection, seed):
        self.redis = connection
        self.seed = seed
        self.number = 0
        self.foreign = set()
        self.phantoms = 0
        self.hidden_for_ever = 0

    def new_id(self):
        self.number += 1
        return self.seed.choice(ODD_IDS) + b"%d" % self.number

    def strike(self):
        verbs = [
            self.phantom,
            self.message,
            self.never,
            self.field,
            self.damage,
            self.damage,
            self.settings,
            self.place,
        ]
        self.seed.choice(verbs)()

    def phantom(self):
        """A member without a body."""
        self.phantoms += self.redis.zadd("rsmq:jobs", {self.new_id(): self.past()})

    def message(self):
        """A message with an odd id, and fields that are no numbers."""
        id = self.new_id()
        body = b"foreign %d" % self.number
        fields = {
            id: body,
            id + b":rc": self.seed.choice(NO_NUMBERS),
            id + b":fr": self.seed.choice(NO_NUMBERS),
        }
        self.redis.hset("rsmq:jobs:Q", mapping=fields)
        self.redis.zadd("rsmq:jobs", {id: self.past()})
        self.foreign.add(body.decode())

    def never(self):
        """A message, or none, that will never be due."""
        id = self.new_id()
        self.redis.zadd("rsmq:jobs", {id: self.seed.choice([float("inf"), 1e300, 1e18])})
        self.hidden_for_ever += 1
        if self.seed.random() < 0.5:
            self.redis.hset("rsmq:jobs:Q", id, "never")

    def field(self):
        """A field without a message."""
        self.redis.hset(
            "rsmq:jobs:Q",
            self.new_id() + self.seed.choice([b"", b":rc", b":fr", b":zz"]),
            b"orphan",
        )

    def damage(self):
        """Counts and times of messages that are there, claimed ones too."""
        for id in self.early(6):
            self.redis.hset(
                "rsmq:jobs:Q", id + self.seed.choice([b":rc", b":fr"]), self.seed.choice(NO_NUMBERS)
            )

    def settings(self):
        name = self.seed.choice(["vt", "delay", "maxsize", "created", "totalrecv", "totalsent"])
        self.redis.hset("rsmq:jobs:Q", name, self.seed.choice([b"abc", b"nan", b"", b"\xff"]))

    def place(self):
        """Messages that are visible, at scores that are no times."""
        for id in self.early(3):
            self.redis.zadd("rsmq:jobs", {id: self.past()}, xx=True, lt=True)

    def early(self, count):
        return self.redis.zrangebyscore(
            "rsmq:jobs", "-inf", time.time() * 1000 + 10_000, start=0, num=count
        )

    def past(self):
        return self.seed.choice([float("-inf"), -1e300, -5, 0, 0.5, 1e9, time.time() * 1000])


async def test_nonsense_while_consumers_work(server, queue, seed, scale, report, caplog):
    """Nothing is raised to a consumer; all good messages arrive, and all that is visible is worked
    off.
    """
    caplog.set_level(logging.WARNING, "aiorsmq")
    vandal, got, sent = Vandal(server.redis, seed), set(), set()
    async with (
        AsyncRSMQ.from_url(server.url, poll_interval=0.05) as other,
        anyio.create_task_group() as tasks,
    ):

        async def consume(stream):
            async for message in stream:
                got.add(message.body)
                assert repr(message)
                assert message.receive_count >= 1
                assert message.sent_at.tzinfo
                await (
                    message.delete()
                )  # False if its count was damaged in between: then it is redelivered

        for n in range(10):
            tasks.start_soon(consume, other.queue("jobs").messages(vt=0.3, prefetch=n % 3))
        for n in range(scale(400, 4000)):
            sent.add(body := f"good {n}")
            await queue.send(body)
            vandal.strike()
            await asyncio.sleep(seed.choice([0, 0, 0.001]))
        await wait_until(lambda: server.redis.zcard("rsmq:jobs") == vandal.hidden_for_ever)
        await queue.attributes()
        await queue.peek(1000)
        tasks.cancel_scope.cancel()
    removed = sum(int(number) for number in re.findall(r"removed (\d+) entries", caplog.text))
    lost = (sent | vandal.foreign) - got
    report(
        f"{vandal.number} odd entries, {len(sent)} good and {len(vandal.foreign)} odd messages: "
        f"{len(lost)} lost, "
        f"{removed} of {vandal.phantoms} phantoms counted, {len(got - sent - vandal.foreign)} "
        "unexpected",
        "0 lost, 0 unexpected, nothing raised",
    )
    assert got == sent | vandal.foreign
    assert removed == vandal.phantoms
