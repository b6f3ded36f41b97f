"""The pages about Node: what node.md shows goes as it shows it, with the real rsmq."""

import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from docs.page import DOCS, blocks
from docs.test_pages import Attempt

HERE = Path(__file__).parent
NODE = DOCS / "how-to" / "node.md"
PAGES = [NODE, DOCS / "how-to" / "from-rsmq-worker.md"]
SCRIPTS = {
    f"{page.stem}-{block.name}": block.text
    for page in PAGES
    for block in blocks(page)
    if block.language == "js"
}


def test_node(monkeypatch):
    """Programs in Python and in Node send to each other, as node.md shows."""
    monkeypatch.setenv("NODE_PATH", str(HERE / "node_modules"))
    folder = Path(tempfile.mkdtemp(prefix="aiorsmq-page-", dir="/tmp"))
    attempt = Attempt(folder)
    try:
        for block in blocks(NODE):
            if block.name:
                attempt.write(block.name, block.text)
            elif block.language == "console":
                attempt.session(block.steps, block.note)
            elif block.language == "text":
                attempt.printed_in_background(block.text)
    finally:
        attempt.close()
        shutil.rmtree(folder)


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS.keys())
def test_syntax(tmp_path, script):
    """Each script of a page is one."""
    path = tmp_path / "script.js"
    path.write_text(script)
    subprocess.run(["node", "--check", path], check=True)
