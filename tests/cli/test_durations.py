"""Durations are typed as people write them."""

import pytest
from aiorsmq.cli.durations import seconds


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("90", 90),
        ("1.5", 1.5),
        ("250ms", 0.25),
        ("90s", 90),
        ("15m", 900),
        ("15 min", 900),
        ("2h", 7200),
        ("1h30m", 5400),
        ("7d", 604_800),
        ("1w", 604_800),
    ],
)
def test_duration(text, value):
    """A number of seconds, or numbers with units."""
    assert seconds(text) == value


@pytest.mark.parametrize(
    "text", ["", "m", "-1", "1h30", "1 2", "1e3", "inf", "nan", "٣", "1" * 99 + "x"]
)
def test_no_duration(text):
    """Anything else is refused, with examples of what is right."""
    with pytest.raises(ValueError, match="no duration: write 90"):
        seconds(text)
