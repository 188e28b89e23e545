"""Tools through `BedrockRouter`, as LlamaIndex's users call them."""

from __future__ import annotations

import json
import logging

import pytest
from llama_index.core.base.llms.types import ChatMessage, ChatResponse, ToolCallBlock
from llama_index.core.tools import FunctionTool
from llama_index_forms import user
from samples import HAIKU, SONNET
from scripted_bedrock import ScriptedBedrock, block_stop, call_delta, call_start, stream_of, text, whole_of

from bedrock_routing_integrations.errors import InvalidRequestError, ToolCallError
from bedrock_routing_integrations.llama_index import BedrockRouter

ROUTERS = ("anthropic.claude:1", "amazon.nova:1", "meta.llama:1")
QUESTION = "What is the weather in Paris?"
TWO_QUESTIONS = "What is the weather in Paris, and what is 2 + 3?"
THINKER = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"


@pytest.fixture
def ran():
    """The calls that were executed."""
    return []


@pytest.fixture
def tools(ran):
    def get_weather(city: str) -> str:
        """Get the weather in a city."""
        ran.append(("get_weather", city))
        return f"Sunny in {city}, 25 degrees."

    def add(a: int, b: int) -> int:
        """Add two numbers."""
        ran.append(("add", a, b))
        return a + b

    return [FunctionTool.from_defaults(get_weather), FunctionTool.from_defaults(add)]


@pytest.fixture(params=ROUTERS)
def llm(bedrock, request):
    return BedrockRouter(model=bedrock.default_router(request.param))


async def ask_with_tools(llm, form, tools, question=None, **call):
    """The response of one of the four ways to ask with tools; of a streamed one, the last."""
    answer = getattr(llm, form)(tools, question, **call)
    if form.startswith("a"):
        answer = await answer
    if "stream" not in form:
        return answer
    return [chunk async for chunk in answer][-1] if form.startswith("a") else list(answer)[-1]


WITH_TOOLS = ("chat_with_tools", "achat_with_tools", "stream_chat_with_tools", "astream_chat_with_tools")


def calls_in(llm, response, **more):
    return [(call.tool_name, call.tool_kwargs) for call in llm.get_tool_calls_from_response(response, **more)]


# --- on the models of the emulator ---


@pytest.mark.sample(6)
@pytest.mark.parametrize("form", WITH_TOOLS)
async def test_a_tool_is_called_on_every_family(bedrock, llm, tools, form):
    response = await ask_with_tools(llm, form, tools, QUESTION)
    assert calls_in(llm, response) == [("get_weather", {"city": "Paris"})]
    assert response.additional_kwargs["routing"]["requested_model_id"] == llm.model
    request = bedrock.requests()[-1].request
    assert "toolChoice" not in request["toolConfig"]
    spec = request["toolConfig"]["tools"][0]["toolSpec"]
    assert spec["name"] == "get_weather"
    assert spec["description"] == tools[0].metadata.description
    assert spec["inputSchema"]["json"]["required"] == ["city"]


@pytest.mark.sample(6)
@pytest.mark.parametrize("form", WITH_TOOLS)
async def test_several_calls_come_at_once_where_they_are_allowed(llm, tools, form):
    response = await ask_with_tools(llm, form, tools, TWO_QUESTIONS, allow_parallel_tool_calls=True)
    both = [("get_weather", {"city": "Paris"}), ("add", {"a": 2, "b": 3})]
    assert calls_in(llm, response) == both
    assert len({call.tool_id for call in llm.get_tool_calls_from_response(response)}) == 2


@pytest.mark.sample(6)
@pytest.mark.parametrize("form", WITH_TOOLS)
async def test_only_first_call_is_left_without_parallel_calls(llm, tools, form):
    response = await ask_with_tools(llm, form, tools, TWO_QUESTIONS, allow_parallel_tool_calls=False)
    assert calls_in(llm, response) == [("get_weather", {"city": "Paris"})]
    assert len(response.message.additional_kwargs["tool_calls"]) == 1
    assert sum("toolUse" in block for block in response.raw["output"]["message"]["content"]) == 2


def test_chat_takes_allow_parallel_tool_calls_itself(llm, tools):
    response = llm.chat(user(TWO_QUESTIONS), tools=tools, allow_parallel_tool_calls=False)
    assert calls_in(llm, response) == [("get_weather", {"city": "Paris"})]
    assert len(calls_in(llm, llm.chat(user(TWO_QUESTIONS), tools=tools, allow_parallel_tool_calls=True))) == 2
    assert len(calls_in(llm, llm.chat(user(TWO_QUESTIONS), tools=tools))) == 2


def test_answer_to_tool_result_is_requested_with_history(bedrock, llm, tools):
    asked = llm.chat_with_tools(tools, QUESTION)
    (call,) = llm.get_tool_calls_from_response(asked)
    result = ChatMessage(role="tool", content="Sunny, 25 degrees.", additional_kwargs={"tool_call_id": call.tool_id})
    history = [*user(QUESTION), asked.message, result]
    before = [message.model_copy(deep=True) for message in history]
    response = llm.chat_with_tools(tools, chat_history=history)
    assert "25 degrees" in response.message.content
    assert history == before
    assert [message["role"] for message in bedrock.requests()[-1].request["messages"]] == ["user", "assistant", "user"]


async def test_predict_and_call_runs_the_tool(llm, tools, ran):
    for answer in (
        llm.predict_and_call(tools, "What is 2 + 3?"),
        await llm.apredict_and_call(tools, "What is 2 + 3?"),
    ):
        assert answer.response == "5"
    assert ran == [("add", 2, 3)] * 2
    answer = await llm.apredict_and_call(tools, TWO_QUESTIONS, allow_parallel_tool_calls=True)
    assert answer.response == "Sunny in Paris, 25 degrees.\n\n5"
    answer = llm.predict_and_call(tools, TWO_QUESTIONS)
    assert answer.response == "Sunny in Paris, 25 degrees."


# --- forced tools ---


@pytest.mark.sample(6)
@pytest.mark.parametrize("form", WITH_TOOLS)
async def test_a_required_tool_is_forced_where_the_models_can_be(bedrock, llm, tools, form):
    response = await ask_with_tools(llm, form, tools, QUESTION, tool_required=True)
    sent = bedrock.requests()[-1].request["toolConfig"].get("toolChoice")
    assert sent == (None if "meta.llama" in llm.model else {"any": {}}), "LlamaIndex's wish gives way"
    assert calls_in(llm, response) == [("get_weather", {"city": "Paris"})]


@pytest.mark.sample(8)
@pytest.mark.parametrize("form", WITH_TOOLS)
@pytest.mark.parametrize("choice", ["any", "required", "add", {"tool": {"name": "add"}}, {"any": {}}])
async def test_forced_tool_raises_if_a_model_cannot_be_forced(bedrock, tools, form, choice):
    llm = BedrockRouter(model=bedrock.default_router("meta.llama:1"))
    with pytest.raises(InvalidRequestError, match=r"tool_choice=.*is not supported by all models.*supported: auto"):
        await ask_with_tools(llm, form, tools, QUESTION, tool_choice=choice)
    assert not bedrock.requests("Converse")
    assert not bedrock.requests("ConverseStream")


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        ("auto", {"auto": {}}),
        ("any", {"any": {}}),
        ("required", {"any": {}}),
        ("add", {"tool": {"name": "add"}}),
        ({"tool": {"name": "add"}}, {"tool": {"name": "add"}}),
        ({"type": "function", "function": {"name": "add"}}, {"tool": {"name": "add"}}),
    ],
)
def test_the_users_choice_is_sent(bedrock, router, tools, choice, sent):
    llm = BedrockRouter(model=router)
    response = llm.chat_with_tools(tools, "What is 2 + 3?", tool_choice=choice, tool_required=True)
    assert bedrock.requests()[-1].request["toolConfig"]["toolChoice"] == sent
    assert calls_in(llm, response) == [("add", {"a": 2, "b": 3})]


@pytest.mark.sample(4)
@pytest.mark.parametrize("form", WITH_TOOLS)
@pytest.mark.parametrize("choice", ["none", {"none": {}}])
async def test_tool_choice_none_keeps_tools_declared(bedrock, router, tools, form, choice):
    response = await ask_with_tools(
        BedrockRouter(model=router), form, tools, QUESTION, tool_choice=choice, tool_required=True
    )
    sent = bedrock.requests()[-1].request
    assert [tool["toolSpec"]["name"] for tool in sent["toolConfig"]["tools"]] == ["get_weather", "add"]
    assert "toolChoice" not in sent["toolConfig"]
    assert sent["messages"][-1]["content"][0] == {"text": QUESTION}
    assert "without calling any tool" in sent["messages"][-1]["content"][-1]["text"]
    assert isinstance(response, ChatResponse)


def test_tool_choice_none_takes_history_with_calls(bedrock, router, tools):
    call = ToolCallBlock(tool_call_id="t1", tool_name="add", tool_kwargs={"a": 2, "b": 3})
    result = ChatMessage(role="tool", content="5", additional_kwargs={"tool_call_id": "t1"})
    history = [*user(QUESTION), ChatMessage(role="assistant", blocks=[call]), result]
    BedrockRouter(model=router).chat_with_tools(tools, chat_history=history, tool_choice="none")
    messages = bedrock.requests()[-1].request["messages"]
    assert messages[1]["content"][0]["toolUse"]["name"] == "add"


@pytest.mark.parametrize("choice", ["multiply", {"tool": {"name": "multiply"}}, {"type": "some"}])
def test_a_choice_that_is_none_raises_and_names_the_tools(router, tools, choice):
    with pytest.raises(InvalidRequestError, match=r"tool_choice=.*name of a tool \(get_weather, add\)"):
        BedrockRouter(model=router).chat_with_tools(tools, QUESTION, tool_choice=choice)


def test_tool_choice_support_can_be_stated(bedrock, router, tools):
    BedrockRouter(model=router, supports_forced_tool_calls=False).chat_with_tools(tools, QUESTION, tool_required=True)
    assert "toolChoice" not in bedrock.requests()[-1].request["toolConfig"]


def test_while_claude_thinks_tools_are_not_forced(bedrock, tools, caplog):
    llm = BedrockRouter(model=THINKER, thinking={"type": "enabled", "budget_tokens": 1024}, max_tokens=4000)
    llm.chat_with_tools(tools, QUESTION, tool_required=True)
    assert "toolChoice" not in bedrock.requests()[-1].request["toolConfig"]
    llm.chat_with_tools(tools, QUESTION, tool_choice="any")
    assert bedrock.requests()[-1].request["toolConfig"]["toolChoice"] == {"auto": {}}
    assert "thinking" in caplog.text


def test_plain_function_is_refused_with_advice(bedrock, router):
    def now():
        """The time."""

    with pytest.raises(InvalidRequestError, match=r"tools has a function, 'now'.*FunctionTool.from_defaults"):
        BedrockRouter(model=router).chat_with_tools([now], QUESTION)
    assert not bedrock.requests("Converse")


@pytest.mark.parametrize("form", WITH_TOOLS)
async def test_tools_of_call_replace_tools_of_constructor(bedrock, router, tools, form):
    config = {"tools": [{"toolSpec": {"name": "other", "inputSchema": {"json": {"type": "object"}}}}]}
    llm = BedrockRouter(model=router, additional_kwargs={"toolConfig": config})
    await ask_with_tools(llm, form, tools, QUESTION)
    sent = bedrock.requests()[-1].request["toolConfig"]["tools"]
    assert [tool["toolSpec"]["name"] for tool in sent] == ["get_weather", "add"]
    llm.chat(user("Hello"))
    assert bedrock.requests()[-1].request["toolConfig"] == config


def test_converses_own_tool_config_is_taken(bedrock, router, tools):
    config = {"tools": [{"toolSpec": {"name": "add", "inputSchema": {"json": {"type": "object"}}}}]}
    before = json.dumps(config)
    llm = BedrockRouter(model=router)
    llm.chat(user("Hello"), toolConfig=config)
    assert bedrock.requests()[-1].request["toolConfig"] == config
    llm.chat(user("Hello"), toolConfig=config, tool_choice="add")
    assert bedrock.requests()[-1].request["toolConfig"]["toolChoice"] == {"tool": {"name": "add"}}
    assert json.dumps(config) == before


# --- answers that canned models do not give ---


def interleaved():
    """Two calls whose arguments come by turns, behind a text."""
    return stream_of(
        text(0, "Both."), block_stop(0), call_start(1, "t1", "get_weather"), call_start(2, "t2", "add"),
        call_delta(1, '{"city": '), call_delta(2, '{"a": 2, '), call_delta(1, '"Paris'), call_delta(2, '"b": 3}'),
        block_stop(2), call_delta(1, '"}'), block_stop(1), stop="tool_use",
    )  # fmt: skip


@pytest.mark.parametrize("form", ["stream_chat_with_tools", "astream_chat_with_tools"])
async def test_calls_that_are_streamed_by_turns_are_kept_apart(tools, form):
    with ScriptedBedrock(interleaved()) as server:
        llm = BedrockRouter(model=HAIKU, **server.arguments)
        stream = getattr(llm, form)(tools, TWO_QUESTIONS, allow_parallel_tool_calls=True)
        chunks = [chunk async for chunk in await stream] if form.startswith("a") else list(stream)
    seen = [calls_in(llm, chunk, error_on_no_tool_call=False) for chunk in chunks]
    weather, add = "get_weather", "add"
    assert seen == [
        [], [(weather, {})], [(weather, {}), (add, {})], [(weather, {}), (add, {})], [(weather, {}), (add, {"a": 2})],
        [(weather, {"city": "Paris"}), (add, {"a": 2})], [(weather, {"city": "Paris"}), (add, {"a": 2, "b": 3})],
        [(weather, {"city": "Paris"}), (add, {"a": 2, "b": 3})],
        [(weather, {"city": "Paris"}), (add, {"a": 2, "b": 3})],
    ]  # fmt: skip
    assert [call.tool_id for call in llm.get_tool_calls_from_response(chunks[-1])] == ["t1", "t2"]
    assert chunks[-1].message.content == "Both."


def cut_off(*parts):
    """Return the stream of a tool call whose arguments are cut at the token limit."""
    deltas = [call_delta(0, part) for part in parts]
    return stream_of(call_start(0, "t1", "get_weather"), *deltas, block_stop(0), stop="max_tokens")


def a_call(arguments, tool_use_id="t1", name="get_weather"):
    return {"toolUse": {"toolUseId": tool_use_id, "name": name, "input": arguments}}


@pytest.mark.parametrize("form", ["stream_chat_with_tools", "astream_chat_with_tools"])
@pytest.mark.parametrize("parts", [('{"city": ', '"Par'), ('{"city": "Par',), ()])
async def test_arguments_that_were_cut_off_are_not_a_tool_call(tools, form, parts):
    with ScriptedBedrock(cut_off(*parts)) as server:
        llm = BedrockRouter(model=HAIKU, **server.arguments)
        last = await ask_with_tools(llm, form, tools, QUESTION)
    for more in ({}, {"error_on_no_tool_call": False}):
        with pytest.raises(ToolCallError, match=r"call of 'get_weather'.*stop reason: max_tokens.*raise max_tokens"):
            llm.get_tool_calls_from_response(last, **more)
    (block,) = [block for block in last.message.blocks if isinstance(block, ToolCallBlock)]
    assert block.tool_kwargs == "".join(parts)


@pytest.mark.parametrize("arguments", [{}, {"city": "Par"}])
async def test_a_tool_is_not_run_with_what_was_cut_off(tools, ran, arguments):
    with ScriptedBedrock(whole_of({"text": "Let me see."}, a_call(arguments), stop="max_tokens")) as server:
        llm = BedrockRouter(model=HAIKU, **server.arguments)
        with pytest.raises(ToolCallError, match="were cut off"):
            llm.predict_and_call(tools, QUESTION)
        with pytest.raises(ToolCallError, match="were cut off"):
            await llm.apredict_and_call(tools, QUESTION, error_on_no_tool_call=False)
    assert ran == []


def test_call_before_the_cut_off_call_is_whole(tools, ran):
    content = [a_call({"city": "Paris"}), a_call({}, "t2", "add")]
    with ScriptedBedrock(whole_of(*content, stop="max_tokens")) as server:
        llm = BedrockRouter(model=HAIKU, **server.arguments)
        assert llm.predict_and_call(tools, TWO_QUESTIONS).response == "Sunny in Paris, 25 degrees."
        with pytest.raises(ToolCallError, match="call of 'add' were cut off"):
            llm.predict_and_call(tools, TWO_QUESTIONS, allow_parallel_tool_calls=True)
    assert ran == [("get_weather", "Paris")]


def test_a_call_without_arguments_is_one():
    with ScriptedBedrock(stream_of(call_start(0, "t1", "now"), block_stop(0), stop="tool_use")) as server:
        llm = BedrockRouter(model=HAIKU, **server.arguments)
        tool = FunctionTool.from_defaults(lambda: "noon", name="now", description="The time.")
        *_, last = llm.stream_chat_with_tools([tool], "When is it?")
    assert calls_in(llm, last) == [("now", {})]


def test_answer_without_call_raises_without_quoting_the_answer(tools):
    with ScriptedBedrock(whole_of({"text": "I would rather not."})) as server:
        llm = BedrockRouter(model=HAIKU, **server.arguments)
        response = llm.chat_with_tools(tools, QUESTION)
        with pytest.raises(ToolCallError, match="called no tool") as raised:
            llm.get_tool_calls_from_response(response)
        assert "rather" not in str(raised.value)  # error messages are logged
        assert llm.get_tool_calls_from_response(response, error_on_no_tool_call=False) == []
        with pytest.raises(ToolCallError):
            llm.predict_and_call(tools, QUESTION)
        answer = llm.predict_and_call(tools, QUESTION, error_on_no_tool_call=False)
        assert answer.response == "I would rather not."


def test_tool_calls_of_handmade_response_are_read():
    llm = BedrockRouter(model=HAIKU)
    for arguments in ({"city": "Paris"}, '{"city": "Paris"}'):
        block = ToolCallBlock(tool_name="get_weather", tool_kwargs=arguments)
        response = ChatResponse(message=ChatMessage(role="assistant", blocks=[block]))
        assert calls_in(llm, response) == [("get_weather", {"city": "Paris"})]


def test_a_tool_that_fails_is_reported_and_not_raised(llm, tools, caplog):
    def fail(city: str) -> str:
        """Get the weather in a city."""
        raise RuntimeError("no weather today")

    caplog.set_level(logging.CRITICAL)
    answer = llm.predict_and_call([FunctionTool.from_defaults(fail, name="get_weather")], QUESTION)
    assert "no weather today" in answer.response
    assert answer.sources[0].is_error


def test_the_router_routes_calls_with_tools(router, tools):
    llm = BedrockRouter(model=router)
    for form in (llm.chat_with_tools(tools, QUESTION), list(llm.stream_chat_with_tools(tools, QUESTION))[-1]):
        assert form.additional_kwargs["routing"]["invoked_model"] in (HAIKU, SONNET)
