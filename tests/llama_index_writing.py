"""Short ways to write LlamaIndex's messages, and what they become."""

from __future__ import annotations

from llama_index.core.base.llms.types import (
    CacheControl,
    CachePoint,
    ChatMessage,
    DocumentBlock,
    TextBlock,
    ToolCallBlock,
)

from bedrock_routing_integrations.llama_index.messages import to_converse

PNG = b"\x89PNG\r\n\x1a\n" + bytes(16)
CALL = ToolCallBlock(tool_call_id="call-1", tool_name="add", tool_kwargs={"a": 1})
USE = {"toolUse": {"toolUseId": "call-1", "name": "add", "input": {"a": 1}}}
ADD = {"tools": [{"toolSpec": {"name": "add", "inputSchema": {"json": {"type": "object"}}}}]}


def user(*blocks):
    return ChatMessage(role="user", blocks=[TextBlock(text=b) if isinstance(b, str) else b for b in blocks])


def assistant(*blocks, **said):
    blocks = [TextBlock(text=b) if isinstance(b, str) else b for b in blocks]
    return ChatMessage(role="assistant", blocks=blocks, additional_kwargs=said)


def result(*blocks, call_id="call-1", role="tool", **said):
    blocks = [TextBlock(text=b) if isinstance(b, str) else b for b in blocks]
    return ChatMessage(role=role, blocks=blocks, additional_kwargs={"tool_call_id": call_id, **said})


def point(ttl="5m"):
    return CachePoint(cache_control=CacheControl(type="default", ttl=ttl))


def contents(*messages, **options):
    return [message["content"] for message in to_converse(messages, **options)[0]]


def document(**fields):
    return DocumentBlock(**{"data": b"Alice has a brother.", "document_mimetype": "text/plain", **fields})
