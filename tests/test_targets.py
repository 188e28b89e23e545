"""`parse_target`: every form that Converse takes is understood, and everything else is refused with advice."""

from __future__ import annotations

import copy
import importlib.util
import pickle
import runpy
import time
from enum import Enum
from pathlib import Path
from urllib.parse import quote

import botocore.session
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedrock_routing_integrations import BedrockRoutingError, Target, TargetKind, parse_target
from bedrock_routing_integrations.errors import InvalidTargetError
from bedrock_routing_integrations.targets import split_geography

REGION, ACCOUNT = "us-east-1", "123456789012"
HAIKU = "anthropic.claude-3-haiku-20240307-v1:0"


def arn(resource, *, region=REGION, account=ACCOUNT, partition="aws", service="bedrock"):
    return f"arn:{partition}:{service}:{region}:{account}:{resource}"


# Every row of the table of targets: text → kind, resource id.
ARNS = {
    arn(f"foundation-model/{HAIKU}", account=""): ("foundation_model", HAIKU),
    arn(f"inference-profile/us.{HAIKU}"): ("system_inference_profile", f"us.{HAIKU}"),
    arn("application-inference-profile/a1b2c3d4e5f6"): ("application_inference_profile", "a1b2c3d4e5f6"),
    arn("default-prompt-router/anthropic.claude:1"): ("default_prompt_router", "anthropic.claude:1"),
    arn("default-prompt-router/meta.llama:1"): ("default_prompt_router", "meta.llama:1"),
    arn("default-prompt-router/amazon.nova:1"): ("default_prompt_router", "amazon.nova:1"),
    arn("prompt-router/a1b2c3d4e5f6"): ("custom_prompt_router", "a1b2c3d4e5f6"),
    arn("prompt/ABCDEFGHIJ"): ("prompt", "ABCDEFGHIJ"),
    arn("prompt/ABCDEFGHIJ:12"): ("prompt", "ABCDEFGHIJ:12"),
    arn("provisioned-model/a1b2c3d4e5f6"): ("provisioned_throughput", "a1b2c3d4e5f6"),
    arn("custom-model-deployment/a1b2c3d4e5f6"): ("custom_model_deployment", "a1b2c3d4e5f6"),
    arn("custom-model/amazon.nova-lite-v1/a1b2c3d4e5f6"): ("custom_model", "amazon.nova-lite-v1/a1b2c3d4e5f6"),
    arn("custom-model/amazon.nova-lite-v1:0:256k/a1b2c3d4e5f6"): (
        "custom_model",
        "amazon.nova-lite-v1:0:256k/a1b2c3d4e5f6",
    ),
    arn("imported-model/a1b2c3d4e5f6"): ("imported_model", "a1b2c3d4e5f6"),
    arn("endpoint/my-endpoint-1", service="sagemaker"): ("sagemaker_endpoint", "my-endpoint-1"),
}
BARE = {
    HAIKU: "foundation_model",
    "amazon.nova-pro-v1:0:300k": "foundation_model",
    "deepseek.v3.2": "foundation_model",
    "zai.glm-4.7-flash": "foundation_model",
    "tomorrow.model-1-v1:0": "foundation_model",
    f"us.{HAIKU}": "system_inference_profile",
    "us.deepseek.r1-v1:0": "system_inference_profile",
}
PREFIXES_SEEN = ["us", "us-gov", "eu", "apac", "jp", "au", "ca", "global"]


# What is taken


@pytest.mark.parametrize("text", ARNS)
def test_every_arn_of_the_table_is_understood(text):
    kind, resource_id = ARNS[text]
    target = parse_target(text)
    assert (target.kind, str(target.kind), target.resource_id) == (TargetKind(kind), kind, resource_id)
    assert (target.partition, target.region) == ("aws", REGION)
    assert target.account == (None if kind == "foundation_model" else ACCOUNT)
    assert (target.text, target.model_id, str(target)) == (text, text, text)


@pytest.mark.parametrize("text", BARE)
def test_every_plain_id_is_understood(text):
    target = parse_target(text)
    assert (target.kind.value, target.resource_id, target.model_id) == (BARE[text], text, text)
    assert (target.partition, target.region, target.account) == (None, None, None)


def test_every_kind_is_reached_by_some_text():
    assert {kind for kind, _ in ARNS.values()} | set(BARE.values()) == {kind.value for kind in TargetKind}


@pytest.mark.parametrize("region_prefix", [*PREFIXES_SEEN, "mx", "in", "sa-east", "eu2"])
@pytest.mark.parametrize("model", [HAIKU, "meta.llama4-scout-17b-instruct-v1:0", "deepseek.v3.2"])
def test_unknown_geography_is_a_profile(region_prefix, model):
    target = parse_target(f"{region_prefix}.{model}")
    assert target.kind is TargetKind.SYSTEM_INFERENCE_PROFILE
    assert split_geography(target.resource_id) == (region_prefix, model)


@pytest.mark.parametrize("prefix", PREFIXES_SEEN)
def test_unknown_provider_after_a_geography_is_a_profile(prefix):
    assert parse_target(f"{prefix}.newcorp.model-1").kind is TargetKind.SYSTEM_INFERENCE_PROFILE


def test_model_arn_without_region_is_accepted():
    target = parse_target(arn(f"foundation-model/{HAIKU}", region="", account=""))
    assert (target.kind, target.region, target.account) == (TargetKind.FOUNDATION_MODEL, None, None)
    assert target.resource_id == HAIKU


@pytest.mark.parametrize(
    ("partition", "region"),
    [
        ("aws-us-gov", "us-gov-west-1"),
        ("aws-cn", "cn-north-1"),
        ("aws-eusc", "eusc-de-east-1"),
        ("aws-iso", "us-iso-east-1"),
        ("aws-iso-b", "us-isob-east-1"),
        ("aws-iso-e", "eu-isoe-west-1"),
        ("aws-iso-f", "us-isof-south-1"),
    ],
)
@pytest.mark.parametrize("resource", ["prompt-router/a1b2c3d4e5f6", "inference-profile/us-gov.amazon.nova-pro-v1:0"])
def test_other_partitions_are_taken(partition, region, resource):
    target = parse_target(arn(resource, partition=partition, region=region))
    assert (target.partition, target.region, target.account) == (partition, region, ACCOUNT)


@pytest.mark.parametrize("text", [*ARNS, *BARE])
@pytest.mark.parametrize("before", ["", " ", "\n\t "])
@pytest.mark.parametrize("after", ["", "\n", " \r\n"])
def test_surrounding_white_space_does_not_matter(text, before, after):
    target = parse_target(before + text + after)
    assert target.text == before + text + after
    assert (target.model_id, target.kind) == (text, parse_target(text).kind)


@pytest.mark.parametrize("text", [*ARNS, *BARE])
def test_a_percent_encoded_target_is_sent_decoded(text):
    assert parse_target(quote(text, safe="")).model_id == text
    assert parse_target(quote(text, safe="/")).model_id == text
    assert parse_target(text.replace(":", "%3a").replace("/", "%2f")).model_id == text


def test_managed_prompt_has_a_version():
    assert parse_target(arn("prompt/ABCDEFGHIJ:12")).version == "12"
    assert parse_target(arn("prompt/ABCDEFGHIJ")).version is None
    assert parse_target(arn("default-prompt-router/anthropic.claude:1")).version is None


def test_only_routers_are_routers():
    routers = {kind for kind in TargetKind if kind.is_router}
    assert routers == {TargetKind.DEFAULT_PROMPT_ROUTER, TargetKind.CUSTOM_PROMPT_ROUTER}


# A target as a value


@pytest.mark.parametrize("text", [*ARNS, *BARE])
def test_a_target_is_a_value(text):
    target = parse_target(text)
    assert parse_target("".join(text)) is target
    assert pickle.loads(pickle.dumps(target)) == target == copy.deepcopy(target)
    assert hash(pickle.loads(pickle.dumps(target))) == hash(target)
    assert isinstance(target, Target)
    with pytest.raises(AttributeError):
        target.region = "eu-west-1"


def test_string_enumeration_member_is_accepted():
    class Models(str, Enum):
        SMALL = f"us.{HAIKU}"

    target = parse_target(Models.SMALL)
    assert target.model_id == f"us.{HAIKU}"
    assert type(target.model_id) is str


# What is refused, and what the user reads then


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        (arn("promptrouter/abc"), "prompt-router"),
        (arn("prompt_router/abc"), "prompt-router"),
        (arn("Prompt-Router/abc"), "prompt-router"),
        (arn("prompt-router:abc"), "prompt-router"),
        (arn("prompt-routers/abc"), "prompt-router"),
        (arn("router/abc"), "prompt-router"),
        (arn("defaultpromptrouter/anthropic.claude:1"), "default-prompt-router"),
        (arn("default-router/anthropic.claude:1"), "default-prompt-router"),
        (arn("inference_profile/us.x.y"), "inference-profile"),
        (arn("inferenceprofile/us.x.y"), "inference-profile"),
        (arn("application-profile/abc"), "application-inference-profile"),
        (arn("app-inference-profile/abc"), "inference-profile"),
        (arn("foundation-models/a.b", account=""), "foundation-model"),
        (arn("provisioned-models/abc"), "provisioned-model"),
        (arn("custom-models/abc"), "custom-model"),
        (arn("import-model/abc"), "imported-model"),
    ],
)
def test_a_slip_in_the_resource_type_is_named(text, advice):
    with pytest.raises(InvalidTargetError, match=f"did you mean '{advice}'"):
        parse_target(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (arn("prompt-router/abc", service="bedrock-runtime"), "'bedrock-runtime' should be 'bedrock'"),
        (arn("prompt-router/abc", service="bedrock-agent"), "'bedrock-agent' should be 'bedrock'"),
        (arn("prompt-router/abc", service="Bedrock"), "Bedrock"),
        ("arn:aws:iam::123456789012:role/x", "'iam' should be 'bedrock'"),
        (arn("prompt-router/abc", partition="amazon"), "should be 'arn:aws'"),
        (arn("prompt-router/abc").upper(), "should be 'arn:aws'"),
        (arn("prompt-router/abc", account="1234"), "twelve digits"),
        (arn("prompt-router/abc", account="1234-5678-9012"), "twelve digits"),
        (arn("prompt-router/abc", account="１２３456789012"), "twelve digits"),
        (arn("prompt-router/abc", account=""), "needs the twelve-digit account"),
        (arn("prompt-router/abc", region=""), "needs a Region"),
        (arn("prompt-router/abc", region="US East"), "Region"),
        (arn("prompt-router/"), "not the id of a prompt-router"),
        (arn("prompt-router"), "not the id of a prompt-router"),
        (arn("prompt-router/two words"), "not the id of a prompt-router"),
        (arn(""), "missing"),
        ("arn:aws:bedrock:us-east-1", "six parts"),
        ("arn:", "six parts"),
        (arn("notebook-instance/x", service="sagemaker"), "only endpoint ARNs"),
        (arn("endpoint/x", service="sagemaker", account=""), "only endpoint ARNs"),
        (arn("flow/ABCDEFGHIJ"), "no resource type 'flow'"),
        (arn("knowledge-base/ABCDEFGHIJ"), "no resource type 'knowledge-base'"),
        ("claude-3-haiku", f"did you mean {HAIKU!r}"),
        ("a1b2c3d4e5f6", "pass the whole ARN"),
        ("anthropic.claude 3 haiku", "white space"),
        ("anthropic.claude%203", "white space"),
        ("", "empty"),
        (" \n", "empty"),
        ("gpt-4o", "provider.model"),
        ("anthropic/claude-3-haiku", f"did you mean {HAIKU!r}"),
        (f"bedrock/{HAIKU}", f"did you mean {HAIKU!r}"),
        (f"'{HAIKU}'", f"did you mean {HAIKU!r}"),
        ("100%", "provider.model"),
        ("anthropic.", "provider.model"),
        (".", "provider.model"),
    ],
)
def test_invalid_target_is_refused_with_the_reason(text, message):
    with pytest.raises(InvalidTargetError) as refused:
        parse_target(text)
    assert message in str(refused.value).partition("Accepted are:")[0]


@pytest.mark.parametrize("thing", [None, 3, b"anthropic.claude-v2", ["anthropic.claude-v2"], {}, object(), True])
def test_value_that_is_not_a_string_is_refused_by_type(thing):
    with pytest.raises(InvalidTargetError, match=f"expected a string, got {type(thing).__name__}"):
        parse_target(thing)


@pytest.mark.parametrize("text", ["nonsense", arn("promptrouter/abc"), "", None])
def test_a_refusal_lists_every_form_that_is_accepted(text):
    with pytest.raises(BedrockRoutingError) as refused:
        parse_target(text)
    message = str(refused.value)
    assert repr(text) in message
    for resource in {text.split(":")[5].partition("/")[0] for text in ARNS}:
        assert f":{resource}/" in message
    assert HAIKU in message
    assert f"us.{HAIKU}" in message


def test_long_text_is_shortened_in_the_message():
    prompt = "Tell me all about the following document. " * 10_000
    with pytest.raises(InvalidTargetError) as refused:
        parse_target(prompt)
    assert len(str(refused.value)) < 5_000


# Any text


def outcome(text):
    try:
        return parse_target(text)
    except InvalidTargetError as error:
        return error


NEAR = st.text(st.sampled_from("arn:aws-bedrock/%3A2F.us.prompt-router0 \n\u2028é\ud800"), max_size=60)
PARTS = st.builds(
    ":".join,
    st.lists(
        st.sampled_from(
            ["arn", "aws", "aws-cn", "bedrock", "sagemaker", "us-east-1", "", ACCOUNT, "prompt/x", "prompt"]
        )
        | st.text(max_size=5),
        max_size=9,
    ),
)


@given(st.text() | NEAR | PARTS)
def test_no_text_raises_anything_but_invalid_target(text):
    target = outcome(text)
    if isinstance(target, Target):
        assert target.text == text
        again = parse_target(target.model_id)
        assert again.model_id == target.model_id
        for name in ("kind", "partition", "region", "account", "resource_id"):
            assert getattr(again, name) == getattr(target, name)
        assert target.resource_id in target.model_id


@pytest.mark.parametrize(
    "text", ["a." * 50_000, "a-" * 50_000 + "!", arn("prompt-router/" + "a:" * 50_000), "%41" * 50_000]
)
def test_a_long_text_is_judged_in_no_time(text):
    started = time.monotonic()
    outcome(text)
    outcome(text + "!")
    assert time.monotonic() - started < 10


# What botocore's service model calls a ConversationalModelId

LABEL = "[a-z0-9-]{1,63}"
# The alternatives of the pattern that name their kind. (The others match any word: an opaque id has no kind.)
# Written with a partition that could exist; the model's own `-[^:]+` takes any character.
PREFIX = r"arn:aws(-[a-z]+)*:bedrock:[a-z0-9-]{1,20}:"
ALTERNATIVES = {
    "custom_model": rf"{PREFIX}[0-9]{{12}}:custom-model/{LABEL}[.]{{1}}{LABEL}/[a-z0-9]{{12}}",
    "foundation_model": rf"{PREFIX}:foundation-model/{LABEL}[.]{{1}}{LABEL}([.:]?{LABEL})",
    "imported_model": rf"{PREFIX}[0-9]{{12}}:imported-model/[a-z0-9]{{12}}",
    "provisioned_throughput": rf"{PREFIX}[0-9]{{12}}:provisioned-model/[a-z0-9]{{12}}",
    "custom_model_deployment": rf"{PREFIX}[0-9]{{12}}:custom-model-deployment/[a-z0-9]{{12}}",
    "system_inference_profile": rf"{PREFIX}[0-9]{{12}}:inference-profile/[a-zA-Z0-9-:.]+",
    "application_inference_profile": rf"{PREFIX}[0-9]{{12}}:application-inference-profile/[a-zA-Z0-9-:.]+",
    "prompt": rf"{PREFIX}[0-9]{{12}}:prompt/[0-9a-zA-Z]{{10}}(?::[0-9]{{1,5}})?",
    "sagemaker_endpoint": r"arn:aws:sagemaker:[a-z0-9-]+:[0-9]{12}:endpoint/[a-zA-Z0-9-]+",
    "custom_prompt_router": rf"{PREFIX}[0-9]{{12}}:prompt-router/[a-zA-Z0-9-:.]+",
    "default_prompt_router": rf"{PREFIX}[0-9]{{12}}:default-prompt-router/[a-zA-Z0-9-:.]+",
}


@pytest.mark.parametrize("kind", ALTERNATIVES)
@given(data=st.data())
def test_any_target_of_the_service_models_pattern_is_parsed(kind, data):
    text = data.draw(st.from_regex(ALTERNATIVES[kind], fullmatch=True))
    assert parse_target(text).kind.value == kind


@given(st.from_regex(rf"{LABEL}[.]{{1}}{LABEL}([.:]?{LABEL})", fullmatch=True))
def test_every_id_of_the_service_models_pattern_is_parsed(text):
    assert parse_target(text).kind in (TargetKind.FOUNDATION_MODEL, TargetKind.SYSTEM_INFERENCE_PROFILE)


def test_service_model_has_only_known_resource_types():
    model = botocore.session.Session().get_service_model("bedrock-runtime")
    pattern = model.shape_for("ConversationalModelId").metadata["pattern"]
    for resource in (
        "custom-model/", "foundation-model/", "imported-model/", "provisioned-model/", "custom-model-deployment/",
        "(inference-profile|application-inference-profile)/", "prompt/", "endpoint/", "(default-)?prompt-router/",
    ):  # fmt: skip
        assert resource in pattern, f"ConversationalModelId no longer has {resource}: see targets.py"
        pattern = pattern.replace(resource, "", 1)
    assert "/" not in pattern.replace("/[a-z0-9]{12}", ""), (
        f"Converse takes a resource that targets.py does not know: {pattern}"
    )


# Tables of models that others keep


def upstream_ids():
    spec = importlib.util.find_spec("langchain_aws")
    return sorted(runpy.run_path(str(Path(spec.origin).parent / "data" / "_profiles.py"))["_PROFILES"])


def test_every_model_that_langchain_aws_lists_is_understood():
    ids = upstream_ids()
    assert len(ids) > 100
    for text in ids:
        target = parse_target(text)
        geography = text.partition(".")[0] in {*PREFIXES_SEEN, "in", "sa", "amer"}
        expected = TargetKind.SYSTEM_INFERENCE_PROFILE if geography else TargetKind.FOUNDATION_MODEL
        assert target.kind is expected, text
        assert parse_target(arn(f"foundation-model/{text}", account="")).resource_id == text
