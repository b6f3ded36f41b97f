"""Another program's settings, names and keys: read if they make sense, never harmed."""

from datetime import UTC, datetime

import anyio
import pytest
from aiorsmq import MessageTooLong, QueueAlreadyExists, QueueDoesNotExist
from redis.exceptions import ResponseError

from foreign_data.data import (
    EARLY,
    FOREIGN_ID,
    NUMBERS,
    is_sensible,
    messages_left,
    put,
    score_of,
    set_attribute,
    stream,
)
from support import PATIENCE, keyspace, now_ms

pytestmark = pytest.mark.foreign_data


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
        """Invalid totals and times keep nobody from sending, receiving and reading the
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
