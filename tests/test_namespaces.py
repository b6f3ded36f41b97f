"""Several namespaces in one client, and in one worker."""

import asyncio
import logging
from collections import Counter

import pytest
from aiorsmq import AsyncRSMQ, InvalidParameterValue, sync

from support import at_once, wait_for_silence, wait_until

NAMES = [f"rsmq:{{jobs-{n}}}" for n in range(3)]


@pytest.fixture
async def queues(rsmq):
    """One queue name in three namespaces."""
    queues = [rsmq.queue("jobs", ns=ns) for ns in NAMES]
    for queue in queues:
        await queue.create()
    return queues


async def test_keys(rsmq, server, queues):
    """A queue's keys and its set of queues are those of its namespace; another queue of its name is
    another queue.
    """
    await queues[1].send("x")
    ns = NAMES[1]
    keys = {f"{ns}:QUEUES", f"{ns}:jobs", f"{ns}:jobs:Q"}
    assert {key for key in map(bytes.decode, server.redis.keys()) if key.startswith(ns)} == keys
    assert [(await queue.attributes()).msgs for queue in queues] == [0, 1, 0]
    assert await rsmq.list_queues() == set()


async def test_of_the_client(server):
    """Without a namespace of its own a queue has the client's, and both ways it is one queue."""
    async with AsyncRSMQ.from_url(server.url, ns=NAMES[0]) as rsmq:
        queue, named = rsmq.queue("jobs"), rsmq.queue("jobs", ns=NAMES[0])
        assert queue._core is named._core is not rsmq.queue("jobs", ns=NAMES[1])._core
        assert queue.ns == named.ns == NAMES[0]
        await named.create()
        await rsmq.send_message(qname="jobs", message="x")
        assert (await named.receive()).body == "x"


async def test_what_tells_it(rsmq, queues):
    """Handles and messages know their namespace, and a handle shows one that is not RSMQ's own."""
    assert [queue.ns for queue in queues] == NAMES
    assert [queue.name for queue in queues] == ["jobs"] * 3
    assert repr(queues[2]) == "<Queue 'jobs' in 'rsmq:{jobs-2}'>"
    assert repr(rsmq.queue("jobs")) == "<Queue 'jobs'>"
    await queues[2].send("x")
    for message in (*await queues[2].peek(), await queues[2].pop()):
        assert (message.queue, message.ns) == ("jobs", NAMES[2])


async def test_calls_for_a_namespace(rsmq, server, queues):
    """What lists queues does so for a namespace."""
    await rsmq.create_queue(qname="other")
    server.redis.srem(f"{NAMES[2]}:QUEUES", "jobs")
    assert await rsmq.list_queues(ns=NAMES[0]) == {"jobs"}
    assert await rsmq.list_queues() == {"other"}
    await queues[1].send_many(["x"] * 3)
    (snapshot,) = await rsmq.snapshots(ns=NAMES[1])
    assert (snapshot.name, snapshot.visible) == ("jobs", 3)
    assert await rsmq.find_unlisted(ns=NAMES[2]) == ["jobs"]
    assert await rsmq.find_unlisted() == []
    await queues[2].ensure()


async def test_wake_ups(server, queues):
    """Consumers of one name in several namespaces are woken by their own announcements, and share a
    listener.
    """
    waits = [asyncio.ensure_future(queue.receive(wait=60)) for queue in queues]
    channels = [f"{ns}:rt:jobs" for ns in NAMES]
    await wait_until(lambda: all(count for _, count in server.redis.pubsub_numsub(*channels)))
    assert server.clients() == 2
    await queues[1].send("x")
    assert (await waits[1]).body == "x"
    assert not waits[0].done()
    assert not waits[2].done()
    for queue in queues:
        await queue.send("y")
    assert (await waits[0]).ns == NAMES[0]
    assert (await waits[2]).ns == NAMES[2]


async def test_worker(rsmq, queues):
    """One worker takes queues of several namespaces, and settles each message where it is."""
    seen, events = [], []

    async def handler(message):
        seen.append((message.ns, message.body))
        if message.receive_count == 1 and message.body == "0":
            raise ValueError

    for queue in queues:
        await queue.send_many(map(str, range(5)))
    options = {"backoff": at_once, "on_event": events.append, "concurrency": 4}
    async with rsmq.worker(dict.fromkeys(queues, 1), handler, **options) as worker:
        assert repr(worker).startswith("<Worker of 'jobs' in 'rsmq:{jobs-0}', 'jobs' in ")
        await wait_until(lambda: worker.stats.succeeded == 15)
    counts = Counter(seen)
    assert counts == {(ns, str(n)): 2 if n == 0 else 1 for ns in NAMES for n in range(5)}
    retried = [event.ns for event in events if event.kind == "retried"]
    assert sorted(retried) == NAMES
    assert {event.queue for event in events} == {"jobs"}
    assert [(await queue.attributes()).msgs for queue in queues] == [0, 0, 0]


async def test_worker_on_names_and_handles(rsmq, queues):
    """Names are the client's own queues; a queue that is named twice is refused, and shown with its
    namespace.
    """
    await rsmq.create_queue(qname="jobs")
    worker = rsmq.worker(["jobs", *queues], print)
    assert len(worker._intakes) == 4
    with pytest.raises(InvalidParameterValue, match=r"'jobs' in 'rsmq:\{jobs-0\}'.*different"):
        rsmq.worker([queues[0], rsmq.queue("jobs", ns=NAMES[0])], print)


async def test_log(rsmq, queues, caplog):
    """The log about a message says the namespace."""

    async def handler(message):
        raise ValueError

    await queues[1].send("x")
    async with rsmq.worker([queues[1]], handler, backoff=lambda _: 60) as worker:
        await wait_until(lambda: worker.stats.retried == 1)
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert (record.queue, record.ns) == ("jobs", NAMES[1])


async def test_dead_letters(rsmq, server, queues):
    """A dead-letter queue is in the namespace of its queue, and so is what is redriven."""
    for queue in queues[:2]:
        await queue.set_attributes(max_receives=1, dead_letter_queue="dead")
        await rsmq.queue("dead", ns=queue.ns).ensure()
        await queue.send(queue.ns)
        await queue.receive(vt=0)
        assert await queue.receive() is None
    for queue in queues[:2]:
        dead = rsmq.queue("dead", ns=queue.ns)
        await wait_until(lambda dead=dead: dead.peek())
        assert await dead.redrive() == 1
        assert (await queue.receive()).body == queue.ns


async def test_other_namespace_refused(rsmq, server, queues):
    """A message does not leave its namespace: a handle of another one is refused."""
    id = await queues[0].send("x")
    for call in (
        lambda: queues[0].redrive(queues[1]),
        lambda: queues[0].replace(id, "y", to=queues[1]),
    ):
        with pytest.raises(InvalidParameterValue, match="must be in the same namespace") as error:
            result = call()
            await result
        assert error.value.parameter == "to"
        assert repr(NAMES[0]) in str(error.value)
    with pytest.raises(InvalidParameterValue) as error:
        await queues[0].set_attributes(dead_letter_queue=queues[1])
    assert error.value.parameter == "dead_letter_queue"
    assert [message.body for message in await queues[0].peek()] == ["x"]


@pytest.mark.parametrize("partitions", [1, 3, 12])
async def test_script_calls(server, partitions):
    """More namespaces cost no more script calls: a worker asks a queue that has news."""

    async def handler(message):
        pass

    async with AsyncRSMQ.from_url(server.url, poll_interval=3600) as rsmq:
        queues = [rsmq.queue("jobs", ns=f"rsmq:{{p-{n}}}") for n in range(partitions)]
        for queue in queues:
            await queue.create()
        async with rsmq.worker(dict.fromkeys(queues, 1), handler, concurrency=4) as worker:
            channels = [f"{queue.ns}:rt:jobs" for queue in queues]
            await wait_until(
                lambda: all(count for _, count in server.redis.pubsub_numsub(*channels))
            )
            await wait_for_silence(server)
            server.reset_stats()
            for n in range(60):
                await queues[n % partitions].send("x")
                await wait_until(lambda n=n: worker.stats.succeeded == n + 1)
            await wait_for_silence(server)
            calls = server.script_calls()
            assert await asyncio.sleep(0.2, server.script_calls()) == calls
    assert calls <= 60 * 3 + 10  # a send, a claim and a delete each


async def test_fairness(rsmq, queues):
    """Partitions of equal weight are served alike while all have messages."""
    order = []

    async def handler(message):
        order.append(message.ns)

    for queue in queues:
        await queue.send_many(["x"] * 200)
    async with rsmq.worker(dict.fromkeys(queues, 1), handler, concurrency=1) as worker:
        await wait_until(lambda: worker.stats.succeeded == 600)
    for ns in NAMES:
        assert 65 <= order[:300].count(ns) <= 135  # 100, and four times its deviation


def test_sync(running_server):
    """The synchronous client does the same."""
    running_server.redis.flushall()
    with sync.RSMQ.from_url(running_server.url) as rsmq:
        queues = [rsmq.queue("jobs", ns=ns) for ns in NAMES]
        for queue in queues:
            assert queue.create()
            queue.send(queue.ns)
        assert [queue.ns for queue in queues] == NAMES
        assert repr(queues[0]) == "<Queue 'jobs' in 'rsmq:{jobs-0}'>"
        assert rsmq.list_queues(ns=NAMES[0]) == {"jobs"}
        assert len(rsmq.snapshots(ns=NAMES[0])) == 1
        seen = []
        worker = rsmq.worker(queues, lambda message: seen.append((message.ns, message.body)))
        with worker:
            while worker.stats.succeeded < 3:
                pass
        assert sorted(seen) == [(ns, ns) for ns in NAMES]
