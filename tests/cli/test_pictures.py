"""The pictures in the documentation show what the commands show: `nox -s pictures` makes them."""

import re
import shlex
import xml.dom.minidom
from importlib.metadata import version
from pathlib import Path

import pytest

from cli.pictures import picture, shown, text_of
from cli.shop import shop  # noqa: F401 - a fixture

PROJECT = Path(__file__).parents[2]
PICTURES = PROJECT / "docs" / "pictures"
COLUMNS = 100
SHOP = {
    "help": ["aiorsmq --help"],
    "ls": ["aiorsmq ls"],
    "info": ["aiorsmq info mails"],
    "dead": ["aiorsmq dead mails-dead"],
    "find": ["aiorsmq find mails --text ann-7"],
    "doctor": ["aiorsmq doctor"],
    "peek": ["aiorsmq peek mails --limit 5"],
    "top": ["aiorsmq top"],
    "check": [
        "aiorsmq check --age-warn 10m --age-crit 1h --dead-warn 0",
        "aiorsmq check mails --age-crit 1h --format nagios",
    ],
}
"""Pictures of the shop, and the commands in each."""
KEYS = {"aiorsmq top": (b"q", b"out 0")}
"""What is typed in a command that does not end by itself, and after what it has shown."""


@pytest.fixture(autouse=True)
def needs_the_locked_versions():
    """Other versions of these draw other boxes."""
    for name in ("cyclopts", "rich"):
        if f"\n{name}=={version(name)}\n" not in (PROJECT / "lock.txt").read_text():
            pytest.skip(f"not the locked version of {name}")


@pytest.mark.parametrize("name", SHOP)
@pytest.mark.usefixtures("shop")
async def test_picture(name, server, request):
    """A picture in the documentation has the text that the commands print now."""
    prompts = []
    for command in SHOP[name]:
        keys, wait_for = KEYS.get(command, (b"", b""))
        program, *arguments = shlex.split(command)
        assert program == "aiorsmq"
        output = await shown(
            arguments,
            url=server.url,
            address=(server.socket, "/run/valkey.sock"),
            columns=COLUMNS,
            keys=keys,
            wait_for=wait_for,
        )
        assert "Traceback" not in output.plain
        prompts.append((command, output))
    svg = picture(name, prompts, columns=COLUMNS)
    path = PICTURES / f"{name}.svg"
    if request.config.getoption("--write-pictures"):
        PICTURES.mkdir(exist_ok=True)
        path.write_text(svg)
    # Whitespace is left out: a number that grows by a digit moves the end of a line.
    committed, current = ("".join(text_of(text).split()) for text in (path.read_text(), svg))
    assert committed == current, "changed: run `nox -s pictures`, and look"


def test_no_other_host():
    """A picture is whole: it takes nothing from elsewhere, and no script is in it."""
    paths = sorted(PICTURES.glob("*.svg"))
    assert {path.stem for path in paths} >= set(SHOP)
    for path in paths:
        text = path.read_text()
        xml.dom.minidom.parseString(text)
        taken = re.findall(
            r"<script|@import|(?:href|src)=\"(?!#)[^\"]*|url\((?![\"']?#)[^)]*", text
        )
        assert taken == [], path.name
