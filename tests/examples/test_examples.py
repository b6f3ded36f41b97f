"""The examples, each started as its reader starts it: as a program, with the embedded server or one
of its own.
"""

import asyncio
import contextlib
import json
import re
import signal
import sys
from collections import Counter
from pathlib import Path

import anyio
import psutil
import pytest
from aiorsmq import JSON, AsyncRSMQ
from playwright.async_api import async_playwright, expect

from examples.program import EXAMPLES, Program, talking_to
from support import CHROMIUM, CHROMIUM_OPTIONS, make_it_theirs, wait_until

QUICKSTART = """\
producer: sends 'hello' and 'world' now, and 'goodbye' with a delay of 2 s
consumer: woken by 'hello', 0 s after it was sent
consumer: woken by 'world', 0 s after it was sent
consumer: woken by 'goodbye', 2 s after it was sent
the end: 0 messages left in the queue
"""

APPS = ["fastapi_app", "aiohttp_app", "litestar_app", "quart_app"]

# uvicorn raises the signal again once all is closed, so that its parent sees what ended it; the
# others end normally.
EXIT_CODES = {
    ("fastapi_app", signal.SIGTERM): -signal.SIGTERM,
    ("fastapi_app", signal.SIGINT): 0,
    ("aiohttp_app", signal.SIGTERM): 0,
    ("aiohttp_app", signal.SIGINT): 0,
    ("litestar_app", signal.SIGTERM): -signal.SIGTERM,
    ("litestar_app", signal.SIGINT): 0,
    ("quart_app", signal.SIGTERM): 0,
    ("quart_app", signal.SIGINT): 0,
}

QUIET = re.compile(
    r"((INFO:|INFO -|\[.*\] \[INFO\]) .*\n"  # uvicorn, Litestar, hypercorn
    r"|======== Running on .* ========\n|\(Press CTRL\+C to quit\)\n)*"  # aiohttp
)


def example(name, redis_url=None):
    return Program(sys.executable, EXAMPLES / f"{name}.py", redis_url=redis_url)


@pytest.fixture(autouse=True)
def keeps(running_server):
    """The server makes snapshots, as far as the programs can tell: else they would warn of it."""
    running_server.redis.config_set("save", "3600 1000000")


@pytest.fixture(scope="module")
def anyio_backend():
    """The event loops are the examples' own."""
    return "asyncio", {"debug": True}


@pytest.fixture
def start():
    with contextlib.ExitStack() as programs:

        def start(name, redis_url=None):
            return programs.enter_context(contextlib.closing(example(name, redis_url)))

        yield start


@pytest.fixture(scope="module", params=APPS)
async def running(request):
    """One app on the embedded server for all tests that only talk to it; at the end it stops
    without a word.
    """
    with contextlib.closing(example(request.param)) as app:
        await wait_until(lambda: app.url)
        yield app
        app.process.send_signal(signal.SIGTERM)
        assert await app.ended() == EXIT_CODES[request.param, signal.SIGTERM]
        assert app.left_behind() == []
        assert QUIET.fullmatch(app.output), app.output


@pytest.fixture
async def http(running):
    async with talking_to(running) as http:
        yield http


async def post(http, text, **more):
    reply = await http.post("/jobs", json={"text": text, **more})
    assert reply.status_code == 202, reply.text
    return reply.json()["id"]


async def done(http, id):
    """Wait until a job is done, and return it."""
    with anyio.fail_after(15):
        while True:
            reply = await http.get(f"/jobs/{id}")
            if reply.status_code == 200 and reply.json()["state"] == "done":
                return reply.json()
            await anyio.sleep(0.01)


async def events(http, seen, *, connected=None):
    """Append what the stream of events says, until the app ends it."""
    async with http.stream("GET", "/events", timeout=None) as reply:
        assert reply.headers["content-type"].startswith("text/event-stream")
        if connected is not None:
            connected.set()
        async for line in reply.aiter_lines():
            if line.startswith("data: "):
                seen.append(json.loads(line.removeprefix("data: ")))


def states(seen, id):
    return [event["state"] for event in seen if event["id"] == id]


@contextlib.asynccontextmanager
async def watching(http, *, watchers=1):
    """What each of some watchers has seen so far."""
    async with asyncio.TaskGroup() as group:
        all_seen = [[] for _ in range(watchers)]
        connected = [asyncio.Event() for _ in range(watchers)]
        tasks = [
            group.create_task(events(http, seen, connected=event))
            for seen, event in zip(all_seen, connected, strict=True)
        ]
        for event in connected:
            await event.wait()
        yield all_seen
        for task in tasks:
            task.cancel()


@pytest.mark.parametrize("with_own_server", [False, True], ids=["embedded", "redis_url"])
async def test_the_quickstart_prints_what_is_promised(start, server, with_own_server):
    """The quickstart ends by itself, having printed exactly this, and leaves no process, file or
    key behind.
    """
    program = start("quickstart", server.url if with_own_server else None)
    assert await program.ended() == 0, program.output
    assert program.output == QUICKSTART
    assert program.left_behind() == []
    assert server.redis.keys() == []
    assert (server.script_calls() > 0) == with_own_server


async def test_a_job_is_queued_and_done(http):
    """A job is accepted with its id, and soon its state is done, with the result."""
    id = await post(http, "hello, wörld")
    job = await done(http, id)
    assert job.pop("seconds") < 5
    assert job == {"id": id, "state": "done", "text": "hello, wörld", "result": "HELLO, WÖRLD"}


async def test_events_tell_of_a_job(http):
    """The stream of events tells that a delayed job is queued, and that it is done no sooner than
    it is due.
    """
    async with watching(http) as (seen,):
        id = await post(http, "later", delay=0.5)
        await wait_until(lambda: "done" in states(seen, id))
        assert states(seen, id) == ["queued", "done"]
        assert seen[-1]["seconds"] >= 0.499


async def test_events_begin_with_the_last_jobs(http):
    """Who connects, or connects again, is first told the state of the last jobs: no event is missed
    for good.
    """
    id = await post(http, "before")
    await done(http, id)
    async with watching(http) as (seen,):
        await wait_until(lambda: states(seen, id) == ["done"])


async def test_many_jobs_and_many_watchers(http):
    """Of 300 jobs posted at the same time, every watcher sees every one done, once."""
    async with watching(http, watchers=10) as all_seen:
        async with asyncio.TaskGroup() as group:
            posts = [group.create_task(post(http, f"job {n}")) for n in range(300)]
        ids = {task.result() for task in posts}
        assert len(ids) == 300
        for seen in all_seen:
            await wait_until(
                lambda seen=seen: ids <= {job["id"] for job in seen if job["state"] == "done"}
            )
            count = Counter(
                job["id"] for job in seen if job["state"] == "done" and job["id"] in ids
            )
            assert set(count.values()) == {1}
            assert {job["result"] for job in seen if job["id"] in ids and "result" in job} == {
                f"JOB {n}" for n in range(300)
            }


@pytest.mark.parametrize(
    "body",
    [
        b"no JSON",
        b'"hello"',
        b"{}",
        b'{"text": ""}',
        b'{"text": 5}',
        b'{"text": "%s"}' % (b"x" * 1001),
        b'{"text": "hello", "delay": -1}',
        b'{"text": "hello", "delay": 10000000}',
        b'{"text": "hello", "delay": "soon"}',
    ],
    ids=lambda body: body[:40].decode(),
)
async def test_what_is_no_job_is_refused(http, body):
    """A body that is no job is refused, and nothing is queued."""
    async with watching(http) as (seen,):
        first = await post(http, "a good one")
        reply = await http.post("/jobs", content=body, headers={"Content-Type": "application/json"})
        assert reply.status_code in (400, 422), reply.text  # as the framework does
        last = await post(http, "another good one")
        await wait_until(lambda: "done" in states(seen, last))
        assert {job["id"] for job in seen if first <= job["id"]} == {first, last}  # ids ascend


async def test_no_such_job(http):
    """The state of a job that is not known is a 404."""
    assert (await http.get("/jobs/unknown")).status_code == 404


async def test_browsers_come_and_go(running, http):
    """A browser that goes away leaves no connection behind, and disturbs nobody else."""
    process = psutil.Process(running.process.pid)

    def connections():
        return [c for c in process.net_connections("tcp") if c.status != psutil.CONN_LISTEN]

    async with watching(http) as (seen,):
        for _ in range(10):
            async with talking_to(running) as other, watching(other, watchers=5):
                last = await post(other, "seen by all")
        await wait_until(lambda: "done" in states(seen, last))
    await http.aclose()
    await wait_until(lambda: connections() == [])


@pytest.mark.parametrize(
    "signal_", [signal.SIGTERM, signal.SIGINT], ids=lambda signal_: signal_.name
)
@pytest.mark.parametrize("name", APPS)
async def test_a_signal_ends_the_app_cleanly(start, name, signal_):
    """A signal ends the app though a browser watches: its stream ends, the embedded server too,
    without a bad word.
    """
    app = start(name)
    async with talking_to(app) as http:
        seen, connected = [], asyncio.Event()
        async with asyncio.TaskGroup() as group:
            watcher = group.create_task(events(http, seen, connected=connected))
            await connected.wait()
            id = await post(http, "still there?")
            await wait_until(lambda: "done" in states(seen, id))
            assert any("valkey-server" in name for name in app.servers())
            app.process.send_signal(signal_)
            with anyio.fail_after(5):
                await watcher  # an answer that is cut off would raise
        assert await app.ended() == EXIT_CODES[name, signal_]
    assert app.left_behind() == []
    assert QUIET.fullmatch(app.output), app.output


@pytest.mark.parametrize("name", APPS)
async def test_the_embedded_server_ends_with_a_killed_app(start, name):
    """An app that is killed leaves no server behind."""
    app = start(name)
    await wait_until(lambda: app.url and app.servers())
    app.process.kill()
    await wait_until(lambda: app.left_behind() == [])


@pytest.mark.parametrize("name", APPS)
async def test_a_killed_app_loses_no_job(start, server, name):
    """On a server of one's own, a job that was accepted is done by the next app when the first is
    killed.
    """
    app = start(name, server.url)
    async with talking_to(app) as http:
        id = await post(http, "survive", delay=2)
        app.process.kill()
        await app.ended()
    app = start(name, server.url)
    async with talking_to(app) as http:
        assert (await done(http, id))["result"] == "SURVIVE"
    assert app.left_behind() == []  # of an embedded server, while it runs
    app.process.terminate()
    assert await app.ended() == EXIT_CODES[name, signal.SIGTERM]
    assert QUIET.fullmatch(app.output), app.output
    assert name.removesuffix("_app").encode() + b"-jobs" in server.redis.smembers("rsmq:QUEUES")


@pytest.mark.parametrize("name", APPS)
async def test_an_outage_is_waited_out(start, own_server, name):
    """While the server is away, the app stays: a job that is posted then is accepted, and done
    afterwards.
    """
    server = own_server("--appendonly", "yes", "--appendfsync", "always")
    app = start(name, server.url)
    async with talking_to(app) as http:
        await done(http, await post(http, "before"))
        server.kill()
        await wait_until(lambda: "listener disconnected" in app.output)
        waiting = asyncio.create_task(post(http, "during"))
        server.start()
        await done(http, await waiting)
        app.process.terminate()
        assert await app.ended() == EXIT_CODES[name, signal.SIGTERM]
    assert "Traceback" not in app.output


@pytest.mark.parametrize("name", APPS[1:])  # the first takes no such job from the queue
async def test_a_job_that_fails(start, server, name):
    """A job that fails is logged, tried again, and stays in the queue; the other jobs are done."""
    app = start(name, server.url)
    async with talking_to(app) as http, AsyncRSMQ.from_url(server.url) as rsmq:
        queue = rsmq.queue(f"{name.removesuffix('_app')}-jobs", codec=JSON)
        bad = await queue.send({"no text": "in this one"})
        await wait_until(
            lambda: re.search(rf"attempt 2 of job {bad} |{bad} .*attempt 2: failed", app.output)
        )
        assert "KeyError: 'text'" in app.output
        await done(http, await post(http, "a good one"))
        app.process.terminate()
        await app.ended()
        (left,) = await queue.peek()
        assert left.id == bad
        assert (
            await queue.receive(wait=5) is not None
        )  # there for the next app at once, or after its backoff


@pytest.mark.parametrize("name", APPS)
async def test_a_consumer_that_fails_stops_the_app(start, server, name):
    """When the consumer itself fails, here because its queue is another program's key, the app
    stops, and says why.
    """
    app = start(name, server.url)
    qname = f"{name.removesuffix('_app')}-jobs"
    async with talking_to(app) as http:
        await done(http, await post(http, "all is well"))
        make_it_theirs(server, qname)
        assert await app.ended() != 0
    server.redis.delete(f"rsmq:{qname}:Q")
    assert "WRONGTYPE" in app.output


@pytest.fixture
def chromium():
    if not Path(CHROMIUM).exists():
        pytest.fail(f"{CHROMIUM} is missing: apt-get install chromium")
    return CHROMIUM


async def test_the_page_in_a_browser(running, chromium, tmp_path):
    """A job that is sent with the form is followed in the live list until it is done, in every open
    browser.
    """
    problems = []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_OPTIONS)
        pages = [await (await browser.new_context()).new_page() for _ in range(2)]
        for page in pages:
            page.on("console", lambda message: problems.append(message.text))
            page.on("pageerror", lambda error: problems.append(str(error)))
            await page.goto(running.url)
            await expect(page.get_by_role("status")).to_have_text("live")
        await pages[0].set_viewport_size({"width": 360, "height": 640})
        await pages[0].get_by_label("Text").fill("<b>now</b>")
        await pages[0].get_by_role("button").click()
        await pages[0].get_by_label("Delay").fill("3")
        await pages[0].get_by_label("Text").fill("in a moment")
        await pages[0].get_by_role("button").click()
        for page in pages:
            await expect(
                page.get_by_role("listitem").filter(has_text="<B>NOW</B>")
            ).to_contain_text("done")
            await expect(
                page.get_by_role("listitem").filter(has_text="in a moment")
            ).to_contain_text("queued")
        for page in pages:
            await expect(
                page.get_by_role("listitem").filter(has_text="IN A MOMENT")
            ).to_contain_text("done")
            assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        await pages[0].screenshot(path=tmp_path / "narrow.png")
        await pages[1].screenshot(path=tmp_path / "wide.png")
        await browser.close()
    assert problems == []
