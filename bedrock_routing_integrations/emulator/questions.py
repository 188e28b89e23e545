"""Query decomposition: the questions that a question consists of, as a model would take it apart."""

from __future__ import annotations

import re

__all__ = ["parts_of"]

_ASKS = (
    r"(?:who|whom|whose|what|which|when|where|why|how|is|are|was|were|do|does|did|has|have|had|can|could|will|would)\b"
)
_BETWEEN = re.compile(rf"(?:[?;]\s*|,?\s+)(?:and\s+(?:also\s+)?)(?={_ASKS})|[?;]\s*(?={_ASKS})", re.IGNORECASE)


def parts_of(question: str) -> list[str]:
    """The questions in a text: cut at "?", ";" and "and" where a question goes on behind it; else the text as it is."""
    pieces = [piece.strip(" ?;") for piece in _BETWEEN.split(question)]
    found = [f"{piece}?" for piece in pieces if piece]
    return found if len(found) > 1 else [question]
