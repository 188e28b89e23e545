"""The rows of test_parity.py with cache points: those Bedrock accepts, and those repaired before it refuses them."""

from __future__ import annotations

import base64
from typing import Any

from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from llama_index.core.base.llms.types import CacheControl, CachePoint
from llama_index.core.base.llms.types import DocumentBlock as Document
from llama_index.core.base.llms.types import ThinkingBlock as Thinking
from parity_writing import (
    ASSISTANT,
    SYSTEM,
    TOOL,
    USER,
    Case,
    Differs,
    Own,
    assistant,
    case,
    langchain_call,
    llama_index_call,
    text,
    tool_result,
    tool_use,
    turn,
    user,
)
from samples import HAIKU, HELLO, NOVA_PRO

# These cache prompts, the first for an hour too.
SONNET_45 = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
SONNET_37 = "us.anthropic.claude-3-7-sonnet-20250219-v1:0"

POINT = {"cachePoint": {"type": "default"}}
HOUR = {"cachePoint": {"type": "default", "ttl": "1h"}}
LLAMA_INDEX_POINT = CachePoint(cache_control=CacheControl(type="default"))
LLAMA_INDEX_HOUR = CachePoint(cache_control=CacheControl(type="default", ttl="1h"))

THOUGHT = {"text": "The user greets me.", "signature": "c2lnbmVk"}
NOTE = b"A note of the quarter."
SPEC = {"toolSpec": {"name": "get_weather", "inputSchema": {"json": {"type": "object"}}}}


def pointed(body: dict[str, Any], langchain: list[Any], llama_index: list[Any], target: str, **more: Any) -> Case:
    return case(body, Own(langchain, llama_index), target=lambda bedrock: target, **more)


POINTS = {
    "cache points": case(
        {
            "system": [{"text": "Be brief."}, HOUR],
            "messages": [user("A long story.", POINT), assistant("I see."), user(HELLO)],
        },
        Own(
            [
                SystemMessage([text("Be brief."), HOUR]),
                HumanMessage([text("A long story."), POINT]), AIMessage("I see."), HumanMessage(HELLO),
            ],
            [
                turn(SYSTEM, "Be brief.", LLAMA_INDEX_HOUR),
                turn(USER, "A long story.", LLAMA_INDEX_POINT), turn(ASSISTANT, "I see."), turn(USER, HELLO),
            ],
        ),
        target=lambda bedrock: SONNET_45,
    ),
    "a cache point behind the system": case(
        {"system": [{"text": "Be brief."}, POINT], "messages": [user(HELLO)]},
        Own(
            [SystemMessage([text("Be brief."), POINT]), HumanMessage(HELLO)],
            [turn(SYSTEM, "Be brief."), turn(USER, HELLO)],
        ),
        llm=Own({}, {"system_prompt_caching": True}),
        target=lambda bedrock: SONNET_37,
    ),
    "an hour after five minutes": pointed(
        {"system": [{"text": "Be brief."}, HOUR], "messages": [user(HELLO, HOUR)]},
        [SystemMessage([text("Be brief."), POINT]), HumanMessage([text(HELLO), HOUR])],
        [turn(SYSTEM, "Be brief.", LLAMA_INDEX_POINT), turn(USER, HELLO, LLAMA_INDEX_HOUR)],
        SONNET_45,
    ),
    "an hour where five minutes are offered": pointed(
        {"messages": [user(HELLO, POINT)]},
        [HumanMessage([text(HELLO), HOUR])],
        [turn(USER, HELLO, LLAMA_INDEX_HOUR)],
        SONNET_37,
    ),
    "cache points for a model that takes none": pointed(
        {"system": [{"text": "Be brief."}], "messages": [user(HELLO)]},
        [SystemMessage([text("Be brief."), POINT]), HumanMessage([text(HELLO), POINT])],
        [turn(SYSTEM, "Be brief.", LLAMA_INDEX_POINT), turn(USER, HELLO, LLAMA_INDEX_POINT)],
        HAIKU,
    ),
    "a cache point with nothing before it": pointed(
        {"system": [{"text": "Be brief."}], "messages": [user(HELLO, POINT)]},
        [SystemMessage([POINT, text("Be brief.")]), HumanMessage([POINT, text(HELLO), POINT, POINT])],
        [
            turn(SYSTEM, LLAMA_INDEX_POINT, "Be brief."),
            turn(USER, LLAMA_INDEX_POINT, HELLO, LLAMA_INDEX_POINT, LLAMA_INDEX_POINT),
        ],
        SONNET_37,
    ),
    "five cache points": pointed(
        {
            "system": [{"text": "Be brief."}, POINT],
            "messages": [user("One", "Two", POINT, "Three", POINT, "Four", POINT)],
        },
        [
            SystemMessage([text("Be brief."), POINT]),
            HumanMessage([text("One"), POINT, text("Two"), POINT, text("Three"), POINT, text("Four"), POINT]),
        ],
        [
            turn(SYSTEM, "Be brief.", LLAMA_INDEX_POINT),
            turn(
                USER, "One", LLAMA_INDEX_POINT, "Two", LLAMA_INDEX_POINT, "Three", LLAMA_INDEX_POINT, "Four",
                LLAMA_INDEX_POINT,
            ),
        ],
        SONNET_37,
    ),
    "a cache point after thinking": pointed(
        {
            "messages": [
                user("Hello"), assistant({"reasoningContent": {"reasoningText": THOUGHT}}, "Hello!", POINT),
                user(HELLO),
            ]
        },
        [
            HumanMessage("Hello"),
            AIMessage([{"type": "reasoning_content", "reasoning_content": THOUGHT}, POINT, text("Hello!"), POINT]),
            HumanMessage(HELLO),
        ],
        [
            turn(USER, "Hello"),
            turn(
                ASSISTANT,
                Thinking(content=THOUGHT["text"], additional_information={"signature": THOUGHT["signature"]}),
                LLAMA_INDEX_POINT, "Hello!", LLAMA_INDEX_POINT,
            ),
            turn(USER, HELLO),
        ],
        SONNET_37,
    ),
    "a cache point after a document that is no PDF": pointed(
        {
            "messages": [
                user("Sum up.", POINT, {"document": {"format": "txt", "name": "note", "source": {"bytes": NOTE}}})
            ]
        },
        [
            HumanMessage([
                text("Sum up."), POINT,
                {
                    "type": "file", "base64": base64.b64encode(NOTE).decode(), "mime_type": "text/plain",
                    "name": "note",
                },
                POINT,
            ])
        ],
        [
            turn(
                USER, "Sum up.", LLAMA_INDEX_POINT,
                Document(data=NOTE, title="note", document_mimetype="text/plain"), LLAMA_INDEX_POINT,
            )
        ],
        SONNET_45,
    ),
    "cache points in Nova's tools and after its results": pointed(
        {
            "messages": [
                user("Weather?", POINT), assistant(tool_use("call_1", "Paris")), user(tool_result("call_1", "Sunny.")),
            ],
            "toolConfig": {"tools": [SPEC]},
        },
        [
            HumanMessage([text("Weather?"), POINT]),
            AIMessage("", tool_calls=[langchain_call("call_1", "Paris")]),
            ToolMessage([text("Sunny."), POINT], tool_call_id="call_1"),
        ],
        [
            turn(USER, "Weather?", LLAMA_INDEX_POINT), turn(ASSISTANT, llama_index_call("call_1", "Paris")),
            turn(TOOL, "Sunny.", LLAMA_INDEX_POINT, tool_call_id="call_1"),
        ],
        f"us.{NOVA_PRO}",
        call={"toolConfig": {"tools": [SPEC, POINT]}},
        differs=(
            Differs("messages.2.content.0.toolResult.status", "success", "LangChain's ToolMessage always has a status"),
        ),
    ),
}  # fmt: skip
