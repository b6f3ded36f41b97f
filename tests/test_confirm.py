"""Confirmed sends: a send that returns is on a replica, or on disk.

Each test has a primary and a replica of its own. A stopped replica has the connection open, and
says nothing.
"""

import asyncio
import pickle
import signal
from contextlib import asynccontextmanager, suppress

import pytest
import redis
from aiorsmq import (
    AsyncRSMQ,
    ClientClosed,
    MessageTooLong,
    NotConfirmed,
    QueueDoesNotExist,
    UnsupportedServer,
    WrongEventLoop,
    fsync,
    replicas,
)
from aiorsmq._server import lane
from aiorsmq._server.target import Target
from aiorsmq.sync import RSMQ
from aiorsmq.sync import NotConfirmed as SyncNotConfirmed

from chaos.network import Proxy
from support import PATIENCE, check_keys, fields_of, free_port, ids_in, stalls, wait_until

SOON = replicas(1, 0.1)
"""For what is not confirmed."""
PATIENT = replicas(1, 20)
"""For what is."""


class Pair:
    """A primary and its replica."""

    def __init__(self, own_server):
        port = free_port()
        self.primary = own_server("--port", str(port), "--repl-diskless-sync-delay", "0")
        self.replica = own_server("--replicaof", "127.0.0.1", str(port))
        self.url = self.primary.url

    async def until_linked(self):
        def is_linked():
            self.primary.redis.set("x", "y")
            return self.primary.redis.wait(1, 100)

        await wait_until(is_linked)
        self.primary.redis.delete("x")
        self.primary.reset_stats()

    def stop_replica(self):
        """It is stopped for certain when the primary gets no more answers."""
        self.replica.process.send_signal(signal.SIGSTOP)
        self.primary.redis.set("x", "y")
        while self.primary.redis.wait(1, 100):
            self.primary.redis.set("x", "y")
        self.primary.redis.delete("x")

    def resume_replica(self):
        self.replica.process.send_signal(signal.SIGCONT)

    def fail_over(self):
        self.primary.kill()
        self.replica.redis.replicaof("NO", "ONE")

    def lose_connections(self):
        self.primary.redis.client_kill_filter(_type="normal", skipme=True)

    def waits(self):
        """How many the clients have written since the last look, trials included."""
        waits = self.primary.redis.info("commandstats").get("cmdstat_wait", {"calls": 0})["calls"]
        self.primary.reset_stats()
        return waits


@pytest.fixture
async def pair(own_server):
    pair = Pair(own_server)
    await pair.until_linked()
    yield pair
    pair.resume_replica()
    with suppress(redis.ConnectionError):
        check_keys(pair.primary.redis)


@pytest.fixture
async def rsmq(pair):
    async with AsyncRSMQ.from_url(pair.url) as rsmq:
        yield rsmq


@pytest.fixture
async def queue(rsmq):
    queue = rsmq.queue("jobs")
    await queue.create()
    await queue.send("first", confirm=PATIENT)  # the lane is open, and the script is known
    assert await queue.pop()
    return queue


async def unconfirmed(sending):
    with pytest.raises(NotConfirmed) as caught:
        await sending
    return caught.value


class TestReplicas:
    async def test_each_way_to_send(self, pair, queue, rsmq):
        """A send that returns is on the replica: `confirm` may be the client's, the handle's or
        the call's.
        """
        pair.waits()
        async with AsyncRSMQ.from_url(pair.url, confirm=PATIENT) as other:
            ids = [
                await queue.send("a", confirm=PATIENT),
                *await queue.send_many(["b", "c"], confirm=PATIENT),
                await rsmq.send_message(qname="jobs", message="d", confirm=PATIENT),
                await rsmq.queue("jobs", confirm=PATIENT).send("e"),
                await other.send_message(qname="jobs", message="f"),
                *await other.queue("jobs").send_many(["g"]),
            ]
            assert ids_in(pair.replica) == ids
        assert pair.waits() == 6 + 1

    async def test_failover(self, pair, queue):
        """What was confirmed is there after the primary was killed and its replica promoted."""
        confirmed = []

        async def send(sender):
            with suppress(redis.RedisError, NotConfirmed):
                while True:
                    confirmed.append(await queue.send(sender, confirm=PATIENT))

        sending = [asyncio.ensure_future(send(str(n))) for n in range(8)]
        await wait_until(lambda: len(confirmed) > 300)
        pair.fail_over()
        for task in sending:
            task.cancel()
        await asyncio.wait(sending)
        assert set(confirmed) <= set(ids_in(pair.replica))

    async def test_unconfirmed_calls_do_not_wait(self, pair, queue, rsmq):
        """While a confirmed send waits for a replica, nothing else does: no plain send or look, of
        the same queue or of another.
        """
        await rsmq.create_queue(qname="other")
        pair.stop_replica()
        waiting = asyncio.ensure_future(queue.send("x", confirm=PATIENT))
        await wait_until(lambda: ids_in(pair.primary))
        await queue.send("y")
        await rsmq.queue("other").send("z")
        assert len(await queue.peek()) == 2
        assert len(await rsmq.queue("other").peek()) == 1
        assert not waiting.done()
        pair.resume_replica()
        assert await waiting in ids_in(pair.replica)

    async def test_too_few(self, pair, queue):
        """The error says how many replicas have it, and how many should."""
        error = await unconfirmed(queue.send("x", confirm=replicas(2, 3)))
        assert (error.ids, error.replicas, error.needed) == (tuple(ids_in(pair.primary)), 1, 2)
        assert str(error) == (
            "the message is stored, but not confirmed: 1 of 2 replicas have it; retry() asks again"
        )

    async def test_shared(self, pair, queue):
        """Confirmed sends of one queue share script calls and WAITs, and unconfirmed ones go
        apart.
        """
        pair.primary.reset_stats()
        both = [queue.send(str(n), confirm=(PATIENT, None)[n % 2]) for n in range(200)]
        assert len(set(await asyncio.gather(*both))) == 200
        assert pair.primary.script_calls() <= 12
        assert pair.waits() <= 4

    async def test_errors_of_the_script(self, pair, queue, rsmq):
        """What the script refuses is raised as ever, and alone."""
        outcomes = await asyncio.gather(
            *(queue.send(body, confirm=PATIENT) for body in ("a", "x" * 70_000, "b")),
            return_exceptions=True,
        )
        assert [type(outcome) for outcome in outcomes] == [str, MessageTooLong, str]
        with pytest.raises(MessageTooLong):
            await queue.send_many(["x", "x" * 70_000], confirm=PATIENT)
        with pytest.raises(QueueDoesNotExist):
            await rsmq.queue("none").send("x", confirm=PATIENT)
        assert [message.body for message in await queue.peek()] == ["a", "b"]

    async def test_too_long_and_unconfirmed(self, pair, queue):
        """Of what goes out together, each gets its own error."""
        pair.stop_replica()
        outcomes = await asyncio.gather(
            *(queue.send(body, confirm=SOON) for body in ("a", "x" * 70_000, "b")),
            return_exceptions=True,
        )
        assert list(map(type, outcomes)) == [NotConfirmed, MessageTooLong, NotConfirmed]
        assert [*outcomes[0].ids, *outcomes[2].ids] == ids_in(pair.primary)

    async def test_cancelled(self, pair, queue):
        """Cancelling stops the waiting, not the send."""
        pair.stop_replica()
        sending = asyncio.ensure_future(queue.send("x", confirm=PATIENT))
        await wait_until(lambda: ids_in(pair.primary))
        sending.cancel()
        pair.resume_replica()
        id = await queue.send("y", confirm=PATIENT)
        assert len(ids_in(pair.replica)) == 2
        assert ids_in(pair.replica)[1] == id


class TestStoppedReplica:
    async def test_in_time(self, pair, queue):
        """A send raises after its timeout, and the message is stored once."""
        pair.stop_replica()
        loop = asyncio.get_running_loop()
        async with stalls() as lost:
            started = loop.time()
            error = await unconfirmed(queue.send("x", confirm=replicas(1, 0.5)))
            took = loop.time() - started
            assert 0.5 <= took < 2 + lost()
        assert (error.ids, error.replicas, error.needed) == (tuple(ids_in(pair.primary)), 0, 1)

    async def test_many_at_once(self, pair, rsmq, queue):
        """However many wait, in however many queues, they wait for the same: first for the WAIT
        that is under way, then for one of their own.
        """
        queues = [rsmq.queue(f"jobs{number}") for number in range(6)]
        for each in queues:
            await each.create()
        pair.stop_replica()
        pair.waits()
        sending = [each.send(str(n), confirm=SOON) for each in queues for n in range(100)]
        outcomes = await asyncio.gather(*sending, return_exceptions=True)
        assert set(map(type, outcomes)) == {NotConfirmed}
        assert pair.waits() <= 4
        retrying = [outcome.retry() for outcome in outcomes]
        assert set(map(type, await asyncio.gather(*retrying, return_exceptions=True))) == {
            NotConfirmed
        }
        assert pair.waits() <= 4

    async def test_other_queues(self, pair, rsmq, queue):
        """What comes while the server waits goes out together, whichever queue it is for."""
        other = rsmq.queue("other")
        await other.create()
        pair.stop_replica()
        pair.waits()
        first = asyncio.ensure_future(queue.send("x", confirm=replicas(1, 1)))
        await wait_until(lambda: ids_in(pair.primary))
        later = [each.send("y", confirm=replicas(1, 1)) for each in (other, queue)]
        outcomes = await asyncio.gather(first, *later, return_exceptions=True)
        assert set(map(type, outcomes)) == {NotConfirmed}
        assert pair.waits() == 2

    async def test_large_ones_at_once(self, pair, queue):
        """Bodies that need several script calls wait no longer than small ones."""
        pair.stop_replica()
        pair.waits()
        sending = [queue.send("x" * 60_000, confirm=SOON) for _ in range(24)]
        outcomes = await asyncio.gather(*sending, return_exceptions=True)
        assert set(map(type, outcomes)) == {NotConfirmed}
        assert pair.waits() <= 2

    async def test_longer_than_a_server_may_be_silent(self, pair, queue, monkeypatch):
        """A connection that waits for a replica is not given up as dead."""
        monkeypatch.setattr(lane, "REPLY_TIMEOUT", 0.3)
        pair.stop_replica()
        async with AsyncRSMQ.from_url(pair.url, deadline=5) as other:
            pair.waits()
            await unconfirmed(other.queue("jobs").send("x", confirm=replicas(1, 1)))
        assert pair.waits() == 1 + 1

    async def test_sentinels_are_asked(self, pair, monkeypatch):
        """If nobody has it, the server may not be the primary any more: that is looked into."""
        suspicions = []

        def suspect(target):
            suspicions.append(target)

        monkeypatch.setattr(Target, "suspect", suspect)
        async with AsyncRSMQ.from_url(pair.url) as rsmq:
            queue = rsmq.queue("jobs")
            await queue.create()
            error = await unconfirmed(queue.send("x", confirm=replicas(2, 3)))
            assert (error.replicas, suspicions) == (1, [])
            pair.stop_replica()
            await unconfirmed(queue.send("x", confirm=SOON))
            assert len(suspicions) == 1


@pytest.fixture(params=[False, True], ids=["same connection", "new connection"])
def between(request, pair):
    """What is done before a retry."""
    return pair.lose_connections if request.param else lambda: None


class TestRetry:
    @pytest.mark.parametrize("number", [1, 3])
    async def test_not_yet(self, pair, queue, between, number):
        """As long as the replica does not answer, no retry says that it has the message, on a new
        connection neither; when it answers, a retry returns what the send would have.
        """
        pair.stop_replica()
        bodies = [str(n) for n in range(number)]
        sending = (
            queue.send("0", confirm=SOON) if number == 1 else queue.send_many(bodies, confirm=SOON)
        )
        error = first = await unconfirmed(sending)
        for _ in range(3):
            between()
            error = await unconfirmed(error.retry())
            assert (error.ids, error.replicas, error.needed) == (first.ids, 0, 1)
        pair.resume_replica()
        between()
        assert await confirmed(error) == (first.ids[0] if number == 1 else list(first.ids))
        assert ids_in(pair.replica) == list(first.ids)
        assert [message.body for message in await queue.peek()] == bodies
        assert fields_of(pair.primary)[b"totalsent"] == b"%d" % (number + 1)

    async def test_many(self, pair, queue, between):
        """Many retries at once share script calls, and make no second message."""
        pair.stop_replica()
        sending = [queue.send(str(n), confirm=SOON) for n in range(150)]
        errors = await asyncio.gather(*sending, return_exceptions=True)
        pair.resume_replica()
        between()
        pair.primary.reset_stats()
        ids = await asyncio.gather(*map(confirmed, errors))
        assert ids == [error.ids[0] for error in errors] == ids_in(pair.replica)

    async def test_received_and_deleted(self, pair, queue):
        """What was handed out by then is confirmed on the same connection, and not sent again."""
        pair.stop_replica()
        error = await unconfirmed(queue.send("x", confirm=SOON))
        assert (await queue.pop()).id == error.ids[0]
        await unconfirmed(error.retry())
        pair.resume_replica()
        assert await confirmed(error) == error.ids[0]
        assert ids_in(pair.primary) == []

    async def test_deleted_and_elsewhere(self, pair, queue):
        """On a new connection nobody knows whether it was handed out or lost: it is stored
        again.
        """
        pair.stop_replica()
        error = await unconfirmed(queue.send("x", confirm=SOON))
        await queue.pop()
        pair.lose_connections()
        await unconfirmed(error.retry())
        assert ids_in(pair.primary) == list(error.ids)

    async def test_received_and_elsewhere(self, pair, queue):
        """What another holds by then stays as it is."""
        pair.stop_replica()
        error = await unconfirmed(queue.send("x", confirm=SOON))
        message = await queue.receive(vt=60)
        pair.lose_connections()
        await unconfirmed(error.retry())
        assert await queue.receive() is None
        assert await message.delete()

    async def test_edited_and_elsewhere(self, pair, queue):
        """A body that was changed by then stays changed."""
        pair.stop_replica()
        error = await unconfirmed(queue.send("x", confirm=SOON))
        pair.primary.redis.hset("rsmq:jobs:Q", error.ids[0], "y")
        pair.lose_connections()
        await unconfirmed(error.retry())
        assert [message.body for message in await queue.peek()] == ["y"]

    async def test_dead_and_elsewhere(self, pair, queue, rsmq):
        """What has died by then is not sent again."""
        await queue.ensure(max_receives=1, dead_letter_queue="dead")
        pair.stop_replica()
        error = await unconfirmed(queue.send("x", confirm=SOON))
        await queue.receive(vt=0)
        await queue.receive(vt=0)
        pair.lose_connections()
        await unconfirmed(error.retry())
        assert (ids_in(pair.primary), ids_in(pair.primary, "dead")) == ([], list(error.ids))

    async def test_lost_in_a_failover(self, pair, queue, own_server):
        """What a failover has lost, a retry stores again, at the server that is there then."""
        pair.stop_replica()
        error = await unconfirmed(queue.send("x", confirm=SOON))
        pair.primary.redis.delete("rsmq:jobs")
        pair.primary.redis.hdel("rsmq:jobs:Q", error.ids[0])
        pair.resume_replica()
        pair.lose_connections()
        assert await confirmed(error) == error.ids[0]
        assert ids_in(pair.replica) == list(error.ids)

    async def test_lost_at_the_same_server(self, pair, queue, own_server):
        """What a server has lost while it was a replica, it does not confirm when it is a primary
        again, on the same connection neither.
        """
        port = free_port()
        other = own_server("--port", str(port))
        async with AsyncRSMQ.from_url(other.url) as rsmq:
            await rsmq.create_queue(qname="jobs")
        pair.stop_replica()
        error = await unconfirmed(queue.send("x", confirm=SOON))
        pair.primary.redis.replicaof("127.0.0.1", port)
        await wait_until(lambda: not ids_in(pair.primary))
        pair.resume_replica()
        pair.waits()
        retrying = asyncio.ensure_future(confirmed(error))
        await wait_until(pair.waits)
        pair.primary.redis.replicaof("NO", "ONE")
        assert await retrying == error.ids[0]
        assert ids_in(pair.replica) == list(error.ids)

    async def test_full_server(self, pair, queue):
        """A server that refuses to write confirms nothing."""
        pair.stop_replica()
        error = await unconfirmed(queue.send("x", confirm=SOON))
        pair.primary.redis.config_set("min-replicas-to-write", 2)
        pair.lose_connections()
        error = await unconfirmed(error.retry())
        assert error.replicas == 0
        pair.resume_replica()
        assert (await unconfirmed(error.retry())).replicas == 0
        pair.primary.redis.config_set("min-replicas-to-write", 0)
        assert await confirmed(error) == error.ids[0]
        assert ids_in(pair.replica) == list(error.ids)

    async def test_closed(self, pair):
        """After `aclose()` a retry raises ClientClosed; a copy from elsewhere knows no client."""
        pair.stop_replica()
        async with AsyncRSMQ.from_url(pair.url, confirm=SOON) as rsmq:
            queue = rsmq.queue("jobs")
            await queue.create()
            error = await unconfirmed(queue.send("x"))
        with pytest.raises(ClientClosed):
            await error.retry()
        copy = pickle.loads(pickle.dumps(error))
        assert (str(copy), copy.ids, copy.needed) == (str(error), error.ids, 1)
        with pytest.raises(WrongEventLoop):
            await copy.retry()


async def confirmed(error):
    """A retry, as often as it takes a replica that was just resumed."""
    while True:
        try:
            return await error.retry()
        except NotConfirmed as again:
            error = again


@asynccontextmanager
async def behind(pair):
    async with (
        Proxy(pair.primary.socket, f"{pair.primary.folder}/proxy.sock") as proxy,
        AsyncRSMQ.from_url(proxy.url) as rsmq,
    ):
        queue = rsmq.queue("jobs")
        await queue.create()
        await queue.send("first", confirm=PATIENT)
        await queue.pop()
        yield proxy, queue


@pytest.mark.parametrize("number", [1, 3])
async def test_lost_reply(pair, number):
    """A send whose reply is lost is repeated on a new connection, makes no second message, and is
    not confirmed there as long as the replica does not answer.
    """
    async with behind(pair) as (proxy, queue):
        pair.stop_replica()
        for confirm in (SOON, PATIENT):
            proxy.cut_after_execution = 1
            cuts = proxy.cuts
            bodies = [str(n) for n in range(number)]
            sending = asyncio.ensure_future(
                queue.send("0", confirm=confirm)
                if number == 1
                else queue.send_many(bodies, confirm=confirm)
            )
            if confirm is SOON:
                assert list((await unconfirmed(sending)).ids) == ids_in(pair.primary)
                pair.resume_replica()
            else:
                ids = await sending
                assert ids_in(pair.replica)[number:] == ([ids] if number == 1 else ids)
            assert proxy.cuts == cuts + 1
        assert len(ids_in(pair.primary)) == 2 * number


async def test_not_permitted(pair, queue):
    """A user without WAIT is told what to grant, before anything is stored."""
    pair.primary.redis.execute_command(
        *("ACL", "SETUSER", "someone", "on", ">pw", "~*", "&*", "+@all", "-wait")
    )
    async with AsyncRSMQ.from_url(pair.url, username="someone", password="pw") as other:
        for _ in range(2):
            with pytest.raises(redis.exceptions.NoPermissionError, match=r"grant \+wait$"):
                await other.queue("jobs").send("x", confirm=PATIENT)
        assert await other.queue("jobs").send("y") == ids_in(pair.primary)[0]


class TestFsync:
    @pytest.fixture
    def durable(self, own_server):
        server = own_server("--appendonly", "yes", "--appendfsync", "everysec")
        if "WAITAOF" not in map(str.upper, server.redis.command()):
            pytest.skip("needs WAITAOF")
        return server

    async def test_on_disk(self, durable):
        """A confirmed send is on disk: a server that is killed has it again."""
        async with AsyncRSMQ.from_url(durable.url, confirm=fsync(20)) as rsmq:
            queue = rsmq.queue("jobs")
            await queue.create()
            ids = await asyncio.gather(*(queue.send(str(n)) for n in range(100)))
            durable.kill()
            durable.start()
            assert ids_in(durable) == ids

    async def test_not_in_time(self, durable):
        """Without `fsync` there is nothing to confirm; the error says so."""
        durable.redis.config_set("appendfsync", "no")
        async with AsyncRSMQ.from_url(durable.url, confirm=fsync(0.1)) as rsmq:
            queue = rsmq.queue("jobs")
            await queue.create()
            error = await unconfirmed(queue.send("x"))
            assert (error.replicas, error.needed) == (0, 0)
            assert "not yet written it to its disk" in str(error)
            durable.redis.config_set("appendfsync", "always")
            await queue.send("y")
            assert await error.retry() == error.ids[0]

    async def test_no_append_only_file(self, pair, queue):
        """A server that writes no append-only file, or knows no WAITAOF, says so before anything
        is stored.
        """
        with pytest.raises((redis.ResponseError, UnsupportedServer), match=r"appendonly|WAITAOF"):
            await queue.send("x", confirm=fsync())
        assert ids_in(pair.primary) == []
        assert await queue.send("y", confirm=PATIENT)


async def test_no_such_command(server):
    """A server without WAITAOF is named as too old, and nothing is stored."""
    async with Proxy(server.socket, f"{server.folder}/old.sock") as proxy:
        proxy.unknown = {
            b"WAITAOF": b"-ERR unknown command 'WAITAOF', with args beginning with\r\n"
        }
        async with AsyncRSMQ.from_url(proxy.url) as rsmq:
            await rsmq.create_queue(qname="jobs")
            with pytest.raises(UnsupportedServer, match="WAITAOF"):
                await rsmq.queue("jobs").send("x", confirm=fsync())
            assert ids_in(server) == []


@pytest.mark.parametrize("confirm", [SOON, fsync()])
@pytest.mark.parametrize("reply", [b"OK", None, [], [None], [b"1"], {}])
def test_foreign_reply(confirm, reply):
    """What only a proxy would say, instead of a number, confirms nothing."""
    assert confirm.count(reply) == 0


async def test_synchronous_code(pair):
    """In `aiorsmq.sync`, `retry()` is a plain call too; its error is the same to those who catch
    it.
    """

    def run():
        with RSMQ.from_url(pair.url, confirm=SOON) as rsmq:
            queue = rsmq.queue("jobs", confirm=SOON)
            queue.create()
            for send in (
                lambda: queue.send("x"),
                lambda: queue.send_many(["x"], confirm=SOON),
                lambda: rsmq.send_message(qname="jobs", message="x"),
            ):
                with pytest.raises(NotConfirmed) as caught:
                    send()
                assert type(caught.value) is SyncNotConfirmed
                with pytest.raises(SyncNotConfirmed) as again:
                    caught.value.retry()
                assert again.value.ids == caught.value.ids
            pair.resume_replica()
            error = again.value
            while True:
                try:
                    assert error.retry() == list(error.ids) or error.ids[0]
                except SyncNotConfirmed as later:
                    error = later
                else:
                    break
            copy = pickle.loads(pickle.dumps(error))
            assert copy.ids == error.ids

    pair.stop_replica()
    async with asyncio.timeout(PATIENCE):
        await asyncio.to_thread(run)
    assert len(ids_in(pair.primary)) == 3


async def test_first_one_while_closing(server):
    """A confirmed call that is made again while the client closes opens no connection."""
    rsmq = AsyncRSMQ.from_url(server.url)
    await rsmq.list_queues()
    await rsmq.aclose()
    with pytest.raises(ClientClosed):
        await rsmq._node._route.server.confirmed().lane()


async def test_primary_that_is_left(pair):
    """A call on a connection that another one has replaced is made again as well when calls go to
    another primary."""
    async with AsyncRSMQ.from_url(pair.url, confirm=PATIENT) as rsmq:
        queue = rsmq.queue("jobs")
        await queue.create()
        await queue.send("first")
        pair.stop_replica()
        sending = asyncio.create_task(queue.send("x"))
        server = rsmq._node._route.server
        await wait_until(lambda: server.in_flight)
        old = server.confirmed().current()
        server.confirmed().renew()
        await wait_until(lambda: server.confirmed().current() is not old)
        rsmq._engine.target.on_moved()
        await wait_until(lambda: old.lost)
        pair.resume_replica()
        assert await sending in ids_in(pair.primary, "jobs")
