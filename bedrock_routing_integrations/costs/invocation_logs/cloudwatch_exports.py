"""Read the exports of CloudWatch: CSV files, and rows of CloudWatch Logs Insights.

Python's csv module refuses cells of more than 128 KiB unless the limit is raised for the whole process, and a logged
message is often longer. So cells are split here: RFC 4180, with commas, semicolons (some spreadsheets) or tabs.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from .json_records import Malformed, OtherRecords, parsed
from .unrecognized import NEEDED_FIELDS, STATISTICS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_MESSAGES = frozenset({"@message", "message"})
# Any of these names makes a first line a header. A line with commas alone may be anything, even followed by JSON.
_KNOWN = frozenset({"modelId", "operation", "requestId", "schemaType", "timestamp"})
_STATISTIC = re.compile(r"(?:avg|bin|count|count_distinct|earliest|latest|max|min|pct|stddev|sum)\(.*\)$")
_LONGEST_HEADER = 10_000
_SHOWN = 4
_OTHER_TABLES = (
    ("lineItem/", "rows of a Cost and Usage Report"),
    ("line_item_", "rows of a Cost and Usage Report"),
    ("srcaddr", "VPC flow logs"),
    ("requesturi_operation", "S3 access logs"),
)


class Header:
    """The first line of a table.

    Attributes:
        names: The names of the columns.
        delimiter: The character that separates cells.
        is_of_events: Whether a column is known from CloudWatch Logs or from a record of an invocation.
        is_known_other: Whether the rows are known to be something else, such as a Cost and Usage Report.
        other: The name of the rows if they are not of invocations; else None.
    """

    def __init__(self, names: Sequence[str], delimiter: str) -> None:
        self.names = names
        self.delimiter = delimiter
        self.is_of_events = any(name[:1] == "@" or name in _MESSAGES or name in _KNOWN for name in names)
        self.is_known_other = _known_other(names) is not None or any(map(_STATISTIC.match, names))
        self.other = _other(names)


def header_of(line: bytes) -> Header | None:
    """Return a line as the header of a table; None if it is not one."""
    if line[:1] in (b"{", b"[") or len(line) > _LONGEST_HEADER:
        return None
    text = line.decode(errors="replace")
    for delimiter in (",", ";", "\t"):
        header = Header([name.strip().strip("`") for name in cells_of(text, delimiter)], delimiter)
        if all(header.names) and len(header.names) > 1 and (header.is_of_events or header.is_known_other):
            return header
        if len(header.names) == 1 and header.names[0] == "@message":
            return header
    return None


def _known_other(names: Sequence[str]) -> OtherRecords | None:
    kinds = (kind for sign, kind in _OTHER_TABLES if any(name.startswith(sign) for name in names))
    return next((OtherRecords(kind) for kind in kinds), None)


def _other(names: Sequence[str]) -> OtherRecords | None:
    if _MESSAGES.intersection(names) or "modelId" in names or "errorCode" in names:
        return None
    if any(map(_STATISTIC.match, names)):
        return STATISTICS
    shown = ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
    other = OtherRecords(f"rows of a table with the columns {shown:.200}", f"these columns are needed: {NEEDED_FIELDS}")
    return _known_other(names) or other


class Table:
    """The rows below a header.

    Args:
        header: The header.
        longest: The greatest number of bytes of a row; a longer row is skipped.
    """

    def __init__(self, header: Header, longest: int) -> None:
        self._header = header
        self._longest = longest

    def rows(self, lines: Iterator[tuple[int, bytes | Malformed]]) -> Iterator[tuple[int, Any]]:
        """Yield the first line number of each row, and its cells by column name, without empty cells."""
        parts: list[bytes] = []
        began = size = quotes = 0
        for number, line in lines:
            if isinstance(line, Malformed):
                yield number, line
                parts, size, quotes = [], 0, 0
                continue
            if not parts and not line.strip():
                continue
            if not parts and line.lstrip()[:1] == b"{":  # JSON lines that were put behind a table
                yield number, parsed(line.strip())
                continue
            began = began if parts else number
            parts.append(line)
            size, quotes = size + len(line), quotes + line.count(b'"')
            if quotes % 2 and size <= self._longest:
                continue  # within a quoted cell
            if quotes % 2:
                yield began, Malformed(f"the row has more than {self._longest:,} bytes")
            else:
                yield from ((began, row) for row in self._row(b"".join(parts)))
            parts, size, quotes = [], 0, 0
        if parts:
            yield began, Malformed("a quoted cell does not end")

    def _row(self, text: bytes) -> Iterator[Any]:
        header = self._header
        cells = cells_of(text.decode(errors="replace").rstrip("\r\n"), header.delimiter)
        if [cell.strip() for cell in cells] == header.names:
            return  # files that were put together have a header each
        if header.other is not None:
            yield header.other
        elif len(cells) > len(header.names):
            yield Malformed(f"the row has {len(cells):,} cells, and the table {len(header.names):,} columns")
        else:
            yield {name: cell for name, cell in zip(header.names, cells, strict=False) if cell}


def cells_of(text: str, delimiter: str) -> list[str]:
    """Return the cells of a row. Quoted cells may hold delimiters, line breaks and doubled quotes.

    Args:
        text: The row.
        delimiter: The character that separates cells.
    """
    cells, at = [], 0
    while True:
        parts = []
        if text.startswith('"', at):
            at += 1
            while True:
                end = text.find('"', at)
                end = len(text) if end < 0 else end
                parts.append(text[at:end])
                at = end + 1
                if not text.startswith('"', at):
                    break
                parts.append('"')
                at += 1
        end = text.find(delimiter, at)
        parts.append(text[at:] if end < 0 else text[at:end])
        cells.append("".join(parts))
        if end < 0:
            return cells
        at = end + 1


# Rows of CloudWatch Logs Insights, whose queries select single fields of the records.

# In these members numbers and JSON are parsed; in all others digits may be a name.
_WITH_BODIES = ("input", "output", "requestMetadata", "identity", "performanceConfig", "serviceTier")
_NUMBER = re.compile(r"-?\d{1,18}(?:\.\d{1,18})?$")
_METADATA = "requestMetadata"
_DEEPEST = 20


def record_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the record that the fields of a row come from, as far as the query selected them.

    Args:
        row: Field → value. CloudWatch's own fields, ``@…``, are left out.
    """
    record: dict[str, Any] = {}
    for field, value in row.items():
        name = str(field).replace("`", "")
        if name[:1] == "@" or value in (None, ""):
            continue
        first, dot, rest = name.partition(".")
        # A key of requestMetadata may contain dots, and its values are strings.
        is_metadata = first == _METADATA and bool(dot)
        steps = [first, rest] if is_metadata else name.split(".")[:_DEEPEST]
        _put(record, steps, value if is_metadata or first not in _WITH_BODIES else _value(value))
    return {name: _with_lists(member) for name, member in record.items()}


def _put(record: dict[str, Any], steps: list[str], value: Any) -> None:
    for step in steps[:-1]:
        inside = record.setdefault(step, {})
        if not isinstance(inside, dict):  # the query has the whole of it too
            return
        record = inside
    if isinstance(record.get(steps[-1]), dict) and isinstance(value, dict):
        record[steps[-1]] = {**record[steps[-1]], **value}
    else:
        record[steps[-1]] = value


def _value(text: Any) -> Any:
    """Return the value of a body: a number if it looks like one, parsed JSON if it is an object or an array."""
    if not isinstance(text, str):
        return text
    if text[:1] in ("{", "["):
        value = parsed(text)
        return text if isinstance(value, Malformed) else value
    if _NUMBER.match(text):
        return float(text) if "." in text else int(text)
    return text


def _with_lists(value: Any) -> Any:
    """Return the value with a list for each object whose members are named 0, 1, 2 and so on."""
    if not isinstance(value, dict):
        return value
    inside = {name: _with_lists(member) for name, member in value.items()}
    if inside and all(name.isascii() and name.isdigit() and len(name) < 7 for name in inside):
        return [inside[name] for name in sorted(inside, key=int)]
    return inside
