"""Test conversations of agents: answers that are cut off, models that change, histories kept as JSON."""

from __future__ import annotations

import json

import pytest
from botocore.exceptions import ClientError
from llama_index.core.agent.workflow import AgentWorkflow, FunctionAgent
from llama_index.core.base.llms.types import ChatMessage, TextBlock, ThinkingBlock, ToolCallBlock
from llama_index.core.callbacks import CallbackManager
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.tools import FunctionTool
from llama_index_forms import FORMS, run, user
from samples import HAIKU, NOVA_PRO
from scripted_bedrock import ScriptedBedrock, block_stop, call_delta, call_start, stream_of, text, whole_of

from bedrock_routing_integrations import BedrockRoutingError
from bedrock_routing_integrations.errors import (
    ContextOverflowError,
    InvalidAnswerError,
    InvalidRequestError,
    ToolCallError,
)
from bedrock_routing_integrations.llama_index import BedrockRouter, ModelCallFailedEvent
from bedrock_routing_integrations.transport.answer_validation import NEVER_COMPLETE

THINKER = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
streamed_or_not = pytest.mark.parametrize("streaming", [True, False], ids=["streamed", "whole"])


@pytest.fixture
def ran():
    """The calls that were executed."""
    return []


@pytest.fixture
def write_file(ran):
    def write_file(path: str, content: str = "", mode: str = "w") -> str:
        """Write a file."""
        ran.append((path, content))
        return "written"

    return FunctionTool.from_defaults(write_file)


# --- answers that are cut off ---

CUT = ("max_tokens", "model_context_window_exceeded", "stop_sequence", "content_filtered", "guardrail_intervened")
HALVES = ('{"path": "/etc/bees.conf", "content": "line o', '{"path": "/etc/bees.conf"}', "{}", "")
# JSON that was streamed to its end is whole before a stop sequence: tests/test_stop_reasons.py.
CUT_CALLS = [(stop, each) for stop in CUT for each in HALVES if stop in NEVER_COMPLETE or each != HALVES[1]]


def half_call(written, stop, *, streaming, before=(), closed=True):
    """An answer that ends in a call; Bedrock makes some object of half of the arguments where it does not stream."""
    if streaming:
        events = []
        for index, (name, arguments) in enumerate(before):
            events += [
                call_start(index, f"b{index}", name),
                call_delta(index, json.dumps(arguments)),
                block_stop(index),
            ]
        at = len(before)
        parts = [written[:9], written[9:]] if written else []
        events += [call_start(at, "t1", "write_file"), *(call_delta(at, part) for part in parts)]
        return stream_of(*events, *([block_stop(at)] if closed else []), stop=stop)
    calls = [{"toolUse": {"toolUseId": f"b{n}", "name": name, "input": a}} for n, (name, a) in enumerate(before)]
    try:
        arguments = json.loads(written or "{}")
    except ValueError:
        arguments = {"path": "/etc/bees.conf", "content": "line o"}
    call = {"toolUse": {"toolUseId": "t1", "name": "write_file", "input": arguments}}
    return whole_of({"text": "I write."}, *calls, call, stop=stop)


@pytest.mark.sample(12)
@streamed_or_not
@pytest.mark.parametrize(("stop", "written"), CUT_CALLS)
@pytest.mark.parametrize("closed", [True, False])
async def test_agent_never_runs_call_that_was_cut_off(write_file, ran, streaming, stop, written, closed):
    with ScriptedBedrock(half_call(written, stop, streaming=streaming, closed=closed)) as server:
        llm = BedrockRouter(HAIKU, **server.arguments)
        agent = FunctionAgent(tools=[write_file], llm=llm, streaming=streaming)
        with pytest.raises(ToolCallError, match=f"stop reason: {stop}"):
            await agent.run("Write.")
    assert ran == []


@pytest.mark.sample(8)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("written", HALVES)
async def test_call_that_was_cut_off_has_no_arguments_to_run(form, written):
    with ScriptedBedrock(half_call(written, "max_tokens", streaming="stream" in form)) as server:
        last = (await run(BedrockRouter(HAIKU, **server.arguments), form, "Write."))[-1]
    if "chat" in form:
        (call,) = [block for block in last.message.blocks if isinstance(block, ToolCallBlock)]
        assert isinstance(call.tool_kwargs, str)
        assert [type(each["input"]) for each in last.message.additional_kwargs["tool_calls"]] == [str]


@streamed_or_not
async def test_agent_runs_nothing_where_second_call_was_cut_off(write_file, ran, streaming):
    before = [("write_file", {"path": "a", "content": "b"})]
    with ScriptedBedrock(half_call(HALVES[0], "max_tokens", streaming=streaming, before=before)) as server:
        llm = BedrockRouter(HAIKU, **server.arguments)
        with pytest.raises(ToolCallError, match="raise max_tokens"):
            await FunctionAgent(tools=[write_file], llm=llm, streaming=streaming).run("Write.")
    assert ran == []


@streamed_or_not
@pytest.mark.parametrize("stop", ["malformed_tool_use", "malformed_model_output"])
async def test_malformed_answer_raises_in_agent(write_file, ran, streaming, stop):
    answer = half_call(HALVES[1], stop, streaming=streaming)
    with ScriptedBedrock(answer) as server:
        llm = BedrockRouter(HAIKU, **server.arguments)
        with pytest.raises(InvalidAnswerError) as error:
            await FunctionAgent(tools=[write_file], llm=llm, streaming=streaming).run("Write.")
    assert error.value.stop_reason == stop
    assert error.value.partial["output"]["message"]["content"][-1]["toolUse"]["name"] == "write_file"
    assert ran == []


@pytest.mark.parametrize("form", FORMS)
async def test_malformed_answer_raises_in_every_form(form):
    stop = "malformed_model_output"
    answer = stream_of(text(0, "half"), block_stop(0), stop=stop) if "stream" in form else whole_of(stop=stop)
    with ScriptedBedrock(answer) as server, pytest.raises(InvalidAnswerError, match=stop):
        await run(BedrockRouter(HAIKU, **server.arguments), form, "Hello")


# --- a prompt that is too long ---


class Heard(BaseEventHandler):
    events: list = []  # noqa: RUF012 - pydantic copies it

    def handle(self, event, **_):
        if isinstance(event, ModelCallFailedEvent):
            self.events.append(event)


@pytest.fixture
def emitted():
    dispatcher, handler = get_dispatcher(), Heard()
    dispatcher.add_event_handler(handler)
    yield handler.events
    dispatcher.event_handlers.remove(handler)


@pytest.mark.parametrize("form", FORMS)
async def test_context_overflow_has_class_of_its_own(bedrock, emitted, form):
    bedrock.fail("validation", message="prompt is too long: 215000 tokens > 200000 maximum", rate=1.0)
    with pytest.raises(ContextOverflowError) as error:
        await run(BedrockRouter(HAIKU, callback_manager=CallbackManager([])), form, "Hello")
    assert isinstance(error.value, ClientError)
    assert isinstance(error.value, BedrockRoutingError)
    assert (error.value.tokens, error.value.maximum) == (215_000, 200_000)
    assert [event.exception for event in emitted] == [error.value]


# --- models that change ---

SIGNED = ThinkingBlock(content="easy", additional_information={"signature": "c2ln"})
REDACTED = ThinkingBlock(additional_information={"redacted_content": "AAEC/yBoaWRkZW4="})
ON_THE_WIRE = [
    {"reasoningContent": {"reasoningText": {"text": "easy", "signature": "c2ln"}}},
    {"reasoningContent": {"redactedContent": "AAEC/yBoaWRkZW4="}},
]


def sent_reasoning(request):
    return [b for message in request["messages"] for b in message["content"] if "reasoningContent" in b]


@pytest.mark.parametrize("form", ["chat", "achat", "stream_chat", "astream_chat"])
@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (THINKER, ON_THE_WIRE),
        (NOVA_PRO, []),
        (HAIKU, []),
        ("us.meta.llama3-3-70b-instruct-v1:0", []),
        ("openai.gpt-oss-120b-1:0", [{"reasoningContent": {"reasoningText": {"text": "easy"}}}]),
    ],
)
async def test_model_of_call_gets_reasoning_that_it_takes(form, model, expected):
    answer = ChatMessage(role="assistant", blocks=[SIGNED, REDACTED, TextBlock(text="4")])
    history = [ChatMessage("2+2?"), answer, ChatMessage("x10?")]
    stream = "stream" in form
    with ScriptedBedrock(stream_of(text(0, "40"), block_stop(0)) if stream else whole_of({"text": "40"})) as server:
        response = getattr(BedrockRouter(THINKER, **server.arguments), form)(history, model=model)
        response = await response if form.startswith("a") else response
        if stream:
            _ = [chunk async for chunk in response] if form.startswith("a") else list(response)
        assert sent_reasoning(server.requests[-1]) == expected
    assert answer.blocks == [SIGNED, REDACTED, TextBlock(text="4")]


async def test_agent_on_another_model_goes_on_after_hand_off():
    def reply(request):
        sent_text = json.dumps(request["messages"])
        if "handoff" not in sent_text:
            thinking = {"reasoningContent": {"reasoningText": {"text": "easy", "signature": "c2ln"}}}
            call = {"toolUse": {"toolUseId": "h1", "name": "handoff", "input": {"to_agent": "second", "reason": "x"}}}
            return whole_of(thinking, call, stop="tool_use")
        return whole_of({"text": "done"})

    with ScriptedBedrock(reply) as server:
        first, second = (
            FunctionAgent(
                name=name, description=name, llm=BedrockRouter(model, **server.arguments), tools=[], streaming=False,
                can_handoff_to=["second"] if name == "first" else [],
            )
            for name, model in (("first", THINKER), ("second", NOVA_PRO))
        )  # fmt: skip
        assert str(await AgentWorkflow(agents=[first, second], root_agent="first").run("Go.")) == "done"
        assert sent_reasoning(server.requests[-1]) == []


# --- system messages amid the conversation ---


AMID = [ChatMessage("Be brief.", role="system"), *user("Hello"), ChatMessage("Hi", role="assistant"),
        ChatMessage("Answer in French.", role="system"), *user("Why?")]  # fmt: skip


@pytest.mark.parametrize(
    ("placement", "roles", "system"),
    [
        (None, ["user", "assistant", "user"], ["Be brief."]), ("inline", ["user", "assistant", "user"], ["Be brief."]),
        ("native", ["user", "assistant", "system", "user"], ["Be brief."]),
        ("hoist", ["user", "assistant", "user"], ["Be brief.", "Answer in French."]),
    ],
)  # fmt: skip
def test_mid_conversation_system_places_later_system_messages(placement, roles, system):
    with ScriptedBedrock(whole_of({"text": "Oui."})) as server:
        llm = BedrockRouter(HAIKU, mid_conversation_system=placement, **server.arguments)
        llm.chat(AMID)
        request = server.requests[-1]
    assert [message["role"] for message in request["messages"]] == roles
    assert [block["text"] for block in request["system"] if "text" in block] == system
    assert "Answer in French." in json.dumps(request)
    assert BedrockRouter.from_dict(llm.to_dict()).mid_conversation_system == placement


def test_mid_conversation_system_of_other_value_is_refused():
    with pytest.raises(ValueError, match="mid_conversation_system"):
        BedrockRouter(HAIKU, mid_conversation_system="after")


@pytest.mark.parametrize("model", [HAIKU, NOVA_PRO])
def test_results_separated_by_system_message_are_sent_together(model):
    calls = [ToolCallBlock(tool_call_id=each, tool_name="find", tool_kwargs={}) for each in ("a", "b")]
    history = [
        *user("Find both."), ChatMessage(role="assistant", blocks=calls),
        ChatMessage("first", role="tool", additional_kwargs={"tool_call_id": "a"}),
        ChatMessage("Hurry.", role="system"),
        ChatMessage("second", role="tool", additional_kwargs={"tool_call_id": "b"}),
    ]  # fmt: skip
    tool = FunctionTool.from_defaults(lambda: "found", name="find", description="Find.")
    with ScriptedBedrock(whole_of({"text": "done"})) as server:
        BedrockRouter(model, **server.arguments).chat_with_tools([tool], chat_history=history)
        sent = server.requests[-1]["messages"]
    results = [
        [block["toolResult"]["toolUseId"] for block in turn["content"] if "toolResult" in block] for turn in sent
    ]
    assert [ids for ids in results if ids] == [["a", "b"]]
    assert [turn["role"] for turn in sent[:3]] == ["user", "assistant", "user"]
    assert "Hurry." in json.dumps(sent)


# --- histories that are kept as JSON ---


@pytest.mark.parametrize("form", ["chat", "achat", "stream_chat", "astream_chat"])
async def test_responses_with_redacted_thinking_are_json_and_go_back(form):
    parts = [("contentBlockDelta", {"contentBlockIndex": 0, "delta": ON_THE_WIRE[1]}), block_stop(0), text(1, "4")]
    stream = "stream" in form
    with ScriptedBedrock(stream_of(*parts) if stream else whole_of(ON_THE_WIRE[1], {"text": "4"})) as server:
        llm = BedrockRouter(THINKER, **server.arguments)
        responses = await run(llm, form, "2+2?")
        for response in responses:
            json.loads(response.model_dump_json())  # as handlers of LlamaIndex's events write it
        message = responses[-1].message
        assert message.blocks == [REDACTED, TextBlock(text="4")]
        assert ON_THE_WIRE[1] in responses[-1].raw["output"]["message"]["content"]
        kept = ChatMessage.model_validate(json.loads(json.dumps(message.model_dump())))
        assert kept == ChatMessage.model_validate_json(message.model_dump_json()) == message
        await run(llm, form, "x10?") if stream else llm.chat([*user("2+2?"), kept, *user("x10?")])
        if not stream:
            assert server.requests[-1]["messages"][1]["content"] == [ON_THE_WIRE[1], {"text": "4"}]


# --- projects, and tokens ---


@pytest.mark.sample(8)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("where", ["constructor", "call", "AWS's name"])
async def test_project_identifier_reaches_bedrock(form, where):
    answer = stream_of(text(0, "ok"), block_stop(0)) if "stream" in form else whole_of({"text": "ok"})
    constructed = {"project_identifier": "proj_abc"} if where == "constructor" else {}
    name = "projectIdentifier" if where == "AWS's name" else "project_identifier"
    with ScriptedBedrock(answer) as server:
        llm = BedrockRouter(HAIKU, **constructed, **server.arguments)
        operation = llm.client.runtime_client(HAIKU).meta.service_model.operation_model("Converse")
        if "projectIdentifier" not in operation.input_shape.members:
            with pytest.raises(InvalidRequestError, match="Install a newer one"):
                await run(llm, form, "Hello", **({} if constructed else {name: "proj_abc"}))
            assert server.requests == []
            return
        await run(llm, form, "Hello", **({} if constructed else {name: "proj_abc"}))
        assert server.requests[-1]["projectIdentifier"] == "proj_abc"
        assert "additionalModelRequestFields" not in server.requests[-1]


async def test_count_tokens_counts_messages_and_tools(bedrock, write_file):
    for model in (HAIKU, NOVA_PRO, bedrock.default_router("amazon.nova:1")):
        llm = BedrockRouter(model)
        history = [ChatMessage("Be brief.", role="system"), *user("bees " * 200)]
        alone, with_tools = llm.count_tokens(history), llm.count_tokens(history, [write_file])
        assert 150 < alone < with_tools
        assert await llm.acount_tokens(history, tools=[write_file]) == with_tools
    assert bedrock.requests("Converse") == []
    with pytest.raises(InvalidRequestError, match="nothing to send"):
        llm.count_tokens([])
    with pytest.raises(InvalidRequestError, match="did you mean 'thinking'"):
        llm.count_tokens(history, thinkin={"type": "enabled"})


def test_tool_call_without_arguments_goes_back():
    answer = stream_of(call_start(0, "t1", "now"), block_stop(0), stop="tool_use")
    now = {"toolSpec": {"name": "now", "inputSchema": {"json": {"type": "object"}}}}
    with ScriptedBedrock(answer, whole_of({"text": "noon"})) as server:
        llm = BedrockRouter(HAIKU, **server.arguments)
        last = list(llm.stream_chat(user("a"), tools=[now]))[-1]
        assert [block.tool_kwargs for block in last.message.blocks if isinstance(block, ToolCallBlock)] == [{}]
        result = ChatMessage(role="tool", content="12:00", additional_kwargs={"tool_call_id": "t1"})
        llm.chat([*user("a"), last.message, result], tools=[now])
        assert server.requests[-1]["messages"][1]["content"][0]["toolUse"]["input"] == {}
