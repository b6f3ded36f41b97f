"""The README's first command."""

import subprocess
import sys

from support import PATIENCE


def test_demo():
    """`python -m aiorsmq demo` shows the library at work, ends by itself, and exits with 0."""
    demo = [sys.executable, "-m", "aiorsmq", "demo"]
    done = subprocess.run(demo, capture_output=True, text=True, timeout=4 * PATIENCE, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("99th percentile") == 2
    assert "Done in" in done.stdout
