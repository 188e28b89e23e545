"""Test with random applications that Bedrock refuses no added cachePoint, whatever was learned before."""

from __future__ import annotations

import pickle
import random
from collections import Counter

import pytest
from cache_requests import FAMILIES, BedrockWithoutAWire, Clock, Writer, lists_of, points_of, taken
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from samples import NOVA_PRO

from bedrock_routing_integrations import CachePolicy, RoutedClient
from bedrock_routing_integrations.emulator import BedrockEmulator
from bedrock_routing_integrations.requests import prepare_request
from bedrock_routing_integrations.runtime import Runtime

APPLICATIONS, REQUESTS = 8, 25


def some_policy(chance):
    if chance.random() < 0.4:
        return CachePolicy()
    return CachePolicy(
        sections=chance.sample(["tools", "system", "messages"], chance.choice([1, 2, 3, 3])),
        ttl=chance.choice(["auto", "5m", "1h", "1h"]),
        min_saving=chance.choice([0, 0, 0, 600]),
        max_points=chance.choice([1, 2, 3, 4, 4, 4]),
        memory=chance.choice(["shared", "own", "none"]),
    )


def check_plan(request, planned, off, policy, models):
    """Assert what holds for every plan; return the added points."""
    given_points, points = points_of(request), points_of(planned)
    assert len(points) <= 4
    lifetimes = [point[3] for point in points]
    assert lifetimes == sorted(lifetimes), "an hour comes first"  # "1h" sorts before "5m"
    kept = points_of(off)
    if taken(request, models):
        assert kept == given_points, "valid points are not changed"
    assert set(kept) <= set(points)
    added = [point for point in points if point not in kept]
    assert {point[0] for point in added} <= set(policy.sections)
    assert not added or len(points) <= max(policy.max_points, len(kept))
    # All else is what was given: the very same blocks, and the other members.
    for (_, _, before), (_, _, after) in zip(lists_of(request), lists_of(planned), strict=True):
        before_blocks = [block for block in before if "cachePoint" not in block]
        after_blocks = [block for block in after if "cachePoint" not in block]
        assert len(before_blocks) == len(after_blocks)
        assert all(one is other for one, other in zip(before_blocks, after_blocks, strict=True))
    assert [message["role"] for message in planned["messages"]] == [message["role"] for message in request["messages"]]
    assert list(planned) == list(request)
    assert planned.get("toolConfig", {}).keys() == request.get("toolConfig", {}).keys()
    for name in request.keys() - {"messages", "system", "toolConfig"}:
        assert planned[name] == request[name]
    return added


def run(family, seed, seen):
    """Check the plans of one application, with its own client; a third of the requests is sent, and learned from."""
    chance, clock = random.Random(seed), Clock()
    writer = Writer(family, chance)
    bedrock, policy = BedrockWithoutAWire(writer.models, clock, chance), some_policy(chance)
    known = {writer.target: writer.models}
    client = RoutedClient(bedrock, base_models=known, cache=policy, runtime=Runtime(clock=clock))
    off = RoutedClient(bedrock, base_models=known, cache="off", runtime=Runtime(clock=clock))
    for number in range(REQUESTS):
        clock.now += chance.choice([0, 1, 20, 200, 290, 400, 3_000, 4_000])
        request = writer.request()
        if marked := chance.random() < 0.3:
            request = writer.with_points(request)
        # Other rules (reasoning, document names) are applied before: they are not tested here.
        request = prepare_request(request, client.resolve(request["modelId"])).request
        before = pickle.dumps(request)
        repaired = off.plan_cache_points(**request).request if marked else request
        if not taken(repaired, writer.models):  # the caller's own points end too long a prefix
            continue
        explained = client.plan_cache_points(**request).request if number % 3 or not number else None
        if number % 3 == 0:
            client.converse(**request)
        planned = explained or bedrock.sent
        assert number or bedrock.sent == planned, "the explained plan is the one that is sent"
        bedrock.check(planned)
        added = check_plan(request, planned, repaired, policy, writer.models)
        assert pickle.dumps(request) == before
        lifetimes = {point[3] for point in added}
        seen.update(["requests", *["added"] * bool(added), *{point[0] for point in added}, *lifetimes])
        seen["callers"] += bool(points_of(repaired))


@pytest.mark.parametrize("examples", [2, pytest.param(52, marks=pytest.mark.sweep)])
@pytest.mark.parametrize("family", FAMILIES)
def test_bedrock_accepts_ten_thousand_planned_requests(family, examples):
    seen, share = Counter(), examples // 52

    @settings(max_examples=examples, deadline=None, database=None, phases=[Phase.generate], derandomize=not share)
    @given(st.lists(st.integers(0, 2**32), min_size=APPLICATIONS, max_size=APPLICATIONS, unique=True))
    def applications(seeds):
        for seed in seeds:
            run(family, seed, seen)

    applications()
    assert seen["requests"] > 9_999 * share
    if family == "llama":
        assert set(seen) == {"requests", "callers"}
        assert seen["callers"] == 0
        return
    # Else it would prove nothing.
    assert seen["added"] > 2_500 * share
    assert seen["callers"] > 1_000 * share
    assert all(seen[section] > 200 * share for section in ("system", "messages", *["tools"] * (family != "nova")))
    assert (seen["1h"] > 500 * share) is (family == "claude")


def planned_again(seed, policy):
    """Yield for each request of an application whether planning the planned request changes nothing."""
    chance, clock = random.Random(seed), Clock()
    writer = Writer("claude", chance)
    bedrock = BedrockWithoutAWire(writer.models, clock, chance)
    client = RoutedClient(bedrock, cache=policy, runtime=Runtime(clock=clock))
    for _ in range(REQUESTS):
        clock.now += chance.choice([0, 1, 20, 200, 290, 400, 3_000, 4_000])
        request = writer.request()
        planned = client.plan_cache_points(**request).request
        yield client.plan_cache_points(**planned).request == planned
        client.converse(**request)


@pytest.mark.parametrize("ttl", ["5m", "1h"])
def test_planning_a_planned_request_changes_nothing(ttl):
    assert all(same for seed in range(5) for same in planned_again(seed, CachePolicy(ttl=ttl)))


@pytest.mark.parametrize("seeds", [2, pytest.param(150, marks=pytest.mark.sweep)])
def test_planning_a_planned_request_with_auto_ttl_changes_nothing(seeds):
    assert all(same for seed in range(seeds) for same in planned_again(seed, CachePolicy()))


def test_nova_prefix_stays_below_maximum_after_russian_text():
    clock = Clock()
    bedrock = BedrockWithoutAWire([NOVA_PRO], clock, random.Random(0))
    client = RoutedClient(bedrock, cache="auto", runtime=Runtime(clock=clock))
    for words in ["Пчёлы летают. " * 1_000] * 10 + ["The bees have gone. " * 4_100] * 2:  # 20,500 tokens
        clock.now += 10
        messages = [{"role": "user", "content": [{"text": words}, {"text": f"What at {clock.now}?"}]}]
        client.converse(modelId=f"us.{NOVA_PRO}", messages=messages)


# --- over the wire ---


@pytest.mark.sample(1)
@pytest.mark.parametrize("family", FAMILIES)
def test_emulator_accepts_planned_requests_at_first_attempt(family):
    clock, chance = Clock(), random.Random(family)
    with BedrockEmulator(clock=clock) as bedrock:
        client = RoutedClient(bedrock.client("bedrock-runtime"), runtime=Runtime(clock=clock))
        placed = 0
        for application in range(4):
            writer = Writer(family, chance)
            if family == "router":
                names = [f"us.{name}" for name in writer.models]
                writer.target = bedrock.create_prompt_router(name=f"r{application}", models=names, fallback=names[1])
            for number in range(20):
                clock.now += 30
                request = writer.request()
                request.pop("performanceConfig", None)  # not all of these models offer it
                request = writer.with_points(request) if number % 4 == 0 else request
                if number % 5 == 0:
                    *_, last = client.converse_stream(**request)["stream"]
                    routing = last["metadata"]["routing"]
                else:
                    routing = client.converse(**request)["routing"]
                sent = bedrock.requests()[-1].request
                reported = [(point["section"], point.get("message"), point["ttl"]) for point in routing["cache_points"]]
                assert reported == [(section, message, ttl) for section, message, _, ttl in points_of(sent)]
                placed += bool(reported) and number % 4 != 0
        assert [entry.status for entry in bedrock.requests() if "Converse" in entry.operation] == [200] * 80
    assert placed == 0 if family == "llama" else placed > 15
