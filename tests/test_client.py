"""Test `RoutedClient` as a user of plain boto3 calls it."""

from __future__ import annotations

import copy
import json
import pickle

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, EventStreamError, NoCredentialsError, ParamValidationError
from hypothesis import given
from hypothesis import strategies as st
from independent_server import PROFILE as OTHER_PROFILE
from independent_server import ROUTER as OTHER_ROUTER
from independent_server import IndependentBedrock
from samples import ALICE, HAIKU, HELLO, NOVA_PRO, SONNET

from bedrock_routing_integrations import BedrockRoutingError, Invocation, RoutedClient, parse_target
from bedrock_routing_integrations.connections import Connection
from bedrock_routing_integrations.errors import InvalidTargetError, StreamInterruptedError
from bedrock_routing_integrations.invocation import read_invocation
from bedrock_routing_integrations.langchain import ChatBedrockRouter
from bedrock_routing_integrations.models.candidates import ResolvedTarget


def ask(prompt, **more):
    return {"messages": [{"role": "user", "content": [{"text": prompt}]}], **more}


@pytest.fixture
def client(bedrock):
    return RoutedClient(bedrock.client("bedrock-runtime"))


def test_a_boto3_user_sees_which_model_answered(client, router):
    assert client.converse(modelId=router, **ask(HELLO))["routing"]["invoked_model"] == HAIKU
    assert client.converse(modelId=router, **ask(ALICE))["routing"]["invoked_model"] == SONNET


def test_everything_else_in_the_response_is_boto3s(bedrock, client, router):
    response_with_routing = client.converse(modelId=router, **ask(HELLO))
    boto3_response = bedrock.client("bedrock-runtime").converse(modelId=router, **ask(HELLO))
    for response in (response_with_routing, boto3_response):
        response.pop("ResponseMetadata")
    routing = response_with_routing.pop("routing")
    assert response_with_routing == boto3_response
    assert json.loads(json.dumps(routing)) == routing


def test_routing_of_a_stream_is_in_its_metadata_event(bedrock, client, router):
    response = client.converse_stream(modelId=router, **ask(ALICE))
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 200
    events = list(response["stream"])
    plain = list(bedrock.client("bedrock-runtime").converse_stream(modelId=router, **ask(ALICE))["stream"])
    routing = events[-1]["metadata"].pop("routing")
    assert [list(event) for event in events] == [list(event) for event in plain]
    assert routing["invoked_model"] == SONNET
    assert routing["request_id"] == response["ResponseMetadata"]["RequestId"]
    assert routing["time_to_first_token_ms"] >= 0
    assert routing["attempts"] == 1


def test_the_callers_dictionaries_are_not_changed(client, router):
    request = ask(HELLO, inferenceConfig={"maxTokens": 50}, modelId=f"  {router}\n", system=[{"text": "Be brief."}])
    before = copy.deepcopy(request)
    client.converse(**request)
    list(client.converse_stream(**request)["stream"])
    assert request == before


def test_everything_else_is_delegated(bedrock, client):
    assert client.meta.region_name == "us-east-1"
    assert issubclass(client.exceptions.ValidationException, ClientError)
    assert client.can_paginate("converse") is False
    assert "RoutedClient" in repr(client)
    with pytest.raises(AttributeError):
        client.no_such_method()


def test_a_percent_encoded_arn_is_sent_once_encoded(client, router):
    encoded = router.replace(":", "%3A").replace("/", "%2F")
    assert client.converse(modelId=encoded, **ask(HELLO))["routing"]["requested_model_id"] == router


def test_latency_and_tier_asked_and_served(client):
    routing = client.converse(
        modelId=f"us.{NOVA_PRO}",
        **ask("Hello", performanceConfig={"latency": "optimized"}, serviceTier={"type": "flex"}),
    )["routing"]
    assert routing["latency"] == {"requested": "optimized", "served": "optimized"}
    assert routing["service_tier"] == {"requested": "flex", "served": "flex"}


# --- errors ---


def test_a_bad_target_is_refused_before_sending(bedrock, client):
    with pytest.raises(InvalidTargetError, match="did you mean 'default-prompt-router'"):
        client.converse(modelId="arn:aws:bedrock:us-east-1:123456789012:default_prompt_router/x", **ask("Hello"))
    assert bedrock.requests() == []


def test_a_missing_model_is_boto3s_error(client):
    for call in (client.converse, client.converse_stream):
        with pytest.raises(ParamValidationError, match="modelId"):
            call(**ask("Hello"))


def test_refusal_by_bedrock_is_boto3s_exception(bedrock, client, router):
    bedrock.fail("throttling", operation="Converse", rate=1.0)
    impatient = RoutedClient(bedrock.client(config=Config(retries={"total_max_attempts": 1})))
    with pytest.raises(client.exceptions.ThrottlingException):
        impatient.converse(modelId=router, **ask("Hello"))


def test_an_exception_event_is_boto3s_exception(bedrock, client, router):
    bedrock.fail("exception_event", name="throttlingException", message="Too fast.", frame=3)
    with pytest.raises(EventStreamError, match="Too fast"):
        list(client.converse_stream(modelId=router, **ask("Hello"))["stream"])


def test_no_credentials_is_boto3s_error(bedrock, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    client = RoutedClient(Connection(endpoint_url=bedrock.endpoint_url))
    with pytest.raises(NoCredentialsError):
        client.converse(modelId=HAIKU, **ask("Hello"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIA")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "later")
    assert client.converse(modelId=HAIKU, **ask("Hello"))["routing"]["invoked_model"] == HAIKU


def test_client_over_a_connection_pickles_but_not_over_boto3(bedrock, client, router):
    again = pickle.loads(pickle.dumps(RoutedClient(Connection(), base_models={router: [HAIKU]})))
    assert again.converse(modelId=router, **ask(HELLO))["routing"]["candidates"] == [HAIKU]
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(client)


# --- another Bedrock, which shares no code with ours ---


@pytest.fixture
def other():
    with IndependentBedrock() as server:
        yield server


@pytest.fixture
def arguments(other):
    return {
        "region_name": "us-east-1", "endpoint_url": other.endpoint_url,
        "aws_access_key_id": "AKIA", "aws_secret_access_key": "secret",
    }  # fmt: skip


def test_an_independent_server_gives_the_same_results(other, arguments):
    client = RoutedClient(boto3.client("bedrock-runtime", **arguments))
    whole = client.converse(modelId=OTHER_ROUTER, **ask(HELLO))
    events = list(client.converse_stream(modelId=OTHER_ROUTER, **ask(HELLO))["stream"])
    for routing in (whole["routing"], events[-1]["metadata"]["routing"]):
        assert routing["invoked_model"] == HAIKU
        assert routing["is_fallback"] is False
        assert routing["candidates"] == [HAIKU, SONNET]
        assert routing["usage"]["output"] == 160
        assert routing["latency_ms"] == 4504
        assert routing["latency"]["served"] == "standard"
    assert client.converse(modelId=OTHER_PROFILE, **ask("Hi"))["routing"]["invoked_model"] == HAIKU
    paths = [path for method, path in other.seen if method == "GET"]
    assert paths == [f"/prompt-routers/{OTHER_ROUTER}", f"/inference-profiles/{OTHER_PROFILE}"]


def test_langchain_on_the_independent_server(other, arguments):
    llm = ChatBedrockRouter(model=OTHER_ROUTER, **arguments)
    assert llm.invoke(HELLO).response_metadata["model_name"] == HAIKU
    assert llm.invoke(ALICE).response_metadata["model_name"] == SONNET
    *_, last = (chunk for chunk in llm.stream(ALICE) if "routing" in chunk.response_metadata)
    assert last.response_metadata["model_name"] == SONNET
    with pytest.raises(StreamInterruptedError) as caught:
        list(llm.stream("cut the stream"))
    assert caught.value.text == "Yousaid:cutthestream"
    with pytest.raises(ClientError, match="model identifier is invalid"):
        ChatBedrockRouter(model="amazon.nova-lite-v1:0", **arguments).invoke("Hi")


# --- reading a response ---

tokens = st.integers(0, 10**6)


@given(
    plain=tokens,
    read=tokens,
    writes=st.dictionaries(st.sampled_from(["5m", "1h"]), tokens),
    details=st.booleans(),
)
def test_usage_is_read_as_bedrock_bills_it(plain, read, writes, details):
    usage = {
        "inputTokens": plain, "outputTokens": 3, "totalTokens": plain + read + sum(writes.values()) + 3,
        "cacheReadInputTokens": read, "cacheWriteInputTokens": sum(writes.values()),
    }  # fmt: skip
    if details:
        usage["cacheDetails"] = [{"ttl": ttl, "inputTokens": count} for ttl, count in writes.items()]
    got = read_invocation({}, {"usage": usage}, ResolvedTarget(parse_target(HAIKU))).usage
    assert (got.input, got.output, got.cache_read) == (plain, 3, read)
    assert got.cache_write_5m + got.cache_write_1h == sum(writes.values())
    if details:
        assert (got.cache_write_5m, got.cache_write_1h) == (writes.get("5m", 0), writes.get("1h", 0))


@given(st.dictionaries(st.sampled_from(["trace", "usage", "metrics", "performanceConfig", "serviceTier"]), st.none()))
def test_members_that_are_absent_or_null_are_null(response):
    routing = read_invocation({}, response, ResolvedTarget(parse_target(HAIKU))).as_dict()
    assert routing["invoked_model_id"] is None
    assert routing["usage"] is None
    assert routing["latency_ms"] is None
    assert json.loads(json.dumps(routing)) == routing


def test_the_routing_entry_has_the_agreed_keys_in_their_order():
    assert list(Invocation(requested_model_id="x", target_kind="y").as_dict()) == [
        "requested_model_id", "target_kind", "invoked_model_id", "invoked_model", "is_fallback", "candidates",
        "latency", "service_tier", "usage", "cost_usd", "fallback_cost_usd", "latency_ms", "time_to_first_token_ms",
        "attempts", "request_id", "cache_points", "stop_reason", "project",
    ]  # fmt: skip


def test_every_error_of_the_package_has_one_base_class(client):
    with pytest.raises(BedrockRoutingError):
        client.converse(modelId="nonsense", **ask("Hello"))
