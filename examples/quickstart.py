"""A consumer that waits, and a producer that wakes it: `python examples/quickstart.py`.

REDIS_URL names the server, for example redis://127.0.0.1:6379. Without it, the program starts its
own server.
"""

import asyncio
import os
from datetime import UTC, datetime

from aiorsmq import AsyncRSMQ, Queue


async def consume(queue: Queue[str]) -> None:
    async for msg in queue.messages():  # sleeps until there is a message; does not poll
        async with msg:  # deleted at the end of the block; visible again if it raises
            age = datetime.now(UTC) - msg.sent_at
            print(f"consumer: woken by {msg.body!r}, {age.total_seconds():.0f} s after it was sent")
        if msg.body == "goodbye":
            break


async def main() -> None:
    async with AsyncRSMQ.from_url(os.environ.get("REDIS_URL", "embedded://")) as rsmq:
        queue = rsmq.queue("quickstart")
        await queue.ensure()  # creates it, unless it exists
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(consume(queue))
            print("producer: sends 'hello' and 'world' now, and 'goodbye' with a delay of 2 s")
            await queue.send_many(["hello", "world"])
            await queue.send("goodbye", delay=2)
        left = (await queue.attributes()).msgs
        print(f"the end: {left} messages left in the queue")
        await queue.delete()


asyncio.run(main())
