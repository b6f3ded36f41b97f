"""Settings at the start of a program: `ensure` makes them true, `create(exist_ok=True)` says which
are not.
"""

import asyncio
import inspect
import logging
from datetime import timedelta

import pytest
from aiorsmq import AsyncRSMQ, Ensured, InvalidParameterValue, Queue

from support import fields_of, keyspace

DEFAULTS = {
    "vt": 30,
    "delay": 0,
    "maxsize": 65536,
    "max_receives": None,
    "dead_letter_queue": None,
}
OTHERS = {
    "vt": 60,
    "delay": 5,
    "maxsize": 2048,
    "max_receives": 3,
    "dead_letter_queue": "dead",
}


@pytest.fixture
def logged(caplog):
    """What the logger of queues has said, without what it says at DEBUG."""
    caplog.set_level(logging.INFO, "aiorsmq.queue")

    def records():
        found = [record for record in caplog.records if record.name == "aiorsmq.queue"]
        caplog.clear()
        return [(record.levelname, record.getMessage()) for record in found]

    return records


async def settings_of(queue):
    attributes = await queue.attributes()
    return {name: getattr(attributes, name) for name in DEFAULTS}


class TestEnsure:
    async def test_a_missing_queue(self, rsmq, logged):
        """A queue that does not exist is created, with defaults for what is not named."""
        queue = rsmq.queue("jobs")
        assert await queue.ensure(vt=60) == Ensured(created=True, changed={})
        assert await settings_of(queue) == DEFAULTS | {"vt": 60}
        assert await rsmq.list_queues() == {"jobs"}
        assert logged() == [("INFO", "queue 'jobs': created")]

    async def test_with_a_dead_letter_queue(self, rsmq):
        """So is its dead-letter queue."""
        queue = rsmq.queue("jobs")
        assert (await queue.ensure(**OTHERS)).created
        assert await settings_of(queue) == OTHERS
        assert await settings_of(rsmq.queue("dead")) == DEFAULTS

    async def test_nothing_to_do(self, server, rsmq, logged):
        """A queue that has the settings is left as it is, `modified` too, and nothing is logged."""
        queue = rsmq.queue("jobs")
        await queue.create(**OTHERS)
        server.redis.hset("rsmq:jobs:Q", "modified", 1)
        before = keyspace(server)
        for settings in (OTHERS, {"vt": 60}, {"vt": timedelta(minutes=1)}, {}):
            ensured = await queue.ensure(**settings)
            assert ensured == Ensured(created=False, changed={})
            assert str(ensured) == "unchanged"
        assert keyspace(server) == before
        assert logged() == []

    @pytest.mark.parametrize("name", OTHERS)
    async def test_each_setting(self, rsmq, queue, name, logged):
        """A setting that is named and differs is changed; the others stay. The result and one
        record say both values.
        """
        ensured = await queue.ensure(**{name: OTHERS[name]})
        assert ensured == Ensured(created=False, changed={name: (DEFAULTS[name], OTHERS[name])})
        assert await settings_of(queue) == DEFAULTS | {name: OTHERS[name]}
        text = f"changed {name} from {DEFAULTS[name]!r} to {OTHERS[name]!r}"
        assert str(ensured) == text
        assert logged() == [("INFO", f"queue 'jobs': {text}")]
        assert await rsmq.list_queues() == (
            {"jobs", "dead"} if name == "dead_letter_queue" else {"jobs"}
        )

    async def test_an_explicit_default(self, rsmq):
        """A default that is named counts as named."""
        queue = rsmq.queue("jobs")
        await queue.create(vt=60, delay=5)
        assert (await queue.ensure(vt=30)).changed == {"vt": (60, 30)}
        assert await settings_of(queue) == DEFAULTS | {"delay": 5}

    async def test_changes_at_once(self, server, queue):
        """Any number of changes is one script call, and shows in `modified`."""
        server.redis.hset("rsmq:jobs:Q", "modified", 1)
        server.reset_stats()
        ensured = await queue.ensure(**OTHERS)
        assert server.script_calls() == 1
        assert ensured.changed == {name: (DEFAULTS[name], OTHERS[name]) for name in OTHERS}
        assert await settings_of(queue) == OTHERS
        assert int(fields_of(server)[b"modified"]) > 1

    async def test_messages_stay(self, server, queue):
        """Messages and totals stay as they are."""
        await queue.send("x", delay=60)
        await queue.ensure(delay=1)
        attributes = await queue.attributes()
        assert (attributes.msgs, attributes.hiddenmsgs, attributes.totalsent) == (1, 1, 1)

    @pytest.mark.parametrize(
        ("named", "changed"),
        [
            ({"max_receives": 0}, {"max_receives": (3, None)}),
            (
                {"dead_letter_queue": ""},
                {"dead_letter_queue": ("dead", None), "max_receives": (3, None)},
            ),
            (
                {"dead_letter_queue": "", "max_receives": 5},
                {"dead_letter_queue": ("dead", None), "max_receives": (3, 5)},
            ),
        ],
    )
    async def test_takes_away(self, server, rsmq, named, changed):
        """0 and "" mean none, as for set_attributes, and leave no field behind."""
        queue, twin = rsmq.queue("jobs"), rsmq.queue("twin")
        for each in (queue, twin):
            await each.create(**OTHERS)
        assert (await queue.ensure(**named)).changed == changed
        await twin.set_attributes(**named)
        assert fields_of(server, "jobs").keys() == fields_of(server, "twin").keys()
        assert await settings_of(queue) == await settings_of(twin)
        assert (await queue.ensure(**named)).changed == {}

    async def test_none_for_a_missing_queue(self, server, rsmq):
        """A queue that is created without a policy has no field of one."""
        await rsmq.queue("jobs").ensure(max_receives=0, dead_letter_queue="")
        await rsmq.queue("plain").create()
        assert fields_of(server, "jobs").keys() == fields_of(server, "plain").keys()

    async def test_a_missing_dead_letter_queue(self, rsmq):
        """A dead-letter queue that was deleted is created again, if it is named."""
        queue = rsmq.queue("jobs")
        await queue.create(**OTHERS)
        await rsmq.delete_queue(qname="dead")
        assert (await queue.ensure(vt=60)).changed == {}
        assert await rsmq.list_queues() == {"jobs"}
        assert (await queue.ensure(dead_letter_queue="dead")).changed == {}
        assert await rsmq.list_queues() == {"jobs", "dead"}

    async def test_a_lost_name(self, server, queue):
        """A queue whose name was lost from the set of all queues is added again."""
        server.redis.delete("rsmq:QUEUES")
        assert (await queue.ensure()).changed == {}
        assert server.redis.smembers("rsmq:QUEUES") == {b"jobs"}

    async def test_a_cycle(self, server, rsmq, queue):
        """A dead-letter queue that would close a cycle is refused, and nothing is changed."""
        await rsmq.create_queue(qname="dead", dead_letter_queue="jobs")
        before = keyspace(server)
        with pytest.raises(InvalidParameterValue, match="jobs -> dead -> jobs"):
            await queue.ensure(vt=60, dead_letter_queue="dead")
        assert keyspace(server) == before

    async def test_a_chain(self, rsmq, queue):
        """A chain that ends is allowed, for a queue that exists and for one that does not."""
        await rsmq.create_queue(qname="b", dead_letter_queue="c")
        assert (await queue.ensure(dead_letter_queue="b")).changed == {
            "dead_letter_queue": (None, "b")
        }
        assert (await rsmq.queue("new").ensure(dead_letter_queue="b")).created

    @pytest.mark.parametrize(
        ("name", "value"),
        [("max_receives", -1), ("max_receives", True), ("dead_letter_queue", "jobs")],
    )
    async def test_bad_values(self, queue, unchanged, name, value):
        """Values are checked as by create and set_attributes."""
        with pytest.raises(InvalidParameterValue) as refused:
            await queue.ensure(**{name: value})
        assert (refused.value.parameter, refused.value.value) == (name, value)

    async def test_by_name(self, server):
        """ensure_queue is the same, by name."""
        async with AsyncRSMQ.from_url(server.url, qname="jobs") as rsmq:
            assert (await rsmq.ensure_queue(vt=60)).created
            assert (await rsmq.ensure_queue(vt=61)).changed == {"vt": (60, 61)}
            assert (await rsmq.ensure_queue(qname="other")).created

    async def test_two_programs(self, server, rsmq, logged):
        """Programs that disagree are both told, whoever comes first."""
        async with AsyncRSMQ.from_url(server.url) as other:
            outcomes = await asyncio.gather(
                rsmq.queue("jobs").ensure(vt=10), other.queue("jobs").ensure(vt=20)
            )
        (changed,) = [ensured.changed["vt"] for ensured in outcomes if not ensured.created]
        assert sorted(changed) == [10, 20]
        assert int(fields_of(server)[b"vt"]) == changed[1]
        assert sorted(logged()) == [
            ("INFO", f"queue 'jobs': changed vt from {changed[0]} to {changed[1]}"),
            ("INFO", "queue 'jobs': created"),
        ]

    async def test_cancelled(self, queue, logged):
        """A change whose caller was cancelled is logged all the same."""
        changing = asyncio.ensure_future(queue.ensure(vt=60))
        await asyncio.sleep(0)  # it is on its way
        changing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await changing
        assert (await queue.attributes()).vt == 60
        assert logged() == [("INFO", "queue 'jobs': changed vt from 30 to 60")]

    async def test_a_lost_reply(self, far, cut_reply):
        """A queue whose creation is repeated after a lost reply was created; a change that is
        repeated has happened.
        """
        await far.queue("warm-up").ensure()
        queue = far.queue("jobs")
        cut_reply(None)
        assert (await queue.ensure(vt=60)).created
        cut_reply(None)
        assert (await queue.ensure(vt=61)).changed == {}
        assert (await queue.attributes()).vt == 61

    async def test_odd_values_of_others(self, server, queue):
        """A value that another program has stored counts as it is read: PyRSMQ writes a maxsize of
        65565.
        """
        server.redis.hset("rsmq:jobs:Q", mapping={"maxsize": 65565, "vt": "many"})
        ensured = await queue.ensure(maxsize=65536, vt=30)
        assert ensured.changed == {"maxsize": (65565, 65536)}

    async def test_logs_its_queue(self, queue, caplog):
        """The record carries the queue's name for logs with fields."""
        with caplog.at_level(logging.INFO, "aiorsmq.queue"):
            await queue.ensure(vt=60)
        assert [record.queue for record in caplog.records] == ["jobs"]


class TestExistOk:
    async def test_other_settings(self, rsmq, queue, unchanged, logged):
        """One warning names each setting that was named and differs, with both values, and says
        what to do; nothing is changed.
        """
        assert await queue.create(**OTHERS, exist_ok=True) is False
        text = (
            "queue 'jobs' exists with other settings: vt is 30, not 60; delay is 0, not 5; "
            "maxsize is 65536, not 2048; max_receives is None, not 3; "
            "dead_letter_queue is None, not 'dead'; use ensure(...) to change them"
        )
        assert logged() == [("WARNING", text)]
        assert await rsmq.create_queue(qname="jobs", vt=31, exist_ok=True) is False
        ((level, text),) = logged()
        assert (level, "vt is 30, not 31" in text, "delay" in text) == ("WARNING", True, False)

    async def test_the_settings_that_are_there(self, rsmq, logged):
        """Settings that are there, or that are not named, are no reason for a warning."""
        queue = rsmq.queue("jobs")
        assert await queue.create(**OTHERS, exist_ok=True) is True
        for settings in (OTHERS, {}, {"vt": 60}, {"vt": None, "max_receives": None}):
            assert await queue.create(**settings, exist_ok=True) is False
        assert logged() == []

    async def test_an_explicit_default(self, rsmq, logged):
        """A default that is named counts."""
        queue = rsmq.queue("jobs")
        await queue.create(vt=60)
        await queue.create(vt=30, exist_ok=True)
        ((_, text),) = logged()
        assert "vt is 60, not 30" in text

    async def test_one_round_trip(self, server, queue):
        """It is still one script call."""
        server.reset_stats()
        await queue.create(**OTHERS, exist_ok=True)
        assert server.script_calls() == 1

    async def test_streams_and_workers(self, rsmq, queue, logged):
        """Those that create a missing queue name no settings, and say nothing."""
        await queue.set_attributes(vt=60)
        await queue.send("x")
        async with queue.messages(create=True) as messages, await anext(messages):
            pass
        async with queue.worker(print, create=True):
            pass
        assert logged() == []


@pytest.mark.parametrize("method", [Queue.create, AsyncRSMQ.create_queue, Queue.ensure])
def test_settings_are_in_the_signature(method):
    """`help()` shows the settings; the defaults are in the docstring of `create`."""
    assert DEFAULTS.keys() <= inspect.signature(method).parameters.keys()
    doc = " ".join(inspect.getdoc(Queue.create).split())
    assert all(f"{default} if None" in doc for default in (30, 0, 65536))
