"""Jokes, poems, stories, lists and code, to order: the subject is the prompt's, the rest is a template."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from .words import written_numbers_to_digits

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["code", "joke", "listing", "poem", "story"]

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
    """A joke about the subject."""
    if not _JOKE.search(question):
        return None
    return f"Why did the {subject()} cross the road?\n\nTo get to the other side!"


def poem(question: str, subject: Callable[[], str]) -> str | None:
    """As many haikus or short poems as are asked for."""
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
    """A story about the subject, of the length asked for."""
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
    """A function named after its purpose; a few that are often asked for are complete."""
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
    """A numbered list of as many things as are asked for."""
    found = _LIST.search(written_numbers_to_digits(question))
    if found is None:
        return None
    count, things = min(int(found[1]), 99), found[2].strip()
    one = re.sub(r"(?<=\w{3})s$", "", things)
    return "\n".join(f"{n}. The {_QUALITIES[(n - 1) % len(_QUALITIES)]} {one}" for n in range(1, count + 1))
