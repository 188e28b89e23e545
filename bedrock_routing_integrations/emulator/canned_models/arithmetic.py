"""Arithmetic in prompts: finding an expression, in signs or in words, and working it out."""

from __future__ import annotations

import ast
import operator
import re
from typing import TYPE_CHECKING

from .words import written_numbers_to_digits

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["evaluate", "expression_in", "shown"]

_SIGNED = re.compile(r"(?<![\w.])[(\s]*-?[\d(][\d\s.,()]*(?:\s*(?:\*\*|[-+*/%^\u00d7÷\u2212])\s*[-\d(][\d\s.,()]*)+")
_N = r"(-?\d+(?:\.\d+)?)"
_IN_WORDS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), replacement)
    for pattern, replacement in (
        (rf"\bsubtract {_N} from {_N}", r"\2 - \1"),
        (rf"\b(?:add|sum of|total of|sum) {_N}(?: and|,| to| with) {_N}", r"\1 + \2"),
        (rf"\bdifference (?:between|of) {_N} and {_N}", r"\1 - \2"),
        (rf"\b(?:multiply|product of) {_N}(?: and| by| with|,) {_N}", r"\1 * \2"),
        (rf"\b(?:divide|quotient of) {_N}(?: and| by|,) {_N}", r"\1 / \2"),
        (rf"\bsquare root of {_N}", r"\1 ** 0.5"),
        (rf"\b{_N} (?:percent|%) of {_N}", r"\1 / 100 * \2"),
        (rf"{_N}% of {_N}", r"\1 / 100 * \2"),
        (rf"\b{_N} squared\b", r"\1 ** 2"),
        (rf"\b{_N} cubed\b", r"\1 ** 3"),
        (r"(?<=\d) (?:plus|added to) (?=-?\d)", " + "),
        (r"(?<=\d) minus (?=-?\d)", " - "),
        (r"(?<=\d) (?:times|multiplied by|x) (?=-?\d)", " * "),
        (r"(?<=\d)\s?[x\u00d7]\s?(?=\d)", " * "),
        (r"(?<=\d) (?:divided by|over) (?=-?\d)", " / "),
        (r"(?<=\d) (?:to the power of|raised to) (?=-?\d)", " ** "),
        (r"(?<=\d) (?:modulo|mod) (?=-?\d)", " % "),
    )
)
_TELEPHONE = re.compile(r"\d{3,}(?:-\d{3,})+")
_HINT = re.compile(r"\d")
_MOST_CHARACTERS = 200
_LARGEST_POWER = 64

_OPERATIONS: dict[type[ast.AST], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}


def expression_in(text: str) -> str | None:
    """The first arithmetic expression in `text`, in signs that Python reads; None where there is none.

    Dates and telephone numbers are none: a `-` without blanks counts only between two numbers that
    stand alone.
    """
    if not _HINT.search(text) and not _HINT.search(written_numbers_to_digits(text[:_MOST_CHARACTERS])):
        return None
    text = re.sub(r"\b\d{4}-\d{2}-\d{2}\b", " ", written_numbers_to_digits(text[:2_000]))
    text = re.sub(r"(?<=\d),(?=\d{3}\b)", "", text)
    for pattern, replacement in _IN_WORDS:
        text = pattern.sub(replacement, text)
    for match in _SIGNED.finditer(text):
        expression = match[0].strip(" ,.\n")
        while expression.count("(") > expression.count(")") and expression.startswith("("):
            expression = expression[1:].lstrip()
        while expression.count(")") > expression.count("(") and expression.endswith(")"):
            expression = expression[:-1].rstrip()
        signs = str.maketrans({"^": "**", "\u00d7": "*", "÷": "/", "\u2212": "-"})
        expression = expression.translate(signs)
        if evaluate(expression) is not None and not _TELEPHONE.fullmatch(expression):
            return expression
    return None


def evaluate(expression: str) -> int | float | None:
    """What an expression of numbers, `+ - * / % **` and brackets is; None where it is none or has no value."""
    if len(expression) > _MOST_CHARACTERS:
        return None
    try:
        value = _value(ast.parse(expression.strip(), mode="eval").body)
    except (
        SyntaxError,
        ValueError,
        TypeError,
        ZeroDivisionError,
        OverflowError,
        RecursionError,
        MemoryError,
    ):
        return None
    if isinstance(value, complex) or value != value or abs(value) > 1e30:  # noqa: PLR0124 - NaN differs from itself
        return None
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _value(node: ast.expr) -> int | float:
    """The value of one node; ValueError for anything that is not arithmetic."""
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return node.value  # type: ignore[return-value]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
        return -_value(node.operand) if isinstance(node.op, ast.USub) else _value(node.operand)
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATIONS:
        left, right = _value(node.left), _value(node.right)
        if isinstance(node.op, ast.Pow) and (abs(right) > _LARGEST_POWER or abs(left) > 1e6):
            raise ValueError("too large a power")
        return _OPERATIONS[type(node.op)](left, right)
    raise ValueError("not arithmetic")


def shown(value: float) -> str:
    """A number as people write it: thousands with commas, at most six decimals."""
    return f"{value:,}" if isinstance(value, int) else f"{round(value, 6):,}"
