"""A queue in several namespaces is spread over the nodes of a cluster."""

import sys
from collections import Counter

from aiorsmq import AsyncRSMQ

from examples.program import EXAMPLES, Program
from support import wait_until

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
    program = Program(sys.executable, EXAMPLES / "partitions.py", redis_url=cluster.url)
    try:
        assert await program.ended() == 0, program.output
        assert "rsmq:{orders-1}: an order of cat" in program.output.splitlines()
    finally:
        program.close()
