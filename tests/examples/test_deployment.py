"""The programs and commands of docs/operations/deployment.md do what it says."""

import contextlib
import json
import re
import shlex
import signal
import sys
from pathlib import Path

import httpx
import pytest
from aiorsmq import AsyncRSMQ

from examples.program import Program
from support import free_port, wait_until

PAGE = (Path(__file__).parents[2] / "docs" / "operations" / "deployment.md").read_text()
PROGRAMS = {
    name: f"# {name}\n{text}"
    for name, text in re.findall(r"```python\n# (\S+)\n(.*?)```", PAGE, re.DOTALL)
}
BLOCKS = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
(CREATE, WORK), SERVERS = [[shlex.split(line) for line in block.splitlines()] for block in BLOCKS]
IN_APP, IN_WORKER = map(json.loads, re.findall(r"command: (\[.*\])", PAGE))
SERVERS.append(IN_APP)
WORKERS = [
    WORK,
    json.loads(re.search(r"CMD (\[.*\])", PAGE)[1]),
    shlex.split(re.search(r"ExecStart=/srv/app/.venv/bin/(.*)", PAGE)[1]),
    IN_WORKER,
    ["python", "worker.py"],
]


@pytest.fixture(scope="module")
def anyio_backend():
    """The event loops are the programs' own."""
    return "asyncio", {"debug": True}


@pytest.fixture
def start(server, tmp_path):
    server.redis.config_set("save", "3600 1000000")
    for name, text in PROGRAMS.items():
        (tmp_path / name).write_text(text)
    with contextlib.ExitStack() as programs:

        def start(command):
            module = [] if command[0] == "python" else ["-m", command[0]]
            program = Program(
                *(sys.executable, *module, *command[1:]), cwd=tmp_path, redis_url=server.url
            )
            return programs.enter_context(contextlib.closing(program))

        yield start


def test_names():
    """Every program on the page has a name, and is run below."""
    assert PAGE.count("```python") == len(PROGRAMS)
    assert set(PROGRAMS) == {"jobs.py", "worker.py", "app.py"}


@pytest.mark.parametrize("command", WORKERS, ids=" ".join)
async def test_a_worker(server, start, command):
    """It works, and SIGTERM ends it, with all done and no bad word; probes are answered."""
    assert await start(CREATE).ended() == 0
    port = str(free_port())
    program = start([part.replace("8000", port) for part in command])
    async with AsyncRSMQ.from_url(server.url) as rsmq:
        await rsmq.queue("jobs").send("x")
        await wait_until(lambda: "done: x\n" in program.output)
        if "--health-port" in command:
            async with httpx.AsyncClient(trust_env=False) as http:
                answer = await http.get(f"http://127.0.0.1:{port}/readyz")
                assert (answer.status_code, answer.text) == (200, "ready")
        program.process.terminate()
        assert await program.ended() == 0
        attributes = await rsmq.queue("jobs").attributes()
        assert (attributes.msgs, attributes.dead_letter_queue) == (0, "jobs-dead")
    if command[0] == "python":
        assert program.output == "done: x\n"
    else:
        assert "stopped: 1 received, 1 succeeded\n" in program.output
        assert not re.search("Traceback|WARNING|ERROR", program.output), program.output


@pytest.mark.parametrize("command", SERVERS, ids=" ".join)
async def test_a_web_app(server, start, command):
    """It works, answers probes and KEDA, and SIGTERM ends it without a bad word."""
    port = str(free_port())
    program = start([part.replace("8000", port) for part in command])

    async def is_ready():
        with contextlib.suppress(httpx.TransportError):
            return (await http.get("/readyz")).status_code == 200

    async with (
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http,
        AsyncRSMQ.from_url(server.url) as rsmq,
    ):
        await wait_until(is_ready)
        assert (await http.get("/livez")).status_code == 200
        await rsmq.queue("jobs").send("x")
        await wait_until(lambda: "done: x\n" in program.output)
        await rsmq.queue("others").create()
        await rsmq.queue("others").send_many(["visible"] * 3)
        await rsmq.queue("others").send("delayed", delay=100)
        assert (await http.get("/scale/others")).json() == {"value": 3}
        program.process.terminate()
        assert await program.ended() in (0, -signal.SIGTERM)
        assert (await rsmq.queue("jobs").attributes()).msgs == 0
    assert not re.search("Traceback|ERROR|SIGKILL", program.output), program.output
