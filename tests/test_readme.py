"""The README is short and true; tests/docs runs its programs."""

import re
from pathlib import Path

PROJECT = Path(__file__).parent.parent
README = (PROJECT / "README.md").read_text()
TEXT = re.sub(r"^```.*?^```$|<!-- .*? -->", "", README, flags=re.MULTILINE | re.DOTALL)


def test_distribution():
    """The README never tells anybody to install somebody else's package."""
    assert not re.search(r"pip install ['\"]?aiorsmq(?!-realtime)", README)


def test_length():
    """It is read in two minutes: the manual is the site."""
    words = re.sub(r"(?<=\])\(.*?\)", "", TEXT).split()
    assert len(README.splitlines()) <= 120
    assert len(words) <= 600


def test_first_screen():
    """How to see it run, and how to run its tests, is found without scrolling."""
    first = README.splitlines()[:45]
    commands = [line for line in first if line.startswith("python3 -m venv")]
    assert len(commands) == 2
    assert "aiorsmq demo" in commands[0]
    assert "nox -s tests" in commands[1]
