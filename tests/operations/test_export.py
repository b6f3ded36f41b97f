"""A queue is written as JSON lines, and read from them, byte for byte."""

import asyncio
import itertools
import json
import random

import anyio
import pytest
from aiorsmq import (
    JSON,
    AsyncRSMQ,
    ExportHeader,
    InvalidParameterValue,
    MessageTooLong,
    Place,
    QueueDoesNotExist,
)
from redis.exceptions import ResponseError

from dead_letters.letters import bury
from support import (
    PATIENCE,
    fields_of,
    ids_in,
    keyspace,
    now_ms,
    wait_for_listener,
)

BODIES = [
    b"",
    b"plain",
    bytes(range(256)),
    "ünï©ode \u2028 \u0085 😀 \0 \r\n \\ \" '".encode(),
    b"\xed\xa0\x80",  # a surrogate, which is no UTF-8
    b"\xff",
    b"\xef\xbb\xbfmark",
    b"x" * 65_000,
    b"null",
    b'{"body": "x"}',
]


@pytest.fixture
async def other(rsmq):
    queue = rsmq.queue("other")
    await queue.create()
    return queue


async def export(queue, **options):
    return [line async for line in queue.export(**options)]


def contents(server, qname="jobs"):
    """All that is stored of a queue's messages: scores, bodies, counts and first receipts."""
    ids = server.redis.zrange(f"rsmq:{qname}", 0, -1, withscores=True)
    names = tuple(id for id, _ in ids)
    fields = {
        field: value
        for field, value in fields_of(server, qname).items()
        if field.startswith(names or b" ")
    }
    return ids, fields


class TestExport:
    async def test_lines(self, server, rsmq, queue):
        """The first line says what the queue is; each other one is a message: hidden ones too, in
        the order in which they become visible.
        """
        await queue.set_attributes(vt=7, max_receives=9, dead_letter_queue="dead")
        before = now_ms(server)
        held, first, binary = await queue.send_many(["held", "é", b"\xff"])
        await queue.receive(vt=100)
        unchanged = keyspace(server)
        lines = await export(queue)
        assert keyspace(server) == unchanged
        assert all(line.endswith(b"\n") and line.count(b"\n") == 1 for line in lines)
        header = ExportHeader.parse(lines[0])
        assert (header.queue, header.total) == ("jobs", 3)
        assert before - 1000 <= header.server_time.timestamp() * 1000 <= now_ms(server)
        assert header.settings == {
            "vt": 7,
            "delay": 0,
            "maxsize": 65536,
            "max_receives": 9,
            "dead_letter_queue": "dead",
        }
        await rsmq.queue("copy").create(**header.settings)
        scores = dict(server.redis.zrange("rsmq:jobs", 0, -1, withscores=True))
        new = {"receive_count": 0, "first_received": None}
        assert [json.loads(line) for line in lines[1:]] == [
            {"id": first, "body": "é", "visible_at": scores[first.encode()], **new},
            {"id": binary, "body_base64": "/w==", "visible_at": scores[binary.encode()], **new},
            {
                "id": held,
                "body": "held",
                "receive_count": 1,
                "first_received": int(fields_of(server)[f"{held}:fr".encode()]),
                "visible_at": scores[held.encode()],
            },
        ]
        assert "é" in lines[1].decode()

    async def test_dead_letters(self, server, rsmq, queue):
        """Of a dead letter, the line has its reason as it is stored."""
        await queue.set_attributes(dead_letter_queue="dead")
        (id,) = await bury(queue, "a", reason="ValueError: bad")
        line = json.loads((await export(rsmq.queue("dead")))[1])
        assert line["reason"].encode() == server.redis.hget("rsmq:dead:reasons", id)

    async def test_after(self, queue):
        """It goes on behind a place, and then has no header, so that the lines can be appended."""
        await queue.send_many(map(str, range(500)))
        lines = await export(queue)
        message = json.loads(lines[300])
        place = Place(str(message["visible_at"]), message["id"])
        await queue.delete_message(message["id"])
        assert await export(queue, after=place) == lines[301:]

    async def test_many(self, server, queue):
        """Any number of messages, large ones too, in pages."""
        for n in range(0, 2000, 500):
            await queue.send_many([str(m).ljust(1000) for m in range(n, n + 500)])
        lines = await export(queue)
        assert [json.loads(line)["id"] for line in lines[1:]] == ids_in(server)

    async def test_left(self, queue):
        """The loop can be left at any line."""
        await queue.send_many(map(str, range(500)))
        async for line in queue.export():
            if b'"3"' in line:
                break

    async def test_missing(self, rsmq):
        """A queue that does not exist is named."""
        with pytest.raises(QueueDoesNotExist):
            await export(rsmq.queue("nowhere"))

    @pytest.mark.parametrize("after", [1, "x", ("1", "x"), Place("x", "y"), Place("nan", "y")])
    async def test_bad_input(self, queue, after):
        """Bad input is refused at the call."""
        with pytest.raises(InvalidParameterValue):
            queue.export(after=after)

    async def test_lost_reply(self, queue, far, proxy):
        """A page whose reply is lost is asked for again."""
        await queue.send_many(map(str, range(300)))
        lines = await export(far.queue("jobs"))
        proxy.cut_after_execution = 1
        again = await export(far.queue("jobs"))
        assert proxy.cuts == 1
        assert again[1:] == lines[1:]

    @pytest.mark.foreign_data
    async def test_many_at_one_time(self, server, queue):
        """Thousands that become visible in the same millisecond come once each, though some go
        while it runs.
        """
        ids = [f"{n:032}" for n in range(1000)]
        server.redis.zadd("rsmq:jobs", dict.fromkeys(ids, 5))
        server.redis.hset("rsmq:jobs:Q", mapping=dict.fromkeys(ids, "x"))
        seen = []
        async for line in queue.export():
            if b'"body"' in line:
                seen.append(json.loads(line)["id"])
                await queue.delete_message(seen[-1])
        assert seen == ids


class TestImport:
    async def test_new(self, server, queue, other):
        """By default the messages are new ones: new ids, in the order of the lines, visible at
        once.
        """
        await queue.send_many(["a", "b"])
        await queue.receive(vt=100)
        old = ids_in(server)
        assert await other.import_lines(await export(queue)) == 2
        messages = await other.receive_many(5)
        assert [(message.body, message.receive_count) for message in messages] == [
            ("b", 1),
            ("a", 1),
        ]
        assert not set(old) & set(ids_in(server, "other"))
        assert (await other.attributes()).totalsent == 2

    @pytest.mark.parametrize("as_text", [False, True])
    async def test_kept(self, server, queue, other, as_text):
        """With ids and times kept, all that is stored of each message is the same, byte for
        byte.
        """
        await queue.set_attributes(maxsize=-1)
        await other.set_attributes(maxsize=-1)
        await queue.send_many(BODIES, delay=100)
        await queue.send_many(BODIES)
        await queue.receive_many(7, vt=1000)
        before = contents(server)
        lines = await export(queue)
        if as_text:
            lines = b"".join(lines).decode().split("\n")
        assert await other.import_lines(lines, keep_ids=True, keep_times=True) == 20
        assert contents(server, "other") == before
        assert len(before[1]) == 20 + 2 * 7

    @pytest.mark.foreign_data
    async def test_foreign(self, server, queue, other):
        """So it is for what other programs have written: ids of any length and any bytes, scores of
        any size, fractional ones too.
        """
        scores = [1e300, -1e300, float("inf"), float("-inf"), 0.1, 2.0**53, 2.0**53 + 2, 12345]
        ids = [b"x" * 30, b"\xff\xfe\n", "é".encode(), b"a:b", b"\xed\xa0\x80", b" ", b"0", b'"']
        for id, score, body in zip(ids, scores, BODIES, strict=False):
            server.redis.zadd("rsmq:jobs", {id: score})
            server.redis.hset("rsmq:jobs:Q", id, body)
        before = contents(server)
        lines = await export(queue)
        assert all(json.loads(line, parse_constant=pytest.fail) for line in lines)
        assert await other.import_lines(lines, keep_ids=True, keep_times=True) == len(ids)
        assert contents(server, "other") == before

    @pytest.mark.parametrize("time", ["1e-400", "-1e-400", "+1E-400", "0." + "0" * 400 + "1"])
    async def test_time_too_small_for_a_score(self, server, other, time):
        """A time that the server would refuse, because it is too near to 0, is 0."""
        line = json.dumps({"id": "x" * 32, "visible_at": time, "body": "x"})
        assert await other.import_lines([line], keep_ids=True, keep_times=True) == 1
        assert server.redis.zscore("rsmq:other", "x" * 32) == 0

    @pytest.mark.foreign_data
    async def test_node(self, server, rsmq, other):
        """A queue that Node rsmq has written and used is copied with plain Redis commands' keys."""
        server.redis.sadd("rsmq:QUEUES", "node")
        settings = {"vt": 30, "delay": 0, "maxsize": 65536, "created": 1, "modified": 1}
        server.redis.hset("rsmq:node:Q", mapping=settings | {"totalsent": 2, "totalrecv": 1})
        sent, received = "hoinb2fb16" + "a" * 22, "hoinb2fb17" + "B" * 22
        server.redis.zadd("rsmq:node", {sent: 1_700_000_000_000, received: 1_700_000_030_000})
        server.redis.hset("rsmq:node:Q", mapping={sent: "hello", received: "bye"})
        server.redis.hset(
            "rsmq:node:Q", mapping={f"{received}:rc": 1, f"{received}:fr": 1_700_000_000_000}
        )
        lines = await export(rsmq.queue("node"))
        await other.import_lines(lines, keep_ids=True, keep_times=True)
        assert contents(server, "other") == contents(server, "node")

    async def test_any_bytes(self, server, queue, other):
        """Bodies of any bytes come back as they were."""
        chance = random.Random(0)
        pieces = [b"\xf0\x9f\x98\x80", b"\xc3", b"\xa9", b"\0", b"\xed\xb2\x80", b'"', b"\\u", b"a"]
        bodies = [b"".join(chance.choices(pieces, k=n % 6)) for n in range(400)]
        bodies += [chance.randbytes(n) for n in range(100)]
        await queue.send_many(bodies)
        await other.import_lines(await export(queue), keep_ids=True)
        messages = sorted(await other.peek(1000), key=lambda message: message.id)
        assert [message.raw for message in messages] == bodies

    async def test_reasons(self, server, rsmq, queue, other):
        """With ids kept, dead letters keep their reasons, so that they can be redriven; otherwise
        they are messages like others.
        """
        await queue.set_attributes(dead_letter_queue="dead")
        (id,) = await bury(queue, "a", reason="ValueError: bad")
        dead = rsmq.queue("dead")
        lines, reasons = await export(dead), await dead.reasons()
        await dead.purge()
        server.redis.delete("rsmq:dead:reasons")
        await other.import_lines(lines)
        assert server.redis.exists("rsmq:other:reasons") == 0
        await dead.import_lines(lines, keep_ids=True, keep_times=True)
        assert await dead.reasons() == reasons
        assert await dead.redrive() == 1
        assert ids_in(server) == [id]

    async def test_twice(self, server, queue, other):
        """With ids kept, what is in the queue already is left alone: importing twice changes
        nothing, and lines that name one message twice make one.
        """
        await queue.send_many(map(str, range(250)))
        lines = await export(queue)
        assert await other.import_lines([*lines, *lines], keep_ids=True, keep_times=True) == 250
        held = await other.receive(vt=1000)
        before = keyspace(server)
        assert await other.import_lines(lines, keep_ids=True) == 0
        assert keyspace(server) == before
        assert await held.delete() is True

    async def test_progress(self, server, queue, other):
        """It tells how many lines are done, and another run goes on there."""
        await queue.send_many(map(str, range(250)))
        lines = await export(queue)
        run = other.import_lines(lines)
        assert (run.stored, await anext(run), run.stored) == (0, 100, 99)
        assert await anext(run) == 200
        await run.aclose()
        assert [done async for done in other.import_lines(lines, skip=200)] == [100, 200, 251]
        bodies = [message.body for message in await other.peek(1000)]
        assert bodies == [str(n) for n in range(250)]

    async def test_large_reasons(self, server, other):
        """A step is not made larger by reasons either, which other programs may write."""
        letter = {"body": "x", "visible_at": 1, "receive_count": 1, "reason": "x" * 100_000}
        lines = [json.dumps({"id": f"{n:032}", **letter}) for n in range(12)]
        done = [number async for number in other.import_lines(lines, keep_ids=True)]
        assert done == [3, 6, 9, 12]

    async def test_large_bodies(self, queue, other):
        """A step ends at some 256 KiB of bodies."""
        await queue.send_many(["x" * 60_000] * 20)
        lines = await export(queue)
        assert [done async for done in other.import_lines(lines)] == [6, 11, 16, 21]

    @pytest.mark.parametrize("lines", [[], ["", "\n", b" \n"]])
    async def test_nothing(self, other, lines):
        """At least one number is told."""
        assert [done async for done in other.import_lines(lines)] == [len(lines)]
        assert await other.import_lines(lines) == 0

    @pytest.mark.parametrize("lines", [[], [b'{"body": "x"}']])
    async def test_missing(self, server, rsmq, lines):
        """The queue must exist."""
        with pytest.raises(QueueDoesNotExist):
            await rsmq.queue("nowhere").import_lines(lines)
        assert server.redis.keys("*") == []

    async def test_sources(self, tmp_path, queue, other):
        """Lines come from any iterable: a list, an open file, an async generator, another export;
        headers may stand anywhere.
        """
        await queue.send("a")
        lines = await export(queue)
        (tmp_path / "export").write_bytes(b"".join(lines + lines))
        with (tmp_path / "export").open("rb") as file:
            assert await other.import_lines(file) == 2
        with (tmp_path / "export").open(encoding="utf-8") as file:
            assert await other.import_lines(file) == 2
        assert await other.import_lines(queue.export()) == 1
        assert await other.import_lines([b'{"body": "only"}']) == 1
        assert (await other.attributes()).msgs == 6

    @pytest.mark.parametrize("options", [{}, {"keep_ids": True, "keep_times": True}])
    @pytest.mark.parametrize(
        ("line", "reason"),
        [
            (b"no json", "is not a line of an export"),
            (b"\xff", "is not a line of an export"),
            (b"[" * 100_000, "is not a line of an export"),
            (b"[1]", "is not a JSON object"),
            (b'{"id": "x", "visible_at": 1}', "has neither body nor body_base64"),
            (b'{"id": "x", "visible_at": 1, "body": 1}', "has an invalid body"),
            (b'{"id": "x", "visible_at": 1, "body": "\\ud800"}', "has an invalid body"),
            (b'{"id": "x", "visible_at": 1, "body_base64": "?"}', "has an invalid body"),
            (
                b'{"id": "x", "visible_at": 1, "body": "", "body_base64": ""}',
                "has both body and body_base64",
            ),
            *(
                (
                    b'{"id": "x", "visible_at": 1, "body": "", "receive_count": %s}' % count,
                    "has an invalid receive_count",
                )
                for count in (b"-1", b"1.5", b'"1"', b"true", b"1%s" % (b"0" * 15))
            ),
            (b'{"aiorsmq_export": 2}', "is of version 2; this library reads version 1"),
            (b'{"aiorsmq_export": 1}', "must have queue, settings, server_time and total"),
        ],
        ids=itertools.count(),
    )
    async def test_malformed(self, server, other, line, reason, options):
        """A line that cannot be read is named, with where to go on; all steps before are stored,
        and no message of its own.
        """
        good = [b'{"id": "%d", "visible_at": 1, "body": "secret"}' % (n % 149) for n in range(150)]
        with pytest.raises(InvalidParameterValue) as refused:
            await other.import_lines([*good, line, *good], **options)
        told = f"line 151 {reason}; the first 100 are imported: go on with skip=100"
        assert refused.value.reason == told
        assert "secret" not in f"{refused.value} {refused.value!r}"
        assert refused.value.__cause__ is None
        assert (await other.attributes()).msgs == 100
        server.redis.delete("rsmq:other", "rsmq:other:Q")

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            *(("id", value) for value in (None, "", 1, "vt", "paused", "x:rc", "x:fr", "\ud800")),
            *(("visible_at", value) for value in (None, "", "nan", "1_0", "x", True, float("nan"))),
        ],
    )
    async def test_malformed_and_kept(self, server, other, field, value):
        """An id and a time are looked at if they are kept: an id must not be the name of a setting,
        nor of another message's field.
        """
        line = json.dumps({"id": "x", "visible_at": 1, "body": "x", field: value})
        before = keyspace(server)
        with pytest.raises(InvalidParameterValue):
            await other.import_lines([line], keep_ids=True, keep_times=True)
        assert keyspace(server) == before
        assert await other.import_lines([line]) == 1

    async def test_too_long(self, other):
        """The queue's maxsize is checked; the error names the line."""
        await other.set_attributes(maxsize=1024)
        lines = [json.dumps({"body": "x" * size}) for size in [1] * 120 + [1024, 1025, 2000]]
        with pytest.raises(MessageTooLong, match=r"^line 122: message too long") as refused:
            await other.import_lines(lines)
        error = refused.value
        assert (error.line, error.size, error.maxsize, error.qname) == (122, 1025, 1024, "other")
        assert (await other.attributes()).msgs == 100

    @pytest.mark.parametrize(
        ("parameter", "value"),
        [
            *(("lines", value) for value in (b"{}", "{}", None, 1)),
            *(("skip", value) for value in (-1, 1.5, "1", True)),
        ],
    )
    async def test_bad_input(self, other, parameter, value):
        """Bad input is refused at the call."""
        with pytest.raises(InvalidParameterValue) as refused:
            other.import_lines(**{"lines": []} | {parameter: value})
        assert refused.value.parameter == parameter

    async def test_never_used(self, other):
        """A run that is neither awaited nor iterated over warns, and runs once."""
        with pytest.warns(RuntimeWarning, match="import_lines"):
            other.import_lines([])
        run = other.import_lines([])
        await run
        with pytest.raises(RuntimeError, match="call import_lines"):
            await run

    async def test_raises(self, other):
        """What the iterable raises comes out; the steps before are stored."""

        def lines():
            for n in range(150):
                yield json.dumps({"body": str(n)})
            raise OSError("broken pipe")

        with pytest.raises(OSError, match="broken pipe"):
            await other.import_lines(lines())
        assert (await other.attributes()).msgs == 100

    async def test_cancelled(self, other):
        """Cancelled, it leaves what it has stored."""
        going_on = asyncio.Event()

        async def lines():
            for n in range(150):
                yield json.dumps({"body": str(n)})
            going_on.set()
            await asyncio.sleep(PATIENCE)

        async def run():
            await other.import_lines(lines())

        running = asyncio.create_task(run())
        await going_on.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert (await other.attributes()).msgs == 100

    async def test_wakes_a_consumer(self, server, other):
        """Who waits is woken."""
        async with AsyncRSMQ.from_url(server.url, poll_interval=3600) as waiting:
            asking = asyncio.ensure_future(waiting.queue("other", codec=JSON).receive(wait=30))
            await wait_for_listener(server, "other")
            await other.import_lines([b'{"body": "1"}'])
            with anyio.fail_after(PATIENCE):
                assert (await asking).body == 1

    async def test_wrong_clock(self, server, other):
        """Ids that were minted by a wrong clock are minted again."""
        other._core.node.clock._offset_us -= 3600 * 1_000_000
        await other.import_lines([b'{"body": "1"}'])
        (message,) = await other.peek()
        assert message.sent_at.timestamp() * 1000 > now_ms(server) - 2000

    @pytest.mark.parametrize("options", [{}, {"keep_ids": True}])
    async def test_lost_reply(self, server, other, far, proxy, options):
        """A step whose reply is lost is repeated, and stores nothing twice."""
        lines = [json.dumps({"id": f"{n:032}", "body": str(n)}) for n in range(150)]
        there = far.queue("other")
        await there.import_lines([])
        proxy.cut_after_execution = 1
        told = [done async for done in there.import_lines(lines, **options)]
        assert (told, proxy.cuts) == ([100, 150], 1)
        bodies = sorted(int(message.body) for message in await other.peek(1000))
        assert bodies == list(range(150))
        assert (await other.attributes()).totalsent == 150

    async def test_lost_reply_and_received(self, other, far, cut_reply):
        """Of a step, messages are not stored again that were received and deleted before the
        repetition, while others are there.
        """
        there = far.queue("other")
        await there.import_lines([])
        cut_reply(other.pop)
        assert await there.import_lines([b'{"body": "1"}', b'{"body": "2"}']) == 2
        assert [message.body for message in await other.peek()] == ["2"]

    async def test_first_attempt_after_its_repetition(self, server, other):
        """A first attempt that arrives after its repetition leaves a message alone that a consumer
        holds.
        """
        node = other._core.node
        calls = []
        submit = node.submit
        node.submit = lambda call, *rest: (calls.append(call), submit(call, *rest))
        await other.import_lines([b'{"body": "1"}'])
        node.submit = submit
        held = await other.receive(vt=300)
        assert await node.run(calls[0]) == [b"stored", 0]
        assert await other.receive() is None
        assert await held.delete() is True
        assert (await other.attributes()).totalsent == 1

    async def test_full_server(self, own_server):
        """A full server refuses it, and stores nothing."""
        server = own_server("--maxmemory", "8mb", "--maxmemory-policy", "noeviction")
        async with AsyncRSMQ.from_url(server.url) as rsmq:
            queue = rsmq.queue("jobs")
            await queue.create()
            with pytest.raises(ResponseError):
                while True:
                    await queue.send("x" * 60_000)
            server.redis.config_set("maxmemory", "1mb")
            before = keyspace(server)
            for options in ({}, {"keep_ids": True}):
                line = {"id": "x", "body": "y", "reason": "1 1 jobs bad", "receive_count": 1}
                with pytest.raises(ResponseError):
                    await queue.import_lines([json.dumps(line)], **options)
            with pytest.raises(ResponseError):
                await queue.replace(ids_in(server)[0], "y")
            assert keyspace(server) == before

    @pytest.mark.foreign_data
    async def test_over_half_a_message(self, server, other):
        """With ids kept, an entry without a body becomes the message; another program's key for the
        reasons is left alone.
        """
        server.redis.zadd("rsmq:other", {"x": 1})
        server.redis.set("rsmq:other:reasons", "theirs")
        line = b'{"id": "x", "body": "y", "reason": "1 1 jobs bad", "visible_at": 5}'
        assert await other.import_lines([line], keep_ids=True, keep_times=True) == 1
        assert server.redis.zscore("rsmq:other", "x") == 5
        assert (await other.peek())[0].body == "y"
        assert server.redis.get("rsmq:other:reasons") == b"theirs"


class TestHeader:
    def test_line(self):
        """What it writes it reads; other fields are for later versions."""
        line = (
            b'{"aiorsmq_export": 1, "queue": "q", "settings": {"vt": 1, "new": 2}, '
            b'"server_time": 1700000000123, "total": 5, "new": 6}\n'
        )
        header = ExportHeader.parse(line)
        assert (header.queue, header.settings, header.total) == ("q", {"vt": 1}, 5)
        assert header.server_time.timestamp() == 1_700_000_000.123
        assert ExportHeader.parse(header.line().decode()) == header

    @pytest.mark.parametrize(
        ("line", "reason"),
        [
            (b"no json", "must be the first line of an export"),
            (b"[]", "must be the first line of an export"),
            (b'{"body": "secret"}', "must be the first line of an export"),
            (b"[" * 100_000, "must be the first line of an export"),
            (None, "must be the first line of an export"),
            (b'{"aiorsmq_export": "2"}', "is of version '2'; this library reads version 1"),
            (b'{"aiorsmq_export": 1}', "must have queue, settings, server_time and total"),
        ],
        ids=itertools.count(),
    )
    def test_malformed(self, line, reason):
        """What is no header is refused, and not quoted."""
        with pytest.raises(InvalidParameterValue) as refused:
            ExportHeader.parse(line)
        assert (refused.value.parameter, refused.value.reason) == ("line", reason)
        assert "secret" not in str(refused.value)
