"""Test the ids suggested for misspelled ones: they can be called, and new models are not taken for typos."""

from __future__ import annotations

import contextlib
import functools
import logging
import re
import string

import boto3
import pytest
from botocore.exceptions import ClientError
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from bedrock_routing_integrations import RoutedClient
from bedrock_routing_integrations.emulator import BedrockEmulator
from bedrock_routing_integrations.emulator.service.models import MODELS
from bedrock_routing_integrations.errors import InvalidTargetError
from bedrock_routing_integrations.langchain import ChatBedrockRouter
from bedrock_routing_integrations.llama_index import BedrockRouter
from bedrock_routing_integrations.model_ids import (
    MODEL_IDS,
    callable_id,
    did_you_mean,
    is_misspelled,
    is_unlisted_version,
)
from bedrock_routing_integrations.models.candidates import on_demand_advice, unknown_id_advice
from bedrock_routing_integrations.models.families import model_facts
from bedrock_routing_integrations.runtime import DEFAULT_RUNTIME
from bedrock_routing_integrations.targets import parse_target

HAIKU = "anthropic.claude-3-haiku-20240307-v1:0"
SONNET = "anthropic.claude-sonnet-4-5-20250929-v1:0"
HELLO = [{"role": "user", "content": [{"text": "Hello"}]}]
LIVE = [model for model in MODELS.values() if not model.end_of_life]
CALLABLE = sorted(
    [model.model_id for model in LIVE if model.on_demand]
    + [f"{geography}.{model.model_id}" for model in LIVE for geography in model.profiles]
)


@pytest.fixture(autouse=True)
def _every_warning_is_given():
    DEFAULT_RUNTIME.reset()


@pytest.fixture(scope="module")
def answers():
    """Return a function: whether the emulator answers a call of an id."""
    with BedrockEmulator() as emulator:

        @functools.cache
        def ask(model_id: str) -> bool:
            try:
                emulator.client().converse(modelId=model_id, messages=HELLO)
            except ClientError:
                return False
            return True

        yield ask


def advice_of(text: str) -> str:
    """Return the advice that a user of `text` as a model id reads. Empty if there is none."""
    try:
        return unknown_id_advice(parse_target(text)) or ""
    except InvalidTargetError as error:
        return str(error).partition("Accepted are")[0]


def suggested(text: str) -> str | None:
    match = re.search(r"did you mean '([^']+)'", advice_of(text))
    return match[1] if match else None


@st.composite
def typos(draw: st.DrawFn) -> tuple[str, str]:
    """Draw an id that can be called, and the same id with one typo."""
    model_id = draw(st.sampled_from(CALLABLE))
    at = draw(st.integers(0, len(model_id) - 2))
    letter = draw(st.sampled_from(string.ascii_lowercase + string.digits + "-._:"))
    before, here, after = model_id[:at], model_id[at], model_id[at + 1 :]
    slip = draw(
        st.sampled_from([before + after, before + letter + here + after, before + letter + after])
        | st.just(before + after[0] + here + after[1:])
    )
    return model_id, slip


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(typos())
def test_suggested_id_for_a_typo_can_be_called(answers, typo):
    _, slip = typo
    meant = suggested(slip)
    # A digit away may be a model that exists but is not emulated.
    assume(meant is None or meant in CALLABLE or meant.removeprefix("us.") in MODELS)
    assert meant is None or answers(meant), slip


WORDS = frozenset(re.findall("[a-z]+", " ".join(MODEL_IDS)))
LONG_WORDS = [
    (model, word)
    for model, offer in MODEL_IDS.items()
    for word in re.findall("[a-z]+", model)
    if offer.successor is None and len(word) > 3
]


@pytest.mark.sweep
@given(st.data())
def test_typo_in_a_word_is_not_a_new_model(data):
    model, word = data.draw(st.sampled_from(LONG_WORDS))
    at = data.draw(st.integers(0, len(word) - 2))
    letter = data.draw(st.sampled_from(string.ascii_lowercase))
    wrong = data.draw(
        st.sampled_from(
            [
                word[:at] + word[at + 1] + word[at] + word[at + 2 :],
                word[:at] + letter + word[at:],
                word[:at] + letter + word[at + 1 :],
            ]
        )
    )
    assume(wrong not in WORDS)
    slip = model.replace(word, wrong, 1)
    assert is_misspelled(slip)
    assert model_facts(slip).cache is None or model_facts(slip).known
    assert suggested(slip) == callable_id(model)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("claude-3-haiku", HAIKU),
        ("Claude 3 Haiku", HAIKU),
        ("anthropic.claude-3-haiku", HAIKU),
        ("anthropic.claude-3-haiku-20240307", HAIKU),
        ("anthropic.claude-3-hiaku-20240307-v1:0", HAIKU),
        ("anthropic.claude-3-haiku-20240308-v1:0", HAIKU),
        ("antropic.claude-3-haiku-20240307-v1:0", HAIKU),
        ("us.antropic.claude-3-haiku-20240307-v1:0", f"us.{HAIKU}"),
        ("anthropic.claude_3_haiku_20240307_v1:0", HAIKU),
        ("bedrock/anthropic.claude-3-haiku-20240307-v1:0", HAIKU),
        ("anthropic/claude-3-haiku", HAIKU),
        ("claude-sonnet-4-5", f"us.{SONNET}"),
        ("cluade-sonnet-4-5", f"us.{SONNET}"),
        ("claude-4-5-sonnet", f"us.{SONNET}"),
        ("claude-sonnet-4.5", f"us.{SONNET}"),
        ("eu.anthropic.claude-sonnet-4-5", f"eu.{SONNET}"),
        ("apc.amazon.nova-lite-v1:0", "apac.amazon.nova-lite-v1:0"),
        ("nova-lite", "amazon.nova-lite-v1:0"),
        ("nova-liet", "amazon.nova-lite-v1:0"),
        ("us.amazon.nova-liet-v1:0", "us.amazon.nova-lite-v1:0"),
        ("llama3-1-8b", "us.meta.llama3-1-8b-instruct-v1:0"),
        ("llama-3.1-8b", "us.meta.llama3-1-8b-instruct-v1:0"),
        ("deepseek-r1", "us.deepseek.r1-v1:0"),
        ("gpt-oss-120b", "openai.gpt-oss-120b-1:0"),
        ("mistral-large", "mistral.mistral-large-2402-v1:0"),
        ("command-r-plus", "cohere.command-r-plus-v1:0"),
        ("anthropic.claude-opus-6", "us.anthropic.claude-opus-5"),
        # Ended models lead to their successors.
        ("claude-3-sonnet", "us.anthropic.claude-sonnet-4-6"),
        ("anthropic.claude-3-5-haiku", "us.anthropic.claude-haiku-4-5-20251001-v1:0"),
    ],
)
def test_the_nearest_id_that_can_be_called_is_suggested(answers, text, meant):
    assert suggested(text) == meant
    assert answers(meant)


def test_the_successor_of_an_ended_model_is_called_that():
    assert "successor of a model that reached its end of life" in advice_of("claude-3-sonnet")


@pytest.mark.parametrize(
    "text",
    ["gpt-4o", "a1b2c3d4e5f6", "acme.rocket-1", "acme.brand-new-v1:0", "x", "", "Tell me a joke.", "x" * 5_000, "us."],
)
def test_nothing_is_suggested_for_text_that_resembles_no_id(text):
    assert did_you_mean(text) is None


@pytest.mark.parametrize("model", ["amazon.nova-canvas-v1:0", "cohere.embed-english-v3", "amazon.titan-embed-text-v1"])
def test_models_that_do_not_chat_get_no_advice(model):
    assert unknown_id_advice(parse_target(model)) is None


@pytest.mark.parametrize("model", MODEL_IDS)
def test_a_listed_id_is_known_however_it_is_called(model):
    assert not is_misspelled(model)
    assert model_facts(model).known, "give its family a row in catalog/families.py"
    for text in (model, f"us.{model}", f"mx.{model}", f"arn:aws:bedrock:us-east-1::foundation-model/{model}"):
        assert unknown_id_advice(parse_target(text)) is None
    successor = MODEL_IDS[model].successor
    assert successor is None or MODEL_IDS[successor].successor is None


@pytest.mark.parametrize("model", [*MODELS])
def test_emulator_models_are_listed_with_callable_ids(answers, model):
    assert answers(callable_id(model))


@pytest.mark.parametrize(
    "model",
    [
        "anthropic.claude-opus-6",
        "anthropic.claude-opus-6-20270101-v1:0",
        "anthropic.claude-sonnet-5-7",
        "anthropic.claude-opus-5-1",
        "anthropic.claude-haiku-6",
        "anthropic.claude-saga-1",
        "anthropic.claude-fable-6",
        "amazon.nova-3-pro-v1:0",
        "amazon.nova-2-pro-v1:0",
        "amazon.nova-2-micro-v1:0",
        "amazon.nova-lite-v2:0",
        "meta.llama5-70b-instruct-v1:0",
        "meta.llama4-behemoth-v1:0",
        "openai.gpt-7",
        "openai.gpt-6.2-sol",
        "openai.gpt-oss-300b-1:0",
        "xai.grok-5",
        "zai.glm-6",
        "deepseek.v4",
        "deepseek.r2-v1:0",
        "qwen.qwen4-32b",
        "qwen.qwen3-5-80b-a3b",
        "moonshotai.kimi-k4",
        "minimax.minimax-m3",
        "mistral.mistral-large-4-1t-instruct",
        "google.gemma-5-9b",
        "nvidia.nemotron-ultra-3-500b",
        "writer.palmyra-x6-v1:0",
        "ai21.jamba-2-large-v1:0",
    ],
)
def test_new_model_of_a_known_line_is_not_a_typo(model):
    assert not is_misspelled(model)
    facts = model_facts(model)
    assert facts.family
    assert facts.context_window


# Where the warning appears


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    logged = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    return [text for text in logged if "is not a known model id" in text]


MISSPELLED = "us.amazon.nova-liet-v1:0"
MEANT = "did you mean 'us.amazon.nova-lite-v1:0'?"


@pytest.mark.sample(6)
@pytest.mark.parametrize("use", ["resolve", "call", "chat", "stream", "metadata", "complete", "base_models"])
def test_misspelled_model_warns_once_at_first_use(bedrock, caplog, use):
    routed = RoutedClient(boto3.client("bedrock-runtime"))

    def first_use() -> object:
        match use:
            case "resolve":
                return routed.resolve(MISSPELLED)
            case "call":
                return routed.converse(modelId=MISSPELLED, messages=HELLO)
            case "chat":
                return ChatBedrockRouter(model=MISSPELLED).invoke("Hello")
            case "stream":
                return list(ChatBedrockRouter(model=MISSPELLED).stream("Hello"))
            case "metadata":
                return BedrockRouter(model=MISSPELLED).metadata
            case "complete":
                return BedrockRouter(model=MISSPELLED).complete("Hello")
            case _:
                return RoutedClient(boto3.client("bedrock-runtime"), base_models={"amazon.nova-x": [MISSPELLED]})

    for _ in range(2):
        with contextlib.suppress(ClientError):
            first_use()
    [warning] = warnings_of(caplog)
    assert MISSPELLED in warning
    assert MEANT in warning


async def test_asynchronous_calls_warn_of_a_misspelled_model(bedrock, caplog):
    with pytest.raises(ClientError):
        await ChatBedrockRouter(model=MISSPELLED).ainvoke("Hello")
    with pytest.raises(ClientError):
        await BedrockRouter(model=MISSPELLED).acomplete("Hello")
    assert len(warnings_of(caplog)) == 1


def test_new_model_has_cautious_limits_and_a_warning(bedrock, caplog):
    assert BedrockRouter(model="anthropic.claude-opus-6").metadata.context_window == 200_000
    [warning] = warnings_of(caplog)
    assert "200,000 tokens is assumed" in warning
    assert "'us.anthropic.claude-opus-5'" in warning
    assert ChatBedrockRouter(model="anthropic.claude-opus-6").profile["tool_calling"] is True


def test_known_models_and_opaque_targets_are_not_warned_of(bedrock, caplog):
    client = RoutedClient(boto3.client("bedrock-runtime"))
    for model in ("us.amazon.nova-lite-v1:0", HAIKU, "arn:aws:bedrock:us-east-1:123456789012:prompt-router/gone"):
        client.resolve(model)
    assert warnings_of(caplog) == []


# On demand


@pytest.mark.parametrize(
    ("region", "profiles"),
    [
        ("us-east-1", [f"us.{SONNET}", f"global.{SONNET}"]),
        ("eu-central-1", [f"eu.{SONNET}", f"global.{SONNET}"]),
        ("ap-northeast-1", [f"jp.{SONNET}", f"global.{SONNET}"]),
        ("ap-southeast-2", [f"au.{SONNET}", f"global.{SONNET}"]),
        ("ap-southeast-1", [f"global.{SONNET}"]),
        ("ca-central-1", [f"us.{SONNET}", f"global.{SONNET}"]),
        ("sa-east-1", [f"us.{SONNET}", f"global.{SONNET}"]),
        ("me-central-1", [f"global.{SONNET}"]),
        ("us-gov-west-1", [f"us-gov.{SONNET}"]),
    ],
)
def test_the_profile_of_the_regions_geography_is_named(region, profiles):
    advice = on_demand_advice(SONNET, region)
    assert advice is not None
    assert re.findall("'([^']+)'", advice.partition(";")[0]) == profiles
    assert on_demand_advice(f"arn:aws:bedrock:{region}::foundation-model/{SONNET}", None) == advice


def test_an_asia_pacific_profile_is_named_where_there_is_one():
    assert f"'apac.{HAIKU}'" in (on_demand_advice(HAIKU, "ap-south-1") or "")


def test_without_a_region_every_profile_is_named():
    advice = on_demand_advice("anthropic.claude-opus-4-5-20251101-v1:0", None) or ""
    assert [name.partition(".")[0] for name in re.findall(r"'([a-z]+\.[^']+)'", advice)] == ["us", "eu", "global"]


@pytest.mark.parametrize("region", ["eu-west-1", "cn-north-1"])
def test_a_profile_of_another_geography_is_called_that(region):
    advice = on_demand_advice("deepseek.r1-v1:0", region) or ""
    assert "'us.deepseek.r1-v1:0'" in advice
    assert "Use the inference profile" not in advice


def test_an_unlisted_model_gets_the_geography_of_its_region():
    assert "'eu.anthropic.claude-opus-6'" in (on_demand_advice("anthropic.claude-opus-6", "eu-west-1") or "")


@pytest.mark.parametrize("model_id", [f"us.{SONNET}", "nonsense", "arn:aws:bedrock:us-east-1:123456789012:prompt/A"])
def test_id_that_is_not_a_foundation_model_gets_no_profile(model_id):
    assert on_demand_advice(model_id, "us-east-1") is None


@pytest.mark.parametrize("model", [model for model in LIVE if not model.on_demand], ids=lambda model: model.model_id)
def test_the_profile_that_is_named_for_the_refused_model_answers(answers, model):
    assert not answers(model.model_id)
    advice = on_demand_advice(model.model_id, "us-east-1") or ""
    assert answers(re.findall("'([^']+)'", advice)[0])


@pytest.mark.parametrize(
    ("model", "meant"),
    [
        ("us.amazon.nova-lite-v2:0", "us.amazon.nova-lite-v1:0"),
        ("amazon.nova-pro-v9:0", "amazon.nova-pro-v1:0"),
        ("us.anthropic.claude-3-haiku-20240307-v9:0", "us.anthropic.claude-3-haiku-20240307-v1:0"),
    ],
)
def test_version_that_is_not_listed_is_unknown_with_cautious_limits(model, meant):
    facts = model_facts(model)
    assert not facts.known
    assert facts.context_window <= model_facts(meant).context_window
    assert f"did you mean {meant!r}" in unknown_id_advice(parse_target(model))


def test_only_unlisted_versions_are_unlisted():
    assert not [model for model in MODEL_IDS if is_unlisted_version(model)]
    assert not is_unlisted_version("anthropic.claude-opus-4-6")
    assert not is_unlisted_version("anthropic.claude-opus-4-6-v1:0")
    assert not is_unlisted_version("anthropic.claude-opus-5-v1:0")
