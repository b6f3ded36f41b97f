"""The life of a message, told from the beginning. Written to be read."""

import asyncio

import anyio.to_thread
import pytest
from aiorsmq import JSON, AsyncRSMQ, Reject, Retry, exponential
from aiorsmq.sync import RSMQ
from aiorsmq.testing import advance, drain, queue_contents
from redis.exceptions import ResponseError

from support import PATIENCE, make_it_theirs, wait_until


async def test_the_life_of_a_message(server):
    """A message is sent, received, kept, given back, received again, and deleted."""
    async with AsyncRSMQ.from_url(server.url) as rsmq:
        queue = rsmq.queue("letters")
        await queue.create(vt=30)

        # It is born with an id that tells when.
        id = await queue.send("hello")
        (seen,) = await queue.peek()
        assert (seen.id, seen.body, seen.receive_count) == (id, "hello", 0)

        # Received, it is hidden from everybody else for 30 seconds.
        message = await queue.receive()
        assert (message.id, message.receive_count) == (id, 1)
        assert await queue.receive() is None

        # Its receiver may keep it longer, or give it back.
        assert await message.extend(60)
        assert await message.release()

        # Then the next one gets it, and the first has lost its say.
        again = await queue.receive()
        assert (again.id, again.receive_count) == (id, 2)
        assert not await message.delete()

        # Deleted, it is gone, and the counters remember.
        assert await again.delete()
        attributes = await queue.attributes()
        assert (attributes.msgs, attributes.totalsent, attributes.totalrecv) == (0, 1, 2)


async def test_a_consumer_and_a_producer(server):
    """A consumer waits for work instead of polling for it; what fails is redelivered."""
    async with AsyncRSMQ.from_url(server.url, poll_interval=3600) as rsmq:
        queue = rsmq.queue("jobs", codec=JSON)
        await queue.create()
        done = []

        async def consumer():
            async for message in queue.messages():
                try:
                    async with (
                        message
                    ):  # deleted at the end of the block, visible again if it raises
                        if message.body["fails"] and message.receive_count == 1:
                            raise RuntimeError("the first attempt")
                        done.append(message.body["n"])
                except RuntimeError:
                    pass
                if len(done) == 3:
                    break

        working = asyncio.create_task(consumer())
        await queue.send({"n": 1, "fails": False})
        await queue.send({"n": 2, "fails": True})
        await queue.send({"n": 3, "fails": False}, delay=0.2)
        await working
        assert sorted(done) == [1, 2, 3]
        assert (await queue.attributes()).msgs == 0


async def test_two_programs(server):
    """Two programs with a client each share a queue: no message is worked off by both."""
    async with AsyncRSMQ.from_url(server.url) as one, AsyncRSMQ.from_url(server.url) as two:
        await one.create_queue(qname="shared")
        await one.queue("shared").send_many([str(n) for n in range(200)])
        bodies = []

        async def work(rsmq):
            while message := await rsmq.receive_message(qname="shared"):
                bodies.append(int(message.body))
                await message.delete()

        await asyncio.gather(work(one), work(two), work(one), work(two))
        assert sorted(bodies) == list(range(200))


async def test_a_job_that_fails_dies_and_comes_back(server):
    """What fails too often is in the dead-letter queue, with its reason, until it is sent back."""
    async with AsyncRSMQ.from_url(server.url) as rsmq:
        jobs, dead = rsmq.queue("jobs", codec=JSON), rsmq.queue("jobs-dead", codec=JSON)
        await jobs.create(vt=30, max_receives=3, dead_letter_queue="jobs-dead")
        mail_server_is_up = False
        mails = []

        async def send_mail(message):
            if "@" not in message.body["to"]:
                raise Reject("no address")
            if not mail_server_is_up:
                raise ConnectionError("connection refused")
            mails.append(message.body["to"])

        # Each job is tried at most three times; what is hopeless is not tried again.
        worker = jobs.worker(send_mail, backoff=exponential(first=0.05))
        async with worker:
            await jobs.send_many([{"to": "ann@example.org"}, {"to": "bob"}])
            await wait_until(lambda: worker.stats.dead == 2)
        assert (worker.stats.failed, worker.stats.retried, worker.stats.succeeded) == (3, 2, 0)
        assert (await jobs.attributes()).msgs == 0

        # Why they died is known.
        reasons = {letter.receive_count: letter.reason for letter in await dead.reasons()}
        assert reasons == {1: "no address", 3: "ConnectionError: connection refused"}

        # Once the fault is fixed, those that died of it are sent back to where they came from, as
        # good as new.
        mail_server_is_up = True
        assert await dead.redrive(where=lambda letter: "refused" in letter.reason) == 1
        async with worker:
            await wait_until(lambda: mails == ["ann@example.org"])
        (hopeless,) = await dead.peek()
        assert hopeless.body == {"to": "bob"}


async def test_cancelled_in_the_middle(server):
    """A consumer that is cancelled in the middle of its work gives the message back at once."""
    async with AsyncRSMQ.from_url(server.url) as rsmq:
        queue = rsmq.queue("jobs")
        await queue.create(vt=3600)
        await queue.send("long work")
        started = asyncio.Event()

        async def consumer():
            async for message in queue.messages():
                async with message:
                    started.set()
                    await asyncio.sleep(3600)

        working = asyncio.create_task(consumer())
        await started.wait()
        working.cancel()
        with pytest.raises(asyncio.CancelledError):
            await working
        message = await queue.receive(wait=5)
        assert (message.body, message.receive_count) == ("long work", 2)
        await message.delete()


async def test_a_policy_that_comes_later(server):
    """A program that is deployed later gives a queue a dead-letter queue; none of them goes back on
    it.
    """
    async with AsyncRSMQ.from_url(server.url) as web, AsyncRSMQ.from_url(server.url) as worker:
        # The web app was there first, and only wants the queue.
        assert (await web.queue("jobs").ensure(vt=30)).created
        id = await web.queue("jobs").send("poison")

        # The worker wants more, and is told what that changed.
        jobs = worker.queue("jobs")
        ensured = await jobs.ensure(max_receives=2, dead_letter_queue="dead")
        assert ensured.changed == {
            "max_receives": (None, 2),
            "dead_letter_queue": (None, "dead"),
        }

        # The web app starts again: what it does not name stays.
        assert (await web.queue("jobs").ensure(vt=30)).changed == {}

        while message := await jobs.receive():
            await message.release()
        (poison,) = await wait_until(worker.queue("dead").peek)
        assert poison.id == id


async def test_a_worker_that_dies(server):
    """An app does not go on taking jobs that nobody does: what its worker died of ends it."""
    async with AsyncRSMQ.from_url(server.url) as rsmq:
        jobs = rsmq.queue("jobs")
        await jobs.ensure()
        worker = jobs.worker(print)
        with pytest.raises(ResponseError, match="WRONGTYPE") as died:
            async with worker:
                await wait_until(lambda: worker.healthy)
                make_it_theirs(server, "jobs")
                await asyncio.sleep(PATIENCE)  # serves its users
                pytest.fail("the app serves on")
        assert worker.error is died.value
    server.redis.flushall()


async def test_a_long_life_in_no_time(server):
    """A test does not wait: a delay of a day, and backoffs of hours until the end, pass at once."""
    async with AsyncRSMQ.from_url(server.url) as rsmq:
        jobs, dead = rsmq.queue("jobs"), rsmq.queue("dead")
        await jobs.ensure(vt=30, max_receives=2, dead_letter_queue="dead")
        await jobs.send("reminder", delay=86400)
        attempts = []

        async def fail(message):
            attempts.append(message.receive_count)
            raise Retry(delay=3600)

        await drain(jobs, fail)
        assert attempts == []  # it is tomorrow's
        await advance(jobs, "1d")
        await drain(jobs, fail)
        await advance(jobs, "1h")
        await drain(jobs, fail)
        assert attempts == [1, 2]
        assert await queue_contents(jobs) == []
        assert await queue_contents(dead) == ["reminder"]


async def test_a_server_that_stops(server):
    """Readers that wait for the next message hold nobody up: their streams end, their messages are
    there for others.
    """
    async with AsyncRSMQ.from_url(server.url) as stopping, AsyncRSMQ.from_url(server.url) as other:
        queue = stopping.queue("events")
        await queue.ensure()
        read = []

        async def tab():
            async for message in queue.messages():
                async with message:
                    read.append(message.body)
            return "closed"

        tabs = [asyncio.create_task(tab()) for _ in range(3)]
        await queue.send("news")
        await wait_until(lambda: read == ["news"])
        stopping.end_streams()
        assert await asyncio.gather(*tabs) == ["closed"] * 3

        await queue.send("more news")  # calls go on
        assert (await other.queue("events").pop(wait=5)).body == "more news"
        assert read == ["news"]


async def test_plain_code_and_a_worker(server):
    """Code without an event loop sends jobs, and waits for their results, from several threads."""
    async with AsyncRSMQ.from_url(server.url) as rsmq:
        jobs, results = rsmq.queue("jobs", codec=JSON), rsmq.queue("results", codec=JSON)
        for queue in (jobs, results):
            await queue.ensure()

        async def square(message):
            await results.send(message.body**2)

        def plain(numbers):
            with RSMQ.from_url(server.url) as sync:
                for number in numbers:
                    sync.queue("jobs", codec=JSON).send(number)
                results = sync.queue("results", codec=JSON)
                return [results.pop(wait=5).body for _ in numbers]

        async with jobs.worker(square):
            odd, even = await asyncio.gather(
                anyio.to_thread.run_sync(plain, [1, 3, 5]),
                anyio.to_thread.run_sync(plain, [2, 4, 6]),
            )
        assert sorted(odd + even) == [1, 4, 9, 16, 25, 36]
