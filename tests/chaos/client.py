"""A producer, consumer or worker as a program of its own: `python client.py OPTIONS`, which are
JSON (`load.Load`).

It prints its history, one operation a line, until SIGTERM ends it; `ms` is the server's time when
it was printed, as far as the client knows it: never later than it really was.
"""

import asyncio
import itertools
import json
import logging
import os
import random
import signal
import sys
import time
from importlib import import_module
from typing import Any

from aiorsmq import AsyncRSMQ, Reject, Retry, WorkerEvent


class Client:
    def __init__(self, options: dict[str, Any]) -> None:
        self.options = options
        self.chance = random.Random(options["seed"])
        self.rsmq = AsyncRSMQ.from_url(
            options["url"],
            ns=options["ns"],
            poll_interval=options["poll_interval"],
            deadline=options["deadline"],
        )
        self.queue = self.rsmq.queue(options["qname"])
        self.stopping = asyncio.Event()

    def say(self, op: str, **facts: Any) -> None:
        ms = int(self.rsmq._node.clock.now_ms())
        line = {"op": op, "by": self.options["name"], "ms": ms, **facts}
        os.write(
            1, json.dumps(line).encode() + b"\n"
        )  # in one piece, and there even if this is the last moment

    async def tell(self, doing: str, done: str, not_done: str, call: Any, **facts: Any) -> None:
        """Make a call, and report it before and after."""
        self.say(doing, **facts)
        started = time.monotonic()
        try:
            result = await call
        except Exception as error:  # noqa: BLE001 - the checker knows which are allowed
            took = time.monotonic() - started
            self.say(
                "error",
                doing=doing,
                error=type(error).__name__,
                text=str(error),
                took=took,
                **facts,
            )
            return
        took = time.monotonic() - started
        self.say(
            done if result else not_done,
            took=took,
            **facts,
            **({"id": result} if doing == "sending" else {}),
        )

    async def produce(self) -> None:
        await asyncio.gather(*(self._call(number) for number in range(self.options["tasks"])))

    async def _call(self, number: int) -> None:
        for n in itertools.count():
            if self.stopping.is_set() or n == self.options["count"]:
                return
            body = f"{self.options['name']}/{number}/{n}"
            delay = self.chance.random() if self.chance.random() < self.options["delayed"] else None
            await self.tell(
                "sending", "sent", "", self.queue.send(body, delay=delay), body=body, delay=delay
            )
            await asyncio.sleep(self.chance.expovariate(1) * self.options["pause"])

    async def consume(self) -> None:
        streams = [
            asyncio.ensure_future(self._iterate(self.options["vt"]))
            for _ in range(self.options["tasks"])
        ]
        await self.stopping.wait()
        for stream in streams:
            stream.cancel()
        await asyncio.wait(streams)

    async def _iterate(self, vt: float) -> None:
        while True:
            try:
                async for msg in self.queue.messages(vt=vt, prefetch=self.options["prefetch"]):
                    until = round(msg.visible_until.timestamp() * 1000)
                    delivery = {"id": msg.id, "rc": msg.receive_count}
                    self.say(
                        "delivered",
                        body=msg.body,
                        until=until,
                        at=until - round(vt * 1000),
                        **delivery,
                    )
                    await self._handle(msg, delivery, vt)
            except Exception as error:  # noqa: BLE001 - the checker knows which are allowed
                self.say("error", doing="iterating", error=type(error).__name__, text=str(error))

    async def _handle(self, msg: Any, delivery: dict[str, Any], vt: float) -> None:
        await asyncio.sleep(self.chance.expovariate(1) * self.options["pause"])
        dice = self.chance.random()
        if dice < self.options["extend"]:
            await self.tell(
                "extending", "extended", "extend refused", msg.extend(vt), vt=vt, **delivery
            )
        elif dice < self.options["extend"] + self.options["release"]:
            await self.tell("releasing", "released", "release refused", msg.release(), **delivery)
            return
        elif dice < self.options["extend"] + self.options["release"] + self.options["late"]:
            await asyncio.sleep(vt * 1.2)  # past the lease
        await self.tell("deleting", "deleted", "delete refused", msg.delete(), **delivery)

    async def work(self) -> None:
        tasks, vt = self.options["tasks"], self.options["vt"]
        backoff = lambda receive_count: self.options["pause"]  # noqa: E731
        worker = self.queue.worker(
            self._job, concurrency=tasks, vt=vt, backoff=backoff, on_event=self._hear
        )
        running = asyncio.ensure_future(worker.run(signals=False))
        await self.stopping.wait()
        worker.stop()
        await running

    async def _job(self, msg: Any) -> None:
        first = self._say_delivered(msg)
        await asyncio.sleep(self.chance.expovariate(1) * self.options["pause"])
        if self.chance.random() < self.options["late"]:
            await asyncio.sleep(self.options["vt"] * 1.5)  # the lease is renewed while it waits
        delivery = (
            first
            if int(msg._settler.record.receive_count) == first["rc"]
            else self._say_delivered(msg)
        )
        if self.chance.random() < self.options["release"]:
            self.say("releasing", **delivery)
            raise Retry(0)
        self.say("deleting", **delivery)
        if (
            self.options["reject"]
            and int(msg.body.rpartition("/")[2]) % self.options["reject"] == 0
        ):
            raise Reject("for no reason")

    def _say_delivered(self, msg: Any) -> dict[str, Any]:
        """Of a worker's message: its last receipt, which may be one by the worker itself, after an
        outage.
        """
        record = msg._settler.record
        until, delivery = int(record.visible), {"id": msg.id, "rc": int(record.receive_count)}
        self.say(
            "delivered",
            body=msg.body,
            until=until,
            at=until - round(self.options["vt"] * 1000),
            **delivery,
        )
        return delivery

    def _hear(self, event: WorkerEvent) -> None:
        ops = {
            "succeeded": "deleted",
            "dead": "deleted",
            "retried": "released",
            "lease_lost": "delete refused",
        }
        if event.kind in ops:
            self.say(ops[event.kind], id=event.id, rc=event.receive_count)


class _ToHistory(logging.Handler):
    def __init__(self, client: Client) -> None:
        super().__init__(logging.INFO)
        self.client = client

    def emit(self, record: logging.LogRecord) -> None:
        self.client.say("log", level=record.levelname, text=record.getMessage())


async def main(options: dict[str, Any]) -> None:
    for name, value in options["constants"].items():
        module, constant = name.rsplit(".", 1)
        setattr(import_module(module), constant, value)
    client = Client(options)
    logging.basicConfig(level=logging.INFO, handlers=[_ToHistory(client)])
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, client.stopping.set)
    async with client.rsmq:
        await client.queue.attributes()
        client.say("started")
        await {"producer": client.produce, "consumer": client.consume, "worker": client.work}[
            options["role"]
        ]()
    client.say("ended")


asyncio.run(main(json.loads(sys.argv[1])))
