"""Make the messages of a request valid: system messages in mid-conversation, and the reasoning of earlier turns.

System messages: moving their text into the request's ``system`` member changes the beginning of the prompt, and nothing
after it is read from Bedrock's cache any more: one reminder then costs as much as the whole history. Converse has a
role ``system`` inside ``messages`` (botocore's service model since 1.43), but no public source lists the models that
accept it.

Reasoning: most models refuse reasoning blocks in a history, or the signatures in them, with a ValidationException.
`ModelFacts.reasoning` states what each family accepts. If that is not known, the blocks are sent unchanged, and
`client.exchange` sends the request again without them if Bedrock refuses (`requests.refusals`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from bedrock_routing_integrations.errors import InvalidRequestError
from bedrock_routing_integrations.runtime import warn_once

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

SystemPlacement = Literal["native", "inline", "hoist"]
PLACEMENTS = ("native", "inline", "hoist")

_ONLY_NATIVE = frozenset(["toolAddition", "toolRemoval"])
_OPENING, _CLOSING = "<system_instruction>\n", "\n</system_instruction>"


def check_placement(placement: Any) -> SystemPlacement | None:
    """Return `placement` if it is valid.

    Raises:
        InvalidRequestError: `placement` is not ``"native"``, ``"inline"``, ``"hoist"`` or None.
    """
    if placement is None or placement in PLACEMENTS:
        return placement  # type: ignore[no-any-return]
    raise InvalidRequestError(
        f"mid_conversation_system={placement!r} is not valid: it must be 'native', 'inline', 'hoist', or None for "
        "'native' where the models are known to accept it and 'inline' elsewhere."
    )


def place_system_messages(request: Mapping[str, Any], placement: SystemPlacement) -> Mapping[str, Any]:
    """Return the request with its messages of role ``system`` in the requested place.

    Args:
        request: A Converse request. It is not changed.
        placement: ``"native"`` leaves system messages unchanged, ``"inline"`` turns each into an instruction at the
            same position in a user message, ``"hoist"`` moves them into ``system``. System messages before the first
            other message always move into ``system``: nothing precedes them that could be cached. A system message
            that adds or removes tools (``toolAddition``, ``toolRemoval``) only exists in the native form, so then all
            stay.

    Returns:
        A new request, or `request` itself if it has no system message.
    """
    messages = request.get("messages") or ()
    if not any(_is_system(message) for message in messages):
        return request
    first = next((number for number, message in enumerate(messages) if not _is_system(message)), len(messages))
    hoisted = [block for message in messages[:first] for block in message.get("content") or ()]
    rest = list(messages[first:])
    if any(_ONLY_NATIVE & block.keys() for message in rest for block in message.get("content") or ()):
        placement = "native"
    if placement == "hoist" and any(_is_system(message) for message in rest):
        warn_once(
            "hoisted system message",
            "mid_conversation_system='hoist' moves a system message to the beginning of the prompt: nothing after it "
            "is read from Bedrock's cache any more. Use 'inline' to keep the cached prefix.",
        )
        hoisted += [block for message in rest if _is_system(message) for block in message.get("content") or ()]
    if placement != "native":
        rest = _without_system(rest, inline=placement == "inline")
    placed = {**request, "messages": rest}
    if hoisted:
        placed["system"] = [*(request.get("system") or ()), *hoisted]
    return placed


def _is_system(message: Mapping[str, Any]) -> bool:
    return message.get("role") == "system"


def _without_system(messages: Sequence[Mapping[str, Any]], *, inline: bool) -> list[Mapping[str, Any]]:
    placed: list[Mapping[str, Any]] = []
    instructions: list[Any] = []
    separated = False  # whether a system message came between the last placed message and this one
    for message in messages:
        if _is_system(message):
            separated = True
            if inline:
                instructions += [_as_instruction(block) for block in message.get("content") or ()]
            continue
        follows_user = bool(placed) and placed[-1].get("role") == "user"
        if message.get("role") != "user":
            if instructions:
                _add_to_user(placed, instructions)
            placed.append(message)
        elif separated and follows_user:
            _add_to_user(placed, [*instructions, *(message.get("content") or ())])
        elif instructions:
            content = list(message.get("content") or ())
            # Bedrock requires tool results to come first in the message after their calls.
            after = 1 + max((number for number, block in enumerate(content) if "toolResult" in block), default=-1)
            placed.append({**message, "content": [*content[:after], *instructions, *content[after:]]})
        else:
            placed.append(message)
        instructions, separated = [], False
    if instructions:
        _add_to_user(placed, instructions)
    return placed


def _add_to_user(placed: list[Mapping[str, Any]], content: Sequence[Any]) -> None:
    if placed and placed[-1].get("role") == "user":
        placed[-1] = {**placed[-1], "content": [*(placed[-1].get("content") or ()), *content]}
    else:
        placed.append({"role": "user", "content": list(content)})


def _as_instruction(block: Mapping[str, Any]) -> Mapping[str, Any]:
    if "text" not in block:
        return block
    return {"text": f"{_OPENING}{block['text']}{_CLOSING}"}


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
