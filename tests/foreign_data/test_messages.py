"""Another program's messages: whatever they are, the queue goes on."""

import asyncio
import logging

import anyio
import pytest
from aiorsmq import BYTES, JSON

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
from support import PATIENCE, keyspace, now_ms, wait_for_listener, wait_until


def put_phantoms(server, count):
    server.redis.zadd("rsmq:jobs", {f"{n:032}": EARLY + n for n in range(count)})


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


class TestFields:
    """Of a message."""

    @pytest.mark.parametrize("rc", NUMBERS)
    @pytest.mark.parametrize("fr", [b"1700000000000", None], ids=["fr", "no-fr"])
    async def test_rc(self, server, queue, rc, fr):
        """An invalid receive count holds nothing up: the message is received, kept and settled as
        others are.
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


class TestScores:
    async def test_never(self, server, queue):
        """A message at +inf is hidden forever, holds nothing up, and can be made visible."""
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
        """With JSON, a body that is not JSON stays where it is, hidden for its lease, and the
        others are handed out.
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
