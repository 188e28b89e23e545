"""Remove the reasoning of earlier turns that the models do not accept.

Most models refuse reasoning blocks in a history, or the signatures in them, with a ValidationException.
`ModelFacts.reasoning` states what each family accepts. If that is not known, the blocks are sent unchanged, and
`client.exchange` sends the request again without them if Bedrock refuses (`requests.refusals`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

# An answer that maxTokens cuts off can leave a turn with nothing but reasoning. The newest Claude models refuse such a
# turn (reported 2026-09), and all models refuse a turn without content.
PLACEHOLDER = "(no answer: it ended while thinking)"


def has_reasoning(messages: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether any message holds a reasoning block."""
    return any("reasoningContent" in block for message in messages for block in message.get("content") or ())


def fit_reasoning(messages: Sequence[Mapping[str, Any]], accepted: str | None) -> Sequence[Mapping[str, Any]]:
    """Return the messages with only the reasoning that the models accept.

    Args:
        messages: Messages of a Converse request. They are not changed.
        accepted: ``"none"``, ``"text"`` (reasoning text without signatures), ``"signed"`` (signed text and redacted
            blocks), or None if it is not known: then blocks stay unchanged.

    Returns:
        New messages, or `messages` itself if none has reasoning. A turn that would be left without any other content
        gets a placeholder text.
    """
    if not has_reasoning(messages):
        return messages
    return [_fit_message(message, accepted) for message in messages]


def _fit_message(message: Mapping[str, Any], accepted: str | None) -> Mapping[str, Any]:
    blocks = message.get("content") or ()
    if not any("reasoningContent" in block for block in blocks):
        return message
    content = list(_accepted_blocks(blocks, accepted))
    if not any("reasoningContent" not in block and "cachePoint" not in block for block in content):
        content.append({"text": PLACEHOLDER})
    return {**message, "content": content}


def _accepted_blocks(content: Sequence[Mapping[str, Any]], accepted: str | None) -> Iterator[Mapping[str, Any]]:
    for block in content:
        if "reasoningContent" not in block or accepted is None:
            yield block
            continue
        text = block["reasoningContent"].get("reasoningText")
        if accepted == "signed" and (text is None or text.get("signature")):
            yield block
        elif accepted == "text" and text is not None and text.get("text"):
            yield {"reasoningContent": {"reasoningText": {"text": text["text"]}}} if "signature" in text else block
