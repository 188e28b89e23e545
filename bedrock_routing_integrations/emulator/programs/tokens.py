"""How many tokens something is, by a stated rule.

A text is one token for every four bytes of its UTF-8, rounded up; a message adds three; an image is 1,600
tokens, video and audio are one token for every 1,000 bytes, at least 200; a document counts as the text
that can be read in it, tools and structured data as their compact JSON. "Alice has N brothers and she also
has M sisters. How many sisters does Alice's brothers have?" is thereby 27 tokens, as it was at the routers'
launch. Real tokenizers differ from model to model: never bill by this.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from .documents import document_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

__all__ = ["MESSAGE_TOKENS", "block_tokens", "document_block_text", "input_tokens", "text_tokens", "tool_list_tokens"]

MESSAGE_TOKENS = 3
"""What a message adds to its content."""

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
