"""The server dies, forgets its scripts, stops answering, and closes connections; under load."""

import signal
import time

import anyio
import anyio.lowlevel
import anyio.to_thread
import redis

from chaos.history import LIMIT
from chaos.load import MIXED, SOON
from support import restart, wait_until


async def test_killed_with_aof(own_server, load_on, seed, scale, drain):
    """A server that is killed and restarted with its append-only file loses nothing, and stores and
    counts it once.
    """
    server = own_server("--appendonly", "yes", "--appendfsync", "always")
    load = await load_on(server)
    load.start("producer", delayed=0.1)
    load.start("producer", tasks=1)
    load.start("consumer", prefetch=8, **MIXED)
    load.start("consumer", tasks=1)
    await load.all_run()
    kills = scale(3, 5)
    for _ in range(kills):
        await load.moves_on(scale(60, 1000), timeout=60)
        await restart(server, seed.uniform(0, 0.3))
    verdict = await drain(load, f"{kills} kills", errors=True, in_order=True)
    assert verdict.acknowledged > scale(150, 5000)


async def test_killed_without_aof(own_server, load_on, scale, report):
    """The control: a server without an append-only file loses what it held, and the checker reports
    it.
    """
    server = own_server()
    load = await load_on(server)
    load.start("producer")
    await wait_until(lambda: load.count("sent") > 100)
    await restart(server, 0)
    await load.create_queue()
    before = load.count("sent")
    await wait_until(lambda: load.count("sent") > before + 100)
    verdict, _ = await load.drain(within=10)
    report(f"1 kill: {verdict}", "must report losses")
    assert len(verdict.lost) > 100


async def test_closed_connections(server, load_on, scale, drain):
    """Connections that the server closes every 200 ms, of callers and listeners, cost nobody a
    message or an error.
    """
    load = await load_on(server)
    load.start("producer", delayed=0.1)
    load.start("consumer", prefetch=8, **MIXED)
    load.start("consumer", tasks=1)
    await load.all_run()
    closed = {"normal": 0, "pubsub": 0}
    for _ in range(scale(6, 100)):
        await anyio.sleep(0.2)
        for kind in closed:
            closed[kind] += server.redis.execute_command("CLIENT", "KILL", "TYPE", kind)
    await drain(load, f"closed {closed}", in_order=True)
    assert min(closed.values()) > scale(6, 100)


async def test_forgotten_scripts(server, load_on, scale, report):
    """Nobody notices that the server forgets its scripts all the time: no NOSCRIPT, and the order
    is kept.
    """
    load = await load_on(server)
    load.start("producer", tasks=1)
    load.start("producer")
    load.start("consumer", tasks=1, pause=0)
    await load.all_run()
    server.reset_stats()
    until, flushes = time.monotonic() + scale(1, 10), 0
    while time.monotonic() < until:
        server.redis.script_flush()
        flushes += 1
        await anyio.lowlevel.checkpoint()
    missed = server.redis.info("errorstats")["errorstat_NOSCRIPT"]["count"]
    verdict, _ = await load.drain(within=10, in_order=True)
    report(
        f"{flushes:,} flushes, {missed:,} times NOSCRIPT: {verdict}", f"{LIMIT}; errors 0; in order"
    )
    assert verdict.violations == []
    assert not verdict.errors
    assert missed > scale(100, 1000)


def pause(server, seconds):
    server.redis.execute_command("CLIENT", "PAUSE", round(seconds * 1000), "ALL")
    time.sleep(seconds)


def sleep(server, seconds):
    with redis.Redis(
        unix_socket_path=server.socket, socket_timeout=None
    ) as patient:  # else it would ask again
        patient.execute_command("DEBUG", "SLEEP", seconds)


def freeze(server, seconds):
    server.process.send_signal(signal.SIGSTOP)
    time.sleep(seconds)
    server.process.send_signal(signal.SIGCONT)


async def test_no_answer(server, load_on, scale, report):
    """No call takes longer than its deadline, however the server came to be silent, and however
    long.
    """
    reply_timeout, deadline = scale(0.5, 5), scale(1.5, 30)
    load = await load_on(server)
    options = {"deadline": deadline, "constants": scale(SOON, {})}
    load.start("producer", **options)
    load.start("consumer", tasks=1, **options)
    load.start("consumer", prefetch=8, **MIXED, **options)
    await load.all_run()
    silences = {
        pause: reply_timeout * 1.5,
        sleep: reply_timeout * 1.5,
        freeze: deadline + scale(0.5, 1),
    }
    for be_silent, seconds in silences.items():
        await anyio.to_thread.run_sync(be_silent, server, seconds)
        await load.moves_on(scale(20, 50))
    verdict, seconds = await load.drain(within=10)
    longest = max(one["took"] for one in load.operations() if "took" in one)
    said = ", ".join(
        f"{be_silent.__name__} {seconds:g} s" for be_silent, seconds in silences.items()
    )
    report(f"{said}: longest call {longest:.2f} s; {verdict}", f"call {deadline} s; {LIMIT}")
    assert verdict.violations == []
    assert verdict.errors  # the last silence was longer than the deadline
    assert deadline < longest < deadline + 0.5
