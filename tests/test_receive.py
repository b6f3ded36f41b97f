"""What a receive tells: a message, or that there is no message, or why that is not known."""

import asyncio
import signal

import anyio
import pytest
import redis
from aiorsmq import JSON, AsyncRSMQ
from aiorsmq._consuming import line
from aiorsmq._server import lane, listener
from redis.exceptions import ReadOnlyError, RedisError

from support import PATIENCE, next_millisecond, wait_for_listener, wait_until


@pytest.fixture
def short_silence(monkeypatch):
    """The server's silence is noticed soon, so that nobody has to wait for it."""
    for module in (lane, line):
        monkeypatch.setattr(module, "REPLY_TIMEOUT", 0.2)
    monkeypatch.setattr(listener, "PING_INTERVAL", 0.1)
    monkeypatch.setattr(listener, "DEAD_AFTER", 0.1)


@pytest.fixture(autouse=True)
def _short_closing(monkeypatch):
    """Nobody waits long for calls that are under way when a client closes."""
    monkeypatch.setattr("aiorsmq._server.engine.CLOSE_TIMEOUT", 0.1)


LONG_POLLS = {
    "receive": lambda queue, wait: queue.receive(wait=wait),
    "receive_many": lambda queue, wait: queue.receive_many(9, wait=wait),
    "pop": lambda queue, wait: queue.pop(wait=wait),
}


@pytest.fixture(params=LONG_POLLS.values(), ids=LONG_POLLS)
def long_poll(request):
    return request.param


class TestNoAnswer:
    @pytest.mark.parametrize("wait", [0.1, 1.0])
    async def test_stopped(self, own_server, short_silence, long_poll, wait):
        """A long poll on a server that has stopped raises; it does not claim that there is no
        message.
        """
        server = own_server()
        async with AsyncRSMQ.from_url(server.url) as rsmq:
            queue = rsmq.queue("jobs")
            await queue.create()
            await queue.send("a message")
            server.process.send_signal(signal.SIGSTOP)
            try:
                with pytest.raises(RedisError):
                    await long_poll(queue, wait)
            finally:
                server.process.send_signal(signal.SIGCONT)

    async def test_stopped_while_it_waits(self, own_server, short_silence, long_poll):
        """So does one whose first look was answered, and no later one."""
        server = own_server()
        async with AsyncRSMQ.from_url(server.url, poll_interval=0.05) as rsmq:
            queue = rsmq.queue("jobs")
            await queue.create()
            polling = asyncio.ensure_future(long_poll(queue, 1.0))
            await wait_for_listener(server)
            server.process.send_signal(signal.SIGSTOP)
            try:
                with pytest.raises(RedisError):
                    await polling
            finally:
                server.process.send_signal(signal.SIGCONT)

    async def test_stopped_behind_another(self, own_server, short_silence, long_poll):
        """So does one that stands behind another consumer, whose claim is unanswered."""
        server = own_server()
        async with AsyncRSMQ.from_url(server.url) as rsmq:
            queue = rsmq.queue("jobs")
            await queue.create()
            server.process.send_signal(signal.SIGSTOP)
            try:
                polling = [asyncio.ensure_future(long_poll(queue, 0.1))]
                await wait_until(rsmq._engine._in_flight)
                polling += [asyncio.ensure_future(long_poll(queue, 0.1)) for _ in range(2)]
                results = await asyncio.gather(*polling, return_exceptions=True)
                assert all(isinstance(result, RedisError) for result in results), results
            finally:
                server.process.send_signal(signal.SIGCONT)

    async def test_a_replica(self, own_server, long_poll):
        """On a replica it raises the server's READONLY."""
        server = own_server()
        async with AsyncRSMQ.from_url(server.url) as rsmq:
            queue = rsmq.queue("jobs")
            await queue.create()
            server.redis.replicaof("127.0.0.1", "1")
            with pytest.raises(ReadOnlyError):
                await long_poll(queue, 0.3)

    async def test_a_silent_network(self, server, queue, proxy, short_silence, long_poll):
        """A network that falls silent is an error, too."""
        async with AsyncRSMQ.from_url(proxy.url, realtime=False) as rsmq:
            there = rsmq.queue("jobs")
            await there.attributes()
            await queue.send("a message")
            proxy.deaf = True
            with pytest.raises(RedisError):
                await long_poll(there, 0.1)
            proxy.deaf = False

    async def test_an_answer_that_comes_late(self, server, queue, proxy, long_poll):
        """An answer that is on its way when the wait ends is waited for: the message is not lost,
        and nothing is claimed for nobody.
        """
        await queue.send("late")
        async with AsyncRSMQ.from_url(proxy.url) as rsmq:
            there = rsmq.queue("jobs")
            await there.attributes()
            proxy.delay = 0.2
            got = await long_poll(there, 0.001)
            (message,) = got if isinstance(got, list) else [got]
            assert message.body == "late"
            proxy.delay = 0

    async def test_nothing_there(self, server, queue, long_poll):
        """A server that answers that there is no message is believed."""
        assert not await long_poll(queue, 0.05)


class TestCutShort:
    @pytest.mark.parametrize("number", [100, 500])
    async def test_without_a_lease(self, rsmq, number):
        """When there are as many messages as concurrent receives, each gets one, with vt=0 too,
        whatever one call holds.
        """
        queue = rsmq.queue("jobs")
        await queue.create(vt=0)
        await queue.send_many(map(str, range(number)))
        received = await asyncio.gather(*(queue.receive() for _ in range(number)))
        assert None not in received
        assert {message.body for message in received} == {str(n) for n in range(number)}

    async def test_large_bodies_without_a_lease(self, rsmq):
        """So they do when the bodies of all are more than one call holds."""
        queue = rsmq.queue("jobs")
        await queue.create(vt=0, maxsize=-1)
        await queue.send_many(["x" * 600_000] * 5)
        received = await asyncio.gather(*(queue.receive() for _ in range(5)))
        assert None not in received
        assert len({message.id for message in received}) == 5

    async def test_two_of_many_without_a_lease(self, rsmq):
        """Two receive_many of the whole queue each get the whole queue, with vt=0."""
        queue = rsmq.queue("jobs")
        await queue.create()
        await queue.send_many(map(str, range(100)))
        await next_millisecond()
        received = await asyncio.gather(*(queue.receive_many(100, vt=0) for _ in range(2)))
        assert [len(messages) for messages in received] == [100, 100]

    async def test_leases_that_end_before_the_reply(self, server, queue, proxy):
        """So do receives whose leases end while their replies are on the way."""
        await queue.send_many(map(str, range(100)))
        async with AsyncRSMQ.from_url(proxy.url) as rsmq:
            there = rsmq.queue("jobs")
            await there.attributes()
            proxy.delay = 0.05
            received = await asyncio.gather(*(there.receive(vt=0.001) for _ in range(100)))
            assert None not in received
            proxy.delay = 0

    async def test_as_many_as_there_are(self, rsmq, queue):
        """Those for whom there is no message get None."""
        await queue.send_many(map(str, range(70)))
        received = await asyncio.gather(*(queue.receive(vt=0 if n % 2 else 30) for n in range(150)))
        assert sum(message is None for message in received[::2]) >= 5

    async def test_more_than_there_are_of_large_bodies(self, server):
        """So they are told at once if one of two claims is cut short, and the other finds that
        there are no more.
        """
        async with AsyncRSMQ.from_url(server.url, poll_interval=3600, deadline=3) as rsmq:
            queue = rsmq.queue("jobs")
            await queue.create(maxsize=-1)
            for _ in range(3):
                await queue.send_many(["x" * 400_000] * 5)
                received = await asyncio.gather(*(queue.receive() for _ in range(100)))
                assert sum(message is not None for message in received) == 5

    async def test_without_a_lease_among_the_dead(self, rsmq):
        """A receive_many with vt=0 that finds dead messages does not receive the others twice."""
        queue = rsmq.queue("jobs")
        await queue.create(vt=0, max_receives=1, dead_letter_queue="dead")
        await queue.send("dead")
        assert await queue.receive()
        await queue.send_many(["a", "b"])
        assert [(one.body, one.receive_count) for one in await queue.receive_many(9)] == [
            ("a", 1),
            ("b", 1),
        ]
        assert (await queue.attributes()).msgs == 2

    async def test_order_of_large_bodies_with_prefetch(self, rsmq):
        """A stream with prefetch hands out in order what several claims bring that were cut short
        by their size.
        """
        queue = rsmq.queue("jobs")
        await queue.create(maxsize=-1)
        for start in range(0, 240, 20):
            await queue.send_many([f"{n:3}" + "x" * 100_000 for n in range(start, start + 20)])
        numbers = []
        # Awaits nothing but the stream: then it wants more while earlier claims are in flight.
        async with queue.messages(prefetch=100) as stream:
            async for message in stream:
                numbers.append(int(message.body[:3]))
                if len(numbers) == 240:
                    break
        assert numbers == sorted(numbers)


class TestUnreadable:
    """What the codec cannot read, in a queue without a dead-letter queue."""

    async def test_without_a_lease(self, server, rsmq):
        """It is hidden for at least a second: consumers of a queue of vt=0 do not spin on it."""
        queue = rsmq.queue("jobs", codec=JSON)
        await queue.create(vt=0)
        await queue.send(b"no JSON")
        assert await queue.receive() is None
        assert await queue.pop() is None
        assert (await queue.attributes()).hiddenmsgs == 1

    @pytest.mark.parametrize("vt", [0, 30])
    async def test_a_long_poll_goes_on(self, rsmq, long_poll, vt):
        """A long poll that meets it waits on for what can be read."""
        queue = rsmq.queue("jobs", codec=JSON)
        await queue.create(vt=vt)
        await queue.send(b"no JSON")
        polling = asyncio.ensure_future(long_poll(queue, 30))
        await wait_until(lambda: hidden(queue))
        await queue.send({"good": 1})
        got = await polling
        (message,) = got if isinstance(got, list) else [got]
        assert message.body == {"good": 1}


async def hidden(queue):
    return (await queue.attributes()).hiddenmsgs


class TestDeadline:
    async def test_receives_that_wait_behind_others(self, server, queue, proxy):
        """A receive that waits behind others on a slow line fails at its deadline, as one whose
        reply does not come.
        """
        await queue.send_many(["x"] * 5)
        async with AsyncRSMQ.from_url(proxy.url, realtime=False, deadline=1) as rsmq:
            there = rsmq.queue("jobs")
            await there.attributes()
            proxy.silent = True
            receives = [asyncio.ensure_future(there.receive()) for _ in range(200)]
            with anyio.fail_after(PATIENCE):
                results = await asyncio.gather(*receives, return_exceptions=True)
            assert {type(result) for result in results} == {redis.TimeoutError}
            proxy.silent = False

    async def test_sends_that_wait_behind_others(self, server, queue, proxy):
        """So does a send; the error of one that was not sent tells that, and it is not stored."""
        async with AsyncRSMQ.from_url(proxy.url, realtime=False, deadline=1) as rsmq:
            there = rsmq.queue("jobs")
            await there.send("warm-up")
            proxy.silent = True
            sends = [asyncio.ensure_future(there.send("x")) for _ in range(200)]
            with anyio.fail_after(PATIENCE):
                results = await asyncio.gather(*sends, return_exceptions=True)
            assert {type(result) for result in results} == {redis.TimeoutError}
            not_sent = sum("was not sent" in str(result) for result in results)
            assert not_sent
            await wait_until(lambda: server.clients() <= 2)
            assert (await queue.attributes()).msgs <= 201 - not_sent
            proxy.silent = False

    async def test_many_at_once_on_a_slow_line(self, server, queue, proxy):
        """The more calls wait, the more script calls are under way: replies that come late do not
        add up.
        """
        async with AsyncRSMQ.from_url(proxy.url, realtime=False) as rsmq:
            there = rsmq.queue("jobs")
            await there.send("warm-up")
            passed = proxy._pass_on
            turns = []

            async def one_turn(data, writer):
                turns.append(len(data))
                await asyncio.sleep(0.02)
                await passed(data, writer)

            proxy._pass_on = one_turn
            await asyncio.gather(*(there.send("x") for _ in range(5000)))
            assert server.redis.zcard("rsmq:jobs") == 5001
            assert (
                len(turns) < 2 * 5000 / 64
            )  # two at a time would be that many turns one after the other

    async def test_what_has_come_is_handed_out(self, server, queue, proxy):
        """A receive_many that reaches its deadline hands out what it has."""
        await queue.send_many(["x"] * 100)
        async with AsyncRSMQ.from_url(proxy.url, realtime=False, deadline=2) as rsmq:
            there = rsmq.queue("jobs")
            assert len(await there.receive_many(1)) == 1
            replies = []
            passed = proxy._pass_on

            async def first_only(data, writer):
                if b"x" in data:
                    replies.append(len(data))
                    proxy.silent = True
                await passed(data, writer)

            proxy._pass_on = first_only
            messages = await there.receive_many(99)
            assert 0 < len(messages) < 99
            proxy.silent = False


class TestHealth:
    async def test_a_worker_whose_server_is_killed(self, own_server):
        """An idle worker knows soon that its server is gone, however seldom it polls; and that it
        is back.
        """
        server = own_server()
        async with AsyncRSMQ.from_url(server.url, poll_interval=3600) as rsmq:
            queue = rsmq.queue("jobs")
            await queue.create()
            async with queue.worker(lambda _: None) as worker:
                await wait_until(
                    lambda: rsmq._engine.listener._has_subscribed and worker._intakes[0].line._timer
                )
                await wait_until(lambda: not rsmq._engine._in_flight())
                server.kill()
                await wait_until(lambda: not worker.healthy)
                server.start()
                await queue.create(exist_ok=True)
                await wait_until(lambda: worker.healthy)

    async def test_a_worker_whose_server_falls_silent(self, own_server, short_silence, monkeypatch):
        """So does one whose server has stopped: the listener notices."""
        monkeypatch.setattr("aiorsmq._server.target.CONNECT_TIMEOUT", 0.2)
        server = own_server()
        async with AsyncRSMQ.from_url(server.url, poll_interval=3600) as rsmq:
            queue = rsmq.queue("jobs")
            await queue.create()
            async with queue.worker(lambda _: None) as worker:
                await wait_for_listener(server)
                server.process.send_signal(signal.SIGSTOP)
                try:
                    await wait_until(lambda: not worker.healthy)
                finally:
                    server.process.send_signal(signal.SIGCONT)
                await wait_until(lambda: worker.healthy)


class TestSlowLine:
    """A line that is slow towards the client, but never silent for as long as the watchdogs
    wait.
    """

    @pytest.fixture
    async def far(self, server, proxy, monkeypatch):
        """A client behind the line. Bodies of 60,000 bytes take twice as long as a silence, which
        outlasts a stall.
        """
        for module in (lane, line):
            monkeypatch.setattr(module, "REPLY_TIMEOUT", 1.0)
        async with AsyncRSMQ.from_url(proxy.url, realtime=False) as rsmq:
            there = rsmq.queue("jobs")
            await there.create(maxsize=-1)
            proxy.rate = 30_000
            yield there
            proxy.rate = 0

    async def test_a_large_message(self, far, proxy):
        """A message that takes long to arrive is received once, and handed out."""
        await far.send("x" * 60_000)
        message = await far.receive()
        assert (len(message.body), message.receive_count) == (60_000, 1)
        assert (await far.attributes()).totalrecv == 1

    async def test_popped(self, far):
        """So it is by a pop."""
        await far.send("x" * 60_000)
        assert len((await far.pop()).body) == 60_000

    async def test_many(self, far):
        """Many messages that take long together are all handed out, and no others are hidden."""
        await far.send_many(["x" * 5_000] * 20)
        assert len(await far.receive_many(12)) == 12
        assert (await far.attributes()).hiddenmsgs == 12

    async def test_a_long_poll_that_ends(self, far, long_poll):
        """A long poll whose message is arriving when the wait ends gets it."""
        await far.send("x" * 60_000)
        got = await long_poll(far, 0.01)
        (message,) = got if isinstance(got, list) else [got]
        assert len(message.body) == 60_000

    async def test_others_on_the_connection(self, far):
        """Other calls on the connection wait, and do not fail."""
        await far.send("x" * 60_000)
        receiving = asyncio.ensure_future(far.receive())
        await asyncio.sleep(0)
        assert await far.send("another")
        assert await receiving


class TestRepeatedClaim:
    async def test_claims_one(self, server, proxy):
        """A claim whose reply was lost is repeated for one message: each attempt hides what it
        claims.
        """
        async with AsyncRSMQ.from_url(proxy.url, realtime=False) as rsmq:
            queue = rsmq.queue("jobs")
            await queue.create(vt=300)
            assert await queue.receive() is None
            await queue.send_many(["x"] * 300)
            proxy.cut_after_execution = 5
            assert len(await queue.receive_many(64)) == 64
            lost = (await queue.attributes()).hiddenmsgs - 64
            assert 32 < lost < 64 + 5  # 32 or 64 at first, then one with each repetition


class TestAfterTheDeadline:
    """A reply that takes longer than the deadline: the call fails, and what arrives later is put
    back.
    """

    @pytest.fixture(params=["first call", "later call"])
    async def far(self, server, proxy, request):
        server.redis.script_flush()
        async with AsyncRSMQ.from_url(server.url) as near:
            await near.queue("jobs").create(vt=300, maxsize=-1)
            await near.queue("jobs").send("x" * 60_000)
        async with AsyncRSMQ.from_url(proxy.url, realtime=False, deadline=2) as rsmq:
            there = rsmq.queue("jobs")
            await there.attributes()
            if request.param == "later call":
                await there.change_visibility((await there.pop()).id, 0)
                await there.send("x" * 60_000)
            proxy.rate = 15_000
            yield there
            proxy.rate = 0

    @pytest.mark.parametrize("verb", ["receive", "pop", "receive_many"])
    async def test_put_back(self, server, far, proxy, verb):
        """What was received or popped is visible again when the reply has come, as if nobody had
        received it.
        """
        call = {
            "receive": far.receive,
            "pop": far.pop,
            "receive_many": lambda: far.receive_many(5),
        }[verb]
        with pytest.raises(redis.TimeoutError):
            await call()
        proxy.rate = 0
        await wait_until(lambda: visible(server))
        message = await far.receive()
        assert (len(message.body), message.receive_count) == (60_000, 1)


def visible(server):
    return server.redis.zcount("rsmq:jobs", "-inf", server.redis.time()[0] * 1000)
