"""Which messages of a queue a command is about."""

from __future__ import annotations

from contextlib import suppress
from typing import Final, Literal, NamedTuple

from .._protocol import Seconds, check_count, check_seconds
from ..errors import InvalidParameterValue

State = Literal["visible", "hidden"]

_MAX_TEXT: Final = 1024
"""Bytes: the server compares them with each place in each body."""


class Selection(NamedTuple):
    """Messages that meet all of these conditions; "" stands for none.

    Its fields, in their order, are the arguments of `prelude_matches.lua`.
    """

    text: bytes = b""
    """Is in the body as stored."""
    state: str = ""
    min_age_us: int | Literal[""] = ""
    """Microseconds since the message was sent, as its id says. A message whose id carries no time
    does not meet it."""
    min_receives: int | Literal[""] = ""
    reason: bytes = b""
    """Is in the reason why it died."""

    @property
    def is_everything(self) -> bool:
        """Whether no condition is made."""
        return self == Selection()


def check_selection(
    *,
    text: object = None,
    state: object = None,
    older_than: Seconds | None = None,
    min_receives: object = None,
    reason: object = None,
) -> Selection:
    """The conditions that were named, that is, are not None."""
    if state not in (None, "visible", "hidden"):
        raise InvalidParameterValue("state", state, 'must be "visible", "hidden" or None')
    age = "" if older_than is None else round(check_seconds("older_than", older_than) * 1_000_000)
    return Selection(
        text=b"" if text is None else _check_text("text", text),
        state=str(state or ""),
        min_age_us=age,
        min_receives="" if min_receives is None else check_count("min_receives", min_receives),
        reason=b"" if reason is None else _check_text("reason", reason),
    )


def _check_text(parameter: str, text: object) -> bytes:
    with suppress(UnicodeError):  # surrogates are what a foreign byte is decoded to
        raw = text.encode(errors="surrogateescape") if isinstance(text, str) else text
        if isinstance(raw, bytes) and 1 <= len(raw) <= _MAX_TEXT:
            return raw
    reason = f"must be a str or bytes of 1 to {_MAX_TEXT} bytes"
    raise InvalidParameterValue(parameter, text, reason)
