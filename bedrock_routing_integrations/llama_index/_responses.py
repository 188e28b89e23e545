"""Converse's answers → LlamaIndex's responses."""

from __future__ import annotations

import base64
import functools
import json
import threading
import weakref
from typing import TYPE_CHECKING, Any, ClassVar, SupportsIndex, TypeVar

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
from pydantic import BaseModel
from pydantic_core import from_json

from bedrock_routing_integrations.invocation import ROUTING
from bedrock_routing_integrations.requests import ROOT
from bedrock_routing_integrations.stop_reasons import is_incomplete_call

from .messages import REDACTED, SIGNATURE, read_text

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Generator, Iterable, Iterator, Mapping, Sequence

    from typing_extensions import Self

    from bedrock_routing_integrations.transport.stream_accumulator import Snapshot, StreamAccumulator
    from bedrock_routing_integrations.transport.streams import RoutedStream

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
    # `StreamAccumulator` parses the arguments of a call whose contentBlockStop arrived, and leaves others as text.
    return is_incomplete_call(stop_reason, arguments, is_closed=is_stream and not isinstance(arguments, str))


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


# --- Responses whose text is put together when somebody looks at it. ---

_READ = "_read_later"
# Where Python keeps the attributes of a pydantic model. Pydantic's serializer, `copy`, `pickle` and `repr` all ask for
# ``__dict__``, so that is where the missing fields are filled in; tests/test_upstream_llama_index.py names this.
_attributes: Any = BaseModel.__dict__["__dict__"]
_set = object.__setattr__
_settling = threading.Lock()
M = TypeVar("M")


def bare(kind: type[M], attributes: dict[str, Any], fields: Iterable[str]) -> M:
    """A pydantic model of what needs no checking because we made it: a third of the time of its constructor.

    Args:
        kind: Its class.
        attributes: Its fields; becomes the model's own dictionary.
        fields: The names of those that count as set.
    """
    model = kind.__new__(kind)
    _set(model, "__pydantic_fields_set__", set(fields))
    _set(model, "__pydantic_extra__", None)
    _set(model, "__pydantic_private__", None)
    _attributes.__set__(model, attributes)
    return model


class _Lazy:
    """A pydantic model some of whose fields are read when they are first needed; from then on an ordinary one."""

    ordinary: ClassVar[type[BaseModel]]
    fields: ClassVar[tuple[str, ...]]

    @classmethod
    def later(cls, known: dict[str, Any], read: Callable[[], dict[str, Any]]) -> Self:
        """A model with some fields now; the others, the first ones, are what `read` returns when one is asked for.

        The fields are not validated: that would read them, and they are ours.
        """
        known[_READ] = read
        return bare(cls, known, cls.fields)

    @property
    def __dict__(self) -> dict[str, Any]:
        return _settle(self)

    @__dict__.setter
    def __dict__(self, attributes: dict[str, Any]) -> None:
        # Pydantic makes a model, or the copy of one: it has all fields, and needs nothing of this class.
        _attributes.__set__(self, attributes)
        _set(self, "__class__", self.ordinary)

    def __getattr__(self, name: str) -> Any:
        attributes = _settle(self)
        if name in attributes:
            return attributes[name]
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        _settle(self)
        setattr(self, name, value)

    # `pickle` and `repr` ask for the class first: it must be the ordinary one by then.
    def __reduce_ex__(self, protocol: SupportsIndex) -> str | tuple[Any, ...]:
        _settle(self)
        return self.__reduce_ex__(protocol)

    def __repr__(self) -> str:
        _settle(self)
        return repr(self)

    def __eq__(self, other: object) -> bool:
        _settle(self)
        return bool(self == other)  # an unread `other` comes here in its turn: Python asks a subclass first

    __hash__ = None  # type: ignore[assignment]  # as pydantic's models


def _settle(model: Any) -> dict[str, Any]:
    """Make it an ordinary model; returns its attributes.

    Two threads may do it at once, and read the same; neither sees an ordinary model that lacks fields. It is no method,
    because one thread can make the model ordinary, without such methods, while another is on its way here.
    """
    attributes: dict[str, Any] = _attributes.__get__(model)
    kind: Any = type(model)
    read = attributes.get(_READ)
    if read is not None:
        found = read()
        with _settling:  # what another thread has settled, and somebody perhaps changed, stays
            attributes = _attributes.__get__(model)
            if _READ in attributes:
                attributes = {**found, **attributes}  # in the order of the fields: those read later come first
                del attributes[_READ]
                _attributes.__set__(model, attributes)
    if issubclass(kind, _Lazy):
        _set(model, "__class__", kind.ordinary)
    return attributes


class LazyChat(_Lazy, ChatResponse):
    """A chunk of a chat: its `message` is all that had arrived by then."""

    ordinary: ClassVar[type[BaseModel]] = ChatResponse
    fields: ClassVar[tuple[str, ...]] = tuple(ChatResponse.model_fields)


class LazyCompletion(_Lazy, CompletionResponse):
    """A chunk of a completion: its `text` is all that had arrived by then."""

    ordinary: ClassVar[type[BaseModel]] = CompletionResponse
    fields: ClassVar[tuple[str, ...]] = tuple(CompletionResponse.model_fields)


# --- A ConverseStream → LlamaIndex's chunks. ---


def read_stream(
    stream: RoutedStream, *, one_tool_call: bool, wrapped: frozenset[str] = frozenset()
) -> Iterator[ChatResponse]:
    """Return the chunks of a stream: one for each thing that is new, and a last one that has everything.

    `message` is all that has arrived by then, `delta` the new text. The last chunk has no new text; it is what `chat`
    would have returned, with the tokens and ``"routing"``.

    Args:
        stream: The stream.
        one_tool_call: Leave out all tool calls but the first.
        wrapped: Tools whose arguments are no object: see `read_content`.
    """
    chunks = _chunks(stream, one_tool_call=one_tool_call, wrapped=wrapped)
    # A generator that is given up before anybody reads never runs, and so cannot close what it was given.
    weakref.finalize(chunks, stream.close).atexit = False  # type: ignore[misc,unused-ignore]  # mypy 1.18 knows no such
    return chunks


def _chunks(
    stream: RoutedStream, *, one_tool_call: bool, wrapped: frozenset[str]
) -> Generator[ChatResponse, None, None]:
    received = stream.received
    message_at = functools.partial(_message_at, received, one_tool_call, wrapped)
    routing: dict[str, Any] | None = None
    with stream:
        for event in stream:
            if "contentBlockDelta" in event:
                delta = event["contentBlockDelta"]["delta"]
                said = {}
                if "reasoningContent" in delta:
                    said["thinking_delta"] = delta["reasoningContent"].get("text", "")
                raw = event if "text" in delta or "toolUse" in delta else without_bytes(event)
                yield _chunk(raw, delta.get("text", ""), said, functools.partial(message_at, received.snapshot()))
            elif "contentBlockStart" in event:
                yield _chunk(event, "", {}, functools.partial(message_at, received.snapshot()))
            elif "metadata" in event:
                routing = event["metadata"][ROUTING]
    # Now that everything is here, in whatever order.
    response = {**received.response(), ROUTING: routing}
    yield read_response(response, delta="", one_tool_call=one_tool_call, wrapped=wrapped)


def _chunk(event: dict[str, Any], delta: str, said: dict[str, Any], read: Callable[[], dict[str, Any]]) -> ChatResponse:
    known = {"raw": event, "delta": delta, "logprobs": None, "additional_kwargs": said}
    return LazyChat.later(known, read)


def _message_at(
    received: StreamAccumulator,
    one_tool_call: bool,  # noqa: FBT001 - for `partial`
    wrapped: frozenset[str],
    mark: Snapshot,
) -> dict[str, Any]:
    text = received.only_text(mark)
    blocks: list[Any]
    said: dict[str, Any]
    if text is not None:
        blocks, said = [TextBlock(text=text)], {}
    else:
        content = received.content(mark)
        blocks, said = read_content(content, unfinished=True, one_tool_call=one_tool_call, wrapped=wrapped)
    attributes = {"role": MessageRole.ASSISTANT, "additional_kwargs": said, "blocks": blocks}
    return {"message": bare(ChatMessage, attributes, attributes)}


def as_chat(chunk: ChatResponse) -> ChatResponse:
    """A chunk of a chat as it is."""
    return chunk


def as_completion(chunk: ChatResponse) -> LazyCompletion:
    """A chunk of a chat as one of a completion."""
    known = {
        "additional_kwargs": dict(chunk.additional_kwargs),
        "raw": chunk.raw,
        "logprobs": None,
        "delta": chunk.delta,
    }
    return LazyCompletion.later(known, lambda: {"text": chunk.message.content or ""})
