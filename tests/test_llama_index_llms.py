"""Test `BedrockRouter` as a LlamaIndex user calls it: any target, in each of the eight ways to call."""

from __future__ import annotations

import logging

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from llama_index_forms import FORMS, STREAMED, WHOLE, run, start, text_of, user
from samples import ALICE, HAIKU, HELLO, LLAMA_8B, LLAMA_70B, NOVA_LITE, NOVA_PRO, SONNET, usd

from bedrock_routing_integrations import RoutedClient
from bedrock_routing_integrations.errors import InvalidRequestError, InvalidTargetError, MissingRegionError
from bedrock_routing_integrations.llama_index import BedrockRouter
from bedrock_routing_integrations.runtime import DEFAULT_RUNTIME

NO_STREAMS = "ai21.j2-ultra-v1"
PROFILE = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abcdefghijkl"


def routing_of(response):
    return response.additional_kwargs["routing"]


# --- who answered ---


@pytest.mark.parametrize("form", FORMS)
async def test_each_form_names_the_invoked_model_of_the_router(router, form):
    llm = BedrockRouter(model=router)
    for prompt, model in ((ALICE, SONNET), (HELLO, HAIKU)):
        *_, last = await run(llm, form, prompt)
        assert routing_of(last)["invoked_model"] == model
        assert text_of(last) == llm.chat(user(prompt)).message.content
        assert last.additional_kwargs["prompt_tokens"] == last.raw["usage"]["inputTokens"] > 0
        assert last.additional_kwargs["completion_tokens"] == last.raw["usage"]["outputTokens"] > 0


def test_routing_has_every_key(router):
    response = BedrockRouter(model=router).chat(user(ALICE))
    assert routing_of(response) == {
        "requested_model_id": router,
        "target_kind": "default_prompt_router",
        "invoked_model_id": f"arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.{SONNET}",
        "invoked_model": SONNET,
        "is_fallback": True,
        "candidates": [HAIKU, SONNET],
        "latency": {"requested": None, "served": None},
        "service_tier": {"requested": None, "served": None},
        "usage": {
            "input": response.additional_kwargs["prompt_tokens"],
            "output": response.additional_kwargs["completion_tokens"],
            "cache_read": 0,
            "cache_write_5m": 0,
            "cache_write_1h": 0,
        },
        "cost_usd": response.additional_kwargs["routing"]["fallback_cost_usd"],  # which is who answered
        "fallback_cost_usd": usd(response.raw["usage"], 3, 15),
        "latency_ms": response.raw["metrics"]["latencyMs"],
        "time_to_first_token_ms": None,
        "attempts": 1,
        "request_id": response.raw["ResponseMetadata"]["RequestId"],
        "cache_points": [],
        "stop_reason": "end_turn",
        "project": None,
    }


@pytest.mark.parametrize("form", STREAMED)
async def test_each_chunk_has_its_part_and_all_before_it(router, form):
    chunks = await run(BedrockRouter(model=router), form, HELLO)
    assert len(chunks) > 5
    for count, chunk in enumerate(chunks, 1):
        assert text_of(chunk) == "".join(each.delta for each in chunks[:count])
    assert [chunk.delta for chunk in chunks].count("") == 1, "the last one brings the tokens, and no text"
    assert all("routing" not in chunk.additional_kwargs for chunk in chunks[:-1])


@pytest.mark.parametrize("form", STREAMED)
async def test_the_last_chunk_is_what_a_whole_answer_is(router, form):
    llm = BedrockRouter(model=router)
    *_, last = await run(llm, form, ALICE)
    (whole,) = await run(llm, form.replace("stream_", ""), ALICE)
    assert isinstance(last, type(whole))
    assert last.raw["output"] == whole.raw["output"]
    assert last.raw["stopReason"] == whole.raw["stopReason"]
    assert last.raw["usage"] == whole.raw["usage"]
    assert routing_of(last)["time_to_first_token_ms"] >= 0
    for response in (last, whole):
        for name in ("time_to_first_token_ms", "request_id", "latency_ms"):
            routing_of(response).pop(name)
    assert last.additional_kwargs == whole.additional_kwargs
    if "chat" in form:
        assert last.message == whole.message


# --- any target ---


@pytest.mark.parametrize("form", ["chat", "stream_chat", "acomplete", "astream_complete"])
async def test_every_kind_of_target_answers(bedrock, form):
    custom = bedrock.create_prompt_router(name="mine", models=[LLAMA_8B, LLAMA_70B], fallback=LLAMA_70B)
    targets = {
        HAIKU: HAIKU,
        f"arn:aws:bedrock:us-east-1::foundation-model/{HAIKU}": HAIKU,
        f"us.{HAIKU}": HAIKU,
        f"arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.{HAIKU}": HAIKU,
        bedrock.create_application_profile(name="team", copy_from=HAIKU): HAIKU,
        bedrock.add_provisioned_model(NOVA_LITE): NOVA_LITE,
        bedrock.add_custom_model_deployment(NOVA_LITE): NOVA_LITE,
        bedrock.default_router("meta.llama:1"): LLAMA_70B,
        bedrock.default_router("amazon.nova:1"): NOVA_PRO,
        custom: LLAMA_70B,
    }
    for target, model in targets.items():
        *_, last = await run(BedrockRouter(model=target), form, ALICE)
        assert text_of(last), target
        assert routing_of(last)["invoked_model"] == model, target
    imported = bedrock.add_imported_model("mine")
    *_, last = await run(BedrockRouter(model=imported), form, ALICE)
    assert text_of(last)
    assert routing_of(last)["requested_model_id"] == imported
    *_, last = await run(BedrockRouter(model=bedrock.add_sagemaker_endpoint("mine")), form, ALICE)
    assert text_of(last)


@pytest.mark.parametrize("form", FORMS)
async def test_a_managed_prompt_answers_with_its_variables(bedrock, form):
    prompt = bedrock.add_prompt("greeting", "Say hello to {{name}}.", model_id=HAIKU)
    await run(BedrockRouter(model=prompt), form, "", prompt_variables={"name": 7})
    assert bedrock.requests()[-1].request["promptVariables"] == {"name": {"text": "7"}}
    llm = BedrockRouter(model=prompt, prompt_variables={"name": "Ada"})
    *_, last = await run(llm, form, "")
    assert routing_of(last)["invoked_model"] == HAIKU
    sent = bedrock.requests()[-1].request
    assert sent["promptVariables"] == {"name": {"text": "Ada"}}
    assert "messages" not in sent, "a blank prompt is none"
    await run(llm, form, "And to me.", prompt_variables={"name": {"text": "Grace"}})
    sent = bedrock.requests()[-1].request
    assert sent["promptVariables"] == {"name": {"text": "Grace"}}
    assert sent["messages"] == [{"role": "user", "content": [{"text": "And to me."}]}]


def test_settings_of_a_managed_prompt_are_refused_before_sending(bedrock):
    prompt = bedrock.add_prompt("greeting", "Say hello to {{name}}.", model_id=HAIKU)
    llm = BedrockRouter(model=prompt, prompt_variables={"name": "Ada"})
    for call in ({"temperature": 0}, {"thinking": {"type": "enabled"}}, {"system": [{"text": "Be brief."}]}):
        with pytest.raises(InvalidRequestError, match=r"managed prompt.*prompt_variables"):
            llm.chat(user("Hello"), **call)
    with pytest.raises(InvalidRequestError, match="prompt_variables are for managed prompts"):
        BedrockRouter(model=HAIKU).chat(user("Hello"), prompt_variables={"name": "Ada"})
    assert bedrock.requests("Converse") == []


def test_profile_argument_of_bedrock_converse_keeps_its_model(bedrock):
    profile = bedrock.create_application_profile(name="team", copy_from=HAIKU)
    llm = BedrockRouter(model=HAIKU, application_inference_profile_arn=profile)
    assert llm.model == profile
    routing = routing_of(llm.chat(user("Hello")))
    assert (routing["requested_model_id"], routing["candidates"]) == (profile, [HAIKU])
    assert llm.metadata.context_window == 200_000
    assert bedrock.requests("GetInferenceProfile") == [], "what `model` says is known"


@pytest.mark.parametrize("form", FORMS)
async def test_the_model_can_be_named_at_the_call(router, form):
    llm = BedrockRouter(model=NOVA_LITE)
    *_, last = await run(llm, form, ALICE, model=router)
    assert routing_of(last)["invoked_model"] == SONNET
    *_, last = await run(llm, form, ALICE)
    assert routing_of(last)["invoked_model"] == NOVA_LITE


def test_the_region_of_the_arn_is_called(bedrock, monkeypatch):
    monkeypatch.delenv("AWS_REGION")
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    arn = "arn:aws:bedrock:eu-west-1:123456789012:default-prompt-router/anthropic.claude:1"
    assert ":eu-west-1:" in routing_of(BedrockRouter(model=arn).chat(user(HELLO)))["invoked_model_id"]


def test_a_client_of_the_users_own_is_used(bedrock, router):
    control = bedrock.client("bedrock", config=Config(user_agent_extra="my-control"))
    for given in (
        {"client": bedrock.client(), "bedrock_client": control},
        {"client": RoutedClient(bedrock.client(), bedrock_client=control)},
    ):
        DEFAULT_RUNTIME.reset()
        assert routing_of(BedrockRouter(model=router, **given).complete(HELLO))["invoked_model"] == HAIKU
        assert "my-control" in bedrock.requests("GetPromptRouter")[-1].headers["user-agent"]


@pytest.mark.parametrize("beside", ["bedrock_client", "base_models", "default_headers", "cache", "prices"])
def test_settings_together_with_a_routed_client_are_refused(bedrock, router, beside):
    given = {
        "bedrock_client": bedrock.client("bedrock"), "base_models": [HAIKU], "default_headers": {"x-team": "a"},
        "cache": "off", "prices": {HAIKU: {"input_mtok": 1, "output_mtok": 2}},
    }  # fmt: skip
    client = RoutedClient(bedrock.client())
    with pytest.raises(InvalidRequestError, match="give bedrock_client, base_models, default_headers, cache,"):
        BedrockRouter(model=router, client=client, **{beside: given[beside]})
    llm = BedrockRouter(model=router, client=client)
    assert llm.complete(HELLO).text
    if beside != "bedrock_client":
        setattr(llm, beside, given[beside])
        for _ in range(2):
            with pytest.raises(InvalidRequestError, match="to that one"):
                llm.complete(HELLO)


# --- models that do not stream ---


@pytest.mark.parametrize("form", STREAMED)
async def test_stream_of_model_that_does_not_stream_has_whole_answer(bedrock, form):
    target = bedrock.create_application_profile(name="team", copy_from=HAIKU)
    llm = BedrockRouter(model=target, base_models=[NO_STREAMS])
    chunks = await run(llm, form, HELLO)
    assert "".join(chunk.delta for chunk in chunks) == text_of(chunks[-1]) == llm.complete(HELLO).text
    assert routing_of(chunks[-1])["usage"]["output"] > 0
    assert bedrock.requests("ConverseStream") == []


# --- nothing happens before the first call ---


def test_construction_sends_nothing_and_makes_no_client(bedrock, router, monkeypatch):
    made = []
    monkeypatch.setattr("botocore.session.Session.create_client", lambda *a, **k: made.append(a))
    for target in (router, PROFILE, HAIKU, f"us.{HAIKU}"):
        llm = BedrockRouter(model=target, default_headers={"x-team": "a"}, temperature=0)
        repr(llm), llm.to_dict(), llm.to_payload(), llm.model_copy(deep=True)
    assert made == []
    assert bedrock.requests() == []


def test_a_wrong_target_is_refused_when_it_is_constructed():
    with pytest.raises(InvalidTargetError, match="did you mean 'prompt-router'"):
        BedrockRouter(model="arn:aws:bedrock:us-east-1:123456789012:promptrouter/x")
    for nothing in ({}, {"model": None}):
        with pytest.raises(InvalidRequestError, match="needs model="):
            BedrockRouter(**nothing)


# --- metadata ---


def test_router_window_is_the_smallest_of_its_models(bedrock, router):
    assert BedrockRouter(model=router).metadata.context_window == 200_000
    mixed = BedrockRouter(model=PROFILE, base_models=[LLAMA_8B, NOVA_LITE])
    assert mixed.metadata.context_window == 128_000
    assert BedrockRouter(model=bedrock.default_router("amazon.nova:1")).metadata.context_window == 300_000
    assert BedrockRouter(model=router, context_window=1_000).metadata.context_window == 1_000


def test_metadata_has_llama_indexs_fields(router):
    metadata = BedrockRouter(model=router, max_tokens=77).metadata
    assert metadata.model_name == router
    assert metadata.is_chat_model
    assert metadata.is_function_calling_model
    assert metadata.num_output == 77
    assert BedrockRouter(model=HAIKU).metadata.num_output == 4_096
    assert not BedrockRouter(model="amazon.titan-text-express-v1").metadata.is_function_calling_model


@pytest.mark.parametrize("target", [HAIKU, "acme.brand-new-v1:0"])
def test_the_answer_never_takes_more_than_half_of_the_window(target):
    """LlamaIndex keeps that much free; what is left is for the documents."""
    assert BedrockRouter(model=target, context_window=201).metadata.num_output == 100
    assert BedrockRouter(model=target, context_window=201, max_tokens=150).metadata.num_output == 150


def test_metadata_is_looked_up_once(bedrock, router):
    for _ in range(3):
        assert BedrockRouter(model=router).metadata
    assert len(bedrock.requests("GetPromptRouter")) == 1
    assert BedrockRouter(model=HAIKU).metadata
    assert len(bedrock.requests()) == 1


@pytest.mark.parametrize("trouble", ["unknown", "no region", "refused", "no credentials", "nobody there"])
def test_metadata_never_raises_and_warns_once_of_assumed_window(bedrock, monkeypatch, caplog, trouble):
    target, more = PROFILE, {}
    if trouble == "unknown":
        target = "acme.brand-new-v1:0"
    elif trouble == "no region":
        target = "acme.brand-new-v1:0"
        monkeypatch.delenv("AWS_REGION")
        monkeypatch.delenv("AWS_DEFAULT_REGION")
    elif trouble == "refused":
        bedrock.fail("access_denied", operation="GetInferenceProfile", rate=1.0)
    elif trouble == "no credentials":
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    else:
        more = {"endpoint_url": "http://127.0.0.1:9", "max_retries": 0}
    llm = BedrockRouter(model=target, **more)
    assert llm.metadata.context_window == llm.metadata.context_window == 3_900
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert sum("context_window=" in message for message in warnings) == 1


def test_call_without_a_region_fails_with_advice():
    with pytest.raises(MissingRegionError, match="No AWS Region is known"):
        BedrockRouter(model=HAIKU).complete("Hello")


# --- what Bedrock refuses ---


@pytest.mark.parametrize("form", FORMS)
async def test_refusal_is_raised_at_the_call_as_by_boto3(bedrock, form):
    llm = BedrockRouter(model="anthropic.claude-sonnet-4-5-20250929-v1:0")
    with pytest.raises(ClientError, match="on-demand throughput") as caught:
        await start(llm, form, "Hello")  # nothing of a stream is read
    assert caught.value.response["Error"]["Code"] == "ValidationException"


@pytest.mark.parametrize("form", FORMS)
async def test_empty_messages_raise_our_error_at_the_call(bedrock, form):
    with pytest.raises(InvalidRequestError, match="nothing to send"):
        await start(BedrockRouter(model=HAIKU), form, " ")
    assert bedrock.requests() == []


@pytest.mark.sample(2)
@pytest.mark.parametrize("form", WHOLE)
async def test_attempts_are_counted_and_bounded(bedrock, form):
    bedrock.fail("throttling", times=1)
    (answer,) = await run(BedrockRouter(model=HAIKU, max_retries=2), form, "Hello")
    assert routing_of(answer)["attempts"] == 2
    bedrock.fail("throttling", rate=1.0)
    bedrock.clear_journal()
    with pytest.raises(ClientError, match="ThrottlingException"):
        await start(BedrockRouter(model=HAIKU, max_retries=1), form, "Hello")
    assert len(bedrock.requests()) == 2
