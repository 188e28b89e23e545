"""Filters on metadata: valid for Bedrock, or refused with a reason."""

from __future__ import annotations

import copy

import botocore.session
import pytest
from botocore.validate import ParamValidator
from hypothesis import given
from hypothesis import strategies as st

from bedrock_routing_integrations.errors import InvalidRequestError
from bedrock_routing_integrations.knowledge_base import Filter, checked_filter, where

MODEL = botocore.session.Session().get_service_model("bedrock-agent-runtime")
SHAPE = MODEL.operation_model("Retrieve").input_shape
OPERATORS = set(MODEL.shape_for("RetrievalFilter").members)
A, B = where("a") == 1, where("b") == 2

COMPARISONS = [
    (where("x") == "y", {"equals": {"key": "x", "value": "y"}}),
    (where("x") == True, {"equals": {"key": "x", "value": True}}),  # noqa: E712 - a filter
    (where("x") != 3, {"notEquals": {"key": "x", "value": 3}}),
    (where("x") > 3, {"greaterThan": {"key": "x", "value": 3}}),
    (where("x") >= 3.5, {"greaterThanOrEquals": {"key": "x", "value": 3.5}}),
    (where("x") < -3, {"lessThan": {"key": "x", "value": -3}}),
    (where("x") <= 0, {"lessThanOrEquals": {"key": "x", "value": 0}}),
    (3 < where("x"), {"greaterThan": {"key": "x", "value": 3}}),  # noqa: SIM300 - as users may write it
    (where("x").is_in(["a", 1, False]), {"in": {"key": "x", "value": ["a", 1, False]}}),
    (where("x").is_in(("a", "b")), {"in": {"key": "x", "value": ["a", "b"]}}),
    (where("x").is_in({"b", "a"}), {"in": {"key": "x", "value": ["a", "b"]}}),
    (where("x").is_not_in([1, 2]), {"notIn": {"key": "x", "value": [1, 2]}}),
    (where("x").starts_with("a"), {"startsWith": {"key": "x", "value": "a"}}),
    (where("x").contains("a"), {"stringContains": {"key": "x", "value": "a"}}),
    (where("x").list_contains("a"), {"listContains": {"key": "x", "value": "a"}}),
    (A & B, {"andAll": [A.as_dict(), B.as_dict()]}),
    (A | B, {"orAll": [A.as_dict(), B.as_dict()]}),
    (A & (A | B), {"andAll": [A.as_dict(), {"orAll": [A.as_dict(), B.as_dict()]}]}),
    ((A & B) | (B & A), {"orAll": [{"andAll": [A.as_dict(), B.as_dict()]}, {"andAll": [B.as_dict(), A.as_dict()]}]}),
    (A & B & A & B & A, {"andAll": [one.as_dict() for one in (A, B, A, B, A)]}),
    (A & (B & A) & B, {"andAll": [one.as_dict() for one in (A, B, A, B)]}),
]


def accepted(tree):
    """Return whether botocore accepts the value as a filter of Retrieve."""
    request = {
        "knowledgeBaseId": "ABCDEFGHIJ",
        "retrievalQuery": {"text": "x"},
        "retrievalConfiguration": {"vectorSearchConfiguration": {"filter": tree}},
    }
    report = ParamValidator().validate(request, SHAPE)
    return not report.has_errors()


@pytest.mark.parametrize(("made", "tree"), COMPARISONS, ids=lambda value: str(value)[:60])
def test_filter_expression_becomes_a_valid_bedrock_filter(made, tree):
    assert made.as_dict() == tree
    assert checked_filter(made) == checked_filter(tree) == tree
    assert accepted(tree)


def test_every_operator_of_the_service_can_be_written():
    assert {operator for _, tree in COMPARISONS for operator in tree} == OPERATORS


def test_values_keep_their_types():
    values = (where("x").is_in([1, 1.0, True, "1"])).as_dict()["in"]["value"]
    assert [type(value) for value in values] == [int, float, bool, str]


# --- refusals and their messages


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"equal": {"key": "a", "value": 1}}, "did you mean 'equals'"),
        ({"greaterThanOrEqual": {"key": "a", "value": 1}}, "did you mean 'greaterThanOrEquals'"),
        ({"and_all": []}, "did you mean 'andAll'"),
        ({"zzz": 1}, "to compare an attribute, write"),
        ({}, "0 operators"),
        ({"equals": {"key": "a", "value": 1}, "in": {"key": "a", "value": [1]}}, "join several by andAll"),
        ([], "must be a dictionary"),
        ("year > 3", "must be a dictionary"),
        ({"equals": {"key": "a"}}, "'key'"),
        ({"equals": {"key": "a", "value": 1, "extra": 1}}, "extra"),
        ({"equals": ["a", 1]}, "'key'"),
        ({"equals": {"key": "", "value": 1}}, "1 to 100"),
        ({"equals": {"key": "k" * 101, "value": 1}}, "1 to 100"),
        ({"equals": {"key": 3, "value": 1}}, "1 to 100"),
        ({"equals": {"key": "a", "value": None}}, "NoneType"),
        ({"equals": {"key": "a", "value": [1]}}, "list"),
        ({"equals": {"key": "a", "value": float("nan")}}, "nan"),
        ({"lessThan": {"key": "a", "value": float("inf")}}, "inf"),
        ({"greaterThan": {"key": "a", "value": "3"}}, "must be a number"),
        ({"lessThan": {"key": "a", "value": True}}, "must be a number"),
        ({"startsWith": {"key": "a", "value": 3}}, "must be a string"),
        ({"stringContains": {"key": "a", "value": ["x"]}}, "must be a string"),
        ({"in": {"key": "a", "value": "abc"}}, "must be a list"),
        ({"in": {"key": "a", "value": []}}, "must be a list that is not empty"),
        ({"notIn": {"key": "a", "value": {"x": 1}}}, "must be a list"),
        ({"in": {"key": "a", "value": b"abc"}}, "must be a list"),
        ({"in": {"key": "a", "value": [["x"]]}}, "a string, a number or a boolean"),
        ({"andAll": [A.as_dict()]}, "1 filters: Bedrock takes 2 to 5"),
        ({"orAll": [A.as_dict()] * 6}, "6 filters: Bedrock takes 2 to 5"),
        ({"andAll": A.as_dict()}, "must be a list"),
        ({"andAll": [A.as_dict(), {"orAll": [A.as_dict(), {"equalz": 1}]}]}, r"filter\.andAll\[1\]\.orAll\[1\]"),
        ({"andAll": [A.as_dict(), {"orAll": [A.as_dict(), {"andAll": [A.as_dict()] * 2}]}]}, "one level of embedding"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_invalid_filter_error_has_reason_and_path(tree, message):
    with pytest.raises(InvalidRequestError, match=message):
        checked_filter(tree)


@pytest.mark.parametrize(
    ("compare", "message"),
    [
        (lambda: where("x") == None, "NoneType"),  # noqa: E711 - a filter
        (lambda: where("x") == ["a"], "list"),
        (lambda: where("x") == where("y"), "Attribute"),
        (lambda: where("x") > "3", "number"),
        (lambda: where("x") > True, "number"),
        (lambda: where("x").is_in([]), "not empty"),
        (lambda: where("x").is_in("abc"), "must be a list"),
        (lambda: where("x").is_not_in(b"abc"), "must be a list"),
        (lambda: where("x").is_in(5), "must be a list"),
        (lambda: where("x").is_in({"a": 1}), "must be a list"),
        (lambda: where("x").contains(3), "string"),
        (lambda: where("") == 1, "1 to 100"),
        ((A & B & A & B & A & B).as_dict, "2 to 5"),
        ((A & (B | (A & B))).as_dict, "one level"),
    ],
)
def test_a_comparison_that_bedrock_would_refuse_is_refused(compare, message):
    with pytest.raises(InvalidRequestError, match=message):
        compare()


@pytest.mark.parametrize(
    "write",
    [
        lambda: A and B, lambda: A or B, lambda: not A, lambda: 1 < where("x") < 5, lambda: bool(A),
        lambda: [one for one in (A, B) if one],
    ],
)  # fmt: skip
def test_and_or_and_chained_comparisons_are_refused(write):
    with pytest.raises(TypeError, match="&"):
        write()


@pytest.mark.parametrize("other", [{"equals": {"key": "a", "value": 1}}, 1, None, "a"])
def test_a_filter_is_joined_with_filters_only(other):
    for write in (lambda: A & other, lambda: A | other, lambda: other & A):
        with pytest.raises(TypeError):
            write()


def test_filter_is_independent_of_the_callers_list():
    topics = ["a", "b"]
    made = where("topic").is_in(topics) & A
    topics.append("c")
    made.as_dict()["andAll"].clear()
    made.as_dict()["andAll"][0]["in"]["value"].append("d")
    assert made.as_dict()["andAll"][0]["in"]["value"] == ["a", "b"]


def test_a_filter_is_used_many_times():
    before = copy.deepcopy(A.tree)
    _ = A & B, A | B, (A & B) & A
    assert A.tree == before
    assert isinstance(A, Filter)


# --- any filter

keys = st.text(min_size=1, max_size=100)
numbers = st.one_of(st.integers(-(2**53), 2**53), st.floats(allow_nan=False, allow_infinity=False))
scalars = st.one_of(st.text(max_size=8), numbers, st.booleans())
VALUES = {
    **dict.fromkeys(["equals", "notEquals", "listContains"], scalars),
    **dict.fromkeys(["greaterThan", "greaterThanOrEquals", "lessThan", "lessThanOrEquals"], numbers),
    **dict.fromkeys(["in", "notIn"], st.lists(scalars, min_size=1, max_size=4)),
    **dict.fromkeys(["startsWith", "stringContains"], st.text(max_size=8)),
}
comparisons = st.sampled_from(sorted(VALUES)).flatmap(
    lambda operator: st.fixed_dictionaries({operator: st.fixed_dictionaries({"key": keys, "value": VALUES[operator]})})
)


def groups_of(members):
    return st.sampled_from(["andAll", "orAll"]).flatmap(
        lambda group: st.fixed_dictionaries({group: st.lists(members, min_size=2, max_size=5)})
    )


filters = st.one_of(comparisons, groups_of(comparisons), groups_of(st.one_of(comparisons, groups_of(comparisons))))
METHODS = {
    "equals": lambda key, value: where(key) == value,
    "notEquals": lambda key, value: where(key) != value,
    "greaterThan": lambda key, value: where(key) > value,
    "greaterThanOrEquals": lambda key, value: where(key) >= value,
    "lessThan": lambda key, value: where(key) < value,
    "lessThanOrEquals": lambda key, value: where(key) <= value,
    "in": lambda key, value: where(key).is_in(value),
    "notIn": lambda key, value: where(key).is_not_in(value),
    "startsWith": lambda key, value: where(key).starts_with(value),
    "stringContains": lambda key, value: where(key).contains(value),
    "listContains": lambda key, value: where(key).list_contains(value),
}


def by_where(tree):
    ((operator, operand),) = tree.items()
    if operator in METHODS:
        return METHODS[operator](operand["key"], operand["value"])
    return Filter({operator: [by_where(member).tree for member in operand]})


@given(filters)
def test_every_filter_that_bedrock_takes_passes_as_it_is(tree):
    before = copy.deepcopy(tree)
    checked = checked_filter(tree)
    assert checked == tree == before
    assert accepted(checked)
    assert by_where(tree).as_dict() == tree


@given(filters)
def test_checked_filter_is_a_copy(tree):
    before = copy.deepcopy(tree)
    pending = [checked_filter(tree)]
    while pending:
        one = pending.pop()
        pending += [
            inner for inner in (one.values() if isinstance(one, dict) else one) if isinstance(inner, dict | list)
        ]
        one.clear()
    assert tree == before


anything = st.recursive(
    st.one_of(st.none(), scalars, st.floats(), st.binary(max_size=3)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from([*sorted(OPERATORS), "key", "value", "x"]), inner, max_size=3),
    ),
    max_leaves=8,
)


@given(
    st.one_of(
        anything, st.sampled_from(sorted(OPERATORS)).flatmap(lambda name: st.fixed_dictionaries({name: anything}))
    )
)
def test_any_filter_is_valid_or_refused(tree):
    try:
        checked = checked_filter(tree)
    except InvalidRequestError:
        return
    assert accepted(checked)
