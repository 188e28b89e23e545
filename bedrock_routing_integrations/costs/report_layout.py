"""Format money, tokens and names, and lay out tables as text, Markdown and HTML.

Cells are text: nothing in them can act as markup or control a terminal.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence


UNKNOWN = "–"  # noqa: RUF001 - a dash that no minus sign is taken for
_LONGEST = 72
_DATE_AND_VERSION = re.compile(r"(?:-\d{8})?(?:-v1)?(?::\d+)?$")
# Ids that are readable without their resource type. The ids of all other resources are opaque.
_SPEAKING = ("foundation-model", "inference-profile")


def money(usd: float | None) -> str:
    """Return US dollars with significant digits, such as $1,234, $12.34 or $0.000405. $0 means exactly nothing."""
    if usd is None:
        return UNKNOWN
    size, sign = abs(usd), "-" if usd < 0 else ""
    exponent = int(f"{size:.2e}".partition("e")[2])
    if size == 0:
        return "$0"
    if exponent >= 0:
        return f"{sign}${size:,.0f}" if exponent >= 3 else f"{sign}${size:.2f}"
    return f"{sign}${size:.{2 - exponent}f}" if exponent >= -7 else f"{sign}${size:.2g}"


def percent(share: float | None) -> str:
    """Return a share such as 62%; an empty string for None. 0% and 100% mean exactly none and all."""
    if share is None:
        return ""
    if 0 < share < 0.01:
        return "<1%"
    if 0.99 < share < 1:
        return ">99%"
    return f"{share:.0%}"


def tokens(number: int) -> str:
    """Return a number of tokens, such as 12,345; from a million on with three digits, such as 1.23M."""
    millions = number / 1_000_000
    return (
        f"{number:,}" if millions < 1 else f"{millions:,.{2 if millions < 9.995 else 1 if millions < 99.95 else 0}f}M"
    )


def counted(number: int, what: str) -> str:
    """Return a number with its noun, such as 1 call or 2,000 calls.

    Args:
        number: The number.
        what: The noun in the singular.
    """
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def clean(text: str) -> str:
    r"""Return `text` on one line and in one direction: control characters are written as \\x1b."""
    return "".join(_visible(letter) for letter in str(text)).strip() or "(empty)"


def _visible(letter: str) -> str:
    if letter == " " or unicodedata.category(letter)[0] not in "CZ":
        return letter
    return " " if unicodedata.category(letter) == "Zs" else letter.encode("unicode_escape").decode()


def width_of(text: str) -> int:
    """Return the columns of a terminal that a text takes: two for a wide letter, none for a combining accent."""
    return sum(
        0 if unicodedata.category(letter) in ("Mn", "Me") else 1 + (unicodedata.east_asian_width(letter) in ("W", "F"))
        for letter in text
    )


def distinct(names: Iterable[str], forms: Callable[[str], Sequence[str]]) -> dict[str, str]:
    """Return the shortest form of each name that no other name has; equal longest forms get a number.

    Args:
        names: The names.
        forms: Return the forms of a name, from short to long.
    """
    kept = list(dict.fromkeys(names))
    possible = {name: [_shortened(clean(form)) for form in forms(name)] for name in kept}
    level = dict.fromkeys(kept, 0)
    while True:
        owners: dict[str, list[str]] = {}
        for name in kept:
            owners.setdefault(possible[name][level[name]], []).append(name)
        clashing = [name for same in owners.values() if len(same) > 1 for name in same]
        longer = [name for name in clashing if level[name] + 1 < len(possible[name])]
        if not longer:
            break
        for name in longer:
            level[name] += 1
    given: dict[str, str] = {}
    taken = set(owners)
    for text, same in owners.items():
        given[same[0]] = text
        for number, name in enumerate(same[1:], start=2):
            given[name] = next(
                other for more in range(number, number + len(kept) + 1) if (other := f"{text} #{more}") not in taken
            )
            taken.add(given[name])
    return given


def _shortened(text: str) -> str:
    """Return a very long text without its middle: both ends are more distinctive."""
    if len(text) <= _LONGEST and width_of(text) <= _LONGEST:
        return text
    half = _LONGEST // 2 - 2
    while width_of(text[:half]) + width_of(text[-half:]) + 3 > _LONGEST:
        half -= 1
    return f"{text[:half]}...{text[-half:]}"


def model_forms(model: str) -> list[str]:
    """Return the forms of a base model's id: without provider, date and first version, then whole."""
    name = model.partition(".")[2]
    # deepseek.v3-v1:0: after the provider comes a version, not a name.
    short = _DATE_AND_VERSION.sub("", model if not name or re.match(r"v\d", name) else name)
    return [short or model, model]


def value_forms(value: str) -> list[str]:
    """Return the forms of a target or label value; for an ARN the resource, with Region, with account, whole."""
    parts = value.strip().split(":", 5)
    if len(parts) < 6 or parts[0] != "arn":
        return [value]
    _, _, _, region, account, resource = parts
    kind, _, name = resource.partition("/")
    short = name if kind in _SPEAKING and name else resource
    with_region = f"{short} ({region})" if region else short
    return [short, with_region, f"{short} ({', '.join(part for part in (region, account) if part)})", value]


_GAP = 2
# The column of names gets at least this much of a line; numbers that do not fit move to a second table.
_NAMES = 30
# Markdown's special characters, and the dollar signs, which notebooks and GitHub would read as mathematics.
_MARKDOWN = re.compile(r"([\\`*_\[\]<>|$~&#])")


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        head: Its heading, of at most two lines.
        words: Whether its cells are words, not numbers.
        part: If a table is split because it is too wide, columns with the same part stay together.
    """

    head: str
    words: bool = False
    part: int = 0


@dataclass(frozen=True)
class Row:
    """A row: its name, the indentation of the name (0 or 1), one cell for each column, and the full name."""

    name: str
    cells: Sequence[str] = ()
    indent: int = 0
    whole_name: str = ""


@dataclass(frozen=True)
class Table:
    """A table: the heading of the names, the columns and the rows."""

    head: str
    columns: Sequence[Column]
    rows: Sequence[Row]


def text_table(table: Table, width: int) -> list[str]:
    """Return a table as aligned lines. Columns that do not fit follow in a second table with the same names.

    Args:
        table: The table.
        width: The width of a line, in characters.
    """
    lines: list[str] = []
    for chosen in _blocks(table, width):
        lines += [*([""] if lines else []), *_text_block(table, chosen, width)]
    return lines


def _width_of_column(table: Table, number: int) -> int:
    cells = [*table.columns[number].head.split("\n"), *(row.cells[number] for row in table.rows)]
    return max(map(width_of, cells))


def _blocks(table: Table, width: int) -> Iterator[list[int]]:
    """Yield the numbers of the columns that fit side by side, at least one at a time."""
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
    """Return a text filled with spaces: words on the right, numbers on the left.

    Args:
        text: The text.
        width: The width to fill, in columns of a terminal.
        words: Whether the text is words, not a number.
    """
    space = " " * (width - width_of(text))
    return text + space if words else space + text


def in_markdown(text: str) -> str:
    """Return text escaped for Markdown."""
    return _MARKDOWN.sub(r"\\\1", text)


def markdown_table(table: Table) -> list[str]:
    """Return the lines of a table in GitHub-flavoured Markdown."""
    heads = [table.head, *(column.head.replace("\n", " ") for column in table.columns)]
    rules = ["---", *("---" if column.words else "---:" for column in table.columns)]
    # Markdown ignores leading spaces, so the row above indented rows is bold.
    bold = "**" if any(row.indent for row in table.rows) else ""
    names = [in_markdown(row.name) if row.indent else f"{bold}{in_markdown(row.name)}{bold}" for row in table.rows]
    rows = [[name, *map(in_markdown, row.cells)] for name, row in zip(names, table.rows, strict=True)]
    return [f"| {' | '.join(cells)} |" for cells in [[in_markdown(head) for head in heads], rules, *rows]]


def in_html(text: str) -> str:
    """Return text escaped for HTML."""
    return escape(text)


def html_table(table: Table) -> str:
    """Return a ``<table>``; the title of each name is the full name."""
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
