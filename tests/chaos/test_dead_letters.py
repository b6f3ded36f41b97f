"""Messages die and are sent back while replies are lost and programs are killed: each is in one
queue, or is done.
"""

import asyncio
import random
import sys
from asyncio.subprocess import PIPE

import anyio
from aiorsmq import AsyncRSMQ

from support import check_keys, ids_in, wait_until

REDRIVE = """
import asyncio, logging, sys
from aiorsmq import AsyncRSMQ

async def main(url, rate):
    async with AsyncRSMQ.from_url(url) as rsmq:
        async for moved in rsmq.queue("dead").redrive(rate=rate):
            print(moved, flush=True)

logging.disable()  # it warns of a server that keeps nothing
asyncio.run(main(sys.argv[1], float(sys.argv[2])))
"""


def total_sent(server, qname):
    return int(server.redis.hget(f"rsmq:{qname}:Q", "totalsent") or 0)


async def fail_until_dead(server, url, messages):
    """A consumer that fails at everything, until all messages are dead."""
    async with AsyncRSMQ.from_url(url, poll_interval=0.1) as rsmq:

        async def consume():
            async for message in rsmq.queue("jobs").messages(vt=0.2, prefetch=4):
                await message.release()

        async with anyio.create_task_group() as consumers:
            for _ in range(4):
                consumers.start_soon(consume)
            await wait_until(lambda: server.redis.zcard("rsmq:dead") == messages, timeout=30)
            consumers.cancel_scope.cancel()


async def test_cut_replies_to_deaths(server, proxy, scale, report):
    """Every message dies once, though a fifth of the replies are cut after the server has
    executed.
    """
    messages = scale(300, 3000)
    async with AsyncRSMQ.from_url(server.url) as rsmq:
        await rsmq.create_queue(qname="jobs", max_receives=2, dead_letter_queue="dead")
        ids = await rsmq.queue("jobs").send_many([str(n) for n in range(messages)])
        proxy.cut_share = 0.2
        async with asyncio.timeout(scale(30, 120)):
            await asyncio.gather(*(fail_until_dead(server, proxy.url, messages) for _ in range(2)))
        proxy.cut_share = 0.0
        letters = [letter for letter in await rsmq.queue("dead").reasons(1000) if letter.reason]
    died, moves = ids_in(server, "dead"), total_sent(server, "dead")
    report(
        f"{proxy.cuts} replies cut: {len(died)} of {messages} dead, {moves} moves, {len(letters)} "
        "reasons",
        "dead = moves = all",
    )
    assert sorted(died) == sorted(ids)
    assert moves == messages
    assert len(letters) == min(messages, 1000)
    assert {letter.receive_count for letter in letters} >= {3}
    assert ids_in(server, "jobs") == []
    assert proxy.cuts > scale(20, 200)
    check_keys(server.redis)


async def test_redrive_killed(server, seed, scale, report):
    """A redrive that is killed at random times and begun again moves every message, and each
    once.
    """
    messages = scale(400, 5000)
    async with AsyncRSMQ.from_url(server.url) as rsmq:
        jobs = rsmq.queue("jobs")
        await jobs.create(dead_letter_queue="dead")
        ids = await jobs.send_many([str(n) for n in range(messages)])
        records = [message._record for message in await jobs.receive_many(messages)]
        assert all(await jobs._core.bury(records, "to be redriven"))
    command = (sys.executable, "-W", "error", "-c", REDRIVE, server.url, str(scale(400, 2000)))
    kills, killed_in_the_middle = 0, 0
    while True:
        program = await asyncio.create_subprocess_exec(*command, stdout=PIPE)
        await program.stdout.readline()  # it has begun
        with anyio.move_on_after(seed.uniform(0, 0.2) if kills < scale(2, 20) else None):
            await program.wait()
        if program.returncode is None:
            program.kill()
            kills += 1
        await program.wait()
        here, there = ids_in(server, "dead"), ids_in(server, "jobs")
        assert sorted(here + there) == sorted(ids), "between two queues"
        killed_in_the_middle += bool(here) and program.returncode != 0
        if program.returncode == 0:
            break
        check_keys(server.redis)
    moves = total_sent(server, "jobs") - messages
    report(
        f"{kills} kills, {killed_in_the_middle} of them before the end: {moves} moves of "
        f"{messages}",
        "moves = all",
    )
    assert (ids_in(server, "dead"), moves) == ([], messages)
    assert killed_in_the_middle >= scale(1, 10)
    await wait_until(lambda: server.clients() == 0)


async def work(queue, chance, done):
    """A consumer that deletes some messages, gives some back, and forgets the others."""
    async for message in queue.messages(vt=0.2, prefetch=chance.choice((0, 8))):
        if chance.random() < 0.4:
            done.add(message.id)
            await message.delete()
        elif chance.random() < 0.5:
            await message.release()


async def test_round_and_round(server, proxy, seed, scale, report):
    """Through deaths and redrives under lost replies and killed connections, every message is done
    in the end.
    """
    messages, done = scale(80, 2000), set()
    async with (
        AsyncRSMQ.from_url(server.url) as admin,
        AsyncRSMQ.from_url(proxy.url, poll_interval=0.1) as one,
        AsyncRSMQ.from_url(proxy.url, poll_interval=0.1) as other,
    ):
        await admin.create_queue(qname="jobs", max_receives=1, dead_letter_queue="dead")
        ids = await admin.queue("jobs").send_many([str(n) for n in range(messages)])

        async def disturb():
            while True:
                await anyio.sleep(0.2)
                proxy.close_connections()

        async with anyio.create_task_group() as tasks:
            for rsmq in (one, other):
                for _ in range(4):
                    tasks.start_soon(work, rsmq.queue("jobs"), random.Random(seed.random()), done)
            tasks.start_soon(disturb)
            proxy.cut_share = 0.1
            with anyio.fail_after(scale(30, 120)):
                while server.redis.zcard("rsmq:jobs") or server.redis.zcard("rsmq:dead"):
                    async for _ in other.queue("dead").redrive(rate=2000):
                        pass
                    await anyio.sleep(0.02)
            proxy.cut_share = 0.0
            tasks.cancel_scope.cancel()
    died, back = total_sent(server, "dead"), total_sent(server, "jobs") - messages
    report(
        f"{proxy.cuts} replies cut: {len(done)} of {messages} done, {died} deaths, {back} "
        "sent back",
        "all; deaths = back",
    )
    assert done == set(ids)
    assert died == back > 0
    check_keys(server.redis)
