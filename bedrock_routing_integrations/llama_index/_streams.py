"""A ConverseStream → LlamaIndex's chunks."""

from __future__ import annotations

import functools
import weakref
from typing import TYPE_CHECKING, Any

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, MessageRole, TextBlock

from bedrock_routing_integrations.invocation import ROUTING

from ._answers import read_content, read_response, without_bytes
from ._lazy import LazyChat, LazyCompletion, bare

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from bedrock_routing_integrations.partial import Mark, Received
    from bedrock_routing_integrations.streams import RoutedStream


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
                yield _chunk(raw, delta.get("text", ""), said, functools.partial(message_at, received.mark()))
            elif "contentBlockStart" in event:
                yield _chunk(event, "", {}, functools.partial(message_at, received.mark()))
            elif "metadata" in event:
                routing = event["metadata"][ROUTING]
    # Now that everything is here, in whatever order.
    response = {**received.response(), ROUTING: routing}
    yield read_response(response, delta="", one_tool_call=one_tool_call, wrapped=wrapped)


def _chunk(event: dict[str, Any], delta: str, said: dict[str, Any], read: Callable[[], dict[str, Any]]) -> ChatResponse:
    known = {"raw": event, "delta": delta, "logprobs": None, "additional_kwargs": said}
    return LazyChat.later(known, read)


def _message_at(
    received: Received,
    one_tool_call: bool,  # noqa: FBT001 - for `partial`
    wrapped: frozenset[str],
    mark: Mark,
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
