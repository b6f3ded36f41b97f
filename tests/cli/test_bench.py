"""`bench` measures the user's own server, in a queue of its own."""

import asyncio
import importlib.util
import re
import signal
import sys
from contextlib import asynccontextmanager
from pathlib import Path

from support import PATIENCE, wait_until

PAGE = (Path(__file__).parents[2] / "docs" / "performance.md").read_text()
HAS_PYRSMQ = importlib.util.find_spec("rsmq") is not None
QUICK = ("--rounds", "2", "--seconds", "0.02")


async def test_json(cli, server, queue):
    """All rows have a value for each round, and what they depend on is told. No queue is left
    behind, and no other queue is touched.
    """
    await queue.send("hello")
    result = (await cli("bench", *QUICK, "--json")).json()
    assert (result["loop"], result["address"], result["rounds"]) == ("asyncio", server.socket, 2)
    for row in result["rows"]:
        assert len(row["values"]) == 2, row
        assert 0 < min(row["values"]) <= row["median"] <= max(row["values"]), row
        is_compared = HAS_PYRSMQ and row["name"].startswith(("send,", "receive + delete,"))
        assert len(row["pyrsmq"] or []) == 2 * is_compared, row
    assert {row["unit"] for row in result["rows"]} == {"/s", "µs"}
    assert bool(result["PyRSMQ"]) == HAS_PYRSMQ
    assert server.redis.smembers("rsmq:QUEUES") == {b"jobs"}
    assert server.redis.zcard("rsmq:jobs") == 1
    assert set(server.redis.keys()) == {b"rsmq:QUEUES", b"rsmq:jobs", b"rsmq:jobs:Q"}


async def test_the_pages_rows(cli):
    """The rows are called as in docs/performance.md, and one line each; uvloop is used if asked
    for.
    """
    result = await cli("bench", *QUICK, "--uvloop")
    pattern = r"^\| ((?:send|receive \+ delete), (?:1|16|64) at a time) "
    wanted = re.findall(pattern, PAGE, re.MULTILINE)
    assert len(wanted) == 6
    lines = result.out.splitlines()
    for name in wanted:
        (line,) = [line for line in lines if line.startswith(f"{name}  ")]
        assert re.search(r"[\d,]+/s +[\d,]+\.\.[\d,]+", line), line
    assert " on uvloop;" in result.out
    assert re.search("Deleted aiorsmq-bench-[0-9a-f]{8}, to which [0-9,]+ messages", result.err)


@asynccontextmanager
async def running(server):
    """A run in the middle, which has sent messages."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "aiorsmq", "bench", "--url", server.url),
        *("--rounds", "1", "--seconds", "2"),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        await wait_until(lambda: len(server.redis.keys("rsmq:aiorsmq-bench-*")) == 2)  # of messages
        async with asyncio.timeout(PATIENCE):
            yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_interrupted(server):
    """Ctrl-C ends it with one line, and deletes its queue."""
    async with running(server) as process:
        process.send_signal(signal.SIGINT)
        _, err = await process.communicate()
    assert process.returncode == 130
    assert re.fullmatch(r"Deleted .* messages had been sent\.\s+Interrupted\.\n", err.decode()), err
    assert server.redis.keys() == []


async def test_without_its_queue(server):
    """What it cannot go on without is told in one line."""
    async with running(server) as process:
        server.redis.flushall()
        _, err = await process.communicate()
    assert process.returncode == 1
    assert re.fullmatch(
        r"(aiorsmq-bench-\w+) may be left behind\.\naiorsmq: .*\1.*\n", err.decode()
    ), err
