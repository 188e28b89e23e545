"""Test `plan_cache_points`: which points a request would get, the reasons, and which targets get any."""

from __future__ import annotations

import copy
import json
import random

import pytest
from cache_requests import FAMILIES, HOUR, POINT, SONNET_37, SONNET_45, Writer, lists_of
from samples import HAIKU, LLAMA_70B, NOVA_PRO, SONNET

from bedrock_routing_integrations import CachePolicy, RoutedClient, plan_cache_points
from bedrock_routing_integrations.errors import InvalidRequestError, InvalidTargetError

HAIKU_45 = "anthropic.claude-haiku-4-5-20251001-v1:0"  # from 4,096 tokens
LONG = {"text": "The bees have come home. " * 400}  # 2,500 tokens
SHORT = {"text": "Where are they?"}
THOUGHT = {"reasoningContent": {"reasoningText": {"text": "Hm.", "signature": "c2ln"}}}
TOOL = {"toolSpec": {"name": "look", "description": LONG["text"], "inputSchema": {"json": {"type": "object"}}}}
CLAUDE = f"us.{SONNET_45}"
ACCOUNT = "arn:aws:bedrock:us-east-1:123456789012:"


def request(model=CLAUDE, *, system=(LONG,), content=(LONG, SHORT), tools=(TOOL,), **more):
    config = {"toolConfig": {"tools": list(tools)}} if tools else {}
    system_member = {"system": list(system)} if system else {}
    return {
        "modelId": model,
        **config,
        **system_member,
        "messages": [{"role": "user", "content": list(content)}],
        **more,
    }


def sections(plan):
    return [point.section for point in plan.points]


def why_not(plan, section):
    (why,) = {place.reason for place in plan.not_placed if place.section == section}
    return why


# --- the plan ---


def test_plan_of_docstring_example_is_as_documented():
    plan = plan_cache_points(
        {
            "modelId": "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
            "system": [{"text": "You answer questions about bees. " * 400}],
            "messages": [{"role": "user", "content": [{"text": "How many are there?"}]}],
        }
    )
    assert sections(plan) == ["system"], "the question alone is not worth one of four"
    assert 3_000 < plan.tokens < 3_600
    assert plan.saving > 0


def test_plan_sends_and_remembers_nothing(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    plans = [plan_cache_points(request()).as_dict() for _ in range(5)]
    assert plans == [plans[0]] * 5


@pytest.mark.parametrize("original", [request(content=[LONG, POINT, SHORT]), request(), request(HAIKU)])
def test_plan_request_is_independent_of_original(original):
    before = copy.deepcopy(original)
    for cache in ("auto", "off"):
        plan = plan_cache_points(original, cache=cache)
        assert original == before
        assert plan.request["system"][0] is original["system"][0]
        for _, _, blocks in lists_of(plan.request):
            blocks.append(POINT)
        plan.request["messages"].append(None)
        plan.request["toolConfig"]["toolChoice"] = {"any": {}}
        assert original == before


@pytest.mark.parametrize("family", FAMILIES)
def test_plan_positions_match_points_in_planned_request(family):
    writer, placed = Writer(family, random.Random(7)), 0
    for number in range(150):
        original = writer.request() if number % 3 else writer.with_points(writer.request())
        plan = plan_cache_points(original, base_models=writer.models)
        there = [
            (section, message, index, block["cachePoint"].get("ttl", "5m"))
            for section, message, blocks in lists_of(plan.request)
            for index, block in enumerate(blocks)
            if "cachePoint" in block
        ]
        assert [(point.section, point.message, point.position, point.ttl) for point in plan.points] == there
        blocks_of = {(section, message): blocks for section, message, blocks in lists_of(plan.request)}
        for place in plan.not_placed:
            blocks = blocks_of[place.section, place.message]
            assert 1 <= place.position <= len(blocks)
            assert "cachePoint" not in blocks[place.position - 1], "it would follow a block"
            assert "cachePoint" not in blocks[place.position : place.position + 1], "there is none"
            assert place.reason
        placed += len(plan.points)
    assert placed > 100 or family == "llama"


def test_plan_points_name_owner_and_reason():
    plan = plan_cache_points(request(system=[LONG, POINT]))
    own = {point.section: point.given for point in plan.points}
    assert own == {"tools": False, "system": True, "messages": False}
    assert all(point.reason == "the caller's own" for point in plan.points if point.given)
    assert all("tokens" in point.reason and "reuse" in point.reason for point in plan.points if not point.given)


def test_plan_as_dict_is_json_safe():
    plan = plan_cache_points(request(content=[LONG, SHORT]))
    written = plan.as_dict()
    assert json.loads(json.dumps(written)) == written
    assert list(written) == ["points", "not_placed", "tokens", "saving", "why_none"]
    assert list(written["points"][0]) == ["section", "position", "ttl", "reason"]
    assert list(written["points"][-1]) == ["section", "message", "position", "ttl", "reason"]


# --- why not ---


@pytest.mark.parametrize(
    ("original", "section", "why"),
    [
        (request(content=[LONG], system=[SHORT], tools=()), "system", "nothing is cached below 1,024"),
        (request(system=(), tools=(), content=[SHORT]), "messages", "nothing is cached below 1,024"),
        (request(NOVA_PRO), "tools", "accepts no cachePoint in tools"),
        (request(NOVA_PRO, content=[{"text": LONG["text"] * 9}]), "messages", "at most 20,000 are cached"),
        (request(NOVA_PRO, content=[{"toolResult": {"toolUseId": "1", "content": [LONG]}}]), "messages", "tool result"),
        (request(content=[{"document": {"format": "txt", "name": "a", "source": {"bytes": b"a" * 9_000}}}]),
         "messages", "a document that is not a PDF"),
        (request(content=[THOUGHT]), "messages", "after reasoning"),
        (request(HAIKU), "system", "does not support prompt caching"),
        (request(f"us.{LLAMA_70B}"), "messages", "does not support prompt caching"),
        (request(f"us.{NOVA_PRO}", performanceConfig={"latency": "optimized"}), "system", "latency 'optimized'"),
    ],
)  # fmt: skip
def test_position_without_point_has_a_reason(original, section, why):
    assert why in why_not(plan_cache_points(original), section)


def test_policy_is_a_reason():
    assert "policy" in why_not(plan_cache_points(request(), cache=CachePolicy(sections=["messages"])), "system")
    off = plan_cache_points(request(), cache="off")
    assert {place.reason for place in off.not_placed} == {"caching is off"}
    assert (off.points, off.saving, off.request) == ((), 0, request())
    dear = plan_cache_points(request(), cache=CachePolicy(min_saving=1e6))
    assert "not expected to save enough" in why_not(dear, "system") or "covers" in why_not(dear, "system")


@pytest.mark.parametrize("wrong", [None, "Hello", [], {}, {"messages": []}])
def test_value_other_than_a_request_is_refused(wrong):
    with pytest.raises(InvalidRequestError, match="dict with modelId"):
        plan_cache_points(wrong)


@pytest.mark.parametrize(
    "part", [{"messages": 3}, {"messages": [3]}, {"system": "Be brief."}, {"toolConfig": {"tools": 3}}]
)
def test_request_of_wrong_shape_is_refused(part):
    with pytest.raises(InvalidRequestError, match="not a valid Converse request"):
        plan_cache_points({**request(), **part})
    with pytest.raises(InvalidTargetError):
        plan_cache_points({**request(), "modelId": "nonsense"})


# --- client= ---


def test_plan_with_client_uses_its_policy_memory_and_look_ups(bedrock):
    router = bedrock.create_prompt_router(
        name="two", models=[f"us.{SONNET_45}", f"us.{SONNET_37}"], fallback=f"us.{SONNET_37}"
    )
    original = request(router)
    client = RoutedClient(bedrock.client("bedrock-runtime"), cache=CachePolicy(sections=["system"]))
    assert sections(plan_cache_points(original)) == []
    plan = plan_cache_points(original, client=client)
    assert sections(plan) == ["system"]
    assert not any("earlier request cached" in point.reason for point in plan.points)
    assert bedrock.requests("Converse") == []
    client.converse(**original)
    assert "earlier request cached" in plan_cache_points(original, client=client).points[0].reason
    assert len(bedrock.requests("Converse")) == 1
    for more in ({"cache": "off"}, {"base_models": [SONNET_45]}):
        with pytest.raises(InvalidRequestError, match="leave them out"):
            plan_cache_points(original, client=client, **more)
    with pytest.raises(InvalidRequestError, match="client=<BedrockRuntime> is not valid: it is not a RoutedClient"):
        plan_cache_points(original, client=bedrock.client("bedrock-runtime"))


# --- which targets get points ---


@pytest.mark.parametrize(
    "target",
    [
        f"{ACCOUNT}prompt/ABCDEFGHIJ:1", f"{ACCOUNT}imported-model/abcdefghijkl", "somebody.something-v1:0",
        "arn:aws:sagemaker:us-east-1:123456789012:endpoint/mine", f"{ACCOUNT}provisioned-model/abcdefghijkl",
        f"{ACCOUNT}custom-model/anthropic.claude-3-7-sonnet-20250219-v1/abcdefghijkl", f"{ACCOUNT}prompt-router/abc",
        f"{ACCOUNT}custom-model-deployment/abcdefghijkl", f"{ACCOUNT}application-inference-profile/abcdefghijkl",
    ],
)  # fmt: skip
def test_target_with_unknown_models_gets_no_points(target):
    plan = plan_cache_points(request(target))
    assert (plan.points, plan.request) == ((), request(target))
    assert all(word.strip() for word in {place.reason for place in plan.not_placed})


def test_managed_prompt_gets_no_points():
    target = f"{ACCOUNT}prompt/ABCDEFGHIJ:1"
    plan = plan_cache_points({"modelId": target, "messages": request()["messages"]}, base_models=[SONNET_45])
    assert plan.points == ()
    assert "managed prompt" in why_not(plan, "messages")


@pytest.mark.parametrize("make", ["application profile", "provisioned", "deployment"])
def test_looked_up_target_gets_points_of_its_model(bedrock, make):
    target = {
        "application profile": lambda: bedrock.create_application_profile(name="mine", copy_from=CLAUDE),
        "provisioned": lambda: bedrock.add_provisioned_model(SONNET_37),
        "deployment": lambda: bedrock.add_custom_model_deployment(SONNET_37),
    }[make]()
    client = RoutedClient(bedrock.client("bedrock-runtime"))
    assert client.converse(**request(target))["routing"]["cache_points"]


def router_plan(*models, original=None, **policy):
    original = request(f"{ACCOUNT}prompt-router/two") if original is None else original
    return plan_cache_points(original, base_models=models, cache=CachePolicy(**policy))


def test_router_gets_sections_and_ttls_of_both_models():
    marked = request(f"{ACCOUNT}prompt-router/two", content=[LONG, HOUR])
    assert {point.ttl for point in router_plan(SONNET_45, HAIKU_45, original=marked).points} == {"1h"}
    assert {point.ttl for point in router_plan(SONNET_45, SONNET_37, original=marked).points} == {"5m"}
    assert {point.ttl for point in router_plan(SONNET_45, SONNET_37, ttl="1h").points} == {"5m"}
    assert set(sections(router_plan(SONNET_37, NOVA_PRO))) == {"system", "messages"}
    for models in ([SONNET_45, HAIKU], [HAIKU, SONNET], [LLAMA_70B, SONNET_45]):
        assert router_plan(*models).points == ()


def test_router_gets_larger_minimum_and_smaller_maximum():
    original = request(f"{ACCOUNT}prompt-router/two", tools=())  # 2,500 tokens of system, 5,000 in all
    assert "system" in sections(router_plan(SONNET_45, SONNET_37, original=original))
    for models in ([SONNET_45, HAIKU_45], [HAIKU_45, SONNET_45]):
        plan = router_plan(*models, original=original)
        assert set(sections(plan)) == {"messages"}
        assert "below 4,096" in why_not(plan, "system")
    big = request(f"{ACCOUNT}prompt-router/two", tools=(), content=[{"text": LONG["text"] * 9}])
    assert sections(router_plan(NOVA_PRO, SONNET_37, original=big)) == ["system"]


def test_unreadable_router_gets_points_once_both_models_answered(bedrock):
    router = bedrock.create_prompt_router(
        name="two", models=[f"us.{SONNET_45}", f"us.{SONNET_37}"], fallback=f"us.{SONNET_37}"
    )
    bedrock.fail("access_denied", operation="GetPromptRouter", rate=1.0)
    client, original = RoutedClient(bedrock.client("bedrock-runtime")), request(router)
    for model, points in ((SONNET_45, 0), (SONNET_45, 0), (SONNET_37, 0), (SONNET_45, 3), (SONNET_37, 3)):
        bedrock.choose(f"us.{model}", router=router)
        plan = client.plan_cache_points(**original)
        assert bool(plan.points) is bool(points)
        routing = client.converse(**original)["routing"]
        assert routing["invoked_model"] == model
        assert [point["ttl"] for point in routing["cache_points"]] == ["5m"] * len(plan.points)
    assert "are not known" in why_not(plan_cache_points(original), "system")


@pytest.mark.parametrize("point", [POINT, HOUR])
def test_user_points_stay_unless_models_are_known_to_refuse(point):
    original = request(f"{ACCOUNT}imported-model/abcdefghijkl", system=[LONG, point])
    assert plan_cache_points(original).request == original
    assert plan_cache_points({**original, "modelId": HAIKU}).request == {**request(HAIKU)}


def test_error_about_invalid_request_shows_no_content():
    with pytest.raises(InvalidRequestError) as caught:
        plan_cache_points({"modelId": SONNET_45, "system": "my secret prompt", "messages": 3})
    assert "secret" not in str(caught.value)
    assert "modelId, system, messages" in str(caught.value)
