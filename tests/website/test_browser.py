"""The pages in a browser."""

import re
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import expect, sync_playwright

from support import CHROMIUM, CHROMIUM_OPTIONS
from support import PATIENCE as SECONDS

PATIENCE = 1000 * SECONDS
"""Milliseconds, as playwright counts."""
expect.set_options(timeout=PATIENCE)

PHONE = {"width": 390, "height": 844}
DESKTOP = {"width": 1280, "height": 1000}
SHOWN = (
    "",
    "start/quickstart/",
    "how-to/workers/",
    "how-to/frameworks/",
    "explanation/message-life/",
    "operations/cli/",
    "performance/",
    "reference/",
    "reference/queue/",
    "reference/worker/",
    "reference/errors/",
    "reference/models/",
    "reference/cli/",
)
"""What `--screenshots` shows."""


class Handler(SimpleHTTPRequestHandler):
    """Serves the site below /aiorsmq/, as GitHub does."""

    def translate_path(self, path):
        return super().translate_path(path.removeprefix("/aiorsmq"))

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def address(site):
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=site)) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/aiorsmq/"
        server.shutdown()


@pytest.fixture(scope="module")
def browser():
    if not Path(CHROMIUM).exists():
        pytest.fail(f"{CHROMIUM} is missing: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_OPTIONS)
        yield browser
        browser.close()


@pytest.fixture
def problems():
    """What a page asks of other hosts, and what it complains of: none must be left at the end."""
    found = []
    yield found
    assert found == []


@pytest.fixture
def open_page(browser, address, problems):
    contexts = []

    def open_page(path, viewport, scheme="light"):
        context = browser.new_context(viewport=viewport, color_scheme=scheme)
        context.set_default_timeout(PATIENCE)
        contexts.append(context)
        page = context.new_page()
        page.on("console", note_message)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda request: note(request.url))
        page.goto(f"{address}{path}", wait_until="networkidle")
        return page

    def note_message(message):
        if message.type in ("error", "warning"):
            problems.append(message.text)

    def note(url):
        if not url.startswith((address, "data:", "blob:")):
            problems.append(f"asks for {url}")

    yield open_page
    for context in contexts:
        context.close()


def test_pages(pages, open_page):
    """No page asks anything of another host, complains, or scrolls sideways on a phone."""
    page = open_page("", PHONE)
    wide = []
    for path in pages:
        page.goto(f"{page.url.partition('/aiorsmq/')[0]}/aiorsmq/{path}", wait_until="networkidle")
        if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
            wide.append(path)
    assert wide == []


def test_search(open_page):
    """The search finds a method by its name, and shows it at once."""
    page = open_page("", DESKTOP)
    page.locator(".md-search__button").click()
    page.get_by_role("combobox", name="Search").fill("change_visibility")
    first = page.get_by_role("option", name=re.compile("^change_visibility")).first
    first.click()
    page.wait_for_url("**/reference/queue/**#aiorsmq.Queue.change_visibility")


def test_palette(open_page):
    """The colours follow the system, until one clicks."""
    page = open_page("", DESKTOP, "dark")
    body = page.locator("body")
    expect(body).to_have_attribute("data-md-color-scheme", "slate")
    page.emulate_media(color_scheme="light")
    expect(body).to_have_attribute("data-md-color-scheme", "default")


@pytest.mark.parametrize(
    ("name", "viewport", "scheme"),
    [("light", DESKTOP, "light"), ("dark", DESKTOP, "dark"), ("phone", PHONE, "light")],
)
def test_screenshots(request, open_page, name, viewport, scheme):
    """With `--screenshots FOLDER`, pictures of pages, to be looked at."""
    folder = request.config.getoption("screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    for path in SHOWN:
        page = open_page(path, viewport, scheme)
        page.screenshot(
            path=folder / f"{path.strip('/').replace('/', '-') or 'home'}-{name}.png",
            full_page=True,
        )
