"""Decide from the stop reason whether the last tool call of an answer is complete.

An answer can stop in the middle of a tool call, and such a call must not run. The stop reason alone does not show
whether the call is complete, so each reason has a rule:

- ``max_tokens``, ``model_context_window_exceeded``: the last call is always treated as incomplete. The model ran out of
  tokens, and Bedrock may have completed the JSON on the way.
- ``guardrail_intervened``, ``content_filtered``: the same, because blocked content must not run, complete or not.
- ``stop_sequence``: the last call of a stream is complete if its ``contentBlockStop`` arrived and its arguments are a
  JSON object with members (a truncated JSON object is not valid JSON). In all other cases it is incomplete. An empty
  object is treated as incomplete too: for a call without arguments no arguments arrive at all.
- In a response that was not streamed the last call is treated as incomplete for all five reasons: Bedrock returns an
  object made from a part of the arguments, and documents no rule for it.

Calls before the last block are complete if their arguments are JSON.
"""

from __future__ import annotations

import json
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

CUT_OFF: Mapping[str, str] = MappingProxyType(
    {
        "max_tokens": "The answer reached max_tokens: raise max_tokens, or ask for less in one call.",
        "model_context_window_exceeded": "The context window is full: shorten the conversation, or ask for less.",
        "stop_sequence": "A stop sequence occurs in the arguments: leave out stop_sequences.",
        "content_filtered": "A content filter stopped the model: change the request.",
        "guardrail_intervened": "A guardrail stopped the answer: see the trace in the response.",
    }
)
"""Stop reason of an answer that may be incomplete → advice (``StopReason`` in botocore's service model, 1.44)."""
NEVER_COMPLETE = frozenset(["max_tokens", "model_context_window_exceeded", "guardrail_intervened", "content_filtered"])
"""The stop reasons with which the last call never runs."""


def is_incomplete_call(stop_reason: str | None, arguments: Any, *, is_closed: bool) -> bool:
    """Return whether a tool call that is the last content block of an answer must be treated as incomplete.

    Args:
        stop_reason: Converse's ``stopReason``.
        arguments: The arguments that arrived, as JSON text or as a parsed value.
        is_closed: Whether the call's ``contentBlockStop`` arrived; False for a response that was not streamed.
    """
    if stop_reason not in CUT_OFF:
        return False
    return stop_reason in NEVER_COMPLETE or not is_closed or not is_complete_json(arguments)


def is_complete_json(arguments: Any) -> bool:
    """Return whether arguments (JSON text or a parsed value) are a JSON object or array that is not empty."""
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except (ValueError, RecursionError):
            return False
    return isinstance(arguments, (dict, list)) and bool(arguments)
