"""The test kit with other plugins than anyio's. Each run is a pytest of its own."""

import pytest

pytest_plugins = ["pytester"]

USE = """
import asyncio
import pytest
from aiorsmq.testing import advance, drain

{mark}
async def test_one(rsmq_queue):
    await rsmq_queue.send("a", delay=3600)
    await advance(rsmq_queue, "1h")
    assert await drain(rsmq_queue, lambda message: None) == 1

{mark}
async def test_two(rsmq, rsmq_queue):
    assert await rsmq.list_queues() == {{"jobs"}}
    async with rsmq_queue.worker(lambda message: None) as worker:
        await rsmq_queue.send("b")
        while not worker.stats.succeeded:
            await asyncio.sleep(0)

def test_no_loop(rsmq_queue):
    asyncio.run(rsmq_queue.send("c"))
"""

FIXTURE = """
import pytest_asyncio

@pytest_asyncio.fixture
async def worker(rsmq_queue):
    async with rsmq_queue.worker(lambda message: None) as worker:
        yield worker

{mark}
async def test_fixture(rsmq_queue, worker):
    await rsmq_queue.send("d")
    while not worker.stats.succeeded:
        await asyncio.sleep(0)
"""

LEAK = """
{mark}
async def test_left_running(rsmq_queue):
    global worker, task
    worker = rsmq_queue.worker(lambda message: None)
    task = asyncio.create_task(worker.run())
    await rsmq_queue.send("e")
    while not worker.stats.succeeded:
        await asyncio.sleep(0)
"""

AIOHTTP = """
from aiohttp import web
from aiorsmq.testing import drain

async def test_app(aiohttp_client, rsmq_queue):
    async def post(request):
        return web.Response(text=await rsmq_queue.send(await request.text()))

    app = web.Application()
    app.router.add_post("/jobs", post)
    client = await aiohttp_client(app)
    assert (await client.post("/jobs", data="hello")).status == 200
    bodies = []
    assert await drain(rsmq_queue, lambda message: bodies.append(message.body)) == 1
    assert bodies == ["hello"]
"""


@pytest.fixture
def run(pytester, monkeypatch):
    """Run the tests in a source with warnings as errors; returns what pytest has said of them."""
    for name in ("RSMQ_TEST_URL", "PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")

    def run(source, *plugins, **settings):
        pytester.makepyfile(source)
        settings.setdefault("asyncio_default_fixture_loop_scope", "function")
        options = [f"{name}={value}" for name, value in settings.items()]
        words = [word for option in options for word in ("-o", option)]
        for name in ("aiorsmq.testing.plugin", *plugins):
            words += ["-p", name]
        return pytester.runpytest_subprocess("-W", "error", *words)

    return run


@pytest.mark.parametrize("mode", ["strict", "auto"])
def test_pytest_asyncio(run, mode):
    """The fixtures work with pytest-asyncio, in its strict and in its auto mode."""
    source = (USE + FIXTURE).format(mark="@pytest.mark.asyncio" if mode == "strict" else "")
    run(source, "asyncio", asyncio_mode=mode).assert_outcomes(passed=4)


def test_one_loop_for_the_session(run):
    """They work where all tests and fixtures have one event loop."""
    scope = {
        "asyncio_default_test_loop_scope": "session",
        "asyncio_default_fixture_loop_scope": "session",
    }
    source = (USE + FIXTURE).format(mark="")
    run(source, "asyncio", asyncio_mode="auto", **scope).assert_outcomes(passed=4)


@pytest.mark.parametrize("scope", ["function", "session"])
def test_what_is_left_running(run, scope):
    """A worker that is left running is an error of its test, also where its loop lives on."""
    source = (USE + LEAK).format(mark="")
    result = run(source, "asyncio", asyncio_mode="auto", asyncio_default_test_loop_scope=scope)
    result.assert_outcomes(passed=4, errors=1)
    result.stdout.fnmatch_lines(
        ["the test left a worker, a stream or a receive running *'jobs': *"]
    )


def test_pytest_aiohttp(run):
    """They work with pytest-aiohttp's client for an app."""
    run(AIOHTTP, "asyncio", "aiohttp", asyncio_mode="auto").assert_outcomes(passed=1)
