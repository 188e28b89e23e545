"""Where an answer ends early: at a stop sequence, or when the tokens are used up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .tokens import block_tokens

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["limited"]

_BYTES_PER_TOKEN = 4


def limited(
    blocks: list[dict[str, Any]], stop_reason: str, *, stops: Sequence[str], most_tokens: int | None
) -> tuple[list[dict[str, Any]], str]:
    """The blocks up to the first stop sequence or the last token allowed, and why they end there.

    The stop sequence itself is left out, as Bedrock leaves it out; reasoning is not searched for it. A
    tool call that does not fit is left out as a whole.
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
    size = tokens * _BYTES_PER_TOKEN
    if "text" in block:
        return {"text": _cut(block["text"], size)}
    reasoning = block.get("reasoningContent", {}).get("reasoningText")
    if reasoning is None:
        return None
    return {"reasoningContent": {"reasoningText": {**reasoning, "text": _cut(reasoning["text"], size)}}}


def _cut(text: str, size: int) -> str:
    """The longest beginning of `text` with at most `size` bytes of UTF-8."""
    return text.encode("utf-8", "replace")[:size].decode("utf-8", "ignore")
