"""The command line is run as a program of its own, as a user runs it."""

import asyncio
import json
import os
import sys
from typing import NamedTuple

import pytest
from aiorsmq.cli.app import new_app
from aiorsmq.cli.errors import EXPECTED, exit_code, explain

from support import PATIENCE


class Result(NamedTuple):
    code: int
    raw: bytes
    err: str

    @property
    def out(self):
        return self.raw.decode()

    def json(self):
        return json.loads(self.raw)


@pytest.fixture
def anyio_backend():
    """One event loop is enough: programs choose their own."""
    return "asyncio", {"debug": True}


@pytest.fixture
async def start(server):
    """`await start("ls", "--json")`: start a command on the test's server."""
    processes = []

    async def begin(*arguments, env=None, **options):
        plain = {name: value for name, value in os.environ.items() if "RSMQ_" not in name}
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), asyncio.subprocess.PIPE)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "aiorsmq", *arguments),
            env=plain | {"AIORSMQ_URL": server.url, "COLUMNS": "160"} | (env or {}),
            **pipes | options,
        )
        processes.append(process)
        return process

    yield begin
    for process in processes:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.fixture
def cli(start):
    """`await cli("ls", "--json")`: run a command on the test's server."""

    async def run(*arguments, input=b"", env=None, expect=0):
        return await finish(await start(*arguments, env=env), input=input, expect=expect)

    return run


async def finish(process, *, input=None, expect=0):
    async with asyncio.timeout(PATIENCE):
        out, err = await process.communicate(input)
    result = Result(process.returncode, out or b"", (err or b"").decode())
    assert expect in (result.code, None), result
    assert "Traceback" not in result.err, result.err
    return result


@pytest.fixture
def finish_cli():
    """`await finish_cli(process)`: the result of a command that was started."""
    return finish


@pytest.fixture
def in_terminal(start):
    """`await in_terminal("y", "rm", "jobs")`: run a command in a terminal, and answer when it asks,
    or send it a signal; returns the exit code and what was seen.
    """

    async def run(answer, *arguments, env=None):
        ours, theirs = os.openpty()
        try:
            streams = dict.fromkeys(("stdin", "stdout", "stderr"), theirs)
            process = await start(*arguments, env={"TERM": "dumb"} | (env or {}), **streams)
            os.close(theirs)
            seen = b""
            async with asyncio.timeout(PATIENCE):
                while chunk := await asyncio.to_thread(read_terminal, ours):
                    seen += chunk
                    if answer and b"[y/N]" in seen:
                        if isinstance(answer, str):
                            os.write(ours, f"{answer}\n".encode())
                        else:
                            process.send_signal(answer)
                        answer = None
                return await process.wait(), seen.decode()
        finally:
            os.close(ours)

    return run


@pytest.fixture
def inside(server, capsysbinary, monkeypatch):
    """`await inside("ls")`: as `cli`, in this process, which is faster; input is empty."""
    monkeypatch.delenv("COLUMNS", raising=False)

    async def run(*arguments, url=server.url, expect=0):
        options = {"exit_on_error": False, "result_action": "return_value"}
        code = 0
        error_text = ""
        try:
            await new_app("test").run_async((*arguments, "--url", url), **options)
        except EXPECTED as error:
            code = exit_code(error)
            error_text = explain(error)
        out, err = capsysbinary.readouterr()
        result = Result(code, out, err.decode() + error_text)
        assert code == expect, result
        return result

    return run


def read_terminal(descriptor):
    try:
        return os.read(descriptor, 65536)
    except OSError:  # the program has ended
        return b""
