"""Test tool use of the canned models: the tools they call, the arguments, and answers from the results."""

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedrock_routing_integrations.emulator.canned_models.engine import Reply, deltas, reply
from bedrock_routing_integrations.emulator.service.models import MODELS

SONNET = MODELS["anthropic.claude-3-5-sonnet-20240620-v1:0"]


def user(*blocks: Any) -> dict:
    return {"role": "user", "content": [{"text": b} if isinstance(b, str) else b for b in blocks]}


def assistant(*blocks: Any) -> dict:
    return {**user(*blocks), "role": "assistant"}


def ask(*messages: Any, model=SONNET, **members: Any) -> Reply:
    return reply({"messages": [user(m) if isinstance(m, str) else m for m in messages], **members}, model)


def text_of(answer: Reply) -> str:
    return "".join(block.get("text", "") for block in answer.content)


def calls_of(answer: Reply) -> list[tuple[str, dict]]:
    return [(b["toolUse"]["name"], b["toolUse"]["input"]) for b in answer.content if "toolUse" in b]


def a_tool(name: str, description: str = "", /, **properties: Any) -> dict:
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    return {"toolSpec": {"name": name, "description": description or name, "inputSchema": {"json": schema}}}


NUMBER, STRING = {"type": "number"}, {"type": "string"}
WEATHER = a_tool("get_weather", "Get the weather of a place.", location=STRING)
ADD = a_tool("add", "Adds two numbers.", a=NUMBER, b=NUMBER)
MULTIPLY = a_tool("multiply", "Multiplies two numbers.", a=NUMBER, b=NUMBER)


def converse_with_tools(question: str, *tools: dict, model=SONNET, **results: Any) -> tuple[list[list[Any]], str]:
    """The rounds of calls until the model answers in words, and these words."""
    messages, rounds = [user(question)], []
    for _ in range(10):
        answer = reply({"messages": messages, "toolConfig": {"tools": list(tools)}}, model)
        uses = [block["toolUse"] for block in answer.content if "toolUse" in block]
        if not uses:
            assert answer.stop_reason == "end_turn"
            return rounds, text_of(answer)
        assert answer.stop_reason == "tool_use"
        rounds.append(calls_of(answer))
        tool_results = []
        for use in uses:
            result = results[use["name"]](**use["input"])
            tool_results.append({"toolResult": {"toolUseId": use["toolUseId"], "content": [{"text": str(result)}]}})
        messages += [assistant(*answer.content), user(*tool_results)]
    raise AssertionError("the model never stopped calling tools")


def test_a_tool_is_called_and_its_result_is_used():
    rounds, answer = converse_with_tools(
        "What is the weather in San Francisco, CA?", WEATHER, ADD, get_weather=lambda location: "It's sunny."
    )
    assert rounds == [[("get_weather", {"location": "San Francisco, CA"})]]
    assert "It's sunny." in answer


def test_several_cities_are_looked_up_at_once():
    question = "What is the weather in Paris, London and Tokyo?"
    rounds, answer = converse_with_tools(question, WEATHER, get_weather=lambda location: f"fine in {location}")
    assert rounds == [[("get_weather", {"location": city}) for city in ("Paris", "London", "Tokyo")]]
    assert "fine in London" in answer


def test_two_tools_are_called_for_two_questions():
    rounds, _ = converse_with_tools(
        "What is 3 + 4 and what is the weather in Paris?",
        ADD,
        WEATHER,
        add=lambda a, b: a + b,
        get_weather=lambda location: location,
    )
    assert rounds == [[("add", {"a": 3, "b": 4}), ("get_weather", {"location": "Paris"})]]


@pytest.mark.parametrize(
    ("question", "result"),
    [
        ("Add 3 and 4, then multiply the result by 5", "35"),
        ("What is (3 + 4) * 5?", "35"),
        ("What is (3 + 4) * (5 + 6)?", "77"),
    ],
)
def test_a_tool_is_given_the_result_of_the_one_before(question, result):
    rounds, answer = converse_with_tools(question, ADD, MULTIPLY, add=lambda a, b: a + b, multiply=lambda a, b: a * b)
    assert len(rounds) == 2
    assert answer.endswith(result)


def test_greeting_calls_a_tool_only_if_forced():
    tools = [a_tool("magic_function", input={"type": "integer", "exclusiveMinimum": 9}), WEATHER]
    assert not calls_of(ask("Hello!", toolConfig={"tools": tools}))
    assert calls_of(ask("Hello!", toolConfig={"tools": tools, "toolChoice": {"any": {}}}))
    chosen = ask("Hello!", toolConfig={"tools": tools, "toolChoice": {"tool": {"name": "magic_function"}}})
    assert calls_of(chosen) == [("magic_function", {"input": 10})]


def test_call_written_in_the_prompt_is_made_verbatim():
    tool = a_tool("magic_function", input={"type": "integer"}, unit=STRING)
    question = "What is magic_function(3, unit='kg')? Use the tool."
    assert calls_of(ask(question, toolConfig={"tools": [tool]})) == [("magic_function", {"input": 3, "unit": "kg"})]


def test_names_in_other_scripts_reach_the_tool():
    tool = a_tool("create_customer", customer_name=STRING, description=STRING)
    question = "Create a customer named '你好啊集团' (Hello Group) - a Chinese technology company"
    [(_, arguments)] = calls_of(ask(question, toolConfig={"tools": [tool]}))
    assert arguments["customer_name"] == "你好啊集团"


def test_a_failed_tool_is_reported_and_not_tried_for_ever():
    use = {"toolUse": {"toolUseId": "t1", "name": "add", "input": {"a": 1}}}
    result = {"toolResult": {"toolUseId": "t1", "content": [{"text": "Missing b."}], "status": "error"}}
    answer = ask("What is 1 + 2", assistant(use), user(result), toolConfig={"tools": [ADD]})
    assert "failed: Missing b." in text_of(answer)


def test_tool_use_ids_are_reproducible_and_unique_in_a_conversation():
    config = {"tools": [WEATHER]}
    first, again = (ask("Weather in Paris and Rome?", toolConfig=config) for _ in range(2))
    ids = [b["toolUse"]["toolUseId"] for b in first.content if "toolUse" in b]
    assert first == again
    assert len(set(ids)) == 2
    assert all(len(each) == len("tooluse_") + 22 for each in ids)


def test_fields_are_filled_from_the_prompt():
    tool = a_tool(
        "book_flight",
        origin=STRING,
        destination=STRING,
        date={"type": "string", "format": "date"},
        passengers={"type": "integer", "minimum": 1},
        cabin={"enum": ["economy", "business"]},
        contact={"type": "object", "properties": {"email": STRING}, "required": ["email"]},
    )
    question = (
        "Book a business flight from Paris to New York on 2025-03-04 for 2 passengers, mail it to bob@example.com"
    )
    [(_, arguments)] = calls_of(ask(question, toolConfig={"tools": [tool]}))
    assert arguments == {
        "origin": "Paris",
        "destination": "New York",
        "date": "2025-03-04",
        "passengers": 2,
        "cabin": "business",
        "contact": {"email": "bob@example.com"},
    }


def test_an_answer_is_structured_by_a_schema():
    people = {
        "type": "object",
        "properties": {"people": {"type": "array", "items": {"$ref": "#/$defs/Person"}}},
        "required": ["people"],
        "$defs": {
            "Person": {
                "type": "object",
                "properties": {"name": STRING, "age": {"anyOf": [{"type": "integer"}, {"type": "null"}]}},
                "required": ["name"],
            }
        },
    }
    output_config = {"textFormat": {"type": "json_schema", "structure": {"jsonSchema": {"schema": json.dumps(people)}}}}
    answer = ask("Extract: Alice is 30 years old and Bob is 25.", outputConfig=output_config)
    assert json.loads(text_of(answer)) == {"people": [{"name": "Alice", "age": 30}, {"name": "Bob", "age": 25}]}


def bounded(kind: str) -> st.SearchStrategy:
    low = st.integers(-50, 50)
    return st.builds(
        lambda at, width, out: {"type": kind, "exclusiveMinimum" if out else "minimum": at, "maximum": at + width},
        low,
        st.integers(1, 60),
        st.booleans(),
    )


def arrays(items: st.SearchStrategy) -> st.SearchStrategy:
    return st.builds(
        lambda item, least, more: {"type": "array", "items": item, "minItems": least, "maxItems": least + more},
        items,
        st.integers(0, 3),
        st.integers(0, 3),
    )


@st.composite
def objects(draw, part: st.SearchStrategy) -> dict:
    names = ["name", "count", "query", "options", "unit_price", "is_open"]
    properties = draw(st.dictionaries(st.sampled_from(names), part, max_size=4))
    required = [name for name in properties if draw(st.booleans())]
    return {"type": "object", "properties": properties, "required": required}


SCALARS = st.one_of(
    bounded("integer"),
    bounded("number"),
    st.just({"type": "boolean"}),
    st.just({"type": "integer", "multipleOf": 7, "minimum": 20}),
    st.builds(
        lambda a, b: {"type": "string", "minLength": a, "maxLength": a + b}, st.integers(0, 9), st.integers(0, 9)
    ),
    st.sampled_from([{"type": "string", "pattern": p} for p in (r"^[A-Z]{3}-\d{4}$", "^(a|b)+$", r"^\w{2,5}@x\.org$")]),
    st.builds(lambda options: {"enum": options}, st.lists(st.text(max_size=5), min_size=1, max_size=4, unique=True)),
    st.just({"const": 5}),
    st.just({"type": ["null", "string"]}),
    st.just({"$ref": "#/$defs/Leaf"}),
)
SCHEMAS = st.recursive(
    SCALARS,
    lambda part: st.one_of(arrays(part), objects(part), st.builds(lambda a, b: {"anyOf": [a, b]}, part, part)),
    max_leaves=8,
)
LEAF = {
    "type": "object",
    "properties": {"again": {"$ref": "#/$defs/Leaf"}, "n": {"type": "integer"}},
    "required": ["n"],
}


def valid(value: Any, schema: dict) -> bool:
    """An independent and strict reading of the schemas that are generated above."""
    if "$ref" in schema:
        schema = LEAF
    if "anyOf" in schema:
        return any(valid(value, option) for option in schema["anyOf"])
    if "const" in schema or "enum" in schema:
        return value in schema.get("enum", [schema.get("const")])
    kind = schema["type"]
    if isinstance(kind, list):
        return value is None or isinstance(value, str)
    if kind == "boolean":
        return isinstance(value, bool)
    if kind in ("integer", "number"):
        right = type(value) is int or (kind == "number" and type(value) is float)
        above = right and value >= schema.get("minimum", value) and value > schema.get("exclusiveMinimum", value - 1)
        return above and value <= schema.get("maximum", value) and value % schema.get("multipleOf", value or 1) == 0
    if not isinstance(value, {"string": str, "array": list, "object": dict}[kind]):
        return False
    if kind == "string":
        fits = schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", 10**6)
        return fits and re.search(schema.get("pattern", ""), value) is not None
    if kind == "array":
        fits = schema["minItems"] <= len(value) <= schema["maxItems"]
        return fits and all(valid(item, schema["items"]) for item in value)
    known = schema["properties"]
    return set(schema["required"]) <= set(value) <= set(known) and all(valid(value[n], known[n]) for n in value)


PROMPTS = st.one_of(
    st.text(min_size=1, max_size=80).filter(str.strip),
    st.sampled_from(
        [
            "Book 3 rooms for Alice and Bob in New York, count 42, unit price 7.5, is open, 'quoted'",
            "The query is AAA-0001 with count=12 and options a, b, c",
        ]
    ),
)


@given(schema=objects(SCHEMAS), prompt=PROMPTS)
def test_arguments_always_fit_the_schema_of_the_tool(schema, prompt):
    spec = {"name": "do_it", "inputSchema": {"json": {**schema, "$defs": {"Leaf": LEAF}}}}
    answer = ask(prompt, toolConfig={"tools": [{"toolSpec": spec}], "toolChoice": {"any": {}}})
    [(_, arguments)] = calls_of(answer)
    assert valid(arguments, schema)
    assert json.loads("".join(delta["toolUse"]["input"] for delta in deltas(answer.content[0]))) == arguments
