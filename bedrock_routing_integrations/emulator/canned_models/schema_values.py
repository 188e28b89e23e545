"""Fill a JSON schema with values from a prompt, and invent the values that the prompt does not offer.

The order for each field: values that the prompt assigns to the field by name ("age is 30", "unit=celsius", a word of
an enum, an e-mail address for `email`), then the prompt's unused values in order (quotations, names, numbers), then the
schema's default, then an invented value. The result fits the schema whenever a fitting value can be found.
"""

from __future__ import annotations

import json
import math
import re
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from itertools import chain, pairwise
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from .tokens import VALUE, spend
from .words import (
    STOP_WORDS,
    chosen,
    entities,
    expression_in,
    is_choice,
    key_words,
    numbers,
    quotations,
    sentences,
    stem,
    stems,
    written_numbers_to_digits,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping


# --- JSON Schema ---

Schema = dict[str, Any]
_MOST_REFERENCES = 20  # a chain longer than this is a circle


def resolve(schema: Any, root: Mapping[str, Any]) -> Schema:
    """Return a schema with its `$ref` followed and its `allOf` merged.

    Args:
        schema: The schema. `true` and values that are not a schema become {}.
        root: The schema to which references (`$ref`) are relative.
    """
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
    """Return the schema that a local JSON pointer refers to; {} if the pointer does not lead to a schema.

    Args:
        reference: The pointer, such as `#/$defs/Item`.
        root: The schema that contains it.
    """
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
    """Return the alternatives of `anyOf`, `oneOf` or a list of types.

    Args:
        schema: A resolved schema.
        root: The schema to which references (`$ref`) are relative.

    Returns:
        The alternatives, each merged with the schema's other keywords; `[schema]` without alternatives.
    """
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
    """Return the lower or upper bound of a number, and whether it is exclusive."""
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
    """Return whether a schema allows a value.

    Types, enums, bounds, lengths, patterns, items, properties and variants are checked.

    Args:
        value: A JSON value.
        schema: The schema.
        root: The schema to which references (`$ref`) are relative.
    """
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
    """Return JSON Schema's names of a JSON value's type."""
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
    """Return whether a list fits: the number of its items, their uniqueness, and each item by its own schema."""
    if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
        return False
    if schema.get("uniqueItems") and len({json.dumps(item, sort_keys=True) for item in value}) < len(value):
        return False
    first = schema.get("prefixItems", [])
    rest = schema.get("items", True)
    return all(fits(item, first[index] if index < len(first) else rest, root) for index, item in enumerate(value))


# --- Validity of schemas ---

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
    """Return the problem of an invalid schema, such as "properties.age.minimum must be a number".

    The targets of its `$ref`s are checked too, wherever they are in the schema. None means that the schema is valid.
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


# --- Texts for a `pattern` ---

_JSON_SCHEMA_LONGEST = 100_000  # characters that one quantifier may make
_CLASSES = {"d": "0", "w": "a", "s": " ", "D": "a", "W": "-", "S": "a", "n": "\n", "t": "\t"}
_CANDIDATES = "aA01bB2-_ .@:/xyzXYZ3456789"
_QUANTIFIER = re.compile(r"(\*|\+|\?|\{(\d*)(?:,(\d*))?\})\??")
_ANCHORS = ("^", "$", r"\b", r"\A", r"\Z")


def matching_text(pattern: str, *, least: int = 0) -> str | None:
    """Return a text that matches a regular expression.

    Args:
        pattern: The regular expression.
        least: The least characters of the text, 0 by default. The quantifiers repeat about this often if they may.

    Returns:
        The text; None if no text was found.
    """
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
            if times * len(atom) > _JSON_SCHEMA_LONGEST:
                raise ValueError("a text too long to make")
            atom *= times
        out.append(atom)
    return "".join(out), at


def _times(quantifier: re.Match[str], repeats: int) -> int:
    """Return the repetitions of an atom: the least allowed, or `repeats` if the quantifier allows it."""
    kind = quantifier[1]
    if kind[0] == "{":
        low = int(quantifier[2] or 0)
        high = low if quantifier[3] is None else int(quantifier[3] or max(low, repeats))
    else:
        low, high = {"*": (0, repeats), "+": (1, max(1, repeats)), "?": (0, 1)}[kind]
    return max(low, min(high, repeats))


def _atom(pattern: str, at: int, repeats: int) -> tuple[str, int]:
    """Return a text for one character, escape, class or group, and the index in the pattern after it."""
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


# --- Values from a prompt ---

_NUM = r"(?<![\w.])(-?\d{1,15}(?!\d)(?:,\d{3}){0,4}(?:\.\d{1,15})?(?!\d))"
_MOST_TRIED = 50  # names and quotations that are looked for behind a preposition
_LONGEST = 20_000  # characters; of a longer text both ends are looked at
_VALUE = r"(\"[^\"]+\"|'[^']+'|“[^”]+”|`[^`]+`|[^\s,;.!?'\"]+(?:\.[^\s,;.!?'\"]+)*)"
_FORMATS = {
    "email": re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"),
    "uri": re.compile(r"https?://[^\s\"'<>)]+[^\s\"'<>).,;!?]"),
    "uuid": re.compile(r"\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b"),
    "date-time": re.compile(r"\b\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?:Z|[+-]\d{2}:\d{2})?"),
    "date": re.compile(r"\b\d{4}-\d{2}-\d{2}\b"),
    "time": re.compile(r"\b\d{1,2}:\d{2}(?::\d{2})?\b"),
    "phone": re.compile(r"\+?\d[\d ()-]{6,}\d"),
}
_FORMAT_NAMES = {
    "mail": "email",
    "url": "uri",
    "link": "uri",
    "website": "uri",
    "datetime": "date-time",
    "day": "date",
}
_DAYS = re.compile(
    r"\b(today|tomorrow|yesterday|tonight|(?:next |on )?(?:mon|tues|wednes|thurs|fri|satur|sun)day"
    r"|next (?:week|month|year)|(?:january|february|march|april|may|june|july|august|september|october|november"
    r"|december) \d{1,2}(?:, \d{4})?)\b",
    re.IGNORECASE,
)
_PLACE = ("city", "location", "place", "country", "region", "address", "town", "state", "area")
_AFTER = {
    **dict.fromkeys(("from", "origin", "source", "start", "departure", "src"), r"from"),
    **dict.fromkeys(("to", "destination", "target", "end", "dest", "arrival", "recipient"), r"(?:to|into)"),
    **dict.fromkeys(_PLACE, r"(?:in|at|near|around|for|of|to)"),
    **dict.fromkeys(("language", "lang"), r"(?:to|in|into)"),
    **dict.fromkeys(("name", "title", "person", "customer", "user", "employee"), r"(?:named|called|titled)"),
    **dict.fromkeys(("author", "artist", "writer", "creator"), r"(?:by)"),
}
_ADDRESSEES = ("to", "cc", "bcc", "recipient", "sender", "from")
_UNITS = {
    "age": ("years old", "year-old", "year old", "years of age"),
    "price": ("dollars", "euros", "usd", "eur"),
    "amount": ("dollars", "euros", "usd", "eur"),
    "guest": ("people", "persons"),
    "people": ("persons", "guests"),
    "percent": ("%",),
    "temperature": ("degrees", "°"),
    "height": ("meters", "metres", "feet", "cm", "m"),
    "weight": ("kg", "pounds", "kilograms"),
}
_POLITE = re.compile(
    r"^\W*(?:(?:hello|hi|hey|please|kindly|can you|could you|would you|will you|i want you to|i need you to)\W+)+",
    re.IGNORECASE,
)
_ERRAND = re.compile(
    r"^(?:search(?: the (?:web|internet|database))?(?: for)?|look up|google|find(?: out)?(?: about)?|tell me(?: about)?"
    r"|ask(?: about)?|use (?:the )?[\w-]+(?: tool)? to)\s+(?=\w)",
    re.IGNORECASE,
)
_TOOL_TALK = re.compile(
    r"(?:\A|(?<=[.!?\n]))[^.!?\n]*?\b(?:using|use|with|call) (?:the |a |your )?(?:\w+ )?tools?\b[,.!]?\s*",
    re.IGNORECASE,
)
_SAID = re.compile(
    r"(?:saying|that says|with the (?:text|message|body|content))[:,]?\s+(.+)", re.IGNORECASE | re.DOTALL
)


def name_words(name: str) -> list[str]:
    """The words in a field's name, in lower case: "dueDate" and "due_date" are both ["due", "date"]."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).replace("_", " ").replace("-", " ").lower().split()


class Clues:
    """A text, and the values in it that no field has taken yet.

    Args:
        text: The prompt.
        ignore: Stems of words that are no values, although they may look like names (the tool's own).
        answer: How to answer the prompt in words, for fields that want an answer.
        result: What a tool returned, for messages that are to carry it.
    """

    def __init__(
        self,
        text: str,
        *,
        ignore: frozenset[str] = frozenset(),
        answer: Callable[[], str] | None = None,
        result: str | None = None,
    ) -> None:
        if len(text) > _LONGEST:
            text = f"{text[: _LONGEST // 2]}\n{text[-_LONGEST // 2 :]}"
        self.text = text
        self.plain = written_numbers_to_digits(text)
        self.numbers = numbers(text)
        self.quoted = quotations(text)
        inside = " ".join(self.quoted)
        self.names = [n for n in entities(text) if n not in inside and not (stems(n) and stems(n) <= ignore)]
        self._answer = answer
        self._result = result

    def topic(self) -> str:
        """The text without politeness, errands and talk about tools."""
        bare = _TOOL_TALK.sub("", self.text) if len(self.text) < 2_000 else self.text
        bare = _ERRAND.sub("", _POLITE.sub("", bare.strip() or self.text)).strip(" .,:;\n")
        return bare or self.text.strip()

    def subject(self) -> str:
        """Return the subject of the text in one or two words, such as "cats" for a joke about cats."""
        about = re.search(
            r"\b(?:about|on|of|regarding) (?:an? |the )?([\w' -]{2,40}?)(?:[,.!?]|$| (?:in|with|that|for)\b)",
            self.text,
        )
        if about is not None:
            return about[1].strip()
        return (key_words(self.text[:400]) or ["it"])[-1]

    def answer(self) -> str:
        """The program's answer in words; the topic where there is none."""
        return self._answer() if self._answer is not None else self.topic()

    def expression(self) -> str | None:
        """The arithmetic in the text."""
        return expression_in(self.text)

    def said(self) -> str | None:
        """Return the text for a message."""
        found = _SAID.search(self.text)
        return found[1].strip(" .\"'") if found else self._result

    def take_number(self, name: str) -> int | float | None:
        """The number that the text gives for the field `name`, and only for it."""
        words = [word for word in name_words(name) if len(word) > 1] or [name]
        choice = chosen(self.text) if is_choice(words) else None
        if choice is not None:
            return choice
        for word in words:
            link = (
                r"\s*(?:=|:|\bis\b|\bwas\b|\bof\b|\bto\b|\bby\b|\bat\b)\s*"
                if len(word) == 1
                else r"\s*(?:=|:|\w{2,3}\b)?\s*"
            )
            found = re.search(
                rf"\b{re.escape(stem(word) if len(word) > 3 else word)}\w{{0,3}}\b{link}[$€£]?{_NUM}",
                self.plain,
                re.IGNORECASE,
            )
            if found is None and len(word) > 1:
                units = "|".join(
                    map(re.escape, (*_UNITS.get(stem(word), _UNITS.get(word, ())), word, word.rstrip("s")))
                )
                found = re.search(rf"{_NUM}[\s-]*(?:{units})(?!\w)", self.plain, re.IGNORECASE)
            if found is None and word in ("price", "amount", "cost", "budget"):
                found = re.search(rf"[$€£]\s*{_NUM}", self.plain)
            if found is not None:
                return self._taken(found[1])
        return next((self._taken(str(n)) for n in self.numbers if "year" in words and 1_000 <= n <= 2_999), None)

    def _taken(self, digits: str) -> int | float:
        """A number, no longer among those left."""
        digits = digits.replace(",", "")
        value: int | float = float(digits) if "." in digits else int(digits)
        if value in self.numbers:
            self.numbers.remove(value)
        return value

    def take_text(self, name: str, kind: str | None) -> str | None:
        """Return the text that the prompt assigns to a field, or None.

        Args:
            name: The field's name.
            kind: The field's `format`; None without one.
        """
        words = name_words(name)
        special = kind or next((_FORMAT_NAMES.get(w, w) for w in words if _FORMAT_NAMES.get(w, w) in _FORMATS), None)
        if special in _FORMATS:
            found = _FORMATS[special].search(self.text)
            if found is not None:
                return self._used(found[0])
            day = _DAYS.search(self.text) if special == "date" and kind is None else None
            return None if day is None else day[0]
        if words[-1:] and words[-1] in _ADDRESSEES and (found := _FORMATS["email"].search(self.text)):
            return self._used(found[0])
        spaced = re.escape(" ".join(words)).replace(r"\ ", "[ _-]?")
        found = re.search(
            rf"\b{spaced}\b(?:\s*[=:]\s*|\s+(?:is|named|called|should be|set to)\s+){_VALUE}",
            self.text,
            re.IGNORECASE,
        )
        if found is not None and len(name) > 1:
            return self._used(found[1].strip("\"'“”`"), whole=True)
        for word in words:
            if word in _AFTER:
                candidate = self._after(_AFTER[word])
                if candidate is not None:
                    return self._used(candidate)
        return self._described(words)

    def _described(self, words: list[str]) -> str | None:
        """The "blond" of "blond hair" for hair_color, the "1.83" of "1.83 meters" for height_in_meters."""
        if len(words) > 1 and words[-1] in ("color", "colour", "type", "style", "size"):
            found = re.search(rf"\b(\w+) {re.escape(words[0])}\b", self.text, re.IGNORECASE)
            return found[1] if found is not None and found[1].lower() not in STOP_WORDS else None
        for word in words:
            found = re.search(rf"{_NUM} {re.escape(word)}\b", self.plain, re.IGNORECASE) if len(word) > 3 else None
            if found is not None:
                self._taken(found[1])
                return found[1]
        return None

    def _after(self, preposition: str) -> str | None:
        """The quotation or name that stands after a preposition."""
        for value in (*self.quoted[:_MOST_TRIED], *self.names[:_MOST_TRIED]):
            if re.search(rf"\b{preposition}\s+(?:the\s+|a\s+)?[\"'“`]?{re.escape(value)}", self.text, re.IGNORECASE):
                return value
        return None

    def _used(self, value: str, *, whole: bool = False) -> str:
        """A text, no longer among those left; `whole` extends it to the name that begins with it."""
        for left in (self.quoted, self.names):
            for each in left:
                if each == value or (whole and each.startswith(value + " ")):
                    left.remove(each)
                    return each
        return value


# --- Invented values ---

_INVENTIONS_COMPARED = 50  # values that are compared with another one in the time of one unit of effort
_FREE = frozenset(
    (
        *("query", "question", "prompt", "text", "input", "search", "topic", "q", "content", "message", "body"),
        *("description", "task", "request", "instruction", "instructions", "expression", "equation", "formula"),
        *("calculation", "statement", "sentence", "thought", "note", "notes", "summary", "details", "reason"),
        *("explanation", "context", "document", "passage", "code", "sql", "command", "comment", "feedback", "review"),
    )
)
_ANSWER = frozenset(
    (
        *("answer", "response", "reply", "explanation", "reason", "reasoning", "justification", "summary"),
        *("rationale", "conclusion", "analysis", "thought", "thoughts", "setup", "punchline", "haiku", "poem"),
        *("story", "joke", "output"),
    )
)
_EXPRESSION = frozenset(("expression", "equation", "formula", "calculation"))
_MESSAGE = frozenset(("message", "body", "content", "text"))
_TITLE = frozenset(("title", "subject", "heading", "headline", "label", "category", "type", "kind"))
_INVENTIONS_FORMATS = {
    "date": "2025-01-01",
    "date-time": "2025-01-01T12:00:00Z",
    "time": "12:00:00Z",
    "duration": "PT1H",
    "email": "someone@example.com",
    "idn-email": "someone@example.com",
    "uri": "https://example.com/",
    "url": "https://example.com/",
    "uri-reference": "https://example.com/",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uuid": "123e4567-e89b-42d3-a456-426614174000",
    "byte": "ZXhhbXBsZQ==",
    "binary": "ZXhhbXBsZQ==",
    "json-string": "{}",
}


def is_free_text(name: str, schema: Schema) -> bool:
    """Return whether a text field takes a passage of the prompt instead of a name or a quotation from the prompt.

    Args:
        name: The field's name.
        schema: The field's schema.
    """
    return "format" not in schema and not _FREE.isdisjoint(name_words(name)[-1:])


def is_answer_like(name: str) -> bool:
    """Return whether a text field takes the model's own words."""
    return not _ANSWER.isdisjoint(name_words(name)[-1:])


def invented_text(name: str, schema: Schema, clues: Clues) -> str:
    """Return a text for a field, chosen by the field's name and description.

    Args:
        name: The field's name.
        schema: The field's schema.
        clues: The values that the prompt offers.
    """
    words = frozenset(name_words(name))
    about = str(schema.get("description", "")).lower()
    text: str | None = None
    if words & _EXPRESSION:
        text = clues.expression()
    elif "setup" in words or "set up a joke" in about:
        text = f"Why did the {clues.subject()} cross the road?"
    elif "punchline" in words or "resolve the joke" in about:
        text = "To get to the other side!"
    elif words & _MESSAGE and clues.said():
        text = clues.said()
    elif is_answer_like(name):
        text = clues.answer()
    elif words & _TITLE:
        text = (clues.said() or clues.subject())[:60].capitalize()
    elif not is_free_text(name, schema):
        text = clues.topic()[:80]
    return text or clues.topic() or f"example {' '.join(name_words(name))}".strip()


def fitted_text(text: str, schema: Schema, prompt: str) -> str:
    """Return a text changed to fit a schema's format, pattern and length.

    Args:
        text: The text.
        schema: The field's schema.
        prompt: The prompt, whose words are tried for a pattern.
    """
    if schema.get("format") in _INVENTIONS_FORMATS:
        text = _INVENTIONS_FORMATS[schema["format"]]
    least, most = schema.get("minLength", 0), schema.get("maxLength")
    spend(least // 4)  # about its tokens, before the text is there
    pattern = schema.get("pattern")
    if pattern is not None and not _matches(pattern, text):
        words = (word.strip(".,;:!?\"'()") for word in prompt.split())
        within = (word for word in words if least <= len(word) <= (most or len(word)) and _matches(pattern, word))
        return next(within, None) or matching_text(pattern, least=least) or text
    if len(text) < least:
        text = (text + " ").ljust(least, "x") if text else "x" * least
    return text if most is None else text[:most]


def _matches(pattern: str, text: str) -> bool:
    """Return whether a pattern is found in a text. A pattern that Python cannot read counts as found."""
    try:
        return re.search(pattern, text) is not None
    except re.error:
        return True


def fitted_number(schema: Schema, kind: str) -> int | float:
    """Return a number within a schema's bounds, near 1; 1 if the bounds exceed the precision of Decimal's context.

    Args:
        schema: The field's schema.
        kind: The field's type, "integer" or "number".
    """
    try:
        return _number_within(schema, kind)
    except InvalidOperation:
        return 1


def _number_within(schema: Schema, kind: str) -> int | float:
    low, high, low_out, high_out = number_bounds(schema)
    step = Decimal(str(schema["multipleOf"])) if schema.get("multipleOf") else None
    if step is None and kind == "integer":
        step = Decimal(1)
    if step is not None:
        number = _on_grid(step, low, high, low_out=low_out, high_out=high_out)
    else:
        number = _between(low, high, low_out=low_out, high_out=high_out)
    return int(number) if number == number.to_integral_value() else float(number)


def _on_grid(step: Decimal, low: Decimal | None, high: Decimal | None, *, low_out: bool, high_out: bool) -> Decimal:
    """The multiple of `step` nearest to 1 that is within the bounds."""
    number = max(step, step * (Decimal(1) // step))
    if low is not None and (number < low or (low_out and number == low)):
        number = (low // step) * step
        while number < low or (low_out and number == low):
            number += step
    if high is not None and (number > high or (high_out and number == high)):
        number = (high // step) * step
        while number > high or (high_out and number == high):
            number -= step
    return number


def _between(low: Decimal | None, high: Decimal | None, *, low_out: bool, high_out: bool) -> Decimal:
    """1 if it is within the bounds, else a bound or, where that is excluded, a number beside it."""
    one = Decimal(1)
    if (low is None or low < one) and (high is None or high > one):
        return one
    if low is not None and high is not None:
        return (low + high) / 2 if low_out or high_out else low
    if low is not None:
        return low + 1 if low_out else low
    assert high is not None  # noqa: S101 - one of them excluded 1
    return high - 1 if high_out else high


def varied(value: Any, schema: Schema, taken: list[Any], fits: Callable[[Any], bool]) -> Any:
    """Return another value like `value` that is not taken; `value` itself if none is found.

    Args:
        value: A value that fits the schema.
        schema: The value's schema.
        taken: The values to avoid.
        fits: Returns whether a value fits the schema.
    """
    candidates: list[Any] = list(schema.get("enum") or ())
    if isinstance(value, bool):
        candidates = [True, False]
    elif isinstance(value, (int, float)):
        step = schema.get("multipleOf") or 1
        candidates += [value + step * n for n in range(1, 200)] + [value - step * n for n in range(1, 200)]
        candidates += [value + step * n / 1_000 for n in range(1, 200)]
    elif isinstance(value, str):
        spend(len(value))
        candidates += [f"{value} {n}" for n in range(2, 100)] + [value[: -len(str(n))] + str(n) for n in range(100)]
        candidates += [chr(97 + n) * max(1, schema.get("minLength", 1)) for n in range(26)]
    elif isinstance(value, dict):
        others = [one for one in taken if isinstance(one, dict)]
        candidates = [
            {**value, name: varied(part, {}, [one.get(name) for one in others], lambda _: True)}
            for name, part in value.items()
        ]

    def is_new(each: Any) -> bool:
        spend(1 + len(taken) // _INVENTIONS_COMPARED)
        return each not in taken and fits(each)

    return next((each for each in candidates if is_new(each)), value)


_MISSING: Any = object()
_SHALLOW = 5  # below this depth the smallest alternative is chosen, so that recursive schemas end
_DEEPEST = 40
_COMPARED = 50  # items that are compared with another one in the time of one unit of effort
_NEGATIONS = r"(?:no|not|without|don't|do not|never|disable|exclude|skip)"
_OPERATORS = {
    "**": ("power", "exponent", "pow"),
    "+": ("add", "plus", "sum", "addition"),
    "*": ("multiply", "times", "product", "multiplication", "mul"),
    "/": ("divide", "division", "quotient", "div"),
    "-": ("subtract", "minus", "subtraction", "difference"),
}


def fill(schema: Mapping[str, Any], clues: Clues, *, generous: bool = False) -> Any:
    """A value that fits `schema`.

    Args:
        schema: A JSON schema, its `$ref` pointing into itself.
        clues: Where values are taken from; what was taken is gone from it.
        generous: Fill optional fields too, where the prompt still has something for them.

    Raises:
        OutOfEffortError: For a schema that asks for more than one answer may hold.
    """
    value = _Filler(schema, clues, generous=generous).required(schema, "", 0)
    if not fits(value, schema, schema):
        value = _Filler(schema, Clues(""), generous=False).required(schema, "", 0)
    return value


class _Filler:
    """Walks one schema, taking from one set of clues."""

    def __init__(self, root: Mapping[str, Any], clues: Clues, *, generous: bool) -> None:
        self.root = root
        self.clues = clues
        self.generous = generous

    def required(self, schema: Any, name: str, depth: int) -> Any:
        """A value, come what may."""
        spend(VALUE)
        resolved = self._chosen(resolve(schema, self.root), name, depth)
        if "const" in resolved:
            return resolved["const"]
        found = self.explicit(resolved, name, depth)
        if found is not _MISSING:
            return found
        kind = types_of(resolved)
        if kind == "object":
            return self.an_object(resolved, depth)
        if kind == "array":
            return self.an_array(resolved, name, depth)
        return self._left_over_or_invented(resolved, kind, name)

    def _left_over_or_invented(self, schema: Schema, kind: str, name: str) -> Any:
        """A scalar that the prompt does not name: the next value left, the default, or an invention."""
        found = self.left_over(schema, kind, name)
        if found is not _MISSING:
            return found
        given = [schema["default"]] if "default" in schema else []
        for value in (*given, *schema.get("examples", ()), *schema.get("enum", ()), *_options_in(schema)):
            if fits(value, schema, self.root):
                return value
        if kind in ("integer", "number"):
            return fitted_number(schema, kind)
        if kind == "string":
            return fitted_text(invented_text(name, schema, self.clues), schema, self.clues.text)
        return True if kind == "boolean" else None

    def left_over(self, schema: Schema, kind: str, name: str) -> Any:
        """The next value in the prompt that fits and that no field has taken; `_MISSING` if none does."""
        if "enum" in schema:
            return _MISSING
        if kind in ("integer", "number"):
            return self._first_fitting(self.clues.numbers, schema)
        if kind != "string" or is_answer_like(name):
            return _MISSING
        if is_free_text(name, schema):
            return _MISSING if "pattern" not in schema else self._first_fitting(self.clues.quoted, schema)
        for left in (self.clues.quoted, self.clues.names):
            found = self._first_fitting(left, schema)
            if found is not _MISSING:
                return found
        return _MISSING

    def _first_fitting(self, left: list[Any], schema: Schema) -> Any:
        """Take the first of `left` that fits."""
        for index, value in enumerate(left):
            if fits(value, schema, self.root):
                return left.pop(index)
        return _MISSING

    def explicit(self, schema: Schema, name: str, depth: int) -> Any:
        """Return the value that the prompt assigns to this field by name or by kind; `_MISSING` if none fits."""
        spend(searched=len(self.clues.text))
        for variant in variants(schema, self.root):
            found = self._explicit(variant, name, depth)
            if found is not _MISSING and fits(found, variant, self.root):
                return found
        return _MISSING

    def _explicit(self, schema: Schema, name: str, depth: int) -> Any:
        """The same for one alternative, unchecked."""
        options = schema.get("enum") or _options_in(schema)
        if options:
            return self._option(options)
        kind = types_of(schema)
        if kind in ("integer", "number") and name:
            found = self.clues.take_number(name)
            return _MISSING if found is None else found
        if kind == "string" and name:
            text = self.clues.take_text(name, schema.get("format"))
            return _MISSING if text is None else text
        if kind == "boolean" and name:
            return self._yes_or_no(name)
        if kind == "object" and 0 < depth <= _SHALLOW:
            given = self._given_properties(schema, depth)
            return self.an_object(schema, depth, given) if given else _MISSING
        return _MISSING

    def _option(self, options: list[Any]) -> Any:
        """The option that the text mentions first, as it is or as an arithmetic sign or a feeling."""
        text = self.clues.text.lower()
        places = {}
        for index, option in enumerate(options):
            words = re.escape(str(option).lower()).replace("_", "[ _-]").replace(r"\-", "[ _-]")
            found = re.search(rf"(?<!\w){words}(?:s|es)?(?!\w)", text) if str(option) else None
            if found is not None:
                places[found.start(), -len(str(option))] = index
        if places:
            return options[places[min(places)]]
        expression = self.clues.expression() or ""
        sign = next((sign for sign in _OPERATORS if sign in expression), "")
        meant = (sign, *_OPERATORS.get(sign, ()))
        return next((option for option in options if sign and str(option).lower() in meant), _MISSING)

    def _yes_or_no(self, name: str) -> Any:
        """False where the field's words are negated, True where they are there, `_MISSING` where they are not."""
        words = [stem(word) for word in name_words(name) if word not in ("is", "include", "use", "enable", "has")]
        text = self.clues.text.lower()
        if not words or not all(word in text for word in words):
            assigned = re.search(rf"\b{re.escape(name)}\s*[=:]\s*(true|false)", text)
            return _MISSING if assigned is None else assigned[1] == "true"
        return re.search(rf"\b{_NEGATIONS}\s+(?:\w+\s+){{0,2}}{re.escape(words[0])}", text) is None

    def _given_properties(self, schema: Schema, depth: int) -> dict[str, Any]:
        """The fields of an object of which the prompt speaks by name."""
        found = {}
        for name, part in schema.get("properties", {}).items():
            value = self.explicit(resolve(part, self.root), name, depth + 1)
            if value is not _MISSING:
                found[name] = value
        return found

    def an_object(self, schema: Schema, depth: int, given: dict[str, Any] | None = None) -> dict[str, Any]:
        """An object: what is given first, then the required fields, then perhaps the optional ones."""
        if depth > _DEEPEST:
            return {}
        properties: dict[str, Any] = schema.get("properties") or {}
        required: list[str] = schema.get("required") or []
        values = self._given_properties(schema, depth) if given is None else given
        for name in required:
            if name not in values:
                values[name] = self.required(properties.get(name, {}), name, depth + 1)
        for name, part in properties.items():
            if name not in values and depth < _SHALLOW and self._asked_for(name):
                values[name] = self.required(part, name, depth + 1)
            elif name not in values and (self.generous or not required):
                self._offer(values, name, part, depth)
        self._reach_least(values, schema, depth)
        ordered = [name for name in properties if name in values] + [name for name in values if name not in properties]
        return {name: values[name] for name in ordered}

    def _asked_for(self, name: str) -> bool:
        """Return whether the prompt requests an optional field by name ("with the punchline")."""
        wanted = re.search(rf"\b(?:with|include|including|and) (?:an? |the )?{re.escape(name)}\b", self.clues.text)
        return wanted is not None and is_answer_like(name)

    def _offer(self, values: dict[str, Any], name: str, schema: Any, depth: int) -> None:
        """Fill an optional field if the prompt has something left for it."""
        for variant in variants(resolve(schema, self.root), self.root):
            kind = types_of(variant)
            if kind == "array" and depth < _SHALLOW:
                items = self.an_array(variant, name, depth)
                found = items or _MISSING
            else:
                found = self.left_over(variant, kind, name)
            if found is not _MISSING and fits(found, variant, self.root):
                values[name] = found
                return

    def _reach_least(self, values: dict[str, Any], schema: Schema, depth: int) -> None:
        """Add fields until there are `minProperties`."""
        least = schema.get("minProperties", 0)
        properties = schema.get("properties") or {}
        for name in chain(properties, (f"key{number}" for number in range(1, least + 1))):
            if len(values) >= least:
                return
            if name not in values:
                part = properties.get(name, schema.get("additionalProperties", {}))
                values[name] = self.required(part, name, depth + 1)

    def an_array(self, schema: Schema, name: str, depth: int) -> list[Any]:
        """An array: of what the prompt offers for its items, made long enough and not too long."""
        first = schema.get("prefixItems") or []
        items: list[Any] = [self.required(part, name, depth + 1) for part in first]
        rest = resolve(schema.get("items", {}), self.root)
        least, most = schema.get("minItems", 0), schema.get("maxItems", 100)
        if depth <= _SHALLOW and schema.get("items") is not False:
            items += [value for value in self._offered(rest, name, depth) if fits(value, rest, self.root)]
        items = _distinct(items, most) if schema.get("uniqueItems") else items[:most]
        wanted = least or (1 if depth <= 1 and not first and most else 0)
        while len(items) < wanted:
            fresh = self.required(rest, name.rstrip("s"), depth + 1)
            spend(len(items) // _COMPARED)
            if schema.get("uniqueItems") and fresh in items:
                fresh = varied(fresh, rest, items, lambda value: fits(value, rest, self.root))
            items.append(fresh)
        return items

    def _offered(self, item: Schema, name: str, depth: int) -> list[Any]:
        """Return the values that the prompt offers for the items of an array."""
        item = self._chosen(item, name, depth)
        kind = types_of(item)
        if "enum" in item:
            text = self.clues.text.lower()
            return [option for option in item["enum"] if str(option).lower() in text]
        if kind in ("integer", "number"):
            taken, self.clues.numbers = self.clues.numbers, []
            return taken
        if kind == "object":
            return [
                _Filler(self.root, Clues(part), generous=True).an_object(item, depth + 1)
                for part in _segments(self.clues)
            ]
        if kind != "string":
            return []
        if is_free_text(name, item) or stem(name) in ("step", "task", "question", "query", "querie"):
            return sentences(self.clues.topic())
        left = self.clues.quoted or self.clues.names
        taken_texts = list(left)
        left.clear()
        return taken_texts

    def _chosen(self, schema: Schema, name: str, depth: int) -> Schema:
        """Return an alternative: the best match for the prompt, or the smallest if `depth` exceeds `_SHALLOW`."""
        for _ in range(_SHALLOW):
            options = variants(schema, self.root)
            if len(options) == 1:
                return options[0] if options[0] is schema else resolve(options[0], self.root)
            if depth > _SHALLOW:
                sizes = ("null", "boolean", "integer", "number", "string", "array", "object")
                schema = min(options, key=lambda option: sizes.index(types_of(option)))
                continue
            real = [option for option in options if option.get("type") != "null"] or options
            wanted = stems(self.clues.text[:2_000])
            schema = max(real, key=lambda option: len(_spoken_of(option) & wanted))
        return schema


def _distinct(items: list[Any], most: int) -> list[Any]:
    """The first of equal items, at most so many."""
    found: list[Any] = []
    for item in items:
        spend(len(found) // _COMPARED)
        if item not in found:
            found.append(item)
    return found[:most]


def _spoken_of(schema: Schema) -> frozenset[str]:
    """The stems by which a prompt would speak of an alternative."""
    words = [str(schema.get("title", "")), str(schema.get("description", "")), *schema.get("properties", {})]
    return stems(" ".join(words))


def _options_in(schema: Schema) -> list[str]:
    """Options that only the description of a text names: "Relevance score 'yes' or 'no'"."""
    if types_of(schema) != "string" or "pattern" in schema or "format" in schema:
        return []
    quoted = quotations(str(schema.get("description", "")))
    return quoted if len(quoted) >= 2 and all(len(option.split()) <= 2 for option in quoted) else []


def _segments(clues: Clues) -> list[str]:
    """The parts of a text that each begin with another name: "Alice is 30 and Bob is 25" has two."""
    places = []
    for name in clues.names:
        at = clues.text.find(name)
        before = clues.text[:at].rstrip(" \"'")
        if not before or before.endswith((".", "!", "?", ":", ",", ";", " and", "\n")):
            places.append(at)
    places.sort()
    return [clues.text[start:end].strip(" ,;") for start, end in pairwise((*places, len(clues.text)))]
