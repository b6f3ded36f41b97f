"""The reference has everything that is public, and nothing that is not."""

import importlib
import re
import tomllib
from types import FunctionType

import pytest

from support import check_help
from website import cli_page
from website.pages import PROJECT
from website.plain_text import INTERNAL, PACKAGES

INSIDE = ("aiorsmq.errors", "aiorsmq.lua", "aiorsmq.models", "aiorsmq.worker")
"""Modules whose names users import from `aiorsmq`."""


def public_names(package):
    """The names that users import from a package."""
    module = importlib.import_module(package)
    if names := getattr(module, "__all__", None):
        return list(names)
    return [
        name
        for name, value in vars(module).items()
        if isinstance(value, type | FunctionType) and value.__module__ == package
        if not name.startswith("_")
    ]


def members_of(path, cls):
    """What users may call or read on an object, in this package's classes."""
    ours = [base for base in cls.__mro__ if base.__module__.startswith("aiorsmq")]
    names = {name for base in ours for name in [*vars(base), *getattr(base, "__annotations__", ())]}
    hidden = INTERNAL.get(path, set())
    if issubclass(cls, Exception):
        hidden = hidden | {"text", "repeat"}
    return sorted(name for name in names if not name.startswith("_") and name not in hidden)


@pytest.mark.parametrize("package", PACKAGES)
def test_complete(package, inventory):
    """Each public name is there, with its members."""
    module = importlib.import_module(package)
    missing = []
    for name in public_names(package):
        value = getattr(module, name)
        path = f"{package}.{name}"
        missing += [path] if path not in inventory else []
        if issubclass(type(value), type) and value.__module__.startswith("aiorsmq"):
            names = [f"{path}.{member}" for member in members_of(path, value)]
            own = f"{value.__module__}.{value.__qualname__}"
            missing += [
                n for n in names if n not in inventory and n.replace(path, own) not in inventory
            ]
    assert missing == []


def test_all_modules_are_known():
    """What a module lists in `__all__` is documented there, or as a part of `aiorsmq`."""
    unknown = []
    for file in (PROJECT / "aiorsmq").rglob("*.py"):
        parts = file.relative_to(PROJECT).with_suffix("").parts
        is_public = not any(part.startswith("_") for part in parts[:-1])
        if is_public and re.search(r"^__all__ = ", file.read_text(), re.MULTILINE):
            path = ".".join(parts).removesuffix(".__init__").removesuffix("._public")
            if path not in {*PACKAGES, *INSIDE}:
                unknown.append(path)
    assert unknown == []


def test_nothing_private_shows(pages):
    """No page of the reference shows a private module, or an object that has no text."""
    private = re.compile(r"aiorsmq(?:\.\w+)*\._\w+|aiorsmq/_(?!lua)\w+|object at 0x|Unpack\[")
    found = {
        path: private.findall(page.text)
        for path, page in pages.items()
        if path.startswith("reference/")
    }
    assert {path: names for path, names in found.items() if names} == {}


@pytest.mark.parametrize("framework", ["aiohttp", "fastapi", "starlette"])
def test_help_of_an_integration(framework):
    """`help()` shows nothing internal of a module that needs a web framework."""
    check_help(f"aiorsmq.integrations.{framework}")


def test_no_link_is_left_as_text(pages):
    """Each cross-reference was resolved."""
    found = {path: re.findall(r"\]\[[\w.]+\]", page.text) for path, page in pages.items()}
    assert {path: links for path, links in found.items() if links} == {}


def test_command_line():
    """The page of the commands is that of the program."""
    text = (PROJECT / "docs" / "reference" / "cli.md").read_text()
    command = "python tests/website/cli_page.py >docs/reference/cli.md"
    assert text == cli_page.page(), f"write it again: {command}"


def test_navigation():
    """The navigation has every page once."""
    config = tomllib.loads((PROJECT / "zensical.toml").read_text())["project"]
    listed = re.findall(r"'([\w./-]+\.md)'", str(config["nav"]))
    docs = PROJECT / "docs"
    assert sorted(listed) == sorted(str(path.relative_to(docs)) for path in docs.rglob("*.md"))
