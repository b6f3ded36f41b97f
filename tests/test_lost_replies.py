"""Calls whose reply was lost are repeated; what a repetition does if others acted in between.

| call | repeated | if others acted in between |
|---|---|---|
| send | yes, under the same ids | not stored again if it is in the queue or its dead-letter queue |
| delete by receipt | yes | False if it is gone and the lease has ended: another may have done it |
| delete by id | yes | True: it is gone |
| extend, release | yes | False if another has received it |
| change of visibility by id | no | |
| receive | yes | claims another message; the first is redelivered when its lease ends |
| pop, hand back, put back | no | |
| create | yes | True only of a queue with the same settings |
| delete of a queue | yes | a queue that was created since stays |
| set attributes | yes | the last writer wins |
| dead-letter, redrive | yes, fenced | not moved again once it has left its place |
| replace | yes, with the same new id | raises if neither message is there |
| import | yes, under the same ids | not stored again while one message of its step is there |
| import with ids kept | yes | what has been deleted since is stored again |
| purge | all steps but the one that empties | what was sent since stays |
| purge with conditions | yes | what meets them is deleted; the first attempt's is not counted |
"""

import asyncio
import time

import pytest
import redis
from aiorsmq import AsyncRSMQ, QueueAlreadyExists
from aiorsmq.testing import advance
from redis.exceptions import ConnectionError

from support import PATIENCE, wait_until


async def test_lost_reply_to_a_send(server, queue, proxy):
    """A send whose reply is lost is repeated, and makes one message, counted once, under the id it
    returns.
    """
    async with AsyncRSMQ.from_url(proxy.url) as other:
        behind = other.queue("jobs")
        await behind.attributes()
        for n in range(5):
            proxy.cut_after_execution = 1
            id = await behind.send(str(n))
            assert [message.id for message in await queue.peek(100)][-1] == id
        proxy.cut_after_execution = 1
        ids = await behind.send_many(["a", "b", "c"])
        assert [message.id for message in await queue.peek(100)][-3:] == ids
    attributes = await queue.attributes()
    assert (attributes.msgs, attributes.totalsent) == (8, 8)


async def test_lost_reply_to_a_delete(server, queue, proxy):
    """A delete, an extend and a release whose reply is lost are repeated, and return True."""
    await queue.send_many(["x", "y"])
    async with AsyncRSMQ.from_url(proxy.url) as other:
        for cuts in (
            0,
            1,
        ):  # first so that the server knows the scripts, and the reply that is cut is not NOSCRIPT
            message = await other.queue("jobs").receive()
            for call in (
                lambda message=message: message.extend(60),
                message.release,
                message.delete,
            ):
                proxy.cut_after_execution = cuts
                assert await call()
    assert (await queue.attributes()).msgs == 0


async def test_lost_reply_to_create_and_delete_queue(server, proxy):
    """Creating and deleting a queue are repeated after a lost reply; a queue of somebody else's is
    still reported.
    """
    async with AsyncRSMQ.from_url(proxy.url) as other:
        await other.list_queues()
        proxy.cut_after_execution = 1
        assert await other.create_queue(qname="new") is True
        server.redis.hset("rsmq:new:Q", "created", 1000)  # long ago
        proxy.cut_after_execution = 1
        with pytest.raises(QueueAlreadyExists):
            await other.create_queue(qname="new")
        proxy.cut_after_execution = 1
        assert await other.delete_queue(qname="new") is True


async def test_lost_reply_to_a_receive(server, queue, proxy):
    """A receive whose reply is lost costs a lease and a count, never the message."""
    async with AsyncRSMQ.from_url(proxy.url) as other:
        behind = other.queue("jobs")
        assert await behind.receive() is None  # so that the server knows the script
        await queue.send("x")
        proxy.cut_after_execution = 1
        asking = asyncio.ensure_future(behind.receive(wait=PATIENCE))
        await wait_until(lambda: proxy.cuts == 1)
        await advance(queue, "30s")  # to the end of its lease
        message = await asking
        assert (message.body, message.receive_count) == ("x", 2)
        await message.delete()


async def test_lost_reply_to_a_pop(server, queue, proxy):
    """A pop whose reply is lost raises: it may not be repeated, and the message is gone."""
    async with AsyncRSMQ.from_url(proxy.url) as other:
        behind = other.queue("jobs")
        assert await behind.pop() is None  # so that the server knows the script
        await queue.send_many(["x", "y"])
        proxy.cut_after_execution = 1
        with pytest.raises(redis.ConnectionError):
            await behind.pop()
    assert [message.body for message in await queue.peek()] == ["y"]


@pytest.fixture
def cut_request(proxy):
    """`cut_request(action)`: the next request is lost, and the action comes before the
    repetition.
    """

    def cut(before_cut):
        proxy.cut_before_execution, proxy.before_cut = 1, before_cut

    return cut


async def test_delete_of_a_queue(far, rsmq, cut_reply):
    """Deleting a queue leaves a queue alone that was created after it was gone, with what was sent
    to it.
    """
    for name in ("other", "jobs"):
        await rsmq.queue(name).create()
    await far.queue("other").delete()  # so that the server knows the script
    there, jobs, ids = far.queue("jobs"), rsmq.queue("jobs"), []

    async def create_again():
        await jobs.create()
        ids.append(await jobs.send("acknowledged"))

    cut_reply(create_again)
    assert await there.delete() is True
    assert [message.id for message in await jobs.peek()] == ids


async def test_delete_of_a_queue_that_was_not_heard(far, rsmq, cut_request):
    """Deleting a queue is repeated if the server has not heard of it, however new the queue is."""
    await far.queue("jobs").create()
    cut_request(None)
    assert await far.queue("jobs").delete() is True
    assert await rsmq.list_queues() == set()


async def test_put_back(far, queue, cut_reply):
    """A popped message that is put back is not put back again: another consumer may have popped it
    since.
    """
    there = far.queue("jobs")
    await queue.send_many(["first", "second"])
    for _ in range(2):
        popped = await there.pop()
        record = popped._record
        if popped.body == "first":
            await there._core.settler.restore([record])  # so that the server knows the script
            await (await queue.receive()).delete()
    taken = []

    async def pop():
        taken.append((await queue.pop()).body)

    cut_reply(pop)
    with pytest.raises(ConnectionError):
        await there._core.settler.restore([record])
    assert taken == ["second"]
    assert (await queue.attributes()).msgs == 0


async def test_send_of_what_has_died(far, rsmq, cut_reply):
    """A send is not repeated if its message is in the dead-letter queue by then: it is there
    once.
    """
    jobs = rsmq.queue("jobs")
    await jobs.create(max_receives=1, dead_letter_queue="dead")
    await far.queue("jobs").send("warm-up")
    assert await jobs.pop()

    async def die():
        message = await jobs.receive()
        assert await jobs._core.bury([message._record], "hopeless") == ["dead"]

    for body in ("first", "second"):  # the dead-letter queue is not known, and known
        cut_reply(die)
        id = await far.queue("jobs").send(body)
        assert (await jobs.attributes()).msgs == 0
        assert [letter.id for letter in await rsmq.queue("dead").reasons()][-1] == id
    cut_reply(die)
    ids = await far.queue("jobs").send_many(["third"])
    assert ids == [(await rsmq.queue("dead").reasons())[-1].id]
    assert (await jobs.attributes()).msgs == 0


async def test_send_of_which_some_are_gone(far, queue, cut_reply):
    """Of messages sent together, those are not sent again that were received and deleted, while
    others are there.
    """
    there = far.queue("jobs")
    await there.send_many(["warm-up"])
    assert await queue.pop()
    cut_reply(queue.pop)
    ids = await there.send_many(["gone", "there"])
    assert [message.id for message in await queue.peek()] == ids[1:]


async def test_first_attempt_after_its_repetition(server, queue):
    """A first attempt of a send that arrives after its repetition, late, leaves a message alone
    that a consumer holds, and is not counted again.
    """
    sender, calls = queue._core.sender, []
    submit = sender._node.submit
    sender._node.submit = lambda call, *rest: (calls.append(call), submit(call, *rest))
    await queue.send("job")
    sender._node.submit = submit
    held = await queue.receive(vt=300)
    assert await sender._node.run(calls[0]) == [b"stored", 65536]
    assert await queue.receive() is None
    assert await held.delete() is True
    assert (await queue.attributes()).totalsent == 1


@pytest.mark.parametrize("later", [65536, 1024])
async def test_send_of_what_was_too_long(far, queue, cut_reply, later):
    """A repeated send returns an id for what is stored, and raises for what is too long, whatever
    maxsize was then.
    """
    await queue.set_attributes(maxsize=66560 - later)
    there = far.queue("jobs")
    await there.send("warm-up")
    cut_reply(lambda: queue.set_attributes(maxsize=later))
    sends = there.send("short"), there.send("x" * 2000)
    results = await asyncio.gather(*sends, return_exceptions=True)
    stored = {message.id for message in await queue.peek()}
    assert {result for result in results if isinstance(result, str)} <= stored
    assert len(stored) == 3


async def test_hand_back(far, queue, cut_request, cut_reply):
    """Undoing a receipt is repeated: the message is back in its place, once."""
    there = far.queue("jobs")
    await queue.send("job")
    for cut in (None, cut_request, cut_reply):
        message = await there.receive(vt=300)
        if cut is not None:
            cut(None)
        await there._core.settler.hand_back([message._record])
        (peeked,) = await queue.peek()
        assert (peeked.receive_count, peeked._record.place) == (0, message._record.place)
        assert (await queue.attributes()).totalrecv == 0


async def test_deletes_of_two_receipts(far, queue, cut_reply):
    """Of two deletes in one repeated call, that of the later receipt has deleted the message."""
    await queue.send_many(["warm-up", "job"])
    there = far.queue("jobs")
    assert await (await there.receive()).delete()
    stale = await there.receive(vt=300)
    await queue.change_visibility(stale.id, 0)
    holder = await there.receive()
    cut_reply(None)
    assert await asyncio.gather(stale.delete(), holder.delete()) == [False, True]


async def test_delete_after_an_extension(far, queue, cut_reply):
    """A delete that is repeated within an extended lease, and finds the message gone, says True."""
    await queue.send_many(["warm-up", "job"])
    there = far.queue("jobs")
    assert await (await there.receive()).delete()
    message = await there.receive(vt=0.05)
    assert await message.extend(300) is True
    await wait_until(lambda: time.time() > message.visible_until.timestamp())
    cut_reply(None)
    assert await message.delete() is True


async def test_late_delete(far, queue, cut_request):
    """A delete that is repeated after its lease has ended, and finds the message gone, says False:
    another consumer has deleted it, and was told True.
    """
    await queue.send_many(["warm-up", "job"])
    there = far.queue("jobs")
    assert await (await there.receive()).delete()
    late = await there.receive(vt=0.001)
    said = []

    async def receive_and_delete():
        said.append(await (await queue.receive(wait=5)).delete())

    cut_request(receive_and_delete)
    assert await late.delete() is False
    assert said == [True]


async def test_delete_within_the_lease(far, queue, cut_reply):
    """A delete that is repeated while its lease lasts, and finds the message gone, says True: it
    was its own.
    """
    await queue.send_many(["warm-up", "job", "extended"])
    there = far.queue("jobs")
    assert await (await there.receive()).delete()
    for _ in range(2):
        message = await there.receive()
        cut_reply(None)
        assert await message.delete() is True
    assert (await queue.attributes()).msgs == 0


async def test_visibility_by_id(far, queue, cut_reply):
    """A change of visibility by id is not repeated: it would show what another consumer holds by
    then.
    """
    id = await queue.send("job", delay=100)
    there = far.queue("jobs")
    await there.change_visibility(id, 100)  # so that the server knows the script
    held = []

    async def receive():
        held.append(await queue.receive(wait=5))

    cut_reply(receive)
    with pytest.raises(ConnectionError):
        await there.change_visibility(id, 0)
    assert held[0].id == id
    assert await queue.receive() is None


async def test_release(far, queue, cut_reply):
    """A release that is repeated leaves the message to who has received it since."""
    await queue.send_many(["warm-up", "job"])
    there = far.queue("jobs")
    await (await there.receive()).release(delay=100)
    message, held = await there.receive(), []

    async def receive():
        held.append(await queue.receive(wait=5))

    cut_reply(receive)
    assert await message.release() is False
    assert await queue.receive() is None
    assert await held[0].delete() is True


@pytest.mark.parametrize(
    "settings", [{"vt": 31}, {"maxsize": -1}, {"max_receives": 3, "dead_letter_queue": "dead"}]
)
async def test_create(server, far, rsmq, cut_request, settings):
    """A create that is repeated takes a queue with other settings for somebody else's."""
    await far.create_queue(qname="warm-up")

    async def create():
        await rsmq.create_queue(qname="jobs", **settings)

    cut_request(create)
    with pytest.raises(QueueAlreadyExists):
        await far.create_queue(qname="jobs")
