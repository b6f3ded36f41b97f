"""Calls are repeated because their replies were lost, when others have changed everything: they
leave that as it is.
"""

import contextlib
from collections import Counter

import anyio
import redis
from aiorsmq import AsyncRSMQ, NoDeadLetterQueue, QueueDoesNotExist, RedisSMQException

QUEUES = ("jobs", "dead")


class World:
    """Two queues, and what others do to them."""

    def __init__(self, server, rsmq, chance):
        self.server = server
        self.chance = chance
        self.jobs, self.dead = (rsmq.queue(name) for name in QUEUES)
        self.did = []

    async def begin(self):
        self.server.redis.flushall()
        await self.jobs.create(max_receives=3, dead_letter_queue="dead")
        await self.jobs.send_many([f"job {n}" for n in range(6)])
        await self.bury(3)

    async def change(self):
        self.did = []
        for _ in range(self.chance.randint(1, 4)):
            self.did.append(self.chance.choice(list(CHANGES)))
            with contextlib.suppress(QueueDoesNotExist, NoDeadLetterQueue):
                await CHANGES[self.did[-1]](self)

    async def bury(self, number=1):
        records = [message._record for message in await self.jobs.receive_many(number)]
        await self.jobs._core.bury(records, "for no reason")

    async def redrive(self):
        async for _ in self.dead.redrive():
            pass

    async def replace(self, queue):
        await queue.delete(missing_ok=True)
        if self.chance.random() < 0.8:
            policy = {"max_receives": 3, "dead_letter_queue": "dead"} if queue is self.jobs else {}
            await queue.create(**policy)
            await queue.send("in a new queue")

    async def show_all(self):
        for message in await self.jobs.peek():
            await self.jobs.change_visibility(message.id, 0)

    async def receive_all(self, *, delete=False):
        for message in await self.jobs.receive_many(20):
            if delete:
                await message.delete()

    def look(self):
        """All that is in the keys, by queue; None for one that is not there."""
        world = {}
        for name in QUEUES:
            fields = dict(self.server.redis.hgetall(f"rsmq:{name}:Q"))
            for counter in (b"modified", b"totalsent"):
                fields.pop(counter, None)
            places = dict(self.server.redis.zrange(f"rsmq:{name}", 0, -1, withscores=True))
            world[name] = (fields, places) if fields or places else None
        return world


CHANGES = {
    "send": lambda world: world.jobs.send("from another"),
    "receive": lambda world: world.jobs.receive(),
    "receive all": lambda world: world.receive_all(),
    "receive and delete": lambda world: world.receive_all(delete=True),
    "show all": lambda world: world.show_all(),
    "pop": lambda world: world.jobs.pop(),
    "pop the dead": lambda world: world.dead.pop(),
    "bury": lambda world: world.bury(),
    "redrive": lambda world: world.redrive(),
    "replace": lambda world: world.replace(world.jobs),
    "replace the dead": lambda world: world.replace(world.dead),
    "purge": lambda world: world.jobs.purge(),
    "purge the dead": lambda world: world.dead.purge(),
    "maxsize": lambda world: world.jobs.set_attributes(maxsize=1024),
}


async def redrive(queue, cut):
    """The reply to the move is lost, not that to the look before it."""

    def chosen(_letter):
        cut()
        return True

    return [moved async for moved in queue.redrive(where=chosen, limit=64)]


def calls(far):
    """What is repeated: name to a call, which is given the means to have its reply cut, and a
    receipt.
    """
    jobs, dead = (far.queue(name) for name in QUEUES)
    return {
        "send": lambda cut, _: cut() or jobs.send("once"),
        "send many": lambda cut, _: cut() or jobs.send_many(["once", "x" * 1000]),
        "delete": lambda cut, message: cut() or message.delete(),
        "delete by id": lambda cut, message: cut() or jobs.delete_message(message.id),
        "extend": lambda cut, message: cut() or message.extend(900),
        "release": lambda cut, message: cut() or message.release(500),
        "change visibility": lambda cut, message: cut() or jobs.change_visibility(message.id, 700),
        "put back": lambda cut, message: cut() or jobs._core.settler.restore([message._record]),
        "hand back": lambda cut, message: cut() or jobs._core.settler.hand_back([message._record]),
        "bury": lambda cut, message: cut() or jobs._core.bury([message._record], "hopeless"),
        "redrive": lambda cut, _: redrive(dead, cut),
        "delete the queue": lambda cut, _: cut() or jobs.delete(missing_ok=True),
        "create": lambda cut, _: (
            cut() or jobs.create(max_receives=3, dead_letter_queue="dead", exist_ok=True)
        ),
        "purge": lambda cut, _: cut() or jobs.purge(),
    }


def is_permitted(call, before, after, message):
    """Whether the repetition has left the world as it was, or differs only as is promised."""
    if before == after:
        return True
    if (
        call in ("create", "bury") and None in before.values()
    ):  # what was gone is there again, and empty
        return {name: before[name] and after[name] for name in QUEUES} == before
    if None in (before["jobs"], after["jobs"]) or before["dead"] != after["dead"]:
        return False
    (fields, places), (fields_after, places_after) = before["jobs"], after["jobs"]
    id = message.id.encode()
    if call in ("extend", "release"):  # counted from the repetition on
        return fields == fields_after and {**places, id: None} == {**places_after, id: None}
    if call in ("send", "send many"):  # what was received and deleted since is stored again
        new = {fields_after[id] for id in places_after.keys() - places.keys()}
        same = fields_after.items() >= fields.items() and places_after.items() >= places.items()
        return same and new <= {b"once", b"x" * 1000}
    return call == "delete by id" and is_without(id, before["jobs"], after["jobs"])


def is_without(id, before, after):
    """A delete by id deletes what has come back."""
    names = {id, id + b":rc", id + b":fr"}
    return all(
        {name: value for name, value in old.items() if name not in names} == new
        and not names & new.keys()
        for old, new in zip(before, after, strict=True)
    )


async def test_repeats(server, proxy, seed, scale, report):
    """Whatever others do before a call is repeated, the repetition undoes none of it."""
    number, done, raised = scale(400, 4000), Counter(), Counter()
    async with (
        AsyncRSMQ.from_url(server.url) as near,
        AsyncRSMQ.from_url(proxy.url, realtime=False) as far,
    ):
        world = World(server, near, seed)
        repeated = calls(far)
        await world.begin()
        for name, call in repeated.items():  # so that the server knows the scripts
            await world.begin()
            await call(lambda: None, await far.queue("jobs").receive())
            done[name] = 0
        while done.total() < number:
            await world.begin()
            message, name = await far.queue("jobs").receive(), seed.choice(list(repeated))
            await anyio.sleep(
                0.002
            )  # a receipt, an undoing and a receipt in one ms cannot be told apart
            before = None

            async def others_act():
                nonlocal before
                await world.change()
                before = world.look()

            def cut(before_cut=others_act):
                proxy.cut_after_execution, proxy.before_cut = 1, before_cut

            try:
                await repeated[name](cut, message)
            except (RedisSMQException, redis.ConnectionError) as error:
                raised[type(error).__name__] += 1
            assert before is not None, name
            assert is_permitted(name, before, world.look(), message), (
                name,
                world.did,
                before,
                world.look(),
            )
            done[name] += 1
    report(f"{proxy.cuts} replies cut: {dict(done)}, raised {dict(raised)}; 0 undone", "0 undone")
    assert proxy.cuts == number
    assert min(done.values()) > scale(5, 50)
