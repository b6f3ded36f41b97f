"""The README's programs print what it says they print."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = (Path(__file__).parent.parent / "README.md").read_text()
PROGRAMS = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", README, re.DOTALL)


def test_every_program_has_its_output():
    """No program in the README goes unchecked."""
    assert len(PROGRAMS) == README.count("```python") > 0


@pytest.mark.parametrize(("program", "output"), PROGRAMS)
def test_program(program, output):
    """A program prints what stands below it."""
    command = [sys.executable, "-W", "error", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (done.stdout, done.returncode) == (output, 0), done.stderr


def test_distribution():
    """The README never tells anybody to install somebody else's package."""
    assert not re.search(r"pip install ['\"]?aiorsmq(?!-realtime)", README)
