"""LlamaIndex's messages → the ``messages`` and ``system`` of a Converse request.

What Bedrock would refuse and has one obvious reading is mended: blank text is left out, consecutive messages of one
role are merged, documents get names that are allowed, each once. Anything else raises, naming the message and the
block. Nothing of what the caller passed is changed.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from llama_index.core.base.llms.types import (
    CachePoint,
    CitationBlock,
    DocumentBlock,
    MessageRole,
    TextBlock,
)

from bedrock_routing_integrations.errors import InvalidRequestError
from bedrock_routing_integrations.logs import logger, warn_once

from ._blocks import cache_point, content_block, tool_use
from ._citations import cited
from ._media import DocumentNames, document_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from llama_index.core.base.llms.types import ChatMessage

_SYSTEM = (MessageRole.SYSTEM, MessageRole.DEVELOPER)
_ASSISTANT = (MessageRole.ASSISTANT, MessageRole.CHATBOT, MessageRole.MODEL)
_TOOL = (MessageRole.TOOL, MessageRole.FUNCTION)
# Stands for what a tool returned where it returned nothing: a result must have content.
_NOTHING = "(nothing)"


def to_converse(
    messages: Sequence[ChatMessage], *, provider: str = "", tools: bool = True
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The ``messages`` and ``system`` of a Converse request.

    Args:
        messages: LlamaIndex's messages.
        provider: Of the target's models, where it is known: Claude refuses thinking that it has not signed.
        tools: Whether the request has tools. Without them Bedrock refuses tool calls and results; they become text.

    Raises:
        InvalidRequestError: A block that Converse cannot carry there; the message names it.
    """
    converse: list[dict[str, Any]] = []
    system: list[dict[str, Any]] = []
    names = DocumentNames()
    for number, message in enumerate(messages):
        at = f"messages[{number}]"
        if message.role in _SYSTEM:
            system += _system(message, at)
            continue
        role = "assistant" if message.role in _ASSISTANT else "user"
        if message.role in _TOOL:
            content = _tool_result(message, at, names)
        else:
            content = _content(message, role, at, names, provider)
        if not tools:
            content = [_without_tools(block) for block in content]
        if content and converse and converse[-1]["role"] == role:
            converse[-1]["content"] += content  # a list of ours
        elif content:
            converse.append({"role": role, "content": content})
    _check(converse)
    return [{**message, "content": _points_after_something(message["content"])} for message in converse], (
        _points_after_something(system)
    )


def _system(message: ChatMessage, at: str) -> list[dict[str, Any]]:
    content = []
    for number, block in enumerate(message.blocks):
        if isinstance(block, TextBlock):
            if block.text.strip():
                content.append({"text": block.text})
        elif isinstance(block, CachePoint):
            content.append(cache_point(block))
        else:
            raise InvalidRequestError(
                f"{at}.blocks[{number}] ({type(block).__name__}) is in a system message, which can hold text only; put "
                "it in a user message."
            )
    return content


def _content(message: ChatMessage, role: str, at: str, names: DocumentNames, provider: str) -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = []
    run: list[CitationBlock] = []
    for number, block in enumerate(message.blocks):
        if isinstance(block, CitationBlock):
            run.append(block)
            continue
        content, run = cited(content, run), []
        converted = content_block(block, role, f"{at}.blocks[{number}] ({type(block).__name__})", names, provider)
        content += converted
    content = cited(content, run)
    return content + _older_tool_calls(message, content)


def _older_tool_calls(message: ChatMessage, content: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Tool calls in the shape that LlamaIndex kept them in before it had blocks for them."""
    known = {block["toolUse"]["toolUseId"] for block in content if "toolUse" in block}
    calls = message.additional_kwargs.get("tool_calls")
    return [
        tool_use(call["toolUseId"], call["name"], call.get("input"))
        for call in (calls if isinstance(calls, list) else ())
        if isinstance(call, dict) and {"toolUseId", "name"} <= call.keys() and call["toolUseId"] not in known
    ]


def _tool_result(message: ChatMessage, at: str, names: DocumentNames) -> list[dict[str, Any]]:
    said = message.additional_kwargs
    call_id = said.get("tool_call_id")
    if not call_id or not isinstance(call_id, str):
        raise InvalidRequestError(
            f"{at} is the result of a tool, and its additional_kwargs['tool_call_id'] is {call_id!r}; Bedrock needs "
            "the id of the tool call that it answers."
        )
    content: list[dict[str, Any]] = []
    points: list[dict[str, Any]] = []
    for number, block in enumerate(message.blocks):
        where = f"{at}.blocks[{number}] ({type(block).__name__})"
        parsed = _json(block, where) if isinstance(block, DocumentBlock) else None
        if parsed is not None:
            content.append({"json": parsed})
        elif isinstance(block, CachePoint):
            points.append(cache_point(block))  # a result has no place for it, the message has: behind the result
        else:
            content += content_block(block, "tool", where, names, "")
    result = {"toolUseId": call_id, "content": content or [{"text": _NOTHING}]}
    status = "error" if said.get("is_error") else said.get("status")
    return [{"toolResult": {**result, "status": status} if status else result}, *points]


def _json(block: DocumentBlock, at: str) -> dict[str, Any] | None:
    """The object in a JSON document: a tool result can carry it as such, and a list it cannot."""
    if block.document_mimetype != "application/json" or str(block.url or "").startswith("s3://"):
        return None
    try:
        value = json.loads(document_bytes(block, at))
    except ValueError as error:
        raise InvalidRequestError(f"{at} says that it is JSON, and is not: {error}") from error
    return value if isinstance(value, dict) else None


def _without_tools(block: dict[str, Any]) -> dict[str, Any]:
    if "toolUse" in block:
        call = block["toolUse"]
        return {"text": f"[tool call: {call['name']} {json.dumps(call['input'], ensure_ascii=False)}]"}
    if "toolResult" in block:
        parts = [part.get("text") or json.dumps(part.get("json", "…")) for part in block["toolResult"]["content"]]
        return {"text": f"[tool result: {' '.join(parts)}]"}
    return block


def _points_after_something(content: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The content without cachePoints that have nothing before them, or only one another: Bedrock refuses those."""
    kept: list[dict[str, Any]] = []
    for block in content:
        if "cachePoint" in block and (not kept or "cachePoint" in kept[-1]):
            warn_once("CachePoint", "A CachePoint with nothing to cache before it was left out; Bedrock refuses it.")
        else:
            kept.append(block)
    return kept


def _check(converse: Sequence[Mapping[str, Any]]) -> None:
    if converse and converse[0]["role"] == "assistant":
        raise InvalidRequestError(
            "The conversation starts with a message of the assistant; Bedrock takes one that starts with a user's. If "
            "a memory was cut, cut it before a user message."
        )
    for message in converse:
        kinds = {kind for block in message["content"] for kind in block}
        if "document" in kinds and "text" not in kinds:
            named = ", ".join(repr(b["document"]["name"]) for b in message["content"] if "document" in b)
            raise InvalidRequestError(
                f"The {message['role']} message with the document {named} has no text beside it, which Bedrock "
                "requires: add a TextBlock that says what to do with it."
            )
    logger.debug("%d messages for Converse", len(converse))
