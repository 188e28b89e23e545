"""Converse's answers → LlamaIndex's responses."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ImageBlock,
    MessageRole,
    ThinkingBlock,
    ToolCallBlock,
)
from pydantic_core import from_json

from bedrock_routing_integrations.invocation import ROUTING
from bedrock_routing_integrations.requests import ROOT
from bedrock_routing_integrations.stop_reasons import is_half_call

from ._blocks import REDACTED, SIGNATURE
from ._citations import read_text

if TYPE_CHECKING:
    from collections.abc import Container, Mapping, Sequence

SERVER_TOOL_USE = "server_tool_use"  # ToolUseType of botocore's service model (1.43)


def read_response(
    response: Mapping[str, Any],
    *,
    delta: str | None = None,
    one_tool_call: bool = False,
    wrapped: Container[str] = (),
) -> ChatResponse:
    """Return a whole answer.

    Args:
        response: A Converse response with its ``"routing"``.
        delta: The text that is new with it, where it ends a stream.
        one_tool_call: Leave out all tool calls but the first; `raw` has them.
        wrapped: Tools whose arguments are no object: see `read_content`.

    Returns:
        The response. `raw` is the Converse response, bytes in it as base64 text, so that it can be written as JSON; its
        ``usage`` has LlamaIndex's names beside AWS's, because LlamaIndex's token counters look there.
    """
    counts = token_counts(response.get("usage"))
    message = response["output"]["message"]
    content = message["content"]
    raw = {**response, "usage": {**response["usage"], **counts}} if counts else dict(response)
    raw["output"] = {**response["output"], "message": {**message, "content": [without_bytes(b) for b in content]}}
    is_half = _ends_in_half_call(content, response.get("stopReason"), is_stream=delta is not None)
    blocks, said = read_content(content, one_tool_call=one_tool_call, wrapped=wrapped, cut_off=is_half)
    return ChatResponse(
        message=ChatMessage(role=MessageRole.ASSISTANT, blocks=blocks, additional_kwargs=said),
        delta=delta,
        raw=raw,
        additional_kwargs={**counts, ROUTING: response[ROUTING]},
    )


def _ends_in_half_call(content: Sequence[Mapping[str, Any]], stop_reason: str | None, *, is_stream: bool) -> bool:
    if not content or "toolUse" not in content[-1]:
        return False
    if content[-1]["toolUse"].get("type") == SERVER_TOOL_USE:  # no ToolCallBlock
        return False
    arguments = content[-1]["toolUse"].get("input")
    # `Received` parses the arguments of a call whose contentBlockStop arrived, and leaves others as text.
    return is_half_call(stop_reason, arguments, is_closed=is_stream and not isinstance(arguments, str))


def without_bytes(value: Any) -> Any:
    """Return a part of an answer with its bytes (redacted reasoning, images) as base64 text."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, dict):
        return {name: without_bytes(part) for name, part in value.items()}
    return [without_bytes(part) for part in value] if isinstance(value, list) else value


def token_counts(usage: Mapping[str, Any] | None) -> dict[str, int]:
    """Tokens by LlamaIndex's names; `Usage` says how they add up.

    ``prompt_tokens`` is the whole prompt. What of it was read from and written to the cache is in
    ``cache_read_input_tokens`` and ``cache_creation_input_tokens``.
    """
    if not usage:
        return {}
    read, written = usage.get("cacheReadInputTokens") or 0, usage.get("cacheWriteInputTokens") or 0
    prompt, completion = (usage.get("inputTokens") or 0) + read + written, usage.get("outputTokens") or 0
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "cache_read_input_tokens": read,
        "cache_creation_input_tokens": written,
    }


def read_content(
    content: Sequence[Mapping[str, Any]],
    *,
    unfinished: bool = False,
    one_tool_call: bool = False,
    wrapped: Container[str] = (),
    cut_off: bool = False,
) -> tuple[list[Any], dict[str, Any]]:
    """Return the blocks of a message and its `additional_kwargs` for Converse's content.

    What LlamaIndex has no block for (a tool that Bedrock ran itself, an audio) is in the response's `raw` only.

    Args:
        content: Converse's content blocks.
        unfinished: Whether more is to come, so that the arguments of a tool call are read as far as they go. In a whole
            answer, arguments that are no JSON object stay the text that the model wrote.
        one_tool_call: Leave out all tool calls but the first. Converse has no way to ask for one at a time.
        wrapped: Names of the tools whose arguments are no object. LlamaIndex needs one: ``{"root": …}``.
        cut_off: Whether the last block is half a tool call. Its arguments stay text, so that nobody runs the tool with
            a half of them.
    """
    blocks: list[Any] = []
    run: list[Mapping[str, Any]] = []
    for block in content:
        if "text" in block or "citationsContent" in block:
            run.append(block)
        else:
            blocks += [*read_text(run), *_read(block, unfinished=unfinished, wrapped=wrapped)]
            run = []
    blocks += read_text(run)
    if cut_off and content and "toolUse" in content[-1] and isinstance(blocks[-1], ToolCallBlock):
        blocks[-1] = _as_text(blocks[-1])
    calls = [block for block in blocks if isinstance(block, ToolCallBlock)]
    if one_tool_call and len(calls) > 1:
        blocks = [block for block in blocks if not any(block is call for call in calls[1:])]
        calls = calls[:1]
    return blocks, ({"tool_calls": [older_shape(call) for call in calls]} if calls else {})


def _read(block: Mapping[str, Any], *, unfinished: bool, wrapped: Container[str]) -> list[Any]:
    if "toolUse" in block:
        return _tool_call(block["toolUse"], unfinished=unfinished, wrapped=wrapped)
    if "reasoningContent" in block:
        reasoning = block["reasoningContent"]
        if "redactedContent" in reasoning:
            hidden = base64.b64encode(reasoning["redactedContent"]).decode()
            return [ThinkingBlock(content=None, additional_information={REDACTED: hidden})]
        text = reasoning.get("reasoningText") or {}
        signed = {SIGNATURE: text["signature"]} if text.get("signature") else {}
        return [ThinkingBlock(content=text.get("text"), additional_information=signed)]
    if "image" in block and "bytes" in (block["image"].get("source") or {}):
        image = block["image"]
        return [ImageBlock(image=image["source"]["bytes"], image_mimetype=f"image/{image['format']}")]
    return []


def _tool_call(call: Mapping[str, Any], *, unfinished: bool, wrapped: Container[str]) -> list[ToolCallBlock]:
    # Bedrock ran a call of this type itself; `raw` keeps it. Claude 4.5 and later send "tool_use" with the caller's
    # calls (recorded 2025-10), and other types may follow.
    if call.get("type") == SERVER_TOOL_USE:
        return []
    arguments = call.get("input")  # null, which botocore leaves out: a tool without parameters
    is_wrapped = call["name"] in wrapped
    if unfinished and isinstance(arguments, str):
        arguments = _so_far(arguments)
        arguments = arguments if is_wrapped or isinstance(arguments, dict) else {}
    if arguments is None:
        arguments = {}
    elif is_wrapped and not _is_for_itself(arguments):
        arguments = {ROOT: arguments}
    elif not isinstance(arguments, (dict, str)):  # a list or a number, which a ToolCallBlock cannot hold
        arguments = json.dumps(arguments)
    return [ToolCallBlock(tool_call_id=call["toolUseId"], tool_name=call["name"], tool_kwargs=arguments)]


def _as_text(call: ToolCallBlock) -> ToolCallBlock:
    arguments = call.tool_kwargs
    if isinstance(arguments, dict):
        # Where the answer is not streamed, Bedrock makes some object of what had come (which it does not document).
        arguments = json.dumps(arguments) if arguments else ""
    return call.model_copy(update={"tool_kwargs": arguments})


def _is_for_itself(arguments: Any) -> bool:
    """Return whether the arguments of a wrapped tool need no ``root``: they are an object, or JSON that is broken."""
    if isinstance(arguments, str):
        return arguments.lstrip().startswith("{")
    return isinstance(arguments, dict) and arguments.keys() != {ROOT}


def _so_far(text: str) -> Any:
    try:
        return from_json(text or "{}", allow_partial="trailing-strings")
    except ValueError:
        return {}


def older_shape(call: ToolCallBlock) -> dict[str, Any]:
    """Return a call as a message's ``additional_kwargs["tool_calls"]`` has it."""
    # LlamaIndex's structured streaming looks here to see whether a tool was called (llama-index-core 0.14).
    return {"toolUseId": call.tool_call_id, "name": call.tool_name, "input": call.tool_kwargs}
