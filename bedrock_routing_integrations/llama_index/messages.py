"""LlamaIndex's messages → the ``messages`` and ``system`` of a Converse request.

What Bedrock would refuse and has one obvious reading is mended: blank text is left out (but for white space that a
cache point follows), and so are messages that then say nothing; consecutive messages of one role are merged; a tool
call gets the result that it lacks, with a warning. Anything else raises, naming the message and the block. Nothing of
what the caller passed is changed. What depends on the target (names of documents and tools, reasoning of earlier turns,
later system messages) is left to `RoutedClient`.
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


# --- One content block of LlamaIndex → the Converse blocks that carry it. ---

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


# --- Every tool call has its result in the next message ---

if TYPE_CHECKING:
    from collections.abc import Sequence

    Turn = tuple[str, list[dict[str, Any]]]

_NO_RESULT = "(no result: the call was not finished)"


def paired(turns: Sequence[Turn]) -> list[Turn]:
    """Return the turns with one result for each call, and results without a call as text.

    A system message between a call and its result moves behind the result, which must follow the call.

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
    """Return the turns with the results of one turn's calls in one turn, also where a system message parts them."""
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
    """The content without calls whose id was there before, and the ids."""
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
    """The content of a user's message, the results of `calls` first: Claude wants them there."""
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
            rest += in_words(block)
            mended = True
    for call in calls:
        if call not in results:
            unfinished = {"toolUseId": call, "content": [{"text": _NO_RESULT}], "status": "error"}
            results[call] = {"toolResult": unfinished}
            mended = True
    if mended:
        warn_once(
            "unpaired tool calls",
            "A conversation has tool calls without a result, or results without a call, which Bedrock refuses. The "
            "former get a result that says so, the latter become text. Was a memory cut, or an agent stopped?",
        )
    return [*results.values(), *rest]


def in_words(block: dict[str, Any]) -> list[dict[str, Any]]:
    """A tool call or result as text, and the images and documents of the result beside it."""
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
# Converse's kinds of location, their members, and the names that tell them apart where only numbers are kept (those of
# Anthropic's API). Members: botocore's service model (1.43), CitationLocation.
_LOCATIONS = {
    "documentChar": {"documentIndex": "document_index", "start": "start_char_index", "end": "end_char_index"},
    "documentPage": {"documentIndex": "document_index", "start": "start_page_number", "end": "end_page_number"},
    "documentChunk": {"documentIndex": "document_index", "start": "start_block_index", "end": "end_block_index"},
    "searchResultLocation": {
        "searchResultIndex": "search_result_index", "start": "start_block_index", "end": "end_block_index",
    },
}  # fmt: skip


def read_text(run: Sequence[Mapping[str, Any]]) -> list[Any]:
    """``text`` and ``citationsContent`` blocks in a row → one `TextBlock` and its `CitationBlock`s.

    Without any citation the pieces are the model's own: a `TextBlock` each.
    """
    if all("text" in block for block in run):
        return [TextBlock(text=block["text"]) for block in run]
    text, citations = "", []
    for block in run:
        start = len(text)
        if "text" in block:
            text += block["text"]
            continue
        content = block["citationsContent"]
        text += "".join(part.get("text", "") for part in content.get("content") or ())
        citations += [_read(citation, start, len(text)) for citation in content.get("citations") or ()]
    return [TextBlock(text=text), *citations] if text or citations else []


def cited(content: list[dict[str, Any]], citations: Sequence[CitationBlock]) -> list[dict[str, Any]]:
    """The content with the citations in its last text; the reverse of `read_text`.

    Citations that do not say where in the text they belong, or have no text before them, are left out: they are notes
    about an answer, which a model can do without.
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
        if start < reached or not text[start:end].strip():  # overlaps the one before, which pieces cannot; or is blank
            continue
        if text[reached:start].strip():
            pieces.append({"text": text[reached:start]})
        else:  # no text may be blank: the space between two pieces goes to the second one
            start = reached  # noqa: PLW2901
        pieces.append(
            {"citationsContent": {"content": [{"text": text[start:end]}], "citations": [_written(b) for b in blocks]}}
        )
        reached = end
    rest = [{"text": text[reached:]}] if text[reached:].strip() else []
    return [*content[:-1], *pieces, *rest]


def _read(citation: Mapping[str, Any], start: int, end: int) -> CitationBlock:
    location = citation.get("location") or {}
    info = {START: start, END: end}
    for kind, members in _LOCATIONS.items():
        found = location.get(kind) or {}
        info.update({ours: found[theirs] for theirs, ours in members.items() if theirs in found})
    web = location.get("web") or {}
    quoted = "".join(part.get("text", "") for part in citation.get("sourceContent") or ())
    return CitationBlock(
        cited_content=TextBlock(text=quoted),
        source=citation.get("source") or web.get("url") or web.get("domain") or "",
        title=citation.get("title") or "",
        additional_location_info=info,
    )


def _written(block: CitationBlock) -> dict[str, Any]:
    info = block.additional_location_info
    written: dict[str, Any] = {"title": block.title} if block.title else {}
    if block.source:
        written["source"] = block.source
    if isinstance(block.cited_content, TextBlock) and block.cited_content.text:
        written["sourceContent"] = [{"text": block.cited_content.text}]
    for kind, members in _LOCATIONS.items():
        if all(ours in info for ours in members.values()):
            return {**written, "location": {kind: {theirs: info[ours] for theirs, ours in members.items()}}}
    return written


_SYSTEM = (MessageRole.SYSTEM, MessageRole.DEVELOPER)
_ASSISTANT = (MessageRole.ASSISTANT, MessageRole.CHATBOT, MessageRole.MODEL)
_TOOL = (MessageRole.TOOL, MessageRole.FUNCTION)
# Stands for what a tool returned where it returned nothing: a result must have content.
_NOTHING = "(nothing)"
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
        InvalidRequestError: A block that Converse cannot carry there; the message names it.
    """
    given: object = messages
    if isinstance(given, (str, ChatMessage)):
        raise InvalidRequestError(
            f"messages must be a list of ChatMessage, and is a {type(given).__name__}; for a prompt there is complete()"
        )
    turns: list[tuple[str, list[dict[str, Any]]]] = []
    for number, message in enumerate(messages):
        at = f"messages[{number}]"
        if not isinstance(message, ChatMessage):
            raise InvalidRequestError(
                f"{at} is a {type(message).__module__}.{type(message).__name__}; it must be a LlamaIndex ChatMessage."
            )
        if message.role in _SYSTEM:
            turns.append(("system", _system(message, at)))
            continue
        role = "assistant" if message.role in _ASSISTANT else "user"
        if message.role in _TOOL:
            content = _tool_result(message, at, local_files=local_files)
        else:
            content = _content(message, role, at, local_files=local_files)
        turns.append((role, content if tools else [part for block in content for part in in_words(block)]))
    # Merge neighbours of one role, drop what says nothing, then merge again: dropping can create new neighbours.
    turns = _merged(_without_blanks(turn) for turn in _merged(turns))
    system = turns.pop(0)[1] if turns and turns[0][0] == "system" else []
    turns = paired(turns)
    _check(turns)
    return [{"role": role, "content": content} for role, content in turns], system


def _merged(turns: Iterable[tuple[str, list[dict[str, Any]]]]) -> list[tuple[str, list[dict[str, Any]]]]:
    merged: list[tuple[str, list[dict[str, Any]]]] = []
    for role, content in turns:
        if merged and merged[-1][0] == role:
            merged[-1][1].extend(content)  # a list of ours
        elif content:
            merged.append((role, content))
    return merged


def _without_blanks(turn: tuple[str, list[dict[str, Any]]]) -> tuple[str, list[dict[str, Any]]]:
    """Return the turn without blank text; without any content where nothing but cache points is left.

    White space between another kind of block and a cache point stays: it is the known way to put a point behind a text
    document, and Claude Sonnet 4.5 took a line break there (recorded 2025). An empty text is refused everywhere.
    """
    role, content = turn
    if all("cachePoint" in block or _is_blank(block) for block in content):
        if any("cachePoint" in block for block in content):
            warn_once(
                ("CachePoint", "alone"), "A CachePoint in a message with nothing else was left out; Bedrock refuses it."
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
                f"{at}.blocks[{number}] ({type(block).__name__}) is in a system message, which can hold text only; put "
                "it in a user message."
            )
    return content


def _content(message: ChatMessage, role: str, at: str, *, local_files: bool) -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = []
    run: list[CitationBlock] = []
    for number, block in enumerate(message.blocks):
        if isinstance(block, CitationBlock) and role == "assistant":
            run.append(block)
            continue
        content, run = cited(content, run), []
        where = f"{at}.blocks[{number}] ({type(block).__name__})"
        content += content_block(block, role, where, local_files=local_files)
    content = cited(content, run)
    return content + _older_tool_calls(message, content, at) if role == "assistant" else content


def _older_tool_calls(message: ChatMessage, content: Sequence[Mapping[str, Any]], at: str) -> list[dict[str, Any]]:
    """Tool calls where LlamaIndex had them before there were blocks for them, in the forms of several APIs."""
    known = {block["toolUse"]["toolUseId"] for block in content if "toolUse" in block}
    given = message.additional_kwargs.get("tool_calls")
    calls = []
    for number, each in enumerate(given if isinstance(given, list) else ()):
        call = each.model_dump() if isinstance(each, BaseModel) else each
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
    said = message.additional_kwargs
    call_id = tool_id(said.get("tool_call_id"), f"{at} is the result of a tool, and additional_kwargs['tool_call_id']")
    content: list[dict[str, Any]] = []
    points: list[dict[str, Any]] = []
    for number, block in enumerate(message.blocks):
        where = f"{at}.blocks[{number}] ({type(block).__name__})"
        parsed = _json(block, where, local_files=local_files) if isinstance(block, DocumentBlock) else None
        if parsed is not None:
            content.append({"json": parsed})
        elif isinstance(block, CachePoint):
            points.append(cache_point(block, where))  # a result has no place for it, the message has: behind the result
        else:
            content += content_block(block, "tool", where, local_files=local_files)
    result = {"toolUseId": call_id, "content": content or [{"text": _NOTHING}]}
    status = "error" if said.get("is_error") else said.get("status")
    return [{"toolResult": {**result, "status": status} if status in _STATUSES else result}, *points]


def _json(block: DocumentBlock, at: str, *, local_files: bool) -> dict[str, Any] | None:
    """The object in a JSON document: a tool result can carry it as such, and a list it cannot."""
    if (block.document_mimetype or "").partition(";")[0] != "application/json" or s3_uri(block, block.data):
        return None
    try:
        value = read_json(document_bytes(block, at, local_files=local_files))
    except ValueError as error:
        raise InvalidRequestError(f"{at} says that it is JSON, and is not: {error}") from error
    return value if isinstance(value, dict) else None


def _check(turns: Sequence[tuple[str, Sequence[Mapping[str, Any]]]]) -> None:
    for role, content in turns:
        kinds = {kind for block in content for kind in block}
        if "document" in kinds and "text" not in kinds:
            named = ", ".join(repr(block["document"]["name"]) for block in content if "document" in block)
            raise InvalidRequestError(
                f"The {role} message with the document {named} has no text beside it, which Bedrock requires: add a "
                "TextBlock that says what to do with it."
            )
