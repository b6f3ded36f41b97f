"""The commands in docs/operations/cli.md do what it says."""

import os
import re
import subprocess
import sys
from pathlib import Path

import anyio.to_thread
import pytest
from aiorsmq.cli.app import new_app

from cli.shop import shop  # noqa: F401 - a fixture
from support import PATIENCE

PAGE = (Path(__file__).parents[2] / "docs" / "operations" / "cli.md").read_text()
LINES = [
    line
    for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    for line in block.splitlines()
    if not line.startswith("pip install ")
]
COMMANDS = {name for name in new_app("0") if not name.startswith("-")}


@pytest.mark.usefixtures("shop")
async def test_examples(server, tmp_path):
    """Each command on the page, in its order, ends with the exit code that the page tells."""
    program = tmp_path / "aiorsmq"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m aiorsmq "$@"\n')
    program.chmod(0o755)
    env = os.environ | {"AIORSMQ_URL": server.url, "PATH": f"{tmp_path}:{os.environ['PATH']}"}

    def run(line):
        return subprocess.run(
            ["sh", "-c", line],
            capture_output=True,
            text=True,
            env=env,
            cwd=tmp_path,
            timeout=4 * PATIENCE,
            stdin=subprocess.DEVNULL,
            check=False,
        )

    for line in LINES:
        done = await anyio.to_thread.run_sync(run, line)
        code = re.search(r"  # exits with (\d+)$", line)
        assert done.returncode == int(code[1] if code else 0), (line, done)
        assert "Traceback" not in done.stderr, done.stderr


def test_names():
    """The page names commands that exist, and pictures that are there."""
    used = set(re.findall(r"aiorsmq ([a-z]+)", PAGE))
    assert used - COMMANDS == set()
    folder = Path(__file__).parents[2] / "docs" / "operations"
    shown = re.findall(r"\]\((\.\./pictures/.*?)\)", PAGE)
    assert shown
    assert [path for path in shown if not (folder / path).exists()] == []
