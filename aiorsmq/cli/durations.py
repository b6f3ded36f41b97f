"""Lengths of time as people type them."""

import re
from collections.abc import Sequence
from typing import Annotated, Any, Final

from cyclopts import Parameter, Token

_SECONDS: Final = {"ms": 0.001, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 604800}
_PART: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?(ms|s|min|m|h|d|w) ?")


def seconds(text: str) -> float:
    """In seconds: "90", "250ms", "15m", "2h", "1h30m". Raises ValueError."""
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text):
        return float(text)
    if not re.fullmatch(rf"({_PART.pattern})+", text):
        raise ValueError(f"{text!r} is no duration: write 90, 250ms, 15m, 2h, 1h30m or 7d")
    return sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text))


def _convert(_type: Any, tokens: Sequence[Token]) -> float:
    return seconds(tokens[0].value)


Duration = Annotated[float, Parameter(converter=_convert, metavar="DURATION")]
"""The type of a parameter in seconds that may have a unit: `--age 15m`."""
