"""What every RSMQ must agree on: the names of the keys, the form of the ids, the limits. No I/O.

The source of each is Node rsmq 0.12.4, unless it says otherwise.
"""

import math
import os
import re
import time
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
_BASE36 = "0123456789abcdefghijklmnopqrstuvwxyz"
_PAIRS = [high + low for high in _BASE36 for low in _BASE36]
_ALPHANUMERICS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_TO_ALPHANUMERIC = bytes(_ALPHANUMERICS[byte % len(_ALPHANUMERICS)] for byte in range(256))
_RANDOM_PART = 22
_NO_JUMP_US = 1_000_000


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


def _base36(number: int) -> str:
    digits = ""
    while number:
        number, pair = divmod(number, 36 * 36)
        digits = _PAIRS[pair] + digits
    return digits.lstrip("0")


class Clock:
    """The server's clock, as far as its replies have told, and the ids that are made from it.

    Until the first reply this machine's clock stands in for it. What a reply says is already old
    when it is read, so the estimate is late by the way back, never early (but for the drift of two
    clocks between two replies). One that is read much later, because the event loop was blocked,
    does not make it later: it is kept as long as it is possible.
    """

    def __init__(self) -> None:
        self._ahead_us = time.time_ns() // 1000 - time.monotonic_ns() // 1000
        self._ahead_at_most_us = self._ahead_us
        self._learned_us: int | None = None
        self._last_us = 0

    def learn(self, seconds: bytes, microseconds: bytes, asked: float) -> float:
        """Take in the reply to TIME, which was asked for at that moment of the monotonic clock.

        Returns by how many seconds, at the least, the server's clock has jumped since the reply
        before, or 0.
        """
        now_us, server_us = (
            time.monotonic_ns() // 1000,
            int(seconds) * 1_000_000 + int(microseconds),
        )
        at_least, at_most = server_us - now_us, server_us - int(asked * 1_000_000)
        learned_us, self._learned_us = self._learned_us, now_us
        if learned_us is not None and at_least <= self._ahead_us <= at_most:
            self._ahead_at_most_us = min(self._ahead_at_most_us, at_most)
            return 0.0
        jump_us = max(at_least - self._ahead_at_most_us, 0) or min(at_most - self._ahead_us, 0)
        self._ahead_us, self._ahead_at_most_us = at_least, at_most
        if learned_us is None:
            return 0.0
        usual = _NO_JUMP_US + (now_us - learned_us) // 1000  # two clocks drift apart
        return jump_us / 1_000_000 if abs(jump_us) > usual else 0.0

    @property
    def known(self) -> bool:
        """Whether a reply has told it."""
        return self._learned_us is not None

    def now_us(self) -> int:
        return time.monotonic_ns() // 1000 + self._ahead_us

    def now_ms(self) -> float:
        return (
            time.monotonic_ns() // 1000 + self._ahead_us
        ) / 1000  # asked for each message that was claimed ahead

    def restart(self) -> None:
        """Forget the ids made so far: the server says that they were ahead of its clock, or far
        behind it.
        """
        self._last_us = 0

    def mint(self, count: int) -> tuple[int, list[str]]:
        """Make `count` ids that ascend, and come after all that were made before.

        Returns the microsecond that they carry, and the ids.
        """
        self._last_us = max(self.now_us(), self._last_us + 1)
        prefix = _base36(self._last_us)
        letters = os.urandom(_RANDOM_PART * count).translate(_TO_ALPHANUMERIC).decode("ascii")
        return self._last_us, sorted(
            [
                prefix + letters[start : start + _RANDOM_PART]
                for start in range(0, len(letters), _RANDOM_PART)
            ]
        )
