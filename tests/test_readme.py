"""The programs in the README, and in the page about migrating, print what it says there that they
print.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support import PATIENCE, Server, free_port

PROJECT = Path(__file__).parent.parent
README = (PROJECT / "README.md").read_text()
PAGES = {
    "README": README,
    "migrating": (PROJECT / "docs" / "how-to" / "from-pyrsmq.md").read_text(),
    "sync": (PROJECT / "docs" / "how-to" / "sync.md").read_text(),
}
PROGRAMS = {
    f"{page}-{n}": found
    for page, text in PAGES.items()
    for n, found in enumerate(
        re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", text, re.DOTALL), 1
    )
}


@pytest.fixture(scope="module")
def host():
    """A server, as the pages' `host="127.0.0.1"` has to name it here."""
    folder, port = Path(f"/tmp/aiorsmq-readme-{os.getpid()}"), free_port()
    folder.mkdir()
    server = Server(folder, "--port", str(port), "--bind", "127.0.0.1")
    server.start()
    yield f'host="127.0.0.1", port={port}'
    server.stop()
    shutil.rmtree(folder)


def test_every_program_has_its_output():
    """No program on a page goes unchecked."""
    assert len(PROGRAMS) == sum(page.count("```python") for page in PAGES.values())
    assert all(page.count("```python") for page in PAGES.values())


@pytest.mark.parametrize(("program", "output"), PROGRAMS.values(), ids=PROGRAMS.keys())
def test_program(host, program, output):
    """A program prints what stands below it."""
    command = [sys.executable, "-W", "error", "-c", program.replace('host="127.0.0.1"', host)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=4 * PATIENCE, check=False
    )
    assert (done.stdout, done.returncode) == (output, 0), done.stderr


def test_distribution():
    """The README never tells anybody to install somebody else's package."""
    assert not re.search(r"pip install ['\"]?aiorsmq(?!-realtime)", README)
