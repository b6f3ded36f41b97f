"""What the README says of itself is true; tests/docs runs its programs."""

import re
from pathlib import Path

README = (Path(__file__).parent.parent / "README.md").read_text()


def test_distribution():
    """The README never tells anybody to install somebody else's package."""
    assert not re.search(r"pip install ['\"]?aiorsmq(?!-realtime)", README)
