"""redis-py's plain client for a URL of this library's."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qsl, urlencode

import redis
from redis.sentinel import Sentinel

from .inside import sentinel_url


def plain_client(url: str) -> redis.Redis:
    """A client of the server, of the primary that sentinels name, or of all nodes of a cluster."""
    several = sentinel_url(url)
    if several is None:
        return redis.Redis.from_url(re.sub("^valkey", "redis", url))  # pyright: ignore[reportUnknownMemberType]
    query = dict(reversed(parse_qsl(several.query)))
    login = {
        name: query.pop(f"sentinel_{name}")
        for name in ("username", "password")
        if f"sentinel_{name}" in query
    }
    service, _, db = several.path.partition("/")
    place = f"{several.login}@" if several.login else ""
    settings: dict[str, Any] = redis.ConnectionPool.from_url(  # pyright: ignore[reportUnknownMemberType]
        several.one_server(place, db, urlencode(query))
    ).connection_kwargs
    tls = {"ssl": True} if several.scheme.startswith("rediss") else {}
    own = {name: settings[name] for name in settings if name not in ("host", "port")}
    options: dict[str, Any] = own | tls
    if several.kind == "cluster":
        host, port = several.places[0]
        cluster: Any = redis.RedisCluster(host, port, **options)
        return cluster
    shared = {name: value for name, value in settings.items() if name.startswith("ssl_")}
    sentinels: Any = Sentinel(several.places, sentinel_kwargs=login | tls | shared)
    return sentinels.master_for(service, **options)


def close_client(client: redis.Redis) -> None:
    """Close a client that `plain_client` made, and what it asks sentinels with."""
    client.close()
    pool: Any = getattr(client, "connection_pool", None)
    manager: Any = getattr(pool, "sentinel_manager", None)
    for sentinel in manager.sentinels if manager is not None else ():
        sentinel.close()
