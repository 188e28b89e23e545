"""Answers out of numbered passages, with citations in whatever form the prompt shows by an example."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .words import stems

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .reading import Reading

__all__ = ["NOT_THERE", "Statement", "from_passages", "outside_passages", "points_back", "statements"]

NOT_THERE = "The passages do not hold the answer to that."
_TAG = re.compile(r"<(passage|document|source|search_result|result)\s([^<>]{1,300})>", re.IGNORECASE)
_INDEX = re.compile(r"\b(?:index|id|number|n) ?= ?[\"']?(\d{1,4})\b", re.IGNORECASE)
_MOST_PASSAGES = 500
_WRAPPER = re.compile(r"</?(?:passages|documents|sources|search_results|results|context)\b[^<>]*>", re.IGNORECASE)
_NONE = re.compile(r"<(passages|documents|sources|search_results)>\s*</\1>")
_ATTACHED = re.compile(r"\battached\b", re.IGNORECASE)
_POINTS_BACK = re.compile(
    r"\b(?:he|she|it|they|him|her|them|his|its|their|that|this|those|there)\b|^\W*(?:and|but|what about|how about)\b",
    re.IGNORECASE,
)
_LABEL = re.compile(r"(?:^|\n)[ \t]*(?:<question>|(?:user )?(?:question|query) ?:)(.+)", re.IGNORECASE | re.DOTALL)
_WANTS_CITATIONS = re.compile(r"\b(?:cit(?:e|es|ed|ing|ations?)|sources?|references?|footnotes?)\b", re.IGNORECASE)
# [cite: 1], [1], [[1]], [^1], <source>1</source>; with a second number behind a comma where that is shown too.
_EXAMPLE = re.compile(
    r"(?P<open>\[{1,2}(?:\^|[A-Za-z]{1,10}[:#]? ?)?|\u3010|<(?P<tag>source|cite|ref|citation)>)"
    r"\d{1,2}(?P<second>,\s?\d{1,2})?(?P<close>\]{1,2}|\u3011|</(?P=tag)>)"
)
_SENTENCE_END = re.compile(r"(?<=[.!?\u2026])[\"'\u201d\u2019)]*\s+|(?<=[\u3002\uff01\uff1f])\s*")
_CLOSING = "\"'\u201d\u2019)"
_TITLE = re.compile(r"#{1,6}(?:\s|$)")
_BULLET = re.compile(r"[-*+\u2022]\s+")
# Scripts without spaces between words: two characters beside each other stand for a word.
_UNSPACED = re.compile(r"[\u0e00-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3]{2,}")
_NEW_LINE = re.compile(r"\s*(?:#{1,6}\s|[-*+\u2022]\s|\d{1,3}[.)]\s|\|)")
_ENDS = (".", "!", "?", "\u2026", ":", ";", "\u3002", "\uff01", "\uff1f")
_ASKS = ("?", "\uff1f")
_WRAPPED = 40  # characters; a shorter line that ends without a full stop is a title
# What a word of the passage counts for, beside those of the sentence itself; and how near the second sentence must be.
_OF_PASSAGE = 0.3
_NEAR = 0.75


@dataclass(frozen=True)
class Statement:
    """One sentence of an answer.

    Attributes:
        text: The sentence, its white space made plain.
        passages: The numbers, from 0, of the passages that hold it.
    """

    text: str
    passages: tuple[int, ...]


def statements(question: str, passages: Sequence[str], *, thorough: bool, before: str = "") -> list[Statement]:
    """The sentences that fit a question best, best first.

    A stem that few sentences have counts for more, and what stands around a sentence counts a little.

    Args:
        question: What is asked.
        passages: Where to look, the likeliest first.
        thorough: Whether to add a second sentence, where one fits nearly as well.
        before: The question that this one points back to. It decides where this one says nothing itself ("And when?").
    """
    found = _fitting(_stems(question), passages, thorough=thorough, around=_stems(before))
    return found or (_fitting(_stems(before), passages, thorough=thorough) if before else [])


def points_back(question: str) -> bool:
    """Whether a question leaves out what it is about, because that was said before."""
    return _POINTS_BACK.search(question) is not None


def _fitting(
    wanted: frozenset[str], passages: Sequence[str], *, thorough: bool, around: frozenset[str] = frozenset()
) -> list[Statement]:
    plain = [" ".join(passage.split()) for passage in passages]
    found = [
        (sentence, _stems(sentence) & wanted, i) for i, text in enumerate(passages) for sentence in _sentences(text)
    ]
    frequency = Counter(word for _, common, _ in found for word in common)
    nearby = [len(_stems(text) & (wanted | around)) * _OF_PASSAGE for text in passages]
    scored: dict[str, float] = {}
    for sentence, common, number in found:
        if common and not sentence.rstrip(_CLOSING).endswith(_ASKS):
            score = sum(1 / frequency[word] + 0.5 for word in common) + nearby[number]
            scored[sentence] = max(score, scored.get(sentence, 0.0))
    ranked = sorted(scored, key=lambda sentence: -scored[sentence])  # stable: the likelier passage first
    best = [sentence for sentence in ranked[: 2 if thorough else 1] if scored[sentence] >= _NEAR * scored[ranked[0]]]
    return [Statement(text, tuple(i for i, passage in enumerate(plain) if text in passage)) for text in best]


def _stems(text: str) -> frozenset[str]:
    """What two texts have in common where they speak of the same: stems, or pairs of characters."""
    pairs = {run[i : i + 2] for run in _UNSPACED.findall(text) for i in range(len(run) - 1)}
    return stems(text) | pairs


def _sentences(text: str) -> Iterator[str]:
    """The sentences of a passage; titles are none, and lines that were wrapped are one."""
    block: list[str] = []
    for line in text.splitlines():
        stripped = line.strip()
        if block and not _goes_on(block, stripped):
            yield from _split(block)
            block = []
        if stripped and not _TITLE.match(stripped):
            block.append(stripped)
    yield from _split(block)


def _goes_on(block: Sequence[str], line: str) -> bool:
    """Whether a line continues the lines before it."""
    if not line or _NEW_LINE.match(line):
        return False
    long_enough = len(block) > 1 or len(block[0]) >= _WRAPPED
    return line[0].islower() or (long_enough and not block[-1].rstrip(_CLOSING).endswith(_ENDS))


def _split(block: Sequence[str]) -> Iterator[str]:
    text = " ".join(" ".join(block).split())
    bullet = _BULLET.match(text)
    for piece in _SENTENCE_END.split(text[bullet.end() :] if bullet else text):
        if piece.rstrip(_CLOSING).endswith(_ENDS) or len(piece) >= _WRAPPED:
            yield piece


def _passages(text: str) -> tuple[list[tuple[int, str]], str, str]:
    """The numbered passages in a prompt, and what stands before and behind them."""
    found: list[tuple[int, str]] = []
    first, end = len(text), 0
    unclosed: set[str] = set()
    for opening in _TAG.finditer(text):
        index = _INDEX.search(opening[2])
        if index is None or opening.start() < end or opening[1] in unclosed:  # `< end`: inside the passage before
            continue
        if len(found) == _MOST_PASSAGES:
            break
        close = text.find(f"</{opening[1]}>", opening.end())
        if close < 0:
            unclosed.add(opening[1])
            continue
        found.append((int(index[1]), text[opening.end() : close]))
        first = min(first, opening.start())
        end = close + len(opening[1]) + 3
    return found, text[:first], text[end:] if found else ""


def outside_passages(text: str) -> str:
    """A prompt without its numbered passages: what they say is nothing that is asked for."""
    found, before, behind = _passages(text)
    return f"{before}\n{behind}" if found else text


def from_passages(reading: Reading, *, thorough: bool) -> str | None:
    """The answer to a question that comes with numbered passages; None where it comes without."""
    for text, other in ((reading.question, reading.system), (reading.system, reading.question)):
        found, before, behind = _passages(text)
        if found:
            question = _question(before, behind) if text is reading.question else other
            asked = reading.said[-1] if reading.said and points_back(question) else ""
            if reading.documents and not _holds(question, asked, found):
                # A passage that stands for the document beside it.
                text_of_all = "\n\n".join(text for _, text in reading.documents)
                found = [(number, text_of_all) for number, text in found if _ATTACHED.search(text)] or found
            return _answer(question, found, f"{other}\n{before}\n{behind}", thorough=thorough, before=asked)
    return NOT_THERE if _NONE.search(reading.question) else None


def _holds(question: str, before: str, found: Sequence[tuple[int, str]]) -> bool:
    return bool(statements(question, [text for _, text in found], thorough=False, before=before))


def _question(before: str, behind: str) -> str:
    for text in (behind, before):
        rest = _WRAPPER.sub("", text).strip()
        labelled = _LABEL.search(rest)
        if labelled is not None:
            return labelled[1].partition("</question>")[0].strip()
        if rest:
            return rest.split("\n\n")[-1].strip()
    return ""


def _answer(question: str, found: Sequence[tuple[int, str]], instructions: str, *, thorough: bool, before: str) -> str:
    said = statements(question, [text for _, text in found], thorough=thorough, before=before)
    if not said:
        return NOT_THERE
    mark = _marker(instructions)
    return " ".join(s.text + mark(list(dict.fromkeys(found[number][0] for number in s.passages))) for s in said)


@dataclass(frozen=True)
class _Marker:
    opening: str = ""
    closing: str = ""
    lists: bool = False

    def __call__(self, numbers: Sequence[int]) -> str:
        if not self.opening or not numbers:
            return ""
        if self.lists:
            return f" {self.opening}{', '.join(map(str, numbers))}{self.closing}"
        return " " + "".join(f"{self.opening}{number}{self.closing}" for number in numbers)


def _marker(instructions: str) -> _Marker:
    """How to cite: as the first example shows; not at all without one."""
    if not _WANTS_CITATIONS.search(instructions):
        return _Marker()
    examples = list(_EXAMPLE.finditer(instructions))
    if not examples:
        return _Marker()
    first = examples[0]
    return _Marker(first["open"], first["close"], any(example["second"] for example in examples))
