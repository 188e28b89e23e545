"""Turn the citation markers in a model's answer into verified `Citation`s.

The prompt asks for ``[cite: 1]`` or ``[cite: 1, 3]`` after each statement. The answer arrives in pieces that can cut a
marker anywhere. `_MarkerParser` takes text as soon as it cannot be part of a marker, removes markers together with the
white space before them, and notes the span of the statement that each marker closes: from the end of the marker before
it, or the start of the line. A marker of a passage that the prompt did not hold is removed and cites nothing, so every
citation names a passage that the model was shown.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .citations import AnswerPart, cite

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .citations import Citation
    from .passages import Passage
    from .prompts import Prompt


_SPACE = r"\s{0,3}"
# As the prompt asks for it, and as models write it nevertheless: [cite: 1; 2], [cite: 1 and 2], [cite: 1-3].
_JOIN = rf"{_SPACE}(?:,|;|&|and|[-\u2013]){_SPACE}"
_MARKER = re.compile(rf"\[cite:{_SPACE}(\d{{1,4}}(?:{_JOIN}\d{{1,4}}){{0,30}}){_SPACE}\]", re.IGNORECASE)
_RANGE = re.compile(rf"(\d+)(?:{_SPACE}[-\u2013]{_SPACE}(\d+))?")
# The beginning of a marker, which more text may complete. No marker is longer than `_LONGEST`.
_BEGINNING = re.compile(r"\[(?:c|ci|cit|cite|cite:[\s\d,;&and\u2013-]*)?", re.IGNORECASE)
_CUT = re.compile(r"\[cite:\s*\d[\s\d,;&and\u2013-]*", re.IGNORECASE)
_LONGEST = 500
_OPEN = re.compile(_BEGINNING.pattern + r"\Z", re.IGNORECASE)
_BETWEEN = re.compile(
    r"\A[\s.,;:!?\u2026\u3001\u3002\uff01\uff0c\uff1f]*"
)  # ends a statement, and does not begin the next
_APART = "    "  # more white space than a marker can contain


@dataclass(frozen=True)
class MarkedSpan:
    """A part of the answer that a marker closes: its span, and the indices of the passages, from 0."""

    start: int
    end: int
    passages: tuple[int, ...]


@dataclass
class _MarkerParser:
    """Separate the text of an answer from its markers, however the answer is cut into pieces.

    Args:
        most: How many passages the model was given; markers of others cite nothing.

    Attributes:
        text: The answer so far, without markers, the white space before them, and white space at both ends.
    """

    most: int
    text: str = ""
    _pending: str = ""
    _space: str = ""  # white space at the end, held back
    _space_before: str = ""  # the white space before the markers
    _cited: list[int] | None = None  # the passages of the markers at the end of the text; None without markers
    _from: int = 0
    _done: list[MarkedSpan] = field(default_factory=list)

    def read(self, text: str) -> tuple[str, list[MarkedSpan]]:
        """Return the text and the complete spans that `text` adds."""
        return self._parse(text, finished=False)

    def finish(self) -> tuple[str, list[MarkedSpan]]:
        """Return what was held back, now that the answer is complete."""
        return self._parse("", finished=True)

    def _parse(self, text: str, *, finished: bool) -> tuple[str, list[MarkedSpan]]:
        before = len(self.text)
        self._pending += text
        while self._pending:
            at = self._pending.find("[")
            if at != 0:
                self._take(self._pending if at < 0 else self._pending[:at])
                self._pending = "" if at < 0 else self._pending[at:]
                continue
            marker = _MARKER.match(self._pending)
            if marker is not None:
                self._cite(marker[1])
                self._pending = self._pending[marker.end() :]
            elif len(self._pending) < _LONGEST and _BEGINNING.fullmatch(self._pending) and not finished:
                break
            elif len(self._pending) < _LONGEST and _CUT.fullmatch(self._pending):
                self._pending = ""  # the answer is complete: the limit of tokens has cut a marker
            else:
                self._take("[")
                self._pending = self._pending[1:]
        if finished:
            self._close()
        done, self._done = self._done, []
        return self.text[before:], done

    def _take(self, text: str) -> None:
        words = text.strip()
        if not words:
            self._space += text
            return
        space = self._space + text[: len(text) - len(text.lstrip())]
        if self._cited is not None and not space and words[0].isalnum():
            space = self._space_before  # "as it was [cite: 1]." has none there, "one [cite: 1]two" has
        if self._cited is not None and _OPEN.search(self.text[-_LONGEST:]):
            space = _APART  # "[ci[cite: 1]te: 2]": removing a marker must not make another
        self._close()
        added = (space if self.text else "") + words
        if "\n" in added:
            self._from = len(self.text) + added.rindex("\n") + 1
        self.text += added
        self._space = text[len(text.rstrip()) :]

    def _cite(self, numbers: str) -> None:
        if self._cited is None:
            self._cited, self._space_before = [], self._space
        self._space = ""
        for first, last in _RANGE.findall(numbers):
            for index in range(int(first) - 1, min(int(last or first), self.most)):
                if index >= 0 and index not in self._cited:
                    self._cited.append(index)

    def _close(self) -> None:
        """Close the span of the markers at the end: the answer continues after them, or ends."""
        if self._cited is None:
            return
        end = len(self.text)
        start = end - len(self.text[self._from :].lstrip())
        if self._from and self.text[self._from - 1] != "\n":  # "One [cite: 1]. Two [cite: 2].": not ". Two"
            start = end - len(_BETWEEN.sub("", self.text[self._from :], count=1))
        if self._cited and start < end:
            self._done.append(MarkedSpan(start, end, tuple(self._cited)))
        self._from, self._cited = end, None  # text before a dropped marker does not belong to the next


class InlineCitationReader:
    """Read an answer with inline citations as it arrives.

    Args:
        prompt: The prompt, which numbers the passages that it shows.
        passages: All passages that the prompt was composed from.

    Attributes:
        citations: The citations so far.
    """

    def __init__(self, prompt: Prompt, passages: Sequence[Passage]) -> None:
        self._numbers, self._passages = prompt.numbers, passages
        self._parser = _MarkerParser(len(prompt.numbers) if prompt.cites else 0)
        self.citations: list[Citation] = []

    @property
    def text(self) -> str:
        """The answer so far, without markers."""
        return self._parser.text

    def read(self, text: str) -> AnswerPart:
        """Return what `text` adds: text without markers, and citations."""
        return self._part(*self._parser.read(text))

    def finish(self) -> AnswerPart:
        """Return what was held back, now that the answer is complete."""
        return self._part(*self._parser.finish())

    def _part(self, text: str, spans: Sequence[MarkedSpan]) -> AnswerPart:
        citations = tuple(self._cited(span) for span in spans)
        self.citations += citations
        return AnswerPart(text, (), citations)

    def _cited(self, span: MarkedSpan) -> Citation:
        numbers = [self._numbers[index] for index in span.passages]
        return cite(self.text, span.start, span.end, numbers, self._passages)
