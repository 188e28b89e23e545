from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
import pickle
import runpy
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedrock_routing_integrations.models.facts import TOOL_CHOICES
from bedrock_routing_integrations.models.families import FAMILIES, NEWEST, base_model_id, common_facts, model_facts

EVERYWHERE = {"system", "messages", "tools"}


def upstream_profiles() -> dict[str, dict[str, object]]:
    """Return langchain-aws's table of models without importing langchain-aws, which takes seconds."""
    spec = importlib.util.find_spec("langchain_aws")
    assert spec is not None
    assert spec.origin is not None
    return runpy.run_path(str(Path(spec.origin).parent / "data" / "_profiles.py"))["_PROFILES"]


# The guide's caching table, row by row

CACHING_ROWS = [
    (512, ("5m", "1h"), "opus-5 opus-5-5 sonnet-5-5 fable-5 fable-5-1 mythos-5 mythos-5-1"),
    (1024, ("5m", "1h"), "opus-4-8 sonnet-5 sonnet-4-6 sonnet-4-5-20250929-v1:0"),
    (4096, ("5m", "1h"), "opus-4-5-20251101-v1:0 opus-4-6-v1 opus-4-7 haiku-4-5-20251001-v1:0"),
    (1024, ("5m",), "3-7-sonnet-20250219-v1:0 3-5-sonnet-20241022-v2:0"),
    (2048, ("5m",), "3-5-haiku-20241022-v1:0"),
]


@pytest.mark.parametrize(
    ("model", "minimum", "ttls"), [(name, row[0], row[1]) for row in CACHING_ROWS for name in row[2].split()]
)
def test_claude_caches_by_the_published_rules(model, minimum, ttls):
    cache = model_facts(f"anthropic.claude-{model}").cache
    assert cache is not None
    assert (cache.min_tokens, cache.max_tokens, cache.ttls) == (minimum, None, ttls)
    assert (cache.fields, cache.max_points, cache.after_tool_result) == (EVERYWHERE, 4, True)
    assert cache.read_multiplier == 0.1
    assert cache.write_multipliers == (("5m", 1.25), ("1h", 2.0))[: len(ttls)]


@pytest.mark.parametrize("model", ["micro", "lite", "pro", "2-lite"])
def test_nova_caches_by_the_published_rules(model):
    cache = model_facts(f"amazon.nova-{model}-v1:0").cache
    assert cache is not None
    assert (cache.min_tokens, cache.max_tokens, cache.ttls) == (1000, 20_000, ("5m",))
    assert (cache.fields, cache.max_points, cache.after_tool_result) == ({"system", "messages"}, 4, False)
    assert (cache.read_multiplier, cache.write_multiplier("5m")) == (0.25, 1.0)


@pytest.mark.parametrize(
    "model",
    [
        "anthropic.claude-3-haiku-20240307-v1:0",
        "anthropic.claude-3-5-sonnet-20240620-v1:0",
        "meta.llama3-1-70b-instruct-v1:0",
        "meta.llama4-scout-17b-instruct-v1:0",
    ],
)
def test_model_without_caching_has_no_cache_rules(model):
    facts = model_facts(model)
    assert facts.known
    assert facts.cache is None


def test_an_hour_that_is_not_offered_has_no_price():
    cache = model_facts("amazon.nova-pro-v1:0").cache
    assert cache is not None
    with pytest.raises(KeyError):
        cache.write_multiplier("1h")


# Families


@pytest.mark.parametrize(
    ("model", "family"),
    [
        ("anthropic.claude-3-haiku-20240307-v1:0", "anthropic.claude-3-haiku"),
        ("anthropic.claude-3-5-haiku-20241022-v1:0", "anthropic.claude-3-5-haiku"),
        ("anthropic.claude-opus-4-20250514-v1:0", "anthropic.claude-opus-4"),
        ("anthropic.claude-opus-4-1-20250805-v1:0", "anthropic.claude-opus-4-1"),
        ("anthropic.claude-opus-4-8", "anthropic.claude-opus-4-8"),
        ("anthropic.claude-opus-5", "anthropic.claude-opus-5"),
        ("anthropic.claude-opus-5-5", "anthropic.claude-opus-5-5"),
        ("anthropic.claude-opus-5-v1:0", "anthropic.claude-opus-5"),
        ("anthropic.claude-v2", "anthropic.claude-v2"),
        ("anthropic.claude-v2:1", "anthropic.claude-v2:1"),
        ("amazon.nova-lite-v1:0", "amazon.nova-lite"),
        ("amazon.nova-2-lite-v1:0", "amazon.nova-2-lite"),
        ("meta.llama3-70b-instruct-v1:0", "meta.llama3"),
        ("meta.llama3-1-8b-instruct-v1:0", "meta.llama3-1"),
        ("meta.llama3-1-70b-instruct-v1:0", "meta.llama3-1-70b"),
        ("deepseek.v3-v1:0", "deepseek.v3"),
        ("deepseek.v3.2", "deepseek.v3.2"),
        ("openai.gpt-oss-120b-1:0", "openai.gpt-oss"),
        ("openai.gpt-5.6-luna", "openai.gpt-5.6"),
        ("openai.gpt-6-astra", "openai.gpt-6"),
        ("openai.gpt-6.1-sol", "openai.gpt-6.1"),
        ("zai.glm-4.7-flash", "zai.glm-4.7"),
        ("zai.glm-5.3", "zai.glm-5.3"),
        ("cohere.command-r-plus-v1:0", "cohere.command-r"),
        ("cohere.command-light-text-v14", "cohere.command-light-text"),
        ("amazon.nova-pro-v1:0:300k", "amazon.nova-pro"),
        ("us-gov.anthropic.claude-3-haiku-20240307-v1:0:200k", "anthropic.claude-3-haiku"),
    ],
)
def test_a_model_gets_the_rules_of_its_own_family(model, family):
    assert model_facts(model).family == family


@pytest.mark.parametrize(
    "model",
    [
        "anthropic.claude-opus-6-20270101-v1:0",
        "anthropic.claude-sonnet-5-9",
        "us.anthropic.claude-opus-4-9-v1:0",
        "anthropic.claude-saga-1",
    ],
)
def test_unlisted_claude_gets_the_strictest_caching_rules(model):
    facts = model_facts(model)
    assert (facts.known, facts.provider, facts.family) == (False, "anthropic", "anthropic.claude")
    assert facts.streaming_with_tools
    assert facts.cache is not None
    assert (facts.cache.min_tokens, facts.cache.ttls, facts.cache.fields) == (4096, ("5m",), EVERYWHERE)
    # No published rule is stricter: limits of an unlisted Claude stay within those of every listed one that caches.
    listed = [row.cache for row in FAMILIES if row.provider == "anthropic" and row.cache]
    assert facts.cache.min_tokens == max(cache.min_tokens for cache in listed)
    assert facts.context_window == 200_000


@pytest.mark.parametrize(
    ("model", "family", "like"),
    [
        ("amazon.nova-3-pro-v1:0", "amazon.nova", "amazon.nova-2-lite-v1:0"),
        ("meta.llama5-70b-instruct-v1:0", "meta.llama", "meta.llama4-scout-17b-instruct-v1:0"),
        (
            "mistral.mistral-large-4-1t-instruct",
            "mistral.mistral-large",
            "mistral.mistral-large-3-675b-instruct",
        ),
        ("moonshotai.kimi-k3.1", "moonshotai.kimi", "moonshotai.kimi-k3"),
        ("openai.gpt-7-sol", "openai.gpt", "openai.gpt-6.1-sol"),
        ("xai.grok-5", "xai.grok", "xai.grok-4.7"),
    ],
)
def test_unlisted_model_gets_its_familys_newest_rules(model, family, like):
    tomorrow, today = model_facts(model), model_facts(like)
    assert (tomorrow.known, tomorrow.family) == (False, family)
    for fact in ("provider", "streaming", "streaming_with_tools", "tools", "tool_choice", "cache", "reasoning"):
        assert getattr(tomorrow, fact) == getattr(today, fact), fact


@pytest.mark.parametrize("brand", NEWEST, ids=lambda row: row.family)
def test_new_model_gets_the_smallest_limits_of_its_brand(brand):
    for row in FAMILIES:
        if row.family.startswith(brand.family) and row.tools and not row.family.startswith("openai.gpt-oss"):
            assert brand.context_window <= row.context_window
            assert brand.max_output_tokens <= row.max_output_tokens


@pytest.mark.parametrize(
    ("model", "window"),
    [
        ("anthropic.claude-3-hiaku-20240307-v1:0", 200_000),
        ("us.anthropic.claude-sonet-4-9", 200_000),
        ("amazon.nova-liet-v1:0", 128_000),
        ("antropic.claude-3-haiku-20240307-v1:0", None),
    ],
)
def test_a_misspelled_model_is_not_known_and_gets_no_caching(model, window):
    facts = model_facts(model)
    assert (facts.known, facts.context_window, facts.cache) == (False, window, None)
    assert (facts.tools, facts.streaming) == (True, True)


def test_model_of_an_unknown_provider_is_allowed_what_converse_allows():
    facts = model_facts("acme.rocket-1-v1:0")
    assert (facts.known, facts.provider, facts.family) == (False, "acme", "")
    assert (facts.streaming, facts.streaming_with_tools, facts.tools) == (True, True, True)
    assert facts.tool_choice == TOOL_CHOICES
    assert (facts.context_window, facts.max_output_tokens, facts.cache) == (None, None, None)


@pytest.mark.parametrize("model", ["amazon.nova-canvas-v1:0", "amazon.nova-2-sonic-v1:0", "cohere.embed-english-v3"])
def test_models_that_do_not_chat_get_no_chat_rules(model):
    assert not model_facts(model).known


@given(st.text())
def test_no_text_makes_the_catalog_fail(text):
    facts = model_facts(text)
    assert facts.streaming or facts.known


def test_latency_optimized_families_are_those_of_the_guide():
    assert {row.family for row in (*FAMILIES, *NEWEST) if row.latency_optimized} == {
        "amazon.nova-pro",
        "anthropic.claude-3-5-haiku",
        "meta.llama3-1-70b",
        "meta.llama3-1-405b",
    }


def test_every_row_has_date_and_source():
    rows = (*FAMILIES, *NEWEST)
    assert len({row.family for row in FAMILIES}) == len(FAMILIES)
    assert all(model_facts(row.family) is row for row in FAMILIES)
    for row in rows:
        assert all((row.source, row.provider, row.checked.startswith("20")))
        assert row.known is (row in FAMILIES)
        assert row.tools == bool(row.tool_choice)
        assert row.tools or not row.streaming_with_tools
        assert row.streaming or not row.streaming_with_tools


# Reasoning, JSON schemas, CountTokens


@pytest.mark.parametrize(
    ("reasoning", "models"),
    [
        ("signed", "anthropic.claude-3-7-sonnet-20250219-v1:0 anthropic.claude-sonnet-4-20250514-v1:0"),
        ("signed", "anthropic.claude-haiku-4-5-20251001-v1:0 anthropic.claude-opus-5-5 anthropic.claude-opus-6"),
        ("signed", "openai.gpt-5.6-sol openai.gpt-6.1-sol openai.gpt-7"),
        ("text", "openai.gpt-oss-120b-1:0 qwen.qwen3-32b-v1:0 deepseek.v3-v1:0 deepseek.v3.2 minimax.minimax-m2"),
        ("text", "moonshot.kimi-k2-thinking moonshotai.kimi-k2.5 amazon.nova-2-lite-v1:0"),
        ("none", "anthropic.claude-3-haiku-20240307-v1:0 anthropic.claude-3-5-sonnet-20241022-v2:0"),
        ("none", "anthropic.claude-3-5-haiku-20241022-v1:0 anthropic.claude-v2 deepseek.r1-v1:0"),
        ("none", "amazon.nova-micro-v1:0 amazon.nova-premier-v1:0 meta.llama4-scout-17b-instruct-v1:0"),
        ("none", "mistral.mistral-large-2407-v1:0 amazon.titan-text-express-v1 cohere.command-r-v1:0"),
        (None, "zai.glm-5 xai.grok-4.7 writer.palmyra-x5-v1:0 acme.rocket-1"),
    ],
)
def test_reasoning_of_earlier_turns_is_a_fact_of_the_family(reasoning, models):
    for model in models.split():
        assert model_facts(model).reasoning == reasoning, model


@pytest.mark.parametrize(
    ("taken", "models"),
    [
        (True, "anthropic.claude-sonnet-4-5-20250929-v1:0 anthropic.claude-sonnet-4-6 zai.glm-4.7-flash"),
        (True, "google.gemma-3-27b-it minimax.minimax-m2 nvidia.nemotron-nano-12b-v2 qwen.qwen3-32b-v1:0"),
        (True, "mistral.mistral-large-3-675b-instruct openai.gpt-oss-20b-1:0"),
        (False, "anthropic.claude-opus-4-1-20250805-v1:0 anthropic.claude-3-haiku-20240307-v1:0"),
        (False, "amazon.nova-lite-v1:0 meta.llama3-3-70b-instruct-v1:0 deepseek.r1-v1:0 google.gemma-3-4b-it"),
        (None, "anthropic.claude-opus-6 xai.grok-4.7 acme.rocket-1"),
    ],
)
def test_text_format_is_a_fact_of_the_family(taken, models):
    for model in models.split():
        assert model_facts(model).text_format is taken, model


@pytest.mark.parametrize(
    ("served", "models"),
    [
        (True, "anthropic.claude-sonnet-4-20250514-v1:0 anthropic.claude-3-5-haiku-20241022-v1:0"),
        (True, "anthropic.claude-haiku-4-5-20251001-v1:0 anthropic.claude-sonnet-4-6"),
        (False, "anthropic.claude-opus-5 anthropic.claude-3-haiku-20240307-v1:0 amazon.nova-lite-v1:0"),
        (None, "anthropic.claude-opus-5-5 anthropic.claude-opus-6 acme.rocket-1"),
    ],
)
def test_count_tokens_is_a_fact_of_the_family(served, models):
    for model in models.split():
        assert model_facts(model).count_tokens is served, model


def test_no_model_is_known_to_take_system_messages():
    assert not any(row.system_in_messages for row in (*FAMILIES, *NEWEST))


# Models listed by other packages


def test_every_model_that_langchain_aws_lists_is_known_and_streams():
    models = upstream_profiles()
    assert len(models) > 100
    for model in models:
        facts = model_facts(model)
        assert facts.known, f"{model}: give its family a row in catalog/families.py"
        assert facts.streaming, model


# langchain-aws gives GovCloud's gpt-oss smaller sizes; the base model has one row.
FIGURES_THAT_DIFFER = {
    "us-gov.openai.gpt-oss-120b-1:0",
    "us-gov.openai.gpt-oss-20b-1:0",
    "openai.gpt-oss-120b",
    "openai.gpt-oss-20b",
}


@pytest.mark.skipif(
    importlib.metadata.version("langchain-aws") != "1.9.1",
    reason="the figures were read in langchain-aws 1.9.1",
)
def test_sizes_tools_and_images_agree_with_the_model_cards():
    differ = set()
    for model, card in upstream_profiles().items():
        facts = model_facts(model)
        row = (facts.context_window, facts.max_output_tokens, facts.tools, facts.image_input)
        if row != tuple(card[key] for key in ("max_input_tokens", "max_output_tokens", "tool_calling", "image_inputs")):
            differ.add(model)
    assert differ == FIGURES_THAT_DIFFER


# Ids


@pytest.mark.parametrize("region", ["us", "us-gov", "eu", "apac", "jp", "au", "ca", "in", "global", "mx", "sa-east"])
@pytest.mark.parametrize("model", ["anthropic.claude-3-haiku-20240307-v1:0", "deepseek.v3.2", "openai.gpt-6.1-sol"])
def test_a_region_prefix_names_the_same_model(region, model):
    assert base_model_id(f"{region}.{model}") == model
    assert model_facts(f"{region}.{model}") == model_facts(model)


@pytest.mark.parametrize(
    ("text", "model"),
    [
        ("amazon.nova-pro-v1:0:300k", "amazon.nova-pro-v1:0"),
        ("anthropic.claude-3-haiku-20240307-v1:0:200k", "anthropic.claude-3-haiku-20240307-v1:0"),
        ("amazon.nova-premier-v1:0:mm", "amazon.nova-premier-v1:0"),
        ("cohere.embed-english-v3:0:512", "cohere.embed-english-v3:0"),
        ("  us.meta.llama3-1-8b-instruct-v1:0\n", "meta.llama3-1-8b-instruct-v1:0"),
        ("anthropic.claude-v2:1", "anthropic.claude-v2:1"),
        ("zai.glm-4.7", "zai.glm-4.7"),
        ("mx.acme.rocket-1", "acme.rocket-1"),
    ],
)
def test_the_plain_model_id_is_found(text, model):
    assert base_model_id(text) == model


@pytest.mark.parametrize(
    "text",
    [
        "",
        "us.",
        "claude",
        "a1b2c3d4e5f6",
        "example.com",
        "arn:aws:bedrock:us-east-1::foundation-model/amazon.nova-pro-v1:0",
    ],
)
def test_text_that_is_not_a_model_id_gives_none(text):
    assert base_model_id(text) is None


@given(st.sampled_from([row.family for row in FAMILIES]))
def test_a_plain_id_stays_as_it_is(model):
    assert base_model_id(model) == model
    assert base_model_id(base_model_id(f"us.{model}") or "") == model


# Facts that several candidates share

MODELS = st.sampled_from(
    [row.family for row in FAMILIES] + ["anthropic.claude-opus-9", "meta.llama7-1b", "acme.rocket-1", "a1b2c3", ""]
)
CANDIDATES = st.lists(MODELS, min_size=1, max_size=5)


@given(CANDIDATES, st.randoms())
def test_the_order_of_candidates_does_not_matter(models, random):
    shuffled = random.sample(models, len(models))
    assert common_facts(shuffled) == common_facts(models)
    assert common_facts(models + models) == common_facts(models)


@given(MODELS)
def test_one_candidate_keeps_its_own_facts(model):
    assert common_facts([model]) == model_facts(model)


@given(CANDIDATES)
def test_a_router_never_gets_more_than_each_candidate_allows(models):
    common = common_facts(iter(models))
    for member in map(model_facts, models):
        for flag in ("streaming", "streaming_with_tools", "tools", "latency_optimized", "system_in_messages", "known"):
            assert getattr(member, flag) or not getattr(common, flag)
        assert member.image_input or not common.image_input
        assert set(common.tool_choice) <= set(member.tool_choice)
        for size in ("context_window", "max_output_tokens"):
            if getattr(member, size) is not None:
                assert getattr(common, size) <= getattr(member, size)
        assert_no_wider_cache(common.cache, member.cache)


def assert_no_wider_cache(common, member):
    if common is None:
        return
    assert member is not None
    assert common.min_tokens >= member.min_tokens
    assert member.max_tokens is None or common.max_tokens <= member.max_tokens
    assert set(common.ttls) <= set(member.ttls)
    assert common.fields <= member.fields
    assert common.max_points <= member.max_points
    assert member.after_tool_result or not common.after_tool_result
    assert member.with_optimized_latency or not common.with_optimized_latency
    assert common.read_multiplier >= member.read_multiplier
    assert all(common.write_multiplier(ttl) >= member.write_multiplier(ttl) for ttl in common.ttls)


@given(CANDIDATES)
def test_a_router_takes_the_reasoning_that_every_candidate_takes(models):
    kinds = {model_facts(model).reasoning for model in models} - {None}
    assert common_facts(models).reasoning == (next(iter(kinds), None) if len(kinds) < 2 else "none")


@given(CANDIDATES, st.sampled_from(["text_format", "count_tokens", "image_input"]))
def test_fact_refused_or_unknown_for_one_candidate_decides(models, fact):
    values = [getattr(model_facts(model), fact) for model in models]
    common = getattr(common_facts(models), fact)
    assert common is (False if False in values else None if None in values else True)


@pytest.mark.parametrize(
    ("models", "reasoning"),
    [
        (["anthropic.claude-sonnet-4-6", "anthropic.claude-3-haiku-20240307-v1:0"], "none"),
        (["anthropic.claude-sonnet-4-6", "openai.gpt-oss-120b-1:0"], "none"),
        (["anthropic.claude-sonnet-4-6", "acme.rocket-1"], "signed"),
        (["zai.glm-5", "qwen.qwen3-32b-v1:0"], "text"),
        (["zai.glm-5", "acme.rocket-1"], None),
    ],
)
def test_signed_and_unsigned_reasoning_exclude_each_other(models, reasoning):
    assert common_facts(models).reasoning == reasoning
    assert common_facts(models[::-1]).reasoning == reasoning


def test_the_default_claude_router_allows_what_both_models_allow():
    facts = common_facts(["anthropic.claude-3-haiku-20240307-v1:0", "us.anthropic.claude-3-5-sonnet-20240620-v1:0"])
    assert (facts.provider, facts.family, facts.context_window) == ("anthropic", "", 200_000)
    assert facts.streaming_with_tools
    assert facts.tool_choice == TOOL_CHOICES
    assert facts.cache is None


def test_a_router_over_two_caching_models_takes_the_stricter_rules():
    cache = common_facts(["anthropic.claude-sonnet-4-6", "amazon.nova-pro-v1:0"]).cache
    assert cache is not None
    assert (cache.min_tokens, cache.max_tokens, cache.ttls) == (1024, 20_000, ("5m",))
    assert (cache.fields, cache.after_tool_result) == ({"system", "messages"}, False)
    assert (cache.read_multiplier, cache.write_multipliers) == (0.25, (("5m", 1.25),))


def test_no_candidates_at_all_get_the_defaults():
    assert common_facts([]) == model_facts("")
    assert not common_facts([]).known


def test_facts_can_be_pickled_hashed_and_not_changed():
    facts = model_facts("anthropic.claude-opus-5")
    assert pickle.loads(pickle.dumps(facts)) == facts
    assert hash(facts) == hash(pickle.loads(pickle.dumps(facts)))
    with pytest.raises(dataclasses.FrozenInstanceError):
        facts.tools = False
