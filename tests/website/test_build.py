"""The site is built without a warning."""

import re


def test_build(build):
    output = re.sub(r"\x1b\[[\d;]*m", "", build.stdout + build.stderr)
    assert "Warning" not in output, output
    assert "griffe:" not in output, output
    assert build.returncode == 0, output
