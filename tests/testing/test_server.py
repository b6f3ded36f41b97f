"""A server for tests, and its clients, without pytest's fixtures."""

import asyncio
import gc
import threading

import pytest
from aiorsmq import AsyncRSMQ
from aiorsmq.testing import LeftRunning, Server, queue_contents, rsmq_test_server
from redis.exceptions import ConnectionError


@pytest.fixture
def kit(running_server):
    """The kit's view of our own server."""
    kit = Server(running_server.url)
    yield kit
    kit.redis.close()


@pytest.mark.parametrize("scheme", ["redis", "valkey"])
def test_url(scheme):
    """Only a URL's scheme is translated for redis-py: hosts and passwords may be "valkey", too."""
    server = Server(f"{scheme}://:valkey@valkey:1")
    options = server.redis.connection_pool.connection_kwargs
    assert (options["host"], options["password"]) == ("valkey", "valkey")


def test_never_connected(tmp_path):
    """A client that has found no server has nothing to close, and nothing is said about it."""
    nobody = Server(f"unix://{tmp_path}/none.sock")
    with nobody.client("ns") as rsmq, pytest.raises(ConnectionError):
        asyncio.run(rsmq.list_queues())
    del rsmq
    gc.collect()  # a warning of its end would fail the test


def test_a_loop_that_ends_first(kit):
    """The client is closed with its loop."""
    with kit.client() as rsmq:
        asyncio.run(rsmq.list_queues())
        assert " closed>" in repr(rsmq)


def test_a_loop_that_goes_on(kit):
    """It is closed at the end of the block if its loop lives longer."""
    with asyncio.Runner() as runner:
        with kit.client() as rsmq:
            runner.run(rsmq.list_queues())
            assert " closed>" not in repr(rsmq)
        assert " closed>" in repr(rsmq)


async def test_in_its_own_loop(kit):
    """Within its own loop nobody can wait for it, so it is closed shortly after the block."""
    with kit.client() as rsmq:
        await rsmq.list_queues()
    await asyncio.wait(
        {task for task in asyncio.all_tasks() if task.get_name() == "aiorsmq.testing"}
    )
    assert " closed>" in repr(rsmq)


def test_a_loop_of_another_thread(kit):
    """A loop that runs in another thread, as that of a TestClient, is no obstacle."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        with kit.client() as rsmq:
            asyncio.run_coroutine_threadsafe(rsmq.list_queues(), loop).result()
        assert " closed>" in repr(rsmq)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
def test_a_loop_closed_by_hand(kit):
    """A loop that is closed over its tasks leaves no way to close the client: that is an error."""
    client = kit.client()
    rsmq = client.__enter__()
    loop = asyncio.new_event_loop()
    loop.run_until_complete(rsmq.list_queues())
    loop.close()
    with pytest.raises(LeftRunning, match=r"end the loop as asyncio\.run does"):
        client.__exit__(None, None, None)
    del rsmq, loop
    gc.collect()


def test_namespaces(kit):
    """A namespace ends with all its keys, and with no other's."""
    with kit.namespace() as one, kit.namespace() as other:
        kit.create_queue(one, "jobs", vt=5, max_receives=2, dead_letter_queue="dead")
        kit.create_queue(other, "jobs")
        kit.redis.set(f"{one}0:key", "another's")
        assert len(kit.redis.keys(f"{one}:*")) == 3
    assert kit.redis.keys(f"{one}*") == [f"{one}0:key".encode()]
    assert kit.redis.keys(f"{other}*") == []
    kit.redis.delete(f"{one}0:key")


def test_two_clients_of_a_namespace(kit):
    """Several clients can share a namespace, each with options of its own."""

    async def use(first, second):
        await first.queue("jobs").send("a")
        assert await queue_contents(second.queue("jobs")) == ["a"]

    with kit.namespace() as ns, kit.client(ns) as first, kit.client(ns, realtime=False) as second:
        kit.create_queue(ns, "jobs")
        asyncio.run(use(first, second))


async def test_a_server_of_its_own(monkeypatch):
    """Without a URL it starts a server, also while an event loop runs, and stops it at the end."""
    monkeypatch.delenv("RSMQ_TEST_URL", raising=False)
    with rsmq_test_server() as server:
        async with AsyncRSMQ.from_url(server.url) as rsmq:
            assert await rsmq.list_queues() == set()
    with pytest.raises(ConnectionError):
        server.redis.ping()
