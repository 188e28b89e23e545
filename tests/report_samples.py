"""Dictionaries of reports, written by hand as `RoutingReport.to_dict` gives them."""

from __future__ import annotations

from copy import deepcopy

ROUTER = "arn:aws:bedrock:us-east-1:123456789012:default-prompt-router/anthropic.claude:1"
PROFILE = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/k3j4h5g6f7d8"
NOVA = "us.amazon.nova-pro-v1:0"
HAIKU, SONNET = "anthropic.claude-3-haiku-20240307-v1:0", "anthropic.claude-3-5-sonnet-20240620-v1:0"

NO_TOKENS = {"input": 0, "output": 0, "cache_read": 0, "cache_write_5m": 0, "cache_write_1h": 0}


def a_tally(calls=0, **others):
    """Return the tally of some calls. They are plain and cost zero unless `others` replaces members."""
    known = {
        "calls": calls,
        "share": 1.0,
        "tokens": {**NO_TOKENS, **others.pop("tokens", {})},
        "calls_without_usage": 0,
        "cache_hit_rate": None,
        "cost_usd": 0.0,
        "calls_without_price": 0,
        "saved_by_routing_usd": 0.0,
        "routed_cost_usd": 0.0,
        "calls_without_routing_price": 0,
        "saved_by_caching_usd": 0.0,
        "cached_cost_usd": 0.0,
        "calls_without_caching_price": 0,
        "latency": {},
        "service_tier": {},
        "latency_ms": {"p50": None, "p95": None, "calls": 0},
        "time_to_first_token_ms": {"p50": None, "p95": None, "calls": 0},
        "errors": {},
    }
    assert others.keys() <= known.keys()
    return {**deepcopy(known), **others}


def times(p50, p95, calls=10):
    return {"p50": p50, "p95": p95, "calls": calls}


def a_target(requested, kind, *models, **tally):
    """Return a target. `models` are triples: base model, whether it is the fallback, tally."""
    below = [{"invoked_model": model, "is_fallback": fallback, **counts} for model, fallback, counts in models]
    return {"requested_model_id": requested, "target_kind": kind, **a_tally(**tally), "models": below}


def a_bucket(minute, calls=1, cost=0.01, routing=0.0, caching=0.0, seconds=60):
    return {
        "start": f"2026-11-21T{20 + minute // 60}:{minute % 60:02}:00+00:00",
        "seconds": seconds,
        "calls": calls,
        "cost_usd": cost,
        "saved_by_routing_usd": routing,
        "saved_by_caching_usd": caching,
    }


def a_report_of(targets, *, models=None, by=None, timeline=(), **totals):
    """Return a report of `targets`. Its models are those of the targets, none in common unless `models` is given."""
    every = [model for target in targets for model in target["models"]]
    return {
        "since": "2026-11-21T20:00:03.512000+00:00" if targets else None,
        "until": "2026-11-21T21:12:40+00:00" if targets else None,
        "totals": a_tally(**totals),
        "targets": list(targets),
        "models": models if models is not None else [{k: v for k, v in m.items() if k != "is_fallback"} for m in every],
        "by": by or {},
        "timeline": list(timeline),
        "prices": "genai-prices 0.2.3",
    }


def nothing():
    return a_report_of([])


def one_call():
    tally = {"calls": 1, "tokens": {**NO_TOKENS, "input": 27, "output": 160}, "cost_usd": 0.000405,
             "latency_ms": times(4504, 4504, 1)}  # fmt: skip
    target = a_target(HAIKU, "foundation_model", (HAIKU, False, a_tally(**tally)), **tally)
    return {
        **a_report_of([target], timeline=[a_bucket(0, cost=0.000405)], **tally),
        "until": "2026-11-21T20:00:03+00:00",
    }


def a_report():
    """Return a report: a default router, an application profile, Nova without a price, with caching, tiers, errors."""
    haiku = {"calls": 60, "share": 0.75, "tokens": {**NO_TOKENS, "input": 18_300, "output": 9_200},
             "cost_usd": 0.016075, "saved_by_routing_usd": 0.176825, "latency_ms": times(820, 1930, 60),
             "time_to_first_token_ms": times(310, 690, 20)}  # fmt: skip
    sonnet = {"calls": 20, "share": 0.25, "cost_usd": 0.0693, "latency_ms": times(4504, 9120, 20),
              "tokens": {**NO_TOKENS, "input": 3_100, "output": 4_000}}  # fmt: skip
    router = {"calls": 80, "share": 80 / 120, "tokens": {**NO_TOKENS, "input": 21_400, "output": 13_200},
              "cost_usd": 0.085375, "saved_by_routing_usd": 0.176825, "latency_ms": times(1010, 8200, 80),
              "time_to_first_token_ms": times(310, 690, 20),
              "errors": {"ThrottlingException": 5, "ReadTimeoutError": 1}}  # fmt: skip
    profile = {"calls": 30, "share": 0.25, "cost_usd": 0.0721, "calls_without_price": 3, "cache_hit_rate": 0.9,
               "tokens": {"input": 9_000, "output": 4_100, "cache_read": 180_000, "cache_write_5m": 20_000,
                          "cache_write_1h": 0},
               "saved_by_caching_usd": 0.0361, "calls_without_caching_price": 3, "calls_without_routing_price": 3,
               "latency": {"optimized": {"optimized": 9, "standard": 3}},
               "latency_ms": times(900, 2100, 30)}  # fmt: skip
    nova = {"calls": 10, "share": 10 / 120, "tokens": {**NO_TOKENS, "input": 3_000, "output": 1_500}, "cost_usd": None,
            "calls_without_price": 10, "calls_without_routing_price": 10, "saved_by_routing_usd": None,
            "calls_without_caching_price": 10, "saved_by_caching_usd": None, "latency_ms": times(700, 800, 10),
            "service_tier": {"flex": {"flex": 10}}}  # fmt: skip
    targets = [
        a_target(ROUTER, "default_prompt_router", (HAIKU, False, a_tally(**haiku)), (SONNET, True, a_tally(**sonnet)),
                 **router),
        a_target(PROFILE, "application_inference_profile", (HAIKU, False, a_tally(**profile)), **profile),
        a_target(NOVA, "system_inference_profile", ("amazon.nova-pro-v1:0", False, a_tally(**nova)), **nova),
    ]  # fmt: skip
    tokens = {"input": 33_400, "output": 18_800, "cache_read": 180_000, "cache_write_5m": 20_000, "cache_write_1h": 0}
    totals = {"calls": 120, "share": 1.0, "tokens": tokens, "cache_hit_rate": 0.9, "cost_usd": 0.157475,
              "calls_without_price": 13, "saved_by_routing_usd": 0.176825, "calls_without_routing_price": 13,
              "saved_by_caching_usd": 0.0361, "calls_without_caching_price": 13, "latency_ms": times(960, 8000, 120),
              "routed_cost_usd": 0.085375, "cached_cost_usd": 0.0721,
              "time_to_first_token_ms": times(310, 690, 20), "latency": {"optimized": {"optimized": 9, "standard": 3}},
              "service_tier": {"flex": {"flex": 10}},
              "errors": {"ThrottlingException": 5, "ReadTimeoutError": 1}}  # fmt: skip
    both = {**profile, **haiku, "calls": 90, "share": 0.75, "cost_usd": 0.088175, "cache_hit_rate": 0.9,
            "tokens": {**profile["tokens"], "input": 27_300, "output": 13_300}}  # fmt: skip
    models = [{"invoked_model": HAIKU, **a_tally(**both)},
              {"invoked_model": SONNET, **a_tally(**{**sonnet, "share": 20 / 120})},
              {"invoked_model": "amazon.nova-pro-v1:0", **a_tally(**nova)}]  # fmt: skip
    by = {"team": {"search": a_tally(**{**router, "errors": {}}),
                   "support": a_tally(**{**profile, "calls": 40, "share": 1 / 3})}}  # fmt: skip
    timeline = [a_bucket(minute, calls=10, cost=0.0131, routing=0.0147, caching=0.003 if minute > 10 else -0.002)
                for minute in (0, 2, 3, 7, 11, 12, 30, 31, 40, 55, 70, 72)]  # fmt: skip
    return a_report_of(targets, models=models, by=by, timeline=timeline, **totals)


def many_models(count=12):
    tallies = [(f"anthropic.claude-model-{number}-20250101-v1:0",
                a_tally(100 // (number + 1), share=1 / (number + 2),
                        cost_usd=0.5 / (number + 1) if number % 3 else None,
                        calls_without_price=0 if number % 3 else 100 // (number + 1)))
               for number in range(count)]  # fmt: skip
    calls = sum(tally["calls"] for _, tally in tallies)
    targets = [a_target(model, "foundation_model", (model, False, tally), **tally) for model, tally in tallies]
    cost = sum(tally["cost_usd"] or 0 for _, tally in tallies)
    missing = sum(tally["calls_without_price"] for _, tally in tallies)
    return a_report_of(targets, calls=calls, cost_usd=cost, calls_without_price=missing)
