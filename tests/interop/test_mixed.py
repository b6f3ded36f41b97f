"""All three at work on one queue at the same time. On both event loops."""

import asyncio
from contextlib import suppress
from itertools import chain

import anyio
from aiorsmq import AsyncRSMQ

from interop.peers import Ours
from support import PATIENCE, wait_until

EACH = 100
SENT = [f"{name} {n} 🐇" for name in ("Ours", "Node", "PyRSMQ") for n in range(EACH)]


async def produce(peer):
    for first in range(0, EACH, 10):
        await asyncio.gather(
            *(peer.send(f"{type(peer).__name__} {n} 🐇") for n in range(first, first + 10))
        )


async def consume(peer, received):
    for _ in range(EACH):
        taken = await wait_until(peer.receive)
        received.append((taken.body, taken.rc))
        assert await peer.delete(taken.id)


async def consume_as_stream(ours, received):
    with anyio.fail_after(PATIENCE):
        async for message in ours.queue.messages():
            async with message:
                received.append((message.body, message.receive_count))
            if len(received) == EACH:
                return


async def pop(peer, received):
    for _ in range(EACH):
        taken = await wait_until(peer.pop)
        received.append((taken.body, taken.rc))


async def work_together(server, start_node, pyrsmq, *, our_consumer, their_consumer):
    """Three producers, three consumers that each take a third: every message once, and the books
    agree.
    """
    node = await start_node(realtime=True)
    async with AsyncRSMQ.from_url(server.url, poll_interval=0.1) as rsmq:
        everyone = ours, *others = Ours(rsmq), node, pyrsmq
        await ours.create()
        received = [[], [], []]
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(our_consumer(ours, received[0]))
            for other, mine in zip(others, received[1:], strict=True):
                tasks.create_task(their_consumer(other, mine))
            for peer in everyone:
                tasks.create_task(produce(peer))
        assert sorted(chain(*received)) == sorted((body, 1) for body in SENT)
        await check_the_books(server, everyone, totalrecv=len(SENT))


async def check_the_books(server, everyone, totalrecv):
    """The queue is empty, and all three know it."""
    for peer in everyone:
        attributes = await peer.attributes()
        assert (attributes["totalsent"], attributes["totalrecv"]) == (len(SENT), totalrecv)
        assert (attributes["msgs"], attributes["hiddenmsgs"]) == (0, 0)
    assert server.message_fields() == set()


async def test_send_receive_delete(server, start_node, pyrsmq):
    """With three producers and three consumers on one queue, each message is delivered once, and
    none is left.
    """
    await work_together(
        server, start_node, pyrsmq, our_consumer=consume_as_stream, their_consumer=consume
    )


async def test_pop(server, start_node, pyrsmq):
    """With three producers, and all three consumers popping, each message is delivered once, and
    none is left.
    """
    await work_together(server, start_node, pyrsmq, our_consumer=pop, their_consumer=pop)


class HandlerError(Exception):
    pass


async def fail_first(peer, done):
    """Give back what was never received before; do the rest."""

    async def received_or_over():
        return await peer.receive() or len(done) == 3 * EACH

    while (taken := await wait_until(received_or_over)) is not True:
        if taken.rc == 1:
            assert await peer.hide(taken.id, 0)
        else:
            assert await peer.delete(taken.id)
            done.append((taken.body, taken.rc))


async def fail_first_as_stream(ours, done):
    async for message in ours.queue.messages(prefetch=3):
        with suppress(HandlerError):
            async with message:
                if message.receive_count == 1:
                    raise HandlerError
                done.append((message.body, message.receive_count))


async def test_failing_handlers(server, start_node, pyrsmq):
    """A message that any of three consumers gives back is delivered once more, to any of them, and
    then is done.
    """
    node = await start_node(realtime=True)
    async with AsyncRSMQ.from_url(server.url, poll_interval=0.1) as rsmq:
        everyone = Ours(rsmq), node, pyrsmq
        await everyone[0].create()
        done = []
        async with asyncio.TaskGroup() as tasks:
            stream = tasks.create_task(fail_first_as_stream(everyone[0], done))
            for peer in everyone:
                tasks.create_task(produce(peer))
                if peer is not everyone[0]:
                    tasks.create_task(fail_first(peer, done))
            await wait_until(lambda: len(done) == 3 * EACH)
            stream.cancel()
        assert sorted(done) == sorted((body, 2) for body in SENT)
        await check_the_books(server, everyone, totalrecv=2 * len(SENT))
