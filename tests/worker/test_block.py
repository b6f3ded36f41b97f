"""A worker that dies interrupts its block, or ends the program; and says what it died of."""

import asyncio
import re
import signal
import sys
from contextlib import suppress

import anyio
import pytest
from aiorsmq import AsyncRSMQ, InvalidParameterValue, QueueDoesNotExist
from redis.exceptions import ResponseError

from support import PATIENCE, Handler, make_it_theirs, wait_until


@pytest.fixture
async def fatal(server, queue):
    """`await fatal(worker)`: the worker meets an error that waiting does not mend."""

    async def fatal(worker):
        await wait_until(lambda: worker.healthy)
        make_it_theirs(server, "jobs")

    yield fatal
    server.redis.delete("rsmq:jobs:Q")


async def idle():
    await asyncio.sleep(PATIENCE)
    pytest.fail("nothing interrupts the block")


async def idle_in_task_group():
    async with asyncio.TaskGroup() as group:
        group.create_task(idle())


async def idle_in_anyio_task_group():
    async with anyio.create_task_group() as group:
        group.start_soon(idle)


async def idle_in_shielded_scope():
    with anyio.CancelScope(shield=True):
        await idle()


async def idle_in_scopes():
    with anyio.fail_after(2 * PATIENCE):
        async with asyncio.timeout(2 * PATIENCE):
            await idle()


async def idle_in_another_block(rsmq):
    queue = rsmq.queue("others")
    await queue.create()
    async with queue.worker(Handler()):
        await idle()


BLOCKS = {
    "sleep": idle,
    "task group": idle_in_task_group,
    "anyio's task group": idle_in_anyio_task_group,
    "shielded scope": idle_in_shielded_scope,
    "scopes": idle_in_scopes,
}


@pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)
async def test_interrupted(queue, fatal, block):
    """The block is cancelled, and the worker's error raised in its place; the task goes on."""
    worker = queue.worker(print)
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        async with worker:
            await fatal(worker)
            await block()
    assert asyncio.current_task().cancelling() == 0
    await asyncio.sleep(0)
    assert isinstance(worker.error, ResponseError)


async def test_nested(rsmq, queue, fatal):
    """A worker's block inside another is left in order."""
    worker = queue.worker(print)
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        async with worker:
            await fatal(worker)
            await idle_in_another_block(rsmq)
    assert asyncio.current_task().cancelling() == 0


async def test_both_die(rsmq, queue, server, fatal):
    """Two workers of one task that die at the same time are two cancellations, and none is left."""
    others = rsmq.queue("others")
    await others.create()
    one, other = queue.worker(print), others.worker(print)
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        async with one, other:
            await wait_until(lambda: other.healthy)
            await fatal(one)
            make_it_theirs(server, "others")
            with anyio.CancelScope(shield=True):
                try:
                    await idle()
                finally:
                    while not (one.error and other.error):
                        await asyncio.sleep(0.01)
    server.redis.delete("rsmq:others:Q")
    assert asyncio.current_task().cancelling() == 0


async def test_outside_cancellation_wins(queue, fatal):
    """Cancelled by somebody else too, the block ends with that; it is not swallowed."""
    worker = queue.worker(print)
    interrupted = asyncio.Event()

    async def work():
        async with worker:
            await fatal(worker)
            try:
                await idle()
            except asyncio.CancelledError:
                interrupted.set()
                await idle()

    working = asyncio.create_task(work())
    await interrupted.wait()
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    assert working.cancelled()
    assert isinstance(worker.error, ResponseError)


@pytest.mark.parametrize("library", ["asyncio", "anyio"])
async def test_outside_timeout_wins(queue, fatal, library):
    """So does the deadline of a scope around the block that passes while it unwinds."""
    worker = queue.worker(print)
    loop = asyncio.get_running_loop()

    async def work(expire):
        async with worker:
            await fatal(worker)
            try:
                await idle()
            except asyncio.CancelledError:
                expire()
                await idle()

    with pytest.raises(TimeoutError):
        if library == "asyncio":
            async with asyncio.timeout(None) as timeout:
                await work(lambda: timeout.reschedule(loop.time()))
        else:
            with anyio.fail_after(None) as scope:
                await work(lambda: setattr(scope, "deadline", anyio.current_time()))
    assert isinstance(worker.error, ResponseError)
    assert asyncio.current_task().cancelling() == 0


async def test_swallowed(queue, fatal):
    """A block that swallows its interruption still raises the worker's error at its end."""
    worker = queue.worker(print)
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        async with worker:
            await fatal(worker)
            with suppress(asyncio.CancelledError):
                await idle()
    assert asyncio.current_task().cancelling() == 0


async def test_own_error(queue, fatal):
    """An error that the block raises as it unwinds is what comes out."""
    worker = queue.worker(print)
    with pytest.raises(KeyError, match="mine"):
        async with worker:
            await fatal(worker)
            try:
                await idle()
            finally:
                raise KeyError("mine")
    assert asyncio.current_task().cancelling() == 0


async def test_left_in_another_task(queue, fatal):
    """Entered in a task that has ended, there is nothing to interrupt; whoever leaves gets the
    error.
    """
    worker = queue.worker(print)
    await asyncio.create_task(worker.__aenter__())
    await fatal(worker)
    await wait_until(lambda: worker.error)
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await asyncio.create_task(worker.__aexit__(None, None, None))


async def test_cancelled_in_another_task(queue, fatal):
    """The cancellation of another task than the one that entered is not the worker's."""
    worker = queue.worker(print)
    entered = asyncio.Event()

    async def enter():
        await worker.__aenter__()
        entered.set()
        await idle()

    async def leave():
        try:
            await idle()
        except asyncio.CancelledError:
            await worker.__aexit__(*sys.exc_info())
            raise

    entering, leaving = asyncio.create_task(enter()), asyncio.create_task(leave())
    await entered.wait()
    await fatal(worker)
    await asyncio.wait([entering])
    assert entering.cancelled()
    leaving.cancel()
    await asyncio.wait([leaving])
    assert leaving.cancelled()


async def test_interrupted_before_the_grace(queue, fatal):
    """The block is told at once, and not after handlers have had their time to end."""
    handler = Handler()
    await queue.send("x")
    worker = queue.worker(handler)
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        async with worker:
            await handler.begun.wait()
            await fatal(worker)
            try:
                await idle()
            finally:
                assert (worker.stats.in_flight, handler.cancelled) == (1, 0)
                assert "WRONGTYPE" in worker.trouble
                handler.go_on.set()


@pytest.mark.parametrize("turns", [0, 1, 2, 4, 8, 16])
async def test_left_as_it_dies(queue, fatal, turns):
    """A block that ends about when its worker dies is followed by no cancellation."""
    worker = queue.worker(print, concurrency=2)
    with suppress(ResponseError):
        async with worker:
            await fatal(worker)
            for _ in range(turns):
                await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert asyncio.current_task().cancelling() == 0


async def test_terminate(queue, fatal):
    """With `when_dead="terminate"` the program gets SIGTERM, once, and the block goes on; the error
    is raised at its end.
    """
    signals = []
    before = signal.signal(signal.SIGTERM, lambda number, _: signals.append(number))
    try:
        worker = queue.worker(print, when_dead="terminate")
        with pytest.raises(ResponseError, match="WRONGTYPE"):
            async with worker:
                await fatal(worker)
                await wait_until(lambda: signals)
                await asyncio.sleep(0)
                assert asyncio.current_task().cancelling() == 0
    finally:
        signal.signal(signal.SIGTERM, before)
    assert signals == [signal.SIGTERM]


@pytest.mark.parametrize("when_dead", ["ignore", None, True])
async def test_unknown_choice(queue, when_dead):
    """Other choices are refused."""
    reason = re.escape('must be "interrupt" or "terminate"')
    with pytest.raises(InvalidParameterValue, match=f"when_dead={when_dead!r}: {reason}"):
        queue.worker(print, when_dead=when_dead)


async def test_closed_client(server):
    """Closing the client under a worker is no error, and does not interrupt the block."""
    rsmq = AsyncRSMQ.from_url(server.url)
    queue = rsmq.queue("jobs")
    await queue.create()
    async with queue.worker(print) as worker:
        await wait_until(lambda: worker.healthy)
        await rsmq.aclose()
        await wait_until(lambda: not worker.healthy)
        await wait_until(lambda: worker.trouble == "not running")
    assert worker.error is None


async def test_error(server, rsmq, queue, fatal):
    """`error` is what it died of, at its start or later, until it starts again."""
    missing = rsmq.queue("missing").worker(print)
    with pytest.raises(QueueDoesNotExist) as raised:
        await missing.run()
    assert missing.error is raised.value
    worker = queue.worker(print)
    assert worker.error is None
    with pytest.raises(ResponseError) as raised:
        async with worker:
            await fatal(worker)
            await idle()
    assert worker.error is raised.value
    server.redis.delete("rsmq:jobs:Q")
    await queue.create()
    async with worker:
        assert worker.error is None


async def test_trouble(rsmq, queue, server, fatal):
    """`trouble` and the repr say why it cannot claim."""
    handler = Handler()
    await rsmq.queue("mail").create()
    worker = rsmq.worker(["jobs", "mail"], handler, concurrency=3)
    seen = [(worker.trouble, repr(worker), worker.healthy)]
    running = asyncio.create_task(worker.run())
    await asyncio.sleep(0)
    seen.append((worker.trouble, repr(worker), worker.healthy))
    await queue.send("x")
    await handler.begun.wait()
    seen.append((worker.trouble, repr(worker), worker.healthy))
    await rsmq.queue("mail").delete()
    server.redis.publish("rsmq:rt:mail", "1")
    await wait_until(lambda: not worker.healthy)
    seen.append((worker.trouble, repr(worker), worker.healthy))
    worker.stop()
    seen.append((worker.trouble, repr(worker), worker.healthy))
    handler.go_on.set()
    await running
    seen.append((worker.trouble, repr(worker), worker.healthy))
    names, busy = "<Worker of 'jobs', 'mail': ", " of 3 handlers busy>"
    assert seen == [
        ("not running", f"{names}not running>", False),
        ("starting", f"{names}starting, 0{busy}", False),
        (None, f"{names}running, 1{busy}", True),
        (
            "queue 'mail' does not exist",
            f"{names}queue 'mail' does not exist, 1{busy}",
            False,
        ),
        ("stopping", f"{names}stopping, 1{busy}", False),
        ("not running", f"{names}not running>", False),
    ]
    with pytest.raises(ResponseError):
        async with queue.worker(print) as worker:
            await fatal(worker)
            await idle()
    assert re.fullmatch("died of ResponseError: .*WRONGTYPE.*", worker.trouble)
    assert repr(worker) == f"<Worker of 'jobs': {worker.trouble}>"


async def test_trouble_of_the_server(own_server):
    """So while the server is away."""
    server = own_server("--appendonly", "yes")
    async with AsyncRSMQ.from_url(server.url) as rsmq:
        queue = rsmq.queue("jobs")
        await queue.create()
        async with queue.worker(print) as worker:
            await wait_until(lambda: worker.healthy)
            server.kill()
            await wait_until(lambda: worker.trouble)
            assert re.match("cannot claim: ConnectionError: ", worker.trouble)
            assert f": {worker.trouble}, 0 of 10 handlers busy>" in repr(worker)
            server.start()
            await wait_until(lambda: worker.healthy)
