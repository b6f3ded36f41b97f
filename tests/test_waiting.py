"""Waiting for messages: what wakes a consumer, and how few calls it costs."""

import asyncio
import random
import time

import anyio
import pytest
from aiorsmq import AsyncRSMQ

from support import PATIENCE, never_polling, stalls, wait_for_listener, wait_for_silence, wait_until

pytestmark = pytest.mark.anyio


class TestWakeUps:
    async def test_announced(self, server, queue):
        """A consumer that waits is woken by an announcement, at once: by no poll, and no due
        time.
        """
        async with never_polling(server) as other, stalls() as lost:
            asking = asyncio.ensure_future(anext(other.queue("jobs").messages()))
            await wait_for_listener(server)
            sent = time.monotonic()
            await queue.send("now")
            message = await asking
            assert time.monotonic() - sent < 1 + lost()
            assert message.body == "now"
            await message.delete()

    async def test_delayed(self, server, queue):
        """A delayed message wakes its consumer when it becomes due, not before, and nobody has
        announced that.
        """
        async with never_polling(server) as other, stalls() as lost:
            await queue.send("later", delay=0.3)
            async for message in other.queue("jobs").messages():
                late = time.time() - message.sent_at.timestamp() - 0.3
                await message.delete()
                break
            assert 0 <= late < 1 + lost()

    async def test_expired_lease(self, server, queue):
        """A message whose lease ends wakes another consumer at that moment."""
        await queue.send("twice")
        await queue.receive(vt=0.3)
        async with never_polling(server) as other:
            message = await other.queue("jobs").receive(wait=5)
            assert (message.body, message.receive_count) == ("twice", 2)
            await message.delete()

    @pytest.mark.parametrize("how", ["release", "change_visibility"])
    async def test_made_visible(self, server, queue, how):
        """A message that is released, or made visible by anybody, wakes a consumer."""
        await queue.send("again")
        held = await queue.receive(vt=1000)
        async with never_polling(server) as other:
            asking = asyncio.ensure_future(other.queue("jobs").receive(wait=10))
            await wait_for_listener(server)
            await (held.release() if how == "release" else queue.change_visibility(held.id, 0))
            message = await asking
            assert (message.id, message.receive_count) == (held.id, 2)
            assert not await held.delete()
            assert await message.delete()

    async def test_silent_producer(self, server, queue):
        """A message that nobody announced is found by the safety poll."""
        async with (
            AsyncRSMQ.from_url(server.url, realtime=False) as silent,
            AsyncRSMQ.from_url(server.url, poll_interval=0.2) as other,
        ):
            asking = asyncio.ensure_future(other.queue("jobs").receive(wait=5))
            await wait_for_listener(server)
            await silent.queue("jobs").send("psst")
            assert await (await asking).delete()
        assert (await queue.attributes()).msgs == 0

    async def test_subscription_race(self, server, queue):
        """What is sent while a consumer is subscribing is not missed, whenever it comes."""
        async with never_polling(server) as other:
            for n in range(40):
                stream = other.queue("jobs").messages()
                asking = asyncio.ensure_future(anext(stream))
                for _ in range(random.randrange(12)):
                    await asyncio.sleep(0)
                await queue.send(str(n))
                message = await asyncio.wait_for(asking, PATIENCE)
                assert message.body == str(n)
                await message.delete()
                await stream.aclose()
                server.redis.client_kill_filter(
                    _type="pubsub", skipme=False
                )  # so that it subscribes again

    async def test_polls_without_realtime(self, server, queue):
        """With realtime=False a client neither listens nor announces, and polls."""
        async with AsyncRSMQ.from_url(server.url, realtime=False, poll_interval=0.05) as other:
            server.reset_stats()
            asking = asyncio.ensure_future(other.queue("jobs").receive(wait=5))
            await wait_until(lambda: server.script_calls() >= 3)
            assert "subscribe" not in server.commands()
            await other.queue("jobs").send("found")
            assert "publish" not in server.commands()
            await (await asking).delete()


class TestCounts:
    async def test_idle_consumers_cost_a_poll(self, server, queue):
        """100 waiting consumers on an empty queue: at most one script call per poll_interval, one
        PUBSUB connection.
        """
        async with (
            AsyncRSMQ.from_url(server.url, poll_interval=0.25) as other,
            anyio.create_task_group() as tasks,
        ):
            for _ in range(100):
                tasks.start_soon(anext, other.queue("jobs").messages())
            await wait_for_listener(server)
            calls = server.script_calls()
            await wait_until(lambda: server.script_calls() > calls)  # from one poll ...
            started = time.monotonic()
            server.reset_stats()
            await wait_until(lambda: server.script_calls() >= 4)  # ... to the fourth after it
            commands = server.commands()
            assert commands["evalsha"] <= (time.monotonic() - started) / 0.25 + 1
            assert commands.keys() - {"evalsha", "info", "config", "config|resetstat"} <= {
                *("time", "hmget", "zrem", "zrangebyscore", "zrange"),  # what a claim does
                *("ping", "subscribe"),
            }
            assert commands.get("ping", 0) <= 1
            assert len(server.redis.client_list(_type="pubsub")) == 1
            tasks.cancel_scope.cancel()

    async def test_one_claim_for_one_message(self, server, queue):
        """A message for 30 waiting consumers is claimed by one script call, and wakes no consumer
        but its receiver.
        """
        woken = []

        async def consume(n, stream):
            while True:
                message = await anext(stream)
                woken.append(n)
                await message.delete()

        async with never_polling(server) as other:
            consumers = [
                asyncio.ensure_future(consume(n, other.queue("jobs").messages())) for n in range(30)
            ]
            await wait_for_listener(server)
            await wait_for_silence(server)
            server.reset_stats()
            await queue.send("for one")
            await wait_until(lambda: woken)
            await wait_for_silence(server)
            assert server.script_calls() == 3  # the send, the claim, the delete
            assert len(woken) == 1
            for consumer in consumers:
                consumer.cancel()
            await asyncio.gather(*consumers, return_exceptions=True)

    async def test_a_thousand_messages(self, server, queue):
        """1,000 messages worked off by 64 consumers in one process cost at most 150 script calls in
        all.
        """
        await queue.send_many([str(n) for n in range(1000)])
        bodies = []
        server.reset_stats()
        async with anyio.create_task_group() as tasks:

            async def consume():
                async for message in queue.messages():
                    bodies.append(message.body)
                    await message.delete()
                    if len(bodies) >= 1000:
                        tasks.cancel_scope.cancel()

            for _ in range(64):
                tasks.start_soon(consume)
        assert sorted(map(int, bodies)) == list(range(1000))
        await wait_until(lambda: server.redis.zcard("rsmq:jobs") == 0)
        assert server.script_calls() <= 150
