"""Answers out of what the request holds: documents, passages in the prompt, earlier turns, pictures."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from bedrock_routing_integrations.emulator.questions import parts_of

from .passages import points_back
from .words import best_sentences, sentences, stems

if TYPE_CHECKING:
    from .reading import Reading

__all__ = [
    "from_media",
    "from_memory",
    "from_sources",
    "labelled_question",
    "refined",
    "rewrites",
    "split",
    "standalone",
    "summary",
]

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
