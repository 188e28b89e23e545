"""Read a Converse request for the canned models: the question, the earlier turns, the documents and the tools."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .tokens import document_block_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["Outcome", "Reading", "Tool", "read"]

_MARKER = re.compile(r"\[\[emulator: chunks=(\d{1,7})\]\]")


@dataclass(frozen=True, kw_only=True)
class Tool:
    """One tool of the request."""

    name: str
    description: str
    schema: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A tool call since the question, and what came back."""

    name: str
    arguments: Mapping[str, Any]
    text: str
    failed: bool


@dataclass(frozen=True, kw_only=True)
class Reading:
    """The content of a request that a canned model answers from.

    Attributes:
        question: The text of the last user message with text (tool results have none).
        system: The system prompt.
        said: The texts of the user before the question, oldest first.
        answered: The texts of the assistant before the question, oldest first.
        documents: (name, text) of every document and search result.
        media: Descriptions of the images, videos and sounds of the last message that has any.
        tools: The tools that may be called.
        choice: The key of `toolChoice`: "auto", "any" or "tool".
        forced_tool: The name in `toolChoice.tool`.
        outcomes: Calls since the question, with their results.
        calls_before: The number of tool calls in the conversation, to number new calls.
        messages: The number of messages.
        prefill: The text of a last message by the assistant, which the answer continues.
        output_schema: The JSON schema of `outputConfig.textFormat`.
        chunks: N of the marker `[[emulator: chunks=N]]`.
    """

    question: str
    system: str
    said: tuple[str, ...] = ()
    answered: tuple[str, ...] = ()
    documents: tuple[tuple[str, str], ...] = ()
    media: tuple[str, ...] = ()
    tools: tuple[Tool, ...] = ()
    choice: str = "auto"
    forced_tool: str | None = None
    outcomes: tuple[Outcome, ...] = field(default=())
    calls_before: int = 0
    messages: int = 1
    prefill: str | None = None
    output_schema: Mapping[str, Any] | None = None
    chunks: int | None = None


def read(request: Mapping[str, Any]) -> Reading:
    """Read a request that has passed `conversation_rules.check`."""
    messages: Sequence[Mapping[str, Any]] = request["messages"]
    asked_at = max((i for i, m in enumerate(messages) if m["role"] == "user" and _text(m["content"])), default=0)
    question = _text(messages[asked_at]["content"])
    marker = _MARKER.search(question)
    config = request.get("toolConfig") or {}
    choice = config.get("toolChoice") or {"auto": {}}
    return Reading(
        question=question,
        system=_text(request.get("system") or ()),
        said=tuple(filter(None, (_text(m["content"]) for m in messages[:asked_at] if m["role"] == "user"))),
        answered=tuple(filter(None, (_text(m["content"]) for m in messages[:asked_at] if m["role"] != "user"))),
        documents=tuple(_documents(messages)),
        media=_media(messages),
        tools=tuple(_tool(tool["toolSpec"]) for tool in config.get("tools", ()) if "toolSpec" in tool),
        choice=next(iter(choice)),
        forced_tool=choice.get("tool", {}).get("name"),
        outcomes=tuple(_outcomes(messages[asked_at:])),
        calls_before=sum("toolUse" in block for m in messages for block in m["content"]),
        messages=len(messages),
        prefill=_text(messages[-1]["content"]) if messages[-1]["role"] == "assistant" else None,
        output_schema=_output_schema(request),
        chunks=int(marker[1]) if marker else None,
    )


def _text(content: Sequence[Mapping[str, Any]]) -> str:
    """The texts of a list of blocks, one per line."""
    parts: list[str] = []
    for block in content:
        if "text" in block:
            parts.append(block["text"])
        elif "guardContent" in block:
            parts.append(block["guardContent"].get("text", {}).get("text", ""))
        elif "citationsContent" in block:
            parts.append(_text(block["citationsContent"].get("content", ())))
    return "\n".join(parts)


def _tool(spec: Mapping[str, Any]) -> Tool:
    """Return the tool of a toolSpec. A schema that is not an object counts as an empty schema."""
    schema = spec["inputSchema"].get("json")
    return Tool(
        name=spec["name"],
        description=spec.get("description", ""),
        schema=schema if isinstance(schema, dict) else {},
    )


def _documents(messages: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Every document and search result that the user gave, as (name, text)."""
    for message in messages:
        for block in message["content"]:
            if "document" in block:
                yield block["document"]["name"], document_block_text(block["document"])
            elif "searchResult" in block:
                found = block["searchResult"]
                yield found["title"], "\n".join(part["text"] for part in found["content"])


def _media(messages: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Descriptions of what can be seen or heard in the last message that has any such thing."""
    for message in reversed(messages):
        described = tuple(filter(None, map(_medium, message["content"])))
        if described:
            return described
    return ()


def _medium(block: Mapping[str, Any]) -> str | None:
    """An image, video or sound in words: "an image (png, 3,014 bytes)"; None for a block of another kind."""
    kind = next(iter(block))
    if kind == "guardContent":
        kind, value = "image", block[kind].get("image")
    else:
        value = block[kind]
    if kind not in ("image", "video", "audio") or value is None:
        return None
    source = value["source"]
    size = f"{len(source['bytes']):,} bytes" if "bytes" in source else source.get("s3Location", {}).get("uri", "")
    article = {"image": "an image", "video": "a video", "audio": "a sound"}[kind]
    return f"{article} ({value['format']}, {size})"


def _outcomes(messages: Sequence[Mapping[str, Any]]) -> Iterator[Outcome]:
    """The tool calls in `messages` that have results, in the order of the calls."""
    results = {
        block["toolResult"]["toolUseId"]: block["toolResult"]
        for message in messages
        for block in message["content"]
        if "toolResult" in block
    }
    for message in messages:
        for block in message["content"]:
            use = block.get("toolUse")
            if use is None or use["toolUseId"] not in results:
                continue
            result = results[use["toolUseId"]]
            yield Outcome(
                name=use["name"],
                arguments=use["input"] if isinstance(use["input"], dict) else {},
                text="\n".join(filter(None, map(_result_text, result["content"]))),
                failed=result.get("status") == "error",
            )


def _result_text(block: Mapping[str, Any]) -> str:
    """Return a block of a tool result as text."""
    if "text" in block:
        return str(block["text"])
    if "json" in block:
        return json.dumps(block["json"], ensure_ascii=False, default=str)
    if "document" in block:
        return f"{block['document']['name']}: {document_block_text(block['document'])}"
    if "searchResult" in block:
        return "\n".join(part["text"] for part in block["searchResult"]["content"])
    return _medium(block) or ""


def _output_schema(request: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the schema of a structured answer; None if none is requested or the schema is not a JSON object."""
    wanted = ((request.get("outputConfig") or {}).get("textFormat") or {}).get("structure") or {}
    text = (wanted.get("jsonSchema") or {}).get("schema")
    if text is None:
        return None
    try:
        schema = json.loads(text)
    except ValueError:
        return None
    return schema if isinstance(schema, dict) else None
