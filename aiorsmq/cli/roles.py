"""What an ACL user needs for each role; docs/operations/rights.md has the lines."""

from typing import Final, NamedTuple


class Role(NamedTuple):
    purpose: str
    required: str
    """Commands, as ACL SETUSER names them."""
    optional: str
    """Without these no call fails: nobody is woken, totals and what belongs to a queue are less
    exact, and less is told."""
    keys: str
    """`{ns}`, `{queue}` and `{dead}` stand for names."""
    channels: str

    @property
    def commands(self) -> list[str]:
        return [*self.required.split(), *self.optional.split()]

    def key_names(self, ns: str, queue: str, dead: str | None) -> list[str]:
        """Its keys for one queue, and for its dead-letter queue if there is one."""
        return _fill(self.keys, ns, queue, dead)

    def channel_names(self, ns: str, queue: str, dead: str | None) -> list[str]:
        return _fill(self.channels, ns, queue, dead)


def _fill(patterns: str, ns: str, queue: str, dead: str | None) -> list[str]:
    words = patterns.split()
    if dead is None:
        words = [word for word in words if "{dead}" not in word]
    return [word.format(ns=ns, queue=queue, dead=dead) for word in words]


_COMMON: Final = "eval evalsha time hmget"
# Without it, a connection that a router forgot while it was idle is found out later.
_PROBE: Final = "ping"
_LISTEN: Final = f"subscribe unsubscribe {_PROBE}"
_LOOK: Final = (
    "hexists hlen hscan sismember smembers zcard zcount zrange zrangebyscore zrank zscan zscore"
)
# Not config|get: it shows the server's passwords, too.
_TELL: Final = "pubsub|numsub scan info"
_PAIR: Final = "{ns}:{queue} {ns}:{queue}:Q"
_DEAD: Final = "{ns}:{dead} {ns}:{dead}:Q {ns}:{dead}:reasons"

ROLES: Final = {
    "producer": Role(
        "sends",
        f"{_COMMON} hset zadd",
        f"zcard publish {_PROBE}",
        _PAIR,
        "{ns}:rt:{queue}",
    ),
    "consumer": Role(
        "sends, and receives from a queue without a dead-letter queue",
        f"{_COMMON} hset hdel zadd zrem zrangebyscore zscore zmscore",
        f"hincrby zcard publish {_LISTEN}",
        _PAIR,
        "{ns}:rt:{queue}",
    ),
    "worker": Role(
        "sends, receives, and moves dead messages to the dead-letter queue",
        f"{_COMMON} expire hset hdel sadd scard zadd zcard zcount zrem zrangebyscore zscore "
        "zmscore",
        f"hincrby hrandfield srem publish {_LISTEN}",
        f"{_PAIR} {_DEAD} {{ns}}:QUEUES",
        "{ns}:rt:{queue} {ns}:rt:{dead}",
    ),
    "dead-letters": Role(
        "looks at dead letters, and sends them back, edits or deletes them",
        f"{_COMMON} hdel hexists hset rename scard smembers zadd zcard zcount zmscore zrange "
        "zrangebyscore zrank zrem zscore",
        f"hincrby publish pubsub|numsub {_PROBE}",
        f"{_PAIR} {_DEAD} {{ns}}:{{dead}}:purged {{ns}}:QUEUES",
        "{ns}:rt:{queue} {ns}:rt:{dead}",
    ),
    "observer": Role(
        "looks at everything and changes nothing",
        f"{_COMMON} {_LOOK}",
        f"{_TELL} {_LISTEN}",
        f"{{ns}}:QUEUES {_PAIR} {{ns}}:{{queue}}:reasons {{ns}}:{{queue}}:purged "
        f"{_DEAD} {{ns}}:{{dead}}:purged",
        "{ns}:rt:{queue} {ns}:rt:{dead}",
    ),
    "admin": Role(
        "looks at everything, and does everything to queues but receive from them",
        f"{_COMMON} {_LOOK} exists expire hdel hset rename sadd scard srem type unlink zadd "
        "zmscore zrem",
        f"hincrby hrandfield publish {_TELL} {_LISTEN}",
        f"{{ns}}:QUEUES {_PAIR} {{ns}}:{{queue}}:reasons {{ns}}:{{queue}}:purged "
        f"{{ns}}:{{queue}}:deleted {_DEAD} {{ns}}:{{dead}}:purged",
        "{ns}:rt:{queue} {ns}:rt:{dead}",
    ),
}
"""By name."""

ADDITIONS: Final = {
    "replicas": "wait",
    "fsync": "waitaof",
    "sentinel": "role",
    "cluster": "cluster|slots asking",
}
"""Commands that a user needs besides those of its role: for sends that `aiorsmq.replicas()` or
`aiorsmq.fsync()` confirms, behind sentinels, and in a cluster."""

AT_SENTINELS: Final = Role(
    "asks sentinels for the primary, and listens to them; create it at each sentinel",
    "sentinel|master sentinel|get-master-addr-by-name",
    f"subscribe {_PROBE}",
    "",
    "+failover-state-send-slaveof-noone -failover-abort-slave-timeout +promoted-slave "
    "+switch-master +monitor",
)
"""The user that `sentinel_username` names."""
