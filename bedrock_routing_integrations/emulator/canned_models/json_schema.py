"""The part of JSON Schema that tool and answer schemas use: looking references up, and saying whether a value fits."""

from __future__ import annotations

import json
import math
import re
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from .tokens import spend

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

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


# --- Whether a tool's schema is one ---

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


# --- A short text that matches a regular expression, for string schemas with a `pattern`. ---

_LONGEST = 100_000  # characters that one quantifier may make
_CLASSES = {"d": "0", "w": "a", "s": " ", "D": "a", "W": "-", "S": "a", "n": "\n", "t": "\t"}
_CANDIDATES = "aA01bB2-_ .@:/xyzXYZ3456789"
_QUANTIFIER = re.compile(r"(\*|\+|\?|\{(\d*)(?:,(\d*))?\})\??")
_ANCHORS = ("^", "$", r"\b", r"\A", r"\Z")


def matching_text(pattern: str, *, least: int = 0) -> str | None:
    """A text that `pattern` finds, with about `least` characters where its quantifiers allow; None if it fails."""
    try:
        compiled = re.compile(pattern)
        for repeats in (0, least, 1):
            text, end = _alternatives(pattern, 0, repeats)
            if end == len(pattern) and len(text) >= least and compiled.search(text):
                return text
    except (re.error, ValueError, IndexError, RecursionError):
        return None
    return None


def _alternatives(pattern: str, at: int, repeats: int) -> tuple[str, int]:
    """The first branch of `a|b|c` from `at` to its end or closing bracket."""
    text, at = _sequence(pattern, at, repeats)
    while at < len(pattern) and pattern[at] == "|":
        _, at = _sequence(pattern, at + 1, repeats)
    return text, at


def _sequence(pattern: str, at: int, repeats: int) -> tuple[str, int]:
    """Atoms with their quantifiers, one after the other."""
    out: list[str] = []
    while at < len(pattern) and pattern[at] not in "|)":
        anchor = next((each for each in _ANCHORS if pattern.startswith(each, at)), None)
        if anchor is not None:
            at += len(anchor)
            continue
        atom, at = _atom(pattern, at, repeats)
        quantifier = _QUANTIFIER.match(pattern, at)
        if quantifier is not None:
            at = quantifier.end()
            times = _times(quantifier, repeats)
            if times * len(atom) > _LONGEST:
                raise ValueError("a text too long to make")
            atom *= times
        out.append(atom)
    return "".join(out), at


def _times(quantifier: re.Match[str], repeats: int) -> int:
    """How often an atom is repeated: as little as allowed, or `repeats` times where that is allowed."""
    kind = quantifier[1]
    if kind[0] == "{":
        low = int(quantifier[2] or 0)
        high = low if quantifier[3] is None else int(quantifier[3] or max(low, repeats))
    else:
        low, high = {"*": (0, repeats), "+": (1, max(1, repeats)), "?": (0, 1)}[kind]
    return max(low, min(high, repeats))


def _atom(pattern: str, at: int, repeats: int) -> tuple[str, int]:
    """One character, escape, class or group."""
    char = pattern[at]
    if char == "(":
        inside = re.compile(r"\((?:\?:|\?P<\w+>|(?!\?))").match(pattern, at)
        if inside is None:
            raise ValueError("a group that looks around or sets flags")
        text, end = _alternatives(pattern, inside.end(), repeats)
        if pattern[end] != ")":
            raise ValueError("a group without an end")
        return text, end + 1
    if char == "[":
        end = pattern.index("]", at + (3 if pattern.startswith("[^]", at) else 2))
        one = re.compile(pattern[at : end + 1])
        candidates = _CANDIDATES + pattern[at:end]
        return next(each for each in (*candidates, "") if each == "" or one.fullmatch(each)), end + 1
    if char == "\\":
        return _CLASSES.get(pattern[at + 1], pattern[at + 1]), at + 2
    return ("a" if char == "." else char), at + 1
