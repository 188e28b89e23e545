"""A table drawn as text, as markdown and as HTML. What stands in a cell is text, whatever it looks like."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence


# --- How a report writes money ---

UNKNOWN = "–"  # noqa: RUF001 - a dash that no minus sign is taken for
_LONGEST = 72
_DATE_AND_VERSION = re.compile(r"(?:-\d{8})?(?:-v1)?(?::\d+)?$")
# An id that says by itself what it is; the ids of all other resources are opaque without their type.
_SPEAKING = ("foundation-model", "inference-profile")


def money(usd: float | None) -> str:
    """US dollars with the digits that mean something: $1,234, $12.34, $0.000405; $0 for nothing at all only."""
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
    """A share: 62%; all and nothing are said only where it is all or nothing. Empty where there is none."""
    if share is None:
        return ""
    if 0 < share < 0.01:
        return "<1%"
    if 0.99 < share < 1:
        return ">99%"
    return f"{share:.0%}"


def tokens(number: int) -> str:
    """A number of tokens: 12,345; from a million on three digits of the millions, 1.23M."""
    millions = number / 1_000_000
    return (
        f"{number:,}" if millions < 1 else f"{millions:,.{2 if millions < 9.995 else 1 if millions < 99.95 else 0}f}M"
    )


def counted(number: int, what: str) -> str:
    """A number of things: 1 call, 2,000 calls."""
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def clean(text: str) -> str:
    r"""`text` on one line and in one direction: what controls a terminal or the order of letters is written \x1b."""
    return "".join(_visible(letter) for letter in str(text)).strip() or "(empty)"


def _visible(letter: str) -> str:
    if letter == " " or unicodedata.category(letter)[0] not in "CZ":
        return letter
    return " " if unicodedata.category(letter) == "Zs" else letter.encode("unicode_escape").decode()


def width_of(text: str) -> int:
    """How many columns of a terminal the text takes: two for a wide letter, none for an accent of its own."""
    return sum(
        0 if unicodedata.category(letter) in ("Mn", "Me") else 1 + (unicodedata.east_asian_width(letter) in ("W", "F"))
        for letter in text
    )


def distinct(names: Iterable[str], forms: Callable[[str], Sequence[str]]) -> dict[str, str]:
    """Give each name the shortest of its `forms` that no other name has; a number where even the longest are equal."""
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
    """The text without its middle where it is very long; both of its ends tell more."""
    if len(text) <= _LONGEST and width_of(text) <= _LONGEST:
        return text
    half = _LONGEST // 2 - 2
    while width_of(text[:half]) + width_of(text[-half:]) + 3 > _LONGEST:
        half -= 1
    return f"{text[:half]}...{text[-half:]}"


def model_forms(model: str) -> list[str]:
    """A base model's id without provider, date and first version (claude-3-5-sonnet), then whole."""
    name = model.partition(".")[2]
    # deepseek.v3-v1:0: what follows the provider is a version and no name.
    short = _DATE_AND_VERSION.sub("", model if not name or re.match(r"v\d", name) else name)
    return [short or model, model]


def value_forms(value: str) -> list[str]:
    """A target or a label's value; of an ARN the resource, then with its Region, its account, and whole."""
    parts = value.strip().split(":", 5)
    if len(parts) < 6 or parts[0] != "arn":
        return [value]
    _, _, _, region, account, resource = parts
    kind, _, name = resource.partition("/")
    short = name if kind in _SPEAKING and name else resource
    with_region = f"{short} ({region})" if region else short
    return [short, with_region, f"{short} ({', '.join(part for part in (region, account) if part)})", value]


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
