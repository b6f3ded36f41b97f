"""What a type checker knows of the public API; read by pyright in strict mode, never run."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, assert_type

import msgspec
import pydantic
from aiorsmq import (
    BYTES,
    JSON,
    AsyncRSMQ,
    Codec,
    Message,
    Messages,
    MsgspecCodec,
    PydanticCodec,
    Queue,
    QueueAttributes,
)
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


class Order(msgspec.Struct):
    item: str


class Invoice(pydantic.BaseModel):
    item: str


@dataclass
class Parcel:
    item: str


async def typed(rsmq: AsyncRSMQ) -> None:
    orders = rsmq.queue("orders", codec=MsgspecCodec(Order))
    assert_type(orders, Queue[Order])
    async for message in orders.messages():
        assert_type(message.body, Order)
    await orders.send(Order("tea"))
    await orders.send({"item": "tea"})  # pyright: ignore[reportArgumentType]
    await orders.send(Order(1))  # pyright: ignore[reportArgumentType]

    invoices = rsmq.queue("invoices", codec=PydanticCodec(Invoice))
    assert_type(invoices, Queue[Invoice])
    if message := await invoices.receive():
        assert_type(message.body, Invoice)
    await invoices.send(Parcel("tea"))  # pyright: ignore[reportArgumentType]

    assert_type(rsmq.queue("q", codec=MsgspecCodec(Parcel)), Queue[Parcel])
    assert_type(rsmq.queue("q", codec=MsgspecCodec(list[int])), Queue[list[int]])
    assert_type(rsmq.queue("q", codec=MsgspecCodec(Order | None)), Queue[Order | None])
    assert_type(rsmq.queue("q", codec=PydanticCodec(Parcel)), Queue[Parcel])
    assert_type(rsmq.queue("q", codec=PydanticCodec(dict[str, int] | str)), Queue[dict[str, int] | str])
    assert_type(PydanticCodec(Literal["a", "b"]), PydanticCodec[Literal["a", "b"]])
    codec: Codec[Order] = MsgspecCodec(Order)
    assert_type(rsmq.queue("q", codec=codec), Queue[Order])
    MsgspecCodec(1)  # pyright: ignore[reportArgumentType]
