"""A worker in `async with` in a program that gets SIGTERM, and handles it or not."""

import asyncio
import signal
import subprocess
import sys
from collections import Counter
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import anyio
import pytest
from aiorsmq._working.signals import die_gracefully
from anyio.streams.text import TextReceiveStream

from support import PATIENCE, insist, wait_for_listener, wait_until

BEGIN = """
import asyncio, logging, os, signal, sys, threading
from contextlib import AsyncExitStack
from aiorsmq import AsyncRSMQ

logging.getLogger("aiorsmq.startup.persistence").setLevel("ERROR")

async def handler(message):
    print("begun", flush=True)
    await asyncio.sleep(float(message.body))
    print("done", flush=True)

def say(text):
    print(text, flush=True)

async def block():
    say("waiting")
    await asyncio.Event().wait()

async def main():
    async with AsyncRSMQ.from_url(sys.argv[1]) as rsmq, AsyncExitStack() as stack:
        jobs, others = rsmq.queue("jobs"), rsmq.queue("others")
"""
END = """
if __name__ == "__main__":
    if sys.argv[2] == "uvloop":
        import uvloop
        uvloop.run(main())
    else:
        asyncio.run(main())
    say("left")
"""


@pytest.fixture
def loop_name(anyio_backend):
    return "uvloop" if anyio_backend[1].get("use_uvloop") else "asyncio"


@pytest.fixture
def program(server, loop_name):
    """`async with program(body) as (process, line)`: a program whose `main` goes on with `body`,
    and a function that returns the next line that it prints; None is the end.
    """

    @asynccontextmanager
    async def start(body, url=server.url):
        text = "".join(f"        {line}\n" for line in body.strip().splitlines())
        command = [sys.executable, "-c", BEGIN + text + END, url, loop_name]
        async with await anyio.open_process(
            command, stdin=None, stderr=subprocess.STDOUT
        ) as process:
            lines = TextReceiveStream(process.stdout)
            left = ""

            async def line():
                nonlocal left
                with anyio.fail_after(PATIENCE):
                    while "\n" not in left:
                        try:
                            left += await lines.receive()
                        except anyio.EndOfStream:
                            assert not left
                            return None
                first, _, left = left.partition("\n")
                return first

            try:
                yield process, line
            finally:
                if process.returncode is None:
                    process.kill()

    return start


@pytest.fixture
async def others(rsmq, queue):
    others = rsmq.queue("others")
    await others.create()
    return others


async def lines_until(line, *awaited):
    """The lines that a program prints until it has printed all of these."""
    lines = []
    while Counter(awaited) - Counter(lines):
        lines.append(await line())
    return lines


async def rest(line):
    lines = []
    while (text := await line()) is not None:
        lines.append(text)
    return lines


async def test_handlers_end(program, queue):
    """Handlers end and their messages are deleted, and the program dies of SIGTERM as it would
    have.
    """
    await queue.send("0.3")
    async with program("async with jobs.worker(handler):\n    await block()") as (process, line):
        assert {await line(), await line()} == {"waiting", "begun"}
        process.send_signal(signal.SIGTERM)
        assert await rest(line) == ["done"]
        assert await process.wait() == -signal.SIGTERM
    assert (await queue.attributes()).msgs == 0


@pytest.mark.parametrize("how", ["grace", "second signal"])
async def test_handlers_that_do_not_end(program, queue, how):
    """After `grace`, or at the second signal, they are cancelled and their messages released."""
    await queue.send("60")
    grace = 0.1 if how == "grace" else 60
    body = f"""
async with jobs.worker(handler, grace={grace}) as worker:
    while worker.trouble != "stopping":
        await asyncio.sleep(0.01)
    say("stopping")
    await block()
"""
    async with program(body) as (process, line):
        assert await line() == "begun"
        process.send_signal(signal.SIGTERM)
        if how == "grace":
            lines = await rest(line)
        else:
            await lines_until(line, "stopping")
            lines = await insist(process, signal.SIGTERM, rest(line))
        assert "done" not in lines
        assert await process.wait() == -signal.SIGTERM
    message = await queue.receive()
    assert message.receive_count == 2
    await message.delete()


PATIENT = """
go_on = asyncio.Event()
asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, go_on.set)

async def patient(message):
    await go_on.wait()
    await handler(message)

worker = jobs.worker(patient)
"""
STOPPING = {
    "run": """
running = asyncio.create_task(worker.run())
while not worker.stats.in_flight:
    await asyncio.sleep(0.01)
worker.stop()
say(worker.trouble)
await running
""",
    "block": """
async with worker:
    while not worker.stats.in_flight:
        await asyncio.sleep(0.01)
    asyncio.get_running_loop().call_later(0.1, lambda: say(worker.trouble))
""",
}


@pytest.mark.parametrize("way", STOPPING)
async def test_first_signal_while_it_stops(program, queue, way):
    """A worker that is stopping when the first signal comes gives its handlers time as before."""
    await queue.send("0.3")
    async with program(PATIENT + STOPPING[way]) as (process, line):
        assert await line() == "stopping"
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGUSR1)
        assert (await rest(line))[:2] == ["begun", "done"]
        assert await process.wait() == (0 if way == "run" else -signal.SIGTERM)
    assert (await queue.attributes()).msgs == 0


async def test_claim_on_its_way(program, queue, server, proxy):
    """A message whose claim is answered after the signal is back in its place when the program
    dies.
    """
    body = """
worker = jobs.worker(handler)
async with worker:
    await block()
"""
    async with program(body, proxy.url) as (process, line):
        assert await line() == "waiting"
        await wait_for_listener(server)
        proxy.latency = (0.5, 0.5)
        id = await queue.send("60")
        await wait_until(lambda: server.redis.hget("rsmq:jobs:Q", f"{id}:rc") == b"1")
        process.send_signal(signal.SIGTERM)
        assert await rest(line) == []
        assert await process.wait() == -signal.SIGTERM
    (message,) = await queue.peek()
    assert (message.id, message.receive_count) == (id, 0)
    assert message.visible_until <= datetime.now(UTC)
    await queue.purge()


async def test_several(program, others, queue):
    """All workers stop at once, nested ones too; the last to end takes the program with it."""
    await queue.send("0.2")
    await others.send("0.5")
    body = """
async with jobs.worker(handler), others.worker(handler):
    await block()
"""
    async with program(body) as (process, line):
        lines = await lines_until(line, "waiting", "begun", "begun")
        process.send_signal(signal.SIGTERM)
        lines += await rest(line)
        assert sorted(lines) == ["begun", "begun", "done", "done", "waiting"]
        assert await process.wait() == -signal.SIGTERM
    assert (await queue.attributes()).msgs + (await others.attributes()).msgs == 0


@pytest.mark.parametrize("way", ["enter", "run"])
async def test_started_after_the_signal(program, others, queue, way):
    """A worker that starts while the program is dying stops at once, and dies with it."""
    await queue.send("0.5")
    await others.send("60")
    body = f"""
async with jobs.worker(handler) as worker:
    while worker.trouble != "stopping":
        await asyncio.sleep(0.01)
    await others.worker(handler).{"__aenter__" if way == "enter" else "run"}()
    await asyncio.Event().wait()
"""
    async with program(body) as (process, line):
        await lines_until(line, "begun")
        process.send_signal(signal.SIGTERM)
        assert await rest(line) == ["done"]
        assert await process.wait() == -signal.SIGTERM
    assert (await others.attributes()).totalrecv == 0
    await others.purge()


def test_after_a_closed_loop():
    """A worker whose event loop was closed around it does not keep the signal from a later one."""
    kept = []

    async def enter():
        block = die_gracefully(list)
        block.__enter__()
        kept.append(block)

    async def enter_and_leave():
        with die_gracefully(list):
            pass

    loop = asyncio.new_event_loop()
    loop.run_until_complete(enter())
    loop.close()
    asyncio.run(enter_and_leave())
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    with pytest.raises(StopIteration):
        next(kept[0].gen)


async def test_left_in_a_forked_child(program):
    """A forked child that leaves the block of its parent is not disturbed."""
    body = """
import contextlib, os
from aiorsmq._working.signals import die_gracefully
with contextlib.ExitStack() as stack:
    stack.enter_context(die_gracefully(list))
    if os.fork() == 0:
        stack.close()
        say("the child left")
        os._exit(0)
    os.wait()
"""
    async with program(body) as (process, line):
        assert await rest(line) == ["the child left", "left"]
        assert await process.wait() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_run_after_the_signal(program, others, queue, number):
    """A `run()` that starts while another one stops at a signal stops too: it may have been slower
    to start.
    """
    await queue.send("0.5")
    await others.send("60")
    body = """
first = jobs.worker(handler)
running = asyncio.create_task(first.run())
while first.trouble != "stopping":
    await asyncio.sleep(0.01)
await others.worker(handler).run()
await running
"""
    async with program(body) as (process, line):
        await lines_until(line, "begun")
        process.send_signal(number)
        assert await rest(line) == ["done", "left"]
        assert await process.wait() == 0
    assert (await others.attributes()).totalrecv == 0
    await others.purge()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_beside_run(program, others, queue, number):
    """With a `run()` beside it, the signal is handled: both stop, and the program goes on."""
    await queue.send("0.3")
    await others.send("0.3")
    body = "async with jobs.worker(handler):\n    await others.worker(handler).run()"
    async with program(body) as (process, line):
        lines = await lines_until(line, "begun", "begun")
        process.send_signal(number)
        lines += await rest(line)
        assert sorted(lines) == ["begun", "begun", "done", "done", "left"]
        assert await process.wait() == 0


async def test_interrupt(program, queue):
    """SIGINT is asyncio's: it cancels the block, and handlers end."""
    await queue.send("0.3")
    async with program("async with jobs.worker(handler):\n    await block()") as (process, line):
        assert {await line(), await line()} == {"waiting", "begun"}
        process.send_signal(signal.SIGINT)
        lines = await rest(line)
        assert (lines[0], lines[-1]) == ("done", "KeyboardInterrupt")
        assert await process.wait() == -signal.SIGINT


HANDLERS = {
    "signal, before": """
signal.signal(signal.SIGTERM, lambda *_: say("mine"))
async with jobs.worker(handler):
    await block()
""",
    "signal, later": """
async with jobs.worker(handler):
    signal.signal(signal.SIGTERM, lambda *_: say("mine"))
    await block()
""",
    "loop, before": """
asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, say, "mine")
async with jobs.worker(handler):
    await block()
""",
    "loop, later": """
async with jobs.worker(handler):
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, say, "mine")
    await block()
""",
    "loop, later, kept after the block": """
async with jobs.worker(handler):
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, say, "mine")
async with jobs.worker(handler):
    await block()
""",
    "ignored": """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
async with jobs.worker(handler):
    asyncio.get_running_loop().call_later(0.3, say, "mine")
    await block()
""",
}


@pytest.mark.parametrize("body", HANDLERS.values(), ids=HANDLERS)
async def test_handled_elsewhere(program, queue, body):
    """If anything else handles SIGTERM, now or later, the worker stays out of it, and works on."""
    async with program(body) as (process, line):
        assert await line() == "waiting"
        process.send_signal(signal.SIGTERM)
        assert await line() == "mine"
        await queue.send("0")
        assert [await line(), await line()] == ["begun", "done"]
        process.kill()


async def test_handed_back(program, queue):
    """A handler that is installed for a while and gives SIGTERM back, as uvicorn does, leaves
    things as they were, even after the block.
    """
    body = """
async with jobs.worker(handler):
    before = signal.signal(signal.SIGTERM, lambda *_: say("mine"))
signal.signal(signal.SIGTERM, before)
await block()
"""
    async with program(body) as (process, line):
        assert await line() == "waiting"
        process.send_signal(signal.SIGTERM)
        assert await rest(line) == []
        assert await process.wait() == -signal.SIGTERM


async def test_after_the_block(program, queue):
    """After the block SIGTERM has its default again."""
    body = """
async with jobs.worker(handler) as worker:
    while not worker.healthy:
        await asyncio.sleep(0.01)
    assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
"""
    async with program(body) as (process, line):
        assert await rest(line) == ["left"]
        assert await process.wait() == 0


async def test_forked_child(program, queue):
    """A child that the block forks dies of SIGTERM at once, and does not disturb its parent."""
    body = """
async with jobs.worker(handler):
    child = os.fork()
    if not child:
        while True:
            signal.pause()
    os.kill(child, signal.SIGTERM)
    say(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    await block()
"""
    async with program(body) as (process, line):
        assert [await line(), await line()] == [str(-signal.SIGTERM), "waiting"]
        await queue.send("0")
        assert [await line(), await line()] == ["begun", "done"]
        process.kill()


async def test_another_thread(program, queue):
    """A worker in another thread than the main one leaves SIGTERM alone."""
    body = """
def in_thread():
    async def work():
        async with AsyncRSMQ.from_url(sys.argv[1]) as rsmq, rsmq.queue("jobs").worker(handler):
            say(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)
            await asyncio.Event().wait()
    asyncio.run(work())
threading.Thread(target=in_thread, daemon=True).start()
await block()
"""
    async with program(body) as (process, line):
        assert {await line(), await line()} == {"waiting", "True"}
        process.send_signal(signal.SIGTERM)
        assert await rest(line) == []
        assert await process.wait() == -signal.SIGTERM
