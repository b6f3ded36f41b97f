"""A user whom the server refuses a command, a key or a channel: what a call does then.

Each role has its lines for `ACL SETUSER`. They are enough; and without any one word of them, each
call either works completely, or raises NotPermitted, names the word, and leaves the keys as they
were.
"""

import asyncio
import logging
import pickle
import re
from contextlib import aclosing
from pathlib import Path
from typing import NamedTuple

import aiorsmq
import anyio
import pytest
from aiorsmq import JSON, AsyncRSMQ, NotPermitted
from aiorsmq.pyrsmq import RedisSMQ
from redis.exceptions import NoPermissionError

from support import PATIENCE, check_keys, keyspace, next_millisecond, now_ms, wait_until

TOTALS = {b"totalsent", b"totalrecv", b"modified"}


@pytest.fixture
def anyio_backend():
    """One event loop is enough: what is refused is the server's affair."""
    return "asyncio", {"debug": True}


class Place(NamedTuple):
    """Where a call is tried: what it does is the user's, what is prepared and looked at is
    another's.
    """

    server: object
    proxy: object
    own: AsyncRSMQ
    user: AsyncRSMQ
    refusals: list

    @property
    def jobs(self):
        return self.user.queue("jobs")

    async def prepare(self, *bodies, received=0, **options):
        """A queue with some messages; the first has been received so many times, and is the first
        again.
        """
        queue = self.own.queue("jobs")
        await queue.create(**options)
        ids = await queue.send_many(bodies) if bodies else []
        for _ in range(received):
            place = self.server.redis.zscore("rsmq:jobs", ids[0])
            assert (await queue.receive()).id == ids[0]
            self.server.redis.zadd("rsmq:jobs", {ids[0]: place})
        return ids

    def bodies(self, qname="jobs"):
        hash = self.server.redis.hgetall(f"rsmq:{qname}:Q")
        return sorted(hash[id].decode() for id in self.server.redis.zrange(f"rsmq:{qname}", 0, -1))

    def counts(self):
        """The receive counts of hidden and of visible messages."""
        now, hidden, visible = now_ms(self.server), [], []
        for id, score in self.server.redis.zrange("rsmq:jobs", 0, -1, withscores=True):
            count = int(self.server.redis.hget("rsmq:jobs:Q", id + b":rc") or 0)
            (hidden if score > now else visible).append(count)
        return hidden, visible


# Each is prepared up to its `yield`, then a word is taken away, and the rest is done and looked at.


async def send(place):
    await place.prepare("a")
    yield
    await place.jobs.send("x")
    assert place.bodies() == ["a", "x"]


async def send_many(place):
    await place.prepare(delay=9)
    yield
    ids = await place.jobs.send_many([str(n) for n in range(600)])
    assert len(place.bodies()) == len(ids) == 600


async def send_again(place):
    """The reply of the first attempt is lost."""
    await place.prepare()
    yield
    place.proxy.cut_after_execution = 1
    await place.jobs.send("x")
    assert place.bodies() == ["x"]


async def receive(place):
    await place.prepare("a", "b")
    yield
    assert (await place.jobs.receive()).body == "a"
    assert place.counts() == ([1], [0])


async def receive_again(place):
    await place.prepare("a", "b", received=2)
    yield
    assert {
        message.body: message.receive_count for message in await place.jobs.receive_many(5)
    } == {"a": 3, "b": 1}
    assert sorted(place.counts()[0]) == [1, 3]


async def receive_none(place):
    await place.prepare()
    yield
    assert await place.jobs.receive() is None


async def receive_behind_a_phantom(place):
    ids = await place.prepare("a", "b", received=1)
    place.server.redis.hdel("rsmq:jobs:Q", ids[0])
    yield
    try:
        assert [message.body for message in await place.jobs.receive_many(5)] == ["b"]
    finally:
        assert [message.body for message in await place.own.queue("jobs").peek(5)] == ["b"]


async def pop(place):
    await place.prepare("a", "b", received=2)
    yield
    message = await place.jobs.pop()
    assert (message.body, message.receive_count) == ("a", 3)
    assert place.bodies() == ["b"]


async def delete(place):
    await place.prepare("a", "b")
    message = await place.jobs.receive()
    yield
    assert await message.delete()
    assert place.bodies() == ["b"]


async def delete_message(place):
    (id,) = await place.prepare("a")
    yield
    assert await place.jobs.delete_message(id)
    assert place.bodies() == []


async def delete_many(place):
    ids = await place.prepare("a", "b", "c")
    yield
    assert await place.jobs.delete_many([*ids[:2], "0" * 32]) == [True, True, False]
    assert place.bodies() == ["c"]


async def extend(place):
    await place.prepare("a")
    message = await place.jobs.receive(vt=0)
    yield
    assert await message.extend(60)
    assert place.counts() == ([1], [])


async def release(place):
    await place.prepare("a")
    message = await place.jobs.receive()
    yield
    assert await message.release()
    assert place.counts() == ([], [1])


async def change_visibility(place):
    (id,) = await place.prepare("a", delay=9)
    yield
    assert await place.jobs.change_visibility(id, 0)
    assert place.counts() == ([], [0])


async def hand_back(place):
    """Of what a stream has claimed ahead, one was received before."""
    await place.prepare("a", "b", "c", received=1)
    yield
    try:
        async with place.jobs.messages(prefetch=2) as messages:
            await anext(messages)
            await wait_until(lambda: len(place.counts()[0]) == 3)
        await place.user.aclose()
        hidden, _ = place.counts()
        assert place.refusals or len(hidden) == 1
    finally:
        assert place.bodies() == ["a", "b", "c"]
        assert 0 not in place.counts()[0]


async def put_back(place):
    """As much, of what it has popped ahead."""
    await place.prepare("a", "b", "c", received=1)
    yield
    taken = []
    try:
        async with place.jobs.messages(prefetch=2, pop=True) as messages:
            taken.append((await anext(messages)).body)
            await wait_until(lambda: not place.bodies())
    finally:
        await place.user.aclose()
        assert sorted(taken + place.bodies()) == ["a", "b", "c"]


async def put_back_hidden(place):
    """What was popped and cannot be decoded."""
    await place.prepare("no json", vt=60)
    yield
    try:
        assert await place.user.queue("jobs", codec=JSON).pop() is None
    finally:
        await place.user.aclose()
        assert place.bodies() == ["no json"]


async def wait(place):
    await place.prepare()
    yield
    asking = asyncio.ensure_future(place.jobs.receive(wait=10))
    await asyncio.sleep(0.01)
    await place.own.queue("jobs").send("x")
    try:
        assert (await asking).body == "x"
    finally:
        assert place.bodies() == ["x"]
        assert place.counts() == ([], [0]) or place.counts() == ([1], [])


async def work(place):
    """One message is handled; another fails twice, and dies."""
    await place.prepare("good", "bad", max_receives=2, dead_letter_queue="dead")
    yield
    handled = []

    async def handler(message):
        if message.body == "bad":
            raise ValueError("bad")
        handled.append(message.body)

    worker = place.jobs.worker(handler, backoff=lambda _: 0.001)
    working = asyncio.ensure_future(worker.run(signals=False))
    await wait_until(lambda: working.done() or place.refusals or (handled and place.bodies("dead")))
    worker.stop()
    try:
        await working
        await place.user.aclose()
        if not place.refusals:
            assert (place.bodies(), place.bodies("dead")) == ([], ["bad"])
            assert [letter.reason for letter in await place.own.queue("dead").reasons()] == [
                "ValueError: bad"
            ]
    finally:
        assert set(place.bodies() + place.bodies("dead") + handled) == {"good", "bad"}
        assert place.bodies("dead") in ([], ["bad"])


async def die(place):
    """A claim finds that a message has been received too often; its queue for the dead is not
    there.
    """
    await place.prepare("a", "b", received=2, max_receives=2, dead_letter_queue="dead")
    await place.own.queue("dead").delete()
    yield
    try:
        message = await place.jobs.receive()
        assert message is None or message.body == "b"
        await place.user.aclose()
        assert place.refusals or (place.bodies(), place.bodies("dead")) == (["b"], ["a"])
        assert place.refusals or await place.own.list_queues() == {"jobs", "dead"}
    finally:
        assert sorted(place.bodies() + place.bodies("dead")) == ["a", "b"]


async def create(place):
    yield
    await place.jobs.create(vt=5, delay=1, maxsize=2048)
    attributes = await place.own.queue("jobs").attributes()
    assert (attributes.vt, attributes.delay, attributes.maxsize) == (5, 1, 2048)
    assert await place.own.list_queues() == {"jobs"}


async def create_both(place):
    yield
    await place.jobs.create(max_receives=3, dead_letter_queue="dead")
    attributes = await place.own.queue("jobs").attributes()
    assert (attributes.max_receives, attributes.dead_letter_queue) == (3, "dead")
    assert (await place.own.queue("dead").attributes()).vt == 30
    assert await place.own.list_queues() == {"jobs", "dead"}


async def create_beside(place):
    """The set of queues is there already."""
    await place.own.create_queue(qname="dead")
    yield
    await place.jobs.create()
    assert await place.own.list_queues() == {"jobs", "dead"}


async def set_attributes(place):
    await place.prepare("a")
    yield
    assert (await place.jobs.set_attributes(vt=7, maxsize=-1)).vt == 7
    assert (await place.own.queue("jobs").attributes()).maxsize == -1


async def set_policy(place):
    await place.prepare()
    yield
    await place.jobs.set_attributes(max_receives=3, dead_letter_queue="dead")
    assert (await place.own.queue("jobs").attributes()).dead_letter_queue == "dead"
    assert await place.own.list_queues() == {"jobs", "dead"}


async def set_no_policy(place):
    await place.prepare(max_receives=3, dead_letter_queue="dead")
    yield
    assert (await place.jobs.set_attributes(vt=7, dead_letter_queue="")).dead_letter_queue is None
    assert not {b"max_receives", b"dead_letter_queue"} & set(
        place.server.redis.hkeys("rsmq:jobs:Q")
    )


async def attributes(place):
    await place.prepare("a", "b", delay=9)
    yield
    attributes = await place.jobs.attributes()
    assert (attributes.msgs, attributes.hiddenmsgs, attributes.totalsent) == (2, 2, 2)


async def list_queues(place):
    await place.prepare()
    yield
    assert await place.user.list_queues() == {"jobs"}


async def delete_queue(place):
    """With what is beside it: reasons, and what a purge has left."""
    await place.prepare("a")
    place.server.redis.hset("rsmq:jobs:reasons", "x", "y")
    place.server.redis.expire("rsmq:jobs:reasons", 60)
    place.server.redis.zadd("rsmq:jobs:purged", {"x": 1})
    yield
    await place.jobs.delete()
    await place.user.aclose()
    assert set(place.server.redis.keys("*")) <= {b"rsmq:jobs:deleted"}  # it forgets that by itself


async def purge(place):
    await place.prepare(*map(str, range(500)), received=1)
    yield
    assert await place.jobs.purge() == 500
    assert place.server.redis.hlen("rsmq:jobs:Q") == 7
    assert not place.server.redis.exists("rsmq:jobs:purged")


async def peek(place):
    await place.prepare("a", "b", received=1)
    yield
    assert [message.body for message in await place.jobs.peek(5)] == ["a", "b"]


async def bury(place, *bodies):
    """Some dead, whose reasons are known."""
    await place.prepare(*bodies, max_receives=1, dead_letter_queue="dead")
    queue = place.own.queue("jobs")
    await queue._core.bury(
        [message._record for message in await queue.receive_many(len(bodies))], "tired"
    )
    await next_millisecond()


async def reasons(place):
    await bury(place, "a")
    yield
    assert [letter.reason for letter in await place.user.queue("dead").reasons()] == ["tired"]


async def redrive(place):
    await bury(place, "a", "b")
    yield
    assert [moved async for moved in place.user.queue("dead").redrive()] == [2]
    assert (place.bodies(), place.bodies("dead")) == (["a", "b"], [])


async def redrive_pages(place):
    """More than a page, of which one stays."""
    bodies = [str(n) for n in range(70)]
    await bury(place, *bodies)
    yield
    try:
        moved = [
            total
            async for total in place.user.queue("dead").redrive(
                where=lambda letter: letter.raw != b"7"
            )
        ]
        assert moved == [63, 69]
        assert place.bodies("dead") == ["7"]
    finally:
        assert sorted(place.bodies() + place.bodies("dead")) == sorted(bodies)


class Role(NamedTuple):
    needed: str
    optional: str
    """Without these nobody is woken, totals and what is kept beside a queue are less exact, and
    nobody is told.
    """
    keys: str
    calls: tuple
    programs: tuple = ()
    """Of several calls: up to the one that is refused they have done something."""


COMMON = "eval evalsha time hmget"
LISTEN = "publish subscribe unsubscribe ping"
ROLES = {
    "producer": Role(
        f"{COMMON} hset zadd",
        "zcard publish",
        "rsmq:jobs rsmq:jobs:Q",
        (send, send_many, send_again),
    ),
    "consumer": Role(
        f"{COMMON} hset hdel zadd zrem zrangebyscore zscore zmscore",
        f"hincrby zcard {LISTEN}",
        "rsmq:jobs rsmq:jobs:Q",
        (
            *(receive, receive_again, receive_none, pop, put_back_hidden),
            *(delete, delete_message, delete_many, extend, release, change_visibility),
        ),
        (receive_behind_a_phantom, hand_back, put_back, wait),
    ),
    "worker": Role(
        f"{COMMON} expire hset hdel sadd scard zadd zcard zcount zrem zrangebyscore zscore zmscore",
        f"hincrby hrandfield srem {LISTEN}",
        "rsmq:jobs rsmq:jobs:Q rsmq:dead rsmq:dead:Q rsmq:dead:reasons rsmq:QUEUES",
        (),
        (work, die),
    ),
    "admin": Role(
        f"{COMMON} exists expire hexists hset hdel rename sadd scard sismember smembers srem "
        "type unlink"
        " zadd zcard zcount zmscore zrange zrank zrem zscore",
        "hincrby publish",
        "rsmq:QUEUES rsmq:jobs rsmq:jobs:Q rsmq:jobs:reasons rsmq:jobs:purged rsmq:jobs:deleted"
        " rsmq:dead rsmq:dead:Q rsmq:dead:reasons",
        (
            *(
                create,
                create_both,
                create_beside,
                set_attributes,
                set_policy,
                set_no_policy,
                attributes,
                list_queues,
            ),
            *(delete_queue, purge, peek, reasons, redrive),
        ),
        (redrive_pages,),
    ),
}


def acl(server, *rules):
    server.redis.execute_command("ACL", "SETUSER", "someone", *rules)


def grant_all(server):
    acl(server, "reset", "on", ">pw", "+@all", "allkeys", "allchannels")


def grant(server, role, *, without_command="", without_key="", channels="&rsmq:rt:*"):
    commands = [
        f"+{command}"
        for command in f"{role.needed} {role.optional}".split()
        if command != without_command
    ]
    keys = [f"~{key}" for key in role.keys.split() if key != without_key]
    acl(server, "-@all", *commands, "resetkeys", *keys, "resetchannels", *channels.split())


def keyspace_without_totals(server):
    keys = keyspace(server)
    for type, content in keys.values():
        if type == b"hash":
            for total in TOTALS:
                content.pop(total, None)
    return keys


class Listening(logging.Handler):
    """The refusals that the log tells of, where nobody waits for the call."""

    def __init__(self):
        super().__init__()
        self.refusals = []

    def emit(self, record):
        self.refusals += [word for word in record.args or () if isinstance(word, NotPermitted)]


@pytest.fixture
async def attempt(server, proxy, rsmq):
    """`attempt(call, refuse)`: make a call without what `refuse` takes away; its NotPermitted, or
    None if it works.
    """
    listening = Listening()
    logging.getLogger("aiorsmq").addHandler(listening)

    async def attempt(call, refuse, *, is_one_call):
        server.redis.flushall()
        grant_all(server)
        listening.refusals.clear()
        options = {"username": "someone", "password": "pw", "poll_interval": 0.02}
        async with AsyncRSMQ.from_url(proxy.url, **options) as user:
            await user.list_queues()  # its connection is open
            async with aclosing(
                call(Place(server, proxy, rsmq, user, listening.refusals))
            ) as steps:
                await anext(steps)
                before = keyspace_without_totals(server)
                server.redis.script_flush()
                refuse()
                try:
                    with anyio.fail_after(PATIENCE):
                        await anext(steps, None)
                except NotPermitted as refused:
                    if is_one_call:
                        assert keyspace_without_totals(server) == before
                    return refused
                finally:
                    check_keys(server.redis)
        return listening.refusals[0] if listening.refusals else None

    yield attempt
    logging.getLogger("aiorsmq").removeHandler(listening)
    server.redis.acl_deluser("someone")


async def attempt_all(attempt, role, refuse):
    """Each call of a role; the refusals by the names of the calls."""
    refused = {}
    for call in role.calls + role.programs:
        try:
            refused[call.__name__] = await attempt(call, refuse, is_one_call=call in role.calls)
        except BaseException as error:
            error.add_note(f"in {call.__name__}")
            raise
    return {name: refusal for name, refusal in refused.items() if refusal is not None}


@pytest.mark.parametrize("name", ROLES)
async def test_enough(server, attempt, name):
    """With the words of its role a user can do all that the role is for."""
    role = ROLES[name]
    assert await attempt_all(attempt, role, lambda: grant(server, role)) == {}


@pytest.mark.parametrize(
    ("name", "command"),
    [(name, command) for name, role in ROLES.items() for command in role.needed.split()],
)
async def test_needed_command(server, attempt, name, command):
    """Without a needed command a call works, or raises NotPermitted, says what to grant, and has
    done nothing.
    """
    role = ROLES[name]
    refused = await attempt_all(attempt, role, lambda: grant(server, role, without_command=command))
    assert refused
    for refusal in refused.values():
        assert (refusal.command, refusal.grant) == (command.upper(), f"+{command}")
        assert refusal.qname in ("jobs", "dead", "*")


@pytest.mark.parametrize(
    ("name", "command"),
    [(name, command) for name, role in ROLES.items() for command in role.optional.split()],
)
async def test_optional_command(server, attempt, name, command):
    """Without the right to announce, to listen, to count in totals or to tidy, all calls work."""
    role = ROLES[name]
    assert (
        await attempt_all(attempt, role, lambda: grant(server, role, without_command=command)) == {}
    )


@pytest.mark.parametrize(
    ("name", "key"), [(name, key) for name, role in ROLES.items() for key in role.keys.split()]
)
async def test_key(server, attempt, name, key):
    """Without one of the keys a call works, or raises NotPermitted, says which keys to grant, and
    has done nothing.
    """
    role = ROLES[name]
    refused = await attempt_all(attempt, role, lambda: grant(server, role, without_key=key))
    assert refused
    for refusal in refused.values():
        assert refusal.command is None
        assert f"~{key}" in refusal.grant.split()


@pytest.mark.parametrize("name", ROLES)
async def test_channel(server, attempt, name):
    """Without the channels all calls work."""
    role = ROLES[name]
    assert await attempt_all(attempt, role, lambda: grant(server, role, channels="")) == {}


async def test_what_it_says(server, rsmq, queue):
    """The error names the command, the script, the queue and what to grant; it is redis-py's
    NoPermissionError too.
    """
    acl(server, "reset", "on", ">pw", "+@all", "-hset", "~rsmq:jobs", "~rsmq:jobs:Q")
    async with AsyncRSMQ.from_url(server.url, username="someone", password="pw") as other:
        with pytest.raises(NoPermissionError) as refused:
            await other.queue("jobs").send("the body")
        error = refused.value
        says = (
            "this user may not run script send for queue 'jobs': the server refuses the "
            "command HSET; grant +hset"
        )
        assert str(error) == says
        assert (error.command, error.script, error.qname, error.grant) == (
            "HSET",
            "send",
            "jobs",
            "+hset",
        )
        copy = pickle.loads(pickle.dumps(error))
        assert (type(copy), str(copy), copy.grant) == (NotPermitted, says, "+hset")
        with pytest.raises(NotPermitted, match=r"refuses one of its keys; grant ~rsmq:QUEUES$"):
            await other.list_queues()
        acl(server, "-evalsha")
        with pytest.raises(NotPermitted, match=r"refuses the command EVALSHA; grant \+evalsha$"):
            await other.queue("jobs").receive()
    server.redis.acl_deluser("someone")


async def test_pyrsmq(server, queue):
    """PyRSMQ's API raises it too, also without exceptions: it is the server's error, not an
    answer.
    """
    acl(server, "reset", "on", ">pw", "+@all", "-hset", "allkeys")
    options = {"unix_socket_path": server.socket, "username": "someone", "password": "pw"}
    async with RedisSMQ(options=options, exceptions=False) as controller:
        with pytest.raises(NotPermitted):
            await controller.sendMessage(qname="jobs", message="x")
    server.redis.acl_deluser("someone")


async def test_queue_by_the_name_of_an_outage(server, rsmq):
    """A refusal is raised at once, whatever the queue is called."""
    await rsmq.create_queue(qname="LOADING")
    acl(server, "reset", "on", ">pw", "+@all", "-zadd", "allkeys")
    async with AsyncRSMQ.from_url(server.url, username="someone", password="pw") as other:
        with anyio.fail_after(PATIENCE), pytest.raises(NotPermitted):
            await other.queue("LOADING").send("x")
    server.redis.acl_deluser("someone")


async def test_repeated_without_the_dead_letter_queue(server, proxy, rsmq):
    """Who may not look into the dead-letter queue can repeat a send all the same."""
    await rsmq.create_queue(qname="jobs", max_receives=1, dead_letter_queue="dead")
    grant_all(server)
    async with AsyncRSMQ.from_url(proxy.url, username="someone", password="pw") as other:
        await other.list_queues()
        grant(server, ROLES["producer"])
        proxy.cut_after_execution = 1
        id = await other.queue("jobs").send("x")
    assert proxy.cuts == 1
    assert [message.id for message in await rsmq.queue("jobs").peek(5)] == [id]
    server.redis.acl_deluser("someone")


def test_readme():
    """The README has the lines of the roles; all but the administrator's begin with those of the
    one before.
    """
    readme = (Path(__file__).parent.parent / "README.md").read_text()
    words = []
    for name, role in ROLES.items():
        rights = re.search(
            rf"^\| \*\*{name}\*\* \| (as much, and )?`(.*)` \|$", readme, re.MULTILINE
        )
        words = rights[2].split() + (words if rights[1] else [])
        assert sorted(word[1:] for word in words if word[0] == "+") == sorted(
            f"{role.needed} {role.optional}".split()
        )
        keys = sorted(word[1:] for word in words if word[0] == "~")
        assert keys == (["rsmq:*"] if name == "admin" else sorted(role.keys.split()))


def test_one_command_a_line():
    """Some servers name no command but a line of the script; so a line has one command."""
    for path in (Path(aiorsmq.__file__).parent / "_lua").glob("*.lua"):
        for line in path.read_text().splitlines():
            assert len(set(re.findall(r"redis\.p?call\('(\w+)'", line))) <= 1, (
                f"{path.name}: {line}"
            )
