"""The server is not there yet, goes away, hangs, is busy, or forgets: calls are retried as far as
that is safe.
"""

import asyncio
import gc
import hashlib
import signal
import time
from contextlib import asynccontextmanager, suppress

import anyio
import anyio.lowlevel
import pytest
import redis
from aiorsmq import AsyncRSMQ, InvalidParameterValue, QueueDoesNotExist
from aiorsmq._server import lane, node, retrier
from aiorsmq._server.lua import Script

from chaos.conditions import busy, loading
from chaos.network import Proxy
from support import PATIENCE, connector_of, stalls, wait_for_listener, wait_until

FIRST_CALLS = {
    "a call": lambda rsmq: rsmq.list_queues(),
    "a send": lambda rsmq: rsmq.send_message(qname="jobs", message="x"),
    "a receive": lambda rsmq: rsmq.receive_message(qname="jobs"),
    "a long poll": lambda rsmq: rsmq.receive_message(qname="jobs", wait=60),
    "a stream": lambda rsmq: anext(rsmq.messages("jobs")),
}


first_calls = pytest.mark.parametrize("call", FIRST_CALLS.values(), ids=FIRST_CALLS)


class Refusing:
    """Takes connections on a socket and closes them, as often as it counts."""

    def __init__(self, path):
        self.path, self.attempts = path, 0

    async def __aenter__(self):
        self._listening = await asyncio.start_unix_server(self._refuse, self.path)
        return self

    async def __aexit__(self, *_):
        self._listening.close()

    def _refuse(self, _, writer):
        self.attempts += 1
        writer.close()


@first_calls
async def test_a_server_that_is_not_up_yet(own_server, call):
    """With connect_timeout the first call waits for a server that has yet to start."""
    server = own_server("--appendonly", "yes", "--appendfsync", "always")
    async with AsyncRSMQ.from_url(server.url) as earlier:
        await earlier.create_queue(qname="jobs")
        await earlier.send_message(qname="jobs", message="earlier")
    server.kill()
    async with AsyncRSMQ.from_url(server.url, connect_timeout=60) as rsmq:
        async with Refusing(server.socket) as refusing:
            calling = asyncio.ensure_future(call(rsmq))
            await wait_until(lambda: refusing.attempts >= 3)
        assert not calling.done()
        server.start()
        assert await calling


@first_calls
async def test_a_server_that_is_not_there(tmp_path, call):
    """Without connect_timeout there is one attempt; with it there are several, and then the same
    error.
    """
    for connect_timeout, at_least, at_most in (
        (0, 1, 2),
        (0.3, 3, 1000),
    ):  # the listener has an attempt of its own
        async with (
            Refusing(f"{tmp_path}/socket") as refusing,
            AsyncRSMQ.from_url(
                f"unix://{tmp_path}/socket", connect_timeout=connect_timeout
            ) as rsmq,
        ):
            with pytest.raises(redis.ConnectionError):
                await call(rsmq)
            assert at_least <= refusing.attempts <= at_most
            before = refusing.attempts
            with pytest.raises(redis.ConnectionError):  # it is given up
                await rsmq.list_queues()
            assert refusing.attempts <= before + 2


async def test_connect_timeout_beyond_the_deadline(own_server):
    """The deadline of a call does not end the waiting for the first connection, nor for what is
    loaded then.
    """
    server = own_server(
        *("--appendonly", "yes", "--appendfsync", "always", "--key-load-delay", "100")
    )
    options = {"connect_timeout": 60, "deadline": 0.1}
    async with loading(server), AsyncRSMQ.from_url(server.url, **options) as rsmq:
        assert await rsmq.list_queues() == set()
    server.kill()
    async with AsyncRSMQ.from_url(server.url, **options) as rsmq:
        async with Refusing(server.socket) as refusing:
            calls = [asyncio.ensure_future(call(rsmq)) for call in FIRST_CALLS.values()]
            over = time.monotonic() + 2 * options["deadline"]
            await wait_until(lambda: refusing.attempts >= 5 and time.monotonic() > over)
        assert not any(call.done() for call in calls)
        server.start()
        ends = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(end) for end in ends] == [set, *[QueueDoesNotExist] * 4]


@pytest.mark.parametrize("anyio_backend", [("asyncio", {"debug": True})], ids=["asyncio"])
async def test_a_name_that_is_not_known_yet():
    """A host's name that cannot be looked up is tried again, too. (uvloop does not let look-ups be
    counted.)
    """
    loop, lookups = asyncio.get_running_loop(), []
    known = loop.getaddrinfo

    async def look_up(host, *args, **options):
        lookups.append(host)
        return await known(host, *args, **options)

    loop.getaddrinfo = look_up
    async with AsyncRSMQ(host="nowhere.invalid", connect_timeout=0.3) as rsmq:
        with pytest.raises(redis.ConnectionError):
            await rsmq.list_queues()
    assert len(lookups) > 1
    assert set(lookups) == {"nowhere.invalid"}


async def test_a_login_that_is_refused(own_server):
    """A login that is refused is not waited for."""
    server = own_server()
    server.redis.config_set("requirepass", "secret")
    async with (
        Proxy(server.socket, f"{server.folder}/proxy.sock") as proxy,
        AsyncRSMQ.from_url(proxy.url, password="wrong", connect_timeout=60) as rsmq,
    ):
        with pytest.raises(redis.AuthenticationError):
            await rsmq.list_queues()


def test_connect_timeout_is_a_time():
    """connect_timeout is a time like others."""
    for value in (-1, "5", None, True, 10_000_000):
        with pytest.raises(InvalidParameterValue, match="connect_timeout"):
            AsyncRSMQ(connect_timeout=value)


async def test_script_flush(server, queue):
    """SCRIPT FLUSH is not noticed by any caller."""
    for n in range(20):
        server.redis.script_flush()
        await queue.send(str(n))
        server.redis.script_flush()
        message = await queue.receive()
        server.redis.script_flush()
        assert await message.delete()


async def test_restart(own_server):
    """A restarted server is not noticed by callers: calls wait, streams go on."""
    server = own_server("--appendonly", "yes", "--appendfsync", "always")
    async with AsyncRSMQ.from_url(server.url, poll_interval=0.2) as rsmq:
        queue = rsmq.queue("jobs")
        await queue.create()
        stream = queue.messages()
        asking = asyncio.ensure_future(anext(stream))
        await wait_for_listener(server)
        server.kill()
        sending = asyncio.ensure_future(queue.send("sent while it was away"))
        server.start()
        await sending
        message = await asking
        assert message.body == "sent while it was away"
        await message.delete()


async def reaches(rsmq):
    """Whether a call succeeds."""
    with suppress(redis.ConnectionError, redis.TimeoutError):
        await rsmq.list_queues()
        return True
    return False


@asynccontextmanager
async def impatient_client(server, **options):
    """A client with a short deadline, once it has reached the server, and the queue "jobs"."""
    async with AsyncRSMQ.from_url(server.url) as patient:
        await patient.create_queue(qname="jobs")
    async with AsyncRSMQ.from_url(server.url, **options) as rsmq:
        await wait_until(lambda: reaches(rsmq))
        yield rsmq


async def test_hung_server(own_server, monkeypatch):
    """A server that hangs holds no caller longer than its deadline; afterwards calls work again."""
    server = own_server()
    monkeypatch.setattr(lane, "REPLY_TIMEOUT", 0.2)
    async with impatient_client(server, deadline=0.5, poll_interval=60) as rsmq:
        queue = rsmq.queue("jobs")
        server.process.send_signal(signal.SIGSTOP)
        try:
            started = time.monotonic()
            async with stalls() as lost:
                with pytest.raises(redis.TimeoutError):
                    await queue.send("x")
                assert time.monotonic() - started < 1 + lost()
        finally:
            server.process.send_signal(signal.SIGCONT)
        await wait_until(lambda: reaches(rsmq))
        await queue.send("y")


async def test_never_reached(tmp_path):
    """A server that never answered is reported at once, with redis-py's error."""
    async with AsyncRSMQ.from_url(f"unix://{tmp_path}/nobody.sock") as rsmq:
        with anyio.fail_after(PATIENCE):
            with pytest.raises(redis.ConnectionError):
                await rsmq.list_queues()
            with pytest.raises(redis.ConnectionError):
                await anext(rsmq.queue("jobs").messages())


async def test_no_call_outlasts_the_deadline(own_server):
    """What waits behind a call that meets an outage is told with it, and does not wait for as long
    once more.
    """
    server = own_server()
    async with impatient_client(server, deadline=1.5) as rsmq:
        queue = rsmq.queue("jobs")
        server.kill()
        calls = [queue.send(str(n)) for n in range(500)] + [
            queue.delete_message("0" * 32) for _ in range(500)
        ]
        calls += [queue.receive() for _ in range(100)]
        async with stalls() as lost:
            started = time.monotonic()
            sends = [asyncio.ensure_future(call) for call in calls]
            await asyncio.sleep(0.1)
            sends += [
                asyncio.ensure_future(queue.send("later")),
                asyncio.ensure_future(queue.receive()),
            ]
            results = await asyncio.gather(*sends, return_exceptions=True)
            assert (
                time.monotonic() - started < 9 + lost()
            )  # each batch after the other would take 12 and more
        assert {type(result) for result in results} <= {redis.ConnectionError, redis.TimeoutError}


async def test_not_tried_after_the_deadline(own_server):
    """A call that has failed at its deadline is not executed once the server recovers."""
    server = own_server()
    async with impatient_client(server, deadline=0.3) as rsmq:
        server.redis.replicaof("127.0.0.1", 1)
        with pytest.raises((redis.ResponseError, redis.TimeoutError)):
            await rsmq.queue("jobs").send("x")
        server.redis.replicaof("NO", "ONE")
    assert server.redis.zcard("rsmq:jobs") == 0


async def test_gone_for_good(own_server):
    """A server that goes away raises redis-py's error at the deadline."""
    server = own_server()
    async with impatient_client(server, deadline=0.3) as rsmq:
        queue = rsmq.queue("jobs")
        polling = asyncio.ensure_future(queue.receive(wait=2))
        await wait_for_listener(server)
        server.kill()
        for call in (rsmq.list_queues, queue.receive):
            with pytest.raises((redis.ConnectionError, redis.TimeoutError)):
                await call()
        with pytest.raises((redis.ConnectionError, redis.TimeoutError)):
            await polling


async def test_a_connection_that_nobody_waits_for(own_server):
    """An attempt to connect that fails after its last caller's deadline makes no noise; anyio would
    raise it here.
    """
    server = own_server()
    async with impatient_client(server, deadline=0.3) as rsmq:
        queue = rsmq.queue("jobs")
        server.redis.client_kill_filter(_type="normal")
        server.process.send_signal(signal.SIGSTOP)
        with pytest.raises((redis.ConnectionError, redis.TimeoutError)):
            await queue.receive()
        server.kill()
        await wait_until(lambda: connector_of(rsmq)._opening is None)
        gc.collect()


async def test_busy_server(server, queue):
    """A server that is busy for a while is waited for."""
    async with busy(server):
        sending = asyncio.ensure_future(queue.send("x"))
        await asyncio.sleep(0.1)
        assert not sending.done()
    await sending


async def test_left_at_a_replica(own_server):
    """A connection that was left at a server which is a replica by now is given up: the next leads
    to the new one.
    """
    old, new = own_server(), own_server()
    async with AsyncRSMQ.from_url(new.url) as rsmq:
        await rsmq.create_queue(qname="jobs")
    async with (
        Proxy(old.socket, f"{old.folder}/proxy.sock") as proxy,
        AsyncRSMQ.from_url(proxy.url) as rsmq,
    ):
        await rsmq.create_queue(qname="jobs")
        old.redis.replicaof("127.0.0.1", 1)
        proxy._server = new.socket
        with anyio.fail_after(PATIENCE):
            await rsmq.send_message(qname="jobs", message="x")
    assert (old.redis.zcard("rsmq:jobs"), new.redis.zcard("rsmq:jobs")) == (0, 1)


FORMS = {
    "integer": "return 1",
    "nil": "return nil",
    "text": "return 'OK'",
    "empty": "return {}",
    "no time": "return {'a', 'b'}",
    "half the time": "return {redis.call('TIME')[1]}",
    "the time alone": "return redis.call('TIME')",
    "words": "local t = redis.call('TIME') return {t[1], t[2], 'stored', 's3cret', 's3cret', "
    "'s3cret'}",
    "lists": "local t = redis.call('TIME') return {t[1], t[2], {'s3cret'}, {}, {'s3cret'}}",
    "a receive": "local t = redis.call('TIME') return {t[1], t[2], '', 's3cret', '1', 0, {'id', "
    "'1'}, {'s3cret', '1'}}",
}


VERBS = {
    "create": lambda queue: queue.create(),
    "attributes": lambda queue: queue.attributes(),
    "set_attributes": lambda queue: queue.set_attributes(vt=5),
    "send": lambda queue: queue.send("s3cret"),
    "send_many": lambda queue: queue.send_many(["s3cret", "s3cret"]),
    "receive": lambda queue: queue.receive(),
    "long poll": lambda queue: queue.receive(wait=60),
    "receive_many": lambda queue: queue.receive_many(5),
    "pop": lambda queue: queue.pop(),
    "stream": lambda queue: anext(queue.messages(prefetch=3)),
    "peek": lambda queue: queue.peek(),
    "change_visibility": lambda queue: queue.change_visibility("0" * 32, 5),
    "delete_many": lambda queue: queue.delete_many(["0" * 32, "1" * 32]),
    "purge": lambda queue: queue.purge(),
    "delete": lambda queue: queue.delete(),
}


# What is a reply of the script's own form.
RIGHT = {("the time alone", "delete_many")}


@pytest.mark.parametrize("form", FORMS)
async def test_replies_of_another_form(server, rsmq, queue, monkeypatch, form):
    """A reply that the script cannot have sent fails its call with redis-py's InvalidResponse, and
    no other call.
    """
    source = FORMS[form]
    script = Script(source, hashlib.sha1(source.encode()).hexdigest())
    server.redis.script_load(source)
    for attempt in ("by EVALSHA", "by EVAL"):
        with monkeypatch.context() as patch:
            for module in (node, retrier):
                patch.setattr(module, "load", lambda name: script)
            for verb, call in VERBS.items():
                if attempt == "by EVAL":
                    server.redis.script_flush()
                with anyio.fail_after(PATIENCE):
                    if (form, verb) in RIGHT:
                        await call(queue)
                        continue
                    with pytest.raises(
                        redis.InvalidResponse, match="unexpected reply to script"
                    ) as error:
                        await call(queue)
                assert (
                    "s3cret"
                    not in f"{error.value!r} {error.value.__cause__} {error.value.__context__}"
                ), verb
        ids = await asyncio.gather(*(queue.send(str(n)) for n in range(200)))
        assert all(await queue.delete_many(ids))
        assert await queue.receive() is None
    assert rsmq._engine._in_flight() == 0
    with anyio.fail_after(PATIENCE):
        await rsmq.aclose()


async def test_late_failure_is_silent(own_server, caplog):
    """An attempt that fails after its call has missed the deadline is not reported as an error that
    nobody retrieved.
    """
    server = own_server()
    async with impatient_client(server, deadline=0.3) as rsmq:
        server.redis.client_kill_filter(_type="normal", skipme=True)
        await wait_until(lambda: connector_of(rsmq).current() is None)
        server.redis.client_pause(60_000, all=False)  # scripts that write get no reply
        with pytest.raises(redis.TimeoutError):
            await rsmq.queue("jobs").send("x")
    gc.collect()
    server.redis.client_unpause()
    assert [record for record in caplog.records if record.name == "asyncio"] == []
