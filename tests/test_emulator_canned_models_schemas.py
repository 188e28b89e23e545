"""Test the canned models with extreme and invalid JSON schemas."""

import time

import pytest

from bedrock_routing_integrations.emulator.canned_models.engine import reply
from bedrock_routing_integrations.emulator.service.conversation_rules import ProgramRefusal
from bedrock_routing_integrations.emulator.service.models import MODELS

# Seconds. What counts what it makes takes one, on a slow machine ten; what does not takes hours, or all memory.
SOON = 120
SONNET = MODELS["anthropic.claude-sonnet-4-5-20250929-v1:0"]
INTEGER = {"type": "integer"}


def array(least, items, **more):
    return {"type": "array", "minItems": least, "items": items, **more}


def an_object(**properties):
    return {"type": "object", "properties": properties, "required": list(properties)}


def ask(schema, text="Call it."):
    tool = {"toolSpec": {"name": "t", "inputSchema": {"json": schema}}}
    messages = [{"role": "user", "content": [{"text": text}]}]
    return reply({"messages": messages, "toolConfig": {"tools": [tool], "toolChoice": {"any": {}}}}, SONNET)


def laughs(levels):
    """Each definition is the one below it, twice."""
    doubled = {f"a{level}": {"allOf": [{"$ref": f"#/$defs/a{level + 1}"}] * 2} for level in range(levels)}
    return {**an_object(x={"$ref": "#/$defs/a0"}), "$defs": {**doubled, f"a{levels}": {"type": "string"}}}


ENDLESS = an_object(x={"$ref": "#/$defs/a"}) | {
    "$defs": {"a": {"anyOf": [an_object(x={"$ref": "#/$defs/a"}), an_object(x={"$ref": "#/$defs/a"})]}}
}
TOO_MUCH = {
    "an array of ten million": an_object(x=array(10_000_000, INTEGER)),
    "three arrays of sixty in each other": an_object(x=array(60, array(60, array(60, INTEGER)))),
    "distinct numbers": an_object(x=array(10_000_000, INTEGER, uniqueItems=True)),
    "distinct texts": an_object(x=array(10_000, {"type": "string"}, uniqueItems=True)),
    "distinct objects": an_object(x=array(10_000, an_object(a=INTEGER), uniqueItems=True)),
    "a text of a gigabyte": an_object(x={"type": "string", "minLength": 10**9}),
    "a text longer than any memory": an_object(x={"type": "string", "minLength": 10**30}),
    "a long text of a pattern": an_object(x={"type": "string", "minLength": 10**9, "pattern": "^a*$"}),
    "properties": {"type": "object", "minProperties": 10_000_000},
    "definitions that double": laughs(40),
    "objects without an end": ENDLESS,
}


@pytest.mark.sweep
@pytest.mark.parametrize("schema", TOO_MUCH.values(), ids=TOO_MUCH)
def test_schema_too_large_for_an_answer_ends_with_max_tokens(schema):
    started = time.monotonic()
    answer = ask(schema)
    assert (answer.stop_reason, answer.content) == ("max_tokens", ())
    assert time.monotonic() - started < SOON


def test_pattern_for_a_too_long_text_is_replaced():
    started = time.monotonic()
    assert ask(an_object(x={"type": "string", "pattern": "^(a{10000}){10000}$"})).stop_reason == "tool_use"
    assert time.monotonic() - started < SOON


def test_schema_that_fits_an_answer_is_filled_in_full():
    (block,) = ask(an_object(x=array(500, an_object(a=INTEGER, b={"type": "string"})))).content
    assert len(block["toolUse"]["input"]["x"]) == 500
    (block,) = ask(an_object(x=array(150, INTEGER, uniqueItems=True))).content
    assert len(set(block["toolUse"]["input"]["x"])) == 150


@pytest.mark.parametrize("bounds", [{"minimum": 1e300}, {"minimum": 10**40, "multipleOf": 1e-9}, {"maximum": -1e300}])
@pytest.mark.parametrize("kind", ["integer", "number"])
def test_bounds_of_any_size_get_an_answer(kind, bounds):
    assert ask(an_object(x={"type": kind, **bounds})).stop_reason == "tool_use"


JUNK = {
    "properties that are a list": ({"properties": []}, "properties must be an object"),
    "a property that is a number": ({"properties": {"a": 5}}, "properties.a must be a schema"),
    "a name in the place of names": ({"required": "a"}, "required must be an array of strings"),
    "an unknown type": ({"type": "date"}, "type must be one or several of array, boolean"),
    "no type": ({"type": []}, "type must be"),
    "a format that is a list": ({"type": "string", "format": ["date"]}, "format must be a string"),
    "a length in words": (array("three", INTEGER), "minItems must be a whole number"),
    "a bound in words": ({"minimum": "low"}, "minimum must be a number"),
    "a bound beyond all numbers": ({"minimum": float("inf")}, "minimum must be a number"),
    "steps backwards": ({"type": "integer", "multipleOf": -1}, "multipleOf must be a number above 0"),
    "one option": ({"enum": 5}, "enum must be an array"),
    "alternatives by name": ({"anyOf": {"a": INTEGER}}, "anyOf must be an array of at least one schema"),
    "junk where a reference points": ({"$ref": "#/x/0", "x": {"0": {"type": 7}}}, "points at.type must be"),
}


@pytest.mark.parametrize(("schema", "message"), JUNK.values(), ids=JUNK)
@pytest.mark.parametrize("place", ["alone", "in a property"])
def test_invalid_schema_is_refused_with_its_location(schema, message, place):
    if place == "in a property" and "$ref" not in schema:
        schema, message = an_object(inner=schema), f"properties.inner.{message}"
    with pytest.raises(ProgramRefusal, match="The inputSchema of the tool t is no valid JSON schema: ") as caught:
        ask(schema)
    assert message in str(caught.value)


@pytest.mark.parametrize("schema", [[1], "object", 5, None])
def test_a_schema_is_an_object(schema):
    with pytest.raises(ProgramRefusal, match="it must be an object"):
        ask(schema)


def test_a_schema_that_is_itself_is_refused():
    with pytest.raises(ProgramRefusal, match="refers to itself"):
        ask({**an_object(x=INTEGER), "allOf": [{"$ref": "#"}]})


def test_the_schema_of_an_answer_is_looked_at_too():
    text = '{"type": "object", "properties": []}'
    structure = {"jsonSchema": {"schema": text, "name": "n"}}
    request = {
        "messages": [{"role": "user", "content": [{"text": "hello"}]}],
        "outputConfig": {"textFormat": {"type": "json_schema", "structure": structure}},
    }
    with pytest.raises(ProgramRefusal, match=r"outputConfig\.textFormat is no valid JSON schema: properties"):
        reply(request, SONNET)


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": ["string", "null"], "additionalProperties": False},
        {"type": "integer", "minimum": 0, "exclusiveMinimum": True},
        {"type": "array", "items": [INTEGER, {"type": "string"}]},
        {"$ref": "#/$defs/a", "$defs": {"a": {"type": "string"}}},
        {"$ref": "https://example.com/elsewhere"},
        {"type": "object", "properties": {"any": True}, "x-mine": 5},
    ],
)
def test_schemas_of_real_tools_are_accepted(schema):
    assert ask(an_object(x=schema) | {"$defs": schema.get("$defs", {})}).stop_reason == "tool_use"
