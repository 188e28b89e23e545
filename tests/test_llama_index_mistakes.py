"""Test beginners' mistakes: each is refused with advice before a request is sent."""

from __future__ import annotations

import logging

import boto3
import pytest
from llama_index.core.base.llms.types import ChatMessage
from samples import HAIKU, HELLO

from bedrock_routing_integrations import BedrockRoutingError, RoutedClient
from bedrock_routing_integrations.errors import InvalidRequestError
from bedrock_routing_integrations.llama_index import BedrockRouter

USER = ChatMessage(role="user", content=HELLO)


def greet():
    """Say hello."""


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: BedrockRouter(HAIKU, 0.3, 100), "Only model is taken by position"),
        (lambda: BedrockRouter(HAIKU, temprature=0.3), "did you mean 'temperature'?"),
        (lambda: BedrockRouter(HAIKU, top_k=3), r"goes into additional_model_request_fields=\{'top_k': …\}"),
        (lambda: BedrockRouter(HAIKU, async_client=object()), "takes no async_client: asynchronous calls need none"),
        (lambda: BedrockRouter(HAIKU, api_version="2023"), "takes no api_version"),
        (
            lambda: BedrockRouter(HAIKU, aws_secret_access_key=1234567),
            "aws_secret_access_key is not valid: it must be a string, and is a int",
        ),
        (lambda: BedrockRouter(HAIKU, default_headers={"x-key": 1234567}), "default_headers must be a mapping"),
        (lambda: BedrockRouter(HAIKU, client="bedrock-runtime"), "client is not valid: it is a str. Pass boto3.client"),
        (
            lambda: BedrockRouter(HAIKU, client=boto3.client("bedrock", "us-east-1")),
            "client is not valid: it is a client for 'bedrock'. Pass boto3.client",
        ),
        (lambda: BedrockRouter(HAIKU, cache="atuo"), "cache='atuo' is not valid. Use 'auto', 'off' or a CachePolicy"),
        (lambda: BedrockRouter(HAIKU, cache={"tll": "1h"}), "CachePolicy has no 'tll'. Use sections, ttl"),
        (
            lambda: BedrockRouter(
                HAIKU, client=RoutedClient(boto3.client("bedrock-runtime", "us-east-1")), base_models=[HAIKU]
            ),
            "default_headers, cache, prices, telemetry and mid_conversation_system to that one",
        ),
    ],
)
def test_constructing(make, expected):
    with pytest.raises(InvalidRequestError, match=expected) as raised:
        make()
    assert "1234567" not in str(raised.value)


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda llm: llm.chat("Hello"), r"messages must be a list of ChatMessage, and is a str\. .* complete\(\)"),
        (lambda llm: llm.chat(USER), "messages must be a list of ChatMessage, and is a ChatMessage"),
        (
            lambda llm: llm.chat([{"role": "user", "content": "Hello"}]),
            r"messages\[0\] is a builtins\.dict\. It must be a LlamaIndex ChatMessage",
        ),
        (lambda llm: llm.complete(USER), r"prompt must be a str, and is a ChatMessage\. .* chat\(\)"),
        (lambda llm: llm.complete("  "), "nothing to send"),
        (
            lambda llm: llm.chat_with_tools([greet], "Hello"),
            r"tools has a function, 'greet', .*from_defaults\(function\)",
        ),
        (lambda llm: llm.complete(HELLO, stream=True), "has no argument 'stream'; a call takes"),
        (
            lambda llm: llm.complete(HELLO, cache="off"),
            "'cache' is not an argument of a call. Set it where the LLM is made",
        ),
    ],
)
def test_calling(bedrock, call, expected):
    with pytest.raises(InvalidRequestError, match=expected):
        call(BedrockRouter(HAIKU))
    assert bedrock.requests() == []


def test_wrong_value_is_shown_unless_secret():
    with pytest.raises(ValueError, match=r"temperature[\s\S]*input_value=2"):
        BedrockRouter(HAIKU, temperature=2)


def test_tools_may_be_written_as_converse_has_them(bedrock):
    spec = {"toolSpec": {"name": "greet", "inputSchema": {"json": {"type": "object"}}}}
    BedrockRouter(HAIKU).chat([USER], tools=[spec])
    assert bedrock.requests("Converse")[-1].request["toolConfig"] == {"tools": [spec]}


def test_metadata_without_look_up_gives_the_reason(bedrock, router, caplog):
    bedrock.fail("access_denied", operation="GetPromptRouter", rate=1.0)
    with caplog.at_level(logging.WARNING, "bedrock_routing_integrations"):
        assert BedrockRouter(router).metadata.context_window == 3900
    warnings = [record.message for record in caplog.records if "context window" in record.message]
    assert len(warnings) == 1
    assert "the look-up failed: " in warnings[0]
    assert "context_window=" in warnings[0]


def test_metadata_of_invalid_target_does_not_raise():
    llm = BedrockRouter(HAIKU)
    llm.model = "nonsense model"
    assert llm.metadata.model_name == "nonsense model"
    with pytest.raises(BedrockRoutingError, match="nonsense"):
        llm.complete(HELLO)


def test_looking_up_beforehand_spares_metadata_the_wait(bedrock, router):
    llm = BedrockRouter(router)
    assert bedrock.requests() == []
    assert llm.resolved() is llm
    assert [entry.operation for entry in bedrock.requests()] == ["GetPromptRouter"]
    assert llm.metadata.context_window == 200_000
    assert len(bedrock.requests()) == 1
