"""PyRSMQ's API, awaited. That it is PyRSMQ's, the real one says:
tests/interop/test_pyrsmq_layer.py.
"""

import ast
import asyncio
import json
import re
import textwrap
import time
from functools import partial
from pathlib import Path

import pytest
import redis
import redis.asyncio
from aiorsmq import AsyncRSMQ, WrongEventLoop
from aiorsmq.pyrsmq import (
    InvalidParameterValue,
    MessageTooLong,
    NoMessageInQueue,
    QueueAlreadyExists,
    QueueDoesNotExist,
    RedisSMQ,
    RedisSMQException,
)

from support import PATIENCE, now_ms, wait_until

EXAMPLE = (Path(__file__).parent / "pyrsmq_example.txt").read_text()

NUMBERS = ("maxsize", "totalrecv", "totalsent", "created", "modified", "msgs", "hiddenmsgs")


@pytest.fixture
def new(server):
    """Makes a RedisSMQ on the server, which PyRSMQ's users would name by `host` and `port`."""
    return partial(RedisSMQ, options={"unix_socket_path": server.socket})


@pytest.fixture
async def jobs(new):
    """A controller whose default queue exists."""
    async with new(qname="jobs") as jobs:
        await jobs.createQueue().exec()
        yield jobs


async def test_readme_example(new, server):
    """The example in PyRSMQ's README runs with `await` added wherever the queue is used, and
    nothing else.
    """
    imports, _, program = EXAMPLE.partition("from rsmq.rsmq import RedisSMQ\n")
    assert imports == "from pprint import pprint\nimport time\n\n"
    program = textwrap.dedent(program)
    awaited = re.sub(r"\bqueue\.", "await queue.", program)
    assert awaited.replace("await ", "") == program
    printed = []
    code = compile(awaited, "README", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    await eval(code, {"pprint": printed.append, "time": time, "RedisSMQ": new})
    statuses = [shown["queue_status"] for shown in printed if "queue_status" in shown]
    none, message = [shown["Message"] for shown in printed if "Message" in shown]
    names = ("vt", "msgs", "hiddenmsgs", "totalsent", "totalrecv")
    counts = [[status[name] for name in names] for status in statuses]
    assert counts == [[20, 1, 1, 1, 0], [20, 1, 0, 1, 0], [20, 0, 0, 1, 1]]
    assert none is False
    assert (message["message"], message["rc"]) == ("Hello World", 1)
    assert server.redis.keys() == []


class TestReturns:
    async def test_queues(self, new, server):
        """Queues are created and deleted with True, and listed as a set of names."""
        async with new() as controller:
            assert await controller.listQueues().exec() == set()
            assert await controller.createQueue(qname="a").exec() is True
            assert await controller.createQueue(qname="b").exec() is True
            assert await controller.listQueues().exec() == {"a", "b"}
            assert await controller.deleteQueue(qname="a").exec() is True
            assert await controller.listQueues().exec() == {"b"}

    async def test_attributes(self, jobs, server):
        """Attributes are a dict, of seconds as floats and all else as ints; so they are when they
        are set.
        """
        await jobs.sendMessage(message="hidden", delay=60)
        await jobs.sendMessage(message="received")
        await jobs.receiveMessage()
        now, _ = server.redis.time()
        attributes = await jobs.getQueueAttributes().exec()
        assert {name: type(value) for name, value in attributes.items()} == {
            "vt": float,
            "delay": float,
            **dict.fromkeys(NUMBERS, int),
        }
        assert now - 60 < attributes.pop("created") == attributes.pop("modified") <= now
        assert attributes == {
            "vt": 30,
            "delay": 0,
            "maxsize": 65535,
            "totalrecv": 1,
            "totalsent": 2,
            "msgs": 2,
            "hiddenmsgs": 2,
        }
        assert (
            await jobs.setQueueAttributes(vt=1).maxsize(1024).exec()
            == await jobs.getQueueAttributes().exec()
        )
        changed = await jobs.getQueueAttributes()
        assert (changed["vt"], changed["delay"], changed["maxsize"]) == (1, 0, 1024)

    async def test_message(self, jobs, server):
        """A message is a dict; its times are in ms: `ts` and `fr` of its first receipt, `sent` of
        its sending.
        """
        before = now_ms(server)
        id = await jobs.sendMessage(message="hello").exec()
        assert re.fullmatch(r"[0-9a-zA-Z]{32}", id)
        first = await jobs.receiveMessage(vt=0).exec()
        second = await jobs.receiveMessage(vt=0).exec()
        popped = await jobs.popMessage().exec()
        assert {name: type(value) for name, value in first.items()} == {
            "id": str,
            "message": str,
            "rc": int,
            "ts": int,
            "sent": int,
            "fr": int,
        }
        assert (first["id"], first["message"], first["rc"]) == (id, "hello", 1)
        assert (
            before - 100
            < first["sent"]
            == int(id[:10], 36) // 1000
            <= first["ts"]
            == first["fr"]
            < before + 60_000
        )
        assert second == first | {"rc": 2}
        assert popped == first | {"rc": 3}
        assert server.redis.zcard("rsmq:jobs") == 0

    async def test_settling(self, jobs):
        """A message that is there is deleted or hidden with True; one that is not: False, and
        NoMessageInQueue.
        """
        id = await jobs.sendMessage(message="hello")
        assert await jobs.changeMessageVisibility(id=id, vt=60).exec() is True
        assert await jobs.receiveMessage().exceptions(False).quiet(True) is False
        assert await jobs.deleteMessage(id=id).exec() is True
        assert await jobs.deleteMessage(id=id).exec() is False
        with pytest.raises(NoMessageInQueue):
            await jobs.changeMessageVisibility(id=id, vt=60).exec()

    async def test_visibility_by_default(self, jobs, server):
        """A message whose visibility is changed without a vt is hidden for the queue's."""
        await jobs.setQueueAttributes(vt=1000)
        id = await jobs.sendMessage(message="hello")
        await jobs.changeMessageVisibility(id=id)
        now, _ = server.redis.time()
        assert 990 < server.redis.zscore("rsmq:jobs", id) / 1000 - now <= 1001


class TestParameters:
    async def test_mixed(self, new, server):
        """Parameters are given by keywords, by setters, or by both in any order; the last word
        counts.
        """
        async with new() as controller:
            for n, command in enumerate(
                (
                    controller.createQueue(qname="jobs", vt=7, delay=3, maxsize=2048),
                    controller.createQueue().qname("jobs").vt(7).delay(3).maxsize(2048),
                    controller.createQueue(vt=7).maxsize(2048).qname("jobs").delay(3),
                    controller.createQueue(qname="other", vt=1, delay=3)
                    .qname("jobs")
                    .vt(7)
                    .maxsize(2048),
                )
            ):
                await command.exec()
                attributes = await controller.getQueueAttributes(qname="jobs")
                assert (attributes["vt"], attributes["delay"], attributes["maxsize"]) == (
                    7,
                    3,
                    2048,
                ), n
                await controller.deleteQueue().qname("jobs")
            assert server.redis.keys() == []

    async def test_run(self, jobs):
        """A command is run by exec(), by execute(), or by awaiting it; as often as that is done,
        and never before.
        """
        command = jobs.sendMessage(message="hello")
        unused = jobs.sendMessage(message="never sent")
        ids = {await command.exec(), await command.execute(), await command}
        assert len(ids) == 3
        assert (await jobs.getQueueAttributes())["totalsent"] == 3
        unused.message("changed")
        await unused
        assert {(await jobs.popMessage())["message"] for _ in range(4)} == {"hello", "changed"}

    async def test_defaults(self, new):
        """What a controller is given for its commands goes to those that take it, unless they are
        told otherwise.
        """
        async with new(qname="jobs", vt=7, quiet=None) as controller:
            await controller.createQueue()
            assert await controller.listQueues() == {"jobs"}
            assert (await controller.getQueueAttributes())["vt"] == 7
            await controller.createQueue(qname="other", vt=8)
            assert (await controller.getQueueAttributes().qname("other"))["vt"] == 8
            await controller.createQueue(qname="third", vt=None)
            assert (await controller.getQueueAttributes(qname="third"))["vt"] == 30

    async def test_unknown(self, new, jobs):
        """What a command does not take is refused at once, by its name only: the value may be a
        secret.
        """
        for wrong in (
            lambda: jobs.createQueue(message="hunter2"),
            lambda: jobs.sendMessage(message="x").vt("hunter2"),
            lambda: jobs.receiveMessage(msg="hunter2"),
            lambda: jobs.listQueues(qname="hunter2"),
            lambda: jobs.deleteMessage(exceptions="hunter2"),
            lambda: new(password="hunter2"),
        ):
            with pytest.raises(InvalidParameterValue) as caught:
                wrong()
            assert caught.value.parameter == "parameter"
            assert "hunter2" not in str(caught.value)

    async def test_missing(self, new):
        """What a command needs and has not been given is an error, not False."""
        async with new() as controller:
            for name, needs in {
                "createQueue": ["qname"],
                "deleteQueue": ["qname"],
                "setQueueAttributes": ["qname"],
                "getQueueAttributes": ["qname"],
                "changeMessageVisibility": ["qname", "id"],
                "deleteMessage": ["qname", "id"],
                "sendMessage": ["qname", "message"],
                "receiveMessage": ["qname"],
                "popMessage": ["qname"],
            }.items():
                for parameter in needs:
                    given = dict.fromkeys(needs, "x") | {parameter: None}
                    with pytest.raises(InvalidParameterValue, match=name) as caught:
                        await getattr(controller, name)(**given)
                    assert caught.value.parameter == parameter

    async def test_values(self, jobs):
        """What is wrong with a value is said when the command is run, by the exception for it."""
        for parameter, command in (
            ("qname", jobs.getQueueAttributes(qname="a:b")),
            ("vt", jobs.receiveMessage(vt=-1)),
            ("vt", jobs.createQueue(qname="other").vt(1.5)),
            ("delay", jobs.sendMessage(message="x").delay("5")),
            ("id", jobs.deleteMessage(id=b"0" * 32)),
            ("vt, delay, maxsize, max_receives, dead_letter_queue", jobs.setQueueAttributes()),
        ):
            with pytest.raises(InvalidParameterValue) as caught:
                await command
            assert caught.value.parameter == parameter

    @pytest.mark.parametrize("maxsize", [-1, 1024, 65535, 65536])
    async def test_maxsize(self, new, maxsize):
        """A maxsize is 1024 to 65536, or -1 for unlimited."""
        async with new(qname="jobs") as controller:
            await controller.createQueue(maxsize=maxsize)
            assert (await controller.getQueueAttributes())["maxsize"] == maxsize

    @pytest.mark.parametrize("maxsize", [0, 1023, 65537, 65565, "2048"])
    async def test_wrong_maxsize(self, new, maxsize):
        """No other maxsize is taken, PyRSMQ's own included."""
        async with new(qname="jobs") as controller:
            with pytest.raises(InvalidParameterValue):
                await controller.createQueue(maxsize=maxsize)


class TestBodies:
    @pytest.mark.parametrize("body", ["", "text", "0012", "Zoë 🐇", b"", b"bytes"])
    async def test_as_they_are(self, jobs, server, body):
        """Text and bytes are sent as they are, the empty ones too, and come as text."""
        id = await jobs.sendMessage(message=body)
        stored = server.redis.hget("rsmq:jobs:Q", id)
        assert stored == (body if isinstance(body, bytes) else body.encode())
        assert (await jobs.popMessage())["message"] == stored.decode()

    @pytest.mark.parametrize("body", [{"a": [1, 2.5, None]}, [], {}, 0, 7, False, ["Zoë"], (1, 2)])
    async def test_json(self, jobs, server, body):
        """Everything else is sent as the JSON that json.dumps makes of it, and is read again with
        `decode`.
        """
        id = await jobs.sendMessage().message(body)
        assert server.redis.hget("rsmq:jobs:Q", id).decode() == json.dumps(body)
        assert (await jobs.receiveMessage(vt=0))["message"] == json.dumps(body)
        assert (await jobs.popMessage().decode(True))["message"] == json.loads(json.dumps(body))

    async def test_no_json(self, jobs):
        """What is no JSON is text with `decode` too."""
        for body in ("hello", "", "{", "[" * 100_000, "1" * 5000):
            await jobs.setQueueAttributes(maxsize=-1)
            await jobs.sendMessage(message=body)
            assert (await jobs.receiveMessage(decode=True, vt=0))["message"] == body
            await jobs.popMessage()

    async def test_no_text(self, jobs):
        """Bytes that are no text come as bytes: nothing of them is lost."""
        for decode in (False, True):
            await jobs.sendMessage(message=b"\xff\x00")
            assert (await jobs.popMessage(decode=decode))["message"] == b"\xff\x00"

    async def test_encode(self, jobs):
        """`encode` leaves text alone, as in PyRSMQ."""
        await jobs.sendMessage(message="text", encode=True)
        assert (await jobs.popMessage())["message"] == "text"

    async def test_refused(self, jobs):
        """What JSON cannot say is refused, and not repeated."""
        circle = ["hunter2"]
        circle.append(circle)
        for command in (
            jobs.sendMessage(message={"hunter2"}),
            jobs.sendMessage(message=circle),
            jobs.sendMessage(message={("hunter2",): 1}),
            jobs.sendMessage(message=b"hunter2", encode=True),
        ):
            with pytest.raises(InvalidParameterValue) as caught:
                await command
            assert caught.value.parameter == "message"
            assert "hunter2" not in str(caught.value)
        assert (await jobs.getQueueAttributes())["totalsent"] == 0


class TestExceptions:
    async def test_which(self, jobs):
        """Each failure has an exception; all are RedisSMQExceptions."""
        await jobs.setQueueAttributes(maxsize=1024)
        for expected, command in (
            (QueueAlreadyExists, jobs.createQueue()),
            (QueueDoesNotExist, jobs.deleteQueue(qname="none")),
            (QueueDoesNotExist, jobs.getQueueAttributes(qname="none")),
            (QueueDoesNotExist, jobs.setQueueAttributes(qname="none", vt=1)),
            (QueueDoesNotExist, jobs.sendMessage(qname="none", message="x")),
            (QueueDoesNotExist, jobs.receiveMessage(qname="none")),
            (QueueDoesNotExist, jobs.popMessage(qname="none")),
            (QueueDoesNotExist, jobs.changeMessageVisibility(qname="none", id="0" * 32)),
            (QueueDoesNotExist, jobs.changeMessageVisibility(qname="none", id="0" * 32, vt=5)),
            (NoMessageInQueue, jobs.receiveMessage()),
            (NoMessageInQueue, jobs.popMessage()),
            (MessageTooLong, jobs.sendMessage(message="x" * 1025)),
            (InvalidParameterValue, jobs.receiveMessage(vt=-1)),
        ):
            assert issubclass(expected, RedisSMQException)
            with pytest.raises(expected):
                await command
            assert await command.exceptions(False) is False

    async def test_switches(self, new):
        """A command raises or returns False as it is told; if it is not, as its controller is at
        that moment.
        """
        async with new(qname="none", exceptions=False, quiet=True) as controller:
            command = controller.receiveMessage()
            assert await command is False
            with pytest.raises(QueueDoesNotExist):
                await controller.receiveMessage().exceptions()
            assert controller.exceptions() is controller
            with pytest.raises(QueueDoesNotExist):
                await command
            assert await controller.receiveMessage().exceptions(False) is False
            assert await controller.exceptions(False).receiveMessage() is False

    async def test_log(self, jobs, caplog):
        """A failure that is not raised is logged, without the body; unless the command is quiet."""
        await jobs.setQueueAttributes(maxsize=1024)
        too_long = jobs.sendMessage(message="hunter2" * 1000).exceptions(False)
        assert await too_long is False
        assert await jobs.createQueue(quiet=True).exceptions(False) is False
        (record,) = [record for record in caplog.records if record.name == "aiorsmq.pyrsmq"]
        assert record.levelname == "WARNING"
        assert record.getMessage() == (
            "sendMessage failed: MessageTooLong: message too long for queue 'jobs': "
            "7000 bytes, maxsize is 1024; Queue.set_attributes() can raise it"
        )

    async def test_no_server(self, server):
        """A server that cannot be reached raises redis-py's error, exceptions or not, as in
        PyRSMQ.
        """
        async with RedisSMQ(
            options={"unix_socket_path": f"{server.folder}/none"}, exceptions=False
        ) as controller:
            with pytest.raises(redis.ConnectionError):
                await controller.listQueues()

    def test_wrong_loop(self, running_server):
        """A controller that was left open in another event loop raises, with exceptions off too:
        the program is wrong.
        """
        controller = RedisSMQ(options={"unix_socket_path": running_server.socket}, exceptions=False)

        with asyncio.Runner() as first:
            assert first.run(controller.listQueues().exec()) is not False
            for use in (controller.listQueues().exec, controller.quit):
                with pytest.raises(WrongEventLoop):
                    asyncio.run(use())
            first.run(controller.quit())


class TestConnection:
    @pytest.mark.parametrize("decode_responses", [True, False])
    async def test_client(self, server, decode_responses):
        """A client of redis-py's may be given, whatever it decodes; it stays its owner's to
        close.
        """
        client = redis.asyncio.Redis(
            unix_socket_path=server.socket, decode_responses=decode_responses
        )
        async with RedisSMQ(client, qname="jobs") as controller:
            await controller.createQueue()
            await controller.sendMessage(message="hello")
            assert (await controller.receiveMessage())["message"] == "hello"
            assert await controller.listQueues() == {"jobs"}
        assert await client.ping()
        await client.aclose()

    async def test_synchronous_client(self, jobs):
        """A synchronous client is refused where it is given, and the error says what to give
        instead.
        """
        for give in (RedisSMQ, jobs.setClient):
            with (
                redis.Redis(password="hunter2") as client,
                pytest.raises(InvalidParameterValue) as caught,
            ):
                give(client=client)
            assert "must be a redis.asyncio.Redis" in str(caught.value)
            assert "hunter2" not in str(caught.value)
        assert await jobs.listQueues() == {"jobs"}

    async def test_options(self, server):
        """PyRSMQ's own options for redis-py are taken, and win over `host` and `port`; they are not
        written to.
        """
        assert "two:1" in repr(RedisSMQ(host="one", port=1, options={"host": "two"}).native)
        options = {"encoding": "utf-8", "decode_responses": True, "unix_socket_path": server.socket}
        before = dict(options)
        async with RedisSMQ(host="nowhere.invalid", port="6379", options=options) as controller:
            assert await controller.createQueue(qname="jobs", quiet=True) is True
        assert options == before

    async def test_quit(self, jobs, server):
        """quit() disconnects; a command that is run afterwards, even one made before, connects
        again.
        """
        command = jobs.listQueues()
        assert server.clients() == 1
        assert await jobs.quit() is None
        await wait_until(lambda: server.clients() == 0)
        await jobs.quit()
        assert await command == {"jobs"}
        assert server.clients() == 1

    async def test_quit_of_a_client(self, server):
        """After quit(), a controller with a client of redis-py's goes on with that, and not with
        some default.
        """
        client = redis.asyncio.Redis(unix_socket_path=server.socket)
        controller = RedisSMQ(client, port=1)
        for _ in range(2):
            assert await controller.listQueues() == set()
            await controller.quit()
        await client.aclose()

    async def test_set_client(self, server, own_server):
        """setClient() sends all commands elsewhere, those made before too; the old connection is
        closed.
        """
        clients = [redis.asyncio.Redis(unix_socket_path=at.socket) for at in (server, own_server())]
        controller = RedisSMQ(clients[0], qname="jobs")
        command = controller.listQueues()
        await controller.createQueue()
        assert controller.setClient(clients[1]) is controller
        assert await command == set()
        await wait_until(lambda: server.clients() == 0)
        await controller.setClient(clients[0]).quit()
        assert await command == {"jobs"}
        await controller.quit()
        for client in clients:
            await client.aclose()

    async def test_namespace(self, jobs, server):
        """ns() moves all commands to another namespace, those made before too."""
        command = jobs.createQueue()
        assert jobs.ns("other") is jobs
        assert await command is True
        assert server.redis.exists("rsmq:jobs:Q", "other:jobs:Q") == 2
        assert server.clients() == 1
        with pytest.raises(InvalidParameterValue, match="ns"):
            jobs.ns("")
        assert await jobs.listQueues() == {"jobs"}

    @pytest.mark.parametrize(("realtime", "announced"), [(True, [b"1", b"2"]), (False, [])])
    async def test_realtime(self, new, server, realtime, announced):
        """With realtime=True what is sent is announced, as Node does; without, as is the default,
        it is not.
        """
        with redis.Redis(unix_socket_path=server.socket) as other, other.pubsub() as listening:
            listening.subscribe("rsmq:rt:jobs")
            assert listening.get_message(timeout=PATIENCE)["type"] == "subscribe"
            async with new(qname="jobs", realtime=realtime) as controller:
                await controller.createQueue()
                for body in ("one", "two"):
                    await controller.sendMessage(message=body)
            other.publish("rsmq:rt:jobs", "the end")
            heard = iter(lambda: listening.get_message(timeout=PATIENCE)["data"], b"the end")
            assert list(heard) == announced
        await wait_until(lambda: server.redis.pubsub_channels() == [])

    async def test_native(self, jobs, server):
        """`native` is the AsyncRSMQ on the same connection; connect() makes another, which is its
        caller's to close.
        """
        assert await jobs.native.queue("jobs").send("hello")
        assert server.clients() == 1
        async with jobs.connect() as own:
            assert isinstance(own, AsyncRSMQ)
            assert (await own.queue("jobs").receive()).body == "hello"
            assert server.clients() == 2
