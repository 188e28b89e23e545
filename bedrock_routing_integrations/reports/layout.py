"""A table drawn as text, as markdown and as HTML. What stands in a cell is text, whatever it looks like."""

from __future__ import annotations

import re
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from .wording import width_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["Column", "Row", "Table", "html_table", "in_html", "in_markdown", "markdown_table", "padded", "text_table"]

_GAP = 2
# A name's column gets at least so much of a line, before numbers do that can stand in a second table.
_NAMES = 30
# Markdown's own signs, and the dollars that notebooks and GitHub would read mathematics between.
_MARKDOWN = re.compile(r"([\\`*_\[\]<>|$~&#])")


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        head: Its heading, of at most two lines.
        words: Whether its cells are words, not numbers.
        part: Where not all columns find room in a line, those of one part stay together.
    """

    head: str
    words: bool = False
    part: int = 0


@dataclass(frozen=True)
class Row:
    """A row: its name, how far that is indented (0, 1), one cell for each column, and the name unshortened."""

    name: str
    cells: Sequence[str] = ()
    indent: int = 0
    whole_name: str = ""


@dataclass(frozen=True)
class Table:
    """A table: the heading of its names, its columns and its rows."""

    head: str
    columns: Sequence[Column]
    rows: Sequence[Row]


def text_table(table: Table, width: int) -> list[str]:
    """Lines of aligned columns. Columns that find no room in `width` follow in a second table, names once more."""
    lines: list[str] = []
    for chosen in _blocks(table, width):
        lines += [*([""] if lines else []), *_text_block(table, chosen, width)]
    return lines


def _width_of_column(table: Table, number: int) -> int:
    cells = [*table.columns[number].head.split("\n"), *(row.cells[number] for row in table.rows)]
    return max(map(width_of, cells))


def _blocks(table: Table, width: int) -> Iterator[list[int]]:
    """The numbers of the columns that stand side by side, at least one at a time."""
    names = min(_NAMES, max(width_of(row.name) + 2 * row.indent for row in table.rows))
    needed = [_width_of_column(table, number) + _GAP for number in range(len(table.columns))]
    whole = names + sum(needed) <= width
    block: list[int] = []
    for number, column in enumerate(table.columns):
        full = names + sum(needed[other] for other in [*block, number]) > width and not column.words
        if block and (full or (not whole and column.part != table.columns[block[-1]].part)):
            yield block
            block = []
        block.append(number)
    yield block


def _text_block(table: Table, chosen: Sequence[int], width: int) -> Iterator[str]:
    widths = [_width_of_column(table, number) for number in chosen]
    room = width - sum(widths) - _GAP * len(widths)
    names = [f"{'  ' * row.indent}{row.name}" for row in table.rows]
    fitting = [width_of(name) for name in names if width_of(name) <= room]
    column = max([width_of(table.head), *fitting])
    heads = [f"\n{table.columns[number].head}".split("\n")[-2:] for number in chosen]

    def line(name: str, cells: Sequence[str]) -> str:
        parts = [padded(name, column, words=True)]
        parts += [
            padded(cell, size, words=table.columns[number].words)
            for cell, size, number in zip(cells, widths, chosen, strict=True)
        ]
        return (" " * _GAP).join(parts).rstrip()

    if any(first for first, _ in heads):
        yield line("", [first for first, _ in heads])
    yield line(table.head, [second for _, second in heads])
    yield "-" * (column + sum(widths) + _GAP * len(widths))
    for row, name in zip(table.rows, names, strict=True):
        if width_of(name) > column:
            yield name
            name = ""  # noqa: PLW2901 - it has had its line
        yield line(name, [row.cells[number] for number in chosen])


def padded(text: str, width: int, *, words: bool) -> str:
    """`text` filled up to `width` columns: words on their right, numbers on their left."""
    space = " " * (width - width_of(text))
    return text + space if words else space + text


def in_markdown(text: str) -> str:
    """Text that markdown shows as it is."""
    return _MARKDOWN.sub(r"\\\1", text)


def markdown_table(table: Table) -> list[str]:
    """Lines of a GitHub-flavoured markdown table."""
    heads = [table.head, *(column.head.replace("\n", " ") for column in table.columns)]
    rules = ["---", *("---" if column.words else "---:" for column in table.columns)]
    # Spaces in front of a name mean nothing there: what stands above the indented is bold.
    bold = "**" if any(row.indent for row in table.rows) else ""
    names = [in_markdown(row.name) if row.indent else f"{bold}{in_markdown(row.name)}{bold}" for row in table.rows]
    rows = [[name, *map(in_markdown, row.cells)] for name, row in zip(names, table.rows, strict=True)]
    return [f"| {' | '.join(cells)} |" for cells in [[in_markdown(head) for head in heads], rules, *rows]]


def in_html(text: str) -> str:
    """Text that HTML shows as it is."""
    return escape(text)


def html_table(table: Table) -> str:
    """A ``<table>``; the names' titles are the names unshortened."""
    left, right = 'style="text-align: left"', 'style="text-align: right"'
    heads = "".join(
        f"<th {left if column.words else right}>{in_html(column.head).replace(chr(10), '<br>')}</th>"
        for column in table.columns
    )
    lines = ["<table>", f"<thead><tr><th {left}>{in_html(table.head)}</th>{heads}</tr></thead>", "<tbody>"]
    for row in table.rows:
        style = f"text-align: left; font-weight: normal; padding-left: {0.5 + 1.5 * row.indent}em"
        title = f' title="{in_html(row.whole_name)}"' if row.whole_name else ""
        cells = "".join(
            f"<td {left if column.words else right}>{in_html(cell)}</td>"
            for column, cell in zip(table.columns, row.cells, strict=True)
        )
        lines.append(f'<tr><th style="{style}"{title}>{in_html(row.name)}</th>{cells}</tr>')
    return "\n".join([*lines, "</tbody>", "</table>"])
