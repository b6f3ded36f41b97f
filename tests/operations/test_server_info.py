"""What a server says about itself, as far as it does."""

import time

import pytest
import redis
from aiorsmq import AsyncRSMQ, NotPermitted
from redis.asyncio import Redis

from support import stalls


@pytest.fixture
def someone(server):
    """`someone(*rules)`: a user with these rights."""

    def make(*rules):
        server.redis.execute_command("ACL", "SETUSER", "someone", "reset", "on", ">pw", *rules)
        return AsyncRSMQ.from_url(server.url, username="someone", password="pw")

    yield make
    server.redis.acl_deluser("someone")


def is_valkey(server):
    return "valkey_version" in server.redis.info("server")


async def test_facts(server, rsmq):
    """Name, version, role, memory, clients and persistence are those of the server."""
    info = await rsmq.server_info()
    theirs = server.redis.info()
    name = "valkey" if is_valkey(server) else "redis"
    assert (info.name, info.version) == (name, theirs[f"{name}_version"])
    assert (info.role, info.connected_clients) == ("master", 2)
    assert info.used_memory > 100_000
    assert (info.maxmemory, info.maxmemory_policy) == (0, "noeviction")
    assert (info.appendonly, info.save, info.has_persistence) == (False, "", False)
    assert info.may_evict is False


async def test_settings(server, rsmq):
    """They follow the server's settings."""
    before = server.redis.config_get("maxmemory*")
    server.redis.config_set("maxmemory", 123_456_789)
    server.redis.config_set("maxmemory-policy", "allkeys-lru")
    server.redis.config_set("save", "3600 1")
    try:
        info = await rsmq.server_info()
        assert (info.maxmemory, info.maxmemory_policy) == (123_456_789, "allkeys-lru")
        assert (info.save, info.has_persistence, info.may_evict) == ("3600 1", True, True)
    finally:
        server.redis.config_set("maxmemory", before["maxmemory"])
        server.redis.config_set("maxmemory-policy", before["maxmemory-policy"])
        server.redis.config_set("save", "")


async def test_append_only(own_server):
    """An append-only file is persistence, too."""
    server = own_server("--appendonly", "yes")
    async with AsyncRSMQ.from_url(server.url) as rsmq:
        info = await rsmq.server_info()
    assert (info.appendonly, info.save, info.has_persistence) == (True, "", True)


async def test_clock(server, rsmq):
    """The difference of the clocks is measured on an open connection, as exactly as the round
    trip allows.
    """
    async with stalls() as lost:
        info = await rsmq.server_info()
        assert abs(info.server_time.timestamp() - time.time()) < 5 + lost()
    assert abs(info.clock_difference) <= info.round_trip  # it is one machine
    assert info.server_time.tzinfo is not None


@pytest.mark.parametrize("protocol", [2, 3])
async def test_protocols(server, protocol):
    """It is the same with both protocols."""
    client = Redis.from_url(server.url, protocol=protocol)
    async with AsyncRSMQ(client) as rsmq:
        info = await rsmq.server_info()
    assert (info.role, info.save, info.maxmemory_policy) == ("master", "", "noeviction")
    await client.aclose()


async def test_refused(someone):
    """What the user may not ask is None; the clock is told all the same."""
    async with someone("+eval", "+evalsha", "+time") as user:
        info = await user.server_info()
        facts = (info.name, info.version, info.role, info.connected_clients, info.used_memory)
        assert facts == (None,) * 5
        assert (info.maxmemory, info.maxmemory_policy, info.appendonly, info.save) == (None,) * 4
        assert (info.has_persistence, info.may_evict) == (None, None)
        assert abs(info.clock_difference) <= info.round_trip


async def test_without_config(someone):
    """INFO alone says nearly all; without save points known, persistence is not known."""
    async with someone("+eval", "+evalsha", "+time", "+info") as user:
        info = await user.server_info()
        assert (info.maxmemory_policy, info.appendonly, info.save) == ("noeviction", False, None)
        assert info.has_persistence is None


async def test_no_scripts(someone):
    """Without the right to run scripts nothing works, and this says so like every call."""
    async with someone("+info") as user:
        with pytest.raises(NotPermitted):
            await user.server_info()


async def test_lost(server, proxy):
    """If the connection is lost in between, all is asked again."""
    async with AsyncRSMQ.from_url(proxy.url) as rsmq:
        await rsmq.server_info()
        for _ in range(3):
            proxy.cut_after_execution = 1
            assert (await rsmq.server_info()).role == "master"
        assert proxy.cuts == 3


async def test_lost_after_the_first_step(server, proxy, monkeypatch):
    """Likewise if it is lost while INFO is on the way."""
    async with AsyncRSMQ.from_url(proxy.url) as rsmq:
        await rsmq.server_info()
        ask = rsmq._node.ask
        asked = []

        async def ask_in_vain(*commands):
            asked.append(commands)
            if len(asked) == 1:
                proxy.cut_after_execution = 1
            return await ask(*commands)

        monkeypatch.setattr(rsmq._node, "ask", ask_in_vain)
        assert (await rsmq.server_info()).role == "master"
        assert len(asked) == 2


async def test_unreachable():
    """A server that cannot be reached raises redis-py's error."""
    async with AsyncRSMQ.from_url("unix:///nowhere.sock") as rsmq:
        with pytest.raises(redis.ConnectionError):
            await rsmq.server_info()
