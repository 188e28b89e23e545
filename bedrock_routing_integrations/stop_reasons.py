"""Stop reasons with which an answer may end in the middle of a content block, and what the user can do about each.

An answer that ends in the middle of a tool call must not run the tool. The stop reason alone does not say whether it
does, so each reason has a rule:

- ``max_tokens``, ``model_context_window_exceeded``: the last call counts as half in every case. The model had no room
  left, and what had arrived may have been completed on the way.
- ``guardrail_intervened``, ``content_filtered``: so it does here. What was blocked must not run, whole or not.
- ``stop_sequence``: the last call of a stream is whole if its ``contentBlockStop`` arrived and its arguments are a JSON
  object with members (no part of a JSON object is a JSON object). Without ``contentBlockStop``, with other arguments,
  or with none, it counts as half. An empty object counts as none: of a call without arguments nothing arrives.
- In an answer that was not streamed the last call counts as half for all five reasons: Bedrock makes an object of what
  the model had written by then, and documents no rule for it.

Calls before the last block are whole if their arguments are JSON.
"""

from __future__ import annotations

import json
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

CUT_OFF: Mapping[str, str] = MappingProxyType(
    {
        "max_tokens": "The tokens were used up: raise max_tokens, or ask for less in one call.",
        "model_context_window_exceeded": "The context window is full: shorten the conversation, or ask for less.",
        "stop_sequence": "A stop sequence occurs in the arguments: leave out stop_sequences.",
        "content_filtered": "A content filter stopped the model: change the request.",
        "guardrail_intervened": "A guardrail stopped the answer: see the trace in the response.",
    }
)
"""Stop reason of an answer that may be cut off → advice (``StopReason`` in botocore's service model, 1.44)."""
NEVER_WHOLE = frozenset(["max_tokens", "model_context_window_exceeded", "guardrail_intervened", "content_filtered"])
"""Those with which the last call never runs."""


def is_half_call(stop_reason: str | None, arguments: Any, *, is_closed: bool) -> bool:
    """Return whether the last content block of an answer, a tool call, must be taken for half a call.

    Args:
        stop_reason: Converse's ``stopReason``.
        arguments: The arguments that arrived: JSON text, or what it holds.
        is_closed: Whether the call's ``contentBlockStop`` arrived; False for an answer that was not streamed.
    """
    if stop_reason not in CUT_OFF:
        return False
    return stop_reason in NEVER_WHOLE or not is_closed or not is_whole_json(arguments)


def is_whole_json(arguments: Any) -> bool:
    """Return whether arguments are a JSON object or array that is not empty: JSON text, or what it holds."""
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except (ValueError, RecursionError):
            return False
    return isinstance(arguments, (dict, list)) and bool(arguments)
