"""What a client refuses: a host, a URL, an option, another client."""

import json
from dataclasses import dataclass
from functools import partial
from urllib.parse import quote

import msgspec
import pydantic
import pytest
import redis
from aiorsmq import (
    JSON,
    AsyncRSMQ,
    InvalidParameterValue,
    JsonCodec,
    MaxWaiting,
    MsgspecCodec,
    PydanticCodec,
)


class Order(pydantic.BaseModel):
    item: str


class Invoice(msgspec.Struct):
    item: str


@dataclass
class Parcel:
    item: str


class OwnCodec:
    def encode(self, body):
        return body

    def decode(self, raw):
        return raw


class Asynchronous(OwnCodec):
    async def encode(self, body):
        return body


class TestCodecs:
    @pytest.mark.parametrize(
        ("codec", "line"),
        [
            (PydanticCodec, "codec=PydanticCodec(Order)"),
            (PydanticCodec[Order], "codec=PydanticCodec(Order)"),
            (MsgspecCodec, "codec=MsgspecCodec(Order)"),
            (JsonCodec, "codec=JsonCodec()"),
            (OwnCodec, "codec=OwnCodec()"),
            (Order, "codec=PydanticCodec(Order)"),
            (Parcel, "codec=PydanticCodec(Parcel)"),
            (Invoice, "codec=MsgspecCodec(Invoice)"),
            (str, "codec=TEXT"),
            (bytes, "codec=BYTES"),
            (dict, "codec=JSON"),
            *((other, "codec=JSON, or") for other in (json, "json", None, 5, {}, list[int])),
            *((other, "codec=JSON, or") for other in (Parcel("tea"), json.dumps)),
        ],
    )
    async def test_codec(self, rsmq, refused, codec, line):
        """A codec is an object, not its class and not the type of the bodies; the error has the
        line to write.
        """
        async with refused("codec", codec, f"write {line}"):
            rsmq.queue("jobs", codec=codec)

    async def test_coroutine_functions(self, rsmq, refused):
        """Its methods are plain functions."""
        codec = Asynchronous()
        with pytest.raises(InvalidParameterValue, match="plain function"):
            rsmq.queue("jobs", codec=codec)

    @pytest.mark.parametrize(
        "codec", [JSON, JsonCodec(), OwnCodec(), PydanticCodec(Order), MsgspecCodec(Parcel)]
    )
    async def test_good_codecs(self, rsmq, codec):
        """Any object with the two methods is one."""
        rsmq.queue("jobs", codec=codec)


class TestClients:
    async def test_ns(self, refused):
        """The namespace is a str that is not empty, and that UTF-8 can say."""
        for ns in ("", None, 5, True, b"rsmq", [], "\ud800", "redis://:secret@host"):
            async with refused("ns", ns, "must be a non-empty str"):
                AsyncRSMQ(ns=ns)
            async with refused("ns", ns, "must be a non-empty str"):
                AsyncRSMQ.from_url("redis://", ns=ns)

    async def test_client(self, refused):
        """A client that is passed is a redis.asyncio.Redis; anything else is not shown: it may be a
        URL.
        """
        for client in (
            redis.Redis(),
            redis.asyncio.ConnectionPool(),
            "redis://127.0.0.1",
            5,
            True,
            redis.asyncio.Redis,
        ):
            async with refused("client", client, "for a URL use AsyncRSMQ.from_url(...)"):
                AsyncRSMQ(client)

    async def test_client_of_a_cluster(self, refused):
        """A client of a cluster is redis-py's asynchronous one; its namespace has a hash tag."""
        blocking = redis.RedisCluster.__new__(redis.RedisCluster)
        async with refused("client", blocking, "must be a redis.asyncio.RedisCluster"):
            AsyncRSMQ(blocking)
        async with refused("ns", "rsmq", "must have one hash tag in a cluster"):
            AsyncRSMQ(redis.asyncio.RedisCluster(host="host"))

    async def test_client_that_cannot_connect(self, refused):
        """A client that was made with what redis-py does not know is refused here, not by the first
        call.
        """
        for client, accepted in [
            (redis.asyncio.Redis.from_url("redis://host?socket_timeot=5"), "'socket_timeout'"),
            (redis.asyncio.Redis(host="redis://:secret@host"), "use AsyncRSMQ.from_url(...)"),
            (redis.asyncio.Redis(port="port"), "rejected by redis-py"),
        ]:
            async with refused("client", client, accepted):
                AsyncRSMQ(client)

    @pytest.mark.parametrize(
        "host", ["redis://:secret@host", "user:secret@host", "host/0", "a b", "", 5]
    )
    async def test_host(self, refused, host):
        """A host is a name or an address; anything else is not shown: it may be a URL."""
        async with refused("host", host, "for a URL use AsyncRSMQ.from_url(...)"):
            AsyncRSMQ(host=host)

    @pytest.mark.parametrize(
        "host", ["127.0.0.1", "::1", "fe80::1%eth0", "my_redis", "redis-0.svc.local.", "hôte"]
    )
    async def test_good_hosts(self, host):
        """Names and addresses of all kinds are hosts."""
        assert host in repr(AsyncRSMQ(host=host))

    async def test_ns_of_a_queue(self, rsmq, refused):
        """It is checked as the client's is, wherever one is taken."""
        for ns in ("", 5, True, b"rsmq", [], "\ud800", "redis://:secret@host"):
            async with refused("ns", ns, "must be a non-empty str"):
                rsmq.queue("jobs", ns=ns)
            for call in (rsmq.list_queues, rsmq.find_unlisted, rsmq.snapshots):
                async with refused("ns", ns, "must be a non-empty str"):
                    await call(ns=ns)

    async def test_max_waiting(self, refused):
        """It is a MaxWaiting of two positive numbers."""
        for limits in (
            *(None, 5, "5", True, (1, 2), [1, 2]),
            *(MaxWaiting(0), MaxWaiting(-1), MaxWaiting(1, 0), MaxWaiting(1.5), MaxWaiting(True)),
        ):
            async with refused("max_waiting", limits, "MaxWaiting(messages=..., bytes=...)"):
                AsyncRSMQ(max_waiting=limits)
            async with refused("max_waiting", limits, "both an int >= 1"):
                AsyncRSMQ.from_url("redis://", max_waiting=limits)

    async def test_client_and_its_options(self, server):
        """Options of a connection are for a client of our own."""
        async with redis.asyncio.Redis(unix_socket_path=server.socket) as client:
            with pytest.raises(InvalidParameterValue) as caught:
                AsyncRSMQ(client, db=3)
        assert (caught.value.parameter, caught.value.value) == ("redis_options", ["db"])

    @pytest.mark.parametrize(
        "url",
        [
            *(
                "http://user:secret@host/",
                "redis+unknown://:secret@host:6379/0",
                "user:secret@host",
                ":secret@host",
            ),
            *("//:secret@host", "localhost", "localhost:6379", "", "redis", "memory://"),
            *("embedded://host", "embedded:///folder?x=secret", None, 5, b"redis://:secret@host"),
        ],
    )
    async def test_url(self, url):
        """A URL of another kind is refused; the error says which there are, and no password."""
        reason = self.refused_url(url)
        schemes = ("redis://", "rediss://", "valkey://", "valkeys://", "unix://", "embedded://")
        assert all(scheme in reason for scheme in schemes)

    @pytest.mark.parametrize(
        ("url", "shown", "example"),
        [
            *((url, repr(url), url) for url in ("localhost", "redis", "my-redis.example.org")),
            *((url, repr(url), url) for url in ("localhost:6379", "127.0.0.1:6379/0")),
            ("", "''", "localhost:6379"),
            (None, "None", "localhost:6379"),
            ("localhost:secret", "'...'", "localhost:6379"),
            ("user:secret@host", "'...'", "localhost:6379"),
            ("s3cret", "'...'", "localhost:6379"),
            (b"secret", "'...'", "localhost:6379"),
        ],
    )
    async def test_no_url(self, url, shown, example):
        """What is no URL is shown as it was passed, unless it may hold a password; the error has an
        example.
        """
        with pytest.raises(InvalidParameterValue) as caught:
            AsyncRSMQ.from_url(url)
        assert str(caught.value).startswith(f"url={shown}: must start with redis://")
        assert str(caught.value).endswith(f", as in redis://{example}")

    @pytest.mark.parametrize(
        ("url", "wrong"),
        [
            *(
                (f"redis://:secret@host{port}", "has an invalid port")
                for port in (":port", ":99999", ":-1", ":6379.5")
            ),
            *(
                (f"redis://:secret@{host}", "has an invalid host")
                for host in ("[::1", "::1]", "h\u2100", "a b", "a%2Fb")
            ),
            *(
                (f"redis://:secret@host{path}", "has an invalid path")
                for path in ("/x", "/0/1", "/-1", "/1.5")
            ),
            *((f"redis://:secret{cut}", "has an invalid port") for cut in ("", "/", "?")),
            ("unix://:secret@host/socket", "has a host"),
            ("unix://host/socket", "has a host"),
        ],
    )
    async def test_part_of_url(self, url, wrong):
        """The error about a URL says which part of it is wrong, and no password, wherever special
        characters put it.
        """
        reason = self.refused_url(url)
        assert reason.startswith(wrong)
        assert "percent-encode the password" in reason

    @pytest.mark.parametrize("scheme", ["redis://", "rediss://", "valkey://", "unix://"])
    @pytest.mark.parametrize("user", ["", "user", "user%40"])
    @pytest.mark.parametrize(
        "password",
        [
            *(
                "p@ss#secret",
                "57#secret",
                "12/34secret",
                "x?secret",
                "secret[",
                "]secret",
                "a[secret]b",
                "#secret",
                "/secret",
            ),
            *(
                "?secret",
                "12?secret",
                "12?a=secret",
                "12/secret#?",
                "secret\nsecret",
                "@/secret",
                "s\u2100secret",
                "%/secret",
            ),
            *("secret/@", "secret?client_name=x", "0/secret", "1?db=1#secret", "secret\t"),
        ],
    )
    async def test_password_that_is_not_encoded(self, scheme, user, password):
        """A password whose characters cut its URL to pieces is refused as such: no piece is shown,
        or looked up.
        """
        end = "/socket" if scheme == "unix://" else "localhost:6379/0"
        assert "percent-encode the password" in self.refused_url(f"{scheme}{user}:{password}@{end}")
        quoted = AsyncRSMQ.from_url(f"{scheme}{user}:{quote(password, safe='')}@{end}")
        assert quoted._engine.target._pool.connection_kwargs["password"] == password

    @pytest.mark.parametrize(
        "password", ["s@secret", "s:secret", "100%", "s%zz", "é\U0001f407", "a b", "p=&;$,+!*'()"]
    )
    async def test_password_that_need_not_be_encoded(self, password):
        """Whatever else stands in a password, it is the password, and shown nowhere."""
        rsmq = AsyncRSMQ.from_url(f"redis://u:{password}@localhost/3")
        assert rsmq._engine.target._pool.connection_kwargs["password"] == password
        assert repr(rsmq) == "<AsyncRSMQ 'rsmq' at localhost:6379>"

    async def test_whole_user_info_encoded(self):
        """Too much may be encoded, too: then all of it would be the host."""
        assert "percent-encode the password" in self.refused_url(
            "redis://user%3Asecret%40host:6379/0"
        )

    @pytest.mark.parametrize(
        ("url", "said"),
        [
            (
                "redis://:secret@host?socket_timeot=5",
                "'socket_timeot', which is unknown; did you mean 'socket_timeout'?",
            ),
            (
                "redis://:secret@host?pasword=secret",
                "'pasword', which is unknown; did you mean 'password'?",
            ),
            ("redis://:secret@host?x-y=secret", "which is unknown"),
            ("redis://:secret@host?ssl_cert_reqs=none", "'ssl_cert_reqs', which requires TLS"),
            ("unix://:secret@/socket?ssl=secret", "'ssl', which is not for URLs"),
            (
                "unix://:secret@/socket?port=1",
                "'port', which does not apply to this kind of connection",
            ),
            ("redis://:secret@host?ns=secret", "'ns', which is not part of the URL"),
            (
                "redis://:secret@host?connect_timeout=5",
                "'connect_timeout', which is not part of the URL",
            ),
            (
                "redis://:secret@host?max_connection_age=60",
                "'max_connection_age', which is not part of the URL",
            ),
            ("redis://:secret@host?db", "'db', which must have a value"),
            ("redis://:secret@host?db=x", "'db', which is rejected"),
            ("redis://:secret@host?db=-1", "'db', which must be"),
            ("rediss://:secret@host?socket_timeout=x&db=1", "'socket_timeout', which is rejected"),
            ("unix://:secret@/socket?db=secret", "'db', which is rejected"),
            ("redis://:secret@host?max_connections=-1", "'max_connections', which is rejected"),
            ("redis://:secret@host?protocol=7", "'protocol', which is rejected"),
            ("redis://:secret@host?encoding=none", "'encoding', which must be"),
            ("redis://host?credential_provider=x", "'credential_provider', which must be"),
            ("redis://:secret@host?retry=secret", "'retry', which is rejected"),
            ("rediss://:secret@host?ssl_ca_certs=/missing", "'ssl_ca_certs', which is rejected"),
            ("rediss://:secret@host?ssl_ciphers=none", "'ssl_ciphers', which is rejected"),
            ("rediss://:secret@host?ssl_cert_reqs=secret", "'ssl_cert_reqs', which is rejected"),
        ],
    )
    async def test_option_in_url(self, url, said):
        """An option that is unknown, misplaced, or has a value that cannot be, is named when the
        client is made.
        """
        assert said in self.refused_url(url)

    def refused_url(self, url):
        with pytest.raises(InvalidParameterValue) as caught:
            AsyncRSMQ.from_url(url)
        error = caught.value
        assert error.parameter == "url"
        assert str(error).startswith("url=")
        assert "secret" not in f"{error} {error!r} {error.args} {error.__context__!r}"
        return error.reason

    @pytest.mark.parametrize("scheme", ["redis", "rediss", "valkey", "valkeys", "REDIS", "Valkey"])
    async def test_schemes(self, scheme):
        """valkey:// is redis://, and valkeys:// is rediss://."""
        pool = AsyncRSMQ.from_url(f"{scheme}://host:1/2?db=3")._engine.target._pool
        assert issubclass(pool.connection_class, redis.asyncio.SSLConnection) == (
            scheme in ("rediss", "valkeys")
        )
        assert (pool.connection_kwargs["host"], pool.connection_kwargs["db"]) == ("host", 3)

    @pytest.mark.parametrize(
        ("options", "parameter", "said"),
        [
            (
                {"pasword": "secret"},
                "option",
                "'pasword': is unknown; did you mean 'password'?",
            ),
            ({"no_such_thing_at_all": "secret"}, "option", "is unknown to redis-py"),
            ({"ssl_cert_reqs": "none"}, "option", "requires TLS"),
            ({"max_connections": -1}, "max_connections", "max_connections=-1"),
            ({"socket_timeout": "x"}, "socket_timeout", "socket_timeout='x'"),
            ({"db": "x"}, "db", "must be the number"),
            ({"protocol": 7}, "protocol", "rejected by redis-py"),
            ({"password": "secret\udc80"}, "password", "UTF-8"),
            ({"password": ["secret"]}, "password", "<list>"),
            ({"username": "secret\udc80"}, "username", "UTF-8"),
        ],
    )
    async def test_option(self, options, parameter, said):
        """So is an option that is given by its name, and no value that may be secret is shown."""
        for make in (AsyncRSMQ, partial(AsyncRSMQ.from_url, "redis://")):
            with pytest.raises(InvalidParameterValue) as caught:
                make(**options)
            assert caught.value.parameter == parameter
            assert said in str(caught.value)
            assert "secret" not in f"{caught.value} {caught.value!r} {caught.value.__context__!r}"

    async def test_url_as_an_option(self):
        """A URL that is given by its name is refused with what to call, and not shown."""
        with pytest.raises(InvalidParameterValue) as caught:
            AsyncRSMQ(url="redis://:secret@host")
        assert str(caught.value) == (
            "option='url': is unknown; for a URL use AsyncRSMQ.from_url(...)"
        )

    async def test_tls_that_is_off(self):
        """What belongs to TLS may be given where TLS is said to be off."""
        AsyncRSMQ(ssl=False, ssl_cert_reqs="none")

    async def test_combination(self):
        """Options that redis-py refuses together are named together."""
        provider = redis.UsernamePasswordCredentialProvider("user", "secret")
        with pytest.raises(InvalidParameterValue, match="combination") as caught:
            AsyncRSMQ(password="secret", credential_provider=provider)
        assert "secret" not in str(caught.value)
