"""A service runs its workers for a web server, and tells probes whether it can do its work."""

import asyncio
import signal

import anyio
import pytest
from aiorsmq import AsyncRSMQ, QueueDoesNotExist
from aiorsmq.integrations.service import Service

from support import PATIENCE, Handler, make_it_theirs, wait_for_listener, wait_until

READY = (200, "ready")


@pytest.fixture
def terminations():
    """The SIGTERMs that reach the web server."""
    received = []
    previous = signal.signal(signal.SIGTERM, lambda number, _: received.append(number))
    yield received
    signal.signal(signal.SIGTERM, previous)


class TestBlock:
    async def test_runs_workers(self, rsmq, queue):
        """Its workers run within the block; at its end they stop gracefully, and the client stays
        open.
        """
        await rsmq.queue("others").create()
        handler = Handler()
        workers = [queue.worker(handler), rsmq.queue("others").worker(handler)]
        async with Service(rsmq, *workers) as service:
            assert service.rsmq is rsmq
            assert service.workers == tuple(workers)
            assert all(worker.healthy for worker in workers)
            await queue.send("x")
            with anyio.fail_after(PATIENCE):
                await handler.begun.wait()
            asyncio.get_running_loop().call_soon(handler.go_on.set)
        assert not any(worker.healthy for worker in workers)
        assert (await queue.attributes()).msgs == 0
        assert handler.cancelled == 0

    async def test_ends_streams(self, server, rsmq, queue, terminations):
        """The streams of the client end with the signal, and its workers go on to the end of the
        block.
        """
        handler = Handler()
        handler.go_on.set()
        await rsmq.queue("others").create()
        async with Service(rsmq, rsmq.queue("others").worker(handler)) as service:
            waiting = asyncio.ensure_future(anext(queue.messages(), None))
            await wait_for_listener(server)
            signal.raise_signal(signal.SIGTERM)
            with anyio.fail_after(PATIENCE):
                assert await waiting is None
                await service.shutdown.wait()
                await rsmq.queue("others").send("x")
                await handler.begun.wait()
        assert terminations == [signal.SIGTERM]

    async def test_a_worker_that_cannot_start(self, rsmq, queue, terminations):
        """It raises at once, and stops the workers before it."""
        healthy = queue.worker(Handler())
        service = Service(rsmq, healthy, rsmq.queue("none").worker(Handler()))
        with pytest.raises(QueueDoesNotExist):
            async with service:
                pytest.fail("entered")
        assert not healthy.healthy
        assert terminations == []

    async def test_cancelled_while_it_starts(self, tmp_path):
        """Cancelling does not wait for a worker that waits for the server."""
        url = f"unix://{tmp_path}/none.sock"
        async with AsyncRSMQ.from_url(url, connect_timeout=600) as rsmq:
            worker = rsmq.queue("jobs").worker(Handler())
            starting = asyncio.create_task(Service(rsmq, worker).__aenter__())
            await wait_until(lambda: worker.trouble == "starting")
            starting.cancel()
            await asyncio.wait({starting}, timeout=PATIENCE)
            assert starting.cancelled()

    async def test_cancelled(self, rsmq, queue):
        """Cancelling the block stops its workers gracefully; cancelling it again cancels handlers,
        and loses no message.
        """
        handler = Handler()

        workers = [queue.worker(handler)]

        async def serve():
            async with Service(rsmq, *workers):
                await queue.send("x")
                await handler.begun.wait()
                stopping.set()

        stopping = asyncio.Event()
        serving = asyncio.ensure_future(serve())
        with anyio.fail_after(PATIENCE):
            await stopping.wait()
            serving.cancel()
            await wait_until(lambda: not workers[0].healthy)
            assert handler.cancelled == 0
            serving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await serving
        assert handler.cancelled == 1
        assert await (await queue.receive(wait=PATIENCE)).delete()

    async def test_an_error_of_the_block(self, rsmq, queue):
        """The error of the block comes out as itself."""
        with pytest.raises(ZeroDivisionError):
            async with Service(rsmq, queue.worker(Handler())):
                _ = 1 / 0


class TestDeath:
    @pytest.mark.foreign_data
    async def test_ends_the_program(self, server, rsmq, queue, terminations):
        """A worker that dies sends the server one SIGTERM; the block goes on, and its end raises
        the error.
        """
        handler = Handler()
        await rsmq.queue("others").create()
        with pytest.raises(Exception, match="WRONGTYPE"):
            async with Service(
                rsmq, queue.worker(Handler()), rsmq.queue("others").worker(handler)
            ) as service:
                make_it_theirs(server, "jobs")
                await wait_until(lambda: terminations)
                assert (await service.readiness())[0] == 503
                await rsmq.queue("others").send("x")
                with anyio.fail_after(PATIENCE):
                    await handler.begun.wait()
                handler.go_on.set()
        assert terminations == [signal.SIGTERM]

    @pytest.mark.foreign_data
    async def test_where_nothing_handles_the_signal(self, server, rsmq, queue):
        """Where SIGTERM would kill at once, as in tests, it is not sent, not even while another
        worker handles it.
        """
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        await rsmq.queue("others").create()
        with pytest.raises(Exception, match="WRONGTYPE"):
            async with Service(
                rsmq, queue.worker(Handler()), rsmq.queue("others").worker(Handler())
            ) as service:
                make_it_theirs(server, "jobs")
                await wait_until(lambda: service.workers[0].error)
                assert "WRONGTYPE" in (await service.readiness())[1]


@pytest.fixture
def patient(monkeypatch):
    """Probes wait for a server that answers late, on a machine that is slow."""
    monkeypatch.setattr("aiorsmq.integrations.service.PROBE_TIMEOUT", PATIENCE)


class TestReadiness:
    async def test_with_workers(self, rsmq, queue):
        """Ready while all workers can claim; not before the block nor after it."""
        service = Service(rsmq, queue.worker(Handler()))
        assert await service.readiness() == (503, "worker: not running")
        async with service:
            assert await service.readiness() == READY
        assert (await service.readiness())[0] == 503

    async def test_without_workers(self, rsmq, server, patient):
        """Ready if the server answers, though it has no queues; nothing is written."""
        async with Service(rsmq) as service:
            assert await service.readiness() == READY
        assert server.redis.keys() == []

    @pytest.mark.parametrize("with_worker", [False, True])
    async def test_an_outage(self, own_server, with_worker):
        """Not ready while the server is away, with the reason, and ready again afterwards."""
        server = own_server("--appendonly", "yes", "--appendfsync", "always")
        async with AsyncRSMQ.from_url(server.url, poll_interval=0.1) as rsmq:
            await rsmq.queue("jobs").create()
            workers = [rsmq.queue("jobs").worker(Handler())] if with_worker else []
            async with Service(rsmq, *workers) as service:
                await wait_for(service, 200)
                server.kill()
                reason = await wait_for(service, 503)
                assert ("Error" if with_worker else "not answered") in reason
                server.start()
                await wait_for(service, 200)

    async def test_a_silent_server(self, server, rsmq, monkeypatch):
        """Not ready when the server does not answer in time."""
        monkeypatch.setattr("aiorsmq.integrations.service.PROBE_TIMEOUT", 0.01)
        async with Service(rsmq) as service:
            await rsmq.list_queues()
            server.redis.execute_command("CLIENT", "PAUSE", 10_000, "WRITE")
            try:
                assert await service.readiness() == (
                    503,
                    "the server has not answered for 0.01 seconds",
                )
            finally:
                server.redis.execute_command("CLIENT", "UNPAUSE")

    async def test_without_permission(self, server, rsmq, patient):
        """A server that answers that something is not permitted can be used: the probe asks for a
        queue that nobody needs.
        """
        server.redis.execute_command(
            *("ACL", "SETUSER", "narrow", "on", ">secret", "~rsmq:jobs*", "+@all")
        )
        try:
            url = f"{server.url}?username=narrow&password=secret"
            async with AsyncRSMQ.from_url(url) as narrow, Service(narrow) as service:
                assert await service.readiness() == READY
        finally:
            server.redis.execute_command("ACL", "DELUSER", "narrow")

    async def test_a_refused_login(self, server, patient):
        """A login that is refused is a reason, without the password."""
        url = f"{server.url}?username=nobody&password=hunter2"
        async with AsyncRSMQ.from_url(url) as rsmq, Service(rsmq) as service:
            status, reason = await service.readiness()
            assert status == 503
            assert "invalid username-password pair" in reason
            assert "hunter2" not in reason

    async def test_a_shutdown(self, rsmq, queue):
        """Not ready once the shutdown has begun, while the workers still work."""
        async with Service(rsmq, queue.worker(Handler())) as service:
            service.shutdown.begin()
            assert await service.readiness() == (503, "the program is stopping")


async def wait_for(service, status):
    """Probe until the answer has this status, and return its text."""
    with anyio.fail_after(PATIENCE):
        while (answer := await service.readiness())[0] != status:
            await asyncio.sleep(0.01)
        return answer[1]
