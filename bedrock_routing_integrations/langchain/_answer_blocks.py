"""Content blocks of an answer in the form in which langchain-aws keeps them, and as LangChain's afterwards."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

from langchain_core.messages import AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk

from bedrock_routing_integrations.invocation import ROUTING
from bedrock_routing_integrations.stop_reasons import CUT_OFF, is_incomplete_call

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from langchain_core.messages import AIMessage, BaseMessage
    from langchain_core.outputs import ChatResult


# --- A value that langchain-aws hands on without looking into it. ---


class Opaque:
    """A value that is handed on as it is."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __deepcopy__(self, memo: dict[int, Any]) -> Opaque:
        return self  # langchain-core copies messages that it merges; the value is only read

    def __repr__(self) -> str:
        return f"Opaque({self.value!r})"


def opaque(value: Any) -> Any:
    """Wrap a value that has keys which could be renamed; other values are returned as they are."""
    return Opaque(value) if isinstance(value, (dict, list)) else value


def unwrapped(value: Any) -> Any:
    """Return what `opaque` was given."""
    return value.value if type(value) is Opaque else value


# What langchain-aws reads as it should.
_READ = frozenset(["text", "guardContent", "image", "video"])
_SERVER_TOOL_USE = "server_tool_use"
_FIELDS, _SINGLE = "additionalModelResponseFields", "bedrockRoutingSingleValue"


def shaped_content(content: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the content of an answer in the form in which langchain-aws keeps all of it."""
    shaped: list[dict[str, Any]] = []
    for block in content:
        if "citationsContent" in block:
            cited = block["citationsContent"]
            text = "".join(part.get("text") or "" for part in cited.get("content") or ())
            shaped += [{"text": text}] if text else []
            shaped += [citations_block(cited["citations"])] if cited.get("citations") else []
        elif "toolUse" in block:
            shaped.append({"toolUse": {"input": {}, **normalized_call(block["toolUse"])}})
        elif "toolResult" in block:
            shaped.append(carried(result_block(block)))
        elif "reasoningContent" in block:
            shaped.append(_reasoning(block))
        else:
            shaped.append(dict(block) if _READ & block.keys() else carried(unknown_block(block)))
    return shaped


def citations_block(citations: Sequence[Any]) -> dict[str, Any]:
    """Return citations as a block of their own, which langchain-aws hands on with its keys renamed, as in its streams.

    In ``citationsContent`` it would lose them where the block is the only one, or has no text, and for models in whose
    text it looks for reasoning. `restored_content` gives them to the text in front of them.
    """
    return {"json": {"type": "text", "text": "", "citations": list(citations)}}


def carried(block: Any) -> dict[str, Any]:
    """Return a block of LangChain's as one that langchain-aws hands on as it is."""
    return {"json": Opaque(block)}


def normalized_call(call: Mapping[str, Any]) -> dict[str, Any]:
    """Return a ``toolUse`` without a type, except where Bedrock runs the tool: other types mean the caller's tools."""
    if is_server_call(call):
        return dict(call)
    return {name: value for name, value in call.items() if name != "type"}


def is_server_call(call: Mapping[str, Any]) -> bool:
    """Return whether Bedrock runs the tool itself."""
    return call.get("type") == _SERVER_TOOL_USE


def result_block(block: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a system tool of Bedrock's returned, as LangChain's block: its JSON as it is, its type beside it."""
    result = block["toolResult"]
    content = [_result_part(part) for part in result.get("content") or ()]
    kept: dict[str, Any] = {
        "type": "tool_result",
        "tool_use_id": result.get("toolUseId"),
        "is_error": result.get("status") == "error",
        "content": content,
    }
    if result.get("type"):
        kept["result_type"] = result["type"]
    return kept


def _result_part(part: Mapping[str, Any]) -> dict[str, Any]:
    kind = next(iter(part), "")
    if kind in ("text", "json"):
        return {"type": kind, kind: part[kind]}
    return unknown_block(part)


def unknown_block(block: Mapping[str, Any]) -> dict[str, Any]:
    """Return a block that langchain-aws does not know, in a form that JSON holds and that can be sent back."""
    kind = next(iter(block), "")
    member = block[kind] if kind else None
    source = member.get("source") if isinstance(member, dict) else None
    data = source.get("bytes") if isinstance(source, dict) else None
    if (
        isinstance(member, dict)
        and isinstance(data, (bytes, bytearray))
        and kind in ("audio", "image", "video", "document")
    ):
        media = {"type": "file" if kind == "document" else kind, "base64": base64.b64encode(data).decode()}
        form = str(member.get("format", ""))
        media["mime_type"] = f"{'application' if kind == 'document' else kind}/{form}"
        return {**media, **({"name": member["name"]} if "name" in member else {})}
    return {"type": "non_standard", "value": dict(block)}


def _reasoning(block: Mapping[str, Any]) -> dict[str, Any]:
    reasoning = block["reasoningContent"]
    if "redactedContent" in reasoning:
        return {"reasoningContent": {"redactedContent": redacted_as_text([reasoning["redactedContent"]])}}
    return dict(block)


def redacted_as_text(parts: Iterable[Any]) -> str:
    """Return redacted reasoning as base64 text: messages are kept as JSON."""
    data = b"".join(part if isinstance(part, bytes) else base64.b64decode(part) for part in parts)
    return base64.b64encode(data).decode()


def cut_off_arguments(text: str) -> str:
    """Return what to add to the arguments of a call that was cut off, so that they are no JSON.

    langchain-core completes the arguments of merged chunks: half of a call would run. It keeps nothing of a chunk but
    the text of the arguments, so that this is the only place to say it. A closing bracket that closes nothing is what
    its parser of partial JSON gives up at.
    """
    brackets: list[str] = []
    is_string = is_escaped = False
    for letter in text:
        if is_string:
            if is_escaped:
                is_escaped = False
            elif letter == "\\":
                is_escaped = True
            elif letter == '"':
                is_string = False
        elif letter == '"':
            is_string = True
        elif letter in "{[":
            brackets.append(letter)
        elif letter in "}]" and brackets:
            brackets.pop()
    ending = "\\" if is_escaped else ""
    ending += '"' if is_string else ""
    return f"{ending} (cut off) {'}' if brackets and brackets[-1] == '[' else ']'}"


def readable_fields(response: Mapping[str, Any]) -> dict[str, Any]:
    """Return an answer, or a stream's ``messageStop``, whose ``additionalModelResponseFields`` are a dictionary.

    A JSON pointer to a single value makes them that value, at which langchain-aws raises (recorded: ``"stop_sequence"``
    of Claude is a string). `restore_fields` takes it out again.
    """
    fields = response.get(_FIELDS)
    if fields is None or isinstance(fields, dict):
        return dict(response)
    return {**response, _FIELDS: {_SINGLE: fields}}


def restore_fields(metadata: dict[str, Any]) -> None:
    """Undo `readable_fields` in a message's metadata."""
    fields = metadata.get(_FIELDS)
    if isinstance(fields, dict) and fields.keys() == {_SINGLE}:
        metadata[_FIELDS] = fields[_SINGLE]


def restored_content(content: Any) -> Any:
    """Return the content of a message that langchain-aws made, with the blocks that were carried in it put back."""
    if not isinstance(content, list) or not any(_is_carried(block) for block in content):
        return content
    restored: list[Any] = []
    for block in content:
        if not _is_carried(block):
            restored.append(block)
            continue
        inner = dict(unwrapped(block["json"]))
        text = next((number for number in reversed(range(len(restored))) if _is_text(restored[number])), None)
        if "citations" in inner and "index" not in block and text is not None:
            earlier = restored[text].get("citations") or []
            restored[text] = {**restored[text], "citations": [*earlier, *inner["citations"]]}
        else:
            restored.append({**inner, **({"index": block["index"]} if "index" in block else {})})
    return restored


def _is_carried(block: Any) -> bool:
    return isinstance(block, dict) and block.get("type") == "json" and "json" in block


def _is_text(block: Any) -> bool:
    return isinstance(block, dict) and block.get("type") == "text"


def invalidate_cut_off_call(message: AIMessage) -> None:
    """Make the last call of an answer that was not streamed and was cut off an invalid one.

    Its arguments may be half: see `bedrock_routing_integrations.stop_reasons`.
    """
    reason = message.response_metadata.get("stopReason")
    last = message.content[-1] if isinstance(message.content, list) and message.content else None
    if not isinstance(last, dict) or last.get("type") != "tool_use":
        return
    if not is_incomplete_call(reason, last.get("input"), is_closed=False):
        return
    call = {
        "type": "invalid_tool_call", "id": last.get("id"), "name": last.get("name"),
        "args": json.dumps(last.get("input"), ensure_ascii=False, default=str),
        "error": f"The answer ended ({reason}) before the call was complete. {CUT_OFF[str(reason)]}",
    }  # fmt: skip
    message.content = [*message.content[:-1], dict(call)]
    message.tool_calls = [each for each in message.tool_calls if each.get("id") != last.get("id")]
    message.invalid_tool_calls = [*message.invalid_tool_calls, call]  # type: ignore[list-item]


# --- Small things done to LangChain's messages and results. ---


def name_the_model(message: BaseMessage) -> None:
    """Put the model that answered, where it is known, in ``model_name``: usage and cost are counted by it."""
    routing = message.response_metadata.get(ROUTING)
    if routing:
        message.response_metadata["model_name"] = routing["invoked_model"] or routing["requested_model_id"]
        if routing["usage"] is None:
            message.usage_metadata = None  # type: ignore[attr-defined]  # not known, where langchain-aws has zeros
    usage = getattr(message, "usage_metadata", None)
    if usage:  # upstream's total is what Bedrock says; LangChain's is this
        usage["total_tokens"] = usage["input_tokens"] + usage["output_tokens"]


def as_chunk(result: ChatResult) -> ChatGenerationChunk:
    """Return a whole answer as the only chunk of a stream."""
    message: Any = result.generations[0].message
    # langchain-core parses the arguments again, and would take those that are JSON for a valid call's.
    invalid: list[Any] = [
        {**call, "args": (call["args"] or "") + cut_off_arguments(call["args"] or "")}
        for call in message.invalid_tool_calls
    ]
    return ChatGenerationChunk(
        message=AIMessageChunk(
            content=message.content,
            additional_kwargs=message.additional_kwargs,
            response_metadata=message.response_metadata,
            tool_calls=message.tool_calls,
            invalid_tool_calls=invalid,
            usage_metadata=message.usage_metadata,
            id=message.id,
            chunk_position="last",
        )
    )


def copied_containers(raw_blocks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The user's raw messages with lists of their own: upstream appends cache points to them."""
    return [
        {**message, "content": list(message["content"])} if isinstance(message.get("content"), list) else dict(message)
        for message in raw_blocks
    ]


def token_usage(usages: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """The sum of some ``usage_metadata``, for callbacks that read ``llm_output["token_usage"]``.

    Under both names that are in use: LangChain's, and those of older callbacks, which are OpenAI's.
    """
    prompt = sum([usage.get("input_tokens") or 0 for usage in usages])
    completion = sum([usage.get("output_tokens") or 0 for usage in usages])
    total = prompt + completion
    return {
        "input_tokens": prompt, "output_tokens": completion, "total_tokens": total,
        "prompt_tokens": prompt, "completion_tokens": completion,
    }  # fmt: skip
