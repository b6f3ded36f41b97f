"""Connection settings: a URL or redis-py's options, checked when the client is created.

redis-py itself reports an unknown option only at the first call, and takes parts of a password that
is not percent-encoded for a host, port, path or database. Therefore no error here quotes a URL, and
none is chained to redis-py's error, which quotes values.
"""

from __future__ import annotations

import codecs
import inspect
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from difflib import get_close_matches
from functools import partial
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit

from redis.asyncio import (
    ConnectionPool,
    Redis,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.cluster import RedisCluster as SyncCluster
from redis.exceptions import RedisError

from ..errors import InvalidParameterValue
from .urls import HOST, redact_url

CONNECT_TIMEOUT: Final = 5.0
"""Seconds that each step of opening a connection may take: connecting, and each reply after it."""

# RESP2, because with RESP3 redis-py 8.1 does not notice an unread reply. No retries by redis-py:
# `Retrier` has the only retry loop.
_DEFAULT_OPTIONS: dict[str, Any] = {
    "protocol": 2,
    "socket_connect_timeout": CONNECT_TIMEOUT,
    "socket_timeout": None,
}

_FROM_URL = "for a URL use AsyncRSMQ.from_url(...)"
_REJECTED = "is rejected by redis-py"

_CLIENT_OPTIONS = (
    *("ns", "realtime", "qname", "poll_interval", "deadline", "connect_timeout", "confirm"),
    *("max_connection_age", "max_waiting"),
)
"""Keywords of `from_url`, which cannot be part of the URL."""
SENTINEL_LOGIN: Final = ("sentinel_username", "sentinel_password")
"""Options of redis+sentinel:// URLs."""


class _Fault(NamedTuple):
    """A bad option or value."""

    option: str
    """Its name; empty if redis-py does not say which option it is."""
    reason: str
    is_unknown: bool = False
    """Whether the option itself is bad, not just its value."""


def own_client(url: str | None = None, scheme: str = "", /, **options: Any) -> Redis:
    """Create a Redis client from redis-py's options, or from a URL that passed `check_url`. No I/O.

    Args:
        scheme: of the URL that the user gave, if that has another.

    Raises InvalidParameterValue for options and values that redis-py does not know, or would fail
    with at the first call.
    """
    settings: dict[str, Any] = _DEFAULT_OPTIONS | {"retry": no_retry()} | options
    url_options: dict[str, Any] = {}
    make: Callable[..., Redis] = Redis
    if url is not None:
        url = re.sub("^valkey", "redis", url.strip(), flags=re.IGNORECASE)
        base, _, query = url.partition("?")
        url_options = dict(reversed(parse_qsl(query, keep_blank_values=True)))
        make = partial(_from_url, base, url_options)
    fault = _find_tls_without_ssl(options) if url is None else _find_empty(url_options)
    fault = fault or _find_fault(partial(make, **settings | url_options))
    if fault is None:
        return make(**settings | url_options)
    passed = options | url_options
    if not fault.option:  # redis-py does not name it: try each option on its own
        culprits = (name for name in passed if _find_fault(partial(make, **{name: passed[name]})))
        fault = fault._replace(option=next(culprits, ""))
    redacted_url = "" if url is None else redact_url(scheme or urlsplit(url).scheme)
    raise _make_error(fault, redacted_url, passed, url_options)


def no_retry() -> Retry:
    return Retry(NoBackoff(), 0)


def check_client(client: object) -> Redis:
    """Raise InvalidParameterValue for anything but a client whose options allow it to connect."""
    if isinstance(client, SyncCluster):
        reason = "must be a redis.asyncio.RedisCluster, which accepts the same options"
    elif isinstance(client, str):
        reason = f"must be a redis.asyncio.Redis; {_FROM_URL}, for a host AsyncRSMQ(host=...)"
    elif not isinstance(client, Redis):
        reason = (
            "must be a redis.asyncio.Redis, which accepts the same options as redis.Redis; "
            f"{_FROM_URL}"
        )
    elif fault := _find_fault(lambda: client):
        reason = f"was created with {_describe(fault)}"
    else:
        return client
    raise InvalidParameterValue("client", client, reason)


def _from_url(base: str, url_options: Mapping[str, Any], **options: Any) -> Redis:
    query = {name: value for name, value in options.items() if name in url_options}
    keywords = {name: value for name, value in options.items() if name not in url_options}
    return Redis.from_url(f"{base}?{urlencode(query)}", **keywords)  # pyright: ignore[reportUnknownMemberType]


def _make_error(
    fault: _Fault, url: str, passed: Mapping[str, Any], url_options: Mapping[str, Any]
) -> InvalidParameterValue:
    option, reason, is_unknown = fault
    if option == "path" and not url:
        option = "unix_socket_path"
    if option in url_options or (url and option not in passed and not is_unknown):
        return InvalidParameterValue("url", url, f"has {_describe(fault)}")
    if is_unknown:
        return InvalidParameterValue("option", option, reason)
    if option in passed:
        return InvalidParameterValue(option, passed[option], reason)
    return InvalidParameterValue("redis_options", sorted(passed), f"is a combination that {reason}")


def _describe(fault: _Fault) -> str:
    if not fault.option:
        return f"a combination of options that {fault.reason}"
    has_plain_name = re.fullmatch(r"\w{1,50}", fault.option)  # others may be part of a password
    option = repr(fault.option) if has_plain_name else "with a malformed name"
    kind = "an option" if fault.is_unknown else "a bad value for"
    return f"{kind} {option}, which {fault.reason}"


def _find_fault(make: Callable[[], Redis]) -> _Fault | None:
    """Find what redis-py rejects on creating a client and a connection, or would on connecting."""
    try:
        pool = make().connection_pool
        connection = pool.make_connection()
        if context := getattr(connection, "ssl_context", None):
            context.get()  # reads the certificate files
    except (TypeError, ValueError, AttributeError, LookupError, OSError, RedisError) as error:
        text = str(error)
    else:
        return _find_bad_value(pool.connection_kwargs)
    if unexpected := re.search(r"unexpected keyword argument '(.+?)'", text):
        return _Fault(unexpected[1], _suggest(unexpected[1]), is_unknown=True)
    option = re.match(r"""Invalid value for ["'`](\w+)["'`] """, text)
    return _Fault(option[1] if option else "", _REJECTED)


def _find_bad_value(settings: Mapping[str, Any]) -> _Fault | None:
    for option, (is_valid, reason) in _VALUE_CHECKS.items():
        try:
            if (value := settings.get(option)) is None or is_valid(value):
                continue
        except (AttributeError, LookupError, TypeError, ValueError):
            pass
        return _Fault(option, reason)
    return None


def _is_text(value: Any) -> bool:
    if isinstance(value, str):
        value.encode()  # raises ValueError for lone surrogates
        return True
    return isinstance(value, bytes | int | float)


def check_sentinel_login(option: str, value: Any) -> str | bytes | None:
    """Raise InvalidParameterValue for a user name or password of sentinels that cannot be one."""
    with suppress(ValueError):
        if value is None or (value != "" and _is_text(value)):
            return value
    raise InvalidParameterValue(option, value, "must be text that UTF-8 can encode, and not empty")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0


_VALUE_CHECKS: dict[str, tuple[Callable[[Any], object], str]] = {
    "host": (HOST.fullmatch, f"must be a host name or address; {_FROM_URL}"),
    "port": (lambda value: 0 <= int(value) <= 65535, "must be a number from 0 to 65535"),
    "path": (lambda value: "://" not in value, f"must be the path of a socket; {_FROM_URL}"),
    "db": (lambda value: int(value) >= 0, "must be the number of a database"),
    "encoding": (codecs.lookup, "must be the name of a Python encoding"),
    "encoding_errors": (codecs.lookup_error, "must be the name of a Python codec error handler"),
    "credential_provider": (
        lambda value: callable(value.get_credentials),
        "must be a CredentialProvider",
    ),
    **dict.fromkeys(
        ("username", "password", "client_name"), (_is_text, "must be text that UTF-8 can encode")
    ),
    **dict.fromkeys(
        ("socket_timeout", "socket_connect_timeout", "socket_read_size", "health_check_interval"),
        (_is_number, "must be a number >= 0"),
    ),
}


def _find_empty(url_options: Mapping[str, Any]) -> _Fault | None:
    for option, value in url_options.items():
        if not value:
            return _Fault(option, "must have a value")
    return None


def _find_tls_without_ssl(options: Mapping[str, Any]) -> _Fault | None:
    """Find an ssl_ option without ssl=True: redis-py ignores it and connects without encryption."""
    for option, value in options.items():
        if option.startswith("ssl_") and value is not None and "ssl" not in options:
            return _Fault(option, _suggest(option), is_unknown=True)
    return None


_NOT_BESIDE_URL = (
    "is not for URLs: begin it with rediss://, rediss+sentinel:// or rediss+cluster://"
)
_USE_TLS = "use a rediss:// URL or ssl=True"


def _suggest(option: str) -> str:
    """Return why an option is rejected, and what may have been meant."""
    valid_options = {
        name
        for base in (Redis, ConnectionPool, SSLConnection, UnixDomainSocketConnection)
        for cls in base.__mro__
        if "__init__" in vars(cls)
        for name in inspect.signature(cls.__init__).parameters
    }
    if option == "url":
        return f"is unknown; {_FROM_URL}"
    if option in SENTINEL_LOGIN:
        return "requires sentinels: use a redis+sentinel:// URL"
    if option in _CLIENT_OPTIONS:
        return f"is not part of the URL: use from_url(url, {option}=...)"
    if option in valid_options:
        if option.startswith("ssl"):
            return _NOT_BESIDE_URL if option == "ssl" else "requires TLS: " + _USE_TLS
        return "does not apply to this kind of connection"
    matches = get_close_matches(option, valid_options | {*_CLIENT_OPTIONS}, 1)
    return f"is unknown; did you mean {matches[0]!r}?" if matches else "is unknown to redis-py"
