"""The protocol that all RSMQ implementations share: key names, id format, limits. No I/O.

Everything follows Node rsmq 0.12.4, unless a comment says otherwise.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from typing import Final

from .errors import InvalidParameterValue

Seconds = float | timedelta

DEFAULT_NS: Final = "rsmq"
DEFAULT_VT: Final = 30
DEFAULT_DELAY: Final = 0
DEFAULT_MAXSIZE: Final = 65536

MAX_SECONDS: Final = 9_999_999
MAX_MAXSIZE: Final = 65536
_MAX_RECEIVES = 1_000_000
_MIN_MAXSIZE = 1024
_MAX_PEEK = 1000
_QNAME = re.compile(r"[A-Za-z0-9_-]{1,160}")
_TAGGED = re.compile(r"[^{}]*\{[^{}]+\}[^{}]*")
_ID = re.compile(r"[A-Za-z0-9:_-]{1,128}")
_POSITIVE_INT = re.compile(rb"[1-9][0-9]{0,14}")
_LATEST_MS = 253_402_300_799_000  # the last second that a datetime can hold; a score can be later
_YEAR_2100 = 4_102_444_800  # in seconds since the epoch


def queues_key(ns: str) -> str:
    return f"{ns}:QUEUES"


class Keys:
    """The keys of one queue."""

    def __init__(self, ns: str, qname: str) -> None:
        self.ns: str = ns
        self.qname: str = qname
        self.messages: str = f"{ns}:{qname}"
        """ZSET: message ids, scored by the time in ms at which each becomes visible."""
        self.queue: str = f"{ns}:{qname}:Q"
        """HASH: the queue's attributes, and each message's body and receive count."""
        self.queues: str = queues_key(ns)
        """SET: the names of all queues."""
        self.channel: str = f"{ns}:rt:{qname}"
        """PUBSUB channel of the announcements."""
        self.pair: tuple[str, str] = (self.messages, self.queue)
        """The two keys that nearly every script takes first."""
        self.reasons: str = f"{ns}:{qname}:reasons"
        """HASH: when and why each dead letter died. Ours, not RSMQ's; has a TTL."""
        self.purged: str = f"{ns}:{qname}:purged"
        """ZSET: messages of an unfinished purge. Ours, not RSMQ's.

        Has no TTL, because nothing else refers to the bodies of these messages.
        """
        self.deleted: str = f"{ns}:{qname}:deleted"
        """HASH: the calls that recently deleted, paused or resumed the queue. Ours, not RSMQ's; has
        a TTL."""

    def sibling(self, qname: str) -> Keys:
        """The keys of another queue in the same namespace."""
        return Keys(self.ns, qname)


def describe(keys: Keys) -> str:
    """The queue's name; of another namespace than most, with that."""
    return repr(keys.qname) if keys.ns == DEFAULT_NS else f"{keys.qname!r} in {keys.ns!r}"


def check_ns(ns: object) -> str:
    if isinstance(ns, str) and ns and ns.isprintable() and "://" not in ns:
        return ns
    raise InvalidParameterValue("ns", ns, "must be a non-empty str, printable and not a URL")


def check_tag(ns: str, parameter: str = "ns") -> str:
    """Check a namespace that is to be used in a cluster.

    A queue's name has no braces, so only its namespace can have the hash tag that puts all of its
    keys into one slot. The server looks at the first tag alone.
    """
    if _TAGGED.fullmatch(ns):
        return ns
    example = "rsmq" if "{" in ns or "}" in ns else ns
    reason = (
        f'must have one hash tag in a cluster, which keeps all keys on one node: "{{{example}}}" '
        f'for all queues together, or such as "{example}:{{jobs}}" for each group of queues'
    )
    raise InvalidParameterValue(parameter, ns, reason)


def is_qname(name: str) -> bool:
    return _QNAME.fullmatch(name) is not None and name != "QUEUES"


def check_qname(qname: object, parameter: str = "qname") -> str:
    if not isinstance(qname, str) or not _QNAME.fullmatch(qname):
        raise InvalidParameterValue(
            parameter, qname, "must be a str of 1 to 160 characters from A-Z a-z 0-9 _ -"
        )
    if qname == "QUEUES":
        raise InvalidParameterValue(
            parameter, qname, "is reserved: RSMQ stores the set of all queues under that name"
        )
    return qname


def check_id(id: object, parameter: str = "id") -> str:
    """Accept more than Node's 32-character ids: other ports wrote 30, and must stay deletable."""
    if isinstance(id, str) and _ID.fullmatch(id):
        return id
    raise InvalidParameterValue(
        parameter, id, "must be a str of 1 to 128 characters from A-Z a-z 0-9 : _ -"
    )


def check_maxsize(maxsize: object) -> int:
    if type(maxsize) is int and (maxsize == -1 or _MIN_MAXSIZE <= maxsize <= MAX_MAXSIZE):
        return maxsize
    reason = f"must be an int from {_MIN_MAXSIZE} to {MAX_MAXSIZE} bytes, or -1 for unlimited"
    raise InvalidParameterValue("maxsize", maxsize, reason)


def check_max_receives(max_receives: object, minimum: int = 1) -> int:
    if type(max_receives) is int and minimum <= max_receives <= _MAX_RECEIVES:
        return max_receives
    raise InvalidParameterValue(
        "max_receives", max_receives, f"must be an int from {minimum} to {_MAX_RECEIVES}"
    )


def read_policy(qname: str, max_receives: bytes, dead_letter_queue: bytes) -> tuple[float, str]:
    """Parse a queue's dead-letter policy from its hash, as `prelude_dead_letters.lua` does.

    Missing or invalid values become infinity and "". A limit without a queue means that messages
    are dropped when they exceed it.
    """
    name = dead_letter_queue.decode(errors="replace")
    if name and (not is_qname(name) or name == qname):
        return math.inf, ""
    limit = int(max_receives) if _POSITIVE_INT.fullmatch(max_receives) else math.inf
    return limit, name


def check_count(parameter: str, value: object, minimum: int = 1) -> int:
    if type(value) is int and value >= minimum:
        return value
    raise InvalidParameterValue(parameter, value, f"must be an int >= {minimum}")


def check_rate(rate: object) -> float:
    if isinstance(rate, int | float) and not isinstance(rate, bool) and 0 < rate < math.inf:
        return rate
    raise InvalidParameterValue("rate", rate, "must be messages per second (int or float), > 0")


def check_peek_limit(limit: object) -> int:
    if type(limit) is int and 1 <= limit <= _MAX_PEEK:
        return limit
    raise InvalidParameterValue("limit", limit, f"must be an int from 1 to {_MAX_PEEK}")


def check_seconds(parameter: str, value: object) -> float:
    if type(value) is int and 0 <= value <= MAX_SECONDS:  # hot path: skips four checks
        return value
    return check_seconds_at_least(0, parameter, value)


def check_seconds_at_least(minimum: float, parameter: str, value: object) -> float:
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if not isinstance(seconds, int | float) or isinstance(seconds, bool):
        reason = f"must be seconds (int, float or timedelta) from {minimum:g} to {MAX_SECONDS}"
        raise InvalidParameterValue(parameter, value, reason)
    if not minimum <= seconds <= MAX_SECONDS:
        reason = f"must be from {minimum:g} to {MAX_SECONDS} seconds"
        raise InvalidParameterValue(parameter, value, reason)
    return seconds


def whole_seconds(parameter: str, value: object) -> int:
    """Check a queue's own vt or delay. Must be whole seconds, because other ports parse an int."""
    seconds = check_seconds(parameter, value)
    if seconds != math.floor(seconds):
        reason = f"must be whole seconds from 0 to {MAX_SECONDS}: a queue stores no fractions"
        raise InvalidParameterValue(parameter, value, reason)
    return int(seconds)


def milliseconds(parameter: str, value: object) -> int:
    return round(check_seconds(parameter, value) * 1000)


def id_time(id: str) -> float | None:
    """Return the time that an id carries, in seconds since the epoch, or None."""
    try:
        seconds = int(id[:10], 36) / 1_000_000
    except ValueError:
        return None
    return seconds if len(id) == 32 and 0 <= seconds < _YEAR_2100 else None


def utc_from_ms(ms: float) -> datetime:
    return datetime.fromtimestamp(min(max(ms, 0), _LATEST_MS) / 1000, UTC)
