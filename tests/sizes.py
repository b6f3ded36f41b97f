"""Fails if a file, a function or a script has grown too large to be read at a sitting."""

import ast
import sys
from pathlib import Path

FILE, FUNCTION, SCRIPT = 400, 50, 90

too_large: list[str] = []
for path in sorted(Path("aiorsmq").rglob("*.*")):
    if path.suffix not in (".py", ".lua"):
        continue
    text = path.read_text()
    lines = len(text.splitlines())
    if lines > (FILE if path.suffix == ".py" else SCRIPT):
        too_large.append(f"{path}: {lines} lines")
    if path.suffix == ".py":
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                body = (
                    node.body[1:] if ast.get_docstring(node) and len(node.body) > 1 else node.body
                )
                size = (node.end_lineno or 0) - body[0].lineno + 1
                if size > FUNCTION:
                    too_large.append(f"{path}:{node.lineno}: {node.name} has {size} lines")
sys.exit("\n".join(too_large) or None)
