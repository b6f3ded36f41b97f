"""RSMQ as Node rsmq 0.12.4 speaks it, point by point: each docstring is a sentence of the
specification.
"""

import asyncio
import re
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
import redis
from aiorsmq import BYTES, JSON, AsyncRSMQ, MessageTooLong, QueueAlreadyExists, QueueDoesNotExist

from support import PATIENCE, fields_of, ids_in, keyspace, now_ms, wait_until

DIGITS = re.compile(rb"[0-9]+")
ID = re.compile(r"[0-9a-z]{10}[A-Za-z0-9]{22}")


def score(server, id, qname="jobs"):
    """The score as the server says it."""
    return server.redis.eval(
        "return redis.call('ZSCORE', KEYS[1], ARGV[1])", 1, f"rsmq:{qname}", id
    )


@contextmanager
def announcements(server, qname="jobs"):
    """Yields a function that returns the payloads announced so far."""
    channel = f"rsmq:rt:{qname}"
    with (
        redis.Redis(unix_socket_path=server.socket, protocol=2) as client,
        client.pubsub() as pubsub,
    ):
        pubsub.subscribe(channel)
        assert pubsub.get_message(timeout=PATIENCE)["type"] == "subscribe"

        def heard():
            server.redis.publish(channel, "that was all")
            payloads = []
            while (payload := pubsub.get_message(timeout=PATIENCE)["data"]) != b"that was all":
                payloads.append(payload)
            return payloads

        yield heard


class TestConformance:
    # The keys

    async def test_keys_of_a_new_queue(self, server, rsmq):
        """A new queue is a name in the set {ns}:QUEUES and a hash {ns}:{q}:Q of five fields, and
        nothing else.
        """
        before = server.redis.time()[0]
        await rsmq.create_queue(qname="jobs", vt=20, delay=3, maxsize=2048)
        after = server.redis.time()[0]
        assert set(server.redis.keys("*")) == {b"rsmq:QUEUES", b"rsmq:jobs:Q"}
        assert server.redis.type("rsmq:QUEUES") == b"set"
        assert server.redis.smembers("rsmq:QUEUES") == {b"jobs"}
        hash = fields_of(server)
        created = hash.pop(b"created")
        assert before <= int(created) <= after
        assert hash == {b"vt": b"20", b"delay": b"3", b"maxsize": b"2048", b"modified": created}

    async def test_defaults(self, server, rsmq):
        """By default vt is 30, delay 0 and maxsize 65536."""
        await rsmq.create_queue(qname="jobs")
        hash = fields_of(server)
        assert (hash[b"vt"], hash[b"delay"], hash[b"maxsize"]) == (b"30", b"0", b"65536")

    async def test_keys_of_a_sent_message(self, server, queue):
        """A sent message is its id in the sorted set {ns}:{q}, at the ms of its sending, and its
        body under its id.
        """
        before = now_ms(server)
        id = await queue.send("hello")
        after = now_ms(server)
        assert server.redis.type("rsmq:jobs") == b"zset"
        assert ids_in(server) == [id]
        assert DIGITS.fullmatch(score(server, id))
        assert before <= int(score(server, id)) <= after
        new = set(fields_of(server)) - {b"vt", b"delay", b"maxsize", b"created", b"modified"}
        assert {field: fields_of(server)[field] for field in new} == {
            id.encode(): b"hello",
            b"totalsent": b"1",
        }

    async def test_keys_of_a_received_message(self, server, queue):
        """A receipt moves the score to the end of the lease, sets {id}:rc and {id}:fr (ms), and
        counts in totalrecv.
        """
        id = (await queue.send("hello")).encode()
        before = now_ms(server)
        await queue.receive(vt=20)
        after = now_ms(server)
        hash = fields_of(server)
        assert set(hash) == {
            *(b"vt", b"delay", b"maxsize", b"created", b"modified", b"totalsent", b"totalrecv"),
            *(id, id + b":rc", id + b":fr"),
        }
        assert (hash[id], hash[id + b":rc"], hash[b"totalrecv"]) == (b"hello", b"1", b"1")
        assert DIGITS.fullmatch(hash[id + b":fr"])
        assert before <= int(hash[id + b":fr"]) <= after
        assert int(score(server, id)) == int(hash[id + b":fr"]) + 20_000

    async def test_keys_of_a_second_receipt(self, server, queue):
        """Each further receipt adds one to {id}:rc and leaves {id}:fr as it is."""
        id = (await queue.send("hello")).encode()
        await queue.receive(vt=0)
        first = fields_of(server)
        await wait_until(lambda: now_ms(server) > int(first[id + b":fr"]))
        for count in (b"2", b"3"):
            await queue.receive(vt=0)
            assert fields_of(server)[id + b":rc"] == count
            assert fields_of(server)[id + b":fr"] == first[id + b":fr"]

    @pytest.mark.parametrize("how", ["delete", "delete_message", "delete_many", "pop", "purge"])
    async def test_keys_of_a_deleted_message(self, server, queue, how):
        """Nothing of a message stays when it is deleted, popped or purged: no member, no field."""
        id = await queue.send("hello")
        message = await queue.receive(vt=0)
        await {
            "delete": message.delete,
            "delete_message": lambda: queue.delete_message(id),
            "delete_many": lambda: queue.delete_many([id]),
            "pop": queue.pop,
            "purge": queue.purge,
        }[how]()
        assert not server.redis.exists("rsmq:jobs")
        left = {b"vt", b"delay", b"maxsize", b"created", b"modified", b"totalsent", b"totalrecv"}
        assert set(fields_of(server)) == left

    async def test_keys_of_a_deleted_queue(self, server, queue):
        """Nothing of a queue stays when it is deleted."""
        await queue.send_many(["a", "b"])
        await queue.receive()
        assert await queue.delete() is True
        assert server.redis.keys("*") == []

    async def test_namespace(self, server):
        """All keys begin with the namespace, and one namespace sees nothing of another."""
        async with (
            AsyncRSMQ.from_url(server.url, ns="other") as other,
            AsyncRSMQ.from_url(server.url) as rsmq,
        ):
            await other.create_queue(qname="jobs")
            await other.send_message(qname="jobs", message="x")
            assert set(server.redis.keys("*")) == {b"other:QUEUES", b"other:jobs:Q", b"other:jobs"}
            assert await other.list_queues() == {"jobs"}
            assert await rsmq.list_queues() == set()
            with pytest.raises(QueueDoesNotExist):
                await rsmq.receive_message(qname="jobs")

    # The ids

    async def test_id(self, server, queue):
        """An id is 32 characters: the server's time in µs in base 36, which makes 10, and 22 at
        random.
        """
        before = server.redis.time()
        id = await queue.send("x")
        after = server.redis.time()
        assert ID.fullmatch(id)
        seconds = int(id[:10], 36) / 1e6
        assert before[0] + before[1] / 1e6 - 0.1 < seconds < after[0] + after[1] / 1e6 + 0.1

    async def test_ids_of_a_batch(self, server, queue):
        """The ids of a batch ascend in its order, and so do those of the batches and messages that
        follow.
        """
        ids = await queue.send_many(["x"] * 100)
        ids.append(await queue.send("x"))
        ids += await queue.send_many(["x"] * 100)
        ids += await asyncio.gather(*(queue.send("x") for _ in range(100)))
        assert all(ID.fullmatch(id) for id in ids)
        assert all(earlier < later for earlier, later in pairwise(ids))
        assert ids_in(server) == ids

    async def test_ids_of_all_queues(self, rsmq):
        """The ids of one client ascend across its queues."""
        queues = [rsmq.queue(name) for name in ("a", "b")]
        for queue in queues:
            await queue.create()
        ids = [await queues[n % 2].send("x") for n in range(20)]
        assert ids == sorted(set(ids))

    # Queues

    async def test_create(self, server, rsmq):
        """create_queue returns True; for a queue that exists it raises QueueAlreadyExists and
        changes nothing.
        """
        assert await rsmq.create_queue(qname="jobs", vt=20) is True
        before = keyspace(server)
        with pytest.raises(QueueAlreadyExists) as caught:
            await rsmq.create_queue(qname="jobs", vt=40)
        assert caught.value.qname == "jobs"
        assert keyspace(server) == before

    async def test_exist_ok(self, server, rsmq):
        """With exist_ok create_queue returns False for a queue that exists, and changes nothing."""
        assert await rsmq.create_queue(qname="jobs", vt=20, exist_ok=True) is True
        before = keyspace(server)
        assert await rsmq.create_queue(qname="jobs", vt=40, exist_ok=True) is False
        assert keyspace(server) == before

    @pytest.mark.parametrize(
        ("given", "stored"),
        [
            ({"vt": 0, "delay": 0, "maxsize": 1024}, (b"0", b"0", b"1024")),
            (
                {"vt": 9_999_999, "delay": 9_999_999, "maxsize": 65536},
                (b"9999999", b"9999999", b"65536"),
            ),
            ({"vt": 30.0, "delay": 5.0, "maxsize": -1}, (b"30", b"5", b"-1")),
            ({"vt": timedelta(minutes=2), "delay": timedelta(seconds=1)}, (b"120", b"1", b"65536")),
        ],
    )
    async def test_limits(self, server, queue, rsmq, given, stored):
        """vt and delay may be 0 to 9999999 whole seconds, maxsize 1024 to 65536 bytes or -1, all
        stored as integers.
        """
        await rsmq.create_queue(qname="new", **given)
        attributes = await queue.set_attributes(**given)
        for hash in (fields_of(server, "new"), fields_of(server, "jobs")):
            assert (hash[b"vt"], hash[b"delay"], hash[b"maxsize"]) == stored
        assert (attributes.vt, attributes.delay, attributes.maxsize) == tuple(map(int, stored))

    @pytest.mark.parametrize("qname", ["q", "A-Z_a-z_0-9", "x" * 160, "queues", "-", "_"])
    async def test_names(self, server, rsmq, qname):
        """A queue's name is 1 to 160 letters, digits, hyphens and underscores."""
        await rsmq.create_queue(qname=qname)
        assert await rsmq.list_queues() == {qname}
        assert server.redis.exists(f"rsmq:{qname}:Q")

    async def test_list(self, rsmq):
        """list_queues returns the names of all queues."""
        assert await rsmq.list_queues() == set()
        for name in ("a", "b", "c"):
            await rsmq.create_queue(qname=name)
        await rsmq.delete_queue(qname="b")
        assert await rsmq.list_queues() == {"a", "c"}

    async def test_delete_queue(self, server, rsmq):
        """delete_queue returns True; for a queue that does not exist it raises
        QueueDoesNotExist.
        """
        await rsmq.create_queue(qname="jobs")
        assert await rsmq.delete_queue(qname="jobs") is True
        with pytest.raises(QueueDoesNotExist) as caught:
            await rsmq.delete_queue(qname="jobs")
        assert caught.value.qname == "jobs"

    async def test_missing_ok(self, rsmq):
        """With missing_ok delete_queue returns False for a queue that does not exist."""
        await rsmq.create_queue(qname="jobs")
        assert await rsmq.delete_queue(qname="jobs", missing_ok=True) is True
        assert await rsmq.delete_queue(qname="jobs", missing_ok=True) is False

    async def test_attributes(self, server, rsmq):
        """The attributes are the settings, the totals, the times in UTC, the number of messages,
        and of hidden ones.
        """
        await rsmq.create_queue(qname="jobs", vt=20, delay=0, maxsize=2048)
        queue = rsmq.queue("jobs")
        await queue.send_many(["a", "b", "c"])
        await queue.send("hidden", delay=100)
        await queue.receive()
        await queue.pop()
        attributes = await queue.attributes()
        assert (attributes.vt, attributes.delay, attributes.maxsize) == (20, 0, 2048)
        assert (attributes.totalsent, attributes.totalrecv) == (4, 2)
        assert (attributes.msgs, attributes.hiddenmsgs) == (3, 2)
        assert attributes.created == attributes.modified
        assert attributes.created == datetime.fromtimestamp(int(fields_of(server)[b"created"]), UTC)
        assert attributes.created.tzinfo is UTC
        assert await rsmq.get_queue_attributes(qname="jobs") == attributes

    async def test_hiddenmsgs(self, server, queue):
        """hiddenmsgs counts a message to the millisecond: hidden until its score, visible from then
        on.
        """
        id = await queue.send("x", delay=100)
        assert (await queue.attributes()).hiddenmsgs == 1
        due = now_ms(server) + 50
        server.redis.zadd("rsmq:jobs", {id: due})

        async def visible():
            before = now_ms(server)
            hidden = (await queue.attributes()).hiddenmsgs
            assert hidden == 1 or now_ms(server) >= due
            assert hidden == 0 or before < due
            return hidden == 0

        await wait_until(visible)

    async def test_totals(self, queue):
        """The totals count every send and every receipt, also the second of one message; deleting
        takes none away.
        """
        await queue.send("x")
        for _ in range(3):
            await queue.receive(vt=0)
        assert await queue.purge() == 1
        attributes = await queue.attributes()
        assert (attributes.totalsent, attributes.totalrecv, attributes.msgs) == (1, 3, 0)

    @pytest.mark.parametrize(("name", "value"), [("vt", 99), ("delay", 7), ("maxsize", 1024)])
    async def test_set_attributes(self, server, queue, name, value):
        """set_queue_attributes changes what it is given and `modified`, and returns all
        attributes.
        """
        server.redis.hset("rsmq:jobs:Q", mapping={"created": 1, "modified": 1})
        before, seconds = fields_of(server), server.redis.time()[0]
        attributes = await queue.set_attributes(**{name: value})
        after = fields_of(server)
        assert seconds <= int(after[b"modified"]) <= server.redis.time()[0]
        assert after == before | {
            name.encode(): str(value).encode(),
            b"modified": after[b"modified"],
        }
        assert attributes == await queue.attributes()
        assert getattr(attributes, name) == value

    async def test_changed_attributes_apply(self, queue):
        """Changed attributes hold for what is sent and received from then on."""
        await queue.set_attributes(vt=0, delay=0, maxsize=1024)
        with pytest.raises(MessageTooLong):
            await queue.send("x" * 1025)
        await queue.send("x")
        assert [(await queue.receive()).receive_count for _ in range(3)] == [1, 2, 3]
        await queue.set_attributes(vt=100, delay=100)
        await queue.receive()
        assert await queue.receive() is None
        await queue.send("delayed")
        assert (await queue.attributes()).hiddenmsgs == 2

    # Sending

    @pytest.mark.parametrize(
        "body",
        [
            "",
            "plain",
            "žluťoučký 🐎",
            'quotes " and \\ and \r\n',
            "nul \0 inside",
            "x" * 65536,
            "0",
            " ",
        ],
        ids=["empty", "ascii", "unicode", "escapes", "nul", "long", "number", "blank"],
    )
    async def test_text(self, server, queue, body):
        """A body that is a str is stored as UTF-8 and comes back as it was."""
        id = await queue.send(body)
        assert fields_of(server)[id.encode()] == body.encode()
        message = await queue.receive()
        assert (message.body, message.raw) == (body, body.encode())

    async def test_binary(self, server, rsmq, queue):
        """A body of bytes is stored as it is; BYTES hands it out, and `raw` has it whatever the
        codec.
        """
        body = bytes(range(256)) + b"\r\n$-1\r\n"
        ids = [await queue.send(body), await rsmq.queue("jobs", codec=BYTES).send(body)]
        assert [fields_of(server)[id.encode()] for id in ids] == [body, body]
        as_text = await queue.receive()
        as_bytes = await rsmq.queue("jobs", codec=BYTES).receive()
        assert (as_text.raw, as_bytes.raw, as_bytes.body) == (body, body, body)
        assert as_text.body == body.decode(errors="replace")

    @pytest.mark.parametrize(
        "body", [{"a": [1, 2.5, None, True], "ž": "🐎"}, [], "text", 0, None, False]
    )
    async def test_json(self, server, rsmq, queue, body):
        """With JSON a body is what JSON can say, stored as compact JSON text, and comes back as it
        was.
        """
        jobs = rsmq.queue("jobs", codec=JSON)
        id = await jobs.send(body)
        message = await jobs.receive()
        assert message.body == body
        assert type(message.body) is type(body)
        assert message.raw == fields_of(server)[id.encode()]
        assert b": " not in message.raw
        assert b", " not in message.raw

    async def test_size_is_in_bytes(self, server, rsmq):
        """A message's size is its length in bytes; at maxsize it is taken, over it it is refused
        and not stored.
        """
        await rsmq.create_queue(qname="jobs", maxsize=1024)
        queue = rsmq.queue("jobs")
        await queue.send("é" * 512)
        before = keyspace(server)
        with pytest.raises(MessageTooLong) as caught:
            await queue.send("é" * 512 + "x")
        assert (caught.value.qname, caught.value.size, caught.value.maxsize) == ("jobs", 1025, 1024)
        assert keyspace(server) == before

    async def test_unlimited_size(self, rsmq):
        """With maxsize -1 a message may be of any size."""
        await rsmq.create_queue(qname="jobs", maxsize=-1)
        queue = rsmq.queue("jobs")
        await queue.send("x" * 3_000_000)
        assert len((await queue.receive()).body) == 3_000_000

    @pytest.mark.parametrize(
        "delay", [0.05, timedelta(milliseconds=50)], ids=["float", "timedelta"]
    )
    async def test_delay(self, server, queue, delay):
        """A message sent with a delay is hidden for that time, to the millisecond."""
        before = now_ms(server)
        id = await queue.send("later", delay=delay)
        after = now_ms(server)
        due = int(score(server, id))
        assert before + 50 <= due <= after + 50
        message = await queue.receive(wait=10)
        assert now_ms(server) >= due
        assert (message.body, message.receive_count) == ("later", 1)

    async def test_queue_delay(self, server, rsmq):
        """The queue's delay holds for a message that is sent without one; a delay of 0 overrides
        it.
        """
        await rsmq.create_queue(qname="jobs", delay=100)
        queue = rsmq.queue("jobs")
        before = now_ms(server)
        usual, own = await queue.send("usual"), await queue.send("own", delay=0)
        many = await queue.send_many(["a", "b"])
        after = now_ms(server)
        for id in (usual, *many):
            assert before + 100_000 <= int(score(server, id)) <= after + 100_000
        assert before <= int(score(server, own)) <= after
        assert (await queue.receive()).id == own
        assert await queue.receive() is None

    async def test_send_many(self, server, queue):
        """send_many stores messages in their order, in one script call, visible at the same
        moment.
        """
        await queue.attributes()
        server.reset_stats()
        bodies = [str(n) for n in range(1500)]
        ids = await queue.send_many(bodies)
        assert server.script_calls() == 1
        assert ids_in(server) == ids
        assert (
            len(
                {
                    int(score)
                    for _, score in server.redis.zrange("rsmq:jobs", 0, -1, withscores=True)
                }
            )
            == 1
        )
        assert server.redis.hmget("rsmq:jobs:Q", ids) == [body.encode() for body in bodies]
        assert fields_of(server)[b"totalsent"] == b"1500"

    async def test_send_many_delayed(self, server, queue):
        """The delay of send_many holds for each of its messages."""
        ids = await queue.send_many(["a", "b"], delay=100)
        assert await queue.receive() is None
        assert int(score(server, ids[0])) == int(score(server, ids[1])) > now_ms(server) + 90_000

    async def test_send_many_of_none(self, server, queue):
        """send_many of no messages sends none."""
        before = keyspace(server)
        assert await queue.send_many([]) == []
        assert keyspace(server) == before

    @pytest.mark.parametrize("position", [0, 1, 2])
    async def test_send_many_is_atomic(self, server, queue, position):
        """send_many with one message that is too long stores none."""
        await queue.set_attributes(maxsize=1024)
        bodies = ["x", "x", "x"]
        bodies[position] = "x" * 1025
        before = keyspace(server)
        with announcements(server) as heard:
            with pytest.raises(MessageTooLong) as caught:
                await queue.send_many(bodies)
            assert heard() == []
        assert (caught.value.qname, caught.value.size, caught.value.maxsize) == ("jobs", 1025, 1024)
        assert keyspace(server) == before

    async def test_each_of_several_sends(self, queue):
        """Of sends made at the same time, one that is too long fails alone."""
        await queue.set_attributes(maxsize=1024)
        sends = [queue.send(body) for body in ("a", "x" * 1025, "b")]
        first, second, third = await asyncio.gather(*sends, return_exceptions=True)
        assert isinstance(second, MessageTooLong)
        assert [message.id for message in await queue.peek()] == [first, third]

    # Receiving

    async def test_receive(self, server, queue):
        """receive_message hands out a message with its id, body, count and times, and hides it for
        the queue's vt.
        """
        id = await queue.send("hello")
        before = now_ms(server)
        message = await queue.receive()
        after = now_ms(server)
        assert (message.id, message.body, message.receive_count, message.queue) == (
            id,
            "hello",
            1,
            "jobs",
        )
        assert message.sent_at.timestamp() == pytest.approx(int(id[:10], 36) / 1e6, abs=1e-5)
        assert before <= round(message.first_received_at.timestamp() * 1000) <= after
        assert round(message.visible_until.timestamp() * 1000) == int(score(server, id))
        assert message.visible_until - message.first_received_at == timedelta(seconds=30)
        assert {
            message.sent_at.tzinfo,
            message.first_received_at.tzinfo,
            message.visible_until.tzinfo,
        } == {UTC}
        assert await queue.receive() is None

    async def test_nothing_to_receive(self, queue):
        """An empty queue gives None at once, or an empty list."""
        assert await queue.receive() is None
        assert await queue.pop() is None
        assert await queue.receive_many(10) == []
        assert await queue.peek() == []
        assert await queue.purge() == 0

    @pytest.mark.parametrize("vt", [20, 1.234, 0, timedelta(seconds=2.5)])
    async def test_lease(self, server, queue, vt):
        """The vt of a receive holds instead of the queue's, to the millisecond."""
        id = await queue.send("x")
        message = await queue.receive(vt=vt)
        received = int(fields_of(server)[f"{id}:fr".encode()])
        seconds = vt.total_seconds() if isinstance(vt, timedelta) else vt
        assert int(score(server, id)) - received == round(seconds * 1000)
        assert message.visible_until - message.first_received_at == timedelta(seconds=seconds)

    async def test_redelivery(self, server, queue):
        """A message whose lease has ended is handed out again, with the next receive count."""
        await queue.send("x")
        first = await queue.receive()
        assert await queue.receive() is None
        due = now_ms(server) + 50
        server.redis.zadd("rsmq:jobs", {first.id: due})
        second = await queue.receive(wait=10)
        assert now_ms(server) >= due
        assert (first.id, first.receive_count) == (second.id, 1)
        assert second.receive_count == 2
        assert second.first_received_at == first.first_received_at
        assert second.visible_until > first.visible_until

    async def test_order(self, server, queue):
        """Visible messages are handed out by the moment at which they became visible, and at the
        same moment by id.
        """
        delayed = await queue.send("delayed", delay=100)
        batch = await queue.send_many(["a", "b", "c"])
        sooner = await queue.send("sooner", delay=100)
        now = now_ms(server)
        server.redis.zadd("rsmq:jobs", {delayed: now + 50, sooner: now + 20})

        async def all_visible():
            return (await queue.attributes()).hiddenmsgs == 0

        await wait_until(all_visible)
        messages = [await queue.receive() for _ in range(5)]
        assert [message.id for message in messages] == [*batch, sooner, delayed]

    async def test_redelivered_after_those_sent_meanwhile(self, server, queue):
        """A message whose lease has ended comes after those that became visible before that."""
        first = await queue.send("first")
        await queue.receive()
        second = await queue.send("second")
        server.redis.zadd("rsmq:jobs", {first: now_ms(server) + 20})

        async def all_visible():
            return (await queue.attributes()).hiddenmsgs == 0

        await wait_until(all_visible)
        assert [message.id for message in await queue.receive_many(2)] == [second, first]

    async def test_receive_many(self, server, queue):
        """receive_many hands out as many as there are, up to its limit, in order, and hides
        each.
        """
        ids = await queue.send_many([str(n) for n in range(150)])
        messages = await queue.receive_many(100, vt=50)
        assert [message.id for message in messages] == ids[:100]
        assert [message.body for message in messages] == [str(n) for n in range(100)]
        assert {message.receive_count for message in messages} == {1}
        attributes = await queue.attributes()
        assert (attributes.hiddenmsgs, attributes.totalrecv) == (100, 100)
        assert [message.id for message in await queue.receive_many(100)] == ids[100:]
        assert await queue.receive_many(100) == []

    async def test_each_message_to_one(self, queue):
        """Of receives made at the same time, each gets a message of its own."""
        ids = await queue.send_many(["x"] * 20)
        messages = await asyncio.gather(*(queue.receive() for _ in range(25)))
        assert sorted(message.id for message in messages if message) == ids
        assert messages.count(None) == 5

    async def test_pop(self, server, queue):
        """pop_message hands a message out and deletes it in one step: it is never handed out
        again.
        """
        id = await queue.send("x")
        before = now_ms(server)
        message = await queue.pop()
        assert (message.id, message.body, message.receive_count) == (id, "x", 1)
        assert before <= round(message.first_received_at.timestamp() * 1000) <= now_ms(server)
        assert (await queue.attributes()).msgs == 0
        assert await queue.pop() is None
        assert [await message.delete(), await message.extend(5), await message.release()] == [
            False,
            False,
            False,
        ]

    async def test_pop_counts(self, queue):
        """A pop is a receipt: it counts, also after others."""
        await queue.send("x")
        first = await queue.receive(vt=0)
        message = await queue.pop()
        assert (message.receive_count, message.first_received_at) == (2, first.first_received_at)
        assert (await queue.attributes()).totalrecv == 2

    async def test_pop_at_most_once(self, server, queue):
        """Of pops made at the same time, by several clients, no two get the same message."""
        ids = await queue.send_many(["x"] * 20)
        async with AsyncRSMQ.from_url(server.url) as one, AsyncRSMQ.from_url(server.url) as another:
            pops = [client.pop_message(qname="jobs") for _ in range(5) for client in (one, another)]
            messages = await asyncio.gather(*pops, *(queue.pop() for _ in range(15)))
        assert sorted(message.id for message in messages if message) == ids
        assert (await queue.attributes()).msgs == 0

    async def test_pop_leaves_hidden_ones(self, queue):
        """A pop takes no message that is hidden."""
        await queue.send("delayed", delay=100)
        await queue.send("received")
        await queue.receive()
        assert await queue.pop() is None
        assert (await queue.attributes()).msgs == 2

    async def test_stream(self, queue):
        """A stream hands out message after message, each hidden for its lease."""
        ids = await queue.send_many(["a", "b", "c"])
        stream = queue.messages(vt=50)
        messages = [await anext(stream) for _ in ids]
        assert [message.id for message in messages] == ids
        assert {message.visible_until - message.first_received_at for message in messages} == {
            timedelta(seconds=50)
        }
        assert (await queue.attributes()).hiddenmsgs == 3

    async def test_popping_stream(self, queue):
        """A popping stream deletes each message as it hands it out."""
        ids = await queue.send_many(["a", "b", "c"])
        async for message in queue.messages(pop=True):
            assert message.id == ids.pop(0)
            assert (await queue.attributes()).msgs == len(ids)
            if not ids:
                break

    async def test_peek(self, server, queue):
        """peek shows messages in the order in which they become visible, hidden ones too, and
        claims nothing.
        """
        late = await queue.send("late", delay=100)
        ids = await queue.send_many(["a", "b", "c"])
        received = await queue.receive(vt=50)
        before = keyspace(server)
        messages = await queue.peek()
        assert [message.id for message in messages] == [*ids[1:], received.id, late]
        assert [message.receive_count for message in messages] == [0, 0, 1, 0]
        assert [message.first_received_at for message in messages] == [
            None,
            None,
            received.first_received_at,
            None,
        ]
        assert messages[2].visible_until == received.visible_until
        assert [message.body for message in await queue.peek(limit=2)] == ["b", "c"]
        assert keyspace(server) == before

    async def test_peeked_message(self, queue):
        """A message that was peeked at can be settled, until somebody receives it."""
        await queue.send_many(["deleted", "received"])
        deleted, received = await queue.peek()
        assert await deleted.delete() is True
        holder = await queue.receive()
        assert [await received.delete(), await received.extend(5), await received.release()] == [
            False,
            False,
            False,
        ]
        assert await holder.delete() is True

    # Settling

    async def test_delete_message(self, server, queue):
        """delete_message returns True, and False for an id that is not there; it fences nothing."""
        id, other = await queue.send_many(["x", "y"])
        await queue.receive()
        assert await queue.delete_message(id) is True
        assert await queue.delete_message(id) is False
        assert ids_in(server) == [other]

    async def test_delete_many(self, queue):
        """delete_many returns for each id, in order, whether it was deleted."""
        ids = await queue.send_many(["x"] * 200)
        unknown = "0" * 32
        assert await queue.delete_many([ids[0], unknown, ids[1], ids[0]]) == [
            True,
            False,
            True,
            False,
        ]
        assert await queue.delete_many(ids) == [False, False] + [True] * 198
        assert await queue.delete_many([]) == []
        assert (await queue.attributes()).msgs == 0

    @pytest.mark.parametrize("vt", [100, 0.5, timedelta(hours=1), 0])
    async def test_change_visibility(self, server, queue, vt):
        """change_message_visibility hides a message for vt from now on, whoever received it; it is
        no receipt.
        """
        id = await queue.send("x")
        await queue.receive(vt=50)
        hash = fields_of(server)
        before = now_ms(server)
        assert await queue.change_visibility(id, vt) is True
        after = now_ms(server)
        ms = vt.total_seconds() * 1000 if isinstance(vt, timedelta) else vt * 1000
        assert before + ms <= int(score(server, id)) <= after + ms
        assert fields_of(server) == hash

    async def test_change_visibility_of_nothing(self, server, queue):
        """change_message_visibility returns False for an id that is not there, and makes no message
        of it.
        """
        await queue.send("x")
        before = keyspace(server)
        assert await queue.change_visibility("0" * 32, 10) is False
        assert keyspace(server) == before

    async def test_purge(self, server, queue):
        """purge deletes all messages, hidden ones too, returns how many, and leaves the queue as it
        is otherwise.
        """
        await queue.send_many(["x"] * 1000)
        await queue.send("x", delay=100)
        await queue.receive_many(10)
        attributes = await queue.attributes()
        assert await queue.purge() == 1001
        assert not server.redis.exists("rsmq:jobs")
        after = await queue.attributes()
        assert (after.msgs, after.hiddenmsgs) == (0, 0)
        assert (
            (after.totalsent, after.totalrecv)
            == (attributes.totalsent, attributes.totalrecv)
            == (1001, 10)
        )

    async def test_message_delete(self, queue):
        """A receiver deletes its message once, also after its lease while nobody else has received
        it.
        """
        await queue.send_many(["a", "b"])
        held, expired = await queue.receive(), await queue.receive(vt=0)
        assert [await held.delete(), await held.delete()] == [True, False]
        assert await expired.delete() is True

    async def test_message_extend(self, server, queue):
        """A receiver extends its lease from now on."""
        id = await queue.send("x")
        message = await queue.receive(vt=1)
        before = now_ms(server)
        assert await message.extend(20.5) is True
        assert before + 20_500 <= int(score(server, id)) <= now_ms(server) + 20_500

    async def test_message_release(self, server, queue):
        """A receiver gives its message back, at once or after a delay; the receive count stays."""
        id = await queue.send("x")
        message = await queue.receive()
        assert await message.release() is True
        assert int(score(server, id)) <= now_ms(server)
        message = await queue.receive()
        assert message.receive_count == 2
        before = now_ms(server)
        assert await message.release(delay=timedelta(seconds=5)) is True
        assert before + 5_000 <= int(score(server, id)) <= now_ms(server) + 5_000

    @pytest.mark.parametrize("verb", ["delete", "extend", "release"])
    async def test_fences(self, server, queue, verb):
        """delete, extend and release of a receiver return False, and change nothing, once another
        has received it.
        """
        await queue.send("x")
        stale = await queue.receive(vt=0)
        async with AsyncRSMQ.from_url(server.url) as other:
            holder = await other.queue("jobs").receive(vt=50)
            before = keyspace(server)
            with announcements(server) as heard:
                assert (
                    await (stale.extend(5) if verb == "extend" else getattr(stale, verb)()) is False
                )
                assert heard() == []
            assert keyspace(server) == before
            assert await holder.extend(60) is True
            assert await holder.delete() is True
        assert await (stale.extend(5) if verb == "extend" else getattr(stale, verb)()) is False

    async def test_block_that_succeeds(self, server, queue):
        """`async with message` deletes it when the block ends."""
        await queue.send("x")
        async with await queue.receive() as message:
            assert message.body == "x"
            assert (await queue.attributes()).msgs == 1
        assert (await queue.attributes()).msgs == 0

    async def test_block_that_fails(self, server, queue):
        """`async with message` makes it visible again at once when the block raises, and the
        exception comes out.
        """
        await queue.send("x")
        error = ZeroDivisionError("the block's own")
        with pytest.raises(ZeroDivisionError) as caught:
            async with await queue.receive(vt=100):
                raise error
        assert caught.value is error
        message = await queue.receive()
        assert (message.body, message.receive_count) == ("x", 2)

    async def test_message_is_immutable(self, queue):
        """A message cannot be changed."""
        await queue.send("x")
        message = await queue.receive()
        for name in ("id", "body", "raw", "receive_count", "visible_until", "anything"):
            with pytest.raises(AttributeError):
                setattr(message, name, "y")

    # Announcements

    async def test_announced(self, server, queue):
        """A sent message is announced on {ns}:rt:{q} with the number of messages in the queue, as
        decimal text.
        """
        with announcements(server) as heard:
            await queue.send("a")
            await queue.send("b", delay=100)
            await queue.receive()
            await queue.send("c")
            assert heard() == [b"1", b"2", b"3"]

    async def test_batch_is_announced_once(self, server, queue):
        """Messages that are stored together are announced once."""
        await queue.send("x")
        with announcements(server) as heard:
            await queue.send_many(["x"] * 5)
            assert heard() == [b"6"]
            server.reset_stats()
            await asyncio.gather(*(queue.send("x") for _ in range(100)))
            announced = heard()
            assert len(announced) == server.script_calls()
            assert announced[-1] == b"106"

    async def test_made_visible_is_announced(self, server, queue):
        """A message that is released, or whose visibility is shortened, is announced."""
        id = await queue.send("x")
        with announcements(server) as heard:
            message = await queue.receive(vt=100)
            assert heard() == []
            await message.release()
            assert heard() == [b"1"]
            message = await queue.receive(vt=100)
            await message.release(delay=50)
            await queue.change_visibility(id, 40)
            await queue.change_visibility(id, 0)
            assert heard() == [b"1"] * 3

    async def test_what_is_not_announced(self, server, queue):
        """Receiving, extending, deleting, popping, peeking and purging announce nothing."""
        await queue.send_many(["a", "b", "c", "d"])
        with announcements(server) as heard:
            first, second, _ = await queue.receive_many(3, vt=100)
            await first.extend(200)
            await queue.change_visibility(first.id, 300)
            await first.delete()
            await queue.delete_message(second.id)
            await queue.pop()
            await queue.peek()
            await queue.attributes()
            await queue.set_attributes(vt=20)
            await queue.purge()
            assert heard() == []

    async def test_realtime_false(self, server, queue):
        """With realtime=False nothing is announced."""
        async with AsyncRSMQ.from_url(server.url, realtime=False) as silent:
            jobs = silent.queue("jobs")
            with announcements(server) as heard:
                await jobs.send("a")
                await jobs.send_many(["b", "c"])
                await (await jobs.receive()).release()
                await jobs.change_visibility((await jobs.receive()).id, 0)
                assert heard() == []
                await queue.send("d")
                assert heard() == [b"4"]

    # RSMQ's own methods

    async def test_methods(self, server):
        """AsyncRSMQ has RSMQ's methods; without a qname they mean the client's."""
        async with AsyncRSMQ.from_url(server.url, qname="jobs") as rsmq:
            assert await rsmq.create_queue(vt=20) is True
            assert await rsmq.create_queue(qname="other") is True
            assert await rsmq.list_queues() == {"jobs", "other"}
            assert (await rsmq.set_queue_attributes(delay=1)).delay == 1
            assert (await rsmq.get_queue_attributes()).vt == 20
            ids = [await rsmq.send_message(message=body, delay=0) for body in ("a", "b", "c")]
            message = await rsmq.receive_message(vt=10)
            assert (message.id, message.body, message.queue) == (ids[0], "a", "jobs")
            assert await rsmq.change_message_visibility(id=message.id, vt=100) is True
            assert await rsmq.delete_message(id=message.id) is True
            assert await rsmq.delete_message(id=message.id) is False
            assert await rsmq.change_message_visibility(id=message.id, vt=100) is False
            assert (await rsmq.pop_message()).id == ids[1]
            assert (await anext(rsmq.messages())).id == ids[2]
            assert await rsmq.receive_message() is None
            assert await rsmq.receive_message(qname="other") is None
            assert await rsmq.pop_message(qname="other") is None
            assert await rsmq.delete_queue() is True
            assert await rsmq.list_queues() == {"other"}

    async def test_handles_share(self, rsmq, queue):
        """Any number of handles of one name mean one queue, and need not exist when they are
        made.
        """
        early = rsmq.queue("new")
        with pytest.raises(QueueDoesNotExist):
            await early.send("x")
        await rsmq.queue("new").create()
        await early.send("x")
        assert (await rsmq.queue("new").receive()).body == "x"
        assert early.name == "new"
