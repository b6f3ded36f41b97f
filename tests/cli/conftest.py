"""The command line is run as a program of its own, as a user runs it."""

import asyncio
import json
import os
import sys
from typing import NamedTuple

import pytest

from support import PATIENCE


class Result(NamedTuple):
    code: int
    out: str
    err: str

    def json(self):
        return json.loads(self.out)


@pytest.fixture
def anyio_backend():
    """One event loop is enough: programs choose their own."""
    return "asyncio", {"debug": True}


@pytest.fixture
def cli(server):
    """`await cli("ls", "--json")`: run a command on the test's server."""

    async def run(*arguments, input=b"", env=None, expect=0):
        plain = {name: value for name, value in os.environ.items() if "RSMQ_" not in name}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "aiorsmq", *arguments),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=plain | {"AIORSMQ_URL": server.url, "COLUMNS": "160"} | (env or {}),
        )
        try:
            async with asyncio.timeout(PATIENCE):
                out, err = await process.communicate(input)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        result = Result(process.returncode, out.decode(), err.decode())
        assert expect in (result.code, None), result
        assert "Traceback" not in result.err, result.err
        return result

    return run
