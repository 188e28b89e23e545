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
    """Return the turns with one result for each call, and results without a call as text.

    A system message between a call and its result moves behind the result, which must follow the call.

    Args:
        turns: Role and content of each message; consecutive ones have different roles.
    """
    mended: list[Turn] = []
    calls: list[str] = []
    waiting: list[Turn] = []
    for role, content in _with_results_together(turns):
        if role == "system":
            (waiting if calls else mended).append((role, content))
        elif role == "user":
            mended += [(role, _answering(calls, content)), *waiting]
            calls, waiting = [], []
        else:
            if calls:  # only a system message can stand between two turns of the assistant
                mended += [("user", _answering(calls, [])), *waiting]
                waiting = []
            each_once, calls = _each_once(content)
            mended.append((role, each_once))
    return [*mended, ("user", _answering(calls, [])), *waiting] if calls else mended


def _with_results_together(turns: Sequence[Turn]) -> list[Turn]:
    """Return the turns with the results of one turn's calls in one turn, also where a system message parts them."""
    joined: list[Turn] = []
    unanswered: set[str] = set()
    answering: int | None = None  # the index of the first user's turn after the calls
    for role, content in turns:
        if role == "assistant":
            unanswered = {block["toolUse"]["toolUseId"] for block in content if "toolUse" in block}
            answering = None
        elif role == "user":
            results = {block["toolResult"]["toolUseId"] for block in content if "toolResult" in block}
            is_late = answering is not None and bool(unanswered & results)
            unanswered -= results
            if answering is not None and is_late:
                joined[answering] = ("user", [*joined[answering][1], *content])
                continue
            answering = len(joined)
        joined.append((role, content))
    return joined


def _each_once(content: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[str]]:
    """The content without calls whose id was there before, and the ids."""
    kept: list[dict[str, Any]] = []
    calls: list[str] = []
    for block in content:
        if "toolUse" not in block:
            kept.append(block)
        elif block["toolUse"]["toolUseId"] not in calls:
            kept.append(block)
            calls.append(block["toolUse"]["toolUseId"])
    return kept, calls


def _answering(calls: Sequence[str], content: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The content of a user's message, the results of `calls` first: Claude wants them there."""
    results: dict[str, dict[str, Any]] = {}
    rest: list[dict[str, Any]] = []
    mended = False
    for block in content:
        call = block["toolResult"]["toolUseId"] if "toolResult" in block else None
        if call is None:
            rest.append(block)
        elif call in calls and call not in results:
            results[call] = block
        else:
            rest += in_words(block)
            mended = True
    for call in calls:
        if call not in results:
            unfinished = {"toolUseId": call, "content": [{"text": _NO_RESULT}], "status": "error"}
            results[call] = {"toolResult": unfinished}
            mended = True
    if mended:
        warn_once(
            "unpaired tool calls",
            "A conversation has tool calls without a result, or results without a call, which Bedrock refuses. The "
            "former get a result that says so, the latter become text. Was a memory cut, or an agent stopped?",
        )
    return [*results.values(), *rest]


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
