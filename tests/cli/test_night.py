"""Three in the morning: a queue is stuck. One command finds out why, and one more mends it."""

import asyncio
import re
import shlex
import sys

import anyio
import pytest
from aiorsmq import AsyncRSMQ

from support import PATIENCE, now_ms, wait_until

HANDLER = """
async def handle(message):
    print(message.body, flush=True)
"""


async def remedy(cli, code, **options):
    """The command line that `aiorsmq doctor` names for what it has found."""
    result = await cli("doctor", expect=1, **options)
    (block,) = (block for block in result.out.split("\n\n") if block.split("\n")[0].endswith(code))
    assert block.startswith(("critical", "warning"))
    (line,) = re.findall(r"^ +do: (.*)$", block, re.MULTILINE)
    words = shlex.split(line)
    assert words[0] == "redis-cli" or words[0] == "aiorsmq"
    return words


async def test_poison_message(cli, server, rsmq, queue):
    """One message makes each handler fail, and the others wait behind it."""
    bad, good = await queue.send_many(["bad", "good"])
    for _ in range(9):
        message = await queue.receive()
        assert message.id == bad
        server.redis.zadd("rsmq:jobs", {bad: 1})  # its consumer has failed
    words = await remedy(cli, "poison-message")
    await cli(*words[1:])
    assert (await queue.receive()).id == good


async def test_vt_shorter_than_the_work(cli, server, queue):
    """Each message comes back before its handler has ended, and is handled again."""
    await queue.set_attributes(vt=1)
    await queue.send_many(["a", "b"])
    for _ in range(3):
        received = []
        while len(received) < 2:
            received += await queue.receive_many(2, wait=5)
    words = await remedy(cli, "vt-too-short")
    await cli(*words[1:])
    received = []
    while len(received) < 2:
        received += await queue.receive_many(2, wait=5)
    age = received[0].visible_until.timestamp() * 1000 - now_ms(server)
    assert age > 10_000
    assert await queue.receive() is None


async def test_nobody_listens(cli, server, rsmq, queue, tmp_path):
    """Messages wait, and no consumer is there: one is started."""
    id = await queue.send("hello")
    server.redis.zadd("rsmq:jobs", {id: now_ms(server) - 300_000})
    words = await remedy(cli, "nobody-listens")
    (tmp_path / "shop.py").write_text(HANDLER)
    words[words.index("MODULE:HANDLER")] = "shop:handle"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", *words),
        cwd=tmp_path,
        env={"AIORSMQ_URL": server.url, "PYTHONPATH": ":".join(sys.path)},
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        with anyio.fail_after(PATIENCE):
            assert await process.stdout.readline() == b"hello\n"
        await wait_until(lambda: server.redis.zcard("rsmq:jobs") == 0)
    finally:
        process.terminate()
        await process.wait()


async def test_full_server(cli, own_server):
    """The server has no memory left, so every send fails."""
    server = own_server("--appendonly", "yes")
    async with AsyncRSMQ.from_url(server.url) as rsmq:
        queue = rsmq.queue("jobs")
        await queue.create()
        server.redis.config_set("maxmemory", server.redis.info("memory")["used_memory"])
        with pytest.raises(Exception, match=r"OOM|maxmemory"):
            for _ in range(100):
                await queue.send("x" * 60_000)
        words = await remedy(cli, "server-full", env={"AIORSMQ_URL": server.url})
        assert words[:3] == ["redis-cli", "-s", server.socket]
        server.redis.execute_command(*words[3:])
        await queue.send("x" * 60_000)
        assert await queue.receive() is not None


async def test_paused_queue(cli, server, rsmq, queue):
    """Somebody has paused the queue, and forgotten it."""
    await queue.send("hello")
    server.redis.hset("rsmq:jobs:Q", "paused", now_ms(server) - 3_600_000)
    words = await remedy(cli, "paused")
    await cli(*words[1:])
    assert (await queue.receive()).body == "hello"


@pytest.mark.parametrize("damage", ["settings", "hash"])
async def test_half_made_queue(cli, server, rsmq, queue, damage):
    """A program has crashed while it made or deleted the queue: messages are there, and no consumer
    gets them."""
    await queue.send("hello")
    server.redis.hdel("rsmq:jobs:Q", "vt", "delay", "maxsize", "created", "modified")
    if damage == "hash":
        server.redis.srem("rsmq:QUEUES", "jobs")
    words = await remedy(cli, "half-made")
    await cli(*words[1:])
    assert (await rsmq.queue("jobs").receive()).body == "hello"
    assert await rsmq.list_queues() == {"jobs"}
