"""Credentials that change while a client is connected, and those that are missing."""

import asyncio
import inspect

import pytest
import redis
from aiorsmq import AsyncRSMQ
from redis.asyncio import Redis

from support import wait_for_listener, wait_until


class TestNoPassword:
    @pytest.fixture
    def silent(self):
        """Options of a client that says nothing when it connects, so that a call is refused."""
        names = inspect.signature(Redis).parameters.keys()
        names &= {"driver_info", "lib_name", "lib_version"}
        if "driver_info" in names:  # later versions deprecate the others
            names = {"driver_info"}
        return dict.fromkeys(names)

    async def test_calls(self, own_server, silent):
        """Without a password the error says that one is required, however long the call: Redis 7
        answers a long one with a protocol error.
        """
        server = own_server()
        server.redis.config_set("requirepass", "s3cret")
        for options in (silent, {}):
            async with AsyncRSMQ.from_url(server.url, **options) as rsmq:
                for call in (
                    rsmq.list_queues(),
                    rsmq.queue("jobs").send("x"),
                    rsmq.queue("jobs").send_many(["x"] * 50),
                    rsmq.queue("jobs").pop(),
                    anext(rsmq.queue("jobs").messages()),
                ):
                    with pytest.raises(redis.AuthenticationError, match="Authentication required"):
                        await call

    async def test_listener(self, own_server, caplog):
        """The listener says the same, once, and announcements come when the password does."""
        server = own_server()
        async with AsyncRSMQ.from_url(server.url) as rsmq:
            await rsmq.create_queue(qname="jobs")
            polling = asyncio.ensure_future(rsmq.queue("jobs").receive(wait=60))
            await wait_for_listener(server)
            server.redis.config_set("requirepass", "s3cret")
            server.redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
            await wait_until(lambda: len(texts(caplog)) > 0)
            server.redis.config_set("requirepass", "")
            await wait_for_listener(server)
            await rsmq.queue("jobs").send("x")
            assert (await polling).body == "x"
        assert len([text for text in texts(caplog) if "disconnected" in text]) == 1


def texts(caplog):
    return [record.getMessage() for record in caplog.records if record.name == "aiorsmq.client"]
