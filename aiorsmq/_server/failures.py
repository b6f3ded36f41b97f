"""What an error of redis-py or of the server means: whether to try again, and what to tell the
caller.
"""

import random
import re
from collections.abc import Iterator, Sequence
from typing import Final

from redis.exceptions import (
    AskError,
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ClusterCrossSlotError,
    ConnectionError,
    MasterDownError,
    MovedError,
    NoPermissionError,
    ReadOnlyError,
    RedisError,
    TimeoutError,
    TryAgainError,
)

from ..errors import ONE_SHARD, NotPermitted, RedisSMQException

SERVER_ERRORS: Final = (RedisError, OSError)
"""What redis-py raises for a server that is away, or that refuses."""
CALL_ERRORS: Final = (*SERVER_ERRORS, RedisSMQException)
"""What a call of this library may raise."""
LOGIN_REFUSED: Final = (AuthenticationError, AuthorizationError)

# Inside a script an error loses its class: all on Redis 6.2, ACL errors everywhere. Hence the
# words.
_NOT_YET = (BusyLoadingError, MasterDownError, ReadOnlyError, TryAgainError)
_NOT_YET_WORDS = re.compile(r"\b(LOADING|BUSY|MASTERDOWN|READONLY|TRYAGAIN)\b")
_NOT_PERMITTED_WORDS = re.compile(
    r"NOPERM|ACL failure|permission|[Tt]he user executing the script can't"
)
_NAMED_COMMAND = re.compile(r"run the '([\w-]+)")
_LINE = re.compile(
    r"@user_script: ?(\d+)"
)  # 6.2 and 7.0 name no command, but where in the script it stands
_COMMAND = re.compile(r"redis\.p?call\('(\w+)'")
_NO_SCRIPTS = re.compile(r"(unknown|unsupported) command\W+eval", re.IGNORECASE)
_NO_COMMAND = re.compile("unknown (redis |valkey )?command called from", re.IGNORECASE)
_MOVED = re.compile(
    r"(?:(?:MOVED|ASK) )?\d+ (\S+:\d+)$"
)  # redis-py 5 has no classes for them but in a cluster
_ELSEWHERE = (ClusterCrossSlotError, MovedError, AskError)


def is_refused_login(error: Exception) -> bool:
    """As a reply to a call. "Unauthenticated multibulk" is what Redis 7 says to a long command."""
    return isinstance(error, LOGIN_REFUSED) or "unauthenticated" in str(error)


def not_permitted(
    error: Exception, qname: str, script: str, source: str, keys: Sequence[str]
) -> NotPermitted | None:
    """What an error of the server's ACL is about, in a script or before it; None if it is
    another's, or not known.
    """
    text = str(error)
    if not (isinstance(error, NoPermissionError) or _NOT_PERMITTED_WORDS.search(text)):
        return None
    command = _NAMED_COMMAND.search(text)
    if command is None and (lines := _LINE.findall(text)):
        command = _COMMAND.search(source.splitlines()[int(lines[-1]) - 1])
    if command is not None:
        return NotPermitted(qname, script, command[1].upper(), f"+{command[1].lower()}")
    if re.search(r"\bkeys?\b", text):
        return NotPermitted(qname, script, None, " ".join(f"~{key}" for key in keys))
    return None


def is_unknown(error: Exception) -> bool:
    return isinstance(error, ConnectionError | TimeoutError) and not isinstance(
        error, LOGIN_REFUSED + _NOT_YET
    )


def is_not_yet(error: Exception) -> bool:
    if isinstance(error, _NOT_YET):
        return True
    text = str(error)  # which may name a user, a queue or a key, who may have any name
    return _NOT_YET_WORDS.search(text) is not None and not (
        isinstance(error, NoPermissionError) or _NOT_PERMITTED_WORDS.search(text)
    )


def is_replica(error: Exception) -> bool:
    return isinstance(error, ReadOnlyError) or "READONLY" in str(error)


def unsupported(error: Exception) -> str | None:
    """Why no call can succeed on this server, if the error says so."""
    moved = _MOVED.match(str(error))
    if moved or isinstance(error, _ELSEWHERE) or str(error).startswith("CROSSSLOT "):
        where = f"; this slot is at {moved[1]}" if moved else ""
        return f"the server is part of a cluster, which is not supported yet: {ONE_SHARD}{where}"
    if _NO_SCRIPTS.search(str(error)):
        return "the server does not know EVALSHA or EVAL, and this library needs Lua scripts"
    if _NO_COMMAND.search(str(error)):
        return (
            "the server lacks or has renamed a command that the scripts call: use Redis 6.2, "
            "Valkey 8, or newer"
        )
    return None


def backoff(limit: float = 1.0) -> Iterator[float]:
    """Seconds to wait before each further attempt: 20 ms, doubled up to the limit, cut at random by
    up to a half.
    """
    longest = 0.02
    while True:
        yield longest * random.uniform(0.5, 1)
        longest = min(longest * 2, limit)
