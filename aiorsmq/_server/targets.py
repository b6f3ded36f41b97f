"""Which kind of target a URL, a client or options name."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urlencode

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.sentinel import SentinelConnectionPool

from ..embedded import EmbeddedServer
from ..errors import InvalidParameterValue
from .cluster_target import ClusterTarget, given_cluster
from .options import SENTINEL_LOGIN, check_client, check_sentinel_login, own_client
from .sentinel import SentinelTarget
from .target import DirectTarget, EmbeddedTarget, GivenTarget, Target
from .urls import SetUrl, check_url, split_set_url

_SHARED = ("ssl", "socket_keepalive", "socket_connect")
"""What options of connections to both primary and sentinels begin with."""


def choose_target(client: object, **options: Any) -> Target:
    """The target of what an AsyncRSMQ is created with: a client, the Target of a URL, or None and
    redis-py's options. `host` and `port` are always among these."""
    if client is None:
        return direct_target(**options)
    if surplus := options.keys() - {"host", "port"}:
        reason = "cannot be given together with a client: set them on the client"
        raise InvalidParameterValue("redis_options", sorted(surplus), reason)
    return client if isinstance(client, Target) else given_target(client)


def given_target(client: object) -> Target:
    """The target of a client that was given; no I/O.

    Raises InvalidParameterValue for a client that cannot connect.
    """
    if isinstance(client, RedisCluster):
        return given_cluster(client)
    checked = check_client(client)
    pool = checked.connection_pool
    if isinstance(pool, SentinelConnectionPool):
        return _given_sentinels(checked, pool)
    return GivenTarget(checked)


def _given_sentinels(client: Redis, pool: Any) -> Target:
    if not pool.is_master:
        reason = "is a client of replicas: use Sentinel(...).master_for(...)"
        raise InvalidParameterValue("client", client, reason)
    manager = pool.sentinel_manager
    return SentinelTarget(
        client,
        manager.sentinels,
        pool.service_name,
        is_ours=False,
        min_others=manager.min_other_sentinels,
        force_host=getattr(manager, "_force_master_ip", None),  # redis-py 5.3 has no public name
    )


def direct_target(**options: Any) -> Target:
    """The target that redis-py's options name; no I/O.

    Raises InvalidParameterValue for options that cannot connect.
    """
    return DirectTarget(own_client(**options))


def target_from_url(url: str, **options: Any) -> Target:
    """The target that a URL names; no I/O. Raises as `direct_target`."""
    folder = check_url(url)
    if folder is not None:
        server = EmbeddedServer(folder or None)
        return EmbeddedTarget(server, own_client(server.url, **options))
    several = split_set_url(url)
    if several is None:
        return DirectTarget(own_client(url, **options))
    if several.kind == "cluster":
        return _cluster_from_url(several, options)
    return _sentinels_from_url(several, options)


def _cluster_from_url(url: SetUrl, options: dict[str, Any]) -> Target:
    """The target of redis+cluster://..."""
    place = f"{url.login}@" if url.login else ""
    client = own_client(url.one_server(place, query=url.query), url.scheme, **options)
    if db := client.connection_pool.connection_kwargs.get("db"):
        raise InvalidParameterValue("db", db, "must be 0 in a cluster")
    return ClusterTarget(client, url.places, is_ours=True)


def _sentinels_from_url(url: SetUrl, options: dict[str, Any]) -> Target:
    """The target of redis+sentinel://...; `sentinel_username` and `sentinel_password` are the
    sentinels', in the URL or as options."""
    service, _, db = url.path.partition("/")
    query = parse_qsl(url.query, keep_blank_values=True)
    login: dict[str, Any] = {}
    for name in SENTINEL_LOGIN:
        value = dict(reversed(query)).get(name, options.get(name))
        login[name.removeprefix("sentinel_")] = check_sentinel_login(name, value)
    options = {name: value for name, value in options.items() if name not in SENTINEL_LOGIN}
    query = [pair for pair in query if pair[0] not in SENTINEL_LOGIN]
    place = f"{url.login}@" if url.login else ""
    client = own_client(url.one_server(place, db, urlencode(query)), url.scheme, **options)
    shared = urlencode([pair for pair in query if pair[0].startswith(_SHARED)])
    keywords = {name: value for name, value in options.items() if name.startswith(_SHARED)}
    sentinels = [
        own_client(
            url.one_server(f"[{host}]:{port}" if ":" in host else f"{host}:{port}", "", shared),
            url.scheme,
            **keywords | login,
        )
        for host, port in url.places
    ]
    return SentinelTarget(client, sentinels, service, is_ours=True)
