"""Answer questions in text.

A list of skills is tried in order. Each skill answers the question or returns None. The last skill always answers.

`EmulatedModel.size` decides between larger and smaller models: from 0.55 on, a model solves the riddle of Alice's
brothers, long calculations and rare facts. A smaller model gives the answer that is plausible and wrong.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from bedrock_routing_integrations.emulator.service.retrieve import parts_of

from .schema_values import Clues, fill
from .words import (
    CAPITALS,
    FACTS,
    TRANSLATIONS,
    best_sentences,
    evaluate,
    expression_in,
    key_words,
    quotations,
    sentences,
    shown,
    stems,
    written_numbers_to_digits,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bedrock_routing_integrations.emulator.service.models import EmulatedModel

    from .reading import Reading


# --- Answers from numbered passages ---

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
    """Return the sentences that match a question best, best first.

    A stem that few sentences contain counts for more. The text around a sentence counts a little.

    Args:
        question: The question.
        passages: The texts to search, the most likely first.
        thorough: Whether to add a second sentence that matches nearly as well.
        before: The previous question that this question refers to; empty without one. It decides if this question has
            no matching words of its own ("And when?").
    """
    found = _fitting(_stems(question), passages, thorough=thorough, around=_stems(before))
    return found or (_fitting(_stems(before), passages, thorough=thorough) if before else [])


def points_back(question: str) -> bool:
    """Return whether a question omits its subject because the conversation has named the subject before."""
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
    """Return the features by which two texts are compared: stems, or pairs of characters."""
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
    """Return whether a line continues the lines before it."""
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


def _cited_passages(text: str) -> tuple[list[tuple[int, str]], str, str]:
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
    found, before, behind = _cited_passages(text)
    return f"{before}\n{behind}" if found else text


def from_passages(reading: Reading, *, thorough: bool) -> str | None:
    """Answer a question from the numbered passages in the prompt.

    Args:
        reading: The request.
        thorough: Whether to add a second sentence that matches nearly as well.

    Returns:
        The answer; None if the prompt has no passages.
    """
    for text, other in ((reading.question, reading.system), (reading.system, reading.question)):
        found, before, behind = _cited_passages(text)
        if found:
            question = _question(before, behind) if text is reading.question else other
            asked = reading.said[-1] if reading.said and points_back(question) else ""
            if reading.documents and not _holds(question, asked, found):
                # A passage that refers to an attached document.
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
    """Return the citation format of the first example; an empty format if no citations are requested or shown."""
    if not _WANTS_CITATIONS.search(instructions):
        return _Marker()
    examples = list(_EXAMPLE.finditer(instructions))
    if not examples:
        return _Marker()
    first = examples[0]
    return _Marker(first["open"], first["close"], any(example["second"] for example in examples))


# --- Answers from the conversation, documents and media ---

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
    """Answer with a fact that the user stated about themselves, or with the user's earlier question."""
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
    """Answer a "refine" prompt.

    Return a sentence of the new context if it matches the question better than the existing answer, else that answer.
    """
    found = _REFINE.search(question)
    if found is None:
        return None
    context, asked, answer = found.groups()
    better = best_sentences([context], asked, most=1)
    wanted = stems(asked)
    return better[0] if better and len(stems(better[0]) & wanted) > len(stems(answer) & wanted) else answer


def rewrites(question: str) -> bool:
    """Return whether a prompt requests a question instead of an answer."""
    return standalone(question) is not None or split(question) is not None


def standalone(question: str) -> str | None:
    """A follow-up that is to be rewritten as a question of its own: with the one before it, where it points back."""
    if not re.search(r"stand-?alone question", question, re.IGNORECASE):
        return None
    # The last follow-up is the question. Earlier matches belong to the conversation.
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


# --- Jokes, poems, stories, code and lists ---

_JOKE = re.compile(r"\b(?:joke|make me laugh|funny)\b", re.IGNORECASE)
_POEM = re.compile(r"\b(\d{1,9} )?(haikus?|poems?|limericks?|verses?|sonnets?)\b", re.IGNORECASE)
_STORY = re.compile(r"\b(?:story|tale|essay|article|blog post|letter|paragraphs?)\b", re.IGNORECASE)
_LENGTH = re.compile(r"\b(\d{1,5}|one)[ -](words?|sentences?|paragraphs?)\b", re.IGNORECASE)
_CODE = re.compile(
    r"\b(?:write|give|show|create|implement|generate)\b.{0,60}?\b(?:function|program|script|code|method|class)\b",
    re.IGNORECASE,
)
_PURPOSE = re.compile(r"\b(?:that|which|to|for)\s+(.{3,80}?)(?=[.,\n]|$)", re.IGNORECASE)
_LIST = re.compile(
    r"\b(?:list|name|give me|tell me|suggest|what are|provide)\b(?: of)?(?: \w+){0,2}? (\d{1,2})\s+"
    r"([\w' -]{3,60}?)(?=[.,!?\n]|$)",
    re.IGNORECASE,
)
_QUALITIES = (
    *("first", "classic", "simple", "quiet", "bright", "useful", "rare", "common", "hidden", "popular"),
    *("modern", "ancient", "gentle", "bold", "small", "large"),
)
_MOST_WORDS = 20_000

_STORY_SENTENCES = (
    "Once there was {a} who lived at the edge of a small town.",
    "Every morning {the} looked out over the roofs and wondered what lay beyond the hills.",
    "One day a letter came, without a name and without a stamp.",
    "It said only: follow the river until it sings.",
    "So {the} packed some bread, a map and a little courage, and went.",
    "The way was longer than it looked, and the nights were full of stars.",
    "There were strangers who became friends, and doors that opened when nobody pushed.",
    "At last the river began to sing, very softly, over the stones.",
    "{The} listened, understood, and laughed.",
    "What had been sought was never far away; it had only wanted to be asked.",
)


def joke(question: str, subject: Callable[[], str]) -> str | None:
    """Return a joke about the subject; None if the question does not request a joke.

    Args:
        question: The question.
        subject: Returns the subject of the question, in one or two words.
    """
    if not _JOKE.search(question):
        return None
    return f"Why did the {subject()} cross the road?\n\nTo get to the other side!"


def poem(question: str, subject: Callable[[], str]) -> str | None:
    """Return the requested number of haikus or short poems, at most 20; None if the question requests none.

    Args:
        question: The question.
        subject: Returns the subject of the question, in one or two words.
    """
    found = _POEM.search(written_numbers_to_digits(question))
    if found is None or not re.search(
        r"\b(?:write|compose|give|create|tell|make|generate|only)\b", question, re.IGNORECASE
    ):
        return None
    asked_about = re.search(r"\b(?:about|on|of)\b", question, re.IGNORECASE)
    of = subject() if asked_about else "morning"
    verses = (
        f"Quiet {of} wakes,\nlight runs over the still pond;\nnobody says why.",
        f"Old {of} again,\na name that the wind repeats,\nsofter every time.",
    )
    return "\n\n".join(verses[number % 2] for number in range(min(int(found[1] or 1), 20)))


def story(question: str, subject: Callable[[], str]) -> str | None:
    """Return a story about the subject, of the requested length; None if the question does not request a story.

    Args:
        question: The question.
        subject: Returns the subject of the question, in one or two words.
    """
    length = _LENGTH.search(written_numbers_to_digits(question))
    writing = re.search(r"\b(?:write|tell|compose|draft|generate|create)\b", question, re.IGNORECASE)
    if writing is None or not (_STORY.search(question) or (length and length[2].lower().startswith("word"))):
        return None
    thing = re.sub(r"^(?:an?|the)\s+|(?<=\w{2}[^s])s$", "", subject())
    article = "an" if thing[:1].lower() in "aeiou" else "a"
    lines = [s.format(a=f"{article} {thing}", the=f"the {thing}", The=f"The {thing}") for s in _STORY_SENTENCES]
    if length is None:
        return " ".join(lines)
    count = 1 if length[1].lower() == "one" else int(length[1])
    unit = length[2].lower()
    if unit.startswith("word"):
        words = " ".join(lines).split()
        count = min(count, _MOST_WORDS)
        return " ".join((words * (count // len(words) + 1))[:count])
    pieces = lines if unit.startswith("sentence") else [" ".join(lines[:5]), " ".join(lines[5:])]
    repeated = (pieces * (min(count, 500) // len(pieces) + 1))[: min(count, 500)]
    return (" " if unit.startswith("sentence") else "\n\n").join(repeated)


def code(question: str, _subject: Callable[[], str]) -> str | None:
    """Return a function named after its purpose; None if the question does not request code.

    A few popular functions are complete. The others have a placeholder body.

    Args:
        question: The question.
        _subject: Unused. Every creative skill has this parameter.
    """
    if not _CODE.search(question):
        return None
    lower = question.lower()
    fibonacci = "def fibonacci(n):\n    a, b = 0, 1\n    for _ in range(n):\n        a, b = b, a + b\n    return a"
    known = {
        "fibonacci": fibonacci,
        "factorial": "def factorial(n):\n    return 1 if n <= 1 else n * factorial(n - 1)",
        "revers": "def reverse(text):\n    return text[::-1]",
        "palindrome": "def is_palindrome(text):\n    return text == text[::-1]",
        "prime": "def is_prime(n):\n    return n > 1 and all(n % d for d in range(2, int(n**0.5) + 1))",
        "hello": 'print("Hello, world!")',
    }
    for word, body in known.items():
        if word in lower:
            return f"```python\n{body}\n```"
    purpose = _PURPOSE.search(question)
    name = "_".join(re.findall(r"[a-z]+", (purpose[1] if purpose else "do it").lower())[:4]) or "do_it"
    return f'```python\ndef {name}(*values):\n    """To be written: the model is emulated."""\n    return values\n```'


def listing(question: str, _subject: Callable[[], str]) -> str | None:
    """Return a numbered list of the requested length, at most 99; None if the question does not request a list.

    Args:
        question: The question.
        _subject: Unused. Every creative skill has this parameter.
    """
    found = _LIST.search(written_numbers_to_digits(question))
    if found is None:
        return None
    count, things = min(int(found[1]), 99), found[2].strip()
    one = re.sub(r"(?<=\w{3})s$", "", things)
    return "\n".join(f"{n}. The {_QUALITIES[(n - 1) % len(_QUALITIES)]} {one}" for n in range(1, count + 1))


# --- Skills ---

CLEVER = 0.55
"""The smallest `EmulatedModel.size` that answers hard questions correctly."""

_COUNT = r"(\d{1,9}|[A-Z]|one|two|three|four|five|six|seven|eight|nine|ten)"
_ALICE = re.compile(
    rf"\b(\w+) has {_COUNT} brothers?\b.{{0,40}}?\b{_COUNT} sisters?\b.{{0,40}}how many sisters",
    re.IGNORECASE | re.DOTALL,
)
_GREETING = re.compile(r"^\W*(?:hello|hi|hey|hiya|good (?:morning|afternoon|evening)|greetings)\b", re.IGNORECASE)
_GREETING_WORDS = 4
_WELL_BEING = re.compile(r"\bhow are (?:you|things)\b|\bhow do you do\b", re.IGNORECASE)
_THANKS = re.compile(r"^\W*(?:thanks|thank you|thx|well, thanks)\b", re.IGNORECASE)
_COUNTING = re.compile(
    r"\bcount(?:ing)? (?:up )?(?:from (\d{1,9}) )?(down )?(?:from (\d{1,9}) )?to (\d{1,9})", re.IGNORECASE
)
_MOST_COUNTED = 5_000
_CAPITAL = re.compile(
    r"\bcapital(?: city)? of ([\w' -]+?)(?=[?.,!]|$| and\b| in\b)|\b([\w-]+)'s capital\b", re.IGNORECASE
)
_VERBATIM = re.compile(
    r"\b(?:repeat(?: after me)?|echo|say|reply(?: only)? with|respond(?: only)? with|answer(?: only)? with)"
    r"(?: (?:exactly|only|just|back|the (?:word|phrase|sentence|text)s?|this|the following)){0,3}\s*:?\s+(.+)",
    re.IGNORECASE | re.DOTALL,
)
_TRANSLATE = re.compile(r"\btranslat\w+\b", re.IGNORECASE)
_LANGUAGE = re.compile(
    r"\b(?:to|into|in) (french|spanish|german|italian|[A-Z][a-z]+(?:ese|ish|ian|ic|i))\b", re.IGNORECASE
)
_HELLO_WORLD = re.compile(r"hello,? world", re.IGNORECASE)
_POSITIVE = re.compile(
    r"\b(?:good|great|love[ds]?|excellent|happy|amazing|wonderful|best|like|nice|fantastic|enjoy(?:ed)?)\b",
    re.IGNORECASE,
)
_NEGATIVE = re.compile(
    r"\b(?:bad|terrible|hate[ds]?|awful|sad|worst|poor|disappoint\w*|broken?|boring|angry|slow|useless)\b",
    re.IGNORECASE,
)
_LONG_QUESTION = 3_000  # characters


def answer_text(reading: Reading, model: EmulatedModel) -> str:
    """Return the answer in text, before any style is applied.

    Args:
        reading: The request.
        model: The model that answers.
    """
    question = reading.question
    if len(question) > _LONG_QUESTION:  # the instructions stand at the ends of a long prompt
        question = f"{question[: _LONG_QUESTION // 3]}\n{question[-2 * _LONG_QUESTION // 3 :]}"
    for skill in _SKILLS:
        answer = skill(question, reading, model)
        if answer:
            return answer
    return _echo(question, model)


def _riddle(question: str, _reading: Reading, model: EmulatedModel) -> str | None:
    """Alice has N brothers and M sisters: each brother has M + 1 sisters, for Alice is one of them."""
    found = _ALICE.search(question) if "brother" in question else None
    if found is None:
        return None
    who, brothers, sisters = found.groups()
    number = written_numbers_to_digits(sisters)
    given = int(number) if number.isdigit() else {"one": 1}.get(sisters.lower())
    if model.size < CLEVER:
        return f"{who}'s brothers have {sisters} sisters."
    more = f"{sisters} + 1" if given is None else str(given + 1)
    return (
        f"Let's work through this question together, one step at a time:\n\n"
        f"1. {who} has {brothers} brothers, and she also has {sisters} sisters.\n"
        f"2. All of them are children of the same family, so {who}'s sisters are the sisters of {who}'s brothers as "
        f"well. That makes {sisters} sisters for each of the brothers so far.\n"
        f"3. {who} is a girl too, so she is herself a sister of each of her brothers. We have to count her in "
        f"addition to those: {sisters} + 1.\n"
        f"4. How many brothers there are ({brothers}) makes no difference to the result, because a brother is not "
        f"counted among the sisters.\n\n"
        f"Therefore, each of {who}'s brothers has {more} sisters: {who}'s {sisters} sisters, and {who} herself.\n\n"
        f"Answer: {more}"
    )


def _hello_world(question: str, _reading: Reading, _model: EmulatedModel) -> str | None:
    """Explain the purpose of a "hello world" program."""
    if (
        not _HELLO_WORLD.search(question)
        or re.search(r"\b(?:purpose|what is|why|describe|explain)\b", question, re.IGNORECASE) is None
    ):
        return None
    return (
        "A 'hello world' program is the simplest program that prints a greeting: it shows a language's basic syntax "
        "and proves that its tools are installed and work."
    )


def _greeting(question: str, _reading: Reading, _model: EmulatedModel) -> str | None:
    """Greetings, well-being, thanks."""
    if len(question) > 80:
        return None
    if _WELL_BEING.search(question):
        return "I'm doing well, thank you for asking! How can I help you today?"
    if _GREETING.search(question) and len(question.split()) <= _GREETING_WORDS:
        return "Hello! How can I help you today?"
    return "You're welcome! Is there anything else that I can help you with?" if _THANKS.search(question) else None


def _counting(question: str, _reading: Reading, _model: EmulatedModel) -> str | None:
    """Counting up or down."""
    found = _COUNTING.search(question)
    if found is None:
        return None
    first = int(found[1] or found[3] or (10 if found[2] else 1))
    last = int(found[4])
    step = 1 if last >= first else -1
    return ", ".join(map(str, range(first, last + step, step)[:_MOST_COUNTED]))


def _arithmetic(question: str, _reading: Reading, model: EmulatedModel) -> str | None:
    """Sums; a small model slips where there is much to carry."""
    if len(question) > 500:
        return None
    expression = expression_in(question)
    value = evaluate(expression) if expression else None
    if expression is None or value is None:
        return None
    operands = re.findall(r"\d+(?:\.\d+)?", expression)
    hard = len(operands) >= 4 or ("*" in expression and sum(map(len, operands)) >= 7)
    if hard and model.size < CLEVER:
        value += 10
    return f"{expression} = {shown(value)}"


def _capital(question: str, _reading: Reading, model: EmulatedModel) -> str | None:
    """Capitals of countries."""
    found = _CAPITAL.search(question) if "capital" in question.lower() else None
    if found is None:
        return None
    country = (found[1] or found[2]).strip()
    known = CAPITALS.get(country.lower()) or CAPITALS.get(f"the {country.lower()}")
    if known is None or (known[1] and model.size < 0.3):
        return f"I am not sure what the capital of {country} is."
    return f"The capital of {country} is {known[0]}."


def _fact(question: str, _reading: Reading, model: EmulatedModel) -> str | None:
    """A few more facts."""
    if len(question) > 300:
        return None
    words = stems(question) | frozenset(question.lower().split())
    for key, (fact, rare) in FACTS.items():
        if _FACT_STEMS[key] <= words and not (rare and model.size < 0.3):
            return fact
    return None


_FACT_STEMS = {key: stems(key) | {w for w in key.split() if w in ("first", "many")} for key in FACTS}


def _verbatim(question: str, _reading: Reading, _model: EmulatedModel) -> str | None:
    """Repeat the text that the question asks to repeat."""
    found = _VERBATIM.search(question)
    if found is None:
        return None
    quoted = quotations(found[1])
    return quoted[0] if quoted else found[1].strip()


def _translation(question: str, reading: Reading, _model: EmulatedModel) -> str | None:
    """Translating by a tiny dictionary; what is not in it is handed back in guillemets, marked with the language."""
    in_system = _TRANSLATE.search(reading.system) is not None
    if not in_system and not _TRANSLATE.search(question):
        return None
    language = _LANGUAGE.search(question) or _LANGUAGE.search(reading.system)
    if language is None:
        return None
    quoted = quotations(question)
    after = question.rpartition(":")[2] if ":" in question else question if in_system else ""
    text = quoted[0] if quoted else after.strip() or re.sub(r"(?i)^.*?translate\s+|\s+(?:in)?to \w+\W*$", "", question)
    plain = text.strip(" .!?").lower()
    name = language[1].lower()
    known = TRANSLATIONS.get(name, {}).get(plain)
    if known is None:
        return f"[{name.capitalize()}] «{text.strip()}»"
    return known[0].upper() + known[1:] + (text.strip()[-1] if text.strip()[-1] in ".!?" else "")


def _sentiment(question: str, _reading: Reading, _model: EmulatedModel) -> str | None:
    """Classify a text as positive or negative by counting words."""
    if "sentiment" not in question.lower() and not re.search(r"\bpositive or negative\b", question, re.IGNORECASE):
        return None
    balance = len(_POSITIVE.findall(question)) - len(_NEGATIVE.findall(question))
    return "Neutral" if balance == 0 else "Positive" if balance > 0 else "Negative"


def _written(question: str, _reading: Reading, _model: EmulatedModel) -> str | None:
    """Jokes, poems, stories, lists and code."""
    subject = Clues(question[-500:]).subject
    for skill in (joke, poem, story, code, listing):
        text = skill(question, subject)
        if text:
            return text
    return None


def _passages(_question: str, reading: Reading, model: EmulatedModel) -> str | None:
    """Numbered passages, before all else: what they say may look like anything that one can be asked for."""
    return from_passages(reading, thorough=model.size >= CLEVER)


def _sources(_question: str, reading: Reading, model: EmulatedModel) -> str | None:
    """Documents, passages in the prompt, the system prompt."""
    return from_sources(reading, thorough=model.size >= CLEVER)


def _echo(question: str, model: EmulatedModel) -> str:
    """Answer any other question: name the question's key words, and that the model is emulated."""
    words = key_words(question)[:6]
    about = ", ".join(words) if words else "that"
    text = f"You asked about {about}. "
    if model.size >= CLEVER:
        text += f"As {model.name}, emulated, I can say no more than that I have read all your words. "
    return text + "This is a deterministic answer by an emulated model."


_SKILLS: tuple[Callable[[str, Reading, EmulatedModel], str | None], ...] = (
    _passages,
    # Before the skills that look for a question anywhere: these prompts bring a conversation, which may hold any.
    lambda question, _reading, _model: standalone(question),
    lambda question, _reading, _model: split(question),
    _riddle,
    _hello_world,
    _greeting,
    lambda _question, reading, _model: from_memory(reading),
    lambda _question, reading, _model: from_media(reading),
    lambda question, _reading, _model: refined(question),
    lambda _question, reading, _model: summary(reading),
    _verbatim,
    _counting,
    _translation,
    _sentiment,
    _sources,
    _capital,
    _arithmetic,
    _fact,
    _written,
)


# --- Answers shaped like a JSON example ---

_OPENING = re.compile(r"^[ \t]*(?=[\[{])", re.MULTILINE)
_SHOWN = re.compile(r"\b(?:example|output|format|response|answer)\b", re.IGNORECASE)
_BARE_KEY = re.compile(r"^([ \t]*)(\w+)(?=\s*:)", re.MULTILINE)
_DOUBLED = re.compile(r"(\{)\{(?=\s*$)|^(\s*\})\}", re.MULTILINE)  # braces that a template escaped
_AND_SO_ON = re.compile(r",\s*\.\.\.\s*(?=[\]}])")
_CLAUSE = re.compile(r",?\s+and\s+|;\s+|(?<=[?.!])\s+", re.IGNORECASE)
_MOST_READ = 20_000  # characters
_MOST_TRIED = 200  # lines that could begin a JSON value


def like_example(text: str, answer: Callable[[], str]) -> Any:
    """Return a value shaped like the last JSON example in a text, filled from the rest of the text.

    If a string of the example is a key of the JSON that the example was made from, a key of the prompt's last JSON
    replaces it. A list of such objects gets an item for each clause of the question.

    Args:
        text: The prompt.
        answer: Returns an answer in text, for fields that take the model's own words.

    Returns:
        The value; None without an example.
    """
    written = list(_examples_written(text[-_MOST_READ:]))
    shown = [index for index, (label, _) in enumerate(written) if _SHOWN.search(label)]
    if not shown:
        return None
    example = written[shown[-1]][1]
    given = written[shown[-1] - 1][1] if shown[-1] else None
    last = written[-1][1]
    keys = (frozenset(given), list(last)) if isinstance(given, dict) and isinstance(last, dict) else (frozenset(), [])
    labelled = labelled_question(text)
    return _filled(_schema(example, *keys), labelled[0] if labelled else text, answer)


def _examples_written(text: str) -> Iterator[tuple[str, Any]]:
    """The JSON values that begin a line of `text`, each with the line before it; bare keys and "..." are let pass."""
    single = _DOUBLED.sub(r"\1\2", text) if "{{" in text else text
    plain = _AND_SO_ON.sub("", _BARE_KEY.sub(r'\1"\2"', single))
    end = 0
    for match in islice(_OPENING.finditer(plain), _MOST_TRIED):
        if match.end() < end:
            continue
        try:
            value, end = json.JSONDecoder().raw_decode(plain, match.end())
        except (ValueError, RecursionError):  # brackets that open thousands of others
            continue
        before = [line for line in plain[: match.end()].splitlines() if line.strip(" \t`[{") not in ("", "json")]
        yield (before[-1] if before else ""), value


def _schema(example: Any, given: frozenset[str], keys: list[str]) -> dict[str, Any]:
    """The schema of an example; its texts that are `given` can be any of `keys`."""
    if isinstance(example, dict):
        parts = {name: _schema(value, given, keys) for name, value in example.items()}
        return {"type": "object", "properties": parts, "required": list(parts)}
    if isinstance(example, list):
        return {"type": "array", "items": _schema(example[0], given, keys) if example else {}}
    if isinstance(example, str):
        return {"enum": keys} if example in given and keys else {"type": "string"}
    kinds = {bool: "boolean", int: "integer", float: "number"}
    return {"type": kinds.get(type(example), "null")}


def _filled(schema: dict[str, Any], question: str, answer: Callable[[], str]) -> Any:
    properties = schema.get("properties", {})
    if len(properties) == 1:
        name, part = next(iter(properties.items()))
        if part.get("type") == "array":
            return {name: _filled(part, question, answer)}
    if schema.get("type") != "array":
        return fill(schema, Clues(question, answer=answer), generous=True)
    items = schema["items"]
    parts = _clauses(question) if any("enum" in part for part in items.get("properties", {}).values()) else [question]
    return [fill(items, Clues(part, answer=answer)) for part in parts]


def _clauses(question: str) -> list[str]:
    """The clauses of a question, each a question."""
    clauses = [clause.strip() for clause in _CLAUSE.split(question) if clause.strip()]
    asks = question.rstrip().endswith("?")
    return [clause if clause.endswith("?") or not asks else f"{clause}?" for clause in clauses]


# --- Style of answers ---

_JSON = re.compile(
    r"\b(?:reply|respond|answer|return|output|format|result|write|give)\b[^.\n]{0,60}\bJSON\b|\bJSON\b[^.\n]{0,30}\b(?:only|format|object)\b"
    r"|\bonly\b[^.\n]{0,20}\bJSON\b",
    re.IGNORECASE,
)
_KEYS = re.compile(r"\bkeys?\b|\bfields?\b", re.IGNORECASE)
_SCHEMA = re.compile(r"\{\s*\"(?:properties|\$defs|type|title|description)\".*\}", re.DOTALL)
_ONE_WORD = re.compile(r"\b(?:one|single|1)[ -]word\b", re.IGNORECASE)
_ONE_SENTENCE = re.compile(
    r"\b(?:in|with|using) (?:one|a single|1) (?:short )?(?:sentence|line)\b|\bone[ -](?:sentence|line)\b",
    re.IGNORECASE,
)
_PIRATE = re.compile(r"\b(?:you are|act as|talk|speak|respond|answer|like|as)\b[^.\n]{0,40}\bpirate", re.IGNORECASE)
_CAPITALS = re.compile(r"\b(?:all caps|upper ?case|capital letters)\b", re.IGNORECASE)
_LOWER = re.compile(r"\blower ?case\b", re.IGNORECASE)
_CHECKED = 4_000  # characters of a prompt in which instructions about form are looked for, at either end


def styled(answer: str, reading: Reading) -> str:
    """Return an answer in the style that the request asks for.

    Args:
        answer: The answer in text.
        reading: The request.
    """
    if rewrites(reading.question):  # a style requested in the conversation is not for the rewritten question
        return answer
    asked, system = outside_passages(reading.question), outside_passages(reading.system)
    if len(asked) > 2 * _CHECKED:
        asked = asked[:_CHECKED] + asked[-_CHECKED:]
    wishes = f"{system[: 2 * _CHECKED]}\n{asked}"
    if _JSON.search(wishes):
        return _as_json(answer, wishes, reading)
    if _ONE_WORD.search(wishes):
        answer = _one_word(answer)
    elif _ONE_SENTENCE.search(wishes) and not answer.startswith("```"):
        answer = (sentences(answer) or [answer])[0]
    if _PIRATE.search(wishes):
        answer = f"Arr! {answer} Aye, matey!"
    if _CAPITALS.search(wishes):
        return answer.upper()
    return answer.lower() if _LOWER.search(wishes) else answer


def _one_word(answer: str) -> str:
    """The last word of the first sentence, where English puts what is new."""
    words = re.findall(r"[\w'.,%°$€£-]*\w%?", (sentences(answer) or [answer])[0])
    return words[-1] if words else answer


def _as_json(answer: str, wishes: str, reading: Reading) -> str:
    """A JSON object: by a schema written in the prompt, with the keys that it quotes, or with the one key "answer"."""
    clues = Clues(reading.question, answer=lambda: answer)
    schema: Any = None
    written = _SCHEMA.search(wishes)
    if written is not None:
        try:
            schema = json.JSONDecoder().raw_decode(written[0])[0]
        except ValueError:
            schema = None
    if not isinstance(schema, dict) or "properties" not in schema:
        keys = [key for key in quotations(wishes) if re.fullmatch(r"\w{1,40}", key)] if _KEYS.search(wishes) else []
        if not keys:
            value = like_example(reading.question, lambda: answer)
            return json.dumps({"answer": answer} if value is None else value, ensure_ascii=False)
        schema = {"type": "object", "properties": {key: {"type": "string"} for key in keys}, "required": keys}
        clues.quoted = [each for each in clues.quoted if each not in keys]
    return json.dumps(fill(schema, clues, generous=True), ensure_ascii=False)
