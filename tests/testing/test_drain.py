"""`drain`: a real worker, until nothing is left to do."""

import asyncio

import anyio
import pytest
from aiorsmq import AsyncRSMQ, QueueDoesNotExist, Reject, Retry
from aiorsmq.testing import advance, drain, queue_contents

from support import PATIENCE, Handler, at_once, wait_until


async def test_all_is_handled(queue):
    """All visible messages are handled, and their number is returned."""
    seen = []
    await queue.send_many(["a", "b", "c"])
    assert await drain(queue, lambda message: seen.append(message.body), concurrency=1) == 3
    assert seen == ["a", "b", "c"]
    assert await queue_contents(queue) == []


async def test_an_empty_queue(queue):
    """An empty queue is drained."""
    assert await drain(queue, print) == 0


async def test_what_is_hidden_stays(queue):
    """A delayed message, and one that another consumer holds, are left alone."""
    await queue.send("in hand")
    held = await queue.receive()
    await queue.send("later", delay=60)
    assert await drain(queue, print) == 0
    assert await queue_contents(queue) == ["in hand", "later"]
    assert await held.delete()


async def test_what_the_handler_sends(queue):
    """What a handler sends to the queue is handled as well."""

    async def count_down(message):
        if number := int(message.body):
            await queue.send(str(number - 1))

    await queue.send("20")
    assert await drain(queue, count_down) == 21


async def test_a_slow_handler_is_waited_for(queue):
    """A message that becomes visible while the last handler runs is handled too."""
    handler = Handler()

    async def handle(message):
        if message.body == "first":
            await handler(message)

    await queue.send("first")
    draining = asyncio.create_task(drain(queue, handle))
    await handler.begun.wait()
    await queue.send("second", delay=60)
    await advance(queue, "1m")
    await wait_until(lambda: is_alone(queue))
    assert not draining.done()
    handler.go_on.set()
    assert await draining == 2


async def is_alone(queue):
    return await queue_contents(queue) == ["first"]


async def test_the_first_error_is_raised(queue):
    """The handler's first exception is raised at the end, and each message has met its fate."""

    def handle(message):
        if message.body.startswith("bad"):
            raise LookupError(message.body)

    await queue.send_many(["bad 1", "good", "bad 2"])
    with pytest.raises(LookupError, match="bad 1"):
        await drain(queue, handle, concurrency=1)
    assert sorted(await queue_contents(queue)) == ["bad 1", "bad 2"]
    assert (await queue_contents(queue)).visible == []
    await advance(queue, "1h")
    assert await drain(queue, lambda message: None) == 2


async def test_a_failed_assertion_is_raised(queue):
    """An assertion in a handler fails the test."""

    def handle(message):
        assert message.body == "expected"

    await queue.send("unexpected")
    with pytest.raises(AssertionError, match="unexpected"):
        await drain(queue, handle)


async def test_a_timeout_is_raised(queue):
    """A handler that is cancelled by its timeout is an error."""
    await queue.send("slow")
    with pytest.raises(TimeoutError, match=r"more than 0\.01 seconds"):
        await drain(queue, Handler(), timeout=0.01)


async def test_verdicts_are_no_errors(rsmq):
    """Retry and Reject are followed, not raised."""
    queue = rsmq.queue("jobs")
    await queue.create(max_receives=3, dead_letter_queue="dead")
    await queue.send_many(["retry", "reject"])

    def handle(message):
        raise Retry(delay=60) if message.body == "retry" else Reject("no good")

    assert await drain(queue, handle) == 0
    assert await queue_contents(queue) == ["retry"]
    assert await queue_contents(rsmq.queue("dead")) == ["reject"]


async def test_retries_at_once(queue):
    """Retries that are due at once are part of it: the last attempt counts, the first raises."""
    attempts = []

    def handle(message):
        attempts.append(message.receive_count)
        if message.receive_count < 3:
            raise ValueError(message.receive_count)

    await queue.send("flaky")
    with pytest.raises(ValueError, match="1"):
        await drain(queue, handle, backoff=at_once)
    assert attempts == [1, 2, 3]


async def test_an_endless_handler(queue):
    """A handler that always sends another message is stopped, with a word of what is wrong."""
    await queue.send("once")
    message = r"received \d+ messages of queue 'jobs', and there are more: does its handler send"
    with anyio.fail_after(PATIENCE), pytest.raises(AssertionError, match=message):
        await drain(queue, lambda message: queue_again(queue), limit=10)
    assert await queue_contents(queue) == ["again"]


async def queue_again(queue):
    await queue.send("again")


async def test_exactly_the_limit(queue):
    """As many messages as the limit are no endless loop."""
    await queue.send_many(map(str, range(5)))
    assert await drain(queue, print, limit=5) == 5


async def test_another_consumer(server, queue):
    """Messages that another consumer handles are not waited for by number."""
    seen = []
    async with AsyncRSMQ.from_url(server.url) as other:
        async with other.queue("jobs").worker(lambda message: seen.append(message.id)):
            await queue.send_many(map(str, range(50)))
            count = await drain(queue, lambda message: None)
        assert count + len(seen) == 50
    assert await queue_contents(queue) == []


async def test_on_event(queue):
    """The options are a worker's; what happens is told to `on_event` as ever."""
    kinds = []
    await queue.send("a")
    await drain(queue, lambda message: None, on_event=lambda event: kinds.append(event.kind))
    assert kinds == ["received", "succeeded"]


async def test_cancelled(queue):
    """Cancelling stops the worker, which waits for its handlers."""
    handler = Handler()
    await queue.send("a")
    draining = asyncio.create_task(drain(queue, handler))
    await handler.begun.wait()
    draining.cancel()
    handler.go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await draining
    assert await queue_contents(queue) == []


async def test_no_such_queue(rsmq):
    """A queue that does not exist cannot be drained."""
    with pytest.raises(QueueDoesNotExist):
        await drain(rsmq.queue("nosuch"), print)
