"""Send back the reasoning of earlier turns only as far as the models take it.

Most models refuse reasoning blocks in a history, or the signatures in them, with a ValidationException. Which do is a
catalog fact (`ModelFacts.reasoning`). Where it is not known, blocks are sent as they are, and a refusal is survived
(`requests.refusals`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

# A turn of reasoning alone is what an answer cut off by maxTokens leaves; the newest Claudes refuse it (reported
# 2026-09), and a turn without content is refused by all.
PLACEHOLDER = "(no answer: it ended while thinking)"


def has_reasoning(messages: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether any message holds a reasoning block."""
    return any("reasoningContent" in block for message in messages for block in message.get("content") or ())


def fit_reasoning(messages: Sequence[Mapping[str, Any]], accepted: str | None) -> Sequence[Mapping[str, Any]]:
    """Return messages with the reasoning that the models take.

    Args:
        messages: Messages of a Converse request; not changed.
        accepted: ``"none"``, ``"text"`` (reasoning text without signatures), ``"signed"`` (signed text and redacted
            blocks), or None where it is not known: then blocks stay as they are.

    Returns:
        The messages; those given where nothing had to change. A turn of which nothing or only reasoning is left gets a
        placeholder text.
    """
    if not has_reasoning(messages):
        return messages
    return [_fitted(message, accepted) for message in messages]


def _fitted(message: Mapping[str, Any], accepted: str | None) -> Mapping[str, Any]:
    given = message.get("content") or ()
    if not any("reasoningContent" in block for block in given):
        return message
    content = list(_taken(given, accepted))
    if not any("reasoningContent" not in block and "cachePoint" not in block for block in content):
        content.append({"text": PLACEHOLDER})
    return {**message, "content": content}


def _taken(content: Sequence[Mapping[str, Any]], accepted: str | None) -> Iterator[Mapping[str, Any]]:
    for block in content:
        if "reasoningContent" not in block or accepted is None:
            yield block
            continue
        text = block["reasoningContent"].get("reasoningText")
        if accepted == "signed" and (text is None or text.get("signature")):
            yield block
        elif accepted == "text" and text is not None and text.get("text"):
            yield {"reasoningContent": {"reasoningText": {"text": text["text"]}}} if "signature" in text else block
