"""The site, built once for all tests, and its pages."""

import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from website.pages import PROJECT, Page

SITE = PROJECT / "site"


def pytest_addoption(parser):
    parser.addoption("--screenshots", type=Path, metavar="FOLDER", help="take pictures of pages")


def pytest_collection_modifyitems(config, items):
    """Take pictures only where they are wanted."""
    if config.getoption("screenshots") is None:
        pictures = [item for item in items if item.name.startswith("test_screenshots")]
        config.hook.pytest_deselected(items=pictures)
        items[:] = [item for item in items if item not in pictures]


@pytest.fixture(scope="session")
def build():
    """A build in strict mode, in which a warning is an error; `site/` is written anyway."""
    shutil.rmtree(SITE, ignore_errors=True)
    command = [Path(sys.executable).with_name("zensical"), "build", "--strict", "--clean"]
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)


@pytest.fixture(scope="session")
def site(build):
    """The folder with the site."""
    if not SITE.exists():
        pytest.fail(build.stderr, pytrace=False)
    return SITE


@pytest.fixture(scope="session")
def pages(site):
    """The pages by their paths on the site: `how-to/testing/`, and "" for the first one."""
    files = [path for path in site.rglob("*.html") if path.name != "404.html"]
    paths = {path.relative_to(site).as_posix().removesuffix("index.html"): path for path in files}
    return {path: Page(file.read_text()) for path, file in paths.items()}


@pytest.fixture(scope="session")
def inventory(site):
    """The names of the API that the site documents, each with the address of its heading."""
    _, _, packed = (site / "objects.inv").read_bytes().partition(b"zlib.\n")
    lines = [line.split(" ") for line in zlib.decompress(packed).decode().splitlines()]
    return {name: address.replace("$", name) for name, _, _, address, _ in lines}
