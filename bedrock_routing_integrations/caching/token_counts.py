"""Estimate how many tokens Bedrock will count in a prompt, from what it counted in earlier ones.

Bedrock counts tokens beforehand for some models only (CountTokens), and there is no tokenizer for most of the others.
But every answer says how many tokens its prompt had. Prompts with the same tools and the same system prompt differ in
their messages only, so their counts lie on a line: a fixed part (tools, system, what the service adds) and a price for
each character. The fixed part is taken from the last answer, the slope from the last few, and an answer that is part of
the next prompt has been counted as output. Before any answer `Calibration` says what is known of the model family. Of
recorded conversations with the real service, the third prompt is estimated within 5% after two answers.

Considered and left: a digest of each prefix with its count. It is exact for what was sent before, but hashes the whole
prompt in each call, and is no better for the part that is new, which is the part that is not known.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Hashable

    from .prefix import Prefix
    from .sizes import Calibration

_MOST_KEPT = 2_000  # applications
_ANSWERS = 8  # of one application
_DOUBT = 100.0**2  # of a slope: prompts that differ by less than a hundred tokens say little of it
_PLAUSIBLE = (0.4, 3.0)  # tokens counted per token estimated, of an answer that is a turn of the next prompt
_FRAME = 60  # tokens that a call of a tool has besides its text
_SLOPES = (0.0, 10.0)  # tokens counted per token estimated; a gateway may count in its own way


class _Counted(NamedTuple):
    """One answer.

    Attributes:
        words: Tokens of text in its prompt, estimated.
        media: Tokens of media in its prompt, estimated.
        messages: Messages of its prompt.
        tokens: Tokens of its prompt, as Bedrock counted them.
        answer: Tokens of the answer itself.
    """

    words: float
    media: float
    messages: int
    tokens: int
    answer: int


class TokenCounts:
    """Remember what Bedrock counted, by application. Bounded; safe under threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, deque[_Counted]] = OrderedDict()

    def learn(self, scope: Hashable, prefix: Prefix, tokens: int, answer: int = 0) -> None:
        """Remember the count of one prompt.

        Args:
            scope: Identifies the target.
            prefix: The prompt, measured.
            tokens: What Bedrock counted, cached tokens included.
            answer: Tokens of the answer.
        """
        if tokens <= 0:
            return
        key = _application(scope, prefix)
        with self._lock:
            counted = self._kept.setdefault(key, deque(maxlen=_ANSWERS))
            counted.append(_Counted(prefix.words, prefix.media, len(prefix.roles), tokens, answer))
            self._kept.move_to_end(key)
            while len(self._kept) > _MOST_KEPT:
                self._kept.popitem(last=False)

    def estimate(self, scope: Hashable, prefix: Prefix, calibration: Calibration) -> int:
        """Return the tokens that a prompt will probably have.

        Args:
            scope: Identifies the target.
            prefix: The prompt, measured.
            calibration: What is known of the model family.
        """
        with self._lock:
            counted = tuple(self._kept.get(_application(scope, prefix), ()))
        if not counted:
            return max(1, round(calibration.tokens(prefix.words, prefix.media)))
        # The prompt of nearest size: of several conversations with one application it is likely this one.
        last = min(reversed(counted), key=lambda each: abs(each.words - prefix.words))
        more_words, more_media = prefix.words - last.words, prefix.media - last.media
        known, known_words = _answer_in(prefix, last)
        more = known + (more_words - known_words) * _slope(counted) + more_media * calibration.tokens(0.0, 1.0)
        return max(1, round(last.tokens + more))

    def forget(self) -> None:
        """Forget everything."""
        self._lock = threading.Lock()  # after a fork it may be held by a thread that is not there
        self._kept.clear()


def _application(scope: Hashable, prefix: Prefix) -> Hashable:
    """Return what prompts of one application have in common: the sizes of tools and system, which are seldom equal."""
    tools = system = 0.0
    for place in prefix.places:
        if place.section == "messages":
            break
        if place.section == "tools":
            tools = place.words
        system = place.words
    return scope, round(tools, 2), round(system, 2), prefix.choice


def _answer_in(prefix: Prefix, last: _Counted) -> tuple[int, float]:
    """Return the tokens of the last answer, and what they are estimated at, where the prompt goes on behind it.

    Bedrock has counted the answer as output. Reasoning in it does not count in the next prompt, as far as models drop
    the reasoning of earlier turns, so that such an answer is estimated as any other message.
    """
    if not last.answer or len(prefix.roles) <= last.messages or prefix.roles[last.messages] != "assistant":
        return 0, 0.0
    before = [place.words for place in prefix.places if place.message is None or place.message < last.messages]
    turn = [place for place in prefix.places if place.message == last.messages]
    if not turn or not before or before[-1] != last.words or any("reasoningContent" in place.block for place in turn):
        return 0, 0.0
    words = turn[-1].words - before[-1]
    # Another turn than the answer, such as one that the caller wrote or shortened, has another size.
    is_answer = _PLAUSIBLE[0] * words <= last.answer <= _PLAUSIBLE[1] * words + _FRAME
    return (last.answer, words) if is_answer else (0, 0.0)


def _slope(counted: tuple[_Counted, ...]) -> float:
    """Return tokens counted per token estimated: least squares over the prompts, drawn towards one.

    What the family's calibration says is no help here: it has the fixed part in it.
    """
    texts = [each for each in counted if each.media == counted[-1].media]
    mean_words = sum(each.words for each in texts) / len(texts)
    mean_tokens = sum(each.tokens for each in texts) / len(texts)
    spread = sum((each.words - mean_words) ** 2 for each in texts)
    together = sum((each.words - mean_words) * (each.tokens - mean_tokens) for each in texts)
    slope = (together + _DOUBT) / (spread + _DOUBT)
    return min(max(slope, _SLOPES[0]), _SLOPES[1])
