"""What every RSMQ must agree on: the names of the keys, the form of the ids, the limits. No I/O.

The source of each is Node rsmq 0.12.4, unless it says otherwise.
"""

import math
import re
from datetime import timedelta
from typing import Final

from .errors import InvalidParameterValue

Seconds = float | timedelta

DEFAULT_VT: Final = 30
DEFAULT_DELAY: Final = 0
DEFAULT_MAXSIZE: Final = 65536

_MAX_SECONDS = 9_999_999
_MAX_RECEIVES = 1_000_000
_MIN_MAXSIZE, _MAX_MAXSIZE = 1024, 65536
_QNAME = re.compile(r"[A-Za-z0-9_-]{1,160}")
_ID = re.compile(r"[A-Za-z0-9:_-]{1,128}")
_NUMBER = re.compile(rb"[1-9][0-9]{0,14}")


def queues_key(ns: str) -> str:
    return f"{ns}:QUEUES"


class Keys:
    """Where one queue lives."""

    def __init__(self, ns: str, qname: str) -> None:
        self.ns: str = ns
        self.qname: str = qname
        self.messages: str = f"{ns}:{qname}"
        """ZSET: ids by the millisecond at which each may next be received."""
        self.queue: str = f"{ns}:{qname}:Q"
        """HASH: attributes, bodies, receive counts."""
        self.queues: str = queues_key(ns)
        """SET: the names of all queues."""
        self.channel: str = f"{ns}:rt:{qname}"
        """PUBSUB channel of the announcements."""
        self.both: tuple[str, str] = (self.messages, self.queue)
        self.reasons: str = f"{ns}:{qname}:reasons"
        """HASH: when and why each message of a dead-letter queue died. Not RSMQ's; with a TTL."""
        self.purged: str = f"{ns}:{qname}:purged"
        """ZSET: messages of an unfinished purge. Not RSMQ's; without a TTL, for nothing else leads
        to their bodies.
        """
        self.deleted: str = f"{ns}:{qname}:deleted"
        """HASH: the calls that have deleted the queue lately. Not RSMQ's; with a TTL."""

    def of(self, qname: str) -> "Keys":
        """Another queue's, in the same namespace."""
        return Keys(self.ns, qname)


def check_ns(ns: object) -> str:
    if isinstance(ns, str) and ns and ns.isprintable() and "://" not in ns:
        return ns
    raise InvalidParameterValue("ns", ns, "must be a non-empty str that can be printed, and no URL")


def check_qname(qname: object, parameter: str = "qname") -> str:
    if not isinstance(qname, str) or not _QNAME.fullmatch(qname):
        raise InvalidParameterValue(
            parameter, qname, "must be a str of 1 to 160 characters of A-Z a-z 0-9 _ -"
        )
    if qname == "QUEUES":
        raise InvalidParameterValue(
            parameter, qname, "is taken: RSMQ keeps the set of all queues under that name"
        )
    return qname


def check_id(id: object, parameter: str = "id") -> str:
    """Looser than Node's 32 characters: other ports have written ids of 30, and those must be
    deletable.
    """
    if isinstance(id, str) and _ID.fullmatch(id):
        return id
    raise InvalidParameterValue(
        parameter, id, "must be a str of 1 to 128 characters of A-Z a-z 0-9 : _ -"
    )


def check_maxsize(maxsize: object) -> int:
    if type(maxsize) is int and (maxsize == -1 or _MIN_MAXSIZE <= maxsize <= _MAX_MAXSIZE):
        return maxsize
    reason = f"must be an int from {_MIN_MAXSIZE} to {_MAX_MAXSIZE} bytes, or -1 for unlimited"
    raise InvalidParameterValue("maxsize", maxsize, reason)


def check_max_receives(max_receives: object, at_least: int = 1) -> int:
    if type(max_receives) is int and at_least <= max_receives <= _MAX_RECEIVES:
        return max_receives
    raise InvalidParameterValue(
        "max_receives", max_receives, f"must be an int from {at_least} to {_MAX_RECEIVES}"
    )


def read_policy(qname: str, max_receives: bytes, dead_letter_queue: bytes) -> tuple[float, str]:
    """What a queue's hash says of dead letters; infinity and "" for what it does not say, or what
    makes no sense.

    As `_dead_letters.lua` reads it: a number without a name is for messages to be dropped.
    """
    name = dead_letter_queue.decode(errors="replace")
    if name and (not _QNAME.fullmatch(name) or name in (qname, "QUEUES")):
        return math.inf, ""
    return int(max_receives) if _NUMBER.fullmatch(max_receives) else math.inf, name


def check_count(parameter: str, value: object, at_least: int = 1) -> int:
    if type(value) is int and value >= at_least:
        return value
    raise InvalidParameterValue(parameter, value, f"must be an int of {at_least} or more")


def check_rate(rate: object) -> float:
    if isinstance(rate, int | float) and not isinstance(rate, bool) and 0 < rate < math.inf:
        return rate
    raise InvalidParameterValue("rate", rate, "must be a number of messages a second, more than 0")


def check_look(limit: object) -> int:
    if type(limit) is int and 1 <= limit <= 1000:
        return limit
    raise InvalidParameterValue("limit", limit, "must be an int from 1 to 1000")


def check_seconds(parameter: str, value: object) -> float:
    if type(value) is int and 0 <= value <= _MAX_SECONDS:
        return value
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if not isinstance(seconds, int | float) or isinstance(seconds, bool):
        raise InvalidParameterValue(
            parameter, value, f"must be seconds (int, float or timedelta), 0 to {_MAX_SECONDS}"
        )
    if not 0 <= seconds <= _MAX_SECONDS:
        raise InvalidParameterValue(parameter, value, f"must be 0 to {_MAX_SECONDS} seconds")
    return seconds


def at_least(least: float, parameter: str, value: object) -> float:
    seconds = check_seconds(parameter, value)
    if seconds < least:
        raise InvalidParameterValue(
            parameter, value, f"must be {least:g} to {_MAX_SECONDS} seconds"
        )
    return seconds


def whole_seconds(parameter: str, value: object) -> int:
    """Seconds as the queue's own hash stores them: other ports parse integers there."""
    seconds = check_seconds(parameter, value)
    if seconds != math.floor(seconds):
        reason = f"must be whole seconds, 0 to {_MAX_SECONDS}, as an attribute of a queue"
        raise InvalidParameterValue(parameter, value, reason)
    return int(seconds)


def milliseconds(parameter: str, value: object) -> int:
    return round(check_seconds(parameter, value) * 1000)


def id_time(id: str) -> float | None:
    """The time in an id, in seconds since the epoch; None for an id that carries none."""
    try:
        seconds = int(id[:10], 36) / 1_000_000
    except ValueError:
        return None
    return (
        seconds if len(id) == 32 and 0 <= seconds < 4_102_444_800 else None
    )  # up to the year 2100
