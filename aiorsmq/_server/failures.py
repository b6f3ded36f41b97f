"""Classifies the errors of redis-py and of the server: what they mean, and whether to retry."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from redis.exceptions import (
    AskError,
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ClusterCrossSlotError,
    ClusterDownError,
    ConnectionError,
    MasterDownError,
    MovedError,
    NoPermissionError,
    ReadOnlyError,
    RedisError,
    TimeoutError,
    TryAgainError,
)

from ..errors import USE_CLUSTER, NotPermitted, RedisSMQException

SERVER_ERRORS: Final = (RedisError, OSError)
"""What redis-py raises if the server cannot be reached or rejects a call."""
CONNECT_ERRORS: Final = (ConnectionError, TimeoutError, OSError)
"""What redis-py raises if a connection cannot be opened: nothing was sent."""
CALL_ERRORS: Final = (*SERVER_ERRORS, RedisSMQException)
"""What a call of this library may raise."""
LOGIN_REFUSED: Final = (AuthenticationError, AuthorizationError)

# Errors raised inside a script lose their class: all of them on Redis 6.2, ACL errors on every
# version. Hence the regular expressions.
_NOT_YET = (BusyLoadingError, ClusterDownError, MasterDownError, ReadOnlyError, TryAgainError)
_NOT_YET_WORDS = re.compile(r"\b(LOADING|BUSY|CLUSTERDOWN|MASTERDOWN|READONLY|TRYAGAIN)\b")
_NOT_PERMITTED_WORDS = re.compile(
    r"NOPERM|ACL failure|permission|[Tt]he user executing the script can't"
)
_NAMED_COMMAND = re.compile(r"run the '([\w|-]+)")
# Redis 6.2 and 7.0 do not name the denied command, only its line in the script.
_SCRIPT_LINE = re.compile(r"@user_script: ?(\d+)")
_COMMAND = re.compile(r"redis\.p?call\('(\w+)'")
_LACKING = {
    re.compile(words, re.IGNORECASE): reason
    for words, reason in {
        r"(unknown|unsupported) command\W+eval": (
            "the server does not support EVALSHA and EVAL, but this library needs Lua scripts; "
            "use Redis 6.2, Valkey 8, or newer, or, if it is a sentinel, a redis+sentinel:// URL"
        ),
        r"(unknown|unsupported) command\W+cluster": (
            "the server does not know CLUSTER, so it is not part of a cluster; use a redis:// URL, "
            "or, if it is a sentinel, a redis+sentinel:// URL"
        ),
        r"(unknown|unsupported) command\W+waitaof": (
            "the server lacks WAITAOF, which fsync() needs; use Redis 7.2, Valkey 8, or newer"
        ),
        "unknown (redis |valkey )?command called from": (
            "the server lacks or has renamed a command that the scripts call; use Redis 6.2, "
            "Valkey 8, or newer"
        ),
    }.items()
}
_NO_SENTINEL = re.compile(r"(unknown|unsupported) command\W+sentinel", re.IGNORECASE)
# Outside of a cluster client, redis-py 5 does not raise MovedError or AskError.
_MOVED = re.compile(r"(?:(?P<word>MOVED|ASK) )?\d+ (?P<host>\S*):(?P<port>\d+)$")
_CLUSTER_ERRORS = (ClusterCrossSlotError, MovedError, AskError)


class NotSent(ConnectionError):
    """The connection was lost before the call went out: nothing was executed."""


def is_missing_queue(error: Exception) -> bool:
    """Whether a script has found that its queue does not exist."""
    return "QUEUE_DOES_NOT_EXIST" in str(error)


def is_refused_login(error: Exception) -> bool:
    """Whether the reply to a call says that the connection is not authenticated."""
    return isinstance(error, LOGIN_REFUSED)


def without_arguments(error: BaseException) -> str:
    """The text of an error. A server or proxy that does not know AUTH quotes its arguments."""
    return str(error).partition(", with args beginning with")[0]


def permission_error(
    error: Exception, qname: str, script: str, source: str, keys: Sequence[str]
) -> NotPermitted | None:
    """Turn an ACL error, raised by a script or instead of it, into NotPermitted.

    Returns None if it is no ACL error, or if what was denied cannot be told.
    """
    text = str(error)
    if not (isinstance(error, NoPermissionError) or _NOT_PERMITTED_WORDS.search(text)):
        return None
    command = _NAMED_COMMAND.search(text)
    if command is None and (line_numbers := _SCRIPT_LINE.findall(text)):
        command = _COMMAND.search(source.splitlines()[int(line_numbers[-1]) - 1])
    if command is not None:
        return NotPermitted(qname, script, command[1].upper(), f"+{command[1].lower()}")
    if re.search(r"\bkeys?\b", text):
        return NotPermitted(qname, script, None, " ".join(f"~{key}" for key in keys))
    return None


def is_no_sentinel(error: Exception) -> bool:
    """Whether a server that was asked as a sentinel is something else."""
    return _NO_SENTINEL.search(str(error)) is not None


def is_unknown(error: Exception) -> bool:
    """Whether the outcome is unknown: the call may or may not have been executed."""
    return isinstance(error, ConnectionError | TimeoutError) and not isinstance(
        error, LOGIN_REFUSED + _NOT_YET
    )


def is_not_yet(error: Exception) -> bool:
    """Whether the server cannot execute the call at the moment: loading, busy, a replica, ..."""
    if isinstance(error, _NOT_YET):
        return True
    # The text of an ACL error quotes names of users and keys, which may look like these words.
    text = str(error)
    return _NOT_YET_WORDS.search(text) is not None and not (
        isinstance(error, NoPermissionError) or _NOT_PERMITTED_WORDS.search(text)
    )


def is_replica(error: Exception) -> bool:
    return isinstance(error, ReadOnlyError) or "READONLY" in str(error)


class Redirection(NamedTuple):
    """Another node of the cluster takes a call."""

    host: str
    """Empty if it is that of the node which said so."""
    port: int
    is_ask: bool
    """Whether it takes this call alone, and ASKING has to come ahead of it. Else the whole slot has
    moved."""


def redirection(error: Exception) -> Redirection | None:
    """What MOVED or ASK says; None for any other error."""
    match = _MOVED.match(str(error))
    if match is None:
        return None
    is_ask = match["word"] == "ASK" or type(error) is AskError
    return Redirection(match["host"], int(match["port"]), is_ask)


def is_try_again(error: Exception) -> bool:
    """Whether a slot is being moved key by key, and the call's keys are on both nodes."""
    return isinstance(error, TryAgainError) or "TRYAGAIN" in str(error)


def unsupported_reason(error: Exception) -> str | None:
    """Return why no call can succeed on this server, or None if the error does not say that."""
    text = str(error)
    if _MOVED.match(text) or isinstance(error, _CLUSTER_ERRORS) or text.startswith("CROSSSLOT "):
        return f"the server is part of a cluster; {USE_CLUSTER}"
    if "cluster support disabled" in text:
        return "the server is not part of a cluster; use a redis:// URL, or redis.asyncio.Redis"
    return next((reason for words, reason in _LACKING.items() if words.search(text)), None)


def backoff(limit: float = 1.0) -> Iterator[float]:
    """Yield the seconds to wait before each retry.

    Starts at 20 ms and doubles up to the limit; jitter shortens each wait by up to half.
    """
    maximum = 0.02
    while True:
        yield maximum * random.uniform(0.5, 1)
        maximum = min(maximum * 2, limit)
