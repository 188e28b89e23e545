"""Every tool call has its result in the next message, and every result its call: Bedrock refuses anything else.

Histories get broken when an agent is stopped between the two, when LlamaIndex's FunctionAgent keeps one result of
several (``return_direct``), or when a memory is cut between them. An error there would wedge the conversation.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from bedrock_routing_integrations.logs import warn_once

if TYPE_CHECKING:
    from collections.abc import Sequence

    Turn = tuple[str, list[dict[str, Any]]]

_NO_RESULT = "(no result: the call was not finished)"


def paired(turns: Sequence[Turn]) -> list[Turn]:
    """The turns with a result for each call, and results without a call in words.

    Args:
        turns: Role and content of each message; consecutive ones have different roles.
    """
    mended: list[Turn] = []
    open_calls: list[str] = []
    for role, content in turns:
        if role == "user":
            mended.append((role, _answering(open_calls, content)))
        else:
            mended.append((role, content))
        open_calls = [block["toolUse"]["toolUseId"] for block in content if "toolUse" in block]
    return [*mended, ("user", _answering(open_calls, []))] if open_calls else mended


def _answering(calls: Sequence[str], content: list[dict[str, Any]]) -> list[dict[str, Any]]:
    answered = {block["toolResult"]["toolUseId"] for block in content if "toolResult" in block}
    missing = [call for call in calls if call not in answered]
    if missing or answered - set(calls):
        warn_once(
            "unpaired tool calls",
            "A conversation has tool calls without a result, or results without a call, which Bedrock refuses. The "
            "former get a result that says so, the latter become text. Was a memory cut, or an agent stopped?",
        )
    results = [
        {"toolResult": {"toolUseId": call, "content": [{"text": _NO_RESULT}], "status": "error"}} for call in missing
    ]
    for block in content:
        kept = "toolResult" not in block or block["toolResult"]["toolUseId"] in calls
        results += [block] if kept else in_words(block)
    return results


def in_words(block: dict[str, Any]) -> list[dict[str, Any]]:
    """A tool call or result as text, and the images and documents of the result beside it."""
    if "toolUse" in block:
        call = block["toolUse"]
        return [{"text": f"[tool call: {call['name']} {json.dumps(call['input'], ensure_ascii=False)}]"}]
    if "toolResult" not in block:
        return [block]
    result = block["toolResult"]
    parts = [
        part["text"] if "text" in part else json.dumps(part["json"], ensure_ascii=False)
        for part in result["content"]
        if "text" in part or "json" in part
    ]
    others = [part for part in result["content"] if not ("text" in part or "json" in part)]
    kind = "tool error" if result.get("status") == "error" else "tool result"
    return [{"text": f"[{kind}: {' '.join(parts) or 'see below'}]"}, *others]
