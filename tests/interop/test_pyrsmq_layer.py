"""The same calls to PyRSMQ 0.6.1 and to aiorsmq.pyrsmq: where they agree, and every difference that
is meant.
"""

import ast
import asyncio
import importlib.metadata
import re
import subprocess
import sys
import textwrap
import threading
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import anyio
import anyio.to_thread
import pytest
import redis
import redis.asyncio
import rsmq
import rsmq.consumer
from aiorsmq import pyrsmq

from support import PATIENCE, wait_until

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "from-pyrsmq.md").read_text()
DIFFERENCES = []
ID = "0" * 32
NO_TEXT = [{"a": [1, 2.5, None, "ë"]}, [1], 7, 2.5, True, (1, 2), float("nan")]


def difference(what):
    """Marks the test of a row of the page's table, by its first column."""
    DIFFERENCES.append(what)
    return lambda test: test


@pytest.fixture
def anyio_backend():
    """These are about the calls: one event loop suffices."""
    return "asyncio", {"debug": True}


class Raised(Exception):
    """Stands for an exception, by the name of its class."""

    def __eq__(self, other):
        return isinstance(other, Raised) and self.args == other.args

    __hash__ = None


class Both:
    """PyRSMQ, and our layer in a namespace of its own. A call is a function of a controller and of
    an id.
    """

    def __init__(self, server, **params):
        params = {"qname": "jobs"} | params
        self.theirs = rsmq.RedisSMQ(port=server.port, ns="theirs", **params)
        self.ours = pyrsmq.RedisSMQ(port=server.port, ns="ours", **params)
        self.their_id = self.our_id = ID

    async def aclose(self):
        self.theirs.client.close()
        await self.ours.quit()

    async def run(self, call):
        """What each returned, or the exception that it raised."""
        try:
            theirs = call(self.theirs, self.their_id).execute()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is to be compared
            theirs = Raised(type(error).__name__)
        try:
            ours = await call(self.ours, self.our_id).execute()
        except Exception as error:  # noqa: BLE001
            ours = Raised(type(error).__name__)
        return theirs, ours

    async def agree(self, *calls):
        """Run calls, one after the other, which must return or raise the same."""
        for n, call in enumerate(calls):
            theirs, ours = await self.run(call)
            if is_id(theirs) and is_id(ours):
                self.their_id, self.our_id = theirs, ours
            assert comparable(ours) == comparable(theirs), (n, ours, theirs)
            assert types(ours) == types(theirs), (n, ours, theirs)

    async def differ(self, call, theirs, ours):
        """Run a call; each of the two must return or raise what is given."""
        assert await self.run(call) == (theirs, ours)


def is_id(result):
    return isinstance(result, str) and re.fullmatch("[0-9a-zA-Z]{32}", result) is not None


def comparable(result):
    """Without what differs by its nature, ids and times, and without what only we have."""
    if isinstance(result, dict):
        ours_only = ("sent", "fr")
        times = ("id", "ts", "created", "modified")
        return {
            name: name in times or value for name, value in result.items() if name not in ours_only
        }
    return is_id(result) or result


def types(result):
    if isinstance(result, dict):
        return {name: type(result[name]) for name in comparable(result)}
    return type(result)


@pytest.fixture
async def new_both(server):
    """Makes the two, in namespaces of their own."""
    made = []

    def new(**params):
        made.append(Both(server, **params))
        return made[-1]

    yield new
    for both in made:
        await both.aclose()


@pytest.fixture
def both(new_both):
    return new_both()


@pytest.fixture
async def controllers(server):
    """The two, on the same queue."""
    both = (
        rsmq.RedisSMQ(port=server.port, qname="jobs"),
        pyrsmq.RedisSMQ(port=server.port, qname="jobs"),
    )
    yield both
    both[0].client.close()
    await both[1].quit()


class TestAgreement:
    async def test_queues(self, both):
        """Queues are created, listed, described, changed and deleted with the same results."""
        await both.agree(
            lambda r, _: r.listQueues(),
            lambda r, _: r.createQueue(maxsize=65535),
            lambda r, _: r.createQueue(),
            lambda r, _: r.createQueue().exceptions(False).quiet(True),
            lambda r, _: r.createQueue(qname="other", vt=5).delay(7).maxsize(1024),
            lambda r, _: r.createQueue().qname("third").vt(0).delay(0).maxsize(-1),
            lambda r, _: r.listQueues(),
            lambda r, _: r.getQueueAttributes(),
            lambda r, _: r.getQueueAttributes(qname="other"),
            lambda r, _: r.getQueueAttributes(qname="third"),
            lambda r, _: r.setQueueAttributes(vt=9).maxsize(2048),
            lambda r, _: r.setQueueAttributes(qname="third", delay=0),
            lambda r, _: r.deleteQueue(qname="other"),
            lambda r, _: r.deleteQueue(qname="other"),
            lambda r, _: r.getQueueAttributes(qname="other"),
            lambda r, _: r.listQueues(),
            lambda r, _: r.deleteQueue().exceptions(True),
            lambda r, _: r.deleteQueue().exceptions(False),
        )

    async def test_messages(self, both):
        """Messages are sent, received, hidden, popped and deleted with the same results."""
        await both.agree(
            lambda r, _: r.sendMessage(message="x"),
            lambda r, _: r.receiveMessage(),
            lambda r, _: r.popMessage(),
            lambda r, sent: r.changeMessageVisibility(id=sent),
            lambda r, _: r.createQueue(maxsize=65535),
            lambda r, _: r.receiveMessage(),
            lambda r, _: r.receiveMessage().exceptions(False),
            lambda r, _: r.popMessage(),
            lambda r, _: r.popMessage(quiet=True).exceptions(False),
            lambda r, sent: r.changeMessageVisibility(id=sent, vt=5),
            lambda r, sent: r.changeMessageVisibility(id=sent, vt=5).exceptions(False),
            lambda r, sent: r.deleteMessage(id=sent),
            lambda r, _: r.sendMessage(message="one"),
            lambda r, _: r.receiveMessage(vt=0),
            lambda r, _: r.receiveMessage().vt(60),
            lambda r, _: r.receiveMessage(),
            lambda r, sent: r.changeMessageVisibility().id(sent).vt(0),
            lambda r, sent: r.changeMessageVisibility(id=sent),
            lambda r, _: r.receiveMessage(),
            lambda r, sent: r.deleteMessage(id=sent),
            lambda r, sent: r.deleteMessage(id=sent),
            lambda r, _: r.sendMessage(message="later", delay=60),
            lambda r, _: r.receiveMessage(),
            lambda r, _: r.getQueueAttributes(),
            lambda r, _: r.sendMessage().message("popped").delay(0),
            lambda r, _: r.popMessage(),
            lambda r, _: r.popMessage(),
            lambda r, _: r.getQueueAttributes(),
        )

    @pytest.mark.parametrize("encode", [True, None])
    @pytest.mark.parametrize(
        "body",
        ["text", "7", "Zoë 🐇", "[" * 5000, *NO_TEXT, b"bytes"],
        ids=lambda body: repr(body)[:9],
    )
    async def test_bodies(self, both, server, body, encode):
        """A body is stored in the same bytes, and received as the same."""
        await both.agree(lambda r, _: r.createQueue(maxsize=65535))
        await both.agree(
            lambda r, _: r.sendMessage(
                message=body, encode=None if isinstance(body, bytes) else encode
            )
        )
        theirs, ours = [
            server.redis.hget(f"{ns}:jobs:Q", id)
            for ns, id in (("theirs", both.their_id), ("ours", both.our_id))
        ]
        assert ours == theirs
        await both.agree(lambda r, _: r.popMessage())

    async def test_defaults(self, new_both):
        """Defaults of the controller go to the commands that take them, and give way to what these
        are told.
        """
        both = new_both(vt=7, maxsize=2048, quiet=None)
        await both.agree(
            lambda r, _: r.createQueue(),
            lambda r, _: r.createQueue(qname="other", vt=8),
            lambda r, _: r.createQueue(qname="third", vt=None),
            lambda r, _: r.getQueueAttributes(),
            lambda r, _: r.getQueueAttributes(qname="other"),
            lambda r, _: r.getQueueAttributes(qname="third"),
            lambda r, _: r.setQueueAttributes(qname="other", delay=1),
            lambda r, _: r.listQueues(),
        )

    async def test_exceptions(self, new_both):
        """Exceptions are switched for all commands, those made before too; a command's own word
        counts more.
        """
        both = new_both(exceptions=False, quiet=True)
        commands = [controller.receiveMessage() for controller in (both.theirs, both.ours)]
        await both.agree(
            lambda r, _: r.receiveMessage(),
            lambda r, _: r.receiveMessage().exceptions(),
            lambda r, _: r.exceptions().receiveMessage(),
            lambda r, _: r.receiveMessage().exceptions(False),
        )
        both.theirs.exceptions(True)
        with pytest.raises(rsmq.cmd.exceptions.QueueDoesNotExist):
            commands[0].execute()
        with pytest.raises(pyrsmq.QueueDoesNotExist):
            await commands[1]

    async def test_visible_at(self, both, server):
        """Delays and leases, fractions too, end at the same millisecond after the sending and the
        receipt.
        """
        await both.agree(lambda r, _: r.createQueue(vt=20, delay=5, maxsize=65535))
        for delay in (None, 0, 0.0637, 2):
            await both.agree(
                partial(lambda r, _, delay: r.sendMessage(message="x", delay=delay), delay=delay)
            )
            for ns, id in (("theirs", both.their_id), ("ours", both.our_id)):
                late = server.redis.zscore(f"{ns}:jobs", id) - int(id[:10], 36) // 1000
                assert 0 <= late - round((5 if delay is None else delay) * 1000) < 1000, ns
            await both.agree(lambda r, sent: r.changeMessageVisibility(id=sent, vt=0))
            await both.agree(lambda r, _: r.receiveMessage(vt=0.1239))
            await both.agree(lambda r, sent: r.deleteMessage(id=sent))

    async def test_one_queue(self, controllers):
        """A queue that one creates and fills is the other's to use, either way round."""
        theirs, ours = controllers
        theirs.createQueue(vt=7).execute()
        assert await ours.getQueueAttributes() == theirs.getQueueAttributes().execute()
        assert await ours.listQueues() == theirs.listQueues().execute() == {"jobs"}
        for body in ("text", {"a": "ë"}):
            id = theirs.sendMessage(message=body).execute()
            received = await ours.receiveMessage(vt=0)
            again = theirs.receiveMessage(vt=60).execute()
            assert again == {name: received[name] for name in again} | {"rc": 2}
            assert received["id"] == id
            assert await ours.deleteMessage(id=id) is True
            id = await ours.sendMessage(message=body)
            assert theirs.receiveMessage().execute()["id"] == id
            assert await ours.changeMessageVisibility(id=id, vt=0) is True
            assert (await ours.receiveMessage(decode=True))["message"] == body
            assert theirs.deleteMessage(id=id).execute() is True
        assert await ours.deleteQueue() is True
        assert theirs.listQueues().execute() == set()

    async def test_readme_example(self, server):
        """The example in PyRSMQ 0.6.1's README does the same here, with `await` added and nothing
        else.
        """
        readme = importlib.metadata.metadata("PyRSMQ").get_payload()
        example = textwrap.dedent(
            readme[readme.index("    from pprint import") : readme.index("### RedisSMQ Controller")]
        )
        imports, _, program = example.partition("from rsmq import RedisSMQ\n")
        assert imports == "from pprint import pprint\nimport time\n\n"
        awaited = re.sub(r"\bqueue\.", "await queue.", program)
        assert awaited.replace("await ", "") == program
        theirs, ours = [], []
        with redis.Redis(
            port=server.port, decode_responses=True
        ) as client:  # the example leaves its own open
            exec(
                program,
                {"pprint": theirs.append, "time": time, "RedisSMQ": partial(rsmq.RedisSMQ, client)},
            )
        names = {
            "pprint": ours.append,
            "time": time,
            "RedisSMQ": partial(pyrsmq.RedisSMQ, port=server.port),
        }
        await eval(compile(awaited, "README", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), names)
        for status in (shown["queue_status"] for shown in theirs if "queue_status" in shown):
            assert status.pop("maxsize") == 65565
            assert (
                status["msgs"] == 1
            )  # also in the end: without its execute(), their deleteMessage does nothing
        theirs[-1]["queue_status"] |= {"msgs": 0, "hiddenmsgs": 0}
        for status in (shown["queue_status"] for shown in ours if "queue_status" in shown):
            assert status.pop("maxsize") == 65535
        assert [[*map(comparable, shown.values())] for shown in ours] == [
            [*map(comparable, shown.values())] for shown in theirs
        ]


class TestDifferences:
    """The specification of each test is its row on the page."""

    def test_all_are_listed(self):
        """What the migration page lists is what is tested here, no less and no more."""
        rows = re.findall(r"^\| ([^|]+?) +\|.*\|.*\|$", PAGE, re.MULTILINE)
        assert sorted(row for row in rows if row not in ("what", "---")) == sorted(DIFFERENCES)

    @difference("a queue's `maxsize`")
    async def test_maxsize(self, both):
        await both.differ(lambda r, _: r.createQueue(), True, True)
        attributes = await both.run(lambda r, _: r.getQueueAttributes())
        assert [of["maxsize"] for of in attributes] == [65565, 65535]
        await both.differ(
            lambda r, _: r.createQueue(qname="b").maxsize(65565),
            True,
            Raised("InvalidParameterValue"),
        )
        await both.agree(
            lambda r, _: r.setQueueAttributes(maxsize=1024),
            lambda r, _: r.setQueueAttributes(maxsize=65536),
            lambda r, _: r.setQueueAttributes(maxsize=-1),
            lambda r, _: r.setQueueAttributes().maxsize(1023),
            lambda r, _: r.setQueueAttributes().maxsize(65566),
        )

    @difference("a message over `maxsize`")
    async def test_too_long(self, both):
        await both.agree(lambda r, _: r.createQueue(maxsize=1024))
        theirs, ours = await both.run(lambda r, _: r.sendMessage(message="x" * 1025))
        assert is_id(theirs)
        assert ours == Raised("MessageTooLong")

    @difference("empty bodies")
    @pytest.mark.parametrize("body", ["", b"", 0, False, [], {}])
    async def test_empty(self, both, body):
        await both.agree(lambda r, _: r.createQueue(maxsize=1024))
        theirs, ours = await both.run(lambda r, _: r.sendMessage(message=body))
        assert theirs is False
        assert is_id(ours)
        theirs, ours = await both.run(lambda r, _: r.sendMessage().message(body))
        assert theirs == Raised("InvalidParameterValue")
        assert is_id(ours)

    @difference("`False` and `0` as values")
    async def test_false_values(self, both):
        for call in (
            lambda r, _: r.createQueue(maxsize=1024).quiet(False),
            lambda r, _: r.sendMessage(message="x").encode(False),
        ):
            theirs, ours = await both.run(call)
            assert theirs == Raised("InvalidParameterValue")
            assert ours is True or is_id(ours)

    @difference("`None` passed to a setter")
    async def test_none(self, both):
        await both.differ(
            lambda r, _: r.createQueue().vt(None), Raised("InvalidParameterValue"), True
        )
        attributes = await both.run(lambda r, _: r.getQueueAttributes())
        assert attributes[1]["vt"] == 30

    @difference("a missing parameter")
    async def test_missing(self, new_both):
        both = new_both(qname=None)
        for call in (
            lambda r, _: r.createQueue(),
            lambda r, _: r.receiveMessage(),
            lambda r, _: r.deleteMessage(qname="jobs"),
            lambda r, _: r.sendMessage(qname="jobs"),
        ):
            await both.differ(call, False, Raised("InvalidParameterValue"))

    @difference("an invalid value, by keyword")
    async def test_wrong_keyword(self, both):
        await both.differ(
            lambda r, _: r.createQueue(qname="a:b"), False, Raised("InvalidParameterValue")
        )
        await both.differ(lambda r, _: r.createQueue(vt=-1), True, Raised("InvalidParameterValue"))
        assert both.theirs.getQueueAttributes().execute()["vt"] == 30

    @difference("an invalid value, by setter")
    async def test_wrong_setter(self, both):
        with pytest.raises(rsmq.cmd.exceptions.InvalidParameterValue):
            both.theirs.createQueue().vt(-1)
        command = both.ours.createQueue().vt(-1)
        with pytest.raises(pyrsmq.InvalidParameterValue):
            await command
        await both.differ(lambda r, _: r.createQueue().exceptions(False).vt(-1), True, False)

    @difference("an unknown parameter")
    async def test_unknown(self, both):
        await both.differ(
            lambda r, _: r.createQueue(colour="red"), True, Raised("InvalidParameterValue")
        )
        await both.differ(
            lambda r, _: r.deleteQueue().colour("red"),
            Raised("AttributeError"),
            Raised("AttributeError"),
        )
        await both.differ(
            lambda r, _: r.deleteQueue().maxsize(1024),
            Raised("AttributeError"),
            Raised("InvalidParameterValue"),
        )
        rsmq.RedisSMQ(colour="red")
        with pytest.raises(pyrsmq.InvalidParameterValue):
            pyrsmq.RedisSMQ(colour="red")

    @difference("numbers as text")
    async def test_numbers_as_text(self, both):
        await both.differ(lambda r, _: r.createQueue(vt="7"), True, Raised("InvalidParameterValue"))
        assert both.theirs.getQueueAttributes().execute()["vt"] == 7

    @difference("fractions in a queue's `vt` and `delay`")
    async def test_fractions(self, both):
        await both.differ(lambda r, _: r.createQueue(vt=7.5), True, Raised("InvalidParameterValue"))
        await both.differ(
            lambda r, _: r.createQueue(qname="b").delay(7.5), True, Raised("InvalidParameterValue")
        )

    @difference("names of queues")
    @pytest.mark.foreign_data
    async def test_names(self, both):
        for name in ("with.dot", "with space", "Zoë", "QUEUES"):
            await both.differ(
                partial(lambda r, _, name: r.createQueue(qname=name), name=name),
                True,
                Raised("InvalidParameterValue"),
            )
        await both.differ(lambda r, _: r.createQueue(qname="j" * 65), False, True)
        await both.differ(lambda r, _: r.createQueue(qname="j" * 160), False, True)
        await both.differ(
            lambda r, _: r.createQueue(qname="j" * 161), False, Raised("InvalidParameterValue")
        )

    @difference("the clock of `created` and `modified`")
    async def test_clock(self, both, server, monkeypatch):
        for command in ("create_queue", "set_queue_attributes"):
            monkeypatch.setattr(f"rsmq.cmd.{command}.time", SimpleNamespace(time=lambda: 7.5))
        await both.run(lambda r, _: r.createQueue())
        theirs, ours = await both.run(lambda r, _: r.setQueueAttributes(vt=1))
        now, _ = server.redis.time()
        assert (theirs["created"], theirs["modified"]) == (7, 7)
        assert now - 60 < ours["created"] <= ours["modified"] <= now

    @difference("`bytes`")
    async def test_bytes(self, server):
        """What is received and listed is text with us, whatever the client decodes; what is no text
        is bytes.
        """
        theirs = rsmq.RedisSMQ(redis.Redis(port=server.port), qname="jobs")
        client = redis.asyncio.Redis(port=server.port)
        async with pyrsmq.RedisSMQ(client, qname="jobs") as ours:
            await ours.createQueue()
            await ours.sendMessage(message="text")
            assert type(theirs.receiveMessage(vt=0).execute()["id"]) is bytes
            assert theirs.receiveMessage(vt=0).execute()["message"] == b"text"
            assert theirs.listQueues().execute() == {b"jobs"}
            received = await ours.popMessage()
            assert (type(received["id"]), received["message"]) == (str, "text")
            assert await ours.listQueues() == {"jobs"}
        theirs.client.close()
        await client.aclose()

    @difference("bodies that are not text")
    async def test_no_text(self, controllers):
        theirs, ours = controllers
        await ours.createQueue()
        await ours.sendMessage(message=b"\xff")
        with pytest.raises(UnicodeDecodeError):
            theirs.receiveMessage(vt=0).execute()
        assert (await ours.popMessage())["message"] == b"\xff"

    @difference("ids as `bytes`")
    async def test_bytes_ids(self, both):
        await both.agree(
            lambda r, _: r.createQueue(maxsize=1024), lambda r, _: r.sendMessage(message="x")
        )
        await both.agree(lambda r, _: r.receiveMessage())
        await both.differ(
            lambda r, sent: r.deleteMessage(id=sent.encode()), True, Raised("InvalidParameterValue")
        )

    @difference("values that JSON cannot represent")
    async def test_no_json(self, both):
        await both.agree(lambda r, _: r.createQueue(maxsize=1024))
        for call in (
            lambda r, _: r.sendMessage(message={1, 2}),
            lambda r, _: r.sendMessage(message=b"bytes", encode=True),
        ):
            await both.differ(call, Raised("TypeError"), Raised("InvalidParameterValue"))

    @difference("`deleteMessage` of a message that was never received")
    async def test_delete_never_received(self, both):
        await both.agree(
            lambda r, _: r.createQueue(maxsize=1024), lambda r, _: r.sendMessage(message="x")
        )
        await both.differ(lambda r, sent: r.deleteMessage(id=sent), False, True)
        await both.agree(lambda r, _: r.popMessage())

    @difference("`setQueueAttributes` of a missing queue")
    @pytest.mark.foreign_data
    async def test_set_attributes_of_no_queue(self, both, server):
        theirs, ours = await both.run(lambda r, _: r.setQueueAttributes(vt=1))
        assert (theirs, ours) == (Raised("TypeError"), Raised("QueueDoesNotExist"))
        assert server.redis.keys() == [b"theirs:jobs:Q"]

    @difference("`setQueueAttributes` without settings")
    async def test_set_no_attributes(self, both):
        await both.agree(lambda r, _: r.createQueue(maxsize=1024))
        theirs, ours = await both.run(lambda r, _: r.setQueueAttributes())
        assert theirs["vt"] == 30
        assert ours == Raised("InvalidParameterValue")

    @difference("an entry without a body")
    @pytest.mark.foreign_data
    async def test_phantom(self, both, server):
        await both.agree(lambda r, _: r.createQueue(maxsize=1024))
        for ns in ("theirs", "ours"):
            server.redis.zadd(f"{ns}:jobs", {ID: 1})
        theirs, ours = await both.run(lambda r, _: r.receiveMessage())
        assert theirs["message"] is None
        assert ours == Raised("NoMessageInQueue")
        assert server.redis.zcard("ours:jobs") == 0

    @difference("`ts`, `sent`, `fr`")
    async def test_times(self, both):
        await both.agree(
            lambda r, _: r.createQueue(maxsize=1024),
            lambda r, _: r.sendMessage(message="x", delay=0.05),
        )
        commands = [
            r.receiveMessage(vt=0).exceptions(False).quiet(True) for r in (both.theirs, both.ours)
        ]
        theirs, ours = [await wait_until(command.execute) for command in commands]
        assert theirs.keys() == {"id", "message", "rc", "ts"}
        assert (
            theirs["ts"] >= int(both.their_id[:10], 36) // 1000 + 50
        )  # their README: when the message was sent
        assert ours.keys() == theirs.keys() | {"sent", "fr"}
        assert ours["ts"] == ours["fr"] >= ours["sent"] + 50
        assert ours["sent"] == int(both.our_id[:10], 36) // 1000

    @difference("`decode`")
    async def test_decode(self, both):
        await both.agree(
            lambda r, _: r.createQueue(maxsize=1024), lambda r, _: r.sendMessage(message=[1])
        )
        theirs, ours = await both.run(lambda r, _: r.popMessage(decode=True))
        assert (theirs["message"], ours["message"]) == ("[1]", [1])

    @difference("`exec()`, and awaiting the command itself")
    async def test_exec(self, both):
        assert not hasattr(both.theirs.listQueues(), "exec")
        assert await both.ours.listQueues().exec() == await both.ours.listQueues() == set()

    @difference("`ns()`")
    async def test_ns(self, both):
        assert not hasattr(both.theirs, "ns")
        await both.ours.createQueue()
        assert await both.ours.ns("other").listQueues() == set()

    @difference("`quit()`")
    async def test_quit(self, both, server):
        await both.run(lambda r, _: r.listQueues())
        client = both.theirs.client
        assert server.clients() == 2
        assert both.theirs.quit() is None
        assert await both.ours.quit() is None
        await wait_until(lambda: server.clients() == 1)
        client.close()
        assert both.theirs.client is not client
        assert await both.ours.listQueues() == set()

    @difference("`client=`")
    async def test_client(self, server):
        with redis.Redis(port=server.port) as client:
            assert rsmq.RedisSMQ(client).listQueues().execute() == set()
            with pytest.raises(pyrsmq.InvalidParameterValue, match=r"redis\.asyncio\.Redis"):
                pyrsmq.RedisSMQ(client)
            client.close()

    @difference("`realtime=True`")
    async def test_realtime(self, new_both, server):
        both = new_both(realtime=True)
        await both.agree(lambda r, _: r.createQueue(maxsize=1024))
        with redis.Redis(port=server.port) as other, other.pubsub() as listening:
            listening.subscribe("theirs:rt:jobs", "ours:rt:jobs")
            for _ in range(2):
                assert listening.get_message(timeout=PATIENCE)["type"] == "subscribe"
            await both.agree(lambda r, _: r.sendMessage(message="x"))
            other.publish("theirs:rt:jobs", "the end")
            heard = [listening.get_message(timeout=PATIENCE) for _ in range(2)]
        assert [(said["channel"], said["data"]) for said in heard] == [
            (b"ours:rt:jobs", b"1"),
            (b"theirs:rt:jobs", b"the end"),
        ]
        await wait_until(lambda: server.redis.pubsub_channels() == [])

    @difference("internals")
    async def test_insides(self, both):
        for name in ("client", "options", "redis_options", "reset_scripts"):
            assert hasattr(both.theirs, name)
            assert not hasattr(both.ours, name)
        for name in ("ready", "get_transaction", "get_qname", "queue_key"):
            assert hasattr(both.theirs.deleteMessage(), name)
            assert not hasattr(both.ours.deleteMessage(), name)


class Consumers:
    """PyRSMQ's consumer in its thread, and ours in a task, each on a queue of its own, until the
    end of the block.
    """

    def __init__(self, server, their_processor, our_processor, **params):
        params = {"port": server.port, "empty_queue_delay": 0.01, "vt": 2} | params
        self.theirs = rsmq.consumer.RedisSMQConsumer("theirs", their_processor, **params)
        self.ours = pyrsmq.RedisSMQConsumer("ours", our_processor, **params)

    async def __aenter__(self):
        self._thread = threading.Thread(target=self.theirs.run)
        self._thread.start()
        self.running = asyncio.create_task(self.ours.run())
        return self

    async def __aexit__(self, *_):
        self.theirs.stop()
        await anyio.to_thread.run_sync(self._thread.join)
        for extender in extenders():  # it does not end all of them itself
            extender.stop()
            await anyio.to_thread.run_sync(extender.join)
        self.theirs.rsqm.client.close()
        await self.ours.stop(PATIENCE)
        await asyncio.wait([self.running])


class Calls(list):
    """A processor that notes what it is called with, and does `how` with the message and its
    receive count.
    """

    def __init__(self, how):
        self.how = how

    def __call__(self, id, message, rc, ts):
        self.append((message, rc, type(id), type(ts)))
        return self.how(message, rc)


def extenders():
    """The threads of PyRSMQ's consumer that extend leases."""
    of = rsmq.consumer.RedisSMQConsumer.VisibilityTimeoutExtender
    return [thread for thread in threading.enumerate() if isinstance(thread, of)]


@pytest.fixture
async def controller(server):
    """One of ours, to fill the consumers' queues."""
    async with pyrsmq.RedisSMQ(port=server.port) as controller:
        for qname in ("theirs", "ours"):
            await controller.createQueue(qname=qname)
        yield controller


async def send_to_both(controller, message):
    return [
        await controller.sendMessage(qname=qname, message=message) for qname in ("theirs", "ours")
    ]


class TestConsumers:
    async def test_agreement(self, server, controller):
        """Both consumers call the same processor with the same, and do the same about what it
        returns.
        """
        calls = [Calls(lambda message, rc: rc == 2 or message == 7) for _ in range(2)]
        async with Consumers(server, *calls, vt=5):
            for message in (7, "text", {"a": [1]}):
                await send_to_both(controller, message)
            await wait_until(
                lambda: server.redis.zcard("rsmq:theirs") == server.redis.zcard("rsmq:ours") == 0
            )
        theirs, ours = calls
        assert sorted(map(repr, ours)) == sorted(map(repr, theirs))
        assert len(ours) == 5

    async def test_no_decode(self, server, controller):
        """With decode=False both hand out the text."""
        calls = [Calls(lambda _message, _rc: True) for _ in range(2)]
        async with Consumers(server, *calls, decode=False):
            await send_to_both(controller, [1])
            await wait_until(
                lambda: server.redis.zcard("rsmq:theirs") == server.redis.zcard("rsmq:ours") == 0
            )
        assert calls[0] == calls[1] == [("[1]", 1, str, int)]

    async def test_creates_the_queue(self, server):
        """Both create a queue that is missing, with what the consumer was given for it."""
        async with Consumers(server, print, print, vt=7, delay=3, maxsize=2048):
            await wait_until(lambda: server.redis.scard("rsmq:QUEUES") == 2)
        for qname in ("theirs", "ours"):
            settings = server.redis.hmget(f"rsmq:{qname}:Q", "vt", "delay", "maxsize")
            assert settings == [b"7", b"3", b"2048"], qname

    @difference("creating a consumer")
    async def test_making(self, server):
        pyrsmq.RedisSMQConsumer("ours", print, port=server.port)
        assert server.clients() == 0
        consumer = rsmq.consumer.RedisSMQConsumer("theirs", print, port=server.port)
        assert server.clients() == 1
        consumer.rsqm.client.close()

    @difference("a consumer with `vt=0`")
    async def test_no_lease(self, server):
        consumer = rsmq.consumer.RedisSMQConsumer("theirs", print, port=server.port, vt=0)
        consumer.rsqm.client.close()
        with pytest.raises(pyrsmq.InvalidParameterValue):
            pyrsmq.RedisSMQConsumer("ours", print, port=server.port, vt=0)

    @difference("a processor that raises")
    async def test_raising(self, server, controller):
        """PyRSMQ keeps on extending the lease of a message whose processor has raised."""

        def fail_first(_message, rc):
            return 1 / 0 if rc == 1 else True

        calls = [Calls(fail_first) for _ in range(2)]
        async with Consumers(server, *calls, vt=1):
            their_id, _ = await send_to_both(controller, "x")
            await wait_until(lambda: server.redis.zcard("rsmq:ours") == 0)
            await wait_until(lambda: calls[0])
            first = server.redis.zscore("rsmq:theirs", their_id)
            await wait_until(lambda: server.redis.zscore("rsmq:theirs", their_id) > first + 1500)
            assert len(extenders()) == 1
        assert [[rc for _, rc, *_ in processed] for processed in calls] == [[1], [1, 2]]

    @difference("a message that another consumer has received in between")
    async def test_lost_lease(self, server, controller):
        gate = threading.Event()
        calls = [Calls(lambda _message, _rc: gate.wait()) for _ in range(2)]
        try:
            async with Consumers(server, *calls):
                for qname, id in zip(
                    ("theirs", "ours"), await send_to_both(controller, "x"), strict=True
                ):
                    await wait_until(lambda: all(calls))
                    await controller.changeMessageVisibility(qname=qname, id=id, vt=0)
                    assert (await controller.receiveMessage(qname=qname))["rc"] == 2
                gate.set()
                await wait_until(lambda: server.redis.zcard("rsmq:theirs") == 0)
        finally:
            gate.set()
        assert server.redis.zcard("rsmq:ours") == 1

    @difference("a consumer whose queue is deleted")
    async def test_deleted_queue(self, server, controller, caplog):
        """Theirs warns without end, ours once; both go on when the queue is there again."""
        calls = [Calls(lambda _message, _rc: True) for _ in range(2)]
        async with Consumers(server, *calls):
            await send_to_both(controller, "x")
            await wait_until(lambda: all(calls))
            for qname in ("theirs", "ours"):
                await controller.deleteQueue(qname=qname)
            await wait_until(
                lambda: caplog.text.count("Exception while processing queue `theirs`") > 10
            )
            await wait_until(lambda: "queue 'ours' no longer exists" in caplog.text)
            for qname in ("theirs", "ours"):
                await controller.createQueue(qname=qname)
            await send_to_both(controller, "y")
            await wait_until(lambda: all(len(each) == 2 for each in calls))
        assert caplog.text.count("queue 'ours' no longer exists") == 1

    @difference("RedisSMQConsumerThread")
    def test_thread(self):
        """PyRSMQ has it, we have not."""
        assert issubclass(rsmq.consumer.RedisSMQConsumerThread, threading.Thread)
        assert not hasattr(pyrsmq, "RedisSMQConsumerThread")


BEFORE = re.findall(r"```py\n(.*?)```.*?```text\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize(("program", "output"), BEFORE, ids=["program", "consumer"])
def test_before(running_server, program, output):
    """What the page shows as `before` prints, with the real PyRSMQ, what `after` prints (see
    tests/test_readme.py).
    """
    running_server.redis.flushall()
    program = program.replace('host="127.0.0.1"', f'host="127.0.0.1", port={running_server.port}')
    command = [sys.executable, "-c", program]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=4 * PATIENCE, check=False
    )
    assert (done.stdout, done.returncode) == (output, 0), done.stderr
