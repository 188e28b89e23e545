"""Test which tool calls of an answer are the caller's, by Bedrock's ``type``."""

from __future__ import annotations

import pytest
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.base.llms.types import ChatMessage, TextBlock, ToolCallBlock
from llama_index.core.prompts import PromptTemplate
from llama_index.core.tools import FunctionTool
from llama_index_forms import user
from pydantic import BaseModel
from samples import HAIKU
from scripted_bedrock import ScriptedBedrock, block_stop, call_delta, stream_of, text, whole_of

from bedrock_routing_integrations.llama_index import BedrockRouter


class City(BaseModel):
    name: str


def use(kind, name="get_weather", arguments=None, call_id="t1"):
    typed = {} if kind is None else {"type": kind}
    return {"toolUse": {"toolUseId": call_id, "name": name, "input": arguments or {"city": "Rome"}, **typed}}


def streamed(*blocks, stop="tool_use"):
    """The events with which a stream brings these text, toolUse and toolResult blocks."""
    events = []
    for index, block in enumerate(blocks):
        if "text" in block:
            events.append(text(index, block["text"]))
        elif "toolUse" in block:
            start = {name: value for name, value in block["toolUse"].items() if name != "input"}
            events.append(("contentBlockStart", {"contentBlockIndex": index, "start": {"toolUse": start}}))
            events.append(call_delta(index, '{"city": "Rome"}'))
        else:
            result = block["toolResult"]
            start = {name: value for name, value in result.items() if name != "content"}
            events.append(("contentBlockStart", {"contentBlockIndex": index, "start": {"toolResult": start}}))
            delta = {"toolResult": result["content"]}
            events.append(("contentBlockDelta", {"contentBlockIndex": index, "delta": delta}))
        events.append(block_stop(index))
    return stream_of(*events, stop=stop)


def answer(blocks, *, stream, stop="tool_use"):
    return streamed(*blocks, stop=stop) if stream else whole_of(*blocks, stop=stop)


FORMS = ("chat", "achat", "stream_chat", "astream_chat")


async def ask(server, form, messages=None):
    llm = BedrockRouter(model=HAIKU, **server.arguments)
    response = getattr(llm, form)(messages or user("Weather in Rome?"))
    response = await response if form.startswith("a") else response
    if "stream" in form:
        return ([chunk async for chunk in response] if form.startswith("a") else list(response))[-1]
    return response


def calls_of(response):
    return [b.tool_call_id for b in response.message.blocks if isinstance(b, ToolCallBlock)]


@pytest.mark.sample(8)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", [None, "tool_use", "a_type_of_2027"])
async def test_chat_returns_callers_tool_call_of_any_type(form, kind):
    with ScriptedBedrock(answer([use(kind)], stream="stream" in form)) as server:
        response = await ask(server, form)
    assert calls_of(response) == ["t1"]
    assert [call["toolUseId"] for call in response.message.additional_kwargs["tool_calls"]] == ["t1"]


SERVER_CALL = use("server_tool_use", "nova_code_interpreter", {"city": "Rome"}, "s1")
SERVER_RESULT = {
    "toolResult": {"toolUseId": "s1", "type": "nova_code_interpreter_result", "status": "success", "content": []}
}


@pytest.mark.parametrize("form", FORMS)
async def test_chat_keeps_server_tool_calls_in_raw_only(form):
    blocks = [SERVER_CALL, SERVER_RESULT, {"text": "Sunny, says the code."}, use("tool_use")]
    with ScriptedBedrock(answer(blocks, stream="stream" in form)) as server:
        response = await ask(server, form)
    assert calls_of(response) == ["t1"], "decided for each block"
    assert [list(block) for block in response.raw["output"]["message"]["content"]] == [list(block) for block in blocks]


@pytest.mark.parametrize("form", FORMS)
async def test_chat_sends_history_with_server_tool_calls_validly(form):
    first = answer([SERVER_CALL, SERVER_RESULT, {"text": "It is sunny."}], stream="stream" in form, stop="end_turn")
    with ScriptedBedrock(first, answer([{"text": "ok"}], stream="stream" in form, stop="end_turn")) as server:
        response = await ask(server, form)
        await ask(server, form, [*user("a"), response.message, *user("b")])
        sent = server.requests[-1]["messages"]
    assert [list(block) for message in sent for block in message["content"]] == [["text"]] * 3
    assert response.message.blocks == [TextBlock(text="It is sunny.")]


@pytest.mark.parametrize("streaming", [True, False])
async def test_agent_runs_typed_tool_call(streaming):
    ran = []

    def get_weather(city: str) -> str:
        """Get the weather."""
        ran.append(city)
        return "sunny"

    def reply(request):
        results = [b for message in request["messages"] for b in message["content"] if "toolResult" in b]
        blocks = [{"text": "Sunny."}] if results else [SERVER_CALL, SERVER_RESULT, use("tool_use")]
        return answer(blocks, stream=streaming, stop="end_turn" if results else "tool_use")

    with ScriptedBedrock(reply) as server:
        llm = BedrockRouter(model=HAIKU, **server.arguments)
        agent = FunctionAgent(tools=[FunctionTool.from_defaults(get_weather)], llm=llm, streaming=streaming)
        assert str(await agent.run("Weather in Rome?")) == "Sunny."
    assert ran == ["Rome"]


@pytest.mark.parametrize("stream", [True, False])
async def test_structured_predict_reads_typed_tool_call(stream):
    call = use("tool_use", "City", {"name": "Rome"})
    start = {"toolUse": {"toolUseId": "t1", "name": "City", "type": "tool_use"}}
    started = ("contentBlockStart", {"contentBlockIndex": 0, "start": start})
    events = [started, call_delta(0, '{"name": "Rome"}'), block_stop(0)]
    with ScriptedBedrock(stream_of(*events, stop="tool_use") if stream else whole_of(call, stop="tool_use")) as server:
        llm = BedrockRouter(model=HAIKU, **server.arguments)
        if stream:
            cities = [
                list(llm.stream_structured_predict(City, PromptTemplate("Where?")))[-1],
                [c async for c in await llm.astream_structured_predict(City, PromptTemplate("Where?"))][-1],
            ]
        else:
            cities = [
                llm.structured_predict(City, PromptTemplate("Where?")),
                await llm.astructured_predict(City, PromptTemplate("Where?")),
            ]
    assert cities == [City(name="Rome")] * 2


def test_chat_message_with_typed_call_survives_json():
    with ScriptedBedrock(whole_of(use("tool_use"), stop="tool_use"), whole_of({"text": "ok"})) as server:
        llm = BedrockRouter(model=HAIKU, **server.arguments)
        message = llm.chat(user("a")).message
        kept = ChatMessage.model_validate_json(message.model_dump_json())
        result = ChatMessage(role="tool", content="sunny", additional_kwargs={"tool_call_id": "t1"})
        tool = FunctionTool.from_defaults(lambda city: city, name="get_weather", description="The weather.")
        llm.chat([*user("a"), kept, result], tools=[tool])
        sent = server.requests[-1]["messages"][1]["content"]
    assert sent == [{"toolUse": {"toolUseId": "t1", "name": "get_weather", "input": {"city": "Rome"}}}]
