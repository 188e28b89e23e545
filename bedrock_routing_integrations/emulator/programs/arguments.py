"""Values that fit a JSON schema, taken from a prompt where it offers any and made up where it does not.

The order for each field: what the prompt says of it by name ("age is 30", "unit=celsius", an enum's word,
an e-mail address for `email`), then what is left in the prompt in order (quotations, names, numbers), then
the schema's default, then something invented. Whatever comes out fits the schema wherever a value that fits
can be found.
"""

from __future__ import annotations

import re
from itertools import chain, pairwise
from typing import TYPE_CHECKING, Any

from .clues import Clues, name_words
from .effort import VALUE, spend
from .inventions import fitted_number, fitted_text, invented_text, is_answer_like, is_free_text, varied
from .json_schema import Schema, fits, resolve, types_of, variants
from .words import quotations, sentences, stem, stems

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["fill"]

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
        """What the prompt says of this field by name or by kind; `_MISSING` if nothing that fits."""
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
        """Whether the prompt says to include an optional field that has words of its own ("with the punchline")."""
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
        """What the prompt has for the items of an array."""
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
        """One alternative: where there is room the one that the prompt speaks of most, else the smallest."""
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
