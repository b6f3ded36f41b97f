"""Messages of RSMQ: received, popped, peeked at, deleted and hidden.

As Node rsmq 0.12.4 does it; each docstring is a sentence of the specification.
"""

import asyncio
from datetime import UTC, timedelta

import pytest
from aiorsmq import AsyncRSMQ

from conformance.server import announcements, score
from support import fields_of, ids_in, keyspace, now_ms, wait_until


async def test_receive(server, queue):
    """receive_message hands out a message with its id, body, count and times, and hides it for
    the queue's vt.
    """
    id = await queue.send("hello")
    before = now_ms(server)
    message = await queue.receive()
    after = now_ms(server)
    assert (message.id, message.body, message.receive_count, message.queue) == (
        id,
        "hello",
        1,
        "jobs",
    )
    assert message.sent_at.timestamp() == pytest.approx(int(id[:10], 36) / 1e6, abs=1e-5)
    assert before <= round(message.first_received_at.timestamp() * 1000) <= after
    assert round(message.visible_until.timestamp() * 1000) == int(score(server, id))
    assert message.visible_until - message.first_received_at == timedelta(seconds=30)
    assert {
        message.sent_at.tzinfo,
        message.first_received_at.tzinfo,
        message.visible_until.tzinfo,
    } == {UTC}
    assert await queue.receive() is None


async def test_nothing_to_receive(queue):
    """An empty queue gives None at once, or an empty list."""
    assert await queue.receive() is None
    assert await queue.pop() is None
    assert await queue.receive_many(10) == []
    assert await queue.peek() == []
    assert await queue.purge() == 0


@pytest.mark.parametrize("vt", [20, 1.234, 0, timedelta(seconds=2.5)])
async def test_lease(server, queue, vt):
    """The vt of a receive holds instead of the queue's, to the millisecond."""
    id = await queue.send("x")
    message = await queue.receive(vt=vt)
    received = int(fields_of(server)[f"{id}:fr".encode()])
    seconds = vt.total_seconds() if isinstance(vt, timedelta) else vt
    assert int(score(server, id)) - received == round(seconds * 1000)
    assert message.visible_until - message.first_received_at == timedelta(seconds=seconds)


async def test_redelivery(server, queue):
    """A message whose lease has ended is handed out again, with the next receive count."""
    await queue.send("x")
    first = await queue.receive()
    assert await queue.receive() is None
    due = now_ms(server) + 50
    server.redis.zadd("rsmq:jobs", {first.id: due})
    second = await queue.receive(wait=10)
    assert now_ms(server) >= due
    assert (first.id, first.receive_count) == (second.id, 1)
    assert second.receive_count == 2
    assert second.first_received_at == first.first_received_at
    assert second.visible_until > first.visible_until


async def test_order(server, queue):
    """Visible messages are handed out by the moment at which they became visible, and at the
    same moment by id.
    """
    delayed = await queue.send("delayed", delay=100)
    batch = await queue.send_many(["a", "b", "c"])
    sooner = await queue.send("sooner", delay=100)
    now = now_ms(server)
    server.redis.zadd("rsmq:jobs", {delayed: now + 50, sooner: now + 20})

    async def all_visible():
        return (await queue.attributes()).hiddenmsgs == 0

    await wait_until(all_visible)
    messages = [await queue.receive() for _ in range(5)]
    assert [message.id for message in messages] == [*batch, sooner, delayed]


async def test_redelivered_after_later_messages(server, queue):
    """A message whose lease has ended comes after those that became visible before that."""
    first = await queue.send("first")
    await queue.receive()
    second = await queue.send("second")
    server.redis.zadd("rsmq:jobs", {first: now_ms(server) + 20})

    async def all_visible():
        return (await queue.attributes()).hiddenmsgs == 0

    await wait_until(all_visible)
    assert [message.id for message in await queue.receive_many(2)] == [second, first]


async def test_receive_many(server, queue):
    """receive_many hands out all that there are, up to its limit, in order, and hides each."""
    ids = await queue.send_many([str(n) for n in range(150)])
    messages = await queue.receive_many(100, vt=50)
    assert [message.id for message in messages] == ids[:100]
    assert [message.body for message in messages] == [str(n) for n in range(100)]
    assert {message.receive_count for message in messages} == {1}
    attributes = await queue.attributes()
    assert (attributes.hiddenmsgs, attributes.totalrecv) == (100, 100)
    assert [message.id for message in await queue.receive_many(100)] == ids[100:]
    assert await queue.receive_many(100) == []


async def test_each_message_to_one(queue):
    """Of receives made at the same time, each gets a message of its own."""
    ids = await queue.send_many(["x"] * 20)
    messages = await asyncio.gather(*(queue.receive() for _ in range(25)))
    assert sorted(message.id for message in messages if message) == ids
    assert messages.count(None) == 5


async def test_pop(server, queue):
    """pop_message hands a message out and deletes it in one step: it is never handed out
    again.
    """
    id = await queue.send("x")
    before = now_ms(server)
    message = await queue.pop()
    assert (message.id, message.body, message.receive_count) == (id, "x", 1)
    assert before <= round(message.first_received_at.timestamp() * 1000) <= now_ms(server)
    assert (await queue.attributes()).msgs == 0
    assert await queue.pop() is None
    assert [await message.delete(), await message.extend(5), await message.release()] == [
        False,
        False,
        False,
    ]


async def test_pop_counts(queue):
    """A pop is a receipt: it counts, also after others."""
    await queue.send("x")
    first = await queue.receive(vt=0)
    message = await queue.pop()
    assert (message.receive_count, message.first_received_at) == (2, first.first_received_at)
    assert (await queue.attributes()).totalrecv == 2


async def test_pop_at_most_once(server, queue):
    """Of pops made at the same time, by several clients, no two get the same message."""
    ids = await queue.send_many(["x"] * 20)
    async with AsyncRSMQ.from_url(server.url) as one, AsyncRSMQ.from_url(server.url) as another:
        pops = [client.pop_message(qname="jobs") for _ in range(5) for client in (one, another)]
        messages = await asyncio.gather(*pops, *(queue.pop() for _ in range(15)))
    assert sorted(message.id for message in messages if message) == ids
    assert (await queue.attributes()).msgs == 0


async def test_pop_leaves_hidden_ones(queue):
    """A pop takes no message that is hidden."""
    await queue.send("delayed", delay=100)
    await queue.send("received")
    await queue.receive()
    assert await queue.pop() is None
    assert (await queue.attributes()).msgs == 2


async def test_stream(queue):
    """A stream hands out message after message, each hidden for its lease."""
    ids = await queue.send_many(["a", "b", "c"])
    stream = queue.messages(vt=50)
    messages = [await anext(stream) for _ in ids]
    assert [message.id for message in messages] == ids
    assert {message.visible_until - message.first_received_at for message in messages} == {
        timedelta(seconds=50)
    }
    assert (await queue.attributes()).hiddenmsgs == 3


async def test_popping_stream(queue):
    """A popping stream deletes each message as it hands it out."""
    ids = await queue.send_many(["a", "b", "c"])
    async for message in queue.messages(pop=True):
        assert message.id == ids.pop(0)
        assert (await queue.attributes()).msgs == len(ids)
        if not ids:
            break


async def test_peek(server, queue):
    """peek shows messages in the order in which they become visible, hidden ones too, and
    claims nothing.
    """
    late = await queue.send("late", delay=100)
    ids = await queue.send_many(["a", "b", "c"])
    received = await queue.receive(vt=50)
    before = keyspace(server)
    messages = await queue.peek()
    assert [message.id for message in messages] == [*ids[1:], received.id, late]
    assert [message.receive_count for message in messages] == [0, 0, 1, 0]
    assert [message.first_received_at for message in messages] == [
        None,
        None,
        received.first_received_at,
        None,
    ]
    assert messages[2].visible_until == received.visible_until
    assert [message.body for message in await queue.peek(limit=2)] == ["b", "c"]
    assert keyspace(server) == before


async def test_peeked_message(queue):
    """A message that was peeked at can be settled, until somebody receives it."""
    await queue.send_many(["deleted", "received"])
    deleted, received = await queue.peek()
    assert await deleted.delete() is True
    holder = await queue.receive()
    assert [await received.delete(), await received.extend(5), await received.release()] == [
        False,
        False,
        False,
    ]
    assert await holder.delete() is True


async def test_delete_message(server, queue):
    """delete_message returns True, and False for an id that is not there; it fences nothing."""
    id, other = await queue.send_many(["x", "y"])
    await queue.receive()
    assert await queue.delete_message(id) is True
    assert await queue.delete_message(id) is False
    assert ids_in(server) == [other]


async def test_delete_many(queue):
    """delete_many returns for each id, in order, whether it was deleted."""
    ids = await queue.send_many(["x"] * 200)
    unknown = "0" * 32
    assert await queue.delete_many([ids[0], unknown, ids[1], ids[0]]) == [
        True,
        False,
        True,
        False,
    ]
    assert await queue.delete_many(ids) == [False, False] + [True] * 198
    assert await queue.delete_many([]) == []
    assert (await queue.attributes()).msgs == 0


@pytest.mark.parametrize("vt", [100, 0.5, timedelta(hours=1), 0])
async def test_change_visibility(server, queue, vt):
    """change_message_visibility hides a message for vt from now on, no matter who received it, and
    does not count as a receipt.
    """
    id = await queue.send("x")
    await queue.receive(vt=50)
    hash = fields_of(server)
    before = now_ms(server)
    assert await queue.change_visibility(id, vt) is True
    after = now_ms(server)
    ms = vt.total_seconds() * 1000 if isinstance(vt, timedelta) else vt * 1000
    assert before + ms <= int(score(server, id)) <= after + ms
    assert fields_of(server) == hash


async def test_change_visibility_of_nothing(server, queue):
    """change_message_visibility returns False for an id that is not there, and makes no message
    of it.
    """
    await queue.send("x")
    before = keyspace(server)
    assert await queue.change_visibility("0" * 32, 10) is False
    assert keyspace(server) == before


async def test_purge(server, queue):
    """purge deletes all messages, hidden ones too, returns how many, and leaves the queue as it
    is otherwise.
    """
    await queue.send_many(["x"] * 1000)
    await queue.send("x", delay=100)
    await queue.receive_many(10)
    attributes = await queue.attributes()
    assert await queue.purge() == 1001
    assert not server.redis.exists("rsmq:jobs")
    after = await queue.attributes()
    assert (after.msgs, after.hiddenmsgs) == (0, 0)
    assert (
        (after.totalsent, after.totalrecv)
        == (attributes.totalsent, attributes.totalrecv)
        == (1001, 10)
    )


async def test_message_delete(queue):
    """A receiver deletes its message once, also after its lease while nobody else has received
    it.
    """
    await queue.send_many(["a", "b"])
    held, expired = await queue.receive(), await queue.receive(vt=0)
    assert [await held.delete(), await held.delete()] == [True, False]
    assert await expired.delete() is True


async def test_message_extend(server, queue):
    """A receiver extends its lease from now on."""
    id = await queue.send("x")
    message = await queue.receive(vt=1)
    before = now_ms(server)
    assert await message.extend(20.5) is True
    assert before + 20_500 <= int(score(server, id)) <= now_ms(server) + 20_500


async def test_message_release(server, queue):
    """A receiver gives its message back, at once or after a delay; the receive count stays."""
    id = await queue.send("x")
    message = await queue.receive()
    assert await message.release() is True
    assert int(score(server, id)) <= now_ms(server)
    message = await queue.receive()
    assert message.receive_count == 2
    before = now_ms(server)
    assert await message.release(delay=timedelta(seconds=5)) is True
    assert before + 5_000 <= int(score(server, id)) <= now_ms(server) + 5_000


@pytest.mark.parametrize("verb", ["delete", "extend", "release"])
async def test_fences(server, queue, verb):
    """delete, extend and release of a receiver return False, and change nothing, once another
    has received it.
    """
    await queue.send("x")
    stale = await queue.receive(vt=0)
    async with AsyncRSMQ.from_url(server.url) as other:
        holder = await other.queue("jobs").receive(vt=50)
        before = keyspace(server)
        with announcements(server) as heard:
            assert await (stale.extend(5) if verb == "extend" else getattr(stale, verb)()) is False
            assert heard() == []
        assert keyspace(server) == before
        assert await holder.extend(60) is True
        assert await holder.delete() is True
    assert await (stale.extend(5) if verb == "extend" else getattr(stale, verb)()) is False


async def test_block_that_succeeds(server, queue):
    """`async with message` deletes it when the block ends."""
    await queue.send("x")
    async with await queue.receive() as message:
        assert message.body == "x"
        assert (await queue.attributes()).msgs == 1
    assert (await queue.attributes()).msgs == 0


async def test_block_that_fails(server, queue):
    """`async with message` makes it visible again at once when the block raises, and the
    exception comes out.
    """
    await queue.send("x")
    error = ZeroDivisionError("the block's own")
    with pytest.raises(ZeroDivisionError) as caught:
        async with await queue.receive(vt=100):
            raise error
    assert caught.value is error
    message = await queue.receive()
    assert (message.body, message.receive_count) == ("x", 2)


async def test_message_is_immutable(queue):
    """A message cannot be changed."""
    await queue.send("x")
    message = await queue.receive()
    for name in ("id", "body", "raw", "receive_count", "visible_until", "anything"):
        with pytest.raises(AttributeError):
            setattr(message, name, "y")
