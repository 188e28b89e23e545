"""Print tables and short names: as tables in a terminal, as aligned plain text in a pipe."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer
from rich import box
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console

_DATE_AND_VERSION = re.compile(r"(?:-\d{8})?(?:-v1)?(?::\d+)?$")
# In fewer columns the cells of a table become towers of letters. Plain lines, which the terminal wraps, stay readable.
NARROWEST_TABLE = 60
PIPE_WIDTH = 100
"""The width of a screen in a pipe, in characters."""


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        name: Its heading.
        right: Whether its cells are numbers, aligned to the right.
        style: The rich style of its cells in a terminal.
        stretch: Whether it takes the width that the other columns leave.
    """

    name: str
    right: bool = False
    style: str = ""
    stretch: bool = False


def print_table(console: Console, title: str, columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> None:
    """Print a table after an empty line: drawn in a terminal, aligned plain text elsewhere.

    Args:
        console: Where to print.
        title: The line above the table.
        columns: Its columns. A column that is empty in all rows is left out.
        rows: The cells of each row.
    """
    cells = [list(row) for row in rows]
    used = [number for number in range(len(columns)) if any(row[number] for row in cells)]
    columns, cells = [columns[number] for number in used], [[row[number] for number in used] for row in cells]
    if not console.is_terminal or console.width < NARROWEST_TABLE:
        for line in ("", title, *aligned([[column.name for column in columns], *cells])):
            typer.echo(line)
        return
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 2, 0, 0), pad_edge=False, show_edge=False)
    for column in columns:
        table.add_column(
            column.name,
            justify="right" if column.right else "left",
            style=column.style,
            no_wrap=column.right,
            overflow="fold",
            ratio=1 if column.stretch else None,
        )
    for row in cells:
        table.add_row(*map(Text, row))
    console.print()
    console.print(Text(title, "bold"))
    console.print(table)


def print_line(console: Console, line: str = "") -> None:
    """Print a line: wrapped between words in a terminal, unchanged in a pipe.

    Args:
        console: Where to print.
        line: The text.
    """
    if console.is_terminal:
        console.print(Text(line))
    else:
        typer.echo(line)


def print_paragraph(console: Console, text: str, *, indent: int = 0) -> None:
    """Print a text wrapped to the terminal, or to 100 columns in a pipe.

    Args:
        console: Where to print.
        text: The text.
        indent: The spaces in front of all lines but the first.
    """
    width = console.width if console.is_terminal else PIPE_WIDTH
    for line in textwrap.wrap(text, width, subsequent_indent=" " * indent, break_on_hyphens=False):
        print_line(console, line)


def aligned(rows: Iterable[Sequence[str]]) -> list[str]:
    """Return lines of cells in columns, two spaces apart. Nothing is cut; columns without content are left out."""
    cells = [list(row) for row in rows]
    widths = [max(len(cell) for cell in column) for column in zip(*cells, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True) if width).rstrip() for row in cells
    ]


def first_words(text: str, width: int) -> str:
    """Return the beginning of a text on one line, cut between words with an ellipsis.

    Args:
        text: The text; white space is collapsed.
        width: The greatest number of characters to return.
    """
    line = " ".join(text.split())
    if len(line) <= width:
        return line
    words = line[: width - 1].rpartition(" ")[0] or line[: width - 1]
    return words.rstrip(" ,;:.") + "…"


def short_model(base_model: str) -> str:
    """Return a model's id without provider, date and first version, such as claude-3-5-sonnet-20241022-v2."""
    return _DATE_AND_VERSION.sub("", base_model.partition(".")[2] or base_model)


def yes(flag: bool | None) -> str:
    """Return a flag in words."""
    return "not known" if flag is None else "yes" if flag else "no"


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, such as 1 passage or 2,000 passages.

    Args:
        number: The number.
        noun: The noun in the singular.
    """
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
