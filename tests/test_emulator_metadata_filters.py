"""Test the emulator's metadata filters: the metadata they match, and the filters it refuses."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from knowledge_base_calls import chunk, collection

from bedrock_routing_integrations.emulator.service.retrieve import check_filter, matches
from bedrock_routing_integrations.emulator.wire.service_model import ServiceError

KEYS = st.sampled_from(["a", "b", "c"])
TEXTS = st.text("abAB é猫", max_size=3)
NUMBERS = st.integers(-2, 2) | st.sampled_from([-1.5, 0.0, 0.5, 1.0])
SCALARS = TEXTS | NUMBERS | st.booleans()
VALUES = {
    **dict.fromkeys(("equals", "notEquals"), SCALARS),
    **dict.fromkeys(("greaterThan", "greaterThanOrEquals", "lessThan", "lessThanOrEquals"), NUMBERS),
    **dict.fromkeys(("in", "notIn"), st.lists(SCALARS, min_size=1, max_size=3)),
    **dict.fromkeys(("startsWith", "stringContains", "listContains"), TEXTS),
}
METADATA = st.dictionaries(KEYS, SCALARS | st.lists(TEXTS, max_size=3))


@st.composite
def comparisons(draw):
    operator = draw(st.sampled_from(sorted(VALUES)))
    return {operator: {"key": draw(KEYS), "value": draw(VALUES[operator])}}


def grouped(members):
    lists = st.lists(members, min_size=2, max_size=5)
    return st.sampled_from(["andAll", "orAll"]).flatmap(lambda group: lists.map(lambda parts: {group: parts}))


FILTERS = comparisons() | grouped(comparisons() | grouped(comparisons()))


def kind(value):
    """Return the JSON type of a value."""
    names = {bool: "boolean", int: "number", float: "number", str: "string", list: "array"}
    return names[type(value)]


def lets_through(given_filter, metadata):
    """Return whether a filter matches, by the documentation of RetrievalFilter, without the emulator's code."""
    operator = next(iter(given_filter))
    operand = given_filter[operator]
    if operator == "andAll":
        return not [part for part in operand if not lets_through(part, metadata)]
    if operator == "orAll":
        return len([part for part in operand if lets_through(part, metadata)]) > 0
    if operand["key"] not in metadata:
        return operator.startswith("not")
    has, value = metadata[operand["key"]], operand["value"]
    if operator in ("equals", "notEquals"):
        equal = kind(has) == kind(value) and has == value
        return equal if operator == "equals" else not equal
    if operator in ("in", "notIn"):
        among = (kind(has), has) in [(kind(member), member) for member in value]
        return among if operator == "in" else not among
    if operator in ("startsWith", "stringContains", "listContains"):
        if operator == "listContains":
            return kind(has) == "array" and has.count(value) > 0
        if operator == "startsWith":
            return kind(has) == "string" and has[: len(value)] == value
        texts = has if kind(has) == "array" else [has]
        return len([text for text in texts if kind(text) == "string" and text.find(value) >= 0]) > 0
    if kind(has) != "number":
        return False
    sign = (has > value) - (has < value)
    return (
        sign
        in {"greaterThan": [1], "greaterThanOrEquals": [0, 1], "lessThan": [-1], "lessThanOrEquals": [-1, 0]}[operator]
    )


@given(FILTERS, METADATA)
@example({"equals": {"key": "a", "value": 1}}, {"a": True})
@example({"in": {"key": "a", "value": [False]}}, {"a": 0})
@example({"notIn": {"key": "a", "value": [0]}}, {"a": False})
@example({"greaterThan": {"key": "a", "value": 0}}, {"a": True})
@example({"startsWith": {"key": "a", "value": ""}}, {"a": ["x"]})
def test_every_operator_follows_the_service_model(given_filter, metadata):
    check_filter(given_filter)
    assert matches(given_filter, metadata) == lets_through(given_filter, metadata)


@pytest.mark.parametrize("operator", sorted(VALUES))
def test_an_attribute_that_a_document_lacks_fulfils_only_the_negations(operator):
    value = {"in": ["x"], "notIn": ["x"]}.get(operator, 1 if "Than" in operator else "x")
    assert matches({operator: {"key": "absent", "value": value}}, {"b": 1}) == (operator in ("notEquals", "notIn"))


@pytest.mark.parametrize(
    ("operator", "value", "found"),
    [
        ("equals", "cat", ["cat"]),
        ("notEquals", "cat", ["dog", "pets", "nine", "nothing"]),
        ("greaterThan", 8, ["nine"]),
        ("greaterThanOrEquals", 9, ["nine"]),
        ("lessThan", 9, []),
        ("lessThanOrEquals", 9.0, ["nine"]),
        ("in", ["cat", 9], ["cat", "nine"]),
        ("notIn", ["cat", 9], ["dog", "pets", "nothing"]),
        ("startsWith", "ca", ["cat"]),
        ("stringContains", "at", ["cat", "pets"]),
        ("listContains", "cat", ["pets"]),
    ],
)
def test_a_search_finds_what_its_filter_lets_through(operator, value, found):
    held = {"cat": "cat", "dog": "dog", "pets": ["dog", "cat"], "nine": 9}
    chunks = [chunk("word", name, animal=animal) for name, animal in held.items()]
    library = collection(*chunks, chunk("word", "nothing"))
    hits = library.search("word", filter={operator: {"key": "animal", "value": value}})
    assert [each.document_id.removeprefix("document-") for each, _ in hits] == found


def test_the_services_own_attributes_can_be_filtered_too():
    library = collection(chunk("word", 1), chunk("word", 2))
    source = {"equals": {"key": "x-amz-bedrock-kb-source-uri", "value": "s3://bucket/2.md"}}
    assert [each.document_id for each, _ in library.search("word", filter=source)] == ["document-2"]


ONE = {"equals": {"key": "a", "value": 1}}
PAIR = {"andAll": [ONE, ONE]}


@pytest.mark.parametrize(
    ("given_filter", "message"),
    [
        ({}, "filter must set exactly one of the following keys: equals, "),
        ({**ONE, "in": {"key": "a", "value": [1]}}, "exactly one"),
        ([ONE], "exactly one"),
        ("equals", "exactly one"),
        ({"like": {"key": "a", "value": "x"}}, "unknown operator like"),
        ({"andAll": [ONE]}, "filter.andAll must be a list of 2 to 5 filters"),
        ({"orAll": []}, "filter.orAll must be a list of 2 to 5"),
        ({"orAll": [ONE] * 6}, "2 to 5"),
        ({"andAll": ONE}, "2 to 5"),
        ({"andAll": "ab"}, "2 to 5"),
        ({"andAll": [ONE, {"orAll": [ONE, PAIR]}]}, r"filter.andAll\[1\].orAll\[1\].andAll is nested too deeply"),
        ({"andAll": [ONE, {}]}, r"filter.andAll\[1\] must set exactly one"),
        ({"equals": {"key": "a"}}, "filter.equals must have a key and a value"),
        ({"equals": {"key": "a", "value": 1, "more": 2}}, "a key and a value"),
        ({"equals": "a"}, "a key and a value"),
        ({"equals": {"key": "", "value": 1}}, "1 to 100 characters"),
        ({"equals": {"key": "k" * 101, "value": 1}}, "1 to 100 characters"),
        ({"equals": {"key": 1, "value": 1}}, "1 to 100 characters"),
        ({"equals": {"key": "a", "value": ["x"]}}, "filter.equals.value must be a string, a number or a boolean"),
        ({"notEquals": {"key": "a", "value": None}}, "string, a number or a boolean"),
        *(
            ({operator: {"key": "a", "value": value}}, "value must be a number")
            for operator in ("greaterThan", "greaterThanOrEquals", "lessThan", "lessThanOrEquals")
            for value in ("1", True, [1])
        ),
        *(({name: {"key": "a", "value": value}}, "a list") for name in ("in", "notIn") for value in ("x", [], [[1]])),
        *(
            ({operator: {"key": "a", "value": value}}, "value must be a string")
            for operator in ("startsWith", "stringContains", "listContains")
            for value in (1, ["x"])
        ),
    ],
)
def test_invalid_filter_is_refused_with_its_location(given_filter, message):
    with pytest.raises(ServiceError, match=message) as caught:
        check_filter(given_filter)
    assert caught.value.name == "ValidationException"
    with pytest.raises(ServiceError, match=message):  # even if the collection is empty
        collection().search("word", filter=given_filter)


def test_groups_may_hold_groups_once_and_five_filters():
    five = {"andAll": [ONE] * 5}
    check_filter({"orAll": [five] * 5})
    check_filter({"equals": {"key": "k" * 100, "value": ""}})
