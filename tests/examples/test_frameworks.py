"""The apps on the pages of web frameworks, under each server that a page names, and their end.

That they do what the pages show is tested with the pages.
"""

import contextlib
import re
import shlex
import sys

import httpx
import pytest
import websockets
from aiorsmq import AsyncRSMQ

from docs.page import DOCS, blocks
from examples.program import Program, talking_to
from support import wait_until

PAGES = ("fastapi.md", "aiohttp.md", "litestar.md", "quart.md", "flask.md")
BLOCKS = {page: blocks(DOCS / "how-to" / page) for page in PAGES}
SERVER = re.compile(r"(?:\w+=\S+ )?((?:uvicorn|gunicorn|hypercorn|litestar|flask|python) .*_app.*)")
COMMANDS = {
    match[1]: page
    for page, all_blocks in BLOCKS.items()
    for block in all_blocks
    if block.language in ("sh", "console")
    for match in SERVER.finditer(block.text)
}


@pytest.fixture(scope="module")
def anyio_backend():
    """The event loops are the programs' own."""
    return "asyncio", {"debug": True}


@pytest.fixture
def start(server, tmp_path):
    server.redis.config_set("save", "3600 1000000")
    with contextlib.ExitStack() as programs:

        def start(command):
            module, *arguments = shlex.split(re.sub(r"\b800[01]\b", "0", command))
            python = [sys.executable] if module == "python" else [sys.executable, "-m", module]
            options = {"cwd": tmp_path, "redis_url": server.url, "UVICORN_PORT": "0"}
            program = Program(*python, *arguments, **options)
            return programs.enter_context(contextlib.closing(program))

        yield start


def test_commands():
    """All commands of the pages that start an app are found."""
    assert {page: list(COMMANDS.values()).count(page) for page in PAGES} == {
        "fastapi.md": 2,
        "aiohttp.md": 2,
        "litestar.md": 4,
        "quart.md": 4,
        "flask.md": 2,
    }


@pytest.mark.parametrize("command", COMMANDS)
async def test_an_app(server, start, tmp_path, command):
    """It takes an order, which is prepared there or by the worker of the page, streams news, and
    SIGTERM ends it quietly.
    """
    page = COMMANDS[command]
    for block in BLOCKS[page]:
        if block.name:
            text = block.text.replace("port=8000", "port=0")
            (tmp_path / block.name).write_text(text)
    app = start(command)
    async with talking_to(app) as http:

        async def is_accepted():
            with contextlib.suppress(httpx.TransportError):
                reply = await http.post("/orders", json={"text": "a hat"})
                return reply.status_code == 202

        await wait_until(is_accepted)
        worker = start("python worker.py") if page == "flask.md" else app
        await wait_until(lambda: "prepared: a hat" in worker.output)
        assert (await http.get("/readyz")).text == "ready"
        if worker is app:
            await read_news(http)
        if "fastapi_app" in command:
            await read_news_by_websocket(server, http)
        if "GunicornWebWorker" in command:
            await send_news_to_one_who_has_left(server)
    for program in {app, worker}:
        program.process.terminate()
        await program.ended()
        assert not re.search("Traceback|ERROR|unclosed <Async", program.output), program.output


async def read_news(http):
    """A browser reads what the handler has sent."""
    async with http.stream("GET", "/news") as reply:
        assert await anext(reply.aiter_lines()) == "data: a hat is ready"


async def read_news_by_websocket(server, http):
    async with AsyncRSMQ.from_url(server.url) as rsmq:
        await rsmq.queue("news").send("a coat is ready")
    url = str(http.base_url).replace("http", "ws", 1)
    async with websockets.connect(f"{url}/news/ws", proxy=None) as connection:
        assert await connection.recv() == "a coat is ready"


async def send_news_to_one_who_has_left(server):
    """aiohttp's stream notices it only now, and hands the message back."""
    async with AsyncRSMQ.from_url(server.url) as rsmq:
        news = rsmq.queue("news")
        await news.send("a coat is ready")

        async def is_handed_back():
            (message,) = await news.peek()
            return message.receive_count == 1 and (await news.attributes()).hiddenmsgs == 0

        await wait_until(is_handed_back)
