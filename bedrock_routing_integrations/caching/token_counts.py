"""Estimate how many tokens Bedrock will count in a prompt, from what it counted in earlier ones.

Bedrock counts tokens beforehand for some models only (CountTokens), and there is no tokenizer for most of the others.
But every answer says how many tokens its prompt had. Prompts with the same tools and the same system prompt differ in
their messages only, so their counts lie on a line: a fixed part (tools, system, what the service adds) and a price for
each character. The fixed part is taken from the last answer, the slope from the last few. Before any answer
`Calibration` says what is known of the model family. In a conversation the estimate is within a few percent from
the second answer on.

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
_SLOPES = (0.0, 10.0)  # tokens counted per token estimated; a gateway may count in its own way


class _Counted(NamedTuple):
    """One answer: what was estimated of its prompt, and what Bedrock counted."""

    words: float
    media: float
    tokens: int


class TokenCounts:
    """Remember what Bedrock counted, by application. Bounded; safe under threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, deque[_Counted]] = OrderedDict()

    def learn(self, scope: Hashable, prefix: Prefix, tokens: int) -> None:
        """Remember the count of one prompt.

        Args:
            scope: Identifies the target.
            prefix: The prompt, measured.
            tokens: What Bedrock counted, cached tokens included.
        """
        if tokens <= 0:
            return
        key = _application(scope, prefix)
        with self._lock:
            counted = self._kept.setdefault(key, deque(maxlen=_ANSWERS))
            counted.append(_Counted(prefix.words, prefix.media, tokens))
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
        more = more_words * _slope(counted) + more_media * calibration.tokens(0.0, 1.0)
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
