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
    from collections.abc import Callable, Mapping

__all__ = ["block_tokens", "document_block_text", "input_tokens", "text_tokens"]

_BYTES_PER_TOKEN = 4
_MESSAGE_TOKENS = 3
_IMAGE_TOKENS = 1_600
_CLIP_BYTES_PER_TOKEN = 1_000
_CLIP_LEAST_TOKENS = 200


def text_tokens(text: str) -> int:
    """Tokens of a text."""
    size = len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
    return -(-size // _BYTES_PER_TOKEN)


def json_tokens(value: Any) -> int:
    """Tokens of a JSON value."""
    return text_tokens(json.dumps(value, separators=(",", ":"), ensure_ascii=False, default=str))


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
        total += _MESSAGE_TOKENS + sum(map(block_tokens, message["content"]))
    tools = [tool["toolSpec"] for tool in (request.get("toolConfig") or {}).get("tools", ()) if "toolSpec" in tool]
    if tools:
        total += json_tokens(tools)
    return max(1, total)
