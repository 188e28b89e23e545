"""Test streams through `RoutedClient`, whole and broken, over HTTP."""

from __future__ import annotations

import base64
import contextlib
import copy
import gc
import inspect
import json
import pickle
import struct
import threading
import time
import warnings
import zlib
from http.server import BaseHTTPRequestHandler, HTTPServer

import boto3
import botocore.session
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, EventStreamError
from botocore.validate import ParamValidator

from bedrock_routing_integrations import BedrockRoutingError, RoutedClient
from bedrock_routing_integrations.emulator import BedrockEmulator
from bedrock_routing_integrations.errors import StreamInterruptedError

PROMPT = [{"role": "user", "content": [{"text": "Describe the purpose of a 'hello world' program in one line."}]}]
TOOLS = {
    "tools": [
        {
            "toolSpec": {
                "name": "look_up_order",
                "description": "Looks up an order.",
                "inputSchema": {
                    "json": {
                        "type": "object",
                        "properties": {"order_number": {"type": "string"}, "customer": {"type": "string"}},
                        "required": ["order_number", "customer"],
                    }
                },
            }
        }
    ],
    "toolChoice": {"any": {}},
}
ORDER = [{"role": "user", "content": [{"text": "Where is order 12345 of customer Jane Doe?"}]}]
REQUESTS = {"text": {"messages": PROMPT}, "tool": {"messages": ORDER, "toolConfig": TOOLS}}


@pytest.fixture(scope="module")
def _emulator():
    with BedrockEmulator() as emulator:
        yield emulator


@pytest.fixture
def server(_emulator):
    _emulator.clear_journal()
    yield _emulator
    _emulator.clear_faults()


@pytest.fixture
def ask(server):
    client = RoutedClient(server.client(config=Config(read_timeout=5, retries={"total_max_attempts": 1})))

    def ask(kind="text", **more):
        request = {"modelId": server.default_router("anthropic.claude:1"), **REQUESTS[kind], **more}
        return client.converse_stream(**request)["stream"]

    return ask


def read(stream):
    """Return the events of a stream, and the error that ended it."""
    events = []
    try:
        for event in stream:
            events.append(event)
    except Exception as error:
        return events, error
    else:
        return events, None
    finally:
        stream.close()


def plain(events):
    """Return events without "routing" and without values that differ from call to call."""
    return [
        {"metadata": {k: v for k, v in event["metadata"].items() if k not in ("routing", "metrics")}}
        if "metadata" in event
        else event
        for event in events
    ]


def text_of(events):
    return "".join(
        event["contentBlockDelta"]["delta"].get("text", "") for event in events if "contentBlockDelta" in event
    )


def arguments_of(events):
    return "".join(
        event["contentBlockDelta"]["delta"].get("toolUse", {}).get("input", "")
        for event in events
        if "contentBlockDelta" in event
    )


def assert_partial(partial, arrived):
    """Check that `partial` holds exactly what arrived."""
    message = partial["output"]["message"]
    assert message["role"] == "assistant"
    assert "".join(block.get("text", "") for block in message["content"]) == text_of(arrived)
    calls = [block["toolUse"] for block in message["content"] if "toolUse" in block]
    started = [e["contentBlockStart"]["start"]["toolUse"] for e in arrived if "contentBlockStart" in e]
    assert [(call["toolUseId"], call["name"]) for call in calls] == [(s["toolUseId"], s["name"]) for s in started]
    for call in calls:
        arguments = call.get("input", "")
        if isinstance(arguments, str):
            assert arguments == arguments_of(arrived)
        else:
            assert arguments == json.loads(arguments_of(arrived))
    stopped = [event["messageStop"] for event in arrived if "messageStop" in event]
    assert partial.get("stopReason") == (stopped[0]["stopReason"] if stopped else None)
    assert_shape(message)


def assert_shape(message):
    """Check with botocore that the message has the members and types of Converse, so that it can be sent back."""
    shape = botocore.session.Session().get_service_model("bedrock-runtime").shape_for("Message")
    report = ParamValidator().validate(message, shape)
    assert not report.has_errors(), report.generate_report()


# Whole


@pytest.mark.parametrize("kind", REQUESTS)
def test_a_whole_stream_is_boto3s_with_one_key_more(server, ask, kind):
    target = server.default_router("anthropic.claude:1")
    raw = list(server.client().converse_stream(modelId=target, **REQUESTS[kind])["stream"])
    routed_events = list(ask(kind))
    assert len(routed_events) > 3
    *before, last = routed_events
    assert not any("routing" in json.dumps(event) for event in before)
    assert last["metadata"]["routing"]["invoked_model"] is not None
    assert last["metadata"]["routing"]["requested_model_id"] == target
    json.dumps(last["metadata"]["routing"])

    def comparable(events):
        return json.loads(
            json.dumps(plain(events)), object_hook=lambda d: {**d, "toolUseId": "x"} if "toolUseId" in d else d
        )

    assert comparable(routed_events) == comparable(raw)


def test_the_response_around_the_stream_is_boto3s(server):
    response = RoutedClient(server.client()).converse_stream(modelId=server.default_router(), messages=PROMPT)
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 200
    *_, last = response["stream"]
    assert last["metadata"]["routing"]["request_id"] == response["ResponseMetadata"]["RequestId"]
    assert last["metadata"]["routing"]["attempts"] == 1


def test_the_time_to_the_first_token_is_measured(server, ask):
    server.fail("slow_first_byte", operation="ConverseStream", seconds=0.2)
    *_, last = ask()
    assert 200 <= last["metadata"]["routing"]["time_to_first_token_ms"] < 2000


@pytest.mark.parametrize("kind", REQUESTS)
@pytest.mark.parametrize("streaming", [True, False])
def test_the_callers_request_is_never_changed(server, kind, streaming):
    request = {
        "modelId": f"  {server.default_router()}\n",
        **REQUESTS[kind],
        "system": [{"text": "Be brief."}],
        "inferenceConfig": {"maxTokens": 50},
        "performanceConfig": {"latency": "standard"},
        "requestMetadata": {"team": "x"},
    }
    before = copy.deepcopy(request)
    client = RoutedClient(server.client())
    if streaming:
        list(client.converse_stream(**request)["stream"])
    else:
        client.converse(**request)
    assert request == before


def test_iterating_twice_goes_on_where_the_first_time_stopped(ask):
    whole = plain(list(ask()))
    stream = ask()
    first = []
    for event in stream:
        first.append(event)
        if len(first) == 3:
            break
    assert plain([*first, *stream]) == whole
    assert list(stream) == []


def test_events_with_routing_are_not_shared_between_streams(ask):
    events = list(ask())
    events[-1]["metadata"]["routing"]["usage"]["input"] = -1
    assert list(ask())[-1]["metadata"]["routing"]["usage"]["input"] > 0


def test_two_streams_of_one_client_do_not_mix(server, ask):
    one, two = ask("text"), ask("tool")
    pairs = list(zip(one, two, strict=False))
    rest_one, rest_two = list(one), list(two)
    assert text_of([a for a, _ in pairs] + rest_one)
    assert arguments_of([b for _, b in pairs] + rest_two)
    assert not arguments_of([a for a, _ in pairs] + rest_one)


# Broken: a cut stream raises, with what had arrived


def whole(ask, kind):
    return list(ask(kind))


def delivered(frames):
    """Return how many events of the first `frames` reach the caller: none before there is content."""
    return frames if frames > 1 else 0


@pytest.mark.sample(1)
@pytest.mark.parametrize("abrupt", [False, True], ids=["ended", "dropped"])
@pytest.mark.parametrize("kind", REQUESTS)
def test_stream_cut_after_any_frame_is_interrupted(server, ask, kind, abrupt):
    complete = whole(ask, kind)
    for frame in range(len(complete) - 1):  # after messageStop the answer is whole
        server.fail("cut", frame=frame, abrupt=abrupt)
        events, error = read(ask(kind))
        assert isinstance(error, StreamInterruptedError), f"frame {frame}: {error!r}"
        assert isinstance(error, BedrockRoutingError)
        assert len(events) <= frame
        if not abrupt:  # a connection that is dropped may take down what was still in the socket
            assert len(events) == delivered(frame)
        assert not any("metadata" in event for event in events)
        assert_partial(error.partial, events)
        assert error.text == text_of(events)
        assert "partial" in str(error)


def test_stream_without_metadata_is_a_whole_answer_of_unknown_cost(server, ask, caplog):
    """Gateways that translate other APIs leave the metadata event out."""
    complete = whole(ask, "text")
    for _ in range(2):
        server.fail("cut", frame=len(complete) - 1)
        events, error = read(ask())
        assert error is None
        assert text_of(events) == text_of(complete)
        routing = events[-1]["metadata"]["routing"]
        assert (routing["usage"], routing["cost_usd"], routing["stop_reason"]) == (None, None, "end_turn")
    warnings = [record for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 1
    assert "metadata" in warnings[0].getMessage()


def test_connection_closed_after_the_last_frame_is_a_normal_end(server, ask):
    complete = whole(ask, "text")
    server.fail("cut", frame=len(complete))
    events, error = read(ask())
    assert error is None
    assert len(events) == len(complete)


def test_connection_dropped_after_the_last_frame_never_corrupts_the_answer(server, ask):
    complete = whole(ask, "text")
    server.fail("cut", frame=len(complete), abrupt=True)
    events, error = read(ask())
    if error is not None:  # the end was lost with the connection
        assert isinstance(error, StreamInterruptedError)
        assert len(events) < len(complete)
    else:
        assert len(events) == len(complete)


@pytest.mark.sample(8)
@pytest.mark.parametrize("share", [0, 0.001, 0.1, 0.25, 0.4, 0.5, 0.66, 0.8, 0.95, 0.999])
@pytest.mark.parametrize("abrupt", [False, True], ids=["ended", "dropped"])
def test_stream_cut_within_a_frame_is_interrupted(server, ask, share, abrupt):
    list(ask())
    size = server.requests("ConverseStream")[-1].streamed_bytes
    server.fail("cut", byte=min(int(size * share), size - 1), abrupt=abrupt)
    events, error = read(ask())
    if error is None:  # within the last frame, after messageStop
        assert events[-1]["metadata"]["routing"]["usage"] is None
        return
    assert isinstance(error, StreamInterruptedError), repr(error)
    assert_partial(error.partial, events)


@pytest.mark.sweep
def test_a_bad_checksum_in_any_frame_breaks_the_stream_there(server, ask):
    complete = whole(ask, "text")
    for frame in range(len(complete)):
        server.fail("bad_checksum", frame=frame)
        events, error = read(ask())
        assert isinstance(error, StreamInterruptedError), f"frame {frame}: {error!r}"
        assert len(events) == delivered(frame)
        assert "ChecksumMismatch" in str(error)
        assert_partial(error.partial, events)


def test_a_stream_that_stalls_is_interrupted_after_the_read_timeout(server):
    client = RoutedClient(server.client(config=Config(read_timeout=0.3)))
    server.fail("slow_stream", seconds=2)
    started = time.monotonic()
    events, error = read(client.converse_stream(modelId=server.default_router(), messages=PROMPT)["stream"])
    assert isinstance(error, StreamInterruptedError), repr(error)
    assert time.monotonic() - started < 10, "the whole stream takes longer"
    assert_partial(error.partial, events)
    assert "imed out" in str(error)


def test_an_interrupted_stream_is_not_sent_again_and_billed_twice(server, ask):
    server.fail("cut", frame=4)
    read(ask())
    assert len(server.requests("ConverseStream")) == 1


def test_the_cause_is_kept(server, ask):
    server.fail("bad_checksum", frame=2)
    _, error = read(ask())
    assert type(error.__cause__).__name__ == "ChecksumMismatch"


@pytest.mark.sample(3)
@pytest.mark.parametrize(
    "name",
    [
        "throttlingException", "internalServerException", "modelStreamErrorException", "validationException",
        "serviceUnavailableException",
    ],
)  # fmt: skip
def test_exception_event_raises_boto3s_error(server, ask, name):
    complete = whole(ask, "text")
    for frame in (0, 1, len(complete) // 2, len(complete) - 1):
        server.fail("exception_event", name=name, message="so sorry", frame=frame)
        events, error = read(ask())
        assert isinstance(error, EventStreamError)
        assert isinstance(error, ClientError)
        assert error.response["Error"] == {"Code": name, "Message": "so sorry"}
        assert len(events) == delivered(frame)


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    "fault", [{"kind": "exception_event"}, {"kind": "bad_checksum"}, {"kind": "cut"}, {"kind": "cut", "abrupt": True}]
)
def test_a_broken_stream_leaves_no_socket_open(server, fault):
    client = RoutedClient(server.client())
    list(client.converse_stream(modelId=server.default_router(), messages=PROMPT)["stream"])
    server.fail(**fault, frame=3)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        broken = client.converse_stream(modelId=server.default_router(), messages=PROMPT)["stream"]
        with pytest.raises((StreamInterruptedError, EventStreamError)):
            list(broken)
        del broken
        gc.collect()
    assert not [str(warning.message) for warning in caught]


def test_a_refusal_before_the_stream_is_boto3s_own(server, ask):
    server.fail("throttling")
    with pytest.raises(ClientError) as refused:
        ask()
    assert refused.value.response["Error"]["Code"] == "ThrottlingException"
    assert type(refused.value).__name__ == "ThrottlingException"


def test_a_reset_before_the_first_frame_is_boto3s_own(server, ask):
    server.fail("reset")
    with pytest.raises(Exception, match=r"onnection") as broken:
        ask()
    assert type(broken.value).__module__ == "botocore.exceptions"


# Stopping early


def eventually(condition, seconds=3):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


def hung_up(server):
    return server.requests("ConverseStream")[-1].client_closed


def test_close_hangs_up(server, ask):
    server.fail("slow_stream", seconds=0.1)
    stream = ask()
    next(iter(stream))
    stream.close()
    assert eventually(lambda: hung_up(server))
    stream.close()


def test_leaving_the_context_hangs_up(server, ask):
    server.fail("slow_stream", seconds=0.1)
    with ask() as stream:
        for _ in stream:
            break
    assert eventually(lambda: hung_up(server))


def test_an_error_in_the_context_hangs_up_and_is_raised(server, ask):
    server.fail("slow_stream", seconds=0.1)
    with pytest.raises(KeyError, match="mine"), ask() as stream:
        next(iter(stream))
        raise KeyError("mine")
    assert eventually(lambda: hung_up(server))


def test_a_whole_stream_in_a_context_is_left_quietly(ask):
    with ask() as stream:
        assert len(list(stream)) > 3


@pytest.mark.sample(2)
@pytest.mark.parametrize("forget", [False, True])
def test_breaking_off_early_raises_nothing(ask, forget, recwarn):
    stream = ask()
    for _ in stream:
        break
    if forget:
        del stream
        gc.collect()
    else:
        stream.close()
    assert not recwarn.list


def test_reading_on_after_close_does_not_look_complete(ask):
    stream = ask()
    next(iter(stream))
    stream.close()
    events, error = read(stream)
    assert isinstance(error, StreamInterruptedError) or any("metadata" in event for event in events), repr(error)


def test_close_from_another_thread_interrupts_the_reader_with_our_error(server, ask):
    server.fail("slow_stream", seconds=0.3)
    stream = ask()
    result = []
    reader = threading.Thread(target=lambda: result.append(read(stream)))
    reader.start()
    time.sleep(0.4)
    stream.close()
    reader.join(10)
    assert not reader.is_alive()
    events, error = result[0]
    assert isinstance(error, StreamInterruptedError), repr(error)
    assert_partial(error.partial, events)


def test_closing_many_streams_early_leaks_no_connection(server):
    client = RoutedClient(server.client(config=Config(max_pool_connections=2, retries={"total_max_attempts": 1})))
    for _ in range(20):
        with contextlib.closing(
            client.converse_stream(modelId=server.default_router(), messages=PROMPT)["stream"]
        ) as s:
            next(iter(s))
    assert client.converse(modelId=server.default_router(), messages=PROMPT)["routing"]["attempts"] == 1


@pytest.mark.parametrize("give_up", ["close", "forget"])
def test_abandoned_stream_leaves_nothing_to_the_garbage_collector(server, give_up):
    """A stream collected in the middle of urllib3's pool would wait for a lock that its own thread holds."""
    client = RoutedClient(server.client())
    gc.disable()
    try:
        stream = client.converse_stream(modelId=server.default_router(), messages=PROMPT)["stream"]
        reading = stream._source.opened.events._event_generator
        next(iter(stream))
        if give_up == "close":
            stream.close()
        del stream
        assert inspect.getgeneratorstate(reading) == inspect.GEN_CLOSED
    finally:
        gc.enable()


# The shape of `partial`


def delta(index, **value):
    return {"contentBlockDelta": {"contentBlockIndex": index, "delta": value}}


def frame(event):
    """Return an event as a message of application/vnd.amazon.eventstream."""
    ((name, payload),) = event.items()
    headers = b""
    for key, value in ((":event-type", name), (":content-type", "application/json"), (":message-type", "event")):
        headers += bytes([len(key)]) + key.encode() + b"\x07" + struct.pack("!H", len(value)) + value.encode()
    body = json.dumps(payload, default=lambda blob: base64.b64encode(blob).decode()).encode()
    prelude = struct.pack("!II", 16 + len(headers) + len(body), len(headers))
    message = prelude + struct.pack("!I", zlib.crc32(prelude)) + headers + body
    return message + struct.pack("!I", zlib.crc32(message))


class Cut(BaseHTTPRequestHandler):
    """Sends the given events, then closes the connection."""

    def log_message(self, *args):
        pass

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Type", "application/vnd.amazon.eventstream")
        self.end_headers()
        self.wfile.write(b"".join(map(frame, self.server.events)))


@pytest.fixture
def content():
    """Return a function: the content in `partial` after the connection ended behind the given events."""
    web = HTTPServer(("127.0.0.1", 0), Cut)
    thread = threading.Thread(target=web.serve_forever, args=(0.01,))
    thread.start()
    keys = {"aws_access_key_id": "a", "aws_secret_access_key": "b"}
    url = f"http://127.0.0.1:{web.server_address[1]}"
    client = boto3.Session(**keys).client("bedrock-runtime", region_name="us-east-1", endpoint_url=url)

    def content(*events):
        web.events = [{"messageStart": {"role": "assistant"}}, *events]
        model = "us.anthropic.claude-3-haiku-20240307-v1:0"
        stream = RoutedClient(client).converse_stream(modelId=model, messages=PROMPT)["stream"]
        with stream, pytest.raises(StreamInterruptedError) as interrupted:
            list(stream)
        message = interrupted.value.partial["output"]["message"]
        assert_shape(message)
        pickle.dumps(interrupted.value)
        return message["content"]

    yield content
    client.close()
    web.shutdown()
    thread.join()
    web.server_close()


def test_partial_without_events_is_an_empty_message(content):
    assert content() == []


def test_blocks_keep_their_order_and_their_texts(content):
    assert content(delta(0, text="a"), delta(1, text="c"), delta(0, text="b")) == [{"text": "ab"}, {"text": "c"}]


def test_reasoning_has_the_shape_of_a_converse_response(content):
    events = [delta(0, reasoningContent={"text": "I th"}), delta(0, reasoningContent={"text": "ink"})]
    events.append(delta(0, reasoningContent={"signature": "sig"}))
    assert content(*events, delta(1, text="So")) == [
        {"reasoningContent": {"reasoningText": {"text": "I think", "signature": "sig"}}},
        {"text": "So"},
    ]


def test_redacted_reasoning_has_the_shape_of_a_converse_response(content):
    events = [
        delta(0, reasoningContent={"redactedContent": b"ab"}),
        delta(0, reasoningContent={"redactedContent": b"cd"}),
    ]
    assert content(*events) == [{"reasoningContent": {"redactedContent": b"abcd"}}]


def tool_call(*parts, stopped=True):
    events = [{"contentBlockStart": {"contentBlockIndex": 0, "start": {"toolUse": {"toolUseId": "t", "name": "f"}}}}]
    events += [delta(0, toolUse={"input": part}) for part in parts]
    return [*events, {"contentBlockStop": {"contentBlockIndex": 0}}] if stopped else events


def test_partial_tool_call_keeps_cut_arguments_as_text(content):
    assert content(*tool_call('{"a": ', "[1, ", stopped=False)) == [
        {"toolUse": {"toolUseId": "t", "name": "f", "input": '{"a": [1, '}}
    ]


def test_partial_has_parsed_arguments_of_a_complete_tool_call(content):
    assert content(*tool_call('{"a": ', "[1, 2]}"), delta(1, text="and")) == [
        {"toolUse": {"toolUseId": "t", "name": "f", "input": {"a": [1, 2]}}},
        {"text": "and"},
    ]


@pytest.mark.parametrize("stopped", [True, False])
def test_a_tool_call_without_arguments_can_still_be_read(content, stopped):
    (block,) = content(*tool_call(stopped=stopped))
    assert block["toolUse"]["input"] in ({}, "")


def test_citations_have_the_shape_of_a_converse_response(content):
    source = {"title": "Report", "location": {"documentPage": {"documentIndex": 0, "start": 1, "end": 2}}}
    (block,) = content(delta(0, text="Seven."), delta(0, citation=source))
    assert block["citationsContent"]["content"] == [{"text": "Seven."}]
    assert block["citationsContent"]["citations"] == [source]


def test_partial_ignores_events_of_unknown_kinds(content):
    unknown = {"somethingNew": {"contentBlockIndex": 0, "value": [1, 2]}}
    assert content(unknown, delta(0, text="a"), unknown, delta(0, text="b")) == [{"text": "ab"}]


def test_partial_ignores_deltas_of_unknown_kinds(content):
    assert content(delta(0, text="a"), delta(0, somethingNew={"number": 1}), delta(0, text="b")) == [{"text": "ab"}]
