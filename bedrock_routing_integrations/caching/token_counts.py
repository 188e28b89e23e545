"""Estimate how many tokens Bedrock will count in a prompt, from what it counted in earlier ones.

Bedrock counts tokens beforehand for some models only (CountTokens), and there is no tokenizer for most of the others.
But every answer says how many tokens its prompt had. Prompts with the same tools and the same system prompt differ in
their messages only, so their counts lie on a line: a fixed part (tools, system, what the service adds) and a price for
each character. The fixed part is taken from the last answer, the slope from the last few, and an answer that is part of
the next prompt has been counted as output. Before any answer `Calibration` says what is known of the model family. Of
recorded conversations with the real service, the third prompt is estimated within 5% after two answers.

Learning is on the path of every call, so it looks at the lengths of texts only (`measure_text`): a file of 4 MB or a
history of 800 kB costs some microseconds. Only sizes and counts are kept.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    from .prefix import Prefix
    from .sizes import Calibration

_CHARACTERS_PER_TOKEN = 4.0
_TOKENS_PER_FOREIGN_CHARACTER = 0.8  # beyond ASCII: one to a token in Chinese, two in Russian
_MOST_KEPT = 2_000  # applications
_ANSWERS = 8  # of one application
_DOUBT = 30.0**2  # of a slope: prompts that differ by less than thirty tokens say little of it
_PLAUSIBLE = (0.4, 3.0)  # tokens counted per token estimated, of an answer that is a turn of the next prompt
_FRAME = 60  # tokens that a call of a tool has besides its text
_SLOPES = (0.0, 10.0)  # tokens counted per token estimated; a gateway may count in its own way
# Not text of the prompt: bytes of media are measured by `Prefix`, and models drop the reasoning of earlier turns.
_SKIPPED = frozenset(["bytes", "cachePoint", "reasoningContent"])


def measure_text(value: Any) -> float:
    """Return the tokens of all text in a part of a request, estimated from its length."""
    if isinstance(value, str):
        if value.isascii():
            return len(value) / _CHARACTERS_PER_TOKEN
        foreign = len(value) - len(value.encode("ascii", "ignore"))
        return (len(value) - foreign) / _CHARACTERS_PER_TOKEN + foreign * _TOKENS_PER_FOREIGN_CHARACTER
    if isinstance(value, dict):
        return sum(
            len(str(key)) / _CHARACTERS_PER_TOKEN + measure_text(inner)
            for key, inner in value.items()
            if key not in _SKIPPED
        )
    if isinstance(value, (list, tuple)):
        return sum(measure_text(inner) for inner in value)
    return 0.5 if isinstance(value, (int, float)) else 0.0


class _Counted(NamedTuple):
    """One answer.

    Attributes:
        words: Tokens of text in its prompt, estimated.
        messages: Messages of its prompt.
        tokens: Tokens of its prompt, as Bedrock counted them.
        answer: Tokens of the answer itself.
    """

    words: float
    messages: int
    tokens: int
    answer: int


class _Measured(NamedTuple):
    """The text of a prompt: of what comes before the messages, and of each message."""

    tools: float
    system: float
    messages: list[float]

    @property
    def words(self) -> float:
        """Tokens of all text."""
        return self.tools + self.system + sum(self.messages)


class TokenCounts:
    """Remember what Bedrock counted, by application. Bounded; safe under threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, deque[_Counted]] = OrderedDict()

    def learn(self, scope: Hashable, request: Mapping[str, Any], tokens: int, answer: int = 0) -> None:
        """Remember the count of one prompt.

        Args:
            scope: Identifies the target.
            request: The Converse request.
            tokens: What Bedrock counted, cached tokens included.
            answer: Tokens of the answer.
        """
        if tokens <= 0:
            return
        measured = _measured(request)
        key = _application(scope, measured)
        with self._lock:
            counted = self._kept.setdefault(key, deque(maxlen=_ANSWERS))
            counted.append(_Counted(measured.words, len(measured.messages), tokens, answer))
            self._kept.move_to_end(key)
            while len(self._kept) > _MOST_KEPT:
                self._kept.popitem(last=False)

    def estimate(self, scope: Hashable, request: Mapping[str, Any], prefix: Prefix, calibration: Calibration) -> int:
        """Return the tokens that a prompt will probably have.

        Args:
            scope: Identifies the target.
            request: The Converse request.
            prefix: The same, measured with its media.
            calibration: What is known of the model family.
        """
        measured = _measured(request)
        with self._lock:
            counted = tuple(self._kept.get(_application(scope, measured), ()))
        if not counted:
            return max(1, round(calibration.tokens(prefix.words, prefix.media)))
        # The prompt of nearest size: of several conversations with one application it is likely this one.
        last = min(reversed(counted), key=lambda each: abs(each.words - measured.words))
        known, known_words = _answer_in(request, measured, last)
        more = known + (measured.words - last.words - known_words) * _slope(counted)
        before = max((p.media for p in prefix.places if (p.message or 0) < last.messages), default=0.0)
        more += calibration.tokens(0.0, prefix.media - before)
        return max(1, round(last.tokens + more))

    def forget(self) -> None:
        """Forget everything."""
        self._lock = threading.Lock()  # after a fork it may be held by a thread that is not there
        self._kept.clear()


def _measured(request: Mapping[str, Any]) -> _Measured:
    tools = measure_text((request.get("toolConfig") or {}).get("tools") or ())
    messages = [measure_text(message.get("content") or ()) for message in request.get("messages") or ()]
    return _Measured(tools, measure_text(request.get("system") or ()), messages)


def _application(scope: Hashable, measured: _Measured) -> Hashable:
    """Return what prompts of one application have in common: the sizes of tools and system, which are seldom equal."""
    return scope, round(measured.tools, 2), round(measured.system, 2)


def _answer_in(request: Mapping[str, Any], measured: _Measured, last: _Counted) -> tuple[int, float]:
    """Return the tokens of the last answer, and what they are estimated at, where the prompt goes on behind it.

    Bedrock has counted the answer as output. Reasoning in it does not count in the next prompt, so that such an answer
    is estimated as any other message.
    """
    messages = request.get("messages") or ()
    if not last.answer or len(messages) <= last.messages or messages[last.messages].get("role") != "assistant":
        return 0, 0.0
    before = measured.tools + measured.system + sum(measured.messages[: last.messages])
    turn, words = messages[last.messages], measured.messages[last.messages]
    if abs(before - last.words) > 1e-6 or any("reasoningContent" in block for block in turn.get("content") or ()):
        return 0, 0.0
    # Another turn than the answer, such as one that the caller wrote or shortened, has another size.
    is_answer = _PLAUSIBLE[0] * words <= last.answer <= _PLAUSIBLE[1] * words + _FRAME
    return (last.answer, words) if is_answer else (0, 0.0)


def _slope(counted: tuple[_Counted, ...]) -> float:
    """Return tokens counted per token estimated: least squares over the prompts, drawn towards one.

    What the family's calibration says is no help here: it has the fixed part in it.
    """
    mean_words = sum(each.words for each in counted) / len(counted)
    mean_tokens = sum(each.tokens for each in counted) / len(counted)
    spread = sum((each.words - mean_words) ** 2 for each in counted)
    together = sum((each.words - mean_words) * (each.tokens - mean_tokens) for each in counted)
    slope = (together + _DOUBT) / (spread + _DOUBT)
    return min(max(slope, _SLOPES[0]), _SLOPES[1])
