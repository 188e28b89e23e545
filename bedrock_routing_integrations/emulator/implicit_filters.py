"""Implicit filters: what a query says about metadata attributes, as a model would read it out of the text.

The program that plays the model looks for the values that an attribute has: where one occurs in the query,
only chunks with that value are kept.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .collection import Chunk

__all__ = ["implied"]


def implied(
    found: Sequence[tuple[Chunk, float]], query: str, attributes: Sequence[Mapping[str, Any]]
) -> list[tuple[Chunk, float]]:
    """The chunks that fulfil what a query says about the attributes; all of them where it says nothing."""
    kept = list(found)
    for attribute in attributes:
        if attribute["type"] == "BOOLEAN":  # no text says "true"
            continue
        key = attribute["key"]
        named = [hit for hit in kept if any(_occurs(value, query) for value in _values(hit[0].metadata.get(key)))]
        kept = named or kept
    return kept


def _values(value: Any) -> Sequence[Any]:
    if isinstance(value, (list, tuple)):
        return value
    return () if value is None or isinstance(value, bool) else (value,)


def _occurs(value: Any, query: str) -> bool:
    """Whether a value stands in a query as a word or words of its own."""
    text = f"{value:.15g}" if isinstance(value, float) else str(value)
    return bool(text) and re.search(rf"(?<!\w){re.escape(text)}(?!\w)", query, re.IGNORECASE) is not None
