"""Messages are searched for, and nobody notices."""

import asyncio
from datetime import timedelta

import pytest
import redis
from aiorsmq import InvalidParameterValue, Place, QueueDoesNotExist
from aiorsmq._commands import look

from dead_letters.letters import bury
from foreign_data.data import put
from operations.others import NODE_ID, id_of, send, sent_bytes
from support import ids_in, keyspace, now_ms

foreign_data = pytest.mark.foreign_data


def ids(found):
    return [message.id for message in found.messages]


async def search(queue, **options):
    """All pages of a search."""
    found = await queue.find(**options)
    pages = [found]
    while found.next is not None:
        found = await queue.find(after=found.next, **options)
        pages.append(found)
    return pages


@pytest.fixture
def small_steps(monkeypatch):
    monkeypatch.setattr(look, "MAX_LOOKS", 3)


async def test_everything(server, queue):
    """Without a condition all messages match, in the order of `peek`; nothing is changed."""
    await queue.send_many([str(n) for n in range(50)])
    await queue.send("later", delay=500)
    await queue.receive_many(5, vt=300)
    before = keyspace(server)
    found = await queue.find()
    assert ids(found) == [message.id for message in await queue.peek(100)] == ids_in(server)
    assert (found.examined, found.total, found.next) == (51, 51, None)
    assert keyspace(server) == before


@pytest.mark.parametrize("text", ["needle", b"needle", "grüße", b"\xff\0", "%d+", "a" * 1024])
async def test_text(queue, text):
    """Text is found byte for byte in the body as stored: no pattern, no encoding."""
    raw = text if isinstance(text, bytes) else text.encode()
    wanted = [await queue.send(b"in a" + raw + b"hay\nstack"), await queue.send(raw)]
    await queue.send("25 %d %D+ NEEDLE grusse" + "a" * 1023)
    assert ids(await queue.find(text=text)) == wanted


async def test_state(queue):
    """Visible ones, and hidden ones; the others are not counted as looked at."""
    visible = await queue.send_many(["a", "b"])
    hidden = await queue.send_many(["a"] * 3, delay=500)
    found = await queue.find(state="visible")
    assert (ids(found), found.examined, found.total) == (visible, 2, 5)
    assert all(message.is_visible for message in found.messages)
    found = await queue.find(state="hidden", text="a")
    assert (ids(found), found.examined) == (hidden, 3)
    assert not any(message.is_visible for message in found.messages)


@foreign_data
async def test_older_than(server, queue):
    """How long ago it was sent, by its id and the server's clock, as Node and PyRSMQ made it. Ids
    without a time never match.
    """
    old = send(server, "old", age=3600)
    older = send(server, "older", age=7200, score=now_ms(server) + 1_000_000)
    send(server, "new", age=60)
    send(server, "of tomorrow", age=-86_400)
    oldest = send(server, "of 2020", id=NODE_ID, score=5)
    for other in ("0" * 30, "x", "!" * 32, "zzzzzzzzzz" + "x" * 22, "-000000001" + "x" * 22):
        send(server, "without a time", id=other)
    assert ids(await queue.find(older_than=600)) == [oldest, old, older]
    assert ids(await queue.find(older_than=timedelta(hours=1.5))) == [oldest, older]
    assert len(ids(await queue.find(older_than=0))) == 4


async def test_min_receives(queue):
    """How often it was received."""
    twice = await queue.send("a")
    for _ in range(2):
        await queue.receive(vt=0)
    await queue.change_visibility(twice, 500)
    once = await queue.send("b")
    await queue.receive(vt=400)
    never = await queue.send("c")
    assert ids(await queue.find()) == [never, once, twice]
    assert ids(await queue.find(min_receives=1)) == [once, twice]
    assert ids(await queue.find(min_receives=2)) == [twice]
    assert ids(await queue.find(min_receives=3)) == []


async def test_reason(rsmq):
    """Why it died: text in the reason, not in what is stored beside it."""
    jobs, dead = rsmq.queue("jobs"), rsmq.queue("dead")
    await jobs.create(max_receives=1, dead_letter_queue="dead")
    await bury(jobs, "a", "b", reason="ValueError: bad\nvalue")
    wanted = await bury(jobs, "c", reason="KeyError: 'grüße'")
    assert ids(await dead.find(reason="grüße")) == wanted
    assert len(ids(await dead.find(reason="bad\nvalue"))) == 2
    assert ids(await dead.find(reason="jobs")) == []
    (letter,) = (await dead.find(reason="KeyError", text="c")).messages
    assert (letter.reason, letter.origin, letter.raw) == ("KeyError: 'grüße'", "jobs", b"c")


async def test_all_conditions(queue):
    """A message has to meet all of them."""
    wanted = await queue.send("needle")
    await queue.receive(vt=500)
    await queue.send("needle")
    await queue.send("hay", delay=500)
    conditions = {"text": "needle", "state": "hidden", "min_receives": 1, "older_than": 0}
    assert ids(await queue.find(**conditions)) == [wanted]
    assert ids(await queue.find(**conditions, reason="x")) == []


async def test_cut(server, queue):
    """Only what was found travels, and of each body the beginning."""
    await queue.send_many(["x" * 50_000] * 40)
    id = await queue.send("needle" + "x" * 50_000)
    before = sent_bytes(server)
    (message,) = (await queue.find(text="needle")).messages
    assert (message.id, message.raw, message.size) == (id, b"needle" + b"x" * 194, 50_006)
    assert (await queue.find(text="needle", max_bytes=0)).messages[0].raw == b""
    assert sent_bytes(server) - before < 30_000
    for max_bytes in (10**9, 2**63 - 1, 2**63, 10**400):
        (message,) = (await queue.find(text="needle", max_bytes=max_bytes)).messages
        assert message.is_cut is False


async def test_limit(queue, small_steps):
    """It stops when it has found enough, and goes on behind the last one that it looked at."""
    sent = await queue.send_many(["yes", "no"] * 10)
    pages = await search(queue, text="yes", limit=3)
    assert [len(page.messages) for page in pages] == [3, 3, 3, 1]
    assert [id for page in pages for id in ids(page)] == sent[::2]
    assert sum(page.examined for page in pages) == 20


async def test_budget(server, queue):
    """In a queue of 100,000 it stops when its budget is used up, and goes on from there. Each step
    looks at a bounded number of messages.
    """
    for n in range(100):
        await queue.send_many([f"{n} {m}" for m in range(1000)])
    last = await queue.send("needle")
    await queue.find(limit=1)  # the server knows the script
    server.reset_stats()
    found = await queue.find(text="needle", budget=60_000)
    assert (found.messages, found.examined, found.total) == ([], 60_000, 100_001)
    assert server.script_calls() == 60_000 / look.MAX_LOOKS
    found = await queue.find(text="needle", budget=60_000, after=found.next)
    assert (ids(found), found.examined, found.next) == ([last], 40_001, None)


async def test_large_bodies(server, queue):
    """Each step reads a bounded number of bytes."""
    await queue.send_many(["x" * 60_000] * 40)
    await queue.find(limit=1)
    server.reset_stats()
    assert (await queue.find(text="needle")).examined == 40
    assert server.script_calls() >= 40 * 60_000 / (look.MAX_BYTES + 60_000)


async def test_one_script_call(server, queue):
    """What fits is found in one."""
    await queue.send_many(["a", "b"])
    await queue.find()
    server.reset_stats()
    await queue.find(text="a")
    assert server.script_calls() == 1


async def test_same_score(server, queue, small_steps):
    """Messages of one millisecond are neither missed nor repeated, even if the one at which a page
    ended is gone.
    """
    now = now_ms(server)
    sent = sorted(
        send(server, "x", id=id_of(10**15 + n, "aB"[n % 2]), score=now) for n in range(20)
    )
    seen = []
    place = None
    while len(seen) < 20:
        found = await queue.find(limit=1, after=place)
        seen += ids(found)
        place = found.next
        if len(seen) % 2 == 0:
            await queue.delete_message(seen[-1])
    assert seen == sent
    assert place is None


async def test_while_it_is_in_use(queue, small_steps):
    """What stays in its place is found once, whatever goes on around it."""
    wanted = await queue.send_many(["stays"] * 30, delay=500)
    others = await queue.send_many(["goes"] * 30)

    async def use():
        for id in others:
            await queue.send("comes")
            assert await queue.receive(vt=1000)
            await queue.delete_message(id)

    using = asyncio.ensure_future(use())
    while not using.done():
        assert ids(await queue.find(text="stays")) == wanted
    await using


@foreign_data
async def test_foreign(server, queue, small_steps):
    """Entries without a body are looked at and never match; ids and scores that no RSMQ makes do
    no harm.
    """
    server.redis.zadd("rsmq:jobs", {f"{n:032}": 1000 + n for n in range(10)})
    for id, score in ((b"\xff", "-inf"), ("grüße", "inf"), ("two words", 1.25), ("vt", 7)):
        put(server, id, score=score)
    own = await queue.send("own")
    pages = await search(queue, limit=2)
    found = [id for page in pages for id in ids(page)]
    assert found == ["\udcff", "two words", "vt", own, "grüße"]
    assert sum(page.examined for page in pages) == 15
    server.redis.hset("rsmq:jobs:Q", "vt", 30)


@foreign_data
async def test_wrong_types(server, rsmq, queue):
    """A key of another type in the place of the reasons says nothing; in the place of the queue it
    raises the server's error.
    """
    id = await queue.send("x")
    server.redis.set("rsmq:jobs:reasons", "theirs")
    assert ids(await queue.find()) == [id]
    assert ids(await queue.find(reason="x")) == []
    server.redis.set("rsmq:other:Q", "theirs")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        await rsmq.queue("other").find()


async def test_missing_queue(rsmq):
    """A queue that does not exist raises."""
    with pytest.raises(QueueDoesNotExist):
        await rsmq.queue("missing").find(text="x")


async def test_empty(queue):
    """An empty queue has nothing to look at."""
    found = await queue.find(text="x")
    assert (found.messages, found.examined, found.total, found.next) == ([], 0, 0, None)


async def test_lost_reply(far, queue, cut_reply, small_steps):
    """If the reply to a step is lost, the step is repeated."""
    sent = await queue.send_many(["x"] * 10)
    cut_reply(None)
    found = await far.queue("jobs").find()
    assert (ids(found), found.examined) == (sent, 10)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("text", text) for text in ("", b"", 5, "x" * 1025, "\ud800")),
        *(("state", state) for state in ("dead", "", True)),
        *(("older_than", age) for age in (-1, "1h", float("nan"), 10**7)),
        *(("min_receives", number) for number in (0, -1, 1.0, "1", True)),
        *(("reason", reason) for reason in ("", 5)),
        *(("limit", limit) for limit in (0, -1, None, 1.5)),
        *(("budget", budget) for budget in (0, None)),
        *(("max_bytes", number) for number in (-1, None)),
        *(("after", place) for place in ("x", ("1", "x"), Place("soon", "x"), Place("nan", ""))),
        *(("after", Place(score, "x")) for score in ("1_0", " 1", "", "1\n")),
        ("after", Place(5, "x")),
        ("after", Place("5", "\ud800")),
    ],
    ids=repr,
)
async def test_bad_input(unchanged, queue, name, value):
    """What cannot be meant is refused, and the error names it."""
    with pytest.raises(InvalidParameterValue) as caught:
        await queue.find(**{name: value})
    assert caught.value.parameter == name
    assert caught.value.value is value
