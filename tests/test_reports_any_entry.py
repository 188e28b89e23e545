"""Test reports of incomplete, invalid and many entries: each entry is counted as far as it is valid."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace

import pytest

from bedrock_routing_integrations import RoutingReport
from bedrock_routing_integrations.costs.prices import Prices, priced
from bedrock_routing_integrations.errors import InvalidRequestError
from bedrock_routing_integrations.invocation import read_invocation
from bedrock_routing_integrations.models.candidates import resolve_by_id
from bedrock_routing_integrations.models.look_ups import ControlPlaneLookUp
from bedrock_routing_integrations.targets import parse_target

HAIKU, SONNET = "anthropic.claude-3-haiku-20240307-v1:0", "anthropic.claude-3-5-sonnet-20240620-v1:0"
CACHING = "anthropic.claude-sonnet-4-5-20250929-v1:0"
PROMPT = "arn:aws:bedrock:us-east-1:123456789012:prompt/ABCDEFGHIJ"
ROUTER = "arn:aws:bedrock:us-east-1:123456789012:prompt-router/abcdefghijkl"
NONE = {"requested": None, "served": None}


def entry(**changed):
    return {
        "requested_model_id": HAIKU, "target_kind": "foundation_model", "invoked_model_id": None,
        "invoked_model": HAIKU, "is_fallback": False, "candidates": [HAIKU], "latency": NONE, "service_tier": NONE,
        "usage": {"input": 10, "output": 5, "cache_read": 0, "cache_write_5m": 0, "cache_write_1h": 0},
        "cost_usd": 0.001, "fallback_cost_usd": None, "latency_ms": 100, "time_to_first_token_ms": None,
        "attempts": 1, "request_id": "r", "cache_points": [], **changed,
    }  # fmt: skip


def totals(*entries):
    report = RoutingReport()
    for each in entries:
        report.add(each)
    return report.to_dict()["totals"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "12", [1], True])
@pytest.mark.parametrize("name", ["latency_ms", "time_to_first_token_ms", "cost_usd", "fallback_cost_usd"])
def test_value_that_is_not_a_number_is_unknown(name, value):
    report_totals = totals(entry(**{name: value}))
    assert report_totals == totals(entry(**{name: None}))
    assert json.loads(json.dumps(report_totals, allow_nan=False)) == report_totals


def test_unknown_or_invalid_token_counts_are_ignored():
    usage = {**entry()["usage"], "cache_read": 5, "reasoning": 7, "input": "10"}
    assert totals(entry(usage=usage))["tokens"] == {
        "input": 0, "output": 5, "cache_read": 5, "cache_write_5m": 0, "cache_write_1h": 0,
    }  # fmt: skip


def test_entries_with_different_kinds_of_one_target_all_count():
    report = RoutingReport()
    report.add(entry())
    report.add({name: value for name, value in entry().items() if name != "target_kind"})
    report_totals = report.to_dict()
    assert [target["calls"] for target in report_totals["targets"]] == [report_totals["totals"]["calls"]] == [2]


def test_labels_of_any_type_are_text():
    report = RoutingReport()
    for value in (None, 3, "3", ["x"]):
        report.add(entry(), labels={"team": value, 4: "b"})
    assert {value: tally["calls"] for value, tally in report.to_dict()["by"]["team"].items()} == {
        "3": 2, "None": 1, "['x']": 1,
    }  # fmt: skip
    assert "By 4" in str(report)


@pytest.mark.parametrize("year", [1, 9999])
def test_calls_of_any_year_are_shown_over_time(year):
    report = RoutingReport()
    report.add(entry(), when=datetime(year, 1, 1, tzinfo=timezone.utc))
    report.add(entry(), when=datetime(2026, 11, 21, tzinfo=timezone.utc))
    assert [stretch["calls"] for stretch in report.to_dict()["timeline"]] == [1, 1]


def test_a_moment_that_no_calendar_in_utc_has_is_refused():
    zone = timezone(timedelta(hours=14))
    with pytest.raises(InvalidRequestError, match="years 1 to 9999"):
        RoutingReport().add(entry(), when=datetime(1, 1, 1, tzinfo=zone))


# --- sums that are not known ---


def routed(**changed):
    return entry(requested_model_id=ROUTER, target_kind="custom_prompt_router", fallback_cost_usd=0.003, **changed)


def test_routing_savings_are_unknown_without_any_priced_routed_call():
    report_totals = totals(entry(), routed(cost_usd=None))
    assert (report_totals["saved_by_routing_usd"], report_totals["calls_without_routing_price"]) == (None, 1)


def test_caching_savings_are_unknown_without_any_priced_cached_call():
    report_totals = totals(entry(), entry(cost_usd=None, usage={**entry()["usage"], "cache_read": 5}))
    assert (report_totals["saved_by_caching_usd"], report_totals["calls_without_caching_price"]) == (None, 1)


def test_over_time_it_is_the_same():
    report = RoutingReport()
    report.add(entry(cost_usd=None))
    report_totals = report.to_dict()
    (stretch,) = report_totals["timeline"]
    for name in ("saved_by_routing_usd", "saved_by_caching_usd"):
        assert stretch[name] == report_totals["totals"][name] == 0.0


def test_a_managed_prompt_that_names_a_router_saves_by_it():
    def profile(model):
        return f"arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.{model}"

    models = [{"modelArn": profile(model)} for model in (HAIKU, SONNET)]
    control_plane = SimpleNamespace(
        get_prompt=lambda **_: {"variants": [{"name": "v", "modelId": ROUTER}], "defaultVariant": "v"},
        get_prompt_router=lambda **_: {"models": models, "fallbackModel": models[1]},
    )
    resolved = ControlPlaneLookUp(SimpleNamespace(client=lambda *_: control_plane)).resolve(parse_target(PROMPT))
    answer = {
        "usage": {"inputTokens": 1_000, "outputTokens": 1_000},
        "trace": {"promptRouter": {"invokedModelId": profile(HAIKU)}},
    }
    routing = priced(read_invocation({}, answer, resolved), resolved, Prices()).as_dict()
    assert (routing["cost_usd"], routing["fallback_cost_usd"]) == (0.0015, 0.018)
    assert totals(routing)["saved_by_routing_usd"] == 0.0165


# --- writes to caches ---


@pytest.mark.parametrize(
    ("details", "five_minutes", "one_hour"),
    [
        ([], 2_000, 0),
        ([{"ttl": "1h", "inputTokens": 500}], 1_500, 500),
        ([{"ttl": "5m", "inputTokens": 500}, {"ttl": "30m", "inputTokens": 1_500}], 2_000, 0),
        ([{"ttl": "5m", "inputTokens": 1_000}, {"ttl": "5m", "inputTokens": 1_000}], 2_000, 0),
        ([{"ttl": "1h", "inputTokens": 2_500}], 0, 2_500),
    ],
)
def test_no_token_that_was_written_to_a_cache_is_lost(details, five_minutes, one_hour):
    usage = {"inputTokens": 1, "outputTokens": 1, "cacheWriteInputTokens": 2_000, "cacheDetails": details}
    read = read_invocation({}, {"usage": usage}, resolve_by_id(parse_target(CACHING))).usage
    assert (read.cache_write_5m, read.cache_write_1h) == (five_minutes, one_hour)


# --- anything ---


@pytest.mark.parametrize("odd", ["x", 1.5, [1], {}, {"requested": []}, None])
@pytest.mark.parametrize("name", ["latency", "service_tier", "invoked_model", "invoked_model_id", "fallback_cost_usd"])
def test_an_entry_that_is_odd_somewhere_is_counted(name, odd):
    cached = entry(**{"usage": {**entry()["usage"], "cache_read": 5}, name: odd})
    assert totals(cached)["calls"] == 1


# --- bounds ---


def test_reports_that_are_merged_stay_within_the_bounds_of_one():
    report = RoutingReport()
    for number in range(8):
        other = RoutingReport()
        for more in range(20):
            other.add(entry(latency={"requested": str(number), "served": str(more)}), labels={f"{number}-{more}": "x"})
            other.add_error(f"{number}-{more}")
        report.merge(other)
    report_totals = report.to_dict()
    assert len(report_totals["by"]) == 20
    assert len(report_totals["totals"]["errors"]) <= 101
    assert sum(report_totals["totals"]["errors"].values()) == sum(
        map(sum, map(dict.values, report_totals["totals"]["latency"].values()))
    )


def test_known_target_keeps_its_models_among_many_targets():
    report = RoutingReport()
    saved = {"target_kind": "default_prompt_router", "requested_model_id": ROUTER}
    report.add(entry(**saved, cost_usd=1.0, fallback_cost_usd=12.0, invoked_model=HAIKU))
    for number in range(1_500):
        report.add(entry(requested_model_id=f"us.amazon.nova-{number}"))
    for _ in range(99):
        report.add(entry(**saved, cost_usd=12.0, fallback_cost_usd=12.0, invoked_model=SONNET))
    (router,) = [row for row in report.to_dict()["targets"] if row["requested_model_id"] == ROUTER]
    assert (router["calls"], router["cost_usd"], router["saved_by_routing_usd"]) == (100, 1_189.0, 11.0)
    assert [(model["invoked_model"], model["calls"]) for model in router["models"]] == [(SONNET, 99), (HAIKU, 1)]
    text = str(report)
    assert text.startswith("1,600 calls of more than 1,000 targets")
    assert "(others): all targets after the first 1,000." in text


def test_models_per_target_are_bounded_with_the_rest_counted():
    report = RoutingReport()
    for number in range(30):
        report.add(entry(invoked_model=f"amazon.nova-{number}-v1:0"))
    (target,) = report.to_dict()["targets"]
    assert {model["invoked_model"]: model["calls"] for model in target["models"]}["(others)"] == 10


# --- the text of a report ---


def test_share_saved_is_relative_to_calls_with_known_savings():
    report = RoutingReport()
    report.add(entry(target_kind="default_prompt_router", cost_usd=0.01, fallback_cost_usd=0.05))
    for _ in range(1_000):
        report.add(entry(requested_model_id="us.amazon.nova-pro-v1:0", cost_usd=None))
    report.add(entry(requested_model_id="us.amazon.nova-pro-v1:0", cost_usd=100.0))
    assert re.search(r"Saved by routing +\$0\.0400 +80% less than always the fallback model\n", str(report))


def test_savings_of_a_managed_prompt_are_in_the_first_lines():
    report = RoutingReport()
    routed = {"requested_model_id": PROMPT, "target_kind": "prompt", "invoked_model_id": HAIKU}
    report.add(entry(**routed, cost_usd=0.01, fallback_cost_usd=0.05))
    assert re.search(r"^  Saved by routing +\$0\.0400 ", str(report), re.MULTILINE)
