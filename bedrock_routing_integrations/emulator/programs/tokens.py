"""How many tokens something is, by a stated rule.

A text is one token for every four bytes of its UTF-8, rounded up; a message adds three; an image is 1,600 tokens,
video and audio are one token for every 1,000 bytes, at least 200; a document counts as the text that can be read in
it, tools and structured data as their compact JSON. "Alice has N brothers and she also has M sisters. How many
sisters does Alice's brothers have?" is thereby 27 tokens, as it was at the routers' launch. Real tokenizers differ
from model to model: never bill by this.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from .documents import document_text

if TYPE_CHECKING:
    from collections.abc import Mapping

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
    """Tokens of one content block of a message, of the system prompt or of a tool result."""
    kind = next(iter(block))
    value = block[kind]
    if kind == "text":
        return text_tokens(value)
    if kind == "image":
        return _IMAGE_TOKENS
    if kind in ("video", "audio"):
        size = len(value["source"].get("bytes", b""))
        return max(_CLIP_LEAST_TOKENS, size // _CLIP_BYTES_PER_TOKEN)
    if kind == "document":
        return text_tokens(value["name"]) + text_tokens(document_block_text(value))
    if kind == "searchResult":
        return text_tokens(value["title"]) + sum(text_tokens(part["text"]) for part in value["content"])
    if kind == "toolUse":
        return text_tokens(value["name"]) + json_tokens(value["input"])
    if kind == "toolResult":
        return sum(map(block_tokens, value["content"]))
    if kind == "json":
        return json_tokens(value)
    if kind == "guardContent":
        return text_tokens(value["text"]["text"]) if "text" in value else _IMAGE_TOKENS
    if kind == "reasoningContent":
        return text_tokens(value.get("reasoningText", {}).get("text", ""))
    if kind == "citationsContent":
        return sum(map(block_tokens, value.get("content", ())))
    return 0  # cache points and what is not content


def input_tokens(request: Mapping[str, Any]) -> int:
    """Tokens of a request's system prompt, tools and messages; at least 1."""
    total = sum(map(block_tokens, request.get("system") or ()))
    for message in request["messages"]:
        total += _MESSAGE_TOKENS + sum(map(block_tokens, message["content"]))
    tools = [tool["toolSpec"] for tool in (request.get("toolConfig") or {}).get("tools", ()) if "toolSpec" in tool]
    if tools:
        total += json_tokens(tools)
    return max(1, total)
