"""Read Converse's responses and streams as LlamaIndex's responses and chunks."""

from __future__ import annotations

import base64
import json
import weakref
from typing import TYPE_CHECKING, Any

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    CompletionResponse,
    ImageBlock,
    MessageRole,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
)
from llama_index.core.llms.llm import ToolSelection
from pydantic_core import from_json

from bedrock_routing_integrations.errors import ToolCallError
from bedrock_routing_integrations.invocation import ROUTING
from bedrock_routing_integrations.requests import ROOT
from bedrock_routing_integrations.transport.answer_validation import CUT_OFF, is_incomplete_call

from .messages import REDACTED, SIGNATURE, read_text

if TYPE_CHECKING:
    from collections.abc import Container, Generator, Iterator, Mapping, Sequence

    from bedrock_routing_integrations.transport.stream_accumulator import StreamAccumulator
    from bedrock_routing_integrations.transport.streams import RoutedStream

_SERVER_TOOL_USE = "server_tool_use"  # ToolUseType of botocore's service model (1.43)


# --- Whole answers ---


def read_response(
    response: Mapping[str, Any],
    *,
    delta: str | None = None,
    first_call_only: bool = False,
    wrapped: Container[str] = (),
) -> ChatResponse:
    """Return a Converse response as LlamaIndex's.

    Args:
        response: A Converse response with its ``"routing"``.
        delta: The new text, if the response ends a stream.
        first_call_only: Leave out all tool calls but the first. `raw` keeps them.
        wrapped: Names of the tools whose arguments are not an object (see `read_content`).

    Returns:
        The response. `raw` is the Converse response with bytes as base64 text, so that it can be written as JSON. Its
        ``usage`` has LlamaIndex's names beside AWS's, because LlamaIndex's token counters look there.
    """
    counts = token_counts(response.get("usage"))
    message = response["output"]["message"]
    content = message["content"]
    raw = {**response, "usage": {**response["usage"], **counts}} if counts else dict(response)
    raw["output"] = {**response["output"], "message": {**message, "content": [without_bytes(b) for b in content]}}
    is_half = _ends_in_half_call(content, response.get("stopReason"), is_stream=delta is not None)
    blocks, extra = read_content(content, first_call_only=first_call_only, wrapped=wrapped, cut_off=is_half)
    return ChatResponse(
        message=ChatMessage(role=MessageRole.ASSISTANT, blocks=blocks, additional_kwargs=extra),
        delta=delta,
        raw=raw,
        additional_kwargs={**counts, ROUTING: response[ROUTING]},
    )


def _ends_in_half_call(content: Sequence[Mapping[str, Any]], stop_reason: str | None, *, is_stream: bool) -> bool:
    if not content or "toolUse" not in content[-1]:
        return False
    if content[-1]["toolUse"].get("type") == _SERVER_TOOL_USE:  # read_content makes no ToolCallBlock of it
        return False
    arguments = content[-1]["toolUse"].get("input")
    # A stream's arguments are parsed once their contentBlockStop has arrived, and are text until then.
    return is_incomplete_call(stop_reason, arguments, is_closed=is_stream and not isinstance(arguments, str))


def without_bytes(value: Any) -> Any:
    """Return a part of a response with bytes (redacted reasoning, images) as base64 text."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, dict):
        return {name: without_bytes(part) for name, part in value.items()}
    return [without_bytes(part) for part in value] if isinstance(value, list) else value


def token_counts(usage: Mapping[str, Any] | None) -> dict[str, int]:
    """Return the tokens of Converse's ``usage`` by LlamaIndex's names.

    ``prompt_tokens`` counts the whole prompt. ``cache_read_input_tokens`` and ``cache_creation_input_tokens`` are parts
    of it. See `Usage` for the sums.
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


# --- Content blocks ---


def read_content(
    content: Sequence[Mapping[str, Any]],
    *,
    unfinished: bool = False,
    first_call_only: bool = False,
    wrapped: Container[str] = (),
    cut_off: bool = False,
) -> tuple[list[Any], dict[str, Any]]:
    """Return LlamaIndex's blocks and a message's `additional_kwargs` for Converse's content.

    Content without a block in LlamaIndex (a tool that Bedrock ran itself, audio) is in the response's `raw` only.

    Args:
        content: Converse's content blocks.
        unfinished: More is to come: read a tool call's incomplete arguments as far as they go. In a whole answer,
            arguments that are not a JSON object stay the text that the model wrote.
        first_call_only: Leave out all tool calls but the first. Converse cannot be asked for one call at a time.
        wrapped: Names of the tools whose arguments are not an object. LlamaIndex needs one: ``{"root": …}``.
        cut_off: The last block is half a tool call. Its arguments stay text, so that nobody runs the tool with half of
            them.

    Returns:
        The blocks, and ``{"tool_calls": […]}`` if there are tool calls.
    """
    blocks: list[Any] = []
    texts: list[Mapping[str, Any]] = []  # neighbouring text and citations, which become one text
    for block in content:
        if "text" in block or "citationsContent" in block:
            texts.append(block)
            continue
        if texts:
            blocks += read_text(texts)
            texts = []
        blocks += _read_block(block, unfinished=unfinished, wrapped=wrapped)
    if texts:
        blocks += read_text(texts)
    if cut_off and content and "toolUse" in content[-1] and isinstance(blocks[-1], ToolCallBlock):
        blocks[-1] = _with_text_arguments(blocks[-1])
    calls = [block for block in blocks if isinstance(block, ToolCallBlock)]
    if first_call_only and len(calls) > 1:
        blocks = [block for block in blocks if not any(block is call for call in calls[1:])]
        calls = calls[:1]
    return blocks, ({"tool_calls": [tool_call_entry(call) for call in calls]} if calls else {})


def _read_block(block: Mapping[str, Any], *, unfinished: bool, wrapped: Container[str]) -> list[Any]:
    if "toolUse" in block:
        return _read_tool_use(block["toolUse"], unfinished=unfinished, wrapped=wrapped)
    if "reasoningContent" in block:
        reasoning = block["reasoningContent"]
        if "redactedContent" in reasoning:
            hidden = base64.b64encode(reasoning["redactedContent"]).decode()
            return [ThinkingBlock(content=None, additional_information={REDACTED: hidden})]
        text = reasoning.get("reasoningText") or {}
        signature = {SIGNATURE: text["signature"]} if text.get("signature") else {}
        return [ThinkingBlock(content=text.get("text"), additional_information=signature)]
    if "image" in block and "bytes" in (block["image"].get("source") or {}):
        image = block["image"]
        return [ImageBlock(image=image["source"]["bytes"], image_mimetype=f"image/{image['format']}")]
    return []


def _read_tool_use(call: Mapping[str, Any], *, unfinished: bool, wrapped: Container[str]) -> list[ToolCallBlock]:
    # Bedrock ran a call of this type itself; `raw` keeps it. Claude 4.5 and later send "tool_use" with the caller's
    # calls (recorded 2025-10), and other types may follow.
    if call.get("type") == _SERVER_TOOL_USE:
        return []
    arguments = call.get("input")  # null, which botocore leaves out: a tool without parameters
    is_wrapped = call["name"] in wrapped
    if unfinished and isinstance(arguments, str):
        arguments = _parse_so_far(arguments)
        arguments = arguments if is_wrapped or isinstance(arguments, dict) else {}
    if arguments is None:
        arguments = {}
    elif is_wrapped and not _needs_no_root(arguments):
        arguments = {ROOT: arguments}
    elif not isinstance(arguments, (dict, str)):  # a list or a number, which a ToolCallBlock cannot hold
        arguments = json.dumps(arguments)
    return [ToolCallBlock(tool_call_id=call["toolUseId"], tool_name=call["name"], tool_kwargs=arguments)]


def _with_text_arguments(call: ToolCallBlock) -> ToolCallBlock:
    arguments = call.tool_kwargs
    if isinstance(arguments, dict):
        # Where the answer is not streamed, Bedrock makes some object of the arguments so far (not documented).
        arguments = json.dumps(arguments) if arguments else ""
    return call.model_copy(update={"tool_kwargs": arguments})


def _needs_no_root(arguments: Any) -> bool:
    """Return whether the arguments of a wrapped tool need no ``root``: they are an object, or broken JSON of one."""
    if isinstance(arguments, str):
        return arguments.lstrip().startswith("{")
    return isinstance(arguments, dict) and arguments.keys() != {ROOT}


def _parse_so_far(text: str) -> Any:
    try:
        return from_json(text or "{}", allow_partial="trailing-strings")
    except ValueError:
        return {}


def tool_call_entry(call: ToolCallBlock) -> dict[str, Any]:
    """Return a call as an entry of a message's ``additional_kwargs["tool_calls"]``."""
    # LlamaIndex's structured streaming looks there to see whether a tool was called (llama-index-core 0.14).
    return {"toolUseId": call.tool_call_id, "name": call.tool_name, "input": call.tool_kwargs}


# --- Streams ---


def read_stream(
    stream: RoutedStream, *, first_call_only: bool = False, wrapped: Container[str] = ()
) -> Iterator[ChatResponse]:
    """Return a stream's chunks: one for each event with content, and a last one with everything.

    A chunk's `message` holds all content so far, `delta` the new text. The last chunk has no new text: it equals what
    `chat` would have returned, with the tokens and ``"routing"``.

    Args:
        stream: The stream.
        first_call_only: Leave out all tool calls but the first.
        wrapped: Names of the tools whose arguments are not an object (see `read_content`).
    """
    chunks = _read_chunks(stream, first_call_only=first_call_only, wrapped=wrapped)
    # A generator that is dropped before its first chunk never runs its `with`, so the stream is closed from outside.
    weakref.finalize(chunks, stream.close).atexit = False  # type: ignore[misc,unused-ignore]  # mypy 1.18 knows no such
    return chunks


def _read_chunks(
    stream: RoutedStream, *, first_call_only: bool, wrapped: Container[str]
) -> Generator[ChatResponse, None, None]:
    received = stream.received
    routing: dict[str, Any] | None = None
    with stream:
        for event in stream:
            if "contentBlockDelta" in event:
                delta = event["contentBlockDelta"]["delta"]
                extra = {}
                if "reasoningContent" in delta:
                    extra["thinking_delta"] = delta["reasoningContent"].get("text", "")
                raw = event if "text" in delta or "toolUse" in delta else without_bytes(event)
                text = delta.get("text", "")
            elif "contentBlockStart" in event:
                extra, raw, text = {}, event, ""
            else:
                if "metadata" in event:
                    routing = event["metadata"][ROUTING]
                continue
            message = _message_so_far(received, first_call_only=first_call_only, wrapped=wrapped)
            # Every field is passed, so that all count as set.
            yield ChatResponse(message=message, raw=raw, delta=text, logprobs=None, additional_kwargs=extra)
    # After the loop, because the order of the last events is not fixed.
    response = {**received.response(), ROUTING: routing}
    yield read_response(response, delta="", first_call_only=first_call_only, wrapped=wrapped)


def _message_so_far(received: StreamAccumulator, *, first_call_only: bool, wrapped: Container[str]) -> ChatMessage:
    text = received.only_text()
    if text is not None:  # most chunks of most streams
        return ChatMessage(role=MessageRole.ASSISTANT, blocks=[TextBlock(text=text)], additional_kwargs={})
    blocks, extra = read_content(received.content(), unfinished=True, first_call_only=first_call_only, wrapped=wrapped)
    return ChatMessage(role=MessageRole.ASSISTANT, blocks=blocks, additional_kwargs=extra)


def as_chat(chunk: ChatResponse) -> ChatResponse:
    """Return a chunk of a chat unchanged."""
    return chunk


def as_completion(chunk: ChatResponse) -> CompletionResponse:
    """Return a chunk of a chat as a chunk of a completion."""
    return CompletionResponse(
        text=chunk.message.content or "",
        additional_kwargs=dict(chunk.additional_kwargs),
        raw=chunk.raw,
        logprobs=None,
        delta=chunk.delta,
    )


# --- Tool calls of a response ---

_NO_CALL_ADVICE = (
    "Ask for the call in the prompt, or use a model that can be forced to call a tool; if you need an object, say "
    "in the prompt that the answer is to be JSON."
)
_BROKEN_JSON_ADVICE = "Ask again, or use a model that writes JSON more reliably."


def tool_selections(response: ChatResponse, *, error_on_no_tool_call: bool) -> list[ToolSelection]:
    """Return the tool calls of a response.

    Args:
        response: The response.
        error_on_no_tool_call: Raise if there are none.

    Raises:
        ToolCallError: The response has no call although it must; or a call's arguments are not a JSON object, or were
            cut off.
    """
    selections = [
        ToolSelection(
            tool_id=block.tool_call_id or "", tool_name=block.tool_name, tool_kwargs=_arguments(block, response)
        )
        for block in response.message.blocks
        if isinstance(block, ToolCallBlock)
    ]
    if not selections and error_on_no_tool_call:
        raise ToolCallError(
            f"Expected a tool call, and the model called no tool (stop reason: {_stop_reason(response.raw)}). "
            f"{_cut_off_advice(response.raw) or _NO_CALL_ADVICE}"
        )
    return selections


def _arguments(block: ToolCallBlock, response: ChatResponse) -> dict[str, Any]:
    arguments: Any = block.tool_kwargs
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}")
        except ValueError:
            arguments = None
    # `read_response` leaves the arguments of half a call as text.
    is_cut = isinstance(block.tool_kwargs, str) and is_cut_off(response.raw) and _is_last(block, response.raw)
    if isinstance(arguments, dict) and not is_cut:
        return arguments
    problem = "were cut off" if is_cut else "are not a JSON object"
    raise ToolCallError(
        f"The arguments of the model's call of {block.tool_name!r} {problem} (stop reason: "
        f"{_stop_reason(response.raw)}). {_cut_off_advice(response.raw) or _BROKEN_JSON_ADVICE} The ToolCallBlock's "
        "tool_kwargs has the text that the model wrote."
    )


def is_cut_off(raw: Any) -> bool:
    """Return whether a response, given its `raw`, may end in the middle of a content block."""
    return _stop_reason(raw) in CUT_OFF


def _stop_reason(raw: Any) -> str | None:
    return raw.get("stopReason") if isinstance(raw, dict) else None


def _cut_off_advice(raw: Any) -> str | None:
    return CUT_OFF.get(_stop_reason(raw) or "")


def _is_last(block: ToolCallBlock, raw: Any) -> bool:
    """Return whether a call is the last content block of its response."""
    content = raw["output"]["message"]["content"]
    return bool(content) and content[-1].get("toolUse", {}).get("toolUseId") == block.tool_call_id
