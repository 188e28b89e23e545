"""Rows of CloudWatch Logs Insights that hold picked fields → records as Bedrock logs them. Pure.

A query's fields are named by paths: ``input.inputTokenCount``, ``output.outputBodyJson.content.0.type``. All values are
text.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from .documents import Malformed, parsed

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["record_of"]

# Of these members numbers and JSON are read; everywhere else digits may be a name.
_WITH_BODIES = ("input", "output", "requestMetadata", "identity", "performanceConfig", "serviceTier")
_NUMBER = re.compile(r"-?\d{1,18}(?:\.\d{1,18})?$")
_METADATA = "requestMetadata"
_DEEPEST = 20


def record_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the record that a row's fields are from, as far as they were picked.

    Args:
        row: Field → value. Fields of CloudWatch itself, ``@…``, are left out.
    """
    record: dict[str, Any] = {}
    for field, value in row.items():
        name = str(field).replace("`", "")
        if name[:1] == "@" or value in (None, ""):
            continue
        first, dot, rest = name.partition(".")
        # A key of requestMetadata may have dots of its own, and its values are text.
        is_metadata = first == _METADATA and bool(dot)
        steps = [first, rest] if is_metadata else name.split(".")[:_DEEPEST]
        _put(record, steps, value if is_metadata or first not in _WITH_BODIES else _value(value))
    return {name: _with_lists(member) for name, member in record.items()}


def _put(record: dict[str, Any], steps: list[str], value: Any) -> None:
    for step in steps[:-1]:
        inside = record.setdefault(step, {})
        if not isinstance(inside, dict):  # the query has the whole of it too
            return
        record = inside
    if isinstance(record.get(steps[-1]), dict) and isinstance(value, dict):
        record[steps[-1]] = {**record[steps[-1]], **value}
    else:
        record[steps[-1]] = value


def _value(text: Any) -> Any:
    """A value of a body: a number where it looks like one, JSON where it is an object or an array."""
    if not isinstance(text, str):
        return text
    if text[:1] in ("{", "["):
        value = parsed(text)
        return text if isinstance(value, Malformed) else value
    if _NUMBER.match(text):
        return float(text) if "." in text else int(text)
    return text


def _with_lists(value: Any) -> Any:
    """Return the value, with a list for each object whose members are named 0, 1, 2 and so on."""
    if not isinstance(value, dict):
        return value
    inside = {name: _with_lists(member) for name, member in value.items()}
    if inside and all(name.isascii() and name.isdigit() and len(name) < 7 for name in inside):
        return [inside[name] for name in sorted(inside, key=int)]
    return inside
