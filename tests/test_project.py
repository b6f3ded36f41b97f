"""What the project says about itself is true."""

import ast
import re
import tomllib
from pathlib import Path

import aiorsmq
import pytest

from chaos.breakages import BREAKAGES

TESTS = Path(__file__).parent
LUA = Path(aiorsmq.__file__).parent / "_lua"
COMMANDS = sorted(path.stem for path in LUA.glob("*.lua") if not path.stem.startswith("prelude"))


def header_of(script):
    """The fields of a script's header by name: KEYS, ARGV, Returns, Errors."""
    comment = re.match(r"(?:--.*\n)*", script)[0]
    fields = re.findall(r"^-- (KEYS|ARGV|Returns|Errors) ((?:.*\n--  )*.*)", comment, re.MULTILINE)
    return dict(fields)


def indices(table, code):
    return set(map(int, re.findall(rf"\b{table}\[(\d+)\]", code, re.IGNORECASE)))


@pytest.mark.parametrize("name", COMMANDS)
def test_header(name):
    """Each script begins with what its keys, arguments, replies and errors are."""
    script = (LUA / f"{name}.lua").read_text()
    code = re.sub("--.*", "", script)
    header = header_of(script)

    # "then" leads to any number of further keys
    keys = re.findall("HASH|ZSET|SET", re.split(r"\bthen\b", header["KEYS"])[0])
    assert indices("KEYS", code) == set(range(1, len(keys) + 1))

    # "3..." stands for all arguments from the third on
    arguments = re.findall(r"(?:^|--) +(\d+)(\.\.\.)?: ", header["ARGV"], re.MULTILINE)
    numbers = [int(number) for number, _ in arguments]
    assert numbers == list(range(1, len(numbers) + 1))
    fixed = {int(number) for number, dots in arguments if not dots}
    assert fixed <= indices("ARGV", code) <= set(numbers)
    for start in re.findall(r"for i = (\d+), #(?:ARGV|messages)\b", code):
        assert arguments[-1] == (start, "...")

    assert header["Returns"].strip().startswith("{s, us, ")
    may_be_missing = re.search(r"\battributes\(|QUEUE_DOES_NOT_EXIST", code) is not None
    assert header.get("Errors", "").split() == ["QUEUE_DOES_NOT_EXIST"] * may_be_missing


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


def test_contributing_shows_the_layers():
    """CONTRIBUTING's table has the layers that import-linter checks, in their order."""
    root = TESTS.parent
    config = tomllib.loads((root / "pyproject.toml").read_text())
    layers = config["tool"]["importlinter"]["contracts"][0]["layers"]
    text = (root / "CONTRIBUTING.md").read_text()
    table = re.search(r"\| layer \|.*\n\|---.*\n((?:\|.*\n)+)", text)[1]
    rows = [re.findall(r"`(\w+)`", row.split("|")[1]) for row in table.splitlines()]
    assert rows == [layer.split(" | ") for layer in layers]


def test_changelog_has_the_version():
    """The newest section of the changelog is the project's version, with a date and a link."""
    root = TESTS.parent
    text = (root / "CHANGELOG.md").read_text()
    version = tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"]
    headings = re.findall(r"^## (.*)", text, re.MULTILINE)
    assert headings[0] == "[Unreleased]"
    assert re.fullmatch(rf"\[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d", headings[1])
    links = dict(re.findall(r"^\[(.*?)\]: (.*)", text, re.MULTILINE))
    assert links["Unreleased"].endswith(f"/compare/v{version}...HEAD")
    assert links[version].endswith(f"/releases/tag/v{version}")


def test_loggers_are_listed():
    """`help(aiorsmq)` and docs/operations/monitoring.md list all loggers, by public names."""
    package = Path(aiorsmq.__file__).parent
    names = {
        ast.unparse(node.args[0])
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and node.args  # without, it is the root logger
        if ast.unparse(node.func).endswith("getLogger")
    }
    _, _, text = aiorsmq.__doc__.partition("Loggers")
    entries = re.findall(r"^- (aiorsmq[^:]*): ", text, re.MULTILINE)
    listed = {repr(name) for entry in entries for name in re.split(r",\s+", entry)}
    assert names == listed
    page = (TESTS.parent / "docs" / "operations" / "monitoring.md").read_text()
    assert (
        listed - {repr(name) for name in re.findall(r"^\| `(\S+)` \|", page, re.MULTILINE)} == set()
    )


LOG_METHODS = {"debug", "info", "warning", "error", "exception", "critical", "log"}


def test_records_about_queues_have_fields():
    """Whatever is logged about a queue or a message says which, by `extra=`."""
    package = Path(aiorsmq.__file__).parent
    bare = [
        f"{path.name}:{node.lineno}"
        for path in package.rglob("*.py")
        if path.parent.name != "_server"  # knows no queues
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in LOG_METHODS
        and "logger" in ast.unparse(node.func.value)
        and not any(keyword.arg == "extra" for keyword in node.keywords)
    ]
    assert bare == []


def test_reading_order_names_files():
    """The files that CONTRIBUTING has one read exist."""
    text = (TESTS.parent / "CONTRIBUTING.md").read_text()
    _, _, text = text.partition("To read the code, follow a message:\n\n")
    names = re.findall(r"`(_?[a-z]+(?:/[a-z.]+)?)`", text.partition("\n\n")[0])
    assert len(names) > 15
    package = Path(aiorsmq.__file__).parent
    paths = [package / (name if name.endswith(".lua") else f"{name}.py") for name in names]
    assert [path for path in paths if not path.exists()] == []
