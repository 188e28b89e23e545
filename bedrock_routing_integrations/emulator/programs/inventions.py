"""Values for the fields of a schema of which the prompt says nothing: plausible, deterministic, within the bounds."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

from .clues import Clues, name_words
from .effort import spend
from .json_schema import Schema, number_bounds
from .patterns import matching_text

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["fitted_number", "fitted_text", "invented_text", "is_answer_like", "is_free_text", "varied"]

_COMPARED = 50  # values that are compared with another one in the time of one unit of effort
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
_FORMATS = {
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
    """Whether a text field wants a stretch of the prompt rather than a name or a quotation from it."""
    return "format" not in schema and not _FREE.isdisjoint(name_words(name)[-1:])


def is_answer_like(name: str) -> bool:
    """Whether a text field wants the model's own words."""
    return not _ANSWER.isdisjoint(name_words(name)[-1:])


def invented_text(name: str, schema: Schema, clues: Clues) -> str:
    """A text for a field, by its name and its description."""
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
    """`text` made to fit: its format, its pattern, its length."""
    if schema.get("format") in _FORMATS:
        text = _FORMATS[schema["format"]]
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
    """Whether a pattern that Python may not be able to read finds something."""
    try:
        return re.search(pattern, text) is not None
    except re.error:
        return True


def fitted_number(schema: Schema, kind: str) -> int | float:
    """The number within the bounds that is nearest to 1, by eye; 1 where Decimal's context is too small for them."""
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
    """Another value like `value`, not among `taken`; `value` itself where none is found."""
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
        spend(1 + len(taken) // _COMPARED)
        return each not in taken and fits(each)

    return next((each for each in candidates if is_new(each)), value)
