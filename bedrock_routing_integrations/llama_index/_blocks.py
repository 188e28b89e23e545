"""One content block of LlamaIndex → the Converse blocks that carry it."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from typing import Any

from llama_index.core.base.llms.types import (
    AudioBlock,
    CachePoint,
    CitableBlock,
    DocumentBlock,
    ImageBlock,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
    VideoBlock,
)

from bedrock_routing_integrations.errors import InvalidRequestError
from bedrock_routing_integrations.logs import warn_once

from ._media import audio_block, document_block, image_block, video_block

SIGNATURE = "signature"
REDACTED = "redacted_content"
_UNTITLED = "input_document"  # what LlamaIndex calls a document without a title
# ToolUseId of botocore's service model (1.43)
_TOOL_ID, _NOT_IN_A_TOOL_ID = re.compile(r"[a-zA-Z0-9_.:-]{1,64}"), re.compile(r"[^a-zA-Z0-9_.:-]")


def content_block(  # noqa: PLR0911 - one return for each kind of block
    block: Any, role: str, at: str, *, local_files: bool
) -> list[dict[str, Any]]:
    """Return the Converse blocks for a block; none for one that says nothing. Blank text of a message is kept.

    Args:
        block: The block.
        role: ``"user"``, ``"assistant"``, or ``"tool"`` for the inside of a tool's result.
        at: Where it stands, for errors.
        local_files: Whether the files that blocks name by `path` may be read.

    Raises:
        InvalidRequestError: Converse has no place for it there.
    """
    if isinstance(block, TextBlock):
        return [{"text": block.text}] if role != "tool" or block.text.strip() else []
    if isinstance(block, CachePoint) and role != "tool":
        return [cache_point(block, at)]
    if role == "assistant":
        if isinstance(block, ImageBlock):  # one that a model made; an error would wedge the conversation
            warn_once("image of the assistant", f"{at}: Bedrock takes no image from the assistant; a note is sent.")
            return [{"text": "[an image]"}]
        if isinstance(block, ThinkingBlock):
            return _thinking(block, at)
        if isinstance(block, ToolCallBlock):
            return [_tool_call(block, at)]
    else:
        if isinstance(block, ImageBlock):
            return [image_block(block, at, local_files=local_files)]
        if isinstance(block, DocumentBlock):
            return [document_block(block, at, local_files=local_files)]
        if isinstance(block, VideoBlock):
            return [video_block(block, at, local_files=local_files)]
        if isinstance(block, AudioBlock) and role == "user":
            return [audio_block(block, at, local_files=local_files)]
        if isinstance(block, CitableBlock):
            return _citable(block, role, at, local_files=local_files)
    whose = {"user": "a user message", "assistant": "a message of the assistant", "tool": "the result of a tool"}[role]
    raise InvalidRequestError(f"{at} is in {whose}, where Bedrock does not take it.")


def cache_point(block: CachePoint, at: str) -> dict[str, Any]:
    """Converse's ``cachePoint``. Its only type is ``default``; five minutes is what it lasts where nothing is said.

    Raises:
        InvalidRequestError: It is to last for another time than Bedrock has.
    """
    ttl = block.cache_control.ttl
    if ttl not in {"5m", "1h", ""}:
        raise InvalidRequestError(f"{at}: its ttl is {ttl!r}; Bedrock has '5m' and '1h'.")
    return {"cachePoint": {"type": "default", **({"ttl": ttl} if ttl and ttl != "5m" else {})}}


def tool_use(call_id: str, name: str, arguments: Any) -> dict[str, Any]:
    """Return Converse's ``toolUse``, whose input is always an object."""
    return {"toolUse": {"toolUseId": call_id, "name": name, "input": _arguments(arguments)}}


def tool_id(call_id: object, at: str) -> str:
    """The id of a tool call as Bedrock takes it: 1 to 64 letters, digits, or any of ``_ . : -``.

    One that another provider gave becomes one, always the same, so that a call and its result still have the same.

    Raises:
        InvalidRequestError: There is none.
    """
    if not isinstance(call_id, str) or not call_id:
        raise InvalidRequestError(f"{at} is {call_id!r}; Bedrock needs the id of the tool call.")
    if _TOOL_ID.fullmatch(call_id):
        return call_id
    digest = hashlib.sha256(call_id.encode()).hexdigest()[:16]
    return f"{_NOT_IN_A_TOOL_ID.sub('_', call_id)[:47]}-{digest}"


def _tool_call(block: ToolCallBlock, at: str) -> dict[str, Any]:
    return tool_use(tool_id(block.tool_call_id, f"{at}.tool_call_id"), block.tool_name, block.tool_kwargs)


def _arguments(arguments: Any) -> dict[str, Any]:
    if isinstance(arguments, str):
        try:
            arguments = read_json(arguments or "{}")
        except ValueError:
            # A call that was cut off. The model sees what it wrote; an error here would wedge the conversation.
            return {"invalid_json": arguments}
    return arguments if isinstance(arguments, dict) else {} if arguments is None else {"value": arguments}


def read_json(written: str | bytes) -> Any:
    """What JSON says. Python's own reader takes NaN and numbers that become infinite; Bedrock refuses what it writes.

    Raises:
        ValueError: It is no JSON.
    """
    return json.loads(written, parse_constant=finite_number, parse_float=finite_number)


def finite_number(number: str) -> float:
    """Return a number that JSON writes, for Python's reader.

    Raises:
        ValueError: It is NaN or infinite.
    """
    value = float(number)
    if not math.isfinite(value):
        raise ValueError(f"{number} is no number that JSON has")
    return value


def _thinking(block: ThinkingBlock, at: str) -> list[dict[str, Any]]:
    """Return the reasoning as Bedrock gave it. What of it the target takes, the client decides."""
    said = block.additional_information
    if said.get(REDACTED):
        try:
            return [{"reasoningContent": {"redactedContent": base64.b64decode(said[REDACTED])}}]
        except (TypeError, ValueError) as error:
            raise InvalidRequestError(f"{at}: its {REDACTED!r} is not base64, as Bedrock gave it: {error}") from error
    # Newer Claudes keep their thinking to themselves: the text is empty, and they want the signature back.
    signed = {"signature": said[SIGNATURE]} if said.get(SIGNATURE) else {}
    if not block.content and not signed:
        return []
    return [{"reasoningContent": {"reasoningText": {"text": block.content or "", **signed}}}]


def _citable(block: CitableBlock, role: str, at: str, *, local_files: bool) -> list[dict[str, Any]]:
    """A search result where it is all text; else its parts, the documents among them citable."""
    on = {"citations": {"enabled": True}}
    texts = [{"text": part.text} for part in block.content if isinstance(part, TextBlock) and part.text.strip()]
    if all(isinstance(part, TextBlock) for part in block.content):
        result = {"source": block.source, "title": block.title, "content": texts, **on}
        return [{"searchResult": result}] if texts else []
    parts = [
        each
        for part in block.content
        for each in content_block(_titled(part, block), role, at, local_files=local_files)
    ]
    return [{"document": {**part["document"], **on}} if "document" in part else part for part in parts]


def _titled(part: Any, block: CitableBlock) -> Any:
    """The part; a document without a title of its own has that of the block."""
    untitled = isinstance(part, DocumentBlock) and part.title == _UNTITLED
    return part.model_copy(update={"title": block.title}) if untitled else part
