"""Nothing secret comes into the log, or into what an object says of itself: no password, no
body.
"""

import asyncio
import contextlib
import logging
import signal

import pytest
import redis
from aiorsmq import (
    JSON,
    AsyncRSMQ,
    EmbeddedServer,
    InvalidParameterValue,
    MessageTooLong,
    MsgspecCodec,
    PydanticCodec,
)
from aiorsmq._server import lane
from redis import RedisError

from support import PATIENCE, wait_for_listener, wait_until

CANARY = "canary"
PASSWORD = f"{CANARY}-password"
TYPED = [codec(dict[str, int]) for codec in (MsgspecCodec, PydanticCodec)]


class Picky:
    """A codec that quotes in its errors what it was given."""

    def __init__(self, error=ValueError):
        self.error = error

    def encode(self, body):
        raise self.error(f"I do not like {body}")

    def decode(self, raw):
        raise KeyError(raw)


@pytest.fixture
def guarded(own_server):
    """A server with a password, and its URL."""
    server = own_server()
    server.redis.acl_setuser(
        "worker",
        enabled=True,
        passwords=[f"+{PASSWORD}"],
        keys=["*"],
        channels=["*"],
        categories=["+@all"],
    )
    server.redis.acl_setuser("default", enabled=True, nopass=True)
    return server, f"unix://worker:{PASSWORD}@{server.socket}"


def look_at(said, *things):
    for thing in things:
        said += repr(thing), str(thing), f"{thing}"
        if isinstance(thing, BaseException):
            said += map(repr, causes(thing))


def causes(error):
    """What a traceback would show in addition to an error."""
    while error := error.__cause__ or (not error.__suppress_context__ and error.__context__):
        yield error


async def meet(said, call, *errors):
    with pytest.raises(errors) as caught:
        await call
    look_at(said, caught.value)


async def bad_input(said, rsmq):
    """What is refused before it is sent, or by the queue."""
    queue = rsmq.queue("jobs")
    await meet(said, queue.send(f"{CANARY}".ljust(70_000)), MessageTooLong)
    for body in (CANARY + "\udc80", {CANARY: 1}, [CANARY]):
        await meet(said, queue.send(body), InvalidParameterValue)
    await meet(said, rsmq.queue("jobs", codec=JSON).send({CANARY: {1}}), InvalidParameterValue)
    for error in (ValueError, KeyError, RuntimeError):
        await meet(said, rsmq.queue("jobs", codec=Picky(error)).send(CANARY), InvalidParameterValue)
    for codec in TYPED:
        for body in (CANARY, {CANARY: CANARY}, {1: CANARY}, {CANARY: object()}):
            await meet(said, rsmq.queue("jobs", codec=codec).send(body), InvalidParameterValue)
    await meet(said, queue.send_many(CANARY), InvalidParameterValue)
    for url in (
        f"redis://:{CANARY}/x@host:1",
        f"redis://u:{CANARY}@host:x",
        f"http://u:{CANARY}@host",
        f"embedded://:{CANARY}@host",
        f"redis://:{CANARY}[@host",
        f"redis://:p@{CANARY}#x@host",
        f"redis://:57#{CANARY}@host",
        f"unix://:12/{CANARY}@/socket",
        f"redis://:x?{CANARY}@host",
        f"valkey://{CANARY}:1?@host",
        f"redis://{CANARY}%3A1%40host",
    ):
        with pytest.raises(ValueError, match="url=") as caught:
            AsyncRSMQ.from_url(url)
        look_at(said, caught.value)
        for make in (
            AsyncRSMQ,
            rsmq.queue,
            lambda url: AsyncRSMQ(host=url),
            lambda url: AsyncRSMQ(ns=url),
            lambda url: AsyncRSMQ(unix_socket_path=url),
            lambda url: AsyncRSMQ(qname=url),
        ):
            with pytest.raises(InvalidParameterValue) as caught:
                make(url)
            look_at(said, caught.value)


async def bad_bodies(said, rsmq):
    """What cannot be decoded, in every way to receive."""
    queue = rsmq.queue("jobs")
    await queue.send_many([f"{CANARY} {n}" for n in range(6)])
    for codec in (JSON, Picky(), *TYPED):
        odd = rsmq.queue("jobs", codec=codec)
        assert await odd.receive(vt=0) is None
        assert await odd.peek() == []
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(anext(odd.messages(vt=1)), 0.1)
    assert await rsmq.queue("jobs", codec=JSON).pop() is None
    await queue.purge()


async def killed_connections(said, server, rsmq):
    """Calls of all kinds while connections are killed, and a message whose release fails."""
    queue, stream = rsmq.queue("jobs"), rsmq.queue("jobs").messages(prefetch=2)
    look_at(said, stream)
    for n in range(5):
        await queue.send(f"{CANARY} {n}")
        for kind in ("normal", "pubsub"):
            server.redis.client_kill_filter(_type=kind)
        message = await anext(stream)
        look_at(said, message, message.delete, message._record, message.receipt)
        await message.delete()
        popping = queue.pop(wait=0.05)
        server.redis.client_kill_filter(_type="normal")
        with contextlib.suppress(RedisError):
            await popping
    await stream.aclose()


async def hung_server(said, server, rsmq, url):
    """Calls that fail at their deadline."""
    await rsmq.queue("jobs").send(CANARY)
    async with AsyncRSMQ.from_url(url, deadline=0.3) as impatient:
        queue = impatient.queue("jobs")
        message = await queue.receive(wait=PATIENCE)
        server.process.send_signal(signal.SIGSTOP)
        try:
            await meet(said, queue.send(CANARY), redis.TimeoutError)
            with contextlib.suppress(KeyError):
                async with message:
                    raise KeyError
        finally:
            server.process.send_signal(signal.SIGCONT)
    await rsmq.queue("jobs").purge()


async def test_canaries(guarded, report, caplog, monkeypatch):
    """No log record from DEBUG up, and no repr or str of a public object, has a password or a body
    in it.
    """
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(lane, "REPLY_TIMEOUT", 0.3)
    (server, url), said = guarded, []
    async with AsyncRSMQ.from_url(url) as rsmq:
        queue = rsmq.queue("jobs")
        await queue.create(vt=1)  # a killed connection may take a claim with it
        await bad_input(said, rsmq)
        await bad_bodies(said, rsmq)
        await killed_connections(said, server, rsmq)
        await hung_server(said, server, rsmq, url)
        look_at(
            said,
            rsmq,
            queue,
            rsmq.queue("jobs", codec=JSON),
            await queue.attributes(),
            EmbeddedServer(),
        )
        server.redis.config_set("maxmemory", 1)
        await meet(said, queue.send(CANARY), redis.ResponseError)
        server.redis.config_set("maxmemory", 0)
    look_at(said, rsmq)
    async with AsyncRSMQ.from_url(url.replace(PASSWORD, f"{PASSWORD}-wrong")) as wrong:
        await meet(said, wrong.list_queues(), redis.AuthenticationError)
        await meet(said, anext(wrong.queue("jobs").messages()), redis.AuthenticationError)
        look_at(said, wrong)
    server.kill()
    async with AsyncRSMQ.from_url(url) as nobody, AsyncRSMQ(port=1, password=PASSWORD) as refused:
        for client in (nobody, refused):
            await meet(said, client.queue("jobs").send(CANARY), redis.ConnectionError)
            look_at(said, client)
    log = [
        logging.Formatter("%(name)s %(message)s").format(record) for record in caplog.records
    ]  # and tracebacks
    secret = [words for words in said + log if CANARY in words]
    report(
        f"{len(secret)} of {len(said)} texts and {len(log)} lines of the log have a password or a "
        "body in them",
        "0",
    )
    assert not secret


async def test_a_line_a_change(own_server, report, caplog):
    """An outage of many attempts is two lines of the listener, as it begins and as it ends, and one
    of the claims.
    """
    server = own_server("--appendonly", "yes")
    caplog.set_level(logging.INFO, "aiorsmq")
    attempts = 0

    def refuse(_, writer):
        nonlocal attempts
        attempts += 1
        writer.close()

    async with AsyncRSMQ.from_url(server.url, poll_interval=0.1) as rsmq:
        await rsmq.queue("jobs").create()
        asking = asyncio.ensure_future(rsmq.queue("jobs").receive(wait=60))
        await wait_for_listener(server)
        server.kill()
        refusing = await asyncio.start_unix_server(refuse, server.socket)
        await wait_until(lambda: attempts >= 12)
        refusing.close()
        server.start()
        await rsmq.queue("jobs").send("x")
        await (await asking).delete()
        await wait_until(lambda: "listener reconnected" in caplog.text)
    lines = [record.message.split(",")[0] for record in caplog.records]
    report(f"{attempts} attempts to connect: {len(lines)} lines in the log", "3")
    assert sorted(lines) == sorted(set(lines))
    assert set(lines) <= {"listener disconnected", "claim failed", "listener reconnected"}
