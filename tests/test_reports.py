"""Test the sums of a report: exact, independent of order and threads, in bounded memory."""

from __future__ import annotations

import copy
import json
import math
import pickle
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from decimal import Decimal, localcontext

import pytest
from botocore.exceptions import ClientError, EventStreamError
from hypothesis import given
from hypothesis import strategies as st

from bedrock_routing_integrations import RoutedClient, RoutingReport
from bedrock_routing_integrations.costs.totals import MOST_EXACT
from bedrock_routing_integrations.errors import InvalidRequestError, StreamInterruptedError

ROUTER = "arn:aws:bedrock:us-east-1:123456789012:default-prompt-router/anthropic.claude:1"
SONNET_45 = "anthropic.claude-sonnet-4-5-20250929-v1:0"
HAIKU_45 = "anthropic.claude-haiku-4-5-20251001-v1:0"
NOON = datetime(2026, 11, 21, 12, tzinfo=timezone.utc)


def routing(**changed):
    """Return the routing of a router's call that the small model answered."""
    usage = {"input": 1_000, "output": 200, "cache_read": 0, "cache_write_5m": 0, "cache_write_1h": 0}
    usage |= changed.pop("usage", None) or {}
    return {
        "requested_model_id": ROUTER, "target_kind": "default_prompt_router",
        "invoked_model_id": f"arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.{HAIKU_45}",
        "invoked_model": HAIKU_45, "is_fallback": False, "candidates": [HAIKU_45, SONNET_45],
        "latency": {"requested": None, "served": None}, "service_tier": {"requested": None, "served": None},
        "usage": usage, "cost_usd": 0.0022, "fallback_cost_usd": 0.0066, "latency_ms": 500,
        "time_to_first_token_ms": None, "attempts": 1, "request_id": "r-1", "cache_points": [],
        **changed,
    }  # fmt: skip


LARGE = {
    "invoked_model_id": f"us.{SONNET_45}", "invoked_model": SONNET_45, "is_fallback": True, "cost_usd": 0.0066,
    "latency_ms": 4_500,
}  # fmt: skip


def a_report(*calls, **options):
    report = RoutingReport(**options)
    for call in calls:
        report.add(call)
    return report


# --- sums ---


def test_empty_report_has_cost_zero():
    report = RoutingReport().to_dict()
    assert report["totals"]["calls"] == 0
    assert report["totals"]["cost_usd"] == 0.0
    assert (report["targets"], report["models"], report["by"], report["timeline"]) == ([], [], {}, [])
    assert report["since"] is report["until"] is None


def test_a_router_against_always_its_fallback():
    report = a_report(routing(), routing(), routing(**LARGE)).to_dict()
    totals = report["totals"]
    routing_report = a_report(routing(), routing(), routing(**LARGE))
    assert (routing_report.calls, routing_report.cost_usd) == (totals["calls"], totals["cost_usd"])
    assert (routing_report.saved_by_routing_usd, routing_report.saved_by_caching_usd) == (0.0088, 0.0)
    assert repr(routing_report) == "<RoutingReport of 3 calls>"
    assert totals["cost_usd"] == 0.011  # 2 x 0.0022 + 0.0066
    assert totals["saved_by_routing_usd"] == 0.0088  # 2 x (0.0066 - 0.0022)
    assert totals["tokens"] == {
        "input": 3_000,
        "output": 600,
        "cache_read": 0,
        "cache_write_5m": 0,
        "cache_write_1h": 0,
    }
    (target,) = report["targets"]
    assert (target["requested_model_id"], target["target_kind"], target["share"]) == (
        ROUTER,
        "default_prompt_router",
        1.0,
    )
    small, large = target["models"]
    assert (small["invoked_model"], small["is_fallback"], small["calls"]) == (HAIKU_45, False, 2)
    assert (large["invoked_model"], large["is_fallback"], large["calls"]) == (SONNET_45, True, 1)
    assert small["share"] == pytest.approx(2 / 3)
    assert (small["latency_ms"]["calls"], large["latency_ms"]["calls"]) == (2, 1)
    assert small["latency_ms"]["p50"] == small["latency_ms"]["p95"] == pytest.approx(500, rel=0.01)
    assert large["latency_ms"]["p50"] == pytest.approx(4_500, rel=0.01)


def test_call_without_price_is_counted_and_costs_none():
    unknown = routing(invoked_model=None, invoked_model_id=None, is_fallback=None, cost_usd=None)
    totals = a_report(unknown).to_dict()["totals"]
    assert (totals["cost_usd"], totals["calls_without_price"]) == (None, 1)
    assert (totals["saved_by_routing_usd"], totals["calls_without_routing_price"]) == (None, 1)
    totals = a_report(unknown, routing()).to_dict()["totals"]
    assert (totals["cost_usd"], totals["calls_without_price"]) == (0.0022, 1)
    assert (totals["saved_by_routing_usd"], totals["calls_without_routing_price"]) == (0.0044, 1)


def test_knowledge_base_answer_without_usage_is_counted_without_price():
    told_nothing = routing(usage=None, cost_usd=None, fallback_cost_usd=None, invoked_model=None, invoked_model_id=None)
    told_nothing["usage"] = None
    totals = a_report(told_nothing).to_dict()["totals"]
    assert (totals["calls"], totals["calls_without_usage"], totals["calls_without_price"]) == (1, 1, 1)
    assert (totals["cost_usd"], totals["tokens"]["input"]) == (None, 0)
    assert totals["calls_without_caching_price"] == 0


def test_call_without_routing_saves_nothing_by_routing():
    direct = routing(
        requested_model_id=f"us.{HAIKU_45}", target_kind="system_inference_profile", fallback_cost_usd=None
    )
    totals = a_report(direct).to_dict()["totals"]
    assert (totals["saved_by_routing_usd"], totals["calls_without_routing_price"]) == (0.0, 0)


def test_caching_is_judged_against_the_same_tokens_uncached():
    # Haiku 4.5, us.: 1.1 in, 5.5 out, 0.11 read, 1.375 and 2.2 written; in millionths:
    write = {"cache_write_5m": 4_000, "cache_write_1h": 1_000}  # 1,100 + 1,100 + 5,500 + 2,200 = 9,900; else 7,700
    read = {"cache_read": 5_000}  # 1,100 + 1,100 + 550 = 2,750; else 7,700
    totals = a_report(
        routing(usage=write, cost_usd=0.0099, fallback_cost_usd=None),
        routing(usage=read, cost_usd=0.00275, fallback_cost_usd=None),
    ).to_dict()["totals"]
    assert totals["saved_by_caching_usd"] == 0.00275  # 0.00495 - 0.0022
    assert totals["cache_hit_rate"] == 0.5
    only_written = a_report(routing(usage=write, cost_usd=0.0099)).to_dict()["totals"]
    assert only_written["saved_by_caching_usd"] == -0.0022, "what cost more than it saved is said so"
    assert only_written["cache_hit_rate"] == 0.0


def test_caching_savings_need_the_own_prices_of_the_call():
    call = routing(usage={"cache_read": 5_000}, cost_usd=0.0025)  # 1 in, 5 out, 0.1 read: 1,000 + 1,000 + 500
    unknown = a_report(call).to_dict()["totals"]
    assert (unknown["saved_by_caching_usd"], unknown["calls_without_caching_price"]) == (None, 1)
    known = a_report(call, prices={HAIKU_45: {"input_mtok": 1, "output_mtok": 5}}).to_dict()
    assert known["totals"]["saved_by_caching_usd"] == 0.0045
    assert known["prices"].startswith("own prices and genai-prices ")


def test_requested_and_served_latency_and_tier_are_counted():
    totals = a_report(
        routing(latency={"requested": "optimized", "served": "standard"}),
        routing(
            latency={"requested": "optimized", "served": "optimized"},
            service_tier={"requested": None, "served": "default"},
        ),
        routing(latency={"requested": "optimized", "served": None}),
        routing(),
    ).to_dict()["totals"]
    assert totals["latency"] == {"optimized": {"none": 1, "optimized": 1, "standard": 1}}
    assert totals["service_tier"] == {"none": {"default": 1}}


def test_errors_are_counted_by_kind_and_target():
    def refused(code):
        return ClientError({"Error": {"Code": code, "Message": "the prompt"}}, "Converse")

    report = a_report(routing())
    report.add_error(refused("ThrottlingException"), requested_model_id=ROUTER)
    report.add_error(
        EventStreamError({"Error": {"Code": "throttlingException"}}, "ConverseStream"), requested_model_id=ROUTER
    )
    report.add_error(StreamInterruptedError("it broke", partial={}), requested_model_id="us.amazon.nova-pro-v1:0")
    report.add_error("ReadTimeoutError")
    found = report.to_dict()
    assert found["totals"]["errors"] == {"ThrottlingException": 2, "ReadTimeoutError": 1, "StreamInterruptedError": 1}
    assert found["totals"]["calls"] == 1
    by_target = {target["requested_model_id"]: (target["target_kind"], target["errors"]) for target in found["targets"]}
    assert by_target[ROUTER] == ("default_prompt_router", {"ThrottlingException": 2})
    assert by_target["us.amazon.nova-pro-v1:0"] == ("system_inference_profile", {"StreamInterruptedError": 1})
    assert "the prompt" not in report.to_json()


def test_labels_group_calls():
    report = RoutingReport()
    for team in ("search", "search", "support"):
        report.add(routing(), labels={"team": team})
    report.add_error("ThrottlingException", labels={"team": "support"})
    by = report.to_dict()["by"]
    assert {team: (tally["calls"], tally["cost_usd"]) for team, tally in by["team"].items()} == {
        "search": (2, 0.0044), "support": (1, 0.0022),
    }  # fmt: skip
    assert by["team"]["support"]["errors"] == {"ThrottlingException": 1}


@pytest.mark.parametrize("wrong", [None, {}, "routing", 3, {"routing": {}}])
def test_invalid_routing_entry_is_refused(wrong):
    with pytest.raises(InvalidRequestError, match='"routing"'):
        RoutingReport().add(wrong)


def test_a_time_without_its_zone_is_refused():
    with pytest.raises(InvalidRequestError, match="time zone"):
        RoutingReport().add(routing(), when=datetime(2026, 11, 21))  # noqa: DTZ001


def test_arguments_are_neither_changed_nor_kept():
    call = routing(usage={"cache_read": 5})
    before = copy.deepcopy(call)
    report = a_report(call)
    call["usage"]["input"] = 10**9
    assert report.to_dict()["totals"]["tokens"]["input"] == before["usage"]["input"]


def test_to_dict_returns_json_and_a_copy():
    report = a_report(routing(), routing(**LARGE))
    assert json.loads(report.to_json()) == report.to_dict()
    report.to_dict()["totals"]["tokens"]["input"] = 0
    assert report.to_dict()["totals"]["tokens"]["input"] == 2_000


# --- durations ---


@given(st.lists(st.integers(0, 3_600_000), min_size=1, max_size=MOST_EXACT), st.integers(0, 3))
def test_quantiles_of_few_values_are_exact_also_after_merging(values, parts):
    whole, merged = a_report(*(routing(latency_ms=value) for value in values)), RoutingReport()
    for part in range(parts + 1):
        merged.merge(a_report(*(routing(latency_ms=value) for value in values[part :: parts + 1])))
    ordered = sorted(values)
    expected = {name: ordered[math.ceil(len(ordered) * share) - 1] for name, share in (("p50", 0.5), ("p95", 0.95))}
    assert whole.to_dict()["totals"]["latency_ms"] == {**expected, "calls": len(values)}
    assert merged.to_dict()["totals"]["latency_ms"] == {**expected, "calls": len(values)}


@given(st.lists(st.integers(0, 3_600_000), min_size=1, max_size=300), st.sampled_from([0.5, 0.95]))
def test_a_quantile_is_within_one_percent(values, share):
    report = a_report(*(routing(latency_ms=value) for value in values))
    exact = sorted(values)[-(-len(values) * round(share * 100) // 100) - 1]
    found = report.to_dict()["totals"]["latency_ms"]["p50" if share == 0.5 else "p95"]
    assert abs(found - exact) <= 0.5 + exact * 0.01


def test_latency_without_measured_calls_is_none():
    for report in (a_report(), a_report(routing(latency_ms=None))):
        assert report.to_dict()["totals"]["latency_ms"] == {"p50": None, "p95": None, "calls": 0}


def test_quantiles_of_equal_latencies_are_exact():
    found = a_report(routing(latency_ms=4_504), routing(latency_ms=4_504)).to_dict()["totals"]["latency_ms"]
    assert found == {"p50": 4_504, "p95": 4_504, "calls": 2}


# --- exact, in any order ---

amounts = st.floats(0, 1_000, allow_nan=False)
calls = st.lists(
    st.tuples(amounts, amounts, st.sampled_from([HAIKU_45, SONNET_45, None]), st.integers(0, 10**7)), max_size=40
)


@given(calls, st.randoms(use_true_random=False), st.integers(1, 5))
def test_order_and_parts_make_no_difference(given_calls, random, parts):
    def fill(reports, order):
        for position, (cost, fallback, model, second) in enumerate(order):
            call = routing(cost_usd=cost, fallback_cost_usd=fallback, invoked_model=model)
            reports[position % len(reports)].add(
                call, when=NOON + timedelta(seconds=second), labels={"model": str(model)}
            )
        return reports

    (whole,) = fill([RoutingReport()], given_calls)
    shuffled = list(given_calls)
    random.shuffle(shuffled)
    merged = RoutingReport()
    with localcontext() as context:
        context.prec = 3  # the caller's own rounding is not ours
        for part in fill([RoutingReport() for _ in range(parts)], shuffled):
            merged.merge(part)
    assert merged.to_dict() == whole.to_dict()
    exact = sum((Decimal(repr(cost)) for cost, *_ in given_calls), Decimal(0))
    assert whole.cost_usd == pytest.approx(float(exact), rel=1e-15)


def test_a_tenth_ten_times_is_one():
    assert a_report(*[routing(cost_usd=0.1)] * 10).cost_usd == 1.0


def test_threads_lose_nothing():
    report, other = RoutingReport(), a_report(routing())
    barrier = threading.Barrier(16)

    def work(number):
        barrier.wait()
        for _ in range(100):
            report.add(routing(), labels={"thread": str(number)})
            report.add_error("ThrottlingException")
        report.to_dict()
        report.merge(other)

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(work, range(16)))
    found = report.to_dict()
    assert (found["totals"]["calls"], found["totals"]["cost_usd"]) == (1_616, 3.5552)
    assert found["totals"]["errors"] == {"ThrottlingException": 1_600}
    assert all(tally["calls"] == 100 for tally in found["by"]["thread"].values())


def test_reports_merge_into_each_other_concurrently_and_into_themselves():
    one, two = a_report(routing()), a_report(routing())
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda pair: pair[0].merge(pair[1]), [(one, two), (two, one)]))
    assert {one.calls, two.calls} <= {2, 3}
    one.merge(one)
    assert one.calls in (4, 6)


def test_a_report_can_be_pickled_and_copied():
    report = a_report(routing(), prices={HAIKU_45: {"input_mtok": 1, "output_mtok": 5}})
    for twin in (pickle.loads(pickle.dumps(report)), copy.deepcopy(report), copy.copy(report)):
        assert twin.to_dict() == report.to_dict()
        twin.add(routing())
        assert (twin.calls, report.calls) == (2, 1)


# --- bounded ---


@pytest.mark.sweep
def test_memory_does_not_grow_with_calls():
    report = RoutingReport()

    def fill(first, last):
        for number in range(first, last):
            report.add(
                routing(
                    requested_model_id=f"us.acme.model-{number}",
                    invoked_model=f"acme.model-{number}",
                    latency_ms=number % 5_000,
                ),
                when=NOON + timedelta(minutes=number),
                labels={"user": str(number), f"label {number}": "x"},
            )
            report.add_error(
                f"Error{number}", requested_model_id=f"us.acme.model-{number}", labels={"user": str(number)}
            )

    fill(0, 3_000)
    tracemalloc.start()
    fill(3_000, 6_000)
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert grown < 2_000_000
    found = report.to_dict()
    assert found["totals"]["calls"] == 6_000, "what is not told apart is counted all the same"
    assert len(found["targets"]) <= 1_001
    others = [target for target in found["targets"] if target["requested_model_id"] == "(others)"]
    assert others[0]["calls"] == 5_000
    assert len(found["by"]) <= 20
    assert len(found["by"]["user"]) == 1_001
    assert len(found["totals"]["errors"]) <= 1_101
    assert len(found["timeline"]) <= 240


def test_time_is_shown_in_stretches_of_equal_length():
    report = RoutingReport()
    for hour in range(48):
        report.add(routing(), when=NOON + timedelta(hours=hour))
    found = report.to_dict()
    assert (found["since"], found["until"]) == ("2026-11-21T12:00:00+00:00", "2026-11-23T11:00:00+00:00")
    assert {stretch["seconds"] for stretch in found["timeline"]} == {900}
    assert [stretch["calls"] for stretch in found["timeline"]] == [1] * 48
    assert found["timeline"][0] == {
        "start": "2026-11-21T12:00:00+00:00", "seconds": 900, "calls": 1, "cost_usd": 0.0022,
        "saved_by_routing_usd": 0.0044, "saved_by_caching_usd": 0.0,
    }  # fmt: skip


# --- real calls ---


def test_a_report_of_calls_over_boto3(bedrock, router):
    client = RoutedClient(bedrock.client(), bedrock_client=bedrock.client("bedrock"))
    report, costs = RoutingReport(), []
    for number in range(4):
        message = {"role": "user", "content": [{"text": f"Say good morning to {number}."}]}
        whole = client.converse(modelId=router, messages=[message])["routing"]
        events = client.converse_stream(modelId=router, messages=[message])["stream"]
        *_, streamed = [event["metadata"]["routing"] for event in events if "metadata" in event]
        for entry in (whole, streamed):
            report.add(entry)
            costs.append(Decimal(repr(entry["cost_usd"])))
    totals = report.to_dict()["totals"]
    assert (totals["calls"], totals["cost_usd"]) == (8, float(sum(costs)))
    assert totals["time_to_first_token_ms"]["calls"] == 4
    assert totals["saved_by_routing_usd"] > 0
