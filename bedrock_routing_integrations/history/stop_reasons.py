"""Find why an answer ended, in the bodies of Converse, of InvokeModel and of their streams. Pure.

Each provider has its own member and its own words for InvokeModel (user guide, inference request parameters, and
recorded exchanges, read 2026-12). They are given in Converse's words, so that one report counts all calls alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["stop_reason_of"]

GUARDRAIL = "guardrail_intervened"
_LONGEST = 100
_NAMES = ("stopReason", "stop_reason", "finish_reason", "finishReason", "completionReason")
# Where the reason stands: in the body itself, in a part of it, or in the first of a list.
_PARTS = ("delta", "messageStop", "message")
_LISTS = ("choices", "outputs", "results", "generations", "completions")
# Llama, Mistral, OpenAI, Titan, Cohere and AI21 → Converse.
_CONVERSE = {
    "stop": "end_turn",
    "finish": "end_turn",
    "finished": "end_turn",
    "complete": "end_turn",
    "endoftext": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "tool_call": "tool_use",
    "content_filter": "content_filtered",
    "refusal": "content_filtered",
    "error_toxic": "content_filtered",
    "stop_criteria_met": "stop_sequence",
    "model_context_window_exceeded": "model_context_window_exceeded",
}


def stop_reason_of(chunks: Sequence[Mapping[str, Any]]) -> str | None:
    """Return why an answer ended, in Converse's words; None where the log does not have it.

    Args:
        chunks: The body of the answer; of a stream, all of its chunks in order.
    """
    if any(chunk.get("amazon-bedrock-guardrailAction") == "INTERVENED" for chunk in chunks):
        return GUARDRAIL  # InvokeModel's own reason is then the model's, or none
    return next((reason for chunk in reversed(chunks) if (reason := _reason_in(chunk))), None)


def _reason_in(chunk: Mapping[str, Any]) -> str | None:
    parts: list[Any] = [chunk, *(chunk.get(name) for name in _PARTS)]
    parts += [items[0] for name in _LISTS if isinstance(items := chunk.get(name), list) and items]
    for part in parts:
        for name in _NAMES if isinstance(part, dict) else ():
            reason = part.get(name)
            reason = reason.get("reason") if isinstance(reason, dict) else reason  # AI21's completions
            if isinstance(reason, str) and 0 < len(reason) <= _LONGEST:
                return _CONVERSE.get(reason.lower(), reason.lower())
    return None
