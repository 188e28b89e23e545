"""How things are shown: short names, and columns of plain text."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["aligned", "counted", "short_model", "yes"]

_DATE_AND_VERSION = re.compile(r"(?:-\d{8})?(?:-v1)?(?::\d+)?$")


def aligned(rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of cells in columns, two spaces apart; nothing is cut. A column that is empty in all rows is left out."""
    kept = [list(row) for row in rows]
    widths = [max(len(cell) for cell in column) for column in zip(*kept, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True) if width).rstrip() for row in kept
    ]


def short_model(base_model: str) -> str:
    """A model's id without provider, date and first version: claude-3-5-sonnet, claude-3-5-sonnet-20241022-v2."""
    return _DATE_AND_VERSION.sub("", base_model.partition(".")[2] or base_model)


def yes(flag: bool | None) -> str:
    """A flag in words."""
    return "not known" if flag is None else "yes" if flag else "no"


def counted(number: int, what: str) -> str:
    """A number of things: 1 passage, 2,000 passages."""
    return f"{number:,} {what}" + ("" if number == 1 else "s")
