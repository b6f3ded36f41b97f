"""The Flask app, served by Flask and by gunicorn, and its worker."""

import asyncio
import contextlib
import re
import shutil
import signal
import sys

import httpx
import psutil
import pytest

from examples.program import EXAMPLES, Program, talking_to
from support import wait_until

FLASK = (sys.executable, "-m", "flask", "--app", "flask_app")
RUN = (*FLASK, "run", "--port", "0")
WORK = (*FLASK, "work")
GUNICORN = (
    *(sys.executable, "-m", "gunicorn", "--preload", "-w", "2", "-b", "127.0.0.1:0"),
    "flask_app:create_app()",
)
QUEUE = "rsmq:flask-orders"


@pytest.fixture(scope="module")
def anyio_backend():
    return "asyncio", {"debug": True}


@pytest.fixture
def start(server):
    with contextlib.ExitStack() as programs:

        def start(*command, **options):
            program = Program(*command, redis_url=server.url, **options)
            return programs.enter_context(contextlib.closing(program))

        yield start


async def stop(program):
    """Stop a program by SIGTERM; it complains of nothing."""
    program.process.send_signal(signal.SIGTERM)
    code = await program.ended()
    complaints = re.findall(
        "Traceback|Error|unclosed (?!<socket.socket.* family=2)", program.output
    )
    assert complaints == [], program.output  # gunicorn's own socket has the family 2
    return code


async def order(http, item="tea"):
    reply = await http.post("/orders", json={"item": item})
    assert reply.status_code == 202, reply.text
    return reply.json()["id"]


async def order_many(http, number):
    """Order things with different names, eight at a time."""

    async def some(first):
        return [await order(http, f"item {item}.") for item in range(first, number, 8)]

    return [id for ids in await asyncio.gather(*map(some, range(8))) for id in ids]


@pytest.mark.parametrize(("command", "code"), [(RUN, -signal.SIGTERM), (GUNICORN, 0)])
async def test_order(start, server, command, code):
    """An order is accepted and shipped; what is none is refused; both processes stop cleanly."""
    app, worker = start(*command), start(*WORK)
    async with talking_to(app) as http:
        await order(http)
        await wait_until(lambda: "shipped tea\n" in worker.output)
        for body in (b"{}", b"no JSON", b'{"item": ""}', b'{"item": 1}'):
            assert (await http.post("/orders", content=body)).status_code == 422
        await wait_until(lambda: server.redis.zcard(QUEUE) == 0)
        assert (await http.get("/orders")).json() == {"waiting": 0, "all": 0}
    assert await stop(app) == code
    assert await stop(worker) == 0


async def test_preloaded(start, server):
    """Each process of gunicorn that was forked from one with a client in use has its own loop and
    connection."""
    app = start(*GUNICORN)
    async with talking_to(app) as http:
        ids = await order_many(http, 80)
        assert len(set(ids)) == 80
        assert set(ids) == {id.decode() for id in server.redis.zrange(QUEUE, 0, -1)}
        children = psutil.Process(app.process.pid).children()
        assert len(children) == 2
        assert server.clients() == 3  # the parent's, which called `ensure`, and the children's
        children[0].terminate()  # gunicorn starts another, from the same parent
        await wait_until(lambda: len({*psutil.Process(app.process.pid).children()}) == 2)
        await order_many(http, 16)
    assert await stop(app) == 0


@pytest.mark.parametrize("command", [RUN, GUNICORN])
async def test_stopped_under_load(start, server, command):
    """Each order that was accepted is in the queue once, if the app is stopped at any moment."""
    app = start(*command)
    accepted = []

    async def post(http):
        with contextlib.suppress(httpx.TransportError):
            while True:
                accepted.append(await order(http))

    async with talking_to(app) as http, asyncio.TaskGroup() as group:
        for _ in range(8):
            group.create_task(post(http))
        await wait_until(lambda: len(accepted) > 50)
        await stop(app)
    stored = [id.decode() for id in server.redis.zrange(QUEUE, 0, -1)]
    assert set(accepted) <= set(stored)
    assert len(stored) <= len(accepted) + 8  # of those whose replies did not come


async def test_worker_stopped_under_load(start, server):
    """A worker that is stopped ends the orders in its hands, and leaves the others."""
    app = start(*RUN)
    async with talking_to(app) as http:
        await order_many(http, 120)
    await stop(app)
    output = ""
    for _ in range(3):
        worker = start(*WORK)
        await wait_until(lambda worker=worker: worker.output.count("shipped") >= 10)
        assert await stop(worker) == 0
        output += worker.output
    shipped = re.findall(r"shipped item \d+\.", output)  # threads may print into one line
    assert len(shipped) == len(set(shipped)) == 120 - server.redis.zcard(QUEUE)


async def test_reload(start, tmp_path):
    """Flask's reloader replaces the process, and its client, as often as the file changes."""
    path = tmp_path / "flask_app.py"
    shutil.copy(EXAMPLES / path.name, path)
    command = (*FLASK, "--debug", "run", "--port", "0")
    app = start(*command, cwd=tmp_path, PYTHONDONTWRITEBYTECODE="1")
    async with talking_to(app) as http:
        await order(http)
        for number in range(2):
            path.write_text(path.read_text().replace('"all":', f'"{number}": 0, "all":', 1))

            async def is_reloaded(key=str(number)):
                with contextlib.suppress(httpx.TransportError):
                    reply = await http.get("/orders")
                    return reply.status_code == 200 and key in reply.json()

            await wait_until(is_reloaded)
            await order(http)
        assert (await http.get("/orders")).json()["all"] == 3
    assert "Traceback" not in app.output
