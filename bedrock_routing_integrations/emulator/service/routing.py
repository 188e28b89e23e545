"""Which of a router's two models answers: a stated, deterministic estimate in place of a learned one.

1. **Difficulty** `d` of the prompt, 0 to 1, from the last user message and the length of the conversation:
   `_SIGNALS` lists what adds to it and what takes away.
2. **Predicted quality** of a model of size `s` (see `models.py`): 1 while `d <= s`, then falling by `_SLOPE`
   for each unit of difficulty beyond it, not below 0.
3. **The rule** (Amazon's user guide, "Understanding intelligent prompt routing"): the fallback model is the
   anchor. A fallback that is the larger model gives way to the smaller one where that loses at most
   `responseQualityDifference`; a fallback that is the smaller model gives way to the larger one where that
   gains more than `responseQualityDifference`.

It emulates a router's behaviour, not its judgement.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from .targets import Backend

__all__ = ["Choices", "difficulty", "pick", "predicted_quality", "prompt_text"]

_SLOPE = 2.0
_BASE = 0.15
_LONG_PROMPT_WORDS = 400
_TURNS = 12
_READ_CHARS = 4_000  # enough to judge by; the patterns are not linear in the length

# What each sign adds to the difficulty; a sign counts once.
_SIGNALS: tuple[tuple[float, re.Pattern[str]], ...] = tuple(
    (weight, re.compile(pattern, re.IGNORECASE))
    for weight, pattern in (
        # Quantities: counting and working out.
        (0.35, r"\bhow (?:many|much|long|far|old|often)\b|\bcalculate\b|\bprobabilit|\bsolve\b"),
        (
            0.15,
            r"(?:(?<!\w)(?:\d[\d.,]*|(?-i:[NMXYK]))(?!\w)[\s\S]*){2}",
        ),  # two numbers, or letters standing for them
        # Reasoning: causes, comparisons, proofs, several steps.
        (
            0.35,
            r"\b(?:prove|derive|deduce|step[- ]by[- ]step|explain why|justify|trade-?offs?)\b",
        ),
        (
            0.25,
            r"\bwhy\b|\bcompare\b|\banaly[sz]e\b|\bevaluate\b|\boptimi[sz]e\b|\bdesign\b|\bstrategy\b|\bimplications?\b",
        ),
        # Relations between things that have to be kept apart.
        (
            0.20,
            r"\b(?:brothers?|sisters?|older|younger|taller|shorter|faster|slower|twice|than|respectively|also)\b",
        ),
        (0.10, r"\bif\b[\s\S]+\b(?:then|what|how|would|will)\b"),
        # Code to read or to write.
        (
            0.30,
            r"```|\bdef \w+\(|\bclass \w+[:({]|(?-i:\bSELECT\b.+\bFROM\b)|\b(?:implement|debug|refactor)\b",
        ),
        # Asking for little.
        (-0.20, r"\bin (?:one|a single|1) (?:line|word|sentence)\b|\bbriefly\b|\byes or no\b|\bin short\b"),
        (
            -0.10,
            r"^\s*(?:hi|hello|hey|thanks|thank you)\b|^\s*(?:what is|who is|define|translate|repeat|say)\b",
        ),
    )
)


def prompt_text(request: Mapping[str, Any]) -> str:
    """The text of the last user message."""
    for message in reversed(request.get("messages") or ()):
        if message["role"] == "user":
            return "\n".join(block["text"] for block in message["content"] if "text" in block)
    return ""


def difficulty(request: Mapping[str, Any]) -> float:
    """How hard a request is taken to be, from 0 to 1."""
    text = prompt_text(request)
    signs = sum(weight for weight, pattern in _SIGNALS if pattern.search(text[:_READ_CHARS]))
    length = 0.25 * min(1.0, text.count(" ") / _LONG_PROMPT_WORDS)
    turns = 0.15 * min(1.0, (len(request.get("messages") or ()) - 1) / _TURNS)
    return min(1.0, max(0.0, _BASE + signs + length + turns))


def predicted_quality(size: float, hard: float) -> float:
    """The quality, 0 to 1, that a model of a size is expected to reach on a prompt of a difficulty."""
    return 1.0 if hard <= size else max(0.0, 1.0 - _SLOPE * (hard - size))


def pick(hard: float, candidates: Sequence[Backend], fallback: Backend, difference: float) -> Backend:
    """The candidate that answers.

    Args:
        hard: The difficulty of the request.
        candidates: The router's targets.
        fallback: The one that the router falls back on.
        difference: `responseQualityDifference`: percent, or a fraction below 1 (as default routers have).
    """
    tolerance = difference / 100 if difference >= 1 else difference
    anchor = predicted_quality(fallback.model.size, hard)
    for other in candidates:
        gain = predicted_quality(other.model.size, hard) - anchor
        if other.model.size < fallback.model.size and gain >= -tolerance:
            return other
        if other.model.size > fallback.model.size and gain > tolerance:
            return other
    return fallback


@dataclass
class _Dictated:
    chosen: str | Callable[[str], str]
    times: int
    router: str | None


class Choices:
    """What a test has dictated about the next routings."""

    def __init__(self) -> None:
        self._dictated: deque[_Dictated] = deque()

    def dictate(self, chosen: str | Callable[[str], str], times: int, router: str | None) -> None:
        """Let the next `times` requests (to `router`, or to any) go to a model."""
        self._dictated.append(_Dictated(chosen, times, router))

    def take(self, router: str, candidates: Sequence[Backend], text: str) -> Backend | None:
        """The dictated candidate for a request, if there is one; it is used up."""
        for entry in list(self._dictated):
            if entry.router not in {None, router}:
                continue
            wanted = entry.chosen if isinstance(entry.chosen, str) else entry.chosen(text)
            found = next((one for one in candidates if wanted in _names(one)), None)
            if found is not None:
                entry.times -= 1
                if entry.times <= 0:
                    self._dictated.remove(entry)
                return found
        return None


def _names(backend: Backend) -> set[str]:
    """Everything that a candidate may be called by."""
    return {backend.model.model_id, backend.arn, backend.arn.rpartition("/")[2], backend.target}
