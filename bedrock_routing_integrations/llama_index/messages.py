"""LlamaIndex's messages → the ``messages`` and ``system`` of a Converse request.

What Bedrock would refuse and has one obvious reading is mended: blank text is left out (but for white space that a
cache point follows), and so are messages that then say nothing; consecutive messages of one role are merged; a tool
call gets the result that it lacks, with a warning. Anything else raises, naming the message and the block. Nothing of
what the caller passed is changed. What depends on the target (names of documents and tools, reasoning of earlier turns,
later system messages) is left to `RoutedClient`.
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
from ._media import document_bytes, s3_uri
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
    messages: Sequence[ChatMessage], *, tools: bool = True, local_files: bool = True
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the ``messages`` and ``system`` of a Converse request.

    System and developer messages before the first user or assistant message become ``system``. Later ones stay where
    they are, as messages of role ``system``; `RoutedClient` places them as the target takes them.

    Args:
        messages: LlamaIndex's messages.
        tools: Whether the request has tools. Without them Bedrock refuses tool calls and results; they become text.
        local_files: Whether the files that blocks name by `path` may be read.

    Raises:
        InvalidRequestError: A block that Converse cannot carry there; the message names it.
    """
    given: object = messages
    if isinstance(given, (str, ChatMessage)):
        raise InvalidRequestError(
            f"messages must be a list of ChatMessage, and is a {type(given).__name__}; for a prompt there is complete()"
        )
    turns: list[tuple[str, list[dict[str, Any]]]] = []
    for number, message in enumerate(messages):
        at = f"messages[{number}]"
        if not isinstance(message, ChatMessage):
            raise InvalidRequestError(
                f"{at} is a {type(message).__module__}.{type(message).__name__}; it must be a LlamaIndex ChatMessage."
            )
        if message.role in _SYSTEM:
            turns.append(("system", _system(message, at)))
            continue
        role = "assistant" if message.role in _ASSISTANT else "user"
        if message.role in _TOOL:
            content = _tool_result(message, at, local_files=local_files)
        else:
            content = _content(message, role, at, local_files=local_files)
        turns.append((role, content if tools else [part for block in content for part in in_words(block)]))
    # Merge neighbours of one role, drop what says nothing, then merge again: dropping can create new neighbours.
    turns = _merged(_without_blanks(turn) for turn in _merged(turns))
    system = turns.pop(0)[1] if turns and turns[0][0] == "system" else []
    turns = paired(turns)
    _check(turns)
    return [{"role": role, "content": content} for role, content in turns], system


def _merged(turns: Iterable[tuple[str, list[dict[str, Any]]]]) -> list[tuple[str, list[dict[str, Any]]]]:
    merged: list[tuple[str, list[dict[str, Any]]]] = []
    for role, content in turns:
        if merged and merged[-1][0] == role:
            merged[-1][1].extend(content)  # a list of ours
        elif content:
            merged.append((role, content))
    return merged


def _without_blanks(turn: tuple[str, list[dict[str, Any]]]) -> tuple[str, list[dict[str, Any]]]:
    """Return the turn without blank text; without any content where nothing but cache points is left.

    White space between another kind of block and a cache point stays: it is the known way to put a point behind a text
    document, and Claude Sonnet 4.5 took a line break there (recorded 2025). An empty text is refused everywhere.
    """
    role, content = turn
    if all("cachePoint" in block or _is_blank(block) for block in content):
        if any("cachePoint" in block for block in content):
            warn_once(
                ("CachePoint", "alone"), "A CachePoint in a message with nothing else was left out; Bedrock refuses it."
            )
        return role, []
    kept: list[dict[str, Any]] = []
    for block, follower in zip(content, [*content[1:], {}], strict=True):
        bears_point = "cachePoint" in follower and kept and not {"text", "cachePoint"} & kept[-1].keys()
        if not _is_blank(block) or (block["text"] and bears_point):
            kept.append(block)
    return role, kept


def _is_blank(block: Mapping[str, Any]) -> bool:
    return "text" in block and not block["text"].strip()


def _system(message: ChatMessage, at: str) -> list[dict[str, Any]]:
    content = []
    for number, block in enumerate(message.blocks):
        if isinstance(block, TextBlock):
            content.append({"text": block.text})
        elif isinstance(block, CachePoint):
            content.append(cache_point(block, f"{at}.blocks[{number}] (CachePoint)"))
        else:
            raise InvalidRequestError(
                f"{at}.blocks[{number}] ({type(block).__name__}) is in a system message, which can hold text only; put "
                "it in a user message."
            )
    return content


def _content(message: ChatMessage, role: str, at: str, *, local_files: bool) -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = []
    run: list[CitationBlock] = []
    for number, block in enumerate(message.blocks):
        if isinstance(block, CitationBlock) and role == "assistant":
            run.append(block)
            continue
        content, run = cited(content, run), []
        where = f"{at}.blocks[{number}] ({type(block).__name__})"
        content += content_block(block, role, where, local_files=local_files)
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


def _tool_result(message: ChatMessage, at: str, *, local_files: bool) -> list[dict[str, Any]]:
    said = message.additional_kwargs
    call_id = tool_id(said.get("tool_call_id"), f"{at} is the result of a tool, and additional_kwargs['tool_call_id']")
    content: list[dict[str, Any]] = []
    points: list[dict[str, Any]] = []
    for number, block in enumerate(message.blocks):
        where = f"{at}.blocks[{number}] ({type(block).__name__})"
        parsed = _json(block, where, local_files=local_files) if isinstance(block, DocumentBlock) else None
        if parsed is not None:
            content.append({"json": parsed})
        elif isinstance(block, CachePoint):
            points.append(cache_point(block, where))  # a result has no place for it, the message has: behind the result
        else:
            content += content_block(block, "tool", where, local_files=local_files)
    result = {"toolUseId": call_id, "content": content or [{"text": _NOTHING}]}
    status = "error" if said.get("is_error") else said.get("status")
    return [{"toolResult": {**result, "status": status} if status in _STATUSES else result}, *points]


def _json(block: DocumentBlock, at: str, *, local_files: bool) -> dict[str, Any] | None:
    """The object in a JSON document: a tool result can carry it as such, and a list it cannot."""
    if (block.document_mimetype or "").partition(";")[0] != "application/json" or s3_uri(block, block.data):
        return None
    try:
        value = read_json(document_bytes(block, at, local_files=local_files))
    except ValueError as error:
        raise InvalidRequestError(f"{at} says that it is JSON, and is not: {error}") from error
    return value if isinstance(value, dict) else None


def _check(turns: Sequence[tuple[str, Sequence[Mapping[str, Any]]]]) -> None:
    for role, content in turns:
        kinds = {kind for block in content for kind in block}
        if "document" in kinds and "text" not in kinds:
            named = ", ".join(repr(block["document"]["name"]) for block in content if "document" in block)
            raise InvalidRequestError(
                f"The {role} message with the document {named} has no text beside it, which Bedrock requires: add a "
                "TextBlock that says what to do with it."
            )
