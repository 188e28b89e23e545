"""Requests that `ChatBedrockRouter` makes of messages, tools and arguments: the user's data is unchanged."""

from __future__ import annotations

import base64
import copy
import json
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.load import dumps, loads
from langchain_core.messages import (
    AIMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
    messages_from_dict,
    messages_to_dict,
)
from langchain_core.tools import tool
from pydantic import create_model
from samples import needs_newer_boto3
from scripted_bedrock import ScriptedBedrock, stream_of, text, whole_of

from bedrock_routing_integrations.errors import InvalidRequestError
from bedrock_routing_integrations.langchain import BedrockRouterLLM, ChatBedrockRouter

CLAUDE = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
NOVA, NOVA_2 = "us.amazon.nova-lite-v1:0", "us.amazon.nova-2-lite-v1:0"
NOW = {"toolSpec": {"name": "now", "description": "The time.", "inputSchema": {"json": {"type": "object"}}}}
DATA = {"customer_id": 7, "a_b": {"c_d": [[{"e_f": None}]]}, "camelCase": 1}
ASKED = HumanMessage("q")


def answer(request):
    return whole_of({"text": "ok"})


@pytest.fixture
def server():
    with ScriptedBedrock(answer) as server:
        yield server


@pytest.fixture
def chat(server):
    """A chat model of a model id, without automatic cache points."""
    return lambda model=CLAUDE, **arguments: ChatBedrockRouter(
        **{"model": model, "cache": "off", **server.arguments, **arguments}
    )


@pytest.fixture
def sent(server, chat):
    """Invoke, and return the request."""

    def sent(messages, model=CLAUDE, *, tools=(NOW,), constructed=None, **call):
        llm = chat(model, **(constructed or {}))
        before = copy.deepcopy(messages)
        (llm.bind_tools(list(tools)) if tools else llm).invoke(messages, **call)
        assert messages == before, "the caller's messages were changed"
        return server.requests[-1]

    return sent


def roles(request):
    return [message["role"] for message in request["messages"]]


def called(name="now", args=None, id="t1"):  # noqa: A002 - its name
    return AIMessage("", tool_calls=[{"name": name, "args": args or {}, "id": id}])


# --- keys of the user's data ---


@pytest.mark.parametrize(
    "content",
    [
        [{"type": "json", "json": DATA}],
        [{"json": DATA}],
        [{"type": "text", "text": "see"}, {"type": "json", "json": [[DATA]]}],
    ],
    ids=["typed", "as Converse has it", "beside text, in a list"],
)
def test_tool_result_keeps_its_keys(sent, content):
    request = sent([ASKED, called(), ToolMessage(content, tool_call_id="t1")])
    result = request["messages"][2]["content"][0]["toolResult"]
    expected = [{"text": "see"}, {"json": [[DATA]]}] if len(content) > 1 else [{"json": DATA}]
    assert result == {"content": expected, "toolUseId": "t1", "status": "success"}


@pytest.mark.parametrize(
    "block",
    [
        {"toolResult": {"toolUseId": "t1", "content": [{"json": DATA}], "status": "success"}},
        {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "json", "json": DATA}]},
        {"type": "tool_result", "tool_use_id": "t1", "content": [{"json": DATA}], "is_error": True},
    ],
    ids=["as Converse has it", "as Anthropic has it", "an error"],
)
def test_tool_result_in_a_human_message_keeps_its_keys(sent, block):
    request = sent([ASKED, called(), HumanMessage([block])])
    result = request["messages"][2]["content"][0]["toolResult"]
    assert result["content"] == [{"json": DATA}]
    assert result["status"] == ("error" if block.get("is_error") else "success")


@pytest.mark.sample(8)
@pytest.mark.parametrize("version", ["v0", "v1"])
@pytest.mark.parametrize(
    "block",
    [
        {"type": "tool_use", "id": "t1", "name": "now", "input": DATA},
        {"type": "tool_use", "id": "t1", "name": "now", "input": json.dumps(DATA), "index": 0},
        {"type": "tool_call", "id": "t1", "name": "now", "args": DATA},
        {"type": "non_standard", "value": {"toolUse": {"toolUseId": "t1", "name": "now", "input": DATA}}},
    ],
    ids=["tool_use", "streamed", "tool_call", "non_standard"],
)
@pytest.mark.parametrize("with_calls", [False, True])
def test_tool_call_arguments_keep_their_keys(sent, block, version, with_calls):
    metadata = {"model_provider": "bedrock_converse", **({"output_version": "v1"} if version == "v1" else {})}
    calls = [{"name": "now", "args": DATA, "id": "t1"}] if with_calls else []
    message = AIMessage([block], tool_calls=calls, response_metadata=metadata)
    request = sent([ASKED, message, ToolMessage("12:00", tool_call_id="t1")])
    assert request["messages"][1]["content"] == [{"toolUse": {"toolUseId": "t1", "name": "now", "input": DATA}}]


def test_history_without_tools_keeps_keys_as_text(sent):
    with pytest.warns(RuntimeWarning, match="without toolConfig"):
        request = sent(
            [ASKED, called(args=DATA), ToolMessage([{"type": "json", "json": DATA}], tool_call_id="t1")], tools=()
        )
    assert "toolConfig" not in request
    assert request["messages"][1]["content"] == [{"text": f"[Called now with parameters: {json.dumps(DATA)}]"}]
    assert request["messages"][2]["content"] == [{"text": f"[Tool output: {json.dumps(DATA)}]"}]


def test_request_metadata_keeps_its_keys_from_constructor_and_call(server, sent):
    metadata = {"cost_center": "bees", "costCenter": "B", "_": "x"}
    assert sent("x", request_metadata=metadata)["requestMetadata"] == metadata
    assert sent("x", requestMetadata=metadata)["requestMetadata"] == metadata
    assert sent("x", constructed={"request_metadata": metadata})["requestMetadata"] == metadata
    assert "requestMetadata" not in sent("x", request_metadata={})
    llm = BedrockRouterLLM(model=CLAUDE, cache="off", **server.arguments)
    llm.invoke("x", request_metadata=metadata)
    assert server.requests[-1]["requestMetadata"] == metadata


async def test_streams_and_async_calls_keep_keys(server):
    with ScriptedBedrock(stream_of(text(0, "ok"))) as streaming:
        llm = ChatBedrockRouter(model=CLAUDE, cache="off", **streaming.arguments).bind_tools([NOW])
        messages = [ASKED, called(), ToolMessage([{"type": "json", "json": DATA}], tool_call_id="t1")]
        list(llm.stream(messages, request_metadata={"cost_center": "a"}))
        async for _ in llm.astream(messages, request_metadata={"cost_center": "a"}):
            pass
        for request in streaming.requests:
            assert request["requestMetadata"] == {"cost_center": "a"}
            assert request["messages"][2]["content"][0]["toolResult"]["content"] == [{"json": DATA}]


FIELDS = {"some_field": {"inner_key": None, "other": [{"x_y": 1}]}, "top_k": 5}


def test_model_fields_keep_keys_and_empty_values(sent):
    assert sent("x", additional_model_request_fields=FIELDS)["additionalModelRequestFields"] == FIELDS
    assert sent("x", additionalModelRequestFields=FIELDS)["additionalModelRequestFields"] == FIELDS
    request = sent("x", constructed={"additional_model_request_fields": FIELDS})
    assert request["additionalModelRequestFields"] == FIELDS


SCHEMA = {
    "type": "object",
    "properties": {"line_items": {"type": "array", "items": {"$ref": "#/$defs/line_item"}}, "pat_tern": True},
    "patternProperties": {"^x_y": {"type": "string"}},
    "required": ["line_items"],
    "default": {"line_items": [], "a_b": None},
    "examples": [{"line_items": [], "a_b": {"type": ["string", "null"]}}],
    "enum": [{"a_b": 1}],
    "const": {"c_d": {"anyOf": [{"type": "null"}]}},
    "$defs": {"line_item": {"type": "object", "properties": {"unit_price": {"type": "number"}}}},
    "definitions": {"old_style": {"type": "object"}},
}


@pytest.mark.parametrize("form", ["toolSpec", "OpenAI", "Anthropic", "JSON schema"])
def test_schema_of_a_tool_arrives_as_given(sent, form):
    bare = {"title": "order_it", "description": "o", **SCHEMA}
    tools = {
        "toolSpec": {"toolSpec": {"name": "order_it", "description": "o", "inputSchema": {"json": SCHEMA}}},
        "OpenAI": {"type": "function", "function": {"name": "order_it", "description": "o", "parameters": SCHEMA}},
        "Anthropic": {"name": "order_it", "description": "o", "input_schema": SCHEMA},
        "JSON schema": bare,
    }
    (spec,) = sent("x", tools=[tools[form]])["toolConfig"]["tools"]
    assert spec == {"toolSpec": {"name": "order_it", "description": "o", "inputSchema": {"json": SCHEMA}}}
    (spec,) = sent("x", tools=(), toolConfig={"tools": [tools["toolSpec"]]})["toolConfig"]["tools"]
    assert spec["toolSpec"]["inputSchema"]["json"] == SCHEMA


def optional_fields(number):
    return create_model("Order", __doc__="An order.", **{f"note{n}": (str | None, None) for n in range(number)})


def test_schema_keeps_null_up_to_sixteen_unions(sent):
    (spec,) = sent("x", tools=[optional_fields(16)])["toolConfig"]["tools"]
    properties = spec["toolSpec"]["inputSchema"]["json"]["properties"]
    assert properties["note0"]["anyOf"] == [{"type": "string"}, {"type": "null"}]


def test_schema_loses_null_beyond_sixteen_unions(sent):
    (spec,) = sent("x", tools=[optional_fields(17)])["toolConfig"]["tools"]
    properties = spec["toolSpec"]["inputSchema"]["json"]["properties"]
    assert {each["type"] for each in properties.values()} == {"string"}


keys = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8) | st.from_regex(
    "[a-z]{1,3}(_[a-z]{1,3}){0,2}", fullmatch=True
)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**31), 2**31) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def plain():
    with ScriptedBedrock(answer) as server:
        yield server, ChatBedrockRouter(model=CLAUDE, cache="off", **server.arguments).bind_tools([NOW])


@given(data=st.dictionaries(keys, values, max_size=4))
def test_any_data_of_the_user_arrives_as_given(plain, data):
    server, llm = plain
    blocks = [{"type": "tool_use", "id": "t1", "name": "now", "input": data}]
    result = [{"type": "json", "json": data}, {"json": [data]}]
    llm.invoke([ASKED, AIMessage(blocks), ToolMessage(result, tool_call_id="t1")])
    _, assistant, user = server.requests[-1]["messages"]
    assert assistant["content"][0]["toolUse"]["input"] == data
    assert user["content"][0]["toolResult"]["content"] == [{"json": data}, {"json": [data]}]


# --- calls of the history ---


@pytest.mark.parametrize("given", [{}, {"input": ""}, {"input": None}, {"input": {}}])
def test_tool_call_without_arguments_goes_back_with_none(sent, given):
    message = AIMessage([{"type": "tool_use", "id": "t1", "name": "now", **given}])
    request = sent([ASKED, message, ToolMessage("12:00", tool_call_id="t1")])
    assert request["messages"][1]["content"] == [{"toolUse": {"toolUseId": "t1", "name": "now", "input": {}}}]


CUT = {"type": "invalid_tool_call", "name": "now", "args": '{"a": "b', "id": "t9", "error": None}


def test_cut_off_call_without_result_is_left_out(sent):
    message = AIMessage(
        [{"type": "text", "text": "I call."}, {"type": "tool_use", "id": "t9", "name": "now", "input": '{"a": "b'}],
        invalid_tool_calls=[CUT],
    )
    request = sent([ASKED, message, HumanMessage("go on")])
    assert request["messages"][1]["content"] == [{"text": "I call."}]


@pytest.mark.parametrize("content", ["I call.", [{"type": "text", "text": "I call."}, CUT]])
def test_cut_off_call_with_result_is_sent(sent, content):
    message = AIMessage(content, invalid_tool_calls=[CUT])
    request = sent([ASKED, message, ToolMessage("arguments are cut off", tool_call_id="t9", status="error")])
    assert request["messages"][1]["content"] == [
        {"text": "I call."},
        {"toolUse": {"toolUseId": "t9", "name": "now", "input": {}}},
    ]


# --- reasoning ---


def reasoned(blocks, model="anthropic.claude-sonnet-4-5-20250929-v1:0", version="v0", provider="bedrock_converse"):
    metadata = {"model_provider": provider, "model_name": model}
    if version == "v1":
        metadata["output_version"] = "v1"
    return AIMessage([*blocks, {"type": "text", "text": "4"}], response_metadata=metadata)


SIGNED = {"reasoningContent": {"reasoningText": {"text": "easy", "signature": "c2ln"}}}
HIDDEN = {"reasoningContent": {"redactedContent": base64.b64encode(b"\0hidden").decode()}}
REASONING = {
    "v0": [
        {"type": "reasoning_content", "reasoning_content": {"text": "easy", "signature": "c2ln"}, "index": 0},
        {"type": "reasoning_content", "reasoning_content": {"redacted_content": "AGhpZGRlbg=="}, "index": 1},
    ],
    "v1": [
        {"type": "reasoning", "reasoning": "easy", "extras": {"signature": "c2ln"}},
        {"type": "reasoning", "extras": {"redacted_content": "AGhpZGRlbg=="}},
    ],
    "bytes": [
        {"type": "reasoning_content", "reasoning_content": {"text": "easy", "signature": "c2ln"}},
        {"type": "reasoning_content", "reasoning_content": {"redacted_content": b"\0hidden"}},
    ],
    "Anthropic's": [
        {"type": "thinking", "thinking": "easy", "signature": "c2ln"},
        {"type": "reasoning_content", "reasoning_content": {"redactedContent": "AGhpZGRlbg=="}},
    ],
}


@pytest.mark.parametrize("form", REASONING)
def test_reasoning_goes_back_whole_to_its_provider(sent, form):
    message = reasoned(REASONING[form], version=form)
    request = sent([ASKED, message, HumanMessage("x10?")])
    assert request["messages"][1]["content"] == [SIGNED, HIDDEN, {"text": "4"}]


@pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")
@pytest.mark.parametrize("version", ["v0", "v1"])
def test_reasoning_goes_back_whole_after_json(sent, version):
    message = reasoned(REASONING[version], version=version)
    (kept,) = messages_from_dict(json.loads(json.dumps(messages_to_dict([message]))))
    loaded = loads(dumps(message), allowed_objects="messages")
    for each in (kept, loaded):
        request = sent([ASKED, each, HumanMessage("x10?")])
        assert request["messages"][1]["content"] == [SIGNED, HIDDEN, {"text": "4"}]


@pytest.mark.parametrize("version", ["v0", "v1"])
def test_reasoning_of_another_bedrock_provider_loses_its_signature(sent, version):
    message = reasoned(REASONING[version], version=version)
    request = sent([ASKED, message, HumanMessage("x10?")], "openai.gpt-oss-120b-1:0")
    assert request["messages"][1]["content"] == [
        {"reasoningContent": {"reasoningText": {"text": "easy"}}},
        {"text": "4"},
    ]
    assert sent([ASKED, message, HumanMessage("x10?")], NOVA)["messages"][1]["content"] == [{"text": "4"}]


@pytest.mark.parametrize("provider", ["anthropic", "openai", "google_genai"])
@pytest.mark.parametrize("version", ["v0", "v1"])
def test_reasoning_of_a_foreign_provider_is_dropped(sent, provider, version):
    blocks = [{"type": "thinking", "thinking": "easy", "signature": "c2ln"}] if version == "v0" else REASONING["v1"]
    message = reasoned(blocks, "some-model", version, provider)
    assert sent([ASKED, message, HumanMessage("x10?")])["messages"][1]["content"] == [{"text": "4"}]


def test_router_gets_reasoning_that_all_candidates_accept(chat, server):
    message = reasoned([{"type": "reasoning_content", "reasoning_content": {"text": "hm"}}], "amazon.nova-2-lite-v1:0")
    router = "arn:aws:bedrock:us-east-1:123456789012:prompt-router/abc123"
    for models in ([NOVA_2, NOVA], [NOVA, NOVA_2]):
        chat(router, base_models=models).invoke([ASKED, message, HumanMessage("go on")])
        assert server.requests[-1]["messages"][1]["content"] == [{"text": "4"}]


# --- system messages amid the conversation ---


REMINDER = SystemMessage("Be brief.")


def native(server, sent, messages, **arguments):
    return sent(messages, constructed={"mid_conversation_system": "native"}, **arguments)


def test_system_message_stays_at_its_position(server, sent):
    history = [SystemMessage("You are a bee."), HumanMessage("a"), AIMessage("b"), REMINDER, HumanMessage("c")]
    request = native(server, sent, history)
    assert request["system"] == [{"text": "You are a bee."}]
    assert roles(request) == ["user", "assistant", "system", "user"]
    assert request["messages"][2]["content"] == [{"text": "Be brief."}]
    request = sent(history, constructed={"mid_conversation_system": "inline"})
    assert roles(request) == ["user", "assistant", "user"]
    assert "Be brief." in str(request["messages"][2])
    request = sent(history, constructed={"mid_conversation_system": "hoist"})
    assert request["system"] == [{"text": "You are a bee."}, {"text": "Be brief."}]


def test_system_message_before_a_tool_result_follows_it(server, sent):
    calls = AIMessage("", tool_calls=[{"name": "now", "args": {}, "id": f"t{n}"} for n in (1, 2)])
    results = [ToolMessage("12:00", tool_call_id=f"t{n}") for n in (1, 2)]
    for history in ([ASKED, calls, REMINDER, *results], [ASKED, calls, results[0], REMINDER, results[1]]):
        request = native(server, sent, history)
        assert roles(request) == ["user", "assistant", "user", "system"]
        assert [block["toolResult"]["toolUseId"] for block in request["messages"][2]["content"]] == ["t1", "t2"]


def test_system_messages_at_the_end_and_in_blocks(server, sent):
    blocks = SystemMessage([{"type": "text", "text": "Be brief."}, {"cachePoint": {"type": "default"}}, "Be kind."])
    request = native(server, sent, [HumanMessage("a"), AIMessage("b"), HumanMessage("c"), SystemMessage(""), blocks])
    assert roles(request) == ["user", "assistant", "user", "system"]
    assert [block.get("text") for block in request["messages"][3]["content"]] == ["Be brief.", None, "Be kind."]


def test_mid_conversation_system_is_checked_and_passed_on(server):
    with pytest.raises(InvalidRequestError, match="mid_conversation_system='first' is not valid"):
        ChatBedrockRouter(model=CLAUDE, mid_conversation_system="first")
    llm = BedrockRouterLLM(model=CLAUDE, mid_conversation_system="hoist", **server.arguments)
    assert llm.chat_model.mid_conversation_system == "hoist"


# --- tool choice ---


@pytest.mark.parametrize(
    "choice", ["none", {"none": {}}, {"type": "none"}], ids=["a name", "as Converse has it", "as Anthropic has it"]
)
def test_tool_choice_none_forces_no_tool(chat, server, choice):
    chat().bind_tools([NOW], tool_choice=choice).invoke("x")
    chat().bind_tools([NOW]).invoke("x", tool_choice=choice)
    for request in server.requests:
        assert [spec["toolSpec"]["name"] for spec in request["toolConfig"]["tools"]] == ["now"]
        assert "toolChoice" not in request["toolConfig"]
        assert "without calling any tool" in str(request["messages"])


@pytest.mark.parametrize(
    ("choice", "converse"),
    [
        ("required", {"any": {}}),
        (True, {"any": {}}),
        ("now", {"tool": {"name": "now"}}),
        ({"type": "function", "function": {"name": "now"}}, {"tool": {"name": "now"}}),
        ({"type": "tool", "name": "now"}, {"tool": {"name": "now"}}),
        ({"tool": {"name": "now"}}, {"tool": {"name": "now"}}),
        ({"type": "auto"}, {"auto": {}}),
    ],
)
def test_tool_choices_of_other_providers_are_accepted(chat, server, choice, converse):
    chat().bind_tools([NOW], tool_choice=choice).invoke("x")
    chat().bind_tools([NOW]).invoke("x", tool_choice=choice)
    assert [request["toolConfig"]["toolChoice"] for request in server.requests] == [converse, converse]


def test_tool_choice_of_unknown_form_is_refused(chat, server):
    with pytest.raises(InvalidRequestError, match="tool_choice="):
        chat().bind_tools([NOW], tool_choice={"type": "sometimes"})
    assert not server.requests


# --- project, names ---


@needs_newer_boto3
def test_project_identifier_is_sent_from_constructor_and_call(server, sent):
    assert sent("x", constructed={"project_identifier": "proj-1"})["projectIdentifier"] == "proj-1"
    assert sent("x", project_identifier="proj-2")["projectIdentifier"] == "proj-2"
    assert sent("x", projectIdentifier="proj-2")["projectIdentifier"] == "proj-2"
    llm = BedrockRouterLLM(model=CLAUDE, project_identifier="proj-1", **server.arguments)
    llm.invoke("x")
    llm.invoke("x", project_identifier="proj-3")
    assert [request["projectIdentifier"] for request in server.requests[-2:]] == ["proj-1", "proj-3"]


@tool
def clock(zone: str) -> str:
    """The time."""
    return zone


def test_tools_of_any_kind_are_declared(sent):
    specs = sent("x", tools=[clock, NOW, {"cachePoint": {"type": "default"}}])["toolConfig"]["tools"]
    assert [spec.get("toolSpec", {}).get("name") for spec in specs] == ["clock", "now", None]


def test_plain_messages_cause_no_warning(sent):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sent([SystemMessage("s"), HumanMessage("a"), AIMessage("b "), HumanMessage("c")])
        sent([HumanMessage("a"), AIMessage([{"type": "text", "text": "prefill "}])], NOVA)
