"""What is wrong in the keys of a queue is found, and repaired."""

import asyncio

import pytest
import redis
from aiorsmq import AsyncRSMQ, InvalidParameterValue, NotPermitted, QueueDoesNotExist
from aiorsmq._commands import audit

from dead_letters.letters import bury
from operations.others import NODE_ID, id_of, send
from support import (
    check_keys,
    fields_of,
    ids_in,
    keyspace,
    never_polling,
    now_ms,
    wait_for_listener,
    wait_until,
)

foreign_data = pytest.mark.foreign_data

GONE = id_of(10**15, "gone")
KINDS = ("phantoms", "leaked_fields", "stranded_bodies", "unknown_fields", "unknown_members")


def counts(report):
    """What was found, by kind, without what was not."""
    found = {kind: getattr(report, kind).count for kind in KINDS}
    return {kind: count for kind, count in found.items() if count}


def damage(server, *, number=1):
    """Of each kind that can be repaired so many: what crashes and other ports leave behind."""
    messages = {
        name: [id_of(10**15 + n, name) for n in range(number)]
        for name in ("phantom", "leaked", "stranded", "both")
    }
    for id in messages["phantom"] + messages["both"]:
        server.redis.zadd("rsmq:jobs", {id: now_ms(server)})
    for id in messages["leaked"] + messages["both"]:
        server.redis.hset("rsmq:jobs:Q", mapping={f"{id}:rc": 2, f"{id}:fr": 1_700_000_000_000})
    for n, id in enumerate(messages["stranded"]):
        server.redis.hset("rsmq:jobs:Q", mapping={id: f"body {n}", f"{id}:rc": 2})
    return messages


@pytest.fixture
def small_steps(monkeypatch):
    monkeypatch.setattr(audit, "MAX_LOOKS", 1)


async def test_nothing_wrong(server, rsmq):
    """A queue in which everything has happened that may is clean."""
    jobs = rsmq.queue("jobs")
    await jobs.create(max_receives=1, dead_letter_queue="dead")
    await bury(jobs, "a", "b")
    await jobs.send_many(["c"] * 20, delay=500)
    await jobs.send_many(["d"] * 20)
    send(server, b"\xff", id=NODE_ID)
    await jobs.receive_many(5, vt=300)
    assert await jobs.pop()
    await (await jobs.receive()).delete()
    server.redis.hset("rsmq:jobs:Q", "paused", now_ms(server))
    before = keyspace(server)
    for queue in (jobs, rsmq.queue("dead")):
        report = await queue.audit()
        assert (counts(report), report.is_clean, report.is_complete) == ({}, True, True)
        assert (report.queue, report.unfinished_purge) == (queue.name, 0)
    assert (await jobs.audit()).messages == 39
    assert keyspace(server) == before
    server.redis.hdel("rsmq:jobs:Q", "paused")


async def test_found(server, queue):
    """Messages without a body, counts of messages that are gone, and bodies without a place are
    counted, with their names; nothing is changed.
    """
    await queue.send_many(["fine"] * 5)
    messages = damage(server)
    before = keyspace(server)
    report = await queue.audit()
    assert counts(report) == {"phantoms": 2, "leaked_fields": 4, "stranded_bodies": 1}
    assert set(report.phantoms.examples) == {messages["phantom"][0], messages["both"][0]}
    assert set(report.leaked_fields.examples) == {
        f"{id}:{field}" for id in messages["leaked"] + messages["both"] for field in ("rc", "fr")
    }
    assert report.stranded_bodies.examples == messages["stranded"]
    assert [getattr(report, kind).repaired for kind in KINDS] == [0] * 5
    assert not report.is_clean
    assert keyspace(server) == before
    await queue.audit(repair=True)


async def test_repaired(server, queue):
    """Repair removes the former two, and makes the bodies visible messages, with their receive
    counts; the next audit finds nothing.
    """
    (own,) = await queue.send_many(["fine"])
    (stranded,) = damage(server)["stranded"]
    report = await queue.audit(repair=True)
    assert counts(report) == {"phantoms": 2, "leaked_fields": 4, "stranded_bodies": 1}
    assert [getattr(report, kind).repaired for kind in KINDS] == [2, 4, 1, 0, 0]
    assert report.is_clean
    assert (await queue.audit()).is_clean
    check_keys(server.redis)
    assert {message.id: message.receive_count for message in await queue.receive_many(5)} == {
        own: 1,
        stranded: 3,
    }


async def test_many(server, queue, small_steps):
    """As many as there are, in any number of steps; ten names of each."""
    await queue.send_many(["fine"] * 200)
    damage(server, number=150)
    report = await queue.audit()
    assert counts(report) == {"phantoms": 300, "leaked_fields": 600, "stranded_bodies": 150}
    assert len(report.phantoms.examples) == len(report.leaked_fields.examples) == 10
    assert report.examined == (200 + 300) + (6 + 200 + 600 + 300)
    repaired = await queue.audit(repair=True)
    assert counts(repaired) == counts(report)
    assert repaired.is_clean
    assert (await queue.attributes()).msgs == 350
    assert (await queue.audit()).is_clean


async def test_repaired_is_announced(server, queue):
    """Who waits for a message gets one that repair has made visible."""
    async with never_polling(server) as other:
        waiting = asyncio.ensure_future(other.queue("jobs").receive(wait=20))
        await wait_for_listener(server)
        await wait_until(lambda: server.script_calls() >= 2)
        server.redis.hset("rsmq:jobs:Q", GONE, "found again")
        await queue.audit(repair=True)
        assert (await waiting).body == "found again"


@foreign_data
async def test_unknown(server, queue):
    """What no RSMQ knows is told of, and left alone: fields, receive counts of what is no message,
    and members with the name of a field.
    """
    fields = {"color": "blue", "color:rc": 1, b"\xff": 1, "x" * 40: 1, "": "nothing"}
    fields |= {"x" * 31 + "!": 1, "Last" + "x" * 28: 1}
    server.redis.hset("rsmq:jobs:Q", mapping=fields)
    server.redis.zadd("rsmq:jobs", {"vt": 1, f"{GONE}:rc": 2, "a message of a sort": 3})
    server.redis.hset("rsmq:jobs:Q", "a message of a sort", "body")
    before = keyspace(server)
    report = await queue.audit(repair=True)
    assert counts(report) == {"unknown_fields": 6, "unknown_members": 2}
    assert "\\xff" in report.unknown_fields.examples
    assert set(report.unknown_members.examples) == {"vt", f"{GONE}:rc"}
    assert not report.is_clean
    assert keyspace(server) == before


@foreign_data
async def test_large_foreign_hash(server, queue):
    """However many fields there are, each step looks at a bounded number of them."""
    server.redis.hset("rsmq:jobs:Q", mapping={f"field {n}": "x" * 100 for n in range(20_000)})
    await queue.audit(budget=1)
    server.reset_stats()
    report = await queue.audit()
    assert report.unknown_fields.count == 20_000
    assert len(report.unknown_fields.examples) == 10
    calls = server.script_calls()
    assert 20_000 / (2 * audit.MAX_LOOKS) < calls < 2 * 20_000 / audit.MAX_LOOKS


async def test_large_bodies(server, queue):
    """Each step reads a bounded number of bytes."""
    await queue.send_many(["x" * 60_000] * 200)
    await queue.audit(budget=1)
    server.reset_stats()
    assert (await queue.audit()).is_clean
    assert server.script_calls() > 200 / 20  # a scan by tens gives up to some more than ten


async def test_budget(server, queue):
    """It stops when it has looked at about as much as it may, and says so."""
    await queue.send_many(["x"] * 2000)
    report = await queue.audit(budget=500)
    assert not report.is_complete
    assert 500 <= report.examined < 1000
    report = await queue.audit(budget=2100)
    assert not report.is_complete
    assert (await queue.audit(budget=5000)).is_complete


async def test_unfinished_purge(server, queue):
    """What a purge has taken out and not yet deleted is no finding, and is counted."""
    await queue.send_many(["old"] * 300)
    await queue.receive_many(60)
    server.redis.rename("rsmq:jobs", "rsmq:jobs:purged")  # as a purge that was cancelled
    report = await queue.audit(repair=True)
    assert (counts(report), report.unfinished_purge) == ({}, 300)
    await queue.purge()
    assert (await queue.audit()).unfinished_purge == 0


@foreign_data
@pytest.mark.parametrize("text", ["d2a57dc1d883fd21fb9951699df71cc7", "8" * 32])
async def test_hash_as_a_name(server, queue, text):
    """A field that is named by a hash is another program's, and no message."""
    server.redis.hset("rsmq:jobs:Q", text, "theirs")
    assert counts(await queue.audit(repair=True)) == {"unknown_fields": 1}
    assert await queue.receive() is None
    server.redis.hdel("rsmq:jobs:Q", text)


async def test_left_in_list(server, rsmq, monkeypatch):
    """A name of which nothing else is there is removed from the set of all queues, unless the queue
    is created meanwhile.
    """
    server.redis.sadd("rsmq:QUEUES", "jobs")
    jobs = rsmq.queue("jobs")
    assert (await jobs.audit()).is_listed
    assert not (await jobs.audit(repair=True)).is_listed
    assert await rsmq.list_queues() == set()

    unlist = audit._unlist

    async def create_first(node, keys):
        await jobs.ensure()
        return await unlist(node, keys)

    server.redis.sadd("rsmq:QUEUES", "jobs")
    monkeypatch.setattr(audit, "_unlist", create_first)
    assert (await jobs.audit(repair=True)).is_listed
    assert await rsmq.list_queues() == {"jobs"}


@foreign_data
async def test_wrong_types(server, rsmq, queue):
    """Another program's key in the place of the purge says nothing; in the place of the queue it
    raises the server's error, and stays as it is.
    """
    server.redis.hset("rsmq:jobs:Q", GONE, "body")
    server.redis.set("rsmq:jobs:purged", "theirs")
    report = await queue.audit(repair=True)
    assert (counts(report), report.unfinished_purge) == ({"stranded_bodies": 1}, 0)
    server.redis.set("rsmq:zset", "theirs")
    server.redis.hset("rsmq:zset:Q", mapping={"vt": 30, GONE: "body"})
    server.redis.set("rsmq:hash:Q", "theirs")
    before = keyspace(server)
    for qname in ("zset", "hash"):
        with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
            await rsmq.queue(qname).audit(repair=True)
    assert keyspace(server) == before


class TestHalfMade:
    """Queues of which a part is missing; `ensure` makes it."""

    async def test_no_hash(self, server, rsmq, queue):
        """Messages without settings, and without bodies."""
        await queue.send_many(["a", "b"])
        server.redis.delete("rsmq:jobs:Q")
        report = await queue.audit(repair=True)
        assert (report.has_settings, report.is_listed, report.messages) == (False, True, 2)
        assert counts(report) == {"phantoms": 2}
        assert not report.is_clean
        assert (await queue.ensure()).created
        assert (await queue.audit()).is_clean
        assert (await queue.attributes()).msgs == 0

    @foreign_data
    async def test_no_vt(self, server, queue):
        """A hash without vt: as if the queue were not there, for Node and PyRSMQ."""
        await queue.send("a")
        server.redis.hdel("rsmq:jobs:Q", "vt")
        server.redis.hset("rsmq:jobs:Q", "maxsize", 2048)
        report = await queue.audit()
        assert (report.has_settings, report.is_clean, counts(report)) == (False, False, {})
        assert (await queue.ensure()).created
        assert (await queue.audit()).is_clean
        assert fields_of(server)[b"vt"] == b"30"
        assert fields_of(server)[b"maxsize"] == b"2048"
        assert (await queue.receive()).body == "a"

    async def test_not_listed(self, server, rsmq, queue):
        """A queue whose name is missing in the set of all queues."""
        await queue.send("a")
        server.redis.srem("rsmq:QUEUES", "jobs")
        report = await queue.audit()
        assert (report.has_settings, report.is_listed, report.is_clean) == (True, False, False)
        assert not (await queue.ensure()).created
        assert (await queue.audit()).is_clean
        assert await rsmq.list_queues() == {"jobs"}

    async def test_only_listed(self, server, rsmq):
        """A name in the set of all queues, and nothing else."""
        server.redis.sadd("rsmq:QUEUES", "jobs")
        report = await rsmq.queue("jobs").audit()
        assert (report.has_settings, report.is_listed, report.examined) == (False, True, 0)
        assert (await rsmq.queue("jobs").ensure()).created
        assert (await rsmq.queue("jobs").audit()).is_clean

    async def test_nothing(self, rsmq):
        """A queue of which nothing exists raises."""
        with pytest.raises(QueueDoesNotExist):
            await rsmq.queue("jobs").audit()


class Users:
    """A producer, consumers whose messages die or are deleted, and somebody who redrives and
    purges.
    """

    def __init__(self, rsmq):
        self.jobs, self.dead, self.again = map(rsmq.queue, ("jobs", "dead", "again"))
        self.queues = (self.jobs, self.dead, self.again)
        self.bodies = [f"{n} " + "x" * 100 for n in range(400)]
        self.left = set(self.bodies)

    async def use(self):
        await asyncio.gather(self.produce(), self.consume(), self.redrive())

    async def produce(self):
        for body in self.bodies:
            await self.jobs.send(body)

    async def consume(self):
        while self.left:
            for message in await self.jobs.receive_many(7, vt=500):
                if message.body.startswith("7"):
                    await self.jobs._core.bury([message._record], "unlucky")
                else:
                    await message.delete()
                self.left.discard(message.body)

    async def redrive(self):
        while self.left:
            await self.dead.redrive(self.again)
            await self.again.purge()


@pytest.mark.parametrize("repair", [False, True])
async def test_in_use(server, rsmq, small_steps, repair):
    """A queue in use gives no false findings, and loses nothing, whatever is done to it between two
    steps.
    """
    users = Users(rsmq)
    await users.jobs.create(max_receives=1, dead_letter_queue="dead", maxsize=-1)
    await users.again.create()
    using = asyncio.ensure_future(users.use())
    audits = 0
    while not using.done():
        for queue in users.queues:
            assert counts(await queue.audit(repair=repair)) == {}
        audits += 1
    await using
    assert audits > 1


async def test_gone_between_steps(server, queue, monkeypatch):
    """Repair judges once more, in the step that repairs: what is right by then stays as it is."""
    phantom, leaked, stranded = (id_of(10**15, name) for name in ("phantom", "leaked", "stranded"))
    server.redis.zadd("rsmq:jobs", {phantom: 1})
    server.redis.hset("rsmq:jobs:Q", mapping={f"{leaked}:rc": 1, stranded: "body"})
    look = audit._look

    async def look_and_let_others(*args):
        step = await look(*args)
        server.redis.hset("rsmq:jobs:Q", mapping={phantom: "its body", leaked: "its body"})
        server.redis.zadd("rsmq:jobs", {leaked: 1})
        server.redis.hdel("rsmq:jobs:Q", stranded)
        return step

    monkeypatch.setattr(audit, "_look", look_and_let_others)
    report = await queue.audit(repair=True)
    assert report.phantoms.count == 1
    assert [getattr(report, kind).repaired for kind in KINDS] == [0] * 5
    assert set(ids_in(server)) == {phantom, leaked}
    assert fields_of(server)[f"{leaked}:rc".encode()] == b"1"


async def test_lost_reply(server, far, queue, cut_reply):
    """If the reply to a step is lost, the step is repeated."""
    damage(server)
    cut_reply(None)
    report = await far.queue("jobs").audit()
    assert counts(report) == {"phantoms": 2, "leaked_fields": 4, "stranded_bodies": 1}
    await queue.audit(repair=True)


@foreign_data
async def test_lost_reply_to_removal(server, proxy, far, cut_reply, monkeypatch):
    """So it is if the reply to the removal of a name is lost: the name is told to be gone."""
    server.redis.sadd("rsmq:QUEUES", "jobs", "known")
    await far.queue("known").audit(repair=True)
    unlist = audit._unlist

    async def lose_reply(node, keys):
        cut_reply(None)
        return await unlist(node, keys)

    monkeypatch.setattr(audit, "_unlist", lose_reply)
    assert not (await far.queue("jobs").audit(repair=True)).is_listed
    assert proxy.cuts == 1


async def test_lost_reply_to_repair(server, proxy, far, queue, cut_reply, monkeypatch):
    """If the reply to a repair is lost, it is repeated: what was repaired is counted, and what
    others did with it since stays done.
    """
    server.redis.hset("rsmq:jobs:Q", mapping={f"{GONE}:rc": 1, NODE_ID: "body"})
    repair = audit._repair

    async def others():
        message = await queue.receive()
        assert message.body == "body"
        assert await message.delete()

    async def lose_reply(node, keys, findings):
        if findings:
            cut_reply(others)
        return await repair(node, keys, findings)

    monkeypatch.setattr(audit, "_repair", lose_reply)
    report = await far.queue("jobs").audit(repair=True)
    assert proxy.cuts == 1
    assert (report.leaked_fields.repaired, report.stranded_bodies.repaired) == (1, 1)
    assert report.is_clean
    assert ids_in(server) == []
    check_keys(server.redis)


async def test_full_server(own_server):
    """A full server can be repaired: that frees memory."""
    server = own_server("--maxmemory", "8mb", "--maxmemory-policy", "noeviction")
    async with never_polling(server) as rsmq:
        queue = rsmq.queue("jobs")
        await queue.create()
        damage(server, number=50)
        with pytest.raises(redis.ResponseError, match=r"OOM|maxmemory"):
            while True:
                await queue.send("x" * 60_000)
        server.redis.config_set("maxmemory", "1mb")
        report = await queue.audit(repair=True)
        assert report.is_clean
        assert report.stranded_bodies.repaired == 50


@pytest.fixture
def reader(server):
    """A user who may only read."""
    rules = ("reset", "on", ">pw", "+@all", "-@write", "+eval", "+evalsha", "allkeys")
    server.redis.execute_command("ACL", "SETUSER", "reader", *rules)
    yield {"username": "reader", "password": "pw"}
    server.redis.acl_deluser("reader")


async def test_not_permitted(server, queue, reader):
    """Who may only read can audit; a repair raises NotPermitted, and changes nothing."""
    damage(server)
    before = keyspace(server)
    async with AsyncRSMQ.from_url(server.url, **reader) as user:
        report = await user.queue("jobs").audit()
        assert counts(report) == {"phantoms": 2, "leaked_fields": 4, "stranded_bodies": 1}
        with pytest.raises(NotPermitted):
            await user.queue("jobs").audit(repair=True)
    assert keyspace(server) == before
    await queue.audit(repair=True)


@pytest.mark.parametrize("budget", [0, -1, None, 1.5, "1", True])
async def test_bad_budget(unchanged, queue, budget):
    """The budget is an int, 1 or more."""
    with pytest.raises(InvalidParameterValue, match="budget"):
        await queue.audit(budget=budget)
