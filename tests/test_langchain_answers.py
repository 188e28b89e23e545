"""Messages that `ChatBedrockRouter` makes of responses: complete, whether whole, streamed or asynchronous."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain.agents import create_agent
from langchain_core.load import dumps
from langchain_core.messages import AIMessageChunk, HumanMessage, ToolMessage, messages_from_dict, messages_to_dict
from langchain_core.tools import tool
from langchain_core.utils.json import parse_partial_json
from scripted_bedrock import ScriptedBedrock, block_stop, call_delta, call_start, stream_of, text, whole_of

from bedrock_routing_integrations.errors import InvalidAnswerError
from bedrock_routing_integrations.langchain import ChatBedrockRouter
from bedrock_routing_integrations.langchain._converse_client import invalid_ending

CLAUDE = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
NOVA_2, NOVA = "us.amazon.nova-2-lite-v1:0", "us.amazon.nova-premier-v1:0"
WAYS = ["invoke", "stream", "ainvoke", "astream"]
NOW = {"toolSpec": {"name": "now", "description": "The time.", "inputSchema": {"json": {"type": "object"}}}}


async def ask(llm, way, prompt="x"):
    """Return the answer, the chunks of a stream merged."""
    if way == "invoke":
        return llm.invoke(prompt)
    if way == "ainvoke":
        return await llm.ainvoke(prompt)
    chunks = list(llm.stream(prompt)) if way == "stream" else [chunk async for chunk in llm.astream(prompt)]
    merged = chunks[0]
    for chunk in chunks[1:]:
        merged += chunk
    return merged


class Answering:
    """A server that gives one answer, whole and streamed, and a chat model of it."""

    def __init__(self, whole, events, model=CLAUDE, **arguments):
        self._server = ScriptedBedrock(lambda request: self.answer)
        self._answers = {"invoke": whole, "stream": events}
        self._arguments = {"model": model, "cache": "off", **arguments}

    def __enter__(self):
        self._server.__enter__()
        self.requests = self._server.requests
        self.llm = ChatBedrockRouter(**self._arguments, **self._server.arguments)
        return self

    def __exit__(self, *error):
        self._server.__exit__(*error)

    async def ask(self, way, llm=None, prompt="x"):
        self.answer = self._answers[way.removeprefix("a")]
        return await ask(llm or self.llm, way, prompt)

    def turn_after(self, message):
        """Return what is sent of a message in the next turn."""
        self.answer = self._answers["invoke"]
        result = [ToolMessage("r", tool_call_id=call["id"]) for call in message.tool_calls]
        self.llm.bind_tools([NOW]).invoke([HumanMessage("x"), message, *result, HumanMessage("go on")])
        return self.requests[-1]["messages"][1]["content"]


def delta(index, **members):
    return "contentBlockDelta", {"contentBlockIndex": index, "delta": members}


# --- citations ---

CITATIONS = [
    {"title": "policy", "sourceContent": [{"text": "20 days."}],
     "location": {"documentChar": {"documentIndex": 0, "start": 0, "end": 8}}},
    {"title": "notes", "sourceContent": [{"text": "Twenty."}],
     "location": {"documentPage": {"documentIndex": 1, "start": 2, "end": 3}}},
]  # fmt: skip
WEB = [{"location": {"web": {"url": f"https://example.org/{n}", "domain": "example.org"}}} for n in (1, 2, 3)]
CITED = {
    "one block": (
        [{"citationsContent": {"content": [{"text": "20 days"}], "citations": CITATIONS}}],
        # As Claude streams it (recorded): citations first.
        [*(delta(0, citation=each) for each in CITATIONS), text(0, "20 "), text(0, "days"), block_stop(0)],
        [("20 days", 2)],
    ),
    "several": (
        [{"text": "It says "}, {"citationsContent": {"content": [{"text": "20 days"}], "citations": CITATIONS[:1]}}],
        [text(0, "It says "), block_stop(0), text(1, "20 days"), delta(1, citation=CITATIONS[0]), block_stop(1)],
        [("It says ", 0), ("20 days", 1)],
    ),
    "without content": (
        # As Nova's web grounding gives it (recorded).
        [{"text": "Bees"}, *({"citationsContent": {"citations": [each]}} for each in WEB[:2]), {"text": " fly"},
         {"citationsContent": {"citations": WEB[2:]}}, {"text": "."}],
        [text(0, "Bees"), block_stop(0), delta(1, citation=WEB[0]), delta(1, citation=WEB[1]), block_stop(1),
         text(2, " fly"), block_stop(2), delta(3, citation=WEB[2]), block_stop(3), text(4, "."), block_stop(4)],
        [("Bees", 2), (" fly", 1), (".", 0)],
    ),
}  # fmt: skip


def annotated(message):
    return [
        (block["text"], [{k: v for k, v in each.items() if k != "index"} for each in block.get("annotations", [])])
        for block in message.content_blocks
        if block["type"] == "text"
    ]


@pytest.mark.sample(6)
@pytest.mark.parametrize("version", ["v0", "v1"])
@pytest.mark.parametrize("case", CITED)
@pytest.mark.parametrize("model", [CLAUDE, NOVA])
async def test_citations_are_annotations_in_every_kind_of_call(case, version, model):
    whole, events, expected = CITED[case]
    with Answering(whole_of(*whole), stream_of(*events), model, output_version=version) as server:
        answers = [await server.ask(way) for way in WAYS]
        assert [(text, len(notes)) for text, notes in annotated(answers[0])] == expected
        assert [annotated(answer) for answer in answers[1:]] == [annotated(answers[0])] * 3
        for answer in answers:
            json.dumps(messages_to_dict([answer]))
            sent = server.turn_after(answer)
            assert "".join(str(block.get("text") or block["citationsContent"]["content"][0]["text"]) for block in sent)
            cited = [each for block in sent for each in block.get("citationsContent", {}).get("citations", [])]
            assert cited == ([] if "without" in case else CITATIONS[: len(cited)])


async def test_stream_events_have_all_citations():
    whole, events, _ = CITED["one block"]
    with Answering(whole_of(*whole), stream_of(*events)) as server:
        server.answer = stream_of(*events)
        events = [event async for event in server.llm.astream_events("x", version="v2")]
        (block,) = [b for b in events[-1]["data"]["output"].content_blocks if b["type"] == "text"]
        assert len(block["annotations"]) == 2


async def test_citations_survive_models_with_inline_reasoning():
    content = [{"text": "<thinking>hm</thinking>Bees"}, {"citationsContent": {"citations": WEB[:1]}}]
    with Answering(whole_of(*content), [], NOVA) as server:
        answer = await server.ask("invoke")
        assert [block["type"] for block in answer.content_blocks] == ["reasoning", "text"]
        assert [(text, len(notes)) for text, notes in annotated(answer)] == [("Bees", 1)]


# --- calls that were cut off ---

ARGUMENTS = json.dumps({"path": "/etc/bees", "lines": ['a "quoted" \\ one', {"deep": [1, 2]}]})


@pytest.mark.parametrize("stop", ["max_tokens", "model_context_window_exceeded"])
@pytest.mark.parametrize("version", ["v0", "v1"])
@pytest.mark.parametrize("way", WAYS)
async def test_tool_call_cut_off_is_invalid(way, version, stop):
    whole = whole_of({"text": "I call."}, {"toolUse": {"toolUseId": "t1", "name": "now", "input": {}}}, stop=stop)
    events = stream_of(
        text(0, "I call."), block_stop(0), call_start(1, "t1", "now"), call_delta(1, ARGUMENTS[:20]),
        call_delta(1, ARGUMENTS[20:25]), block_stop(1), stop=stop,
    )  # fmt: skip
    with Answering(whole, events, output_version=version) as server:
        answer = await server.ask(way, server.llm.bind_tools([NOW]))
        assert answer.tool_calls == []
        (call,) = answer.invalid_tool_calls
        assert (call["id"], call["name"]) == ("t1", "now")
        assert call["args"].startswith(ARGUMENTS[:25] if "stream" in way else "{}")
        assert not [block for block in answer.content_blocks if block["type"] == "tool_call" and block["args"] == {}]
        (kept,) = messages_from_dict(json.loads(json.dumps(messages_to_dict([answer]))))
        assert server.turn_after(kept) == [{"text": "I call."}]


@pytest.mark.sample(20)
@pytest.mark.parametrize("cut", range(len(ARGUMENTS) + 1))
async def test_tool_call_cut_off_anywhere_never_runs(cut):
    events = stream_of(call_start(0, "t1", "now"), *([call_delta(0, ARGUMENTS[:cut])] if cut else []), block_stop(0),
                       stop="max_tokens")  # fmt: skip
    with Answering(whole_of(), events) as server:
        answer = await server.ask("stream")
        assert answer.tool_calls == []
        assert answer.invalid_tool_calls[0]["args"].startswith(ARGUMENTS[:cut])


@given(st.text('{}[]":,\\\n ab1', max_size=30))
def test_invalid_ending_makes_any_arguments_unreadable(arguments):
    spoilt = arguments + invalid_ending(arguments)
    with pytest.raises(json.JSONDecodeError):
        json.loads(spoilt)
    chunk = AIMessageChunk(
        "",
        tool_call_chunks=[{"name": "now", "args": spoilt, "id": "1", "index": 0, "type": "tool_call_chunk"}],
        chunk_position="last",
    )
    assert not chunk.tool_calls
    try:
        parsed = parse_partial_json(spoilt)
    except ValueError:
        parsed = None
    assert not isinstance(parsed, dict)


@pytest.mark.parametrize("streamed", [False, True])
async def test_agent_does_not_run_a_cut_off_call(streamed):
    ran = []

    @tool
    def now(zone: str) -> str:
        """The time."""
        ran.append(zone)
        return "12:00"

    def answers(stop):
        call = {"toolUse": {"toolUseId": "t1", "name": "now", "input": {"zone": "U"}}}
        return whole_of(call, stop=stop), stream_of(
            call_start(0, "t1", "now"), call_delta(0, '{"zone": "U'), *([call_delta(0, 'TC"}')] * (stop == "tool_use")),
            block_stop(0), stop=stop,
        )  # fmt: skip

    done = (whole_of({"text": "done"}), stream_of(text(0, "done")))
    for stop, times in (("max_tokens", 0), ("tool_use", 1)):
        ran.clear()
        script = [answers(stop)[streamed], done[streamed]]
        with ScriptedBedrock(*script) as server:
            agent = create_agent(ChatBedrockRouter(model=CLAUDE, cache="off", **server.arguments), tools=[now])
            state = {"messages": [("human", "time?")]}
            if streamed:
                list(agent.stream(state, stream_mode="messages"))  # `astream` streams no tokens on Python 3.10
            else:
                await agent.ainvoke(state)
        assert len(ran) == times


@pytest.mark.parametrize("way", WAYS)
async def test_malformed_answer_raises(way):
    events = stream_of(text(0, "I "), block_stop(0), stop="malformed_tool_use")
    server = Answering(whole_of({"text": "I "}, stop="malformed_tool_use"), events)
    with server, pytest.raises(InvalidAnswerError, match="malformed_tool_use"):
        await server.ask(way)


# --- calls without parameters ---


@pytest.mark.parametrize("version", ["v0", "v1"])
@pytest.mark.parametrize("deltas", [[], [""], ["{}"], ["", "{}"]], ids=str)
async def test_streamed_call_without_parameters_goes_back(deltas, version):
    events = stream_of(
        call_start(0, "t1", "now"), *[call_delta(0, each) for each in deltas], block_stop(0), stop="tool_use"
    )
    with Answering(whole_of({"text": "ok"}), events, output_version=version) as server:
        for way in ("stream", "astream"):
            answer = await server.ask(way)
            assert [call["args"] for call in answer.tool_calls] == [{}]
            assert server.turn_after(answer) == [{"toolUse": {"toolUseId": "t1", "name": "now", "input": {}}}]


async def test_whole_call_without_input_has_no_arguments():
    with Answering(whole_of({"toolUse": {"toolUseId": "t1", "name": "now"}}, stop="tool_use"), []) as server:
        answer = await server.ask("invoke")
        assert [call["args"] for call in answer.tool_calls] == [{}]


# --- redacted reasoning ---

HIDDEN = b"\0\1\2\xff hidden"


@pytest.mark.sample(4)
@pytest.mark.parametrize("version", ["v0", "v1"])
@pytest.mark.parametrize("way", WAYS)
async def test_redacted_reasoning_is_base64_text_in_messages(way, version):
    block = {"reasoningContent": {"redactedContent": base64.b64encode(HIDDEN).decode()}}
    parts = [HIDDEN[:4], HIDDEN[4:5], HIDDEN[5:]]
    deltas = [delta(0, reasoningContent={"redactedContent": base64.b64encode(part).decode()}) for part in parts]
    events = stream_of(*deltas, block_stop(0), text(1, "ok"), block_stop(1))
    with Answering(whole_of(block, {"text": "ok"}), events, output_version=version) as server:
        answer = await server.ask(way)
        dumps(answer)
        (kept,) = messages_from_dict(json.loads(json.dumps(messages_to_dict([answer]))))
        for each in (answer, kept):
            assert server.turn_after(each) == [block, {"text": "ok"}]


@pytest.mark.parametrize("version", ["v0", "v1"])
@pytest.mark.parametrize("way", WAYS)
async def test_signed_reasoning_survives_a_turn(way, version):
    block = {"reasoningContent": {"reasoningText": {"text": "hm, so", "signature": "c2ln"}}}
    events = stream_of(
        delta(0, reasoningContent={"text": "hm, "}), delta(0, reasoningContent={"text": "so"}),
        delta(0, reasoningContent={"signature": "c2ln"}), block_stop(0), text(1, "ok"), block_stop(1),
    )  # fmt: skip
    with Answering(whole_of(block, {"text": "ok"}), events, output_version=version) as server:
        assert server.turn_after(await server.ask(way)) == [block, {"text": "ok"}]


# --- system tools ---

RESULT = {"stdOut": "42", "exit_code": 0, "isError": False, "n_ested": [{"a_B": None}]}
SYSTEM_TOOL = [
    {"toolUse": {"toolUseId": "s1", "name": "nova_code_interpreter", "input": {"the_snippet": "6*7"},
                 "type": "server_tool_use"}},
    {"toolResult": {"toolUseId": "s1", "content": [{"json": RESULT}], "status": "success",
                    "type": "nova_code_interpreter_result"}},
    {"text": "42"},
]  # fmt: skip
SYSTEM_TOOL_EVENTS = [
    ("contentBlockStart", {"contentBlockIndex": 0, "start": {"toolUse": {
        "toolUseId": "s1", "name": "nova_code_interpreter", "type": "server_tool_use"}}}),
    call_delta(0, '{"the_snippet": '), call_delta(0, '"6*7"}'), block_stop(0),
    ("contentBlockStart", {"contentBlockIndex": 1, "start": {"toolResult": {
        "toolUseId": "s1", "status": "success", "type": "nova_code_interpreter_result"}}}),
    delta(1, toolResult=[{"json": RESULT}]), block_stop(1), text(2, "42"), block_stop(2),
]  # fmt: skip


@pytest.mark.parametrize("version", ["v0", "v1"])
@pytest.mark.parametrize("way", WAYS)
async def test_system_tool_blocks_are_kept_and_sent_back(way, version):
    tools = {"tools": [{"systemTool": {"name": "nova_code_interpreter"}}]}
    with Answering(whole_of(*SYSTEM_TOOL), stream_of(*SYSTEM_TOOL_EVENTS), NOVA_2, output_version=version) as server:
        answer = await server.ask(way, server.llm.bind(toolConfig=tools))
        assert (answer.text, answer.tool_calls, answer.invalid_tool_calls) == ("42", [], [])
        (kept,) = messages_from_dict(json.loads(json.dumps(messages_to_dict([answer]))))
        for each in (answer, kept):
            assert server.turn_after(each) == SYSTEM_TOOL


async def test_bound_system_tool_blocks_are_kept():
    with Answering(whole_of(*SYSTEM_TOOL), whole_of(*SYSTEM_TOOL), NOVA_2) as server:
        llm = server.llm.bind_tools(["nova_code_interpreter"])
        for way in WAYS:
            answer = await server.ask(way, llm)
            assert (answer.text, answer.tool_calls) == ("42", [])
            assert server.turn_after(answer) == SYSTEM_TOOL


@pytest.mark.parametrize("way", WAYS)
async def test_server_calls_and_tool_calls_are_distinguished(way):
    mine = {"toolUse": {"toolUseId": "t1", "name": "now", "input": {"z_one": 1}, "type": "tool_use"}}
    start = {"toolUse": {"toolUseId": "t1", "name": "now", "type": "tool_use"}}
    events = [*SYSTEM_TOOL_EVENTS[:7], ("contentBlockStart", {"contentBlockIndex": 2, "start": start}),
              call_delta(2, '{"z_one": 1}'), block_stop(2)]  # fmt: skip
    whole = whole_of(*SYSTEM_TOOL[:2], mine, stop="tool_use")
    with Answering(whole, stream_of(*events, stop="tool_use"), NOVA_2) as server:
        answer = await server.ask(way, server.llm.bind_tools([NOW]))
        assert [(call["name"], call["args"]) for call in answer.tool_calls] == [("now", {"z_one": 1})]
        sent = server.turn_after(answer)
        assert sent[:2] == SYSTEM_TOOL[:2]
        assert sent[2]["toolUse"] == {"toolUseId": "t1", "name": "now", "input": {"z_one": 1}}


# --- what is missing, what is new ---


@pytest.mark.parametrize("way", WAYS)
async def test_missing_usage_is_none(way):
    whole = {**whole_of({"text": "ok"})}
    del whole["usage"]
    events = [*stream_of(text(0, "ok"))[:-1], ("metadata", {"metrics": {"latencyMs": 7}})]
    with Answering(whole, events) as server:
        answer = await server.ask(way)
        assert (answer.text, answer.usage_metadata) == ("ok", None)
        assert answer.response_metadata["routing"]["usage"] is None
        assert answer.response_metadata["model_name"] == CLAUDE.removeprefix("us.")


async def test_audio_block_is_kept():
    sound = {"audio": {"format": "mp3", "source": {"bytes": base64.b64encode(b"la").decode()}}}
    with Answering(whole_of({"text": "hear"}, sound), []) as server:
        answer = await server.ask("invoke")
        assert answer.content[1] == {"type": "audio", "base64": "bGE=", "mime_type": "audio/mp3"}
        json.dumps(messages_to_dict([answer]))
