"""Prints where the package breaks house rules: sizes, one assignment a line, names, English."""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

FILE = 400
FUNCTION = 50
SCRIPT = 90
COLUMNS = 100

PAIR = "a pair"
"""The comment of an assignment of two values that belong together."""
WORDS = """
a about again all an and any anything are as asked at be been both but by chosen done each either
else enough every few for four from given gone had has have he her here his how if in is it its
just kept known later least left many mine more most much my needed neither no nobody none nor not
of on one or other others our ours rest right said same say seen she so some somebody something
soon stay still such taken than that the their theirs them then there these they this those three
to told too two very wanted was we were what whatever when where whether which while who whose why
will with would you your yours
"""
"""Pronouns, function words and bare participles: none is a name."""
NO_NAMES = frozenset(WORDS.split())
PUBLIC = {
    name: {"to", "where"}
    for name in ("redrive", "redrive_steps", "replace", "keys_of", "model_of", "move", "edit")
} | {"init": {"needed"}}
"""Parameters that users pass by name."""

RETIRED = """
meanwhile, beside, anew, for ever, whoever, of which, that one, so many, as many, is none, says so,
comes again, lies, mended, waited out, broken off, at the most, at the least
"""
PHRASES = "|".join(
    r"\s+(?:(?:#|--) *)?".join(phrase.split())  # a phrase may go on in the next line of a comment
    for phrase in RETIRED.strip().split(",")
)
RETIRED_WORDS = re.compile(rf"(?<![\w.`])(?<!there )(?:{PHRASES})(?![\w`(=]| as\b)", re.IGNORECASE)


def main() -> str | None:
    found: list[str] = []
    for path in sorted(Path("aiorsmq").rglob("*.*")):
        if path.suffix in (".py", ".lua"):
            text = path.read_text()
            check, limit = (python, FILE) if path.suffix == ".py" else (lua, SCRIPT)
            findings = [*size(text, limit), *check(text), *english(text)]
            found += [f"{path}:{line}: {what}" for line, what in sorted(findings)]
    for path in (Path("README.md"), Path("CONTRIBUTING.md"), *sorted(Path("docs").rglob("*.md"))):
        found += [f"{path}:{line}: {what}" for line, what in english(path.read_text())]
    return "\n".join(found) or None


def size(text: str, limit: int) -> Iterator[tuple[int, str]]:
    lines = text.splitlines()
    if len(lines) > limit:
        yield 1, f"{len(lines)} lines"
    for number, line in enumerate(lines, 1):
        code = re.sub(r"  # (noqa|pyright): .*", "", line)  # for tools, which cannot be wrapped
        if len(code) > COLUMNS:
            yield number, f"{len(line)} columns"


def english(text: str) -> Iterator[tuple[int, str]]:
    for match in RETIRED_WORDS.finditer(text):
        if "None" not in match[0]:
            yield text.count("\n", 0, match.start()) + 1, f"retired English: {match[0]!r}"


def python(text: str) -> Iterator[tuple[int, str]]:
    lines = text.splitlines()
    tree = ast.parse(text)
    public = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for inner in ast.walk(node)
        if name_of(inner) in PUBLIC.get(node.name.strip("_"), ())
    }
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 1)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) and node.body[1:] else node.body
            length = (node.end_lineno or 0) - body[0].lineno + 1
            if length > FUNCTION:
                yield line, f"{node.name} has {length} lines"
        if (
            isinstance(node, ast.Assign)
            and has_parallel_values(node)
            and not is_marked(node, lines)
        ):
            yield line, f"parallel assignment: {lines[line - 1].strip()}"
        name = name_of(node)
        if name is not None and id(node) not in public and not is_name(name):
            yield line, f"neither noun nor verb: {name}"


def has_parallel_values(node: ast.Assign) -> bool:
    """Whether unrelated values are assigned at once. In a swap, a value is also a target."""
    target = node.targets[0]
    if not isinstance(target, ast.Tuple) or not isinstance(node.value, ast.Tuple | ast.List):
        return False
    targets = set(map(ast.unparse, target.elts))
    return len(targets) > 2 or targets.isdisjoint(map(ast.unparse, node.value.elts))


def is_marked(node: ast.Assign, lines: list[str]) -> bool:
    marked = lines[(node.end_lineno or 0) - 1].endswith(f"  # {PAIR}")
    return marked and len(node.targets[0].elts) == 2  # type: ignore[attr-defined]


def name_of(node: ast.AST) -> str | None:
    """What a node names: a variable, an attribute, a parameter, a function or a class."""
    match node:
        case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
            return name
        case ast.FunctionDef(name) | ast.AsyncFunctionDef(name) | ast.ClassDef(name):
            return name
        case ast.arg(name) | ast.MatchAs(name=name) | ast.ExceptHandler(name=name):
            return name
    return None


def is_name(name: str) -> bool:
    """Whether a name has a noun or a verb. `is_same` and `has_more` are predicates."""
    if name.startswith("__") or re.fullmatch("_|_*(is|has)_.*", name):
        return True
    return not NO_NAMES.issuperset(name.strip("_").lower().split("_"))


def lua(text: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text.splitlines(), 1):
        code, _, comment = re.sub(r"'[^']*'", "''", line).partition("--")
        names, _, values = code.partition(" = ")
        while match := re.search(r"\([^()]*\)|\{[^{}]*\}|\[[^][]*\]", values):
            values = values.replace(match[0], "")  # a call is one value, however many it returns
        targets = 1 + names.count(",")
        is_pair = targets == 2 and comment.strip() == PAIR
        is_parallel = targets > 1 and "," in values and "for " not in names and not is_pair
        if code.count("local ") > 1 or is_parallel:
            yield number, f"parallel assignment: {line.strip()}"
        for words in re.findall(r"(?:local|for|function \w+\() *([\w, ]+?)(?: =| in\b|\)|$)", code):
            for name in words.removeprefix("function ").split(", "):
                if not is_name(name):
                    yield number, f"neither noun nor verb: {name}"


if __name__ == "__main__":
    sys.exit(main())
