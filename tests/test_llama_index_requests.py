"""Test the requests of `BedrockRouter`: every setting in its member, and no others."""

from __future__ import annotations

import copy

import pytest
import trustme
from botocore.config import Config
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.prompts import PromptTemplate
from llama_index.core.tools import FunctionTool
from llama_index_forms import FORMS, run, user
from pydantic import ValidationError
from recording_server import key_used, recording
from samples import HAIKU, HELLO, NOVA_LITE
from scripted_bedrock import ScriptedBedrock, whole_of

from bedrock_routing_integrations.errors import InvalidRequestError
from bedrock_routing_integrations.llama_index import BedrockRouter
from bedrock_routing_integrations.llama_index._requests import OPTIONS

NOVA_PRO = "us.amazon.nova-pro-v1:0"
THINKER = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
THINKING = {"type": "enabled", "budget_tokens": 1024}
MESSAGE = [{"role": "user", "content": [{"text": HELLO}]}]


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def sent(bedrock):
    """The last request's members."""
    return dict(bedrock.requests()[-1].request)


@pytest.mark.parametrize("form", FORMS)
async def test_unset_fields_are_not_sent(bedrock, form):
    await run(BedrockRouter(model=HAIKU), form, HELLO)
    assert sent(bedrock) == {"modelId": HAIKU, "messages": MESSAGE}


def guardrail(**more):
    return {"guardrail_identifier": "gr1", "guardrail_version": "7", **more}


# Argument, value, other arguments that it needs; its place and value in the request; a model that takes it.
ARGUMENTS = [
    ("max_tokens", 50, {}, {"inferenceConfig": {"maxTokens": 50}}, HAIKU),
    ("temperature", 0.0, {}, {"inferenceConfig": {"temperature": 0.0}}, HAIKU),
    ("top_p", 0.25, {}, {"inferenceConfig": {"topP": 0.25}}, HAIKU),
    ("stop_sequences", ["END"], {}, {"inferenceConfig": {"stopSequences": ["END"]}}, HAIKU),
    ("performance_config", {"latency": "optimized"}, {}, {"performanceConfig": {"latency": "optimized"}}, NOVA_PRO),
    ("service_tier", "flex", {}, {"serviceTier": {"type": "flex"}}, NOVA_PRO),
    ("service_tier", {"type": "flex"}, {}, {"serviceTier": {"type": "flex"}}, NOVA_PRO),
    ("thinking", THINKING, {"max_tokens": 4000},
     {"additionalModelRequestFields": {"thinking": THINKING}, "inferenceConfig": {"maxTokens": 4000}}, THINKER),
    ("additional_model_request_fields", {"top_k": 5}, {}, {"additionalModelRequestFields": {"top_k": 5}}, HAIKU),
    ("additional_model_response_field_paths", ["/stop_sequence"], {},
     {"additionalModelResponseFieldPaths": ["/stop_sequence"]}, HAIKU),
    ("request_metadata", {"team": "a"}, {}, {"requestMetadata": {"team": "a"}}, HAIKU),
    ("guardrail_identifier", "gr1", {"guardrail_version": "7"},
     {"guardrailConfig": {"guardrailIdentifier": "gr1", "guardrailVersion": "7"}}, HAIKU),
    ("guardrail_version", "DRAFT", {"guardrail_identifier": "gr1"},
     {"guardrailConfig": {"guardrailIdentifier": "gr1", "guardrailVersion": "DRAFT"}}, HAIKU),
    ("trace", "enabled_full", guardrail(),
     {"guardrailConfig": {"guardrailIdentifier": "gr1", "guardrailVersion": "7", "trace": "enabled_full"}}, HAIKU),
]  # fmt: skip
# Tested below, or elsewhere: what has no member of its own.
OTHERS = {
    "guardrail_stream_processing_mode", "project_identifier", "prompt_variables", "supports_forced_tool_calls",
    "system_prompt_caching", "tool_caching",
}  # fmt: skip


def test_every_option_is_in_the_table():
    assert {row[0] for row in ARGUMENTS} | OTHERS == set(OPTIONS)


@pytest.mark.parametrize("given", ["constructor", "additional_kwargs", "call"])
@pytest.mark.parametrize("form", ["chat", "astream_complete"])
async def test_every_argument_reaches_its_member(bedrock, given, form):
    for name, value, more, members, model in ARGUMENTS:
        arguments = {name: value, **more}
        before = copy.deepcopy(arguments)
        constructed = {"constructor": arguments, "additional_kwargs": {"additional_kwargs": arguments}, "call": {}}[
            given
        ]
        await run(BedrockRouter(model=model, **constructed), form, HELLO, **(arguments if given == "call" else {}))
        assert sent(bedrock) == {"modelId": model, "messages": MESSAGE, **members}, name
        assert arguments == before


@pytest.mark.parametrize("form", FORMS)
async def test_the_call_wins_over_the_constructor_and_none_takes_back(bedrock, form):
    llm = BedrockRouter(model=HAIKU, temperature=0.5, max_tokens=50, stop_sequences=["A"], request_metadata={"a": "b"})
    await run(llm, form, HELLO, temperature=0, max_tokens=None, stop_sequences=["B"], request_metadata=None)
    assert sent(bedrock)["inferenceConfig"] == {"temperature": 0, "stopSequences": ["B"]}
    assert "requestMetadata" not in sent(bedrock)
    await run(llm, form, HELLO)
    assert sent(bedrock)["inferenceConfig"] == {"temperature": 0.5, "maxTokens": 50, "stopSequences": ["A"]}


def test_call_overrides_additional_kwargs_which_override_arguments(bedrock):
    llm = BedrockRouter(model=HAIKU, temperature=0.5, top_p=0.5, additional_kwargs={"temperature": 0.25})
    llm.complete(HELLO)
    assert sent(bedrock)["inferenceConfig"] == {"temperature": 0.25, "topP": 0.5}
    llm.complete(HELLO, temperature=0)
    assert sent(bedrock)["inferenceConfig"] == {"temperature": 0, "topP": 0.5}


def test_attributes_set_after_constructing_are_used(bedrock):
    llm = BedrockRouter(model=HAIKU)
    llm.temperature = 0.25
    llm.complete(HELLO)
    assert sent(bedrock)["inferenceConfig"] == {"temperature": 0.25}


def test_awss_names_are_taken_and_joined_with_ours(bedrock):
    llm = BedrockRouter(model=HAIKU, max_tokens=50, additional_kwargs={"inferenceConfig": {"topP": 0.5}})
    llm.chat(
        user(HELLO),
        system=[{"text": "Be brief."}],
        performanceConfig={"latency": "standard"},
        serviceTier={"type": "default"},
        requestMetadata={"team": "a"},
        additionalModelRequestFields={"top_k": 5},
        additionalModelResponseFieldPaths=["/stop_sequence"],
        guardrailConfig={"guardrailIdentifier": "gr1", "guardrailVersion": "7"},
    )
    assert sent(bedrock) == {
        "modelId": HAIKU,
        "messages": MESSAGE,
        "system": [{"text": "Be brief."}],
        "inferenceConfig": {"maxTokens": 50, "topP": 0.5},
        "performanceConfig": {"latency": "standard"},
        "serviceTier": {"type": "default"},
        "requestMetadata": {"team": "a"},
        "additionalModelRequestFields": {"top_k": 5},
        "additionalModelResponseFieldPaths": ["/stop_sequence"],
        "guardrailConfig": {"guardrailIdentifier": "gr1", "guardrailVersion": "7"},
    }


def test_thinking_is_sent_with_other_additional_fields(bedrock):
    llm = BedrockRouter(model=THINKER, thinking=THINKING, additional_model_request_fields={"anthropic_beta": ["x"]})
    llm.complete(HELLO, max_tokens=4000)
    assert sent(bedrock)["additionalModelRequestFields"] == {"thinking": THINKING, "anthropic_beta": ["x"]}
    llm.complete(HELLO, thinking=None)
    assert sent(bedrock)["additionalModelRequestFields"] == {"anthropic_beta": ["x"]}


def test_llamaindexs_stop_is_a_stop_sequence(bedrock):
    BedrockRouter(model=HAIKU).complete(HELLO, stop=["END"])
    assert sent(bedrock)["inferenceConfig"] == {"stopSequences": ["END"]}


def test_system_messages_follow_the_calls_system_argument(bedrock):
    messages = [ChatMessage(role="system", content="Be kind."), *user(HELLO)]
    BedrockRouter(model=HAIKU).chat(messages, system=[{"text": "Be brief."}])
    assert sent(bedrock)["system"] == [{"text": "Be brief."}, {"text": "Be kind."}]


def test_the_system_prompt_is_for_llamaindexs_prompts(bedrock):
    llm = BedrockRouter(model=HAIKU, system_prompt="Be brief.")
    llm.predict(PromptTemplate("{question}"), question=HELLO)
    assert sent(bedrock)["system"] == [{"text": "Be brief."}]
    llm.chat(user(HELLO))
    assert "system" not in sent(bedrock)


# --- what is refused ---


@pytest.mark.parametrize("form", FORMS)
async def test_an_unknown_argument_of_a_call_raises_with_a_suggestion(bedrock, form):
    llm = BedrockRouter(model=HAIKU)
    for name, near in (("temprature", "temperature"), ("maxtokens", "max_tokens"), ("inferenceconfig", "inferenceC")):
        with pytest.raises(InvalidRequestError, match=f"no argument '{name}'; did you mean '{near}"):
            await run(llm, form, HELLO, **{name: 1})
    with pytest.raises(InvalidRequestError, match="no argument 'xyz'; a call takes additionalModelRequestFields, "):
        await run(llm, form, HELLO, xyz=1)
    assert bedrock.requests() == []


def test_an_unknown_argument_of_the_constructor_raises_with_a_suggestion():
    with pytest.raises(InvalidRequestError, match="no argument 'regionname'; did you mean 'region_name'"):
        BedrockRouter(model=HAIKU, regionname="us-east-1")
    with pytest.raises(InvalidRequestError, match=r"no argument 'region'; .*\bregion_name\b"):
        BedrockRouter(model=HAIKU, region="us-east-1")
    with pytest.raises(InvalidRequestError, match=r"goes into additional_model_request_fields={'top_k': …}"):
        BedrockRouter(model=HAIKU, top_k=5)
    with pytest.raises(InvalidRequestError, match="no argument 'temprature'; did you mean 'temperature'"):
        BedrockRouter(model=HAIKU, additional_kwargs={"temprature": 0})
    with pytest.raises(InvalidRequestError, match="no argument 'qqq'; it takes additional_kwargs, "):
        BedrockRouter(model=HAIKU, qqq=0)
    with pytest.raises(InvalidRequestError, match=r"takes no async_client: .* need none\. Leave it out"):
        BedrockRouter(model=HAIKU, async_client=object())
    with pytest.raises(InvalidRequestError, match=r"takes no api_version: .*\. Leave it out"):
        BedrockRouter(model=HAIKU, api_version="2023-09-30")
    assert BedrockRouter(model=HAIKU, async_client=None, api_version=None)


@pytest.mark.parametrize("wrong", [{"temperature": 1.5}, {"max_tokens": 0}, {"top_p": -1}, {"context_window": 0}])
def test_invalid_arguments_are_refused_by_the_constructor(wrong):
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        BedrockRouter(model=HAIKU, **wrong)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("half", [{"guardrail_identifier": "gr1"}, {"guardrail_version": "7"}])
async def test_half_a_guardrail_is_refused_and_not_left_out(bedrock, form, half):
    with pytest.raises(InvalidRequestError, match="needs both guardrail_identifier and guardrail_version"):
        await run(BedrockRouter(model=HAIKU, **half), form, HELLO)
    with pytest.raises(InvalidRequestError, match="needs both guardrail_identifier and guardrail_version"):
        await run(BedrockRouter(model=HAIKU), form, HELLO, **half)
    assert bedrock.requests() == []


@pytest.mark.parametrize("form", FORMS)
async def test_the_guardrails_stream_mode_is_for_streams(bedrock, form):
    llm = BedrockRouter(model=HAIKU, **guardrail(guardrail_stream_processing_mode="async"))
    await run(llm, form, HELLO)
    mode = {"streamProcessingMode": "async"} if "stream" in form else {}
    assert sent(bedrock)["guardrailConfig"] == {"guardrailIdentifier": "gr1", "guardrailVersion": "7", **mode}


def test_fields_set_to_none_take_their_defaults():
    names = [name for name in BedrockRouter.model_fields if name not in {
        "model", "use_ssl", "rate_limiter", "output_parser", "query_wrapper_prompt", "pydantic_program_mode",
        "messages_to_prompt", "completion_to_prompt", "class_name",
    }]  # fmt: skip
    llm = BedrockRouter(model=HAIKU, **dict.fromkeys(names))
    assert llm.additional_kwargs == {}
    assert llm.max_concurrency > 0


# --- cache points behind the system messages and the tools ---


def test_cache_points_are_placed_where_they_were_asked_for(bedrock):
    llm = BedrockRouter(model=THINKER, system_prompt_caching=True, tool_caching=True)
    messages = [ChatMessage(role="system", content="Be kind."), *user(HELLO)]
    for _ in range(2):
        llm.chat_with_tools([FunctionTool.from_defaults(add)], chat_history=messages)
        assert sent(bedrock)["system"] == [{"text": "Be kind."}, {"cachePoint": {"type": "default"}}]
        assert sent(bedrock)["toolConfig"]["tools"][1:] == [{"cachePoint": {"type": "default"}}]
    llm.chat(messages, system_prompt_caching=False)
    assert sent(bedrock)["system"] == [{"text": "Be kind."}]
    llm.chat(user(HELLO))
    assert "system" not in sent(bedrock)


def test_a_cache_point_of_the_users_own_is_not_doubled(bedrock):
    own = [{"text": "Be kind."}, {"cachePoint": {"type": "default", "ttl": "1h"}}]
    before = copy.deepcopy(own)
    BedrockRouter(model=THINKER, system_prompt_caching=True).chat(user(HELLO), system=own)
    assert sent(bedrock)["system"] == own == before


def test_unsupported_cache_point_is_left_out_with_one_warning(bedrock, caplog):
    llm = BedrockRouter(model=NOVA_LITE, tool_caching=True)
    for _ in range(2):
        llm.chat_with_tools([FunctionTool.from_defaults(add)], "Hello")
        assert len(sent(bedrock)["toolConfig"]["tools"]) == 1, "Nova takes none behind its tools"
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warning.startswith(f"No cachePoint is added after the tools: {NOVA_LITE} accepts no cachePoint")


def test_cache_point_is_sent_to_unknown_models():
    """They may well cache; and what is asked for is sent."""
    with ScriptedBedrock(whole_of({"text": "Hi"})) as server:
        llm = BedrockRouter("acme.brand-new-v1:0", system_prompt_caching=True, tool_caching=True, **server.arguments)
        messages = [ChatMessage(role="system", content="Be kind."), *user(HELLO)]
        llm.chat_with_tools([FunctionTool.from_defaults(add)], chat_history=messages)
    (request,) = server.requests
    assert request["system"] == [{"text": "Be kind."}, {"cachePoint": {"type": "default"}}]
    assert request["toolConfig"]["tools"][1:] == [{"cachePoint": {"type": "default"}}]


# --- how AWS is reached ---


def test_headers_are_sent_with_each_call_of_this_object_only(bedrock):
    BedrockRouter(model=HAIKU, default_headers={"x-team": "a"}).complete(HELLO)
    assert bedrock.requests()[-1].headers["x-team"] == "a"
    BedrockRouter(model=HAIKU).complete(HELLO)
    assert "x-team" not in bedrock.requests()[-1].headers


def test_an_api_key_is_sent_instead_of_a_signature(tmp_path):
    """Over HTTPS: botocore 1.44 sends no bearer token without it."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with recording(authority) as recorder:
        llm = BedrockRouter(
            model=HAIKU, api_key="bedrock-api-key", region_name="us-east-1", endpoint_url=recorder.url,
            verify=str(tmp_path / "ca.pem"),
        )  # fmt: skip
        assert llm.complete(HELLO).text == HELLO
        assert key_used(recorder) == "Bearer bedrock-api-key"


def test_arguments_of_the_connection_are_used(bedrock, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_BEDROCK_RUNTIME", "http://127.0.0.1:9")
    llm = BedrockRouter(
        model=HAIKU, endpoint_url=bedrock.endpoint_url, region_name="eu-west-1", timeout=5, max_retries=0,
        botocore_config=Config(user_agent_extra="my-application"),
    )  # fmt: skip
    llm.complete(HELLO)
    assert bedrock.requests()[-1].region == "eu-west-1"
    assert "my-application" in bedrock.requests()[-1].headers["user-agent"]


# --- who wins where several say it ---


@pytest.mark.parametrize(
    ("constructed", "call", "sent"),
    [
        ({"temperature": 0.9}, {"temperature": 0.1}, {"temperature": 0.1}),
        ({"temperature": 0.9}, {"temperature": None}, {}),
        ({"temperature": 0.9}, {"inferenceConfig": {"maxTokens": 5}}, {"temperature": 0.9, "maxTokens": 5}),
        ({"additional_kwargs": {"inferenceConfig": {"temperature": 0.5}}}, {"temperature": 0}, {"temperature": 0}),
        ({"additional_kwargs": {"temperature": 0.5}, "temperature": 0.9}, {}, {"temperature": 0.5}),
        ({"stop_sequences": ["A"]}, {"stop": ["B"]}, {"stopSequences": ["B"]}),
        ({"additional_kwargs": {"stop": ["A"]}}, {"stop_sequences": ["B"]}, {"stopSequences": ["B"]}),
    ],
)
def test_call_overrides_constructor_by_either_name(bedrock, constructed, call, sent):
    BedrockRouter(NOVA_LITE, **constructed).complete("Say good morning.", **call)
    assert bedrock.requests("Converse")[-1].request.get("inferenceConfig", {}) == sent


def test_model_request_fields_of_constructor_and_call_are_merged(bedrock):
    llm = BedrockRouter(NOVA_LITE, additional_model_request_fields={"top_k": 5, "seed": 1})
    llm.complete("Say good morning.", additional_model_request_fields={"seed": 2})
    sent = bedrock.requests("Converse")[-1].request["additionalModelRequestFields"]
    assert sent == {"top_k": 5, "seed": 2}
    assert llm.additional_model_request_fields == {"top_k": 5, "seed": 1}
