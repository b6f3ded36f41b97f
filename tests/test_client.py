"""The life of a client: made anywhere, used in one event loop, closed completely."""

import asyncio
import gc
import multiprocessing
import time
import warnings

import anyio
import anyio.lowlevel
import pytest
from aiorsmq import AsyncRSMQ, ClientClosed, InvalidParameterValue, WrongEventLoop

from entrances import ENTRANCES
from support import PATIENCE, connector_of, stalls, wait_for_listener, wait_until


def test_made_without_a_loop():
    """Making a client does no I/O and needs no event loop; one that was never used need not be
    closed.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        AsyncRSMQ(host="nowhere.invalid")
        gc.collect()


async def test_ten_operations(rsmq):
    """RSMQ's operations are methods with keyword-only arguments, and qname defaults to the
    client's.
    """
    assert await rsmq.create_queue(qname="a", vt=10) is True
    assert await rsmq.list_queues() == {"a"}
    id = await rsmq.send_message(qname="a", message="hello", delay=0)
    assert (await rsmq.get_queue_attributes(qname="a")).msgs == 1
    assert (await rsmq.set_queue_attributes(qname="a", vt=20)).vt == 20
    message = await rsmq.receive_message(qname="a")
    assert (message.id, message.body) == (id, "hello")
    assert await rsmq.change_message_visibility(qname="a", id=id, vt=0) is True
    assert (await rsmq.pop_message(qname="a")).id == id
    assert await rsmq.delete_message(qname="a", id=id) is False
    assert await rsmq.delete_queue(qname="a") is True


async def test_default_queue(server):
    """The client's qname is meant where none is given; without it, that is an error."""
    async with AsyncRSMQ.from_url(server.url, qname="usual") as rsmq:
        await rsmq.create_queue()
        await rsmq.send_message(message="x")
        async for message in rsmq.messages():
            await message.delete()
            break
        await rsmq.delete_queue()
    async with AsyncRSMQ.from_url(server.url) as rsmq:
        with pytest.raises(InvalidParameterValue, match="qname"):
            await rsmq.send_message(message="x")


async def test_namespaces(server):
    """Two namespaces do not see each other."""
    async with (
        AsyncRSMQ.from_url(server.url, ns="one") as one,
        AsyncRSMQ.from_url(server.url, ns="two") as two,
    ):
        await one.create_queue(qname="q")
        assert await two.list_queues() == set()


async def test_closed(server):
    """A closed client refuses every call; closing twice is allowed."""
    rsmq = AsyncRSMQ.from_url(server.url)
    queue = rsmq.queue("jobs")
    await queue.create()
    await queue.send("x")
    message = await queue.receive()
    await rsmq.aclose()
    await rsmq.aclose()
    for call in (
        rsmq.list_queues,
        queue.attributes,
        lambda: queue.send("y"),
        lambda: queue.send_many(["y"]),
        queue.receive,
        lambda: queue.receive(wait=1),
        queue.pop,
        message.delete,
        lambda: message.extend(1),
        queue.purge,
    ):
        with pytest.raises(ClientClosed):
            await call()


async def test_closing_takes_no_time(server, queue):
    """Closing a client that listens waits for nothing."""
    other = AsyncRSMQ.from_url(server.url, poll_interval=3600)
    waiting = asyncio.ensure_future(anext(other.queue("jobs").messages()))
    await wait_for_listener(server)
    async with stalls() as lost:
        started = time.monotonic()
        await other.aclose()
        assert time.monotonic() - started < 1 + lost()
    with pytest.raises(StopAsyncIteration):
        await waiting


async def test_closing_finishes_what_was_submitted(server, queue):
    """What was submitted before `aclose()` is carried out."""
    other = AsyncRSMQ.from_url(server.url)
    jobs = other.queue("jobs")
    sends = [asyncio.ensure_future(jobs.send(str(n))) for n in range(1000)]
    await asyncio.sleep(0)
    await other.aclose()
    assert len(set(await asyncio.gather(*sends))) == 1000
    assert (await queue.attributes()).msgs == 1000


async def test_closing_ends_a_long_poll_that_claims(server, queue):
    """A long poll that claims while the client closes is turned away; nothing stays hidden."""
    other = AsyncRSMQ.from_url(server.url, poll_interval=0.01)
    polling = [asyncio.ensure_future(other.queue("jobs").receive(wait=60)) for _ in range(20)]
    await wait_until(server.redis.pubsub_channels)
    await other.aclose()
    with anyio.fail_after(PATIENCE):
        results = await asyncio.gather(*polling, return_exceptions=True)
    assert [type(result) for result in results] == [ClientClosed] * 20


async def test_cancelled_closing_goes_on(server, queue):
    """Cancelling stops the wait for `aclose()`, not the closing: what was claimed ahead is handed
    back.
    """
    await queue.send_many(["x"] * 5)
    with anyio.CancelScope() as scope:
        async with AsyncRSMQ.from_url(server.url) as other:
            await (await anext(other.queue("jobs").messages(prefetch=3))).release()
            scope.cancel()
            await anyio.lowlevel.checkpoint()

    async def nothing_is_hidden():
        return (await queue.attributes()).hiddenmsgs == 0

    await wait_until(nothing_is_hidden)


async def test_exceptions_come_out_as_themselves(rsmq):
    """An exception in the user's block is not wrapped in a group."""
    with pytest.raises(KeyError):
        async with rsmq.queue("jobs").messages():
            raise KeyError


async def test_entered_and_left_in_different_tasks(server):
    """A client may be entered in one task and left in another, as fixtures and lifespans do."""
    rsmq = AsyncRSMQ.from_url(server.url)
    await asyncio.create_task(rsmq.__aenter__())
    await asyncio.create_task(rsmq.create_queue(qname="q"))
    waiting = asyncio.create_task(rsmq.receive_message(qname="q", wait=10))
    await wait_until(server.redis.pubsub_channels)
    await asyncio.create_task(rsmq.__aexit__(None, None, None))
    with pytest.raises(ClientClosed):
        await waiting


def test_a_second_event_loop(running_server):
    """A client that was used in one event loop says plainly that it cannot be used in another."""
    rsmq = AsyncRSMQ.from_url(running_server.url)
    queue = rsmq.queue("jobs")
    with asyncio.Runner() as first:
        first.run(queue.create(exist_ok=True))
        for call in (
            queue.attributes,
            lambda: queue.send("x"),
            queue.receive,
            lambda: anext(queue.messages()),
        ):
            with pytest.raises(WrongEventLoop, match="another event loop"):
                asyncio.run(_call(call))
        first.run(queue.delete())
        first.run(rsmq.aclose())


async def _call(call):
    return await call()


def test_what_to_do_in_another_event_loop(running_server):
    """The error says what to do where one program has several event loops."""
    rsmq = AsyncRSMQ.from_url(running_server.url)
    with asyncio.Runner() as first:
        first.run(rsmq.list_queues())
        with pytest.raises(WrongEventLoop) as caught:
            asyncio.run(rsmq.list_queues())
        first.run(rsmq.aclose())
    words = ("in tests", "Flask", "Django", "aiorsmq.sync.RSMQ", "aiorsmq.integrations.django")
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize("entrance", ENTRANCES.values(), ids=ENTRANCES)
def test_without_an_event_loop(entrance):
    """Where no event loop runs, every use says what to do; there is nothing to close then."""

    async def use():
        await entrance(AsyncRSMQ())

    with pytest.raises(WrongEventLoop) as caught:
        use().send(None)
    assert str(caught.value) == (
        "no event loop is running: use asyncio.run(...), or aiorsmq.sync in code without await"
    )
    assert caught.value.__suppress_context__


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork(running_server):
    """A client that was used before a fork says plainly that the child cannot use it."""
    rsmq = AsyncRSMQ.from_url(running_server.url)

    async def use():
        await rsmq.list_queues()
        context = multiprocessing.get_context("fork")
        said = context.SimpleQueue()
        child = context.Process(target=_in_the_child, args=(rsmq, said))
        child.start()
        what = await asyncio.to_thread(said.get)
        child.join()
        await rsmq.aclose()
        return what

    assert "another process" in asyncio.run(use())


def _in_the_child(rsmq, said):
    asyncio.events._set_running_loop(None)
    try:
        asyncio.run(rsmq.list_queues())
    except WrongEventLoop as error:
        said.put(str(error))
    else:
        said.put("no error")


async def test_never_closed(server):
    """A client that was used and never closed gives a ResourceWarning."""
    rsmq = AsyncRSMQ.from_url(server.url)
    await rsmq.list_queues()
    connections, upkeep = connector_of(rsmq), rsmq._engine.upkeep
    with pytest.warns(ResourceWarning, match="unclosed <AsyncRSMQ"):
        del rsmq
    await connections.aclose()
    await upkeep.finish(1)


async def test_handles_leave_nothing(rsmq):
    """Handles of many queues leave nothing in the client once they are dropped, without waiting for
    the garbage collector.
    """
    gc.disable()
    try:
        for n in range(100):
            queue = rsmq.queue(f"q{n}")
            await queue.create()
            await queue.send("x")
            await (await queue.receive()).delete()
            assert await queue.receive() is None
        del queue
        assert rsmq._cores.cores() == []
    finally:
        gc.enable()


async def test_closing_goes_on_when_its_caller_stops_waiting(server):
    """`aclose()` that is cancelled leaves nothing behind, and a second one waits for the first."""
    rsmq = AsyncRSMQ.from_url(server.url)
    await rsmq.list_queues()
    closing = asyncio.ensure_future(rsmq.aclose())
    await asyncio.sleep(0)
    closing.cancel()
    await asyncio.wait([closing])
    await rsmq.aclose()
    await wait_until(lambda: server.clients() == 0)


async def test_a_blocks_own_exception(server):
    """`async with message` raises what the block raised, also if the message cannot be released."""
    async with AsyncRSMQ.from_url(server.url) as rsmq:
        await rsmq.queue("jobs").create()
        await rsmq.queue("jobs").send("x")
        message = await rsmq.queue("jobs").receive()
        await rsmq.queue("jobs").delete()
        with pytest.raises(KeyError):
            async with message:
                raise KeyError
