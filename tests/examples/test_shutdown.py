"""Responses that never end by themselves, here server-sent events and WebSockets, end when the web
server begins to stop, however it is started.
"""

import asyncio
import contextlib
import os
import re
import signal
import sys
from pathlib import Path

import anyio
import httpx
import pytest
import websockets
from aiorsmq import AsyncRSMQ

from examples.program import Program, talking_to
from support import PATIENCE, wait_until

FOLDER = Path(__file__).parent
GUNICORN = "gunicorn -b 127.0.0.1:0 -w 2 -k uvicorn_worker.UvicornWorker streaming_app:app"
SERVERS = {
    "uvicorn": "uvicorn --port 0 streaming_app:app",
    "uvicorn --workers": "uvicorn --port 0 --workers 2 streaming_app:app",
    "uvicorn --reload": "uvicorn --port 0 --reload streaming_app:app",
    "gunicorn": GUNICORN,
    "fastapi dev": "fastapi dev --port 0 streaming_app.py",
    "fastapi run": "fastapi run --port 0 --host 127.0.0.1 streaming_app.py",
}
EXIT_CODES = {"uvicorn": -signal.SIGTERM, "fastapi run": -signal.SIGTERM}
"""uvicorn raises the signal again once all is closed; its parent processes do not."""
FORCE = re.compile("Traceback|ERROR|exceeded|SIGKILL|[Ff]orc", re.MULTILINE)


@pytest.fixture(autouse=True)
def keeps(running_server):
    """The server makes snapshots, as far as the programs can tell: else they would warn of it."""
    running_server.redis.config_set("save", "3600 1000000")


@pytest.fixture(scope="module")
def anyio_backend():
    """The event loops are the programs' own."""
    return "asyncio", {"debug": True}


@pytest.fixture
def start(server):
    with contextlib.ExitStack() as programs:

        def start(command, **options):
            program = Program(
                *(sys.executable, "-m", *command.split()),
                **{"cwd": FOLDER, "redis_url": server.url, **options},
            )
            return programs.enter_context(contextlib.closing(program))

        yield start


async def is_ready(http):
    with contextlib.suppress(httpx.TransportError):
        return (await http.get("/readyz")).status_code == 200


class Tabs:
    """What the open tabs of some browsers have got."""

    def __init__(self, http):
        self._http = http
        self.connected = 0
        self.orders = []

    async def follow_events(self, path):
        """Until the response ends as it should: one that is cut off would raise."""
        async with self._http.stream("GET", path, timeout=None) as reply:
            async for line in reply.aiter_lines():
                if line == ": connected":
                    self.connected += 1
                elif line:
                    self.orders.append(int(line.removeprefix("data: ")))

    async def follow_websocket(self):
        url = str(self._http.base_url).replace("http", "ws", 1)
        async with websockets.connect(f"{url}/ws", proxy=None) as connection:
            self.connected += 1
            async for text in connection:  # raises if it ends in another way than it should
                self.orders.append(int(text))


@contextlib.asynccontextmanager
async def open_tabs(http):
    """Tabs on queues, two for each kind of stream, and one on something else."""
    tabs = Tabs(http)
    async with asyncio.TaskGroup() as group:
        for path in ("/sse", "/sse", "/ticks"):
            group.create_task(tabs.follow_events(path))
        for _ in range(2):
            group.create_task(tabs.follow_websocket())
        await wait_until(lambda: tabs.connected == 5)
        yield tabs


async def post_orders(http, posted, accepted):
    """Until the server goes away."""
    n = len(posted)
    with contextlib.suppress(httpx.TransportError):
        while True:
            posted.add(n)
            reply = await http.post("/orders", json={"n": n})
            assert reply.status_code == 200
            accepted.add(n)
            n += 1


@pytest.mark.parametrize(
    ("name", "signal_"),
    [(name, signal.SIGTERM) for name in SERVERS]
    + [("uvicorn", signal.SIGINT), ("gunicorn", signal.SIGINT)],
)
async def test_open_tabs(server, start, name, signal_):
    """SIGTERM, or Ctrl-C in the terminal, ends the program with its tabs open: they see the end of
    their streams, and nothing is forced, lost or left hidden.
    """
    app = start(SERVERS[name])
    posted, accepted = set(), set()
    async with talking_to(app) as http:
        await wait_until(lambda: is_ready(http))
        with anyio.fail_after(PATIENCE):
            async with open_tabs(http) as tabs:
                posting = asyncio.create_task(post_orders(http, posted, accepted))
                await wait_until(lambda: len(tabs.orders) >= 20)
                if signal_ is signal.SIGINT:
                    os.killpg(app.process.pid, signal_)
                else:
                    app.process.terminate()
            await posting
    is_interrupted = signal_ is signal.SIGINT
    assert await app.ended() == (0 if is_interrupted else EXIT_CODES.get(name, 0)), app.output
    assert not FORCE.search(app.output), app.output
    async with AsyncRSMQ.from_url(server.url) as rsmq:
        attributes = await rsmq.queue("orders").attributes()
        left = await rsmq.queue("orders").peek(1000)
        assert attributes.hiddenmsgs == 0
        assert {message.receive_count for message in left} <= {0}
    found = sorted([*tabs.orders, *(int(re.sub(r"\D", "", message.body)) for message in left)])
    assert found == sorted(set(found))
    assert accepted <= set(found) <= posted
