"""Whatever comes in from outside is read, or refused with the error that is documented."""

import contextlib
import io
import math
import re
import sys
from datetime import timedelta
from decimal import Decimal
from inspect import isawaitable
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest
from aiorsmq import (
    BYTES,
    JSON,
    TEXT,
    AsyncRSMQ,
    InvalidParameterValue,
    MessageTooLong,
    QueueAlreadyExists,
)
from aiorsmq.__main__ import main
from hypothesis import strategies as st

SECRET = "s3cr3t"
ATTRIBUTES = ("vt", "delay", "maxsize", "totalrecv", "totalsent", "created", "modified")


@pytest.fixture
def rsmq(running_server, runner):
    rsmq = AsyncRSMQ.from_url(running_server.url)
    yield rsmq
    runner.run(rsmq.aclose())


def is_sensible(message):
    """All that a message says of itself can be read."""
    assert message.receive_count >= 0
    assert message.sent_at.tzinfo
    assert message.visible_until.tzinfo
    assert message.first_received_at is None or message.first_received_at.tzinfo
    assert repr(message)


numbers = st.one_of(
    st.integers(-(2**70), 2**70).map(str),
    st.floats().map(str),
    st.sampled_from(
        [
            "0x1f",
            "1e400",
            "-0",
            "+5",
            " 5",
            "5 ",
            "1_0",
            "Infinity",
            "-nan",
            "0b1",
            "1.",
            ".5",
            "\u0661",
        ]
    ),
).map(str.encode)
fields = st.none() | numbers | st.binary(max_size=40)
message_ids = st.binary(min_size=1, max_size=40) | st.from_regex(
    r"[0-9a-zA-Z]{32}", fullmatch=True
).map(str.encode)
scores = st.floats(allow_nan=False) | st.integers(-1000, 1000).map(lambda off: 1.7e12 + off)


class Foreign(NamedTuple):
    """A message as another program may have left it."""

    score: float
    body: bytes | None
    rc: bytes | None
    fr: bytes | None


def test_keys(running_server, runner, rsmq, fuzz):
    """Whatever stands in a queue's keys, all that is visible and has a body comes out, in order,
    and can be settled.
    """
    queue, redis = rsmq.queue("jobs", codec=BYTES), running_server.redis

    async def drain():
        """Each is received and deleted, every second one after its lease was extended."""
        assert repr(await queue.attributes())
        for message in await queue.peek(100):
            is_sensible(message)
        drained = []
        while message := await queue.receive(vt=1000):
            is_sensible(message)
            drained.append((message.id.encode(errors="surrogateescape"), message.body))
            assert await (message.extend(2000) if len(drained) % 2 else queue.send(b"", delay=5000))
            assert await message.delete()
        await queue.set_attributes(maxsize=-1)
        assert (await queue.attributes()).hiddenmsgs == redis.zcard("rsmq:jobs")
        await queue.purge()
        assert redis.zcard("rsmq:jobs") == 0
        return drained

    def check(attributes, messages):
        redis.flushall()
        given = {"vt": "30"} | {
            name: value for name, value in attributes.items() if value is not None
        }
        redis.hset("rsmq:jobs:Q", mapping=given)
        taken = {name.encode() for name in ATTRIBUTES}
        messages = {
            id: m
            for id, m in messages.items()
            if id not in taken and not id.endswith((b":rc", b":fr"))
        }
        for id, (score, *values) in messages.items():
            redis.zadd("rsmq:jobs", {id: score})
            for name, value in zip((id, id + b":rc", id + b":fr"), values, strict=True):
                if value is not None:
                    redis.hset("rsmq:jobs:Q", name, value)
        due = sorted(
            (m.score, id) for id, m in messages.items() if m.score <= redis.time()[0] * 1000
        )
        assert runner.run(drain()) == [
            (id, messages[id].body) for _, id in due if messages[id].body is not None
        ]
        assert set(redis.hkeys("rsmq:jobs:Q")) <= taken

    messages = st.builds(Foreign, scores, st.none() | st.binary(max_size=40), fields, fields)
    fuzz(
        check,
        attributes=st.fixed_dictionaries(dict.fromkeys(ATTRIBUTES, fields)),
        messages=st.dictionaries(message_ids, messages, max_size=5),
    )


schemes = st.sampled_from(
    ["redis", "rediss", "unix", "embedded", "http", "", "REDIS", "redis+sentinel"]
)
urls = st.one_of(
    st.text(),
    st.builds(
        "{}:{}{}:{}@{}:{}/{}?{}#{}".format,
        schemes,
        st.sampled_from(["//", "/", "", "///"]),
        st.text(max_size=5),
        st.text(max_size=3).map(lambda text: f"{text}{SECRET}{text[::-1]}"),
        st.sampled_from(["localhost", "[::1]", "[", "]", "::1", "", "ho st", "\u2100"]),
        st.sampled_from(["6379", "", "x", "99999", "-1", "\u0661"]),
        st.text(max_size=5),
        st.text(max_size=8)
        | st.sampled_from(
            ["db=x", "socket_timeout=x", "health_check_interval=", "max_connections=x"]
        ),
        st.text(max_size=3),
    ),
)


def is_silent(error):
    """Neither an error nor one that it came from says the password."""
    while error is not None:
        assert SECRET not in f"{error} {error!r} {error.args}"
        error = error.__cause__ or error.__context__


def test_urls(fuzz):
    """A URL is taken, or refused by InvalidParameterValue; no error and no repr says the
    password.
    """

    def check(url):
        try:
            rsmq = AsyncRSMQ.from_url(url)
        except InvalidParameterValue as refused:
            is_silent(refused)
        else:
            assert SECRET not in repr(rsmq) or SECRET not in (urlsplit(url).password or "")

    fuzz(check, many=5, url=urls)


def is_said(error):
    assert str(error)
    assert repr(error)


anything = st.recursive(
    st.one_of(
        *(
            st.none(),
            st.booleans(),
            st.integers(),
            st.floats(),
            st.text(max_size=20),
            st.binary(max_size=20),
        ),
        *(
            st.complex_numbers(),
            st.decimals(),
            st.fractions(),
            st.timedeltas(),
            st.datetimes(),
            st.uuids(),
        ),
        st.sampled_from(
            [
                10**400,
                math.nan,
                -math.inf,
                object(),
                str,
                timedelta.max,
                Decimal("sNaN"),
                "\ud800",
                range(3),
            ]
        ),
    ),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=4,
)
CALLS = {
    "create": lambda queue, a, b: queue.create(vt=a, delay=b),
    "create maxsize": lambda queue, a, b: queue.create(maxsize=a, exist_ok=True),
    "ensure": lambda queue, a, b: queue.ensure(vt=a, maxsize=b, dead_letter_queue=a),
    "set_attributes": lambda queue, a, b: queue.set_attributes(vt=a, delay=b, maxsize=a),
    "send": lambda queue, a, b: queue.send(a, delay=b),
    "send_many": lambda queue, a, b: queue.send_many([a, a], delay=b),
    "send_many of": lambda queue, a, b: queue.send_many(a),
    "receive": lambda queue, a, b: queue.receive(vt=a),
    "receive_many": lambda queue, a, b: queue.receive_many(a, vt=b),
    "messages": lambda queue, a, b: queue.messages(vt=a, prefetch=b),
    "peek": lambda queue, a, b: queue.peek(a),
    "change_visibility": lambda queue, a, b: queue.change_visibility(a, b),
    "delete_message": lambda queue, a, b: queue.delete_message(a),
    "delete_many": lambda queue, a, b: queue.delete_many([a, b]),
    "delete_many of": lambda queue, a, b: queue.delete_many(a),
}


def test_parameters(running_server, runner, rsmq, fuzz):
    """Any object as any parameter is taken, or refused by InvalidParameterValue."""
    codecs = [TEXT, JSON, BYTES]

    async def call(name, codec, a, b):
        result = CALLS[name](rsmq.queue("jobs", codec=codecs[codec]), a, b)
        return await result if isawaitable(result) else result

    def check(name, codec, a, b):
        running_server.redis.flushall()
        runner.run(rsmq.create_queue(qname="jobs"))
        try:
            runner.run(call(name, codec, a, b))
        except (InvalidParameterValue, MessageTooLong, QueueAlreadyExists) as refused:
            is_said(refused)

    fuzz(
        check,
        many=4,
        name=st.sampled_from([*CALLS]),
        codec=st.integers(0, 2),
        a=anything,
        b=anything,
    )


def test_names(fuzz):
    """Any object as a queue's name, its codec, a namespace or the poll interval is taken, or
    refused by InvalidParameterValue.
    """

    def check(parameter, value):
        try:
            if parameter == "queue":
                AsyncRSMQ().queue(value)
            elif parameter == "codec":
                AsyncRSMQ().queue("jobs", codec=value)
            else:
                AsyncRSMQ(**{parameter: value})
        except InvalidParameterValue as refused:
            is_said(refused)

    fuzz(
        check,
        parameter=st.sampled_from(["queue", "codec", "qname", "ns", "poll_interval", "client"]),
        value=anything,
    )


def test_arguments(fuzz, monkeypatch):
    """`python -m aiorsmq` reports arguments that it does not know, and ends with 2."""

    def check(arguments):
        said = io.StringIO()
        monkeypatch.setattr(sys, "argv", ["aiorsmq", *arguments])
        code = 0
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            try:
                main()
            except SystemExit as ended:
                code = ended.code
        if code == 0:
            assert "Usage: " in said.getvalue()
        else:
            assert code == 2
            assert re.fullmatch(r"aiorsmq: .+\n", said.getvalue())

    words = st.text(max_size=8) | st.sampled_from(
        ["-h", "--help", "--", "-", "dem", "--demo", "@x"]
    )
    fuzz(check, arguments=st.lists(words.filter(lambda word: word != "demo"), max_size=4))
