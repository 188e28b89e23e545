"""The part of JSON Schema that tool and answer schemas use: looking references up, and saying whether a value fits."""

from __future__ import annotations

import json
import re
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from .effort import spend

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Schema", "fits", "number_bounds", "pointed_at", "resolve", "types_of", "variants"]

Schema = dict[str, Any]
_MOST_REFERENCES = 20  # a chain longer than this is a circle


def resolve(schema: Any, root: Mapping[str, Any]) -> Schema:
    """`schema` with its `$ref` followed and its `allOf` merged; `true` and what is no schema become `{}`."""
    spend()
    found: Schema = schema if isinstance(schema, dict) else {}
    for _ in range(_MOST_REFERENCES):
        reference = found.get("$ref")
        if not isinstance(reference, str):
            break
        beside = {key: value for key, value in found.items() if key != "$ref"}
        found = {**pointed_at(reference, root), **beside}
    if "allOf" in found:
        merged = {key: value for key, value in found.items() if key != "allOf"}
        for part in found["allOf"]:
            merged = _merged(merged, resolve(part, root))
        return merged
    return found


def pointed_at(reference: str, root: Mapping[str, Any]) -> Schema:
    """What a local JSON pointer points at; `{}` where that is nothing."""
    node: Any = root
    for step in reference.lstrip("#").strip("/").split("/"):
        if step:
            node = node.get(unquote(step).replace("~1", "/").replace("~0", "~"), {}) if isinstance(node, dict) else {}
    return node if isinstance(node, dict) else {}


def _merged(first: Schema, second: Schema) -> Schema:
    """Both schemas at once, as far as objects go; elsewhere the second wins."""
    both = {**first, **second}
    if "properties" in first and "properties" in second:
        both["properties"] = {**first["properties"], **second["properties"]}
    if "required" in first and "required" in second:
        both["required"] = list(dict.fromkeys([*first["required"], *second["required"]]))
    return both


def variants(schema: Schema, root: Mapping[str, Any]) -> list[Schema]:
    """The alternatives of `anyOf`, `oneOf` or a list of types, each with what stands beside them; else `[schema]`."""
    for key in ("anyOf", "oneOf"):
        if schema.get(key):
            beside = {name: value for name, value in schema.items() if name not in (key, "default", "title")}
            return [_merged(beside, resolve(option, root)) for option in schema[key]]
    if isinstance(schema.get("type"), list):
        return [{**schema, "type": each} for each in schema["type"]]
    return [schema]


def types_of(schema: Schema) -> str:
    """The type of a resolved schema without alternatives, inferred where it is not written."""
    if isinstance(schema.get("type"), str):
        return str(schema["type"])
    for key, meant in (("properties", "object"), ("items", "array"), ("prefixItems", "array")):
        if key in schema:
            return meant
    if "minimum" in schema or "maximum" in schema:
        return "number"
    return "string"


def number_bounds(schema: Schema) -> tuple[Decimal | None, Decimal | None, bool, bool]:
    """(low, high, low is excluded, high is excluded); understands draft 4's boolean exclusives too."""
    low, low_out = _bound(schema, "minimum", "exclusiveMinimum", max)
    high, high_out = _bound(schema, "maximum", "exclusiveMaximum", min)
    return low, high, low_out, high_out


def _bound(schema: Schema, key: str, exclusive: str, tighter: Any) -> tuple[Decimal | None, bool]:
    """One side of the bounds."""
    bound = schema.get(key)
    strict = schema.get(exclusive)
    if isinstance(strict, bool):
        return (None if bound is None else Decimal(str(bound))), strict
    if strict is None or bound is None:
        only = bound if strict is None else strict
        return (None if only is None else Decimal(str(only))), strict is not None
    closest = tighter(Decimal(str(bound)), Decimal(str(strict)))
    return closest, closest == Decimal(str(strict))


def fits(value: Any, schema: Any, root: Mapping[str, Any]) -> bool:
    """Whether `value` is allowed by `schema` (types, enums, bounds, lengths, patterns, items, properties, variants)."""
    spend()
    if schema is False:
        return False
    schema = resolve(schema, root)
    return _alternative_fits(value, schema, root) and _own_rules_fit(value, schema, root)


def _alternative_fits(value: Any, schema: Schema, root: Mapping[str, Any]) -> bool:
    """The rules that hold for every type: alternatives, constants, enums, the type itself."""
    for key in ("anyOf", "oneOf"):
        if key in schema and not any(fits(value, option, root) for option in schema[key]):
            return False
    if "const" in schema and not _same(value, schema["const"]):
        return False
    if "enum" in schema and not any(_same(value, option) for option in schema["enum"]):
        return False
    kinds = schema.get("type", _type_names(value))
    return not set(_type_names(value)).isdisjoint([kinds] if isinstance(kinds, str) else kinds)


def _own_rules_fit(value: Any, schema: Schema, root: Mapping[str, Any]) -> bool:
    """The rules for the type that the value has."""
    if isinstance(value, str):
        return _string_fits(value, schema)
    if isinstance(value, list):
        return _array_fits(value, schema, root)
    if isinstance(value, dict):
        return _object_fits(value, schema, root)
    return isinstance(value, bool) or value is None or _number_fits(value, schema)


def _object_fits(value: dict[str, Any], schema: Schema, root: Mapping[str, Any]) -> bool:
    """Required properties, and each by its own schema."""
    properties = schema.get("properties", {})
    return all(name in value for name in schema.get("required", ())) and all(
        fits(value[name], part, root) for name, part in properties.items() if name in value
    )


def _same(one: Any, other: Any) -> bool:
    """JSON equality: true is not 1."""
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def _type_names(value: Any) -> tuple[str, ...]:
    """What JSON Schema calls the type of a JSON value."""
    if value is None:
        return ("null",)
    if isinstance(value, bool):
        return ("boolean",)
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        return ("integer", "number")
    return {float: ("number",), str: ("string",), list: ("array",), dict: ("object",)}.get(type(value), ())


def _string_fits(value: str, schema: Schema) -> bool:
    """Length and pattern."""
    if not schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value)):
        return False
    pattern = _compiled(schema["pattern"]) if "pattern" in schema else None
    return pattern is None or pattern.search(value) is not None


@lru_cache(maxsize=128)
def _compiled(pattern: str) -> re.Pattern[str] | None:
    """A pattern; None where Python cannot read it."""
    try:
        return re.compile(pattern)
    except re.error:
        return None


def _number_fits(value: float, schema: Schema) -> bool:
    """Bounds and multiples."""
    low, high, low_out, high_out = number_bounds(schema)
    try:
        number = Decimal(str(value))
        if low is not None and (number <= low if low_out else number < low):
            return False
        if high is not None and (number >= high if high_out else number > high):
            return False
        step = schema.get("multipleOf")
        return step is None or number % Decimal(str(step)) == 0
    except InvalidOperation:  # infinity, or more digits than Decimal's context keeps
        return False


def _array_fits(value: list[Any], schema: Schema, root: Mapping[str, Any]) -> bool:
    """How many items, whether they differ, and each by its own schema."""
    if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
        return False
    if schema.get("uniqueItems") and len({json.dumps(item, sort_keys=True) for item in value}) < len(value):
        return False
    first = schema.get("prefixItems", [])
    rest = schema.get("items", True)
    return all(fits(item, first[index] if index < len(first) else rest, root) for index, item in enumerate(value))
