"""`ChatBedrockRouter.with_structured_output`: schemas of any type, streams that were cut off, JSON text as answer."""

from __future__ import annotations

import contextlib
import json

import pytest
from langchain_core.exceptions import OutputParserException
from langchain_core.output_parsers import PydanticToolsParser
from pydantic import BaseModel, RootModel
from scripted_bedrock import ScriptedBedrock, block_stop, call_delta, call_start, stream_of, text, whole_of

from bedrock_routing_integrations.langchain import ChatBedrockRouter

CLAUDE = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
LLAMA = "us.meta.llama3-1-70b-instruct-v1:0"
THINKING = {"thinking": {"type": "enabled", "budget_tokens": 1024}}
WAYS = ["invoke", "stream", "ainvoke", "astream"]


async def parsed_answer(chain, way, *, include_raw=False):
    """Return the answer of a chain; of a stream the last chunk, or its chunks' members merged."""
    if way == "invoke":
        return chain.invoke("x")
    if way == "ainvoke":
        return await chain.ainvoke("x")
    parts = list(chain.stream("x")) if way == "stream" else [part async for part in chain.astream("x")]
    if include_raw:
        return {name: value for part in parts for name, value in part.items()}
    return parts[-1] if parts else None


# --- schemas whose root is not an object ---


class Cities(RootModel[list[str]]):
    """Cities."""


NAMES = {"title": "Names", "description": "Names.", "type": "array", "items": {"type": "string"}}
FUNCTION = {"name": "names", "description": "Names.", "parameters": {"type": "array", "items": {"type": "string"}}}


@pytest.mark.sample(10)
@pytest.mark.parametrize("include_raw", [False, True])
@pytest.mark.parametrize("method", ["function_calling", "json_schema"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("schema", [Cities, NAMES, FUNCTION], ids=["RootModel", "JSON schema", "function"])
async def test_structured_output_of_a_list(schema, way, method, include_raw):
    if method == "json_schema" and schema is FUNCTION:
        pytest.skip("langchain-aws takes no function there")
    value = json.dumps({"root": ["Rome", "Oslo"]})

    def answer(request):
        streams = way.endswith("stream")
        if "toolConfig" not in request:
            return stream_of(text(0, value[:9]), text(0, value[9:])) if streams else whole_of({"text": value})
        (spec,) = request["toolConfig"]["tools"]
        assert spec["toolSpec"]["inputSchema"]["json"]["type"] == "object"
        name = spec["toolSpec"]["name"]
        if streams:
            deltas = [call_delta(0, value[:9]), call_delta(0, value[9:])]
            return stream_of(call_start(0, "t1", name), *deltas, block_stop(0), stop="tool_use")
        return whole_of({"toolUse": {"toolUseId": "t1", "name": name, "input": json.loads(value)}}, stop="tool_use")

    with ScriptedBedrock(answer) as server:
        llm = ChatBedrockRouter(model=CLAUDE, cache="off", **server.arguments)
        chain = llm.with_structured_output(schema, method=method, include_raw=include_raw)
        if way == "invoke":
            found = chain.invoke("x")
        elif way == "ainvoke":
            found = await chain.ainvoke("x")
        else:
            parts = list(chain.stream("x")) if way == "stream" else [each async for each in chain.astream("x")]
            found = {name: v for part in parts for name, v in part.items()} if include_raw else parts[-1]
    expected = Cities(["Rome", "Oslo"]) if schema is Cities else ["Rome", "Oslo"]
    assert (found["parsed"] if include_raw else found) == expected


@pytest.mark.parametrize("stop", ["max_tokens", "model_context_window_exceeded"])
@pytest.mark.parametrize("method", ["function_calling", "json_schema"])
@pytest.mark.parametrize("way", ["stream", "astream"])
async def test_structured_stream_that_was_cut_off_raises(way, method, stop):
    half = '{"items": ["Rome", "Os'

    def answer(request):
        if "toolConfig" not in request:
            return stream_of(text(0, half), block_stop(0), stop=stop)
        name = request["toolConfig"]["tools"][0]["toolSpec"]["name"]
        return stream_of(call_start(0, "t1", name), call_delta(0, half), block_stop(0), stop=stop)

    schema = {"title": "Page", "description": "A page.", "type": "object", "properties": {"items": {"type": "array"}}}
    with ScriptedBedrock(answer) as server:
        llm = ChatBedrockRouter(model=CLAUDE, cache="off", **server.arguments)
        chain = llm.with_structured_output(schema, method=method)
        with pytest.raises(OutputParserException, match=f"not complete .stop reason {stop}"):
            _ = list(chain.stream("x")) if way == "stream" else [each async for each in chain.astream("x")]


def test_bound_list_tool_has_the_argument_root():
    call = {"toolUse": {"toolUseId": "t1", "name": "Cities", "input": {"root": ["Rome"]}}}
    with ScriptedBedrock(lambda request: whole_of(call, stop="tool_use")) as server:
        llm = ChatBedrockRouter(model=CLAUDE, cache="off", **server.arguments)
        assert (llm.bind_tools([Cities]) | PydanticToolsParser(tools=[Cities])).invoke("x") == [Cities(["Rome"])]
        llm.bind_tools([NAMES]).invoke("x")
        assert server.requests[-1]["toolConfig"]["tools"][0]["toolSpec"]["inputSchema"]["json"]["required"] == ["root"]


class Page(BaseModel):
    """A page."""

    model_config = {"title": "Page[str]"}
    items: list[str]


async def test_structured_output_translates_illegal_schema_names():
    def answer(request):
        name = request["toolConfig"]["tools"][0]["toolSpec"]["name"]
        assert name != "Page[str]"
        return whole_of({"toolUse": {"toolUseId": "t1", "name": name, "input": {"items": ["a"]}}}, stop="tool_use")

    schema = {"title": "Page[str]", "type": "object", "properties": {"items": {"type": "array"}}}
    with ScriptedBedrock(answer) as server:
        llm = ChatBedrockRouter(model=CLAUDE, cache="off", **server.arguments)
        assert llm.with_structured_output(schema).invoke("x") == {"items": ["a"]}


# --- JSON text in place of a tool call ---


class City(BaseModel):
    """A city."""

    name: str
    country: str = "unknown"


CITY_SCHEMA = {
    "title": "City", "description": "A city.", "type": "object",
    "properties": {"name": {"type": "string"}, "country": {"type": "string"}}, "required": ["name"],
}  # fmt: skip
ROME = {"name": "Rome", "country": "Italy"}


@contextlib.contextmanager
def answering_with_text(answer_text, *, model=LLAMA, stop="end_turn", **arguments):
    """Yield a chat model whose server answers with a text in place of the tool call, whole or in two chunks."""
    half = len(answer_text) // 2
    events = stream_of(text(0, answer_text[:half]), text(0, answer_text[half:]), block_stop(0), stop=stop)
    whole = whole_of({"text": answer_text}, stop=stop)
    # Llama has no stream with tools: its stream is a whole answer's.
    answer = whole if model == LLAMA else events if arguments.pop("streamed", False) else whole
    with ScriptedBedrock(lambda request: answer) as server:
        yield ChatBedrockRouter(model=model, cache="off", **arguments, **server.arguments)


def thinking_claude(answer_text, way, **arguments):
    fields = {"additional_model_request_fields": THINKING}
    return answering_with_text(answer_text, model=CLAUDE, streamed=way.endswith("stream"), **fields, **arguments)


@pytest.mark.parametrize("include_raw", [False, True])
@pytest.mark.parametrize("schema", [City, CITY_SCHEMA], ids=["class", "JSON schema"])
@pytest.mark.parametrize("way", WAYS)
async def test_structured_output_accepts_json_text(way, schema, include_raw):
    with answering_with_text(json.dumps(ROME)) as llm:
        chain = llm.with_structured_output(schema, include_raw=include_raw)
        answer = await parsed_answer(chain, way, include_raw=include_raw)
    assert (answer["parsed"] if include_raw else answer) == (City(**ROME) if schema is City else ROME)
    if include_raw:
        assert answer["parsing_error"] is None
        assert answer["raw"].tool_calls == [], "the model's own message stays as it is"


@pytest.mark.parametrize("include_raw", [False, True])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.filterwarnings("ignore:ChatBedrockConverse structured output relies on forced tool calling")
async def test_structured_output_accepts_json_text_of_thinking_claude(way, include_raw):
    with thinking_claude(json.dumps(ROME), way) as llm:
        chain = llm.with_structured_output(City, include_raw=include_raw)
        answer = await parsed_answer(chain, way, include_raw=include_raw)
    assert (answer["parsed"] if include_raw else answer) == City(**ROME)


@pytest.mark.parametrize(
    ("schema", "answer_text", "expected"),
    [
        (City, f"Here it is:\n```json\n{json.dumps(ROME)}\n```\nAnything else?", City(**ROME)),
        (City, json.dumps({"name": "City", "parameters": ROME}), City(**ROME)),
        (City, '{"name": "Oslo"}', City(name="Oslo")),
        (Cities, '["Rome", "Oslo"]', Cities(["Rome", "Oslo"])),
        (NAMES, '["Rome", "Oslo"]', ["Rome", "Oslo"]),
        (NAMES, '{"root": ["Rome"]}', ["Rome"]),
    ],
    ids=["in a fence", "a call as text", "without the optional field", "RootModel", "list", "wrapped list"],
)
def test_structured_output_accepts_known_forms_of_json_text(schema, answer_text, expected):
    with answering_with_text(answer_text) as llm:
        assert llm.with_structured_output(schema).invoke("x") == expected


def test_structured_output_without_parameters_ignores_json_text():
    with answering_with_text("{}") as llm:
        assert llm.with_structured_output({"name": "done", "description": "Done."}).invoke("x") is None


UNFIT = {
    "words": "I do not know such a city.",
    "another object": '{"error": "no such city"}',
    "a wrong type": '{"name": ["Rome"]}',
    "half of it": '{"name": "Ro',
    "a number": "42",
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("answer_text", UNFIT.values(), ids=UNFIT)
async def test_structured_output_ignores_text_outside_the_schema(answer_text, way):
    with answering_with_text(answer_text) as llm:
        assert await parsed_answer(llm.with_structured_output(City), way) is None


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.filterwarnings("ignore:ChatBedrockConverse structured output relies on forced tool calling")
async def test_structured_output_of_thinking_claude_raises_at_words(way):
    with (
        thinking_claude("I do not know.", way) as llm,
        pytest.raises(OutputParserException, match="tool calls are not"),
    ):
        await parsed_answer(llm.with_structured_output(City), way)


@pytest.mark.filterwarnings("ignore:ChatBedrockConverse structured output relies on forced tool calling")
def test_structured_output_with_raw_reports_its_parsing_error():
    with thinking_claude("I do not know.", "invoke") as llm:
        answer = llm.with_structured_output(City, include_raw=True).invoke("x")
    assert answer["raw"].text == "I do not know."
    assert answer["parsed"] is None
    assert isinstance(answer["parsing_error"], OutputParserException)


@pytest.mark.parametrize("stop", ["max_tokens", "guardrail_intervened", "content_filtered"])
def test_structured_output_ignores_json_text_cut_off(stop):
    with answering_with_text(json.dumps(ROME), stop=stop) as llm:
        assert llm.with_structured_output(City).invoke("x") is None
