"""Whether a tool's schema is one: the keywords that the programs read must hold what JSON Schema lets them hold.

The source is JSON Schema draft 2020-12, with draft 4's boolean `exclusiveMinimum` and lists in `items` besides, which
tools in the field still have. Keywords that no program reads are not looked at.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from .json_schema import pointed_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["schema_problem"]

_TYPES = ("array", "boolean", "integer", "null", "number", "object", "string")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_type(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and all(isinstance(each, str) and each in _TYPES for each in value)
    return isinstance(value, str) and value in _TYPES


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


_COUNT = ("a whole number, not negative", _is_count)
_BOUND = ("a number", _is_number)
_EXCLUSIVE = ("a number", lambda value: isinstance(value, bool) or _is_number(value))
_TEXT = ("a string", lambda value: isinstance(value, str))
_LIST = ("an array", lambda value: isinstance(value, list))
_OBJECT = ("an object", lambda value: isinstance(value, dict))
_SCHEMAS = ("an array of at least one schema", lambda value: isinstance(value, list) and bool(value))
_RULES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "type": (f"one or several of {', '.join(_TYPES)}", _is_type),
    "required": ("an array of strings", _are_texts),
    **dict.fromkeys(("properties", "$defs", "definitions"), _OBJECT),
    **dict.fromkeys(("anyOf", "oneOf", "allOf"), _SCHEMAS),
    **dict.fromkeys(("prefixItems", "enum", "examples"), _LIST),
    **dict.fromkeys(("minItems", "maxItems", "minLength", "maxLength", "minProperties"), _COUNT),
    **dict.fromkeys(("minimum", "maximum"), _BOUND),
    **dict.fromkeys(("exclusiveMinimum", "exclusiveMaximum"), _EXCLUSIVE),
    "multipleOf": ("a number above 0", lambda value: _is_number(value) and value > 0),
    **dict.fromkeys(("pattern", "format", "$ref"), _TEXT),
    "uniqueItems": ("true or false", lambda value: isinstance(value, bool)),
}


def schema_problem(schema: Any) -> str | None:
    """What is wrong with a schema, as "properties.age.minimum must be a number"; None when nothing is.

    What its `$ref`s point at is looked at too, wherever in the schema that is.
    """
    if not isinstance(schema, dict):
        return "it must be an object"
    waiting: list[tuple[str, Any]] = [("", schema)]
    seen: set[int] = set()
    while waiting:
        place, part = waiting.pop()
        if isinstance(part, bool) or id(part) in seen:
            continue
        seen.add(id(part))
        if not isinstance(part, dict):
            return f"{place} must be a schema: an object, true or false"
        for keyword, (wanted, holds) in _RULES.items():
            if keyword in part and not holds(part[keyword]):
                return f"{_joined(place, keyword)} must be {wanted}"
        waiting.extend(_parts(place, part))
        if "$ref" in part:
            waiting.append((f"what {part['$ref']!r} points at", pointed_at(part["$ref"], schema)))
    return None


def _parts(place: str, schema: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The schemas in a schema whose keywords have been checked, with their places."""
    for keyword in ("properties", "$defs", "definitions"):
        for name, part in schema.get(keyword, {}).items():
            yield _joined(_joined(place, keyword), name), part
    for keyword in ("anyOf", "oneOf", "allOf", "prefixItems"):
        for index, part in enumerate(schema.get(keyword, ())):
            yield f"{_joined(place, keyword)}.{index}", part
    for keyword in ("items", "additionalProperties"):
        if keyword in schema and not (keyword == "items" and isinstance(schema[keyword], list)):
            yield _joined(place, keyword), schema[keyword]


def _joined(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name
