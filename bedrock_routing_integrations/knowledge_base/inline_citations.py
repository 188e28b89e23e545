"""An answer that a model was told to mark with citations: the markers → `Citation`, verified."""

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


# --- Citations out of the markers that a model writes ---

_SPACE = r"\s{0,3}"
# As it was asked for; and as models write it who were not listening: [cite: 1; 2], [cite: 1 and 2], [cite: 1-3].
_JOIN = rf"{_SPACE}(?:,|;|&|and|[-\u2013]){_SPACE}"
_MARKER = re.compile(rf"\[cite:{_SPACE}(\d{{1,4}}(?:{_JOIN}\d{{1,4}}){{0,30}}){_SPACE}\]", re.IGNORECASE)
_RANGE = re.compile(rf"(\d+)(?:{_SPACE}[-\u2013]{_SPACE}(\d+))?")
# What can still become a marker when more arrives. No marker is as long as this.
_BEGINNING = re.compile(r"\[(?:c|ci|cit|cite|cite:[\s\d,;&and\u2013-]*)?", re.IGNORECASE)
_CUT = re.compile(r"\[cite:\s*\d[\s\d,;&and\u2013-]*", re.IGNORECASE)
_LONGEST = 500
_OPEN = re.compile(_BEGINNING.pattern + r"\Z", re.IGNORECASE)
_BETWEEN = re.compile(r"\A[\s.,;:!?\u2026\u3001\u3002\uff01\uff0c\uff1f]*")  # ends a statement, and begins none
_APART = "    "  # more white space than a marker may have


@dataclass(frozen=True)
class Claimed:
    """A part of the answer that cites passages: its span in the answer, and their indices from 0."""

    start: int
    end: int
    passages: tuple[int, ...]


@dataclass
class MarkerReader:
    """Reads an answer with markers, in whatever pieces it arrives.

    Args:
        most: How many passages the model was given: a marker for one that does not exist is taken out and dropped.

    Attributes:
        text: The answer as far as it was given out. White space before a marker, and at both ends, is left out.
    """

    most: int
    text: str = ""
    _pending: str = ""
    _space: str = ""  # white space that is not given out yet
    _space_before: str = ""  # that before the markers
    _cited: list[int] | None = None  # by the markers that stand where the answer ends now; None where there is none
    _from: int = 0
    _done: list[Claimed] = field(default_factory=list)

    def read(self, text: str) -> tuple[str, list[Claimed]]:
        """What can be given out now that `text` has arrived: more of the answer, and citations that are complete."""
        return self._given_out(text, finished=False)

    def finish(self) -> tuple[str, list[Claimed]]:
        """What is left when nothing more comes."""
        return self._given_out("", finished=True)

    def _given_out(self, text: str, *, finished: bool) -> tuple[str, list[Claimed]]:
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
                self._pending = ""  # nothing more comes: the limit of tokens has cut a marker
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
            space = _APART  # "[ci[cite: 1]te: 2]": taking one out must not make another
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
        """The answer goes on behind markers, or ends."""
        if self._cited is None:
            return
        end = len(self.text)
        start = end - len(self.text[self._from :].lstrip())
        if self._from and self.text[self._from - 1] != "\n":  # "One [cite: 1]. Two [cite: 2].": not ". Two"
            start = end - len(_BETWEEN.sub("", self.text[self._from :], count=1))
        if self._cited and start < end:
            self._done.append(Claimed(start, end, tuple(self._cited)))
        self._from, self._cited = end, None  # what a dropped marker stood behind is not the next one's


class InlineCitationReader:
    """Reads an answer as it arrives.

    Args:
        prompt: What the model was asked: a citation of what it did not hold is none.
        passages: Those that the prompt was composed of.

    Attributes:
        citations: Those found so far.
    """

    def __init__(self, prompt: Prompt, passages: Sequence[Passage]) -> None:
        self._numbers, self._passages = prompt.numbers, passages
        self._reader = MarkerReader(len(prompt.numbers) if prompt.cites else 0)
        self.citations: list[Citation] = []

    @property
    def text(self) -> str:
        """The answer so far, without markers."""
        return self._reader.text

    def read(self, text: str) -> AnswerPart:
        """What is new now that `text` has arrived."""
        return self._part(*self._reader.read(text))

    def finish(self) -> AnswerPart:
        """What is left when nothing more comes."""
        return self._part(*self._reader.finish())

    def _part(self, text: str, claims: Sequence[Claimed]) -> AnswerPart:
        citations = tuple(self._cited(claim) for claim in claims)
        self.citations += citations
        return AnswerPart(text, (), citations)

    def _cited(self, claim: Claimed) -> Citation:
        numbers = [self._numbers[index] for index in claim.passages]
        return cite(self.text, claim.start, claim.end, numbers, self._passages)
