"""Convert LlamaIndex's messages into the ``messages`` and ``system`` of a Converse request.

A message that Bedrock would refuse is mended if it has one obvious reading:

- Blank text is left out, except white space before a cache point, and so are messages that become empty.
- Consecutive messages of one role are merged.
- A tool call without a result gets one, and a result without a call becomes text, with a warning.

Anything else raises an error that names the message and the block. The caller's objects are never changed. Rules that
depend on the target (names of documents and tools, reasoning of earlier turns, later system messages) are
`RoutedClient`'s.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from llama_index.core.base.llms.types import (
    AudioBlock,
    CachePoint,
    ChatMessage,
    CitableBlock,
    CitationBlock,
    DocumentBlock,
    ImageBlock,
    MessageRole,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
    VideoBlock,
)
from llama_index.core.bridge.pydantic import BaseModel

from bedrock_routing_integrations.errors import InvalidRequestError
from bedrock_routing_integrations.runtime import warn_once

from ._media import audio_block, document_block, document_bytes, image_block, s3_uri, video_block

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    Turn = tuple[str, list[dict[str, Any]]]  # role, content


# --- Content blocks ---

SIGNATURE = "signature"
REDACTED = "redacted_content"
_UNTITLED = "input_document"  # LlamaIndex's title of a document that has none
# ToolUseId of botocore's service model (1.43)
_TOOL_ID, _NOT_IN_A_TOOL_ID = re.compile(r"[a-zA-Z0-9_.:-]{1,64}"), re.compile(r"[^a-zA-Z0-9_.:-]")


def content_block(  # noqa: PLR0911 - one return for each kind of block
    block: Any, role: str, at: str, *, local_files: bool
) -> list[dict[str, Any]]:
    """Return the Converse blocks for a block of LlamaIndex. Blank text of a message is kept.

    Args:
        block: The block.
        role: ``"user"``, ``"assistant"``, or ``"tool"`` for the inside of a tool's result.
        at: The block's position, for errors.
        local_files: Whether the files that blocks name by `path` may be read.

    Returns:
        The Converse blocks; none for an empty block.

    Raises:
        InvalidRequestError: Converse does not take the block there.
    """
    if isinstance(block, TextBlock):
        return [{"text": block.text}] if role != "tool" or block.text.strip() else []
    if isinstance(block, CachePoint) and role != "tool":
        return [cache_point(block, at)]
    if role == "assistant":
        if isinstance(block, ImageBlock):  # a model made it; an error here would block the conversation for good
            warn_once(
                "image of the assistant", f"{at}: Bedrock takes no image of the assistant. A note is sent instead."
            )
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
    container = {"user": "a user message", "assistant": "a message of the assistant", "tool": "the result of a tool"}
    raise InvalidRequestError(f"{at} is in {container[role]}, where Bedrock does not take it. Leave it out.")


def cache_point(block: CachePoint, at: str) -> dict[str, Any]:
    """Return Converse's ``cachePoint``. Its only type is ``default``, and its default TTL is 5 minutes.

    Args:
        block: LlamaIndex's cache point.
        at: The block's position, for errors.

    Raises:
        InvalidRequestError: Bedrock does not have its TTL.
    """
    ttl = block.cache_control.ttl
    if ttl not in {"5m", "1h", ""}:
        raise InvalidRequestError(f"{at}: ttl={ttl!r} is not valid: Bedrock has '5m' and '1h'. Use one of them.")
    return {"cachePoint": {"type": "default", **({"ttl": ttl} if ttl and ttl != "5m" else {})}}


def tool_use(call_id: str, name: str, arguments: Any) -> dict[str, Any]:
    """Return a Converse ``toolUse`` block, whose input is always an object.

    Args:
        call_id: The id of the call, in Bedrock's form (see `tool_id`).
        name: The name of the tool.
        arguments: The arguments: an object, JSON text of one, or anything else, which is then wrapped in an object.
    """
    return {"toolUse": {"toolUseId": call_id, "name": name, "input": _arguments(arguments)}}


def tool_id(call_id: object, at: str) -> str:
    """Return the id of a tool call in Bedrock's form: 1 to 64 letters, digits, or any of ``_ . : -``.

    An id of another provider is converted, always in the same way, so that a call and its result still match.

    Args:
        call_id: The id.
        at: The id's position, for errors.

    Raises:
        InvalidRequestError: `call_id` is not a text, or is empty.
    """
    if not isinstance(call_id, str) or not call_id:
        raise InvalidRequestError(f"{at} is {call_id!r}. Bedrock needs the id of the tool call.")
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
            # The call was cut off. The model sees its own text; an error here would block the conversation for good.
            return {"invalid_json": arguments}
    return arguments if isinstance(arguments, dict) else {} if arguments is None else {"value": arguments}


def read_json(text: str | bytes) -> Any:
    """Parse JSON without NaN and infinite numbers, which Python's own parser takes and Bedrock refuses.

    Raises:
        ValueError: `text` is not JSON.
    """
    return json.loads(text, parse_constant=finite_number, parse_float=finite_number)


def finite_number(number: str) -> float:
    """Return a JSON number as a float.

    Raises:
        ValueError: The number is NaN or infinite.
    """
    value = float(number)
    if not math.isfinite(value):
        raise ValueError(f"{number} is not a number in JSON")
    return value


def _thinking(block: ThinkingBlock, at: str) -> list[dict[str, Any]]:
    """Return reasoning as Bedrock gave it. `RoutedClient` removes reasoning that the target does not take."""
    information = block.additional_information
    if information.get(REDACTED):
        try:
            return [{"reasoningContent": {"redactedContent": base64.b64decode(information[REDACTED])}}]
        except (TypeError, ValueError) as error:
            raise InvalidRequestError(f"{at}: its {REDACTED!r} is not base64 as Bedrock gave it: {error}.") from error
    # Newer Claudes do not show their thinking: the text is empty, and they need the signature back.
    signature = {"signature": information[SIGNATURE]} if information.get(SIGNATURE) else {}
    if not block.content and not signature:
        return []
    return [{"reasoningContent": {"reasoningText": {"text": block.content or "", **signature}}}]


def _citable(block: CitableBlock, role: str, at: str, *, local_files: bool) -> list[dict[str, Any]]:
    """Return a search result if the block is all text; else its parts, with citations enabled for documents."""
    citations = {"citations": {"enabled": True}}
    texts = [{"text": part.text} for part in block.content if isinstance(part, TextBlock) and part.text.strip()]
    if all(isinstance(part, TextBlock) for part in block.content):
        result = {"source": block.source, "title": block.title, "content": texts, **citations}
        return [{"searchResult": result}] if texts else []
    parts = [
        converted
        for part in block.content
        for converted in content_block(_titled(part, block), role, at, local_files=local_files)
    ]
    return [{"document": {**part["document"], **citations}} if "document" in part else part for part in parts]


def _titled(part: Any, block: CitableBlock) -> Any:
    """Return the part of a block. A document without a title gets the block's."""
    untitled = isinstance(part, DocumentBlock) and part.title == _UNTITLED
    return part.model_copy(update={"title": block.title}) if untitled else part


# --- Pairing tool calls with results ---
# Bedrock requires one result for each tool call, in the message after the call.

_NO_RESULT = "(no result: the call was not finished)"


def paired(turns: Sequence[Turn]) -> list[Turn]:
    """Return the turns with one result for each call, and results without a call as text.

    A system message between a call and its result moves after the result, which must follow the call.

    Args:
        turns: Role and content of each message; consecutive ones have different roles.
    """
    mended: list[Turn] = []
    calls: list[str] = []
    waiting: list[Turn] = []
    for role, content in _with_results_together(turns):
        if role == "system":
            (waiting if calls else mended).append((role, content))
        elif role == "user":
            mended += [(role, _answering(calls, content)), *waiting]
            calls, waiting = [], []
        else:
            if calls:  # only a system message can stand between two turns of the assistant
                mended += [("user", _answering(calls, [])), *waiting]
                waiting = []
            each_once, calls = _each_once(content)
            mended.append((role, each_once))
    return [*mended, ("user", _answering(calls, [])), *waiting] if calls else mended


def _with_results_together(turns: Sequence[Turn]) -> list[Turn]:
    """Return the turns with the results of one turn's calls in one turn, even if a system message separates them."""
    joined: list[Turn] = []
    unanswered: set[str] = set()
    answering: int | None = None  # the index of the first user's turn after the calls
    for role, content in turns:
        if role == "assistant":
            unanswered = {block["toolUse"]["toolUseId"] for block in content if "toolUse" in block}
            answering = None
        elif role == "user":
            results = {block["toolResult"]["toolUseId"] for block in content if "toolResult" in block}
            is_late = answering is not None and bool(unanswered & results)
            unanswered -= results
            if answering is not None and is_late:
                joined[answering] = ("user", [*joined[answering][1], *content])
                continue
            answering = len(joined)
        joined.append((role, content))
    return joined


def _each_once(content: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the content without repeated calls, and the ids of the calls."""
    kept: list[dict[str, Any]] = []
    calls: list[str] = []
    for block in content:
        if "toolUse" not in block:
            kept.append(block)
        elif block["toolUse"]["toolUseId"] not in calls:
            kept.append(block)
            calls.append(block["toolUse"]["toolUseId"])
    return kept, calls


def _answering(calls: Sequence[str], content: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the content of a user message with the results of `calls` first, where Claude requires them."""
    results: dict[str, dict[str, Any]] = {}
    rest: list[dict[str, Any]] = []
    mended = False
    for block in content:
        call = block["toolResult"]["toolUseId"] if "toolResult" in block else None
        if call is None:
            rest.append(block)
        elif call in calls and call not in results:
            results[call] = block
        else:
            rest += tool_blocks_as_text(block)
            mended = True
    for call in calls:
        if call not in results:
            unfinished = {"toolUseId": call, "content": [{"text": _NO_RESULT}], "status": "error"}
            results[call] = {"toolResult": unfinished}
            mended = True
    if mended:
        warn_once(
            "unpaired tool calls",
            "A conversation has tool calls without a result, or results without a call, which Bedrock refuses. Such "
            "calls get an error as their result, and such results become text. Was a memory cut, or an agent stopped?",
        )
    return [*results.values(), *rest]


def tool_blocks_as_text(block: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a tool call or result as text, and the images and documents of a result after it."""
    if "toolUse" in block:
        call = block["toolUse"]
        return [{"text": f"[tool call: {call['name']} {json.dumps(call['input'], ensure_ascii=False)}]"}]
    if "toolResult" not in block:
        return [block]
    result = block["toolResult"]
    parts = [
        part["text"] if "text" in part else json.dumps(part["json"], ensure_ascii=False)
        for part in result["content"]
        if "text" in part or "json" in part
    ]
    others = [part for part in result["content"] if not ("text" in part or "json" in part)]
    kind = "tool error" if result.get("status") == "error" else "tool result"
    return [{"text": f"[{kind}: {' '.join(parts) or 'see below'}]"}, *others]


# --- Citations ---

START, END = "answer_start", "answer_end"
# Converse's kinds of location → member → key in `CitationBlock.additional_location_info`. The keys are those of
# Anthropic's API, and identify the kind. Members: botocore's service model (1.43), CitationLocation.
_LOCATIONS = {
    "documentChar": {"documentIndex": "document_index", "start": "start_char_index", "end": "end_char_index"},
    "documentPage": {"documentIndex": "document_index", "start": "start_page_number", "end": "end_page_number"},
    "documentChunk": {"documentIndex": "document_index", "start": "start_block_index", "end": "end_block_index"},
    "searchResultLocation": {
        "searchResultIndex": "search_result_index", "start": "start_block_index", "end": "end_block_index",
    },
}  # fmt: skip


def read_text(content: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Return neighbouring ``text`` and ``citationsContent`` blocks as one `TextBlock` and its `CitationBlock`s.

    Without citations, each ``text`` block becomes a `TextBlock` of its own.
    """
    if all("text" in block for block in content):
        return [TextBlock(text=block["text"]) for block in content]
    text, citations = "", []
    for block in content:
        start = len(text)
        if "text" in block:
            text += block["text"]
            continue
        cited_text = block["citationsContent"]
        text += "".join(part.get("text", "") for part in cited_text.get("content") or ())
        citations += [_citation_block(each, start, len(text)) for each in cited_text.get("citations") or ()]
    return [TextBlock(text=text), *citations] if text or citations else []


def add_citations(content: list[dict[str, Any]], citations: Sequence[CitationBlock]) -> list[dict[str, Any]]:
    """Return the content with citations in its last text: the reverse of `read_text`.

    Citations without a position in the text, or without a text before them, are left out: a model does not need them.

    Args:
        content: Converse's content blocks.
        citations: The citations of the last block.
    """
    if not citations or not content or "text" not in content[-1]:
        return content
    text = content[-1]["text"]
    spans: dict[tuple[int, int], list[CitationBlock]] = {}
    for block in citations:
        info = block.additional_location_info
        start, end = info.get(START, -1), info.get(END, -1)
        if 0 <= start <= end <= len(text):
            spans.setdefault((start, end), []).append(block)
    pieces: list[dict[str, Any]] = []
    reached = 0
    for (start, end), blocks in sorted(spans.items(), key=lambda item: item[0]):
        if start < reached or not text[start:end].strip():  # pieces cannot overlap, nor be blank
            continue
        if text[reached:start].strip():
            pieces.append({"text": text[reached:start]})
        else:  # text may not be blank: the space between two pieces goes to the second piece
            start = reached  # noqa: PLW2901
        pieces.append(
            {
                "citationsContent": {
                    "content": [{"text": text[start:end]}],
                    "citations": [_converse_citation(b) for b in blocks],
                }
            }
        )
        reached = end
    rest = [{"text": text[reached:]}] if text[reached:].strip() else []
    return [*content[:-1], *pieces, *rest]


def _citation_block(citation: Mapping[str, Any], start: int, end: int) -> CitationBlock:
    location = citation.get("location") or {}
    info = {START: start, END: end}
    for kind, members in _LOCATIONS.items():
        values = location.get(kind) or {}
        info.update({key: values[member] for member, key in members.items() if member in values})
    web = location.get("web") or {}
    quoted = "".join(part.get("text", "") for part in citation.get("sourceContent") or ())
    return CitationBlock(
        cited_content=TextBlock(text=quoted),
        source=citation.get("source") or web.get("url") or web.get("domain") or "",
        title=citation.get("title") or "",
        additional_location_info=info,
    )


def _converse_citation(block: CitationBlock) -> dict[str, Any]:
    info = block.additional_location_info
    citation: dict[str, Any] = {"title": block.title} if block.title else {}
    if block.source:
        citation["source"] = block.source
    if isinstance(block.cited_content, TextBlock) and block.cited_content.text:
        citation["sourceContent"] = [{"text": block.cited_content.text}]
    for kind, members in _LOCATIONS.items():
        if all(key in info for key in members.values()):
            return {**citation, "location": {kind: {member: info[key] for member, key in members.items()}}}
    return citation


# --- Messages ---

_SYSTEM = (MessageRole.SYSTEM, MessageRole.DEVELOPER)
_ASSISTANT = (MessageRole.ASSISTANT, MessageRole.CHATBOT, MessageRole.MODEL)
_TOOL = (MessageRole.TOOL, MessageRole.FUNCTION)
_NO_CONTENT = "(nothing)"  # the content of an empty tool result: Bedrock requires some
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
        InvalidRequestError: Converse does not take a block there. The error's text names the block.
    """
    untyped: object = messages
    if isinstance(untyped, (str, ChatMessage)):
        raise InvalidRequestError(
            f"messages must be a list of ChatMessage, and is a {type(untyped).__name__}. For a prompt there is "
            "complete()."
        )
    turns: list[Turn] = []
    for number, message in enumerate(messages):
        at = f"messages[{number}]"
        if not isinstance(message, ChatMessage):
            raise InvalidRequestError(
                f"{at} is a {type(message).__module__}.{type(message).__name__}. It must be a LlamaIndex ChatMessage."
            )
        if message.role in _SYSTEM:
            turns.append(("system", _system(message, at)))
            continue
        role = "assistant" if message.role in _ASSISTANT else "user"
        if message.role in _TOOL:
            content = _tool_result(message, at, local_files=local_files)
        else:
            content = _content(message, role, at, local_files=local_files)
        turns.append((role, content if tools else [part for block in content for part in tool_blocks_as_text(block)]))
    # Merge neighbours of one role, drop empty messages, then merge again: dropping can create new neighbours.
    turns = _merged(_without_blanks(turn) for turn in _merged(turns))
    system = turns.pop(0)[1] if turns and turns[0][0] == "system" else []
    turns = paired(turns)
    _check(turns)
    return [{"role": role, "content": content} for role, content in turns], system


def _merged(turns: Iterable[Turn]) -> list[Turn]:
    merged: list[Turn] = []
    for role, content in turns:
        if merged and merged[-1][0] == role:
            merged[-1][1].extend(content)  # made by `to_converse`, not the caller's
        elif content:
            merged.append((role, content))
    return merged


def _without_blanks(turn: Turn) -> Turn:
    """Return the turn without blank text, and without any content if only cache points would be left.

    White space between another kind of block and a cache point stays: it is the known way to put a cache point after a
    text document, and Claude Sonnet 4.5 took a line break there (recorded 2025). Empty text is refused everywhere.
    """
    role, content = turn
    if all("cachePoint" in block or _is_blank(block) for block in content):
        if any("cachePoint" in block for block in content):
            warn_once(
                ("CachePoint", "alone"), "A CachePoint alone in a message was left out, because Bedrock refuses it."
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
                f"{at}.blocks[{number}] ({type(block).__name__}) is in a system message, which can hold only text. Put "
                "it in a user message."
            )
    return content


def _content(message: ChatMessage, role: str, at: str, *, local_files: bool) -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = []
    citations: list[CitationBlock] = []
    for number, block in enumerate(message.blocks):
        if isinstance(block, CitationBlock) and role == "assistant":
            citations.append(block)
            continue
        content, citations = add_citations(content, citations), []
        position = f"{at}.blocks[{number}] ({type(block).__name__})"
        content += content_block(block, role, position, local_files=local_files)
    content = add_citations(content, citations)
    return content + _older_tool_calls(message, content, at) if role == "assistant" else content


def _older_tool_calls(message: ChatMessage, content: Sequence[Mapping[str, Any]], at: str) -> list[dict[str, Any]]:
    """Return the tool calls in `additional_kwargs`, as before LlamaIndex had blocks, in the forms of several APIs."""
    known = {block["toolUse"]["toolUseId"] for block in content if "toolUse" in block}
    entries = message.additional_kwargs.get("tool_calls")
    calls = []
    for number, entry in enumerate(entries if isinstance(entries, list) else ()):
        call = entry.model_dump() if isinstance(entry, BaseModel) else entry
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
    extra = message.additional_kwargs
    call_id = tool_id(extra.get("tool_call_id"), f"{at} is the result of a tool, and additional_kwargs['tool_call_id']")
    content: list[dict[str, Any]] = []
    points: list[dict[str, Any]] = []
    for number, block in enumerate(message.blocks):
        position = f"{at}.blocks[{number}] ({type(block).__name__})"
        parsed = _json(block, position, local_files=local_files) if isinstance(block, DocumentBlock) else None
        if parsed is not None:
            content.append({"json": parsed})
        elif isinstance(block, CachePoint):
            points.append(cache_point(block, position))  # only the message takes it, after the result
        else:
            content += content_block(block, "tool", position, local_files=local_files)
    result = {"toolUseId": call_id, "content": content or [{"text": _NO_CONTENT}]}
    status = "error" if extra.get("is_error") else extra.get("status")
    return [{"toolResult": {**result, "status": status} if status in _STATUSES else result}, *points]


def _json(block: DocumentBlock, at: str, *, local_files: bool) -> dict[str, Any] | None:
    """Return the object of a JSON document. A tool result can hold an object as such, but not a list."""
    if (block.document_mimetype or "").partition(";")[0] != "application/json" or s3_uri(block, block.data):
        return None
    try:
        value = read_json(document_bytes(block, at, local_files=local_files))
    except ValueError as error:
        raise InvalidRequestError(f"{at} has document_mimetype='application/json' and is not JSON: {error}.") from error
    return value if isinstance(value, dict) else None


def _check(turns: Sequence[tuple[str, Sequence[Mapping[str, Any]]]]) -> None:
    for role, content in turns:
        kinds = {kind for block in content for kind in block}
        if "document" in kinds and "text" not in kinds:
            named = ", ".join(repr(block["document"]["name"]) for block in content if "document" in block)
            raise InvalidRequestError(
                f"The {role} message with the document {named} has no text beside it, which Bedrock requires. Add a "
                "TextBlock with an instruction."
            )
