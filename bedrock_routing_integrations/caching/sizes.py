"""Estimate how many tokens Bedrock will count, without a tokenizer.

Three steps, each correcting the one before:

- `measure` estimates one content block from its length: English text has about four characters per token; characters
  beyond ASCII count for more (one per token in Chinese, two in Russian). Media have typical sizes. It also returns the
  bytes that identify the block, since both need one pass over its content.
- `Calibration` corrects the estimates of one model family by the ratio of counted to estimated tokens in its answers.
  The planner compares its estimates with minimum and maximum prefix sizes.
- `TokenCounts` estimates whole prompts for `RoutedClient.count_prompt_tokens`: it starts from the count of an earlier
  prompt of the same application, and estimates only the difference. That needs no calibration for the fixed part
  (tools, and what Bedrock adds around them), which no estimate from lengths gets right.
"""

from __future__ import annotations

import json
import re
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from bedrock_routing_integrations.bounded_cache import BoundedCache

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Mapping

    from .candidates import Prefix

_CHARACTERS_PER_TOKEN = 4.0

# --- One content block ---

_TOKENS_PER_EXTRA_BYTE = 0.4  # UTF-8 bytes beyond the first of a character
_IMAGE_TOKENS = 1_500.0  # Claude: width * height / 750, scaled down to about this; Nova's sizes are of this order
_CLIP_TOKENS = 3_000.0
_S3_TOKENS = 1_500.0  # a document in S3, whose size only Bedrock sees
_PDF_PAGE_TOKENS = 1_800.0  # AWS and Anthropic give 1,500 to 3,000 for a page
_PDF_BYTES_PER_TOKEN = 40.0
_OFFICE_BYTES_PER_TOKEN = 10.0  # compressed text
_MAX_PAGES = 4_000  # more than any model reads
_PDF_PAGE = re.compile(rb"/Type\s*/Page\b")
_PLAIN_TEXT_FORMATS = frozenset(["txt", "md", "csv", "html"])
# A bigger file is identified by its length and both ends: mistaking one for another costs one wrong prediction.
_MAX_IDENTITY_BYTES = 65_536

Measurement = tuple[str, bytes, float, float]
"""Of a block: its kind, the bytes that identify it, and its estimated tokens of text and of media."""


def measure(block: Mapping[str, Any]) -> Measurement:
    """Return the kind, identity and estimated tokens of a block of tools, system or messages, before calibration."""
    text = block.get("text")
    if text is not None and isinstance(text, str):
        identity = text.encode("utf-8", "surrogatepass")
        return "text", identity, _text_tokens(len(text), len(identity)), 0.0
    kind = next(iter(block), "")
    identities: list[bytes] = []
    text_tokens = media_tokens = 0.0
    for part_identity, part_text, part_media in _parts(kind, block.get(kind)):
        identities.append(part_identity)
        text_tokens += part_text
        media_tokens += part_media
    return kind, b"\x1f".join(identities), text_tokens, media_tokens


def _parts(kind: str, value: Any) -> Iterator[tuple[bytes, float, float]]:
    """Yield identity, tokens of text and tokens of media for each part of a block."""
    if kind == "toolResult" and isinstance(value, dict):
        yield _json({name: inner for name, inner in value.items() if name != "content"}), 0.0, 0.0
        for block in value.get("content") or ():
            block_kind, identity, text_tokens, media_tokens = measure(block)
            yield block_kind.encode() + b":" + identity, text_tokens, media_tokens
    elif kind == "document" and isinstance(value, dict):
        yield from _document_parts(value)
    elif kind in {"image", "video", "audio"} and isinstance(value, dict):
        yield _media_identity(value), 0.0, _IMAGE_TOKENS if kind == "image" else _CLIP_TOKENS
    else:
        encoded = _json(value)
        yield encoded, _tokens_of(encoded), 0.0


def _document_parts(document: Mapping[str, Any]) -> Iterator[tuple[bytes, float, float]]:
    source = document.get("source") or {}
    header = _json([document.get("format"), document.get("name"), document.get("context"), document.get("citations")])
    data = source.get("bytes")
    if not isinstance(data, (bytes, bytearray)):
        text = source.get("text")
        content = _json(source) if text is None else str(text).encode("utf-8", "surrogatepass")
        is_readable = text is not None or "content" in source
        yield header + content, _tokens_of(content) if is_readable else 0.0, 0.0 if is_readable else _S3_TOKENS
        return
    file_format = document.get("format")
    if file_format in _PLAIN_TEXT_FORMATS or (file_format == "pdf" and not data.startswith(b"%PDF-")):
        yield header + _both_ends(data), len(data) / _CHARACTERS_PER_TOKEN, 0.0
    elif file_format == "pdf":
        pages = sum(1 for _ in islice(_PDF_PAGE.finditer(data), _MAX_PAGES))
        # Since PDF 1.5 the page objects may be compressed; there is at least one page.
        without_pages = max(_PDF_PAGE_TOKENS, len(data) / _PDF_BYTES_PER_TOKEN)
        yield header + _both_ends(data), 0.0, pages * _PDF_PAGE_TOKENS or without_pages
    else:
        yield header + _both_ends(data), 0.0, len(data) / _OFFICE_BYTES_PER_TOKEN


def _media_identity(value: Mapping[str, Any]) -> bytes:
    data = (value.get("source") or {}).get("bytes")
    if not isinstance(data, (bytes, bytearray)):
        return _json(value)
    return _json({name: inner for name, inner in value.items() if name != "source"}) + _both_ends(data)


def _both_ends(data: bytes | bytearray) -> bytes:
    if len(data) <= _MAX_IDENTITY_BYTES:
        return bytes(data)
    half = _MAX_IDENTITY_BYTES // 2
    return b"%d:" % len(data) + bytes(data[:half]) + bytes(data[-half:])


def _tokens_of(encoded: bytes) -> float:
    return _text_tokens(len(encoded.decode("utf-8", "replace")), len(encoded))


def _text_tokens(characters: int, utf8_bytes: int) -> float:
    return characters / _CHARACTERS_PER_TOKEN + (utf8_bytes - characters) * _TOKENS_PER_EXTRA_BYTE


def _json(value: Any) -> bytes:
    # Keys in the order of the request: another order is another prompt to the model.
    encoded = json.dumps(value, separators=(",", ":"), default=_json_default, ensure_ascii=False)
    return encoded.encode("utf-8", "surrogatepass")


def _json_default(value: Any) -> str:
    return _both_ends(value).hex() if isinstance(value, (bytes, bytearray)) else repr(value)


# --- Correct the estimates of one model family ---

_MIN_ANSWERS = 1  # before `Calibration.upper_bound` relies on what was learned
_DENSEST_TEXT = 1.5  # counted tokens per estimated token: text of 2.7 characters per token
_MEDIA_UNCERTAINTY = 1.2
_MIN_LEARNED_TOKENS = 200  # below that a few tokens more or less are a big ratio


class Calibration:
    """The ratio of counted to estimated tokens for one model family, for text and for media.

    The ratios stay within limits: a canned answer in somebody's test, or a gateway that counts in its own way, must not
    distort the estimates of a whole process.
    """

    __slots__ = ("_answers", "_error", "_media_ratio", "_text_ratio")

    _TEXT_LIMITS = (0.5, 2.5)
    _MEDIA_LIMITS = (0.05, 20.0)  # the content of a compressed file is hard to estimate from its size
    _WEIGHT = 0.2  # of one answer; the first few have more
    _MAX_MARGIN, _MIN_MARGIN = 0.15, 0.02

    def __init__(self) -> None:
        self._text_ratio = self._media_ratio = 1.0
        self._error = self._MAX_MARGIN
        self._answers = 0

    def tokens(self, text_tokens: float, media_tokens: float) -> float:
        """Return a corrected estimate.

        Args:
            text_tokens: Estimated tokens of text.
            media_tokens: Estimated tokens of media.
        """
        return text_tokens * self._text_ratio + media_tokens * self._media_ratio

    @property
    def margin(self) -> float:
        """The likely error of a corrected estimate, as a share of it."""
        return min(self._MAX_MARGIN, max(self._MIN_MARGIN, 2 * self._error))

    def upper_bound(self, text_tokens: float, media_tokens: float) -> float:
        """Return a cautious estimate for comparison with a maximum, since Bedrock refuses longer prefixes.

        It does not rely on a low ratio: that of one language or kind of file may not hold for the next.

        Args:
            text_tokens: Estimated tokens of text.
            media_tokens: Estimated tokens of media.
        """
        density = 1.0 + self.margin if self._answers >= _MIN_ANSWERS else _DENSEST_TEXT
        text = text_tokens * max(1.0, self._text_ratio) * density
        return text + media_tokens * max(1.0, self._media_ratio) * max(density, _MEDIA_UNCERTAINTY)

    def learn(self, text_tokens: float, media_tokens: float, counted: int) -> None:
        """Learn from one answer.

        Args:
            text_tokens: Estimated tokens of text in its prompt.
            media_tokens: Estimated tokens of media in its prompt.
            counted: The tokens that Bedrock counted.
        """
        estimated = text_tokens * self._text_ratio + media_tokens * self._media_ratio
        if estimated < _MIN_LEARNED_TOKENS or counted <= 0:
            return
        self._answers += 1
        weight = max(self._WEIGHT, 1 / self._answers)
        self._error += weight * (min(1.0, abs(counted / estimated - 1)) - self._error)
        if media_tokens * self._media_ratio > text_tokens * self._text_ratio:
            observed = (counted - text_tokens * self._text_ratio) / media_tokens
            self._media_ratio = self._blended(self._media_ratio, observed, weight, self._MEDIA_LIMITS)
        else:
            observed = (counted - media_tokens * self._media_ratio) / text_tokens
            self._text_ratio = self._blended(self._text_ratio, observed, weight, self._TEXT_LIMITS)

    @staticmethod
    def _blended(old: float, new: float, weight: float, limits: tuple[float, float]) -> float:
        lowest, highest = limits
        return min(highest, max(lowest, old + weight * (new - old)))


# --- Estimate a whole prompt from counts of earlier ones ---

_TOKENS_PER_FOREIGN_CHARACTER = 0.8  # beyond ASCII: one per token in Chinese, two in Russian
_MAX_APPLICATIONS = 2_000
_ANSWERS_PER_APPLICATION = 8
_SLOPE_PRIOR = 30.0**2  # prompts that differ by less than thirty tokens say little about the slope
_PLAUSIBLE_ANSWER = (0.4, 3.0)  # counted tokens per estimated token, for an answer that is a turn of the next prompt
_TOOL_CALL_TOKENS = 60  # of a tool call beyond its text
_SLOPE_LIMITS = (0.0, 10.0)  # counted tokens per estimated token; a gateway may count in its own way
# Not text of the prompt: `Prefix` measures the bytes of media, and models drop the reasoning of earlier turns.
_SKIPPED_KEYS = frozenset(["bytes", "cachePoint", "reasoningContent"])


def measure_text(value: Any) -> float:
    """Return the estimated tokens of all text in a part of a request."""
    if isinstance(value, str):
        if value.isascii():
            return len(value) / _CHARACTERS_PER_TOKEN
        foreign = len(value) - len(value.encode("ascii", "ignore"))
        return (len(value) - foreign) / _CHARACTERS_PER_TOKEN + foreign * _TOKENS_PER_FOREIGN_CHARACTER
    if isinstance(value, dict):
        return sum(
            len(str(key)) / _CHARACTERS_PER_TOKEN + measure_text(inner)
            for key, inner in value.items()
            if key not in _SKIPPED_KEYS
        )
    if isinstance(value, (list, tuple)):
        return sum(measure_text(inner) for inner in value)
    return 0.5 if isinstance(value, (int, float)) else 0.0


class _CountedPrompt(NamedTuple):
    """A prompt that was answered.

    Attributes:
        text: Estimated tokens of its text.
        messages: Number of its messages.
        tokens: Its tokens, as counted by Bedrock.
        answer: Tokens of the answer.
    """

    text: float
    messages: int
    tokens: int
    answer: int


class _PromptText(NamedTuple):
    """Estimated tokens of the text of a prompt, by section and message."""

    tools: float
    system: float
    messages: list[float]

    @property
    def total(self) -> float:
        """Tokens of all text."""
        return self.tools + self.system + sum(self.messages)


class TokenCounts:
    """Remember Bedrock's token counts by application. Bounded; thread-safe."""

    def __init__(self) -> None:
        self._prompts: BoundedCache[Hashable, tuple[_CountedPrompt, ...]] = BoundedCache(_MAX_APPLICATIONS)

    def learn(self, scope: Hashable, request: Mapping[str, Any], tokens: int, answer: int = 0) -> None:
        """Remember the count of one prompt.

        Args:
            scope: Identifies the target.
            request: The Converse request.
            tokens: The tokens that Bedrock counted, cached tokens included.
            answer: Tokens of the answer.
        """
        if tokens <= 0:
            return
        text = _prompt_text(request)
        key = _application_key(scope, text)
        prompts = (*self._prompts.get(key, ()), _CountedPrompt(text.total, len(text.messages), tokens, answer))
        self._prompts.put(key, prompts[-_ANSWERS_PER_APPLICATION:])

    def estimate(self, scope: Hashable, request: Mapping[str, Any], prefix: Prefix, calibration: Calibration) -> int:
        """Return the estimated tokens of a prompt.

        Args:
            scope: Identifies the target.
            request: The Converse request.
            prefix: The same request, measured with its media.
            calibration: That of the model family.
        """
        text = _prompt_text(request)
        prompts = self._prompts.get(_application_key(scope, text), ())
        if not prompts:
            return max(1, round(calibration.tokens(prefix.text_tokens, prefix.media_tokens)))
        # Of several conversations with one application, the prompt of nearest size is likely the same conversation.
        nearest = min(reversed(prompts), key=lambda prompt: abs(prompt.text - text.total))
        answer_tokens, answer_text = _answer_in(request, text, nearest)
        difference = answer_tokens + (text.total - nearest.text - answer_text) * _slope(prompts)
        earlier_media = max(
            (
                boundary.media_tokens
                for boundary in prefix.boundaries
                if (boundary.message_index or 0) < nearest.messages
            ),
            default=0.0,
        )
        difference += calibration.tokens(0.0, prefix.media_tokens - earlier_media)
        return max(1, round(nearest.tokens + difference))

    def forget(self) -> None:
        """Forget everything."""
        self._prompts.reset()


def _prompt_text(request: Mapping[str, Any]) -> _PromptText:
    tools = measure_text((request.get("toolConfig") or {}).get("tools") or ())
    messages = [measure_text(message.get("content") or ()) for message in request.get("messages") or ()]
    return _PromptText(tools, measure_text(request.get("system") or ()), messages)


def _application_key(scope: Hashable, text: _PromptText) -> Hashable:
    """Return what prompts of one application share: the sizes of tools and system, which are seldom equal by chance."""
    return scope, round(text.tools, 2), round(text.system, 2)


def _answer_in(request: Mapping[str, Any], text: _PromptText, earlier: _CountedPrompt) -> tuple[int, float]:
    """Return the counted and the estimated tokens of an earlier answer, if the prompt continues with it; else zeros.

    Bedrock counted the answer as output. An answer with reasoning is estimated like any other message, as the reasoning
    does not count in the next prompt.
    """
    messages = request.get("messages") or ()
    if not earlier.answer or len(messages) <= earlier.messages or messages[earlier.messages].get("role") != "assistant":
        return 0, 0.0
    text_before = text.tools + text.system + sum(text.messages[: earlier.messages])
    turn, turn_text = messages[earlier.messages], text.messages[earlier.messages]
    has_reasoning = any("reasoningContent" in block for block in turn.get("content") or ())
    if abs(text_before - earlier.text) > 1e-6 or has_reasoning:
        return 0, 0.0
    # A turn that the user wrote or shortened has another size than the answer.
    lowest, highest = _PLAUSIBLE_ANSWER
    is_answer = lowest * turn_text <= earlier.answer <= highest * turn_text + _TOOL_CALL_TOKENS
    return (earlier.answer, turn_text) if is_answer else (0, 0.0)


def _slope(prompts: tuple[_CountedPrompt, ...]) -> float:
    """Return counted tokens per estimated token: least squares over the prompts, with a prior of one.

    The calibration of the family would be the wrong prior: it includes the fixed part of the prompts.
    """
    mean_text = sum(prompt.text for prompt in prompts) / len(prompts)
    mean_tokens = sum(prompt.tokens for prompt in prompts) / len(prompts)
    variance = sum((prompt.text - mean_text) ** 2 for prompt in prompts)
    covariance = sum((prompt.text - mean_text) * (prompt.tokens - mean_tokens) for prompt in prompts)
    slope = (covariance + _SLOPE_PRIOR) / (variance + _SLOPE_PRIOR)
    lowest, highest = _SLOPE_LIMITS
    return min(max(slope, lowest), highest)
