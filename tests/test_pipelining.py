"""Many calls on one connection: answered in order, failed together when it is lost, disturbed by no
caller.

Both ways to the socket are held to the same: redis-py's transport taken over, and redis-py's public
methods.
"""

import asyncio
import logging
import socket
from contextlib import asynccontextmanager, suppress
from functools import partial

import anyio
import pytest
import redis
from aiorsmq import AsyncRSMQ
from aiorsmq._server import lane, wire
from aiorsmq._server.futures import resolve
from aiorsmq._server.home import Home
from aiorsmq._server.lane import Lane
from aiorsmq._server.tasks import Tasks
from aiorsmq._server.wire import StreamWire, TransportWire, seize
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
    tasks = Tasks(Home())
    pipeline = Lane(take_over(connection, tasks, request.param))
    yield pipeline
    await pipeline.aclose()
    await tasks.finish(5)
    await client.aclose()


def take_over(connection, tasks, way):
    wire = (
        seize(connection, tasks)
        if "transport" in way
        else StreamWire(connection, tasks, pushes=False)
    )
    assert isinstance(wire, TransportWire) == ("transport" in way)
    return wire


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
    """What a callback raises goes to the event loop's exception handler; all others are answered,
    lost or not.
    """
    trouble = []
    asyncio.get_running_loop().set_exception_handler(
        lambda _, context: trouble.append(context["exception"])
    )

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
    """When the connection is lost, the calls under way fail with redis-py's ConnectionError, all of
    them.
    """
    calls = [
        call(pipeline, "BLPOP", "nothing", 0),
        call(pipeline, "ECHO", "x"),
        call(pipeline, "ECHO", "y"),
    ]
    await wait_until(lambda: server.redis.info("clients")["blocked_clients"] == 1)
    server.redis.client_kill_filter(skipme=True, _type="normal")
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(result) for result in results] == [redis.ConnectionError] * 3
    assert pipeline.lost


async def test_call_after_the_loss(pipeline):
    """A call on a connection that is already lost fails at once: nobody else would answer it."""
    pipeline.lose(redis.ConnectionError("lost"))
    with anyio.fail_after(PATIENCE), pytest.raises(redis.ConnectionError):
        await call(pipeline, "PING")


async def test_idle_loss(server, pipeline):
    """A connection that is lost while nobody calls is known to be lost."""
    await call(pipeline, "PING")
    server.redis.client_kill_filter(skipme=True, _type="normal")
    await wait_until(lambda: pipeline.lost)


async def test_silence(server, pipeline, monkeypatch):
    """A connection from which no byte comes while calls wait is given up with redis-py's
    TimeoutError.
    """
    monkeypatch.setattr(lane, "REPLY_TIMEOUT", 0.2)
    with anyio.fail_after(PATIENCE), pytest.raises(redis.TimeoutError):
        await call(pipeline, "BLPOP", "nothing", 0)
    assert pipeline.lost


async def test_slow_line(server, queue, proxy, monkeypatch):
    """A connection on which a large message is still going out is not silent, however long that
    takes.
    """
    monkeypatch.setattr(lane, "REPLY_TIMEOUT", 1)
    await queue.set_attributes(maxsize=-1)
    async with AsyncRSMQ.from_url(proxy.url, deadline=20) as other:
        await other.list_queues()
        proxy.delay = 0.02
        await other.queue("jobs").send(b"x" * 5_000_000)
    await queue.delete()


@pytest.fixture
async def slow_server(tmp_path):
    """A server that takes 4 kB each 60 ms and replies after each 180 kB, and a pipeline to it."""
    loop = asyncio.get_running_loop()
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(tmp_path / "server.sock"))
    listening.listen()
    listening.setblocking(False)

    async def serve():
        peer, _ = await loop.sock_accept(listening)
        with peer, suppress(OSError):
            heard, pause = 0, 0.0
            while data := await loop.sock_recv(peer, 4000):
                await asyncio.sleep(pause)
                heard, before = heard + len(data), heard
                if handshake := data.count(b"SETINFO"):
                    await loop.sock_sendall(peer, b"+OK\r\n" * handshake)
                elif heard // 180_000 > before // 180_000:
                    await loop.sock_sendall(peer, b"+heard\r\n")
                else:
                    pause = 0.06

    serving = asyncio.ensure_future(serve())
    client = Redis(unix_socket_path=str(tmp_path / "server.sock"), protocol=2)
    connection = client.connection_pool.make_connection()
    await connection.connect()
    connection.socket_timeout = None
    pipeline = Lane(seize(connection, Tasks(Home())))
    yield pipeline
    await pipeline.aclose()
    await serving
    await client.aclose()
    listening.close()


async def test_upload_in_the_hands_of_the_system(slow_server, monkeypatch):
    """A connection on which a large message is still going out is not silent, though all of it has
    been written.
    """
    monkeypatch.setattr(lane, "REPLY_TIMEOUT", 2.0)
    answer = call(slow_server, "ECHO", b"x" * 180_000)
    assert slow_server._wire._transport.get_write_buffer_size() == 0
    assert await answer == b"heard"


async def test_growing_upload(slow_server, monkeypatch):
    """Nor is one to whose upload others add faster than it goes out."""
    monkeypatch.setattr(lane, "REPLY_TIMEOUT", 2.0)
    first = call(slow_server, "ECHO", b"x" * 180_000)
    others = []
    while not first.done():
        others.append(call(slow_server, "ECHO", b"y" * 20_000))
        await asyncio.sleep(0.05)
    assert await first == b"heard"
    for other in others:
        other.cancel()


async def test_falls_back(server, caplog):
    """If redis-py is not as expected inside, its public methods are used, and that is logged."""
    client = Redis(unix_socket_path=server.socket, protocol=2)
    connection = client.connection_pool.make_connection()
    await connection.connect()
    connection.socket_timeout = None
    tasks = Tasks(Home())

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
    pipeline = Lane(wire)
    assert await call(pipeline, "ECHO", "x") == b"x"
    await pipeline.aclose()
    await tasks.finish(5)
    await client.aclose()


@asynccontextmanager
async def pipeline_to(path, reply_to_ping, way="transport"):
    """A pipeline to a server that says what it is told: with `reply_to_ping`, which writes to the
    stream.
    """
    trouble = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: trouble.append(context))

    serving = set()

    async def serve(reader, writer):
        serving.add(writer)
        with suppress(ConnectionError):
            while heard := await reader.read(65536):
                writer.write(b"+OK\r\n" * heard.count(b"SETINFO"))  # redis-py says who it is
                for _ in range(heard.count(b"PING")):
                    await reply_to_ping(writer)
        writer.close()
        serving.discard(writer)

    async with await asyncio.start_unix_server(serve, path):
        client = Redis(unix_socket_path=str(path), protocol=2)
        connection = client.connection_pool.make_connection()
        await connection.connect()
        connection.socket_timeout = None
        tasks = Tasks(Home())
        pipeline = Lane(take_over(connection, tasks, way))
        yield pipeline
        await pipeline.aclose()
        await tasks.finish(5)
        await client.aclose()
        await wait_until(lambda: not serving)
    assert trouble == []


def says(*pieces, pause=0.0):
    async def say(writer):
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause)

    return say


@pytest.mark.parametrize("said", [b"+OK\r\n", b"nonsense", b"%1\r\n*0\r\n:1\r\n"])
async def test_nonsense(tmp_path, said):
    """A connection on which something comes in that is no reply is given up; the event loop hears
    of no exception.
    """
    async with pipeline_to(tmp_path / "server.sock", says(b"+PONG\r\n" + said)) as pipeline:
        assert await call(pipeline, "PING") == b"PONG"
        await wait_until(lambda: pipeline.lost)


@pytest.mark.parametrize("way", ["transport", "stream"])
async def test_reply_that_takes_long(tmp_path, monkeypatch, way):
    """A reply that takes longer than a silence may last is no silence, as long as something
    comes.
    """
    monkeypatch.setattr(lane, "REPLY_TIMEOUT", 1.5)
    async with pipeline_to(
        tmp_path / "server.sock", says(b"$10\r\n", *[b"x"] * 10, b"\r\n", pause=0.2), way
    ) as pipeline:
        assert await call(pipeline, "PING") == b"x" * 10


@pytest.mark.parametrize("way", ["transport", "stream"])
async def test_silence_within_a_reply(tmp_path, monkeypatch, way):
    """A connection that falls silent in the middle of a reply is given up."""
    monkeypatch.setattr(lane, "REPLY_TIMEOUT", 0.1)
    async with pipeline_to(tmp_path / "server.sock", says(b"$10\r\n", b"xx"), way) as pipeline:
        with anyio.fail_after(5), pytest.raises(redis.TimeoutError):
            await call(pipeline, "PING")


HOSTILE = {
    "array": b"*1000000000\r\n",
    "nested": b"*3\r\n$3\r\n*1\r\r\n*2\r\n:1\r\n*1000000000\r\n",
    "behind a reply": b"+OK\r\n*1000000000\r\n",
    "leading zeros": b"*" + b"0" * 30 + b"1000000000\r\n",
    "many": b"*1000000\r\n" * 5,
    "set": b"~1000000000\r\n",
    "push": b">1000000000\r\n",
    "attribute": b"|1000000000\r\n",
    "deep": b"*1\r\n" * 2000,
}


@pytest.mark.parametrize("said", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("size", [1, 7, 100_000])
async def test_too_large_an_array(tmp_path, said, size):
    """A reply that announces more elements than any should have is refused before there is room
    made for them.
    """
    pieces = [said[at : at + size] for at in range(0, len(said), size)]
    async with pipeline_to(tmp_path / "server.sock", says(*pieces)) as pipeline:
        with anyio.fail_after(5), pytest.raises(redis.InvalidResponse):
            await asyncio.gather(call(pipeline, "PING"), call(pipeline, "PING"))


@pytest.mark.parametrize(
    ("bound", "said"),
    [
        ("MAX_BULK", b"*2\r\n$1099511627776\r\n" + b"x" * 20_000),
        ("MAX_BYTES", b"*1000\r\n" + (b"$5000\r\n" + b"x" * 5000 + b"\r\n") * 4),
        ("MAX_LINES", b"*9999\r\n" + (b"*1000\r\n" + b":1\r\n" * 1000) * 11),
    ],
)
async def test_endless_reply(tmp_path, monkeypatch, bound, said):
    """So is one that goes on and on, in one string or in many elements."""
    monkeypatch.setattr(wire, bound, 10_000)
    monkeypatch.setattr(wire, "_MAX_READ", 0)
    pieces = [said[at : at + 1000] for at in range(0, len(said), 1000)]
    async with pipeline_to(tmp_path / "server.sock", says(*pieces)) as pipeline:
        with anyio.fail_after(5), pytest.raises(redis.InvalidResponse):
            await call(pipeline, "PING")


async def test_many_long_arrays(server, pipeline):
    """Replies with many elements pass, as often as they are asked for."""
    server.redis.sadd("names", *range(100_000))
    for _ in range(3):
        replies = await asyncio.gather(*(call(pipeline, "SMEMBERS", "names") for _ in range(15)))
        assert [len(reply) for reply in replies] == [100_000] * 15
    server.redis.delete("names")


@pytest.mark.parametrize("size", [1, 2, 3, 5, 11, 64, 1000])
async def test_bodies_like_long_arrays(tmp_path, size):
    """A body may look like anything, in whatever pieces it comes."""
    body = b"\r\n*1000000000\r\n>99999999\r\n~123456|1\n|1234567\n*7\r\n*"
    said = (b"*2\r\n$%d\r\n%s\r\n*1\r\n$13\r\n*1000000000\r\n\r\n" % (len(body), body)) * 3
    pieces = [said[at : at + size] for at in range(0, len(said), size)]
    async with pipeline_to(tmp_path / "server.sock", says(*pieces)) as pipeline:
        calls = [call(pipeline, word) for word in ("PING", "ECHO", "ECHO")]
        assert await asyncio.gather(*calls) == [[body, [b"*1000000000\r\n"]]] * 3
