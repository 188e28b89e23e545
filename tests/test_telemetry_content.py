"""The text of prompts and answers in spans: on request only, and in the form of the conventions."""

from __future__ import annotations

import json

import pytest
from botocore.exceptions import ClientError
from opentelemetry.trace import StatusCode
from samples import HELLO
from telemetry_spans import TelemetryRecorder, ask

from bedrock_routing_integrations import RoutedClient
from bedrock_routing_integrations.connections import Connection
from bedrock_routing_integrations.errors import StreamInterruptedError
from bedrock_routing_integrations.observability import message_content as content
from bedrock_routing_integrations.observability.options import Telemetry

CAPTURE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
SECRET = "squeamish ossifrage"
CONTENT = {"gen_ai.system_instructions", "gen_ai.input.messages", "gen_ai.output.messages"}


@pytest.fixture
def recorder(monkeypatch):
    monkeypatch.delenv(CAPTURE, raising=False)
    return TelemetryRecorder()


def secretive(**more):
    """Return a request with the secret in every member that holds text."""
    tool = {"name": "look", "description": SECRET, "inputSchema": {"json": {"type": "object", "title": SECRET}}}
    return {
        "system": [{"text": SECRET}],
        "messages": [{"role": "user", "content": [{"text": SECRET}]}],
        "toolConfig": {"tools": [{"toolSpec": tool}]},
        "additionalModelRequestFields": {"note": SECRET},
        "requestMetadata": {"note": SECRET},
        **more,
    }


@pytest.mark.parametrize("spans", ["auto", "always"])
def test_span_has_no_content_and_no_secrets_by_default(bedrock, recorder, router, spans):
    connection = Connection(
        endpoint_url=bedrock.endpoint_url.replace("http://", "http://user:hunter2@"),
        region_name="us-east-1",
        access_key_id="AKIASECRET",
        secret_access_key="hunter2",
        session_token="hunter2",
    )
    client = RoutedClient(
        connection,
        default_headers={"x-api-key": "hunter2"},
        base_models={router: ["anthropic.claude-3-haiku-20240307-v1:0"]},
        telemetry=recorder.options(spans=spans),
    )
    with recorder.span():
        answer = client.converse(modelId=router, **secretive())["output"]["message"]["content"][0]["text"]
        list(client.converse_stream(modelId=router, **secretive())["stream"])
        bedrock.fail("cut", frame=4)
        with pytest.raises(StreamInterruptedError):
            list(client.converse_stream(modelId=router, **secretive())["stream"])
        bedrock.fail("validation", message=f"I will not answer {SECRET!r}")
        with pytest.raises(ClientError, match=SECRET):
            client.converse(modelId=router, **secretive())
    assert len(recorder.spans) == 4
    written = "".join(span.to_json() for span in recorder.spans) + str(recorder.reader.get_metrics_data())
    for hidden in (SECRET, "hunter2", "AKIA", answer[:20]):
        assert hidden not in written


@pytest.mark.parametrize("operation", ["converse", "converse_stream"])
def test_content_has_the_form_of_the_conventions(bedrock, recorder, router, operation):
    client = RoutedClient(bedrock.client("bedrock-runtime"), telemetry=recorder.options(spans="always", content=True))
    response = getattr(client, operation)(modelId=router, system=[{"text": "Be brief."}], **ask(HELLO))
    text = "".join(
        event["contentBlockDelta"]["delta"]["text"]
        for event in response.get("stream", ())
        if "contentBlockDelta" in event
    )
    text = text or response["output"]["message"]["content"][0]["text"]
    content = {name: json.loads(value) for name, value in recorder.only.attributes.items() if name in CONTENT}
    assert content == {
        "gen_ai.system_instructions": [{"type": "text", "content": "Be brief."}],
        "gen_ai.input.messages": [{"role": "user", "parts": [{"type": "text", "content": HELLO}]}],
        "gen_ai.output.messages": [
            {"role": "assistant", "parts": [{"type": "text", "content": text}], "finish_reason": "stop"}
        ],
    }


def test_content_of_interrupted_stream_is_recorded(bedrock, recorder, router):
    client = RoutedClient(bedrock.client("bedrock-runtime"), telemetry=recorder.options(spans="always", content=True))
    bedrock.fail("cut", frame=4)
    with pytest.raises(StreamInterruptedError) as caught:
        list(client.converse_stream(modelId=router, **ask(HELLO))["stream"])
    (message,) = json.loads(recorder.only.attributes["gen_ai.output.messages"])
    assert message["parts"] == [{"type": "text", "content": caught.value.text}]
    assert message["finish_reason"] == "error"
    assert recorder.only.status.status_code is StatusCode.ERROR


@pytest.mark.parametrize(
    ("value", "asked"),
    [("SPAN_ONLY", True), (" span_and_event ", True), ("EVENT_ONLY", False), ("NO_CONTENT", False), ("true", False)],
)
def test_the_standard_variable_asks_where_it_names_spans(bedrock, recorder, router, monkeypatch, value, asked):
    client = RoutedClient(bedrock.client("bedrock-runtime"), telemetry=recorder.options(spans="always"))
    monkeypatch.setenv(CAPTURE, value)
    client.converse(modelId=router, **secretive())
    assert (recorder.only.attributes.keys() >= CONTENT) is asked
    assert Telemetry(content=False).records_content is False
    assert Telemetry(content=True).records_content is True


def parts(*blocks):
    return json.loads(
        content.of_request({"messages": [{"role": "user", "content": list(blocks)}]})["gen_ai.input.messages"]
    )[0]["parts"]


def test_each_kind_of_block_is_written():
    assert parts(
        {"text": "Hi"},
        {"cachePoint": {"type": "default"}},
        {"toolUse": {"toolUseId": "t1", "name": "look", "input": {"where": "there"}}},
        {"toolResult": {"toolUseId": "t1", "content": [{"text": "rainy"}]}},
        {"toolResult": {"toolUseId": "t2", "content": [{"json": {"sky": "grey"}}]}},
        {"toolResult": {"toolUseId": "t3", "content": [{"text": "a"}, {"json": {"b": 1}}]}},
        {"reasoningContent": {"reasoningText": {"text": "Hm.", "signature": "s"}}},
        {"reasoningContent": {"redactedContent": b"x"}},
        {"guardContent": {"text": {"text": "Guarded"}}},
        {"guardContent": {"image": {"format": "png", "source": {"bytes": b"123"}}}},
        {"citationsContent": {"content": [{"text": "Cited"}], "citations": []}},
        {"image": {"format": "png", "source": {"bytes": b"123"}}},
        {"document": {"format": "pdf", "name": "report", "source": {"s3Location": {"uri": "s3://b/report.pdf"}}}},
        {"somethingNew": {"of": "later"}},
    ) == [
        {"type": "text", "content": "Hi"},
        {"type": "tool_call", "id": "t1", "name": "look", "arguments": {"where": "there"}},
        {"type": "tool_call_response", "id": "t1", "response": "rainy"},
        {"type": "tool_call_response", "id": "t2", "response": {"sky": "grey"}},
        {"type": "tool_call_response", "id": "t3", "response": [{"type": "text", "content": "a"}, {"b": 1}]},
        {"type": "reasoning", "content": "Hm."},
        {"type": "reasoning", "content": ""},
        {"type": "text", "content": "Guarded"},
        {"type": "image"},
        {"type": "text", "content": "Cited"},
        {"type": "image", "format": "png", "size": 3},
        {"type": "uri", "modality": "document", "uri": "s3://b/report.pdf", "format": "pdf", "name": "report"},
        {"type": "somethingNew"},
    ]


def test_text_outside_unicode_can_be_exported():
    written = content.of_request(ask("half an emoji: \ud83d, and Grüße"))["gen_ai.input.messages"]
    assert "Grüße" in written
    assert written.encode()
    assert json.loads(written)[0]["parts"][0]["content"] == "half an emoji: \ud83d, and Grüße"


@pytest.mark.parametrize(
    "broken", [{"messages": "Hi"}, {"messages": [None]}, {"system": 3}, {"inferenceConfig": "hot"}]
)
def test_a_request_that_boto3_refuses_is_refused_by_boto3(bedrock, recorder, router, broken):
    plain = RoutedClient(bedrock.client("bedrock-runtime"), telemetry="off")
    client = RoutedClient(bedrock.client("bedrock-runtime"), telemetry=recorder.options(spans="always", content=True))
    request = {"modelId": router, **ask("Hi"), **broken}
    with pytest.raises(Exception) as without:  # noqa: PT011 - whatever it is
        plain.converse(**request)
    with pytest.raises(type(without.value)):
        client.converse(**request)
