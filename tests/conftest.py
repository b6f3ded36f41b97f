"""A real server for every test, both event loops, and a check that nothing is left behind.

The server is the embedded one; AIORSMQ_TEST_SERVER names the binary of another.
"""

import asyncio
import inspect
import logging
import shutil
import signal
import tempfile
from pathlib import Path

import aiorsmq
import pytest
from aiorsmq import AsyncRSMQ
from aiorsmq._working import leases

from chaos.network import Proxy
from support import Server, check_keys, keyspace, wait_until

logging.getLogger("aiorsmq.startup.persistence").setLevel(
    logging.ERROR
)  # most servers here keep nothing
# In debug mode asyncio tells of every slow step, and uvloop too: on a busy machine that can be any.
logging.getLogger("asyncio").addFilter(
    lambda record: not record.getMessage().startswith("Executing ")
)

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # As under `nohup` or `&`: the programs that tests start would ignore Ctrl-C too.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser):
    parser.addoption("--loop", choices=("asyncio", "uvloop"), help="test on this event loop only")
    parser.addoption(
        "--write-pictures", action="store_true", help="make the pictures in docs/pictures again"
    )


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(collector, name, obj):
    """Have anyio run async tests, as its `anyio_mode = "auto"` does, which came with 4.11."""
    if inspect.iscoroutinefunction(obj) and collector.istestfunction(obj, name):
        pytest.mark.anyio(obj)


def pytest_collection_modifyitems(config, items):
    """Keep the tests on `--loop`; tests without an event loop count as asyncio's."""
    if chosen := config.getoption("--loop"):
        others = [item for item in items if _loop(item) != chosen]
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if _loop(item) == chosen]


def _loop(item):
    params = item.callspec.params if hasattr(item, "callspec") else {}
    _, options = params.get("anyio_backend", ("asyncio", {}))
    return "uvloop" if options.get("use_uvloop") else "asyncio"


@pytest.fixture(
    params=[
        pytest.param(("asyncio", {"debug": True}), id="asyncio"),
        pytest.param(("asyncio", {"debug": True, "use_uvloop": True}), id="uvloop"),
    ]
)
def anyio_backend(request):
    return request.param


@pytest.fixture(scope="session")
def running_server():
    folder = Path(
        tempfile.mkdtemp(prefix="aiorsmq-test-", dir="/tmp")
    )  # short: a socket's path has a limit
    server = Server(folder)
    server.start()
    yield server
    server.stop()
    shutil.rmtree(folder)


@pytest.fixture
async def server(running_server, request):
    """The server, empty. Afterwards: no task, no connection, no subscription, no odd key may be
    left.
    """
    running_server.empty()
    yield running_server
    await wait_until(lambda: running_server.clients() == 0)
    assert running_server.redis.pubsub_channels() == []
    package = str(Path(aiorsmq.__file__).parent)
    assert [
        task
        for task in asyncio.all_tasks()
        if task.get_coro().cr_code.co_filename.startswith(package)
    ] == []
    if "foreign_data" not in request.keywords:
        check_keys(running_server.redis)


@pytest.fixture
async def rsmq(server):
    async with AsyncRSMQ.from_url(server.url) as rsmq:
        yield rsmq


@pytest.fixture
async def queue(rsmq):
    queue = rsmq.queue("jobs")
    await queue.create()
    return queue


@pytest.fixture
def renew(monkeypatch):
    """`renew(worker)` has it renew its leases now, and not after a third of them: so they may be
    long in tests.
    """
    monkeypatch.setattr(leases, "TICK", 0.01)

    def renew(worker):
        for source in worker._intakes:
            source.leases._renew_at = 0.0

    return renew


@pytest.fixture
def own_server():
    """Starts servers for one test alone, to be killed or filled up."""
    servers = []
    folders = []

    def start(*options):
        folder = Path(tempfile.mkdtemp(prefix="aiorsmq-own-", dir="/tmp"))
        folders.append(folder)
        server = Server(folder, *options)
        servers.append(server)
        server.start()
        return server

    yield start
    for server in servers:
        server.stop()
    for folder in folders:
        shutil.rmtree(folder)


@pytest.fixture
async def proxy(server):
    async with Proxy(server.socket, f"{server.folder}/proxy.sock") as proxy:
        yield proxy


@pytest.fixture
async def far(server, proxy):
    """A client whose connection can be cut."""
    async with AsyncRSMQ.from_url(proxy.url) as rsmq:
        await rsmq.list_queues()
        yield rsmq


@pytest.fixture
def cut_reply(proxy):
    """`cut_reply(action)`: the next reply is lost, and the action comes before the repetition."""

    def cut(before_cut):
        proxy.cut_after_execution, proxy.before_cut = 1, before_cut

    return cut


@pytest.fixture
async def unchanged(server, queue):
    """What goes wrong on the server leaves every key as it was."""
    before = keyspace(server)
    yield
    assert keyspace(server) == before
