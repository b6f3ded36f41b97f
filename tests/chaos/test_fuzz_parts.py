"""The parts that take in what comes from outside, each by itself: whatever it is, it is read or
refused.
"""

import asyncio
import contextlib
import json
import math
import socket
import time
from dataclasses import dataclass
from typing import Any, Literal

import hiredis
import pytest
import redis
from aiorsmq import BYTES, JSON, TEXT, MsgspecCodec, PydanticCodec
from aiorsmq._protocol import id_time
from aiorsmq._server.clock import Clock
from aiorsmq._server.lane import Lane
from aiorsmq._server.wire import TransportWire
from hypothesis import strategies as st
from redis.asyncio.connection import Connection

from support import PATIENCE

replies = st.recursive(
    st.sampled_from(
        [
            b"+OK\r\n",
            b":1\r\n",
            b"$-1\r\n",
            b"*-1\r\n",
            b"$3\r\nabc\r\n",
            b"-ERR \xff\r\n",
            b"*0\r\n",
            b"_\r\n",
        ]
    ),
    lambda inner: (
        st.lists(inner, max_size=3).flatmap(
            lambda some: st.sampled_from([b"*", b">", b"~"]).map(
                lambda kind: kind + b"%d\r\n" % len(some) + b"".join(some)
            )
        )
        | st.tuples(inner, inner).map(lambda pair: b"%1\r\n" + b"".join(pair))
    ),
    max_leaves=5,
)
noise = st.lists(replies | st.binary(max_size=12), max_size=6).map(b"".join)


def test_replies(runner, fuzz):
    """Whatever comes in where replies are awaited, a call gets one or redis-py's error, and the
    loop no exception.
    """

    async def converse(said, calls, cut):
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        with theirs:
            transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
            reader = hiredis.Reader(
                protocolError=redis.InvalidResponse, replyError=redis.ResponseError
            )
            pipeline = Lane(TransportWire(Connection(), transport, reader, pushes=False))
            answers = []
            for _ in range(calls):
                pipeline.call(answers.append, "PING")
            theirs.sendall(said[:cut])
            await asyncio.sleep(0)
            theirs.sendall(said[cut:])
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                while not pipeline.lost:
                    await asyncio.sleep(0)
        assert pipeline.lost
        assert len(answers) == calls
        for answer in answers:
            assert not isinstance(answer, Exception) or isinstance(answer, redis.RedisError)

    def check(said, calls, cut):
        runner.run(converse(said, calls, cut))

    fuzz(check, many=3, said=noise, calls=st.integers(0, 4), cut=st.integers(0, 20))


def test_id_time(fuzz):
    """The time in an id is one that a datetime can say, or none."""

    def check(id):
        seconds = id_time(id)
        assert seconds is None or 0 <= seconds < 4_102_444_800

    fuzz(check, many=10, id=st.text(max_size=40) | st.text(min_size=32, max_size=32))


def test_clock(fuzz):
    """Whatever replies tell of the time, ids of one client ascend."""

    def check(told):
        clock, latest = Clock(), ""
        for seconds, microseconds, ago, count in told:
            clock.learn(b"%d" % seconds, b"%d" % microseconds, time.monotonic() - ago)
            _, ids = clock.mint(count)
            assert ids == sorted(set(ids))
            assert not ids or ids[0] > latest
            latest = ids[-1] if ids else latest

    moments = st.tuples(
        st.integers(10**9, 3_600_000_000),
        st.integers(0, 999_999),
        st.floats(0, 100),
        st.integers(1, 9),
    )
    fuzz(check, told=st.lists(moments, max_size=10))


texts = st.text(alphabet=st.characters(codec="utf-8"))
values = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
)
any_texts = texts | st.text(alphabet='a"\\[\ud83d\udc07é')  # halves of surrogate pairs too
any_floats = st.floats() | st.sampled_from([math.nan, math.inf, -math.inf])
any_values = values | any_floats | any_texts
raws = (
    st.binary()
    | st.text(alphabet='[]{}",:0123456789.eE+-truefalsnNaIity\\ud8c ').map(str.encode)
    | st.recursive(
        any_values, lambda inner: st.lists(inner) | st.dictionaries(any_texts, inner), max_leaves=5
    ).map(
        lambda value: json.dumps(value).encode()  # as others write: NaN, and escapes of halves
    )
)


def check_both_ways(codec, raw):
    """What a codec reads it writes, and reads as it was."""
    try:
        body = codec.decode(raw)
    except ValueError:
        return
    assert codec.decode(codec.encode(body)) == body


def check_body(codec, body):
    """A body is refused, or read as it was sent."""
    try:
        raw = codec.encode(body)
    except ValueError:
        return
    assert codec.decode(raw) == body


def test_codecs(fuzz):
    """TEXT and BYTES read any bytes; JSON reads them or raises ValueError; what was read or sent is
    read as it was.
    """

    def check(raw, text, value, any_text, any_value):
        assert BYTES.decode(raw) == raw
        assert TEXT.decode(TEXT.encode(text)) == text
        assert JSON.decode(JSON.encode(value)) == value
        check_body(TEXT, any_text)
        check_body(JSON, any_value)
        for codec in (TEXT, BYTES, JSON):
            check_both_ways(codec, raw)

    def trees(leaves, keys):
        return st.recursive(
            leaves, lambda inner: st.lists(inner) | st.dictionaries(keys, inner), max_leaves=5
        )

    fuzz(
        check,
        many=5,
        raw=raws,
        text=texts,
        value=trees(values, texts),
        any_text=any_texts,
        any_value=trees(any_values, any_texts),
    )


@dataclass
class Job:
    name: str
    kind: Literal["a", "b"] | None
    counts: dict[str, int | float]
    after: list["Job"]


@pytest.mark.parametrize(
    "codec", [MsgspecCodec(Job), PydanticCodec(Job)], ids=["msgspec", "pydantic"]
)
def test_typed_codecs(fuzz, codec):
    """Whatever the bytes, a typed codec reads them as its type, or raises a ValueError; what it
    writes it reads.
    """

    def check(raw, value, job):
        for text in (raw, JSON.encode(value)):
            with contextlib.suppress(ValueError):
                assert isinstance(codec.decode(text), Job)
        assert codec.decode(codec.encode(job)) == job

    jobs = st.deferred(
        lambda: st.builds(
            Job, texts, st.sampled_from(["a", "b", None]), counts, st.lists(jobs, max_size=2)
        )
    )
    counts = st.dictionaries(texts, st.integers(-(2**63), 2**64 - 1), max_size=2)
    almost = st.fixed_dictionaries(
        {
            "name": values,
            "kind": values,
            "counts": values | st.dictionaries(texts, values, max_size=2),
        },
        optional={"after": values | st.just([]), "more": values},
    )
    fuzz(check, many=2, raw=raws, value=almost, job=jobs)


@pytest.mark.parametrize("codec", [MsgspecCodec, PydanticCodec], ids=["msgspec", "pydantic"])
@pytest.mark.parametrize(
    ("type", "bodies"),
    [
        (Any, any_values | st.lists(any_values) | st.dictionaries(any_texts, any_values)),
        (float | None, any_floats | st.none()),
        (dict[str, float | None], st.dictionaries(any_texts, any_floats | st.none())),
        (list[int | str | None], st.lists(st.integers() | any_texts | st.none())),
    ],
    ids=["any", "float", "floats", "list"],
)
def test_typed_codecs_read_and_write_alike(fuzz, codec, type, bodies):
    """What a typed codec reads it writes, and reads as it was; a body is refused, or read as it
    was.
    """
    codec = codec(type)

    def check(raw, body):
        check_both_ways(codec, raw)
        check_body(codec, body)

    written = bodies.map(lambda body: json.dumps(body).encode())
    fuzz(check, many=2, raw=raws | written, body=bodies)
