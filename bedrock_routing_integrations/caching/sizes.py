"""How many tokens a block has, without a tokenizer, and what has to go into its digest.

Estimates: English has about four characters to a token; characters beyond ASCII count for more (one to a token in
Chinese, two in Russian). What `Calibration` learns from the usage that comes back corrects them for each family.
"""

from __future__ import annotations

import json
import re
import threading
from collections import OrderedDict, deque
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Mapping

    from .candidates import Prefix

_CHARACTERS_PER_TOKEN = 4.0
_TOKENS_PER_FOREIGN_BYTE = 0.4
_IMAGE_TOKENS = 1_500.0  # Claude: width * height / 750, scaled down to about this; Nova's sizes are of this order
_CLIP_TOKENS = 3_000.0
_ELSEWHERE_TOKENS = 1_500.0  # in S3: it has a size that only Bedrock sees
_PDF_PAGE_TOKENS = 1_800.0  # AWS and Anthropic give 1,500 to 3,000 for a page
_PDF_BYTES_PER_TOKEN = 40.0
_OFFICE_BYTES_PER_TOKEN = 10.0  # compressed text
_MOST_PAGES = 4_000  # more than any model reads
_SEEN_ENOUGH = 1  # answer
_DENSEST = 1.5  # of an estimate: text of 2.7 characters per token
_UNSURE_OF_MEDIA = 1.2
_PDF_PAGE = re.compile(rb"/Type\s*/Page\b")
_PLAIN = frozenset(["txt", "md", "csv", "html"])
# Of a big file its length and both ends are enough to know it again: a mistake would cost a wrong guess, nothing else.
_WHOLE_BYTES = 65_536

Part = tuple[str, bytes, float, float]
"""Of a block: its kind, what identifies it, tokens of text, tokens of media."""


def measure(block: Mapping[str, Any]) -> Part:
    """What a block of tools, system or messages is; both counts are estimates before calibration."""
    text = block.get("text")
    if text is not None and isinstance(text, str):
        data = text.encode("utf-8", "surrogatepass")
        return "text", data, _text_tokens(len(text), len(data)), 0.0
    kind = next(iter(block), "")
    pieces: list[bytes] = []
    words = media = 0.0
    for piece, piece_words, piece_media in _pieces(kind, block.get(kind)):
        pieces.append(piece)
        words += piece_words
        media += piece_media
    return kind, b"\x1f".join(pieces), words, media


def _pieces(kind: str, value: Any) -> Iterator[tuple[bytes, float, float]]:
    """What is in a block, piece by piece: what identifies it, tokens of text, tokens of media."""
    if kind == "toolResult" and isinstance(value, dict):
        yield _json({name: inner for name, inner in value.items() if name != "content"}), 0.0, 0.0
        for block in value.get("content") or ():
            name, data, words, media = measure(block)
            yield name.encode() + b":" + data, words, media
    elif kind == "document" and isinstance(value, dict):
        yield from _document(value)
    elif kind in {"image", "video", "audio"} and isinstance(value, dict):
        yield _source(value), 0.0, _IMAGE_TOKENS if kind == "image" else _CLIP_TOKENS
    else:
        data = _json(value)
        yield data, _tokens_of(data), 0.0


def _document(document: Mapping[str, Any]) -> Iterator[tuple[bytes, float, float]]:
    source = document.get("source") or {}
    about = _json([document.get("format"), document.get("name"), document.get("context"), document.get("citations")])
    data = source.get("bytes")
    if not isinstance(data, (bytes, bytearray)):
        text = source.get("text")
        whole = _json(source) if text is None else str(text).encode("utf-8", "surrogatepass")
        known = text is not None or "content" in source
        yield about + whole, _tokens_of(whole) if known else 0.0, 0.0 if known else _ELSEWHERE_TOKENS
        return
    kind = document.get("format")
    if kind in _PLAIN or (kind == "pdf" and not data.startswith(b"%PDF-")):
        yield about + _ends(data), len(data) / _CHARACTERS_PER_TOKEN, 0.0
    elif kind == "pdf":
        pages = sum(1 for _ in islice(_PDF_PAGE.finditer(data), _MOST_PAGES))
        # Where none can be seen (since PDF 1.5 they may be compressed) there is at least one.
        unseen = max(_PDF_PAGE_TOKENS, len(data) / _PDF_BYTES_PER_TOKEN)
        yield about + _ends(data), 0.0, pages * _PDF_PAGE_TOKENS or unseen
    else:
        yield about + _ends(data), 0.0, len(data) / _OFFICE_BYTES_PER_TOKEN


def _source(value: Mapping[str, Any]) -> bytes:
    data = (value.get("source") or {}).get("bytes")
    if not isinstance(data, (bytes, bytearray)):
        return _json(value)
    return _json({name: inner for name, inner in value.items() if name != "source"}) + _ends(data)


def _ends(data: bytes | bytearray) -> bytes:
    if len(data) <= _WHOLE_BYTES:
        return bytes(data)
    half = _WHOLE_BYTES // 2
    return b"%d:" % len(data) + bytes(data[:half]) + bytes(data[-half:])


def _tokens_of(data: bytes) -> float:
    return _text_tokens(len(data.decode("utf-8", "replace")), len(data))


def _text_tokens(characters: int, size: int) -> float:
    return characters / _CHARACTERS_PER_TOKEN + (size - characters) * _TOKENS_PER_FOREIGN_BYTE


def _json(value: Any) -> bytes:
    # In the order in which it is written: another order of members is another prompt.
    text = json.dumps(value, separators=(",", ":"), default=_other, ensure_ascii=False)
    return text.encode("utf-8", "surrogatepass")


def _other(value: Any) -> str:
    return _ends(value).hex() if isinstance(value, (bytes, bytearray)) else repr(value)


class Calibration:
    """How far estimates are off for one model family: tokens counted by Bedrock per token estimated.

    Text and media are learned apart. What comes back is believed within limits: a canned answer in somebody's test, or
    a gateway that counts in its own way, must not turn a planner's head.
    """

    __slots__ = ("_error", "_media", "_seen", "_text")

    _TEXT = (0.5, 2.5)
    _MEDIA = (0.05, 20.0)  # what is in a compressed file is hard to tell from outside
    _WEIGHT = 0.2  # of one answer; the first few count for more
    _WIDEST, _NARROWEST = 0.15, 0.02

    def __init__(self) -> None:
        self._text = self._media = 1.0
        self._error = self._WIDEST
        self._seen = 0

    def tokens(self, text: float, media: float) -> float:
        """Tokens, corrected."""
        return text * self._text + media * self._media

    @property
    def margin(self) -> float:
        """How far off a corrected estimate may well be, as a share of it."""
        return min(self._WIDEST, max(self._NARROWEST, 2 * self._error))

    def at_most(self, text: float, media: float) -> float:
        """Tokens, as many as they may well be: what is too long is refused.

        What was learned of one language or kind of file is not relied on for the next.
        """
        dense = 1.0 + self.margin if self._seen >= _SEEN_ENOUGH else _DENSEST
        return text * max(1.0, self._text) * dense + media * max(1.0, self._media) * max(dense, _UNSURE_OF_MEDIA)

    def learn(self, text: float, media: float, counted: int) -> None:
        """Learn from one request: what was estimated, and what was counted."""
        estimated = text * self._text + media * self._media
        if estimated < 200 or counted <= 0:  # a few tokens more or less would be a big ratio
            return
        self._seen += 1
        weight = max(self._WEIGHT, 1 / self._seen)
        self._error += weight * (min(1.0, abs(counted / estimated - 1)) - self._error)
        if media * self._media > text * self._text:
            self._media = self._mixed(self._media, (counted - text * self._text) / media, weight, self._MEDIA)
        else:
            self._text = self._mixed(self._text, (counted - media * self._media) / text, weight, self._TEXT)

    @staticmethod
    def _mixed(old: float, new: float, weight: float, limits: tuple[float, float]) -> float:
        least, most = limits
        return min(most, max(least, old + weight * (new - old)))


# --- Estimate how many tokens Bedrock will count in a prompt ---

_TOKEN_COUNTS_CHARACTERS_PER_TOKEN = 4.0
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
            return len(value) / _TOKEN_COUNTS_CHARACTERS_PER_TOKEN
        foreign = len(value) - len(value.encode("ascii", "ignore"))
        return (len(value) - foreign) / _TOKEN_COUNTS_CHARACTERS_PER_TOKEN + foreign * _TOKENS_PER_FOREIGN_CHARACTER
    if isinstance(value, dict):
        return sum(
            len(str(key)) / _TOKEN_COUNTS_CHARACTERS_PER_TOKEN + measure_text(inner)
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
