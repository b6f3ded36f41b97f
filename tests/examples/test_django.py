"""The Django project under each kind of server, with its worker as a program of its own."""

import asyncio
import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import anyio
import httpx
import psutil
import pytest

from examples.program import EXAMPLES, Program, talking_to
from support import PATIENCE, wait_until

PROJECT = EXAMPLES / "django_app"
SERVERS = {
    "uvicorn": "-m uvicorn shop.asgi:application --port 0",
    "gunicorn": "-m gunicorn shop.wsgi -b 127.0.0.1:0 -w 2 --preload",
    "gunicorn threads": "-m gunicorn shop.wsgi -b 127.0.0.1:0 --threads 4",
    "runserver": "manage.py runserver 127.0.0.1:0",
}
WORKER = "manage.py rsmq_worker shop.handlers.prepare --queue django-orders --codec aiorsmq.JSON"
VIEWS = ["orders", "async-orders"]


@pytest.fixture(scope="module")
def anyio_backend():
    """The event loops are the programs' own."""
    return "asyncio", {"debug": True}


@pytest.fixture(autouse=True)
def keeps(running_server):
    """The server makes snapshots, as far as the programs can tell: else they would warn of it."""
    running_server.redis.config_set("save", "3600 1000000")


@pytest.fixture
def env(server, tmp_path):
    return {"REDIS_URL": server.url, "DATABASE": str(tmp_path / "shop.sqlite3")}


@pytest.fixture
def start(env):
    with contextlib.ExitStack() as programs:

        def start(command, cwd=PROJECT, **more):
            program = Program(sys.executable, *shlex.split(command), cwd=cwd, **env, **more)
            return programs.enter_context(contextlib.closing(program))

        yield start


@pytest.fixture
def manage(env):
    """`manage(command)` runs one to its end, and returns what it prints."""

    def manage(command, code=0, **more):
        process = subprocess.run(
            [sys.executable, "manage.py", *command.split()],
            cwd=PROJECT,
            env=os.environ | env | more,
            capture_output=True,
            text=True,
            check=False,
        )
        output = process.stdout + process.stderr
        assert process.returncode == code, output
        return process.stdout if code == 0 else process.stderr

    return manage


@pytest.fixture
def deployed(manage):
    manage("migrate --run-syncdb")
    manage("rsmq_ensure")


async def post(http, view):
    reply = await http.post(f"/{view}", data={"text": "hello"})
    assert reply.status_code == 202, reply.text
    return reply.json()["id"]


async def done(http, *ids):
    async def are_done():
        replies = [await http.get(f"/orders/{id}") for id in ids]
        return all(reply.json()["state"] == "done" for reply in replies)

    await wait_until(are_done)


async def events(http, seen, connected):
    """Append what the stream of events says, until the app ends it."""
    async with http.stream("GET", "/events", timeout=None) as reply:
        connected.set()
        async for line in reply.aiter_lines():
            if line.startswith("data: "):
                seen.append(line.removeprefix("data: "))


def assert_none_hidden(server, queue="django-orders"):
    """Each message that is left may be received at once."""
    seconds, microseconds = server.redis.time()
    now = seconds * 1000 + microseconds // 1000
    assert server.redis.zcount(f"rsmq:{queue}", f"({now}", "+inf") == 0


@pytest.mark.parametrize("name", SERVERS)
async def test_views(server, start, deployed, name):
    """Sync and async views send under each server, one request after the other and many at once,
    and the worker handles what they send. No request leaves a connection behind.
    """
    start(WORKER)
    app = start(SERVERS[name])
    async with talking_to(app) as http:
        ids = [await post(http, view) for view in VIEWS * 2]
        connections = server.clients()
        ids += await asyncio.gather(*(post(http, view) for view in VIEWS * 8))
        await done(http, *ids)
        assert len(set(ids)) == 20
    # Per process: calls and announcements, of `rsmq` and of the `arsmq()` of its event loop.
    processes = 1 + SERVERS[name].count("-w 2") + 1
    await wait_until(lambda: server.clients() <= 4 * processes)
    assert connections <= 4 * processes
    app.process.terminate()
    await app.ended()
    assert "Traceback" not in app.output, app.output
    assert "unclosed <AsyncRSMQ" not in app.output, app.output


@pytest.mark.parametrize("name", SERVERS)
async def test_stop_under_load(server, start, deployed, name):
    """SIGTERM ends web server and worker while orders are posted: both end as they should, and what
    was accepted is done by the next worker at once. An open stream ends with the server.
    """
    worker = start(WORKER)
    app = start(SERVERS[name])
    ids, seen, connected = [], [], asyncio.Event()
    async with talking_to(app) as http:

        async def post_all(view):
            with contextlib.suppress(httpx.TransportError):
                while True:
                    ids.append(await post(http, view))

        with anyio.fail_after(PATIENCE):
            async with asyncio.TaskGroup() as group:
                if name == "uvicorn":
                    group.create_task(events(http, seen, connected))
                    await connected.wait()
                for view in VIEWS * 2:
                    group.create_task(post_all(view))
                await wait_until(lambda: len(ids) > 50)
                worker.process.terminate()
                app.process.terminate()
    # uvicorn raises the signal again once all is closed; runserver has nothing to close.
    codes = {"uvicorn": (-signal.SIGTERM,), "runserver": (0, -signal.SIGTERM)}
    assert await app.ended() in codes.get(name, (0,)), app.output
    assert await worker.ended() == 0, worker.output
    assert "Traceback" not in app.output + worker.output, app.output + worker.output
    assert "graceful" not in app.output, app.output
    assert_none_hidden(server)
    if name == "uvicorn":
        assert_none_hidden(server, "django-news")
    start(WORKER)
    async with talking_to(start(SERVERS["uvicorn"])) as http:
        await done(http, *ids)
    assert server.redis.zcard("rsmq:django-orders") == 0
    assert server.redis.scard("rsmq:QUEUES") == 3


async def test_reload(server, start, deployed, tmp_path):
    """`runserver` reloads a changed view, and leaves no connection of the old process behind."""
    project = tmp_path / "project"
    shutil.copytree(PROJECT, project, ignore=shutil.ignore_patterns("__pycache__"))
    start(WORKER)
    views = project / "shop" / "views.py"
    app = start(SERVERS["runserver"], cwd=project)
    async with talking_to(app) as http:
        ids = [await post(http, view) for view in VIEWS]
    views.write_text(views.read_text().replace("else 404", "else 410"))

    async def is_reloaded():
        with contextlib.suppress(httpx.TransportError):
            async with talking_to(app) as http:
                return (await http.get("/orders/0")).status_code == 410

    for attempt in range(1, 4):
        with contextlib.suppress(TimeoutError):
            await wait_until(is_reloaded, timeout=PATIENCE / 2)
            break
        # Changed before runserver first looked at it, which it does each second.
        os.utime(views, (views.stat().st_mtime + attempt,) * 2)
    async with talking_to(app) as http:
        ids += [await post(http, view) for view in VIEWS]
        await done(http, *ids)
    await wait_until(lambda: server.clients() <= 6)
    assert "Traceback" not in app.output, app.output


async def test_the_worker_keeps_no_stale_connections(server, start, deployed, env, tmp_path):
    """Around each handler, sync or async, database connections are closed as around a view."""
    (tmp_path / "own_handlers.py").write_text(
        """\
from shop.handlers import prepare
from shop.models import Order

async def prepare_async(message):
    await Order.objects.filter(id=message.body["id"]).aupdate(state="done")
"""
    )
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    async with talking_to(start(SERVERS["uvicorn"])) as http:
        for handler in ("prepare", "prepare_async"):
            command = WORKER.replace("shop.handlers.prepare", f"own_handlers:{handler}")
            worker = start(command, PYTHONPATH=path)
            await done(http, *[await post(http, view) for view in VIEWS])
            process = psutil.Process(worker.process.pid)
            await wait_until(
                lambda process=process: (
                    env["DATABASE"] not in [file.path for file in process.open_files()]
                )
            )
            worker.process.terminate()
            assert await worker.ended() == 0, worker.output


async def test_ensure(server, manage):
    """`rsmq_ensure` creates the queues of the settings, and says what it has changed."""
    assert manage("rsmq_ensure") == ("queue django-orders: created\nqueue django-news: created\n")
    server.redis.hset("rsmq:django-news:Q", "vt", 99)
    assert manage("rsmq_ensure") == (
        "queue django-orders: unchanged\nqueue django-news: changed vt from 99 to 10\n"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            "shop.handlers.gone",
            "handler='shop.handlers.gone': module 'shop",
        ),
        ("gone:handle", "handler='gone:handle': no module 'gone'"),
        ("shop.handlers.prepare --codec JSN", "codec='JSN': must be TEXT, BYTES, JSON, or "),
        ("shop.handlers.prepare --concurrency 0", "concurrency=0: must be an int from 1 to 10000"),
        ("shop.handlers.prepare --queue nosuch", "queue 'nosuch' does not exist: add it to "),
    ],
)
async def test_a_worker_that_cannot_start(server, manage, arguments, message):
    """A mistake in the command is one line that says what to do."""
    output = manage(f"rsmq_worker --queue django-orders {arguments}", code=1)
    assert output.startswith("CommandError: "), output
    assert message in output
    assert output.count("\n") == 1


SETTINGS = [
    ("", "(aiorsmq.E001) settings.RSMQ is missing", "REDIS_URL"),
    ("RSQM = {}", "(aiorsmq.E001) settings.RSMQ is missing", ", not RSQM"),
    ("RSMQ = 'redis://'", "(aiorsmq.E002) settings.RSMQ must be a dict", "REDIS_URL"),
    ("RSMQ = {}", '(aiorsmq.E003) settings.RSMQ has no "url"', "REDIS_URL"),
    ("RSMQ = {'URL': 'redis://'}", '(aiorsmq.E003) settings.RSMQ has no "url"', ", not URL"),
    ("RSMQ = {'url': 'localhost'}", "(aiorsmq.E004) settings.RSMQ: url=", "redis://"),
    ("RSMQ = {'url': 'redis://', 'nss': 'x'}", "(aiorsmq.E004) settings.RSMQ: ", "nss"),
    (
        "RSMQ = {'url': 'redis://', 'queues': {'a b': {}}}",
        "(aiorsmq.E004) settings.RSMQ: \"queues\": name='a b'",
        "A-Z a-z 0-9",
    ),
    (
        "RSMQ = {'url': 'redis://', 'queues': {'a': {'tv': 3}}}",
        "(aiorsmq.E004) settings.RSMQ: queue 'a' has no setting \"tv\"",
        "vt",
    ),
    ("RSMQ = {'queues': {}}", '(aiorsmq.E003) settings.RSMQ has no "url"', "REDIS_URL"),
    ("RSMQ = {'url': 'redis://', 'queue': {}}", "(aiorsmq.E004) settings.RSMQ: ", "'queues'"),
    ("RSMQ = {'url': 'redis://', 'hostt': 1}", "(aiorsmq.E004) settings.RSMQ: ", "'host'"),
    ("RSMQ = {'url': 'redis://', 'queues': 1}", '(aiorsmq.E004) settings.RSMQ: "queues"', "dict"),
    (
        "RSMQ = {'url': 'redis://', 'queues': {'a': 3}}",
        "(aiorsmq.E004) settings.RSMQ: queue 'a': ",
        "dict",
    ),
    (
        "RSMQ = {'url': 'redis://', 'queues': {'a': {'vt': 1.5}}}",
        "(aiorsmq.E004) settings.RSMQ: queue 'a': vt=1.5: ",
        "whole",
    ),
    (
        "RSMQ = {'url': 'redis://', 'queues': {'a': {'dead_letter_queue': 'a'}}}",
        "(aiorsmq.E004) settings.RSMQ: queue 'a': dead_letter_queue='a': ",
        "must be another queue",
    ),
    (
        "RSMQ = {'url':'redis://', 'queues': {'a': {'max_receives': 0, 'dead_letter_queue': 'a'}}}",
        "(aiorsmq.E004) settings.RSMQ: queue 'a': dead_letter_queue='a': ",
        "must be another queue",
    ),
    (
        "RSMQ = {'url': 'redis://', 'queues': {'a': {'max_receives': -1}}}",
        "(aiorsmq.E004) settings.RSMQ: queue 'a': max_receives=-1: ",
        "",
    ),
]


@pytest.mark.parametrize(("lines", "error", "hint"), SETTINGS)
def test_check(tmp_path, lines, error, hint):
    """`manage.py check` reports a setting that is missing or wrong, also if views make queues when
    they are imported.
    """
    output = check(tmp_path, lines)
    assert error in output
    assert "Traceback" not in output, output
    assert hint in output.partition(error)[2]


def test_check_of_good_settings(tmp_path):
    queues = {"a": {"vt": 3, "max_receives": 0}, "b": {"max_receives": 0, "dead_letter_queue": "a"}}
    lines = f"RSMQ = {{'url': 'redis://', 'ns': 'x', 'db': 1, 'queues': {queues}}}"
    assert "no issues" in check(tmp_path, lines)


@pytest.mark.parametrize("line", ["", "RSMQ = {}", "RSMQ = {'url': 'redis://', 'hostt': 1}"])
def test_the_first_call_with_bad_settings(tmp_path, line):
    """It raises ImproperlyConfigured, from sync code and from async code."""
    (tmp_path / "its_settings.py").write_text(f"{line}\n")
    program = """\
import asyncio
from aiorsmq.integrations.django import arsmq, rsmq
from django.core.exceptions import ImproperlyConfigured

async def call():
    await arsmq().list_queues()

jobs = rsmq.queue("jobs")
for first_call in (lambda: jobs.send("x"), lambda: rsmq.list_queues(), lambda: asyncio.run(call())):
    try:
        first_call()
    except ImproperlyConfigured as error:
        print(error)
"""
    process = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"DJANGO_SETTINGS_MODULE": "its_settings"} | python_path(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.stdout.count("settings.RSMQ: ") == 3, process.stdout + process.stderr


async def test_threads_share_one_client(server, start, tmp_path):
    """Also if they make their first call at the same time: both read the settings before a client
    exists.
    """
    (tmp_path / "its_settings.py").write_text(
        f"""\
import threading
together = threading.Barrier(2)

class Setting(dict):
    def items(self):
        together.wait(60)
        return super().items()

RSMQ = Setting(url={server.url!r})
"""
    )
    program = """\
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from aiorsmq.integrations.django import rsmq

queues = [rsmq.queue("a"), rsmq.queue("b")]
with ThreadPoolExecutor(2) as threads:
    list(threads.map(lambda queue: queue.ensure(), queues))
print("ensured", flush=True)
Event().wait()
"""
    before = server.clients()
    app = start(
        f"-c {shlex.quote(program)}", DJANGO_SETTINGS_MODULE="its_settings", **python_path(tmp_path)
    )
    await wait_until(lambda: "ensured" in app.output)
    assert server.clients() == before + 1


def check(folder: Path, lines):
    (folder / "its_settings.py").write_text(
        "INSTALLED_APPS = ['aiorsmq.integrations.django']\nSECRET_KEY = 'x'\n"
        f"ROOT_URLCONF = 'its_views'\n{lines}\n"
    )
    (folder / "its_views.py").write_text(
        "from aiorsmq.integrations.django import rsmq\n"
        "jobs = rsmq.queue('jobs')\nurlpatterns = []\n"
    )
    process = subprocess.run(
        [sys.executable, "-m", "django", "check", "--settings", "its_settings"],
        env=os.environ | python_path(folder),
        capture_output=True,
        text=True,
        check=False,
    )
    return process.stdout + process.stderr


def python_path(folder: Path):
    return {"PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])}
