"""The table of test_parity.py: requests as users of LangChain, LlamaIndex and boto3 write them.

Managed prompts are not in it: a LangChain chat model refuses them (tests/test_langchain_edges.py).
"""

from __future__ import annotations

import base64
from typing import Any

from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.base.llms.types import DocumentBlock as Document
from llama_index.core.base.llms.types import ImageBlock as Image
from llama_index.core.base.llms.types import ThinkingBlock as Thinking
from llama_index.core.tools import FunctionTool
from parity_points import LLAMA_INDEX_POINT, POINT, POINTS, SONNET_37, SONNET_45
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
    png,
    prompt,
    text,
    tool_result,
    tool_use,
    turn,
    user,
)
from samples import ALICE, HAIKU, HELLO, LLAMA_8B, LLAMA_70B, NOVA_PRO, SONNET

PNG = png()
PDF = b"%PDF-1.4\n% A report of the quarter.\n"
LANGCHAIN_IMAGE = {"type": "image", "base64": base64.b64encode(PNG).decode(), "mime_type": "image/png"}
IMAGE = {"image": {"format": "png", "source": {"bytes": PNG}}}

# langchain-aws passes these to boto3 whether or not there is something in them. Bedrock takes both for absent.
EMPTY = (
    Differs("system", [], "langchain-aws always passes system"),
    Differs("inferenceConfig", {}, "langchain-aws always passes inferenceConfig"),
)
NO_STATUS = "LangChain's ToolMessage always has a status; without one Bedrock takes 'success'"
SUCCESS = Differs("messages.2.content.0.toolResult.status", "success", NO_STATUS)
JOINED = "langchain-core's merge_message_runs joins texts with a line break"
UNTITLED = "LangChain leaves pydantic's titles out of a tool's schema"

BUDGET = {"type": "enabled", "budget_tokens": 1024}
THOUGHT = {"text": "The user greets me.", "signature": "c2lnbmVk"}
GUARDRAIL = {"guardrailIdentifier": "abcdefghijkl", "guardrailVersion": "1", "trace": "enabled"}

WEATHER = "What is the weather in Paris?"


def get_weather(city: str) -> str:
    """Get the weather in a city."""
    return f"Sunny in {city}, 25 degrees."


def tool_spec(city: dict[str, Any]) -> dict[str, Any]:
    schema = {"type": "object", "properties": {"city": city}, "required": ["city"]}
    spec = {"name": "get_weather", "description": "Get the weather in a city.", "inputSchema": {"json": schema}}
    return {"tools": [{"toolSpec": spec}]}


TOOLS = tool_spec({"type": "string"})
TITLED = tool_spec({"type": "string", "title": "City"})
CITY = "toolConfig.tools.0.toolSpec.inputSchema.json.properties.city"


def answered(tool_said: Own, body: dict[str, Any], **more: Any) -> Case:
    """A tool was called, and has answered."""
    call = assistant("I will look.", tool_use("call_1", "Paris"))
    langchain = [
        HumanMessage(WEATHER),
        AIMessage("I will look.", tool_calls=[langchain_call("call_1", "Paris")]),
        tool_said.langchain,
    ]
    llama_index = [
        turn(USER, WEATHER),
        turn(ASSISTANT, "I will look.", llama_index_call("call_1", "Paris")),
        tool_said.llama_index,
    ]
    body = {"messages": [user(WEATHER), call, body], "toolConfig": TOOLS}
    return case(body, Own(langchain, llama_index), call={"toolConfig": TOOLS}, **more)


def tool_message(content: Any, **more: Any) -> ToolMessage:
    return ToolMessage(content, tool_call_id="call_1", **more)


def tool_chat_message(*blocks: Any, **more: Any) -> ChatMessage:
    return turn(TOOL, *blocks, tool_call_id="call_1", **more)


MESSAGES = {
    "plain": prompt(HELLO),
    "system and several turns": case(
        {
            "system": [{"text": "Be brief."}, {"text": "Be kind."}],
            "messages": [user("My name is Ada."), assistant("Hello Ada."), user("What is my name?")],
        },
        Own(
            [
                SystemMessage([text("Be brief."), text("Be kind.")]),
                HumanMessage("My name is Ada."), AIMessage("Hello Ada."), HumanMessage("What is my name?"),
            ],
            [
                turn(SYSTEM, "Be brief."), turn(SYSTEM, "Be kind."),
                turn(USER, "My name is Ada."), turn(ASSISTANT, "Hello Ada."), turn(USER, "What is my name?"),
            ],
        ),
    ),
    "two texts in one message": case(
        {"messages": [user("Hello.", "Who are you?")]},
        Own([HumanMessage([text("Hello."), text("Who are you?")])], [turn(USER, "Hello.", "Who are you?")]),
    ),
    "two messages of one role": case(
        {"messages": [user("Hello.", "Who are you?")]},
        Own([HumanMessage("Hello."), HumanMessage("Who are you?")], [turn(USER, "Hello."), turn(USER, "Who are you?")]),
        differs=(Differs("messages.0.content", [{"text": "Hello.\nWho are you?"}], JOINED),),
    ),
    "an image": case(
        {"messages": [user("What is this?", IMAGE)]},
        Own([HumanMessage([text("What is this?"), LANGCHAIN_IMAGE])], [turn(USER, "What is this?", Image(image=PNG))]),
    ),
    "a document": case(
        {"messages": [user("Sum up.", {"document": {"format": "pdf", "name": "report", "source": {"bytes": PDF}}})]},
        Own(
            [
                HumanMessage([
                    text("Sum up."),
                    {
                        "type": "file", "base64": base64.b64encode(PDF).decode(), "mime_type": "application/pdf",
                        "name": "report",
                    },
                ])
            ],
            [turn(USER, "Sum up.", Document(data=PDF, title="report", document_mimetype="application/pdf"))],
        ),
    ),
    "thinking in the history": case(
        {
            "messages": [
                user("Hello"), assistant({"reasoningContent": {"reasoningText": THOUGHT}}, "Hello!"), user(HELLO),
            ]
        },
        Own(
            [
                HumanMessage("Hello"),
                AIMessage([{"type": "reasoning_content", "reasoning_content": THOUGHT}, text("Hello!")]),
                HumanMessage(HELLO),
            ],
            [
                turn(USER, "Hello"),
                turn(
                    ASSISTANT,
                    Thinking(content=THOUGHT["text"], additional_information={"signature": THOUGHT["signature"]}),
                    "Hello!",
                ),
                turn(USER, HELLO),
            ],
        ),
        target=lambda bedrock: SONNET_37,
    ),
}  # fmt: skip

TOOL_USE = {
    "tools": prompt(
        WEATHER,
        {"toolConfig": TITLED},
        tools=Own(
            (tool(get_weather),),
            (FunctionTool.from_defaults(get_weather, description="Get the weather in a city."),),
        ),
        differs=(Differs(CITY, {"type": "string"}, UNTITLED),),
    ),
    "tools in Converse's words": prompt(WEATHER, {"toolConfig": TOOLS}, call={"toolConfig": TOOLS}),
    "tools on a family that does not stream them": prompt(
        WEATHER, {"toolConfig": TOOLS}, call={"toolConfig": TOOLS}, target=lambda bedrock: f"us.{LLAMA_70B}",
        streams=False,
    ),
    "a forced tool": prompt(
        "Hello",
        {"toolConfig": {**TOOLS, "toolChoice": {"tool": {"name": "get_weather"}}}},
        call=Own(
            {"tools": TOOLS["tools"], "tool_choice": "get_weather"}, {"tools": TOOLS, "tool_choice": "get_weather"}
        ),
    ),
    "any tool": prompt(
        "Hello",
        {"toolConfig": {**TOOLS, "toolChoice": {"any": {}}}},
        call=Own({"tools": TOOLS["tools"], "tool_choice": "any"}, {"tools": TOOLS, "tool_choice": "any"}),
    ),
    "a cache point behind the tools": prompt(
        WEATHER,
        {"toolConfig": {"tools": [*TOOLS["tools"], POINT]}},
        llm=Own({}, {"tool_caching": True}),
        call=Own({"tools": [*TOOLS["tools"], POINT]}, {"tools": TOOLS}),
        target=lambda bedrock: SONNET_37,
    ),
    "a tool's answer": answered(
        Own(tool_message("Sunny."), tool_chat_message("Sunny.")),
        user(tool_result("call_1", "Sunny.")),
        differs=(SUCCESS,),
    ),
    "a tool's error": answered(
        Own(tool_message("No such city.", status="error"), tool_chat_message("No such city.", is_error=True)),
        user(tool_result("call_1", "No such city.", status="error")),
    ),
    "a tool's answer in JSON": answered(
        Own(
            tool_message([{"type": "json", "json": {"degrees": 25}}]),
            tool_chat_message(Document(data=b'{"degrees": 25}', document_mimetype="application/json")),
        ),
        user(tool_result("call_1", {"json": {"degrees": 25}})),
        differs=(SUCCESS,),
    ),
    "a tool's answer with an image": answered(
        Own(tool_message([text("A map:"), LANGCHAIN_IMAGE]), tool_chat_message("A map:", Image(image=PNG))),
        user(tool_result("call_1", "A map:", IMAGE)),
        differs=(SUCCESS,),
    ),
    "a cache point behind a tool's answer": answered(
        Own(tool_message([text("Sunny."), POINT]), tool_chat_message("Sunny.", LLAMA_INDEX_POINT)),
        user(tool_result("call_1", "Sunny."), POINT),
        differs=(SUCCESS,),
        target=lambda bedrock: SONNET_45,
    ),
    "two tools' answers, and a question": case(
        {
            "messages": [
                user(WEATHER), assistant(tool_use("call_1", "Paris"), tool_use("call_2", "Rome")),
                user(tool_result("call_1", "Sunny."), tool_result("call_2", "Rainy."), "Which is better?"),
            ],
            "toolConfig": TOOLS,
        },
        Own(
            [
                HumanMessage(WEATHER),
                AIMessage("", tool_calls=[langchain_call("call_1", "Paris"), langchain_call("call_2", "Rome")]),
                ToolMessage("Sunny.", tool_call_id="call_1"), ToolMessage("Rainy.", tool_call_id="call_2"),
                HumanMessage("Which is better?"),
            ],
            [
                turn(USER, WEATHER),
                turn(ASSISTANT, llama_index_call("call_1", "Paris"), llama_index_call("call_2", "Rome")),
                turn(TOOL, "Sunny.", tool_call_id="call_1"), turn(TOOL, "Rainy.", tool_call_id="call_2"),
                turn(USER, "Which is better?"),
            ],
        ),
        call={"toolConfig": TOOLS},
        differs=(SUCCESS, Differs("messages.2.content.1.toolResult.status", "success", NO_STATUS)),
    ),
}  # fmt: skip

FIELDS = {"top_k": 40, "snake_case": {"keep_me": 1}}
ARGUMENTS = {
    "sampling parameters": prompt(
        ALICE,
        {"inferenceConfig": {"temperature": 0.0, "topP": 0.5, "maxTokens": 100}},
        llm={"temperature": 0.0, "top_p": 0.5, "max_tokens": 100},
    ),
    "sampling parameters at the call": prompt(
        HELLO,
        {"inferenceConfig": {"temperature": 0.5, "topP": 0.25, "maxTokens": 50}},
        llm={"temperature": 1.0, "max_tokens": 100},
        call={"temperature": 0.5, "top_p": 0.25, "max_tokens": 50},
    ),
    "stop sequences": prompt(
        HELLO, {"inferenceConfig": {"stopSequences": ["\n\n", "END"]}}, llm={"stop_sequences": ["\n\n", "END"]}
    ),
    "stop sequences at the call": prompt(
        HELLO, {"inferenceConfig": {"stopSequences": ["END"]}}, llm={"stop_sequences": ["."]}, call={"stop": ["END"]}
    ),
    "one stop sequence at the call": prompt(
        HELLO, {"inferenceConfig": {"stopSequences": ["END"]}}, call=Own({"stop": ["END"]}, {"stop": "END"})
    ),
    "one stop sequence": prompt(
        HELLO,
        {"inferenceConfig": {"stopSequences": ["END"]}},
        llm=Own({"stop_sequences": ["END"]}, {"additional_kwargs": {"stop": "END"}}),
    ),
    "performance_config": prompt(
        HELLO,
        {"performanceConfig": {"latency": "optimized"}},
        llm={"performance_config": {"latency": "optimized"}},
        target=lambda bedrock: f"us.{NOVA_PRO}",
    ),
    "performance_config at the call": prompt(
        HELLO,
        {"performanceConfig": {"latency": "standard"}},
        llm={"performance_config": {"latency": "optimized"}},
        call={"performance_config": {"latency": "standard"}},
    ),
    "service_tier": prompt(HELLO, {"serviceTier": {"type": "flex"}}, llm={"service_tier": "flex"}),
    "service_tier at the call": prompt(
        HELLO, {"serviceTier": {"type": "priority"}}, llm={"service_tier": "flex"}, call={"service_tier": "priority"}
    ),
    "additional model request fields": prompt(
        HELLO, {"additionalModelRequestFields": FIELDS}, llm={"additional_model_request_fields": FIELDS}
    ),
    "additional model request fields at the call": prompt(
        HELLO,
        {"additionalModelRequestFields": FIELDS},
        llm={"additional_model_request_fields": {**FIELDS, "top_k": 10}},
        call={"additional_model_request_fields": {"top_k": 40}},
    ),
    "additional model request fields unset at the call": prompt(
        HELLO,
        llm=Own({}, {"additional_model_request_fields": FIELDS}),
        call=Own({}, {"additional_model_request_fields": None}),
    ),
    "thinking": prompt(
        HELLO,
        {"additionalModelRequestFields": {"thinking": BUDGET}},
        llm=Own({"additional_model_request_fields": {"thinking": BUDGET}}, {"thinking": BUDGET}),
        target=lambda bedrock: SONNET_37,
    ),
    "guardrail": prompt(
        HELLO,
        {"guardrailConfig": GUARDRAIL},
        llm=Own(
            {"guardrail_config": GUARDRAIL},
            {"guardrail_identifier": "abcdefghijkl", "guardrail_version": "1", "trace": "enabled"},
        ),
    ),
    "request metadata and response fields": prompt(
        HELLO,
        {"requestMetadata": {"team_name": "a"}, "additionalModelResponseFieldPaths": ["/stop_sequence"]},
        llm={"request_metadata": {"team_name": "a"}, "additional_model_response_field_paths": ["/stop_sequence"]},
    ),
    "model at the call": prompt(
        HELLO, llm={"model": f"us.{NOVA_PRO}"}, call={"model": HAIKU}, target=lambda bedrock: HAIKU
    ),
}  # fmt: skip

TARGETS = {
    "router, hard prompt": prompt(ALICE),
    "router with stated models": prompt(ALICE, llm={"base_models": [HAIKU, SONNET]}),
    "router of Nova": prompt(HELLO, target=lambda bedrock: bedrock.default_router("amazon.nova:1")),
    "custom router": prompt(
        ALICE,
        target=lambda bedrock: bedrock.create_prompt_router(
            name="llamas", models=[LLAMA_8B, LLAMA_70B], fallback=LLAMA_70B
        ),
    ),
    "foundation model": prompt(HELLO, target=lambda bedrock: HAIKU),
    "system profile": prompt(HELLO, target=lambda bedrock: f"us.{HAIKU}"),
    "application profile": prompt(
        HELLO, target=lambda bedrock: bedrock.create_application_profile(name="team", copy_from=f"us.{HAIKU}")
    ),
    "provisioned model": prompt(HELLO, target=lambda bedrock: bedrock.add_provisioned_model(HAIKU)),
}

CASES = {**MESSAGES, **POINTS, **TOOL_USE, **ARGUMENTS, **TARGETS}
