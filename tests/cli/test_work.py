"""`aiorsmq work`: a worker as a program, from its start to its end."""

import contextlib
import http.client
import inspect
import json
import os
import re
import signal
import socket
import subprocess
import sys

import anyio.to_thread
import psutil
import pytest
from aiorsmq import Queue
from aiorsmq.cli.work import Limits

from support import insist, restart, wait_until

HANDLERS = """
import asyncio, functools, logging, os, pathlib, time

def say(message):
    print("done:", message.queue, message.body, flush=True)

async def handle(message):
    say(message)

async def greet(greeting, message):
    print(greeting, end=" ")
    say(message)

class Shop:
    async def handle(self, message):
        say(message)

    def __call__(self, message):
        say(message)

shop = Shop()
partial = functools.partial(greet, "hello")

async def wait(message):
    print("begun", flush=True)
    while not pathlib.Path("go").exists():
        await asyncio.sleep(0.01)
    say(message)

async def block(message):
    print("begun", flush=True)
    while not pathlib.Path("go").exists():
        time.sleep(0.01)

def fail(message):
    logging.getLogger("shop").info("got it", extra={"customer": 7})
    raise ValueError(message.body)

class Upper:
    def encode(self, body):
        return body.lower().encode()

    def decode(self, raw):
        return raw.decode().upper()

UPPER = Upper()
not_a_function = 5
"""


class Program:
    """A program in a folder; what it prints is in files of that folder."""

    def __init__(self, folder, *arguments, **env):
        self.out = folder / "out"
        self.err = folder / "err"
        options = {"PYTHONDONTWRITEBYTECODE": "1"}  # code that changes within a second is read
        plain = {name: value for name, value in os.environ.items() if "RSMQ_" not in name}
        with self.out.open("w") as out, self.err.open("w") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "aiorsmq", *arguments],  # -P: as the script `aiorsmq`
                cwd=folder,
                env=plain | options | env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    @property
    def log(self):
        return self.err.read_text()

    @property
    def done(self):
        """What its handlers have printed."""
        return [
            line.removeprefix("done: ")
            for line in self.out.read_text().splitlines()
            if line.startswith("done: ")
        ]

    async def begun(self, text="begun"):
        """Wait until it has printed that, and does not end before."""
        await wait_until(lambda: text in self.out.read_text() + self.log or self.has_ended())
        assert not self.has_ended(), self.log

    def has_ended(self):
        return self.process.poll() is not None

    async def ended(self):
        """Wait until it has ended, and return its exit code."""
        await wait_until(self.has_ended)
        return self.process.returncode

    async def probes(self):
        """Where it answers probes: host and port."""
        await self.begun("/livez and /readyz")
        url = self.log.partition("http://")[2].partition("/")[0]
        return url.rpartition(":")[::2]

    def close(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def work(server, tmp_path):
    """`work("shop:handle", "jobs")`: the program, on the test's server."""
    (tmp_path / "shop.py").write_text(HANDLERS)
    server.redis.config_set("save", "3600 1000000")  # else each program warns of it
    with contextlib.ExitStack() as programs:

        def start(*arguments, **env):
            url = {"AIORSMQ_URL": server.url}
            program = Program(tmp_path, "work", *arguments, **(url | env))
            return programs.enter_context(contextlib.closing(program))

        yield start
    server.redis.config_set("save", "")


async def ask(where, path):
    """The status and the text of an answer."""

    def get():
        host, port = where
        connection = http.client.HTTPConnection(host, int(port), timeout=20)
        with contextlib.closing(connection):
            connection.request("GET", path)
            reply = connection.getresponse()
            return reply.status, reply.read().decode()

    return await anyio.to_thread.run_sync(get)


def test_defaults():
    """The options have the defaults of `Queue.worker`."""
    theirs = inspect.signature(Queue.worker).parameters
    ours = vars(Limits())
    assert ours == {name: theirs[name].default for name in ours}


class TestWorking:
    @pytest.mark.parametrize("queues", [["mail", "jobs"], ["jobs=1", "mail=1000000"]])
    async def test_order(self, rsmq, work, queues):
        """Queues are asked in the order of their names or by their weights; `--burst` ends when all
        are empty, and leaves what is delayed.
        """
        for name in ("jobs", "mail"):
            await rsmq.queue(name).create()
            await rsmq.queue(name).send_many(["a", "b"])
        await rsmq.queue("mail").send("later", delay=3600)
        program = work("shop:handle", *queues, "--concurrency", "1", "--burst")
        assert await program.ended() == 0, program.log
        assert program.done == ["mail a", "mail b", "jobs a", "jobs b"]
        assert [message.body for message in await rsmq.queue("mail").peek()] == ["later"]
        first, last = program.log.splitlines()
        assert f"working on {', '.join(queues)} with shop:handle, 1 at a time, at /" in first
        assert last.endswith("stopped: 4 received, 4 succeeded")

    @pytest.mark.parametrize(
        "handler", ["shop:say", "shop:partial", "shop:shop.handle", "shop:shop", "shop.handle"]
    )
    async def test_handlers(self, queue, work, handler):
        """A handler may be plain or async, a partial, a method or an object that can be called."""
        await queue.send("x")
        program = work(handler, "jobs", "--burst")
        assert await program.ended() == 0, program.log
        assert "done: jobs x\n" in program.out.read_text()

    async def test_codec(self, rsmq, work):
        """Bodies are decoded by the codec of that name; `--create` creates queues."""
        program = work("shop:handle", "jobs", "--codec", "shop:UPPER", "--create")
        await program.begun("working on")
        await rsmq.queue("jobs").send("x")
        await wait_until(lambda: program.done == ["jobs X"])

    async def test_dead_letters(self, rsmq, work):
        """A handler that fails: the message moves to the dead-letter queue with the reason, and the
        program works on.
        """
        await rsmq.queue("jobs").ensure(max_receives=1, dead_letter_queue="dead")
        await rsmq.queue("jobs").send_many(["a", "b"])
        program = work("shop:fail", "jobs", "--burst")
        assert await program.ended() == 0, program.log
        reasons = [letter.reason for letter in await rsmq.queue("dead").reasons()]
        assert sorted(reasons) == ["ValueError: a", "ValueError: b"]
        assert "stopped: 2 received, 0 succeeded, 2 failed, 2 dead" in program.log


class TestStopping:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    async def test_graceful(self, queue, work, tmp_path, number):
        """A signal lets the handler end, and settles its message; exit code 0."""
        await queue.send_many(["a", "b"])
        program = work("shop:wait", "jobs", "--concurrency", "1", "--health-port", "0")
        where = await program.probes()
        await program.begun("begun")
        program.process.send_signal(number)
        await wait_until(lambda: _is(where, 503))
        assert await ask(where, "/readyz") == (503, "worker: stopping")
        (tmp_path / "go").touch()
        assert await program.ended() == 0
        assert program.done == ["jobs a"]
        assert [message.body for message in await queue.peek()] == ["b"]
        assert "stopped: 1 received, 1 succeeded\n" in program.log

    async def test_second_signal(self, queue, work):
        """A second signal cancels the handler, and its message is visible again at once."""
        await queue.send("a")
        program = work("shop:wait", "jobs", "--grace", "3600")
        await program.begun()
        assert await insist(program.process, signal.SIGTERM, program.ended()) == 0
        (message,) = await queue.peek()
        assert (message.body, message.receive_count) == ("a", 1)

    async def test_just_after_the_start(self, queue, work):
        """A signal that comes when it has just started ends it as gracefully."""
        program = work("shop:handle", "jobs")
        await wait_until(lambda: "working on" in program.log)
        program.process.terminate()
        assert await program.ended() == 0

    async def test_while_it_waits_for_the_server(self, work):
        """SIGTERM ends it at once while it waits for the server, which `/readyz` says."""
        url = "redis://:s3cret@127.0.0.1:1"
        program = work("shop:handle", "jobs", "--health-port", "0", AIORSMQ_URL=url)
        await program.begun("waiting up to 30 seconds for the server at 127.0.0.1:1\n")
        assert await ask(await program.probes(), "/readyz") == (503, "worker: starting")
        program.process.terminate()
        assert await program.ended() == 0
        assert "Traceback" not in program.log
        assert "s3cret" not in program.log


class TestErrors:
    @pytest.mark.parametrize(
        ("arguments", "code", "text"),
        [
            ("shop jobs", 2, "handler='shop': must be a module and a name in it, as"),
            ("gone:handle jobs", 2, "handler='gone:handle': no module 'gone'"),
            ("shop:handel jobs", 2, "has no 'handel'; did you mean 'handle'?"),
            ("shop:not_a_function jobs", 2, "handler='shop:not_a_function': must be a function"),
            ("shop:Shop jobs", 2, "handler='shop:Shop': must be an object of this class"),
            ("shop:handle jobs --codec YAML", 2, "codec='YAML': must be TEXT, BYTES, JSON, or"),
            ("shop:handle jobs --codec shop:Upper", 2, "must be an object with `encode` and"),
            ("shop:handle jobs=3 mail", 2, "must have a weight each, or none"),
            ("shop:handle jobs=often", 2, "queues='jobs=often': must be the name of a queue, or"),
            ("shop:handle jobs --concurrency 0", 2, "concurrency=0: must be an int from 1 to"),
            ("shop:handle jobs --health-port 65536", 2, "must be from 0 to 65535"),
            ("shop:handle jobs", 1, "queue 'jobs' does not exist: create it; `aiorsmq create jobs"),
            (
                "shop:handle jobs --connect-timeout 0 --url redis://:s3cret@127.0.0.1:1",
                *(3, "cannot reach 127.0.0.1:1: "),
            ),
        ],
    )
    async def test_one_line(self, work, arguments, code, text):
        """What is wrong is told in one line, without a password, by exit codes."""
        program = work(*arguments.split())
        assert await program.ended() == code
        assert program.log.startswith("aiorsmq: ")
        assert text in program.log
        assert program.log.count("\n") == 1
        assert "s3cret" not in program.log

    @pytest.mark.parametrize("text", ["import shop.none", "1 / 0", "def f(:"])
    async def test_code_that_fails(self, work, tmp_path, text):
        """Code that cannot be imported: its own traceback and nothing of ours, then one line."""
        (tmp_path / "broken.py").write_text(text)
        program = work("broken:handle", "jobs")
        assert await program.ended() == 1
        *trace, last = program.log.splitlines()
        assert "broken.py" in "".join(trace)
        assert "aiorsmq" not in "".join(trace)
        assert last.startswith("aiorsmq: module 'broken' raises ")

    async def test_extra(self, work, tmp_path):
        """Without the extra, `--reload` names it in one line."""
        (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['watchfiles'] = None")
        path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
        program = work("shop:handle", "jobs", "--reload", PYTHONPATH=path)
        assert await program.ended() == 1
        text = '--reload requires an optional package: pip install "aiorsmq-realtime[reload]"'
        assert program.log == f"aiorsmq: {text}\n"


class TestLog:
    async def test_json(self, rsmq, work):
        """`--log-format json`: each line is an object, with the fields of `extra=` and the
        exception in it.
        """
        await rsmq.queue("jobs").ensure(max_receives=1, dead_letter_queue="dead")
        id = await rsmq.queue("jobs").send("a\nb")
        program = work("shop:fail", "jobs", "--burst", "--log-format", "json")
        assert await program.ended() == 0, program.log
        start, shop, failed, end = map(json.loads, program.log.splitlines())
        assert all(line["time"].endswith("+00:00") for line in (start, shop, failed, end))
        assert (start["level"], start["logger"]) == ("INFO", "aiorsmq.work")
        assert (start["queues"], start["handler"]) == (["jobs"], "shop:fail")
        assert (shop["logger"], shop["message"], shop["customer"]) == ("shop", "got it", 7)
        assert (failed["level"], failed["logger"]) == ("ERROR", "aiorsmq.worker")
        assert (failed["queue"], failed["id"], failed["attempt"]) == ("jobs", id, 1)
        assert failed["reason"] == "ValueError: a\nb"
        assert failed["seconds"] >= 0
        assert failed["exception"].endswith("ValueError: a\nb")
        assert (end["received"], end["dead"]) == (1, 1)

    async def test_json_of_an_end(self, work):
        """What ends the program is a line like each other."""
        program = work("shop:handle", "jobs", AIORSMQ_LOG_FORMAT="json")
        assert await program.ended() == 1
        line = json.loads(program.log)
        assert (line["level"], "'jobs' does not exist" in line["message"]) == ("ERROR", True)

    async def test_own_configuration(self, queue, work, tmp_path):
        """A module that sets up logging has its way."""
        text = "import logging\nlogging.basicConfig(format='MINE %(message)s', level='INFO')\n"
        (tmp_path / "shop.py").write_text(text + HANDLERS)
        program = work("shop:handle", "jobs", "--burst", "--log-format", "json")
        assert await program.ended() == 0
        assert re.findall("(?m)^MINE [a-z]+", program.log) == ["MINE working", "MINE stopped"]
        assert program.log.count("\n") == 2

    async def test_control_characters(self, queue, work):
        """What others wrote has no effect on a terminal."""
        await queue.send("\x1b[31mred")
        program = work("shop:fail", "jobs")
        await program.begun("redelivered in")
        assert "ValueError: \\x1b[31mred" in program.log
        assert "\x1b" not in program.log


class TestHealth:
    async def test_probes(self, own_server, work):
        """`/readyz` says why while the server is away, and 200 again when it is back; `/livez`
        stays 200. Neither is logged.
        """
        server = own_server()
        program = work(
            *("shop:handle", "jobs", "--create", "--health-port", "0"), AIORSMQ_URL=server.url
        )
        where = await program.probes()
        await program.begun("working on")
        await wait_until(lambda: _is(where, 200))
        assert await ask(where, "/readyz?x=1") == (200, "ready")
        assert (await ask(where, "/"))[0] == 404
        server.kill()
        await wait_until(lambda: _is(where, 503))
        status, text = await ask(where, "/readyz")
        assert (status, text.startswith("worker: cannot claim: ")) == (503, True)
        assert await ask(where, "/livez") == (200, "alive")
        await restart(server, 0)
        await wait_until(lambda: _is(where, 200))
        assert "GET" not in program.log
        program.process.terminate()
        assert await program.ended() == 0

    async def test_blocked(self, queue, work, tmp_path):
        """A handler that blocks the event loop makes both answer 503, and says so."""
        await queue.send("x")
        program = work("shop:block", "jobs", "--health-port", "0")
        where = await program.probes()
        await program.begun()
        for path in ("/livez", "/readyz"):
            status, text = await ask(where, path)
            assert (status, "event loop has been blocked" in text) == (503, True)
        (tmp_path / "go").touch()
        assert await ask(where, "/livez") == (200, "alive")

    async def test_port_in_use(self, queue, work):
        """A port that is taken is told in one line: exit code 1."""
        with socket.create_server(("127.0.0.1", 0)) as listening:
            port = listening.getsockname()[1]
            program = work("shop:handle", "jobs", "--health-port", str(port))
            assert await program.ended() == 1
        text = f"cannot listen on 127.0.0.1:{port}: Address already in use"
        assert program.log == f"aiorsmq: {text}\n"


async def _is(where, status):
    return (await ask(where, "/readyz"))[0] == status


class TestReload:
    async def test_reload(self, queue, work, tmp_path):
        """A change starts new code after a graceful stop of the old; code that cannot be imported
        is shown, and the next change waited for; Ctrl-C ends all.
        """
        program = work("shop:handle", "jobs", "--reload")
        await program.begun("working on")
        await queue.send("a")
        await wait_until(lambda: program.done == ["jobs a"])
        (tmp_path / "shop.py").write_text("1 / 0")
        await program.begun("exit code 1. Waiting for a change.")
        assert "shop.py has changed: starting again.\n" in program.log
        assert "stopped: 1 received, 1 succeeded\n" in program.log
        assert "aiorsmq: module 'shop' raises ZeroDivisionError" in program.log
        (tmp_path / "shop.py").write_text(HANDLERS.replace("done: ", "done: new "))
        await queue.send("b")
        await wait_until(lambda: len(program.done) == 2)
        children = psutil.Process(program.process.pid).children()
        program.process.send_signal(signal.SIGINT)
        assert await program.ended() == 0, program.log
        assert not any(map(psutil.Process.is_running, children))

    async def test_another_folder(self, queue, work, tmp_path_factory):
        """`--reload-dir` watches another folder."""
        folder = tmp_path_factory.mktemp("library")
        program = work("shop:handle", "jobs", "--reload-dir", str(folder))
        await program.begun("working on")
        (folder / "library.py").touch()
        await wait_until(lambda: program.log.count("working on") == 2)
        program.process.terminate()
        assert await program.ended() == 0, program.log

    async def test_killed_parent(self, queue, work):
        """If the parent is killed, the child stops too, gracefully."""
        program = work("shop:handle", "jobs", "--reload")
        await program.begun("working on")
        (child,) = psutil.Process(program.process.pid).children()
        program.process.kill()
        await wait_until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)
        assert "stopped: 0 received" in program.log
