"""What a call refuses before anything is written: the error names the parameter, its value, and
what is accepted.
"""

import math
import traceback
from datetime import timedelta
from decimal import Decimal
from functools import partial
from inspect import isawaitable

import anyio
import pytest
from aiorsmq import (
    BYTES,
    JSON,
    AsyncRSMQ,
    InvalidParameterValue,
    MessageTooLong,
    fsync,
    replicas,
)

from bad_input.calls import ANY_ID, METHODS
from support import PATIENCE, keyspace


async def done(result):
    """Some methods are coroutines, some plain functions."""
    return await result if isawaitable(result) else result


methods = pytest.mark.parametrize(
    ("method", "parameter"),
    [(method, "name" if name == "queue" else "qname") for name, method in METHODS.items()],
    ids=METHODS,
)


class TestQnames:
    FORM = "1 to 160 characters from A-Z a-z 0-9 _ -"

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
        async with refused(parameter, qname, "is reserved"):
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
    "ensure_vt": ("vt", lambda queue, message, value: queue.ensure(vt=value)),
    "ensure_delay": ("delay", lambda queue, message, value: queue.ensure(delay=value)),
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
    "ensure_queue_vt": ("vt", lambda rsmq, value: rsmq.ensure_queue(qname="jobs", vt=value)),
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


NO_NONE = ("wait", "change", "extend", "release")


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
            async with refused("poll_interval", value, "0.01 to 9999999"):
                AsyncRSMQ(poll_interval=value)
        for value in (0, 0.009, timedelta(0)):
            async with refused("poll_interval", value, "0.01"):
                AsyncRSMQ(poll_interval=value)
        AsyncRSMQ(poll_interval=0.01)


class TestConfirm:
    async def test_replicas(self, refused):
        """The number of replicas is a positive int, the timeout a time of up to a minute: 0 would
        be for ever.
        """
        for n in (0, -1, 1001, 1.0, True, "1", None):
            async with refused("n", n, "int from 1 to 1000"):
                replicas(n, 1)
        for confirm in (partial(replicas, 1), fsync):
            for timeout in (0, 0.0, timedelta(0), 60.1, 10_000):
                async with refused("timeout", timeout, "more than 0 and up to 60"):
                    confirm(timeout)
            for timeout in (-1, "1", True, None, math.nan, math.inf):
                async with refused("timeout", timeout, "more than 0 and up to 60"):
                    confirm(timeout)

    def test_milliseconds(self):
        """The least time is not rounded to none."""
        assert replicas(2, 1e-9).command == ("WAIT", 2, 1)
        assert fsync(timedelta(seconds=1.5)).command == ("WAITAOF", 1, 0, 1500)

    async def test_deadline(self, server, queue, rsmq, refused):
        """A confirmation must be able to fail before the call does."""
        long = replicas(1, 30)
        async with refused("confirm", long, "below the client's deadline of 30 s"):
            await queue.send("x", confirm=long)
        async with refused("confirm", long, "deadline"):
            await queue.send_many([], confirm=long)
        async with refused("confirm", long, "deadline"):
            await rsmq.send_message(qname="jobs", message="x", confirm=long)
        async with refused("confirm", long, "deadline"):
            rsmq.queue("jobs", confirm=long)
        async with refused("confirm", long, "deadline"):
            AsyncRSMQ.from_url(server.url, confirm=long)
        short = fsync(1)
        async with refused("confirm", short, "deadline of 1 s"):
            AsyncRSMQ.from_url(server.url, deadline=1, confirm=short)
        AsyncRSMQ.from_url(server.url, deadline=31, confirm=long)


class TestNumbers:
    async def test_maxsize(self, rsmq, queue, refused):
        """maxsize is 1024 to 65536 bytes, or -1."""
        for value in (1023, 65537, 0, -2, 2**70, True, "1024", b"1024", 1024.0, math.nan, []):
            async with refused("maxsize", value, "from 1024 to 65536 bytes, or -1"):
                await rsmq.create_queue(qname="new", maxsize=value)
            async with refused("maxsize", value, "from 1024 to 65536 bytes, or -1"):
                await queue.set_attributes(vt=1, maxsize=value)
            async with refused("maxsize", value, "from 1024 to 65536 bytes, or -1"):
                await queue.ensure(maxsize=value)

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
        """A count is an int of at least 1; `prefetch` at least 0, `peek` at most 1000."""
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
        """A message is a str or bytes; the error calls it as the method does, and says how to send
        others.
        """
        reason = (
            "must be str or bytes; for other bodies give the queue a codec, "
            "as in rsmq.queue(name, codec=JSON)"
        )
        async with refused("body", body, reason):
            await queue.send(body)
        async with refused("bodies", body, reason):
            await queue.send_many(["x", body])
        async with refused("message", body, reason):
            await rsmq.send_message(qname="jobs", message=body)

    async def test_surrogates(self, queue, refused):
        """A str that UTF-8 cannot say is no message."""
        body = "a\ud800"
        async with refused("body", body, "lone surrogate"):
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
            async with refused("id", id, "1 to 128 characters from A-Z a-z 0-9 : _ -"):
                await call(rsmq, queue, id)

    async def test_one_of_many(self, queue, refused):
        """delete_many deletes nothing if one of the ids is invalid."""
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
