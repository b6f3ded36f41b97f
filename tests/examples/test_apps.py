"""The aiohttp, Litestar and Quart examples under the servers that their users choose, on a server
of their own: stopped under load, and reloaded.
"""

import asyncio
import contextlib
import re
import shutil
import signal
import sys

import aiohttp
import anyio
import httpx
import pytest
from aiorsmq import JSON, AsyncRSMQ

from examples.program import EXAMPLES, Program, talking_to
from support import PATIENCE, wait_until

SERVERS = {
    "aiohttp": "aiohttp_app.py",
    "aiohttp gunicorn": "-m gunicorn aiohttp_app:app -b 127.0.0.1:0 -w 2 "
    "-k aiohttp.GunicornWebWorker",
    "litestar": "-m uvicorn litestar_app:app --port 0",
    "litestar --workers": "-m uvicorn litestar_app:app --port 0 --workers 2",
    "quart": "quart_app.py",
    "quart hypercorn": "-m hypercorn quart_app:app --bind 127.0.0.1:0 --workers 0",
    "quart hypercorn --workers": "-m hypercorn quart_app:app --bind 127.0.0.1:0 --workers 2",
    "quart uvicorn": "-m uvicorn quart_app:app --port 0",
}
RELOADERS = {
    "litestar": "-m uvicorn litestar_app:app --port 0 --reload",
    "quart": "-m uvicorn quart_app:app --port 0 --reload",
    "quart hypercorn": "-m hypercorn quart_app:app --bind 127.0.0.1:0 --reload",
}
RAISES_AGAIN = ("litestar", "quart uvicorn")
"""uvicorn raises the signal again once all is closed; its parent processes do not."""
CUTS_OFF = "quart hypercorn --workers"
"""hypercorn tells its worker processes to stop without a signal, so the app does not know, and its
streams are cut off after hypercorn's `graceful_timeout` of 3 seconds."""
FORCE = re.compile("Traceback|ERROR|exceeded|SIGKILL|[Ff]orc")

DO = """\
async def do(job: Job) -> str:
    with open("done.txt", "a") as file:
        file.write(job["text"] + "\\\\n")
    await __import__("asyncio").sleep(0.05)
"""


@pytest.fixture(scope="module")
def anyio_backend():
    """The event loops are the programs' own."""
    return "asyncio", {"debug": True}


@pytest.fixture(autouse=True)
def keeps(running_server):
    """The server makes snapshots, as far as the programs can tell: else they would warn of it."""
    running_server.redis.config_set("save", "3600 1000000")


@pytest.fixture
def folder(tmp_path):
    """The examples, whose jobs take a moment here, and leave a line each."""
    folder = tmp_path / "examples"
    shutil.copytree(EXAMPLES, folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("aiohttp", "litestar", "quart"):
        app = folder / f"{name}_app.py"
        text, number = re.subn(r"async def do\(job: Job\) -> str:\n", DO, app.read_text())
        assert number == 1
        app.write_text(text)
    (folder / "done.txt").touch()
    return folder


@pytest.fixture
def start(server, folder):
    with contextlib.ExitStack() as programs:

        def start(command):
            program = Program(sys.executable, *command.split(), cwd=folder, redis_url=server.url)
            return programs.enter_context(contextlib.closing(program))

        yield start


async def post(http, text):
    reply = await http.post("/jobs", json={"text": text})
    assert reply.status_code == 202, reply.text
    return reply.json()["id"]


async def result(http, text):
    """What a job gives; None if the app was replaced meanwhile: its memory is gone."""
    id = await post(http, text)
    job = {}
    while job.get("state") != "done":
        reply = await http.get(f"/jobs/{id}")
        if reply.status_code == 404:
            return None
        job = reply.json()
        await asyncio.sleep(0.01)
    return job["result"]


async def is_ready(http):
    with contextlib.suppress(httpx.TransportError):
        return (await http.get("/readyz")).status_code == 200


async def follow_events(http, seen, *, is_cut_off=False):
    """Until the response ends as it should."""
    cut = httpx.RemoteProtocolError if is_cut_off else ()
    with contextlib.suppress(cut):
        async with http.stream("GET", "/events", timeout=None) as reply:
            seen.append("connected")
            async for line in reply.aiter_lines():
                seen.append(line)


@pytest.mark.parametrize("name", SERVERS)
async def test_stop_under_load(server, start, folder, name):
    """SIGTERM while jobs are posted and done, and a browser watches: all that was accepted has been
    done, or may be received at once, and the browser sees the end of its stream.
    """
    app = start(SERVERS[name])
    posted, accepted, seen = set(), set(), []
    async with talking_to(app) as http:

        async def post_jobs(writer):
            with contextlib.suppress(aiohttp.ClientError):
                # Sends a request in one piece: an aiohttp server that stops between head and body
                # waits for the body in vain.
                async with aiohttp.ClientSession(app.url) as session:
                    for n in range(100_000):
                        text = f"{writer}-{n}"
                        posted.add(text)
                        async with session.post("/jobs", json={"text": text}) as reply:
                            assert reply.status == 202
                        accepted.add(text)

        await wait_until(lambda: is_ready(http))
        with anyio.fail_after(PATIENCE):
            async with asyncio.TaskGroup() as group:
                group.create_task(follow_events(http, seen, is_cut_off=name == CUTS_OFF))
                await wait_until(lambda: seen)
                for writer in range(4):
                    group.create_task(post_jobs(writer))
                await wait_until(lambda: len(accepted) >= 100)
                app.process.terminate()
    assert await app.ended() == (-signal.SIGTERM if name in RAISES_AGAIN else 0), app.output
    assert not FORCE.search(app.output), app.output
    async with AsyncRSMQ.from_url(server.url) as rsmq:
        (qname,) = await rsmq.list_queues()
        queue = rsmq.queue(qname, codec=JSON)
        assert (await queue.attributes()).hiddenmsgs == 0
        left = [message.body["text"] for message in await queue.peek(1000)]
    found = sorted([*(folder / "done.txt").read_text().split(), *left])
    assert found == sorted(set(found))
    assert accepted <= set(found) <= posted


@pytest.mark.parametrize("name", RELOADERS)
async def test_reload(server, start, folder, name):
    """A changed app is reloaded with a job in hand, and while a browser watches: the old one does
    its job, the new one does the next.
    """
    framework = name.split()[0]
    source = folder / f"{framework}_app.py"
    app = start(RELOADERS[name])
    seen = []
    async with talking_to(app) as http:
        await wait_until(lambda: is_ready(http))
        async with asyncio.TaskGroup() as group:
            if "hypercorn" not in name:  # see CUTS_OFF
                group.create_task(follow_events(http, seen))
                await wait_until(lambda: seen)
            await post(http, "old")
            source.write_text(source.read_text().replace(".upper()", ".title()"))

    async def is_reloaded():
        with contextlib.suppress(httpx.TransportError):
            async with talking_to(app) as http:
                return await result(http, "new") == "New"

    await wait_until(is_reloaded)
    app.process.terminate()
    await app.ended()
    assert not FORCE.search(app.output), app.output
    assert (folder / "done.txt").read_text().split().count("old") == 1
    async with AsyncRSMQ.from_url(server.url) as rsmq:
        assert (await rsmq.queue(f"{framework}-jobs").attributes()).msgs == 0
