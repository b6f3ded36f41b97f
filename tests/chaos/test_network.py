"""Replies are cut, lines go dead, and the network is slow and lets only one direction through;
under load.
"""

import time

import anyio
import pytest

from chaos.history import LIMIT
from chaos.load import MIXED, QNAME, SOON
from support import wait_until


async def test_cut_replies_to_sends(server, proxy, load_on, scale, report):
    """No send is stored twice or not at all, though a tenth of the replies are cut after the server
    has executed.
    """
    load = await load_on(server)
    proxy.cut_share = 0.1
    for _ in range(3):
        load.start("producer", url=proxy.url, tasks=1, count=scale(150, 1500), pause=0)
    await wait_until(
        lambda: not any(program.runs for program in load.programs), timeout=scale(30, 120)
    )
    proxy.cut_share = 0
    stored = (
        server.redis.zcard(f"rsmq:{QNAME}"),
        int(server.redis.hget(f"rsmq:{QNAME}:Q", "totalsent")),
    )
    verdict, _ = await load.drain(within=10, in_order=True)
    report(
        f"{proxy.cuts} replies cut: {verdict}; stored {stored[0]:,}",
        f"{LIMIT}; repeated 0; stored = attempted",
    )
    assert verdict.violations == []
    assert stored == (verdict.attempted, verdict.attempted)
    assert verdict.acknowledged == verdict.attempted == scale(450, 4500)
    assert verdict.repeated == 0
    assert proxy.cuts > scale(20, 200)


async def test_cut_replies(server, proxy, load_on, scale, drain):
    """Nothing is lost and no counter is wrong, though a tenth of the replies to everything are
    cut.
    """
    load = await load_on(server)
    load.start("producer", url=proxy.url, tasks=8, delayed=0.1)
    load.start("consumer", url=proxy.url, prefetch=8, **MIXED)
    load.start("consumer", url=proxy.url, tasks=1)
    await load.all_run()
    proxy.cut_share = 0.1
    await anyio.sleep(scale(1, 20))
    proxy.cut_share = 0
    verdict = await drain(load, f"{proxy.cuts} replies cut")
    assert verdict.unseen > 0
    assert proxy.cuts > scale(30, 300)


def gave_up(program):
    """When its listener gave up a connection that was silent."""
    return [
        one["ms"]
        for one in program.operations
        if one["op"] == "log" and "no data received for" in one["text"]
    ]


@pytest.mark.parametrize("forget", [False, True], ids=["late", "forgotten"])
async def test_black_hole(server, proxy, load_on, scale, report, forget):
    """A network that swallows everything is noticed, and once it heals the next message is there at
    once or soon.
    """
    hole, notice, connect = scale(1.5, 5.0), scale(1.5, 10.5), scale(0.5, 5.0)
    load = await load_on(server)
    options = {"url": proxy.url, "constants": scale(SOON, {})}
    away = load.start("consumer", prefetch=8, **options)
    load.start("producer", **options)
    load.start(
        "producer", tasks=1, pause=0.02
    )  # next to the server: there is always something to be had
    await load.create_queue("idle")
    idle = load.start("consumer", qname="idle", **options)
    await wait_until(lambda: away.count("delivered") > 100)
    await wait_until(lambda: b"rsmq:rt:idle" in server.redis.pubsub_channels())
    begun = time.time() * 1000
    async with proxy.black_hole(forget=forget):
        await anyio.sleep(hole)
        healed = time.time() * 1000
    await wait_until(
        lambda: any(one["ms"] > healed for one in away.operations if one["op"] == "delivered"),
        timeout=20,
    )
    first = min(
        one["ms"] for one in away.operations if one["op"] == "delivered" and one["ms"] > healed
    )
    if forget:
        await wait_until(lambda: gave_up(idle), timeout=notice)
    verdict, seconds = await load.drain(within=scale(10, 20))
    dead = gave_up(idle)
    noticed = f"{(dead[0] - begun) / 1000:.2f} s" if dead else "not at all"
    report(
        f"{hole:g} s: listener declared dead after {noticed}, first message "
        f"{(first - healed) / 1000:.2f} s after the "
        f"healing; {verdict}; empty after {seconds:.1f} s",
        f"dead within {notice:g} s, first message within {connect + 1.5:g} s; {LIMIT}",
    )
    assert verdict.violations == []
    assert (
        first - healed < (connect + 1.5) * 1000
    )  # an attempt to connect may have to end first, and a pause
    assert not forget or dead[0] - begun < notice * 1000


async def test_slow_network(server, proxy, load_on, scale, drain):
    """Nothing is lost in a slow network that takes everything apart, nor where one direction is
    closed or dead.
    """
    load = await load_on(server)
    options = {"url": proxy.url, "constants": scale(SOON, {})}
    load.start("producer", delayed=0.1, **options)
    load.start("consumer", prefetch=8, **MIXED, **options)
    load.start("consumer", tasks=1, **options)

    await load.all_run()
    for proxy.delay, proxy.fragment in ((0.05, 0), (0, 7), (0.002, 100)):
        await load.moves_on(scale(20, 300))
    proxy.delay = proxy.fragment = 0
    for replies in (True, False):
        for _ in range(scale(1, 10)):
            proxy.half_close(replies=replies)
            await load.moves_on(scale(20, 50))
    for direction in ("silent", "deaf"):
        setattr(proxy, direction, True)
        await anyio.sleep(0.1)
        setattr(proxy, direction, False)
        await load.moves_on(scale(20, 50))
    await drain(load, "slow, half-closed, silent and deaf", within=scale(10, 20))
