"""Dead letters are counted by why they died, and a group of them goes back."""

import pytest
from aiorsmq import DeadLetter, InvalidParameterValue, QueueDoesNotExist, ReasonGroup

from dead_letters.letters import bury, counts
from support import ids_in, keyspace


@pytest.fixture
async def dead(rsmq):
    for name in ("jobs", "mails"):
        await rsmq.create_queue(qname=name, dead_letter_queue="dead")
    return rsmq.queue("dead")


async def test_groups(server, rsmq, dead):
    """Each group has its number, the queues that the letters came from, the first and the last
    death, and an example; the largest comes first.
    """
    jobs, mails = rsmq.queue("jobs"), rsmq.queue("mails")
    (late,) = await bury(jobs, "a", reason="TimeoutError")
    (first,) = await bury(mails, "b", reason="ValueError: bad 1")
    (_, last) = await bury(jobs, "c", "d", reason="ValueError: bad: 2")
    stray = await dead.send("e")
    await dead.receive(vt=1000)
    before = keyspace(server)
    died_at = {letter.id: letter.died_at for letter in await dead.reasons()}
    assert await dead.reason_groups() == [
        ReasonGroup(
            "ValueError",
            3,
            {"jobs": 2, "mails": 1},
            died_at[first],
            died_at[last],
            first,
            "ValueError: bad 1",
        ),
        ReasonGroup("", 1, {"": 1}, None, None, stray, ""),
        ReasonGroup(
            "TimeoutError", 1, {"jobs": 1}, died_at[late], died_at[late], late, "TimeoutError"
        ),
    ]
    assert keyspace(server) == before


@pytest.mark.parametrize(
    ("reason", "group"),
    [
        ("ValueError: x: y", "ValueError"),
        ("ValueError", "ValueError"),
        ("received too often", "received too often"),
        ("cannot be decoded by JsonCodec (ValueError)",) * 2,
        (": x", ": x"),
        ("", ""),
    ],
)
def test_group(reason, group):
    """The group of a reason is the text before its first colon."""
    letter = DeadLetter("id", b"", reason, None, "", 0)
    assert letter.group == group


async def test_many(server, rsmq, dead):
    """Any number of messages, in steps; `budget` ends the count."""
    assert await dead.reason_groups() == []
    for n in range(10):
        await bury(rsmq.queue("jobs"), *map(str, range(120)), reason=f"Error{n % 2}: {n}")
    groups = await dead.reason_groups()
    assert [(group.group, group.count) for group in groups] == [("Error0", 600), ("Error1", 600)]
    counted = await dead.reason_groups(budget=700)
    assert sum(group.count for group in counted) == 700
    (first,) = await dead.reason_groups(budget=1)
    assert (first.count, first.example_id) == (1, ids_in(server, "dead")[0])


async def test_redrive(server, rsmq, dead):
    """`reason` moves the letters of that group only; with `where`, both choose."""
    jobs = rsmq.queue("jobs")
    bad = await bury(jobs, "1", "2", "3", reason="ValueError: bad")
    others = await bury(jobs, "4", reason="ValueErrors")
    stray = await dead.send("5")
    assert await dead.redrive(reason="ValueError", where=lambda letter: letter.raw == b"2") == 1
    assert ids_in(server) == [bad[1]]
    assert await counts(dead.redrive(reason="ValueError")) == [2]
    assert await dead.redrive(reason="TimeoutError") == 0
    assert ids_in(server, "dead") == [*others, stray]
    assert await dead.redrive("mails", reason="") == 1
    assert ids_in(server, "mails") == [stray]


@pytest.mark.parametrize(
    ("parameter", "value"),
    [*(("budget", value) for value in (0, -1, 1.5, "1", True)), ("reason", 1), ("reason", b"x")],
)
async def test_bad_input(dead, parameter, value):
    """Bad input is refused before anything is sent."""
    with pytest.raises(InvalidParameterValue) as refused:
        if parameter == "budget":
            await dead.reason_groups(budget=value)
        else:
            dead.redrive(reason=value)
    assert refused.value.parameter == parameter


async def test_missing(rsmq):
    """A queue that does not exist is named."""
    with pytest.raises(QueueDoesNotExist):
        await rsmq.queue("dead").reason_groups()


async def test_lost_reply(rsmq, dead, far, proxy):
    """A step whose reply is lost is made again, and counts nothing twice."""
    await bury(rsmq.queue("jobs"), *map(str, range(100)), reason="Bad")
    await far.queue("dead").reason_groups()
    proxy.cut_after_execution = 1
    (group,) = await far.queue("dead").reason_groups()
    assert (group.group, group.count) == ("Bad", 100)
    assert proxy.cuts == 1


@pytest.mark.foreign_data
@pytest.mark.parametrize(
    "reason", [b"", b"\xff", b"1 2 a b", b"x 1 jobs no", b"1 1 jobs", b"1 1 dead b"]
)
async def test_foreign(server, dead, reason):
    """Reasons that cannot be read are not known, to a redrive neither; entries without a body are
    not counted.
    """
    id = await dead.send("a")
    server.redis.hset("rsmq:dead:reasons", id, reason)
    server.redis.zadd("rsmq:dead", {f"{n:032}": 5 for n in range(600)})
    (group,) = await dead.reason_groups()
    assert (group.count, group.example_id) == (1, id)
    assert group.first_died_at is None or group.group == "b"
    (letter,) = await dead.reasons()
    message = await dead.get(id)
    assert (letter.group, letter.reason) == (group.group, group.example_reason)
    assert (letter.reason, letter.queue) == (message.reason, message.origin)


@pytest.mark.foreign_data
async def test_foreign_key(server, dead):
    """So are all of them, if another program has a key in that place."""
    await dead.send("a")
    server.redis.set("rsmq:dead:reasons", "theirs")
    (group,) = await dead.reason_groups()
    assert (group.group, group.count) == ("", 1)
