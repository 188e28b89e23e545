"""Test the tool calls of an answer that was cut off: equal in both frameworks, streamed or not."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from samples import HAIKU
from scripted_bedrock import ScriptedBedrock, block_stop, call_delta, call_start, stream_of, text, whole_of

from bedrock_routing_integrations.errors import ToolCallError
from bedrock_routing_integrations.langchain import ChatBedrockRouter
from bedrock_routing_integrations.llama_index import BedrockRouter
from bedrock_routing_integrations.transport.answer_validation import CUT_OFF, NEVER_COMPLETE, is_incomplete_call

STOPPED = ("stop_sequence",)
HALF, WHOLE = '{"city": "Par', '{"city": "Paris"}'
NESTED = '{"a": [1, {"b": "x"}], "c": 2}'
TOOL = {"toolSpec": {"name": "find", "description": "Find.", "inputSchema": {"json": {"type": "object"}}}}


def find(city: str = "") -> str:
    """Find."""
    return city


def merged(chunks):
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    return whole


async def calls_of_langchain(server, way, model=HAIKU):
    llm = ChatBedrockRouter(model=model, cache="off", **server.arguments).bind_tools([TOOL])
    if way == "whole":
        answers = [llm.invoke("x"), await llm.ainvoke("x")]
    else:
        answers = [merged(list(llm.stream("x"))), merged([chunk async for chunk in llm.astream("x")])]
    for answer in answers:
        assert len(answer.tool_calls) + len(answer.invalid_tool_calls) == len(answers[0].tool_calls) + len(
            answers[0].invalid_tool_calls
        )
        for call in answer.invalid_tool_calls:
            assert (call["id"], call["name"]) == ("t1", "find")
            if way == "whole":
                assert CUT_OFF[answer.response_metadata["stopReason"]] in call["error"]
    first, second = ([call["args"] for call in answer.tool_calls] for answer in answers)
    assert first == second
    return first


async def calls_of_llama_index(server, way, model=HAIKU):
    llm = BedrockRouter(model, cache="off", **server.arguments)
    tools, history = [FunctionTool.from_defaults(find)], [ChatMessage(content="x")]
    if way == "whole":
        answers = [llm.chat_with_tools(tools, chat_history=history)]
        answers.append(await llm.achat_with_tools(tools, chat_history=history))
    else:
        *_, last = llm.stream_chat_with_tools(tools, chat_history=history)
        chunks = await llm.astream_chat_with_tools(tools, chat_history=history)
        answers = [last, [chunk async for chunk in chunks][-1]]
    calls = []
    for answer in answers:
        if all(
            isinstance(block.tool_kwargs, dict) for block in answer.message.blocks if block.block_type == "tool_call"
        ):
            calls.append([call.tool_kwargs for call in llm.get_tool_calls_from_response(answer)])
            continue
        with pytest.raises(ToolCallError, match=re.escape(CUT_OFF[answer.raw["stopReason"]])):
            llm.get_tool_calls_from_response(answer)
        calls.append([])
    assert calls[0] == calls[1]
    return calls[0]


FRAMEWORKS = pytest.mark.parametrize("calls_of", [calls_of_langchain, calls_of_llama_index])
EACH_REASON = pytest.mark.parametrize("stop", [*sorted(NEVER_COMPLETE), *STOPPED])


def streamed_call(*parts, closed, stop, after=()):
    end = [block_stop(0)] if closed else []
    return stream_of(call_start(0, "t1", "find"), *(call_delta(0, part) for part in parts), *end, *after, stop=stop)


@pytest.mark.sample(16)
@FRAMEWORKS
@EACH_REASON
@pytest.mark.parametrize("closed", [True, False])
@pytest.mark.parametrize("parts", [(HALF[:8], HALF[8:]), (HALF,), ()])
async def test_half_a_streamed_call_is_not_a_call(calls_of, stop, closed, parts):
    with ScriptedBedrock(streamed_call(*parts, closed=closed, stop=stop)) as server:
        assert await calls_of(server, "streamed") == []


@pytest.mark.sample(10)
@FRAMEWORKS
@EACH_REASON
@pytest.mark.parametrize("closed", [True, False])
async def test_whole_streamed_call_is_a_call_once_closed(calls_of, stop, closed):
    with ScriptedBedrock(streamed_call(WHOLE[:9], WHOLE[9:], closed=closed, stop=stop)) as server:
        assert await calls_of(server, "streamed") == ([{"city": "Paris"}] if closed and stop in STOPPED else [])


@pytest.mark.sample(10)
@FRAMEWORKS
@EACH_REASON
@pytest.mark.parametrize("arguments", [{}, {"city": "Par"}])
async def test_last_call_of_whole_answer_is_not_a_call(calls_of, stop, arguments):
    call = {"toolUse": {"toolUseId": "t1", "name": "find", "input": arguments}}
    with ScriptedBedrock(whole_of({"text": "Let me see."}, call, stop=stop)) as server:
        assert await calls_of(server, "whole") == []


@FRAMEWORKS
@EACH_REASON
async def test_last_call_of_replayed_converse_response_is_not_a_call(calls_of, stop):
    """Mistral Large takes no tools in ConverseStream, so the stream replays Converse's answer."""
    call = {"toolUse": {"toolUseId": "t1", "name": "find", "input": {"city": "Par"}}}
    with ScriptedBedrock(whole_of(call, stop=stop)) as server:
        assert await calls_of(server, "streamed", "mistral.mistral-large-2402-v1:0") == []


@FRAMEWORKS
@pytest.mark.parametrize("way", ["whole", "streamed"])
async def test_call_before_a_text_stays_a_call(calls_of, way):
    call = {"toolUse": {"toolUseId": "t1", "name": "find", "input": {"city": "Paris"}}}
    after = (text(1, "Blocked."), block_stop(1))
    answers = {
        "whole": whole_of(call, {"text": "Blocked."}, stop="guardrail_intervened"),
        "streamed": streamed_call(WHOLE, closed=True, stop="guardrail_intervened", after=after),
    }
    with ScriptedBedrock(answers[way]) as server:
        assert await calls_of(server, way) == [{"city": "Paris"}]


@FRAMEWORKS
@pytest.mark.parametrize("closed", [True, False])
async def test_half_a_call_before_guardrail_message_is_not_a_call(calls_of, closed):
    after = (text(1, "Blocked."), block_stop(1))
    with ScriptedBedrock(streamed_call(HALF, closed=closed, stop="guardrail_intervened", after=after)) as server:
        assert await calls_of(server, "streamed") == []


@FRAMEWORKS
@pytest.mark.parametrize("way", ["whole", "streamed"])
async def test_call_of_answer_that_ended_by_itself_is_a_call(calls_of, way):
    call = {"toolUse": {"toolUseId": "t1", "name": "find", "input": {}}}
    answers = {"whole": whole_of(call, stop="tool_use"), "streamed": streamed_call(closed=True, stop="tool_use")}
    with ScriptedBedrock(answers[way]) as server:
        assert await calls_of(server, way) == [{}]


@given(st.integers(0, len(NESTED)), st.sampled_from(STOPPED))
def test_no_part_of_an_object_is_whole(cut, stop):
    assert is_incomplete_call(stop, NESTED[:cut], is_closed=True) == (cut < len(NESTED))
