"""Convert LangChain's messages to a form that langchain-aws writes as a Converse request without loss.

langchain-aws renames the keys of the user's data, decides by one model's name which reasoning may stay, refuses media
that Converse takes, and moves every system message to the front. `converse_messages` writes such content as Converse's
blocks, which langchain-aws passes through:

- arguments of tool calls and JSON in tool results, protected from renaming (`_converse_client.protect`);
- reasoning of earlier turns, all of it: the core removes what the target's models refuse;
- images, documents, videos and sounds (`media_block`);
- a system message amid the conversation, as blocks of a user's turn between two markers, which `_converse_client` makes
  a message of role ``system`` again.

Bedrock refuses tool calls and results in the history of a call without tools. langchain-aws writes them as text then,
and so does this module.

The caller's messages are not changed.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage

from bedrock_routing_integrations.errors import InvalidRequestError
from bedrock_routing_integrations.models.families import base_model_id
from bedrock_routing_integrations.requests.documents import FORMATS, decode_base64, media_format, media_source

from ._converse_client import SYSTEM_BEGINS, SYSTEM_ENDS, protect

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence


# --- Media ---

# LangChain's type of a block → Converse's.
_KINDS = {"image": "image", "file": "document", "video": "video", "audio": "audio", "text-plain": "document"}
# OpenAI's types. The member that holds the URL or the data has the name of the type.
_OPENAI = {"image_url": "image", "video_url": "video", "audio_url": "audio", "input_audio": "audio"}
_NAMES = ("name", "filename", "title")


def media_block(block: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the Converse block of a media block; None for a block of another type.

    Args:
        block: A content block with a ``type``; not changed.

    Raises:
        InvalidRequestError: The media cannot be sent: the URL would have to be fetched, the id is another provider's,
            the type is unknown, or the block is empty.
    """
    kind = block["type"]
    if kind in FORMATS and isinstance(block.get(kind), Mapping) and "source" in block[kind]:
        return {kind: block[kind]}  # Converse's own block, with a type added
    if kind in _OPENAI:
        return _openai_block(block, kind)
    if kind == "file" and isinstance(block.get("file"), Mapping):
        file = block["file"]
        return _converse_block("document", _without_none({"url": file.get("file_data"), "file_id": file.get("file_id"),
                                                          "filename": file.get("filename")}), "file")  # fmt: skip
    if isinstance(block.get("source"), Mapping) and kind in FORMATS:
        return _with_source(block, kind)
    if kind not in _KINDS or not any(name in block for name in ("url", "base64", "file_id", "text", "source_type")):
        return None
    return _converse_block(_KINDS[kind], _standard(block), kind)


def _openai_block(block: Mapping[str, Any], kind: str) -> dict[str, Any]:
    value = block.get(kind)
    member = {"url": value} if isinstance(value, str) else dict(value or {})
    if kind == "input_audio":
        member = {"base64": member.get("data"), "mime_type": member.get("format")}
    return _converse_block(_OPENAI[kind], _without_none({**member, "extras": block.get("extras")}), kind)


def _with_source(block: Mapping[str, Any], kind: str) -> dict[str, Any] | None:
    """Return the Converse block of a block with a ``source``: Anthropic's form, and langchain-aws's for videos."""
    source = block["source"]
    mime_type = source.get("media_type") or source.get("mediaType")
    form, data = source.get("type"), source.get("data")
    if form in ("s3Location", "s3_location"):
        if not isinstance(data, Mapping):
            raise InvalidRequestError(
                f"the {kind} block's source.data={data!r} is not valid: give {{'uri': 's3://…'}}."
            )
        owner = data.get("bucketOwner") or data.get("bucket_owner")
        member = {"url": data.get("uri"), "extras": {"bucketOwner": owner}}
    elif form == "text":
        member = {"text": data}
    elif form in ("base64", "url"):
        member = {"base64": data, "url": source.get("url")}
    else:
        return None
    rest = {name: block[name] for name in (*_NAMES, "citations", "context") if name in block}
    return _converse_block(kind, _without_none({**member, "mime_type": mime_type, **rest}), kind)


def _standard(block: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a standard block in the form of langchain-core 1. Earlier versions have a ``source_type``."""
    form = block.get("source_type")
    if form == "base64":
        return {**block, "base64": block.get("data")}
    if form == "text":
        return {**block, "text": block.get("text") or block.get("url")}
    return {**block, "file_id": block.get("id")} if form == "id" else block


def _converse_block(kind: str, media: Mapping[str, Any], block_type: str) -> dict[str, Any]:
    """Return the Converse block.

    Args:
        kind: Converse's type of the block.
        media: ``url``, ``base64``, ``text`` or ``file_id``, ``mime_type``, names and extras.
        block_type: The type of the caller's block, for error messages.
    """
    subject = f"the {block_type} block"
    extras = {**(media.get("metadata") or {}), **(media.get("extras") or {})}
    source, mime_type = _source(media, extras, subject)
    content = source.get("bytes", b"")
    names = [media[name] for name in _NAMES if media.get(name)] + [extras[name] for name in _NAMES if extras.get(name)]
    uri = (source.get("s3Location") or {}).get("uri")
    mime_type = media.get("mime_type") or mime_type
    form = "txt" if "text" in media else media_format(kind, mime_type, *names, uri, content=content)
    if form is None:
        raise InvalidRequestError(
            f"{subject} is {mime_type or 'of unknown type'}, which Bedrock does not take. Set mime_type to one of "
            f"{', '.join(FORMATS[kind])}."
        )
    if kind != "document":
        return {kind: {"format": form, "source": source}}
    document: dict[str, Any] = {"format": form, "name": _document_name(names, source), "source": source}
    for name in ("citations", "context"):
        value = media.get(name) or extras.get(name)
        if value:
            document[name] = value
    return {"document": document}


def _source(media: Mapping[str, Any], extras: Mapping[str, Any], subject: str) -> tuple[dict[str, Any], str | None]:
    if media.get("base64") is not None:
        return {"bytes": decode_base64(media["base64"], subject)}, None
    if isinstance(media.get("url"), str):
        owner = extras.get("bucketOwner") or extras.get("bucket_owner") or media.get("bucketOwner")
        return media_source(media["url"], subject, bucket_owner=owner)
    text = media.get("text")
    if isinstance(text, str) and text:
        return {"bytes": text.encode("utf-8", "replace")}, None
    if media.get("file_id"):
        raise InvalidRequestError(
            f"{subject} names file_id={media['file_id']!r}, which is known to another provider only. Pass the bytes in "
            "base64, or an s3:// URL."
        )
    raise InvalidRequestError(f"{subject} is empty. Pass the bytes in base64, or an s3:// URL.")


def _document_name(names: list[Any], source: Mapping[str, Any]) -> str:
    """Return the name of a document: the caller's, else the last part of the S3 key, else a digest of the bytes.

    The same document gets the same name each time, because prompt caching compares the requests.
    """
    if names:
        return str(names[0])
    if "s3Location" in source:
        return PurePosixPath(source["s3Location"]["uri"]).stem or "document"
    return hashlib.sha256(source["bytes"]).hexdigest()[:12]


def _without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


# --- Messages ---

# `model_provider` of messages of langchain-aws's chat models. Bedrock cannot use other providers' reasoning.
_BEDROCK_PROVIDERS = (None, "bedrock_converse", "bedrock")
_REASONING = frozenset(["reasoning", "reasoning_content", "thinking"])
_CALLS = frozenset(["tool_use", "tool_call", "tool_call_chunk", "server_tool_use", "server_tool_call"])
_SERVER_CALLS = frozenset(["server_tool_use", "server_tool_call"])
_RESULTS = frozenset(["tool_result", "server_tool_result"])
_PROVIDER_SPECIFIC = frozenset([*_REASONING, *_SERVER_CALLS, "server_tool_result"])


def converse_messages(
    messages: Sequence[BaseMessage], *, provider: str = "", has_tools: bool = True
) -> list[BaseMessage]:
    """Return the messages of a call in a form that langchain-aws writes without loss.

    Args:
        messages: The messages of a call; not changed.
        provider: The provider of the candidate models (``anthropic``); empty if unknown, or if there are several.
        has_tools: Whether the call has tools.

    Raises:
        InvalidRequestError: A media block cannot be sent.
    """
    converter = _MessageConverter(messages, provider, has_tools=has_tools)
    prepared: list[BaseMessage] = []
    is_leading = True
    for message in messages:
        converted: BaseMessage | None
        if isinstance(message, SystemMessage):
            converted = message if is_leading else _between_markers(message)
        else:
            is_leading = False
            converted = converter.convert(message)
        if converted is not None:
            prepared.append(converted)
    if prepared and prepared[-1] is messages[-1] and isinstance(prepared[-1], AIMessage):
        prepared[-1] = prepared[-1].model_copy()  # langchain-aws strips white space from it in place
    return prepared


def _between_markers(message: SystemMessage) -> HumanMessage | None:
    """Return a system message as a user's turn between markers; None if it is empty."""
    content = [message.content] if isinstance(message.content, str) else message.content
    blocks = [{"type": "text", "text": block} if isinstance(block, str) else block for block in content]
    blocks = [block for block in blocks if block.get("type") != "text" or str(block.get("text", "")).strip()]
    if not blocks:
        return None
    return HumanMessage([{SYSTEM_BEGINS: True}, *[_copied(block) for block in blocks], {SYSTEM_ENDS: True}])


class _MessageConverter:
    """Convert the messages of one call."""

    def __init__(self, messages: Sequence[BaseMessage], provider: str, *, has_tools: bool) -> None:
        self._messages, self._provider, self._has_tools = messages, provider, has_tools
        self._answered: set[Any] | None = None

    def convert(self, message: BaseMessage) -> BaseMessage:
        """Return the message to hand to langchain-aws; the same object if langchain-aws loses nothing of it."""
        if isinstance(message, AIMessage):
            return self._assistant(message)
        if isinstance(message.content, str):
            return message
        blocks = _keep_blank_before_cache_point(message.content)
        content = [part for block in blocks for part in self._user_block(block)]
        return message.model_copy(update={"content": content})

    def _user_block(self, block: Any) -> Iterator[Any]:
        if not isinstance(block, dict):
            yield block
        elif block.get("type") == "non_standard" and isinstance(block.get("value"), dict):
            yield from self._user_block(block["value"])
        else:
            yield from self._converse_blocks(block) or [_copied(block)]

    # --- Messages of the assistant ---

    def _assistant(self, message: AIMessage) -> AIMessage:
        """Return a message of the assistant with its content in Converse's blocks.

        Other providers' messages lose their reasoning and their server tools. Tool calls that were cut off are sent
        only if a later message has their result.
        """
        invalid = [call for call in message.invalid_tool_calls if call.get("id")]
        if isinstance(message.content, str) and not invalid and (self._has_tools or not message.tool_calls):
            return message
        metadata = message.response_metadata
        is_foreign = metadata.get("model_provider") not in _BEDROCK_PROVIDERS
        content: Iterable[Any] = [message.content] if isinstance(message.content, str) else message.content
        if is_foreign and metadata.get("output_version") != "v1":
            content = _standard_blocks(message) or content
        called = {call.get("id") for call in message.tool_calls}
        cut_off = {call["id"]: call for call in invalid if call["id"] not in called}
        blocks = [
            part
            for block in _without_blanks(content)
            if block and not (is_foreign and _is_provider_specific(block))
            for part in self._assistant_block(block, message, cut_off)
        ]
        # Calls may be in `tool_calls` or `invalid_tool_calls` only, without a block in the content.
        for id_, invalid_call in cut_off.items():
            if self._is_answered(id_) and not _calls(blocks, id_):
                blocks += self._call(invalid_call, message)
        update: dict[str, Any] = {"content": blocks}
        if not self._has_tools:
            for call in message.tool_calls:
                if not _mentions(content, call):
                    blocks += self._call(call, message)
            update["tool_calls"] = []  # all of them are text now
        if metadata.get("output_version") != "v1":
            update["response_metadata"] = {}  # langchain-aws would convert and drop blocks by it; both are done
        return message.model_copy(update=update)

    def _assistant_block(self, block: Any, message: AIMessage, cut_off: Mapping[Any, Any]) -> Iterator[Any]:
        if not isinstance(block, dict):
            yield block
            return
        kind = block.get("type")
        if kind == "non_standard" and isinstance(block.get("value"), dict):
            # langchain-core's form of a block that it does not know, such as a system tool's call.
            block = block["value"]
            kind = block.get("type")
        if kind in (*_CALLS, "invalid_tool_call") and block.get("id") in cut_off:
            # A call that was cut off was not run. Bedrock refuses a call without a result.
            if self._is_answered(block.get("id")):
                yield from self._call(block, message)
        elif kind in _REASONING:
            yield from map(_as_non_standard, self._reasoning(block, message))
        elif kind in _CALLS:
            yield from self._call(block, message)
        else:
            blocks = self._converse_blocks(block)
            if blocks is not None:
                yield from map(_as_non_standard, blocks)
            elif kind is None and message.response_metadata.get("output_version") == "v1":
                yield _as_non_standard(block)  # langchain-aws wants a type in each block of this version
            else:
                yield _copied(block)

    def _call(self, block: Mapping[str, Any], message: AIMessage) -> Iterator[dict[str, Any]]:
        """Yield a tool call. The arguments in `tool_calls` override those in the block, as in langchain-aws."""
        id_ = block.get("id") or ""
        name, arguments = block.get("name") or "", _arguments(block.get("input", block.get("args")))
        known = next((call for call in message.tool_calls if id_ and call.get("id") == id_), None)
        if known is not None:
            name, arguments = known["name"], known["args"]
        if not self._has_tools:
            yield _as_non_standard({"text": _call_as_text(name, arguments)})
            return
        call = {"toolUseId": id_, "name": name, "input": protect(arguments)}
        if block.get("type") in _SERVER_CALLS:
            call["type"] = "server_tool_use"
        yield _as_non_standard({"toolUse": call})

    def _reasoning(self, block: Mapping[str, Any], message: AIMessage) -> Iterator[dict[str, Any]]:
        text, signature, redacted = _reasoning_parts(block)
        if self._is_of_another_provider(message):
            signature = redacted = None  # state of the provider's models, which others refuse
        if text or signature:
            parts = {"text": text or "", **({"signature": signature} if signature else {})}
            yield {"reasoningContent": {"reasoningText": parts}}
        if redacted:
            yield {"reasoningContent": {"redactedContent": redacted}}

    def _is_of_another_provider(self, message: AIMessage) -> bool:
        name = message.response_metadata.get("model_name")
        writer = base_model_id(name.rpartition("/")[2]) if isinstance(name, str) else None
        return bool(self._provider and writer) and str(writer).partition(".")[0] != self._provider

    def _is_answered(self, tool_call_id: Any) -> bool:
        if self._answered is None:
            self._answered = {message.tool_call_id for message in self._messages if isinstance(message, ToolMessage)}
            for message in self._messages:
                for block in message.content if isinstance(message.content, list) else ():
                    if isinstance(block, dict) and (block.get("type") in _RESULTS or "toolResult" in block):
                        result = block.get("toolResult") or block
                        self._answered.add(result.get("toolUseId") or result.get("tool_use_id"))
        return tool_call_id in self._answered

    # --- Blocks of both roles ---

    def _converse_blocks(self, block: dict[str, Any]) -> list[dict[str, Any]] | None:
        """Return the Converse blocks of a block; None if langchain-aws writes it without loss."""
        kind = block.get("type")
        if kind is None:
            return self._native_blocks(block)
        if kind == "json":
            return [self._json(block.get("json"))]
        if kind in _RESULTS:
            content = self._result_content(block.get("content", block.get("output")))
            if content is None:
                return None
            return [self._result({
                "toolUseId": block.get("tool_use_id") or block.get("toolUseId") or block.get("tool_call_id"),
                "content": content or [{"text": "."}],
                "status": "error" if _is_error(block) else "success",
                **({"type": block["result_type"]} if block.get("result_type") else {}),
            })]  # fmt: skip
        media = media_block(block)
        return None if media is None else [media]

    def _native_blocks(self, block: dict[str, Any]) -> list[dict[str, Any]] | None:
        """Return a block that is already Converse's own, with its data protected; None if it needs no protection."""
        if "json" in block:
            return [self._json(block["json"])]
        if isinstance(block.get("toolUse"), dict):
            call = block["toolUse"]
            arguments = _arguments(call.get("input"))
            if not self._has_tools:
                return [{"text": _call_as_text(call.get("name") or "", arguments)}]
            return [{"toolUse": {**call, "input": protect(arguments)}}]
        if isinstance(block.get("toolResult"), dict):
            result = block["toolResult"]
            content = self._result_content(result.get("content"))
            return None if content is None else [self._result({**result, "content": content})]
        return None

    def _result(self, result: dict[str, Any]) -> dict[str, Any]:
        if self._has_tools:
            return {"toolResult": result}
        text = "".join(part["text"] for part in result["content"] if "text" in part)
        return {"text": f"[Tool output: {text}]"}

    def _result_content(self, content: Any) -> list[dict[str, Any]] | None:
        """Return the content of a tool result in Converse's form; None if langchain-aws must write a block of it."""
        blocks = [content] if isinstance(content, (str, dict)) else list(content or ())
        written: list[dict[str, Any]] = []
        for block in blocks:
            if isinstance(block, str):
                written += [{"text": block}] if block else []
            elif block.get("type") == "text" and "text" in block:
                written += [{"text": block["text"]}] if block["text"] else []
            else:
                converse = self._converse_blocks(block)
                if converse is None and "type" in block:
                    return None
                written += converse or [block]
        return written

    def _json(self, value: Any) -> dict[str, Any]:
        if self._has_tools:
            return {"json": protect(value)}
        return {"text": json.dumps(value, ensure_ascii=False, default=str)}


def _keep_blank_before_cache_point(content: Sequence[Any]) -> Iterator[Any]:
    """Yield blocks, with blank text before a cache point in Converse's form, which langchain-aws does not replace.

    Blank text is the known way to put a cache point after a text document. Bedrock accepts it (recorded with Claude
    Sonnet 4.5).
    """
    for number, block in enumerate(content):
        follows = content[number + 1] if number + 1 < len(content) else None
        if _is_blank(block) and isinstance(follows, dict) and ("cachePoint" in follows or "cache_point" in follows):
            text = block if isinstance(block, str) else block["text"]
            yield {"text": text} if text else block
        else:
            yield block


def _without_blanks(content: Iterable[Any]) -> list[Any]:
    """Return the blocks of an answer without blank text, which langchain-aws would replace by a full stop."""
    blocks = list(content)
    kept = [block for block in blocks if not _is_blank(block) or _cites(block)]
    return kept or blocks


def _is_blank(block: Any) -> bool:
    if isinstance(block, dict) and block.get("type") == "text":
        block = block.get("text")
    return isinstance(block, str) and not block.strip()


def _cites(block: Any) -> bool:
    """Return whether a text block has citations, in either version of LangChain's blocks."""
    return isinstance(block, dict) and bool(block.get("citations") or block.get("annotations"))


def _copied(block: Any) -> Any:
    """Return a copy of a block, which langchain-aws may change, without its index in a stream."""
    return {name: value for name, value in block.items() if name != "index"} if isinstance(block, dict) else block


def _as_non_standard(block: dict[str, Any]) -> dict[str, Any]:
    """Return a Converse block in a standard block of type ``non_standard``, of which langchain-aws sends the value."""
    return {"type": "non_standard", "value": block}


def _standard_blocks(message: AIMessage) -> list[Any] | None:
    try:
        return list(message.content_blocks)
    except Exception:  # noqa: BLE001 - langchain-core's translators raise any error at content of their provider
        return None


def _is_provider_specific(block: Any) -> bool:
    if not isinstance(block, dict):
        return False
    value = block.get("value")
    inner = value if block.get("type") == "non_standard" and isinstance(value, dict) else block
    return inner.get("type") in _PROVIDER_SPECIFIC


def _arguments(arguments: Any) -> Any:
    """Return the arguments of a call. Text that is not a JSON object counts as no arguments."""
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}", strict=False)
        except ValueError:
            return {}
        return arguments if isinstance(arguments, dict) else {}
    return {} if arguments is None else arguments


def _call_as_text(name: str, arguments: Any) -> str:
    # The form that langchain-aws writes.
    if not arguments:
        return f"[Called {name}]"
    return f"[Called {name} with parameters: {json.dumps(arguments, ensure_ascii=False, default=str)}]"


def _calls(blocks: Sequence[Any], tool_call_id: Any) -> bool:
    """Return whether the converted blocks contain the tool call of this id."""
    return any(
        isinstance(block, dict) and (block.get("value") or {}).get("toolUse", {}).get("toolUseId") == tool_call_id
        for block in blocks
    )


def _mentions(content: Iterable[Any], call: Mapping[str, Any]) -> bool:
    return any(isinstance(block, dict) and block.get("id") == call.get("id") for block in content)


def _is_error(block: Mapping[str, Any]) -> bool:
    return bool(block.get("is_error") or block.get("isError")) or block.get("status") == "error"


def _reasoning_parts(block: Mapping[str, Any]) -> tuple[str | None, str | None, bytes | None]:
    """Return text, signature and redacted content of a reasoning block in any form."""
    inner = block.get("reasoning_content") or block.get("reasoningContent") or {}
    text = inner.get("reasoningText") or inner.get("reasoning_text") or {}
    extras = block.get("extras") or {}
    redacted = next(
        (part[name] for part in (inner, extras) for name in ("redacted_content", "redactedContent") if part.get(name)),
        None,
    )
    return (
        inner.get("text") or text.get("text") or block.get("reasoning") or block.get("thinking"),
        inner.get("signature") or text.get("signature") or block.get("signature") or extras.get("signature"),
        _redacted_bytes(redacted),
    )


def _redacted_bytes(data: Any) -> bytes | None:
    if not isinstance(data, str):
        return data or None  # bytes, in messages of earlier versions
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        return None  # another library's form; only the bytes can be sent back
