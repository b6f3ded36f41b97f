"""What a type checker knows of `aiorsmq.sync`; read by pyright in strict mode, never run."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, assert_type

from aiorsmq import (
    BYTES,
    JSON,
    DeadLetter,
    Ensured,
    MsgspecCodec,
    QueueAttributes,
    Reject,
    Retry,
    WorkerEvent,
    WorkerStats,
)
from aiorsmq.sync import RSMQ, Message, Messages, Queue, Worker


class Order:
    pass


def calls(rsmq: RSMQ) -> None:
    RSMQ(host="h", port=1, password="p", poll_interval=timedelta(seconds=1))
    assert_type(RSMQ.from_url("redis://h"), RSMQ)
    assert_type(rsmq.queue("text"), Queue[str])
    assert_type(rsmq.queue("bytes", codec=BYTES), Queue[bytes])
    assert_type(rsmq.queue("json", codec=JSON), Queue[Any])
    orders = rsmq.queue("orders", codec=MsgspecCodec(Order))
    assert_type(orders, Queue[Order])

    assert_type(orders.ensure(vt=1), Ensured)
    assert_type(orders.create(vt=1), bool)
    assert_type(orders.send(Order(), delay=timedelta(minutes=1)), str)
    orders.send("text")  # pyright: ignore[reportArgumentType]
    assert_type(orders.send_many([Order(), b"raw"]), list[str])
    assert_type(orders.receive(wait=5), Message[Order] | None)
    assert_type(orders.receive_many(5), list[Message[Order]])
    assert_type(orders.pop(), Message[Order] | None)
    assert_type(orders.peek(), list[Message[Order]])
    assert_type(orders.attributes(), QueueAttributes)
    assert_type(orders.reasons(), list[DeadLetter])
    assert_type(orders.redrive(to=rsmq.queue("text")), int)
    assert_type(orders.redrive_steps("text"), Iterator[int])
    assert_type(orders.replace("id", "x", to=rsmq.queue("text")), str | None)
    assert_type(orders.import_lines(orders.export()), int)
    assert_type(orders.import_steps([b"x"]), Iterator[int])
    assert_type(orders.delete_many(["id"]), list[bool])
    assert_type(rsmq.receive_message(qname="text"), Message[str] | None)
    assert_type(rsmq.list_queues(), set[str])

    assert_type(orders.messages(prefetch=2), Messages[Order])
    for message in orders.messages():
        assert_type(message, Message[Order])
        with message as same_message:
            assert_type(same_message.body, Order)
        assert_type(message.sent_at, datetime)
        assert_type(message.extend(5), bool)
        message.body = Order()  # pyright: ignore[reportAttributeAccessIssue]
    with rsmq as same, orders.messages() as messages:
        assert_type(same, RSMQ)
        assert_type(next(messages), Message[Order])


def workers(rsmq: RSMQ, orders: Queue[Order]) -> None:
    def work(message: Message[Order]) -> None:
        raise Retry(delay=1) if message.receive_count == 1 else Reject("hopeless")

    def wrong(message: Message[bytes]) -> None: ...
    def decide(message: Message[Any], error: Exception) -> Retry | Reject | None: ...
    def hear(event: WorkerEvent) -> None: ...

    worker = orders.worker(work, concurrency=5, on_error=decide, on_event=hear)
    assert_type(worker, Worker[Order])
    assert_type(worker.stats, WorkerStats)
    assert_type(worker.error, Exception | None)
    orders.worker(wrong)  # pyright: ignore[reportArgumentType]
    orders.worker(work, cuncurrency=5)  # pyright: ignore[reportCallIssue]
    assert_type(rsmq.worker([orders, "text"], work), Worker[Any])
    rsmq.worker({orders: 1, "text": 2.5}, work)
    with worker as same_worker:
        assert_type(same_worker, Worker[Order])
    assert_type(worker.run(), None)
