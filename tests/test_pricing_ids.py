"""Test ids that contain another model's name, and calls that could have one of two prices."""

from __future__ import annotations

import pytest

from bedrock_routing_integrations.costs.prices import Prices, costs
from bedrock_routing_integrations.invocation import Usage, read_invocation
from bedrock_routing_integrations.models.candidates import CandidateModel, ResolvedTarget, resolve_by_id
from bedrock_routing_integrations.targets import parse_target

SONNET = "anthropic.claude-sonnet-4-5-20250929-v1:0"
PROFILE = "arn:aws:bedrock:us-east-1:123456789012:inference-profile/"
ROUTER = "arn:aws:bedrock:us-east-1:123456789012:prompt-router/abcdefghijkl"
MILLION = {"usage": {"inputTokens": 1_000_000, "outputTokens": 0}}


def cost(model):
    resolved = resolve_by_id(parse_target(model))
    return costs(read_invocation({}, MILLION, resolved), resolved, Prices(None))[0]


@pytest.mark.parametrize(
    "model",
    [
        "us.amazon.nova-pro-v2:0",
        "amazon.nova-lite-latency-v1:0",
        "deepseek.r1-distill-v1:0",
        "us.openai.gpt-6-sol-pro",
        "anthropic.claude-opus-4-50-v1:0",
        "acme.claude-3-haiku-20240307-v1:0",
        "global.anthropic.claude-3-haiku-20240307-v1:0",  # listed for regions only
    ],
)
def test_model_is_not_priced_as_one_whose_name_it_contains(model):
    assert cost(model) is None


@pytest.mark.parametrize(
    ("model", "usd"),
    [
        ("us.anthropic.claude-opus-4-5-20251101-v1:0", 5.5),  # listed without its date
        ("anthropic.claude-opus-5", 5.5),
        ("qwen.qwen3-vl-235b-a22b", 0.53),  # listed with a version
        ("amazon.nova-pro-v1:0:300k", 0.8),
        (f"global.{SONNET}", 3.0),
    ],
)
def test_an_id_may_be_spelt_otherwise_than_in_the_table(model, usd):
    assert cost(model) == usd


def test_call_that_two_geographies_could_answer_has_no_price():
    candidates = tuple(
        CandidateModel(f"{PROFILE}{place}.{SONNET}", SONNET, "GetPromptRouter") for place in ("us", "global")
    )
    resolved = ResolvedTarget(parse_target(ROUTER), candidates, fallback=SONNET)
    invocation = read_invocation({}, {**MILLION, "trace": {"promptRouter": {"invokedModelId": SONNET}}}, resolved)
    assert invocation.usage == Usage(input=1_000_000)
    assert costs(invocation, resolved, Prices(None))[0] is None
