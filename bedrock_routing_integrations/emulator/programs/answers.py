"""Answers in words.

Each skill looks at a question and answers it or passes it on; the last one always answers.

What larger models can do and smaller ones cannot is decided by `EmulatedModel.size`: from 0.55 on a model
solves the riddle of Alice's brothers, long calculations and rare facts; below, it gives the answer that is
plausible and wrong.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from .arithmetic import evaluate, expression_in, shown
from .clues import Clues
from .knowledge import CAPITALS, FACTS, TRANSLATIONS
from .passages import from_passages
from .sources import from_media, from_memory, from_sources, refined, split, standalone, summary
from .words import key_words, quotations, stems, written_numbers_to_digits
from .writing import code, joke, listing, poem, story

if TYPE_CHECKING:
    from collections.abc import Callable

    from bedrock_routing_integrations.emulator.models import EmulatedModel

    from .reading import Reading

__all__ = ["CLEVER", "answer_text"]

CLEVER = 0.55
"""The size from which a model gets hard questions right."""

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
    """The answer in words, before any style is put on it."""
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
    """What a "hello world" program is for."""
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
    """Repeating what is asked to be said."""
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
    """Whether a text is positive or negative, by counting words."""
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
    """The answer to everything else: it says which words the question was about, and who says so."""
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
