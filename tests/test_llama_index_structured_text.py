"""Test objects from models without forced tool calls, and of classes whose schema is not a plain object."""

from __future__ import annotations

import json
import re
from typing import Generic, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.llms import ChatMessage
from llama_index.core.program.function_program import FunctionCallingProgram
from llama_index.core.prompts import PromptTemplate
from llama_index.core.tools import FunctionTool
from llama_index_forms import user
from pydantic import BaseModel, RootModel
from samples import HAIKU, LLAMA_70B
from scripted_bedrock import ScriptedBedrock, block_stop, call_delta, call_start, stream_of, text, whole_of

from bedrock_routing_integrations.errors import ToolCallError
from bedrock_routing_integrations.llama_index import BedrockRouter
from bedrock_routing_integrations.llama_index._structured_output import with_properties

UNFORCED = "us.anthropic.claude-opus-5-5"
THINKER = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
LLAMA = f"us.{LLAMA_70B}"
PROMPT = PromptTemplate("What does it cost?")
Item = TypeVar("Item")


class Bill(BaseModel):
    """A bill."""

    total: float
    tip: float | None = None


class Note(BaseModel):
    title: str | None = None


class Page(BaseModel, Generic[Item]):
    items: list[Item]


class Names(RootModel[list[str]]):
    pass


class Prices(RootModel[dict[str, float]]):
    pass


class Either(RootModel[Bill | list[Bill]]):
    pass


class Node(BaseModel):
    name: str
    children: list[Node] = []


def in_text(written, *, stop="end_turn"):
    """A Bedrock's answers with this text: whole, and streamed in pieces of five characters."""
    pieces = [text(0, piece) for piece in re.findall(r"(?s).{1,5}", written)]
    return whole_of({"text": written}, stop=stop), stream_of(*pieces, block_stop(0), stop=stop)


def in_call(name, arguments):
    written = json.dumps(arguments)
    events = [call_start(0, "t1", name), *(call_delta(0, part) for part in re.findall(r".{1,4}", written))]
    call = {"toolUse": {"toolUseId": "t1", "name": name, "input": arguments}}
    return whole_of(call, stop="tool_use"), stream_of(*events, block_stop(0), stop="tool_use")


WAYS = (
    "structured_predict", "astructured_predict", "stream_structured_predict", "astream_structured_predict",
    "chat", "achat", "stream_chat", "astream_chat", "program", "aprogram",
)  # fmt: skip


async def predict(way, answers, output_cls, model=UNFORCED, **arguments):
    """The object that one of LlamaIndex's ways to ask for one gives, all that was streamed, and the request."""
    streams = "stream" in way and LLAMA not in model
    with ScriptedBedrock(answers[streams]) as server:
        llm = BedrockRouter(model, cache="off", **arguments, **server.arguments)
        if "predict" in way:
            found = getattr(llm, way)(output_cls, PROMPT)
        elif "program" in way:
            program = FunctionCallingProgram.from_defaults(output_cls=output_cls, llm=llm, prompt=PROMPT)
            found = program.acall() if way.startswith("a") else program()
        else:
            found = getattr(llm.as_structured_llm(output_cls), way)(user("What does it cost?"))
        found = await found if way.startswith("a") else found
        if "stream" in way:
            found = [each async for each in found] if way.startswith("a") else list(found)
        found = found if isinstance(found, list) else [found]
        request = server.requests[-1]
    objects = [each.raw if "chat" in way else each for each in found]
    return objects[-1], objects, request


WRITTEN = '{"total": 12.5}'
TEXTS = {
    "alone": WRITTEN,
    "spaced": f"\n {WRITTEN}\n",
    "fenced": f"Here it is:\n```json\n{WRITTEN}\n```\nAnything else?",
    "fenced without language": f"```\n{WRITTEN}\n```",
    "among words": f"With [1] note and {{x}} set, the bill is {WRITTEN}. Bye {{}}",
    "after a draft": f'First {{"total": "?"}}, so {WRITTEN}',
    "as Llama writes calls": f'{{"name": "Bill", "parameters": {WRITTEN}}}',
}


@pytest.mark.sample(20)
@pytest.mark.filterwarnings("ignore:The `json` method is deprecated")  # LlamaIndex's own StructuredLLM calls it
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("written", TEXTS)
async def test_json_text_counts_as_object(way, written):
    found, _, _ = await predict(way, in_text(TEXTS[written]), Bill)
    assert found == Bill(total=12.5)


@pytest.mark.parametrize("model", [UNFORCED, THINKER, LLAMA, HAIKU])
@pytest.mark.parametrize("way", ["structured_predict", "astream_structured_predict"])
async def test_json_text_counts_on_every_model(way, model):
    thinking = {"thinking": {"type": "enabled", "budget_tokens": 1024}} if model == THINKER else {}
    found, _, request = await predict(way, in_text(WRITTEN), Bill, model, **thinking)
    assert found == Bill(total=12.5)
    forced = {"any", "tool"} & request["toolConfig"].get("toolChoice", {}).keys()
    assert bool(forced) == (model == HAIKU)
    assert ("outputConfig" in request) == (model in {UNFORCED, THINKER})


REFUSALS = {
    "words": "I cannot say.",
    "another object": 'It is {"price": 3}.',
    "no class's fields": '{"error": "unknown"}',
    "invalid": '{"total": "many"}',
    "broken": '{"total": 12.5, "tip": ',
    "part of what is broken": '{"bills": [{"total": 1}, {"total": 2',
    "null": "null",
    "empty": "",
    "deep": "[" * 5000,
}


@pytest.mark.sample(12)
@pytest.mark.filterwarnings("ignore:The `json` method is deprecated")
@pytest.mark.parametrize("way", [*WAYS[:4], "astream_chat", "program"])
@pytest.mark.parametrize("written", REFUSALS)
async def test_text_without_object_raises_with_advice(way, written):
    for output_cls in (Bill, Note) if written != "another object" else (Bill,):
        with pytest.raises(ToolCallError, match=r"called no tool \(stop reason: end_turn\).*be JSON") as error:
            await predict(way, in_text(REFUSALS[written]), output_cls)
        assert "unknown" not in str(error.value), "errors are logged"


@pytest.mark.parametrize("stop", ["max_tokens", "model_context_window_exceeded", "guardrail_intervened"])
@pytest.mark.parametrize("way", ["structured_predict", "astream_structured_predict"])
async def test_text_that_was_cut_off_gives_no_object(way, stop):
    with pytest.raises(ToolCallError, match=f"stop reason: {stop}"):
        await predict(way, in_text('["a", "b"], ["c"', stop=stop), Names)
    with pytest.raises(ToolCallError, match=f"stop reason: {stop}"):
        await predict(way, in_text(WRITTEN, stop=stop), Bill)


@pytest.mark.parametrize("way", ["stream_structured_predict", "astream_structured_predict"])
async def test_streamed_text_grows_as_object(way):
    written = '```json\n{"total": 12.5, "tip": 1.25}\n```'
    found, objects, _ = await predict(way, in_text(written), Bill)
    assert found == Bill(total=12.5, tip=1.25)
    assert Bill(total=12.5) in objects[:-1]


async def test_text_with_users_own_tools_is_not_a_call():
    ran = []

    def pay(total: float) -> None:
        """Pay."""
        ran.append(total)

    tool = FunctionTool.from_defaults(pay)
    with ScriptedBedrock(whole_of({"text": WRITTEN})) as server:
        llm = BedrockRouter(UNFORCED, **server.arguments)
        with pytest.raises(ToolCallError):
            llm.predict_and_call([tool], "Pay.", tool_required=True)
        with pytest.raises(ToolCallError):
            await llm.apredict_and_call([tool], "Pay.", tool_required=True)
        assert "outputConfig" not in server.requests[-1]
    assert ran == []


# --- outputConfig ---


async def test_output_format_is_closed_schema_of_class():
    _, _, request = await predict("structured_predict", in_text('{"items": []}'), Page[Bill])
    asked = request["outputConfig"]["textFormat"]
    schema = json.loads(asked["structure"]["jsonSchema"]["schema"])
    assert asked["type"] == "json_schema"
    assert re.fullmatch("[a-zA-Z0-9_-]{1,64}", asked["structure"]["jsonSchema"]["name"])
    assert schema["additionalProperties"] is schema["$defs"]["Bill"]["additionalProperties"] is False
    assert request["toolConfig"]["tools"][0]["toolSpec"]["inputSchema"]["json"]["properties"].keys() == {"items"}


async def test_output_format_of_caller_is_kept():
    given = {"effort": "low"}
    _, _, request = await predict(
        "structured_predict", in_text(WRITTEN), Bill, additional_kwargs={"outputConfig": given}
    )
    assert request["outputConfig"] == given


def test_chat_takes_allow_json_text_itself():
    """Any tool may be asked for as JSON text, not only the output class of `structured_predict`."""
    with ScriptedBedrock(in_text(WRITTEN)[0], in_text(WRITTEN)[0]) as server:
        llm = BedrockRouter(UNFORCED, **server.arguments)
        tools = [FunctionTool.from_defaults(lambda total: total, name="Bill", fn_schema=Bill)]
        llm.chat(user("What does it cost?"), tools=tools, allow_json_text=True)
        llm.chat(user("What does it cost?"), tools=tools)
        assert ["outputConfig" in request for request in server.requests] == [True, False]


# --- classes whose schema is not a plain object ---

SPECIAL = [
    (Page[str], {"items": ["a", "b"]}, Page[str](items=["a", "b"])),
    (Names, ["a", "b"], Names(["a", "b"])),
    (Prices, {"a": 1.5}, Prices({"a": 1.5})),
    (Either, [{"total": 1.0}], Either([Bill(total=1)])),
    (Either, {"total": 1.0}, Either(Bill(total=1))),
    (RootModel[str], "Rome", RootModel[str]("Rome")),
    (Node, {"name": "a", "children": [{"name": "b", "children": []}]}, Node(name="a", children=[Node(name="b")])),
]


def given_by_tool(value, output_cls):
    """Return the tool's arguments: LlamaIndex's classes have one field ``root`` if the class has no fields."""
    return value if "properties" in output_cls.model_json_schema() else {"root": value}


@pytest.mark.sample(14)
@pytest.mark.filterwarnings("ignore:The `json` method is deprecated")
@pytest.mark.parametrize("way", WAYS[:8])
@pytest.mark.parametrize(("output_cls", "value", "expected"), SPECIAL)
async def test_special_classes_are_given_by_call(way, output_cls, value, expected):
    arguments = given_by_tool(value, output_cls)
    name = re.sub(r"[^a-zA-Z0-9_-]", "_", output_cls.__name__)
    found, objects, request = await predict(way, in_call(name, arguments), output_cls, HAIKU)
    spec = request["toolConfig"]["tools"][0]["toolSpec"]
    assert spec["name"] == name
    assert spec["inputSchema"]["json"]["type"] == "object"
    assert found == expected
    assert type(found) is output_cls
    assert ("stream" in way) == (len(objects) > 1)


@pytest.mark.sample(10)
@pytest.mark.filterwarnings("ignore:The `json` method is deprecated")
@pytest.mark.parametrize("way", WAYS[:4])
@pytest.mark.parametrize(("output_cls", "value", "expected"), SPECIAL)
async def test_special_classes_are_given_by_text(way, output_cls, value, expected):
    for written in (value, given_by_tool(value, output_cls)):
        if not isinstance(written, str):
            found, _, _ = await predict(way, in_text(json.dumps(written)), output_cls)
            assert found == expected


@pytest.mark.filterwarnings("ignore:There was a problem with the generation")  # its own event takes no list
@pytest.mark.parametrize("output_cls", [Page[str], Bill, Names])
async def test_agent_gives_object_of_generic_class(output_cls):
    value = {Page[str]: {"items": ["a"]}, Bill: {"total": 1.5}, Names: {"root": ["a"]}}[output_cls]

    def reply(request):
        names = [tool["toolSpec"]["name"] for tool in request.get("toolConfig", {}).get("tools", ())]
        structured = names and names != ["now", "handoff"] and "now" not in names
        return in_call(names[0], value)[0] if structured else in_text("It is so.")[0]

    def now() -> str:
        """Say the time."""
        return "12:00"

    with ScriptedBedrock(reply) as server:
        llm = BedrockRouter(HAIKU, **server.arguments)
        agent = FunctionAgent(tools=[now], llm=llm, streaming=False, output_cls=output_cls)
        result = await agent.run("List it.")
    assert result.get_pydantic_model(output_cls) == output_cls(**value)


# --- tools of the user with such schemas and names ---

LIST = {"toolSpec": {"name": "tags/set.v1", "inputSchema": {"json": {"type": "array", "items": {"type": "string"}}}}}


@pytest.mark.parametrize("form", ["chat", "stream_chat", "achat", "astream_chat"])
async def test_list_arguments_of_tool_are_held_by_root(form):
    def reply(request):
        spec = request["toolConfig"]["tools"][0]["toolSpec"]
        assert re.fullmatch("[a-zA-Z0-9_-]{1,64}", spec["name"])
        assert spec["inputSchema"]["json"]["type"] == "object"
        return in_call(spec["name"], {"root": ["a", "b"]})["stream" in form]

    with ScriptedBedrock(reply) as server:
        llm = BedrockRouter(HAIKU, **server.arguments)
        response = getattr(llm, form)(user("Tag it."), tools=[LIST])
        response = await response if form.startswith("a") else response
        if "stream" in form:
            response = [chunk async for chunk in response][-1] if form.startswith("a") else list(response)[-1]
        (call,) = llm.get_tool_calls_from_response(response)
        assert (call.tool_name, call.tool_kwargs) == ("tags/set.v1", {"root": ["a", "b"]})
        result = ChatMessage(role="tool", content="ok", additional_kwargs={"tool_call_id": "t1"})
        llm.chat([*user("Tag it."), response.message, result], tools=[LIST]) if "stream" not in form else None
        if "stream" not in form:
            sent = server.requests[-1]["messages"][1]["content"][0]["toolUse"]
            assert sent["input"] == {"root": ["a", "b"]}
            assert sent["name"] == server.requests[-1]["toolConfig"]["tools"][0]["toolSpec"]["name"]


async def test_agent_runs_tool_of_illegal_name():
    ran = []

    def run(city: str) -> str:
        ran.append(city)
        return "sunny"

    def reply(request):
        if any("toolResult" in block for message in request["messages"] for block in message["content"]):
            return in_text("Sunny.")[1]
        return in_call(request["toolConfig"]["tools"][0]["toolSpec"]["name"], {"city": "Rome"})[1]

    tool = FunctionTool.from_defaults(run, name="weather/now.v2", description="The weather.")
    with ScriptedBedrock(reply) as server:
        agent = FunctionAgent(tools=[tool], llm=BedrockRouter(HAIKU, **server.arguments))
        assert str(await agent.run("Weather in Rome?")) == "Sunny."
    assert ran == ["Rome"]


# --- any text ---

values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(["total", "x"]), inner)),
    max_leaves=6,
)
words = st.text(st.sampled_from('ab {}[]",:0\n`'), max_size=20)


@given(st.builds(Bill, total=st.floats(-1e6, 1e6), tip=st.none() | st.floats(0, 9)), st.text("ab .,:\n", max_size=20))
def test_object_is_found_among_words(bill, around):
    llm_text = f"{around}{bill.model_dump_json()}{around}"
    assert object_in(llm_text) == bill.model_dump()


@given(words, values, words)
def test_object_found_in_any_text_is_valid(before, value, after):
    found = object_in(before + json.dumps(value) + after)
    assert found is None or Bill.model_validate(found)


def object_in(written):
    from llama_index.core.base.llms.types import ChatResponse, ToolCallBlock

    from bedrock_routing_integrations.llama_index._structured_output import add_object_call

    message = ChatMessage(role="assistant", content=written)
    response = ChatResponse(message=message, raw={"stopReason": "end_turn"}, additional_kwargs={"routing": {}})
    blocks = add_object_call(response, Bill).message.blocks
    return next((block.tool_kwargs for block in blocks if isinstance(block, ToolCallBlock)), None)


@pytest.mark.parametrize("base", [BaseModel, RootModel[list[str]]])
def test_schema_of_a_class_is_made_once(base):
    made = []

    class Wanted(base):
        @classmethod
        def model_json_schema(cls, *args, **kwargs):
            made.append(cls)
            return super().model_json_schema(*args, **kwargs)

    first = with_properties(Wanted)
    assert with_properties(Wanted) is first
    assert made == [Wanted]
