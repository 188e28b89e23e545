"""Convert prompts and answers to the form of the semantic conventions (``gen-ai-input-messages.json`` and others).

Roles are Converse's own. Images, documents and videos are recorded by their kind and size, never their bytes.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

_MEDIA = ("image", "document", "video", "audio")
_FINISHED = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_call",
    "guardrail_intervened": "content_filter",
    "content_filtered": "content_filter",
}


def of_request(request: Mapping[str, Any]) -> dict[str, str]:
    """Return the attributes with the content of a Converse request."""
    parts = {
        "gen_ai.system_instructions": _parts(request.get("system")),
        "gen_ai.input.messages": [_message(message) for message in request.get("messages") or ()],
    }
    return {name: _json(value) for name, value in parts.items() if value}


def of_answer(response: Mapping[str, Any]) -> dict[str, str]:
    """Return the attribute with the content of an answer.

    Args:
        response: A Converse response, or the parts of a stream that have arrived, in the same shape.
    """
    message = (response.get("output") or {}).get("message") or {}
    if not message.get("content"):
        return {}
    reason = response.get("stopReason") or "error"  # required by the schema; a stream that was cut off has none
    return {"gen_ai.output.messages": _json([{**_message(message), "finish_reason": _FINISHED.get(reason, reason)}])}


def of_query(request: Mapping[str, Any]) -> dict[str, str]:
    """Return the attribute with the text of a Retrieve's query. Images are not recorded."""
    text = (request.get("retrievalQuery") or {}).get("text")
    return {"gen_ai.retrieval.query.text": text} if isinstance(text, str) else {}


def of_question(request: Mapping[str, Any]) -> dict[str, str]:
    """Return the attribute with the question of a RetrieveAndGenerate."""
    text = (request.get("input") or {}).get("text")
    if not isinstance(text, str):
        return {}
    return {"gen_ai.input.messages": _json([{"role": "user", "parts": [{"type": "text", "content": text}]}])}


def of_generated(response: Mapping[str, Any]) -> dict[str, str]:
    """Return the attribute with the answer of a RetrieveAndGenerate. Streams are not recorded."""
    text = (response.get("output") or {}).get("text")
    if not isinstance(text, str):
        return {}
    parts = [{"type": "text", "content": text}]
    return {"gen_ai.output.messages": _json([{"role": "assistant", "parts": parts, "finish_reason": "stop"}])}


def of_results(response: Mapping[str, Any]) -> dict[str, str]:
    """Return the attribute with the source and the score of each passage. Their text is not recorded."""
    documents = []
    for result in response.get("retrievalResults") or ():
        metadata = result.get("metadata") or {}
        location = next((each for each in (result.get("location") or {}).values() if isinstance(each, dict)), {})
        document = {
            "id": metadata.get("x-amz-bedrock-kb-chunk-id") or location.get("uri") or location.get("url"),
            "score": result.get("score"),
        }
        documents.append({name: value for name, value in document.items() if isinstance(value, (str, float, int))})
    return {"gen_ai.retrieval.documents": _json(documents)} if documents else {}


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    return {"role": message.get("role") or "assistant", "parts": _parts(message.get("content"))}


def _parts(blocks: Iterable[Mapping[str, Any]] | None) -> list[dict[str, Any]]:
    return [_part(block) for block in blocks or () if "cachePoint" not in block]


def _part(block: Mapping[str, Any]) -> dict[str, Any]:
    kind, body = next(iter(block.items()), ("unknown", {}))
    if kind in _MEDIA:
        return _media(kind, body)
    read = _READERS.get(kind)
    return read(body) if read else {"type": kind}


def _tool_call(body: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "tool_call", "id": body.get("toolUseId"), "name": body.get("name"), "arguments": body.get("input")}


def _tool_result(body: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "tool_call_response", "id": body.get("toolUseId"), "response": _response(body.get("content"))}


def _reasoning(body: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "reasoning", "content": (body.get("reasoningText") or {}).get("text", "")}


def _guarded(body: Mapping[str, Any]) -> dict[str, Any]:
    return _text(body["text"].get("text", "")) if "text" in body else {"type": "image"}


def _cited(body: Mapping[str, Any]) -> dict[str, Any]:
    return _text("".join(part.get("text", "") for part in body.get("content") or ()))


def _response(content: Iterable[Mapping[str, Any]] | None) -> Any:
    """Return the result of a tool: its text or its JSON if there is nothing else."""
    parts = [block["json"] if "json" in block else _part(block) for block in content or ()]
    only = parts[0] if len(parts) == 1 else parts
    return only["content"] if isinstance(only, dict) and only.get("type") == "text" else only


def _media(kind: str, body: Mapping[str, Any]) -> dict[str, Any]:
    source = body.get("source") or {}
    known = {name: body[name] for name in ("format", "name") if name in body}
    if "s3Location" in source:
        return {"type": "uri", "modality": kind, "uri": source["s3Location"].get("uri"), **known}
    if "bytes" in source:
        known["size"] = len(source["bytes"])
    return {"type": kind, **known}


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "content": text}


_READERS: dict[str, Callable[[Any], dict[str, Any]]] = {
    "text": _text,
    "toolUse": _tool_call,
    "toolResult": _tool_result,
    "reasoningContent": _reasoning,
    "guardContent": _guarded,
    "citationsContent": _cited,
}


def _json(value: Any) -> str:
    # A lone surrogate cannot be exported as UTF-8. It is escaped as in ASCII-only JSON.
    return json.dumps(value, ensure_ascii=False, default=str).encode("utf-8", "backslashreplace").decode()
