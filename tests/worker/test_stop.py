"""However a worker stops, nothing is lost; and outages do not stop it."""

import asyncio
import signal
import sys
import time
from contextlib import asynccontextmanager

import anyio
import pytest
from aiorsmq import AsyncRSMQ
from anyio.streams.text import TextReceiveStream
from redis.exceptions import ResponseError

from support import PATIENCE, Handler, Stubborn, insist, make_it_theirs, wait_until


async def test_stop(queue):
    """`stop()`: no more claims, handlers end, `run()` returns; what was not started is
    untouched.
    """
    handler = Handler()
    await queue.send_many(["a", "b"])
    worker = queue.worker(handler, concurrency=1)
    running = asyncio.create_task(worker.run())
    await handler.begun.wait()
    worker.stop()
    handler.go_on.set()
    await running
    assert (worker.stats.succeeded, worker.stats.received, handler.cancelled) == (1, 1, 0)
    left = await queue.receive(wait=5)  # if it had just been claimed, it is being handed back
    assert (left.body, left.receive_count) == ("b", 1)
    await left.delete()


async def test_leases_are_renewed_while_stopping(queue, server, renew):
    """While handlers end, their leases are renewed."""
    handler = Handler()
    id = await queue.send("a")
    worker = queue.worker(handler)
    running = asyncio.create_task(worker.run())
    await handler.begun.wait()
    worker.stop()
    for _ in range(2):
        first = server.redis.zscore("rsmq:jobs", id)
        renew(worker)
        await wait_until(lambda first=first: server.redis.zscore("rsmq:jobs", id) > first)
    handler.go_on.set()
    await running
    assert worker.stats.succeeded == 1


async def test_cancelling_run(queue):
    """Cancelling `run()` lets handlers end, too, and is not swallowed."""
    handler = Handler()
    await queue.send("a")
    worker = queue.worker(handler)
    running = asyncio.create_task(worker.run())
    await handler.begun.wait()
    running.cancel()
    await wait_until(lambda: not worker.healthy)
    handler.go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert worker.stats.succeeded == 1


async def test_cancelled_scope(queue):
    """A cancelled scope of anyio counts as one cancellation."""
    handler = Handler()
    await queue.send("a")
    worker = queue.worker(handler)
    async with anyio.create_task_group() as group:
        group.start_soon(worker.run)
        await handler.begun.wait()
        group.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            await anyio.sleep(0.05)
            handler.go_on.set()
    assert (worker.stats.succeeded, handler.cancelled) == (1, 0)


@pytest.mark.parametrize("how", ["grace", "cancelled again"])
async def test_end_of_grace(queue, how):
    """After `grace`, or at once when cancelled again, handlers are cancelled and their messages
    released.
    """
    handler = Handler()
    await queue.send("a")
    worker = queue.worker(handler, grace=0.1 if how == "grace" else 60)
    running = asyncio.create_task(worker.run())
    await handler.begun.wait()
    running.cancel()
    if how != "grace":
        await wait_until(lambda: not worker.healthy)
        running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert (worker.stats.retried, handler.cancelled) == (1, 1)
    message = await queue.receive()
    assert message.receive_count == 2
    await message.delete()


async def test_handler_that_does_not_end(queue, caplog, monkeypatch):
    """A handler that does not end when it is cancelled is left behind, with an error in the log."""
    monkeypatch.setattr("aiorsmq.worker.CLEANUP", 0.1)
    stubborn = Stubborn()

    await queue.send("a")
    async with queue.worker(stubborn, grace=0) as worker:
        await stubborn.begun.wait()
    assert "was cancelled but is still running" in caplog.text
    stubborn.go_on.set()
    await wait_until(lambda: not worker.stats.in_flight)
    await queue.purge()


async def test_nothing_left_hidden(queue):
    """Stopped at any moment while messages come, it leaves none hidden that it has not handled."""
    handled = 0

    async def handler(message):
        nonlocal handled
        handled += 1

    sent = 0
    for moment in range(30):
        await queue.send_many(["x"] * 20)
        sent += 20
        async with queue.worker(handler, concurrency=3):
            await anyio.sleep(moment / 5000)
    attributes = await wait_until(queue.attributes)
    await wait_until(lambda: _hidden(queue))
    assert (await queue.attributes()).msgs == sent - handled
    assert attributes.vt == 30
    await queue.purge()


async def _hidden(queue):
    return (await queue.attributes()).hiddenmsgs == 0


async def test_exception_of_the_block(queue):
    """An exception in the block comes out as itself."""
    with pytest.raises(KeyError, match="mine"):
        async with queue.worker(print):
            raise KeyError("mine")


async def test_entered_and_left_in_different_tasks(queue):
    """It may be entered in one task and left in another."""
    worker = queue.worker(Handler())
    await asyncio.create_task(worker.__aenter__())
    await asyncio.create_task(worker.__aexit__(None, None, None))


async def test_queue_becomes_another_key(server, queue, caplog):
    """If it cannot work any more, it stops, logs the error, and raises it at the end of the
    block.
    """
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        async with queue.worker(print) as worker:
            await wait_until(lambda: worker.healthy)
            make_it_theirs(server, "jobs")
            await wait_until(lambda: not worker.healthy)
    server.redis.delete("rsmq:jobs:Q")
    assert "the worker has stopped" in caplog.text


async def test_client_is_closed(server):
    """Closing the client ends its workers; what they have in hand is left to its lease."""
    rsmq = AsyncRSMQ.from_url(server.url)
    queue = rsmq.queue("jobs")
    await queue.create()
    await queue.send("a")
    handler = Handler()
    running = asyncio.create_task(queue.worker(handler).run())
    await handler.begun.wait()
    await rsmq.aclose()
    await running
    assert handler.cancelled == 1


async def test_twice_at_a_time(queue):
    """One worker runs once at a time; stopped, it can be run again."""
    worker = queue.worker(print)
    for _ in range(2):
        async with worker:
            with pytest.raises(RuntimeError, match="already running"):
                await worker.run()


async def test_outage(own_server, caplog):
    """A server that is away for longer than the lease: the worker is unhealthy until it is back,
    then goes on by itself.

    So does a handler, with its message, if nobody else has received it when the server is back.
    """
    server = own_server("--appendonly", "yes", "--appendfsync", "always")
    async with AsyncRSMQ.from_url(server.url) as rsmq:
        queue = rsmq.queue("jobs")
        await queue.create()
        handler = Handler()
        id = await queue.send("in hand through the outage")
        async with queue.worker(handler, vt=1) as worker:
            await handler.begun.wait()
            server.kill()
            await wait_until(lambda: not worker.healthy)
            await anyio.sleep(1.2)  # longer than the lease
            server.start()
            await wait_until(lambda: worker.healthy)
            first = await wait_until(
                lambda: (
                    (score := server.redis.zscore("rsmq:jobs", id)) > time.time() * 1000 and score
                )
            )
            await wait_until(
                lambda: server.redis.zscore("rsmq:jobs", id) > first
            )  # renewed, if only for the second time
            handler.go_on.set()
            await queue.send("after it")
            await wait_until(lambda: worker.stats.succeeded == 2)
    assert (worker.stats.received, worker.stats.lost_leases) == (2, 0)


PROGRAM = """
import asyncio, sys
from aiorsmq import AsyncRSMQ

async def handler(message):
    print("begun", flush=True)
    await asyncio.sleep(float(message.body))
    print("done", flush=True)

async def main():
    async with AsyncRSMQ.from_url(sys.argv[1]) as rsmq:
        workers = [rsmq.queue(name).worker(handler) for name in ("jobs", "others")]
        await asyncio.gather(*(worker.run() for worker in workers))
    print("left cleanly", flush=True)

asyncio.run(main())
"""


@asynccontextmanager
async def _program(url, program=PROGRAM):
    """A program, and a function that returns the next line that it prints."""
    command = [sys.executable, "-c", program, url]
    async with await anyio.open_process(command, stdin=None, stderr=None) as process:
        lines = TextReceiveStream(process.stdout)
        text = ""

        async def line():
            nonlocal text
            with anyio.fail_after(PATIENCE):
                while "\n" not in text:
                    text += await lines.receive()
            first, _, text = text.partition("\n")
            return first

        try:
            yield process, line
        finally:
            if process.returncode is None:
                process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_signal(rsmq, queue, server, number):
    """At a signal all workers of a program let their handlers end, and it exits with 0."""
    await rsmq.queue("others").create()
    await queue.send("0.3")
    async with _program(server.url) as (process, line):
        assert await line() == "begun"
        process.send_signal(number)
        assert [await line(), await line()] == ["done", "left cleanly"]
        assert await process.wait() == 0
    assert (await queue.attributes()).msgs == 0


START = """
import asyncio, sys
from aiorsmq import AsyncRSMQ

async def main():
    async with AsyncRSMQ.from_url(sys.argv[1], connect_timeout=600) as rsmq:
        worker = rsmq.queue("jobs").worker(print)
        running = asyncio.create_task(worker.run())
        await asyncio.sleep(0.1)
        try:
            await worker.run()
        except RuntimeError as error:
            print(error, flush=True)
        print(worker.trouble, flush=True)
        await running
    print("left cleanly", flush=True)

asyncio.run(main())
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_signal_at_the_start(tmp_path, number):
    """A signal ends a worker that still waits for the server, even if it was started again in vain,
    and the program exits with 0.
    """
    async with _program(f"unix://{tmp_path}/none.sock", START) as (process, line):
        assert await line() == "this worker is already running"
        assert await line() == "starting"
        process.send_signal(number)
        assert await line() == "left cleanly"
        assert await process.wait() == 0


async def test_second_signal(rsmq, queue, server):
    """A second signal skips the wait: the handler is cancelled, its message released."""
    await rsmq.queue("others").create()
    await queue.send("60")
    async with _program(server.url) as (process, line):
        assert await line() == "begun"
        process.send_signal(signal.SIGTERM)
        assert await insist(process, signal.SIGINT, line()) == "left cleanly"
        assert await process.wait() == 0
    message = await queue.receive()
    assert message.receive_count == 2
    await message.delete()


async def test_one_signal_that_comes_twice(rsmq, queue, server):
    """Signals in a row are one: `timeout` sends its own to the program and to its group."""
    await rsmq.queue("others").create()
    await queue.send("1")
    async with _program(server.url) as (process, line):
        assert await line() == "begun"
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        assert [await line(), await line()] == ["done", "left cleanly"]
    assert (await queue.attributes()).msgs == 0


async def test_signals_in_another_thread(queue, server):
    """A worker in another thread than the main one leaves signals alone, and does not disturb one
    that heeds them.
    """
    before = signal.getsignal(signal.SIGTERM)

    async def in_thread():
        async with AsyncRSMQ.from_url(server.url) as rsmq:
            worker = rsmq.queue("jobs").worker(print)
            running = asyncio.create_task(worker.run())
            await wait_until(lambda: worker.healthy)
            worker.stop()
            await running

    worker = queue.worker(print)
    running = asyncio.create_task(worker.run())
    await wait_until(lambda: worker.healthy)
    heeded = signal.getsignal(signal.SIGTERM)
    assert heeded != before
    await anyio.to_thread.run_sync(asyncio.run, in_thread())
    assert signal.getsignal(signal.SIGTERM) == heeded
    worker.stop()
    await running
    assert signal.getsignal(signal.SIGTERM) == before


async def test_late_end(queue, monkeypatch):
    """What a handler has done after the worker has stopped waiting for it is deleted all the
    same.
    """
    monkeypatch.setattr("aiorsmq.worker.CLEANUP", 0.05)
    stubborn = Stubborn()

    await queue.send("x")
    async with queue.worker(stubborn, grace=0) as worker:
        await stubborn.begun.wait()
    stubborn.go_on.set()
    await wait_until(lambda: worker.stats.succeeded == 1)
    assert (await queue.attributes()).msgs == 0
