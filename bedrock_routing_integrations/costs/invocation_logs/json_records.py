"""Find the records in JSON that spans lines, or has one line of any length, each as soon as it is complete.

A record is an object on its own or in an array: the whole document, or an array in one of CloudWatch's wrappers. No
serializer breaks a JSON string over lines, so the text can be read line by line. In a line that comes in pieces, a
string that has not ended waits for the next piece.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

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
