"""Answers in the shape of an example that the prompt shows."""

from __future__ import annotations

import json
import re
from itertools import islice
from typing import TYPE_CHECKING, Any

from .arguments import fill
from .clues import Clues
from .sources import labelled_question

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["like_example"]

_OPENING = re.compile(r"^[ \t]*(?=[\[{])", re.MULTILINE)
_SHOWN = re.compile(r"\b(?:example|output|format|response|answer)\b", re.IGNORECASE)
_BARE_KEY = re.compile(r"^([ \t]*)(\w+)(?=\s*:)", re.MULTILINE)
_DOUBLED = re.compile(r"(\{)\{(?=\s*$)|^(\s*\})\}", re.MULTILINE)  # braces that a template escaped
_AND_SO_ON = re.compile(r",\s*\.\.\.\s*(?=[\]}])")
_CLAUSE = re.compile(r",?\s+and\s+|;\s+|(?<=[?.!])\s+", re.IGNORECASE)
_MOST_READ = 20_000  # characters
_MOST_TRIED = 200  # lines that could begin a JSON value


def like_example(text: str, answer: Callable[[], str]) -> Any:
    """A value shaped like the last JSON example in `text`, filled from the rest of it; None where there is none.

    Where a text of the example is a key of the JSON that the example was made from, a key of the last JSON of the
    prompt takes its place; a list of such objects has one for each clause of the question.
    """
    written = list(_written(text[-_MOST_READ:]))
    shown = [index for index, (label, _) in enumerate(written) if _SHOWN.search(label)]
    if not shown:
        return None
    example = written[shown[-1]][1]
    given = written[shown[-1] - 1][1] if shown[-1] else None
    last = written[-1][1]
    keys = (frozenset(given), list(last)) if isinstance(given, dict) and isinstance(last, dict) else (frozenset(), [])
    labelled = labelled_question(text)
    return _filled(_schema(example, *keys), labelled[0] if labelled else text, answer)


def _written(text: str) -> Iterator[tuple[str, Any]]:
    """The JSON values that begin a line of `text`, each with the line before it; bare keys and "..." are let pass."""
    single = _DOUBLED.sub(r"\1\2", text) if "{{" in text else text
    plain = _AND_SO_ON.sub("", _BARE_KEY.sub(r'\1"\2"', single))
    end = 0
    for match in islice(_OPENING.finditer(plain), _MOST_TRIED):
        if match.end() < end:
            continue
        try:
            value, end = json.JSONDecoder().raw_decode(plain, match.end())
        except (ValueError, RecursionError):  # brackets that open thousands of others
            continue
        before = [line for line in plain[: match.end()].splitlines() if line.strip(" \t`[{") not in ("", "json")]
        yield (before[-1] if before else ""), value


def _schema(example: Any, given: frozenset[str], keys: list[str]) -> dict[str, Any]:
    """The schema of an example; its texts that are `given` can be any of `keys`."""
    if isinstance(example, dict):
        parts = {name: _schema(value, given, keys) for name, value in example.items()}
        return {"type": "object", "properties": parts, "required": list(parts)}
    if isinstance(example, list):
        return {"type": "array", "items": _schema(example[0], given, keys) if example else {}}
    if isinstance(example, str):
        return {"enum": keys} if example in given and keys else {"type": "string"}
    kinds = {bool: "boolean", int: "integer", float: "number"}
    return {"type": kinds.get(type(example), "null")}


def _filled(schema: dict[str, Any], question: str, answer: Callable[[], str]) -> Any:
    properties = schema.get("properties", {})
    if len(properties) == 1:
        name, part = next(iter(properties.items()))
        if part.get("type") == "array":
            return {name: _filled(part, question, answer)}
    if schema.get("type") != "array":
        return fill(schema, Clues(question, answer=answer), generous=True)
    items = schema["items"]
    parts = _clauses(question) if any("enum" in part for part in items.get("properties", {}).values()) else [question]
    return [fill(items, Clues(part, answer=answer)) for part in parts]


def _clauses(question: str) -> list[str]:
    """The clauses of a question, each a question."""
    clauses = [clause.strip() for clause in _CLAUSE.split(question) if clause.strip()]
    asks = question.rstrip().endswith("?")
    return [clause if clause.endswith("?") or not asks else f"{clause}?" for clause in clauses]
