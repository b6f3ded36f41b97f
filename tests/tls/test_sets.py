"""Sentinels and clusters whose servers speak TLS and nothing else."""

import asyncio

import anyio
import pytest
import redis
from aiorsmq import AsyncRSMQ

from sets.cluster import Cluster
from sets.conftest import keep_logs
from sets.node import Tls
from sets.sentinels import Sentinels
from support import PATIENCE
from tls.conftest import Authority

NAMESPACES = {Sentinels: "rsmq", Cluster: "{rsmq}"}


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    authority = Authority(tmp_path_factory.mktemp("tls") / "own")
    return Tls(*authority.issue("127.0.0.1"), authority.path)


@pytest.fixture(scope="module", params=NAMESPACES, ids=["sentinels", "cluster"])
def group(request, tls, tls_binary):
    with request.param(binary=tls_binary, tls=tls) as group:
        yield from keep_logs(group, request)


async def fail_over(group):
    if isinstance(group, Sentinels):
        await asyncio.to_thread(group.failover)
    else:
        await asyncio.to_thread(group.failover, group.owner_of("{rsmq}:jobs"))


async def test_failover(group, tls, caplog):
    """A client follows a failover by TLS, calls and announcements alike, and warns of nothing."""
    ns = NAMESPACES[type(group)]
    trusting = {"ssl_ca_certs": tls.ca, "ns": ns, "poll_interval": 3600}
    async with (
        AsyncRSMQ.from_url(group.url, **trusting) as producer,
        AsyncRSMQ.from_url(group.url, **trusting) as consumer,
    ):
        queue = producer.queue("jobs")
        await queue.create()
        messages = consumer.queue("jobs").messages(pop=True)
        for body in ("before", "after"):
            waiting = asyncio.ensure_future(anext(messages))
            await queue.send(body)
            with anyio.fail_after(PATIENCE):
                assert (await waiting).body == body
            await fail_over(group)
        await messages.aclose()
    assert "aiorsmq.startup.tls" not in {record.name for record in caplog.records}


async def test_unknown_authority(group):
    """A client that does not trust the servers' CA says so, and not that nobody is there."""
    ns = NAMESPACES[type(group)]
    async with AsyncRSMQ.from_url(group.url, ns=ns) as rsmq:
        with pytest.raises(redis.ConnectionError, match="certificate verify failed"):
            await rsmq.list_queues()


async def test_unchecked(group, caplog):
    """A client that checks no certificate says so once, however many servers it connects to."""
    ns = NAMESPACES[type(group)]
    async with AsyncRSMQ.from_url(group.url, ns=ns, ssl_cert_reqs="none") as rsmq:
        queue = rsmq.queue("unchecked")
        await queue.create()
        waiting = asyncio.create_task(queue.receive(wait=60))
        await queue.send("hello")
        assert (await waiting).body == "hello"
    said = [record.name for record in caplog.records]
    assert said.count("aiorsmq.startup.tls") == 1
