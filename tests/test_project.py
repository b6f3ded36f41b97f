"""What the project says about itself is true."""

import ast
import re
from pathlib import Path

import pytest
from aiorsmq._server.lua import load

from chaos.breakages import BREAKAGES

TESTS = Path(__file__).parent


@pytest.mark.parametrize("name", ["send", "receive", "delete"])
def test_header(name):
    """Each script begins with what its keys, arguments and replies are."""
    source = load(name).source
    assert "-- KEYS" in source
    assert "-- Returns" in source


def ids_of(path):
    """The tests of a file by the ids that pytest gives them, without parameters."""
    for node in ast.parse(path.read_text()).body:
        in_class = isinstance(node, ast.ClassDef)
        for function in node.body if in_class else [node]:
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{node.name}::{function.name}" if in_class else function.name


@pytest.mark.parametrize("name", BREAKAGES)
def test_breakage_names_tests(name):
    """The tests that must notice a breakage exist."""
    for test in BREAKAGES[name].caught_by:
        file, _, id = re.split(r"[\[ ]", test)[0].partition("::")
        assert id in ids_of(TESTS / file), test


def test_noxfile_names_tests():
    """The tests that a session of nox names exist."""
    root = TESTS.parent
    named = re.findall(r'"(tests/[^"]*)"', (root / "noxfile.py").read_text())
    assert named
    assert [name for name in named if not (root / name).exists()] == []
