"""Edits of the package's source that name a function or a script, not a file, a line or a layout.

An edit still fits after its code is moved to another file or reformatted. If the code that it names
or replaces is gone, it raises DoesNotFit.
"""

import ast
import copy
import functools
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

_Block = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
Replace = Callable[[], None]
"""Makes the change at one of the places where it fits."""


class DoesNotFit(Exception):
    """The code that an edit names is gone, or what it replaces does not occur exactly once."""


class Edit(NamedTuple):
    """Replaces Python code in a function, a class, a class attribute or a module constant.

    name: qualified, as in "Batch._expire"; "batch:Batch._expire" if several modules have one.
    old: an expression or statements that occur once. They are compared as syntax trees, so layout,
        comments and quotes do not matter, and `...` matches any expression. None stands for the
        whole body, "" for the end of the body.
    new: an expression or statements; "" removes statements.
    """

    name: str
    old: str | None
    new: str

    def apply(self, files: dict[Path, str]) -> None:
        _rewrite(files, self.name, self.old, self._places)

    def _places(self, code: ast.Module) -> Iterator[Replace]:
        statements = _statements(self.new)
        if self.old is None:
            yield partial(code.body.__setitem__, slice(None), statements)
        elif not self.old:
            yield partial(code.body.extend, statements)
        elif (old := _expression(self.old)) and (new := _expression(self.new)):
            yield from _places_of_expression(code, old, new)
        else:
            yield from _places_of_statements(code, _statements(self.old), statements)


class StringEdit(NamedTuple):
    """Replaces text in a string of Python code, which is named as in `Edit`."""

    name: str
    old: str
    new: str

    def apply(self, files: dict[Path, str]) -> None:
        _rewrite(files, self.name, self.old, self._places)

    def _places(self, code: ast.Module) -> Iterator[Replace]:
        for node in ast.walk(code):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                for value in _edited_texts(node.value, self.old, self.new):
                    yield partial(setattr, node, "value", value)


class LuaEdit(NamedTuple):
    """Replaces text in a Lua script, which is named by its file without ".lua".

    The text must occur once. Comments do not count, and any white space matches any other.
    """

    script: str
    old: str
    new: str

    def apply(self, files: dict[Path, str]) -> None:
        paths = [path for path in files if path.name == f"{self.script}.lua"]
        if not paths:
            raise DoesNotFit(f"{self.script}.lua is not in the package any more")
        (path,) = paths
        edited = _edited_texts(files[path], self.old, self.new, comments="--.*")
        files[path] = _only(edited, f"{self.script}.lua", self.old)


def read_sources(package: Path) -> dict[Path, str]:
    """The text of each Python file and each Lua script."""
    paths = (path for path in package.rglob("*") if path.suffix in (".py", ".lua"))
    return {path: path.read_text() for path in sorted(paths)}


def _rewrite(
    files: dict[Path, str],
    name: str,
    old: str | None,
    places: Callable[[ast.Module], Iterator[Replace]],
) -> None:
    """Make the change in the file that defines the name; all other code there keeps its text."""
    path, definitions = _find(files, name)
    found: list[tuple[ast.stmt, ast.Module, Replace]] = []
    for definition in definitions:
        body = _body(definition)
        found += [(definition, body, replace) for replace in places(body)]
    definition, body, replace = _only(found, name, old)
    replace()
    edited = ast.unparse(_with_body(definition, body))
    lines = files[path].splitlines(keepends=True)
    # decorators are above `lineno`, and stay
    lines[definition.lineno - 1 : definition.end_lineno] = [
        textwrap.indent(f"{edited}\n", " " * definition.col_offset)
    ]
    files[path] = "".join(lines)


def _body(definition: ast.stmt) -> ast.Module:
    """A copy of what an edit may change: a body without its docstring, or a whole assignment."""
    body = [definition]
    if isinstance(definition, _Block):
        body = definition.body[_docstrings(definition) :]
    return copy.deepcopy(ast.Module(body=body, type_ignores=[]))


def _with_body(definition: ast.stmt, body: ast.Module) -> ast.AST:
    if not isinstance(definition, _Block):
        return body
    changed = copy.copy(definition)
    changed.decorator_list = []
    changed.body = [*definition.body[: _docstrings(definition)], *body.body]
    return changed


def _docstrings(definition: _Block) -> int:
    return 0 if ast.get_docstring(definition) is None else 1


def _only(found: Iterable[Any], name: str, old: str | None) -> Any:
    places = list(found)
    if len(places) != 1:
        what = " ".join((old or "a body").split())
        raise DoesNotFit(f"{name} has this {len(places)} times, not once: {what}")
    return places[0]


def _find(files: dict[Path, str], name: str) -> tuple[Path, list[ast.stmt]]:
    """The file that defines the name, and its definitions: a property and its setter are two."""
    module, _, qualified = name.rpartition(":")
    found = {
        path: definitions
        for path, text in files.items()
        if path.suffix == ".py" and module in ("", path.stem.lstrip("_"))
        if (definitions := _definitions(text).get(qualified))
    }
    if not found:
        raise DoesNotFit(f"{name} is not in the package any more")
    if len(found) > 1:
        names = ", ".join(sorted(f"{path.stem.lstrip('_')}:{qualified}" for path in found))
        raise DoesNotFit(f"{name} is in {len(found)} modules, name one: {names}")
    return found.popitem()


@functools.cache
def _definitions(text: str) -> dict[str, list[ast.stmt]]:
    """Functions, classes, class attributes and module constants by their qualified names."""
    found: dict[str, list[ast.stmt]] = {}
    _collect(ast.parse(text), "", found)
    return found


def _collect(scope: ast.AST, prefix: str, found: dict[str, list[ast.stmt]]) -> None:
    for node in ast.iter_child_nodes(scope):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                found.setdefault(prefix + node.name, []).append(node)
                _collect(node, f"{prefix}{node.name}.", found)
            case ast.Assign(targets=[ast.Name(name)]) | ast.AnnAssign(target=ast.Name(name)):
                found.setdefault(prefix + name, []).append(node)
            case _:
                _collect(node, prefix, found)


def _statements(source: str) -> list[ast.stmt]:
    return ast.parse(textwrap.dedent(source).strip()).body


def _expression(source: str) -> ast.expr | None:
    """The expression, or None if these are statements."""
    try:
        return ast.parse(textwrap.dedent(source).strip(), mode="eval").body
    except SyntaxError:
        return None


def _places_of_expression(code: ast.Module, old: ast.expr, new: ast.expr) -> Iterator[Replace]:
    for node in ast.walk(code):
        for field, value in ast.iter_fields(node):
            if isinstance(value, list):
                for i, item in enumerate(value):
                    if _is_same(item, old):
                        yield partial(value.__setitem__, i, new)
            elif _is_same(value, old):
                yield partial(setattr, node, field, new)


def _places_of_statements(
    code: ast.Module, old: list[ast.stmt], new: list[ast.stmt]
) -> Iterator[Replace]:
    for node in ast.walk(code):
        for _, value in ast.iter_fields(node):
            if isinstance(value, list):
                for start in range(len(value) - len(old) + 1):
                    found = slice(start, start + len(old))
                    if _is_same(value[found], old):
                        yield partial(value.__setitem__, found, new)


def _is_same(code: Any, pattern: Any) -> bool:
    match pattern:
        case ast.Constant(value=value) if value is ...:
            return isinstance(code, ast.expr)
        case ast.AST():
            return type(code) is type(pattern) and all(
                _is_same(getattr(code, field), getattr(pattern, field))
                for field in pattern._fields
                if field not in ("ctx", "kind", "type_comment")
            )
        case list():
            return len(code) == len(pattern) and all(map(_is_same, code, pattern))
        case _:
            return type(code) is type(pattern) and code == pattern


def _edited_texts(text: str, old: str, new: str, comments: str | None = None) -> Iterator[str]:
    """The text after the change, once for each place that fits; comments count as white space."""
    pattern = r"\s+".join(map(re.escape, old.split()))
    code = re.sub(comments, lambda found: " " * len(found[0]), text) if comments else text
    for match in re.finditer(pattern, code):
        yield text[: match.start()] + new + text[match.end() :]
