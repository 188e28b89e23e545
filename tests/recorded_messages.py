"""Write recorded Converse requests as users of LangChain and LlamaIndex would, and compare what is sent instead.

`normalised` names all differences between two requests that mean the same to Bedrock. Whatever else differs was lost
or damaged on its way through a framework.
"""

from __future__ import annotations

import base64
import json

from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from llama_index.core.base.llms.types import (
    CacheControl,
    CachePoint,
    ChatMessage,
    CitableBlock,
    CitationBlock,
    DocumentBlock,
    ImageBlock,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
    VideoBlock,
)

_DOCUMENTS = {
    "pdf": "application/pdf", "txt": "text/plain", "csv": "text/csv", "md": "text/markdown", "html": "text/html",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}  # fmt: skip
_PLAIN_DOCUMENT = {"format", "name", "source"}


class NotExpressibleError(Exception):
    """A framework cannot express this block."""


def _media_type(kind, media):
    return f"{kind}/{media['format'].rpartition('/')[2]}"


# --- what means the same ---


def normalised(body):
    """Return a request body without members that have no effect.

    - Turns of one role in a row are one turn.
    - ``status: "success"`` of a tool result, ``toolChoice: auto``, ``ttl: "5m"`` and empty members are the defaults.
    - langchain-aws gives a tool without a description its name for one.
    - A format can be written as a media type (``video/mp4``), and that of an image is what its bytes begin with: one
      recorded PNG was called a JPEG, which `BedrockRouter` puts right.
    """
    body = {name: value for name, value in body.items() if value}
    turns = []
    for message in body.get("messages", ()):
        content = [_normalised_block(block) for block in message["content"]]
        if turns and turns[-1]["role"] == message["role"]:
            turns[-1]["content"] += content
        else:
            turns.append({"role": message["role"], "content": content})
    body["messages"] = turns
    if "system" in body:
        body["system"] = [_normalised_block(block) for block in body["system"]]
    if "toolConfig" in body:
        config = {"tools": [_normalised_tool(tool) for tool in body["toolConfig"]["tools"]]}
        choice = body["toolConfig"].get("toolChoice")
        body["toolConfig"] = {**config, **({"toolChoice": choice} if choice and "auto" not in choice else {})}
    if "inferenceConfig" in body:
        body["inferenceConfig"] = {name: value for name, value in body["inferenceConfig"].items() if value != []}
    return {name: value for name, value in body.items() if value}


def _normalised_block(block):
    if "toolResult" in block:
        result = {name: value for name, value in block["toolResult"].items() if (name, value) != ("status", "success")}
        return {"toolResult": {**result, "content": [_normalised_block(inner) for inner in result["content"]]}}
    if "cachePoint" in block:
        point = {name: value for name, value in block["cachePoint"].items() if (name, value) != ("ttl", "5m")}
        return {"cachePoint": point}
    (kind, value), *_ = block.items()
    if kind in ("image", "video", "document"):
        png = str(value["source"].get("bytes", "")).startswith("iVBORw0KGgo")
        return {kind: {**value, "format": "png" if png else value["format"].rpartition("/")[2]}}
    return block


def _normalised_tool(tool):
    if "toolSpec" not in tool:
        return _normalised_block(tool)
    spec = {name: value for name, value in tool["toolSpec"].items() if value is not None}
    if spec.get("description") == spec["name"]:
        del spec["description"]
    return {"toolSpec": spec}


def differing_members(sent, recorded):
    """Yield the member, what was sent and what was recorded, where two request bodies differ."""
    sent, recorded = normalised(sent), normalised(recorded)
    for name in sorted(sent.keys() | recorded.keys()):
        if name == "messages":
            turns = sent[name], recorded[name]
            if [turn["role"] for turn in turns[0]] != [turn["role"] for turn in turns[1]]:
                yield "roles", *turns
                continue
            for mine, theirs in zip(*turns, strict=True):
                if mine["content"] != theirs["content"]:
                    yield f"content of the {mine['role']}", mine["content"], theirs["content"]
        elif sent.get(name) != recorded.get(name):
            yield name, sent.get(name), recorded.get(name)


# --- LangChain ---


def langchain_messages(body):
    """Return the LangChain messages for the request's ``system`` and ``messages``."""
    messages = []
    if body.get("system"):
        messages.append(SystemMessage([_langchain_block(block) for block in body["system"]]))
    for turn in body["messages"]:
        if turn["role"] == "assistant":
            messages.append(_langchain_answer(turn["content"]))
            continue
        rest = []
        for block in turn["content"]:
            if "toolResult" in block:
                messages += [HumanMessage(rest)] if rest else []
                messages.append(_langchain_result(block["toolResult"]))
                rest = []
            else:
                rest.append(_langchain_block(block))
        messages += [HumanMessage(rest)] if rest else []
    return messages


def _langchain_result(result):
    content = [_langchain_block(block) for block in result["content"]]
    return ToolMessage(content, tool_call_id=result["toolUseId"], status=result.get("status", "success"))


def _langchain_block(block):
    (kind, value), *_ = block.items()
    if kind == "text":
        return {"type": "text", "text": value}
    if kind == "image":
        return {"type": "image", "mime_type": _media_type("image", value), **_langchain_source(value["source"])}
    if kind == "video":
        return {"type": "video", "mime_type": _media_type("video", value), **_langchain_source(value["source"])}
    if kind == "document" and set(value) == _PLAIN_DOCUMENT and "text" not in value["source"]:
        source = _langchain_source(value["source"])
        return {"type": "file", "mime_type": _DOCUMENTS[value["format"]], "name": value["name"], **source}
    if kind == "searchResult":
        return {"type": "search_result", **value, "content": [{"type": "text", **part} for part in value["content"]]}
    return _with_bytes(block)  # in Converse's own form, which langchain-aws takes


def _langchain_source(source):
    return {"base64": source["bytes"]} if "bytes" in source else {"url": source["s3Location"]["uri"]}


def _with_bytes(value):
    if isinstance(value, dict):
        return {
            name: base64.b64decode(inner) if name == "bytes" and isinstance(inner, str) else _with_bytes(inner)
            for name, inner in value.items()
        }
    return [_with_bytes(item) for item in value] if isinstance(value, list) else value


def _langchain_answer(content):
    blocks, calls = [], []
    for block in content:
        (kind, value), *_ = block.items()
        if kind == "toolUse" and value.get("type") == "server_tool_use":
            use = {"id": value["toolUseId"], "name": value["name"], "input": value["input"]}
            blocks.append({"type": "server_tool_use", **use})
        elif kind == "toolUse":
            calls.append({"id": value["toolUseId"], "name": value["name"], "args": value["input"]})
        elif kind == "toolResult":
            result = {"tool_use_id": value["toolUseId"], "content": value["content"], "result_type": value["type"]}
            blocks.append({"type": "tool_result", **result})
        elif kind == "reasoningContent":
            text = value.get("reasoningText") or {"redacted_content": value.get("redactedContent")}
            blocks.append({"type": "reasoning_content", "reasoning_content": text})
        elif kind == "citationsContent":
            text = "".join(part["text"] for part in value["content"])
            blocks.append({"type": "text", "text": text, "citations": value["citations"]})
        else:
            blocks.append(_langchain_block(block))
    return AIMessage(blocks, tool_calls=calls, response_metadata={"model_provider": "bedrock_converse"})


def langchain_settings(body):
    """Return the constructor's arguments for the request's other members, except tools."""
    inference = body.get("inferenceConfig") or {}
    settings = {
        "max_tokens": inference.get("maxTokens"),
        "temperature": inference.get("temperature"),
        "top_p": inference.get("topP"),
        "stop_sequences": inference.get("stopSequences"),
        "additional_model_request_fields": body.get("additionalModelRequestFields"),
        "guardrail_config": body.get("guardrailConfig"),
        "output_config": body.get("outputConfig"),
        "performance_config": body.get("performanceConfig"),
        "service_tier": (body.get("serviceTier") or {}).get("type"),
    }
    return {name: value for name, value in settings.items() if value not in (None, {}, [])}


def with_langchain_tools(llm, body):
    """Return the chat model with the request's tools bound to it."""
    config = body.get("toolConfig")
    if not config:
        return llm
    choice = config.get("toolChoice") or {}
    named = choice["tool"]["name"] if "tool" in choice else next(iter(choice), None)
    return llm.bind_tools(langchain_tools(body), tool_choice=named)


def langchain_tools(body):
    """Return the request's tools in the forms that ``bind_tools`` takes."""
    return [_langchain_tool(tool) for tool in (body.get("toolConfig") or {}).get("tools", ())]


def _langchain_tool(tool):
    if "systemTool" in tool:
        return tool["systemTool"]["name"]
    if "toolSpec" not in tool:
        return tool
    spec = tool["toolSpec"]
    function = {**spec, "parameters": spec["inputSchema"]["json"]}
    del function["inputSchema"]
    return {"type": "function", "function": function}


# --- LlamaIndex ---


def llama_index_messages(body):
    """Return the LlamaIndex messages for the request's ``system`` and ``messages``.

    Raises:
        NotExpressibleError: LlamaIndex has no block for something in it.
    """
    messages = []
    if body.get("system"):
        messages.append(ChatMessage(role="system", blocks=[_llama_block(block) for block in body["system"]]))
    for turn in body["messages"]:
        if turn["role"] == "assistant":
            messages.append(ChatMessage(role="assistant", blocks=_llama_answer(turn["content"])))
            continue
        rest = []
        for block in turn["content"]:
            if "toolResult" in block:
                messages += [ChatMessage(role="user", blocks=rest)] if rest else []
                messages.append(_llama_result(block["toolResult"]))
                rest = []
            else:
                rest.append(_llama_block(block))
        messages += [ChatMessage(role="user", blocks=rest)] if rest else []
    return messages


def _llama_result(result):
    failed = {"is_error": True} if result.get("status") == "error" else {}
    return ChatMessage(
        role="tool",
        blocks=[_llama_block(block) for block in result["content"]],
        additional_kwargs={"tool_call_id": result["toolUseId"], **failed},
    )


def _llama_block(block):
    (kind, value), *_ = block.items()
    if kind == "text":
        return TextBlock(text=value)
    if kind == "cachePoint":
        return CachePoint(cache_control=CacheControl(type="default", ttl=value.get("ttl", "5m")))
    if kind == "image":
        return ImageBlock(image_mimetype=_media_type("image", value), **_llama_source("image", value["source"]))
    if kind == "video":
        return VideoBlock(video_mimetype=_media_type("video", value), **_llama_source("video", value["source"]))
    if kind == "document":
        return _llama_document(value)
    if kind == "json":
        return DocumentBlock(data=json.dumps(value).encode(), document_mimetype="application/json")
    if kind == "searchResult" and value.get("citations", {}).get("enabled"):
        texts = [TextBlock(text=part["text"]) for part in value["content"]]
        return CitableBlock(title=value["title"], source=value["source"], content=texts)
    raise NotExpressibleError(kind)


def _llama_document(document):
    if set(document) - {"citations"} != _PLAIN_DOCUMENT or "text" in document["source"]:
        raise NotExpressibleError("a document with a context or a text")
    block = DocumentBlock(
        title=document["name"],
        document_mimetype=_DOCUMENTS[document["format"]],
        **_llama_source("data", document["source"]),
    )
    if document.get("citations", {}).get("enabled"):
        return CitableBlock(title=document["name"], source="", content=[block])
    return block


def _llama_source(name, source):
    return {name: base64.b64decode(source["bytes"])} if "bytes" in source else {"url": source["s3Location"]["uri"]}


def _llama_answer(content):
    blocks, run = [], []
    for block in content:
        (kind, value), *_ = block.items()
        if kind in ("text", "citationsContent"):
            run.append(block)
            continue
        blocks += _llama_text(run)
        run = []
        if kind == "toolUse" and value.get("type") != "server_tool_use":
            call = {"tool_call_id": value["toolUseId"], "tool_name": value["name"], "tool_kwargs": value["input"]}
            blocks.append(ToolCallBlock(**call))
        elif kind == "reasoningContent" and "reasoningText" in value:
            signed = {name: text for name, text in value["reasoningText"].items() if name == "signature"}
            blocks.append(ThinkingBlock(content=value["reasoningText"]["text"], additional_information=signed))
        elif kind == "reasoningContent":
            hidden = {"redacted_content": value["redactedContent"]}
            blocks.append(ThinkingBlock(content=None, additional_information=hidden))
        else:
            raise NotExpressibleError(kind)
    return blocks + _llama_text(run)


def _llama_text(run):
    """Return one text block, followed by the citations with the characters that each supports."""
    if all("text" in block for block in run):
        return [TextBlock(text=block["text"]) for block in run]
    text, citations = "", []
    for block in run:
        start = len(text)
        text += block.get("text") or "".join(part["text"] for part in block["citationsContent"]["content"])
        for citation in block.get("citationsContent", {}).get("citations", ()):
            citations.append(_llama_citation(citation, start, len(text)))
    return [TextBlock(text=text), *citations]


def _llama_citation(citation, start, end):
    info = {"answer_start": start, "answer_end": end}
    for kind, names in LOCATIONS.items():
        place = citation["location"].get(kind, {})
        info.update({names[member]: number for member, number in place.items()})
    quoted = "".join(part["text"] for part in citation["sourceContent"])
    return CitationBlock(
        cited_content=TextBlock(text=quoted), source="", title=citation["title"], additional_location_info=info
    )


# The members of Converse's locations, and names that distinguish their kinds: `additional_location_info` of a
# `CitationBlock` can hold numbers only.
LOCATIONS = {
    "documentChar": {"documentIndex": "document_index", "start": "start_char_index", "end": "end_char_index"},
    "documentPage": {"documentIndex": "document_index", "start": "start_page_number", "end": "end_page_number"},
    "documentChunk": {"documentIndex": "document_index", "start": "start_block_index", "end": "end_block_index"},
    "searchResultLocation": {
        "searchResultIndex": "search_result_index", "start": "start_block_index", "end": "end_block_index",
    },
}  # fmt: skip


def llama_index_settings(body):
    """Return the arguments of a call for the request's other members."""
    inference = body.get("inferenceConfig") or {}
    config = body.get("toolConfig") or {}
    choice = config.get("toolChoice") or {}
    guardrail = body.get("guardrailConfig") or {}
    settings = {
        "max_tokens": inference.get("maxTokens"),
        "temperature": inference.get("temperature"),
        "top_p": inference.get("topP"),
        "stop_sequences": inference.get("stopSequences"),
        "additional_model_request_fields": body.get("additionalModelRequestFields"),
        "guardrail_identifier": guardrail.get("guardrailIdentifier"),
        "guardrail_version": guardrail.get("guardrailVersion"),
        "trace": guardrail.get("trace"),
        "outputConfig": body.get("outputConfig"),
        "performance_config": body.get("performanceConfig"),
        "service_tier": (body.get("serviceTier") or {}).get("type"),
        "tools": config.get("tools"),
        "tool_choice": choice["tool"]["name"] if "tool" in choice else next(iter(choice), None),
    }
    return {name: value for name, value in settings.items() if value not in (None, {}, [])}
