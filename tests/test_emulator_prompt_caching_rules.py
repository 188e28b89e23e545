"""Test the emulator's refusals of cache points through boto3."""

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st

from bedrock_routing_integrations.emulator import BedrockEmulator
from bedrock_routing_integrations.emulator.service.models import MODELS

SONNET = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
SONNET_V2 = "anthropic.claude-3-5-sonnet-20241022-v2:0"
HAIKU_35 = "us.anthropic.claude-3-5-haiku-20241022-v1:0"
LITE, PRO = "us.amazon.nova-lite-v1:0", "us.amazon.nova-pro-v1:0"
POINT = {"cachePoint": {"type": "default"}}
HOUR = {"cachePoint": {"type": "default", "ttl": "1h"}}
TEXT = {"text": "Hello"}
TOOL = {"toolSpec": {"name": "look", "inputSchema": {"json": {"type": "object"}}}}
REASONING = {"reasoningContent": {"reasoningText": {"text": "Hm.", "signature": "c2ln"}}}
USE = {"toolUse": {"toolUseId": "1", "name": "look", "input": {}}}
RESULT = {"toolResult": {"toolUseId": "1", "content": [TEXT]}}
OPTIMIZED = {"performanceConfig": {"latency": "optimized"}}


def document(kind, **more):
    return {"document": {"format": kind, "name": "paper", "source": {"bytes": b"words"}, **more}}


@pytest.fixture(scope="module")
def bedrock_here():
    with BedrockEmulator() as emulator:
        yield emulator


@pytest.fixture(scope="module")
def call(bedrock_here):
    runtime = bedrock_here.client("bedrock-runtime", config=Config(retries={"total_max_attempts": 1}))

    def call(model, *content, **members):
        """None for success, else (status, name, message)."""
        messages = members.pop("messages", None) or [user(*content or [TEXT])]
        try:
            runtime.converse(modelId=model, messages=messages, **members)
        except ClientError as error:
            about = error.response["Error"]
            return error.response["ResponseMetadata"]["HTTPStatusCode"], about["Code"], about["Message"]
        return None

    return call


def user(*content):
    return {"role": "user", "content": list(content)}


def assistant(*content):
    return {"role": "assistant", "content": list(content)}


def tool_turn(*after):
    return {"messages": [user(TEXT), assistant(USE), user(RESULT, *after)], "toolConfig": {"tools": [TOOL]}}


def refused(answer, text):
    status, name, message = answer
    return (status, name) == (400, "ValidationException") and text in message


def test_four_points_are_taken_and_five_refused(call):
    tools = {"tools": [TOOL, POINT]}
    system = [TEXT, POINT]
    assert call(SONNET, TEXT, POINT, TEXT, POINT, system=system, toolConfig=tools) is None
    answer = call(SONNET, TEXT, POINT, TEXT, POINT, TEXT, POINT, system=system, toolConfig=tools)
    assert refused(answer, "A maximum of 4 blocks with cache_control may be provided. Found 5.")


@pytest.mark.parametrize("model", [SONNET, LITE])
@pytest.mark.parametrize(
    "members",
    [
        {"system": [POINT, TEXT]},
        {"messages": [user(POINT, TEXT)]},
        {"messages": [user(TEXT), assistant(TEXT), user(POINT, TEXT)]},
        {"messages": [user(TEXT, POINT, POINT)]},
        {"system": [TEXT, POINT, POINT]},
        {"system": [TEXT, POINT], "messages": [user(POINT, TEXT)]},
    ],
)
def test_a_point_needs_something_before_it_in_its_own_list(call, model, members):
    assert refused(call(model, **members), "There is nothing available to cache.")


def test_tools_must_not_begin_with_a_point_either(call):
    assert refused(call(SONNET, toolConfig={"tools": [POINT, TOOL]}), "There is nothing available to cache.")


def test_cache_point_right_after_reasoning_is_refused(call):
    def after(*blocks):
        return call(SONNET, messages=[user(TEXT), assistant(*blocks), user(TEXT)])

    assert refused(after(REASONING, POINT, TEXT), "Cache point cannot be inserted after reasoning block")
    assert after(REASONING, TEXT, POINT) is None


@pytest.mark.parametrize("kind", ["txt", "md", "docx", "csv", "html", "xlsx", "doc", "xls"])
def test_cache_point_after_a_document_other_than_pdf_is_refused(call, kind):
    assert refused(call(SONNET, TEXT, document(kind), POINT), "messages.0.content.2.type: Field required")
    assert refused(call(LITE, TEXT, document(kind), POINT), "extraneous key [cachePoint]")
    assert call(SONNET, document(kind), TEXT, POINT) is None
    assert call(SONNET, TEXT, POINT, document(kind)) is None


def test_cache_point_after_pdf_is_accepted_for_claude_only(call):
    assert call(SONNET, TEXT, document("pdf"), POINT) is None
    assert refused(call(LITE, TEXT, document("pdf"), POINT), "extraneous key [cachePoint]")
    assert call(LITE, document("pdf"), TEXT, POINT) is None


def test_cache_point_in_tools_or_after_tool_result_needs_claude(call):
    in_tools = {"toolConfig": {"tools": [TOOL, POINT]}}
    assert refused(call(LITE, **in_tools), "#/toolConfig/tools/1: extraneous key [cachePoint] is not permitted")
    assert refused(call(LITE, **tool_turn(POINT)), "#/messages/2/content/1: extraneous key [cachePoint]")
    assert call(LITE, **tool_turn(TEXT, POINT)) is None
    assert call(LITE, TEXT, POINT, system=[TEXT, POINT]) is None
    assert call(SONNET, **in_tools) is None
    assert call(SONNET, **tool_turn(POINT)) is None


@pytest.mark.parametrize(
    "members", [{"system": [TEXT, POINT]}, {"messages": [user(TEXT, POINT)]}, {"toolConfig": {"tools": [TOOL, POINT]}}]
)
@pytest.mark.parametrize(
    "model",
    [
        "anthropic.claude-3-haiku-20240307-v1:0",
        "anthropic.claude-3-5-sonnet-20240620-v1:0",
        "us.meta.llama3-1-70b-instruct-v1:0",
        "openai.gpt-oss-20b-1:0",
    ],
)
def test_a_model_without_caching_denies_access(call, model, members):
    status, name, message = call(model, **members)
    assert (status, name) == (403, "AccessDeniedException")
    assert "You invoked an unsupported model or your request did not allow prompt caching" in message


def test_optimized_latency_and_a_point_are_refused_together(call):
    message = "system.0.cache_control: Extra inputs are not permitted"
    assert refused(call(HAIKU_35, system=[TEXT, POINT], **OPTIMIZED), message)
    assert refused(call(PRO, system=[TEXT, POINT], **OPTIMIZED), "extraneous key [cachePoint]")
    for model in (HAIKU_35, PRO):
        assert call(model, system=[TEXT], **OPTIMIZED) is None
        assert call(model, system=[TEXT, POINT], performanceConfig={"latency": "standard"}) is None


@pytest.mark.parametrize("early", [POINT, {"cachePoint": {"type": "default", "ttl": "5m"}}])
def test_an_hour_must_not_come_after_five_minutes(call, early):
    message = "a ttl='1h' cache_control block must not come after a ttl='5m' cache_control block"
    assert refused(call(SONNET, TEXT, early, TEXT, HOUR), f"messages.0.content.1.cache_control.ttl: {message}")
    assert refused(call(SONNET, TEXT, HOUR, system=[TEXT, early]), message)
    assert refused(call(SONNET, system=[TEXT, HOUR], toolConfig={"tools": [TOOL, early]}), message)
    assert call(SONNET, TEXT, early, system=[TEXT, HOUR], toolConfig={"tools": [TOOL, HOUR]}) is None


@pytest.mark.parametrize("model", [SONNET_V2, HAIKU_35, "us.anthropic.claude-sonnet-4-20250514-v1:0", LITE])
def test_an_hour_is_refused_where_only_five_minutes_are_offered(call, model):
    assert refused(call(model, TEXT, HOUR), "Input should be '5m'" if "claude" in model else "extraneous key")
    assert call(model, TEXT, {"cachePoint": {"type": "default", "ttl": "5m"}}) is None


def test_nova_takes_no_point_after_more_than_20_000_tokens(call):
    def long(tokens, *after):
        return call(LITE, {"text": "x" * 4 * (tokens - 3)}, POINT, *after)

    assert long(20_000, {"text": "y" * 80_000}) is None
    assert refused(long(20_001), "a prefix of 20001 tokens, which exceeds the limit of 20000")
    assert call(SONNET, {"text": "x" * 100_000}, POINT) is None
    half = {"text": "x" * 40_000}
    assert refused(call(LITE, half, POINT, system=[half, POINT]), "The cachePoint at messages.0.content.1")


def test_cache_point_rules_of_the_invoked_model_apply_to_routers(bedrock_here, call):
    router = bedrock_here.create_prompt_router(
        name="mixed", models=[SONNET_V2, "anthropic.claude-3-haiku-20240307-v1:0"], fallback=SONNET_V2
    )
    bedrock_here.choose(SONNET_V2)
    assert call(router, TEXT, POINT) is None
    bedrock_here.choose("anthropic.claude-3-haiku-20240307-v1:0")
    assert call(router, TEXT, POINT)[:2] == (403, "AccessDeniedException")
    assert refused(
        call(bedrock_here.default_router("amazon.nova:1"), toolConfig={"tools": [TOOL, POINT]}), "extraneous"
    )


def test_a_stream_is_refused_before_it_begins(bedrock_here):
    runtime = bedrock_here.client("bedrock-runtime", config=Config(retries={"total_max_attempts": 1}))
    with pytest.raises(ClientError, match="There is nothing available to cache"):
        runtime.converse_stream(modelId=SONNET, messages=[user(POINT, TEXT)])


# --- any request

POINTS = st.sampled_from([POINT, HOUR, {"cachePoint": {"type": "default", "ttl": "5m"}}])
USERS = st.lists(st.one_of(POINTS, st.just(TEXT), st.just(document("pdf")), st.just(document("md"))), max_size=5)
ASSISTANTS = st.lists(st.one_of(POINTS, st.just(TEXT), st.just(REASONING)), max_size=5)
SYSTEMS = st.lists(st.one_of(POINTS, st.just(TEXT)), max_size=4)
TOOL_LISTS = st.lists(POINTS, max_size=2)
TARGETS = {SONNET: ("5m", "1h"), HAIKU_35: ("5m",), LITE: ("5m",), "meta.llama3-1-8b-instruct-v1:0": ()}


def broken_rules(model, lists):
    """Return whether a rule is broken, written independently of the emulator's code."""
    flat = [(kind, block) for blocks in lists for kind, block in zip([None, *blocks], blocks, strict=False)]
    points = [(before, block["cachePoint"].get("ttl", "5m")) for before, block in flat if "cachePoint" in block]
    ttls = [ttl for _, ttl in points]
    blocks_before = [before for before, _ in points]
    return bool(points) and (
        len(points) > 4
        or not set(ttls) <= set(TARGETS[model])
        or sorted(ttls) != ttls
        or any(one is None or next(iter(one)) in {"cachePoint", "reasoningContent"} for one in blocks_before)
        or any("document" in (one or {}) and one["document"]["format"] != "pdf" for one in blocks_before)
        or ("nova" in model and any(one == TOOL or "document" in (one or {}) for one in blocks_before))
    )


@given(st.sampled_from(sorted(TARGETS)), TOOL_LISTS, SYSTEMS, USERS, ASSISTANTS)
def test_any_request_is_refused_only_for_a_broken_rule(call, model, tools, system, user_content, assistant_content):
    names = iter("abcdefghij")
    user_content = [
        document(one["document"]["format"], name=next(names)) if "document" in one else one for one in user_content
    ]
    lists = [[TOOL, *tools], system, [*user_content, TEXT], [*assistant_content, TEXT], [TEXT]]
    messages = [user(*lists[2]), assistant(*lists[3]), user(TEXT)]
    members = {"toolConfig": {"tools": lists[0]}, **({"system": system} if system else {})}
    answer = call(model, messages=messages, **members)
    assert (answer is not None) == broken_rules(model, lists), answer


def test_models_with_caching_are_from_anthropic_or_amazon():
    caching = {model.model_id for model in MODELS.values() if model.cache is not None}
    assert caching >= {"amazon.nova-lite-v1:0", SONNET.removeprefix("us.")}
    for model in MODELS.values():
        assert model.cache is None or model.provider in {"Anthropic", "Amazon"}
        assert model.cache is None or "5m" in model.cache.ttls
