"""Choosing from a numbered list in a prompt."""

from __future__ import annotations

import re

from .words import quotations, stems

__all__ = ["chosen", "is_choice"]

_ITEM = re.compile(r"^[ \t]*\(?(\d{1,3})[.)]\s+(\S.*)$", re.MULTILINE)
_CHOICE = frozenset(("choice", "index", "option", "selection"))


def is_choice(words: list[str]) -> bool:
    """Whether a field of that name wants the number of an item."""
    return not _CHOICE.isdisjoint(words[-1:])


def chosen(text: str) -> int | None:
    """The number of the item that shares most words with the question after the list, the first of equals.

    None where the text has no list of at least two items, numbered from 1.
    """
    items = list(_ITEM.finditer(text))
    if len(items) < 2 or [int(item[1]) for item in items] != list(range(1, len(items) + 1)):
        return None
    rest = text[items[-1].end() :]
    question = stems((quotations(rest) or [rest])[0])
    best = max(items, key=lambda item: len(stems(item[2]) & question))
    return int(best[1])
