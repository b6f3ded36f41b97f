"""Many calls on one connection: answered in order, failed together when it is lost, disturbed by no caller.

Both ways to the socket are held to the same: redis-py's transport taken over, and redis-py's public methods.
"""

import asyncio
import logging
from functools import partial

import anyio
import pytest
import redis
from aiorsmq import AsyncRSMQ, _pipeline
from aiorsmq._pipeline import Pipeline
from aiorsmq._tasks import Tasks, resolve
from aiorsmq._wire import StreamWire, TransportWire, seize
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from support import PATIENCE, wait_until


@pytest.fixture(params=["transport", "stream", "transport, RESP3", "stream, RESP3"])
async def pipeline(server, request):
    protocol = 3 if "RESP3" in request.param else 2
    client = Redis(unix_socket_path=server.socket, protocol=protocol, retry=Retry(NoBackoff(), 0))
    connection = client.connection_pool.make_connection()
    await connection.connect()
    connection.socket_timeout = None
    tasks = Tasks()
    wire = seize(connection, tasks) if "transport" in request.param else StreamWire(connection, tasks, pushes=False)
    assert isinstance(wire, TransportWire) == ("transport" in request.param)
    pipeline = Pipeline(wire)
    yield pipeline
    await pipeline.aclose()
    await tasks.finish(5)
    await client.aclose()


def call(pipeline, *command):
    future = asyncio.get_running_loop().create_future()
    pipeline.call(partial(resolve, future), *command)
    return future


async def test_in_order(pipeline):
    """Replies come in the order of the calls, errors among them."""
    calls = [call(pipeline, "ECHO", str(n)) for n in range(500)]
    wrong = call(pipeline, "NONSENSE")
    last = call(pipeline, "ECHO", b"\xff last")
    assert await asyncio.gather(*calls) == [str(n).encode() for n in range(500)]
    with pytest.raises(redis.ResponseError):
        await wrong
    assert await last == b"\xff last"


async def test_error_classes(pipeline):
    """An error is of the class that redis-py gives it."""
    with pytest.raises(redis.exceptions.NoScriptError):
        await call(pipeline, "EVALSHA", "0" * 40, 0)


async def test_a_caller_goes(pipeline):
    """A caller that stops waiting disturbs no other."""
    first, second, third = (call(pipeline, "ECHO", word) for word in "abc")
    second.cancel()
    assert [await first, await third] == [b"a", b"c"]


@pytest.mark.parametrize("error", [TypeError, ValueError, redis.InvalidResponse])
async def test_a_callback_raises(pipeline, error):
    """What a callback raises goes to the event loop's exception handler; all others are answered, lost or not."""
    trouble = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: trouble.append(context["exception"]))

    def fail(reply):
        raise error(reply)

    first = call(pipeline, "ECHO", "a")
    pipeline.call(fail, "ECHO", "b")
    last = call(pipeline, "ECHO", "c")
    assert [await first, await last] == [b"a", b"c"]
    assert [str(each) for each in trouble] == ["b'b'"]
    assert not pipeline.lost
    pipeline.call(fail, "BLPOP", "nothing", 0)
    last = call(pipeline, "ECHO", "d")
    pipeline.lose(redis.ConnectionError("lost"))
    with pytest.raises(redis.ConnectionError):
        await last
    assert [str(each) for each in trouble] == ["b'b'", "lost"]
    assert {type(each) for each in trouble} == {error}


async def test_large_replies(pipeline):
    """A reply that comes in many pieces is put together."""
    calls = [call(pipeline, "ECHO", letter * 1_000_000) for letter in "abc"]
    assert [len(reply) for reply in await asyncio.gather(*calls)] == [1_000_000] * 3


async def test_lost(server, pipeline):
    """When the connection is lost, the calls under way fail with redis-py's ConnectionError, all of them."""
    calls = [call(pipeline, "BLPOP", "nothing", 0), call(pipeline, "ECHO", "x"), call(pipeline, "ECHO", "y")]
    await wait_until(lambda: server.redis.info("clients")["blocked_clients"] == 1)
    server.redis.client_kill_filter(skipme=True, _type="normal")
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(result) for result in results] == [redis.ConnectionError] * 3
    assert pipeline.lost


async def test_call_after_the_loss(pipeline):
    """A call on a connection that has been lost meanwhile fails at once: nobody else would answer it."""
    pipeline.lose(redis.ConnectionError("lost"))
    with anyio.fail_after(PATIENCE), pytest.raises(redis.ConnectionError):
        await call(pipeline, "PING")


async def test_idle_loss(server, pipeline):
    """A connection that is lost while nobody calls is known to be lost."""
    await call(pipeline, "PING")
    server.redis.client_kill_filter(skipme=True, _type="normal")
    await wait_until(lambda: pipeline.lost)


async def test_silence(server, pipeline, monkeypatch):
    """A connection from which no byte comes while calls wait is given up with redis-py's TimeoutError."""
    monkeypatch.setattr(_pipeline, "REPLY_TIMEOUT", 0.2)
    with anyio.fail_after(PATIENCE), pytest.raises(redis.TimeoutError):
        await call(pipeline, "BLPOP", "nothing", 0)
    assert pipeline.lost


async def test_slow_line(server, queue, proxy, monkeypatch):
    """A connection on which a large message is still going out is not silent, however long that takes."""
    monkeypatch.setattr(_pipeline, "REPLY_TIMEOUT", 1)
    await queue.set_attributes(maxsize=-1)
    async with AsyncRSMQ.from_url(proxy.url) as other:
        await other.list_queues()
        proxy.delay = 0.02
        other._scripts.deadline = 20
        await other.queue("jobs").send(b"x" * 5_000_000)
    await queue.delete()


async def test_falls_back(server, caplog):
    """If redis-py is not as expected inside, its public methods are used, and the log says so."""
    client = Redis(unix_socket_path=server.socket, protocol=2)
    connection = client.connection_pool.make_connection()
    await connection.connect()
    connection.socket_timeout = None
    tasks = Tasks()

    class Other:
        """A connection whose private attributes have other names."""

        def __getattr__(self, name):
            if name.startswith("_"):
                raise AttributeError(name)
            return getattr(connection, name)

    with caplog.at_level(logging.WARNING):
        wire = seize(Other(), tasks)
    assert isinstance(wire, StreamWire)
    assert "slower" in caplog.text
    pipeline = Pipeline(wire)
    assert await call(pipeline, "ECHO", "x") == b"x"
    await pipeline.aclose()
    await tasks.finish(5)
    await client.aclose()


@pytest.mark.parametrize("said", [b"+OK\r\n", b"nonsense", b"%1\r\n*0\r\n:1\r\n"])
async def test_nonsense(tmp_path, said):
    """A connection on which something comes in that is no reply is given up; the event loop hears of no exception."""
    trouble = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: trouble.append(context))

    async def serve(reader, writer):
        while heard := await reader.read(65536):
            writer.write(b"+OK\r\n" * heard.count(b"SETINFO"))  # redis-py says who it is
            writer.write((b"+PONG\r\n" + said) * heard.count(b"PING"))
        writer.close()

    async with await asyncio.start_unix_server(serve, tmp_path / "server.sock"):
        client = Redis(unix_socket_path=str(tmp_path / "server.sock"), protocol=2)
        connection = client.connection_pool.make_connection()
        await connection.connect()
        pipeline = Pipeline(seize(connection, Tasks()))
        assert await call(pipeline, "PING") == b"PONG"
        await wait_until(lambda: pipeline.lost)
        await pipeline.aclose()
    assert trouble == []
