"""What a client connects with: a URL, or redis-py's options, checked when the client is made.

redis-py meets an unknown option at the first call, and reads a password that is not percent-encoded
as a host, a port, a path or a database. So nothing here quotes a URL, and no error keeps redis-py's
as its cause: those quote values.
"""

import codecs
import inspect
import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from functools import partial
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from redis.asyncio import (
    ConnectionPool,
    Redis,
    RedisCluster,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.cluster import RedisCluster as SyncCluster
from redis.exceptions import RedisError

from ..errors import ONE_SHARD, InvalidParameterValue

CONNECT_TIMEOUT: Final = 5.0
"""Seconds that each step of opening a connection may take: to connect, and then each reply."""

# RESP2: with RESP3, redis-py 8.1 does not notice an unread reply. Retries: there is one loop, in
# `_scripts`.
_OWN_SETTINGS: dict[str, Any] = {
    "protocol": 2,
    "socket_connect_timeout": CONNECT_TIMEOUT,
    "socket_timeout": None,
}

_SCHEMES = ("redis", "rediss", "valkey", "valkeys", "unix")
_KNOWN = (
    "redis://, rediss://, valkey://, valkeys:// or unix://, or be embedded:// or embedded:///folder"
)
_ENCODE = 'percent-encode the password: urllib.parse.quote(password, safe="")'
_FROM_URL = "a URL goes to AsyncRSMQ.from_url"
_REFUSED = "is refused by redis-py"

_HOST = re.compile(r"[\w.-]+|[0-9A-Fa-f:.]+(%[\w.-]+)?")
_BESIDE_THE_URL = ("ns", "realtime", "qname", "poll_interval", "deadline", "connect_timeout")


class _Fault(NamedTuple):
    option: str
    wrong: str
    unknown: bool = False
    """Whether the option itself is wrong, not its value."""


def check_url(url: object) -> str | None:
    """Refuse a URL that cannot be used. Returns the folder of an `embedded://` one, '' for none;
    None for others.
    """
    text, scheme = url.strip() if isinstance(url, str) else "", ""
    try:
        parts = urlsplit(text)
        scheme = parts.scheme
        if scheme == "embedded" and not (parts.netloc or parts.query):
            return unquote(parts.path)
        wrong = _wrong_part(text) if scheme in _SCHEMES else f"must begin with {_KNOWN}"
    except ValueError:
        wrong = f"has a host that is none; {_ENCODE}"
    if wrong is None:
        return None
    raise InvalidParameterValue("url", _shown(scheme), wrong)


def _shown(scheme: str) -> str:
    """A URL without what is secret; `user:password@host` has a part that only looks like a
    scheme.
    """
    return f"{scheme}://..." if scheme in (*_SCHEMES, "embedded") else "..."


def _wrong_part(url: str) -> str | None:
    """What is wrong with it, in words that quote nothing of it: each part may be part of a
    password.
    """
    parts = urlsplit(url)
    wrong = None
    if "@" in parts.query or "#" in url or (parts.netloc and "@" in parts.path):
        wrong = "has an @ or a # behind its host"
    elif re.search(r"[\t\r\n]", url):  # Python drops them
        wrong = "has a line break or a tab in it"
    elif parts.scheme == "unix":
        if parts.netloc.rpartition("@")[2]:
            wrong = "has a host, but a socket has a path alone, as in unix:///run/socket"
    elif not _has_port(url):
        wrong = "has a port that is no number from 0 to 65535"
    elif parts.hostname and not _HOST.fullmatch(unquote(parts.hostname)):
        wrong = "has a host that is none"
    elif not re.fullmatch(r"/*[0-9]*/*", unquote(parts.path)):
        wrong = "has a path that is no number of a database"
    return wrong and f"{wrong}; {_ENCODE}"


def _has_port(url: str) -> bool:
    try:
        _ = urlsplit(url).port
    except ValueError:
        return False
    return True


def own_client(url: str | None = None, **options: Any) -> Redis:
    """A client of our own, from a URL that `check_url` has passed or from redis-py's options; no
    I/O.

    Raises InvalidParameterValue for what redis-py does not know, or would fail with at the first
    call.
    """
    settings: dict[str, Any] = _OWN_SETTINGS | {"retry": no_retry()} | options
    in_url: dict[str, Any] = {}
    make: Callable[..., Redis] = Redis
    if url is not None:
        url = re.sub("^valkey", "redis", url.strip(), flags=re.IGNORECASE)
        bare, _, query = url.partition("?")
        in_url = dict(reversed(parse_qsl(query, keep_blank_values=True)))
        make = partial(_from_url, bare, in_url)
    fault = _without_tls(options) if url is None else _without_value(in_url)
    fault = fault or _fault(partial(make, **settings | in_url))
    if fault is None:
        return make(**settings | in_url)
    given = options | in_url
    if not fault.option:  # redis-py does not say: it is the one that is refused alone
        alone = (name for name in given if _fault(partial(make, **{name: given[name]})))
        fault = fault._replace(option=next(alone, ""))
    raise _blamed(fault, "" if url is None else _shown(urlsplit(url).scheme), given, in_url)


def no_retry() -> Retry:
    return Retry(NoBackoff(), 0)


def check_client(client: object) -> Redis:
    """Refuse what is no client, and one that cannot connect as it was made."""
    if isinstance(client, RedisCluster | SyncCluster):
        reason = f"must not be a cluster's, which is not supported yet: {ONE_SHARD}"
    elif not isinstance(client, Redis):
        reason = (
            "must be a redis.asyncio.Redis, which takes the same options as a redis.Redis; "
            f"{_FROM_URL}"
        )
    elif fault := _fault(lambda: client):
        reason = f"was made with {_said(fault)}"
    else:
        return client
    raise InvalidParameterValue("client", client, reason)


def _from_url(bare: str, in_url: Mapping[str, Any], **chosen: Any) -> Redis:
    asked = {name: value for name, value in chosen.items() if name in in_url}
    beside = {name: value for name, value in chosen.items() if name not in in_url}
    return Redis.from_url(f"{bare}?{urlencode(asked)}", **beside)  # pyright: ignore[reportUnknownMemberType]


def _blamed(
    fault: _Fault, url: str, given: Mapping[str, Any], in_url: Mapping[str, Any]
) -> InvalidParameterValue:
    option, wrong, unknown = fault
    option = "unix_socket_path" if option == "path" and not url else option
    if option in in_url or (url and option not in given and not unknown):
        return InvalidParameterValue("url", url, f"has {_said(fault)}")
    if unknown:
        return InvalidParameterValue("option", option, wrong)
    if option in given:
        return InvalidParameterValue(option, given[option], wrong)
    return InvalidParameterValue("redis_options", sorted(given), f"make a combination that {wrong}")


def _said(fault: _Fault) -> str:
    option = (
        repr(fault.option) if re.fullmatch(r"\w{1,50}", fault.option) else "with a strange name"
    )
    if not fault.option:
        return f"a combination of options that {fault.wrong}"
    return f"{'an option' if fault.unknown else 'a bad value for'} {option}, which {fault.wrong}"


def _fault(make: Callable[[], Redis]) -> _Fault | None:
    """What redis-py refuses when it makes a client and a connection, or would fail with when that
    connects.
    """
    try:
        pool = make().connection_pool
        connection = pool.make_connection()
        if context := getattr(connection, "ssl_context", None):
            context.get()  # reads the files that it is to read
    except (TypeError, ValueError, AttributeError, LookupError, OSError, RedisError) as error:
        text = str(error)
    else:
        return _bad_value(pool.connection_kwargs)
    if unexpected := re.search(r"unexpected keyword argument '(.+?)'", text):
        return _Fault(unexpected[1], _nearest(unexpected[1]), unknown=True)
    named = re.match(r"""Invalid value for ["'`](\w+)["'`] """, text)
    return _Fault(named[1] if named else "", _REFUSED)


def _bad_value(settings: Mapping[str, Any]) -> _Fault | None:
    for option, (is_good, wrong) in _MUST_BE.items():
        try:
            if (value := settings.get(option)) is None or is_good(value):
                continue
        except (AttributeError, LookupError, TypeError, ValueError):
            pass
        return _Fault(option, wrong)
    return None


def _is_text(value: Any) -> bool:
    return (
        bool(value.encode() or True)
        if isinstance(value, str)
        else isinstance(value, bytes | int | float)
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0


_MUST_BE: dict[str, tuple[Callable[[Any], object], str]] = {
    "host": (_HOST.fullmatch, f"must be a host's name or address; {_FROM_URL}"),
    "port": (lambda value: 0 <= int(value) <= 65535, "must be a number from 0 to 65535"),
    "path": (lambda value: "://" not in value, f"must be the path of a socket; {_FROM_URL}"),
    "db": (lambda value: int(value) >= 0, "must be the number of a database"),
    "encoding": (codecs.lookup, "must be an encoding that Python knows"),
    "encoding_errors": (codecs.lookup_error, "must be a way to deal with errors that Python knows"),
    "credential_provider": (
        lambda value: callable(value.get_credentials),
        "must be a CredentialProvider",
    ),
    **dict.fromkeys(
        ("username", "password", "client_name"), (_is_text, "must be text that UTF-8 can say")
    ),
    **dict.fromkeys(
        ("socket_timeout", "socket_connect_timeout", "socket_read_size", "health_check_interval"),
        (_is_number, "must be a number of 0 or more"),
    ),
}


def _without_value(in_url: Mapping[str, Any]) -> _Fault | None:
    return next(
        (_Fault(option, "must have a value") for option, value in in_url.items() if not value), None
    )


def _without_tls(options: Mapping[str, Any]) -> _Fault | None:
    """redis-py would take no notice of them: a program that believes in TLS would talk in the
    clear.
    """
    for option, value in options.items():
        if option.startswith("ssl_") and value is not None and "ssl" not in options:
            return _Fault(option, _nearest(option), unknown=True)
    return None


def _nearest(option: str) -> str:
    """What an option that does not belong there may have been meant as."""
    known = {
        name
        for made in (Redis, ConnectionPool, SSLConnection, UnixDomainSocketConnection)
        for cls in made.__mro__
        if "__init__" in vars(cls)
        for name in inspect.signature(cls.__init__).parameters
    }
    if option in _BESIDE_THE_URL:
        return f"belongs beside the URL: from_url(url, {option}=...)"
    if option in known:
        with_tls = option.startswith("ssl")
        return (
            "needs TLS: rediss:// as the URL, or ssl=True"
            if with_tls
            else "does not belong to this kind of connection"
        )
    near = get_close_matches(option, known | {*_BESIDE_THE_URL}, 1)
    return f"is not known; the nearest that is: {near[0]!r}" if near else "is not known to redis-py"
