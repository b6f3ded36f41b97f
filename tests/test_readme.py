"""The README is short and true, and works on an index page; tests/docs runs its programs."""

import re
from pathlib import Path

PROJECT = Path(__file__).parent.parent
README = (PROJECT / "README.md").read_text()
TEXT = re.sub(r"^```.*?^```$|<!-- .*? -->", "", README, flags=re.MULTILINE | re.DOTALL)
LINKS = re.findall(r"\]\((.*?)\)", TEXT)
SITE = "https://aiorsmq.github.io/aiorsmq/"
FILES = (
    "https://github.com/aiorsmq/aiorsmq/blob/main/",
    "https://raw.githubusercontent.com/aiorsmq/aiorsmq/main/",
)


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


def test_links():
    """No link is relative, so all work on an index page; what they name is there."""
    for link in LINKS:
        assert link.startswith("https://"), link
        if link.startswith(SITE):
            page = link.removeprefix(SITE).rstrip("/")
            pages = [PROJECT / "docs" / f"{page}.md", PROJECT / "docs" / page / "index.md"]
            assert any(path.exists() for path in pages), link
        for prefix in FILES:
            if link.startswith(prefix):
                assert (PROJECT / link.removeprefix(prefix)).exists(), link
