"""Credentials that change while a client is connected, and those that are missing."""

import asyncio
import inspect
from contextlib import asynccontextmanager

import pytest
import redis
from aiorsmq import AsyncRSMQ
from aiorsmq._server.credentials import _StreamingProvider
from redis import CredentialProvider
from redis.asyncio import Redis

from support import PATIENCE, wait_for_listener, wait_until

USERS = ("first", "second")
RIGHTS = ("~*", "&*", "+@all")

streaming = pytest.mark.skipif(
    _StreamingProvider == (), reason="this redis-py knows no providers that renew"
)


@pytest.fixture
def users(server):
    """Users whose password is their name."""
    for user in USERS:
        server.redis.execute_command("ACL", "SETUSER", user, "reset", "on", f">{user}", *RIGHTS)
    yield USERS
    for user in USERS:
        server.redis.acl_deluser(user)
    server.redis.acl_log_reset()


class Token:
    """As redis.auth.token.SimpleToken."""

    def __init__(self, user, password):
        self._user, self._password = user, password  # a pair

    def try_get(self, key):
        assert key == "oid"
        return self._user

    def get_value(self):
        return self._password


class Streaming(_StreamingProvider or CredentialProvider):
    """Renews its credentials when it is told, and knows one callback, as redis-entraid's do."""

    def __init__(self, user):
        self._token = Token(user, user)
        self.asked = 0

    def get_credentials(self):
        self.asked += 1
        return self._token.try_get("oid"), self._token.get_value()

    async def get_credentials_async(self):
        return self.get_credentials()

    def on_next(self, callback):
        self._on_next = callback

    def on_error(self, callback):
        self._on_error = callback

    def is_streaming(self):
        return True

    async def renew(self, user, password=None):
        token = Token(user, password or user)
        if password is None:
            self._token = token
        await self._on_next(token)


def logins(server):
    """The connections' users, by their ids."""
    return {
        int(client["id"]): client["user"]
        for client in server.redis.client_list()
        if client["user"] != "default"
    }


def connections(server):
    return server.redis.info("stats")["total_connections_received"]


@asynccontextmanager
async def waiting_client(server, provider, **options):
    """A client with both of its connections, and its long poll."""
    async with AsyncRSMQ.from_url(server.url, credential_provider=provider, **options) as rsmq:
        polling = asyncio.ensure_future(rsmq.queue("jobs").receive(wait=60))
        await wait_for_listener(server)
        yield rsmq, polling


@streaming
class TestStreaming:
    async def test_renewed(self, server, queue, users):
        """New credentials reach all connections: AUTH on that for calls, another one for
        announcements, which takes no AUTH. No call notices.
        """
        provider = Streaming("first")
        async with waiting_client(server, provider, poll_interval=3600) as (rsmq, polling):
            before = logins(server)
            assert [*before.values()] == ["first", "first"]
            await provider.renew("second")
            await wait_until(lambda: [*logins(server).values()] == ["second", "second"])
            assert len(before.keys() & logins(server).keys()) == 1
            await wait_for_listener(server)
            await rsmq.queue("jobs").send("x")
            assert (await polling).body == "x"

    async def test_renewed_under_load(self, server, queue, users):
        """Nothing is lost, doubled or refused, however often they are renewed."""
        provider = Streaming("first")
        async with AsyncRSMQ.from_url(server.url, credential_provider=provider) as rsmq:
            await rsmq.list_queues()
            other = rsmq.queue("jobs")
            sending = [asyncio.ensure_future(other.send(str(n))) for n in range(50)]
            for user in users * 5:
                await provider.renew(user)
                sending += [asyncio.ensure_future(other.send(str(n))) for n in range(50)]
                await asyncio.sleep(0.01)
            ids = await asyncio.gather(*sending)
            assert sorted(ids) == sorted({message.id for message in await queue.peek(1000)})
            assert len(ids) == 550

    async def test_several_clients(self, server, queue, users):
        """All clients of one provider hear of it, and so does redis-py's own pool."""
        provider = Streaming("first")
        given = Redis(unix_socket_path=server.socket, credential_provider=provider)
        await given.ping()
        async with (
            AsyncRSMQ(given) as one,
            AsyncRSMQ.from_url(server.url, credential_provider=provider) as other,
        ):
            await one.list_queues()
            await other.list_queues()
            assert [*logins(server).values()] == ["first"] * 3
            await provider.renew("second")
            await wait_until(lambda: [*logins(server).values()] == ["second"] * 3)
        await provider.renew("first")  # nobody is left but the pool
        await wait_until(lambda: [*logins(server).values()] == ["first"])
        await given.aclose()

    async def test_from_another_thread(self, server, queue, users):
        """A provider may renew them in a thread of its own."""
        provider = Streaming("first")
        async with waiting_client(server, provider) as (_, polling):
            await asyncio.to_thread(provider._on_next, Token("second", "second"))
            await wait_until(lambda: "second" in logins(server).values())
            polling.cancel()

    async def test_refused(self, server, queue, users, caplog):
        """What the server refuses is logged once; no call is refused for it."""
        provider = Streaming("first")
        async with waiting_client(server, provider) as (rsmq, polling):
            for _ in range(3):
                await provider.renew("first", "wr0ng")
                await rsmq.queue("jobs").send("x")
            assert (await polling).body == "x"
            await queue.purge()
        (text,) = texts(caplog)
        assert "refuses the credentials" in text
        assert "wr0ng" not in caplog.text
        server.redis.acl_log_reset()


class Late(CredentialProvider):
    """Gives what it is told to give."""

    def __init__(self, user):
        self.user, self.password = user, user  # a pair
        self.failure = None
        self.asked = 0

    def get_credentials(self):
        self.asked += 1
        if self.failure:
            raise self.failure
        return self.user, self.password

    async def get_credentials_async(self):
        return self.get_credentials()


NAMES = ("sent", "polled", "streamed", "worked")


class TokenError(Exception):
    """As a provider's own."""


@pytest.mark.parametrize("failure", [None, TokenError("s3cret"), OSError("no route")])
async def test_late_provider(server, queue, users, failure, caplog):
    """A provider that is late with the next token, or fails for a while, is waited out by clients
    that were logged in: by calls, pops too, long polls, streams and workers.
    """
    handled = asyncio.Event()

    async def handler(_):
        handled.set()

    provider = Late("first")
    async with AsyncRSMQ.from_url(
        server.url, credential_provider=provider, poll_interval=3600
    ) as rsmq:
        for name in NAMES:
            await rsmq.create_queue(qname=name)
        async with rsmq.queue("worked").worker(handler):
            polling = asyncio.ensure_future(rsmq.queue("polled").receive(wait=60))
            streaming = asyncio.ensure_future(anext(rsmq.queue("streamed").messages()))
            await wait_for_listener(server, *NAMES[1:])
            await queue.send("x")
            asked = provider.asked
            provider.password = "expired"
            provider.failure = failure
            server.redis.execute_command("CLIENT", "KILL", "USER", "first")
            sending = asyncio.ensure_future(rsmq.queue("sent").send("x"))
            await wait_until(lambda: provider.asked > asked + 2)  # it is known that they are closed
            calling = asyncio.gather(rsmq.queue("jobs").pop(), rsmq.list_queues(), sending)
            await wait_until(lambda: provider.asked > asked + 4)
            assert not any(waiting.done() for waiting in (calling, polling, streaming))
            provider.password = "first"
            provider.failure = None
            assert (await calling)[0].body == "x"
            for name in NAMES[1:]:
                await rsmq.queue(name).send("x")
            await (await polling).delete()
            await (await streaming).delete()
            await asyncio.wait_for(handled.wait(), PATIENCE)
        await rsmq.delete_queue(qname="sent")
    assert "s3cret" not in caplog.text
    assert "expired" not in caplog.text


async def test_provider_fails_at_first(server):
    """A provider that fails at the first login is reported at once."""
    provider = Late("first")
    provider.failure = TokenError("no token")
    async with AsyncRSMQ.from_url(server.url, credential_provider=provider) as rsmq:
        with pytest.raises(redis.ConnectionError, match="no token"):
            await rsmq.list_queues()


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
