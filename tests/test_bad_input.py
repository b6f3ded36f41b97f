"""What is refused, before anything is written: the error says which parameter, what it was, and
what it may be.
"""

import asyncio
import math
import reprlib
import traceback
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from decimal import Decimal
from functools import partial
from inspect import isawaitable
from urllib.parse import quote

import anyio
import pytest
import redis
from aiorsmq import (
    BYTES,
    JSON,
    AsyncRSMQ,
    InvalidParameterValue,
    MessageTooLong,
    QueueAlreadyExists,
    QueueDoesNotExist,
    Reject,
)

from support import PATIENCE, keyspace, wait_until

ANY_ID = "0" * 32


async def done(result):
    """Some methods are coroutines, some plain functions."""
    return await result if isawaitable(result) else result


@pytest.fixture
async def refused(server, rsmq, queue):
    """A context in which something must be refused by the client: the server hears nothing of it,
    then or later.
    """

    @asynccontextmanager
    async def check(parameter, value, accepted):
        await rsmq.list_queues()
        before = keyspace(server)
        server.reset_stats()
        with pytest.raises(InvalidParameterValue) as caught:
            yield
        await rsmq.list_queues()  # on the same connection: what was sent before it has arrived
        assert server.script_calls() == 1
        assert server.commands().keys() <= {
            "evalsha",
            "time",
            "smembers",
            "info",
            "config",
            "config|resetstat",
        }
        assert keyspace(server) == before
        error = caught.value
        assert isinstance(error, ValueError)
        assert error.parameter == parameter
        assert error.value is value
        is_hidden = parameter in {"message", "body", "bodies", "client", "host"} or "://" in str(
            value
        )
        shown = f"<{type(value).__name__}>" if is_hidden else reprlib.repr(value)
        assert str(error).startswith(f"{parameter}={shown}: ")
        assert repr(error) == f"InvalidParameterValue({str(error)!r})"
        assert accepted in error.reason

    return check


@pytest.fixture
async def unchanged(server, queue):
    """What goes wrong on the server leaves every key as it was."""
    before = keyspace(server)
    yield
    assert keyspace(server) == before


METHODS = {
    "queue": lambda rsmq, qname: rsmq.queue(qname),
    "create_queue": lambda rsmq, qname: rsmq.create_queue(qname=qname),
    "delete_queue": lambda rsmq, qname: rsmq.delete_queue(qname=qname, missing_ok=True),
    "get_queue_attributes": lambda rsmq, qname: rsmq.get_queue_attributes(qname=qname),
    "set_queue_attributes": lambda rsmq, qname: rsmq.set_queue_attributes(qname=qname, vt=1),
    "send_message": lambda rsmq, qname: rsmq.send_message(qname=qname, message="x"),
    "receive_message": lambda rsmq, qname: rsmq.receive_message(qname=qname),
    "pop_message": lambda rsmq, qname: rsmq.pop_message(qname=qname),
    "change_message_visibility": lambda rsmq, qname: rsmq.change_message_visibility(
        qname=qname, id=ANY_ID, vt=1
    ),
    "delete_message": lambda rsmq, qname: rsmq.delete_message(qname=qname, id=ANY_ID),
    "messages": lambda rsmq, qname: rsmq.messages(qname),
}
methods = pytest.mark.parametrize(
    ("method", "parameter"),
    [(method, "name" if name == "queue" else "qname") for name, method in METHODS.items()],
    ids=METHODS,
)


class TestQnames:
    FORM = "1 to 160 characters of A-Z a-z 0-9 _ -"

    @methods
    async def test_form(self, rsmq, refused, method, parameter):
        """A queue's name is 1 to 160 letters, digits, hyphens and underscores, for every method."""
        for qname in (
            "",
            "x" * 161,
            "a b",
            " a",
            "a:b",
            "{a}",
            "a\n",
            "\n",
            "é",
            "a\0",
            "a/b",
            "redis://:secret@host",
            5,
            True,
            b"jobs",
            ["a"],
        ):
            async with refused(parameter, qname, self.FORM):
                await done(method(rsmq, qname))

    @methods
    async def test_taken(self, rsmq, refused, method, parameter):
        """QUEUES is no queue's name: the set of all queues has that key."""
        qname = "QUEUES"
        async with refused(parameter, qname, "is taken"):
            await done(method(rsmq, qname))

    @methods
    async def test_missing(self, rsmq, refused, method, parameter):
        """A method needs a name if the client has none."""
        accepted = self.FORM if method is METHODS["queue"] else "must be given here or to AsyncRSMQ"
        async with refused(parameter, None, accepted):
            await done(method(rsmq, None))

    async def test_of_a_client(self, refused):
        """The client's own name is held to the same."""
        for qname in ("", "x" * 161, "a:b", "a\n", 5):
            async with refused("qname", qname, self.FORM):
                AsyncRSMQ(qname=qname)
            async with refused("qname", qname, self.FORM):
                AsyncRSMQ.from_url("redis://", qname=qname)

    async def test_longest(self, rsmq):
        """160 characters are not too long."""
        assert await rsmq.create_queue(qname="x" * 160) is True
        assert await rsmq.send_message(qname="x" * 160, message="x")


TIMES = {
    "send": ("delay", lambda queue, message, value: queue.send("x", delay=value)),
    "send_many": ("delay", lambda queue, message, value: queue.send_many(["x"], delay=value)),
    "receive": ("vt", lambda queue, message, value: queue.receive(vt=value)),
    "receive_wait": ("wait", lambda queue, message, value: queue.receive(wait=value)),
    "receive_many": ("vt", lambda queue, message, value: queue.receive_many(2, vt=value)),
    "receive_many_wait": ("wait", lambda queue, message, value: queue.receive_many(2, wait=value)),
    "pop_wait": ("wait", lambda queue, message, value: queue.pop(wait=value)),
    "messages": ("vt", lambda queue, message, value: queue.messages(vt=value)),
    "change_visibility": (
        "vt",
        lambda queue, message, value: queue.change_visibility(ANY_ID, value),
    ),
    "extend": ("vt", lambda queue, message, value: message.extend(value)),
    "release": ("delay", lambda queue, message, value: message.release(value)),
}
TIMES_OF_QUEUES = {
    "create_vt": ("vt", lambda queue, message, value: queue.create(vt=value, exist_ok=True)),
    "create_delay": (
        "delay",
        lambda queue, message, value: queue.create(delay=value, exist_ok=True),
    ),
    "set_attributes_vt": ("vt", lambda queue, message, value: queue.set_attributes(vt=value)),
    "set_attributes_delay": (
        "delay",
        lambda queue, message, value: queue.set_attributes(vt=1, delay=value),
    ),
}
TIMES_BY_METHOD = {
    "create_queue_vt": ("vt", lambda rsmq, value: rsmq.create_queue(qname="jobs", vt=value)),
    "create_queue_delay": (
        "delay",
        lambda rsmq, value: rsmq.create_queue(qname="new", delay=value),
    ),
    "set_queue_attributes_vt": (
        "vt",
        lambda rsmq, value: rsmq.set_queue_attributes(qname="jobs", vt=value),
    ),
    "set_queue_attributes_delay": (
        "delay",
        lambda rsmq, value: rsmq.set_queue_attributes(qname="jobs", delay=value),
    ),
    "send_message": (
        "delay",
        lambda rsmq, value: rsmq.send_message(qname="jobs", message="x", delay=value),
    ),
    "receive_message": ("vt", lambda rsmq, value: rsmq.receive_message(qname="jobs", vt=value)),
    "receive_message_wait": (
        "wait",
        lambda rsmq, value: rsmq.receive_message(qname="jobs", wait=value),
    ),
    "pop_message_wait": ("wait", lambda rsmq, value: rsmq.pop_message(qname="jobs", wait=value)),
    "messages": ("vt", lambda rsmq, value: rsmq.messages("jobs", vt=value)),
    "change_message_visibility": (
        "vt",
        lambda rsmq, value: rsmq.change_message_visibility(qname="jobs", id=ANY_ID, vt=value),
    ),
}
NO_NONE = ("wait", "create", "change", "extend", "release")
NO_SECONDS = [
    *(-1, -0.001, 10_000_000, 9_999_999.5, 10**400, math.nan, math.inf, -math.inf),
    *(True, False, "5", "", b"5", [], Decimal(5), 1j, object()),
    *(timedelta(seconds=-1), timedelta(seconds=10_000_000)),
]


def seconds_are_checked(cases):
    """Each case alone, and whether None is no value either."""
    return pytest.mark.parametrize(
        ("parameter", "call", "bad"),
        [
            pytest.param(
                *(parameter, call),
                [*NO_SECONDS, None]
                if name.startswith(NO_NONE) or name.endswith("wait")
                else NO_SECONDS,
                id=name,
            )
            for name, (parameter, call) in cases.items()
        ],
    )


class TestTimes:
    @seconds_are_checked(TIMES | TIMES_OF_QUEUES)
    async def test_of_verbs(self, server, queue, refused, parameter, call, bad):
        """A time is 0 to 9999999 seconds, as int, float or timedelta."""
        await queue.send("x")
        message = await queue.receive()
        for value in bad:
            async with refused(parameter, value, "0 to 9999999"):
                await done(call(queue, message, value))

    @seconds_are_checked(TIMES_BY_METHOD)
    async def test_of_methods(self, rsmq, queue, refused, parameter, call, bad):
        """So it is for RSMQ's own methods."""
        for value in bad:
            async with refused(parameter, value, "0 to 9999999"):
                await done(call(rsmq, value))

    @pytest.mark.parametrize(("parameter", "call"), TIMES_OF_QUEUES.values(), ids=TIMES_OF_QUEUES)
    async def test_whole_seconds(self, queue, refused, parameter, call):
        """The times of a queue are whole seconds, however they are given; other ports parse
        integers there.
        """
        for value in (30.5, 0.001, 9_999_998.5, timedelta(milliseconds=30_500)):
            async with refused(parameter, value, "whole seconds"):
                await done(call(queue, None, value))
        for value in (30, 30.0, timedelta(seconds=30)):
            await done(call(queue, None, value))

    async def test_lease_of_a_pop(self, queue, refused):
        """A popped message has no lease."""
        vt = 5
        async with refused("vt", vt, "pop=True"):
            queue.messages(vt=vt, pop=True)

    async def test_poll_interval(self, refused):
        """poll_interval is a time of 0.01 seconds or more."""
        for value in (*NO_SECONDS, None):
            async with refused("poll_interval", value, "0 to 9999999"):
                AsyncRSMQ(poll_interval=value)
        for value in (0, 0.009, timedelta(0)):
            async with refused("poll_interval", value, "0.01"):
                AsyncRSMQ(poll_interval=value)
        AsyncRSMQ(poll_interval=0.01)


class TestNumbers:
    async def test_maxsize(self, rsmq, queue, refused):
        """maxsize is 1024 to 65536 bytes, or -1."""
        for value in (1023, 65537, 0, -2, 2**70, True, "1024", b"1024", 1024.0, math.nan, []):
            async with refused("maxsize", value, "from 1024 to 65536 bytes, or -1"):
                await rsmq.create_queue(qname="new", maxsize=value)
            async with refused("maxsize", value, "from 1024 to 65536 bytes, or -1"):
                await queue.set_attributes(vt=1, maxsize=value)
        async with refused("maxsize", None, "from 1024 to 65536 bytes, or -1"):
            await queue.create(maxsize=None, exist_ok=True)

    @pytest.mark.parametrize(
        ("parameter", "call", "bad"),
        [
            ("limit", lambda queue, value: queue.receive_many(value), [0, -1]),
            ("limit", lambda queue, value: queue.peek(value), [0, -1, 1001]),
            ("prefetch", lambda queue, value: queue.messages(prefetch=value), [-1]),
        ],
        ids=["receive_many", "peek", "prefetch"],
    )
    async def test_counts(self, queue, refused, parameter, call, bad):
        """How many is an int, 1 or more; 0 or more to be prefetched; 1000 at the most to be peeked
        at.
        """
        for value in (*bad, 1.0, True, "1", None, math.inf, timedelta(1)):
            async with refused(parameter, value, "must be an int"):
                await done(call(queue, value))

    async def test_no_attributes(self, rsmq, queue, refused):
        """set_queue_attributes needs at least one attribute."""
        async with refused(
            "vt, delay, maxsize, max_receives, dead_letter_queue", None, "at least one"
        ):
            await queue.set_attributes()
        async with refused(
            "vt, delay, maxsize, max_receives, dead_letter_queue", None, "at least one"
        ):
            await rsmq.set_queue_attributes(qname="jobs")


class TestMessages:
    @pytest.mark.parametrize(
        "body",
        [None, 5, 1.5, True, ["x"], {"a": 1}, bytearray(b"x"), memoryview(b"x"), object(), str],
        ids=lambda body: repr(body)[:12],
    )
    async def test_type(self, rsmq, queue, refused, body):
        """A message is a str or bytes; the error calls it as the method does."""
        async with refused("body", body, "must be str or bytes"):
            await queue.send(body)
        async with refused("bodies", body, "must be str or bytes"):
            await queue.send_many(["x", body])
        async with refused("message", body, "must be str or bytes"):
            await rsmq.send_message(qname="jobs", message=body)

    async def test_surrogates(self, queue, refused):
        """A str that UTF-8 cannot say is no message."""
        body = "a\ud800"
        async with refused("body", body, "half a surrogate pair"):
            await queue.send(body)

    @pytest.mark.parametrize("body", ["x", None, 5, [1]])
    async def test_bytes(self, rsmq, refused, body):
        """With BYTES a message is bytes."""
        async with refused("body", body, "must be bytes"):
            await rsmq.queue("jobs", codec=BYTES).send(body)

    async def test_json(self, rsmq, refused):
        """With JSON a message is what JSON can say."""
        jobs, circle = rsmq.queue("jobs", codec=JSON), []
        circle.append(circle)
        for body, reason in [
            ({1, 2}, "not JSON serializable"),
            (object(), "not JSON serializable"),
            ([math.nan], "not JSON compliant"),
            ({(1, 2): 3}, "keys must be"),
            (circle, "Circular"),
        ]:
            async with refused("body", body, reason):
                await jobs.send(body)
            async with refused("bodies", body, reason):
                await jobs.send_many([1, body])

    async def test_json_too_deep(self, rsmq, refused):
        """With JSON a message is no deeper than Python's json can follow."""
        body = []
        for _ in range(100_000):
            body = [body]
        async with refused("body", body, ""):
            await rsmq.queue("jobs", codec=JSON).send(body)

    @pytest.mark.parametrize("encoded", [None, "text", 5, bytearray(b"x"), ["x"]], ids=repr)
    async def test_codec_that_does_not_make_bytes(self, rsmq, queue, refused, encoded):
        """What a codec makes of a message must be bytes."""

        class Careless:
            def encode(self, body):
                return encoded

            def decode(self, raw):
                return raw

        jobs, body = rsmq.queue("jobs", codec=Careless()), "x"
        with anyio.fail_after(PATIENCE):
            async with refused("body", body, "bytes"):
                await jobs.send(body)
            async with refused("bodies", body, "bytes"):
                await jobs.send_many([body])
            assert await queue.receive() is None

    @pytest.mark.parametrize("error", [ValueError, TypeError, KeyError, RuntimeError])
    async def test_codec_that_quotes(self, rsmq, refused, error):
        """Of a codec that is not ours an error says what it raised; its text, which may quote the
        body, is nowhere.
        """

        class Talkative:
            def encode(self, body):
                raise error(f"not {body}")

            def decode(self, raw):
                return raw

        jobs, body = rsmq.queue("jobs", codec=Talkative()), "secret"
        async with refused("body", body, f"Talkative raised {error.__name__}"):
            await jobs.send(body)
        with pytest.raises(InvalidParameterValue) as caught:
            await jobs.send(body)
        assert "not secret" not in "".join(traceback.format_exception(caught.value))
        assert caught.value.__context__ is None

    @pytest.mark.parametrize("bodies", ["text", b"bytes", None, 5])
    async def test_one_body_for_many(self, queue, refused, bodies):
        """send_many takes many bodies, not one."""
        async with refused("bodies", bodies, "must be an iterable of bodies"):
            await queue.send_many(bodies)

    @pytest.mark.parametrize(
        ("body", "size"),
        [("x" * 1025, 1025), ("é" * 513, 1026), ("🐎" * 257, 1028), (b"\xff" * 1025, 1025)],
    )
    async def test_too_long(self, server, rsmq, queue, body, size):
        """A message of more bytes than maxsize is refused; the error says how long it is and may
        be.
        """
        await queue.set_attributes(maxsize=1024)
        before = keyspace(server)
        for send in (
            lambda: queue.send(body),
            lambda: queue.send_many(["x", body, "x"]),
            lambda: rsmq.send_message(qname="jobs", message=body),
        ):
            with pytest.raises(MessageTooLong) as caught:
                await send()
            error = caught.value
            assert isinstance(error, ValueError)
            assert (error.qname, error.size, error.maxsize) == ("jobs", size, 1024)
            assert all(text in str(error) for text in ("jobs", str(size), "1024"))
            assert keyspace(server) == before

    @pytest.mark.parametrize("body", ["x" * 1024, "é" * 512, "🐎" * 256, b"\xff" * 1024, "", b""])
    async def test_not_too_long(self, queue, body):
        """A message of exactly maxsize is taken, and so is an empty one."""
        await queue.set_attributes(maxsize=1024)
        await queue.send(body)
        await queue.send_many([body])
        expected = body if isinstance(body, bytes) else body.encode()
        assert [message.raw for message in await queue.receive_many(5)] == [expected] * 2


class TestIds:
    @pytest.mark.parametrize(
        "call",
        [
            lambda rsmq, queue, value: queue.delete_message(value),
            lambda rsmq, queue, value: queue.change_visibility(value, 0),
            lambda rsmq, queue, value: rsmq.delete_message(qname="jobs", id=value),
            lambda rsmq, queue, value: rsmq.change_message_visibility(qname="jobs", id=value, vt=0),
        ],
        ids=[
            "delete_message",
            "change_visibility",
            "rsmq.delete_message",
            "rsmq.change_message_visibility",
        ],
    )
    async def test_form(self, rsmq, queue, refused, call):
        """An id is a str of 1 to 128 letters, digits, colons, hyphens and underscores."""
        for id in (
            "",
            " ",
            "a b",
            "a\n",
            "x" * 129,
            "é",
            "a\0b",
            "a/b",
            5,
            None,
            b"abc",
            True,
            ["a"],
        ):
            async with refused("id", id, "1 to 128 characters of A-Z a-z 0-9 : _ -"):
                await call(rsmq, queue, id)

    async def test_one_of_many(self, queue, refused):
        """delete_many with one id that is none deletes nothing."""
        good, bad = await queue.send("x"), "not an id"
        async with refused("ids", bad, "1 to 128 characters"):
            await queue.delete_many([good, bad])

    async def test_one_id_for_many(self, queue, refused):
        """delete_many takes many ids, not one."""
        id = await queue.send("x")
        for ids in (id, None, 5):
            async with refused("ids", ids, "must be an iterable of ids"):
                await queue.delete_many(ids)

    async def test_longest(self, queue):
        """128 characters are not too long."""
        assert await queue.delete_message("x" * 128) is False
        assert await queue.change_visibility("x" * 128, 5) is False


class TestClients:
    async def test_ns(self, refused):
        """The namespace is a str that is not empty, and that UTF-8 can say."""
        for ns in ("", None, 5, True, b"rsmq", [], "\ud800", "redis://:secret@host"):
            async with refused("ns", ns, "must be a non-empty str"):
                AsyncRSMQ(ns=ns)
            async with refused("ns", ns, "must be a non-empty str"):
                AsyncRSMQ.from_url("redis://", ns=ns)

    async def test_client(self, refused):
        """A client that is passed is a redis.asyncio.Redis; one that is none is not shown, it may
        be a URL.
        """
        for client in (
            redis.Redis(),
            redis.asyncio.ConnectionPool(),
            "redis://127.0.0.1",
            5,
            True,
            redis.asyncio.Redis,
        ):
            async with refused("client", client, "AsyncRSMQ.from_url"):
                AsyncRSMQ(client)

    async def test_client_of_a_cluster(self, refused):
        """Clusters are not supported yet; the error says what to do."""
        for client in (
            redis.RedisCluster.__new__(redis.RedisCluster),
            redis.asyncio.RedisCluster(host="host"),
        ):
            async with refused("client", client, 'ns="{rsmq}"'):
                AsyncRSMQ(client)

    async def test_client_that_cannot_connect(self, refused):
        """A client that was made with what redis-py does not know is refused here, not by the first
        call.
        """
        for client, accepted in [
            (redis.asyncio.Redis.from_url("redis://host?socket_timeot=5"), "'socket_timeout'"),
            (redis.asyncio.Redis(host="redis://:secret@host"), "AsyncRSMQ.from_url"),
            (redis.asyncio.Redis(port="port"), "refused by redis-py"),
        ]:
            async with refused("client", client, accepted):
                AsyncRSMQ(client)

    @pytest.mark.parametrize(
        "host", ["redis://:secret@host", "user:secret@host", "host/0", "a b", "", 5]
    )
    async def test_host(self, refused, host):
        """A host is a name or an address; what is none is not shown, it may be a URL."""
        async with refused("host", host, "AsyncRSMQ.from_url"):
            AsyncRSMQ(host=host)

    @pytest.mark.parametrize(
        "host", ["127.0.0.1", "::1", "fe80::1%eth0", "my_redis", "redis-0.svc.local.", "hôte"]
    )
    async def test_good_hosts(self, host):
        """Names and addresses of all kinds are hosts."""
        assert host in repr(AsyncRSMQ(host=host))

    async def test_client_and_its_options(self, server):
        """Options of a connection are for a client of our own."""
        async with redis.asyncio.Redis(unix_socket_path=server.socket) as client:
            with pytest.raises(InvalidParameterValue) as caught:
                AsyncRSMQ(client, db=3)
        assert (caught.value.parameter, caught.value.value) == ("redis_options", ["db"])

    @pytest.mark.parametrize(
        "url",
        [
            *(
                "http://user:secret@host/",
                "redis+unknown://:secret@host:6379/0",
                "user:secret@host",
                ":secret@host",
            ),
            *("//:secret@host", "localhost", "localhost:6379", "", "redis", "memory://"),
            *("embedded://host", "embedded:///folder?x=secret", None, 5, b"redis://:secret@host"),
        ],
    )
    async def test_url(self, url):
        """A URL of another kind is refused; the error says which there are, and no password."""
        reason = self.refused_url(url)
        schemes = ("redis://", "rediss://", "valkey://", "valkeys://", "unix://", "embedded://")
        assert all(scheme in reason for scheme in schemes)

    @pytest.mark.parametrize(
        ("url", "wrong"),
        [
            *(
                (f"redis://:secret@host{port}", "has a port")
                for port in (":port", ":99999", ":-1", ":6379.5")
            ),
            *(
                (f"redis://:secret@{host}", "has a host")
                for host in ("[::1", "::1]", "h\u2100", "a b", "a%2Fb")
            ),
            *(
                (f"redis://:secret@host{path}", "has a path")
                for path in ("/x", "/0/1", "/-1", "/1.5")
            ),
            *((f"redis://:secret{cut}", "has a port") for cut in ("", "/", "?")),
            ("unix://:secret@host/socket", "has a host"),
            ("unix://host/socket", "has a host"),
        ],
    )
    async def test_part_of_url(self, url, wrong):
        """The error about a URL says which part of it is wrong, and no password, wherever special
        characters put it.
        """
        reason = self.refused_url(url)
        assert reason.startswith(wrong)
        assert "percent-encode the password" in reason

    @pytest.mark.parametrize("scheme", ["redis://", "rediss://", "valkey://", "unix://"])
    @pytest.mark.parametrize("user", ["", "user", "user%40"])
    @pytest.mark.parametrize(
        "password",
        [
            *(
                "p@ss#secret",
                "57#secret",
                "12/34secret",
                "x?secret",
                "secret[",
                "]secret",
                "a[secret]b",
                "#secret",
                "/secret",
            ),
            *(
                "?secret",
                "12?secret",
                "12?a=secret",
                "12/secret#?",
                "secret\nsecret",
                "@/secret",
                "s\u2100secret",
                "%/secret",
            ),
            *("secret/@", "secret?client_name=x", "0/secret", "1?db=1#secret", "secret\t"),
        ],
    )
    async def test_password_that_is_not_encoded(self, scheme, user, password):
        """A password whose characters cut its URL to pieces is refused as such: no piece is shown,
        or looked up.
        """
        end = "/socket" if scheme == "unix://" else "localhost:6379/0"
        assert "percent-encode the password" in self.refused_url(f"{scheme}{user}:{password}@{end}")
        quoted = AsyncRSMQ.from_url(f"{scheme}{user}:{quote(password, safe='')}@{end}")
        assert quoted._node.target._pool.connection_kwargs["password"] == password

    @pytest.mark.parametrize(
        "password", ["s@secret", "s:secret", "100%", "s%zz", "é\U0001f407", "a b", "p=&;$,+!*'()"]
    )
    async def test_password_that_need_not_be_encoded(self, password):
        """Whatever else stands in a password, it is the password, and shown nowhere."""
        rsmq = AsyncRSMQ.from_url(f"redis://u:{password}@localhost/3")
        assert rsmq._node.target._pool.connection_kwargs["password"] == password
        assert repr(rsmq) == "<AsyncRSMQ 'rsmq' at localhost:6379>"

    async def test_whole_user_info_encoded(self):
        """Too much may be encoded, too: then all of it would be the host."""
        assert "percent-encode the password" in self.refused_url(
            "redis://user%3Asecret%40host:6379/0"
        )

    @pytest.mark.parametrize(
        ("url", "said"),
        [
            (
                "redis://:secret@host?socket_timeot=5",
                "'socket_timeot', which is not known; the nearest that is: 'socket_timeout'",
            ),
            (
                "redis://:secret@host?pasword=secret",
                "'pasword', which is not known; the nearest that is: 'password'",
            ),
            ("redis://:secret@host?x-y=secret", "which is not known"),
            ("redis://:secret@host?ssl_cert_reqs=none", "'ssl_cert_reqs', which needs TLS"),
            ("unix://:secret@/socket?ssl=secret", "'ssl', which needs TLS"),
            (
                "unix://:secret@/socket?port=1",
                "'port', which does not belong to this kind of connection",
            ),
            ("redis://:secret@host?ns=secret", "'ns', which belongs beside the URL"),
            (
                "redis://:secret@host?connect_timeout=5",
                "'connect_timeout', which belongs beside the URL",
            ),
            ("redis://:secret@host?db", "'db', which must have a value"),
            ("redis://:secret@host?db=x", "'db', which is refused"),
            ("redis://:secret@host?db=-1", "'db', which must be"),
            ("rediss://:secret@host?socket_timeout=x&db=1", "'socket_timeout', which is refused"),
            ("unix://:secret@/socket?db=secret", "'db', which is refused"),
            ("redis://:secret@host?max_connections=-1", "'max_connections', which is refused"),
            ("redis://:secret@host?protocol=7", "'protocol', which is refused"),
            ("redis://:secret@host?encoding=none", "'encoding', which must be"),
            ("redis://host?credential_provider=x", "'credential_provider', which must be"),
            ("redis://:secret@host?retry=secret", "'retry', which is refused"),
            ("rediss://:secret@host?ssl_ca_certs=/missing", "'ssl_ca_certs', which is refused"),
            ("rediss://:secret@host?ssl_ciphers=none", "'ssl_ciphers', which is refused"),
            ("rediss://:secret@host?ssl_cert_reqs=secret", "'ssl_cert_reqs', which is refused"),
        ],
    )
    async def test_option_in_url(self, url, said):
        """An option that is unknown, misplaced, or has a value that cannot be, is named when the
        client is made.
        """
        assert said in self.refused_url(url)

    def refused_url(self, url):
        with pytest.raises(InvalidParameterValue) as caught:
            AsyncRSMQ.from_url(url)
        error = caught.value
        assert error.parameter == "url"
        assert str(error).startswith("url=")
        assert "secret" not in f"{error} {error!r} {error.args} {error.__context__!r}"
        return error.reason

    @pytest.mark.parametrize("scheme", ["redis", "rediss", "valkey", "valkeys", "REDIS", "Valkey"])
    async def test_schemes(self, scheme):
        """valkey:// is redis://, and valkeys:// is rediss://."""
        pool = AsyncRSMQ.from_url(f"{scheme}://host:1/2?db=3")._node.target._pool
        assert issubclass(pool.connection_class, redis.asyncio.SSLConnection) == (
            scheme in ("rediss", "valkeys")
        )
        assert (pool.connection_kwargs["host"], pool.connection_kwargs["db"]) == ("host", 3)

    @pytest.mark.parametrize(
        ("options", "parameter", "said"),
        [
            (
                {"pasword": "secret"},
                "option",
                "'pasword': is not known; the nearest that is: 'password'",
            ),
            ({"no_such_thing_at_all": "secret"}, "option", "is not known to redis-py"),
            ({"ssl_cert_reqs": "none"}, "option", "needs TLS"),
            ({"max_connections": -1}, "max_connections", "max_connections=-1"),
            ({"socket_timeout": "x"}, "socket_timeout", "socket_timeout='x'"),
            ({"db": "x"}, "db", "must be the number"),
            ({"protocol": 7}, "protocol", "refused by redis-py"),
            ({"password": "secret\udc80"}, "password", "UTF-8"),
            ({"password": ["secret"]}, "password", "<list>"),
            ({"username": "secret\udc80"}, "username", "UTF-8"),
        ],
    )
    async def test_option(self, options, parameter, said):
        """So is an option that is given by its name, and no value that may be secret is shown."""
        for make in (AsyncRSMQ, partial(AsyncRSMQ.from_url, "redis://")):
            with pytest.raises(InvalidParameterValue) as caught:
                make(**options)
            assert caught.value.parameter == parameter
            assert said in str(caught.value)
            assert "secret" not in f"{caught.value} {caught.value!r} {caught.value.__context__!r}"

    async def test_tls_that_is_off(self):
        """What belongs to TLS may be given where TLS is said to be off."""
        AsyncRSMQ(ssl=False, ssl_cert_reqs="none")

    async def test_combination(self):
        """Options that redis-py refuses together are named together."""
        provider = redis.UsernamePasswordCredentialProvider("user", "secret")
        with pytest.raises(InvalidParameterValue, match="combination") as caught:
            AsyncRSMQ(password="secret", credential_provider=provider)
        assert "secret" not in str(caught.value)


OPERATIONS = {
    "attributes": lambda queue: queue.attributes(),
    "set_attributes": lambda queue: queue.set_attributes(vt=1),
    "send": lambda queue: queue.send("x"),
    "send_delayed": lambda queue: queue.send("x", delay=5),
    "send_many": lambda queue: queue.send_many(["x", "y"]),
    "receive": lambda queue: queue.receive(),
    "receive_vt": lambda queue: queue.receive(vt=5),
    "receive_wait": lambda queue: queue.receive(wait=1000),
    "receive_many": lambda queue: queue.receive_many(5, wait=1000),
    "pop": lambda queue: queue.pop(),
    "pop_wait": lambda queue: queue.pop(wait=1000),
    "messages": lambda queue: anext(queue.messages()),
    "messages_prefetch": lambda queue: anext(queue.messages(prefetch=5)),
    "messages_pop": lambda queue: anext(queue.messages(pop=True)),
    "peek": lambda queue: queue.peek(),
    "purge": lambda queue: queue.purge(),
    "delete": lambda queue: queue.delete(),
}


class TestQueues:
    @pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
    async def test_unknown(self, rsmq, unchanged, operation):
        """Every operation on a queue that does not exist raises QueueDoesNotExist at once, and
        makes nothing.
        """
        with anyio.fail_after(PATIENCE), pytest.raises(QueueDoesNotExist) as caught:
            await operation(rsmq.queue("none"))
        assert caught.value.qname == "none"
        assert "'none'" in str(caught.value)

    @pytest.mark.parametrize(
        "name",
        sorted(
            METHODS.keys()
            - {
                "queue",
                "create_queue",
                "delete_queue",
                "messages",
                "delete_message",
                "change_message_visibility",
            }
        ),
    )
    async def test_unknown_by_method(self, rsmq, unchanged, name):
        """So do RSMQ's own methods."""
        with pytest.raises(QueueDoesNotExist) as caught:
            await METHODS[name](rsmq, "none")
        assert caught.value.qname == "none"

    async def test_unknown_among_known(self, rsmq, queue):
        """It is that queue's callers who hear of it, and nobody else's."""
        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(queue.send, "x")
            for _ in range(5):
                with pytest.raises(QueueDoesNotExist):
                    await rsmq.queue("none").send("x")
        assert (await queue.attributes()).msgs == 5

    async def test_settling_in_a_queue_that_is_gone(self, server, rsmq, queue):
        """Where there is no queue there is no message: whatever settles one returns False, and
        makes nothing.
        """
        await queue.send("x")
        message = await queue.receive()
        await queue.delete()
        for settling in (
            *(message.delete(), message.extend(5), message.release()),
            *(queue.delete_message(message.id), queue.delete_message(message.receipt)),
            *(queue.change_visibility(message.id, 5), queue.change_visibility(message.receipt, 0)),
            rsmq.delete_message(qname="jobs", id=message.id),
            rsmq.change_message_visibility(qname="jobs", id=message.id, vt=5),
        ):
            assert await settling is False
        assert await queue.delete_many([message.id, message.receipt]) == [False, False]
        assert server.redis.keys("*") == []

    @pytest.mark.parametrize("ending", ["succeeds", "fails", "is rejected"])
    async def test_a_worker_whose_queue_is_gone(self, server, queue, ending):
        """A worker's message whose queue is gone counts as a lost lease, however its handler
        ends.
        """
        await queue.create(exist_ok=True)
        begun, gone = asyncio.Event(), asyncio.Event()

        async def handler(message):
            begun.set()
            await gone.wait()
            if ending != "succeeds":
                raise Reject if ending == "is rejected" else KeyError

        worker = queue.worker(handler)
        await queue.send("x")
        with suppress(QueueDoesNotExist):  # of the next claim
            async with worker:
                await begun.wait()
                await queue.delete()
                gone.set()
                await wait_until(lambda: worker.stats.lost_leases == 1)
        assert worker.stats.in_flight == 0
        assert server.redis.keys("*") == []

    async def test_made_twice(self, rsmq, queue, unchanged):
        """A queue that exists is not made again: its settings stay."""
        for make in (
            lambda: queue.create(vt=99),
            lambda: rsmq.queue("jobs").create(),
            lambda: rsmq.create_queue(qname="jobs", delay=5),
        ):
            with pytest.raises(QueueAlreadyExists) as caught:
                await make()
            assert caught.value.qname == "jobs"
            assert "'jobs'" in str(caught.value)

    async def test_made_twice_at_the_same_time(self, server, rsmq):
        """Of two that make a queue at the same time, one is told that it exists."""
        outcomes = []

        async def make(vt):
            try:
                outcomes.append((vt, await rsmq.create_queue(qname="new", vt=vt)))
            except QueueAlreadyExists:
                outcomes.append((vt, False))

        async with anyio.create_task_group() as tasks:
            for vt in (10, 20):
                tasks.start_soon(make, vt)
        (winner,) = [vt for vt, made in outcomes if made]
        assert len(outcomes) == 2
        assert int(server.redis.hget("rsmq:new:Q", "vt")) == winner
