"""Dead letters go back to where they came from, or elsewhere."""

import asyncio
import logging
import time
from itertools import pairwise

import anyio
import pytest
from aiorsmq import JSON, AsyncRSMQ, ClientClosed, InvalidParameterValue, QueueDoesNotExist

from dead_letters.letters import bury, counts
from support import (
    PATIENCE,
    fields_of,
    ids_in,
    next_millisecond,
    now_ms,
    wait_for_listener,
    wait_until,
)

foreign_data = pytest.mark.foreign_data


async def test_back(server, rsmq, jobs, dead):
    """Messages go back to where they came from, as new ones, and their reasons go."""
    await rsmq.create_queue(qname="other", dead_letter_queue="dead")
    ids = await bury(jobs, "a", "b")
    others = await bury(rsmq.queue("other"), "c")
    held = await dead.receive(vt=0)
    await next_millisecond()
    before = now_ms(server)
    assert await counts(dead.redrive()) == [2, 3]
    assert (ids_in(server, "jobs"), ids_in(server, "other"), ids_in(server, "dead")) == (
        ids,
        others,
        [],
    )
    assert server.redis.exists("rsmq:dead:reasons") == 0
    message = await jobs.receive()
    assert (message.id, message.body, message.receive_count) == (held.id, "a", 1)
    assert message.first_received_at.timestamp() * 1000 >= before
    assert (await jobs.attributes()).totalsent == 4


async def test_nothing_to_do(jobs, dead):
    """At least one count is told."""
    assert await counts(dead.redrive()) == [0]
    assert await dead.redrive() == 0


async def test_awaited(server, jobs, dead):
    """Awaited, it says how many were moved in all."""
    ids = await bury(jobs, *map(str, range(100)))
    assert await dead.redrive(limit=70) == 70
    (total,) = await asyncio.gather(dead.redrive("jobs"))
    assert total == 30
    assert sorted(ids_in(server, "jobs")) == sorted(ids)


async def test_awaited_and_refused(server, jobs, dead):
    """What goes wrong comes out of the await; the messages stay."""
    ids = await bury(jobs, "a")
    with pytest.raises(QueueDoesNotExist):
        await dead.redrive("elsewhere")
    assert ids_in(server, "dead") == ids


async def test_awaited_and_cancelled(server, jobs, dead):
    """Cancelled, it leaves moved what it has moved; another run moves the rest."""
    ids = await bury(jobs, *map(str, range(100)))

    async def run():
        await dead.redrive(rate=20)

    running = asyncio.create_task(run())
    await wait_until(lambda: server.redis.zcard("rsmq:jobs"))
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await dead.attributes()  # on the same connection: a step that was sent has been carried out
    moved = server.redis.zcard("rsmq:jobs")
    assert 0 < moved < 100
    assert await dead.redrive() == 100 - moved
    assert sorted(ids_in(server, "jobs")) == sorted(ids)


async def test_neither(server, jobs, dead):
    """Neither awaited nor iterated, it moves nothing, and warns as a coroutine does."""
    ids = await bury(jobs, "a")
    with pytest.warns(RuntimeWarning) as caught:
        dead.redrive()
    (warning,) = caught
    assert str(warning.message) == "redrive(...) was never awaited or iterated"
    assert warning.filename == __file__
    assert ids_in(server, "dead") == ids


async def await_it(redrive):
    await redrive


async def iterate(redrive):
    assert await counts(redrive) == [0]


async def close(redrive):
    await redrive.aclose()


@pytest.mark.parametrize("use", [await_it, iterate, close])
@pytest.mark.parametrize("use_again", [await_it, iterate])
async def test_used_twice(jobs, dead, use, use_again):
    """It runs once; a second use is refused, and says what to do."""
    redrive = dead.redrive()
    await use(redrive)
    with pytest.raises(RuntimeError, match="call redrive"):
        await use_again(redrive)


async def test_awaited_and_iterated_in_part(jobs, dead):
    """A run that is iterated over cannot be awaited, but the iteration may go on."""
    redrive = dead.redrive()
    assert await anext(redrive) == 0
    with pytest.raises(RuntimeError, match="call redrive"):
        await redrive
    assert [moved async for moved in redrive] == []


async def test_iterated_while_awaited(jobs, dead):
    """A run that is awaited cannot be iterated over."""
    await bury(jobs, "a")
    redrive = dead.redrive()
    awaiting = asyncio.ensure_future(redrive)
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="call redrive"):
        await anext(redrive)
    assert await awaiting == 1


async def test_iterated_after_an_error(jobs, dead):
    """A run that has failed does not look like one that had nothing to do."""
    await dead.delete()
    redrive = dead.redrive()
    with pytest.raises(QueueDoesNotExist):
        await anext(redrive)
    with pytest.raises(RuntimeError, match="call redrive"):
        await counts(redrive)


async def test_many(server, jobs, dead):
    """Any number of messages, in steps of at most 64, counted up."""
    ids = []
    for n in range(5):
        ids += await bury(jobs, *(f"{n}/{m}" for m in range(100)))
    told = await counts(dead.redrive())
    assert told == sorted(told)
    assert told[-1] == 500
    assert max(later - earlier for earlier, later in pairwise([0, *told])) <= 64
    assert sorted(ids_in(server, "jobs")) == sorted(ids)
    assert ids_in(server, "dead") == []


async def test_large_bodies(server, rsmq, jobs, dead):
    """A step ends at some 256 KiB of bodies."""
    await bury(jobs, *("x" * 60_000 for _ in range(20)))
    told = await counts(dead.redrive())
    assert told[-1] == 20
    assert len(told) >= 4


async def test_elsewhere(server, rsmq, jobs, dead):
    """`to` is another queue, by its name or its handle."""
    ids = await bury(jobs, "a", "b")
    await rsmq.create_queue(qname="elsewhere")
    assert await counts(dead.redrive("elsewhere", limit=1)) == [1]
    assert await counts(dead.redrive(rsmq.queue("elsewhere", codec=JSON))) == [1]
    assert ids_in(server, "elsewhere") == ids


async def test_limit(server, jobs, dead):
    """At most `limit` messages, the oldest first."""
    ids = await bury(jobs, *map(str, range(100)))
    assert (await counts(dead.redrive(limit=70)))[-1] == 70
    assert (ids_in(server, "jobs"), ids_in(server, "dead")) == (ids[:70], ids[70:])


async def test_where(server, jobs, dead):
    """`where` chooses by what a dead letter says; the others stay where they are."""
    await bury(jobs, *map(str, range(300)), reason="bad luck")
    others = await bury(jobs, *map(str, range(300)), reason="bad input")
    asked = []

    def where(letter):
        asked.append(letter)
        return letter.reason == "bad luck" and int(letter.raw) % 3 == 0

    assert (await counts(dead.redrive(where=where)))[-1] == 100
    assert len(asked) == 600
    assert server.redis.zcard("rsmq:jobs") == 100
    assert set(ids_in(server, "dead")) > set(others)
    assert await counts(dead.redrive(where=lambda _: False)) == [0]


async def test_where_raises(server, jobs, dead):
    """What `where` raises comes out, and nothing more is moved."""
    ids = await bury(jobs, "a")
    with pytest.raises(ZeroDivisionError):
        await counts(dead.redrive(where=lambda _: 1 / 0))
    assert ids_in(server, "dead") == ids


async def test_rate(server, jobs, dead):
    """At most `rate` messages a second, spread evenly."""
    await bury(jobs, *map(str, range(100)))
    started, told = time.monotonic(), []
    async for count in dead.redrive(rate=200):
        told.append(count)
        assert count <= 200 * (time.monotonic() - started) + 20
    assert told[-1] == 100
    assert len(told) >= 5


async def test_held(server, jobs, dead):
    """What a consumer of the dead-letter queue holds stays with it."""
    first, second = await bury(jobs, "a", "b")
    held = await dead.receive()
    assert held.id == first
    assert await counts(dead.redrive()) == [1]
    assert (ids_in(server, "jobs"), ids_in(server, "dead")) == ([second], [first])
    assert await held.release()
    assert await counts(dead.redrive()) == [1]


async def test_received_before_the_move(server, jobs, dead):
    """What is received between the look at it and the move stays with its consumer."""
    await bury(jobs, "a", "b")
    held = []

    def where(letter):
        if not held:
            script = "redis.call('ZADD', KEYS[1], 9999999999999, ARGV[1])"
            server.redis.eval(script, 1, "rsmq:dead", letter.id)
            held.append(letter.id)
        return True

    assert await counts(dead.redrive(where=where)) == [1]
    assert ids_in(server, "dead") == held


async def test_dies_again(server, rsmq, dead):
    """What dies again while it goes on is not moved in circles."""
    queue = rsmq.queue("jobs", codec=JSON)
    await queue.create(dead_letter_queue="dead")
    await bury(rsmq.queue("jobs"), *(b"{no json" for _ in range(200)))
    stream = queue.messages()
    consuming = asyncio.ensure_future(anext(stream))
    with anyio.fail_after(PATIENCE):
        told = [count async for count in dead.redrive(rate=1000)]
    assert told[-1] == 200
    await wait_until(lambda: server.redis.zcard("rsmq:dead") == 200)
    consuming.cancel()
    await asyncio.wait([consuming])


async def test_queue_with_other_consumers(server, jobs, dead):
    """No message is passed over because others are taken from the dead-letter queue at the same
    time.
    """
    ids = await bury(jobs, *map(str, range(400)))
    server.redis.zadd("rsmq:dead", dict.fromkeys(ids, 5))  # in whatever order they are among equals
    passed, total = [], 0

    def where(letter):
        if int(letter.raw) % 2 and letter.id not in passed:
            passed.append(letter.id)
        return int(letter.raw) % 2 == 0

    async for count in dead.redrive(where=where):
        total = count
        await dead.delete_many(
            [*passed[:10], passed[-1]]
        )  # in front of where it goes on, and where it does
    assert total == 200
    assert set(ids_in(server, "jobs")) == set(ids[::2])


async def test_stopped_and_run_again(server, jobs, dead):
    """It can be stopped at any step and run again; nothing is lost or doubled."""
    ids = await bury(jobs, *map(str, range(300)))
    async for count in dead.redrive(rate=10_000):
        assert count == 64
        break
    assert server.redis.zcard("rsmq:jobs") == 64
    redrive = dead.redrive()
    assert await anext(redrive) == 64
    await redrive.aclose()
    with anyio.move_on_after(0.2):
        await counts(dead.redrive(rate=10))
    await counts(dead.redrive())
    assert sorted(ids_in(server, "jobs")) == sorted(ids)
    assert server.redis.zcard("rsmq:dead") == 0


async def test_unknown_origin(server, jobs, dead, caplog):
    """What nobody knows the origin of stays, with one warning, unless `to` says where it
    goes.
    """
    (id,) = await bury(jobs, "a")
    strays = [await dead.send("x"), await dead.send("y")]
    with caplog.at_level(logging.WARNING, "aiorsmq"):
        assert await counts(dead.redrive()) == [1]
    assert [record.getMessage() for record in caplog.records] == [
        "left 2 messages in queue 'dead', whose origin is not known: use redrive(to=...)"
    ]
    assert (ids_in(server, "jobs"), ids_in(server, "dead")) == ([id], strays)
    seen = []
    assert await counts(dead.redrive("jobs", where=lambda letter: not seen.append(letter))) == [2]
    assert [(letter.reason, letter.queue) for letter in seen] == [("", "")] * 2
    assert ids_in(server, "dead") == []


async def test_missing_destination(server, rsmq, jobs, dead):
    """A queue that is not there is not made again: it raises, and the messages stay."""
    ids = await bury(jobs, "a")
    with pytest.raises(QueueDoesNotExist) as error:
        await counts(dead.redrive("elsewhere"))
    assert error.value.qname == "elsewhere"
    await jobs.delete()
    with pytest.raises(QueueDoesNotExist) as error:
        await counts(dead.redrive())
    assert error.value.qname == "jobs"
    assert ids_in(server, "dead") == ids
    await dead.delete()
    with pytest.raises(QueueDoesNotExist) as error:
        await counts(dead.redrive())
    assert error.value.qname == "dead"


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        *(("to", value) for value in ("dead", "", "a b", 1)),
        *(("limit", value) for value in (0, -1, 1.5, "1", True)),
        *(("rate", value) for value in (0, -1, float("inf"), float("nan"), "1", True)),
        *(("where", value) for value in (1, "x", asyncio.sleep, lambda: True, pow)),
    ],
)
async def test_bad_input(jobs, dead, parameter, value):
    """Bad input is refused at the call, before the first step."""
    with pytest.raises(InvalidParameterValue) as refused:
        dead.redrive(**{parameter: value})
    assert refused.value.parameter == parameter


async def test_another_namespace(server, dead):
    """A handle from another namespace is refused."""
    async with AsyncRSMQ.from_url(server.url, ns="other") as other:
        with pytest.raises(InvalidParameterValue):
            dead.redrive(other.queue("jobs"))


async def test_wakes_a_consumer(server, jobs, dead):
    """A consumer that waits at the destination is woken."""
    (id,) = await bury(jobs, "a")
    async with AsyncRSMQ.from_url(server.url, poll_interval=3600) as other:
        asking = asyncio.ensure_future(other.queue("jobs").receive(wait=30))
        await wait_for_listener(server)
        assert await counts(dead.redrive()) == [1]
        with anyio.fail_after(PATIENCE):
            assert (await asking).id == id


async def test_lost_reply(server, jobs, proxy):
    """A step whose reply is lost is counted."""
    await bury(jobs, *map(str, range(100)))
    async with AsyncRSMQ.from_url(proxy.url) as other:

        def where(letter):
            proxy.cut_after_execution = (
                int(letter.raw) >= 64
            )  # they have been looked at, and are moved next
            return True

        assert await counts(other.queue("dead").redrive(where=where)) == [64, 100]
    assert proxy.cuts == 1
    assert int(fields_of(server, "jobs")[b"totalsent"]) == 200


@foreign_data
@pytest.mark.parametrize("count", [1, 64, 2500])
async def test_phantoms(server, jobs, dead, count):
    """Entries without a body are stepped over."""
    ids = await bury(jobs, *map(str, range(10)))
    server.redis.zadd("rsmq:dead", {f"{n:032}": 1 for n in range(count)})
    assert (await counts(dead.redrive()))[-1] == 10
    assert sorted(ids_in(server, "jobs")) == sorted(ids)


@foreign_data
async def test_equal_scores(server, jobs, dead):
    """Thousands that became visible in the same millisecond are walked through like others."""
    pipeline = server.redis.pipeline()
    for n in range(3000):
        pipeline.zadd("rsmq:dead", {f"{n:032}": 5})
        pipeline.hset("rsmq:dead:Q", f"{n:032}", str(n))
    pipeline.execute()
    told = await counts(dead.redrive("jobs", where=lambda letter: int(letter.raw) % 2 == 1))
    assert told[-1] == 1500


async def test_closed(server):
    """After aclose() it raises ClientClosed."""
    async with AsyncRSMQ.from_url(server.url) as other:
        await other.create_queue(qname="dead")
        redrive = other.queue("dead").redrive()
    with pytest.raises(ClientClosed):
        await anext(redrive)


def before(queue, script, action):
    """Have the action taken just before each call of a script by the client of a queue."""
    scripts = queue._core.node
    run = scripts.run

    async def run_after_action(call, *args):
        if call.script == script:
            action(call)
        return await run(call, *args)

    scripts.run = run_after_action


async def test_redrive_of_what_dies_again(far, rsmq, cut_reply):
    """A step of a redrive that is repeated does not move again what has died again at once."""
    jobs, dead = rsmq.queue("jobs"), rsmq.queue("dead")
    await jobs.create(max_receives=5, dead_letter_queue="dead")

    async def die():
        message = await jobs.receive()
        assert await jobs._core.bury([message._record], "hopeless") == ["dead"]
        await next_millisecond()

    await jobs.send("warm-up")
    await die()
    assert [moved async for moved in far.queue("dead").redrive()] == [1]
    await die()
    there = far.queue("dead")
    before(there, "move", lambda _: cut_reply(die))
    async for _ in there.redrive():
        pass
    assert (await jobs.attributes()).msgs == 0
    assert (await dead.attributes()).msgs == 1
