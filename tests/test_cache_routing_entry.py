"""Test ``["routing"]["cache_points"]`` of whole answers and streams: which cachePoints were sent, and why."""

from __future__ import annotations

import copy
import json

import pytest
from cached_calls import NOVA_PRO, SONNET_45, cost, text, tool, user
from samples import HAIKU

CLAUDES = ["anthropic.claude-3-7-sonnet-20250219-v1:0", "anthropic.claude-3-5-haiku-20241022-v1:0"]
POINT = {"cachePoint": {"type": "default"}}
HOUR = {"cachePoint": {"type": "default", "ttl": "1h"}}


def whole(client, request):
    return client.converse(**request)["routing"]


def streamed(client, request):
    (metadata,) = [e["metadata"] for e in client.converse_stream(**request)["stream"] if "metadata" in e]
    return metadata["routing"]


def sent(world):
    """Return section, message, position and ttl of the points of the last request that Bedrock got."""
    body = world.emulator.requests()[-1].request
    lists = [("tools", None, (body.get("toolConfig") or {}).get("tools", [])), ("system", None, body.get("system", []))]
    lists += [("messages", number, message["content"]) for number, message in enumerate(body["messages"])]
    return [
        (section, message, position, block["cachePoint"].get("ttl", "5m"))
        for section, message, blocks in lists
        for position, block in enumerate(blocks)
        if "cachePoint" in block
    ]


def reported(points):
    return [(point["section"], point.get("message"), point["position"], point["ttl"]) for point in points]


REQUESTS = {
    "ours": {"modelId": SONNET_45, "system": [text(2_000, "s")], "messages": [user(text(3_000, "d"), text(5, "q"))]},
    "with tools": {
        "modelId": SONNET_45, "toolConfig": {"tools": [tool("a", 1_500), tool("b", 1_500)]},
        "messages": [user(text(3_000, "d"), text(5, "q"))],
    },
    "the caller's too": {
        "modelId": SONNET_45, "system": [text(1_500, "s"), HOUR, text(1_500, "t"), HOUR],
        "messages": [user(text(3_000, "d"), POINT, text(5, "q"))],
    },
    "the caller's before ours in one list": {
        "modelId": SONNET_45, "messages": [user(text(50, "a"), POINT, text(3_000, "d"), text(5, "q"))],
    },
    "of Nova": {"modelId": NOVA_PRO, "system": [text(2_000, "s")], "messages": [user(text(2_000, "d"), text(5, "q"))]},
    "none": {"modelId": SONNET_45, "messages": [user(text(50, "q"))]},
    "none, as the model caches nothing": {"modelId": HAIKU, "messages": [user(text(5_000, "q"))]},
}  # fmt: skip


@pytest.mark.sample(6)
@pytest.mark.parametrize("ask", [whole, streamed])
@pytest.mark.parametrize("name", REQUESTS)
def test_cache_points_lists_position_ttl_and_reason_of_sent_points(world, ask, name):
    request = copy.deepcopy(REQUESTS[name])
    for _ in range(4):
        world.clock.now += 1
        points = ask(world.client, request)["cache_points"]
        assert reported(points) == sent(world)
        assert json.loads(json.dumps(points)) == points
        assert all(point["reason"] for point in points)
        assert all(set(point) - {"message"} == {"section", "position", "ttl", "reason"} for point in points)
    assert request == REQUESTS[name]
    assert bool(points) == (not name.startswith("none"))


@pytest.mark.parametrize("ask", [whole, streamed])
def test_cache_points_marks_user_points(world, ask):
    points = ask(world.client, REQUESTS["the caller's too"])["cache_points"]
    own = [point for point in points if point["reason"] == "the caller's own"]
    assert reported(own) == [("system", None, 1, "1h"), ("system", None, 3, "1h"), ("messages", 0, 1, "5m")]


@pytest.mark.parametrize("ask", [whole, streamed])
def test_cache_points_lists_user_points_with_caching_off(world, ask):
    client = world.new_client(cache="off")
    points = ask(client, REQUESTS["the caller's too"])["cache_points"]
    assert [point["reason"] for point in points] == ["the caller's own"] * 3
    assert ask(client, REQUESTS["ours"])["cache_points"] == []


@pytest.mark.parametrize("ask", [whole, streamed])
def test_cache_points_reasons_show_evidence(world, ask):
    reasons = []
    for number in range(3):
        world.clock.now += 1
        request = {"modelId": SONNET_45, "messages": [user(text(3_000, "d"), text(15, number))]}
        reasons.append(ask(world.client, request)["cache_points"][0]["reason"])
    assert "3,0" in reasons[0]
    assert "new" in reasons[0]
    assert all("cached" in reason for reason in reasons[1:])


@pytest.mark.parametrize("ask", [whole, streamed])
def test_planner_learns_from_streams_as_from_whole_answers(world, ask):
    for number in range(3):
        world.clock.now += 1
        request = {"modelId": SONNET_45, "messages": [user(text(3_000, "d"), text(15, number))]}
        usage = ask(world.client, request)["usage"]
    assert usage["cache_read"] >= 3_000


@pytest.mark.parametrize("ask", [whole, streamed])
def test_cache_points_omits_refused_points(world, ask):
    refusal = "The model returned the following errors: system.0.cache_control: Extra inputs are not permitted"
    operation = "Converse" if ask is whole else "ConverseStream"
    world.emulator.fail("validation", operation=operation, times=1, message=refusal)
    assert ask(world.client, REQUESTS["ours"])["cache_points"] == []
    assert sent(world) == []


# --- routers ---


@pytest.fixture(scope="module")
def router(running):
    profiles = [f"arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.{name}" for name in CLAUDES]
    return running.emulator.create_prompt_router(name="two-claudes", models=profiles, fallback=profiles[0])


def test_router_models_have_separate_caches(world, router):
    calls = []
    for number in range(10):
        world.emulator.choose(CLAUDES[number >= 5])
        calls.append(world.call(text(5_000, "doc"), world.question(), model=router))
    assert [call.routing["invoked_model"] for call in calls] == [CLAUDES[0]] * 5 + [CLAUDES[1]] * 5
    assert [call.read >= 5_000 for call in calls] == [False] + [True] * 4 + [False] + [True] * 4
    assert calls[5].written >= 5_000


def test_alternating_router_reads_from_both_models(world, router):
    calls = []
    for number in range(16):
        world.emulator.choose(CLAUDES[number % 2])
        calls.append(world.call(text(5_000, "doc"), world.question(), model=router))
    assert all(call.read >= 5_000 for call in calls[4:])
    assert cost(calls) < 0.4


def test_alternating_router_keeps_conversation_below_cost_of_no_caching(world, router):
    messages, calls = [user(text(3_000, "start"))], []
    for number in range(14):
        world.emulator.choose(CLAUDES[number % 2])
        calls.append(world.call(messages=messages, model=router))
        messages = [*messages, calls[-1].answer, user(text(400, number))]
    assert cost(calls) < 0.6


def test_router_gets_only_points_valid_for_all_models(world, router):
    for number in range(12):
        world.emulator.choose(CLAUDES[number % 2])
        call = world.call(text(1_300, "doc"), text(300, number), model=router, after=1_000)
        assert call.points == [], "one of them caches nothing below 2,048 tokens"
        call = world.call(text(5_000, "doc"), world.question(), model=router, after=1)
        assert set(call.ttls) <= {"5m"}
