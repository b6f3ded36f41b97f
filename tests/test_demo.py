"""The command line, and the README's first command."""

import subprocess
import sys

import aiorsmq
import pytest

from support import PATIENCE


def test_demo():
    """`python -m aiorsmq demo` shows the library at work, ends by itself, and exits with 0."""
    demo = [sys.executable, "-m", "aiorsmq", "demo"]
    done = subprocess.run(demo, capture_output=True, text=True, timeout=4 * PATIENCE, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("99th percentile") == 2
    assert "Done in" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "output"), [([], "demo "), (["--version"], f"aiorsmq {aiorsmq.__version__}\n")]
)
def test_what_there_is(arguments, output):
    """`python -m aiorsmq` lists the commands; with --version it says which version it is."""
    command = [sys.executable, "-m", "aiorsmq", *arguments]
    assert output in subprocess.run(command, capture_output=True, text=True, check=True).stdout
