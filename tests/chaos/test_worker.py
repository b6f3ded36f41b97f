"""Workers are killed, stopped past their leases, and lose their server; under load."""

from aiorsmq import AsyncRSMQ

from chaos.history import LIMIT
from chaos.load import QNAME
from chaos.network import Proxy
from support import restart, wait_until

BUSY = {"tasks": 16, "release": 0.1, "late": 0.01}
"""A worker that has to renew leases, and to retry."""


async def test_killed_workers(server, load_on, scale, drain):
    """Jobs of workers that are killed at any moment, or asked to end, run again; those that have
    ended do not.
    """
    load = await load_on(server)
    load.start("producer", delayed=0.1)
    for _ in range(2):
        load.start("worker", **BUSY)
    await load.all_run()
    ends = await load.replace("worker", scale(3, 20), **BUSY)
    verdict = await drain(load, dict(ends))
    assert verdict.redelivered > 0


async def test_stopped_past_its_leases(server, load_on, scale, report):
    """A worker that was stopped past its leases settles nothing of what another has received."""
    load = await load_on(server)
    count = scale(40, 400)
    producer = load.start("producer", tasks=4, count=count // 4, pause=0)
    await load.all_run()
    await producer.has_ended()
    stopped = load.start("worker", tasks=count, pause=2)
    await wait_until(lambda: stopped.count("delivered") == count)
    stopped.freeze()
    other = load.start("worker", tasks=count, pause=0.5)
    await wait_until(lambda: other.count("delivered") >= count // 2)
    stopped.thaw()
    verdict, _ = await load.drain(within=30)
    taken = {one["id"] for one in other.operations if one["op"] == "delivered" and one["rc"] > 1}
    late = [one for one in stopped.operations if one.get("rc") == 1 and one.get("id") in taken]
    said = {op: sum(one["op"] == op for one in late) for op in ("deleted", "delete refused")}
    report(f"{len(taken)} taken over, the late worker: {said}; {verdict}", f"deleted 0; {LIMIT}")
    assert verdict.violations == []
    assert len(taken) >= count // 2


async def test_server_restarts(own_server, load_on, seed, scale, drain):
    """Workers go on by themselves after a server that is killed and restarted with its append-only
    file.
    """
    server = own_server("--appendonly", "yes", "--appendfsync", "always")
    load = await load_on(server)
    load.start("producer", delayed=0.1)
    for _ in range(2):
        load.start("worker", **BUSY)
    await load.all_run()
    kills = scale(3, 10)
    for _ in range(kills):
        await load.moves_on(scale(100, 500), timeout=60)
        await restart(server, seed.uniform(0, 0.7))  # the lease is half a second
    await drain(load, f"{kills} kills", errors=True)


async def test_cut_replies_to_deletes_and_moves(server, load_on, seed, scale, report):
    """Each job ends once, deleted or dead, though a tenth of the replies to its worker are cut
    after the execution.
    """
    load = await load_on(server)
    async with AsyncRSMQ.from_url(server.url) as rsmq:
        await rsmq.queue(QNAME).set_attributes(dead_letter_queue="dead")
    producer = load.start("producer", tasks=4, count=scale(150, 1500), pause=0.001)
    async with Proxy(server.socket, f"{server.folder}/proxy.sock", chance=seed) as proxy:
        proxy.cut_share = 0.1
        for _ in range(2):
            load.start("worker", url=proxy.url, reject=10, **BUSY)
        await producer.has_ended()
        await wait_until(lambda: server.redis.zcard(f"rsmq:{QNAME}") == 0, timeout=scale(30, 120))
        proxy.cut_share = 0
        verdict, _ = await load.drain(within=10)
    async with AsyncRSMQ.from_url(server.url) as rsmq:
        dead = {letter.id: letter for letter in await rsmq.queue("dead").reasons(1000)}
    sent = [one for one in producer.operations if one["op"] == "sent"]
    rejected = {one["id"] for one in sent if int(one["body"].rpartition("/")[2]) % 10 == 0}
    report(
        f"{proxy.cuts} replies cut, {len(dead)} dead of {len(rejected)}: {verdict}",
        f"{LIMIT}; the same number dead",
    )
    assert verdict.violations == []
    assert dead.keys() == rejected
    assert {(letter.reason, letter.queue) for letter in dead.values()} == {("for no reason", QNAME)}
    assert proxy.cuts > scale(20, 200)
