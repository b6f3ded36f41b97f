"""The tests in docs/how-to/testing.md pass, as whoever copies them runs them."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "testing.md").read_text()
FILES = dict(re.findall(r"```python\n# (\w+\.py)\n(.*?)```", PAGE, re.DOTALL))


@pytest.fixture
def page(pytester, monkeypatch):
    """A folder with the files of the page."""
    for name in ("RSMQ_TEST_URL", "PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    for name, text in FILES.items():
        (pytester.path / name).write_text(text)
    return pytester


def test_each_block_is_a_file():
    """No block of the page goes unchecked."""
    assert len(FILES) == PAGE.count("```python") == 7


def test_with_pytest(page):
    """Under pytest all pass, with warnings as errors."""
    result = page.runpytest_subprocess("-W", "error", "-p", "aiorsmq.testing.plugin", "-p", "anyio")
    result.assert_outcomes(passed=9)


def test_with_unittest(page):
    """Those of unittest pass without pytest."""
    command = [sys.executable, "-W", "error", "-m", "unittest", "test_unittest"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def test_the_text_of_a_leak(page):
    """What the page shows of a leak is what is reported."""
    (text,) = re.findall(r"```text\n(.*)\n```", PAGE)
    (page.path / "test_leak.py").write_text(
        "import asyncio\nasync def test(anyio_backend, rsmq, rsmq_queue):\n"
        "    global task\n    task = asyncio.create_task(rsmq_queue.receive(wait=60))\n"
        "    await asyncio.sleep(0)\n    await rsmq.list_queues()\n"
    )
    options = ("-p", "aiorsmq.testing.plugin", "-p", "anyio", "-o", "anyio_mode=auto")
    result = page.runpytest_subprocess(*options, "test_leak.py")
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines([text])
