"""Test `count_prompt_tokens`: Bedrock's own count if available, else an estimate corrected by earlier answers."""

from __future__ import annotations

import json

import boto3
import pytest
from botocore.config import Config
from counting_bedrock import CountingBedrock

from bedrock_routing_integrations import RoutedClient
from bedrock_routing_integrations.errors import InvalidRequestError

CLAUDE = "anthropic.claude-sonnet-4-5-20250929-v1:0"
NOVA = "us.amazon.nova-lite-v1:0"
ROUTER = "arn:aws:bedrock:us-east-1:123456789012:prompt-router/abcdefgh"
SESSION = boto3.Session()
SYSTEM = [{"text": "You look after bees. " * 40}]
SCHEMA = {"type": "object", "properties": {"hive": {"type": "string"}}}
TOOLS = {"tools": [{"toolSpec": {"name": "look", "description": "Looks." * 30, "inputSchema": {"json": SCHEMA}}}]}


@pytest.fixture
def server():
    with CountingBedrock() as server:
        yield server


def client_of(server, **more):
    arguments = {name: value for name, value in server.arguments.items() if name != "max_retries"}
    config = Config(retries={"total_max_attempts": 1})
    return RoutedClient(SESSION.client("bedrock-runtime", config=config, **arguments), **more)


def conversation(turns, words):
    messages = []
    for number in range(turns):
        messages.append({"role": "user", "content": [{"text": f"Question {number}: " + words}]})
        messages.append({"role": "assistant", "content": [{"text": f"Answer {number}: " + words * 2}]})
    return messages[:-1]


@pytest.mark.sample(8)
@pytest.mark.parametrize("cache", ["auto", "off"])
@pytest.mark.parametrize(
    "words", ["how are the bees? ", "the hive is full of honey, and so on. " * 30, "蜂は元気ですか。" * 20]
)
@pytest.mark.parametrize("per_token", [2.5, 4.0, 5.5])
def test_estimate_is_within_five_percent_after_three_answers(server, cache, words, per_token):
    server.per_token, server.overhead = per_token, 340
    client = client_of(server, cache=cache)
    for turns in (1, 2, 3):
        client.converse(modelId=NOVA, messages=conversation(turns, words), system=SYSTEM, toolConfig=TOOLS)
    request = {"modelId": NOVA, "messages": conversation(4, words), "system": SYSTEM, "toolConfig": TOOLS}
    estimated = client.count_prompt_tokens(**request)
    assert estimated == pytest.approx(server.count(request), rel=0.05)


def test_estimate_without_any_answer_is_of_the_right_order(server):
    client = client_of(server)
    estimated = client.count_prompt_tokens(modelId=NOVA, messages=conversation(1, "how are the bees? " * 100))
    assert 300 < estimated < 700


def test_count_is_bedrocks_own_if_available(server):
    server.counts = 1234
    client = client_of(server)
    for model in (CLAUDE, f"us.{CLAUDE}"):
        request = {"messages": conversation(1, "x"), "system": SYSTEM, "toolConfig": TOOLS}
        assert client.count_prompt_tokens(modelId=model, **request) == 1234
        model_id, body = server.counted[-1]
        assert model_id == CLAUDE, "profiles are refused"
        assert body == {"input": {"converse": request}}


def test_count_of_router_is_largest_of_its_models(server):
    other = "anthropic.claude-haiku-4-5-20251001-v1:0"
    server.counts = {CLAUDE: 100, other: 120}
    client = client_of(server, base_models={ROUTER: [CLAUDE, other]})
    assert client.count_prompt_tokens(modelId=ROUTER, messages=conversation(1, "x")) == 120


def test_count_refused_for_good_is_estimated(server):
    client = client_of(server)
    for _ in range(3):
        assert client.count_prompt_tokens(modelId=CLAUDE, messages=conversation(1, "how are the bees?")) > 0
    assert len(server.counted) == 1


def test_count_of_models_without_count_tokens_sends_nothing(server):
    client_of(server).count_prompt_tokens(modelId=NOVA, messages=conversation(1, "x"))
    assert server.counted == []


def test_count_tokens_of_boto3_is_still_available(server):
    server.counts = 7
    given = {"converse": {"messages": conversation(1, "x")}}
    assert client_of(server).count_tokens(modelId=CLAUDE, input=given)["inputTokens"] == 7


@pytest.mark.parametrize("request_", [{}, {"modelId": NOVA, "messages": 5}])
def test_count_of_invalid_request_is_refused(server, request_):
    with pytest.raises(InvalidRequestError, match=r"modelId is missing|not a valid Converse request"):
        client_of(server).count_prompt_tokens(**request_)


def test_counts_hold_no_text(server):
    client = client_of(server)
    client.converse(modelId=NOVA, messages=conversation(1, "a secret word "))
    kept = json.dumps(
        [list(map(list, counted)) for counted in client._planner._memory.token_counts._prompts._entries.values()]
    )
    assert "secret" not in kept


def test_count_sends_headers_of_the_client(server):
    server.counts = 5
    client = client_of(server, default_headers={"x-tenant": "a"})
    client.count_prompt_tokens(modelId=CLAUDE, messages=conversation(1, "x"))
    assert server.headers[-1]["x-tenant"] == "a"


def test_count_refused_for_one_request_is_tried_again(server):
    client = client_of(server)
    server.refusal = "The first message must use the user role."
    client.count_prompt_tokens(modelId=CLAUDE, messages=conversation(1, "x"))
    server.counts = 7
    assert client.count_prompt_tokens(modelId=CLAUDE, messages=conversation(1, "x")) == 7


@pytest.mark.parametrize("per_token", [2.0, 3.0, 6.0])
def test_estimate_of_short_prompts_is_within_five_percent(server, per_token):
    server.per_token = per_token
    client = client_of(server)
    for turns in (1, 2, 3):
        client.converse(modelId=NOVA, messages=conversation(turns, "how are the bees doing today in the garden? "))
    request = {"modelId": NOVA, "messages": conversation(4, "how are the bees doing today in the garden? ")}
    assert client.count_prompt_tokens(**request) == pytest.approx(server.count(request), rel=0.05)
