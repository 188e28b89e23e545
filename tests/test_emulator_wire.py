"""Test the emulator's wire protocol below boto3: paths, signatures, validation, statuses, frames."""

import http.client
import json
import struct
import zlib
from urllib.parse import quote, urlsplit

import pytest
from botocore.eventstream import EventStreamBuffer

from bedrock_routing_integrations.emulator import BedrockEmulator

LITE = "amazon.nova-lite-v1:0"
ROUTER = "arn:aws:bedrock:us-east-1:123456789012:default-prompt-router/anthropic.claude:1"
SIGNED = (
    "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260101/us-west-2/bedrock/aws4_request, "
    "SignedHeaders=host;x-amz-date, Signature=00"
)
HELLO = {"messages": [{"role": "user", "content": [{"text": "hello"}]}]}


@pytest.fixture
def bedrock():
    with BedrockEmulator() as emulator:
        yield emulator


@pytest.fixture
def call(bedrock):
    url = urlsplit(bedrock.endpoint_url)
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=10)

    def send(method, path, document=None, **headers):
        body = None if document is None else document if isinstance(document, bytes) else json.dumps(document)
        connection.request(method, path, body, {"Authorization": SIGNED, **headers})
        answer = connection.getresponse()
        return answer, answer.read()

    yield send
    connection.close()


@pytest.mark.parametrize("encode", [quote, lambda text: quote(text, safe=""), str])
def test_ids_are_taken_encoded_and_raw(bedrock, call, encode):
    answer, body = call("POST", f"/model/{encode(ROUTER)}/converse", HELLO)
    assert answer.status == 200
    assert "us.anthropic" in json.loads(body)["trace"]["promptRouter"]["invokedModelId"]
    assert bedrock.journal[-1].request["modelId"] == ROUTER
    answer, body = call("GET", f"/prompt-routers/{encode(ROUTER)}")
    assert json.loads(body)["promptRouterArn"] == ROUTER


def test_a_request_needs_a_signature_or_a_bearer_token(bedrock, call):
    path = f"/model/{LITE}/converse"
    answer, body = call("POST", path, HELLO, Authorization="")
    assert answer.status == 403
    assert answer.headers["x-amzn-errortype"] == "MissingAuthenticationTokenException"
    assert "message" in json.loads(body)
    assert call("POST", path, HELLO, Authorization="Basic eDp5")[0].status == 403
    assert call("POST", path, HELLO, Authorization="Bearer bedrock-api-key-1")[0].status == 200
    assert [entry.authorization for entry in bedrock.journal] == ["", "other", "bearer"]
    assert all("authorization" not in entry.headers for entry in bedrock.journal)


def test_the_region_is_that_of_the_signature(bedrock, call):
    _, body = call("GET", "/prompt-routers")
    arns = [router["promptRouterArn"] for router in json.loads(body)["promptRouterSummaries"]]
    assert {arn.split(":")[3] for arn in arns} == {"us-west-2"}
    assert bedrock.journal[-1].region == "us-west-2"


def test_every_answer_has_a_request_id(bedrock, call):
    ids = [call("POST", f"/model/{LITE}/converse", HELLO)[0].headers["x-amzn-requestid"] for _ in range(2)]
    ids.append(call("POST", "/model/nothing/converse", HELLO)[0].headers["x-amzn-requestid"])
    assert len(set(ids)) == 3
    assert ids == [entry.request_id for entry in bedrock.journal]


def refused(call, document, **members):
    answer, body = call("POST", f"/model/{LITE}/converse", document if not members else {**HELLO, **members})
    assert answer.headers["x-amzn-errortype"] == "ValidationException"
    assert answer.status == 400
    return json.loads(body)["message"]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (
            {"inferenceConfig": {"temperature": 1.5}},
            "'inferenceConfig.temperature' failed to satisfy constraint: Member must have value less",
        ),
        ({"inferenceConfig": {"maxTokens": 0}}, "greater than or equal to 1"),
        ({"inferenceConfig": {"maxTokens": "9"}}, "can not be converted to an Integer"),
        ({"inferenceConfig": {"maxTokens": 1.5}}, "can not be converted to an Integer"),
        ({"inferenceConfig": {"maxTokens": True}}, "can not be converted to an Integer"),
        ({"inferenceConfig": {"topK": 3}}, "Unknown member 'topK'"),
        ({"inferenceConfig": []}, "can not be converted to a structure"),
        ({"wrong": 1}, "Unknown member 'wrong'"),
        ({"modelId": LITE}, "Unknown member 'modelId'"),
        ({"messages": {}}, "can not be converted to a list"),
        ({"messages": [{"role": "robot", "content": []}]}, "enum value set: [user, assistant, system]"),
        (
            {"messages": [{"content": []}]},
            "'messages.1.member.role' failed to satisfy constraint: Member must not be null",
        ),
        (
            {"messages": [{"role": "user", "content": [{"text": "a", "cachePoint": {"type": "default"}}]}]},
            "exactly one member",
        ),
        ({"messages": [{"role": "user", "content": [{}]}]}, "exactly one member"),
        (
            {"messages": [{"role": "user", "content": [{"image": {"format": "png", "source": {"bytes": "?"}}}]}]},
            "base64",
        ),
        (
            {"messages": [{"role": "user", "content": [{"image": {"format": "png", "source": {"bytes": ""}}}]}]},
            "length greater than or equal to 1",
        ),
        (
            {"toolConfig": {"tools": []}},
            "'toolConfig.tools' failed to satisfy constraint: Member must have length greater",
        ),
        (
            {"toolConfig": {"tools": [{"toolSpec": {"name": "a b", "inputSchema": {"json": {}}}}]}},
            "regular expression pattern: [a-zA-Z0-9_-]+",
        ),
        ({"serviceTier": {"type": "gold"}}, "enum value set"),
        ({"requestMetadata": {}}, "length greater than or equal to 1"),
        ({"system": [{"text": ""}]}, "length greater than or equal to 1"),
        (
            {"additionalModelRequestFields": {"anything": [1, {"goes": None}]}, "wrong": 1},
            "1 validation error detected",
        ),
    ],
)
def test_request_outside_the_service_model_is_refused(call, members, message):
    assert message in refused(call, None, **members)


def test_every_violation_is_reported(call):
    message = refused(call, {"messages": [{"role": "x", "content": [{}]}], "inferenceConfig": {"topP": -1}})
    assert message.startswith("3 validation errors detected: ")


def test_null_means_absent(call):
    answer, _ = call("POST", f"/model/{LITE}/converse", {**HELLO, "system": None, "toolConfig": None})
    assert answer.status == 200


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"messages": NaN}', b"\xff"])
def test_body_other_than_a_json_object_is_refused(call, body):
    answer, _ = call("POST", f"/model/{LITE}/converse", body)
    assert (answer.status, answer.headers["x-amzn-errortype"]) == (400, "SerializationException")


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 50_000 + b"]" * 50_000,
        b'{"messages": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
        b'{"additionalModelRequestFields": ' + b'{"a":' * 50_000 + b"1" + b"}" * 50_001,
    ],
    ids=["alone", "where something else belongs", "where anything may be"],
)
def test_a_body_that_is_nested_too_deeply_is_refused(call, body):
    answer, response_body = call("POST", f"/model/{LITE}/converse", body)
    assert (answer.status, answer.headers["x-amzn-errortype"]) == (400, "SerializationException")
    assert "too deeply" in json.loads(response_body)["message"]


@pytest.mark.parametrize("levels", range(100, 1_000, 50))
def test_tool_schema_of_any_depth_gets_status_200_or_400(call, levels):
    schema = b'{"type":"object","required":["a"],"properties":{"a":' * levels + b"{}" + b"}}" * levels
    body = (
        b'{"messages":[{"role":"user","content":[{"text":"hello"}]}],"toolConfig":{"toolChoice":{"any":{}},'
        b'"tools":[{"toolSpec":{"name":"t","inputSchema":{"json":' + schema + b"}}}]}}"
    )
    answer, _ = call("POST", f"/model/{LITE}/converse", body)
    assert answer.status in {200, 400}


def test_body_with_wrong_content_encoding_is_refused(call):
    answer, body = call("POST", f"/model/{LITE}/converse", b"no gzip", **{"Content-Encoding": "gzip"})
    assert (answer.status, answer.headers["x-amzn-errortype"]) == (400, "SerializationException")
    assert json.loads(body)["message"] == ("The request body cannot be read: Can not decode content-encoding: gzip")


def test_query_parameters_are_checked(call):
    assert call("GET", "/prompt-routers?maxResults=2")[0].status == 200
    for query in ("maxResults=0", "maxResults=many", "type=any"):
        answer, _ = call("GET", f"/prompt-routers?{query}")
        assert answer.headers["x-amzn-errortype"] == "ValidationException"


def test_unknown_paths_and_operations_are_refused(bedrock, call):
    answer, _ = call("GET", "/nowhere")
    assert (answer.status, answer.headers["x-amzn-errortype"]) == (404, "UnknownOperationException")
    answer, body = call("GET", "/guardrails")
    assert (answer.status, json.loads(body)["message"]) == (501, "The emulator does not implement ListGuardrails")
    assert bedrock.journal[-1].operation == "ListGuardrails"


def test_control_plane_ids_must_match_their_pattern(call):
    wrong = "arn:aws:bedrock:us-east-1:123456789012:promptrouter/abc"
    answer, body = call("GET", f"/prompt-routers/{quote(wrong, safe='')}")
    assert answer.status == 400
    assert "'promptRouterArn' failed to satisfy constraint" in json.loads(body)["message"]


# --- frames


def frames_of(data):
    """Split a stream by hand, checking both checksums."""
    while data:
        total, headers_length, prelude_crc = struct.unpack("!III", data[:12])
        assert zlib.crc32(data[:8]) == prelude_crc
        assert struct.unpack("!I", data[total - 4 : total])[0] == zlib.crc32(data[: total - 4])
        yield data[12 : 12 + headers_length], json.loads(data[12 + headers_length : total - 4])
        data = data[total:]


def test_frames_have_lengths_checksums_and_padding(call):
    answer, data = call("POST", f"/model/{LITE}/converse-stream", HELLO)
    assert answer.headers["transfer-encoding"] == "chunked"
    payloads = [payload for _, payload in frames_of(data)]
    assert all(isinstance(payload["p"], str) and payload["p"] for payload in payloads)
    assert len({payload["p"] for payload in payloads}) > 1
    buffer = EventStreamBuffer()
    buffer.add_data(data)
    headers = [event.headers for event in buffer]
    assert {header[":message-type"] for header in headers} == {"event"}
    assert {header[":content-type"] for header in headers} == {"application/json"}
    assert headers[-1][":event-type"] == "metadata"


def test_the_same_request_gets_the_same_stream(call):
    first, second = (call("POST", f"/model/{LITE}/converse-stream", HELLO)[1] for _ in range(2))
    assert first == second


def test_an_exception_frame_names_its_type(bedrock, call):
    bedrock.fail("exception_event", name="throttlingException", message="Slow down", frame=1)
    _, data = call("POST", f"/model/{LITE}/converse-stream", HELLO)
    buffer = EventStreamBuffer()
    buffer.add_data(data)
    last = list(buffer)[-1]
    assert last.headers[":message-type"] == "exception"
    assert last.headers[":exception-type"] == "throttlingException"
    assert json.loads(last.payload) == {"message": "Slow down"}
