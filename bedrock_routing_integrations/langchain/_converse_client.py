"""The client that langchain-aws is given for one call: it sends what was prepared, and shapes what comes back.

langchain-aws reads answers by rules that lose some of them: citations of an answer of one block, citations without
text, redacted reasoning (which it hands on as bytes, that no JSON holds), results of system tools in a stream, keys of
their JSON. `ConverseClient` rewrites the answer so that it keeps all; what it cannot be brought to keep is wrapped in a
block of kind ``json``, which it reads in tool results only and hands on, and `restored_content` puts it back.
"""

from __future__ import annotations

import contextlib
import functools
import json
from typing import TYPE_CHECKING, Any

from langchain_core.exceptions import ContextOverflowError

from bedrock_routing_integrations.errors import is_context_overflow
from bedrock_routing_integrations.stop_reasons import CUT_OFF, is_incomplete_call
from bedrock_routing_integrations.transport.stream_accumulator import StreamAccumulator

from ._answer_blocks import (
    carried,
    citations_block,
    cut_off_arguments,
    is_server_call,
    normalized_call,
    readable_fields,
    redacted_as_text,
    result_block,
    shaped_content,
    unknown_block,
    unwrapped,
)
from ._converse_messages import SYSTEM_BEGINS, SYSTEM_ENDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

_EVENTS = frozenset(
    ["messageStart", "contentBlockStart", "contentBlockDelta", "contentBlockStop", "messageStop", "metadata"]
)
# Blocks that langchain-aws reads as a whole only.
_HELD = frozenset(["toolResult", "image"])


class ConverseClient:
    """Stands for a boto3 client during one call of langchain-aws.

    Args:
        client: What sends: a `RoutedClient`.
        members: Further members of the request.

    Attributes:
        is_counting: Whether tokens are counted instead of sending.
        counted: The number of tokens.
    """

    def __init__(self, client: Any, members: Mapping[str, Any] | None = None, *, is_counting: bool = False) -> None:
        self._client, self._members = client, members or {}
        self.is_counting, self.counted = is_counting, 0

    def converse(self, **request: Any) -> dict[str, Any]:
        """Send a request and return its response, shaped for langchain-aws."""
        sent = self._request(request)
        if self.is_counting:
            if not sent["toolConfig"].get("tools"):
                del sent["toolConfig"]
            self.counted = self._client.count_prompt_tokens(**sent)
            return {"output": {"message": {"role": "assistant", "content": []}}, "usage": {}}
        with overflows_as_langchains():
            response = self._client.converse(**sent)
        message = response["output"]["message"]
        content = shaped_content(message.get("content") or [])
        shaped = {**readable_fields(response), "output": {"message": {**message, "content": content}}}
        shaped.setdefault("usage", {})
        if "metrics" in shaped:  # langchain-aws writes into it
            shaped["metrics"] = dict(shaped["metrics"])
        return shaped

    def converse_stream(self, **request: Any) -> dict[str, Any]:
        """Send a request and return its stream, its events shaped for langchain-aws."""
        with overflows_as_langchains():
            response = self._client.converse_stream(**self._request(request))
        return {**response, "stream": _ShapedStream(response["stream"])}

    def _request(self, request: Mapping[str, Any]) -> dict[str, Any]:
        sent = {name: unwrapped(value) for name, value in request.items()}
        fields = sent.get("additionalModelRequestFields")
        if fields:
            sent["additionalModelRequestFields"] = {name: unwrapped(value) for name, value in fields.items()}
        sent["messages"] = converse_turns(sent["messages"])
        return {**sent, **self._members}


@contextlib.contextmanager
def overflows_as_langchains() -> Iterator[None]:
    """Raise our ContextOverflowError as LangChain's too, which its summarization middleware catches.

    langchain-aws does so by fragments of messages, of which it knows fewer.
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


def converse_turns(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the messages that langchain-aws wrote, with marked system messages and wrapped values in Converse's form.

    A system message between a tool call and its result comes after the result, which Bedrock wants in the next turn.
    """
    turns: list[dict[str, Any]] = []
    for message in messages:
        content = message.get("content")
        if not isinstance(content, list):
            turns.append(dict(message))
            continue
        blocks = [part for block in content for part in _opened(block)]
        if any(SYSTEM_BEGINS in block for block in blocks):
            turns += _separated(blocks, message["role"])
        else:
            turns.append({**message, "content": blocks})
    return turns


def _opened(block: Any) -> Iterator[Any]:
    """Yield a block with its wrapped values opened; sounds in a tool result beside it, as Converse has none in it."""
    if not isinstance(block, dict):
        yield block
    elif "toolUse" in block:
        yield {**block, "toolUse": {name: unwrapped(value) for name, value in block["toolUse"].items()}}
    elif "toolResult" in block:
        result = block["toolResult"]
        content = [
            {"json": unwrapped(part["json"])} if "json" in part else part for part in result.get("content") or ()
        ]
        sounds = [part for part in content if "audio" in part]
        content = [part for part in content if "audio" not in part] or ([{"text": "."}] if sounds else content)
        yield {**block, "toolResult": {**result, "content": content}}
        yield from sounds
    else:
        yield block


def _separated(blocks: Sequence[dict[str, Any]], role: str) -> Iterator[dict[str, Any]]:
    """Yield a turn in parts: what the user says, and the system messages in it."""
    parts: list[tuple[str, list[dict[str, Any]]]] = []
    current = role
    for block in blocks:
        if SYSTEM_BEGINS in block:
            current = "system"
            parts.append((current, []))
        elif SYSTEM_ENDS in block:
            current = role
        elif current == role and parts and parts[-1][0] == "system" and "cachePoint" in block:
            parts[-1][1].append(block)  # a turn of a cache point alone is none
        elif parts and parts[-1][0] == current:
            parts[-1][1].append(block)
        else:
            parts.append((current, [block]))
    results = max((number for number, (_, content) in enumerate(parts) if _has_result(content)), default=0)
    early = [part for part in parts[:results] if part[0] == "system"]
    if early:
        said = [block for kind, content in parts[: results + 1] if kind != "system" for block in content]
        parts = [(role, said), *early, *parts[results + 1 :]]
    for kind, content in parts:
        yield {"role": kind, "content": content}


def _has_result(content: Iterable[Mapping[str, Any]]) -> bool:
    return any("toolResult" in block for block in content)


class _ShapedStream:
    """A stream whose events langchain-aws reads without loss. It is iterated over once."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[dict[str, Any]]:
        with overflows_as_langchains():
            yield from _ShapedEvents().read(self._stream)

    def close(self) -> None:
        """Close the stream inside."""
        close = getattr(self._stream, "close", None)
        if close is not None:
            close()


class _ShapedEvents:
    """Shapes the events of one stream, block by block."""

    def __init__(self) -> None:
        self._last_text: int | None = None  # the block that citations without text belong to
        self._block = _Block(-1)
        self._calls: dict[int, _Block] = {}

    def read(self, events: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
        """Yield the shaped events."""
        for event in events:
            kind = next(iter(event), "")
            body = event.get(kind)
            if kind not in _EVENTS or not isinstance(body, dict):
                continue  # of a service newer than langchain-aws, which would raise
            if kind == "contentBlockDelta":
                if self._block.has_text and self._block.index == body["contentBlockIndex"] and "text" in body["delta"]:
                    yield event  # type: ignore[misc]  # what nearly all events are
                else:
                    yield from self._delta(body)
            elif kind == "contentBlockStart":
                yield from self._start(body)
            elif kind == "contentBlockStop":
                yield from self._end_block()
                if body.get("contentBlockIndex") in self._calls:
                    self._calls[body["contentBlockIndex"]].is_closed = True
                yield event  # type: ignore[misc]
            elif kind == "messageStop":
                yield from self._end_block()
                yield from self._spoil_half_calls(body.get("stopReason"))
                yield {"messageStop": readable_fields(body)}
            elif kind == "metadata":
                yield {"metadata": {**body, "usage": body.get("usage") or {}}}
            else:
                yield {kind: {**body, "role": body.get("role") or "assistant"}}

    def _spoil_half_calls(self, stop_reason: str | None) -> Iterator[dict[str, Any]]:
        """Make the arguments of calls that were cut off no JSON: langchain-core would complete them."""
        if stop_reason not in CUT_OFF:
            return
        for call in self._calls.values():
            text = "".join(call.text)
            # A guardrail's message may follow the call that it stopped.
            is_half = (
                is_incomplete_call(stop_reason, text, is_closed=call.is_closed)
                if call is self._block
                else not _is_json(text or "{}")
            )
            if is_half:
                yield _delta(call.index, {"toolUse": {"input": cut_off_arguments(text)}})

    def _of(self, index: int) -> Iterator[dict[str, Any]]:
        """Go on with the block of an index; what was held of the one before is yielded."""
        if index != self._block.index:
            yield from self._end_block()
            self._block = self._calls.get(index) or _Block(index)

    def _start(self, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        yield from self._of(body["contentBlockIndex"])
        block, start = self._block, body.get("start") or {}
        if "toolUse" in start:
            call = normalized_call(start["toolUse"])
            block.is_call, block.is_server_call = not is_server_call(call), is_server_call(call)
            if block.is_call:
                self._calls[block.index] = block
            yield {"contentBlockStart": {**body, "start": {"toolUse": call}}}
        elif _HELD & start.keys():
            block.hold({"contentBlockStart": body})
        elif start:
            yield _delta(block.index, carried(unknown_block(start)))

    def _delta(self, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        index, delta = body["contentBlockIndex"], body.get("delta") or {}
        yield from self._of(index)
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
            rest = {name: value for name, value in reasoning.items() if name in ("text", "signature")}
            # langchain-aws takes the first of several members.
            for name, value in rest.items():
                yield _delta(index, {"reasoningContent": {name: value}})
        elif _HELD & delta.keys():
            block.hold({"contentBlockDelta": body})
        elif delta:
            yield _delta(index, carried(unknown_block(delta)))

    def _end_block(self) -> Iterator[dict[str, Any]]:
        block = self._block
        if block.is_over:
            return
        block.is_over = True
        if (block.is_call or block.is_server_call) and not block.text:
            # Without it the message has no arguments at all, and langchain-aws fails at the next turn.
            yield _delta(block.index, {"serverToolUse" if block.is_server_call else "toolUse": {"input": ""}})
        if block.redacted:
            yield _delta(block.index, {"reasoningContent": {"redactedContent": redacted_as_text(block.redacted)}})
        if block.citations:
            index = block.index if block.has_text or self._last_text is None else self._last_text
            yield _delta(index, citations_block(block.citations))
        if block.held is not None:
            for content in block.held.content():
                kept = result_block(content) if "toolResult" in content else unknown_block(content)
                yield _delta(block.index, carried(kept))


class _Block:
    """What has come of a content block and is not handed on yet, or must be known of it."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.is_over = index < 0
        self.is_call = self.is_server_call = self.has_text = self.is_closed = False
        self.text: list[str] = []
        self.citations: list[Any] = []
        self.redacted: list[bytes] = []
        self.held: StreamAccumulator | None = None

    def hold(self, event: dict[str, Any]) -> None:
        """Keep an event until the block is over: langchain-aws reads such a block as a whole only."""
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
