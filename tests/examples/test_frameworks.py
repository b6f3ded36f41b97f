"""The programs and commands of docs/how-to/frameworks.md do what it says."""

import contextlib
import re
import shlex
import sys
from pathlib import Path

import httpx
import pytest
from aiorsmq import AsyncRSMQ

from examples.program import EXAMPLES, Program, talking_to
from support import wait_until

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "frameworks.md").read_text()
PROGRAMS = dict(re.findall(r"```python\n# (\w+\.py)\n(.*?)```", PAGE, re.DOTALL))
PARTS = dict(re.findall(r"```python\n# (shop/\S+)\n(.*?)```", PAGE, re.DOTALL))
COMMANDS = [
    shlex.split(line)
    for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    for line in block.splitlines()
]
(FLASK_WORKER,) = re.findall(r"```py\n(# worker\.py\n.*?)```", PAGE, re.DOTALL)
SERVERS = {command[1].partition(":")[0]: command for command in COMMANDS if ":" in command[1]}
PORT_0 = {"uvicorn": ["--port", "0"], "gunicorn": ["--bind", "127.0.0.1:0"]}


@pytest.fixture(scope="module")
def anyio_backend():
    """The event loops are the programs' own."""
    return "asyncio", {"debug": True}


def test_names():
    """Every program on the page has a name, and is run or compared below; every command is run."""
    assert PAGE.count("```python") == len(PROGRAMS) + len(PARTS)
    assert {f"{name}.py" for name in SERVERS} == set(PROGRAMS)
    assert len(COMMANDS) == len(SERVERS) + 2


@pytest.mark.parametrize("name", PARTS)
def test_parts(name):
    """What the page shows of the Django project is what is in it."""
    assert PARTS[name] in (EXAMPLES / "django_app" / name).read_text()


def test_commands_of_django():
    """They are those of the example, which its own tests run."""
    text = (EXAMPLES / "django_app" / "shop" / "__init__.py").read_text()
    for command in COMMANDS[-3:-1]:
        assert shlex.join(command) in text


@pytest.mark.parametrize("name", SERVERS)
async def test_program(server, tmp_path, name):
    """Each program takes an order, and prepares it unless a worker of its own would; SIGTERM ends
    it quietly.
    """
    server.redis.config_set("save", "3600 1000000")
    (tmp_path / f"{name}.py").write_text(PROGRAMS[f"{name}.py"])
    command = SERVERS[name]
    program = Program(
        *(sys.executable, "-m", *command, *PORT_0[command[0]]),
        cwd=tmp_path,
        redis_url=server.url,
    )
    with contextlib.closing(program) as app:
        async with talking_to(app) as http:

            async def is_accepted():
                with contextlib.suppress(httpx.TransportError):
                    reply = await http.post("/orders", json={"text": "a hat"})
                    return reply.status_code == 202

            await wait_until(is_accepted)
            if name == "flask_app":
                await work(server, tmp_path)
            else:
                await wait_until(lambda: "prepared: a hat" in app.output)
            if name == "fastapi_app":
                await read_news(server, http)
        app.process.terminate()
        await app.ended()
        assert not re.search("Traceback|ERROR|unclosed <Async", app.output), app.output


async def work(server, folder):
    """The worker of Flask prepares the order that waits."""
    assert server.redis.zcard("rsmq:orders") == 1
    (folder / "worker.py").write_text(FLASK_WORKER)
    program = Program(sys.executable, "worker.py", cwd=folder, redis_url=server.url)
    with contextlib.closing(program) as worker:
        await wait_until(lambda: "prepared: a hat" in worker.output)
        worker.process.terminate()
        assert await worker.ended() == 0, worker.output


async def read_news(server, http):
    """A browser reads what is sent to the queue that FastAPI streams."""
    async with AsyncRSMQ.from_url(server.url) as rsmq:
        await rsmq.queue("news").send("a hat is ready")
        async with http.stream("GET", "/news") as reply:
            assert await anext(reply.aiter_lines()) == "data: a hat is ready"
