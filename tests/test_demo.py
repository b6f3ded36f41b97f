"""The README's first command."""

import subprocess
import sys
import time


def test_demo():
    """`python -m aiorsmq demo` shows the library at work, ends by itself in under ten seconds, and exits with 0."""
    started = time.monotonic()
    demo = [sys.executable, "-m", "aiorsmq", "demo"]
    done = subprocess.run(demo, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("99th percentile") == 2
    assert "Done in" in done.stdout
    assert time.monotonic() - started < 10
