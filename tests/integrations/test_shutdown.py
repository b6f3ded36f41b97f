"""A shutdown begins with a signal that the server gets too, or when it is told to."""

import asyncio
import signal
import threading
from contextlib import aclosing, contextmanager

import anyio
import anyio.to_thread
import pytest
from aiorsmq.integrations.shutdown import Shutdown

from support import PATIENCE


@contextmanager
def handled(number, handler):
    """What a web server does before it starts its app."""
    previous = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, previous)


@pytest.fixture
def seen():
    """The signals that reach the server."""
    signals = []
    with (
        handled(signal.SIGTERM, lambda number, _: signals.append(number)),
        handled(signal.SIGINT, lambda number, _: signals.append(number)),
    ):
        yield signals


async def count_slowly(log):
    try:
        yield 0
        yield 1
        await asyncio.Event().wait()
    finally:
        log.append("closed")


async def begun(shutdown):
    with anyio.fail_after(PATIENCE):
        await shutdown.wait()


class TestSignals:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    async def test_begins(self, seen, number):
        """It begins with a signal, which reaches the server at once, and so does each later one."""
        calls = []
        with Shutdown(lambda: calls.append("first"), lambda: calls.append("second")) as shutdown:
            assert not shutdown.has_begun
            signal.raise_signal(number)
            assert seen == [number]
            await begun(shutdown)
            assert shutdown.has_begun
            assert calls == ["first", "second"]
            signal.raise_signal(number)
            await asyncio.sleep(0)
        assert seen == [number, number]
        assert calls == ["first", "second"]

    async def test_the_handlers_of_the_event_loop(self):
        """A server that has the event loop handle its signals gets them too."""
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        loop.add_signal_handler(signal.SIGTERM, stop.set)
        try:
            with Shutdown() as shutdown:
                signal.raise_signal(signal.SIGTERM)
                await begun(shutdown)
                with anyio.fail_after(PATIENCE):
                    await stop.wait()
            stop.clear()
            signal.raise_signal(signal.SIGTERM)
            with anyio.fail_after(PATIENCE):
                await stop.wait()
        finally:
            loop.remove_signal_handler(signal.SIGTERM)

    async def test_restores(self, seen):
        """Afterwards the server's handlers are back, also with one in another."""
        handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
        with Shutdown() as outer:
            with Shutdown() as inner:
                pass
            signal.raise_signal(signal.SIGTERM)
            await begun(outer)
            assert not inner.has_begun
        assert [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)] == handlers
        assert seen == [signal.SIGTERM]

    async def test_leaves_a_newer_handler(self, seen):
        """A handler that was installed since stays, and may call what it replaced."""
        with Shutdown() as shutdown:
            replaced = signal.getsignal(signal.SIGTERM)

            def forward(number, frame):
                replaced(number, frame)

            signal.signal(signal.SIGTERM, forward)
        assert signal.getsignal(signal.SIGTERM) is forward
        signal.raise_signal(signal.SIGTERM)
        await asyncio.sleep(0)
        assert seen == [signal.SIGTERM]
        assert shutdown.has_begun

    @pytest.mark.parametrize("handler", [signal.SIG_DFL, signal.SIG_IGN])
    async def test_nobody_handles_it(self, handler):
        """A signal that nothing handles is left as it is."""
        with handled(signal.SIGTERM, handler), Shutdown():
            assert signal.getsignal(signal.SIGTERM) is handler

    async def test_two_at_once(self, seen):
        """Several see the same signal: two clients in one app."""
        with Shutdown() as first, Shutdown() as second:
            signal.raise_signal(signal.SIGTERM)
            await begun(first)
            await begun(second)
        assert seen == [signal.SIGTERM]

    async def test_in_a_thread(self, seen):
        """In another thread, as in a test client, it takes no signal, and can be told."""

        async def run():
            before = signal.getsignal(signal.SIGTERM)
            calls = []
            with Shutdown(lambda: calls.append(threading.get_ident())) as shutdown:
                assert signal.getsignal(signal.SIGTERM) is before
                shutdown.begin()
                await shutdown.wait()
            assert calls == [threading.get_ident()]

        await anyio.to_thread.run_sync(asyncio.run, run())

    def test_after_its_event_loop(self, seen):
        """A signal that comes when the event loop is gone only reaches the server."""

        async def enter():
            return Shutdown().__enter__()

        shutdown = asyncio.run(enter())
        signal.raise_signal(signal.SIGTERM)
        shutdown.__exit__(None, None, None)
        assert seen == [signal.SIGTERM]
        assert not shutdown.has_begun


class TestStream:
    async def test_ends(self):
        """Its iterator waits, and is closed, when the shutdown begins."""
        log = []
        shutdown = Shutdown()
        with anyio.fail_after(PATIENCE):
            async for n in shutdown.stream(count_slowly(log)):
                log.append(n)
                if n == 1:
                    asyncio.get_running_loop().call_soon(shutdown.begin)
        assert log == [0, 1, "closed"]

    async def test_begins_in_the_body(self):
        """An item in hand is the last one."""
        log = []
        shutdown = Shutdown()
        async for n in shutdown.stream(count_slowly(log)):
            log.append(n)
            shutdown.begin()
        assert log == [0, "closed"]

    async def test_later_ones(self):
        """A stream that is made later ends at once."""
        log = []
        shutdown = Shutdown()
        shutdown.begin()
        assert [n async for n in shutdown.stream(count_slowly(log))] == []

    async def test_to_its_end(self):
        """An iterator that ends, or fails, does so here too."""

        async def fail():
            yield 1
            raise ValueError("broken")

        stream = Shutdown().stream(fail())
        assert await anext(stream) == 1
        with pytest.raises(ValueError, match="broken"):
            await anext(stream)

        async def end():
            yield 1

        assert [n async for n in Shutdown().stream(end())] == [1]

    async def test_cancelled(self):
        """A task that is cancelled while it waits is cancelled, and the iterator closed."""
        log = []

        stream = Shutdown().stream(count_slowly(log))
        assert [await anext(stream), await anext(stream)] == [0, 1]
        step = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        step.cancel()
        with pytest.raises(asyncio.CancelledError):
            await step
        assert log == ["closed"]

    async def test_left_early(self):
        """Closing it closes the iterator."""
        log = []
        async with aclosing(Shutdown().stream(count_slowly(log))) as stream:
            assert await anext(stream) == 0
        assert log == ["closed"]

    async def test_an_item_that_arrives_as_it_begins(self):
        """An item that has arrived when the shutdown begins is not lost."""
        items = asyncio.Queue()

        async def read():
            while True:
                yield await items.get()

        shutdown = Shutdown()
        stream = shutdown.stream(read())
        waiting = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        items.put_nowait("x")
        shutdown.begin()
        assert await waiting == "x"
        with pytest.raises(StopAsyncIteration):
            await anext(stream)
