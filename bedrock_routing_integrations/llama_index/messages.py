"""LlamaIndex's messages → the ``messages`` and ``system`` of a Converse request.

What Bedrock would refuse and has one obvious reading is mended: blank text is left out, and so are messages that then
say nothing; consecutive messages of one role are merged, documents get names that are allowed, each once; a tool call
gets the result that it lacks, with a warning. Anything else raises, naming the message and the block. Nothing of what
the caller passed is changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from llama_index.core.base.llms.types import (
    CachePoint,
    ChatMessage,
    CitationBlock,
    DocumentBlock,
    MessageRole,
    TextBlock,
)
from llama_index.core.bridge.pydantic import BaseModel

from bedrock_routing_integrations.errors import InvalidRequestError
from bedrock_routing_integrations.logs import warn_once

from ._blocks import cache_point, content_block, read_json, tool_id, tool_use
from ._citations import cited
from ._media import DocumentNames, document_bytes, s3_uri
from ._pairing import in_words, paired

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_SYSTEM = (MessageRole.SYSTEM, MessageRole.DEVELOPER)
_ASSISTANT = (MessageRole.ASSISTANT, MessageRole.CHATBOT, MessageRole.MODEL)
_TOOL = (MessageRole.TOOL, MessageRole.FUNCTION)
# Stands for what a tool returned where it returned nothing: a result must have content.
_NOTHING = "(nothing)"
_STATUSES = ("success", "error")  # ToolResultStatus of botocore's service model (1.43)


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
    given: object = messages
    if isinstance(given, (str, ChatMessage)):
        raise InvalidRequestError(
            f"messages must be a list of ChatMessage, and is a {type(given).__name__}; for a prompt there is complete()"
        )
    turns: list[tuple[str, list[dict[str, Any]]]] = []
    system: list[dict[str, Any]] = []
    names = DocumentNames()
    for number, message in enumerate(messages):
        at = f"messages[{number}]"
        if not isinstance(message, ChatMessage):
            raise InvalidRequestError(f"{at} is a {type(message).__name__}; it must be a ChatMessage.")
        if message.role in _SYSTEM:
            system += _system(message, at)
            continue
        role = "assistant" if message.role in _ASSISTANT else "user"
        if message.role in _TOOL:
            content = _tool_result(message, at, names)
        else:
            content = _content(message, role, at, names, provider)
        turns.append((role, content if tools else [part for block in content for part in in_words(block)]))
    # What says nothing goes when what belongs together is together; then what is around it may be of one role.
    turns = _merged(turn for turn in _merged(turns) if _says_something(turn[1]))
    turns = paired(turns)
    _check(turns)
    return [{"role": role, "content": content} for role, content in turns], system


def _merged(turns: Iterable[tuple[str, list[dict[str, Any]]]]) -> list[tuple[str, list[dict[str, Any]]]]:
    merged: list[tuple[str, list[dict[str, Any]]]] = []
    for role, content in turns:
        if merged and merged[-1][0] == role:
            merged[-1][1].extend(content)  # a list of ours
        else:
            merged.append((role, content))
    return merged


def _says_something(content: Sequence[Mapping[str, Any]]) -> bool:
    """Whether there is more than thinking and cachePoints, which models refuse alone.

    Thinking alone is what an answer cut off by `max_tokens` leaves (reported 2026-09: Claude Sonnet 5 refuses it).
    """
    if any("cachePoint" not in block and "reasoningContent" not in block for block in content):
        return True
    if any("cachePoint" in block for block in content):
        warn_once(
            ("CachePoint", "alone"), "A CachePoint in a message with nothing else was left out; Bedrock refuses it."
        )
    return False


def _system(message: ChatMessage, at: str) -> list[dict[str, Any]]:
    content = []
    for number, block in enumerate(message.blocks):
        if isinstance(block, TextBlock):
            if block.text.strip():
                content.append({"text": block.text})
        elif isinstance(block, CachePoint):
            content.append(cache_point(block, f"{at}.blocks[{number}] (CachePoint)"))
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
        if isinstance(block, CitationBlock) and role == "assistant":
            run.append(block)
            continue
        content, run = cited(content, run), []
        content += content_block(block, role, f"{at}.blocks[{number}] ({type(block).__name__})", names, provider)
    content = cited(content, run)
    return content + _older_tool_calls(message, content, at) if role == "assistant" else content


def _older_tool_calls(message: ChatMessage, content: Sequence[Mapping[str, Any]], at: str) -> list[dict[str, Any]]:
    """Tool calls where LlamaIndex had them before there were blocks for them, in the forms of several APIs."""
    known = {block["toolUse"]["toolUseId"] for block in content if "toolUse" in block}
    given = message.additional_kwargs.get("tool_calls")
    calls = []
    for number, each in enumerate(given if isinstance(given, list) else ()):
        call = each.model_dump() if isinstance(each, BaseModel) else each
        if not isinstance(call, Mapping):
            continue
        function = call["function"] if isinstance(call.get("function"), Mapping) else {}
        call_id, name = call.get("toolUseId") or call.get("id"), call.get("name") or function.get("name")
        if not call_id or not name:
            continue
        checked = tool_id(call_id, f"{at}.additional_kwargs['tool_calls'][{number}]: the id")
        if checked not in known:
            known.add(checked)
            calls.append(tool_use(checked, str(name), call.get("input", function.get("arguments"))))
    return calls


def _tool_result(message: ChatMessage, at: str, names: DocumentNames) -> list[dict[str, Any]]:
    said = message.additional_kwargs
    call_id = tool_id(said.get("tool_call_id"), f"{at} is the result of a tool, and additional_kwargs['tool_call_id']")
    content: list[dict[str, Any]] = []
    points: list[dict[str, Any]] = []
    for number, block in enumerate(message.blocks):
        where = f"{at}.blocks[{number}] ({type(block).__name__})"
        parsed = _json(block, where) if isinstance(block, DocumentBlock) else None
        if parsed is not None:
            content.append({"json": parsed})
        elif isinstance(block, CachePoint):
            points.append(cache_point(block, where))  # a result has no place for it, the message has: behind the result
        else:
            content += content_block(block, "tool", where, names, "")
    result = {"toolUseId": call_id, "content": content or [{"text": _NOTHING}]}
    status = "error" if said.get("is_error") else said.get("status")
    return [{"toolResult": {**result, "status": status} if status in _STATUSES else result}, *points]


def _json(block: DocumentBlock, at: str) -> dict[str, Any] | None:
    """The object in a JSON document: a tool result can carry it as such, and a list it cannot."""
    if (block.document_mimetype or "").partition(";")[0] != "application/json" or s3_uri(block, block.data):
        return None
    try:
        value = read_json(document_bytes(block, at))
    except ValueError as error:
        raise InvalidRequestError(f"{at} says that it is JSON, and is not: {error}") from error
    return value if isinstance(value, dict) else None


def _check(turns: Sequence[tuple[str, Sequence[Mapping[str, Any]]]]) -> None:
    if turns and turns[0][0] == "assistant":
        raise InvalidRequestError(
            "The conversation starts with a message of the assistant; Bedrock takes one that starts with a user's. If "
            "a memory was cut, cut it before a user message."
        )
    for role, content in turns:
        kinds = {kind for block in content for kind in block}
        if "document" in kinds and "text" not in kinds:
            named = ", ".join(repr(block["document"]["name"]) for block in content if "document" in block)
            raise InvalidRequestError(
                f"The {role} message with the document {named} has no text beside it, which Bedrock requires: add a "
                "TextBlock that says what to do with it."
            )
