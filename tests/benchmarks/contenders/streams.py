"""Redis streams by hand: message by message, or one batch for all callers."""

import sys

from redis.asyncio import Redis
from shared import BODY, TASK, Countdown, is_to_fill, main, measure, pace, share, stamp

GROUP = "group"


async def contend() -> None:
    async with Redis(port=TASK.port, protocol=2, max_connections=1000) as redis:

        async def prepare(stream: str, messages: int) -> None:
            if not await redis.exists(stream):
                await redis.xgroup_create(stream, GROUP, id="0", mkstream=True)
            if is_to_fill(stream):
                for _ in range(0, messages, TASK.callers):
                    await send_batch(redis, stream)

        async def work(stream: str, messages: int) -> dict | None:
            if TASK.contender == "streams batched":
                for _ in range(0, messages, TASK.callers):
                    await {"send": send_batch, "receive": receive}[TASK.what](
                        redis, stream, TASK.callers
                    )
                return None
            return await WORK[TASK.what](redis, stream, messages)

        await measure(prepare, work, redis.xlen)


async def send(redis: Redis, stream: str, body: str = BODY) -> None:
    await redis.xadd(stream, {"body": body})


async def send_batch(redis: Redis, stream: str, messages: int = TASK.callers) -> None:
    async with redis.pipeline(transaction=False) as pipeline:
        for _ in range(messages):
            pipeline.xadd(stream, {"body": stamp()})
        await pipeline.execute()


async def receive(redis: Redis, stream: str, messages: int = 1) -> None:
    received = await read(redis, stream, messages)
    if len(received) != messages:
        sys.exit("messages are missing")
    await delete(redis, stream, *received)


async def read(
    redis: Redis, stream: str, messages: int = 1, block: int | None = None
) -> dict[bytes, bytes]:
    streams = await redis.xreadgroup(GROUP, "consumer", {stream: ">"}, count=messages, block=block)
    return {id: fields[b"body"] for _, entries in streams for id, fields in entries}


async def delete(redis: Redis, stream: str, *ids: bytes) -> None:
    async with redis.pipeline(transaction=False) as pipeline:
        pipeline.xack(stream, GROUP, *ids)
        pipeline.xdel(stream, *ids)
        if await pipeline.execute() != [len(ids)] * 2:
            sys.exit("a message is missing")


async def consume(redis: Redis, stream: str, messages: int) -> dict:
    countdown = Countdown(messages)

    async def consumer() -> None:
        while countdown.goes_on:  # redis-py 8.1 loses a cancellation now and then
            for id, body in (await read(redis, stream, block=1000)).items():
                countdown.handle(body)
                await delete(redis, stream, id)
                countdown.deleted()

    return await countdown.run([consumer() for _ in range(TASK.callers)])


WORK = {
    "send": lambda redis, stream, messages: share(messages, lambda: send(redis, stream)),
    "produce": lambda redis, stream, messages: share(messages, lambda: send(redis, stream)),
    "pace": lambda redis, stream, messages: pace(messages, lambda body: send(redis, stream, body)),
    "receive": lambda redis, stream, messages: share(messages, lambda: receive(redis, stream)),
    "drain": consume,
    "await": consume,
}
main(contend)
