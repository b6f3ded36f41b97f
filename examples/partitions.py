"""A queue that is spread over the nodes of a cluster: `python examples/partitions.py`.

It is PARTITIONS queues of one name. Each has a namespace of its own, whose tag, the part in braces,
chooses the node; on a single server all are there. REDIS_URL names the server or the cluster, for
example redis+cluster://127.0.0.1:7000. Without it, the program starts its own server.
"""

import asyncio
import os
from zlib import crc32

from aiorsmq import AsyncRSMQ, Message, Queue

PARTITIONS = 3


def partitions(rsmq: AsyncRSMQ, name: str) -> list[Queue[str]]:
    return [rsmq.queue(name, ns=f"rsmq:{{{name}-{n}}}") for n in range(PARTITIONS)]


def partition(queues: list[Queue[str]], key: str) -> Queue[str]:
    """That of a key: messages of one key keep their order."""
    return queues[crc32(key.encode()) % len(queues)]


async def main() -> None:
    handled = asyncio.Semaphore(0)

    async def handle(message: Message[str]) -> None:
        print(f"{message.ns}: {message.body}")
        handled.release()

    url = os.environ.get("REDIS_URL", "embedded://")
    async with AsyncRSMQ.from_url(url, ns="{rsmq}") as rsmq:  # a cluster wants a tag here, too
        queues = partitions(rsmq, "orders")
        for queue in queues:
            await queue.ensure()
        customers = ("ann", "ben", "cat", "dan", "eve", "fay")
        for customer in customers:
            await partition(queues, customer).send(f"an order of {customer}")
        async with rsmq.worker(dict.fromkeys(queues, 1), handle):  # of equal weight
            for _ in customers:
                await handled.acquire()
        for queue in queues:
            await queue.delete()


asyncio.run(main())
