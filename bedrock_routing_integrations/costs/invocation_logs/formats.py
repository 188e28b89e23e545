"""Recognize the formats of log files: JSON over many lines, CloudWatch's CSV exports, and files that are other logs.

JSON: a record is an object on its own or in an array: the whole document, or an array in one of CloudWatch's wrappers.
No serializer breaks a JSON string over lines, so the text can be read line by line. In a line that comes in pieces, a
string that has not ended waits for the next piece.

CSV: Python's csv module refuses cells of more than 128 KiB unless the limit is raised for the whole process, and a
logged message is often longer. So cells are split here: RFC 4180, with commas, semicolons (some spreadsheets) or tabs.

Other logs: a report of the wrong logs should name them. Records are recognized by their members and lines by their
form, as AWS documents them (read 2026-12).
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

WRAPPERS = ("logEvents", "events", "results", "Records", "Events")
"""The members that wrap records: a subscription, FilterLogEvents and GetLogEvents, a query's results, CloudTrail."""

_TOKEN = re.compile(rb'"[^"]*"|[\[\]{}"]')
# Python's parser stops at a depth of about a thousand.
_DEEPEST = 10_000
# The overhead of a line in bytes.
_OVERHEAD = 64
_CLOSES = {b"}": b"{", b"]": b"["}
# Every record, or its CloudWatch wrapper, has one of these.
_NAMES = (b'"modelId"', b'"message"', b'"@message"', b'"logEvents"')
_WRAPPING = frozenset(f'"{name}"'.encode() for name in WRAPPERS)


class OtherRecords(NamedTuple):
    """Readable records that are not those of model invocations.

    Attributes:
        kind: A plural noun, such as ``"CloudTrail records"``.
        advice: The missing fields, or what to do instead; a sentence without its full stop, or empty.
    """

    kind: str
    advice: str = ""


class Malformed(NamedTuple):
    """A text that is not valid JSON, or not a record.

    Attributes:
        reason: The reason.
    """

    reason: str


def empty(wrapper: str) -> OtherRecords:
    """Return the name of a wrapper that holds no record."""
    if wrapper == "results":
        advice = "ask get-query-results again once the query's status is Complete, or over a longer time"
        return OtherRecords("queries of CloudWatch Logs Insights without results", advice)
    return OtherRecords("lists of log events without an event", "ask for a longer time (aws logs tail --since 1d)")


def parsed(text: bytes | str) -> Any:
    """Return the JSON value, or a `Malformed`. Invalid characters in strings are tolerated: the rest is not lost."""
    try:
        return json.loads(text)
    except UnicodeDecodeError:
        return parsed(text.decode(errors="replace")) if isinstance(text, bytes) else Malformed("it is no text")
    except json.JSONDecodeError as error:
        return Malformed(f"it is no JSON: {error.msg} at character {error.pos + 1}")
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; thousands of brackets
        return Malformed(f"it is no JSON that can be read ({type(error).__name__})")


class Document:
    """A reader that takes line after line and returns the complete records.

    Args:
        most: The greatest number of bytes of a record; a longer record is skipped.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._open: list[bytes] = []
        self._base = 0
        self._parts: list[bytes] = []
        self._size = 0
        self._rest = b""
        self._last_text = b""
        self._is_passing = False
        self._is_json = True
        self._empty_wrapper = ""
        self.began = 0
        """The line on which the record that is being read begins."""

    @property
    def depth(self) -> int:
        """The number of open brackets."""
        return len(self._open)

    @property
    def within(self) -> bool:
        """Whether a record has begun and is not complete."""
        return bool(self._parts)

    @property
    def is_passing(self) -> bool:
        """Whether a record that is too long is being skipped."""
        return self._is_passing

    def is_left_for(self, text: bytes) -> bool:
        """Return whether a line looks like a record of its own, so that the one before was never completed."""
        return text[:1] == b"{" and text[-1:] in b"}," and any(name in text for name in _NAMES)

    def give_up(self) -> Malformed:
        """Drop the open record."""
        self._open.clear()
        self._base = 0
        self._rest = b""
        self._is_passing = False
        self._empty_wrapper = ""
        self._forget()
        return Malformed("it is no JSON: it is not complete")

    def end(self) -> Iterator[tuple[int, Malformed]]:
        """Yield the open record, if there is one, as incomplete, and drop it."""
        if self.within:
            yield self.began, self.give_up()
        elif self.is_passing:  # told of already
            self.give_up()

    def piece(self, number: int, text: bytes, is_first: bool, goes_on: bool) -> Iterator[tuple[int, Any]]:  # noqa: FBT001
        """Return `more` for a piece of a line that is too long to be held as a whole.

        Args:
            number: The number of the line.
            text: The piece.
            is_first: Whether it is the first piece of the line.
            goes_on: Whether another piece of the line follows.
        """
        if is_first:
            if self.within:
                yield self.began, self.give_up()
            self._is_json = bool(self._open) or text.lstrip()[:1] in (b"{", b"[")
            if not self._is_json:
                yield number, Malformed(f"the line has more than {self._most:,} bytes")
        if self._is_json:
            yield from self.more(number, text, goes_on=goes_on)

    def more(self, number: int, text: bytes, *, goes_on: bool = False) -> Iterator[tuple[int, Any]]:
        """Return the records that a line completes, with the numbers of their first lines.

        Args:
            number: The number of the line.
            text: The line, or a piece of it.
            goes_on: Whether another piece of the line follows.
        """
        text, self._rest = self._rest + text, b""
        start = 0
        for token in _TOKEN.finditer(_without_escapes(text)):
            mark, is_broken = token[0], False
            if mark in _CLOSES.values():
                if self._opens(mark):
                    self.began, start = number, token.start()
                is_broken = self.depth > _DEEPEST
            elif mark in _CLOSES:
                is_broken = not self._open or self._open.pop() != _CLOSES[mark]
                if self.within and len(self._open) == self._base and not is_broken:
                    yield self.began, parsed(b"".join([*self._parts, text[start : token.end()]]))
                    self._forget()
                if self._empty_wrapper and len(self._open) < self._base:
                    yield number, empty(self._empty_wrapper)
                self._closed()
            elif mark != b'"':
                self._last_text = mark
            elif goes_on:
                text, self._rest = text[: token.start()], text[token.start() :]
                break
            else:  # a text that is not ended
                is_broken = True
            if is_broken:
                yield self.began if self.within else number, self.give_up()
                return
        if self._hold(text[start:]):
            yield self.began, Malformed(f"the object has more than {self._most:,} bytes")

    def _hold(self, text: bytes) -> bool:
        """Keep a part of a record, and return whether the record has become too long."""
        if self.within:
            self._parts.append(text)
            self._size += len(text) + _OVERHEAD
        if self._size + len(self._rest) <= self._most:
            return False
        is_new, self._is_passing = not self._is_passing, bool(self._open)
        # The rest is dropped, but its brackets are counted, so that the next record is found.
        self._forget()
        if self._rest:  # within a text, and perhaps behind the first half of an escape
            backslashes = len(self._rest) - len(self._rest.rstrip(b"\\"))
            self._rest = b'"' + b"\\" * (backslashes % 2)
        return is_new

    def _closed(self) -> None:
        """Handle a closing bracket."""
        if len(self._open) <= self._base:
            self._is_passing = False
        if len(self._open) < self._base:
            self._empty_wrapper = ""
            self._base = -1 if self._open else 0  # what follows in the wrapper is no record

    def _opens(self, mark: bytes) -> bool:
        """Note an opening bracket, and return whether a record begins with it."""
        depth, is_array = len(self._open), mark == b"["
        self._open.append(mark)
        if depth == 0 and is_array:
            self._base = 1
        elif depth == 1 and is_array and self._last_text in _WRAPPING:
            self._base = 2  # what came before was the wrapper of what follows
            self._empty_wrapper = self._last_text[1:-1].decode()
            self._forget()
        elif depth == self._base:
            self._parts = [b""]
            self._empty_wrapper = ""
            return True
        return False

    def _forget(self) -> None:
        self._parts, self._size = [], 0


def _without_escapes(text: bytes) -> bytes:
    """Return a text of the same length in which every quote begins or ends a string.

    (A pattern that steps over escapes keeps a mark for each: four gigabytes for a line of 60 MB. Seen with Python
    3.11.)
    """
    return text.replace(b"\\\\", b"__").replace(b'\\"', b"__")


# Other logs

NEEDED_FIELDS = (
    "@message; or modelId, @timestamp, operation, requestId, input.inputTokenCount, output.outputTokenCount and the "
    "keys of requestMetadata"
)
_NOTICES = OtherRecords("notices of the logging service")
_QUERY_ROWS = OtherRecords(
    "rows of a query that leave out the model or the time", f"give the query these fields: {NEEDED_FIELDS}"
)
STATISTICS = OtherRecords(
    "rows of a query that sums calls up (stats)", f"query the calls themselves, with the fields {NEEDED_FIELDS}"
)
_SHOWN_KEYS = 4
# The members of a log event in subscriptions, FilterLogEvents and GetLogEvents.
_EVENT = frozenset({"id", "eventId", "timestamp", "message", "logStreamName", "logGroup", "ingestionTime", "ptr"})

# Members → the kind of record that has all of them. The first match wins.
_BY_MEMBERS: tuple[tuple[frozenset[str], OtherRecords], ...] = tuple(
    (frozenset(members.split()), OtherRecords(kind, advice))
    for members, kind, advice in (
        ("eventVersion eventSource eventName", "CloudTrail records", "they name calls and callers, and no tokens"),
        ("EventId CloudTrailEvent", "CloudTrail records", "they name calls and callers, and no tokens"),
        ("digestS3Bucket digestS3Object", "CloudTrail digest files", ""),
        ("messageType logEvents", "notices of the logging service", ""),
        ("recordId modelInput", "records of a batch inference job", "its calls are in no invocation log"),
        ("recordId modelOutput", "records of a batch inference job", "its calls are in no invocation log"),
        ("totalRecordCount processedRecordCount", "manifests of a batch inference job", ""),
        ("requested_model_id target_kind", '"routing" entries', "RoutingReport().add(entry) counts them"),
        ("totals targets models", "reports of this command", ""),
        ("output stopReason usage", "answers of Converse", "they do not name the model that was called"),
        ("messages inferenceConfig", "requests of Converse", ""),
        ("event event_type event_version", "ingestion logs of a knowledge base", ""),
        ("detail-type detail", "EventBridge events", ""),
        ("webaclId httpRequest", "AWS WAF logs", ""),
        ("query_name srcaddr", "Route 53 Resolver query logs", ""),
        ("resourceSpans", "OpenTelemetry traces", ""),
        ("resourceLogs", "OpenTelemetry logs", ""),
        ("resourceMetrics", "OpenTelemetry metrics", ""),
        ("_aws", "CloudWatch metrics in embedded metric format", ""),
        ("queryId", "answers of start-query", "get-query-results gives the rows"),
        ("time type record", "Lambda function logs", ""),
    )
)  # fmt: skip
_BY_FORM = tuple(
    (re.compile(pattern), kind)
    for pattern, kind in (
        (rb"[2-9] (?:\d{12}|unknown|-) (?:eni-\w+|-) ", "VPC flow logs"),
        (rb"(?=.*\bsrcaddr\b)(?=.*\bdstaddr\b)[a-z -]+$", "VPC flow logs"),
        (rb"[0-9a-f]{64} \S+ \[\d\d/[A-Z][a-z]{2}/\d{4}:", "S3 access logs"),
        (rb"(?:https?|h2|grpcs|wss?|tls) \d{4}-\d\d-\d\dT\S+ (?:app|net)/", "load balancer access logs"),
        (rb"#(?:Version: 1\.0|Fields: )", "CloudFront access logs"),
        (rb"\S+ \S+ \S+ \[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:", "access logs of a web server"),
        (rb"(?:INIT_START Runtime|(?:START|END|REPORT) RequestId:) ?", "Lambda function logs"),
        (rb"(?i)<(?:!doctype html|html)\b", "lines of HTML"),
        (rb"<\?xml ", "lines of XML"),
    )
)
_PREFIXES = (re.compile(rb"\d{4}-\d\d-\d\dT\S+ "), re.compile(rb"\d{4}-\d\d-\d\dT\S+ \S+ "))
# Written once, when logging is configured (seen 2026-09).
_NOTICE = re.compile(rb"Permissions are correctly set|.{0,80}Permissions are correctly set for Amazon Bedrock logs\.$")


def name_of_line(text: bytes) -> OtherRecords | None:
    """Return the name of the logs that a line of text comes from, such as VPC flow logs; None if it is not known."""
    if _NOTICE.match(text):
        return _NOTICES
    # `aws logs tail` prefixes the time, or the time and the stream's name.
    forms = (text, *(text[prefix.end() :] for pattern in _PREFIXES if (prefix := pattern.match(text))))
    kinds = (kind for form in forms for pattern, kind in _BY_FORM if pattern.match(form))
    return next((OtherRecords(kind) for kind in kinds), None)


def name_of_record(record: Any) -> OtherRecords:
    """Return the name of the records that a JSON value, which is not a record of an invocation, belongs to."""
    if not isinstance(record, dict):
        return OtherRecords("JSON values that are not objects")
    names = record.keys()
    known = next((other for members, other in _BY_MEMBERS if members <= names), None)
    if isinstance(record.get("schemaType"), str):
        known = OtherRecords(f"records of type {record['schemaType']:.60}")
    elif record.get("eventSource") == "aws:s3":
        known = OtherRecords("S3 event notifications")
    elif known is None and any("(" in str(name) for name in names):
        known = STATISTICS
    elif known is None and is_query_row(record):
        known = _of_message(record.get("@message")) or _QUERY_ROWS
    elif known is None and names <= _EVENT:
        known = _of_message(record.get("message"))
    if known is not None:
        return known
    shown = ", ".join(sorted(map(str, names))[:_SHOWN_KEYS])
    return OtherRecords(f"JSON objects of another kind ({shown:.80}{', …' if len(names) > _SHOWN_KEYS else ''})")


def _of_message(message: Any) -> OtherRecords | None:
    """Return the name of a CloudWatch Logs message that is not a JSON object; None if there is none."""
    if not isinstance(message, str):
        return None
    return name_of_line(message.strip().encode(errors="replace")) or OtherRecords("log events that hold no JSON object")


def is_query_row(record: Mapping[str, Any]) -> bool:
    """Return whether an object is a row of CloudWatch Logs Insights, with fields such as ``input.x``."""
    return any(name[:1] == "@" or "." in name for name in record if isinstance(name, str))


# CSV

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
_DEEPEST_MEMBER = 20


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
        steps = [first, rest] if is_metadata else name.split(".")[:_DEEPEST_MEMBER]
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
