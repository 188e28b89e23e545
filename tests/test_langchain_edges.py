"""Combinations of settings: response caches, copies, profiles, thinking, headers, and fields that middleware reads."""

from __future__ import annotations

import logging
import subprocess
import sys

import boto3
import pytest
from botocore.exceptions import ClientError
from langchain_core.caches import InMemoryCache
from langchain_core.exceptions import ContextOverflowError as LangChainContextOverflow
from langchain_core.messages import HumanMessage
from langchain_core.runnables import ConfigurableField
from langchain_core.tools import tool
from pydantic import BaseModel
from samples import HAIKU, HELLO, LLAMA_8B, LLAMA_70B, NOVA_LITE, NOVA_PRO, SONNET
from scripted_bedrock import ScriptedBedrock, whole_of

from bedrock_routing_integrations import RoutedClient
from bedrock_routing_integrations.errors import ContextOverflowError, InvalidRequestError, InvalidTargetError
from bedrock_routing_integrations.langchain import BedrockRouterLLM, ChatBedrockRouter
from bedrock_routing_integrations.runtime import Runtime

COUNTED = "anthropic.claude-3-5-haiku-20241022-v1:0"  # one that langchain-aws asks Bedrock to count for


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


class Joke(BaseModel):
    """A joke to tell the user."""

    setup: str
    punchline: str


@pytest.mark.parametrize(
    "message",
    ["input length and `max_tokens` exceed context limit: 199000 + 8000 > 200000", "prompt is too long: 5 tokens > 4"],
)
@pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream", "astream"])
async def test_context_overflow_is_langchains_error(bedrock, way, message):
    """LangChain's summarization middleware catches its own class."""
    bedrock.fail("validation", message=message, rate=1.0)
    llm = ChatBedrockRouter(model=HAIKU)
    with pytest.raises(LangChainContextOverflow) as error:
        if way.endswith("invoke"):
            result = getattr(llm, way)(HELLO)
            _ = await result if way.startswith("a") else result
        elif way == "stream":
            list(llm.stream(HELLO))
        else:
            _ = [chunk async for chunk in llm.astream(HELLO)]
    assert isinstance(error.value, ContextOverflowError)
    assert isinstance(error.value, ClientError)


# --- LangChain's caches ---


@pytest.mark.parametrize("kind", [ChatBedrockRouter, BedrockRouterLLM])
def test_response_cache_separates_models_with_different_settings(bedrock, kind):
    cache = InMemoryCache()
    settings = [
        {}, {"temperature": 0.2}, {"system": ["Be brief."]}, {"max_tokens": 3}, {"service_tier": "flex"},
        {"default_headers": {"x-tenant": "a"}}, {"default_headers": {"x-tenant": "b"}},
    ]  # fmt: skip
    for _ in range(2):
        for setting in settings:
            kind(model=HAIKU, cache=cache, **setting).invoke("Say good morning.")
    assert len(bedrock.requests("Converse")) == len(settings)


def test_cached_answer_keeps_its_routing(router):
    llm = ChatBedrockRouter(model=router, cache=InMemoryCache())
    assert llm.invoke(HELLO).response_metadata["routing"] == llm.invoke(HELLO).response_metadata["routing"]


def test_response_cache_key_is_independent_of_look_ups(bedrock, router):
    llm = ChatBedrockRouter(model=router, cache=InMemoryCache()).with_structured_output(Joke)
    for _ in range(3):
        llm.invoke("Tell me a joke.")
    assert len(bedrock.requests("Converse")) == 1


# --- profiles, tool choice, thinking ---


def test_profile_of_a_model_is_langchain_aws_own(bedrock):
    from langchain_aws import ChatBedrockConverse

    clients = {"client": bedrock.client(), "bedrock_client": bedrock.client("bedrock")}
    for model in ("us.anthropic.claude-sonnet-4-20250514-v1:0", "us.xai.grok-4.6", "us.zai.glm-5.3", NOVA_PRO):
        theirs, ours = ChatBedrockConverse(model=model, **clients), ChatBedrockRouter(model=model)
        assert {name: ours.profile.get(name) for name in theirs.profile} == theirs.profile


def test_profile_of_a_router_is_common_to_its_models(router):
    llm = ChatBedrockRouter(model=router, base_models=[NOVA_PRO, HAIKU])
    assert llm.profile["max_input_tokens"] == 200_000, "the smaller window of the two"


def test_resolved_copy_has_a_profile_for_middleware(bedrock, router):
    profile = bedrock.create_application_profile(name="team", copy_from=f"us.{NOVA_PRO}")
    llm = ChatBedrockRouter(model=profile)
    known = llm.resolved()
    assert known.profile["max_input_tokens"] == 300_000
    assert known.base_model_id == NOVA_PRO
    assert known.invoke("Hello").response_metadata["model_name"] == NOVA_PRO
    assert ChatBedrockRouter(model=profile, base_models=[NOVA_PRO]).base_model_id == NOVA_PRO
    assert ChatBedrockRouter(model=router).resolved().base_model_id is None, "a router has no one model"
    assert not llm.profile, "the object itself is as it was"


def test_forced_tool_is_unforced_for_thinking(bedrock, caplog):
    profile = bedrock.create_application_profile(name="t", copy_from="us.anthropic.claude-3-7-sonnet-20250219-v1:0")
    thinking = {"thinking": {"type": "enabled", "budget_tokens": 1024}}
    llm = ChatBedrockRouter(model=profile, max_tokens=4000, additional_model_request_fields=thinking)
    llm.bind_tools([add], tool_choice="any").invoke("What is 1 + 2?")
    assert bedrock.requests("Converse")[0].request["toolConfig"]["toolChoice"] == {"auto": {}}
    assert "sending 'auto'" in caplog.text


@pytest.mark.parametrize("change", ["assigned", "copied"])
@pytest.mark.parametrize(
    "model", ["openai.gpt-oss-120b-1:0", "us.anthropic.claude-opus-4-5-20251101-v1:0", "us.amazon.nova-2-lite-v1:0"]
)
def test_reasoning_effort_changed_after_construction_is_sent(model, change):
    answer = whole_of({"text": "Hi."})
    with ScriptedBedrock(answer) as server:
        settings = {"model": model, "cache": "off", **server.arguments}
        for before, after in (("low", "high"), (None, "high"), ("high", None)):
            llm = ChatBedrockRouter(reasoning_effort=before, **settings)
            llm.invoke("x")
            if change == "assigned":
                llm.reasoning_effort = after
            else:
                llm = llm.model_copy(update={"reasoning_effort": after})
            llm.invoke("x")
            ChatBedrockRouter(reasoning_effort=after, **settings).invoke("x")
            first, changed, fresh = server.requests[-3:]
            assert changed == fresh != first


def test_reasoning_effort_without_common_form_is_left_out(bedrock, caplog):
    models = ["anthropic.claude-opus-4-5-20251101-v1:0", "anthropic.claude-sonnet-4-5-20250929-v1:0"]
    arn = bedrock.default_router()
    for order in (models, models[::-1]):
        with pytest.warns(UserWarning, match="reasoning_effort is not supported"):
            llm = ChatBedrockRouter(model=arn, base_models=order, reasoning_effort="high")
        assert not llm.additional_model_request_fields
    assert "reasoning_effort is left out" in caplog.text


def test_structured_output_with_a_model_named_at_the_call(bedrock):
    llm = ChatBedrockRouter(model=f"us.{NOVA_LITE}").with_structured_output(Joke)
    assert isinstance(llm.invoke("Tell me a joke.", model=f"us.{LLAMA_70B}"), Joke)


def test_base_models_must_be_models(router):
    with pytest.raises(InvalidTargetError, match=r"anthropic\.claude-3-haiku"):
        ChatBedrockRouter(model=router, base_models=["claude-3-haiku"])
    with pytest.raises(InvalidTargetError, match="foundation models"):
        ChatBedrockRouter(model=router, base_models=[router])


def test_managed_prompt_is_refused_with_advice(bedrock):
    prompt = bedrock.add_prompt("greeting", "Say hello to {{name}}.", model_id=HAIKU)
    with pytest.raises(InvalidRequestError, match="promptVariables"):
        ChatBedrockRouter(model=prompt).invoke("Hello")


def test_configurable_fields_infer_settings_for_the_new_model(bedrock):
    llm = ChatBedrockRouter(model=f"us.{NOVA_LITE}").configurable_fields(model_id=ConfigurableField(id="model"))
    other = llm.with_config(configurable={"model": f"us.{LLAMA_70B}"})
    assert other.invoke("Hello").response_metadata["model_name"] == LLAMA_70B
    changed, _ = llm.prepare({"configurable": {"model": f"us.{LLAMA_70B}"}})
    assert changed.provider == "meta"
    assert changed.supports_tool_choice_values == ("auto",)
    region = ChatBedrockRouter(model=f"us.{HAIKU}").configurable_fields(region_name=ConfigurableField(id="region"))
    region.with_config(configurable={"region": "eu-central-1"}).invoke("Hello")
    assert bedrock.requests("Converse")[-1].region == "eu-central-1"


# --- headers, credentials, Regions ---


def test_authorization_header_of_a_gateway_replaces_the_signature(bedrock):
    headers = {"Authorization": "Bearer gateway", "User-Agent": "mine"}
    ChatBedrockRouter(model=HAIKU, default_headers=headers).invoke("Hello")
    entry = bedrock.requests("Converse")[0]
    assert entry.authorization == "bearer"
    assert entry.headers["user-agent"] == "mine"


def test_default_headers_are_never_logged(bedrock, caplog):
    caplog.set_level(logging.DEBUG)
    ChatBedrockRouter(model=HAIKU, default_headers={"x-token": "very-secret"}).invoke("Hello")
    ours = [record for record in caplog.records if not record.name.startswith(("urllib3", "botocore"))]
    assert ours
    assert not [record for record in ours if "very-secret" in record.getMessage()]


def test_credentials_rotate_despite_boto3s_default_session(bedrock, monkeypatch):
    boto3.client("bedrock", region_name="us-east-1")  # makes boto3's default session, which reads the keys once
    try:
        llm = ChatBedrockRouter(model=HAIKU)
        llm.invoke("Hello")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAROTATED")
        assert llm.client.runtime_client(HAIKU)._request_signer._credentials.access_key == "AKIAROTATED"
    finally:
        boto3.DEFAULT_SESSION = None


def test_clients_of_many_tenants_are_kept(bedrock):
    def client(tenant):
        llm = ChatBedrockRouter(model=HAIKU, aws_access_key_id=f"AKIA{tenant}", aws_secret_access_key="secret")
        return llm.client.runtime_client(HAIKU)

    first = [client(tenant) for tenant in range(40)]
    assert [client(tenant) for tenant in range(40)] == first
    assert len(set(map(id, first))) == 40


@pytest.mark.filterwarnings("ignore:Using fallback GPT-2 tokenizer:UserWarning")
def test_tokens_are_counted_in_the_targets_region(bedrock, monkeypatch):
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    arn = "arn:aws:bedrock:eu-west-1:123456789012:default-prompt-router/anthropic.claude:1"
    # The emulator has no CountTokens; what counts is where it was asked. An estimate is given then.
    assert ChatBedrockRouter(model=arn, base_models=[COUNTED]).get_num_tokens_from_messages([HumanMessage("Hello")]) > 0
    asked = [entry for entry in bedrock.requests() if entry.path.endswith("/count-tokens")]
    assert {entry.region for entry in asked} == {"eu-west-1"}


# --- the look-up when it fails ---


def test_candidates_survive_a_refused_refresh(bedrock, router):
    from bedrock_routing_integrations.connections import Connection
    from bedrock_routing_integrations.models.look_ups import KEEP_SECONDS

    now = [0.0]
    client = RoutedClient(Connection(), runtime=Runtime(clock=lambda: now[0]))
    assert client.resolve(router).base_models == (HAIKU, SONNET)
    bedrock.fail("access_denied", operation="GetPromptRouter", rate=1.0)
    now[0] += KEEP_SECONDS + 1
    resolved = client.resolve(router)
    assert resolved.base_models == (HAIKU, SONNET)
    assert resolved.fallback == SONNET
    assert len(bedrock.requests("GetPromptRouter")) == 2


def test_passing_failure_of_a_look_up_is_retried_soon(bedrock):
    from bedrock_routing_integrations.connections import Connection
    from bedrock_routing_integrations.models.look_ups import KEEP_FAILED_SECONDS

    profile = bedrock.create_application_profile(name="p", copy_from=f"us.{LLAMA_8B}")
    bedrock.fail("throttling", operation="GetInferenceProfile", times=2)
    now = [0.0]
    client = RoutedClient(Connection(), runtime=Runtime(clock=lambda: now[0]))
    assert client.resolve(profile).base_models == ()
    now[0] += KEEP_FAILED_SECONDS + 1
    assert client.resolve(profile).base_models == (LLAMA_8B,)


# --- BedrockRouterLLM ---


def test_llm_refuses_arguments_together_with_a_chat_model(bedrock):
    chat = ChatBedrockRouter(model=HAIKU)
    assert BedrockRouterLLM(chat_model=chat).invoke("Say good morning.")
    with pytest.raises(InvalidRequestError, match="temperature"):
        BedrockRouterLLM(chat_model=chat, temperature=0.3)


def test_llm_output_has_token_usage_and_model_name(bedrock):
    output = BedrockRouterLLM(model=HAIKU).generate(["Say good morning."]).llm_output
    assert output["model_name"] == HAIKU
    assert output["token_usage"]["total_tokens"] > 0


@pytest.mark.sweep
def test_readme_code_passes_strict_type_checks(tmp_path):
    (tmp_path / "user.py").write_text(
        "from bedrock_routing_integrations.langchain import BedrockRouterLLM, ChatBedrockRouter\n"
        "llm = BedrockRouterLLM(model='us.amazon.nova-lite-v1:0', temperature=0.5)\n"
        "chat = ChatBedrockRouter(model='us.amazon.nova-lite-v1:0', base_models=['amazon.nova-lite-v1:0'])\n"
        "text: str = llm.invoke('Hello')\n"
    )
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--cache-dir",
        str(tmp_path / "cache"),
        str(tmp_path / "user.py"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
