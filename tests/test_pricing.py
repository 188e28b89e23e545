"""Test the cost of a call against sums worked out by hand from AWS's price list, without the package's formulas."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone
from decimal import Decimal, localcontext

import boto3
import pytest
from benchmarks.fixed_server import fixed_server
from hypothesis import given
from hypothesis import strategies as st
from samples import ALICE, HAIKU, HELLO, LLAMA_8B, LLAMA_70B, NOVA_PRO, SONNET

from bedrock_routing_integrations import RoutedClient
from bedrock_routing_integrations.costs.prices import Prices, priced, uncached_cost
from bedrock_routing_integrations.errors import InvalidRequestError, InvalidTargetError
from bedrock_routing_integrations.invocation import Invocation, Usage
from bedrock_routing_integrations.models.candidates import (
    CandidateModel,
    ResolvedTarget,
    from_base_models,
    resolve_by_id,
)
from bedrock_routing_integrations.targets import parse_target

SONNET_45 = "anthropic.claude-sonnet-4-5-20250929-v1:0"
ACCOUNT = "arn:aws:bedrock:us-east-1:123456789012"
# 1,000 in, 200 out, 10,000 read, 4,000 written for five minutes, 2,000 for an hour.
CACHED = Usage(input=1_000, output=200, cache_read=10_000, cache_write_5m=4_000, cache_write_1h=2_000)
FIVE_MINUTES = replace(CACHED, cache_write_1h=0)
PLAIN = Usage(input=1_000, output=200)


def call(model, usage=PLAIN, *, base_models=None, own=None, when=None, **served):
    """Return the invocation of a target whose models are known, with its cost."""
    target = parse_target(model)
    resolved = from_base_models(target, base_models) if base_models else resolve_by_id(target)
    return priced_call(resolved, usage, own=own, when=when, **served)


def priced_call(resolved, usage=PLAIN, *, own=None, when=None, invoked=None, invoked_model_id=None, **served):
    invocation = Invocation(
        requested_model_id=resolved.target.model_id,
        target_kind=resolved.target.kind.value,
        invoked_model_id=invoked_model_id,
        invoked_model=invoked
        or (resolved.base_model_of(invoked_model_id) if invoked_model_id else resolved.only_model),
        usage=usage,
        **served,
    )
    return priced(invocation, resolved, Prices(own), when)


# --- by hand ---

# A million tokens: regional 3.3 in, 16.5 out, 0.33 read, 4.125 (1.25 x) and 6.6 (2 x) written; global 3 to 6.
#   regional: 1,000 x 3.3 + 200 x 16.5 + 10,000 x 0.33 + 4,000 x 4.125 + 2,000 x 6.6
#           =       3,300 +      3,300 +         3,300 +        16,500 +      13,200 = 39,600 millionths
#   global:         3,000 +      3,000 +         3,000 +        15,000 +      12,000 = 36,000
# Nova Pro: 0.8 in, 3.2 out, 0.2 read, written as plain input:
#                   800 +        640 +         2,000 +         3,200                 =  6,640
# Llama 3.1 70B: 0.72 in and out: 720 + 144 = 864
BY_HAND = [
    (f"us.{SONNET_45}", CACHED, 0.0396),
    (f"eu.{SONNET_45}", CACHED, 0.0396),
    (SONNET_45, CACHED, 0.0396),
    (f"{ACCOUNT}:inference-profile/us.{SONNET_45}", CACHED, 0.0396),
    (f"global.{SONNET_45}", CACHED, 0.036),
    (f"{ACCOUNT}:inference-profile/global.{SONNET_45}", CACHED, 0.036),
    (f"us.{NOVA_PRO}", FIVE_MINUTES, 0.00664),
    (NOVA_PRO, PLAIN, 0.00144),
    (f"us.{LLAMA_70B}", PLAIN, 0.000864),
    (f"us.{LLAMA_8B}", PLAIN, 0.000264),
    (f"us.{HAIKU}", PLAIN, 0.0005),
    ("arn:aws:bedrock:us-east-1::foundation-model/anthropic.claude-3-haiku-20240307-v1:0", PLAIN, 0.0005),
]


@pytest.mark.parametrize(("model", "usage", "usd"), BY_HAND)
def test_the_price_is_the_one_worked_out_by_hand(model, usage, usd):
    assert call(model, usage).cost_usd == usd


UNKNOWN = [
    ("us.acme.model-1-v1:0", PLAIN),  # in no price list
    (f"us.{NOVA_PRO}", CACHED),  # Nova has no entries of an hour
    (f"us.{LLAMA_70B}", replace(PLAIN, cache_read=1)),  # nor Llama any cache
    (f"{ACCOUNT}:provisioned-model/abcdefabcdef", PLAIN),  # billed by the hour
    (f"{ACCOUNT}:imported-model/abcdefabcdef", PLAIN),
    (f"{ACCOUNT}:custom-model-deployment/abcdefabcdef", PLAIN),
    (f"{ACCOUNT}:custom-model/{HAIKU}/abcdefabcdef", PLAIN),
]


@pytest.mark.parametrize(("model", "usage"), UNKNOWN)
def test_call_without_known_price_costs_none(model, usage):
    models = None if parse_target(model).kind.value == "system_inference_profile" else [HAIKU]
    assert call(model, usage, base_models=models).cost_usd is None


def test_call_without_usage_has_no_price():
    assert call(f"us.{HAIKU}", None).cost_usd is None


# --- as served ---


@pytest.mark.parametrize(
    ("requested", "served", "usd"),
    [
        ((None, None), (None, None), 0.00144),
        (("standard", "default"), ("standard", "default"), 0.00144),
        (("optimized", None), ("standard", None), 0.00144),  # over quota: billed as standard
        (("standard", None), (None, None), 0.00144),
        (("optimized", None), ("optimized", None), None),  # about 25% dearer, and not in the table
        (("optimized", None), (None, None), None),  # served mode unknown
        ((None, "flex"), (None, "flex"), None),
        ((None, "priority"), (None, "default"), 0.00144),
        ((None, "reserved"), (None, None), None),
        ((None, None), (None, "priority"), None),
    ],
)
def test_unpriced_latency_or_tier_is_not_priced_as_standard(requested, served, usd):
    invocation = call(
        f"us.{NOVA_PRO}",
        latency_requested=requested[0], latency_served=served[0],
        service_tier_requested=requested[1], service_tier_served=served[1],
    )  # fmt: skip
    assert invocation.cost_usd == usd


def test_own_prices_may_include_another_latency_mode():
    own = {
        f"us.{NOVA_PRO}": {
            "optimized": {"input_mtok": 1, "output_mtok": 4},
            "flex": {"input_mtok": 0.4, "output_mtok": 1.6},
        }
    }
    assert call(f"us.{NOVA_PRO}", own=own, latency_served="optimized").cost_usd == 0.0018
    assert call(f"us.{NOVA_PRO}", own=own, service_tier_served="flex").cost_usd == 0.00072
    assert call(f"us.{NOVA_PRO}", own=own, service_tier_served="flex", latency_served="optimized").cost_usd is None
    assert call(f"us.{NOVA_PRO}", own=own).cost_usd == 0.00144, "what it says nothing of is the table's"


# --- prices of one's own ---


def test_own_prices_hold_before_the_table():
    own = {HAIKU: {"input_mtok": 0.2, "output_mtok": 1}}
    assert call(f"us.{HAIKU}", own=own).cost_usd == 0.0004
    assert call(f"us.{SONNET}", own=own).cost_usd == 0.006, "other models have the table's"


def test_the_most_specific_own_price_holds():
    arn = f"{ACCOUNT}:inference-profile/us.{HAIKU}"
    own = {HAIKU: {"input_mtok": 1, "output_mtok": 0}, f"us.{HAIKU}": {"input_mtok": 2, "output_mtok": 0}}
    assert [call(name, own=own).cost_usd for name in (HAIKU, f"us.{HAIKU}", f"eu.{HAIKU}", arn)] == [
        0.001,
        0.002,
        0.001,
        0.002,
    ]
    own[arn] = {"input_mtok": 3, "output_mtok": 0}
    assert call(arn, own=own).cost_usd == 0.003


def test_provisioned_throughput_is_priced_by_its_own_arn_only():
    arn = f"{ACCOUNT}:provisioned-model/abcdefabcdef"
    by_model = {HAIKU: {"input_mtok": 1, "output_mtok": 1}}
    assert call(arn, base_models=[HAIKU], own=by_model).cost_usd is None
    assert call(arn, base_models=[HAIKU], own={arn: {"input_mtok": 0, "output_mtok": 0}}).cost_usd == 0.0


def test_own_prices_without_cache_prices_follow_the_published_multiples():
    own = {SONNET_45: {"input_mtok": 2, "output_mtok": 0}}  # reads 0.1 x, writes 1.25 x and 2 x
    assert call(f"us.{SONNET_45}", CACHED, own=own).cost_usd == float(
        Decimal("0.002") + Decimal("0.002") + Decimal("0.01") + Decimal("0.008")
    )
    own[SONNET_45] |= {"cache_read_mtok": 0, "cache_write_mtok": 1, "cache_write_1h_mtok": 3}
    assert call(f"us.{SONNET_45}", CACHED, own=own).cost_usd == 0.012


@pytest.mark.sample(4)
@pytest.mark.parametrize(
    ("own", "message"),
    [
        ([HAIKU], "mapping"),
        ({HAIKU: 3}, "must be a mapping"),
        ({HAIKU: {"input_mtok": 3}}, "needs input_mtok and output_mtok"),
        ({HAIKU: {"input_mtok": 3, "output_mtok": 3, "cached_mtok": 1}}, "cached_mtok"),
        ({HAIKU: {"input_mtok": -3, "output_mtok": 3}}, "input_mtok"),
        ({HAIKU: {"input_mtok": float("nan"), "output_mtok": 3}}, "nan"),
        ({HAIKU: {"input_mtok": "3", "output_mtok": 3}}, "'3'"),
        ({HAIKU: {"input_mtok": True, "output_mtok": 3}}, "True"),
        ({HAIKU: {"flex": {"input_mtok": 3}}}, "flex"),
        ({HAIKU: {}}, "needs input_mtok"),
    ],
)
def test_invalid_own_price_is_refused_by_the_constructor(own, message):
    with pytest.raises(InvalidRequestError, match=message):
        RoutedClient(boto3.client("bedrock-runtime", region_name="us-east-1"), prices=own)


@pytest.mark.parametrize("nan", [float("nan"), Decimal("nan"), Decimal("sNaN")])
def test_own_price_that_is_not_a_number_is_refused(nan):
    with pytest.raises(InvalidRequestError, match="must be US dollars"):
        Prices({SONNET: {"input_mtok": nan, "output_mtok": 1}})


def test_own_price_of_a_router_is_refused():
    plain = {"input_mtok": 1, "output_mtok": 1}
    with pytest.raises(InvalidRequestError, match="what has a price are the models behind it"):
        Prices({f"{ACCOUNT}:default-prompt-router/anthropic.claude:1": plain})
    with pytest.raises(InvalidRequestError, match="twice"):
        Prices({HAIKU: plain, f" {HAIKU}": plain})
    assert call(f"us.{HAIKU}", own={HAIKU: {"input_mtok": 10**400, "output_mtok": 0}}).cost_usd is None


def test_own_prices_without_cache_prices_follow_the_tables_multiples_first():
    model = "us.anthropic.claude-fable-5-1-v1:0"  # reads at 0.025 of plain input, where Claude's rule is a tenth
    if call(model).cost_usd is None:
        pytest.skip("this genai-prices does not list it yet")
    own = {model: {"input_mtok": 10, "output_mtok": 0}}
    assert call(model, Usage(cache_read=1_000_000), own=own).cost_usd == 0.25


def test_own_price_of_an_invalid_target_is_refused_with_advice():
    with pytest.raises(InvalidTargetError, match="haiku"):
        Prices({"haiku": {"input_mtok": 3, "output_mtok": 3}})


# --- routers and profiles ---


def router_of(*candidates, fallback):
    target = parse_target(f"{ACCOUNT}:default-prompt-router/anthropic.claude:1")
    return ResolvedTarget(
        target,
        tuple(
            CandidateModel(i if i.startswith("arn:") else f"{ACCOUNT}:inference-profile/{i}", b, "GetPromptRouter")
            for i, b in candidates
        ),
        fallback,
    )


ROUTER = router_of((f"us.{HAIKU}", HAIKU), (f"us.{SONNET}", SONNET), fallback=SONNET)


def test_fallback_cost_prices_the_same_tokens_on_the_fallback_model():
    small = priced_call(ROUTER, invoked_model_id=f"{ACCOUNT}:inference-profile/us.{HAIKU}")
    assert (small.cost_usd, small.fallback_cost_usd) == (0.0005, 0.006)
    large = priced_call(ROUTER, invoked_model_id=f"{ACCOUNT}:inference-profile/us.{SONNET}")
    assert large.cost_usd == large.fallback_cost_usd == 0.006


@pytest.mark.parametrize(
    "trace",
    [
        "arn:aws:bedrock:us-east-1::foundation-model/{}",
        f"{ACCOUNT}:inference-profile/us.{{}}",
        "{}",
    ],
)
def test_own_prices_of_router_profiles_apply_to_any_trace(trace):
    small, large = (f"{ACCOUNT}:application-inference-profile/{name}" for name in ("aaaaaaaaaaaa", "bbbbbbbbbbbb"))
    router = router_of((small, HAIKU), (large, SONNET), fallback=SONNET)
    own = {small: {"input_mtok": 0.1, "output_mtok": 0.1}, large: {"input_mtok": 1, "output_mtok": 1}}
    invocation = {base: priced_call(router, own=own, invoked_model_id=trace.format(base)) for base in (HAIKU, SONNET)}
    assert (invocation[HAIKU].cost_usd, invocation[HAIKU].fallback_cost_usd) == (0.00012, 0.0012)
    assert (invocation[SONNET].cost_usd, invocation[SONNET].fallback_cost_usd) == (0.0012, 0.0012)
    base_only = priced_call(router, own={HAIKU: own[small]}, invoked_model_id=trace.format(HAIKU))
    assert base_only.cost_usd == 0.00012


APPLICATION = f"{ACCOUNT}:application-inference-profile/abcdefghijkl"


@pytest.mark.parametrize(
    ("stated", "usd"),
    [
        (SONNET_45, None),  # the profile may be of a global one, which costs 0.006
        (f"us.{SONNET_45}", 0.0066),
        (f"global.{SONNET_45}", 0.006),
        (f"arn:aws:bedrock:us-east-1::foundation-model/{SONNET_45}", None),
        (NOVA_PRO, 0.00144),  # costs the same everywhere
    ],
)
def test_stated_base_model_is_priced_if_its_geography_is_irrelevant(stated, usd):
    assert call(APPLICATION, base_models=[stated]).cost_usd == usd


def test_own_price_is_found_by_the_stated_base_model():
    own = {f"us.{SONNET_45}": {"input_mtok": 1, "output_mtok": 1}}
    assert call(APPLICATION, base_models=[f"us.{SONNET_45}"], own=own).cost_usd == 0.0012


def test_target_without_router_has_no_fallback_price():
    assert call(f"us.{HAIKU}").fallback_cost_usd is None


def test_router_without_trace_has_only_the_fallback_cost():
    silent = priced_call(ROUTER)
    assert (silent.cost_usd, silent.fallback_cost_usd) == (None, 0.006)


def test_router_without_look_up_has_no_fallback_cost():
    unknown = ResolvedTarget(ROUTER.target, complete=False)
    invocation = priced_call(unknown, invoked_model_id=f"{ACCOUNT}:inference-profile/us.{HAIKU}")
    assert (invocation.cost_usd, invocation.fallback_cost_usd) == (0.0005, None)


def test_trace_with_base_model_is_priced_by_its_profiles_geography():
    haiku = "anthropic.claude-haiku-4-5-20251001-v1:0"
    everywhere = router_of((f"global.{haiku}", haiku), (f"global.{SONNET_45}", SONNET_45), fallback=SONNET_45)
    traced = f"arn:aws:bedrock:us-west-2::foundation-model/{SONNET_45}"
    assert priced_call(everywhere, CACHED, invoked_model_id=traced).cost_usd == 0.036
    here = router_of((f"us.{haiku}", haiku), (f"us.{SONNET_45}", SONNET_45), fallback=SONNET_45)
    assert priced_call(here, CACHED, invoked_model_id=traced).cost_usd == 0.0396


def test_application_profile_has_its_source_geographys_price(bedrock):
    # The emulator's control plane lists what AWS lists: one ARN for each Region, one without a Region for global ones.
    client = RoutedClient(bedrock.client(), bedrock_client=bedrock.client("bedrock"))
    control = bedrock.client("bedrock")
    per_call = {}
    for geography in ("us", "global"):
        source = f"{ACCOUNT}:inference-profile/{geography}.{SONNET_45}"
        profile = control.create_inference_profile(inferenceProfileName=geography, modelSource={"copyFrom": source})
        response = client.converse(
            modelId=profile["inferenceProfileArn"], messages=[{"role": "user", "content": [{"text": HELLO}]}]
        )
        usage, routing = response["usage"], response["routing"]
        assert routing["invoked_model"] == SONNET_45
        per_call[geography] = routing["cost_usd"], usage["inputTokens"], usage["outputTokens"]
    cost, read, written = per_call["us"]
    assert cost == float((read * Decimal("3.3") + written * Decimal("16.5")) / 1_000_000)
    cost, read, written = per_call["global"]
    assert cost == float((read * Decimal(3) + written * Decimal(15)) / 1_000_000)


def test_router_over_copied_global_profile_is_priced_as_global():
    arn = f"{ACCOUNT}:application-inference-profile/abcdefabcdef"
    routed = ResolvedTarget(
        ROUTER.target,
        (
            CandidateModel(arn, SONNET_45, "GetPromptRouter", is_global=True),
            CandidateModel(f"us.{HAIKU}", HAIKU, "GetPromptRouter"),
        ),
        SONNET_45,
    )
    invocation = priced_call(routed, CACHED, invoked_model_id=arn)
    assert invocation.cost_usd == invocation.fallback_cost_usd == 0.036


# --- savings by caching ---


@pytest.mark.parametrize(("model", "usage", "usd"), BY_HAND)
def test_uncached_cost_prices_every_prompt_token_as_plain_input(model, usage, usd):
    # 17,000 (Nova: 15,000) plain tokens and 200 out
    by_hand = {"us.": "0.0594", "eu.": "0.0594", "ant": "0.0594", "arn": "0.0594", "glo": "0.054"}
    expected = (
        Decimal(repr(usd)) if usage is PLAIN
        else Decimal("0.01264") if "nova" in model
        else Decimal(by_hand["glo" if "global" in model else model[:3]])
    )  # fmt: skip
    assert uncached_cost(call(model, usage).as_dict(), Prices()) == float(expected)


@pytest.mark.parametrize("model", ["claude-opus-5", "claude-opus-5-5", "claude-sonnet-5-5"])
def test_caching_savings_are_known_for_every_priced_id(model):
    # genai-prices matches these ids as a whole, and not inside of an ARN.
    arn = f"{ACCOUNT}:inference-profile/us.anthropic.{model}"
    invocation = call(arn, CACHED)
    if invocation.cost_usd is None:
        pytest.skip("this genai-prices does not list it yet")
    uncached = call(arn, Usage(input=17_000, output=200)).cost_usd
    assert uncached_cost(invocation.as_dict(), Prices()) == uncached


def test_uncached_cost_needs_the_own_prices_of_the_call():
    own = {SONNET_45: {"input_mtok": 2, "output_mtok": 10}}
    routing = call(f"us.{SONNET_45}", CACHED, own=own).as_dict()
    assert uncached_cost(routing, Prices()) is None
    assert uncached_cost(routing, Prices(own)) == 0.036


# --- dates, lengths, exactness ---


def test_a_price_that_has_changed_holds_from_its_day_on():
    sol = "openai.gpt-5.6-sol"  # cut on 2026-08-21 from 5.5 and 33 to 4.4 and 22
    before, after = (
        call(f"us.{sol}", when=datetime(2026, 8, day, 23, 59, tzinfo=timezone.utc)).cost_usd for day in (20, 21)
    )
    if before is None:
        pytest.skip("this genai-prices does not list it yet")
    assert (before, after) == (0.0121, 0.0088)


def test_past_a_threshold_every_token_has_another_price():
    model = "global.anthropic.claude-haiku-5-5"  # 0.1 and 0.5 a million; past 100,000 tokens more
    short = call(model, Usage(input=100_000, output=0)).cost_usd
    if short is None:
        pytest.skip("this genai-prices does not list it yet")
    assert short == 0.01
    assert call(model, Usage(input=100_001, output=0)).cost_usd > 0.02 - 1e-9


counts = st.integers(0, 10**9)


@given(counts, counts, counts, counts, counts)
def test_cost_is_exact_in_any_decimal_context(read, written, out, hour, plain):
    usage = Usage(plain, out, read, written, hour)
    with localcontext() as context:
        context.prec = 2
        cost = call(f"us.{SONNET_45}", usage).cost_usd
    millionths = 33 * plain * 100 + 165 * out * 100 + 33 * read * 10 + 4125 * written + 66 * hour * 100
    assert cost == millionths / 10**9


def test_the_emulators_calls_are_priced(bedrock, router):
    client = RoutedClient(bedrock.client(), bedrock_client=bedrock.client("bedrock"))
    for prompt, per_input, per_output in ((ALICE, "3", "15"), (HELLO, "0.25", "1.25")):
        response = client.converse(modelId=router, messages=[{"role": "user", "content": [{"text": prompt}]}])
        usage, routing = response["usage"], response["routing"]
        by_hand = usage["inputTokens"] * Decimal(per_input) + usage["outputTokens"] * Decimal(per_output)
        assert routing["cost_usd"] == float(by_hand / 1_000_000)
        assert routing["fallback_cost_usd"] >= routing["cost_usd"] > 0


@pytest.mark.parametrize(("region", "is_priced"), [("us-east-1", True), ("us-gov-west-1", False)])
def test_base_model_in_another_partition_has_no_price(region, is_priced):
    with fixed_server() as url:
        keys = {"aws_access_key_id": "AKIA", "aws_secret_access_key": "none"}
        client = RoutedClient(boto3.client("bedrock-runtime", region_name=region, endpoint_url=url, **keys))
        answer = client.converse(modelId=SONNET, messages=[{"role": "user", "content": [{"text": "Hi"}]}])
    assert (answer["routing"]["cost_usd"] is not None) == is_priced
