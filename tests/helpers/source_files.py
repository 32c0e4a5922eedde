"""The files of cnntune as trees, each parsed once, and their statements."""

import ast
import functools
from collections.abc import Iterator
from pathlib import Path


@functools.cache
def parsed(path: Path) -> ast.Module:
    """The tree of a file; all of cnntune takes a second."""
    return ast.parse(path.read_text(encoding="utf-8"))


def statements(tree: ast.AST) -> Iterator[ast.stmt]:
    """All statements below a node: a hundredth of its nodes."""
    for name in ("body", "orelse", "finalbody", "handlers", "cases"):
        for inner in getattr(tree, name, []):
            if isinstance(inner, ast.stmt):
                yield inner
            yield from statements(inner)
