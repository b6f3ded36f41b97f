"""What JSON cannot represent, or this library does not read."""

from __future__ import annotations

import math
import re
from array import array
from itertools import accumulate
from typing import Final, cast

MAX_DEPTH: Final = 500
"""How deep JSON arrays and objects may nest. Stays below Python's recursion limit."""

_STRINGS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_BRACKETS_TO_STEPS = bytes.maketrans(b"[{]}", b"\1\1\xff\xff")  # +1 and -1 as signed bytes
_ALL_BUT_STRUCTURE = bytes(set(range(256)) - set(b'[{]}"'))
_ALL_BUT_BRACKETS = bytes(set(range(256)) - set(b"[{]}"))
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
# hot path: starts with a set of bytes, which `re` finds quickly. A false positive only costs a
# closer look.
_MAY_BE_INFINITE = re.compile(
    rb"[nNiIeE](?:(?<=[nN])[aA][nN]\b|(?<=[iI])[nN][fF](?i:inity)?\b|(?<=[\d.][eE])\+?\d[\d_]{2})"
)
_MANY_DIGITS = re.compile(rb"\d[\d_]{308}")
TOO_DEEP: Final = f"is nested more than {MAX_DEPTH} levels deep"


def check_depth(raw: bytes) -> None:
    if len(raw) > 2 * MAX_DEPTH and raw.count(b"[") + raw.count(b"{") > MAX_DEPTH:
        if b"\\" not in raw:
            # hot path: leaves less text for the regular expression
            raw = raw.translate(None, _ALL_BUT_STRUCTURE).replace(b'""', b"")
        without_strings = _STRINGS.sub(b"", raw)
        steps = array("b", without_strings.translate(_BRACKETS_TO_STEPS, _ALL_BUT_BRACKETS))
        if max(accumulate(steps), default=0) > MAX_DEPTH:
            raise ValueError(TOO_DEEP)


def may_contain_infinity(raw: bytes) -> bool:
    return _MAY_BE_INFINITE.search(raw) is not None or (
        len(raw) > 308 and _MANY_DIGITS.search(raw) is not None
    )


def count_unrepresentable(value: object) -> int:
    match value:
        case float():
            return not math.isfinite(value)
        case str():
            return _LONE_SURROGATE.search(value) is not None
        case dict():
            items = cast("dict[object, object]", value).items()
            return sum(count_unrepresentable(key) + count_unrepresentable(x) for key, x in items)
        case list() | tuple() | set() | frozenset():
            return sum(map(count_unrepresentable, cast("list[object]", value)))
        case _:
            return 0
