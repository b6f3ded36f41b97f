"""The ways to use a client for the first time."""

from aiorsmq import AsyncRSMQ


async def _enter(rsmq):
    async with rsmq:
        raise AssertionError("entered")


async def _enter_stream(rsmq):
    async with rsmq.messages("q") as stream:
        await anext(stream)


async def _enter_worker(rsmq):
    async with rsmq.queue("q").worker(print):
        raise AssertionError("entered")


ENTRANCES = {
    "async with": _enter,
    "aclose": AsyncRSMQ.aclose,
    "list_queues": AsyncRSMQ.list_queues,
    "create": lambda rsmq: rsmq.queue("q").create(),
    "ensure": lambda rsmq: rsmq.queue("q").ensure(),
    "send": lambda rsmq: rsmq.queue("q").send("x"),
    "send_many": lambda rsmq: rsmq.queue("q").send_many(["x"]),
    "receive": lambda rsmq: rsmq.queue("q").receive(),
    "receive with wait": lambda rsmq: rsmq.queue("q").receive(wait=1),
    "receive_many": lambda rsmq: rsmq.queue("q").receive_many(2),
    "pop": lambda rsmq: rsmq.queue("q").pop(),
    "messages": lambda rsmq: rsmq.messages("q").__anext__(),
    "async with messages": _enter_stream,
    "delete_message": lambda rsmq: rsmq.queue("q").delete_message("x"),
    "delete_many": lambda rsmq: rsmq.queue("q").delete_many(["x"]),
    "purge": lambda rsmq: rsmq.queue("q").purge(),
    "peek": lambda rsmq: rsmq.queue("q").peek(),
    "reasons": lambda rsmq: rsmq.queue("q").reasons(),
    "redrive": lambda rsmq: rsmq.queue("q").redrive(),
    "iterated redrive": lambda rsmq: anext(rsmq.queue("q").redrive()),
    "run": lambda rsmq: rsmq.queue("q").worker(print).run(),
    "async with worker": _enter_worker,
}
