"""What a queue looks like, for those who look after it."""

import asyncio
import logging
from datetime import timedelta

import pytest
from aiorsmq import QueueDoesNotExist
from redis.exceptions import ResponseError

from support import now_ms, wait_until


async def test_counts(server, rsmq, queue):
    """Visible, in flight and delayed messages are told apart, and totals count."""
    await queue.send_many(["a", "b", "c"])
    await queue.send("later", delay=100)
    await queue.receive(vt=60)
    look = await queue.snapshot()
    assert (look.name, look.messages) == (queue.name, 4)
    assert (look.visible, look.hidden, look.in_flight, look.delayed) == (2, 2, 1, 1)
    assert not look.is_estimated
    assert (look.totalsent, look.totalrecv, look.paused_since) == (4, 1, None)
    assert abs(look.server_time.timestamp() * 1000 - now_ms(server)) < 60_000


async def test_age(server, queue):
    """The age is that of the oldest message that could be received, not of the oldest stored; it is
    0 if none could be.
    """
    await queue.send("hidden", delay=100)
    look = await queue.snapshot()
    assert look.oldest_claimable_age == 0.0
    due = look.next_due - look.server_time
    assert timedelta(seconds=90) < due <= timedelta(seconds=100)
    ids = await queue.send_many(["old", "new"])
    server.redis.zadd(f"rsmq:{queue.name}", {ids[0]: now_ms(server) - 50_000})
    look = await queue.snapshot()
    assert 50 <= look.oldest_claimable_age < 80


@pytest.mark.foreign_data
@pytest.mark.parametrize("score", ["-inf", -1e300, -1])
async def test_age_of_any_score(server, queue, score):
    """No message is older than the epoch, whatever the score is that another program gave it."""
    server.redis.zadd(f"rsmq:{queue.name}", {await queue.send("old"): score})
    look = await queue.snapshot()
    assert look.oldest_claimable_age == look.server_time.timestamp()
    server.redis.flushall()


async def test_estimate(queue):
    """Of many hidden messages, a hundred are looked at, spread evenly over all."""
    await queue.send_many(["a"] * 600)
    for _ in range(5):
        await queue.receive_many(60, vt=1000)
    await queue.send_many(["b"] * 300, delay=2000)
    look = await queue.snapshot()
    assert (look.visible, look.hidden, look.hidden_sample) == (300, 600, 100)
    assert look.is_estimated
    assert 250 <= look.in_flight <= 350
    assert look.in_flight + look.delayed == 600


async def test_dead_letters(rsmq):
    """Dead letters are counted in the dead-letter queue."""
    jobs = rsmq.queue("jobs")
    await jobs.ensure(max_receives=2, dead_letter_queue="dead")
    await rsmq.queue("dead").send_many(["a", "b"])
    assert (await jobs.snapshot()).dead == 2
    assert (await rsmq.queue("dead").snapshot()).dead is None
    await rsmq.queue("other").ensure()
    await rsmq.queue("other").send("c")
    await jobs.set_attributes(dead_letter_queue="other")
    assert (await jobs.snapshot()).dead == 1


async def test_consumers(server, rsmq, queue):
    """Clients that listen are counted."""
    assert (await queue.snapshot()).consumers == 0
    waiting = asyncio.create_task(queue.receive(wait=20))
    await wait_until(lambda: server.redis.pubsub_numsub(f"rsmq:rt:{queue.name}")[0][1] == 1)
    assert (await queue.snapshot()).consumers == 1
    await queue.send("a")
    await waiting


async def test_settings(server, rsmq, queue):
    """Settings are told as the library reads them, and as they are stored."""
    server.redis.hset(f"rsmq:{queue.name}:Q", mapping={"vt": "30000.5", "maxsize": "65565"})
    server.redis.hset(f"rsmq:{queue.name}:Q", mapping={"delay": "soon", "max_receives": "x"})
    look = await queue.snapshot()
    assert (look.vt, look.delay, look.maxsize, look.max_receives) == (30000, 0, 65565, None)
    assert look.stored == {
        "vt": "30000.5", "delay": "soon", "maxsize": "65565", "max_receives": "x"
    }  # fmt: skip


async def test_paused(server, queue):
    """A queue that is paused says since when."""
    server.redis.hset(f"rsmq:{queue.name}:Q", "paused", "1700000000000")
    assert (await queue.snapshot()).paused_since.timestamp() == 1_700_000_000
    server.redis.hset(f"rsmq:{queue.name}:Q", "paused", "yes")
    assert (await queue.snapshot()).paused_since.timestamp() == 0


async def test_missing_queue(rsmq):
    """A queue that does not exist is an error of its own, and is left out of many."""
    with pytest.raises(QueueDoesNotExist):
        await rsmq.queue("nothing").snapshot()
    assert await rsmq.snapshots(["nothing"]) == []
    assert await rsmq.snapshots([]) == []


async def test_all_queues(server, rsmq):
    """All queues are looked at in a few script calls, and come in the order of their names."""
    names = [f"q{number:02}" for number in range(20)]
    for name in names:
        await rsmq.queue(name).ensure()
    server.redis.sadd("rsmq:QUEUES", "not a name", b"\xff", "QUEUES", "half-made")
    await rsmq.snapshots()
    server.reset_stats()
    assert [look.name for look in await rsmq.snapshots()] == names
    assert server.script_calls() == 4  # the names, and 21 queues in three
    assert [look.name for look in await rsmq.snapshots(["q07", "q03"])] == ["q03", "q07"]
    server.redis.delete("rsmq:QUEUES")


async def test_dead_letter_queue_that_is_not_listed(server, rsmq):
    """Dead letters are counted in a queue that was not asked for, or whose name was lost."""
    await rsmq.queue("jobs").ensure(max_receives=2, dead_letter_queue="dead")
    await rsmq.queue("dead").send("a")
    server.redis.srem("rsmq:QUEUES", "dead")
    (look,) = await rsmq.snapshots()
    assert (look.name, look.dead) == ("jobs", 1)
    server.redis.sadd("rsmq:QUEUES", "dead")


async def test_keys_of_another_program(server, rsmq, queue, caplog):
    """A queue whose keys are another program's is left out of many, with a warning."""
    server.redis.sadd("rsmq:QUEUES", "foreign")
    server.redis.set("rsmq:foreign:Q", "text")
    with caplog.at_level(logging.WARNING, "aiorsmq.queue"):
        assert [look.name for look in await rsmq.snapshots()] == [queue.name]
    assert "left out queue 'foreign': WRONGTYPE" in caplog.text
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await rsmq.queue("foreign").snapshot()
    server.redis.delete("rsmq:foreign:Q")
    server.redis.srem("rsmq:QUEUES", "foreign")


async def test_commands_of_a_large_queue(server, queue):
    """The number of commands does not grow with the number of messages."""
    await queue.send_many(["a"] * 500, delay=100)
    server.reset_stats()
    await queue.snapshot()
    few = server.commands()
    await queue.send_many(["a"] * 5000, delay=100)
    server.reset_stats()
    await queue.snapshot()
    assert server.commands() == few
