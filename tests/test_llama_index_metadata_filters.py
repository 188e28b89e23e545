"""LlamaIndex's own metadata filters, given where a filter is taken."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from knowledge_base_calls import HAIKU, chunk, collection
from llama_index.core.vector_stores import (
    ExactMatchFilter,
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
)

from bedrock_routing_integrations.emulator.service.retrieve import check_filter, matches
from bedrock_routing_integrations.errors import InvalidRequestError
from bedrock_routing_integrations.knowledge_base import where
from bedrock_routing_integrations.llama_index import KnowledgeBaseQueryEngine, KnowledgeBaseRetriever
from bedrock_routing_integrations.llama_index._nodes import convert_filter

AND, OR, NOT = FilterCondition.AND, FilterCondition.OR, FilterCondition.NOT
SATURN = MetadataFilter(key="planet", value="Saturn")


def one(operator, value, key="a"):
    return MetadataFilter(key=key, value=value, operator=operator)


def joined(condition, *filters):
    return MetadataFilters(filters=list(filters), condition=condition)


CONVERTED = [
    (SATURN, {"equals": {"key": "planet", "value": "Saturn"}}),
    (ExactMatchFilter(key="planet", value="Saturn"), {"equals": {"key": "planet", "value": "Saturn"}}),
    (joined(AND, SATURN), {"equals": {"key": "planet", "value": "Saturn"}}),
    (joined(None, SATURN), {"equals": {"key": "planet", "value": "Saturn"}}),
    (joined(OR, joined(AND, SATURN)), {"equals": {"key": "planet", "value": "Saturn"}}),
    (one("!=", 1), {"notEquals": {"key": "a", "value": 1}}),
    (one(">", 1), {"greaterThan": {"key": "a", "value": 1}}),
    (one(">=", 1.5), {"greaterThanOrEquals": {"key": "a", "value": 1.5}}),
    (one("<", 1), {"lessThan": {"key": "a", "value": 1}}),
    (one("<=", 1), {"lessThanOrEquals": {"key": "a", "value": 1}}),
    (one("in", ["x", "y"]), {"in": {"key": "a", "value": ["x", "y"]}}),
    (one("nin", [1, 2]), {"notIn": {"key": "a", "value": [1, 2]}}),
    (one("text_match", "x"), {"stringContains": {"key": "a", "value": "x"}}),
    (one("contains", "x"), {"listContains": {"key": "a", "value": "x"}}),
    (one("any", ["x"]), {"listContains": {"key": "a", "value": "x"}}),
    (one("any", ["x", "y"]), {"orAll": [{"listContains": {"key": "a", "value": v}} for v in "xy"]}),
    (one("all", ["x", "y"]), {"andAll": [{"listContains": {"key": "a", "value": v}} for v in "xy"]}),
    (joined(NOT, SATURN), {"notEquals": {"key": "planet", "value": "Saturn"}}),
    (joined(NOT, one("in", ["x"])), {"notIn": {"key": "a", "value": ["x"]}}),
    (
        joined(NOT, SATURN, one("nin", ["x"])),
        {"andAll": [{"notEquals": {"key": "planet", "value": "Saturn"}}, {"in": {"key": "a", "value": ["x"]}}]},
    ),
    (
        joined(NOT, joined(AND, SATURN, one("!=", 1))),
        {"orAll": [{"notEquals": {"key": "planet", "value": "Saturn"}}, {"equals": {"key": "a", "value": 1}}]},
    ),
    (joined(NOT, joined(NOT, one("<", 1))), {"lessThan": {"key": "a", "value": 1}}),
    (
        joined(OR, SATURN, joined(AND, one(">", 1), one("<", 3))),
        {
            "orAll": [
                {"equals": {"key": "planet", "value": "Saturn"}},
                {"andAll": [{"greaterThan": {"key": "a", "value": 1}}, {"lessThan": {"key": "a", "value": 3}}]},
            ]
        },
    ),
    (
        joined(AND, joined(AND, SATURN, one(">", 1)), one("<", 3)),
        {
            "andAll": [
                {"equals": {"key": "planet", "value": "Saturn"}},
                {"greaterThan": {"key": "a", "value": 1}},
                {"lessThan": {"key": "a", "value": 3}},
            ]
        },
    ),
    (joined(AND), None),
    (joined(OR, joined(AND)), None),
]


@pytest.mark.parametrize(("given", "expected"), CONVERTED)
def test_convert_filter_writes_what_bedrock_takes(given, expected):
    before = given.model_copy(deep=True)
    assert convert_filter(given) == expected
    assert given == before
    if expected is not None:
        check_filter(expected)


REFUSED = {
    "is_empty": one("is_empty", None),
    "insensitive": one("text_match_insensitive", "x"),
    "negated order": joined(NOT, one(">", 1)),
    "negated text": joined(NOT, one("text_match", "x")),
    "negated any": joined(NOT, one("any", ["x", "y"])),
    "a number in a list": one("contains", 1),
    "any of one string": one("any", "xy"),
    "any of nothing": one("any", []),
    "in nothing": one("in", []),
    "in a string": one("in", "xy"),
    "equal to a list": one("==", ["x"]),
    "equal to nothing": one("==", None),
    "order of texts": one(">", "x"),
    "a long key": one("==", 1, key="k" * 101),
    "26 of them": joined(AND, *(one("==", n, key=f"k{n}") for n in range(26))),
    "three levels": joined(AND, SATURN, joined(OR, SATURN, joined(AND, SATURN, joined(OR, SATURN, one(">", 1))))),
}


@pytest.mark.parametrize("name", REFUSED)
def test_convert_filter_refuses_what_bedrock_cannot_express(name):
    with pytest.raises(InvalidRequestError, match="where"):
        convert_filter(REFUSED[name])


@pytest.mark.parametrize("count", range(1, 26))
@pytest.mark.parametrize("condition", [AND, OR])
def test_convert_filter_spreads_long_groups(condition, count):
    expected = convert_filter(joined(condition, *(one("==", n, key=f"k{n}") for n in range(count))))
    check_filter(expected)
    text = json.dumps(expected)
    assert all(f'"k{n}"' in text for n in range(count))
    assert matches(expected, {f"k{n}": n for n in range(count)})
    assert matches(expected, {"k0": 0}) == (condition is OR or count == 1)


def holds(tree, metadata):
    """Return whether attributes match a filter, as llama-index-core's own stores read it."""
    if isinstance(tree, MetadataFilters):
        each = [holds(member, metadata) for member in tree.filters]
        return {AND: all(each), OR: any(each), NOT: not any(each)}[tree.condition]
    value, asked = metadata.get(tree.key), tree.value
    if value is None:
        return tree.operator in (FilterOperator.NE, FilterOperator.NIN)
    return {
        FilterOperator.EQ: lambda: value == asked,
        FilterOperator.NE: lambda: value != asked,
        FilterOperator.GT: lambda: value > asked,
        FilterOperator.LTE: lambda: value <= asked,
        FilterOperator.IN: lambda: value in asked,
        FilterOperator.NIN: lambda: value not in asked,
    }[tree.operator]()


leaves = st.one_of(
    st.builds(one, st.sampled_from(["==", "!=", ">", "<="]), st.integers(0, 2), st.sampled_from("ab")),
    st.builds(one, st.sampled_from(["in", "nin"]), st.lists(st.integers(0, 2), min_size=1, max_size=2), st.just("a")),
)
trees = st.recursive(
    leaves,
    lambda inner: st.builds(
        lambda condition, members: joined(condition, *members),
        st.sampled_from([AND, OR, NOT]),
        st.lists(inner, min_size=1, max_size=6),
    ),
    max_leaves=14,
)
SOME = [dict(zip("ab", values, strict=True)) for values in itertools.product([None, 0, 1, 2], repeat=2)]


@given(trees)
def test_convert_filter_means_the_same_or_is_refused(tree):
    try:
        converted = convert_filter(tree)
    except InvalidRequestError:
        return
    check_filter(converted)
    for attributes in SOME:
        present = {name: value for name, value in attributes.items() if value is not None}
        assert matches(converted, present) == holds(tree, attributes)


# --- where they are given


@pytest.fixture
def moons(bedrock):
    made = [("Titan", "Saturn"), ("Io", "Jupiter"), ("Rhea", "Saturn")]
    return bedrock.add_knowledge_base(
        collection(*(chunk(f"{moon} was found.", n, planet=planet) for n, (moon, planet) in enumerate(made)))
    )


def planets(nodes):
    return {node.node.metadata["planet"] for node in nodes}


@pytest.mark.parametrize("given", [SATURN, joined(AND, SATURN), where("planet") == "Saturn"], ids=["one", "all", "own"])
async def test_retriever_takes_metadata_filters_from_constructor_and_call(moons, given):
    assert planets(KnowledgeBaseRetriever(moons, filter=given).retrieve("found")) == {"Saturn"}
    plain = KnowledgeBaseRetriever(moons)
    assert planets(plain.retrieve("found", filter=given)) == {"Saturn"}
    assert planets(await plain.aretrieve("found", filter=given)) == {"Saturn"}
    assert planets(plain.iterate("found", filter=given)) == {"Saturn"}
    assert planets(plain.retrieve("found")) == {"Saturn", "Jupiter"}
    assert planets(KnowledgeBaseRetriever(moons, filter=given).retrieve("found", filter=joined(AND))) > {"Saturn"}


def test_metadata_filters_are_taken_inside_a_retrieval_config(moons):
    """As the peer's users write it, whose retriever takes the configuration only as a whole."""
    config = {"vectorSearchConfiguration": {"numberOfResults": 2, "filter": joined(AND, SATURN)}}
    assert planets(KnowledgeBaseRetriever(moons, retrieval_config=config).retrieve("found")) == {"Saturn"}
    assert isinstance(config["vectorSearchConfiguration"]["filter"], MetadataFilters)


@pytest.mark.parametrize("mode", ["retrieve_and_generate", "retrieve_then_converse"])
@pytest.mark.parametrize("streaming", [False, True])
async def test_query_engine_takes_metadata_filters(bedrock, moons, mode, streaming):
    given = joined(AND, SATURN, one("!=", "Titan", key="moon"))
    arguments = {"model": HAIKU, "mode": mode, "streaming": streaming}
    str(KnowledgeBaseQueryEngine(moons, filter=given, **arguments).query("What was found?"))
    engine = KnowledgeBaseQueryEngine(moons, **arguments)
    str(engine.query("What was found?", filter=given))
    response = await engine.aquery("What was found?", filter=given)
    if streaming:
        await response.get_response()
    asked = [json.dumps(entry.request) for entry in bedrock.journal if "notEquals" in json.dumps(entry.request)]
    assert len(asked) == 3


@pytest.mark.parametrize("mode", ["retrieve_and_generate", "retrieve_then_converse"])
def test_inexpressible_filter_is_refused_before_sending(bedrock, moons, mode):
    given = REFUSED["negated order"]
    before = len(bedrock.journal)
    for make in (
        lambda: KnowledgeBaseRetriever(moons, filter=given),
        lambda: KnowledgeBaseQueryEngine(moons, model=HAIKU, mode=mode, filter=given),
        lambda: KnowledgeBaseRetriever(moons).retrieve("x", filter=given),
        lambda: KnowledgeBaseQueryEngine(moons, model=HAIKU, mode=mode).query("x", filter=given),
    ):
        with pytest.raises(InvalidRequestError, match="where"):
            make()
    assert len(bedrock.journal) == before
