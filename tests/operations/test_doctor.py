"""`aiorsmq.doctor` finds what is wrong with queues of any program, and nothing else."""

import asyncio
import dataclasses
import time
from contextlib import asynccontextmanager

import pytest
from aiorsmq import AsyncRSMQ, InvalidParameterValue, QueueDoesNotExist
from aiorsmq.doctor import Finding, examine, judge, repair, worst_first
from aiorsmq.doctor.server import judge_server

from operations.others import id_of
from support import keyspace, now_ms, wait_until

SERVER = {"no-persistence"}
"""The tests' server keeps nothing, as it says."""


class Others:
    """Programs that write plain commands, as Node rsmq, PyRSMQ and rsmq_async do."""

    def __init__(self, server):
        self.redis = server.redis
        self.now = now_ms(server)

    def create(self, name="jobs", **settings):
        fields = {"vt": 30, "delay": 0, "maxsize": 65536, "created": 1, "modified": 1} | settings
        self.redis.hset(f"rsmq:{name}:Q", mapping=fields)
        self.redis.sadd("rsmq:QUEUES", name)

    def send(self, number=1, *, due=0, receives=0, received=0, name="jobs"):
        """A message that is due in so many seconds and was first received so many ago."""
        id = id_of(self.now * 1000 - 10**9, str(number))
        self.redis.hset(f"rsmq:{name}:Q", id, "body")
        self.redis.hincrby(f"rsmq:{name}:Q", "totalsent", 1)
        self.redis.zadd(f"rsmq:{name}", {id: self.now + due * 1000})
        if receives:
            first = self.now - received * 1000
            counts = {f"{id}:rc": receives, f"{id}:fr": first}
            self.redis.hset(f"rsmq:{name}:Q", mapping=counts)
        return id


def phantom(others):
    others.create()
    others.redis.zadd("rsmq:jobs", {id_of(others.now * 1000): others.now})


def leaked(others):
    others.create()
    others.redis.hset("rsmq:jobs:Q", f"{id_of(others.now * 1000)}:rc", 3)


def stranded(others):
    others.create()
    others.redis.hset("rsmq:jobs:Q", id_of(others.now * 1000), "body")


def listed_only(others):
    others.redis.sadd("rsmq:QUEUES", "jobs")


def messages_only(others):
    others.send()


def no_vt(others):
    others.create()
    others.redis.hdel("rsmq:jobs:Q", "vt")


def no_delay(others):
    others.create()
    others.redis.hdel("rsmq:jobs:Q", "delay")


def unlisted(others):
    others.create()
    others.redis.srem("rsmq:QUEUES", "jobs")


def waiting(others):
    others.create()
    others.send(due=-200)


def paused(others):
    others.create(paused=others.now - 60_000)


def paused_and_waiting(others):
    paused(others)
    others.send(due=-200)


def hidden_by_delay(others):
    others.create(delay=7200)
    others.send(due=7000)


def poison(others):
    others.create()
    others.send(due=-1, receives=9, received=60)


def poison_in_spite(others):
    others.create(max_receives=3, dead_letter_queue="dead")
    others.create("dead")
    others.send(due=20, receives=4, received=50)


def vt_too_short(others):
    """Delivered every 30 s: 60 s and 90 s ago for the first time, and now for another 30 s."""
    others.create()
    others.send(1, due=25, receives=3, received=65)
    others.send(2, due=28, receives=4, received=92)


def dead(others):
    others.create(max_receives=3, dead_letter_queue="dead")
    others.create("dead")
    others.send(name="dead", due=-1000)


def foreign(others):
    listed_only(others)
    others.redis.set("rsmq:jobs:Q", "text")


def unknown_field(others):
    others.create(colour="red")


def setting(**settings):
    return lambda others: others.create(**settings)


CASES = [
    (phantom, "phantoms", "warning", "doctor jobs --repair --yes"),
    (leaked, "leaked-fields", "warning", "doctor jobs --repair --yes"),
    (stranded, "stranded-bodies", "critical", "doctor jobs --repair --yes"),
    (listed_only, "left-in-list", "warning", "doctor jobs --repair --yes"),
    (messages_only, "half-made", "critical", "doctor jobs --repair --yes"),
    (no_vt, "half-made", "critical", "doctor jobs --repair --yes"),
    (no_delay, "half-made", "critical", "doctor jobs --repair --yes"),
    (unlisted, "not-listed", "warning", "doctor jobs --repair --yes"),
    (waiting, "nobody-listens", "critical", "work MODULE:HANDLER jobs"),
    (paused, "paused", "warning", "resume jobs"),
    (paused_and_waiting, "paused", "critical", "resume jobs"),
    (hidden_by_delay, "delay-hides-all", "warning", "set jobs --delay 0"),
    (vt_too_short, "vt-too-short", "warning", "set jobs --vt 150"),
    (dead, "dead-letters", "info", "dead dead"),
    (setting(vt=30_000), "vt-in-milliseconds", "warning", "set jobs --vt 30"),
    (setting(vt=2.5), "fractional-setting", "warning", "set jobs --vt 2"),
    (setting(delay=0.5), "fractional-setting", "warning", "set jobs --delay 1"),
    (setting(vt="soon"), "unreadable-setting", "warning", "set jobs --vt 30"),
    (setting(vt=-1), "setting-out-of-range", "warning", "set jobs --vt 30"),
    (setting(vt=0), "no-vt", "warning", "set jobs --vt 30"),
    (setting(maxsize=65565), "maxsize-of-pyrsmq", "info", "set jobs --maxsize 65536"),
    (setting(maxsize=7), "setting-out-of-range", "warning", "set jobs --maxsize 65536"),
    (setting(max_receives="no"), "unreadable-setting", "warning", "set jobs --max-receives 5"),
    (
        setting(max_receives="3", dead_letter_queue="a b"),
        "unreadable-setting",
        "warning",
        "set jobs --dead-letter-queue jobs-dead",
    ),
    (
        setting(max_receives=3),
        "drops-messages",
        "warning",
        "set jobs --dead-letter-queue jobs-dead",
    ),
    (
        setting(dead_letter_queue="dead"),
        "dead-letter-queue-missing",
        "info",
        "create dead",
    ),
    (foreign, "foreign-keys", "critical", None),
    (unknown_field, "unknown-fields", "info", None),
]


async def findings_of_queues(rsmq, *qnames, **options):
    findings = await examine(rsmq, qnames or None, **options)
    return [finding for finding in findings if finding.queue or finding.code not in SERVER]


@pytest.mark.foreign_data
@pytest.mark.parametrize(
    ("prepare", "code", "severity", "command"),
    CASES,
    ids=[f"{number}-{case[1]}" for number, case in enumerate(CASES)],
)
async def test_found(server, rsmq, prepare, code, severity, command):
    """What is wrong is found alone, with the command that mends it; looking changes nothing."""
    prepare(Others(server))
    before = keyspace(server)
    (finding,) = await findings_of_queues(rsmq)
    assert (finding.code, finding.severity, finding.queue) == (code, severity, "jobs")
    assert finding.command == (command and f"aiorsmq {command}")
    assert finding.can_repair == (command is not None and "--repair" in command)
    assert [found.code for found in await findings_of_queues(rsmq, "jobs")] == [code]
    assert keyspace(server) == before


async def test_poison(server, rsmq):
    """A message that is received over and over is named, and so is the missing dead-letter
    queue."""
    poison(Others(server))
    found, advice = await findings_of_queues(rsmq)
    (id,) = server.redis.zrange("rsmq:jobs", 0, -1)
    assert (found.code, found.severity) == ("poison-message", "critical")
    assert "9 times" in found.text
    assert found.command == f"aiorsmq delete jobs {id.decode()}"
    assert found.look == f"aiorsmq get jobs {id.decode()}"
    assert advice.code == "no-dead-letter-queue"
    assert advice.command == "aiorsmq set jobs --max-receives 5 --dead-letter-queue jobs-dead"


async def test_poison_in_spite_of_max_receives(server, rsmq):
    """A consumer that does not obey max_receives is told of; the queue has all settings."""
    poison_in_spite(Others(server))
    (found,) = await findings_of_queues(rsmq)
    assert found.code == "poison-message"
    assert "max_receives is 3" in found.text


async def test_failed_soon(rsmq, queue):
    """Messages that failed at once, and a message in hand, are no evidence of a short vt."""
    await queue.send_many(["a", "b", "c"])
    for _ in range(3):
        for message in await queue.receive_many(3):
            await message.release()
    await queue.receive()
    assert await findings_of_queues(rsmq) == []


async def test_names(server, rsmq):
    """All queues, those that no list shows too; or those that are named: QueueDoesNotExist if one
    does not exist."""
    others = Others(server)
    for name in ("a", "b"):
        others.create(name, paused=1)
    server.redis.srem("rsmq:QUEUES", "b")
    server.redis.sadd("rsmq:QUEUES", "no queue")
    found = {(finding.queue, finding.code) for finding in await findings_of_queues(rsmq)}
    assert found == {("", "impossible-name"), ("a", "paused"), ("b", "paused"), ("b", "not-listed")}
    server.redis.delete("rsmq:QUEUES")
    assert {finding.queue for finding in await findings_of_queues(rsmq, "b")} == {"b"}
    with pytest.raises(QueueDoesNotExist):
        await examine(rsmq, ["b", "c"])
    with pytest.raises(InvalidParameterValue):
        await examine(rsmq, ["no queue"])


async def test_order():
    """The worst comes first, the server's before those of queues."""
    texts = ("info", "b"), ("critical", "b"), ("warning", "a"), ("critical", "")
    findings = [Finding("x", severity, queue, "", "") for severity, queue in texts]
    assert [(finding.severity, finding.queue) for finding in worst_first(findings)] == [
        ("critical", ""),
        ("critical", "b"),
        ("warning", "a"),
        ("info", "b"),
    ]


@pytest.mark.foreign_data
@pytest.mark.parametrize("prepare", [waiting, paused_and_waiting, hidden_by_delay, no_vt])
async def test_judge(server, rsmq, prepare):
    """One snapshot is enough for what it shows."""
    prepare(Others(server))
    (look,) = await rsmq.snapshots(["jobs"])
    codes = [finding.code for finding in judge(look)]
    assert codes == [finding.code for finding in await findings_of_queues(rsmq)]


async def test_falls_behind(server, rsmq):
    """Messages that wait although somebody listens."""
    waiting(Others(server))
    async with (
        AsyncRSMQ.from_url(server.url) as other,
        other.queue("jobs").announcements() as announcements,
    ):
        await anext(announcements)
        await wait_until(lambda: server.redis.pubsub_numsub("rsmq:rt:jobs")[0][1])
        findings = await findings_of_queues(rsmq)
    assert [(found.code, found.severity) for found in findings] == [("falls-behind", "warning")]


async def test_dead_letter_queue(server, rsmq):
    """Nobody has to listen to a dead-letter queue."""
    dead(Others(server))
    (look,) = await rsmq.snapshots(["dead"])
    assert [finding.code for finding in judge(look)] == ["nobody-listens"]
    assert judge(look, is_dead_letter_queue=True) == []


@asynccontextmanager
async def repeated(step):
    """Do it over and over in the block."""

    async def run():
        while True:
            await step()
            await asyncio.sleep(0)

    task = asyncio.create_task(run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_in_use(server, rsmq, queue):
    """A queue in use has nothing wrong, however busy it is."""
    await queue.set_attributes(max_receives=5, dead_letter_queue="dead")
    async with AsyncRSMQ.from_url(server.url) as other:

        async def produce():
            await other.queue("jobs").send_many(["x"] * 20)

        async with repeated(produce), other.queue("jobs").worker(lambda _: None, concurrency=50):
            end = time.monotonic() + 2
            while time.monotonic() < end:
                assert await findings_of_queues(rsmq, watch=0.05) == []
    assert (await queue.attributes()).totalrecv > 100


async def test_watch_producers(server, rsmq, queue):
    """Producers that announce nothing are seen by watching, and those that announce are no
    finding."""
    others = Others(server)
    number = 0

    async def send_silently():
        nonlocal number
        number += 1
        others.send(number, due=100)
        await asyncio.sleep(0.01)

    async def send():
        await queue.send("x", delay=100)
        await asyncio.sleep(0.01)

    async with repeated(send_silently):
        (found,) = await findings_of_queues(rsmq, watch=0.2)
    assert (found.code, found.severity) == ("silent-producers", "info")
    async with repeated(send):
        assert await findings_of_queues(rsmq, watch=0.2) == []


async def test_watch_consumers(server, rsmq):
    """A consumer that polls is seen by watching: then it is no finding that nobody listens."""
    others = Others(server)
    others.create()
    for number in range(500):
        others.send(number, due=-200)

    async def receive():
        await rsmq.queue("jobs").pop()
        await asyncio.sleep(0.01)

    assert [finding.code for finding in await findings_of_queues(rsmq)] == ["nobody-listens"]
    async with repeated(receive):
        assert await findings_of_queues(rsmq, watch=0.2) == []


@pytest.mark.parametrize("pop", [False, True])
async def test_busy_consumer(server, rsmq, pop):
    """A consumer with a backlog does not listen, and is seen because it receives."""
    others = Others(server)
    others.create()
    for number in range(500):
        others.send(number, due=-200)
    handled = 0

    async def consume():
        nonlocal handled
        async for message in rsmq.queue("jobs").messages(pop=pop):
            await asyncio.sleep(0.4)
            await message.delete()
            handled += 1

    async with repeated(consume):
        await wait_until(lambda: handled)
        assert await findings_of_queues(rsmq) == []


async def test_retried_at_vt(server, rsmq):
    """A worker whose retries are as far apart as vt looks like one that is too slow: that is not
    claimed, and told."""
    queue = rsmq.queue("jobs")
    await queue.create(vt=1, max_receives=100, dead_letter_queue="dead")
    await queue.send_many(["x"] * 3)
    failures = 0

    def fail(_message):
        nonlocal failures
        failures += 1
        raise ValueError

    async with queue.worker(fail, backoff=lambda _: 1):
        await wait_until(lambda: failures >= 9)
        findings = {found.code: found for found in await findings_of_queues(rsmq)}
    found = findings["vt-too-short"]
    assert "it looks as if the work takes longer than vt" in found.text
    assert found.hint.startswith("Or it fails, and is retried about as late")


async def test_watch_deaths(server, rsmq):
    """Messages that die while it watches are told of."""
    others = Others(server)
    dead(others)
    watching = asyncio.create_task(findings_of_queues(rsmq, "jobs", watch=0.5))
    await wait_until(lambda: server.redis.pubsub_numsub("rsmq:rt:jobs")[0][1])
    others.send(2, name="dead")
    died, letters = await watching
    assert (died.code, died.severity, letters.code) == ("messages-die", "warning", "dead-letters")


REPAIRED = [case[0] for case in CASES if case[3] and "--repair" in case[3]]


@pytest.mark.parametrize("damage", REPAIRED, ids=lambda damage: damage.__name__)
async def test_repair(server, rsmq, damage):
    """What `repair` mends is mended; a second time it does no harm."""
    damage(Others(server))
    findings = await examine(rsmq)
    (done,) = await repair(rsmq, findings)
    assert done.is_done, done
    left = [found.code for found in await findings_of_queues(rsmq)]
    assert left == []
    after = keyspace(server)
    for result in await repair(rsmq, findings):
        assert result.is_done or "exist" in result.text
    assert keyspace(server) == after


async def test_repair_keeps_settings(server, rsmq):
    """Settings that are there stay, however odd, and so do messages."""
    others = Others(server)
    others.create(vt=2.5, maxsize=7)
    others.redis.hdel("rsmq:jobs:Q", "delay")
    others.redis.srem("rsmq:QUEUES", "jobs")
    others.send(due=100)
    before = keyspace(server)
    results = await repair(rsmq, await examine(rsmq))
    assert {result.finding.code for result in results} == {"half-made", "not-listed"}
    settings = server.redis.hgetall("rsmq:jobs:Q")
    assert (settings[b"vt"], settings[b"delay"], settings[b"maxsize"]) == (b"2.5", b"0", b"7")
    assert keyspace(server)[b"rsmq:jobs"] == before[b"rsmq:jobs"]


async def test_repair_of_what_came_back(server, rsmq):
    """A name that was left in the list stays if its queue has been created since."""
    listed_only(Others(server))
    findings = await examine(rsmq)
    await rsmq.queue("jobs").create()
    await rsmq.queue("jobs").send("x")
    (result,) = await repair(rsmq, findings)
    assert not result.is_done
    assert (await rsmq.queue("jobs").attributes()).msgs == 1


async def test_not_permitted(server, rsmq, queue):
    """What the user may not look at is said, and the rest is told."""
    await queue.set_attributes(vt=0)
    rules = "reset on >pw +@all -hscan -info -config -scan allkeys allchannels"
    server.redis.execute_command("ACL", "SETUSER", "someone", *rules.split())
    async with AsyncRSMQ.from_url(server.url, username="someone", password="pw") as user:
        findings = {finding.code: finding for finding in await examine(user)}
    server.redis.acl_deluser("someone")
    assert findings.keys() == {"no-vt", "not-permitted", "server-is-silent", "persistence-unknown"}
    assert "+hscan" in findings["not-permitted"].text


def codes(findings):
    return {finding.code: finding.severity for finding in findings}


async def test_server(own_server):
    """A server that drops queues, is nearly full, or is a replica."""
    server = own_server("--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru")
    async with AsyncRSMQ.from_url(server.url) as rsmq:
        assert codes(await examine(rsmq)) == {
            "server-evicts": "critical",
            "no-persistence": "warning",
        }
        used = server.redis.info("memory")["used_memory"]
        server.redis.config_set("maxmemory-policy", "volatile-lru")
        server.redis.config_set("appendonly", "yes")
        server.redis.config_set("maxmemory", int(used * 1.05))
        assert codes(await examine(rsmq)) == {
            "server-evicts-reasons": "info",
            "server-nearly-full": "warning",
        }
        server.redis.config_set("maxmemory-policy", "noeviction")
        server.redis.config_set("maxmemory", used // 2)
        (full,) = await examine(rsmq)
        assert (full.code, full.severity) == ("server-full", "critical")
        assert full.command.startswith("redis-cli CONFIG SET maxmemory ")
        server.redis.config_set("maxmemory", 0)
        server.redis.replicaof("127.0.0.1", "1")
        assert codes(await examine(rsmq)) == {"is-a-replica": "critical"}


async def test_server_values(rsmq):
    """A clock that differs, and a version that is too old."""
    info = dataclasses.replace(await rsmq.server_info(), appendonly=True)
    assert codes(judge_server(info)) == {}
    for change, code in (
        ({"clock_difference": 1.5, "round_trip": 0.1}, "clock-differs"),
        ({"clock_difference": -90.0}, "clock-differs"),
        ({"name": "redis", "version": "6.0.9"}, "server-too-old"),
        ({"name": "valkey", "version": "7.2.4"}, "server-too-old"),
    ):
        assert codes(judge_server(dataclasses.replace(info, **change))) == {code: "warning"}
    vague = dataclasses.replace(info, clock_difference=1.5, round_trip=2.0)
    assert codes(judge_server(vague)) == {}
