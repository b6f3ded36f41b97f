"""The announcements of a queue, for those who look at it again when it may have changed."""

import asyncio
import gc

import anyio
import pytest
from aiorsmq import AsyncRSMQ, ClientClosed, sync

from operations.others import send
from support import PATIENCE, never_polling, wait_for_listener, wait_until


@pytest.fixture
async def client(server, queue):
    async with never_polling(server) as client:
        yield client


async def step(announcements):
    with anyio.fail_after(PATIENCE):
        return await anext(announcements)


async def is_quiet(announcements):
    """Whether no step comes; a step that is cancelled takes nothing away."""
    with anyio.move_on_after(0.1):
        await anext(announcements)
        return False
    return True


async def waiting_in(announcements):
    """A task that waits for the next step."""
    waiting = asyncio.ensure_future(anext(announcements))
    await wait_until(lambda: announcements._readers)
    return waiting


async def end_of(waiting):
    with pytest.raises(StopAsyncIteration):
        await asyncio.wait_for(waiting, PATIENCE)


async def test_steps(server, queue, client):
    """The first step comes when it listens; then one for each announcement."""
    announcements = client.queue("jobs").announcements()
    assert await step(announcements) is None
    assert server.redis.pubsub_numsub("rsmq:rt:jobs") == [(b"rsmq:rt:jobs", 1)]
    assert await is_quiet(announcements)
    for _ in range(3):
        waiting = await waiting_in(announcements)
        await queue.send("x")
        assert await asyncio.wait_for(waiting, PATIENCE) is None


async def test_coalesced(server, queue, client):
    """Those that come while nobody waits are one step."""
    announcements = client.queue("jobs").announcements()
    await step(announcements)
    for _ in range(50):
        server.redis.publish("rsmq:rt:jobs", "1")
    await wait_until(lambda: announcements._flag.is_set)
    await step(client.queue("others").announcements())  # on the same connection, so all are here
    await step(announcements)
    assert await is_quiet(announcements)


async def test_costs_nothing(server, queue, client):
    """It claims nothing, and makes no call."""
    await queue.send("x")
    server.reset_stats()
    announcements = client.queue("jobs").announcements()
    await step(announcements)
    server.redis.publish("rsmq:rt:jobs", "1")
    await step(announcements)
    assert server.script_calls() == 0


async def test_several(server, queue, client):
    """Each iterator gets its first step, and each announcement, also one that begins later."""
    several = [client.queue("jobs").announcements() for _ in range(3)]
    for announcements in several:
        await step(announcements)
    await queue.send("x")
    for announcements in several:
        await step(announcements)
        assert await is_quiet(announcements)


async def test_besides_a_consumer(server, queue, client):
    """A consumer that begins to wait on a channel that the client listens to already misses
    nothing: not even what is announced while its claim is on the way back.
    """
    announcements = client.queue("jobs").announcements()
    await step(announcements)
    jobs = client.queue("jobs")
    await jobs.receive()  # the server knows the script
    for n in range(10):
        server.reset_stats()
        waiting = asyncio.ensure_future(jobs.receive(wait=20, vt=n + 1))
        while not server.script_calls():
            await asyncio.sleep(0)  # a turn, in which the claim is sent but its reply is not read
        send(server, f"{n}")
        server.redis.publish("rsmq:rt:jobs", "1")
        with anyio.fail_after(15):
            message = await waiting
        assert message.body == f"{n}"
        await message.delete()


async def test_cancelled(server, queue, client):
    """Cancelling a step loses no announcement."""
    announcements = client.queue("jobs").announcements()
    await step(announcements)
    waiting = await waiting_in(announcements)
    waiting.cancel()
    await asyncio.wait([waiting])
    await queue.send("x")
    await step(announcements)


async def test_reconnected(server, queue, client):
    """A connection that is lost and there again is news: something may have been missed."""
    announcements = client.queue("jobs").announcements()
    await step(announcements)
    server.redis.client_kill_filter(_type="pubsub", skipme=False)
    await step(announcements)
    await wait_for_listener(server)
    await step(announcements)
    await queue.send("x")
    await step(announcements)


@pytest.mark.parametrize("polls", ["realtime=False", "not permitted"])
async def test_polling(server, queue, polls):
    """Where it cannot listen, a step comes every `poll_interval`, whatever others send."""
    rules = ("reset", "on", ">pw", "+@all", "~*", "resetchannels")
    server.redis.execute_command("ACL", "SETUSER", "deaf", *rules)
    options = {"username": "deaf", "password": "pw"} if polls == "not permitted" else {}
    async with AsyncRSMQ.from_url(
        server.url, realtime=polls == "not permitted", poll_interval=0.01, **options
    ) as client:
        announcements = client.queue("jobs").announcements()
        for _ in range(4):
            await step(announcements)
    server.redis.acl_deluser("deaf")


async def test_polls_while_the_server_is_away(own_server):
    """So it does in an outage."""
    server = own_server()
    async with AsyncRSMQ.from_url(server.url, poll_interval=0.05) as client:
        await client.create_queue(qname="jobs")
        announcements = client.queue("jobs").announcements()
        await step(announcements)
        server.kill()
        for _ in range(4):
            await step(announcements)
        server.start()
        await wait_for_listener(server)


async def test_ends_with_the_client(server, queue):
    """When the client is closed, one that has begun ends quietly; another one raises
    ClientClosed.
    """
    async with never_polling(server) as client:
        announcements = client.queue("jobs").announcements()
        fresh = client.queue("jobs").announcements()
        await step(announcements)
        waiting = await waiting_in(announcements)
    await end_of(waiting)
    await end_of(anext(announcements))
    with pytest.raises(ClientClosed):
        await anext(fresh)
    with pytest.raises(ClientClosed):
        await anext(client.queue("jobs").announcements())


async def test_ends_with_the_streams(server, queue, client):
    """`end_streams` ends it, and those that are made later; calls go on."""
    announcements = client.queue("jobs").announcements()
    await step(announcements)
    waiting = await waiting_in(announcements)
    client.end_streams()
    await end_of(waiting)
    await end_of(anext(client.queue("jobs").announcements()))
    assert await client.queue("jobs").peek() == []


async def test_closed(server, queue, client):
    """`aclose`, and the end of its block, end it for the task that waits."""
    for close in ("aclose", "block"):
        announcements = client.queue("jobs").announcements()
        async with announcements:
            await step(announcements)
            waiting = await waiting_in(announcements)
            if close == "aclose":
                await announcements.aclose()
                await end_of(waiting)
        await end_of(waiting if close == "block" else anext(announcements))


@pytest.mark.parametrize("left", ["break", "exception", "cancelled", "collected"])
async def test_left(server, queue, client, left, monkeypatch):
    """However it is left, the client soon stops listening, and no task is left behind."""
    monkeypatch.setattr("aiorsmq._server.listener.PING_INTERVAL", 0.05)
    tasks = asyncio.all_tasks()

    async def use():
        async for _ in client.queue("jobs").announcements():
            if left == "break":
                break
            if left == "exception":
                raise ZeroDivisionError
            if left == "collected":
                return
            await asyncio.Event().wait()

    using = asyncio.ensure_future(use())
    if left == "cancelled":
        await wait_for_listener(server)
        using.cancel()
    await asyncio.wait([using])
    assert using.cancelled() or (using.exception() is None) == (left != "exception")
    del using
    gc.collect()
    await wait_until(lambda: server.redis.pubsub_numsub("rsmq:rt:jobs")[0][1] == 0)
    await wait_until(lambda: asyncio.all_tasks() == tasks)


async def test_silent_producers(server, queue, client):
    """Producers that announce nothing are not noticed; what another one announces is."""
    announcements = client.queue("jobs").announcements()
    await step(announcements)
    send(server, "quietly")
    assert await is_quiet(announcements)
    server.redis.publish("rsmq:rt:jobs", "2")  # as Node does
    await step(announcements)


async def test_synchronous(server, queue):
    """Its synchronous twin is an iterator, with the same rules."""

    def use():
        with sync.RSMQ.from_url(server.url, poll_interval=3600) as client:
            with client.queue("jobs").announcements() as announcements:
                assert next(announcements) is None
                server.redis.publish("rsmq:rt:jobs", "1")
                assert next(announcements) is None
                announcements.close()
                assert list(announcements) == []
            fresh = client.queue("jobs").announcements()
        with pytest.raises(ClientClosed):
            next(fresh)

    await asyncio.to_thread(use)
