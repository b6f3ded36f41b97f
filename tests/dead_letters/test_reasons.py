"""What a dead letter tells: why it died, when, where, and after how many receipts."""

from datetime import UTC, datetime, timedelta

import pytest
from aiorsmq import DeadLetter, InvalidParameterValue, QueueDoesNotExist

from dead_letters.letters import bury, counts, spend
from support import wait_until

foreign_data = pytest.mark.foreign_data


async def test_reasons(server, jobs, dead):
    """A dead letter says why it died, when, where, and after how many receipts; without
    claiming it.
    """
    before = datetime.now(UTC) - timedelta(seconds=1)
    ids = await bury(jobs, "a", "b", reason="no such customer: grüße\n🐇")
    letters = await dead.reasons()
    assert [letter.id for letter in letters] == ids
    for letter, raw in zip(letters, (b"a", b"b"), strict=True):
        assert isinstance(letter, DeadLetter)
        assert (letter.raw, letter.reason) == (raw, "no such customer: grüße\n🐇")
        assert (letter.queue, letter.receive_count) == ("jobs", 1)
        assert before < letter.died_at <= datetime.now(UTC) + timedelta(seconds=1)
        assert letter.died_at.tzinfo is UTC
    assert (await dead.attributes()).totalrecv == 0


async def test_received_too_often(server, rsmq, dead):
    """Of one that was received too often the receipt counts that found it so."""
    queue = rsmq.queue("jobs")
    await queue.create(max_receives=3, dead_letter_queue="dead")
    await spend(queue, "mortal", times=3)
    assert await queue.receive() is None
    (letter,) = await wait_until(dead.reasons)
    assert (letter.reason, letter.receive_count) == ("received too often", 4)


async def test_hidden(server, jobs, dead):
    """Those that somebody holds are shown too."""
    await bury(jobs, "a", "b")
    held = await dead.receive()
    assert {letter.id for letter in await dead.reasons()} > {held.id}


async def test_limit(jobs, dead):
    """Up to `limit`, which is at most 1000."""
    await bury(jobs, *map(str, range(30)))
    assert [letter.raw for letter in await dead.reasons(limit=2)] == [b"0", b"1"]
    for limit in (0, 1001, "1", 1.0, True):
        with pytest.raises(InvalidParameterValue):
            await dead.reasons(limit=limit)


async def test_not_dead(queue):
    """A message that was just sent there has no reason."""
    id = await queue.send("alive", delay=100)
    (letter,) = await queue.reasons()
    assert (letter.id, letter.reason, letter.queue, letter.receive_count) == (id, "", "", 0)
    assert letter.died_at > datetime.now(UTC) + timedelta(seconds=50)  # when it becomes visible


async def test_missing_queue(dead):
    """A queue that is not there has none."""
    with pytest.raises(QueueDoesNotExist):
        await dead.reasons()


async def test_repr(jobs, dead):
    """The body is not shown where a dead letter is printed."""
    await bury(jobs, "s3cret")
    assert "s3cret" not in repr(await dead.reasons())


@pytest.mark.parametrize(
    ("reason", "kept"),
    [("x" * 1000, "x" * 500), ("", "no reason given"), ("\ud800", "\\ud800"), (" a ", " a ")],
)
async def test_odd_reasons(jobs, dead, reason, kept):
    """Of a reason 500 characters are kept; any text will do."""
    await bury(jobs, "a", reason=reason)
    (letter,) = await dead.reasons()
    assert letter.reason == kept


async def test_kept_for_a_time(server, jobs, dead):
    """Reasons are kept until 14 days after the last death."""
    await bury(jobs, "a")
    assert 14 * 24 * 3600 - 60 < server.redis.ttl("rsmq:dead:reasons") <= 14 * 24 * 3600
    server.redis.expire("rsmq:dead:reasons", 60)
    await bury(jobs, "b")
    assert server.redis.ttl("rsmq:dead:reasons") > 3600
    server.redis.delete("rsmq:dead:reasons")
    letters = await dead.reasons()
    assert [(letter.raw, letter.reason) for letter in letters] == [(b"a", ""), (b"b", "")]


async def test_pruned(server, jobs, dead):
    """Reasons of messages that are gone do not pile up: no more of them than a few per message
    that is there.
    """
    for n in range(40):
        await bury(jobs, *(f"{n}/{m}" for m in range(10)))
        await dead.delete_many([message.id for message in await dead.receive_many(10)])
    assert server.redis.hlen("rsmq:dead:reasons") <= 40
    ids = set(await bury(jobs, "there"))
    assert {id.decode() for id in server.redis.hkeys("rsmq:dead:reasons")} >= ids


async def test_those_of_the_living_stay(server, jobs, dead):
    """A reason is not pruned while its message is there."""
    ids = await bury(jobs, *map(str, range(100)))
    for _ in range(30):
        (gone,) = await bury(jobs, "short")
        await dead.delete_message(gone)
    assert {id.decode() for id in server.redis.hkeys("rsmq:dead:reasons")} >= set(ids)


async def test_go_with_the_queue(server, jobs, dead):
    """Deleting a dead-letter queue deletes its reasons."""
    await bury(jobs, "a")
    await dead.delete()
    assert server.redis.exists("rsmq:dead:reasons") == 0


@foreign_data
@pytest.mark.parametrize(
    "written",
    [
        "",
        "soon",
        "1 2 jobs",
        "a b jobs why",
        "1 x jobs why",
        "1 1 a/b why",
        b"\xff",
        "1 1 dead why",
    ],
)
async def test_senseless(server, jobs, dead, written):
    """A reason that another program has overwritten reads as none, and the message stays unless
    told where.
    """
    (id,) = await bury(jobs, "a")
    server.redis.hset("rsmq:dead:reasons", id, written)
    (letter,) = await dead.reasons()
    assert (letter.reason, letter.queue, letter.receive_count) == ("", "", 0)
    assert await counts(dead.redrive()) == [0]
    assert await counts(dead.redrive("jobs")) == [1]
