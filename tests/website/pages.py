"""The pages of the site, and the files that they are made of."""

import re
from functools import cached_property
from html.parser import HTMLParser
from pathlib import Path

PROJECT = Path(__file__).parents[2]
ADDRESS = "https://aiorsmq.github.io/aiorsmq/"
SOURCES = [
    *(PROJECT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")),
    *sorted((PROJECT / "docs").rglob("*.md")),
]


class Page(HTMLParser):
    """A page's links, the ids that links can name, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.html = html
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.ids |= {attributes[name] for name in ("id", "name") if attributes.get(name)}
        names = ("href", "src") if tag != "link" or attributes.get("rel") != "canonical" else ()
        self.links += [attributes[name] for name in names if attributes.get(name)]

    @cached_property
    def text(self) -> str:
        article = re.search(r"<article.*?</article>", self.html, re.DOTALL)
        return re.sub(r"<[^>]+>", "", article[0])


def without_code(markdown: str) -> str:
    """A page of Markdown, without its blocks and spans of code."""
    text = re.sub(r"^ *(```+).*?^ *\1$", "", markdown, flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"`[^`]*`", "", text)


def links_of(markdown: str) -> list[str]:
    """What a page of Markdown links to, and the pictures that it shows."""
    text = without_code(markdown)
    return re.findall(r"\]\(<?([^)\s>]+)", text) + re.findall(
        r'(?:href|src|srcset)="([^"]+)"', text
    )


def slugs_of(markdown: str) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    text = re.sub(r"^```.*?^```$", "", markdown, flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    plain = [re.sub(r"\[([^]]*)\]\([^)]*\)|[`*]", r"\1", heading).lower() for heading in headings]
    return {re.sub(r"[^\w -]", "", heading).strip().replace(" ", "-") for heading in plain}
