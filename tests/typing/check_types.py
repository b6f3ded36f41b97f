"""What a type checker knows of the public API; read by pyright in strict mode, never run."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, assert_never, assert_type

import msgspec
import pydantic
from aiorsmq import (
    BYTES,
    JSON,
    AsyncRSMQ,
    Codec,
    DeadLetter,
    Ensured,
    EventKind,
    ExportHeader,
    Import,
    Message,
    Messages,
    MsgspecCodec,
    Place,
    PydanticCodec,
    Queue,
    QueueAttributes,
    QueueSettings,
    ReasonGroup,
    Redrive,
    Reject,
    Retry,
    Worker,
    WorkerEvent,
    WorkerStats,
    exponential,
    sync,
    testing,
)
from aiorsmq.pyrsmq import Attributes, Command, ReceivedMessage, RedisSMQ, RedisSMQConsumer
from aiorsmq.testing import sync as sync_kit
from redis.asyncio import Redis


class Job:
    pass


class JobCodec:
    def encode(self, body: Job) -> bytes:
        return b""

    def decode(self, raw: bytes) -> Job:
        return Job()


async def moving_and_mending(text: Queue[str], jobs: Queue[Job]) -> None:
    assert_type(await text.replace("id", Job(), to=jobs, delay=1), str | None)
    assert_type(await text.reason_groups(), list[ReasonGroup])
    assert_type(await text.purge(older_than=timedelta(days=1), text=b"x", dry_run=True), int)
    assert_type(text.import_lines(text.export()), Import)
    assert_type(await text.import_lines(["x"], keep_ids=True), int)
    async for line in text.export(after=Place("1", "id")):
        assert_type(line, bytes)
        assert_type(ExportHeader.parse(line).settings, QueueSettings)


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
    ensured = await text.ensure(vt=timedelta(minutes=1), dead_letter_queue="dead")
    assert_type(ensured, Ensured)
    assert_type(ensured.created, bool)
    assert_type(ensured.changed, dict[str, tuple[int | str | None, int | str | None]])
    assert_type(await rsmq.ensure_queue(qname="text", max_receives=3), Ensured)
    await text.ensure(exist_ok=True)  # pyright: ignore[reportCallIssue]
    assert_type(await jobs.send(Job(), delay=0.5), str)
    assert_type(await jobs.send(b"raw", delay=timedelta(minutes=1)), str)
    await jobs.send("text")  # pyright: ignore[reportArgumentType]
    assert_type(await jobs.send_many([Job(), Job()]), list[str])
    assert_type(await jobs.receive(wait=1), Message[Job] | None)
    assert_type(await jobs.receive_many(5), list[Message[Job]])
    assert_type(await text.pop(), Message[str] | None)
    assert_type(await text.delete_many(["id"]), list[bool])
    assert_type(await text.attributes(), QueueAttributes)
    assert_type(
        (await text.set_attributes(max_receives=3, dead_letter_queue="dead")).max_receives,
        int | None,
    )
    assert_type((await text.attributes()).dead_letter_queue, str | None)
    assert_type(await text.reasons(), list[DeadLetter])
    assert_type(text.redrive(), Redrive)
    assert_type(await text.redrive("jobs"), int)
    text.redrive()[0]  # pyright: ignore[reportIndexIssue, reportUnusedExpression]
    async for moved in text.redrive(
        jobs, limit=5, rate=0.5, where=lambda letter: letter.queue == "jobs"
    ):
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


async def workers(rsmq: AsyncRSMQ, jobs: Queue[Job]) -> None:
    async def work(message: Message[Job]) -> None:
        raise (
            Retry(delay=timedelta(seconds=1)) if message.receive_count == 1 else Reject("hopeless")
        )

    def plain(message: Message[Job]) -> None: ...
    def wrong(message: Message[bytes]) -> None: ...
    def decide(message: Message[Any], error: Exception) -> Retry | Reject | None: ...
    def hear(event: WorkerEvent) -> None:
        assert_type(event.receive_count, int)
        assert_type(event.kind, EventKind)
        assert_type(event.message, Message[Any] | None)
        assert_type(event.duration, float | None)
        assert_type(event.age, float | None)
        assert_type(event.reason, str)
        if event.kind == "lease lost":  # pyright: ignore[reportUnnecessaryComparison]
            return
        match event.kind:
            case "received" | "succeeded" | "retried" | "lease_lost":
                pass
            case "failed":
                assert_type(event.error, BaseException | None)
            case "dead" | "dropped":
                pass
            case _:
                assert_never(event.kind)

    worker = jobs.worker(
        work, concurrency=5, timeout=1, max_lease=timedelta(hours=1), on_error=decide, on_event=hear
    )
    assert_type(worker, Worker[Job])
    assert_type(worker.stats, WorkerStats)
    assert_type(worker.healthy, bool)
    assert_type(worker.trouble, str | None)
    assert_type(worker.error, Exception | None)
    jobs.worker(plain, vt=5, grace=1, backoff=exponential(first=0.1))
    jobs.worker(plain, when_dead="terminate")
    jobs.worker(plain, when_dead="ignore")  # pyright: ignore[reportArgumentType]
    jobs.worker(wrong)  # pyright: ignore[reportArgumentType]
    jobs.worker(work, cuncurrency=5)  # pyright: ignore[reportCallIssue]
    assert_type(rsmq.worker([jobs, "text"], work), Worker[Any])
    rsmq.worker({"jobs": 1, "text": 2.5}, plain)
    rsmq.worker({jobs: 1}, plain)
    async with worker as same_worker:
        assert_type(same_worker, Worker[Job])
    assert_type(await worker.run(), None)


async def pyrsmq_types(client: Redis) -> None:
    controller = RedisSMQ(client, qname="jobs", vt=20)
    RedisSMQ(host="h", port="1", options={"db": 1}, ns="x", realtime=True, exceptions=False)
    RedisSMQ(colour="red")  # pyright: ignore[reportCallIssue]
    assert_type(controller.exceptions(False).setClient(client).ns("x"), RedisSMQ)
    assert_type(controller.native, AsyncRSMQ)
    assert_type(await controller.quit(), None)
    async with controller as same:
        assert_type(same, RedisSMQ)

    create = controller.createQueue(qname="jobs").vt(20).delay(0).maxsize(-1).quiet(True)
    assert_type(create, Command[bool])
    assert_type(await create, bool)
    assert_type(await create.exec(), bool)
    assert_type(await create.execute(), bool)
    controller.createQueue(vt="20")  # pyright: ignore[reportArgumentType]
    controller.createQueue().colour("red")  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    assert_type(await controller.listQueues(), set[str])
    assert_type(await controller.sendMessage(message={"any": "thing"}).encode(True), str)
    assert_type(await controller.setQueueAttributes(vt=1), Attributes)

    received = await controller.receiveMessage().decode(True).exec()
    assert_type(received, ReceivedMessage)
    assert_type(received["rc"], int)
    received["uid"]  # pyright: ignore[reportGeneralTypeIssues, reportUnusedExpression]
    quietly = controller.popMessage().exceptions(False)
    assert_type(quietly, Command[ReceivedMessage | Literal[False]])
    assert_type(await quietly, ReceivedMessage | Literal[False])
    assert_type(await controller.popMessage().exceptions(), ReceivedMessage)

    async def processor(id: str, message: Any, rc: int, ts: int) -> bool:
        return True

    consumer = RedisSMQConsumer("jobs", processor, host="h", retry_delay=1)
    assert_type(await consumer.run(), None)
    assert_type(await consumer.stop(10), bool)


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
    assert_type(
        rsmq.queue("q", codec=PydanticCodec(dict[str, int] | str)), Queue[dict[str, int] | str]
    )
    assert_type(PydanticCodec(Literal["a", "b"]), PydanticCodec[Literal["a", "b"]])
    codec: Codec[Order] = MsgspecCodec(Order)
    assert_type(rsmq.queue("q", codec=codec), Queue[Order])
    MsgspecCodec(1)  # pyright: ignore[reportArgumentType]


async def kit(rsmq: AsyncRSMQ, jobs: Queue[Job]) -> None:
    async def work(message: Message[Job]) -> None:
        assert_type(message.body, Job)

    assert_type(await testing.advance(jobs, timedelta(hours=2)), int)
    assert_type(await testing.advance(rsmq, "2h"), int)
    assert_type(await testing.drain(jobs, work, concurrency=1, limit=5), int)
    contents = await testing.queue_contents(jobs)
    assert_type(contents, testing.QueueContents[Job | bytes])
    assert_type(contents.hidden, list[Job | bytes])
    await testing.drain(jobs, lambda message: None, concurency=3)  # pyright: ignore[reportCallIssue]
    with testing.rsmq_test_server() as server, server.client() as client:
        assert_type(client, AsyncRSMQ)


def synchronous_kit(rsmq: sync.RSMQ, jobs: sync.Queue[Job]) -> None:
    def work(message: sync.Message[Job]) -> None:
        assert_type(message.body, Job)

    assert_type(sync_kit.advance(rsmq, 60), int)
    assert_type(sync_kit.drain(jobs, work), int)
    assert_type(sync_kit.queue_contents(jobs), testing.QueueContents[Job | bytes])
