"""The calls of each role: prepared up to the `yield`, then made and looked at."""

import asyncio
from contextlib import suppress
from typing import NamedTuple

from aiorsmq import JSON, AsyncRSMQ, NotConfirmed, replicas

from support import next_millisecond, now_ms, wait_until


class Place(NamedTuple):
    """Where a call is tried: what it does is the user's, what is prepared and looked at is
    another's.
    """

    server: object
    proxy: object
    own: AsyncRSMQ
    user: AsyncRSMQ
    refusals: list

    @property
    def jobs(self):
        return self.user.queue("jobs")

    async def prepare(self, *bodies, received=0, **options):
        """A queue with some messages; the first has been received so many times, and is the first
        again.
        """
        queue = self.own.queue("jobs")
        await queue.create(**options)
        ids = await queue.send_many(bodies) if bodies else []
        for _ in range(received):
            place = self.server.redis.zscore("rsmq:jobs", ids[0])
            assert (await queue.receive()).id == ids[0]
            self.server.redis.zadd("rsmq:jobs", {ids[0]: place})
        return ids

    def bodies(self, qname="jobs"):
        hash = self.server.redis.hgetall(f"rsmq:{qname}:Q")
        return sorted(hash[id].decode() for id in self.server.redis.zrange(f"rsmq:{qname}", 0, -1))

    def counts(self):
        """The receive counts of hidden and of visible messages."""
        now, hidden, visible = now_ms(self.server), [], []
        for id, score in self.server.redis.zrange("rsmq:jobs", 0, -1, withscores=True):
            count = int(self.server.redis.hget("rsmq:jobs:Q", id + b":rc") or 0)
            (hidden if score > now else visible).append(count)
        return hidden, visible


async def send(place):
    await place.prepare("a")
    yield
    await place.jobs.send("x")
    assert place.bodies() == ["a", "x"]


async def send_many(place):
    await place.prepare(delay=9)
    yield
    ids = await place.jobs.send_many([str(n) for n in range(600)])
    assert len(place.bodies()) == len(ids) == 600


async def send_again(place):
    """The reply of the first attempt is lost."""
    await place.prepare()
    yield
    await place.jobs.send("a")  # its connection is open
    place.proxy.cut_after_execution = 1
    await place.jobs.send("x")
    assert place.bodies() == ["a", "x"]


async def send_confirmed(place):
    """There is no replica."""
    await place.prepare("a")
    yield
    with suppress(NotConfirmed):
        await place.jobs.send("x", confirm=replicas(1, 0.001))
    assert place.bodies() == ["a", "x"]


async def send_confirmed_again(place):
    """The connection is lost before it is retried."""
    await place.prepare()
    yield
    try:
        await place.jobs.send("x", confirm=replicas(1, 0.001))
    except NotConfirmed as error:
        place.proxy.close_connections()
        with suppress(NotConfirmed):
            await error.retry()
    assert place.bodies() == ["x"]


async def receive(place):
    await place.prepare("a", "b")
    yield
    assert (await place.jobs.receive()).body == "a"
    assert place.counts() == ([1], [0])


async def receive_again(place):
    await place.prepare("a", "b", received=2)
    yield
    assert {
        message.body: message.receive_count for message in await place.jobs.receive_many(5)
    } == {"a": 3, "b": 1}
    assert sorted(place.counts()[0]) == [1, 3]


async def receive_none(place):
    await place.prepare()
    yield
    assert await place.jobs.receive() is None


async def receive_behind_a_phantom(place):
    ids = await place.prepare("a", "b", received=1)
    place.server.redis.hdel("rsmq:jobs:Q", ids[0])
    yield
    try:
        assert [message.body for message in await place.jobs.receive_many(5)] == ["b"]
    finally:
        assert [message.body for message in await place.own.queue("jobs").peek(5)] == ["b"]


async def pop(place):
    await place.prepare("a", "b", received=2)
    yield
    message = await place.jobs.pop()
    assert (message.body, message.receive_count) == ("a", 3)
    assert place.bodies() == ["b"]


async def delete(place):
    await place.prepare("a", "b")
    message = await place.jobs.receive()
    yield
    assert await message.delete()
    assert place.bodies() == ["b"]


async def delete_message(place):
    (id,) = await place.prepare("a")
    yield
    assert await place.jobs.delete_message(id)
    assert place.bodies() == []


async def delete_many(place):
    ids = await place.prepare("a", "b", "c")
    yield
    assert await place.jobs.delete_many([*ids[:2], "0" * 32]) == [True, True, False]
    assert place.bodies() == ["c"]


async def extend(place):
    await place.prepare("a")
    message = await place.jobs.receive(vt=0)
    yield
    assert await message.extend(60)
    assert place.counts() == ([1], [])


async def release(place):
    await place.prepare("a")
    message = await place.jobs.receive()
    yield
    assert await message.release()
    assert place.counts() == ([], [1])


async def change_visibility(place):
    (id,) = await place.prepare("a", delay=9)
    yield
    assert await place.jobs.change_visibility(id, 0)
    assert place.counts() == ([], [0])


async def hand_back(place):
    """Of what a stream has claimed ahead, one was received before."""
    await place.prepare("a", "b", "c", received=1)
    yield
    try:
        async with place.jobs.messages(prefetch=2) as messages:
            await anext(messages)
            await wait_until(lambda: len(place.counts()[0]) == 3)
        await place.user.aclose()
        hidden, _ = place.counts()
        assert place.refusals or len(hidden) == 1
    finally:
        assert place.bodies() == ["a", "b", "c"]
        assert 0 not in place.counts()[0]


async def put_back(place):
    """As much, of what it has popped ahead."""
    await place.prepare("a", "b", "c", received=1)
    yield
    taken = []
    try:
        async with place.jobs.messages(prefetch=2, pop=True) as messages:
            taken.append((await anext(messages)).body)
            await wait_until(lambda: not place.bodies())
    finally:
        await place.user.aclose()
        assert sorted(taken + place.bodies()) == ["a", "b", "c"]


async def put_back_hidden(place):
    """What was popped and cannot be decoded."""
    await place.prepare("no json", vt=60)
    yield
    try:
        assert await place.user.queue("jobs", codec=JSON).pop() is None
    finally:
        await place.user.aclose()
        assert place.bodies() == ["no json"]


async def wait(place):
    await place.prepare()
    yield
    asking = asyncio.ensure_future(place.jobs.receive(wait=10))
    await asyncio.sleep(0.01)
    await place.own.queue("jobs").send("x")
    try:
        assert (await asking).body == "x"
    finally:
        assert place.bodies() == ["x"]
        assert place.counts() == ([], [0]) or place.counts() == ([1], [])


async def work(place):
    """One message is handled; another fails twice, and dies."""
    await place.prepare("good", "bad", max_receives=2, dead_letter_queue="dead")
    yield
    handled = []

    async def handler(message):
        if message.body == "bad":
            raise ValueError("bad")
        handled.append(message.body)

    worker = place.jobs.worker(handler, backoff=lambda _: 0.001)
    working = asyncio.ensure_future(worker.run(signals=False))
    await wait_until(lambda: working.done() or place.refusals or (handled and place.bodies("dead")))
    worker.stop()
    try:
        await working
        await place.user.aclose()
        if not place.refusals:
            assert (place.bodies(), place.bodies("dead")) == ([], ["bad"])
            assert [letter.reason for letter in await place.own.queue("dead").reasons()] == [
                "ValueError: bad"
            ]
    finally:
        assert set(place.bodies() + place.bodies("dead") + handled) == {"good", "bad"}
        assert place.bodies("dead") in ([], ["bad"])


async def renew(place):
    """A handler takes so long that the lease of its message must be renewed."""
    (id,) = await place.prepare("slow", max_receives=2, dead_letter_queue="dead")
    yield
    scores = []

    async def handler(message):
        scores.append(place.server.redis.zscore("rsmq:jobs", id))
        worker._intakes[0].leases._renew_at = 0.0  # at its next tick
        await wait_until(
            lambda: place.refusals or place.server.redis.zscore("rsmq:jobs", id) > scores[0]
        )

    worker = place.jobs.worker(handler)
    working = asyncio.ensure_future(worker.run(signals=False))
    await wait_until(lambda: working.done() or place.refusals or (scores and not place.bodies()))
    worker.stop()
    await working
    assert place.refusals or place.bodies() == []


async def die(place):
    """A claim finds that a message has been received too often; its queue for the dead is not
    there.
    """
    await place.prepare("a", "b", received=2, max_receives=2, dead_letter_queue="dead")
    await place.own.queue("dead").delete()
    yield
    try:
        message = await place.jobs.receive()
        assert message is None or message.body == "b"
        await place.user.aclose()
        assert place.refusals or (place.bodies(), place.bodies("dead")) == (["b"], ["a"])
        assert place.refusals or await place.own.list_queues() == {"jobs", "dead"}
    finally:
        assert sorted(place.bodies() + place.bodies("dead")) == ["a", "b"]


async def create(place):
    yield
    await place.jobs.create(vt=5, delay=1, maxsize=2048)
    attributes = await place.own.queue("jobs").attributes()
    assert (attributes.vt, attributes.delay, attributes.maxsize) == (5, 1, 2048)
    assert await place.own.list_queues() == {"jobs"}


async def create_both(place):
    yield
    await place.jobs.create(max_receives=3, dead_letter_queue="dead")
    attributes = await place.own.queue("jobs").attributes()
    assert (attributes.max_receives, attributes.dead_letter_queue) == (3, "dead")
    assert (await place.own.queue("dead").attributes()).vt == 30
    assert await place.own.list_queues() == {"jobs", "dead"}


async def create_with_others_there(place):
    """The set of queues is there already."""
    await place.own.create_queue(qname="dead")
    yield
    await place.jobs.create()
    assert await place.own.list_queues() == {"jobs", "dead"}


async def ensure(place):
    yield
    assert (await place.jobs.ensure(vt=5, dead_letter_queue="dead")).created
    assert await place.own.list_queues() == {"jobs", "dead"}


async def ensure_changes(place):
    """Of all kinds: a setting changes, one goes, and a dead-letter queue is created."""
    await place.prepare("a", max_receives=3)
    yield
    ensured = await place.jobs.ensure(vt=7, max_receives=0, dead_letter_queue="dead")
    assert ensured.changed.keys() == {"vt", "max_receives", "dead_letter_queue"}
    assert await place.own.list_queues() == {"jobs", "dead"}


async def set_attributes(place):
    await place.prepare("a")
    yield
    assert (await place.jobs.set_attributes(vt=7, maxsize=-1)).vt == 7
    assert (await place.own.queue("jobs").attributes()).maxsize == -1


async def set_policy(place):
    await place.prepare()
    yield
    await place.jobs.set_attributes(max_receives=3, dead_letter_queue="dead")
    assert (await place.own.queue("jobs").attributes()).dead_letter_queue == "dead"
    assert await place.own.list_queues() == {"jobs", "dead"}


async def set_no_policy(place):
    await place.prepare(max_receives=3, dead_letter_queue="dead")
    yield
    assert (await place.jobs.set_attributes(vt=7, dead_letter_queue="")).dead_letter_queue is None
    assert not {b"max_receives", b"dead_letter_queue"} & set(
        place.server.redis.hkeys("rsmq:jobs:Q")
    )


async def attributes(place):
    await place.prepare("a", "b", delay=9)
    yield
    attributes = await place.jobs.attributes()
    assert (attributes.msgs, attributes.hiddenmsgs, attributes.totalsent) == (2, 2, 2)


async def list_queues(place):
    await place.prepare()
    yield
    assert await place.user.list_queues() == {"jobs"}


async def delete_queue(place):
    """With what belongs to it: reasons, and what a purge has left."""
    await place.prepare("a")
    place.server.redis.hset("rsmq:jobs:reasons", "x", "y")
    place.server.redis.expire("rsmq:jobs:reasons", 60)
    place.server.redis.zadd("rsmq:jobs:purged", {"x": 1})
    yield
    await place.jobs.delete()
    await place.user.aclose()
    assert set(place.server.redis.keys("*")) <= {b"rsmq:jobs:deleted"}  # it forgets that by itself


async def pause(place):
    await place.prepare("a")
    yield
    assert await place.jobs.pause()
    assert place.server.redis.hexists("rsmq:jobs:Q", "paused")


async def resume(place):
    await place.prepare("a")
    await place.own.queue("jobs").pause()
    yield
    assert await place.jobs.resume()
    assert not place.server.redis.hexists("rsmq:jobs:Q", "paused")


async def purge(place):
    await place.prepare(*map(str, range(500)), received=1)
    yield
    assert await place.jobs.purge() == 500
    assert place.server.redis.hlen("rsmq:jobs:Q") == 7
    assert not place.server.redis.exists("rsmq:jobs:purged")


async def purge_some(place):
    await bury(place, "a", "b")
    yield
    assert await place.user.queue("dead").purge(text="a") == 1
    assert place.bodies("dead") == ["b"]


async def peek(place):
    await place.prepare("a", "b", received=1)
    yield
    assert [message.body for message in await place.jobs.peek(5)] == ["a", "b"]


async def get(place):
    """With the reason, if it were a dead letter."""
    ids = await place.prepare("a", "b", received=1)
    yield
    assert (await place.jobs.get(ids[0])).receive_count == 1


async def find(place):
    """Page by page, by every condition."""
    await place.prepare("a", "b", "c", received=1)
    yield
    conditions = {"text": "a", "state": "visible", "older_than": 0, "min_receives": 1}
    assert [message.raw for message in (await place.jobs.find(**conditions)).messages] == [b"a"]
    assert (await place.jobs.find(reason="x")).messages == []
    first = await place.jobs.find(limit=1)
    found = await place.jobs.find(after=first.next)
    assert [message.raw for message in found.messages] == [b"b", b"c"]


async def audit(place):
    await place.prepare("a", "b", received=1)
    place.server.redis.zadd("rsmq:jobs:purged", {"x": 1})
    yield
    report = await place.jobs.audit()
    assert (report.is_clean, report.unfinished_purge) == (True, 1)


async def repair(place):
    """Of each kind one."""
    phantom, stranded, gone = (f"hoiolkjziw{rest:Z<22}" for rest in "abc")
    await place.prepare("a")
    place.server.redis.zadd("rsmq:jobs", {phantom: 1})
    place.server.redis.hset("rsmq:jobs:Q", mapping={stranded: "b", f"{gone}:rc": 1})
    yield
    try:
        assert (await place.jobs.audit(repair=True)).is_clean
        assert place.bodies() == ["a", "b"]
    finally:
        await place.own.queue("jobs").delete()


async def unlist(place):
    place.server.redis.sadd("rsmq:QUEUES", "jobs")
    yield
    try:
        assert not (await place.jobs.audit(repair=True)).is_listed
    finally:
        place.server.redis.delete("rsmq:QUEUES")


async def bury(place, *bodies):
    """Some dead, whose reasons are known."""
    await place.prepare(*bodies, max_receives=1, dead_letter_queue="dead")
    queue = place.own.queue("jobs")
    await queue._core.bury(
        [message._record for message in await queue.receive_many(len(bodies))], "tired"
    )
    await next_millisecond()


async def reasons(place):
    await bury(place, "a")
    yield
    assert [letter.reason for letter in await place.user.queue("dead").reasons()] == ["tired"]


async def export(place):
    await bury(place, "a", "b")
    yield
    lines = [line async for line in place.user.queue("dead").export()]
    assert [b"tired" in line for line in lines] == [False, True, True]


async def look_without_reasons(place):
    """Groups, an export and a dry run of a purge only read."""
    await place.prepare("a", "b")
    yield
    (group,) = await place.jobs.reason_groups()
    assert (group.group, group.count) == ("", 2)
    assert len([line async for line in place.jobs.export()]) == 3
    assert await place.jobs.purge(text="a", dry_run=True) == 1


async def import_lines(place):
    """Messages are added to others."""
    await place.prepare("a")
    yield
    assert await place.jobs.import_lines([b'{"body": "b"}', b'{"body": "c"}']) == 2
    assert place.bodies() == ["a", "b", "c"]


async def import_kept(place):
    """Dead letters come back with their reasons."""
    await bury(place, "a", "b")
    dead = place.own.queue("dead")
    lines = [line async for line in dead.export()]
    await dead.delete_message((await dead.peek())[0].id)
    yield
    run = place.user.queue("dead").import_lines(lines, keep_ids=True, keep_times=True)
    assert await run == 1
    assert place.bodies("dead") == ["a", "b"]


async def reason_groups(place):
    await bury(place, "a", "b")
    yield
    (group,) = await place.user.queue("dead").reason_groups()
    assert (group.group, group.count) == ("tired", 2)


async def replace(place):
    """A dead letter goes back with another body."""
    await bury(place, "a")
    (letter,) = await place.own.queue("dead").reasons()
    yield
    assert await place.user.queue("dead").replace(letter.id, "b", to="jobs")
    assert (place.bodies(), place.bodies("dead")) == (["b"], [])


async def redrive(place):
    await bury(place, "a", "b")
    yield
    assert [moved async for moved in place.user.queue("dead").redrive()] == [2]
    assert (place.bodies(), place.bodies("dead")) == (["a", "b"], [])


async def redrive_pages(place):
    """More than a page; one of them stays."""
    bodies = [str(n) for n in range(70)]
    await bury(place, *bodies)
    yield
    try:
        moved = [
            total
            async for total in place.user.queue("dead").redrive(
                where=lambda letter: letter.raw != b"7"
            )
        ]
        assert moved == [63, 69]
        assert place.bodies("dead") == ["7"]
    finally:
        assert sorted(place.bodies() + place.bodies("dead")) == sorted(bodies)


async def snapshot(place):
    await place.prepare("a", "b", received=1, max_receives=3, dead_letter_queue="dead")
    await place.own.queue("jobs").receive(vt=60)
    yield
    look = await place.jobs.snapshot()
    assert (look.visible, look.in_flight, look.consumers) in ((1, 1, 0), (1, 1, None))


async def snapshots(place):
    await place.prepare("a", max_receives=3, dead_letter_queue="dead")
    yield
    looks = await place.user.snapshots()
    assert [(look.name, look.visible, look.dead) for look in looks] == [
        ("dead", 0, None),
        ("jobs", 1, 0),
    ]


async def peek_dead(place):
    await bury(place, "a", "b")
    yield
    assert [message.body for message in await place.user.queue("dead").peek(5)] == ["a", "b"]


async def get_dead(place):
    await bury(place, "a")
    (letter,) = await place.own.queue("dead").peek()
    yield
    assert (await place.user.queue("dead").get(letter.id)).reason == "tired"


async def find_dead(place):
    await bury(place, "a", "b")
    yield
    found = await place.user.queue("dead").find(reason="tired", text="b", state="visible")
    assert [message.raw for message in found.messages] == [b"b"]


async def delete_dead(place):
    await bury(place, "a", "b")
    letters = await place.own.queue("dead").peek()
    yield
    assert await place.user.queue("dead").delete_many([letters[0].id]) == [True]
    assert place.bodies("dead") == ["b"]


async def purge_dead(place):
    await bury(place, "a", "b")
    yield
    assert await place.user.queue("dead").purge() == 2
    assert place.bodies("dead") == []


async def audit_dead(place):
    await bury(place, "a")
    yield
    assert (await place.user.queue("dead").audit()).is_clean


async def find_unlisted(place):
    await place.prepare("a")
    place.server.redis.srem("rsmq:QUEUES", "jobs")
    yield
    assert await place.user.find_unlisted() in (["jobs"], None)


async def server_info(place):
    yield
    assert (await place.user.server_info()).round_trip < 60


async def announcements(place):
    """The first comes as soon as it listens, or knows that it may not."""
    await place.prepare()
    yield
    async with place.jobs.announcements() as steps:
        await anext(steps)
