"""What the pictures and the page of the command line are about."""

import asyncio
import json

import pytest
from aiorsmq import AsyncRSMQ

from support import wait_until


@pytest.fixture
async def shop(server, rsmq):
    """A shop in trouble: the program that sends mails does not run, three mails could not be sent,
    and somebody has paused the invoices. Only the orders are worked on.
    """
    mails, invoices, orders = (rsmq.queue(name) for name in ("mails", "invoices", "orders"))
    await mails.ensure(vt=60, max_receives=3, dead_letter_queue="mails-dead")
    await invoices.ensure(vt=120)
    await orders.ensure(vt=300, max_receives=5, dead_letter_queue="orders-dead")
    await let_die(server, [mail(n, to="bob@") for n in (1, 2)] + ["hello"])
    await mails.send_many([mail(n, to=f"ann-{n}@example.com") for n in range(3, 76)])
    await invoices.send_many([json.dumps({"invoice": n}) for n in range(1, 13)])
    for name, seconds in (("mails", 2 * 3600), ("invoices", 900)):
        for id, score in server.redis.zrange(f"rsmq:{name}", 0, -1, withscores=True):
            server.redis.zadd(f"rsmq:{name}", {id: score - seconds * 1000})
    await mails.send(mail(76, to="alice@example.com"), delay=3600)
    await invoices.pause()
    async with orders.worker(forever, concurrency=10, grace=0):
        await orders.send_many([json.dumps({"order": n}) for n in range(1, 6)])
        await wait_until(lambda: server.redis.hget("rsmq:orders:Q", "totalrecv") == b"5")
        yield


def mail(number, *, to):
    return json.dumps({"mail": number, "to": to})


async def let_die(server, bodies):
    """Mails that fail until they are dead letters, in a program that has ended."""

    def send_mail(message):
        address = json.loads(message.body)["to"]
        if not address.partition("@")[2]:
            raise ValueError(f"no host in {address!r}")

    async with AsyncRSMQ.from_url(server.url) as program:
        mails = program.queue("mails")
        worker = mails.worker(send_mail, backoff=lambda _: 0)
        await mails.send_many(bodies)
        async with worker:
            await wait_until(lambda: worker.stats.dead == len(bodies))


async def forever(_message):
    await asyncio.Event().wait()
