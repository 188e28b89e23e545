"""Test `place_points`: whatever cachePoints a request has or should have, Bedrock accepts the result."""

from __future__ import annotations

import copy
import logging

import pytest
from hypothesis import event, given
from hypothesis import strategies as st
from samples import HAIKU, LLAMA_70B, NOVA_LITE, NOVA_PRO, SONNET

from bedrock_routing_integrations import parse_target
from bedrock_routing_integrations.caching import place_points
from bedrock_routing_integrations.models.candidates import ResolvedTarget, from_base_models

SONNET_45 = "anthropic.claude-sonnet-4-5-20250929-v1:0"  # five minutes and an hour
SONNET_37 = "anthropic.claude-3-7-sonnet-20250219-v1:0"  # five minutes
UNKNOWN = "somebody.something-v1:0"
ROUTER = "arn:aws:bedrock:us-east-1:123456789012:default-prompt-router/"

POINT = {"cachePoint": {"type": "default"}}
FIVE_MINUTES = {"cachePoint": {"type": "default", "ttl": "5m"}}
HOUR = {"cachePoint": {"type": "default", "ttl": "1h"}}
TOOL = {"toolSpec": {"name": "add", "inputSchema": {"json": {"type": "object"}}}}
TEXT = {"text": "Hello"}
THOUGHT = {"reasoningContent": {"reasoningText": {"text": "Hm.", "signature": "abc"}}}
RESULT = {"toolResult": {"toolUseId": "call-1", "content": [TEXT]}}
OPTIMIZED = {"performanceConfig": {"latency": "optimized"}}


def document(kind):
    return {"document": {"format": kind, "name": "a", "source": {"bytes": b"a"}}}


def models(*names):
    return from_base_models(parse_target(f"{ROUTER}anthropic.claude:1"), names)


def opaque(family):
    """Return a router that could not be looked up."""
    return ResolvedTarget(parse_target(f"{ROUTER}{family}"), complete=False, refused="AccessDeniedException")


def request(*content, tools=(), system=(), **more):
    config = {"toolConfig": {"tools": list(tools)}} if tools else {}
    spoken = {"system": list(system)} if system else {}
    return {"modelId": "m", **config, **spoken, "messages": [{"role": "user", "content": list(content)}], **more}


def sections(placed):
    """Return the lists that can hold points, in the order of the prefix."""
    messages = [message["content"] for message in placed.get("messages", ())]
    return [placed.get("toolConfig", {}).get("tools", []), placed.get("system", []), *messages]


def points(placed):
    return [block["cachePoint"] for blocks in sections(placed) for block in blocks if "cachePoint" in block]


def content_of(placed):
    return placed["messages"][0]["content"]


# --- which models accept which ---

EVERYWHERE = request(TEXT, POINT, tools=[TOOL, POINT], system=[TEXT, POINT])


@pytest.mark.parametrize(
    ("resolved", "left"),
    [
        (models(SONNET_45), (1, 1, 1)),
        (models(SONNET_37), (1, 1, 1)),
        (models(NOVA_LITE), (0, 1, 1)),
        (models(HAIKU), (0, 0, 0)),
        (models(SONNET), (0, 0, 0)),
        (models(LLAMA_70B), (0, 0, 0)),
        (models(SONNET_45, NOVA_LITE), (0, 1, 1)),
        (models(SONNET_45, HAIKU), (0, 0, 0)),
        (models(UNKNOWN), (1, 1, 1)),
        (opaque("anthropic.claude:1"), (1, 1, 1)),
        (opaque("amazon.nova:1"), (0, 1, 1)),
    ],
)
def test_place_points_keeps_points_that_models_accept_or_are_unknown(resolved, left, caplog):
    placed = place_points(EVERYWHERE, resolved)
    assert tuple(sum("cachePoint" in block for block in blocks) for blocks in sections(placed)) == left
    assert [[block for block in blocks if "cachePoint" not in block] for blocks in sections(placed)] == [
        [TOOL], [TEXT], [TEXT],
    ]  # fmt: skip
    assert all(str(resolved.target) in record.message for record in caplog.records)
    assert len(caplog.records) == left.count(0), "one for each field"


@pytest.mark.parametrize(
    ("resolved", "stays"),
    [
        (models(SONNET_45), True), (models(NOVA_LITE), False), (models(SONNET_45, NOVA_LITE), False),
        (models(UNKNOWN), True), (opaque("amazon.nova:1"), False), (opaque("anthropic.claude:1"), True),
    ],
)  # fmt: skip
def test_place_points_removes_point_after_tool_result_for_nova(resolved, stays):
    assert content_of(place_points(request(RESULT, POINT), resolved)) == [RESULT, *([POINT] if stays else [])]
    assert content_of(place_points(request(RESULT, TEXT, POINT), resolved)) == [RESULT, TEXT, POINT]


@pytest.mark.parametrize("field", ["tools", "system"])
def test_place_points_removes_list_of_refused_points_only(field):
    placed = place_points(request(TEXT, **{field: [POINT]}), models(NOVA_LITE))
    assert placed == request(TEXT)


# --- where a point can stand ---

REFUSED = {
    "first": ([POINT, TEXT], [TEXT], "nothing to cache before it"),
    "second in a row": ([TEXT, POINT, HOUR], [TEXT, POINT], "nothing to cache before it"),
    "after reasoning": ([THOUGHT, POINT, TEXT], [THOUGHT, TEXT], "after reasoning"),
    "twice after reasoning": ([THOUGHT, POINT, POINT], [THOUGHT], "after reasoning"),
    "after a text document": ([TEXT, document("txt"), POINT], [TEXT, document("txt")], "not a PDF"),
}  # fmt: skip


@pytest.mark.parametrize("resolved", [models(SONNET_45), models(NOVA_LITE), models(UNKNOWN)])
@pytest.mark.parametrize("case", REFUSED)
def test_place_points_removes_refused_point_with_one_warning(case, resolved, caplog):
    given_content, left, why = REFUSED[case]
    with caplog.at_level(logging.WARNING, "bedrock_routing_integrations"):
        for _ in range(2):
            assert content_of(place_points(request(*given_content), resolved)) == left
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert why in record.message


def test_place_points_removes_first_point_of_system_despite_tools():
    placed = place_points(request(TEXT, tools=[TOOL], system=[POINT, TEXT]), models(SONNET_45))
    assert placed["system"] == [TEXT]


@pytest.mark.parametrize("before", [TEXT, document("pdf"), RESULT, {"image": {"format": "png", "source": {}}}])
def test_place_points_keeps_other_points_without_warning(before, caplog):
    assert content_of(place_points(request(before, HOUR), models(SONNET_45))) == [before, HOUR]
    assert caplog.records == []


def test_place_points_does_not_count_removed_points():
    four = request(TEXT, POINT, TEXT, POINT, POINT, tools=[TOOL, POINT], system=[POINT, TEXT, POINT])
    assert len(points(place_points(four, models(SONNET_45)))) == 4
    later = request(TEXT, HOUR, tools=[TOOL, POINT])
    assert points(place_points(later, opaque("amazon.nova:1"))) == [HOUR["cachePoint"]]


def test_place_points_beyond_four_removes_first_in_messages(caplog):
    five = request(TEXT, POINT, TEXT, POINT, TEXT, POINT, tools=[TOOL, POINT], system=[TEXT, POINT])
    for _ in range(2):
        placed = place_points(five, models(SONNET_45))
        assert placed == request(TEXT, TEXT, POINT, TEXT, POINT, tools=[TOOL, POINT], system=[TEXT, POINT])
    (record,) = caplog.records
    assert "had 5 cachePoints, and Bedrock accepts 4" in record.message


def test_place_points_removes_from_earlier_messages_first():
    turns = {"messages": [{"role": "user", "content": [TEXT, POINT]}, {"role": "assistant", "content": [TEXT, POINT]}]}
    six = {**request(system=[TEXT, POINT, TEXT, POINT], tools=[TOOL, POINT, TOOL, POINT]), **turns}
    placed = place_points(six, models(SONNET_45))
    assert placed == {**six, "messages": [{**message, "content": [TEXT]} for message in turns["messages"]]}
    seven = {**request(system=[TEXT, POINT, TEXT, POINT], tools=[TOOL]), "messages": [*turns["messages"]] * 2}
    assert [len(points({"messages": [message]})) for message in place_points(seven, models(SONNET_45))["messages"]] == [
        0, 0, 1, 1,
    ]  # fmt: skip


def test_place_points_keeps_last_points_of_system():
    many = request(TEXT, POINT, tools=[TOOL, POINT, TOOL, POINT], system=[TEXT, POINT] * 4)
    placed = place_points(many, models(SONNET_45))
    assert placed == request(TEXT, tools=[TOOL, TOOL], system=[TEXT, POINT] * 4)


# --- how long they last ---


@pytest.mark.parametrize("short", [POINT, FIVE_MINUTES])
@pytest.mark.parametrize("resolved", [models(SONNET_45), models(UNKNOWN)])
def test_place_points_raises_5m_before_1h_with_warning(short, resolved, caplog):
    for mixed, repaired in (
        (request(TEXT, HOUR, tools=[TOOL, short]), request(TEXT, HOUR, tools=[TOOL, HOUR])),
        (request(TEXT, HOUR, system=[TEXT, short]), request(TEXT, HOUR, system=[TEXT, HOUR])),
        (request(TEXT, short, TEXT, HOUR), request(TEXT, HOUR, TEXT, HOUR)),
        (request(TEXT, short, TEXT, HOUR, TEXT, short), request(TEXT, HOUR, TEXT, HOUR, TEXT, short)),
    ):
        assert place_points(mixed, resolved) == repaired
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 3, "one for each section"
    assert all("(the order is tools, system, messages)" in record.message for record in caplog.records)
    caplog.clear()
    downwards = request(TEXT, short, tools=[TOOL, HOUR], system=[TEXT, HOUR])
    assert place_points(downwards, resolved) == downwards
    assert caplog.records == []


def test_place_points_ignores_removed_1h():
    spoilt = request(THOUGHT, HOUR, tools=[TOOL, POINT], system=[TEXT, POINT])
    assert place_points(spoilt, models(SONNET_45)) == request(THOUGHT, tools=[TOOL, POINT], system=[TEXT, POINT])


@pytest.mark.parametrize("resolved", [models(SONNET_37), models(NOVA_LITE), models(SONNET_45, SONNET_37)])
def test_place_points_lowers_1h_that_models_do_not_offer(resolved, caplog):
    placed = place_points(request(TEXT, HOUR, system=[TEXT, POINT]), resolved)
    assert points(placed) == [POINT["cachePoint"]] * 2
    (record,) = caplog.records
    assert "'1h'" in record.message
    assert str(resolved.target) in record.message


# --- fast answers ---


def test_place_points_removes_points_refused_with_optimized_latency(caplog):
    fast = request(TEXT, POINT, system=[TEXT], **OPTIMIZED)
    assert points(place_points(fast, models(NOVA_PRO), ["system"])) == []
    assert "latency 'optimized'" in caplog.text
    assert len(points(place_points(fast, models(UNKNOWN)))) == 1
    standard = {**fast, "performanceConfig": {"latency": "standard"}}
    assert len(points(place_points(standard, models(NOVA_PRO), ["system"]))) == 2


# --- required points ---

BOTH = ["system", "tools"]


def test_place_points_adds_required_points_after_tools_and_system():
    placed = place_points(request(TEXT, tools=[TOOL], system=[TEXT]), models(SONNET_45), BOTH)
    assert placed == request(TEXT, tools=[TOOL, POINT], system=[TEXT, POINT])
    assert place_points(request(TEXT), models(SONNET_45), BOTH) == request(TEXT), "there is nothing to cache"
    assert place_points(request(TEXT, tools=[TOOL], system=[TEXT]), models(SONNET_45), ["system"]) == request(
        TEXT, tools=[TOOL], system=[TEXT, POINT]
    )


def test_place_points_warns_once_about_required_point_not_accepted(caplog):
    for _ in range(2):
        placed = place_points(request(TEXT, tools=[TOOL], system=[TEXT]), models(NOVA_LITE), BOTH)
        assert placed == request(TEXT, tools=[TOOL], system=[TEXT, POINT])
    (record,) = caplog.records
    assert "after the tools" in record.message


def test_place_points_gives_required_point_ttl_of_later_points():
    placed = place_points(request(TEXT, HOUR, tools=[TOOL], system=[TEXT]), models(SONNET_45), BOTH)
    assert placed == request(TEXT, HOUR, tools=[TOOL, HOUR], system=[TEXT, HOUR])
    placed = place_points(request(TEXT, POINT, tools=[TOOL], system=[TEXT, HOUR]), models(SONNET_45), BOTH)
    assert placed == request(TEXT, POINT, tools=[TOOL, HOUR], system=[TEXT, HOUR])
    placed = place_points(request(TEXT, tools=[TOOL, HOUR], system=[TEXT]), models(SONNET_45), BOTH)
    assert placed == request(TEXT, tools=[TOOL, HOUR], system=[TEXT, POINT])


@pytest.mark.parametrize(("own", "left"), [(2, BOTH), (3, ["tools"]), (4, [])])
def test_place_points_prefers_user_points_to_required_ones(own, left):
    given_request = request(*[TEXT, POINT] * own, tools=[TOOL], system=[TEXT])
    placed = place_points(given_request, models(SONNET_45), BOTH)
    assert content_of(placed) == content_of(given_request)
    assert [name for name in ("system", "tools") if POINT in sections(placed)[name == "system"]] == left


def test_place_points_adds_no_required_point_twice():
    there = request(TEXT, tools=[TOOL, POINT], system=[TEXT, POINT])
    assert place_points(there, models(SONNET_45), BOTH) == there


# --- random requests, checked by a second statement of the rules ---

MODELS = {
    # name: (lifetimes, fields, whether it accepts one after a tool result)
    SONNET_45: ({"5m", "1h"}, {"tools", "system", "messages"}, True),
    SONNET_37: ({"5m"}, {"tools", "system", "messages"}, True),
    NOVA_PRO: ({"5m"}, {"system", "messages"}, False),
    HAIKU: (set(), set(), True),
    LLAMA_70B: (set(), set(), True),
    UNKNOWN: ({"5m", "1h"}, {"tools", "system", "messages"}, True),
}

a_point = st.sampled_from([POINT, POINT, FIVE_MINUTES, HOUR])
blocks = {
    "tools": st.lists(st.one_of(st.just(TOOL), a_point), max_size=4),
    "system": st.lists(st.one_of(st.just(TEXT), a_point), max_size=4),
    "messages": st.lists(
        st.one_of(st.sampled_from([TEXT, THOUGHT, RESULT, document("pdf"), document("md")]), a_point), max_size=5
    ),
}


@st.composite
def requests(draw):
    original = {"modelId": "m", "messages": [
        {"role": ("user", "assistant")[number % 2], "content": content}
        for number, content in enumerate(draw(st.lists(blocks["messages"], max_size=3)))
    ]}  # fmt: skip
    tools, system = draw(blocks["tools"]), draw(blocks["system"])
    if tools or draw(st.booleans()):
        original["toolConfig"] = {"tools": tools, "toolChoice": {"auto": {}}}
    if system or draw(st.booleans()):
        original["system"] = system
    return {**original, **draw(st.sampled_from([{}, {}, OPTIMIZED, {"performanceConfig": {"latency": "standard"}}]))}


def broken_rules(placed, names):
    """Return the reasons for which Bedrock would refuse the request, by all of the models."""
    broken, lifetimes = set(), []
    fields = ["tools", "system", *["messages"] * len(placed["messages"])]
    for field, blocks_of_field in zip(fields, sections(placed), strict=True):
        for before, block in zip([None, *blocks_of_field], blocks_of_field, strict=False):
            if "cachePoint" not in block:
                continue
            lifetimes.append(block["cachePoint"].get("ttl", "5m"))
            kind = next(iter(before)) if before else None
            broken |= {"nothing to cache"} if kind in {None, "cachePoint"} else set()
            broken |= {"after reasoning"} if kind == "reasoningContent" else set()
            broken |= {"after a document"} if kind == "document" and before["document"]["format"] != "pdf" else set()
            for name in names:
                offered, taken, after_result = MODELS[name]
                broken |= {f"{name}: {field}"} if field not in taken else set()
                broken |= {f"{name}: lifetime"} if lifetimes[-1] not in offered else set()
                broken |= {f"{name}: after a result"} if kind == "toolResult" and not after_result else set()
                if placed.get("performanceConfig") == OPTIMIZED["performanceConfig"] and name != UNKNOWN:
                    broken.add(f"{name}: optimized latency")
    broken |= {"more than four"} if len(lifetimes) > 4 else set()
    broken |= {"1h after 5m"} if lifetimes != sorted(lifetimes) else set()  # "1h" sorts before "5m"
    return broken


def without_points(original):
    """Return all members without lists, and the content of each list without points."""
    others = {name: value for name, value in original.items() if name not in {"toolConfig", "system", "messages"}}
    return others, [
        [block for block in blocks_of_list if "cachePoint" not in block] for blocks_of_list in sections(original)
    ]


@given(
    requests(),
    st.one_of(st.lists(st.sampled_from(sorted(set(MODELS) - {UNKNOWN})), min_size=1, max_size=2), st.just([UNKNOWN])),
    st.lists(st.sampled_from(BOTH), unique=True),
)
def test_place_points_makes_any_request_acceptable(original, names, required):
    before, resolved = copy.deepcopy(original), models(*names)
    placed = place_points(original, resolved, required)
    assert original == before
    event(f"{len(points(placed))} points")
    assert broken_rules(placed, names) == set()
    assert without_points(placed) == without_points(original)
    kept = sections(placed)[0] or original.get("toolConfig", {}).get("tools") == []  # that one is boto3's to refuse
    assert placed.get("toolConfig", {}).get("toolChoice") == ({"auto": {}} if kept else None)
    assert place_points(placed, resolved, required) == placed
    caching = all("system" in MODELS[name][1] for name in names) and "performanceConfig" not in original
    if caching and "system" in required and without_points(original)[1][1] and len(points(original)) < 3:
        assert "cachePoint" in placed["system"][-1]


@given(requests(), st.sampled_from(sorted(MODELS)), st.lists(st.sampled_from(BOTH), unique=True))
def test_place_points_copies_the_lists(original, name, required):
    before = copy.deepcopy(original)
    placed = place_points(original, models(name), required)
    for blocks_of_list in sections(placed):
        blocks_of_list.append(POINT)
    placed["messages"].append(None)
    assert original == before
