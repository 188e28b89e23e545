"""Place system messages that stand amid a conversation.

Text that is moved into the request's ``system`` member changes the beginning of the prompt, so that nothing behind it
is read from Bedrock's cache any more: one reminder then costs as much as the whole history. Converse has a role
``system`` inside ``messages`` (botocore's service model since 1.43), but no public source says which models take it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from bedrock_routing_integrations.errors import InvalidRequestError
from bedrock_routing_integrations.runtime import warn_once

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SystemPlacement = Literal["native", "inline", "hoist"]
PLACEMENTS = ("native", "inline", "hoist")

_ONLY_NATIVE = frozenset(["toolAddition", "toolRemoval"])
_OPENING, _CLOSING = "<system_instruction>\n", "\n</system_instruction>"


def check_placement(placement: Any) -> SystemPlacement | None:
    """Return `placement` if it is one.

    Raises:
        InvalidRequestError: It is neither None nor one of the three.
    """
    if placement is None or placement in PLACEMENTS:
        return placement  # type: ignore[no-any-return]
    raise InvalidRequestError(
        f"mid_conversation_system={placement!r} is not valid: it must be 'native', 'inline', 'hoist', or None for "
        "'native' where the models are known to take it and 'inline' elsewhere."
    )


def place_system_messages(request: Mapping[str, Any], placement: SystemPlacement) -> Mapping[str, Any]:
    """Return a request whose messages of role ``system`` are placed.

    Args:
        request: A Converse request; not changed.
        placement: ``"native"`` leaves them as they are, ``"inline"`` makes each an instruction at the same position in
            a user's turn, ``"hoist"`` moves them into ``system``. Those before the first other message go there in
            any case: nothing in front of them could be cached. One that adds or removes tools (``toolAddition``,
            ``toolRemoval``) has no other form than the native one, and stays as it is.

    Returns:
        The request; the one given where it has no such message.
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
            "mid_conversation_system='hoist' moves a system message to the beginning of the prompt: nothing behind it "
            "is read from Bedrock's cache any more. 'inline' keeps what is cached.",
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
    separated = False  # whether a system message stood between the last turn placed and this one
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
            # Bedrock wants the results of tools first in the turn after their calls.
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
