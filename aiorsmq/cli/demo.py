"""`python -m aiorsmq demo`: a tour on a real server, in one program and across two processes."""

import asyncio
import os
import statistics
import sys
import threading
import time
from asyncio.subprocess import PIPE

import anyio

from ..client import AsyncRSMQ
from ..embedded import EmbeddedServer
from ..queue import Queue

SENDS = 200
BURST = 64 * 300


async def demo() -> None:
    """Show the library at work on a private server; takes a few seconds."""
    started = time.monotonic()
    async with EmbeddedServer() as server, AsyncRSMQ.from_url(server.url) as rsmq:
        print(f"Started a real Valkey server at {server.url}\n")
        await in_one_program(rsmq.queue("one-program"))
        await after_a_failure(rsmq.queue("failure"))
        await across_two_processes(rsmq.queue("two-processes"), server.url)
        await all_at_once(rsmq.queue("burst"))
    print(f"Done in {time.monotonic() - started:.1f} seconds; the server has been stopped.")


async def in_one_program(queue: Queue[str]) -> None:
    print("1. One program: three consumers wait in `async for`, a producer sends occasionally")
    await queue.create()
    latencies: list[float] = []
    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(consume, queue, latencies)
        await send_occasionally(queue)
        await wait_until_drained(queue, SENDS)
        print(f"   {SENDS} messages, from send to handler: {summary(latencies)}")
        await queue.send(str(time.monotonic() + 0.5), delay=0.5)
        await wait_until_drained(queue, SENDS + 1)
        print(
            f"   a message with a delay of 0.5 s arrived {latencies[-1] * 1000:.1f} ms after it "
            "was due, without polling\n"
        )
        tasks.cancel_scope.cancel()


async def after_a_failure(queue: Queue[str]) -> None:
    print("2. A handler fails, and the message is redelivered")
    await queue.create()
    await queue.send("hello")
    async for message in queue.messages():
        try:
            async with message:
                print(f"   received {message.body!r}, receive count {message.receive_count}")
                if message.receive_count == 1:
                    raise RuntimeError("the first attempt fails")
                break
        except RuntimeError as error:
            print(f"   {error}: the message is visible again at once")
    print()


async def across_two_processes(queue: Queue[str], url: str) -> None:
    print("3. Two processes: one sends, the other receives")
    await queue.create()
    consumer = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", __name__, url, queue.name),
        stdin=PIPE,  # its end tells the process that this one has ended
        stdout=PIPE,
        start_new_session=True,  # Ctrl-C is for this process
    )
    output = consumer.stdout or asyncio.StreamReader()
    try:
        pid = (await output.readline()).decode().strip()
        print(f"   process {pid} waits for messages, {os.getpid()} sends them")
        await send_occasionally(queue)
        latencies = (await output.readline()).decode().strip()
        print(f"   {SENDS} messages, from send to handler: {latencies}\n")
    finally:
        if consumer.stdin is not None:
            consumer.stdin.close()
        await consumer.wait()


async def all_at_once(queue: Queue[str]) -> None:
    print(f"4. {BURST:,} messages as fast as 64 producers and 64 consumers can")
    await queue.create()
    rates: list[str] = []
    for verb, work in (("sent", produce), ("received and deleted", consume)):
        started = time.monotonic()
        latencies: list[float] = []
        async with anyio.create_task_group() as tasks:
            for _ in range(64):
                tasks.start_soon(work, queue, latencies)
            if work is consume:
                await wait_until_drained(queue, BURST)
                tasks.cancel_scope.cancel()
        rates.append(f"{BURST / (time.monotonic() - started):,.0f} {verb} per second")
    print(f"   {', '.join(rates)}\n")


async def produce(queue: Queue[str], _latencies: list[float]) -> None:
    for _ in range(BURST // 64):
        await queue.send(str(time.monotonic()))


async def consume(queue: Queue[str], latencies: list[float]) -> None:
    async for message in queue.messages():
        latencies.append(time.monotonic() - float(message.body))
        await message.delete()


async def send_occasionally(queue: Queue[str]) -> None:
    for _ in range(SENDS):
        await queue.send(str(time.monotonic()))
        await anyio.sleep(0.004)


async def wait_until_drained(queue: Queue[str], receives: int) -> None:
    """Wait until messages have been received that often, and all are deleted."""
    while True:
        attributes = await queue.attributes()
        if attributes.totalrecv >= receives and not attributes.msgs:
            return
        await anyio.sleep(0.01)


def summary(latencies: list[float]) -> str:
    median = statistics.median(latencies)
    percentile_99 = statistics.quantiles(latencies, n=100)[98]
    return f"median {median * 1000:.2f} ms, 99th percentile {percentile_99 * 1000:.2f} ms"


def end_with_parent() -> None:
    """End this process at once when its input ends: its parent has closed it, or is gone."""
    os.read(sys.stdin.fileno(), 1)
    os._exit(0)


async def consume_in_subprocess(url: str, qname: str) -> None:
    threading.Thread(target=end_with_parent, daemon=True).start()
    latencies: list[float] = []
    async with AsyncRSMQ.from_url(url) as rsmq:
        print(os.getpid(), flush=True)
        async for message in rsmq.queue(qname).messages():
            latencies.append(time.monotonic() - float(message.body))
            await message.delete()
            if len(latencies) == SENDS:
                break
    print(summary(latencies), flush=True)


if __name__ == "__main__":
    asyncio.run(consume_in_subprocess(*sys.argv[1:]))
