"""The real Node rsmq produces and consumes in the middle of it all."""

import asyncio
import itertools
import time

import anyio

from chaos.history import LIMIT
from chaos.load import MIXED
from chaos.network import Proxy
from interop.peers import Node, NodeError
from support import free_port, wait_until

VT = 2


class NodeClient:
    """Node's rsmq behind the operations of a history. It knows no fence and repeats nothing."""

    def __init__(self, node, name, load):
        self.node = node
        self.name = name
        self.load = load
        self.stopping = False
        self.answers = 0

    async def call(self, call):
        answer = await call
        self.answers += 1
        return answer

    async def works_again(self):
        """A connection that is killed while Node is opening it leaves Node's client silent
        forever.
        """
        seen = self.answers
        await wait_until(lambda: self.answers > seen + 2)

    def say(self, op, **facts):
        self.load.history.append(
            {"op": op, "by": self.name, "ms": int(time.time() * 1000), **facts}
        )

    def lost_connection(self, error):
        if error.args[0] != "AbortError":
            raise error

    async def produce(self):
        for n in itertools.count():
            if self.stopping:
                return
            body = f"{self.name}/0/{n}"
            self.say("sending", body=body, delay=None)
            try:
                self.say("sent", body=body, id=await self.call(self.node.send(body)))
            except NodeError as error:
                self.lost_connection(error)
            await asyncio.sleep(0.003)

    async def consume(self):
        while not self.stopping:
            asked = int(time.time() * 1000)
            try:
                taken = await self.call(self.node.receive(vt=VT))
                if taken is None:
                    await asyncio.sleep(0.02)
                    continue
                delivery = {"id": taken.id, "rc": taken.rc}
                now = int(time.time() * 1000)  # the server's moment was between these two
                self.say("delivered", body=taken.body, at=now, until=asked + VT * 1000, **delivery)
                self.say("deleting", **delivery)
                self.say(
                    "deleted" if await self.node.delete(taken.id) else "delete refused", **delivery
                )
            except NodeError as error:
                self.lost_connection(error)


async def test_node(own_server, load_on, seed, scale, report):
    """Node's producer and consumer share the queue with ours, whose replies are cut; all lose their
    connections.
    """
    port = free_port()
    server = own_server(
        *("--port", str(port), "--bind", "127.0.0.1"),
        *("--appendonly", "yes", "--appendfsync", "always"),
    )
    load = await load_on(server)
    sending = NodeClient(await Node.start(port, realtime=True), "node0", load)
    receiving = NodeClient(await Node.start(port), "node1", load)
    works = [asyncio.create_task(sending.produce()), asyncio.create_task(receiving.consume())]
    async with Proxy(server.socket, f"{server.folder}/proxy.sock", chance=seed) as proxy:
        load.start("producer", url=proxy.url)
        load.start("consumer", url=proxy.url, prefetch=2, **MIXED)
        await load.all_run()
        proxy.cut_share = 0.1
        closed = 0
        for _ in range(scale(5, 60)):
            await anyio.sleep(seed.uniform(0, 0.4))
            for client in (sending, receiving):
                await client.works_again()
            closed += server.redis.execute_command("CLIENT", "KILL", "TYPE", "normal")
        proxy.cut_share = 0
        sending.stopping = True
        await works[0]
        await load.empty(within=10)
        receiving.stopping = True
        await works[1]
    for client in (sending, receiving):
        await client.node.aclose()
    verdict = await load.judge()
    of_node = [
        one["body"].startswith("node0/") for one in load.operations() if one["op"] == "delivered"
    ]
    by_node = sum(one["op"] == "delivered" for one in load.history)
    crossed = f"{sum(of_node):,} of {len(of_node):,} deliveries were from Node, {by_node:,} to Node"
    report(
        f"{proxy.cuts} replies cut, {closed} connections closed: {crossed}; {verdict}",
        f"{LIMIT}; errors 0",
    )
    assert verdict.violations == []
    assert not verdict.errors
    assert min(sum(of_node), len(of_node) - sum(of_node), by_node, len(of_node) - by_node) > scale(
        10, 500
    )
