"""Follows a provider that renews its credentials while connections are open, as redis-entraid's do.

redis-py logs in again on the connections of its pools; ours are not in them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

from redis import credentials

_StreamingProvider: Any = getattr(credentials, "StreamingCredentialProvider", ())  # since 5.3


class Follower:
    """Keep it for as long as the credentials of a provider matter."""

    def __init__(self, on_renewed: Callable[[tuple[str, ...]], None], pool: Any) -> None:
        self.on_renewed = on_renewed
        self.pool = pool


class _Relay:
    """Passes on what one provider tells to all followers: a provider may know only the callback
    that was registered last, which was redis-py's for its pool."""

    def __init__(self) -> None:
        self.followers: WeakSet[Follower] = WeakSet()

    def __call__(self, token: Any) -> _Pools:
        user = token.try_get("oid")
        password = token.get_value()
        for follower in list(self.followers):
            follower.on_renewed((password,) if user is None else (user, password))
        return _Pools({follower.pool for follower in self.followers}, token)


class _Pools:
    """Awaited by providers that await their callback."""

    def __init__(self, pools: set[Any], token: Any) -> None:
        self._pools = pools
        self._token = token

    def __await__(self) -> Generator[Any, None, None]:
        return self._tell().__await__()

    async def _tell(self) -> None:
        await asyncio.gather(*(pool.re_auth_callback(self._token) for pool in self._pools))


_relays: WeakKeyDictionary[Any, _Relay] = WeakKeyDictionary()


def follow(
    provider: Any, on_renewed: Callable[[tuple[str, ...]], None], pool: Any
) -> Follower | None:
    """Call `on_renewed` with each new pair of user and password, from any thread, for as long as
    the follower lives. None for a provider that does not renew.

    Args:
        pool: redis-py's pool of that provider, or nodes of a cluster, told by `re_auth_callback`.
    """
    if not isinstance(provider, _StreamingProvider):
        return None
    follower = Follower(on_renewed, pool)
    try:
        relay = _relays.get(provider)
        if relay is None:
            relay = _relays[provider] = _Relay()
            provider.on_next(relay)
    except TypeError:  # it cannot be a key
        relay = _Relay()
        provider.on_next(relay)
    relay.followers.add(follower)
    return follower
