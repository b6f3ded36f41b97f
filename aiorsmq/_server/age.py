"""How long a connection is used before another takes its place."""

from __future__ import annotations

import math
import random
from typing import Final

from .._protocol import check_seconds_at_least

MIN_AGE: Final = 1.0

JITTER: Final = 0.1
"""Connections that were opened at once end at different times, by up to this share of their age."""
RENEW_PAUSE: Final = 5.0
"""Seconds until a replacement that failed is tried again. Until then the old one is used."""


def lifetime(max_age: float) -> float:
    """Seconds that a connection opened now is to be used."""
    return max_age * random.uniform(1 - JITTER, 1)


def check_age(parameter: str, value: object) -> float:
    """Seconds after which a connection is to be replaced; infinity for None."""
    return math.inf if value is None else check_seconds_at_least(MIN_AGE, parameter, value)
