"""What others leave in the keys, and a server that is full: the queue goes on, and what is not ours
is not harmed.
"""

import asyncio
import logging
from datetime import UTC, datetime

import anyio
import pytest
from aiorsmq import BYTES, JSON, AsyncRSMQ, MessageTooLong, QueueAlreadyExists, QueueDoesNotExist
from redis.exceptions import OutOfMemoryError, ResponseError

from support import PATIENCE, keyspace, now_ms, wait_for_listener, wait_until

pytestmark = pytest.mark.foreign_data

FOREIGN_ID = "f" * 32
EARLY = 1_000_000_000_000  # ms: before anything that is sent here


def put(server, id=FOREIGN_ID, body="foreign", *, score=EARLY, **fields):
    """Another program stores a message; its fields are named without the id (rc, fr)."""
    prefix = id if isinstance(id, bytes) else id.encode()
    server.redis.zadd("rsmq:jobs", {id: score})
    if body is not None:
        server.redis.hset("rsmq:jobs:Q", id, body)
    for name, value in fields.items():
        server.redis.hset("rsmq:jobs:Q", prefix + b":" + name.encode(), value)


def put_phantoms(server, count):
    server.redis.zadd("rsmq:jobs", {f"{n:032}": EARLY + n for n in range(count)})


def messages_left(server):
    """Members of the queue, and the fields that belong to messages."""
    attributes = {b"vt", b"delay", b"maxsize", b"created", b"modified", b"totalsent", b"totalrecv"}
    return server.redis.zcard("rsmq:jobs"), set(server.redis.hkeys("rsmq:jobs:Q")) - attributes


async def stream(queue, count, **options):
    """The first messages of a stream; it must not take long."""
    messages = []
    with anyio.fail_after(PATIENCE):
        async with queue.messages(**options) as received:
            while len(messages) < count:
                messages.append(await anext(received))
    return messages


def is_sensible(message):
    """Everything that a message says of itself can be read."""
    assert message.receive_count >= 0
    for time in (message.sent_at, message.first_received_at, message.visible_until):
        assert time is None or (isinstance(time, datetime) and time.tzinfo is UTC)
    assert isinstance(message.id, str)
    assert isinstance(repr(message), str)


class TestPhantoms:
    """Members without a body, as a crashed writer leaves them."""

    @pytest.mark.parametrize("count", [1, 64, 500])
    async def test_in_front_of_a_stream(self, server, queue, count, caplog):
        """A stream steps over them; they are removed, and counted in the log."""
        ids = await queue.send_many(["a", "b", "c"])
        put_phantoms(server, count)
        with caplog.at_level(logging.WARNING, "aiorsmq"):
            messages = await stream(queue, 3)
        assert [message.id for message in messages] == ids
        assert server.redis.zrange("rsmq:jobs", 0, -1) == [id.encode() for id in ids]
        assert (
            sum(record.args[0] for record in caplog.records if "without a body" in record.msg)
            == count
        )
        assert (await queue.attributes()).totalrecv == 3

    @pytest.mark.parametrize("verb", ["receive", "receive_many", "pop", "pop_stream"])
    async def test_in_front_of(self, server, queue, verb):
        """So do the other ways to receive."""
        id = await queue.send("healthy")
        put_phantoms(server, 500)
        match verb:
            case "receive":
                messages = [await queue.receive()]
            case "receive_many":
                messages = await queue.receive_many(10)
            case "pop":
                messages = [await queue.pop()]
            case _:
                messages = await stream(queue, 1, pop=True)
        assert [message.id for message in messages] == [id]

    async def test_between_messages(self, server, queue):
        """Messages between phantoms keep their order."""
        for n in range(100):
            put(server, f"{n:032}", None if n % 3 else str(n), score=EARLY + n)
        messages = await queue.receive_many(100)
        assert [message.body for message in messages] == [str(n) for n in range(0, 100, 3)]
        assert server.redis.zcard("rsmq:jobs") == len(messages)

    async def test_nothing_else(self, server, queue):
        """A queue of nothing but phantoms is empty."""
        put_phantoms(server, 500)
        with anyio.fail_after(PATIENCE):
            assert await queue.receive() is None
            assert await queue.pop() is None
        assert messages_left(server) == (0, set())

    @pytest.mark.parametrize("verb", ["receive", "pop"])
    async def test_received_before(self, server, queue, verb):
        """A phantom that had been received as a message goes with its receive count and first
        receipt.
        """
        put(server, body=None, rc=b"3", fr=b"1700000000000")
        assert await (queue.receive() if verb == "receive" else queue.pop()) is None
        assert messages_left(server) == (0, set())

    async def test_hidden(self, server, queue):
        """A phantom that is not due yet holds nothing up."""
        put(server, body=None, score=now_ms(server) + 3_600_000)
        id = await queue.send("healthy")
        assert [message.id for message in await stream(queue, 1)] == [id]
        assert await queue.receive() is None

    async def test_peek(self, server, queue):
        """peek shows the messages behind them, and leaves them."""
        ids = await queue.send_many(["a", "b"])
        put_phantoms(server, 500)
        before = keyspace(server)
        assert [message.id for message in await queue.peek()] == ids
        assert keyspace(server) == before

    async def test_purge(self, server, queue):
        """purge leaves none."""
        await queue.send("x")
        put_phantoms(server, 500)
        await queue.purge()
        assert messages_left(server) == (0, set())

    async def test_by_id(self, server, queue):
        """They can be hidden and deleted by their id, which makes no message of them."""
        put_phantoms(server, 1)
        id = f"{0:032}"
        await queue.change_visibility(id, 100)
        assert await queue.receive() is None
        await queue.change_visibility(id, 0)
        await queue.delete_message(id)
        assert messages_left(server) == (0, set())


NUMBERS = [
    b"abc",
    b"-5",
    b"3.7",
    b"1e300",
    b"-1e300",
    b"9" * 30,
    b"nan",
    b"-nan",
    b"inf",
    b"-inf",
    b"",
    b" 7 ",
    b"\xff",
]


class TestFields:
    """Of a message."""

    @pytest.mark.parametrize("rc", NUMBERS)
    @pytest.mark.parametrize("fr", [b"1700000000000", None], ids=["fr", "no-fr"])
    async def test_rc(self, server, queue, rc, fr):
        """A receive count that is none holds nothing up: the message is received, kept and settled
        as others are.
        """
        put(server, **({"rc": rc} if fr is None else {"rc": rc, "fr": fr}))
        healthy = await queue.send("healthy")
        message, other = await stream(queue, 2)
        assert (message.id, message.body, other.id) == (FOREIGN_ID, "foreign", healthy)
        assert 1 <= message.receive_count < 1e15
        is_sensible(message)
        await queue.change_visibility(FOREIGN_ID, 0)
        again = await queue.receive(vt=50)
        assert again.id == FOREIGN_ID
        assert again.receive_count == message.receive_count + 1
        assert [await message.extend(5), await message.delete(), await again.extend(50)] == [
            False,
            False,
            True,
        ]
        assert await again.delete() is True
        assert FOREIGN_ID.encode() + b":rc" not in server.redis.hkeys("rsmq:jobs:Q")

    @pytest.mark.parametrize("fr", [*NUMBERS, b"1700000000", b"170000000000000"])
    async def test_fr(self, server, queue, fr):
        """A first receipt that is no time holds nothing up either."""
        put(server, rc=b"2", fr=fr)
        message = await queue.receive(vt=0)
        assert message.receive_count == 3
        is_sensible(message)
        assert message.first_received_at is not None
        popped = await queue.pop()
        assert popped.receive_count == 4
        is_sensible(popped)
        assert messages_left(server) == (0, set())

    @pytest.mark.parametrize("value", NUMBERS)
    @pytest.mark.parametrize("field", ["rc", "fr"])
    async def test_peek(self, server, queue, field, value):
        """peek shows such a message, it can say what it is, and be deleted if nobody has received
        it since.
        """
        put(server, **({"rc": b"1", "fr": b"1700000000000"} | {field: value}))
        (message,) = await queue.peek()
        is_sensible(message)
        assert message.body == "foreign"
        assert await message.delete() is True
        assert messages_left(server) == (0, set())

    @pytest.mark.parametrize("value", NUMBERS)
    async def test_handed_back(self, server, queue, value):
        """One that is claimed ahead and handed back is in its place again, visible."""
        put(server, rc=value, fr=value)
        await queue.send("healthy")
        await queue.send("healthy, too")
        async with queue.messages(prefetch=2) as messages:
            message = await anext(messages)
            assert await message.release()
        await wait_until(lambda: server.redis.zcount("rsmq:jobs", "-inf", now_ms(server)) == 3)
        assert len(await queue.receive_many(5)) == 3


TIMES = [  # as stored; the seconds that count, None for the default
    *(
        (None, None),
        (b"", None),
        (b"abc", None),
        (b"nan", None),
        (b"-nan", None),
        (b"inf", None),
        (b"-inf", None),
    ),
    *((b"\xff", None), (b"-1", None), (b"1e300", None)),
    *((b"30.7", 30), (b"20", 20), (b"0", 0), (b"30000", 30_000), (b" 20", 20)),
]


def set_attribute(server, name, value):
    if value is None:
        server.redis.hdel("rsmq:jobs:Q", name)
    else:
        server.redis.hset("rsmq:jobs:Q", name, value)


def score_of(server, id):
    return int(server.redis.zscore("rsmq:jobs", id))


class TestAttributes:
    """Of a queue. What is no number counts as the default, and the attributes say what counts."""

    @pytest.mark.parametrize(("value", "seconds"), TIMES)
    async def test_vt(self, server, queue, value, seconds):
        """vt: the attributes, the leases and the stream go by the same number."""
        await queue.send_many(["a", "b"])
        seconds = 30 if seconds is None else seconds
        set_attribute(server, "vt", value)
        assert (await queue.attributes()).vt == seconds
        before = now_ms(server)
        (first,) = await stream(queue, 1)
        after = now_ms(server)
        assert before + seconds * 1000 <= score_of(server, first.id) <= after + seconds * 1000
        is_sensible(first)
        if seconds:
            assert [message.body for message in await stream(queue, 1)] == ["b"]
        assert await first.extend(5) is True

    @pytest.mark.parametrize(("value", "seconds"), TIMES)
    async def test_delay(self, server, queue, value, seconds):
        """delay: so do the attributes and the sends."""
        seconds = 0 if seconds is None else seconds
        set_attribute(server, "delay", value)
        assert (await queue.attributes()).delay == seconds
        before = now_ms(server)
        id, other = [await queue.send("x"), *await queue.send_many(["x"])]
        after = now_ms(server)
        assert (
            before + seconds * 1000
            <= score_of(server, id)
            <= score_of(server, other)
            <= after + seconds * 1000
        )

    @pytest.mark.parametrize(
        ("value", "maxsize"),
        [
            *(
                (None, 65536),
                (b"", 65536),
                (b"abc", 65536),
                (b"nan", 65536),
                (b"-nan", 65536),
                (b"\xff", 65536),
            ),
            *((b"65565", 65565), (b"100", 100), (b"0", 0), (b"2000.5", 2000), (b"-1", -1)),
        ],
    )
    async def test_maxsize(self, server, queue, value, maxsize):
        """maxsize: so do they, over 65536 and below 1024 too."""
        set_attribute(server, "maxsize", value)
        assert (await queue.attributes()).maxsize == maxsize
        if maxsize == -1:
            await queue.send("x" * 100_000)
            return
        await queue.send("x" * maxsize)
        for send in (queue.send, lambda body: queue.send_many(["", body])):
            with pytest.raises(MessageTooLong) as caught:
                await send("x" * (maxsize + 1))
            assert (caught.value.size, caught.value.maxsize) == (maxsize + 1, maxsize)
        assert (await queue.attributes()).msgs == 1

    @pytest.mark.parametrize("value", [b"inf", b"-inf", b"-5", b"1e300"])
    async def test_maxsize_without_sense(self, server, queue, value):
        """A maxsize that is a number, but no sensible one, does what the attributes say."""
        set_attribute(server, "maxsize", value)
        maxsize = (await queue.attributes()).maxsize
        if maxsize < 0 or maxsize > 10_000_000:
            await queue.send("x" * 100_000)
        else:
            with pytest.raises(MessageTooLong):
                await queue.send("x" * (maxsize + 1))

    @pytest.mark.parametrize("present", ["vt", "delay", "maxsize"])
    async def test_one_is_enough(self, server, queue, present):
        """A queue that has one of the three exists."""
        server.redis.delete("rsmq:jobs:Q")
        set_attribute(server, present, b"2000")
        attributes = await queue.attributes()
        assert (attributes.vt, attributes.delay, attributes.maxsize) == (
            2000 if present == "vt" else 30,
            2000 if present == "delay" else 0,
            2000 if present == "maxsize" else 65536,
        )
        assert (attributes.totalrecv, attributes.totalsent, attributes.msgs) == (0, 0, 0)
        assert attributes.created == attributes.modified == datetime.fromtimestamp(0, UTC)
        id = await queue.send("x", delay=0)
        assert [message.id for message in await stream(queue, 1)] == [id]
        assert (await queue.set_attributes(vt=5)).vt == 5

    async def test_none_of_them(self, server, queue):
        """A hash that has none of the three is no queue."""
        server.redis.hdel("rsmq:jobs:Q", "vt", "delay", "maxsize")
        with pytest.raises(QueueDoesNotExist):
            await queue.attributes()
        with pytest.raises(QueueDoesNotExist):
            await queue.send("x")

    @pytest.mark.parametrize("value", NUMBERS)
    @pytest.mark.parametrize(
        "names", [("totalrecv", "totalsent"), ("created", "modified")], ids=["totals", "times"]
    )
    async def test_garbage_in_the_rest(self, server, queue, names, value):
        """Totals and times that are none keep nobody from sending, receiving and reading the
        attributes.
        """
        for name in names:
            set_attribute(server, name, value)
        ids = [await queue.send("x"), *await queue.send_many(["y", "z"])]
        assert [message.id for message in await stream(queue, 3)] == ids
        attributes = await queue.attributes()
        assert isinstance(attributes.totalrecv, int)
        assert isinstance(attributes.totalsent, int)
        assert attributes.created.tzinfo is attributes.modified.tzinfo is UTC
        assert attributes.msgs == 3
        assert repr(attributes)
        assert await queue.purge() == 3

    @pytest.mark.parametrize("value", [b"abc", b"nan", b"inf", b""])
    async def test_totals_that_are_none(self, server, queue, value):
        """A total that is no number reads as 0."""
        server.redis.hset("rsmq:jobs:Q", mapping={"totalrecv": value, "totalsent": value})
        attributes = await queue.attributes()
        assert (attributes.totalrecv, attributes.totalsent) == (0, 0)

    async def test_extra_fields(self, server, queue):
        """Fields that we do not know are left as they are."""
        extra = {b"max_receives": b"5", b"x:y": b"z", b"\xff": b"\xfe", b"": b"empty"}
        server.redis.hset("rsmq:jobs:Q", mapping=extra)
        await queue.attributes()
        await queue.set_attributes(vt=5)
        await queue.send_many(["a", "b", "c"])
        await (await queue.receive()).delete()
        await queue.pop()
        await queue.peek()
        await queue.purge()
        assert messages_left(server) == (0, set(extra))
        assert server.redis.hmget("rsmq:jobs:Q", list(extra)) == list(extra.values())


class TestScores:
    async def test_never(self, server, queue):
        """A message at +inf is hidden for ever, holds nothing up, and can be made visible."""
        put(server, score="+inf")
        assert await queue.receive() is None
        asking = asyncio.ensure_future(stream(queue, 1))
        await wait_for_listener(server)
        id = await queue.send("healthy")
        assert [message.id for message in await asking] == [id]
        assert (await queue.attributes()).hiddenmsgs == 2
        for message in await queue.peek():
            is_sensible(message)
        assert await queue.change_visibility(FOREIGN_ID, 0) is True
        assert (await queue.receive()).id == FOREIGN_ID

    @pytest.mark.parametrize("score", ["-inf", -1e300, -5, 0, 0.5, EARLY + 0.7])
    async def test_long_ago(self, server, queue, score):
        """A message at -inf, or at any other moment that has passed, is the first to be
        received.
        """
        put(server, score=score)
        id = await queue.send("healthy")
        for message in await queue.peek():
            is_sensible(message)
        messages = await stream(queue, 2, vt=50)
        assert [message.id for message in messages] == [FOREIGN_ID, id]
        is_sensible(messages[0])
        assert (await queue.attributes()).hiddenmsgs == 2
        assert [await messages[0].release(), await messages[0].delete()] == [True, True]

    async def test_handed_back_to_minus_inf(self, server, queue):
        """A message from -inf that is handed back goes to its old place."""
        id = await queue.send("healthy")
        put(server, "a" * 32, score="-inf")
        put(server, "b" * 32, score=-5)
        async with queue.messages(prefetch=2) as messages:
            assert (await anext(messages)).id == "a" * 32
            await wait_until(lambda: server.redis.zcount("rsmq:jobs", "-inf", now_ms(server)) == 0)
        await wait_until(lambda: server.redis.zcount("rsmq:jobs", "-inf", now_ms(server)) == 2)
        assert server.redis.zscore("rsmq:jobs", "b" * 32) == -5
        assert [message.id for message in await queue.receive_many(3)] == ["b" * 32, id]

    @pytest.mark.parametrize("score", [1e300, 1e16])
    async def test_far_away(self, server, queue, score):
        """A message in a future that no calendar knows is hidden, and can be read by peek."""
        put(server, score=score)
        (message,) = await queue.peek()
        assert message.visible_until.year == 9999
        assert await queue.receive() is None
        assert await message.release() is True
        assert (await queue.receive()).id == FOREIGN_ID


class TestIds:
    @pytest.mark.parametrize(
        "id",
        [
            *(
                b"a" * 30,
                b"zzzzzzzzzz" + b"A" * 22,
                b"-000000001" + b"A" * 22,
                b"short",
                b"with:colon",
                b"x" * 5000,
            ),
            *(
                b"\xff\xfe" * 16,
                b"\n",
                b" ",
                b"a b",
                "ž🐎".encode(),
                b"%s{}",
                b"1_0_0_0_0a" + b"A" * 22,
            ),
        ],
    )
    async def test_any(self, server, queue, id):
        """A message may have any id: it is received, extended, released, received again and deleted
        as others are.
        """
        put(server, id)
        healthy = await queue.send("healthy")
        message, other = await stream(queue, 2)
        assert (message.id.encode(errors="surrogateescape"), other.id) == (id, healthy)
        is_sensible(message)
        assert len(id) == 32 or message.sent_at == message.first_received_at
        assert [await message.extend(50), await message.release()] == [True, True]
        (peeked, _) = await queue.peek()
        is_sensible(peeked)
        again = await queue.receive()
        assert (again.id, again.receive_count) == (message.id, 2)
        assert [await message.delete(), await again.delete()] == [False, True]
        assert messages_left(server)[0] == 1

    @pytest.mark.parametrize("id", ["a" * 30, "jrsmq-id", "0123456789:abc_DEF"])
    async def test_by_id(self, server, queue, id):
        """Ids of other lengths can be deleted and extended by themselves."""
        put(server, id)
        assert await queue.change_visibility(id, 50) is True
        assert await queue.receive() is None
        assert await queue.delete_message(id) is True
        put(server, id)
        assert await queue.delete_many([id, "0" * 32]) == [True, False]
        assert messages_left(server) == (0, set())

    @pytest.mark.parametrize("id", ["vt", "delay", "maxsize", "totalsent"])
    async def test_name_of_an_attribute(self, server, queue, id):
        """To delete or extend what is no message, though a field of the hash, does nothing."""
        before = keyspace(server)
        assert await queue.delete_message(id) is False
        assert await queue.change_visibility(id, 5) is False
        assert keyspace(server) == before


class TestBodies:
    @pytest.mark.parametrize(
        "body", [b"\xff\x00\xfe", b"\x80" * 100, b"\r\n$5\r\n", "ž🐎".encode("utf-16"), b""]
    )
    async def test_binary(self, server, rsmq, queue, body):
        """A body that is no UTF-8 is read with U+FFFD in it; `raw` and BYTES have it as it is."""
        put(server, body=body)
        (message,) = await stream(queue, 1, vt=0)
        assert (message.body, message.raw) == (body.decode(errors="replace"), body)
        assert (await rsmq.queue("jobs", codec=BYTES).pop()).body == body

    @pytest.mark.parametrize(
        "body",
        [b"{no json", b"", b"\xff", b"nul", b"1" * 5000, b"[" * 60_000],
        ids=lambda value: repr(value)[:12],
    )
    @pytest.mark.parametrize("how", ["stream", "receive", "receive_many", "wait"])
    async def test_no_json(self, server, rsmq, body, how, caplog):
        """With JSON, a body that is none stays where it is, hidden for its lease, and the others
        are handed out.
        """
        jobs = rsmq.queue("jobs", codec=JSON)
        await jobs.create()
        put(server, body=body)
        await jobs.send({"n": 1})
        with caplog.at_level(logging.WARNING, "aiorsmq"):
            match how:
                case "stream":
                    messages = await stream(jobs, 1)
                case "receive":
                    messages = [await jobs.receive()]
                case "wait":
                    messages = [await jobs.receive(wait=10)]
                case _:
                    messages = await jobs.receive_many(5)
        assert [message.body for message in messages] == [{"n": 1}]
        assert score_of(server, FOREIGN_ID) > now_ms(server) + 20_000
        assert server.redis.hmget("rsmq:jobs:Q", FOREIGN_ID, f"{FOREIGN_ID}:rc") == [body, b"1"]
        assert sum(FOREIGN_ID in record.getMessage() for record in caplog.records) == 1
        assert await jobs.receive() is None
        assert [message.body for message in await jobs.peek()] == [{"n": 1}]

    @pytest.mark.parametrize("vt", [b"30", None, b"abc", b"nan", b"inf", b"-1", b"30.7"])
    @pytest.mark.parametrize("how", ["pop", "pop_stream"])
    async def test_no_json_popped(self, server, rsmq, queue, vt, how, caplog):
        """A popping consumer puts it back, hidden for the queue's vt, and the others are handed
        out.
        """
        jobs = rsmq.queue("jobs", codec=JSON)
        put(server, body="{no json", rc=b"4", fr=b"1700000000000")
        await jobs.send({"n": 1})
        set_attribute(server, "vt", vt)
        before = now_ms(server)
        with caplog.at_level(logging.WARNING, "aiorsmq"), anyio.fail_after(PATIENCE):
            messages = [await jobs.pop()] if how == "pop" else await stream(jobs, 1, pop=True)
        assert [message.body for message in messages] == [{"n": 1}]
        await wait_until(lambda: server.redis.zcard("rsmq:jobs") == 1)
        assert before + 30_000 <= score_of(server, FOREIGN_ID) <= now_ms(server) + 30_000
        fields = [FOREIGN_ID, f"{FOREIGN_ID}:rc", f"{FOREIGN_ID}:fr"]
        assert server.redis.hmget("rsmq:jobs:Q", fields) == [b"{no json", b"5", b"1700000000000"]
        assert sum(FOREIGN_ID in record.getMessage() for record in caplog.records) == 1

    async def test_no_json_without_a_lease(self, server, rsmq, queue):
        """A receive with vt=0 looks once at what it cannot decode, and comes to an end."""
        put(server, body="{no json")
        with anyio.fail_after(PATIENCE):
            assert await rsmq.queue("jobs", codec=JSON).receive(vt=0) is None

    async def test_no_json_for_long(self, server, rsmq, queue):
        """A long poll steps over it and goes on waiting."""
        put(server, body="{no json")
        jobs = rsmq.queue("jobs", codec=JSON)
        asking = asyncio.ensure_future(jobs.receive(wait=10))
        await wait_until(lambda: server.redis.hexists("rsmq:jobs:Q", f"{FOREIGN_ID}:rc"))
        await wait_for_listener(server)
        await jobs.send([1])
        assert (await asking).body == [1]
        assert await jobs.receive(wait=0.05) is None


class TestNames:
    async def test_odd_names(self, server, rsmq, queue):
        """list_queues returns whatever names others have entered."""
        names = [b"\xff\xfe", b"", b"a b", b"x" * 1000, "ž".encode(), b"with:colon", b"QUEUES"]
        server.redis.sadd("rsmq:QUEUES", *names)
        listed = await rsmq.list_queues()
        assert {name.encode(errors="surrogateescape") for name in listed} == {b"jobs", *names}

    async def test_not_listed(self, server, rsmq, queue):
        """A queue that is missing in the set of all queues works, exists, and can be deleted."""
        server.redis.delete("rsmq:QUEUES")
        assert await rsmq.list_queues() == set()
        id = await queue.send("x")
        assert [message.id for message in await stream(queue, 1)] == [id]
        assert (await queue.attributes()).msgs == 1
        with pytest.raises(QueueAlreadyExists):
            await queue.create()
        assert await queue.delete() is True
        assert server.redis.keys("*") == []

    async def test_only_listed(self, server, rsmq):
        """A name without a queue is listed, is no queue, and can be made one or deleted."""
        server.redis.sadd("rsmq:QUEUES", "jobs", "other")
        assert await rsmq.list_queues() == {"jobs", "other"}
        for name in ("jobs", "other"):
            with pytest.raises(QueueDoesNotExist):
                await rsmq.queue(name).send("x")
        assert await rsmq.create_queue(qname="jobs") is True
        assert await rsmq.delete_queue(qname="other") is True
        assert await rsmq.list_queues() == {"jobs"}

    async def test_messages_without_a_queue(self, server, rsmq):
        """Messages whose queue has no attributes are in no queue; deleting it removes them."""
        server.redis.zadd("rsmq:jobs", {FOREIGN_ID: EARLY})
        server.redis.hset("rsmq:jobs:Q", FOREIGN_ID, "x")
        with pytest.raises(QueueDoesNotExist):
            await rsmq.receive_message(qname="jobs")
        assert await rsmq.delete_queue(qname="jobs") is True
        assert server.redis.keys("*") == []

    async def test_fields_without_a_message(self, server, queue):
        """Bodies and counts that no member leads to are no messages, and do not disturb those that
        are.
        """
        orphan = "0" * 32
        server.redis.hset(
            "rsmq:jobs:Q", mapping={orphan: "orphan", f"{orphan}:rc": 3, f"{orphan}:fr": EARLY}
        )
        id = await queue.send("x")
        assert [message.id for message in await stream(queue, 1)] == [id]
        assert await queue.peek() != []
        assert (await queue.attributes()).msgs == 1
        assert await queue.delete_message(orphan) is False
        assert await queue.change_visibility(orphan, 5) is False
        assert await queue.purge() == 1


OPERATIONS = {
    "create": lambda queue: queue.create(exist_ok=True),
    "attributes": lambda queue: queue.attributes(),
    "set_attributes": lambda queue: queue.set_attributes(vt=1),
    "send": lambda queue: queue.send("x"),
    "send_many": lambda queue: queue.send_many(["x", "y"]),
    "receive": lambda queue: queue.receive(),
    "receive_wait": lambda queue: queue.receive(wait=1000),
    "pop": lambda queue: queue.pop(),
    "messages": lambda queue: anext(queue.messages()),
    "peek": lambda queue: queue.peek(),
    "change_visibility": lambda queue: queue.change_visibility(FOREIGN_ID, 5),
    "delete_message": lambda queue: queue.delete_message(FOREIGN_ID),
    "purge": lambda queue: queue.purge(),
    "delete": lambda queue: queue.delete(),
}


class TestTypes:
    """A key of another program stands where a queue's should be."""

    async def check(self, server, queue, operation, key):
        put(server)
        server.redis.set(key, "precious")
        before = keyspace(server)
        with anyio.fail_after(PATIENCE), pytest.raises(ResponseError, match="WRONGTYPE"):
            await operation(queue)
        assert keyspace(server) == before

    @pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
    async def test_messages(self, server, queue, operation):
        """Instead of the sorted set: every operation raises WRONGTYPE and changes nothing."""
        await self.check(server, queue, operation, "rsmq:jobs")

    @pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
    async def test_queue(self, server, queue, operation):
        """Instead of the hash: the same."""
        await self.check(server, queue, operation, "rsmq:jobs:Q")

    @pytest.mark.parametrize("name", ["create", "delete"])
    async def test_queues(self, server, queue, name):
        """Instead of the set of all queues: creating and deleting do."""
        await self.check(server, queue, OPERATIONS[name], "rsmq:QUEUES")

    async def test_list(self, server, rsmq, queue):
        """Listing does, too."""
        await self.check(server, queue, lambda queue: rsmq.list_queues(), "rsmq:QUEUES")

    async def test_new_queue(self, server, rsmq):
        """No queue is made where another program's key stands in its way."""
        server.redis.set("rsmq:jobs", "precious")
        before = keyspace(server)
        with pytest.raises(ResponseError, match="WRONGTYPE"):
            await rsmq.create_queue(qname="jobs")
        assert keyspace(server) == before

    async def test_missing_ok(self, server, rsmq):
        """Deleting a queue that does not exist deletes no other program's key."""
        server.redis.set("rsmq:jobs", "precious")
        with pytest.raises(ResponseError, match="WRONGTYPE"):
            await rsmq.delete_queue(qname="jobs", missing_ok=True)
        assert server.redis.get("rsmq:jobs") == b"precious"


@pytest.fixture
async def full(own_server):
    """A server at maxmemory with noeviction, far over it so that no single delete makes room, and a
    queue in it.
    """
    server = own_server("--maxmemory", "8mb", "--maxmemory-policy", "noeviction")
    async with AsyncRSMQ.from_url(server.url) as rsmq:
        queue = rsmq.queue("jobs")
        await queue.create()
        await queue.send_many(["first", "{no json", "[1]", "[2]", "[3]"])
        with refused_as_full():
            while True:
                await queue.send("x" * 60_000)
        server.redis.config_set("maxmemory", "1mb")
        yield server, queue


def refused_as_full():
    def says_so(error):
        return isinstance(error, OutOfMemoryError) or "OOM" in str(error)

    return pytest.raises(ResponseError, check=says_so)


class TestFullServer:
    async def test_sends(self, full):
        """A send to it is refused at once and stores nothing."""
        server, queue = full
        before = keyspace(server)
        with anyio.fail_after(PATIENCE):
            for send in (
                lambda: queue.send("x"),
                lambda: queue.send("x", delay=5),
                lambda: queue.send_many(["x", "y"]),
                lambda: asyncio.gather(*(queue.send("x") for _ in range(10))),
            ):
                with refused_as_full():
                    await send()
        assert keyspace(server) == before

    async def test_settings(self, full):
        """So is making another queue, and changing one."""
        server, queue = full
        before = keyspace(server)
        with refused_as_full():
            await queue.set_attributes(vt=5)
        async with AsyncRSMQ.from_url(server.url) as rsmq:
            with refused_as_full():
                await rsmq.create_queue(qname="new")
        assert keyspace(server) == before

    async def test_drained(self, full):
        """Consumers receive, extend, release and delete, until it is empty; then sends work
        again.
        """
        server, queue = full
        total = (await queue.attributes()).msgs
        message = await queue.receive(vt=50)
        assert (message.body, message.receive_count) == ("first", 1)
        before = now_ms(server)
        assert await message.extend(100) is True
        assert score_of(server, message.id) >= before + 100_000
        assert await message.release() is True
        assert await queue.change_visibility(message.id, 50) is True
        assert await queue.change_visibility(message.id, 0) is True
        (again,) = [found for found in await queue.receive_many(total) if found.id == message.id]
        assert again.receive_count == 2
        assert server.redis.hget("rsmq:jobs:Q", f"{again.id}:rc") == b"2"
        assert int(server.redis.hget("rsmq:jobs:Q", "totalrecv")) == total + 1
        for id in server.redis.zrange("rsmq:jobs", 0, -1):
            await queue.change_visibility(id.decode(), 0)
        assert await queue.delete_message(message.id) is True
        assert await queue.pop() is not None
        with refused_as_full():
            await queue.send("x")
        for left in await stream(queue, total - 2):
            assert await left.delete() is True
        assert messages_left(server) == (0, set())
        server.redis.config_set("maxmemory", "8mb")
        id = await queue.send("at last")
        assert (await queue.receive()).id == id

    async def test_room_again(self, full):
        """Once there is room, sends work again."""
        server, queue = full
        server.redis.config_set("maxmemory", "100mb")
        assert await queue.send("x")

    async def test_handed_back(self, full):
        """What was claimed ahead goes back to its old place."""
        server, queue = full
        async with queue.messages(prefetch=2) as messages:
            message = await anext(messages)
            await wait_until(lambda: int(server.redis.hget("rsmq:jobs:Q", "totalrecv")) == 3)
        await wait_until(lambda: server.redis.hget("rsmq:jobs:Q", "totalrecv") == b"1")
        assert await message.delete() is True
        bodies = [peeked.body for peeked in await queue.peek(4)]
        assert bodies == ["{no json", "[1]", "[2]", "[3]"]
        assert [peeked.receive_count for peeked in await queue.peek(4)] == [0] * 4

    async def test_popped_and_cancelled(self, full):
        """What was popped and reached nobody is put back."""
        server, queue = full
        asking = asyncio.ensure_future(queue.pop())
        while server.redis.hget("rsmq:jobs:Q", "totalrecv") is None:
            await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait([asking])
        assert asking.cancelled()
        await wait_until(lambda: server.redis.hget("rsmq:jobs:Q", "totalrecv") == b"0")
        assert (await queue.peek(1))[0].body == "first"

    async def test_no_json_popped(self, full):
        """What was popped and cannot be decoded is put back, hidden."""
        server, queue = full
        async with AsyncRSMQ.from_url(server.url) as rsmq:
            jobs = rsmq.queue("jobs", codec=JSON)
            assert (await jobs.pop()).body == [1]
        assert {"first", "{no json"} <= {message.body for message in await queue.peek(1000)}
        assert (await queue.attributes()).hiddenmsgs == 2

    @pytest.mark.parametrize("how", ["purge", "delete"])
    async def test_emptied(self, full, how):
        """It can be purged, and its queues deleted."""
        server, queue = full
        total = (await queue.attributes()).msgs
        assert await getattr(queue, how)() == (total if how == "purge" else True)
        assert server.redis.exists("rsmq:jobs") == 0
