"""Every link leads somewhere."""

from pathlib import Path
from posixpath import normpath
from urllib.parse import unquote, urljoin, urlsplit

import pytest

from website.pages import ADDRESS, PROJECT, SOURCES, links_of, slugs_of

REPOSITORY = "https://github.com/aiorsmq/aiorsmq"
IN_REPOSITORY = (
    f"{REPOSITORY}/blob/main/",
    f"{REPOSITORY}/tree/main/",
    f"{REPOSITORY}/edit/main/",
    "https://raw.githubusercontent.com/aiorsmq/aiorsmq/main/",
)
"""What such an address is followed by is a path in this repository."""
ON_GITHUB = {"", "/issues", "/releases", "/security/advisories/new"}


def problem_with(address, site, pages):
    """Why an address leads nowhere; None if it does, or if it is another site's."""
    path, _, anchor = address.partition("#")
    for start in IN_REPOSITORY:
        if path.startswith(start):
            return problem_with_file(PROJECT / path.removeprefix(start), anchor)
    if path.startswith(REPOSITORY):
        rest = path.removeprefix(REPOSITORY).rstrip("/")
        return None if rest in ON_GITHUB else "not a page of GitHub that is known to exist"
    if not path.startswith(ADDRESS):
        return None
    name = unquote(path.removeprefix(ADDRESS))
    if name in pages:
        is_there = not anchor or anchor == "__skip" or unquote(anchor) in pages[name].ids
        return None if is_there else "no such heading"
    return None if (site / name).is_file() else "no such page"


def problem_with_file(file: Path, anchor: str) -> str | None:
    if not file.exists():
        return "no such file in the repository"
    if anchor and file.suffix == ".md" and anchor not in slugs_of(file.read_text()):
        return "no such heading in the file"
    return None


def test_site(site, pages):
    """Links on the site, those of the navigation and of the reference included."""
    problems = [
        f"{path or 'home'}: {link}: {problem}"
        for path, page in pages.items()
        for link in dict.fromkeys(page.links)
        if (problem := problem_with(urljoin(f"{ADDRESS}{path}", link), site, pages))
    ]
    assert problems == []


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: file.relative_to(PROJECT).as_posix())
def test_source(file, site, pages):
    """Links in a file as GitHub and package indexes show it."""
    text = file.read_text()
    problems = []
    for link in links_of(text):
        if urlsplit(link).scheme:
            problem = problem_with(link, site, pages)
        else:
            path, _, anchor = link.partition("#")
            target = file.parent / path if path else file
            problem = problem_with_file(Path(normpath(target)), anchor if target.is_file() else "")
        if problem:
            problems.append(f"{link}: {problem}")
    assert problems == []


def test_readme_has_absolute_links():
    """An index shows the README too, and knows no files."""
    links = links_of((PROJECT / "README.md").read_text())
    assert [link for link in links if not urlsplit(link).scheme and not link.startswith("#")] == []
