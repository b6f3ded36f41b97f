"""What a URL of sentinels may contain, and what is refused."""

from urllib.parse import quote

import pytest
import redis
from aiorsmq import AsyncRSMQ, InvalidParameterValue


def target_of(url, **options):
    return AsyncRSMQ.from_url(url, **options)._engine.target


def settings_of(sentinel):
    return sentinel._pool.connection_kwargs


def refusal(url, **options):
    with pytest.raises(InvalidParameterValue) as caught:
        AsyncRSMQ.from_url(url, **options)
    error = caught.value
    assert "secret" not in f"{error} {error!r} {error.__context__!r}"
    return error


@pytest.mark.parametrize(
    ("hosts", "shown"),
    [
        ("one:1,two:2,three:3", "one:1,two:2,three:3"),
        ("one", "one:26379"),
        ("my_sentinel-0.svc.local.:1,10.0.0.1", "my_sentinel-0.svc.local.:1,10.0.0.1:26379"),
        ("[::1]:1,[fe80::1%25eth0],h:2", "[::1]:1,[fe80::1%eth0]:26379,h:2"),
    ],
)
async def test_hosts(hosts, shown):
    """One host or several, with ports or the usual one; the client shows them, and no password."""
    rsmq = AsyncRSMQ.from_url(f"redis+sentinel://:secret@{hosts}/my-master.1")
    assert rsmq.address == f"service my-master.1 at {shown}"
    assert rsmq.address in repr(rsmq)
    assert "secret" not in repr(rsmq)


@pytest.mark.parametrize("scheme", ["redis", "rediss", "valkey", "valkeys", "REDISS"])
async def test_schemes(scheme):
    """With TLS it is for both sentinels and primary, with the same certificates."""
    tls = scheme.lower() in ("rediss", "valkeys")
    query = "ssl_check_hostname=false&" * tls
    target = target_of(f"{scheme}+sentinel://h:1/main?{query}db=2")
    for pool in (target._pool, target._sentinels[0]._pool):
        assert issubclass(pool.connection_class, redis.asyncio.SSLConnection) == tls
        assert pool.connection_kwargs.get("ssl_check_hostname") == (False if tls else None)
    assert target._pool.connection_kwargs["db"] == 2


async def test_logins():
    """The login before the hosts is the primary's; the sentinels have one of their own, in the URL
    or as options.
    """
    place = "redis+sentinel://u:p%40ss@h:1,h:2/main/3"
    for target in (
        target_of(f"{place}?sentinel_username=s&sentinel_password=s%26cret&client_name=x"),
        target_of(f"{place}?client_name=x", sentinel_username="s", sentinel_password="s&cret"),
    ):
        own = target._pool.connection_kwargs
        assert (own["username"], own["password"], own["db"]) == ("u", "p@ss", 3)
        assert own["client_name"] == "x"
        for sentinel in target._sentinels:
            settings = settings_of(sentinel)
            assert (settings["username"], settings["password"]) == ("s", "s&cret")
            assert settings.get("db", 0) == 0
    assert settings_of(target_of(place)._sentinels[0]).get("password") is None


@pytest.mark.parametrize(
    ("rest", "wrong"),
    [
        *(
            (f"h{port}/main", "has an invalid port")
            for port in (":x", ":99999", ":", ":-1", ":1.5")
        ),
        *(
            (f"{hosts}/main", "has an invalid host")
            for hosts in ("", "h,", ",h", "a b", "::1", "[")
        ),
        *((f"{hosts}/main", "has an invalid host") for hosts in ("[h]", "h\u2100", "a%2Fb")),
        *((f"h{path}", "has no name of a service") for path in ("", "/", "//")),
        *(
            (f"h{path}", "has an invalid path")
            for path in ("/a b", "/a/x", "/a/0/1", "//0", "/a/-1")
        ),
    ],
)
async def test_parts(rest, wrong):
    """The error says which part of the URL is wrong, and no password."""
    error = refusal(f"redis+sentinel://:secret@{rest}")
    assert str(error).startswith(f"url='redis+sentinel://...': {wrong}")
    assert "percent-encode the password" in error.reason


@pytest.mark.parametrize("user", ["", "user"])
@pytest.mark.parametrize(
    "password",
    [
        *("p@ss#secret", "12/34secret", "x?secret", "secret[", "]secret", "a[secret]b", "#secret"),
        *("/secret", "?secret", "12?a=secret", "12/secret#?", "secret\nsecret", "@/secret"),
        *("s\u2100secret", "secret/@", "secret?client_name=x", "1?db=1#secret", "secret\t"),
    ],
)
async def test_password_that_is_not_encoded(user, password):
    """A password whose characters cut the URL to pieces is refused as such."""
    error = refusal(f"redis+sentinel://{user}:{password}@one:1,two:2/main")
    assert "percent-encode the password" in error.reason
    encoded = f"redis+sentinel://{user}:{quote(password, safe='')}@one:1,two:2/main"
    assert target_of(encoded)._pool.connection_kwargs["password"] == password


async def test_whole_user_info_encoded():
    """Too much may be encoded, too: then all of it would be the host."""
    assert "percent-encode" in refusal("redis+sentinel://user%3Asecret%40host:1/main").reason


@pytest.mark.parametrize(
    ("query", "said"),
    [
        (
            "socket_timeot=secret",
            "'socket_timeot', which is unknown; did you mean 'socket_timeout'?",
        ),
        ("sentinel_pasword=secret", "'sentinel_pasword', which is unknown"),
        ("ns=secret", "'ns', which is not part of the URL"),
        ("db=x", "'db', which is rejected"),
        ("client_name=", "'client_name', which must have a value"),
        ("ssl_cert_reqs=none", "'ssl_cert_reqs', which requires TLS"),
    ],
)
async def test_options(query, said):
    """Options are checked when the client is made."""
    error = refusal(f"redis+sentinel://:secret@h/main?{query}")
    assert str(error).startswith("url='redis+sentinel://...': ")
    assert said in error.reason


async def test_logins_that_cannot_be():
    """So are the sentinels' user name and password, which no error shows."""
    for option in ("sentinel_username", "sentinel_password"):
        for value in (["secret"], "secret\udc80", ""):
            assert refusal("redis+sentinel://h/main", **{option: value}).parameter == option
        assert refusal(f"redis+sentinel://h/main?{option}=").parameter == option
        with pytest.raises(InvalidParameterValue, match="use a redis\\+sentinel:// URL"):
            AsyncRSMQ(**{option: "secret"})


async def test_form_in_the_error():
    """The error about another URL has the form of these, too."""
    assert "redis+sentinel://host:port,host:port/service" in refusal("http://h").reason


@pytest.mark.parametrize("path", ["", "/", "/a/x"])
async def test_no_word_about_a_password(path):
    """Where there is no login, the error about the service does not speak of a password."""
    assert "password" not in refusal(f"redis+sentinel://h:1{path}").reason


@pytest.mark.parametrize("host", ["::1", "fe80::1", "::1:26379"])
async def test_address_without_brackets(host):
    """An IPv6 address without brackets is told apart from a host that is missing."""
    assert "IPv6 addresses need brackets" in refusal(f"redis+sentinel://h,{host}/main").reason


@pytest.mark.parametrize("login", ["", "user:secret@", ":a,secret@"])
@pytest.mark.parametrize("scheme", ["redis", "rediss", "valkey", "valkeys"])
async def test_several_hosts_of_one_server(scheme, login):
    """Several hosts in a URL of one server: the error names the URLs that have several."""
    reason = refusal(f"{scheme}://{login}one:1,two:2/main").reason
    assert reason.startswith("names several hosts: ")
    assert f"{scheme}+sentinel://" in reason
    assert f"{scheme}+cluster://" in reason


@pytest.mark.parametrize("url", ["redis+sentinel://h/main", "redis+cluster://h", "redis://h"])
async def test_ssl_beside_a_url(url):
    """The scheme of a URL says whether TLS is used, so the error about ssl=True names schemes."""
    for ssl in (True, False):
        assert "rediss+sentinel://" in refusal(url, ssl=ssl).reason


async def test_database_in_a_cluster():
    """The error quotes the database, also one that stands in the URL."""
    for query, options in (("?db=1", {}), ("", {"db": 1})):
        error = refusal(f"redis+cluster://h{query}", ns="{rsmq}", **options)
        assert (error.parameter, error.value) == ("db", 1)
