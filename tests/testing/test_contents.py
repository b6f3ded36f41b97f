"""`queue_contents`: what is in a queue, as a list."""

import pytest
from aiorsmq import JSON, QueueDoesNotExist
from aiorsmq.testing import queue_contents


async def test_decoded_and_in_order(rsmq):
    """Bodies are decoded, in the order in which they become visible; nothing is received."""
    queue = rsmq.queue("jobs", codec=JSON)
    await queue.create()
    await queue.send({"n": 1}, delay=60)
    await queue.send({"n": 2})
    contents = await queue_contents(queue)
    assert contents == [{"n": 2}, {"n": 1}]
    assert contents.visible == [{"n": 2}]
    assert contents.hidden == [{"n": 1}]
    assert [message.receive_count for message in await queue.peek()] == [0, 0]


async def test_in_hand(queue):
    """A message in hand is hidden."""
    await queue.send("a")
    await queue.receive()
    assert (await queue_contents(queue)).hidden == ["a"]


async def test_what_cannot_be_decoded(rsmq, queue):
    """A body that the codec cannot decode is shown as stored, in its place."""
    await queue.send_many(['{"n": 1}', "no JSON", '{"n": 2}'])
    contents = await queue_contents(rsmq.queue("jobs", codec=JSON))
    assert contents == [{"n": 1}, b"no JSON", {"n": 2}]


async def test_empty(queue):
    """An empty queue equals an empty list."""
    assert await queue_contents(queue) == []


async def test_too_many(queue):
    """More than can be compared is an error, not a part of the whole."""
    await queue.send_many(map(str, range(1001)))
    with pytest.raises(AssertionError, match=r"queue 'jobs' has 1001 messages, .* up to 1000"):
        await queue_contents(queue)


async def test_no_such_queue(rsmq):
    """A queue that does not exist is not an empty one."""
    with pytest.raises(QueueDoesNotExist):
        await queue_contents(rsmq.queue("nosuch"))
