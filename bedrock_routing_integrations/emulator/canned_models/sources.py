"""Answers out of what the request holds: documents, passages in the prompt, earlier turns, pictures."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bedrock_routing_integrations.emulator.service.retrieve import parts_of

from .words import best_sentences, sentences, stems

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .reading import Reading


# --- Answers out of numbered passages ---

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


_MINE = re.compile(
    r"\b(?:what(?:'s| is| was)|tell me|remember|do you know|who is)\b.{0,30}?\bmy ([\w -]+?)(?=[?.,!]|$)",
    re.IGNORECASE,
)
_WHO_AM_I = re.compile(r"\bwho am i\b|\bwhat am i called\b", re.IGNORECASE)
_CALLED = re.compile(
    r"\b(?i:my name is|i am called|call me|i'm|i am|this is)\s+([A-Z][\w'-]*(?: [A-Z][\w'-]+)*)"
    r"|\b(?i:my name is|call me)\s+([\w'-]+)"
)
_FIRST_QUESTION = re.compile(
    r"\bwhat (?:did|was) (?:i|my) (?:first |last |previous |just )*(?:ask|say|said|question|message)",
    re.IGNORECASE,
)
_SUMMARY = re.compile(r"\b(?:summari[sz]e|summary|tl;?dr|key points|main points)\b", re.IGNORECASE)
_QUESTION_LABEL = re.compile(
    r"(?:^|\n)[ \t]*(?:(?:question|query|user question)\s*:|<(?:user )?question>)\s*(.+?)"
    r"(?=\n[ \t]*(?:<?(?:answer|output)\b|helpful answer\b|context\b)|\Z)",
    re.IGNORECASE | re.DOTALL,
)
_REFINE = re.compile(
    r"\bnew context:\s*(.+)\n\s*query:\s*(.+?)\n\s*(?:original|existing) answer:\s*(.+?)\s*\n\s*new answer:\s*\Z",
    re.IGNORECASE | re.DOTALL,
)
_FOLLOW_UP = re.compile(
    r"(?:follow[ -]?up (?:input|message|question)\s*:|<follow[ -]?up (?:input|message|question)>)\s*(\S[^\n]*)",
    re.IGNORECASE,
)
_SPLIT = re.compile(r"\bsplit the question\b[^\n]*\b(?:one per line|each on a line)\b", re.IGNORECASE)
_USER_TURN = re.compile(r"^[ \t]*(?:user|human)\s*:\s*(\S.*)$", re.IGNORECASE | re.MULTILINE)
_CITE = re.compile(r"\bcite\b[^.\n]{0,40}\bsources?\b", re.IGNORECASE)
_SOURCE = re.compile(r"^[ \t]*source (\d{1,4})\s*:", re.IGNORECASE | re.MULTILINE)
_CONTEXT_LABEL = re.compile(
    r"\b(?:context|documents?|passages?|search results|excerpts?|following text)\b[^\n:]{0,80}[:\n]"
    r"|</?(?:context|document|search_results)>",
    re.IGNORECASE,
)
_LONG_PROMPT = 600  # characters; a longer prompt is taken to bring the text that it asks about
_SYSTEM_OVERLAP = 2  # words that a sentence of the system prompt must share with a question to answer it
_MOST_SEARCHED = 400_000  # characters


def from_memory(reading: Reading) -> str | None:
    """What the user said of himself or asked before."""
    if not reading.said:
        return None
    if _FIRST_QUESTION.search(reading.question):
        which = reading.said[0] if "first" in reading.question.lower() else reading.said[-1]
        return f'You said: "{which}"'
    mine = _MINE.search(reading.question)
    thing = "name" if _WHO_AM_I.search(reading.question) else mine[1].strip() if mine else None
    if thing is None:
        return None
    told = re.compile(
        rf"\bmy {re.escape(thing)} (?:is|was|are|=)\s+(.+?)(?=[.,!?;\n]|$| and (?:my|i)\b)", re.IGNORECASE
    )
    for text in reversed(reading.said):
        found = (_CALLED.search(text) if thing.lower() == "name" else None) or told.search(text)
        if found is not None:
            return f"Your {thing} is {next(filter(None, found.groups())).strip()}."
    return f"You have not told me your {thing}."


def from_media(reading: Reading) -> str | None:
    """That there is something to be seen or heard, and how large it is."""
    if not reading.media:
        return None
    seen = reading.media[0] if len(reading.media) == 1 else f"{', '.join(reading.media[:-1])} and {reading.media[-1]}"
    return f"I have been given {seen}. An emulated model reads its format and its size, not its content."


def summary(reading: Reading) -> str | None:
    """The opening of each document, or of the text that the prompt brings."""
    if not _SUMMARY.search(reading.question):
        return None
    if reading.documents:
        parts = [(name, sentences(text[:_MOST_SEARCHED])[:2]) for name, text in reading.documents]
        said = [
            f"{name}: {' '.join(opening)}" if opening else f"{name} has no text that I can read."
            for name, opening in parts
        ]
        return "In short: " + "\n".join(said)
    text = reading.question.partition(":")[2].strip() or "\n".join(reading.question.splitlines()[1:]).strip()
    if not text and reading.answered:
        text = " ".join((*reading.said, *reading.answered))
    found = sentences(text)
    if not found:
        return None
    core = best_sentences(found[1:], " ".join(found[:1]), most=1) if len(found) > 3 else []
    return "In short: " + " ".join([found[0], *core])


def from_sources(reading: Reading, *, thorough: bool) -> str | None:
    """The sentences that share most words with the question, from whatever the request brings to read.

    Args:
        reading: The request.
        thorough: Whether to quote a second sentence (larger models do).
    """
    question, passages = _question_and_passages(reading)
    most = 2 if thorough else 1
    texts = [text[:_MOST_SEARCHED] for _, text in reading.documents]
    found = best_sentences([*texts, *passages], question, most=most)
    if found:
        return " ".join(_cited(sentence, reading.question) for sentence in found)
    if reading.documents:
        names = ", ".join(name for name, _ in reading.documents)
        opening = next((s[0] for s in map(sentences, texts) if s), None)
        if opening is None:
            return f"There is no text that I can read in {names}."
        return f"I find nothing about that in {names}. It begins: {opening}"
    earlier = [*reading.answered, *reading.said, reading.system]
    wanted = stems(question)
    near = best_sentences(earlier, question, most=1)
    return near[0] if near and len(stems(near[0]) & wanted) >= _SYSTEM_OVERLAP and "?" in question else None


def _question_and_passages(reading: Reading) -> tuple[str, list[str]]:
    """The question itself, and the text to answer it from, where the prompt or the system prompt brings one."""
    text = reading.question
    passages = [reading.system] if _CONTEXT_LABEL.search(reading.system) else []
    labelled = labelled_question(text)
    if labelled is not None:
        return labelled[0], [*passages, _unlabelled(labelled[1])]
    if len(text) < _LONG_PROMPT and not _CONTEXT_LABEL.search(text):
        return text, passages
    asked = [sentence for sentence in sentences(text) if sentence.endswith("?")]
    question = asked[-1] if asked else sentences(text)[-1]
    return question, [*passages, _unlabelled(text.replace(question, "\n"))]


def _unlabelled(passage: str) -> str:
    """A passage without the labels before its parts."""
    return _CONTEXT_LABEL.sub("\n", passage)


def labelled_question(text: str) -> tuple[str, str] | None:
    """The question that a label introduces, and the text around it; None where none is labelled.

    Of several the last is meant: those before it belong to examples.
    """
    labels = list(_QUESTION_LABEL.finditer(text))
    if not labels:
        return None
    last, shown = labels[-1], labels[-2].end() if len(labels) > 1 else 0
    return last[1].strip(), text[shown : last.start()] + text[last.end() :]


def refined(question: str) -> str | None:
    """An answer that is to be refined with new context: a sentence that says more, or the answer as it is."""
    found = _REFINE.search(question)
    if found is None:
        return None
    context, asked, answer = found.groups()
    better = best_sentences([context], asked, most=1)
    wanted = stems(asked)
    return better[0] if better and len(stems(better[0]) & wanted) > len(stems(answer) & wanted) else answer


def rewrites(question: str) -> bool:
    """Whether a prompt asks for a question, not for an answer."""
    return standalone(question) is not None or split(question) is not None


def standalone(question: str) -> str | None:
    """A follow-up that is to be rewritten as a question of its own: with the one before it, where it points back."""
    if not re.search(r"stand-?alone question", question, re.IGNORECASE):
        return None
    # The last one: what stands before it was said in the conversation.
    follow_up = next(reversed(list(_FOLLOW_UP.finditer(question))), None)
    if follow_up is None:
        return None
    before = _USER_TURN.findall(question[: follow_up.start()])
    asked = follow_up[1].strip()
    whole = f"{before[-1].strip()} {asked}" if before and points_back(asked) else asked
    return "\n".join(parts_of(whole)) if _SPLIT.search(question[: follow_up.start()]) else whole


def split(question: str) -> str | None:
    """A question that is to be split: its parts, one per line."""
    wanted = _SPLIT.search(question)
    labelled = labelled_question(question) if wanted is not None else None
    return None if labelled is None else "\n".join(parts_of(labelled[0]))


def _cited(sentence: str, prompt: str) -> str:
    """A sentence with the number of the source that it stands in, where the prompt wants sources cited."""
    at = prompt.rfind(sentence) if _CITE.search(prompt) else -1
    sources = _SOURCE.findall(prompt[:at]) if at >= 0 else []
    return f"{sentence} [{sources[-1]}]" if sources else sentence
