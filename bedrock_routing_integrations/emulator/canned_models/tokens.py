"""Count tokens by a fixed rule, cut answers at the token limit, and limit the work of a request.

A text counts one token for every four bytes of its UTF-8, rounded up. A message adds three tokens. An image counts
1,600 tokens; video and audio count one token for every 1,000 bytes, at least 200. A document counts as its extracted
text; tools and structured data count as their compact JSON. By this rule, "Alice has N brothers and she also has M
sisters. How many sisters does Alice's brothers have?" has 27 tokens, as at the routers' launch. Real tokenizers differ
from model to model: never bill by this count.
"""

from __future__ import annotations

import contextlib
import json
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from .documents import document_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

MESSAGE_TOKENS = 3
"""Tokens that a message adds to its content."""

_BYTES_PER_TOKEN = 4
_IMAGE_TOKENS = 1_600
_CLIP_BYTES_PER_TOKEN = 1_000
_CLIP_LEAST_TOKENS = 200


def text_tokens(text: str) -> int:
    """Tokens of a text."""
    return _tokens_of_bytes(_text_bytes(text))


def _text_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))


def _tokens_of_bytes(size: int) -> int:
    return -(-size // _BYTES_PER_TOKEN)


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, default=str)


def json_tokens(value: Any) -> int:
    """Tokens of a JSON value."""
    return text_tokens(_compact(value))


def tool_list_tokens(specs: Iterable[Any]) -> list[int]:
    """Tokens of a list of `toolSpec`s as far as each of them; the last number is the whole list's."""
    size = len("[")
    counts: list[int] = []
    for spec in specs:
        size += _text_bytes(_compact(spec)) + len("]")  # further on the bracket is a comma
        counts.append(_tokens_of_bytes(size))
    return counts


def document_block_text(document: Mapping[str, Any]) -> str:
    """The text of a document block, whatever its source; empty for what lies in S3."""
    source = document["source"]
    if "bytes" in source:
        return document_text(bytes(source["bytes"]), document.get("format", "txt"))
    if "text" in source:
        return str(source["text"])
    return "\n".join(str(part.get("text", "")) for part in source.get("content", ()))


def block_tokens(block: Mapping[str, Any]) -> int:
    """Tokens of one content block of a message, of the system prompt or of a tool result; 0 for a cache point."""
    kind = next(iter(block))
    count = _COUNTERS.get(kind)
    return 0 if count is None else count(block[kind])


def _clip_tokens(clip: Mapping[str, Any]) -> int:
    """Tokens of a video or a sound."""
    return max(_CLIP_LEAST_TOKENS, len(clip["source"].get("bytes", b"")) // _CLIP_BYTES_PER_TOKEN)


_COUNTERS: dict[str, Callable[[Any], int]] = {
    "text": text_tokens,
    "json": json_tokens,
    "image": lambda _image: _IMAGE_TOKENS,
    "video": _clip_tokens,
    "audio": _clip_tokens,
    "document": lambda document: text_tokens(document["name"]) + text_tokens(document_block_text(document)),
    "searchResult": lambda found: text_tokens(found["title"]) + sum(map(block_tokens, found["content"])),
    "toolUse": lambda use: text_tokens(use["name"]) + json_tokens(use["input"]),
    "toolResult": lambda result: sum(map(block_tokens, result["content"])),
    "guardContent": lambda guarded: text_tokens(guarded["text"]["text"]) if "text" in guarded else _IMAGE_TOKENS,
    "reasoningContent": lambda reasoning: text_tokens(reasoning.get("reasoningText", {}).get("text", "")),
    "citationsContent": lambda cited: sum(map(block_tokens, cited.get("content", ()))),
}


def input_tokens(request: Mapping[str, Any]) -> int:
    """Tokens of a request's system prompt, tools and messages; at least 1."""
    total = sum(map(block_tokens, request.get("system") or ()))
    for message in request["messages"]:
        total += MESSAGE_TOKENS + sum(map(block_tokens, message["content"]))
    tools = [tool["toolSpec"] for tool in (request.get("toolConfig") or {}).get("tools", ()) if "toolSpec" in tool]
    if tools:
        total += tool_list_tokens(tools)[-1]
    return max(1, total)


# --- Stop sequences and token limits ---

_LIMITS_BYTES_PER_TOKEN = 4


def limited(
    blocks: list[dict[str, Any]], stop_reason: str, *, stops: Sequence[str], most_tokens: int | None
) -> tuple[list[dict[str, Any]], str]:
    """Cut the blocks at the first stop sequence or at the last token allowed.

    The stop sequence itself is removed, as by Bedrock. Reasoning is not searched for stop sequences. A tool call that
    does not fit is removed as a whole.

    Args:
        blocks: The content blocks of the answer.
        stop_reason: The stop reason of the complete answer.
        stops: The stop sequences.
        most_tokens: The most tokens of the answer; None for no limit.

    Returns:
        The blocks that remain, and the stop reason: "stop_sequence", "max_tokens", or `stop_reason` if nothing was cut.
    """
    blocks, stop_reason = _stopped(blocks, stop_reason, stops)
    if most_tokens is None:
        return blocks, stop_reason
    kept: list[dict[str, Any]] = []
    left = most_tokens
    for block in blocks:
        needed = block_tokens(block)
        if needed > left:
            shortened = _shortened(block, left)
            return [*kept, *([shortened] if shortened else [])], "max_tokens"
        kept.append(block)
        left -= needed
    return kept, stop_reason


def _stopped(blocks: list[dict[str, Any]], stop_reason: str, stops: Sequence[str]) -> tuple[list[dict[str, Any]], str]:
    """The blocks up to the first stop sequence in a text."""
    for index, block in enumerate(blocks):
        text = block.get("text")
        places = [place for place in (text.find(stop) for stop in stops if stop) if place >= 0] if text else []
        if text and places:
            rest = text[: min(places)]
            return [*blocks[:index], *([{"text": rest}] if rest else [])], "stop_sequence"
    return blocks, stop_reason


def _shortened(block: dict[str, Any], tokens: int) -> dict[str, Any] | None:
    """A text or a reasoning cut to so many tokens; None where nothing is left or it cannot be cut."""
    if tokens <= 0:
        return None
    size = tokens * _LIMITS_BYTES_PER_TOKEN
    if "text" in block:
        return {"text": _cut(block["text"], size)}
    reasoning = block.get("reasoningContent", {}).get("reasoningText")
    if reasoning is None:
        return None
    return {"reasoningContent": {"reasoningText": {**reasoning, "text": _cut(reasoning["text"], size)}}}


def _cut(text: str, size: int) -> str:
    """The longest beginning of `text` with at most `size` bytes of UTF-8."""
    return text.encode("utf-8", "replace")[:size].decode("utf-8", "ignore")


# --- Work limit ---

VALUE = 20
"""Work units of a generated value. A comparison costs 1 unit, and so does a token of text."""

_MOST = 10_000 * VALUE
_CHARS = 100  # characters of a prompt, searched again for each field, that cost 1 unit

_left: ContextVar[list[int] | None] = ContextVar("effort_left", default=None)


class OutOfEffortError(Exception):
    """The request asks for more than one answer may hold."""


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """Bound what is spent inside, over all schemas together."""
    token = _left.set([_MOST])
    try:
        yield
    finally:
        _left.reset(token)


def spend(units: int = 1, *, searched: int = 0) -> None:
    """Report work before doing it.

    Args:
        units: How much, see `VALUE`.
        searched: Characters of text that are searched for it.

    Raises:
        OutOfEffortError: When the limit is passed. Outside of `bounded` there is none.
    """
    left = _left.get()
    if left is None:
        return
    left[0] -= units + searched // _CHARS
    if left[0] < 0:
        raise OutOfEffortError
