"""What a type checker knows of the public API; read by pyright in strict mode, never run."""

from datetime import datetime, timedelta
from typing import Any, assert_type

from aiorsmq import BYTES, JSON, AsyncRSMQ, DeadLetter, Message, Messages, Queue, QueueAttributes
from redis.asyncio import Redis


class Job:
    pass


class JobCodec:
    def encode(self, body: Job) -> bytes:
        return b""

    def decode(self, raw: bytes) -> Job:
        return Job()


async def types(rsmq: AsyncRSMQ, client: Redis) -> None:
    AsyncRSMQ(client, ns="x", poll_interval=timedelta(seconds=1))
    AsyncRSMQ(host="h", port=1, password="p")
    assert_type(AsyncRSMQ.from_url("redis://h"), AsyncRSMQ)

    text = rsmq.queue("text")
    assert_type(text, Queue[str])
    assert_type(rsmq.queue("bytes", codec=BYTES), Queue[bytes])
    assert_type(rsmq.queue("json", codec=JSON), Queue[Any])
    jobs = rsmq.queue("jobs", codec=JobCodec())
    assert_type(jobs, Queue[Job])

    assert_type(await text.create(vt=1, exist_ok=True), bool)
    assert_type(await jobs.send(Job(), delay=0.5), str)
    assert_type(await jobs.send(b"raw", delay=timedelta(minutes=1)), str)
    await jobs.send("text")  # pyright: ignore[reportArgumentType]
    assert_type(await jobs.send_many([Job(), Job()]), list[str])
    assert_type(await jobs.receive(wait=1), Message[Job] | None)
    assert_type(await jobs.receive_many(5), list[Message[Job]])
    assert_type(await text.pop(), Message[str] | None)
    assert_type(await text.delete_many(["id"]), list[bool])
    assert_type(await text.attributes(), QueueAttributes)
    assert_type((await text.set_attributes(max_receives=3, dead_letter_queue="dead")).max_receives, int | None)
    assert_type((await text.attributes()).dead_letter_queue, str | None)
    assert_type(await text.reasons(), list[DeadLetter])
    async for moved in text.redrive(jobs, limit=5, rate=0.5, where=lambda letter: letter.queue == "jobs"):
        assert_type(moved, int)
    assert_type(jobs.messages(), Messages[Job])
    async for message in jobs.messages(prefetch=2):
        assert_type(message, Message[Job])
        async with message as entered:
            assert_type(entered.body, Job)
        assert_type(message.raw, bytes)
        assert_type(message.sent_at, datetime)
        assert_type(message.first_received_at, datetime | None)
        assert_type(await message.extend(5), bool)
        message.body = Job()  # pyright: ignore[reportAttributeAccessIssue]

    assert_type(await rsmq.receive_message(qname="text"), Message[str] | None)
    assert_type(await rsmq.list_queues(), set[str])
    async with rsmq as same:
        assert_type(same, AsyncRSMQ)
