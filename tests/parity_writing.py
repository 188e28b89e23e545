"""The rows of test_parity.py's table, and short ways to write messages for LangChain, LlamaIndex and Converse."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from langchain_core.messages import HumanMessage
from llama_index.core.base.llms.types import ChatMessage, MessageRole, TextBlock, ToolCallBlock

if TYPE_CHECKING:
    from collections.abc import Callable

    from bedrock_routing_integrations.emulator import BedrockEmulator

SYSTEM, USER, ASSISTANT, TOOL = MessageRole.SYSTEM, MessageRole.USER, MessageRole.ASSISTANT, MessageRole.TOOL
ABSENT = "(absent)"


class Own(NamedTuple):
    """A value that each framework's users write in their own way."""

    langchain: Any
    llama_index: Any


@dataclass(frozen=True)
class Written:
    """A request as a framework's user writes it: the messages, the constructor's arguments, the call's, the tools."""

    messages: list[Any]
    llm: dict[str, Any]
    call: dict[str, Any]
    tools: tuple[Any, ...]


@dataclass(frozen=True)
class Differs:
    """A member that LangChain rightly sends differently from the body: a dotted path, numbers for list items."""

    path: str
    langchain: Any
    because: str


def default_router(bedrock: BedrockEmulator) -> str:
    return bedrock.default_router("anthropic.claude:1")


@dataclass(frozen=True, kw_only=True)
class Case:
    """A request, written three times.

    Attributes:
        body: What must be on the wire, by Converse's API reference. LlamaIndex sends just that.
        langchain: How a user of LangChain writes it.
        llama_index: How a user of LlamaIndex writes it.
        target: What is called; made once.
        streams: False where the target does not stream this, and the whole answer is asked for instead.
        differs: Where LangChain's body is another one.
    """

    body: dict[str, Any]
    langchain: Written
    llama_index: Written
    target: Callable[[BedrockEmulator], str] = default_router
    streams: bool = True
    differs: tuple[Differs, ...] = ()


def case(
    body: dict[str, Any],
    messages: Own,
    *,
    llm: Own | dict[str, Any] | None = None,
    call: Own | dict[str, Any] | None = None,
    tools: Own | tuple[Any, ...] = (),
    **more: Any,
) -> Case:
    """A row. What is no `Own` is written alike in both frameworks."""

    def written(framework: str) -> Written:
        mine = (getattr(v, framework) if isinstance(v, Own) else v for v in (messages, llm or {}, call or {}, tools))
        return Written(*mine)

    return Case(body=body, langchain=written("langchain"), llama_index=written("llama_index"), **more)


def prompt(text: str, body: dict[str, Any] | None = None, **more: Any) -> Case:
    """A row whose messages are one prompt."""
    return case({"messages": [user(text)], **(body or {})}, Own([HumanMessage(text)], [turn(USER, text)]), **more)


def user(*content: Any) -> dict[str, Any]:
    return {"role": "user", "content": [{"text": block} if isinstance(block, str) else block for block in content]}


def assistant(*content: Any) -> dict[str, Any]:
    return {**user(*content), "role": "assistant"}


def turn(role: MessageRole, *blocks: Any, **additional_kwargs: Any) -> ChatMessage:
    made = [TextBlock(text=block) if isinstance(block, str) else block for block in blocks]
    return ChatMessage(role=role, blocks=made, additional_kwargs=additional_kwargs)


def text(value: str) -> dict[str, Any]:
    return {"type": "text", "text": value}


def tool_use(call_id: str, city: str) -> dict[str, Any]:
    return {"toolUse": {"toolUseId": call_id, "name": "get_weather", "input": {"city": city}}}


def langchain_call(call_id: str, city: str) -> dict[str, Any]:
    return {"name": "get_weather", "args": {"city": city}, "id": call_id, "type": "tool_call"}


def llama_index_call(call_id: str, city: str) -> ToolCallBlock:
    return ToolCallBlock(tool_call_id=call_id, tool_name="get_weather", tool_kwargs={"city": city})


def tool_result(call_id: str, *content: Any, **more: Any) -> dict[str, Any]:
    return {"toolResult": {"toolUseId": call_id, "content": user(*content)["content"], **more}}


def png() -> bytes:
    """Return a real PNG of one grey dot."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack("!I", len(data)) + kind + data + struct.pack("!I", zlib.crc32(kind + data))

    header = struct.pack("!2I5B", 1, 1, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0\x80")) + chunk(b"IEND", b"")
    )
