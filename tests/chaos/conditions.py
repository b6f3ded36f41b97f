"""Conditions in which a server refuses calls for a while."""

import asyncio
from contextlib import asynccontextmanager

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from support import wait_until


def says(server, word):
    """Whether the server answers a plain write with that word."""
    with redis.Redis(
        unix_socket_path=server.socket, protocol=2, retry=Retry(NoBackoff(), 0)
    ) as client:
        try:
            client.delete("probe")  # a write that leaves nothing behind
        except redis.RedisError as error:
            return word in f"{type(error).__name__} {error}"
    return False


@asynccontextmanager
async def loading(server):
    """Killed, and started with a file that takes it a second to read."""
    with server.redis.pipeline(transaction=False) as pipeline:
        for _ in range(10_000):
            pipeline.incr("filler")
        pipeline.execute()
    server.kill()
    starting = asyncio.ensure_future(asyncio.to_thread(server.start))
    await wait_until(lambda: says(server, "BusyLoadingError"))
    yield
    await starting


@asynccontextmanager
async def busy(server):
    """Kept from work by somebody's endless script."""

    def loop():
        with (
            redis.Redis(unix_socket_path=server.socket) as client,
            pytest.raises(redis.ResponseError),
        ):
            client.eval("while true do end", 0)

    server.redis.config_set("lua-time-limit", 1)
    running = asyncio.ensure_future(asyncio.to_thread(loop))
    await wait_until(lambda: says(server, "BUSY"))
    yield
    server.redis.script_kill()
    await running
    server.redis.config_set("lua-time-limit", 5000)


@asynccontextmanager
async def readonly(server):
    """Made a replica, as by a failover that the client has not noticed."""
    server.redis.replicaof("127.0.0.1", 1)
    await wait_until(lambda: says(server, "ReadOnlyError"))
    yield
    server.redis.replicaof("NO", "ONE")


@asynccontextmanager
async def master_down(server):
    """Made a replica that does not serve old data."""
    server.redis.config_set("replica-serve-stale-data", "no")
    server.redis.config_set("replica-read-only", "no")
    server.redis.replicaof("127.0.0.1", 1)
    await wait_until(lambda: says(server, "MasterDownError"))
    yield
    server.redis.replicaof("NO", "ONE")


@asynccontextmanager
async def misconf(server):
    """Unable to save to disk."""
    in_the_way = server.folder / "dump.rdb"
    in_the_way.mkdir()
    server.redis.config_set("save", "3600 1000000")
    server.redis.bgsave()
    await wait_until(lambda: says(server, "MISCONF"))
    yield
    in_the_way.rmdir()
    server.redis.bgsave()
    await wait_until(lambda: not says(server, "MISCONF"))


@asynccontextmanager
async def no_replicas(server):
    """Told to write only with a replica, and there is none."""
    server.redis.config_set("min-replicas-to-write", 1)
    await wait_until(lambda: says(server, "NOREPLICAS"))
    yield
    server.redis.config_set("min-replicas-to-write", 0)
