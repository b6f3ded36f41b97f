"""The programs and commands of docs/operations/deployment.md do what it says, under each signal and
probe, and its files of other tools agree with them. Its sessions are run with the pages.
"""

import configparser
import contextlib
import json
import re
import shlex
import signal
import sys

import httpx
import pytest
import yaml
from aiorsmq import AsyncRSMQ

from docs.page import DOCS, blocks
from examples.program import Program
from support import free_port, wait_until

PAGE = DOCS / "operations" / "deployment.md"
BLOCKS = blocks(PAGE)
FILES = {block.name: block.text for block in BLOCKS if block.name}
PROGRAMS = {name: text for name, text in FILES.items() if name.endswith(".py")}
COMPOSE = yaml.safe_load(FILES["compose.yaml"])["services"]
PODS = {
    deployment["metadata"]["name"]: deployment["spec"]["template"]["spec"]
    for deployment in yaml.safe_load_all(FILES["kubernetes.yaml"])
}
KEDA = yaml.safe_load(FILES["keda.yaml"])["spec"]
UNIT = configparser.ConfigParser()
UNIT.optionxform = str
UNIT.read_string(FILES["aiorsmq-jobs.service"])
SYSTEMD = UNIT["Service"]
(WITH_PROBES,) = (
    yaml.safe_load(block.text)["command"]
    for block in BLOCKS
    if block.language == "yaml" and not block.name
)
CREATE = ["aiorsmq", "create", "jobs", "--max-receives", "5", "--dlq", "jobs-dead"]
CMD = json.loads(re.search(r"CMD (\[.*\])", FILES["Dockerfile"])[1])
WORKERS = [
    CMD,
    WITH_PROBES,
    COMPOSE["worker"]["command"],
    PODS["worker"]["containers"][0]["command"],
    shlex.split(SYSTEMD["ExecStart"].removeprefix("/srv/app/.venv/bin/")),
]
WORKERS = [list(command) for command in dict.fromkeys(map(tuple, WORKERS))]
SERVERS = [
    shlex.split(line)
    for block in BLOCKS
    if block.language == "sh"
    for line in block.text.splitlines()
]
BAD_WORDS = "Traceback|ERROR|SIGKILL"


@pytest.fixture(scope="module")
def anyio_backend():
    """The event loops are the programs' own."""
    return "asyncio", {"debug": True}


@pytest.fixture
def folder(tmp_path):
    """With the programs of the page."""
    for name, text in PROGRAMS.items():
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.fixture
def start(server, folder):
    server.redis.config_set("save", "3600 1000000")
    with contextlib.ExitStack() as programs:

        def start(command):
            module = [] if command[0] == "python" else ["-m", command[0]]
            program = Program(
                *(sys.executable, *module, *command[1:]), cwd=folder, redis_url=server.url
            )
            return programs.enter_context(contextlib.closing(program))

        yield start


@contextlib.asynccontextmanager
async def served(start, command):
    """The program of a web app once it is ready, and a client for it."""
    port = str(free_port())
    program = start([part.replace("8000", port) for part in command])
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http:

        async def is_ready():
            with contextlib.suppress(httpx.TransportError):
                return (await http.get("/readyz")).status_code == 200

        await wait_until(is_ready)
        yield program, http


@pytest.mark.parametrize("command", WORKERS, ids=" ".join)
async def test_a_worker(server, start, command):
    """It works, and SIGTERM ends it, with all done and no bad word; probes are answered."""
    assert await start(CREATE).ended() == 0
    port = str(free_port())
    program = start([part.replace("8000", port) for part in command])
    async with AsyncRSMQ.from_url(server.url) as rsmq:
        await rsmq.queue("jobs").send('{"text": "x"}')
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
        assert not re.search(f"{BAD_WORDS}|WARNING", program.output), program.output


async def test_compose(server, start):
    """The web app hands a job to the worker, and SIGTERM ends both without a bad word."""
    worker = start(COMPOSE["worker"]["command"])
    async with served(start, COMPOSE["web"]["command"]) as (web, http):
        assert (await http.post("/jobs", json={"text": "x"})).status_code == 202
        await wait_until(lambda: "done: x\n" in worker.output)
    for program in (web, worker):
        program.process.terminate()
        assert await program.ended() in (0, -signal.SIGTERM)
        assert not re.search(BAD_WORDS, program.output), program.output
    assert server.redis.zcard("rsmq:jobs") == 0


@pytest.mark.parametrize("command", SERVERS, ids=" ".join)
async def test_a_worker_in_the_web_app(server, start, folder, command):
    """It works, answers probes and KEDA, and SIGTERM ends it without a bad word."""
    (with_worker,) = set(re.findall(r"`(attach\(app, rsmq, jobs.*?\))`", PAGE.read_text()))
    text = PROGRAMS["app.py"].replace("attach(app, rsmq)", with_worker)
    (folder / "app.py").write_text(f"from jobs import work\n{text}")
    async with served(start, command) as (program, http), AsyncRSMQ.from_url(server.url) as rsmq:
        assert (await http.get("/livez")).status_code == 200
        assert (await http.post("/jobs", json={"text": "x"})).status_code == 202
        await wait_until(lambda: "done: x\n" in program.output)
        await rsmq.queue("others").create()
        await rsmq.queue("others").send_many(["visible"] * 3)
        await rsmq.queue("others").send("delayed", delay=100)
        path = KEDA["triggers"][0]["metadata"]["url"].partition(":8000")[2]
        assert (await http.get(path.replace("jobs", "others"))).json() == {"value": 3}
        program.process.terminate()
        assert await program.ended() in (0, -signal.SIGTERM)
        assert (await rsmq.queue("jobs").attributes()).msgs == 0
    assert not re.search(BAD_WORDS, program.output), program.output


def test_times():
    """What kills a program waits ten seconds longer than the grace of the workers."""
    graces = re.findall(r"grace[= ]+(\d+)", " ".join([*PROGRAMS.values(), *map(" ".join, WORKERS)]))
    assert set(graces) == {"20"}
    assert {service["stop_grace_period"] for service in (COMPOSE["web"], COMPOSE["worker"])} == {
        "30s"
    }
    assert {pod["terminationGracePeriodSeconds"] for pod in PODS.values()} == {30}
    assert SYSTEMD["TimeoutStopSec"] == "30"


def test_files():
    """The image has all programs; web app, worker and scaler mean each other."""
    assert set(re.search(r"COPY (.*) \./", FILES["Dockerfile"])[1].split()) == set(PROGRAMS)
    assert COMPOSE["web"]["command"] == PODS["web"]["containers"][0]["command"] == SERVERS[0]
    assert KEDA["scaleTargetRef"]["name"] in PODS
    assert {service["environment"]["REDIS_URL"] for service in map(COMPOSE.get, PODS)} == {
        "redis://valkey:6379"
    }
