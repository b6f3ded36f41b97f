"""A queue in several namespaces is spread over the nodes of a cluster."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import anyio
from aiorsmq import AsyncRSMQ

from support import PATIENCE, wait_until

EXAMPLE = Path(__file__).parents[2] / "examples" / "partitions.py"
PARTITIONS = 12


async def test_partitions(cluster):
    """One client and one worker work on all partitions, which are on all nodes."""
    async with AsyncRSMQ.from_url(cluster.url, ns="{rsmq}") as rsmq:
        queues = [rsmq.queue("jobs", ns=f"rsmq:{{jobs-{n}}}") for n in range(PARTITIONS)]
        for queue in queues:
            await queue.ensure()
            await queue.send_many(["x"] * 20)
        seen = Counter()

        async def handler(message):
            seen[message.ns] += 1

        async with rsmq.worker(dict.fromkeys(queues, 1), handler) as worker:
            await wait_until(lambda: worker.stats.succeeded == 20 * PARTITIONS)
        assert seen == {queue.ns: 20 for queue in queues}
        servers = {queue._core.node._route.server for queue in queues}
        assert len(servers) == 3
        for queue in queues:
            await queue.delete()


async def test_the_example(cluster):
    """The example runs on a cluster, too."""
    with anyio.fail_after(PATIENCE):
        program = await anyio.run_process(
            [sys.executable, str(EXAMPLE)],
            env=os.environ | {"REDIS_URL": cluster.url},
            stderr=subprocess.STDOUT,
            check=False,
        )
    output = program.stdout.decode()
    assert program.returncode == 0, output
    assert "rsmq:{orders-1}: an order of cat" in output.splitlines()
