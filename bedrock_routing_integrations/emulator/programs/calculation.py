"""Arithmetic by tools: an expression of several operations becomes one call for each, inner ones first."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING, Any

from .arithmetic import expression_in
from .clues import name_words
from .json_schema import resolve, types_of
from .words import numbers

if TYPE_CHECKING:
    from .reading import Reading, Tool

__all__ = ["calculates", "calculation_calls", "sign_of"]

_WORDS = {
    sign: frozenset(words.split())
    for sign, words in {
        "+": "add adds adder adding addition plus sum sums",
        "-": "subtract subtracts subtraction minus difference",
        "*": "multiply multiplies multiplication times product mul",
        "/": "divide divides division quotient div",
        "**": "power exponent exponentiate pow square",
        "any": "calculate calculates calculator calculation compute math maths arithmetic evaluate expression",
    }.items()
}
_SIGNS: dict[type[ast.operator], str] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.Pow: "**",
}


def sign_of(text: str) -> str | None:
    """The sign of the arithmetic in a text, the strongest of several; None without arithmetic."""
    expression = expression_in(text)
    return next((sign for sign in ("**", "*", "/", "+", "-") if expression and sign in expression), None)


def calculates(tool: Tool, sign: str) -> bool:
    """Whether a tool's name or description speaks of an operation ("any": of calculating at all)."""
    in_name = set(name_words(tool.name)) & _WORDS[sign]
    return bool(in_name or set(re.findall(r"[a-z]+", tool.description.lower())) & _WORDS[sign])


def calculation_calls(reading: Reading) -> list[tuple[str, dict[str, Any]]] | None:
    """The calls that bring the question's expression nearer to its value; none of them when it has one.

    Returns:
        None where this is not the way to answer: fewer than two operations, or no tool of two numbers for one of them.
    """
    expression = expression_in(reading.question)
    if expression is None:
        return None
    tree = ast.parse(expression, mode="eval").body
    operations = [node.op for node in ast.walk(tree) if isinstance(node, ast.BinOp)]
    tools = {type(op): _tool_for(type(op), reading.tools) for op in operations}
    if len(operations) <= 1 or any(tool is None for tool in tools.values()):
        return None
    if len(reading.outcomes) >= len(operations):
        return []  # every operation has had its call, whatever came of it
    return _Calculation(reading, {kind: tool for kind, tool in tools.items() if tool is not None}).calls(tree)


def _tool_for(operation: type[ast.operator], tools: tuple[Tool, ...]) -> Tool | None:
    """The tool of exactly two numbers for an operation; one whose name says so before one whose description does."""
    sign = _SIGNS.get(operation)
    able = [tool for tool in tools if sign and len(_number_parameters(tool)) == 2 and calculates(tool, sign)]
    able.sort(key=lambda tool: not set(name_words(tool.name)) & _WORDS[sign or "any"])
    return able[0] if able else None


def _number_parameters(tool: Tool) -> list[str]:
    """The names of a tool's parameters if all are numbers; else none."""
    properties = tool.schema.get("properties") or {}
    kinds = {types_of(resolve(schema, tool.schema)) for schema in properties.values()}
    return list(properties) if kinds <= {"integer", "number"} else []


class _Calculation:
    """An expression being worked out with tools, given what they have returned so far."""

    def __init__(self, reading: Reading, tools: dict[type[ast.operator], Tool]) -> None:
        self._outcomes = list(reading.outcomes)
        self._tools = tools
        self._calls: list[tuple[str, dict[str, Any]]] = []

    def calls(self, tree: ast.expr) -> list[tuple[str, dict[str, Any]]]:
        """The calls whose operands are known and whose results are not."""
        self._value(tree)
        return self._calls

    def _value(self, node: ast.expr) -> float | None:
        """The value of a node as far as the tools have told it; else notes the call to make."""
        if isinstance(node, ast.UnaryOp):
            inner = self._value(node.operand)
            return -inner if inner is not None and isinstance(node.op, ast.USub) else inner
        if not isinstance(node, ast.BinOp):
            return node.value if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)) else None
        left, right = self._value(node.left), self._value(node.right)
        if left is None or right is None:
            return None
        tool = self._tools[type(node.op)]
        arguments = dict(zip(_number_parameters(tool), (left, right), strict=True))
        for outcome in self._outcomes:
            if outcome.name == tool.name and dict(outcome.arguments) == arguments:
                self._outcomes.remove(outcome)
                found = numbers(outcome.text)
                return found[-1] if found else None
        self._calls.append((tool.name, arguments))
        return None
