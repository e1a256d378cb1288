"""Mutants of a module: every place where one operator, number, condition or statement can be another.

A mutant is the module's text with one expression or statement replaced; lines keep their numbers. Strings, annotations
and messages have none, nor have lines that name CUDA or MPS, which run on such devices only.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

__all__ = ["Mutant", "device_lines", "mutants"]

_SWAPS: dict[type[ast.AST], Any] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.And: ast.Or, ast.Or: ast.And,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv, ast.Pow: ast.Mult, ast.BitOr: ast.BitAnd, ast.BitAnd: ast.BitOr,
}  # fmt: skip
_NAMES = {"min": "max", "max": "min", "any": "all", "all": "any"}
_DEVICES = re.compile(r"cuda|\bmps\b", re.IGNORECASE)


@dataclass(frozen=True)
class Mutant:
    """One change: its line, what stood there and what stands there now, and the whole text of the mutated module."""

    line: int
    before: str
    after: str
    text: str


def mutants(source: str) -> list[Mutant]:
    """Return all mutants of a module's text, in order of lines.

    >>> [(mutant.before, mutant.after) for mutant in mutants("if a < 1:\\n    b = a + 1\\n")]
    [('a < 1', 'a <= 1'), ('a < 1', 'not a < 1'), ('1', '2'), ('a + 1', 'a - 1'), ('1', '2')]
    """
    text, lines, found = source.encode(), source.splitlines(), []
    starts = [0, *accumulate(map(len, text.splitlines(keepends=True)))]
    for node, after in _changes(ast.parse(source)):
        if not _DEVICES.search(lines[node.lineno - 1]):
            span = slice(starts[node.lineno - 1] + node.col_offset, starts[node.end_lineno - 1] + node.end_col_offset)
            found.append(Mutant(node.lineno, text[span].decode(), after, _replaced(text, span, node, after)))
    return sorted(found, key=lambda mutant: mutant.line)


def device_lines(source: str) -> list[int]:
    """Return the lines that have no mutants since they name a device."""
    return [i for i, line in enumerate(source.splitlines(), 1) if _DEVICES.search(line)]


def _replaced(text: bytes, span: slice, node: Any, after: str) -> str:
    after += "\n" * (node.end_lineno - node.lineno)  # what is written in its place has one line
    new = after if isinstance(node, ast.stmt) else f"({after})"
    return (text[: span.start] + new.encode() + text[span.stop :]).decode()


def _changes(tree: ast.AST) -> Iterator[tuple[Any, str]]:
    """Give each node that can be changed, with what is written in its place."""
    for node in _outside_of_words(tree):
        yield from ((node, after) for after in _changed(node))


def _outside_of_words(node: ast.AST) -> Iterator[Any]:
    """Give all nodes but those of annotations, messages, `__all__` and docstrings."""
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns") or isinstance(node, (ast.JoinedStr, ast.Raise)):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not _is_words(child):
                vars(child)["is_condition"] = name == "test"
                yield child
                yield from _outside_of_words(child)


def _is_words(node: ast.AST) -> bool:
    if isinstance(node, ast.Assign):
        return ast.unparse(node.targets[0]) == "__all__"
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _changed(node: Any) -> Iterator[str]:
    """Give what may be written in a node's place."""
    if isinstance(node, ast.Compare):
        for i, operator in enumerate(node.ops):
            operators = [*node.ops[:i], _SWAPS[type(operator)](), *node.ops[i + 1 :]]
            yield ast.unparse(ast.Compare(node.left, operators, node.comparators))
    elif isinstance(node, ast.BoolOp):
        yield ast.unparse(ast.BoolOp(_SWAPS[type(node.op)](), node.values))
    elif isinstance(node, ast.BinOp) and type(node.op) in _SWAPS:
        yield ast.unparse(ast.BinOp(node.left, _SWAPS[type(node.op)](), node.right))
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.Not, ast.USub)):
        yield ast.unparse(node.operand)
    elif isinstance(node, ast.Name) and node.id in _NAMES and isinstance(node.ctx, ast.Load):
        yield _NAMES[node.id]
    elif isinstance(node, ast.Constant) and isinstance(node.value, (bool, int, float)):
        yield repr(not node.value if isinstance(node.value, bool) else node.value + 1)
    if node.is_condition and not isinstance(node, ast.UnaryOp):
        yield ast.unparse(ast.UnaryOp(ast.Not(), node))
    yield from _changed_statement(node)


def _changed_statement(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        yield "pass"
    elif isinstance(node, (ast.Break, ast.Continue)):
        yield "continue" if isinstance(node, ast.Break) else "break"
