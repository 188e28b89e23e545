"""Correct what langchain-aws sends and receives: the seam between langchain-aws and `RoutedClient`.

langchain-aws writes a Converse request from LangChain's messages, calls ``client.converse`` or
``client.converse_stream``, and reads the response into a message. Both directions lose data. `ConverseClient` is the
boto3 client that langchain-aws is given for one call. It corrects the request just before it is sent and the response
just after it has arrived. Nothing of langchain-aws is patched and none of its underscored functions is called; the
tests named ``test_upstream`` check each property of langchain-aws that this relies on.

Requests. langchain-aws renames the keys of dictionaries (``my_key`` → ``myKey``), the user's data included, and moves
all system messages to the front.

- `protect` wraps the user's data in an object, `Protected`, that langchain-aws does not look into. `ConverseClient`
  unwraps it.
- A system message amid the conversation arrives as blocks of a user's turn between two marker blocks,
  `SYSTEM_BEGINS` and `SYSTEM_ENDS`. `converse_turns` makes it a message of role ``system`` again.

Responses. langchain-aws loses citations of an answer of one block and citations without text, redacted reasoning (which
it keeps as bytes, so that the message is not valid JSON), results of system tools in a stream, and the spelling of keys
in their JSON. It raises at event and block types that it does not know.

- `readable_content` and `_ReadableEvents` rewrite such blocks in a form that langchain-aws keeps. Where it has none, a
  block travels inside a block of type ``json``, which langchain-aws expects in tool results only and passes through.
- `restore_content` takes it out of the finished message again.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import json
from typing import TYPE_CHECKING, Any

from langchain_core.exceptions import ContextOverflowError
from langchain_core.messages import AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk

from bedrock_routing_integrations.errors import is_context_overflow
from bedrock_routing_integrations.invocation import ROUTING
from bedrock_routing_integrations.transport.answer_validation import CUT_OFF, is_incomplete_call
from bedrock_routing_integrations.transport.stream_accumulator import StreamAccumulator

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from langchain_core.messages import AIMessage, BaseMessage
    from langchain_core.outputs import ChatResult

SYSTEM_BEGINS, SYSTEM_ENDS = "bedrockRoutingSystemBegins", "bedrockRoutingSystemEnds"
"""The only key of the blocks before and after a system message amid the conversation."""

_EVENTS = frozenset(
    ["messageStart", "contentBlockStart", "contentBlockDelta", "contentBlockStop", "messageStop", "metadata"]
)
# Blocks that langchain-aws reads only as a whole, not from deltas.
_WHOLE_ONLY = frozenset(["toolResult", "image"])
# Blocks that langchain-aws reads without loss.
_READ_WITHOUT_LOSS = frozenset(["text", "guardContent", "image", "video"])
_SERVER_TOOL_USE = "server_tool_use"
_FIELDS, _SINGLE_VALUE = "additionalModelResponseFields", "bedrockRoutingSingleValue"


# --- Values whose keys langchain-aws must not rename ---


class Protected:
    """A dictionary or list that langchain-aws passes through, because it is neither."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __deepcopy__(self, memo: dict[int, Any]) -> Protected:
        return self  # langchain-core copies the messages that it merges; the value is only read

    def __repr__(self) -> str:
        return f"Protected({self.value!r})"


def protect(value: Any) -> Any:
    """Return a dictionary or list as a `Protected`, and any other value as it is."""
    return Protected(value) if isinstance(value, (dict, list)) else value


def unprotect(value: Any) -> Any:
    """Return the value that `protect` was given."""
    return value.value if type(value) is Protected else value


# --- The client of one call ---


class ConverseClient:
    """Take the place of a boto3 client during one call of langchain-aws.

    Args:
        client: The `RoutedClient` that sends.
        members: Members to add to the request.
        is_counting: Whether to count the tokens of the request in place of sending it.

    Attributes:
        counted: The number of tokens, after a request was counted.
    """

    def __init__(self, client: Any, members: Mapping[str, Any] | None = None, *, is_counting: bool = False) -> None:
        self._client, self._members = client, members or {}
        self._is_counting, self.counted = is_counting, 0

    def converse(self, **request: Any) -> dict[str, Any]:
        """Send a request and return its response in a form that langchain-aws reads without loss."""
        corrected = self._corrected_request(request)
        if self._is_counting:
            if not corrected["toolConfig"].get("tools"):
                del corrected["toolConfig"]
            self.counted = self._client.count_prompt_tokens(**corrected)
            return {"output": {"message": {"role": "assistant", "content": []}}, "usage": {}}
        with _overflow_as_langchain_error():
            response = self._client.converse(**corrected)
        message = response["output"]["message"]
        content = readable_content(message.get("content") or [])
        readable = {**_readable_response_fields(response), "output": {"message": {**message, "content": content}}}
        readable.setdefault("usage", {})
        if "metrics" in readable:  # langchain-aws writes into it
            readable["metrics"] = dict(readable["metrics"])
        return readable

    def converse_stream(self, **request: Any) -> dict[str, Any]:
        """Send a request and return its stream, with events that langchain-aws reads without loss."""
        with _overflow_as_langchain_error():
            response = self._client.converse_stream(**self._corrected_request(request))
        return {**response, "stream": _ReadableStream(response["stream"])}

    def _corrected_request(self, request: Mapping[str, Any]) -> dict[str, Any]:
        corrected = {name: unprotect(value) for name, value in request.items()}
        fields = corrected.get("additionalModelRequestFields")
        if fields:
            corrected["additionalModelRequestFields"] = {name: unprotect(value) for name, value in fields.items()}
        corrected["messages"] = converse_turns(corrected["messages"])
        return {**corrected, **self._members}


@contextlib.contextmanager
def _overflow_as_langchain_error() -> Iterator[None]:
    """Raise our ContextOverflowError as LangChain's too, which its summarization middleware catches.

    langchain-aws does so for fewer error messages of Bedrock.
    """
    try:
        yield
    except Exception as error:
        if not is_context_overflow(error) or isinstance(error, ContextOverflowError):
            raise
        overflow: Any = error
        kind: Any = type(error)
        raise _overflow_class(kind)(overflow.response, overflow.operation_name) from error


@functools.lru_cache(maxsize=64)
def _overflow_class(kind: Any) -> Any:
    return type("ContextOverflowError", (kind, ContextOverflowError), {"__module__": __name__})


# --- Requests ---


def converse_turns(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the messages that langchain-aws wrote, with system messages in their position and the data unwrapped.

    A system message between a tool call and its result moves behind the result, which Bedrock wants in the next turn.
    """
    turns: list[dict[str, Any]] = []
    for message in messages:
        content = message.get("content")
        if not isinstance(content, list):
            turns.append(dict(message))
            continue
        blocks = [part for block in content for part in _unprotect_block(block)]
        if any(SYSTEM_BEGINS in block for block in blocks):
            turns += _split_at_system_messages(blocks, message["role"])
        else:
            turns.append({**message, "content": blocks})
    return turns


def _unprotect_block(block: Any) -> Iterator[Any]:
    """Yield a block with its data unwrapped, and sounds of a tool result after it: Converse has none in a result."""
    if not isinstance(block, dict):
        yield block
    elif "toolUse" in block:
        yield {**block, "toolUse": {name: unprotect(value) for name, value in block["toolUse"].items()}}
    elif "toolResult" in block:
        result = block["toolResult"]
        content = [
            {"json": unprotect(part["json"])} if "json" in part else part for part in result.get("content") or ()
        ]
        sounds = [part for part in content if "audio" in part]
        content = [part for part in content if "audio" not in part] or ([{"text": "."}] if sounds else content)
        yield {**block, "toolResult": {**result, "content": content}}
        yield from sounds
    else:
        yield block


def _split_at_system_messages(blocks: Sequence[dict[str, Any]], role: str) -> Iterator[dict[str, Any]]:
    """Yield a turn as several: the blocks of its role, and the system messages among them."""
    turns: list[tuple[str, list[dict[str, Any]]]] = []
    current = role
    for block in blocks:
        if SYSTEM_BEGINS in block:
            current = "system"
            turns.append((current, []))
        elif SYSTEM_ENDS in block:
            current = role
        elif current == role and turns and turns[-1][0] == "system" and "cachePoint" in block:
            turns[-1][1].append(block)  # a cache point alone is not a valid turn
        elif turns and turns[-1][0] == current:
            turns[-1][1].append(block)
        else:
            turns.append((current, [block]))
    last_result = max((number for number, (_, content) in enumerate(turns) if _has_result(content)), default=0)
    early = [turn for turn in turns[:last_result] if turn[0] == "system"]
    if early:
        merged = [block for kind, content in turns[: last_result + 1] if kind != "system" for block in content]
        turns = [(role, merged), *early, *turns[last_result + 1 :]]
    for kind, content in turns:
        yield {"role": kind, "content": content}


def _has_result(content: Iterable[Mapping[str, Any]]) -> bool:
    return any("toolResult" in block for block in content)


# --- Responses: blocks ---


def readable_content(content: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the content of a response in a form that langchain-aws reads without loss."""
    readable: list[dict[str, Any]] = []
    for block in content:
        if "citationsContent" in block:
            cited = block["citationsContent"]
            text = "".join(part.get("text") or "" for part in cited.get("content") or ())
            readable += [{"text": text}] if text else []
            readable += [_citations_block(cited["citations"])] if cited.get("citations") else []
        elif "toolUse" in block:
            readable.append({"toolUse": {"input": {}, **_without_type(block["toolUse"])}})
        elif "toolResult" in block:
            readable.append(_pass_through(_tool_result(block)))
        elif "reasoningContent" in block:
            readable.append(_readable_reasoning(block))
        else:
            readable.append(dict(block) if _READ_WITHOUT_LOSS & block.keys() else _pass_through(_other_block(block)))
    return readable


def _pass_through(block: Any) -> dict[str, Any]:
    """Return one of LangChain's blocks inside a block that langchain-aws passes through."""
    return {"json": Protected(block)}


def _citations_block(citations: Sequence[Any]) -> dict[str, Any]:
    """Return citations as a block of their own, which langchain-aws passes through with its keys renamed.

    Renamed keys are what langchain-aws writes for citations in streams. It loses citations in ``citationsContent`` if
    the block is the only one or has no text, and for models in whose text it looks for reasoning. `restore_content`
    adds them to the text before them.
    """
    return {"json": {"type": "text", "text": "", "citations": list(citations)}}


def _without_type(call: Mapping[str, Any]) -> dict[str, Any]:
    """Return a ``toolUse`` without its type, unless Bedrock runs the tool: other types mean the caller's tools."""
    if _is_server_call(call):
        return dict(call)
    return {name: value for name, value in call.items() if name != "type"}


def _is_server_call(call: Mapping[str, Any]) -> bool:
    return call.get("type") == _SERVER_TOOL_USE


def _tool_result(block: Mapping[str, Any]) -> dict[str, Any]:
    """Return the result of one of Bedrock's system tools as LangChain's block, with its JSON and type unchanged."""
    result = block["toolResult"]
    converted: dict[str, Any] = {
        "type": "tool_result",
        "tool_use_id": result.get("toolUseId"),
        "is_error": result.get("status") == "error",
        "content": [_tool_result_part(part) for part in result.get("content") or ()],
    }
    if result.get("type"):
        converted["result_type"] = result["type"]
    return converted


def _tool_result_part(part: Mapping[str, Any]) -> dict[str, Any]:
    kind = next(iter(part), "")
    if kind in ("text", "json"):
        return {"type": kind, kind: part[kind]}
    return _other_block(part)


def _other_block(block: Mapping[str, Any]) -> dict[str, Any]:
    """Return a block that langchain-aws does not read, as valid JSON and in a form that can be sent back."""
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
        media["mime_type"] = f"{'application' if kind == 'document' else kind}/{member.get('format', '')}"
        return {**media, **({"name": member["name"]} if "name" in member else {})}
    return {"type": "non_standard", "value": dict(block)}


def _readable_reasoning(block: Mapping[str, Any]) -> dict[str, Any]:
    reasoning = block["reasoningContent"]
    if "redactedContent" in reasoning:
        return {"reasoningContent": {"redactedContent": _base64_text([reasoning["redactedContent"]])}}
    return dict(block)


def _base64_text(parts: Iterable[Any]) -> str:
    """Return redacted reasoning as base64 text: messages must be valid JSON."""
    data = b"".join(part if isinstance(part, bytes) else base64.b64decode(part) for part in parts)
    return base64.b64encode(data).decode()


def _readable_response_fields(response: Mapping[str, Any]) -> dict[str, Any]:
    """Return a response, or a stream's ``messageStop``, whose ``additionalModelResponseFields`` are a dictionary.

    A JSON pointer to a single value makes them that value, at which langchain-aws raises (recorded: ``"stop_sequence"``
    of Claude is a string). `restore_response_fields` takes it out again.
    """
    fields = response.get(_FIELDS)
    if fields is None or isinstance(fields, dict):
        return dict(response)
    return {**response, _FIELDS: {_SINGLE_VALUE: fields}}


# --- Responses: streams ---


class _ReadableStream:
    """A stream with events that langchain-aws reads without loss. It can be iterated over once."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[dict[str, Any]]:
        with _overflow_as_langchain_error():
            yield from _ReadableEvents().convert(self._stream)

    def close(self) -> None:
        close = getattr(self._stream, "close", None)
        if close is not None:
            close()


class _ReadableEvents:
    """Convert the events of one stream, block by block."""

    def __init__(self) -> None:
        self._last_text: int | None = None  # index of the block that citations without text belong to
        self._block = _StreamedBlock(-1)
        self._calls: dict[int, _StreamedBlock] = {}

    def convert(self, events: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
        """Yield the converted events."""
        for event in events:
            kind = next(iter(event), "")
            body = event.get(kind)
            if kind not in _EVENTS or not isinstance(body, dict):
                continue  # from a service newer than langchain-aws, which would raise
            if kind == "contentBlockDelta":
                if self._block.has_text and self._block.index == body["contentBlockIndex"] and "text" in body["delta"]:
                    yield event  # type: ignore[misc]  # nearly all events
                else:
                    yield from self._convert_delta(body)
            elif kind == "contentBlockStart":
                yield from self._convert_start(body)
            elif kind == "contentBlockStop":
                yield from self._end_block()
                if body.get("contentBlockIndex") in self._calls:
                    self._calls[body["contentBlockIndex"]].is_closed = True
                yield event  # type: ignore[misc]
            elif kind == "messageStop":
                yield from self._end_block()
                yield from self._invalidate_incomplete_calls(body.get("stopReason"))
                yield {"messageStop": _readable_response_fields(body)}
            elif kind == "metadata":
                yield {"metadata": {**body, "usage": body.get("usage") or {}}}
            else:
                yield {kind: {**body, "role": body.get("role") or "assistant"}}

    def _invalidate_incomplete_calls(self, stop_reason: str | None) -> Iterator[dict[str, Any]]:
        """Yield deltas that make the arguments of incomplete calls invalid JSON: langchain-core would complete them."""
        if stop_reason not in CUT_OFF:
            return
        for call in self._calls.values():
            text = "".join(call.text)
            # A guardrail's message may follow the call that it stopped.
            is_incomplete = (
                is_incomplete_call(stop_reason, text, is_closed=call.is_closed)
                if call is self._block
                else not _is_json(text or "{}")
            )
            if is_incomplete:
                yield _delta(call.index, {"toolUse": {"input": invalid_ending(text)}})

    def _switch_to(self, index: int) -> Iterator[dict[str, Any]]:
        """Make the block of an index the current one. Yield what was held back of the one before."""
        if index != self._block.index:
            yield from self._end_block()
            self._block = self._calls.get(index) or _StreamedBlock(index)

    def _convert_start(self, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        yield from self._switch_to(body["contentBlockIndex"])
        block, start = self._block, body.get("start") or {}
        if "toolUse" in start:
            call = _without_type(start["toolUse"])
            block.is_call, block.is_server_call = not _is_server_call(call), _is_server_call(call)
            if block.is_call:
                self._calls[block.index] = block
            yield {"contentBlockStart": {**body, "start": {"toolUse": call}}}
        elif _WHOLE_ONLY & start.keys():
            block.hold({"contentBlockStart": body})
        elif start:
            yield _delta(block.index, _pass_through(_other_block(start)))

    def _convert_delta(self, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        index, delta = body["contentBlockIndex"], body.get("delta") or {}
        yield from self._switch_to(index)
        block = self._block
        if "text" in delta:
            block.has_text = True
            self._last_text = index
            yield {"contentBlockDelta": body}
        elif "toolUse" in delta:
            text = delta["toolUse"].get("input") or ""
            block.text.append(text)
            yield _delta(index, {"serverToolUse" if block.is_server_call else "toolUse": {"input": text}})
        elif "citation" in delta:
            block.citations.append(delta["citation"])
        elif "reasoningContent" in delta:
            reasoning = delta["reasoningContent"]
            if "redactedContent" in reasoning:
                block.redacted.append(reasoning["redactedContent"])
            # One delta for each: langchain-aws reads the first of several members.
            for name in ("text", "signature"):
                if name in reasoning:
                    yield _delta(index, {"reasoningContent": {name: reasoning[name]}})
        elif _WHOLE_ONLY & delta.keys():
            block.hold({"contentBlockDelta": body})
        elif delta:
            yield _delta(index, _pass_through(_other_block(delta)))

    def _end_block(self) -> Iterator[dict[str, Any]]:
        block = self._block
        if block.is_over:
            return
        block.is_over = True
        if (block.is_call or block.is_server_call) and not block.text:
            # Without it the message has no arguments at all, and langchain-aws fails at the next turn.
            yield _delta(block.index, {"serverToolUse" if block.is_server_call else "toolUse": {"input": ""}})
        if block.redacted:
            yield _delta(block.index, {"reasoningContent": {"redactedContent": _base64_text(block.redacted)}})
        if block.citations:
            index = block.index if block.has_text or self._last_text is None else self._last_text
            yield _delta(index, _citations_block(block.citations))
        if block.held is not None:
            for content in block.held.content():
                converted = _tool_result(content) if "toolResult" in content else _other_block(content)
                yield _delta(block.index, _pass_through(converted))


class _StreamedBlock:
    """The state of a content block of a stream, and the parts of it that are held back until it is over."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.is_over = index < 0
        self.is_call = self.is_server_call = self.has_text = self.is_closed = False
        self.text: list[str] = []
        self.citations: list[Any] = []
        self.redacted: list[bytes] = []
        self.held: StreamAccumulator | None = None

    def hold(self, event: dict[str, Any]) -> None:
        """Keep an event until the block is over: langchain-aws reads such a block only as a whole."""
        if self.held is None:
            self.held = StreamAccumulator()
        self.held.add(event)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _delta(index: int, delta: dict[str, Any]) -> dict[str, Any]:
    return {"contentBlockDelta": {"contentBlockIndex": index, "delta": delta}}


# --- Messages that langchain-aws has made of a response ---


def restore_content(content: Any) -> Any:
    """Return the content of a message with the blocks that passed through langchain-aws in their own form."""
    if not isinstance(content, list) or not any(_is_passed_through(block) for block in content):
        return content
    restored: list[Any] = []
    for block in content:
        if not _is_passed_through(block):
            restored.append(block)
            continue
        inner = dict(unprotect(block["json"]))
        text = next((number for number in reversed(range(len(restored))) if _is_text(restored[number])), None)
        if "citations" in inner and "index" not in block and text is not None:
            earlier = restored[text].get("citations") or []
            restored[text] = {**restored[text], "citations": [*earlier, *inner["citations"]]}
        else:
            restored.append({**inner, **({"index": block["index"]} if "index" in block else {})})
    return restored


def _is_passed_through(block: Any) -> bool:
    return isinstance(block, dict) and block.get("type") == "json" and "json" in block


def _is_text(block: Any) -> bool:
    return isinstance(block, dict) and block.get("type") == "text"


def restore_response_fields(metadata: dict[str, Any]) -> None:
    """Restore ``additionalModelResponseFields`` that are a single value, in the metadata of a message."""
    fields = metadata.get(_FIELDS)
    if isinstance(fields, dict) and fields.keys() == {_SINGLE_VALUE}:
        metadata[_FIELDS] = fields[_SINGLE_VALUE]


def invalid_ending(text: str) -> str:
    """Return an ending that makes the arguments of a call that was cut off invalid JSON.

    langchain-core completes the arguments of merged chunks, so half of a call would run. Of a chunk it keeps only the
    text of the arguments, so the text must show that they are incomplete. langchain-core's parser of partial JSON fails
    at a closing bracket that does not match.
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


def invalidate_incomplete_call(message: AIMessage) -> None:
    """Make the last tool call of a message that was not streamed an invalid one, if the answer was cut off.

    Its arguments may be incomplete: see `bedrock_routing_integrations.transport.answer_validation`.
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


def set_invoked_model(message: BaseMessage) -> None:
    """Set ``model_name`` to the invoked model, if it is known: usage and cost are counted by it."""
    routing = message.response_metadata.get(ROUTING)
    if routing:
        message.response_metadata["model_name"] = routing["invoked_model"] or routing["requested_model_id"]
        if routing["usage"] is None:
            message.usage_metadata = None  # type: ignore[attr-defined]  # unknown; langchain-aws writes zeros
    usage = getattr(message, "usage_metadata", None)
    if usage:  # langchain-aws takes the total from Bedrock; LangChain defines it as this sum
        usage["total_tokens"] = usage["input_tokens"] + usage["output_tokens"]


def answer_as_chunk(result: ChatResult) -> ChatGenerationChunk:
    """Return a whole answer as the only chunk of a stream."""
    message: Any = result.generations[0].message
    # langchain-core parses the arguments again, and would make a valid call of those that are JSON.
    invalid: list[Any] = [
        {**call, "args": (call["args"] or "") + invalid_ending(call["args"] or "")}
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


def sum_token_usage(usages: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Return the sum of several ``usage_metadata``, for callbacks that read ``llm_output["token_usage"]``.

    The names of the counts are LangChain's, and OpenAI's, which older callbacks read.
    """
    prompt = sum([usage.get("input_tokens") or 0 for usage in usages])
    completion = sum([usage.get("output_tokens") or 0 for usage in usages])
    total = prompt + completion
    return {
        "input_tokens": prompt, "output_tokens": completion, "total_tokens": total,
        "prompt_tokens": prompt, "completion_tokens": completion,
    }  # fmt: skip
